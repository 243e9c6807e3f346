/* gdncp-bench as a user starts it: every benchmark on a small shape, its JSON, and bad options.
 * With the argument "emulated", the benchmarks run there. */
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

static const char *device = "cpu";
static char json_file[] = "/tmp/gdncp-bench-XXXXXX";

static run_ended_t run_bench(const char *const *arguments)
{
    return run_wait(run_start_program(GDNCP_BENCH, arguments,
                                      (const char *const[]){"CUDA_VISIBLE_DEVICES=", NULL}));
}

/* The results of a run that went well. To be released with json_decref(). */
static json_t *run_to_json(const char *const *arguments)
{
    json_error_t error;
    run_ended_t ended = run_bench(arguments);

    if (ended.status != 0 || ended.err[0] != '\0') {
        fail_msg("status %d, stdout '%s', stderr '%s'", ended.status, ended.out, ended.err);
    }
    json_t *const object = json_load_file(json_file, JSON_REJECT_DUPLICATES, &error);

    if (!json_is_object(object)) {
        fail_msg("no JSON object: %s", error.text);
    }
    run_release(&ended);
    return object;
}

static json_t *measure(const char *const *extra)
{
    const char *arguments[RUN_MAX_ARGUMENTS + 1] = {"--json", json_file, "--device", device};
    int count = 4;

    for (int i = 0; extra[i] != NULL; i++) {
        assert_true(count < RUN_MAX_ARGUMENTS);
        arguments[count++] = extra[i];
    }
    return run_to_json(arguments);
}

static double number_of(const json_t *row, const char *key)
{
    const json_t *const value = json_object_get(row, key);

    if (!json_is_number(value)) {
        fail_msg("'%s': expected a number", key);
    }
    return json_number_value(value);
}

/* What holds for each row of a run with both peaks given. */
static void check_row(const json_t *row, const char *dtype, int64_t value_heads)
{
    const double median = number_of(row, "median_ms");
    const double floor_ms = number_of(row, "floor_ms");
    const double of_bytes = number_of(row, "bytes") / 1e9 / 50.0 * 1e3;
    const double of_flop = number_of(row, "flop") / 1e12 / 0.25 * 1e3;
    const double expected = of_bytes > of_flop ? of_bytes : of_flop;

    assert_string_equal(json_string_value(json_object_get(row, "dtype")), dtype);
    assert_true(median > 0.0 && number_of(row, "p50") == median);
    assert_true(number_of(row, "min_ms") <= median && number_of(row, "p99") >= median);
    assert_true(floor_ms > 0.999 * expected && floor_ms < 1.001 * expected);
    assert_true(number_of(row, "share") > 0.999 * floor_ms / median);
    assert_true(number_of(row, "share") < 1.001 * floor_ms / median);
    assert_true(number_of(row, "peak_gbs") == 50.0);
    assert_int_equal(json_integer_value(json_object_get(row, "wrong")), 0);
    assert_true(json_is_integer(json_object_get(row, "wrong")));
    assert_true(number_of(row, "worst") <= 1.0);
    assert_int_equal(json_integer_value(json_object_get(row, "value_heads")), value_heads);
    assert_int_equal(json_integer_value(json_object_get(row, "value_dim")), 48);
}

/* Names in the order of --list. */
static void check_rows(const json_t *object, const char *dtype, int64_t value_heads)
{
    run_ended_t listed = run_bench((const char *const[]){"--list", NULL});
    const json_t *const rows = json_object_get(object, "results");
    size_t count = 0;

    assert_int_equal(listed.status, 0);
    for (char *line = strtok(listed.out, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        const json_t *const row = json_array_get(rows, count++);
        char group[32];
        char name[64];

        assert_int_equal(sscanf(line, "%31s %63s", group, name), 2);
        assert_string_equal(json_string_value(json_object_get(row, "name")), name);
        assert_string_equal(json_string_value(json_object_get(row, "group")), group);
        check_row(row, dtype, value_heads);
    }
    assert_true(count >= 17);
    assert_int_equal(json_array_size(rows), count);
    run_release(&listed);
}

/* Few heads in the emulator, where each takes milliseconds. */
static bool is_emulated(void)
{
    return strcmp(device, "emulated") == 0;
}

static void every_benchmark_is_right(void **state)
{
    static const char *const dtypes[] = {"f32", "bf16", "f16"};
    const char *const heads = is_emulated() ? "1/2" : "2/4";

    (void)state;
    for (int i = 0; i < 3; i++) {
        json_t *const object = measure((const char *const[]){"--tokens",
                                                             "70",
                                                             "--batch",
                                                             "2",
                                                             "--hidden",
                                                             "40",
                                                             "--heads",
                                                             heads,
                                                             "--head-dim",
                                                             "32/48",
                                                             "-n",
                                                             "1",
                                                             "-w",
                                                             is_emulated() ? "0" : "1",
                                                             "--dtype",
                                                             dtypes[i],
                                                             "--peak-gbs",
                                                             "50",
                                                             "--peak-tflops",
                                                             "0.25",
                                                             NULL});

        assert_string_equal(json_string_value(json_object_get(object, "device")), device);
        check_rows(object, dtypes[i], atoi(heads + 2));
        json_decref(object);
    }
}

static void a_sweep_has_a_row_a_size(void **state)
{
    static const int64_t tokens[] = {8, 24, 72};
    json_t *const object = measure((const char *const[]){"l2norm_forward",
                                                         "conv1d_update",
                                                         "-b",
                                                         "8",
                                                         "-e",
                                                         "100",
                                                         "-f",
                                                         "3",
                                                         "--dtype",
                                                         "bf16,f32",
                                                         "--shape",
                                                         "olmo_hybrid",
                                                         "-n",
                                                         "1",
                                                         "-w",
                                                         "0",
                                                         "--batch",
                                                         "5",
                                                         "--peak-gbs",
                                                         "50",
                                                         "--peak-tflops",
                                                         "0.25",
                                                         NULL});
    const json_t *const rows = json_object_get(object, "results");

    (void)state;
    assert_int_equal(json_array_size(rows), 8);
    for (size_t i = 0; i < 8; i++) {
        const json_t *const row = json_array_get(rows, i);
        const size_t place = i % 4;

        assert_int_equal(json_integer_value(json_object_get(row, "tokens")),
                         place < 3 ? tokens[place] : 5);
        assert_string_equal(json_string_value(json_object_get(row, "dtype")),
                            i < 4 ? "bf16" : "f32");
        assert_int_equal(json_integer_value(json_object_get(row, "key_dim")), 96);
    }
    json_decref(object);
}

/* The forward alone and with its backward, in the first row of the group. */
static void a_training_step_has_two_times(void **state)
{
    json_t *const object =
        measure((const char *const[]){"rule",        "--tokens", is_emulated() ? "70" : "600",
                                      "--key-heads", "1",        "--value-heads",
                                      "2",           "--dim",    "16",
                                      "--dtype",     "f32",      "-n",
                                      "1",           "-w",       "0",
                                      "--peak-gbs",  "50",       "--peak-tflops",
                                      "0.25",        NULL});
    const json_t *const rows = json_object_get(object, "results");
    const json_t *const first = json_array_get(rows, 0);

    (void)state;
    assert_string_equal(json_string_value(json_object_get(first, "name")), "rule_training");
    assert_true(number_of(first, "median_forward_ms") > 0.0);
    assert_true(number_of(first, "median_forward_backward_ms") == number_of(first, "median_ms"));
    assert_int_equal(json_integer_value(json_object_get(first, "key_heads")), 1);
    assert_int_equal(json_integer_value(json_object_get(first, "value_heads")), 2);
    assert_int_equal(json_integer_value(json_object_get(first, "value_dim")), 16);
    assert_int_equal(json_integer_value(json_object_get(first, "wrong")), 0);
    assert_null(json_object_get(json_array_get(rows, 1), "median_forward_ms"));
    json_decref(object);
}

/* The name of an exchange makes it the other program. */
static void exchanges_are_known(void **state)
{
    (void)state;
    if (is_emulated()) {
        return;
    }
    json_t *const object = run_to_json(
        (const char *const[]){"cp2hp", "--ranks", "2", "--tokens", "64", "--channels", "16",
                              "--dtype", "f32", "-n", "2", "-w", "1", "--json", json_file, NULL});
    const json_t *const row = json_array_get(json_object_get(object, "results"), 0);

    assert_int_equal(json_integer_value(json_object_get(object, "ranks")), 2);
    assert_string_equal(json_string_value(json_object_get(row, "name")), "cp2hp");
    assert_int_equal(json_integer_value(json_object_get(row, "wrong")), 0);
    assert_true(number_of(row, "median_ms") > 0.0);
    assert_true(number_of(row, "busbw") > 0.0 && number_of(row, "algbw") > 0.0);
    json_decref(object);
}

static void what_is_not_checked_is_null(void **state)
{
    json_t *const object = measure((const char *const[]){
        "state_merge", "-c", "0", "-n", "1", "-w", "0", "--heads", "1/1", "--head-dim", "16",
        "--peak-gbs", "50", "--peak-tflops", "0.25", NULL});
    const json_t *const row = json_array_get(json_object_get(object, "results"), 0);

    (void)state;
    assert_true(json_is_null(json_object_get(row, "wrong")));
    assert_true(json_is_null(json_object_get(row, "worst")));
    json_decref(object);
}

/* On the CPU; in the emulator there are none. */
static void peaks_are_measured(void **state)
{
    json_t *const object = measure((const char *const[]){
        "state_merge", "-n", "1", "-w", "0", "--head-dim", "16", "--dtype", "f32", NULL});
    const json_t *const row = json_array_get(json_object_get(object, "results"), 0);

    (void)state;
    if (is_emulated()) {
        assert_true(json_is_null(json_object_get(row, "peak_gbs")));
        assert_true(json_is_null(json_object_get(row, "floor_ms")));
        assert_true(json_is_null(json_object_get(row, "share")));
    } else {
        assert_true(number_of(row, "peak_gbs") > 0.1 && number_of(row, "peak_gbs") < 1e5);
        assert_true(number_of(row, "peak_tflops") > 1e-5 && number_of(row, "peak_tflops") < 1e3);
    }
    json_decref(object);
}

static void bad_options_are_refused(void **state)
{
    static const struct {
        const char *arguments[6];
        const char *sentence;
    } cases[] = {
        {{"conv2d"}, "NAME: expected up to"},
        {{"conv"}, "got 'conv'"},
        {{"--device", "gpu"}, "--device: expected cpu, cuda or emulated, got 'gpu'"},
        {{"--dtype", "f64"}, "--dtype: expected"},
        {{"--dtype", "bf16,"}, "--dtype: expected"},
        {{"--dtype", "f32,f32,f32,f32"}, "--dtype: expected"},
        {{"--heads", "3"}, "--heads: expected two integers as K/V, got '3'"},
        {{"--heads", "2/5"}, "--heads: expected a multiple of 2 value heads, got 5"},
        {{"--heads", "0/4"}, "--heads: expected an integer 1..4096, got '0'"},
        {{"--head-dim", "257"}, "--head-dim: expected an integer 1..256, got '257'"},
        {{"--dim", "0"}, "--dim: expected an integer 1..256, got '0'"},
        {{"--key-heads", "x"}, "--key-heads: expected an integer 1..4096, got 'x'"},
        {{"--value-heads", "-1"}, "--value-heads: expected an integer 1..4096, got '-1'"},
        {{"--tokens", "0"}, "--tokens: expected an integer 1.."},
        {{"-b", "9", "-e", "8"}, "-e: expected 9 or more, as -b, got 8"},
        {{"-f", "1"}, "-f: expected an integer 2.."},
        {{"-n", "0"}, "-n: expected an integer 1.."},
        {{"-c", "2"}, "-c: expected an integer 0..1, got '2'"},
        {{"--shape", "qwen4"}, "--shape: expected one of qwen3_next"},
        {{"--peak-gbs", "0"}, "--peak-gbs: expected a number above 0, got '0'"},
        {{"--peak-tflops", "nan"}, "--peak-tflops: expected a number above 0, got 'nan'"},
        {{"--tokens"}, "option '--tokens' needs a value"},
        {{"-x"}, "unknown option '-x'"},
        {{"--quick"}, "unknown option '--quick'"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        run_ended_t ended = run_bench(cases[i].arguments);

        run_check_error(&ended, cases[i].sentence, (const char *const[]){cases[i].sentence, NULL});
        run_release(&ended);
    }
}

static void a_machine_without_a_gpu_is_named(void **state)
{
    run_ended_t ended = run_bench((const char *const[]){"rule", "--device", "cuda", NULL});

    (void)state;
    run_check_error(&ended, "no GPU",
                    (const char *const[]){"GDNCP_ERR_NOT_SUPPORTED", "cuda: ", NULL});
    run_release(&ended);
}

static void a_report_that_cannot_be_written_is_an_error(void **state)
{
    run_ended_t ended = run_bench(
        (const char *const[]){"state_merge", "--json", "/nowhere/at/all", "-n", "1", "-w", "0",
                              "--head-dim", "8", "--peak-gbs", "1", "--peak-tflops", "1", NULL});

    (void)state;
    assert_int_equal(ended.status, 1);
    assert_non_null(strstr(ended.err, "--json: '/nowhere/at/all' could not be written"));
    run_release(&ended);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_benchmark_is_right),
        cmocka_unit_test(a_sweep_has_a_row_a_size),
        cmocka_unit_test(a_training_step_has_two_times),
        cmocka_unit_test(exchanges_are_known),
        cmocka_unit_test(what_is_not_checked_is_null),
        cmocka_unit_test(peaks_are_measured),
        cmocka_unit_test(bad_options_are_refused),
        cmocka_unit_test(a_machine_without_a_gpu_is_named),
        cmocka_unit_test(a_report_that_cannot_be_written_is_an_error),
    };
    const int file = mkstemp(json_file);

    if (argc == 2) {
        device = argv[1];
    }
    if (file < 0) {
        return 1;
    }
    close(file);
    const int failed = cmocka_run_group_tests_name("gdncp-bench", tests, NULL, NULL);

    unlink(json_file);
    return failed;
}
