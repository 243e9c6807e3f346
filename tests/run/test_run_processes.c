/* Ranks that die, parents that are stopped, launchers: no hang, and nothing is left. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "run_dump.h"
#include "run_tool.h"

#define RANKS 3

static void sleep_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

/* Start a run that is too long to end by itself and let it get to its iterations.
 * pids [RANKS]: in order of rank */
static run_started_t start_long_run(pid_t *pids)
{
    static const char *const environment[] = {"GDNCP_TIMEOUT=1500", NULL};
    const char *const arguments[] = {run_golden("layer_qwen3_next"),
                                     "--ranks",
                                     "3",
                                     "--tokens",
                                     "1536",
                                     "--iterations",
                                     "100000",
                                     "--json",
                                     NULL};
    const run_started_t started = run_start(arguments, environment);
    int count = 0;

    for (int i = 0; i < 1000 && count < RANKS; i++) {
        sleep_ms(10);
        count = run_children(started.pid, pids, RANKS);
    }
    assert_int_equal(count, RANKS);
    sleep_ms(1500);
    return started;
}

static void check_killed_rank(int rank, int signal_number, const char *sentence)
{
    pid_t pids[RANKS];
    const run_started_t started = start_long_run(pids);
    char who[32];

    assert_int_equal(kill(pids[rank], signal_number), 0);
    run_ended_t ended = run_wait(started);
    run_check_no_process();
    json_t *const object = run_json(&ended, "a killed rank");

    snprintf(who, sizeof who, "gdncp-run: rank %d: ", rank);
    if (ended.status != 1 || strstr(ended.err, who) == NULL ||
        strstr(ended.err, sentence) == NULL || ended.seconds > 8.0) {
        fail_msg("expected '%s... %s', status 1 in 8 s, got '%s', status %d in %.1f s", who,
                 sentence, ended.err, ended.status, ended.seconds);
    }
    assert_true(json_is_false(json_object_get(object, "ok")));
    json_decref(object);
    run_release(&ended);
}

static void test_killed_rank(void **state)
{
    (void)state;
    check_killed_rank(0, SIGKILL, "died of signal 9 (Killed)");
    check_killed_rank(RANKS - 1, SIGKILL, "died of signal 9 (Killed)");
}

/* Nothing tells the others: their time-out does, and what is stopped is killed too. */
static void test_frozen_rank(void **state)
{
    pid_t pids[RANKS];
    const run_started_t started = start_long_run(pids);

    (void)state;
    assert_int_equal(kill(pids[1], SIGSTOP), 0);
    run_ended_t ended = run_wait(started);
    run_check_no_process();
    if (ended.status != 1 || strstr(ended.err, "GDNCP_ERR_TIMEOUT") == NULL ||
        strstr(ended.err, "gdncp-run: rank 1: stopped, as another rank had failed") == NULL ||
        ended.seconds > 15.0) {
        fail_msg("expected a time-out and status 1 in 15 s, got '%s', status %d in %.1f s",
                 ended.err, ended.status, ended.seconds);
    }
    run_release(&ended);
}

static void check_stopped_parent(int signal_number)
{
    pid_t pids[RANKS];
    const run_started_t started = start_long_run(pids);

    assert_int_equal(kill(started.pid, signal_number), 0);
    run_ended_t ended = run_wait(started);

    run_check_no_process();
    assert_int_equal(ended.status, 128 + signal_number);
    assert_string_equal(ended.out, "");
    assert_true(ended.seconds < 5.0);
    run_release(&ended);
}

static void test_stopped_parent(void **state)
{
    (void)state;
    check_stopped_parent(SIGTERM);
    check_stopped_parent(SIGINT);
    check_stopped_parent(SIGKILL);
}

/* What torchrun sets. Returns the environment of one rank, valid until the next call with that
 * rank. */
static const char *const *launched(int rank, int size, int port)
{
    static char text[4][5][40];
    static const char *environment[4][6];

    snprintf(text[rank][0], 40, "RANK=%d", rank);
    snprintf(text[rank][1], 40, "WORLD_SIZE=%d", size);
    snprintf(text[rank][2], 40, "LOCAL_RANK=%d", rank);
    snprintf(text[rank][3], 40, "MASTER_ADDR=127.0.0.1");
    snprintf(text[rank][4], 40, "MASTER_PORT=%d", port);
    for (int i = 0; i < 5; i++) {
        environment[rank][i] = text[rank][i];
    }
    environment[rank][5] = NULL;
    return environment[rank];
}

/* A port for each launch, so that two tests beside each other do not meet. */
static int next_port(void)
{
    static int launches;

    return 20000 + (int)(getpid() % 1000) * 20 + launches++;
}

/* Run two ranks with arguments of their own. */
static void run_launched(const char *const *first, const char *const *second, run_ended_t *ended)
{
    const int port = next_port();
    const run_started_t a = run_start(first, launched(0, 2, port));
    const run_started_t b = run_start(second, launched(1, 2, port));

    ended[0] = run_wait(a);
    ended[1] = run_wait(b);
    run_check_no_process();
}

static void test_launched(void **state)
{
    const char *const arguments[] = {run_golden("layer_qwen3_next"), "--json", "--ranks", "2",
                                     NULL};
    run_ended_t ended[2];

    (void)state;
    run_launched(arguments, arguments, ended);
    json_t *const object = run_json(&ended[0], "a launched run");
    assert_int_equal(ended[0].status, 0);
    assert_int_equal(ended[1].status, 0);
    assert_true(json_is_true(json_object_get(object, "ok")));
    assert_int_equal(json_integer_value(json_object_get(object, "ranks")), 2);
    assert_string_equal(ended[1].out, ""); /* rank 0 reports */
    json_decref(object);
    run_release(&ended[0]);
    run_release(&ended[1]);
}

typedef struct launched_case {
    const char *first[6]; /* after FILE */
    const char *second[6];
    const char *parts[4]; /* on every rank */
} launched_case_t;

static const launched_case_t launched_cases[] = {
    {{NULL}, {"--layout", "contiguous"}, {"MISMATCH", "--layout", "dual_chunk_swap", "contiguous"}},
    {{"--dtype", "bf16"}, {NULL}, {"MISMATCH", "--dtype", "bf16 on rank 0", "f32 on rank 1"}},
    {{"--rule-dtype", "bf16", "--dtype", "bf16"},
     {"--dtype", "bf16"},
     {"MISMATCH", "--rule-dtype", "bf16 on rank 0", "f32 on rank 1"}},
    {{"--device", "cuda"}, {NULL}, {"MISMATCH", "--device", "cuda on rank 0", "cpu on rank 1"}},
    {{NULL}, {"--strategy", "heads"}, {"MISMATCH", "--strategy", "states,heads", "heads"}},
    {{"--iterations", "5"}, {NULL}, {"MISMATCH", "--iterations", "5 on rank 0"}},
    {{"--tokens", "768"}, {NULL}, {"MISMATCH", "--tokens", "768 on rank 0", "0 on rank 1"}},
    {{"--trace", "/dev/null"}, {NULL}, {"MISMATCH", "--trace", "not given on rank 1"}},
    {{"--device", "emulated", "--transport", "nccl"},
     {"--device", "emulated"},
     {"MISMATCH", "--transport", "nccl on rank 0", "ucx on rank 1"}},
    /* What one rank finds out by itself is told to the other. */
    {{NULL}, {"--layout", "zigzag"}, {"--layout", "'zigzag'"}},
    {{"--strategy", "all"}, {NULL}, {"--strategy", "'all'"}},
    {{"--ranks", "3"}, {"--ranks", "3"}, {"--ranks", "launcher's 2", "got 3"}},
    {{"--transport", "threads"}, {"--transport", "threads"}, {"--transport", "ucx"}},
    {{"--trace", "/nonexistent/trace"},
     {"--trace", "/nonexistent/trace"},
     {"--trace", "/nonexistent"}},
};

static void test_launched_errors(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof launched_cases / sizeof launched_cases[0]; i++) {
        const launched_case_t *const c = &launched_cases[i];
        const char *first[8] = {run_golden("layer_qwen3_next")};
        const char *second[8] = {first[0]};
        run_ended_t ended[2];

        memcpy(&first[1], c->first, sizeof c->first);
        memcpy(&second[1], c->second, sizeof c->second);
        run_launched(first, second, ended);
        for (int r = 0; r < 2; r++) {
            const char *parts[6] = {r == 0 ? "gdncp-run: rank 0: " : "gdncp-run: rank 1: "};

            memcpy(&parts[1], c->parts, sizeof c->parts);
            run_check_error(&ended[r], c->parts[0], parts);
            assert_true(ended[r].seconds < 10.0);
            run_release(&ended[r]);
        }
    }
}

/* Two dumps of one shape. */
static void test_launched_other_file(void **state)
{
    char path[512];
    const char *const first[] = {path, "--layout", "contiguous", NULL};
    const char *const second[] = {run_golden("rule_strong_decay"), "--layout", "contiguous", NULL};
    run_ended_t ended[2];

    (void)state;
    snprintf(path, sizeof path, "%s/rule_negative_eigenvalues.safetensors", GDNCP_TEST_DATA);
    run_launched(first, second, ended);
    for (int r = 0; r < 2; r++) {
        run_check_error(&ended[r], "another file",
                        (const char *const[]){"MISMATCH", "FILE's content", NULL});
        run_release(&ended[r]);
    }
}

/* --tokens repeats the text: the ranks find no difference from a dump that has it twice. */
static void test_launched_repeated(void **state)
{
    const char *const second[] = {run_write_repeated("rule_basic", 192), "--tokens", "384", NULL};
    const char *const first[] = {run_golden("rule_basic"), "--tokens", "384", NULL};
    run_ended_t ended[2];

    (void)state;
    run_launched(first, second, ended);
    for (int r = 0; r < 2; r++) {
        if (ended[r].status != 0) {
            fail_msg("rank %d: status %d\n%s%s", r, ended[r].status, ended[r].out, ended[r].err);
        }
        run_release(&ended[r]);
    }
    run_remove_written();
}

static void test_mpirun(void **state)
{
    static const char *const environment[] = {"OMPI_ALLOW_RUN_AS_ROOT=1",
                                              "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1",
                                              "OMPI_MCA_rmaps_base_oversubscribe=1", NULL};
    const char *const arguments[] = {"-n",     "4", GDNCP_RUN, run_golden("layer_qwen3_next"),
                                     "--json", NULL};

    (void)state;
    if (access(GDNCP_MPIRUN, X_OK) != 0) {
        skip();
    }
    run_ended_t ended = run_wait(run_start_program(GDNCP_MPIRUN, arguments, environment));
    run_check_no_process();
    json_t *const object = run_json(&ended, "mpirun");
    assert_int_equal(ended.status, 0);
    assert_true(json_is_true(json_object_get(object, "ok")));
    assert_int_equal(json_integer_value(json_object_get(object, "ranks")), 4);
    json_decref(object);
    run_release(&ended);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed_rank),       cmocka_unit_test(test_frozen_rank),
        cmocka_unit_test(test_stopped_parent),    cmocka_unit_test(test_launched),
        cmocka_unit_test(test_launched_errors),   cmocka_unit_test(test_launched_other_file),
        cmocka_unit_test(test_launched_repeated), cmocka_unit_test(test_mpirun),
    };

    return cmocka_run_group_tests(tests, run_set_up, run_tear_down);
}
