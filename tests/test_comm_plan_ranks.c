/* All kinds of plans and their transposes through a communicator, against their maps. Also a
 * program of mpi_tests, where the ranks are processes. */
#include "test_comm_plan_maps.h"

#include <stdio.h>

#include "gdncp/comm.h"
#include "gdncp/exchange.h"
#include "rank_threads.h"

enum { NUM_KINDS = 5, NUM_ROUNDS = 2 };

/* One direction of a plan on all ranks: what goes in, what is there before, what must be after. */
typedef struct plan_run {
    gdncp_plan_t *plans[MAX_RANKS]; /* NULL: there is no such transpose */
    void *ins[MAX_RANKS];
    void *outs[MAX_RANKS];
    void *expected[MAX_RANKS];
} plan_run_t;

enum { FORWARD, TRANSPOSE, ADDING_TRANSPOSE, NUM_RUNS };

typedef struct plan_case {
    index_map_t map;
    gdncp_dtype_t dtype;
    plan_run_t runs[NUM_RUNS];
} plan_case_t;

static void make_buffers(test_random_t *random, plan_case_t *test, int direction)
{
    const size_t size = gdncp_dtype_size(test->dtype);
    const bool is_forward = direction == FORWARD;
    plan_run_t *const run = &test->runs[direction];

    for (int rank = 0; rank < test->map.num_ranks; rank++) {
        const int64_t count = (is_forward ? test->map.in_elements : test->map.out_elements)[rank];
        const int64_t out_count =
            (is_forward ? test->map.out_elements : test->map.in_elements)[rank];

        run->ins[rank] = test_alloc(count, size);
        run->outs[rank] = test_alloc(count + out_count, size);
        run->expected[rank] = test_alloc(out_count, size);
        fill_values(random, test->dtype, count, run->ins[rank]);
        memset(run->outs[rank], 0xff, (size_t)(count + out_count) * size);
        if (direction == ADDING_TRANSPOSE) {
            fill_values(random, test->dtype, out_count, run->outs[rank]);
        }
        memcpy(run->expected[rank], run->outs[rank], (size_t)out_count * size);
    }
    if (is_forward) {
        for (int rank = 0; rank < test->map.num_ranks; rank++) {
            expect_forward(&test->map, rank, size, run->ins, run->expected[rank]);
        }
    } else {
        expect_transpose(&test->map, test->dtype,
                         direction == TRANSPOSE ? GDNCP_PLAN_ASSIGN : GDNCP_PLAN_ADD, run->ins,
                         run->expected);
    }
}

/* Transposes and buffers for the map and the forward plans that are there. */
static void complete_case(test_random_t *random, plan_case_t *test)
{
    make_buffers(random, test, FORWARD);
    for (int direction = TRANSPOSE; direction < NUM_RUNS; direction++) {
        for (int rank = 0; rank < test->map.num_ranks; rank++) {
            gdncp_plan_transpose(test->runs[FORWARD].plans[rank],
                                 direction == TRANSPOSE ? GDNCP_PLAN_ASSIGN : GDNCP_PLAN_ADD,
                                 &test->runs[direction].plans[rank]);
        }
        if (test->runs[direction].plans[0] != NULL) {
            make_buffers(random, test, direction);
        }
    }
}

static void end_case(plan_case_t *test)
{
    for (int direction = 0; direction < NUM_RUNS; direction++) {
        for (int rank = 0; rank < test->map.num_ranks; rank++) {
            gdncp_plan_destroy(test->runs[direction].plans[rank]);
            free(test->runs[direction].ins[rank]);
            free(test->runs[direction].outs[rank]);
            free(test->runs[direction].expected[rank]);
        }
    }
    map_free(&test->map);
}

static const char *run_exchange(gdncp_comm_t *comm, gdncp_exchange_t *exchange,
                                const plan_run_t *run, const void *in)
{
    const int rank = gdncp_comm_rank(comm);
    const gdncp_plan_t *const plan = run->plans[rank];
    const size_t bytes = (size_t)plan->output_elements * gdncp_dtype_size(plan->dtype);
    gdncp_comm_counters_t counters;

    gdncp_comm_reset_counters(comm);
    if (gdncp_exchange_run(exchange, in, run->outs[rank], NULL) != GDNCP_OK) {
        return gdncp_last_error();
    }
    gdncp_comm_counters(comm, &counters);
    if (counters.bytes_sent != gdncp_plan_bytes_sent(plan)) {
        return "wrong number of bytes sent";
    }
    return memcmp(run->outs[rank], run->expected[rank], bytes) == 0 ? NULL : "wrong output";
}

/* Once from one buffer to another; where nothing is added to what was there, once more in place on
 * odd ranks. */
static const char *run_direction(gdncp_comm_t *comm, const plan_run_t *run)
{
    const int rank = gdncp_comm_rank(comm);
    const gdncp_plan_t *const plan = run->plans[rank];
    const bool in_place = rank % 2 == 1 && gdncp_buffer_is_dense(&plan->output);
    gdncp_exchange_t *exchange = NULL;
    const char *problem;

    if (gdncp_exchange_create(comm, plan, &exchange) != GDNCP_OK) {
        return gdncp_last_error();
    }
    problem = run_exchange(comm, exchange, run, run->ins[rank]);
    gdncp_exchange_destroy(exchange);
    if (problem != NULL || plan->write == GDNCP_PLAN_ADD) {
        return problem;
    }
    if ((in_place ? gdncp_exchange_create_in_place(comm, plan, GDNCP_DEVICE_CPU, &exchange)
                  : gdncp_exchange_create(comm, plan, &exchange)) != GDNCP_OK) {
        return gdncp_last_error();
    }
    if (in_place) {
        memcpy(run->outs[rank], run->ins[rank],
               (size_t)plan->input_elements * gdncp_dtype_size(plan->dtype));
    }
    problem = run_exchange(comm, exchange, run, in_place ? run->outs[rank] : run->ins[rank]);
    gdncp_exchange_destroy(exchange);
    return problem;
}

static void run_rank_of_case(void *context, gdncp_comm_t *comm, char *problem, size_t size)
{
    static const char *const names[] = {"forward", "transpose", "adding transpose"};
    const plan_case_t *const test = context;

    for (int direction = 0; direction < NUM_RUNS; direction++) {
        const plan_run_t *const run = &test->runs[direction];
        const char *const found = run->plans[0] != NULL ? run_direction(comm, run) : NULL;

        if (found != NULL) {
            snprintf(problem, size, "%s: %s", names[direction], found);
            return;
        }
    }
}

static void make_head_case(test_random_t *random, int num_ranks, bool to_heads, plan_case_t *test)
{
    head_case_t head_case = random_head_case(random, num_ranks);
    int64_t mine[MAX_RANKS];
    int64_t all[MAX_RANKS];
    batch_rows_t rows;

    head_case.order = (gdncp_token_order_t)test_random_int(random, 0, 1);
    index_map_t row_map = to_heads ? map_cp2hp(&head_case) : map_hp2cp(&head_case);
    const gdncp_head_split_t split = split_of(&head_case);

    for (int rank = 0; rank < num_ranks; rank++) {
        mine[rank] = gdncp_layout_rank_tokens(head_case.layout, rank);
        all[rank] = gdncp_layout_num_tokens(head_case.layout);
    }
    test->dtype = head_case.dtype;
    test->map = map_batch(random, &row_map, test_random_int(random, 1, 3), to_heads ? mine : all,
                          to_heads ? all : mine, &rows);
    for (int rank = 0; rank < num_ranks; rank++) {
        assert_int_equal((to_heads ? gdncp_plan_cp2hp_rows : gdncp_plan_hp2cp_rows)(
                             head_case.layout, rank, test->dtype, &split, &rows.in[rank],
                             &rows.out[rank], &test->runs[FORWARD].plans[rank]),
                         GDNCP_OK);
    }
    gdncp_layout_destroy(head_case.layout);
}

static void make_layout_case(test_random_t *random, int num_ranks, bool halo, plan_case_t *test)
{
    const test_pack_t pack = random_pack(random, num_ranks);
    gdncp_layout_t *const a = random_layout(random, &pack, num_ranks);
    gdncp_layout_t *const b = random_layout(random, &pack, num_ranks);
    const int64_t channels = test_random_int(random, 1, 64);
    const int64_t width = test_random_int(random, 0, 7);
    index_map_t row_map =
        halo ? map_halo(a, channels, channels, width) : map_relayout(a, b, channels);
    int64_t in_tokens[MAX_RANKS];
    int64_t out_tokens[MAX_RANKS];
    batch_rows_t rows;

    for (int rank = 0; rank < num_ranks; rank++) {
        in_tokens[rank] = gdncp_layout_rank_tokens(a, rank);
        out_tokens[rank] = row_map.out_elements[rank] / channels;
    }
    test->dtype = random_dtype(random);
    test->map =
        map_batch(random, &row_map, test_random_int(random, 1, 3), in_tokens, out_tokens, &rows);
    for (int rank = 0; rank < num_ranks; rank++) {
        gdncp_plan_t **const plan = &test->runs[FORWARD].plans[rank];

        assert_int_equal(halo ? gdncp_plan_conv_halo_rows(a, rank, test->dtype, channels, width,
                                                          &rows.in[rank], &rows.out[rank], plan)
                              : gdncp_plan_relayout_rows(a, b, rank, test->dtype, channels,
                                                         &rows.in[rank], &rows.out[rank], plan),
                         GDNCP_OK);
    }
    gdncp_layout_destroy(a);
    gdncp_layout_destroy(b);
}

static void make_gather_case(test_random_t *random, int num_ranks, plan_case_t *test)
{
    const int64_t outer = test_random_int(random, 1, 3);
    const int64_t inner = test_random_int(random, 1, 4000);
    int64_t lengths[MAX_RANKS];

    for (int rank = 0; rank < num_ranks; rank++) {
        lengths[rank] = test_random_int(random, 0, 3);
    }
    test->dtype = random_dtype(random);
    test->map = map_all_gather(num_ranks, outer, lengths, inner);
    for (int rank = 0; rank < num_ranks; rank++) {
        assert_int_equal(gdncp_plan_all_gather_concat(num_ranks, rank, test->dtype, outer, lengths,
                                                      inner, &test->runs[FORWARD].plans[rank]),
                         GDNCP_OK);
    }
}

static void plans_move_what_their_maps_say(void **state)
{
    test_random_t random = test_random_start("plans over ranks", 41);

    (void)state;
    for (int c = 0; c < MAX_RANKS * NUM_KINDS * NUM_ROUNDS; c++) {
        const int num_ranks = 1 + c % MAX_RANKS;
        const int kind = c / MAX_RANKS % NUM_KINDS;
        plan_case_t test = {.dtype = GDNCP_F32};

        if (kind < 2) {
            make_head_case(&random, num_ranks, kind == 0, &test);
        } else if (kind < 4) {
            make_layout_case(&random, num_ranks, kind == 2, &test);
        } else {
            make_gather_case(&random, num_ranks, &test);
        }
        complete_case(&random, &test);
        test_run_ranks(gdncp_plan_name(test.runs[FORWARD].plans[0]), num_ranks, run_rank_of_case,
                       &test);
        end_case(&test);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plans_move_what_their_maps_say),
    };

    return cmocka_run_group_tests_name("plans over ranks", tests, NULL, NULL);
}
