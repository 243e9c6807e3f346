/* gdncp-bench-comm: that its checks see faults, and the program as a user starts it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include <pthread.h>

#include "comm_run.h"
#include "run_tool.h"

static char json_file[] = "/tmp/gdncp-bench-comm-XXXXXX";

/* ------------------------------------------------------------------ its parts */

enum { NUM_RANKS = 2 };

typedef struct rank_thread {
    gdncp_comm_t *comm;
    const comm_benchmark_t *benchmark;
    gdncp_dtype_t dtype;
    gdncp_status_t status;
    int64_t wrong;       /* of a run as it should be */
    int64_t wrong_after; /* of one that was tampered with */
    pthread_t thread;
} rank_thread_t;

/* The check of packing runs it again, so that its input is what must be wrong. */
static void tamper(comm_case_t *c)
{
    const bool is_part =
        strcmp(c->benchmark->name, "pack") == 0 || strcmp(c->benchmark->name, "unpack") == 0;

    if (is_part) {
        memset(c->in, 0xff, (size_t)c->in_bytes);
    } else {
        memset((char *)c->out + c->out_bytes - (int64_t)gdncp_dtype_size(c->shape.dtype), 0xff,
               gdncp_dtype_size(c->shape.dtype));
    }
}

static void *check_twice(void *opaque)
{
    rank_thread_t *const self = opaque;
    const comm_shape_t shape = {.tokens = 12, .channels = 7, .dtype = self->dtype};
    comm_case_t c;

    comm_case_start(&c, self->benchmark, self->comm, &shape);
    comm_poison(&c);
    comm_keep(&c, self->benchmark->run(&c));
    self->wrong = c.status == GDNCP_OK ? self->benchmark->check(&c) : -1;
    tamper(&c);
    self->wrong_after = c.status == GDNCP_OK ? self->benchmark->check(&c) : -1;
    self->status = c.status;
    comm_case_end(&c);
    return NULL;
}

static void every_check_sees_a_wrong_element(void **state)
{
    static const gdncp_dtype_t dtypes[] = {GDNCP_F32, GDNCP_BF16, GDNCP_F16};
    gdncp_comm_t *comms[NUM_RANKS];
    int count = 0;

    (void)state;
    assert_int_equal(gdncp_comm_create_threads(NUM_RANKS, NULL, comms), GDNCP_OK);
    for (int i = 0; comm_registry[i] != NULL; i++) {
        rank_thread_t threads[NUM_RANKS];

        for (int rank = 0; rank < NUM_RANKS; rank++) {
            threads[rank] =
                (rank_thread_t){.comm = comms[rank],
                                .benchmark = comm_registry[i],
                                .dtype = comm_registry[i]->is_f32 ? GDNCP_F32 : dtypes[i % 3]};
            assert_int_equal(
                pthread_create(&threads[rank].thread, NULL, check_twice, &threads[rank]), 0);
        }
        for (int rank = 0; rank < NUM_RANKS; rank++) {
            pthread_join(threads[rank].thread, NULL);
        }
        for (int rank = 0; rank < NUM_RANKS; rank++) {
            if (threads[rank].status != GDNCP_OK || threads[rank].wrong != 0 ||
                threads[rank].wrong_after < 1) {
                fail_msg("%s, rank %d: status %d, %d wrong, %d after tampering",
                         comm_registry[i]->name, rank, (int)threads[rank].status,
                         (int)threads[rank].wrong, (int)threads[rank].wrong_after);
            }
        }
        count++;
    }
    assert_int_equal(count, 18);
    for (int rank = 0; rank < NUM_RANKS; rank++) {
        gdncp_comm_destroy(comms[rank]);
    }
}

static void sizes_become_whole_tokens(void **state)
{
    const comm_options_t by_size = {.channels = 100};
    const comm_options_t by_tokens = {.channels = 100, .tokens = 1001};

    (void)state;
    assert_int_equal(comm_tokens_for(&by_size, GDNCP_BF16, 2, 2000), 20);
    assert_int_equal(comm_tokens_for(&by_size, GDNCP_BF16, 2, 2200), 24);
    assert_int_equal(comm_tokens_for(&by_size, GDNCP_BF16, 3, 1), 6);
    assert_int_equal(comm_tokens_for(&by_tokens, GDNCP_F32, 4, 0), 1008);
}

/* ------------------------------------------------------------------ the program */

static run_ended_t run_bench(const char *const *arguments)
{
    return run_wait(run_start_program(GDNCP_BENCH_COMM, arguments, NULL));
}

static double number_of(const json_t *row, const char *key)
{
    const json_t *const value = json_object_get(row, key);

    if (!json_is_number(value)) {
        fail_msg("'%s': expected a number", key);
    }
    return json_number_value(value);
}

static bool is_near(double a, double b)
{
    return a > 0.999 * b && a < 1.001 * b;
}

static void check_row(const json_t *row, int ranks)
{
    const double median = number_of(row, "median_ms");
    const double bytes = number_of(row, "bytes");
    const char *const name = json_string_value(json_object_get(row, "name"));

    assert_int_equal(json_integer_value(json_object_get(row, "wrong")), 0);
    assert_true(json_is_integer(json_object_get(row, "wrong")));
    assert_true(number_of(row, "min_ms") > 0.0 && number_of(row, "min_ms") <= median);
    assert_true(number_of(row, "p50") == median && number_of(row, "p99") >= median);
    assert_true(is_near(number_of(row, "algbw"), 1e-6 * bytes / median));
    assert_true(number_of(row, "floor_ms") > 0.0);
    assert_true(is_near(number_of(row, "share"), number_of(row, "floor_ms") / median));
    assert_true(number_of(row, "count") > 0.0);
    /* 240 tokens of 30 channels, each rank's share of which goes to the others but for its own. */
    if (strcmp(name, "cp2hp") == 0 || strcmp(name, "hp2cp") == 0) {
        assert_true(number_of(row, "busbw") * ranks <=
                    number_of(row, "algbw") * (ranks - 1) * 1.001);
        assert_true(number_of(row, "busbw") * ranks >=
                    number_of(row, "algbw") * (ranks - 1) * 0.999);
    }
}

/* Names in the order of --list. */
static void check_report(const char *transport, int ranks, const char *dtype)
{
    run_ended_t listed = run_bench((const char *const[]){"--list", NULL});
    json_error_t error;
    json_t *const object = json_load_file(json_file, JSON_REJECT_DUPLICATES, &error);
    const json_t *const rows = json_object_get(object, "results");
    size_t count = 0;

    assert_non_null(object);
    assert_string_equal(json_string_value(json_object_get(object, "transport")), transport);
    assert_int_equal(json_integer_value(json_object_get(object, "ranks")), ranks);
    for (char *line = strtok(listed.out, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        const json_t *const row = json_array_get(rows, count++);
        const char *const name = json_string_value(json_object_get(row, "name"));

        assert_true(strncmp(line, name, strlen(name)) == 0);
        assert_string_equal(json_string_value(json_object_get(row, "dtype")),
                            strncmp(name, "relay_", 6) == 0 ? "f32" : dtype);
        check_row(row, ranks);
    }
    assert_int_equal(json_array_size(rows), count);
    json_decref(object);
    run_release(&listed);
}

static void every_benchmark_is_right(void **state)
{
    static const struct {
        const char *transport;
        const char *ranks;
        const char *dtype;
    } cases[] = {{"ucx", "2", "bf16"}, {"threads", "3", "f32"}, {"ucx", "4", "f16"}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        run_ended_t ended = run_bench(
            (const char *const[]){"--tokens", "240", "--channels", "60", "-n", "3", "-w", "1",
                                  "--json", json_file, "--transport", cases[i].transport, "--ranks",
                                  cases[i].ranks, "--dtype", cases[i].dtype, NULL});

        if (ended.status != 0 || ended.err[0] != '\0') {
            fail_msg("status %d, stdout '%s', stderr '%s'", ended.status, ended.out, ended.err);
        }
        assert_true((strstr(ended.out, "more ranks than cores") != NULL) ==
                    (atoi(cases[i].ranks) > (int)sysconf(_SC_NPROCESSORS_ONLN)));
        check_report(cases[i].transport, atoi(cases[i].ranks), cases[i].dtype);
        run_release(&ended);
    }
}

static void a_sweep_has_a_row_a_size(void **state)
{
    static const int64_t bytes[] = {1024, 4096, 16384};
    run_ended_t ended = run_bench((const char *const[]){"relayout", "-b", "1K", "-e", "16K", "-f",
                                                        "4", "--channels", "64", "-n", "1", "-w",
                                                        "0", "-c", "0", "--json", json_file, NULL});
    json_error_t error;

    (void)state;
    assert_int_equal(ended.status, 0);
    json_t *const object = json_load_file(json_file, 0, &error);
    const json_t *const rows = json_object_get(object, "results");

    assert_int_equal(json_array_size(rows), 3);
    for (size_t i = 0; i < 3; i++) {
        const json_t *const row = json_array_get(rows, i);

        assert_int_equal(json_integer_value(json_object_get(row, "bytes")), bytes[i]);
        assert_true(json_is_null(json_object_get(row, "wrong")));
    }
    json_decref(object);
    run_release(&ended);
}

/* By a stand-in that says 2.5 microseconds for a small message and 4000 for a large one. */
static void raw_times_stand_beside(void **state)
{
    static const struct {
        const char *name;
        const char *tokens;
        double raw_ms;
    } cases[] = {{"conv_halo", "4", 0.0025}, {"cp2hp", "80000", 4.0}};
    char mark[] = "/tmp/gdncp-perftest-XXXXXX";
    char variable[64];
    json_error_t error;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const int file = mkstemp(mark);

        assert_true(file >= 0);
        close(file);
        unlink(mark);
        snprintf(variable, sizeof variable, "PERFTEST_MARK=%s", mark);
        run_ended_t ended = run_wait(run_start_program(
            GDNCP_BENCH_COMM,
            (const char *const[]){"memcpy", cases[i].name, "--tokens", cases[i].tokens,
                                  "--channels", "4", "-n", "2", "--raw", GDNCP_PERFTEST, "--json",
                                  json_file, NULL},
            (const char *const[]){variable, NULL}));

        unlink(mark);
        if (ended.status != 0) {
            fail_msg("%s: status %d, '%s'", cases[i].name, ended.status, ended.err);
        }
        json_t *const object = json_load_file(json_file, 0, &error);
        const json_t *const rows = json_object_get(object, "results");

        assert_true(json_is_null(json_object_get(json_array_get(rows, 0), "raw_ms")));
        assert_true(is_near(number_of(json_array_get(rows, 1), "raw_ms"), cases[i].raw_ms));
        assert_true(strstr(ended.out, "p50 / raw") != NULL);
        json_decref(object);
        run_release(&ended);
        memcpy(mark + strlen(mark) - 6, "XXXXXX", 6);
    }
}

/* Ranks that a launcher started find each other by its variables; rank 0 alone prints. */
static void ranks_of_a_launcher_are_used(void **state)
{
    const char *const arguments[] = {"conv_halo", "-n", "2",          "-w", "0",
                                     "--tokens",  "40", "--channels", "8",  NULL};
    run_started_t started[2];
    run_ended_t ended[2];

    (void)state;
    for (int rank = 0; rank < 2; rank++) {
        started[rank] = run_start_program(
            GDNCP_BENCH_COMM, arguments,
            (const char *const[]){rank == 0 ? "RANK=0" : "RANK=1", "WORLD_SIZE=2",
                                  "MASTER_ADDR=127.0.0.1", "MASTER_PORT=29641", NULL});
    }
    for (int rank = 0; rank < 2; rank++) {
        ended[rank] = run_wait(started[rank]);
        assert_int_equal(ended[rank].status, 0);
        assert_true((strstr(ended[rank].out, "conv_halo ") != NULL) == (rank == 0));
        run_release(&ended[rank]);
    }
}

static void bad_options_are_refused(void **state)
{
    static const struct {
        const char *arguments[5];
        const char *sentence;
    } cases[] = {
        {{"cp2"}, "NAME: expected up to 32 benchmarks of gdncp-bench-comm --list, got 'cp2'"},
        {{"--transport", "tcp"}, "--transport: expected ucx or threads, got 'tcp'"},
        {{"--ranks", "0"}, "--ranks: expected an integer 1..64, got '0'"},
        {{"--dtype", "i32"}, "--dtype: expected"},
        {{"-b", "3T"}, "-b: expected an integer 1.."},
        {{"-b", "K"}, "-b: expected an integer 1.."},
        {{"-b", "2K", "-e", "1K"}, "-e: expected 2048 bytes or more, as -b, got 1024"},
        {{"-f", "1"}, "-f: expected an integer 2.."},
        {{"-n", "0"}, "-n: expected an integer 1.."},
        {{"-c", "2"}, "-c: expected an integer 0..1, got '2'"},
        {{"--channels", "0"}, "--channels: expected an integer 1.."},
        {{"--tokens", "x"}, "--tokens: expected an integer 1.."},
        {{"--tokens"}, "option '--tokens' needs a value"},
        {{"--quick"}, "unknown option '--quick'"},
        {{"conv_halo", "--raw", "/nowhere", "-n", "1"},
         "--raw: expected ucx_perftest, '/nowhere' gave no time for tag_lat of 74112 bytes"},
        {{"conv_halo", "--raw", "echo", "-n", "1"},
         "--raw: expected ucx_perftest, 'echo' gave no time for tag_lat of 74112 bytes"},
        {{"memcpy", "--json", "/nowhere/at/all", "-n", "1"},
         "--json: '/nowhere/at/all' could not be written"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        run_ended_t ended = run_bench((const char *const[]){
            cases[i].arguments[0], cases[i].arguments[1], cases[i].arguments[2],
            cases[i].arguments[3], cases[i].arguments[4], NULL});

        assert_int_equal(ended.status, 1);
        if (strstr(ended.err, cases[i].sentence) == NULL) {
            fail_msg("expected '%s', got '%s'", cases[i].sentence, ended.err);
        }
        run_release(&ended);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_check_sees_a_wrong_element),
        cmocka_unit_test(sizes_become_whole_tokens),
        cmocka_unit_test(every_benchmark_is_right),
        cmocka_unit_test(a_sweep_has_a_row_a_size),
        cmocka_unit_test(raw_times_stand_beside),
        cmocka_unit_test(ranks_of_a_launcher_are_used),
        cmocka_unit_test(bad_options_are_refused),
    };
    const int file = mkstemp(json_file);

    if (file < 0) {
        return 1;
    }
    close(file);
    const int failed = cmocka_run_group_tests_name("gdncp-bench-comm", tests, NULL, NULL);

    unlink(json_file);
    return failed;
}
