/* gdncp-bench-layouts as a user starts it: what it measures, its JSON, and bad options. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "run_tool.h"

static run_ended_t run_bench(const char *const *arguments)
{
    return run_wait(run_start_program(GDNCP_BENCH_LAYOUTS, arguments, NULL));
}

static const json_t *find_row(const json_t *results, const char *name, int64_t sequences)
{
    for (size_t i = 0; i < json_array_size(results); i++) {
        const json_t *const row = json_array_get(results, i);

        if (strcmp(json_string_value(json_object_get(row, "name")), name) == 0 &&
            json_integer_value(json_object_get(row, "sequences")) == sequences) {
            return row;
        }
    }
    fail_msg("no row is called %s with %d sequences", name, (int)sequences);
    return NULL;
}

static void all_is_right_and_written(void **state)
{
    char path[] = "/tmp/gdncp-bench-layouts-XXXXXX";
    const char *const arguments[] = {"-n", "2", "--tokens", "1048576", "--json", path, NULL};
    const int descriptor = mkstemp(path);
    json_error_t error;

    (void)state;
    assert_true(descriptor >= 0);
    close(descriptor);
    run_ended_t ended = run_bench(arguments);

    if (ended.status != 0 || ended.err[0] != '\0') {
        fail_msg("status %d, stdout '%s', stderr '%s'", ended.status, ended.out, ended.err);
    }
    json_t *const object = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    const json_t *const results = json_object_get(object, "results");

    assert_true(json_array_size(results) > 20);
    for (size_t i = 0; i < json_array_size(results); i++) {
        const json_t *const row = json_array_get(results, i);

        assert_int_equal(json_integer_value(json_object_get(row, "wrong")), 0);
        assert_true(json_real_value(json_object_get(row, "median_ms")) > 0.0);
        assert_true(json_integer_value(json_object_get(row, "tokens")) <= 1048576);
        assert_non_null(strstr(ended.out, json_string_value(json_object_get(row, "name"))));
    }
    /* 64 sequences, 8 ranks: two pieces each, of which the last rank's are one. */
    const json_t *const made = find_row(results, "dual_chunk_swap", 64);

    assert_int_equal(json_integer_value(json_object_get(made, "segments")), 64 * 15);
    /* Sanitizers' allocators do not tell how much they hold. */
    assert_true(json_is_number(json_object_get(made, "held_mib")));
    assert_int_equal(json_integer_value(json_object_get(find_row(results, "redo", 64), "bytes")),
                     8 * 1048576);
    json_decref(object);
    run_release(&ended);
    unlink(path);
}

static void bad_options_are_told(void **state)
{
    static const struct {
        const char *arguments[4];
        const char *parts[3];
    } cases[] = {
        {{"--tokens", "1"}, {"--tokens: expected an integer 65536", "'1'"}},
        {{"-n", "0"}, {"-n: expected an integer 1..", "'0'"}},
        {{"contiguous"}, {"expected options, got 'contiguous'"}},
        {{"--ranks", "2"}, {"expected options of --help"}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        run_ended_t ended = run_bench(cases[i].arguments);

        run_check_error(&ended, cases[i].parts[0], cases[i].parts);
        run_release(&ended);
    }
}

static void unwritable_json_is_told(void **state)
{
    const char *const arguments[] = {"-n", "1", "--tokens", "65536", "--json", "/nowhere/at", NULL};

    (void)state;
    run_ended_t ended = run_bench(arguments);

    assert_int_equal(ended.status, 1);
    assert_non_null(strstr(ended.err, "--json: '/nowhere/at' could not be written"));
    run_release(&ended);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_is_right_and_written),
        cmocka_unit_test(bad_options_are_told),
        cmocka_unit_test(unwritable_json_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
