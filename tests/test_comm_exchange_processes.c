/* Exchanges between processes of one machine, through rings and without them. */
#include "process_exchange.h"

#include "gdncp/memory.h"
#include "leftovers.h"

enum { NUM_RANDOM = 12, NUM_IN_FLIGHT = 4, NUM_RUNS = 30 };

static bool maps_rings(void)
{
    FILE *const file = fopen("/proc/self/maps", "r");
    char line[512];
    bool found = false;

    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        found = found || strstr(line, "memfd:gdncp") != NULL;
    }
    if (file != NULL) {
        fclose(file);
    }
    return found;
}

/* Several exchanges, each bound, run twice and freed. */
typedef struct series {
    process_exchange_t exchanges[NUM_RANDOM];
    int count;
    bool through_rings;
} series_t;

static void run_one(conformance_t *c, const process_exchange_t *e, bool through_rings)
{
    const gdncp_plan_t *const plan = e->plans[c->rank];
    gdncp_exchange_t *const exchange = bind_exchange(c, e);
    const int64_t num_moves = gdncp_shared_num_moves(c->comm->shared);
    int64_t num_messages = 0;
    const gdncp_message_t *const messages = gdncp_plan_messages(plan, &num_messages);
    gdncp_comm_counters_t expected = {0};
    gdncp_comm_counters_t got;

    for (int64_t m = 0; m < num_messages; m++) {
        expected.bytes_sent += messages[m].send_bytes;
        expected.messages_sent += messages[m].send_bytes > 0;
        expected.bytes_received += messages[m].recv_bytes;
        expected.messages_received += messages[m].recv_bytes > 0;
    }
    gdncp_comm_reset_counters(c->comm);
    expect_ok(c, gdncp_exchange_run(exchange, e->ins[c->rank], e->outs[c->rank], NULL), "run");
    gdncp_comm_counters(c->comm, &got);
    expect(c, memcmp(&got, &expected, sizeof got) == 0, "counters");
    expect_output(c, e);
    expect(c,
           (gdncp_shared_num_moves(c->comm->shared) > num_moves) ==
               (through_rings && num_messages > 0),
           "rings are used where they should be");
    if (plan->write == GDNCP_PLAN_ASSIGN) {
        memset(e->outs[c->rank], 0xff, output_bytes(plan));
        expect_ok(c, gdncp_exchange_run(exchange, e->ins[c->rank], e->outs[c->rank], NULL),
                  "second run");
        expect_output(c, e);
    }
    gdncp_exchange_destroy(exchange);
}

static int series_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    const series_t *const series = context;
    const int num_descriptors = count_files("/proc/self/fd");
    conformance_t c = start_rank(bootstrap, 30000);
    char lanes[256] = "";

    expect(&c, maps_rings() == (series->through_rings && c.size > 1), "rings are mapped");
    for (int peer = 0; peer < c.size; peer++) {
        expect_ok(&c, gdncp_comm_describe_lanes(c.comm, peer, lanes, sizeof lanes), "lanes");
        expect(&c,
               (strncmp(lanes, "gdncp/rings ", 12) == 0) ==
                   (series->through_rings && peer != c.rank),
               lanes);
    }
    for (int i = 0; i < series->count; i++) {
        run_one(&c, &series->exchanges[i], series->through_rings);
    }
    const int failed = end_rank(&c);

    return failed || maps_rings() || count_files("/proc/self/fd") != num_descriptors;
}

static void run_series(series_t *series, int num_ranks)
{
    const int num_posix = count_files("/dev/shm");

    series->through_rings = true;
    assert_int_equal(run_forked(num_ranks, series_body, series), 0);
    setenv("GDNCP_SHARED_MEMORY", "0", 1);
    series->through_rings = false;
    assert_int_equal(run_forked(num_ranks, series_body, series), 0);
    unsetenv("GDNCP_SHARED_MEMORY");
    assert_true(count_files("/dev/shm") <= num_posix + 8); /* others come and go there too */
    for (int i = 0; i < series->count; i++) {
        free_exchange(&series->exchanges[i]);
    }
}

static void exchanges_move_what_plans_say(void **state)
{
    static const gdncp_dtype_t dtypes[] = {GDNCP_F32, GDNCP_BF16, GDNCP_F64, GDNCP_F16};
    test_random_t random = test_random_start("exchanges of processes", 51);

    (void)state;
    for (int num_ranks = 1; num_ranks <= MAX_RANKS; num_ranks += num_ranks < 4 ? 1 : 4) {
        series_t series = {.count = NUM_RANDOM};

        for (int i = 0; i < NUM_RANDOM; i++) {
            const test_pack_t pack = random_pack(&random, num_ranks);
            gdncp_layout_t *const a = random_layout(&random, &pack, num_ranks);
            gdncp_layout_t *const b = random_layout(&random, &pack, num_ranks);
            const gdncp_dtype_t dtype = dtypes[test_random_int(&random, 0, 3)];

            for (int rank = 0; rank < num_ranks; rank++) {
                series.exchanges[i].plans[rank] =
                    random_plan(i % NUM_PLAN_KINDS, a, b, rank, dtype, i / NUM_PLAN_KINDS);
            }
            fill_exchange(&series.exchanges[i], &random, num_ranks);
            gdncp_layout_destroy(a);
            gdncp_layout_destroy(b);
        }
        run_series(&series, num_ranks);
    }
}

/* Messages that go round their rings many times and past the caches, in rows of odd lengths, and
 * sums of them. */
static void large_messages_go_round(void **state)
{
    test_random_t random = test_random_start("large messages", 52);

    (void)state;
    for (int num_ranks = 2; num_ranks <= 3; num_ranks++) {
        const int64_t lengths[] = {3, 1, 2};
        series_t series = {.count = 5};

        for (int direction = 0; direction < 3; direction++) {
            fill_cp2hp(&series.exchanges[direction], &random, num_ranks, 1200, 1237, direction);
        }
        for (int i = 3; i < series.count; i++) {
            for (int rank = 0; rank < num_ranks; rank++) {
                gdncp_plan_t *plan = NULL;

                assert_int_equal(gdncp_plan_all_gather_concat(num_ranks, rank, GDNCP_BF16, 3,
                                                              lengths, 199999, &plan),
                                 GDNCP_OK);
                series.exchanges[i].plans[rank] = plan;
                if (i == 4) {
                    assert_int_equal(gdncp_plan_transpose(plan, GDNCP_PLAN_ASSIGN,
                                                          &series.exchanges[i].plans[rank]),
                                     GDNCP_OK);
                    gdncp_plan_destroy(plan);
                }
            }
            fill_exchange(&series.exchanges[i], &random, num_ranks);
        }
        run_series(&series, num_ranks);
    }
}

/* Ranks wait in different orders, with barriers in different places, for messages that no ring
 * holds: whatever is waited for, all must make progress. */
static int in_flight_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    const series_t *const series = context;
    gdncp_exchange_t *exchanges[NUM_IN_FLIGHT];
    gdncp_memory_usage_t usage = {0};
    conformance_t c = start_rank(bootstrap, 30000);

    for (int i = 0; i < NUM_IN_FLIGHT; i++) {
        exchanges[i] = bind_exchange(&c, &series->exchanges[i]);
    }
    for (int run = 0; run < NUM_RUNS && c.num_failures == 0; run++) {
        const bool even = (c.rank + run) % 2 == 0;
        bool done = false;

        gdncp_memory_track(&usage);
        for (int i = 0; i < NUM_IN_FLIGHT; i++) {
            memset(series->exchanges[i].outs[c.rank], 0xff,
                   output_bytes(series->exchanges[i].plans[c.rank]));
            expect_ok(&c,
                      gdncp_exchange_start(exchanges[i], series->exchanges[i].ins[c.rank],
                                           series->exchanges[i].outs[c.rank], NULL),
                      "start");
        }
        gdncp_memory_track(NULL);
        if (even) {
            expect_ok(&c, gdncp_comm_barrier(c.comm), "barrier before the waits");
        }
        gdncp_memory_track(&usage);
        while (!done && c.num_failures == 0) {
            expect_ok(&c, gdncp_exchange_test(exchanges[run % NUM_IN_FLIGHT], &done), "test");
        }
        for (int i = 0; i < NUM_IN_FLIGHT; i++) {
            const int which = even ? i : NUM_IN_FLIGHT - 1 - i;

            expect_ok(&c, gdncp_exchange_wait(exchanges[which]), "wait");
            expect_output(&c, &series->exchanges[which]);
        }
        gdncp_memory_track(NULL);
        if (!even) {
            expect_ok(&c, gdncp_comm_barrier(c.comm), "barrier after the waits");
        }
    }
    expect(&c, usage.num_allocations == 0, "runs allocate nothing");
    for (int i = 0; i < NUM_IN_FLIGHT; i++) {
        gdncp_exchange_destroy(exchanges[i]);
    }
    return end_rank(&c);
}

static void exchanges_in_flight_make_progress_together(void **state)
{
    enum { NUM_RANKS = 3 };
    test_random_t random = test_random_start("in flight", 53);
    series_t series = {.count = NUM_IN_FLIGHT};

    (void)state;
    for (int i = 0; i < NUM_IN_FLIGHT; i++) {
        fill_cp2hp(&series.exchanges[i], &random, NUM_RANKS, i == 1 ? 12 : 900, 400 + i, i % 2);
    }
    assert_int_equal(run_forked(NUM_RANKS, in_flight_body, &series), 0);
    for (int i = 0; i < NUM_IN_FLIGHT; i++) {
        free_exchange(&series.exchanges[i]);
    }
}

/* One rank that wants no rings, or cannot have them, leaves the others theirs. */
static int unwilling_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    const process_exchange_t *const e = context;
    char lanes[256] = "";

    if (bootstrap->rank == 1) {
        setenv("GDNCP_SHARED_MEMORY", "0", 1);
    }
    conformance_t c = start_rank(bootstrap, 30000);

    for (int peer = 0; peer < c.size; peer++) {
        expect_ok(&c, gdncp_comm_describe_lanes(c.comm, peer, lanes, sizeof lanes), "lanes");
        expect(&c,
               (strstr(lanes, "gdncp/rings") != NULL) ==
                   (peer != c.rank && c.rank != 1 && peer != 1),
               lanes);
    }
    gdncp_exchange_t *const exchange = bind_exchange(&c, e);

    expect_ok(&c, gdncp_exchange_run(exchange, e->ins[c.rank], e->outs[c.rank], NULL), "run");
    expect_output(&c, e);
    gdncp_exchange_destroy(exchange);
    return end_rank(&c);
}

static void ranks_with_and_without_rings_exchange(void **state)
{
    test_random_t random = test_random_start("unwilling", 54);

    (void)state;
    for (int direction = 0; direction < 3; direction++) {
        process_exchange_t e = {0};

        fill_cp2hp(&e, &random, 4, 240, 100, direction);
        assert_int_equal(run_forked(4, unwilling_body, &e), 0);
        free_exchange(&e);
    }
}

static int bad_variable_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    gdncp_comm_t *comm = NULL;

    (void)context;
    if (bootstrap->rank == 1) {
        setenv("GDNCP_SHARED_MEMORY", "yes", 1);
    }
    return gdncp_comm_create(bootstrap, NULL, &comm) != GDNCP_ERR_INVALID_ARGUMENT ||
           strstr(gdncp_last_error(),
                  "GDNCP_SHARED_MEMORY: expected an integer in 0..1, got \"yes\"") == NULL;
}

static void bad_variable_fails_everywhere(void **state)
{
    (void)state;
    assert_int_equal(run_forked(3, bad_variable_body, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exchanges_move_what_plans_say),
        cmocka_unit_test(large_messages_go_round),
        cmocka_unit_test(exchanges_in_flight_make_progress_together),
        cmocka_unit_test(ranks_with_and_without_rings_exchange),
        cmocka_unit_test(bad_variable_fails_everywhere),
    };

    return cmocka_run_group_tests_name("exchanges of processes", tests, NULL, NULL);
}
