/* Every operation between threads, with one rank that aborts or leaves before it or within. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>

#include "comm_operations.h"
#include "deadline.h"

#define SIZE 3
#define TOLD_MS 3000

typedef struct thread_case {
    operation_kind_t kind;
    bool transposed;
    bool leaves; /* else aborts */
    bool within; /* between start and wait, else before */
    int victim;
    _Atomic int num_ready;
    _Atomic int64_t fault_ms;
} thread_case_t;

typedef struct thread_rank {
    pthread_t thread;
    thread_case_t *test;
    gdncp_comm_t *comm;
    char problem[600];
} thread_rank_t;

static void note(thread_rank_t *rank, const char *what)
{
    if (rank->problem[0] == '\0') {
        snprintf(rank->problem, sizeof rank->problem, "%s; last error: %s", what,
                 gdncp_last_error());
    }
}

static void shrink_and_go_on(thread_rank_t *rank)
{
    gdncp_comm_t *survivors = NULL;
    bool tokens_are_right = false;

    if (gdncp_comm_shrink(rank->comm, &survivors) != GDNCP_OK) {
        note(rank, "the shrink failed");
        return;
    }
    if (gdncp_comm_size(survivors) != SIZE - rank->test->leaves) {
        note(rank, "others are left");
    }
    if (move_tokens(survivors, &tokens_are_right) != GDNCP_OK || !tokens_are_right) {
        note(rank, "tokens are wrong");
    }
    gdncp_comm_destroy(survivors);
}

/* Whether this was the last that the rank does. */
static bool commit_fault(thread_rank_t *rank)
{
    rank->test->fault_ms = gdncp_now_ms();
    if (!rank->test->leaves) {
        gdncp_comm_abort(rank->comm);
    }
    return rank->test->leaves;
}

/* The first round ends well everywhere before the fault comes. */
static gdncp_status_t run_until_failure(thread_rank_t *rank, operation_t *operation)
{
    thread_case_t *const test = rank->test;
    const bool is_victim = gdncp_comm_rank(rank->comm) == test->victim;
    gdncp_status_t status = GDNCP_OK;

    for (int round = 0; status == GDNCP_OK; round++) {
        const bool is_time = round == 1 && is_victim;

        test->num_ready += round == 1;
        while (is_time && test->num_ready < SIZE) {
            sched_yield();
        }
        if (is_time && !test->within && commit_fault(rank)) {
            return GDNCP_OK;
        }
        status = start_operation(operation);
        if (is_time && test->within && commit_fault(rank)) {
            return GDNCP_OK;
        }
        if (status == GDNCP_OK) {
            status = wait_operation(operation);
        }
    }
    return status;
}

static void *play(void *context)
{
    thread_rank_t *const rank = context;
    const thread_case_t *const test = rank->test;
    const bool goes = test->leaves && gdncp_comm_rank(rank->comm) == test->victim;
    gdncp_status_t status = GDNCP_OK;
    char name[32];
    operation_t operation;

    snprintf(name, sizeof name, "rank %d", test->victim);
    if (make_operation(&operation, rank->comm, test->kind, test->transposed, false) != GDNCP_OK) {
        note(rank, "the operation was not made");
    } else {
        status = run_until_failure(rank, &operation);
    }
    if (!goes && status != GDNCP_ERR_PEER_LOST) {
        note(rank, "expected GDNCP_ERR_PEER_LOST");
    }
    if (!goes && strstr(gdncp_last_error(), name) == NULL) {
        note(rank, "the victim is not named");
    }
    if (!goes && gdncp_now_ms() - test->fault_ms > TOLD_MS) {
        note(rank, "it was told late");
    }
    free_operation(&operation);
    if (!goes) {
        shrink_and_go_on(rank);
    }
    gdncp_comm_destroy(rank->comm);
    return NULL;
}

static void run_case(thread_case_t *test)
{
    const gdncp_comm_options_t options = {.timeout_ms = 30000};
    gdncp_comm_t *comms[SIZE];
    thread_rank_t ranks[SIZE];

    assert_int_equal(gdncp_comm_create_threads(SIZE, &options, comms), GDNCP_OK);
    for (int i = 0; i < SIZE; i++) {
        ranks[i] = (thread_rank_t){.test = test, .comm = comms[i]};
        assert_int_equal(pthread_create(&ranks[i].thread, NULL, play, &ranks[i]), 0);
    }
    for (int i = 0; i < SIZE; i++) {
        pthread_join(ranks[i].thread, NULL);
    }
    for (int i = 0; i < SIZE; i++) {
        if (ranks[i].problem[0] != '\0') {
            fail_msg("%s, rank %d %s %s: rank %d: %s",
                     operation_name_of(test->kind, test->transposed), test->victim,
                     test->leaves ? "leaves" : "aborts", test->within ? "within" : "before", i,
                     ranks[i].problem);
        }
    }
}

static void every_failure_is_survived(void **state)
{
    int num_cases = 0;

    (void)state;
    for (int kind = 0; kind < NUM_OPERATIONS; kind++) {
        const bool is_plan = kind < NUM_PLAN_OPERATIONS;

        for (int variant = 0; variant < 8; variant++) {
            for (int victim = 0; victim < SIZE; victim++) {
                thread_case_t test = {.kind = (operation_kind_t)kind,
                                      .transposed = (variant & 1) != 0,
                                      .within = (variant & 2) != 0,
                                      .leaves = (variant & 4) != 0,
                                      .victim = victim};

                if (is_plan || (!test.transposed && !test.within)) {
                    run_case(&test);
                    num_cases++;
                }
            }
        }
    }
    printf("%d cases\n", num_cases);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_failure_is_survived),
    };

    return cmocka_run_group_tests_name("failures_threads", tests, NULL, NULL);
}
