/* Exchanges through rings when a rank dies, leaves, hangs or does something else. */
#include "process_exchange.h"

#include <signal.h>

#include "deadline.h"

enum { NUM_RANKS = 3, LOST = 1 };

/* Both are longer than their rings. */
typedef struct two_exchanges {
    process_exchange_t first;
    process_exchange_t second;
} two_exchanges_t;

static void fill_two(two_exchanges_t *two, const char *name, uint64_t seed, int num_ranks)
{
    test_random_t random = test_random_start(name, seed);

    fill_cp2hp(&two->first, &random, num_ranks, 1200, 800, 0);
    fill_cp2hp(&two->second, &random, num_ranks, 1200, 700, 1);
}

static void run_two(forked_body_t *body, two_exchanges_t *two, int num_ranks)
{
    assert_int_equal(run_forked(num_ranks, body, two), 0);
    free_exchange(&two->first);
    free_exchange(&two->second);
}

static void nap(int64_t ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

/* The exchange ends with an error soon, and its buffers may be written again at once. */
static void expect_lost(conformance_t *c, const process_exchange_t *e, const char *word,
                        const char *what)
{
    const int64_t begin = gdncp_now_ms();
    gdncp_exchange_t *const exchange = bind_exchange(c, e);

    expect_error(c, gdncp_exchange_run(exchange, e->ins[c->rank], e->outs[c->rank], NULL),
                 GDNCP_ERR_PEER_LOST, word, what);
    expect(c, gdncp_now_ms() - begin < 3000, "a loss is noticed soon");
    memset(e->outs[c->rank], 0x11, output_bytes(e->plans[c->rank]));
    expect_error(c, gdncp_exchange_run(exchange, e->ins[c->rank], e->outs[c->rank], NULL),
                 GDNCP_ERR_PEER_LOST, "has not failed", "a run after a failed one");
    gdncp_exchange_destroy(exchange);
    expect(c, gdncp_now_ms() - begin < 4000, "destroying is quick");
}

/* It dies in the middle of a message: with its rings full. */
static int killed_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    const two_exchanges_t *const two = context;
    conformance_t c = start_rank(bootstrap, 30000);

    if (c.rank == LOST) {
        gdncp_exchange_t *const exchange = bind_exchange(&c, &two->first);

        expect_ok(
            &c,
            gdncp_exchange_start(exchange, two->first.ins[c.rank], two->first.outs[c.rank], NULL),
            "start");
        nap(100);
        raise(SIGKILL);
    }
    expect_lost(&c, &two->first, "rank 1", "a wait for a rank that dies");
    return end_rank(&c);
}

static void death_in_a_message_is_told(void **state)
{
    two_exchanges_t two;
    forked_ranks_t ranks;

    (void)state;
    fill_two(&two, "death", 61, NUM_RANKS);
    start_forked(&ranks, NUM_RANKS, killed_body, &two);
    assert_int_equal(finish_forked(&ranks), 1);
    assert_true(WIFSIGNALED(ranks.statuses[LOST]));
    free_exchange(&two.first);
    free_exchange(&two.second);
}

static int leaving_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    const two_exchanges_t *const two = context;
    conformance_t c = start_rank(bootstrap, 30000);

    if (c.rank == LOST) {
        gdncp_exchange_t *const exchange = bind_exchange(&c, &two->first);

        gdncp_exchange_destroy(exchange);
        const int failed = end_rank(&c);

        nap(1500); /* the process is still there */
        return failed;
    }
    expect_lost(&c, &two->first, "rank 1", "a wait for a rank that left");
    return end_rank(&c);
}

static void leaving_is_told(void **state)
{
    two_exchanges_t two;

    (void)state;
    fill_two(&two, "leaving", 62, NUM_RANKS);
    run_two(leaving_body, &two, NUM_RANKS);
}

/* What fits into the rings and was written before the end of a rank still arrives. */
static int last_words_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    const process_exchange_t *const e = context;
    conformance_t c = start_rank(bootstrap, 30000);
    gdncp_exchange_t *const exchange = bind_exchange(&c, e);

    if (c.rank == 0) {
        expect_ok(&c, gdncp_exchange_start(exchange, e->ins[0], e->outs[0], NULL), "start");
        nap(300); /* the other one ends meanwhile */
        expect_ok(&c, gdncp_exchange_wait(exchange), "a wait after the end of the other rank");
    } else {
        nap(50);
        expect_ok(&c, gdncp_exchange_run(exchange, e->ins[1], e->outs[1], NULL), "run");
    }
    expect_output(&c, e);
    gdncp_exchange_destroy(exchange);
    return end_rank(&c);
}

static void last_words_arrive(void **state)
{
    test_random_t random = test_random_start("last words", 63);
    process_exchange_t e = {0};

    (void)state;
    fill_cp2hp(&e, &random, 2, 400, 300, 0);
    assert_int_equal(run_forked(2, last_words_body, &e), 0);
    free_exchange(&e);
}

/* Rank 1 comes late to the first exchange, which the others have given up. The second one, of the
 * same communicator, still works: both sides are in step. */
static int late_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    const two_exchanges_t *const two = context;
    conformance_t c = start_rank(bootstrap, 30000);
    gdncp_exchange_t *const first = bind_exchange(&c, &two->first);
    gdncp_exchange_t *const second = bind_exchange(&c, &two->second);
    const int64_t begin = gdncp_now_ms();

    c.comm->timeout_ms = 200;
    if (c.rank == LOST) {
        nap(600);
    }
    const gdncp_status_t status =
        gdncp_exchange_run(first, two->first.ins[c.rank], two->first.outs[c.rank], NULL);

    if (c.rank != LOST) {
        expect(&c, status == GDNCP_ERR_TIMEOUT && strstr(gdncp_last_error(), "from rank 1") != NULL,
               "a time-out that names the late rank alone");
        expect(&c, gdncp_now_ms() - begin < 590, "a time-out is in time");
    }
    gdncp_exchange_destroy(first);
    memset(two->first.outs[c.rank], 0x22, output_bytes(two->first.plans[c.rank]));
    c.comm->timeout_ms = 30000;
    expect_ok(&c,
              gdncp_exchange_run(second, two->second.ins[c.rank], two->second.outs[c.rank], NULL),
              "an exchange after one that was given up");
    expect_output(&c, &two->second);
    for (size_t i = 0; i < output_bytes(two->first.plans[c.rank]) && c.rank != LOST; i++) {
        if (((const unsigned char *)two->first.outs[c.rank])[i] != 0x22) {
            expect(&c, false, "an exchange that was given up leaves the buffers alone");
            break;
        }
    }
    gdncp_exchange_destroy(second);
    return end_rank(&c);
}

static void late_rank_is_given_up(void **state)
{
    two_exchanges_t two;

    (void)state;
    fill_two(&two, "late", 64, NUM_RANKS);
    run_two(late_body, &two, NUM_RANKS);
}

/* Two exchanges are started in different orders: both sides find other lengths than expected. */
static int crossed_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    const two_exchanges_t *const two = context;
    conformance_t c = start_rank(bootstrap, 5000);
    const process_exchange_t *const order[] = {c.rank == 0 ? &two->first : &two->second,
                                               c.rank == 0 ? &two->second : &two->first};
    gdncp_exchange_t *const a = bind_exchange(&c, &two->first);
    gdncp_exchange_t *const b = bind_exchange(&c, &two->second);
    gdncp_exchange_t *const started[] = {c.rank == 0 ? a : b, c.rank == 0 ? b : a};

    for (int i = 0; i < 2; i++) {
        expect_ok(
            &c,
            gdncp_exchange_start(started[i], order[i]->ins[c.rank], order[i]->outs[c.rank], NULL),
            "start");
    }
    for (int i = 0; i < 2; i++) {
        expect_error(&c, gdncp_exchange_wait(started[i]), GDNCP_ERR_MISMATCH,
                     c.rank == 0 ? "from rank 1, got" : "from rank 0, got",
                     "a message of another exchange");
    }
    expect_ok(&c, gdncp_comm_barrier(c.comm), "barrier");
    gdncp_exchange_destroy(a);
    gdncp_exchange_destroy(b);
    return end_rank(&c);
}

static void crossed_exchanges_are_a_mismatch(void **state)
{
    two_exchanges_t two;

    (void)state;
    fill_two(&two, "crossed", 65, 2);
    run_two(crossed_body, &two, 2);
}

typedef struct aborted_exchange {
    two_exchanges_t two;
    int is_ready[2]; /* a pipe: every rank but 0 writes a byte when it has what it will wait in */
} aborted_exchange_t;

/* Rank 0 aborts. The others leave as soon as they have heard of it, which may be told to a third
 * rank before the abort itself: why a rank left comes with it. */
static int aborting_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    const aborted_exchange_t *const aborted = context;
    const process_exchange_t *const first = &aborted->two.first;
    conformance_t c = start_rank(bootstrap, 30000);
    gdncp_exchange_t *const exchange = bind_exchange(&c, first);
    char byte = 0;

    if (c.rank != LOST) {
        expect_ok(&c, gdncp_exchange_start(exchange, first->ins[c.rank], first->outs[c.rank], NULL),
                  "start");
    }
    if (c.rank != 0) {
        expect(&c, write(aborted->is_ready[1], &byte, 1) == 1, "a word that this rank is ready");
    } else {
        for (int rank = 1; rank < NUM_RANKS; rank++) {
            expect(&c, read(aborted->is_ready[0], &byte, 1) == 1, "another rank is ready");
        }
        gdncp_comm_abort(c.comm);
    }
    expect_error(&c, c.rank != LOST ? gdncp_exchange_wait(exchange) : gdncp_comm_barrier(c.comm),
                 GDNCP_ERR_PEER_LOST, "aborted", "a wait after an abort");
    gdncp_exchange_destroy(exchange);
    return end_rank(&c);
}

static void abort_ends_a_wait(void **state)
{
    aborted_exchange_t aborted;

    (void)state;
    fill_two(&aborted.two, "abort", 66, NUM_RANKS);
    assert_int_equal(pipe(aborted.is_ready), 0);
    assert_int_equal(run_forked(NUM_RANKS, aborting_body, &aborted), 0);
    close(aborted.is_ready[0]);
    close(aborted.is_ready[1]);
    free_exchange(&aborted.two.first);
    free_exchange(&aborted.two.second);
}

/* A rank that stands still is seen by the deadline alone. */
static int stopped_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    const two_exchanges_t *const two = context;
    conformance_t c = start_rank(bootstrap, 300);
    gdncp_exchange_t *const exchange = bind_exchange(&c, &two->first);

    if (c.rank == LOST) {
        nap(1200);
    } else {
        const int64_t begin = gdncp_now_ms();

        expect_error(
            &c, gdncp_exchange_run(exchange, two->first.ins[c.rank], two->first.outs[c.rank], NULL),
            GDNCP_ERR_TIMEOUT, "rank 1", "a wait for a rank that stands still");
        expect(&c, gdncp_now_ms() - begin < 1000, "a time-out is in time");
    }
    gdncp_exchange_destroy(exchange);
    return end_rank(&c);
}

static void standing_still_is_a_time_out(void **state)
{
    two_exchanges_t two;

    (void)state;
    fill_two(&two, "standing still", 67, NUM_RANKS);
    run_two(stopped_body, &two, NUM_RANKS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(death_in_a_message_is_told),
        cmocka_unit_test(leaving_is_told),
        cmocka_unit_test(last_words_arrive),
        cmocka_unit_test(late_rank_is_given_up),
        cmocka_unit_test(crossed_exchanges_are_a_mismatch),
        cmocka_unit_test(abort_ends_a_wait),
        cmocka_unit_test(standing_still_is_a_time_out),
    };

    return cmocka_run_group_tests_name("lost processes", tests, NULL, NULL);
}
