/* Exchanges on the emulated device over UCX whose ranks die, abort or are late, on each of the ways
 * that messages take. */
#include "test_comm_device.h"

#include <pthread.h>
#include <sys/mman.h>
#include <time.h>

#include "forked_ranks.h"
#include "test_comm_device_ways.h"

enum {
    MAX_SIZE = 3,
    ROWS = 3000, /* so that messages are packed */
    SHARD = 8,
    LONG_MS = 60000, /* of waits that must not come to it */
    LATE_MS = 400,
    MAX_RUNS = 100000
};

typedef enum fault { FAULT_EXIT, FAULT_EXIT_LATER, FAULT_ABORT, NUM_FAULTS } fault_t;

typedef struct failure_case {
    way_t way;
    fault_t fault; /* of rank 1 */
    int64_t later_ms;
    _Atomic int num_open; /* of the other ranks' exchanges */
} failure_case_t;

/* An all-gather, as one rank has it. */
typedef struct gathering {
    gdncp_comm_t *comm;
    gdncp_plan_t *plan;
    gdncp_stream_t stream;
    device_run_t run;
} gathering_t;

static float gathering_in[ROWS * SHARD];
static float gathering_out[MAX_SIZE * ROWS * SHARD];

static void sleep_ms(int64_t ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

/* Between the parent and the ranks of one case. */
static failure_case_t *share_case(void)
{
    failure_case_t *const test =
        mmap(NULL, sizeof *test, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_ptr_not_equal(test, MAP_FAILED);
    return test;
}

/* What is wrong from here on is found in a run. */
static void wait_for_others(const gdncp_bootstrap_t *bootstrap, failure_case_t *test)
{
    test->num_open += bootstrap->rank != 1;
    while (bootstrap->rank == 1 && test->num_open < bootstrap->size - 1) {
        sleep_ms(1);
    }
}

static gathering_t open_gathering(const gdncp_bootstrap_t *bootstrap, int64_t timeout_ms, way_t way)
{
    static const int64_t lengths[MAX_SIZE] = {SHARD, SHARD, SHARD};
    gathering_t made = {.comm = create_on_way(bootstrap, timeout_ms, way)};

    if (gdncp_plan_all_gather_concat(bootstrap->size, bootstrap->rank, GDNCP_F32, ROWS, lengths, 1,
                                     &made.plan) != GDNCP_OK ||
        gdncp_stream_create(GDNCP_DEVICE_CUDA, &made.stream) != GDNCP_OK) {
        _exit(97);
    }
    made.run = (device_run_t){.plan = made.plan, .in = gathering_in, .out = gathering_out};
    if (open_run(&made.run, made.comm, made.stream) != GDNCP_OK) {
        _exit(96);
    }
    return made;
}

/* A run, to its end: streams end whatever becomes of their messages. */
static gdncp_status_t gather(const gathering_t *gathering)
{
    if (start_run(&gathering->run) != GDNCP_OK ||
        gdncp_stream_synchronize(GDNCP_DEVICE_CUDA, gathering->stream) != GDNCP_OK) {
        _exit(95);
    }
    return gdncp_exchange_wait(gathering->run.exchange);
}

static void close_gathering(gathering_t *gathering)
{
    close_run(&gathering->run);
    gdncp_stream_destroy(GDNCP_DEVICE_CUDA, gathering->stream);
    gdncp_comm_destroy(gathering->comm);
    gdncp_plan_destroy(gathering->plan);
}

/* Whether it is that, and the sentence names rank 1. */
static bool is_told(const char *what, int rank, gdncp_status_t status, gdncp_status_t expected)
{
    const bool told = status == expected && strstr(gdncp_last_error(), "rank 1") != NULL;

    if (!told) {
        printf("%s, rank %d: status %d: %s\n", what, rank, (int)status, gdncp_last_error());
    }
    return told;
}

static void *exit_later(void *context)
{
    sleep_ms(*(const int64_t *)context);
    _exit(0);
}

/* The others hear of it long before the time-out, whether a message is under way or not. */
static int lost_peer_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    failure_case_t *const test = context;
    gathering_t gathering = open_gathering(bootstrap, LONG_MS, test->way);
    gdncp_status_t status = GDNCP_OK;
    pthread_t thread;

    wait_for_others(bootstrap, test);
    if (bootstrap->rank == 1 && test->fault == FAULT_EXIT) {
        _exit(0);
    }
    if (bootstrap->rank == 1 && test->fault == FAULT_ABORT) {
        gdncp_comm_abort(gathering.comm);
        close_gathering(&gathering);
        return 0;
    }
    if (bootstrap->rank == 1 && pthread_create(&thread, NULL, exit_later, &test->later_ms) != 0) {
        return 1;
    }
    for (int i = 0; i < MAX_RUNS && status == GDNCP_OK; i++) {
        status = gather(&gathering);
    }
    const bool told = is_told("lost peer", bootstrap->rank, status, GDNCP_ERR_PEER_LOST);

    close_gathering(&gathering);
    return !told;
}

static void lost_peer_is_told(void **state)
{
    failure_case_t *const test = share_case();

    (void)state;
    for (test->way = 0; test->way < NUM_WAYS; test->way++) {
        for (test->fault = 0; test->fault < NUM_FAULTS; test->fault++) {
            test->later_ms = 10 + 7 * (int64_t)test->way;
            test->num_open = 0;
            assert_int_equal(run_forked(3, lost_peer_body, test), 0);
        }
    }
    munmap(test, sizeof *test);
}

/* Rank 0 gives up, and what rank 1 sends then still has a place to go: until the exchange ends, and
 * while the communicator is asked for other things. */
static int late_rank_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    const failure_case_t *const test = context;
    gathering_t gathering = open_gathering(bootstrap, LATE_MS, test->way);
    bool right = true;

    if (bootstrap->rank == 1) {
        sleep_ms(2 * LATE_MS);
        gather(&gathering);
    } else {
        right = is_told("late rank", 0, gather(&gathering), GDNCP_ERR_TIMEOUT);
        sleep_ms(2 * LATE_MS);
        gdncp_comm_barrier(gathering.comm);
    }
    close_gathering(&gathering);
    return !right;
}

static void late_rank_harms_nobody(void **state)
{
    failure_case_t test = {.way = WAY_DIRECT};

    (void)state;
    for (test.way = 0; test.way < NUM_WAYS; test.way++) {
        assert_int_equal(run_forked(2, late_rank_body, &test), 0);
    }
}

static int bad_variable_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    gdncp_comm_t *comm = NULL;

    (void)context;
    if (bootstrap->rank == 1) {
        setenv("GDNCP_UCX_CUDA", "yes", 1);
    }
    const gdncp_status_t status = gdncp_comm_create(bootstrap, NULL, &comm);

    return status != (bootstrap->rank == 1 ? GDNCP_ERR_INVALID_ARGUMENT : GDNCP_ERR_PEER_LOST) ||
           strstr(gdncp_last_error(), "GDNCP_UCX_CUDA: expected an integer in 0..1, got \"yes\"") ==
               NULL;
}

static void bad_variable_fails_everywhere(void **state)
{
    (void)state;
    assert_int_equal(run_forked(3, bad_variable_body, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lost_peer_is_told),
        cmocka_unit_test(late_rank_harms_nobody),
        cmocka_unit_test(bad_variable_fails_everywhere),
    };

    setenv("GDNCP_CUDA", "emulated", 1);
    return cmocka_run_group_tests_name("failures on a device over UCX", tests, NULL, NULL);
}
