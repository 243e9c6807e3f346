/* gdncp-info layout: what it prints, the file it writes, and bad options. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "run_tool.h"

#define ARGUMENTS(...) ((const char *const[]){"layout", __VA_ARGS__, NULL})

static run_ended_t run_info(const char *const *arguments)
{
    return run_wait(run_start_program(GDNCP_INFO, arguments, NULL));
}

static run_ended_t run_well(const char *const *arguments)
{
    const run_ended_t ended = run_info(arguments);

    if (ended.status != 0 || ended.err[0] != '\0') {
        fail_msg("status %d, stdout '%s', stderr '%s'", ended.status, ended.out, ended.err);
    }
    return ended;
}

static void text_is_drawn(void **state)
{
    (void)state;
    run_ended_t ended = run_well(
        ARGUMENTS("--kind", "dual_chunk_swap", "--ranks", "2", "--cu-seqlens", "0,16,16,24"));

    assert_string_equal(ended.out,
                        "dual_chunk_swap, 2 ranks: 24 tokens in 3 sequences, 6 segments, 4 borders "
                        "between ranks\n"
                        "\n"
                        "sequence   tokens  in columns of 1 token, each by its first\n"
                        "       0       16  |.0.|...1...|.0.|\n"
                        "       1        0  \n"
                        "       2        8  |0|.1.|0|\n"
                        "\n"
                        "    rank   tokens  attention  sequence: tokens of it, in the order of the "
                        "buffer\n"
                        "       0       12      50.0%  0: 0-3, 0: 12-15, 2: 0-1, 2: 6-7\n"
                        "       1       12      50.0%  0: 4-11, 2: 2-5\n");
    run_release(&ended);
}

/* Padding belongs to ranks, but is no work for attention: of 91 + 28 pairs rank 0 has 33. */
static void padding_is_told_apart(void **state)
{
    (void)state;
    run_ended_t ended = run_well(
        ARGUMENTS("--ranks", "2", "--cu-seqlens", "0,13,20", "--cu-seqlens-padded", "0,16,24"));

    assert_non_null(strstr(ended.out, ": 24 tokens in 2 sequences, 4 of them padding, 8 segments"));
    assert_non_null(strstr(ended.out, "       0       13  |.0.|...1...0|0~|\n"));
    assert_non_null(strstr(ended.out, "       1        7  |0|.1.0~|\n"));
    assert_non_null(strstr(ended.out, "       0       12      27.7%  0: 0-3, 0: 12-12, 0: 13-15 "
                                      "padding, 1: 0-1, 1: 6-6, 1: 7-7 padding\n"));
    run_release(&ended);
}

/* 36 pairs: 10 of the first four tokens. */
static void imbalance_is_shown(void **state)
{
    (void)state;
    run_ended_t ended =
        run_well(ARGUMENTS("--kind", "contiguous", "--ranks", "2", "--tokens", "8"));

    assert_non_null(strstr(ended.out, "  |.0.|.1.|\n"));
    assert_non_null(strstr(ended.out, "       0        4      27.8%  0: 0-3\n"));
    assert_non_null(strstr(ended.out, "       1        4      72.2%  0: 4-7\n"));
    run_release(&ended);
}

/* The bar of a long sequence fits the line, and what is too much is counted. */
static void large_layouts_are_cut_short(void **state)
{
    char cu_seqlens[512] = "0";

    (void)state;
    for (int i = 1; i <= 50; i++) {
        const size_t length = strlen(cu_seqlens);

        snprintf(cu_seqlens + length, sizeof cu_seqlens - length, ",%d", 512 * i);
    }
    run_ended_t ended =
        run_well(ARGUMENTS("--kind", "contiguous", "--ranks", "100", "--cu-seqlens", cu_seqlens));

    assert_non_null(strstr(ended.out, "... and 10 more sequences\n"));
    assert_non_null(strstr(ended.out, "... and 36 more ranks\n"));
    assert_non_null(strstr(ended.out, ", ... 44 more\n"));
    const char *const bar = strstr(ended.out, "       0      512  0");

    assert_non_null(bar);
    assert_int_equal(strcspn(bar, "\n"), 100 - 2);
    run_release(&ended);
}

static void colours_are_of_ranks(void **state)
{
    (void)state;
    run_ended_t plain = run_well(ARGUMENTS("--ranks", "2", "--tokens", "16"));
    run_ended_t ended = run_well(ARGUMENTS("--ranks", "2", "--tokens", "16", "--color", "always"));
    const char *const first = strstr(ended.out, "\033[38;5;16;48;5;");

    assert_null(strchr(plain.out, '\033'));
    assert_non_null(first);
    const char *const second = strstr(first + 1, "\033[38;5;16;48;5;");

    assert_non_null(second);
    const char *const third = strstr(second + 1, "\033[38;5;16;48;5;");

    assert_non_null(third); /* rank 0 again */
    assert_memory_not_equal(first, second, 18);
    assert_memory_equal(first, third, 18);
    run_release(&plain);
    run_release(&ended);
}

static char *read_file(const char *path)
{
    FILE *const file = fopen(path, "r");
    char *const text = calloc(1, 65536);

    assert_non_null(file);
    assert_non_null(text);
    assert_true(fread(text, 1, 65535, file) > 0);
    fclose(file);
    return text;
}

/* Every token of every sequence is under one rectangle. */
static void svg_is_written(void **state)
{
    char path[] = "/tmp/gdncp-info-XXXXXX";
    double covered = 0.0;
    int num_segments = 0;

    (void)state;
    const int descriptor = mkstemp(path);

    assert_true(descriptor >= 0);
    close(descriptor);
    run_ended_t ended =
        run_well(ARGUMENTS("--ranks", "4", "--cu-seqlens", "0,64,192", "--svg", path));
    char *const svg = read_file(path);

    assert_memory_equal(svg, "<svg ", 5);
    assert_string_equal(svg + strlen(svg) - 7, "</svg>\n");
    for (const char *at = svg; (at = strstr(at, "<rect x=")) != NULL; at++) {
        double x;
        double y;
        double width;
        int height;

        if (sscanf(at, "<rect x=\"%lf\" y=\"%lf\" width=\"%lf\" height=\"%d\"", &x, &y, &width,
                   &height) == 4 &&
            height == 22) {
            covered += width;
            num_segments++;
        }
    }
    assert_int_equal(num_segments, 14);
    assert_true(covered > 1199.9 && covered < 1200.1); /* 400 for 64 tokens, 800 for 128 */
    assert_non_null(
        strstr(svg, "<title>sequence 1, tokens 48-79: rank 3, from its row 16</title>"));
    assert_non_null(strstr(svg, "rank 3: 48, 25.0%"));
    free(svg);
    run_release(&ended);
    unlink(path);
}

static void help_is_printed(void **state)
{
    (void)state;
    run_ended_t ended = run_well(ARGUMENTS("--help"));

    assert_memory_equal(ended.out, "Usage: gdncp-info layout", 24);
    run_release(&ended);
    ended = run_well((const char *const[]){"--help", NULL});
    assert_memory_equal(ended.out, "Usage: gdncp-info ", 18);
    run_release(&ended);
}

static void bad_options_are_told(void **state)
{
    static const struct {
        const char *arguments[6];
        const char *parts[4];
    } cases[] = {
        {{"--all"}, {"command: expected layout", "'--all'"}},
        {{"layout", "--kind", "zigzag"}, {"--kind: ", "dual_chunk_swap", "zigzag"}},
        {{"layout", "--ranks", "0"}, {"--ranks: expected an integer 1..65536, got '0'"}},
        {{"layout", "--tokens", "many"}, {"--tokens: expected an integer", "'many'"}},
        {{"layout", "--cu-seqlens", "12"}, {"--cu-seqlens: expected two numbers", "'12'"}},
        {{"layout", "--cu-seqlens", "0,1x"}, {"--cu-seqlens: expected an integer", "'1x'"}},
        {{"layout", "--cu-seqlens", "0,,8"}, {"--cu-seqlens: expected an integer", "''"}},
        {{"layout", "--cu-seqlens", "0,8,4"}, {"cu_seqlens"}},
        {{"layout", "--cu-seqlens-padded", "0,64,72"},
         {"--cu-seqlens-padded: expected 2 numbers", "got 3"}},
        {{"layout", "--cu-seqlens-padded", "0,32"}, {"cu_seqlens_padded[1]", "slot of 32"}},
        {{"layout", "--ranks", "2", "--cu-seqlens", "0,6,12"}, {"multiple of 2N = 4", "got 6"}},
        {{"layout", "--color", "blue"}, {"--color: expected auto, always or never, got 'blue'"}},
        {{"layout", "--svg", "/nowhere/at/all.svg"}, {"--svg: cannot write '/nowhere/at/all.svg'"}},
        {{"layout", "--svg", "/dev/full"}, {"--svg: cannot write all of '/dev/full'"}},
        {{"layout", "picture"}, {"layout: expected options only, got 'picture'"}},
        {{"layout", "--width", "3"}, {"--width"}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        run_ended_t ended = run_info(cases[i].arguments);

        run_check_error(&ended, cases[i].parts[0], cases[i].parts);
        run_release(&ended);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_drawn),        cmocka_unit_test(padding_is_told_apart),
        cmocka_unit_test(imbalance_is_shown),   cmocka_unit_test(large_layouts_are_cut_short),
        cmocka_unit_test(colours_are_of_ranks), cmocka_unit_test(svg_is_written),
        cmocka_unit_test(help_is_printed),      cmocka_unit_test(bad_options_are_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
