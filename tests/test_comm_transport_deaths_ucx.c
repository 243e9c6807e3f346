/* Ranks that die, hang or cannot begin, and what UCX tells the others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <time.h>

#include "conformance_rank.h"
#include "forked_ranks.h"
#include "deadline.h"
#include "standard_streams.h"

/* Rank 2 dies while the others wait for it; rank 1 with a send that is not yet taken. */
static int killed_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    enum { BYTES = 4 << 20 };
    gdncp_comm_t *const comm = create_or_exit(bootstrap, 30000);
    conformance_t c = {.comm = comm, .rank = bootstrap->rank, .size = bootstrap->size};
    unsigned char *const bytes = poisoned(BYTES);
    gdncp_group_t *group = NULL;

    (void)context;
    expect_ok(&c, gdncp_comm_barrier(comm), "barrier");
    if (c.rank == 2) {
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
        raise(SIGKILL);
    }
    const int64_t begin = gdncp_now_ms();
    expect_ok(&c, gdncp_comm_group_create(comm, 1, &group), "create");
    expect_ok(&c, gdncp_comm_group_begin(comm, group), "begin");
    if (c.rank == 0) {
        expect_ok(&c, gdncp_comm_recv(comm, group, bytes, BYTES, 2), "recv");
    } else {
        expect_ok(&c, gdncp_comm_send(comm, group, bytes, BYTES, 2), "send");
    }
    expect_ok(&c, gdncp_comm_group_end(comm, group, NULL), "end");
    expect_error(&c, gdncp_comm_group_wait(comm, group), GDNCP_ERR_PEER_LOST, "rank 2",
                 "a wait for a dead rank");
    expect(&c, gdncp_now_ms() - begin < 3000, "a death is noticed soon");
    gdncp_comm_group_destroy(comm, group);
    free(bytes);
    gdncp_comm_destroy(comm);
    expect(&c, gdncp_now_ms() - begin < 5000, "destroying is quick though a peer is dead");
    if (c.num_failures > 0) {
        printf("rank %d: %s\n", c.rank, c.first_failure);
    }
    return c.num_failures > 0;
}

static void death_of_a_peer_is_told(void **state)
{
    forked_ranks_t ranks;

    (void)state;
    start_forked(&ranks, 3, killed_body, NULL);
    assert_int_equal(finish_forked(&ranks), 1);
    assert_true(WIFSIGNALED(ranks.statuses[2]));
}

/* Rank 1 sends and is gone before rank 0 looks; where a context is given, without a good-bye. */
static int leaving_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    enum { NUM = 3 };
    static const size_t sizes[NUM] = {8, 3000, 6000};
    gdncp_comm_t *const comm = create_or_exit(bootstrap, 5000);
    conformance_t c = {.comm = comm, .rank = bootstrap->rank, .size = bootstrap->size};
    unsigned char *messages[NUM];
    gdncp_group_t *group = NULL;

    /* Both have made their communicator. */
    expect_ok(&c, gdncp_comm_barrier(comm), "barrier");
    expect_ok(&c, gdncp_comm_group_create(comm, NUM, &group), "create");
    expect_ok(&c, gdncp_comm_group_begin(comm, group), "begin");
    for (int i = 0; i < NUM; i++) {
        messages[i] = poisoned(sizes[i]);
        if (c.rank == 0) {
            expect_ok(&c, gdncp_comm_recv(comm, group, messages[i], sizes[i], 1), "recv");
        } else {
            fill_message(&c, messages[i], sizes[i], 1, 0, i);
            expect_ok(&c, gdncp_comm_send(comm, group, messages[i], sizes[i], 0), "send");
        }
    }
    if (c.rank == 0) {
        nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
    }
    expect_ok(&c, gdncp_comm_group_end(comm, group, NULL), "end");
    expect_ok(&c, gdncp_comm_group_wait(comm, group), "wait");
    if (context != NULL && c.rank == 1) {
        raise(SIGKILL);
    }
    for (int i = 0; i < NUM; i++) {
        expect(&c, is_message(&c, messages[i], sizes[i], 1, 0, i), "last words");
        free(messages[i]);
    }
    expect(&c, c.rank == 1 || gdncp_comm_barrier(comm) == GDNCP_ERR_PEER_LOST, "no more words");
    gdncp_comm_group_destroy(comm, group);
    gdncp_comm_destroy(comm);
    if (c.num_failures > 0) {
        printf("leaving, rank %d: %s\n", c.rank, c.first_failure);
    }
    return c.num_failures > 0;
}

static void last_words_arrive(void **state)
{
    (void)state;
    assert_int_equal(run_forked(2, leaving_body, NULL), 0);
    assert_int_equal(run_forked(2, leaving_body, "dies"), 1);
    setenv("UCX_TLS", "tcp,self", 1);
    assert_int_equal(run_forked(2, leaving_body, NULL), 0);
    assert_int_equal(run_forked(2, leaving_body, "dies"), 1);
    unsetenv("UCX_TLS");
}

/* Rank 1 hangs while rank 0 has a large message for it. */
static int hanging_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    enum { BYTES = 4 << 20 };
    gdncp_comm_t *const comm = create_or_exit(bootstrap, 0);
    conformance_t c = {.comm = comm, .rank = bootstrap->rank, .size = bootstrap->size};

    (void)context;
    comm->timeout_ms = 300;
    if (c.rank == 1) {
        raise(SIGSTOP);
        return 0;
    }
    unsigned char *const bytes = poisoned(BYTES);
    gdncp_group_t *group = NULL;
    const int64_t begin = gdncp_now_ms();
    expect_ok(&c, gdncp_comm_group_create(comm, 2, &group), "create");
    expect_ok(&c, gdncp_comm_group_begin(comm, group), "begin");
    expect_ok(&c, gdncp_comm_send(comm, group, bytes, BYTES, 1), "send");
    expect_ok(&c, gdncp_comm_recv(comm, group, bytes, 1, 1), "recv");
    expect_ok(&c, gdncp_comm_group_end(comm, group, NULL), "end");
    expect_error(&c, gdncp_comm_group_wait(comm, group), GDNCP_ERR_TIMEOUT, "rank 1", "wait");
    expect_error(&c, gdncp_comm_barrier(comm), GDNCP_ERR_TIMEOUT, "rank 1", "barrier");
    expect_error(&c, gdncp_comm_barrier(comm), GDNCP_ERR_TIMEOUT, "shrunk or destroyed",
                 "a barrier after one that timed out");
    gdncp_comm_group_destroy(comm, group);
    free(bytes);
    gdncp_comm_destroy(comm);
    expect(&c, gdncp_now_ms() - begin < 8000, "nothing waits for a rank that hangs");
    if (c.num_failures > 0) {
        printf("hanging: %s\n", c.first_failure);
    }
    return c.num_failures > 0;
}

static void hanging_peer_holds_nobody(void **state)
{
    forked_ranks_t ranks;
    int status = 0;

    (void)state;
    start_forked(&ranks, 2, hanging_body, NULL);
    assert_int_equal(waitpid(ranks.pids[0], &status, 0), ranks.pids[0]);
    kill(ranks.pids[1], SIGCONT);
    waitpid(ranks.pids[1], NULL, 0);
    assert_int_equal(status, 0);
}

/* Rank 1 dies at the n-th all-gather of the bootstrap, or after all of them. */
typedef struct mortal {
    const gdncp_bootstrap_t *inner;
    int num_left; /* all-gathers before it dies */
} mortal_t;

static int mortal_all_gather(void *context, const void *in, void *out, size_t bytes)
{
    mortal_t *const mortal = context;

    if (mortal->num_left == 0) {
        raise(SIGKILL);
    }
    mortal->num_left--;
    const int result = mortal->inner->all_gather(mortal->inner->context, in, out, bytes);
    if (mortal->num_left == 0) {
        raise(SIGKILL);
    }
    return result;
}

static int dying_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    const gdncp_comm_options_t options = {.timeout_ms = 700};
    const int64_t begin = gdncp_now_ms();
    mortal_t mortal = {.inner = bootstrap, .num_left = *(const int *)context};
    gdncp_comm_t *comm = NULL;

    const streams_t saved = silence_streams();
    if (bootstrap->rank == 1) {
        const gdncp_bootstrap_t dying = {.rank = 1,
                                         .size = bootstrap->size,
                                         .all_gather = mortal_all_gather,
                                         .context = &mortal};
        gdncp_comm_create(&dying, &options, &comm);
        return 1;
    }
    const gdncp_status_t status = gdncp_comm_create(bootstrap, &options, &comm);
    restore_streams(saved);
    const int64_t took = gdncp_now_ms() - begin;
    const bool is_told = (status == GDNCP_ERR_PEER_LOST || status == GDNCP_ERR_TIMEOUT) &&
                         strstr(gdncp_last_error(), "rank ") != NULL && comm == NULL;
    if (!is_told || took > 5000) {
        printf("rank %d: %s after %lld ms: %s\n", bootstrap->rank, gdncp_status_string(status),
               (long long)took, gdncp_last_error());
    }
    return !is_told || took > 5000;
}

static void death_while_connecting_is_told(void **state)
{
    (void)state;
    for (int num_all_gathers = 0; num_all_gathers <= 2; num_all_gathers++) {
        forked_ranks_t ranks;

        start_forked(&ranks, 3, dying_body, &num_all_gathers);
        assert_int_equal(finish_forked(&ranks), 1);
        assert_true(WIFSIGNALED(ranks.statuses[1]));
    }
}

/* Rank 1 cannot open UCX; it says so, and nobody waits for it. */
static int unable_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    const int64_t begin = gdncp_now_ms();
    gdncp_comm_t *comm = NULL;

    (void)context;
    const streams_t saved = silence_streams();
    if (bootstrap->rank == 1) {
        setenv("UCX_TLS", "no_such_transport", 1);
    }
    const gdncp_status_t status = gdncp_comm_create(bootstrap, NULL, &comm);
    restore_streams(saved);
    const bool told =
        bootstrap->rank == 1
            ? status == GDNCP_ERR_TRANSPORT && strstr(gdncp_last_error(), "opening UCX") != NULL
            : status == GDNCP_ERR_PEER_LOST &&
                  strstr(gdncp_last_error(), "rank 1 could not open") != NULL;
    if (!told) {
        printf("rank %d: %s\n", bootstrap->rank, gdncp_last_error());
    }
    return !(told && comm == NULL && gdncp_now_ms() - begin < 5000);
}

static void rank_without_ucx_is_told(void **state)
{
    (void)state;
    assert_int_equal(run_forked(3, unable_body, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(death_of_a_peer_is_told),
        cmocka_unit_test(last_words_arrive),
        cmocka_unit_test(hanging_peer_holds_nobody),
        cmocka_unit_test(death_while_connecting_is_told),
        cmocka_unit_test(rank_without_ucx_is_told),
    };

    return cmocka_run_group_tests_name("transport_deaths_ucx", tests, NULL, NULL);
}
