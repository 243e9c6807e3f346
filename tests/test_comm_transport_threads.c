#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>

#include "conformance_transport.h"
#include "leftovers.h"

#define MAX_RANKS 8

typedef struct thread_rank {
    pthread_t thread;
    gdncp_comm_t *comm;
    const conformance_case_t *test;
    uint64_t seed;
    int num_failures;
} thread_rank_t;

static void *run_rank(void *context)
{
    thread_rank_t *const rank = context;

    rank->num_failures = run_conformance_case(rank->test, rank->comm, rank->seed);
    gdncp_comm_destroy(rank->comm);
    return NULL;
}

static void run_case_on_threads(const conformance_case_t *test, int num_ranks, uint64_t seed)
{
    const gdncp_comm_options_t options = {.timeout_ms = test->timeout_ms};
    thread_rank_t ranks[MAX_RANKS];
    gdncp_comm_t *comms[MAX_RANKS];

    assert_int_equal(gdncp_comm_create_threads(num_ranks, &options, comms), GDNCP_OK);
    for (int i = 0; i < num_ranks; i++) {
        ranks[i] = (thread_rank_t){.comm = comms[i], .test = test, .seed = seed};
        assert_int_equal(pthread_create(&ranks[i].thread, NULL, run_rank, &ranks[i]), 0);
    }
    for (int i = 0; i < num_ranks; i++) {
        pthread_join(ranks[i].thread, NULL);
    }
    for (int i = 0; i < num_ranks; i++) {
        assert_int_equal(ranks[i].num_failures, 0);
    }
}

static void conforms(void **state)
{
    const test_random_t random = test_random_start("transport_threads", 20262);

    (void)state;
    for (int num_ranks = 1; num_ranks <= MAX_RANKS; num_ranks++) {
        for (int i = 0; i < NUM_CONFORMANCE_CASES; i++) {
            run_case_on_threads(&conformance_cases[i], num_ranks, random.state);
        }
    }
}

static void abort_reaches_other_ranks_case(conformance_t *c)
{
    char byte = 0;
    gdncp_group_t *group = NULL;

    if (c->rank == 1) {
        nanosleep(&(struct timespec){.tv_nsec = 30000000}, NULL);
        gdncp_comm_abort(c->comm);
        return;
    }
    expect_ok(c, gdncp_comm_group_create(c->comm, 1, &group), "create");
    expect_ok(c, gdncp_comm_group_begin(c->comm, group), "begin");
    expect_ok(c, gdncp_comm_recv(c->comm, group, &byte, 1, 0), "recv");
    if (gdncp_comm_group_end(c->comm, group, NULL) == GDNCP_OK) {
        expect(c, gdncp_comm_group_wait(c->comm, group) == GDNCP_ERR_PEER_LOST, "wait");
    }
    expect(c, strstr(gdncp_last_error(), "rank 1 aborted") != NULL, "who aborted is named");
    gdncp_comm_group_destroy(c->comm, group);
}

static void abort_reaches_other_ranks(void **state)
{
    const conformance_case_t test = {"abort_reaches_other_ranks", abort_reaches_other_ranks_case,
                                     0};

    (void)state;
    run_case_on_threads(&test, 4, 1);
}

/* Rank 0 sends nothing and leaves; rank 2's message is never received. */
static void leaving_is_told_case(conformance_t *c)
{
    char byte = 0;
    gdncp_group_t *group = NULL;

    if (c->rank == 0) {
        return;
    }
    expect_ok(c, gdncp_comm_group_create(c->comm, 1, &group), "create");
    expect_ok(c, gdncp_comm_group_begin(c->comm, group), "begin");
    if (c->rank == 1) {
        expect_ok(c, gdncp_comm_recv(c->comm, group, &byte, 1, 0), "recv");
    } else {
        expect_ok(c, gdncp_comm_send(c->comm, group, &byte, 1, 0), "send");
    }
    expect_ok(c, gdncp_comm_group_end(c->comm, group, NULL), "end");
    expect_error(c, gdncp_comm_group_wait(c->comm, group), GDNCP_ERR_PEER_LOST, "rank 0 destroyed",
                 "a wait for a rank that left");
    expect_error(c, c->comm->transport->ops->check_peer(c->comm->transport, 0), GDNCP_ERR_PEER_LOST,
                 "rank 0 destroyed", "a rank that left");
    gdncp_comm_group_destroy(c->comm, group);
}

static void leaving_is_told(void **state)
{
    const conformance_case_t test = {"leaving_is_told", leaving_is_told_case, 0};

    (void)state;
    run_case_on_threads(&test, 3, 1);
}

static gdncp_group_t *begin_group(gdncp_comm_t *comm)
{
    gdncp_group_t *group = NULL;

    assert_int_equal(gdncp_comm_group_create(comm, 2, &group), GDNCP_OK);
    assert_int_equal(gdncp_comm_group_begin(comm, group), GDNCP_OK);
    return group;
}

/* Rank 0 waits for rank 2 alone, which gives up as rank 1 has left: rank 1 is named to both. All
 * on one thread, so that rank 0 looks when all this has come to pass. */
static void a_withdrawn_message_names_who_left(void **state)
{
    gdncp_comm_t *comms[3];
    char bytes[3] = {0};

    (void)state;
    assert_int_equal(gdncp_comm_create_threads(3, NULL, comms), GDNCP_OK);
    gdncp_group_t *const waits = begin_group(comms[0]);
    gdncp_group_t *const gives_up = begin_group(comms[2]);

    assert_int_equal(gdncp_comm_recv(comms[0], waits, &bytes[0], 1, 2), GDNCP_OK);
    assert_int_equal(gdncp_comm_group_end(comms[0], waits, NULL), GDNCP_OK);
    assert_int_equal(gdncp_comm_send(comms[2], gives_up, &bytes[1], 1, 0), GDNCP_OK);
    assert_int_equal(gdncp_comm_recv(comms[2], gives_up, &bytes[2], 1, 1), GDNCP_OK);
    assert_int_equal(gdncp_comm_group_end(comms[2], gives_up, NULL), GDNCP_OK);
    gdncp_comm_destroy(comms[1]);

    assert_int_equal(gdncp_comm_group_wait(comms[2], gives_up), GDNCP_ERR_PEER_LOST);
    assert_non_null(strstr(gdncp_last_error(), "rank 1 destroyed"));
    assert_int_equal(gdncp_comm_group_wait(comms[0], waits), GDNCP_ERR_PEER_LOST);
    assert_non_null(strstr(gdncp_last_error(), "rank 2 withdrew"));
    assert_non_null(strstr(gdncp_last_error(), "rank 1 destroyed"));
    gdncp_comm_group_destroy(comms[0], waits);
    gdncp_comm_group_destroy(comms[2], gives_up);
    gdncp_comm_destroy(comms[0]);
    gdncp_comm_destroy(comms[2]);
}

/* What a rank sent before it left still arrives. */
static void last_words_arrive_case(conformance_t *c)
{
    char word = 'w';
    gdncp_group_t *group = NULL;

    expect_ok(c, gdncp_comm_group_create(c->comm, 1, &group), "create");
    expect_ok(c, gdncp_comm_group_begin(c->comm, group), "begin");
    if (c->rank == 0) {
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
        expect_ok(c, gdncp_comm_recv(c->comm, group, &word, 1, 1), "recv");
    } else {
        expect_ok(c, gdncp_comm_send(c->comm, group, &word, 1, 0), "send");
    }
    expect_ok(c, gdncp_comm_group_end(c->comm, group, NULL), "end");
    expect_ok(c, gdncp_comm_group_wait(c->comm, group), "wait");
    gdncp_comm_group_destroy(c->comm, group);
}

static void last_words_arrive(void **state)
{
    const conformance_case_t test = {"last_words_arrive", last_words_arrive_case, 0};

    (void)state;
    for (int i = 0; i < 20; i++) {
        run_case_on_threads(&test, 2, 1);
    }
}

static void arguments_of_creation_are_checked(void **state)
{
    gdncp_comm_t *comm = NULL;

    (void)state;
    assert_int_equal(gdncp_comm_create_threads(0, NULL, &comm), GDNCP_ERR_INVALID_ARGUMENT);
    assert_non_null(strstr(gdncp_last_error(), "num_ranks"));
    assert_null(comm);
    assert_int_equal(gdncp_comm_create_threads(1, NULL, &comm), GDNCP_OK);
    assert_int_equal(gdncp_comm_transport(comm), GDNCP_TRANSPORT_THREADS);
    gdncp_comm_destroy(comm);
}

static void descriptors_do_not_grow(void **state)
{
    const int num_before = count_files("/proc/self/fd");

    (void)state;
    for (int i = 0; i < 10000; i++) {
        gdncp_comm_t *comms[3];

        assert_int_equal(gdncp_comm_create_self(&comms[2]), GDNCP_OK);
        assert_int_equal(gdncp_comm_create_threads(2, NULL, comms), GDNCP_OK);
        for (int rank = 0; rank < 3; rank++) {
            gdncp_comm_destroy(comms[rank]);
        }
    }
    assert_int_equal(count_files("/proc/self/fd"), num_before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conforms),
        cmocka_unit_test(abort_reaches_other_ranks),
        cmocka_unit_test(leaving_is_told),
        cmocka_unit_test(a_withdrawn_message_names_who_left),
        cmocka_unit_test(last_words_arrive),
        cmocka_unit_test(arguments_of_creation_are_checked),
        cmocka_unit_test(descriptors_do_not_grow),
    };

    return cmocka_run_group_tests_name("transport_threads", tests, NULL, NULL);
}
