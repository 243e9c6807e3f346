/* Plans of batches, whose rows lie differently on every rank, against their maps. */
#include "test_comm_plan_maps.h"

enum { NUM_CASES = 300 };

static void relayout_moves_batches(void **state)
{
    test_random_t random = test_random_start("relayout of batches", 14);

    (void)state;
    for (int c = 0; c < NUM_CASES; c++) {
        const int num_ranks = (int)test_random_int(&random, 1, MAX_RANKS);
        const test_pack_t pack = random_pack(&random, num_ranks);
        gdncp_layout_t *const from = random_layout(&random, &pack, num_ranks);
        gdncp_layout_t *const to = random_layout(&random, &pack, num_ranks);
        const int64_t channels = test_random_int(&random, 1, 4);
        const gdncp_dtype_t dtype = random_dtype(&random);
        index_map_t row_map = map_relayout(from, to, channels);
        int64_t in_tokens[MAX_RANKS];
        int64_t out_tokens[MAX_RANKS];
        batch_rows_t rows;
        gdncp_plan_t *plans[MAX_RANKS];

        for (int rank = 0; rank < num_ranks; rank++) {
            in_tokens[rank] = gdncp_layout_rank_tokens(from, rank);
            out_tokens[rank] = gdncp_layout_rank_tokens(to, rank);
        }
        index_map_t map = map_batch(&random, &row_map, test_random_int(&random, 1, 4), in_tokens,
                                    out_tokens, &rows);

        for (int rank = 0; rank < num_ranks; rank++) {
            assert_int_equal(gdncp_plan_relayout_rows(from, to, rank, dtype, channels,
                                                      &rows.in[rank], &rows.out[rank],
                                                      &plans[rank]),
                             GDNCP_OK);
        }
        check_plans(&random, plans, &map);
        gdncp_layout_destroy(from);
        gdncp_layout_destroy(to);
    }
}

static void conv_halo_fetches_batches(void **state)
{
    test_random_t random = test_random_start("conv_halo of batches", 15);

    (void)state;
    for (int c = 0; c < NUM_CASES; c++) {
        const int num_ranks = (int)test_random_int(&random, 1, MAX_RANKS);
        const test_pack_t pack = random_pack(&random, num_ranks);
        gdncp_layout_t *const layout = random_layout(&random, &pack, num_ranks);
        const int64_t channels = test_random_int(&random, 1, 4);
        const int64_t width = test_random_int(&random, 0, 9);
        const gdncp_dtype_t dtype = random_dtype(&random);
        index_map_t row_map = map_halo(layout, channels, channels, width);
        int64_t in_tokens[MAX_RANKS];
        int64_t out_tokens[MAX_RANKS];
        batch_rows_t rows;
        gdncp_plan_t *plans[MAX_RANKS];

        for (int rank = 0; rank < num_ranks; rank++) {
            int64_t num_segments;

            gdncp_layout_rank_segments(layout, rank, &num_segments);
            in_tokens[rank] = gdncp_layout_rank_tokens(layout, rank);
            out_tokens[rank] = num_segments * width;
        }
        index_map_t map = map_batch(&random, &row_map, test_random_int(&random, 1, 4), in_tokens,
                                    out_tokens, &rows);

        for (int rank = 0; rank < num_ranks; rank++) {
            assert_int_equal(gdncp_plan_conv_halo_rows(layout, rank, dtype, channels, width,
                                                       &rows.in[rank], &rows.out[rank],
                                                       &plans[rank]),
                             GDNCP_OK);
        }
        check_plans(&random, plans, &map);
        gdncp_layout_destroy(layout);
    }
}

static void check_heads(const char *name, uint64_t seed, bool to_heads)
{
    test_random_t random = test_random_start(name, seed);

    for (int c = 0; c < NUM_CASES; c++) {
        head_case_t head_case =
            random_head_case(&random, (int)test_random_int(&random, 1, MAX_RANKS));
        int64_t mine[MAX_RANKS];
        int64_t all[MAX_RANKS];
        batch_rows_t rows;
        gdncp_plan_t *plans[MAX_RANKS];

        head_case.order = (gdncp_token_order_t)test_random_int(&random, GDNCP_TOKENS_IN_PACK_ORDER,
                                                               GDNCP_TOKENS_BY_RANK);
        index_map_t row_map = to_heads ? map_cp2hp(&head_case) : map_hp2cp(&head_case);
        const gdncp_head_split_t split = split_of(&head_case);

        for (int rank = 0; rank < head_case.num_ranks; rank++) {
            mine[rank] = gdncp_layout_rank_tokens(head_case.layout, rank);
            all[rank] = gdncp_layout_num_tokens(head_case.layout);
        }
        index_map_t map = map_batch(&random, &row_map, test_random_int(&random, 1, 3),
                                    to_heads ? mine : all, to_heads ? all : mine, &rows);

        for (int rank = 0; rank < head_case.num_ranks; rank++) {
            assert_int_equal((to_heads ? gdncp_plan_cp2hp_rows : gdncp_plan_hp2cp_rows)(
                                 head_case.layout, rank, head_case.dtype, &split, &rows.in[rank],
                                 &rows.out[rank], &plans[rank]),
                             GDNCP_OK);
            assert_string_equal(gdncp_plan_name(plans[rank]), to_heads ? "cp2hp" : "hp2cp");
        }
        check_plans(&random, plans, &map);
        gdncp_layout_destroy(head_case.layout);
    }
}

static void cp2hp_splits_batches(void **state)
{
    (void)state;
    check_heads("cp2hp of batches", 16, true);
}

static void hp2cp_joins_batches(void **state)
{
    (void)state;
    check_heads("hp2cp of batches", 17, false);
}

static void shuffle(test_random_t *random, int64_t count, int64_t *values)
{
    for (int64_t i = 0; i < count; i++) {
        values[i] = i;
    }
    for (int64_t i = count - 1; i > 0; i--) {
        const int64_t other = test_random_int(random, 0, i);
        const int64_t value = values[i];

        values[i] = values[other];
        values[other] = value;
    }
}

enum { NUM_ROWS = 3, ROW_TOKENS = 10, BATCH_RANKS = 2, LOCAL = ROW_TOKENS / BATCH_RANKS };

/* Local token t of batch row b on a rank is this element of its buffer, of one channel. */
static int64_t local_index(bool token_major, int64_t b, int64_t t)
{
    return token_major ? t * NUM_ROWS + b : b * LOCAL + t;
}

/* The layout of a batch as the header describes it: rank r holds order[b][r*LOCAL + t] of row b. */
static gdncp_layout_t *layout_of_rows(int64_t order[NUM_ROWS][ROW_TOKENS], bool token_major)
{
    const int64_t cu_seqlens[NUM_ROWS + 1] = {0, ROW_TOKENS, 2 * ROW_TOKENS, 3 * ROW_TOKENS};
    const int64_t rank_tokens[BATCH_RANKS] = {NUM_ROWS * LOCAL, NUM_ROWS * LOCAL};
    int64_t positions[NUM_ROWS * ROW_TOKENS];
    gdncp_layout_t *layout = NULL;

    for (int64_t rank = 0; rank < BATCH_RANKS; rank++) {
        for (int64_t b = 0; b < NUM_ROWS; b++) {
            for (int64_t t = 0; t < LOCAL; t++) {
                positions[rank * NUM_ROWS * LOCAL + local_index(token_major, b, t)] =
                    b * ROW_TOKENS + order[b][rank * LOCAL + t];
            }
        }
    }
    assert_int_equal(gdncp_layout_from_positions(cu_seqlens, NUM_ROWS, BATCH_RANKS, positions,
                                                 rank_tokens, &layout),
                     GDNCP_OK);
    return layout;
}

static void rows_are_permuted_each_by_its_own(void **state)
{
    test_random_t random = test_random_start("permuted rows", 18);

    (void)state;
    for (int c = 0; c < 40; c++) {
        const bool token_major = c % 2 == 0;
        int64_t before[NUM_ROWS][ROW_TOKENS];
        int64_t after[NUM_ROWS][ROW_TOKENS];
        index_map_t map = {.num_ranks = BATCH_RANKS};
        gdncp_plan_t *plans[MAX_RANKS];

        for (int64_t b = 0; b < NUM_ROWS; b++) {
            shuffle(&random, ROW_TOKENS, before[b]);
            shuffle(&random, ROW_TOKENS, after[b]);
        }
        gdncp_layout_t *const from = layout_of_rows(before, token_major);
        gdncp_layout_t *const to = layout_of_rows(after, !token_major);

        for (int rank = 0; rank < BATCH_RANKS; rank++) {
            map_start_rank(&map, rank, NUM_ROWS * LOCAL, NUM_ROWS * LOCAL);
            for (int64_t i = 0; i < NUM_ROWS * LOCAL; i++) {
                const int64_t b = i / LOCAL;
                int64_t s = 0;

                while (before[b][s] != after[b][rank * LOCAL + i % LOCAL]) {
                    s++;
                }
                const int64_t to_index = local_index(!token_major, b, i % LOCAL);

                map.from_rank[rank][to_index] = (int)(s / LOCAL);
                map.from_index[rank][to_index] = local_index(token_major, b, s % LOCAL);
            }
            assert_int_equal(gdncp_plan_relayout(from, to, rank, GDNCP_I64, 1, &plans[rank]),
                             GDNCP_OK);
        }
        check_plans(&random, plans, &map);
        gdncp_layout_destroy(from);
        gdncp_layout_destroy(to);
    }
}

static void rows_are_those_of_tensors(void **state)
{
    const gdncp_rows_t token_major = gdncp_rows_token_major(3, 5);
    const gdncp_rows_t batch_major = gdncp_rows_batch_major(3, 7, 5);

    (void)state;
    assert_int_equal(token_major.batch, 3);
    assert_int_equal(token_major.token_stride, 15);
    assert_int_equal(token_major.batch_stride, 5);
    assert_int_equal(batch_major.batch, 3);
    assert_int_equal(batch_major.token_stride, 5);
    assert_int_equal(batch_major.batch_stride, 35);
}

/* A whole [tokens, batch, channels] moves as the same number of blocks as a single row. */
static void batches_without_gaps_are_merged(void **state)
{
    const int64_t cu_seqlens[] = {0, 64};
    const gdncp_rows_t rows = gdncp_rows_token_major(8, 4);
    gdncp_layout_t *from = NULL;
    gdncp_layout_t *to = NULL;
    gdncp_plan_t *plan = NULL;

    (void)state;
    assert_int_equal(gdncp_layout_create(GDNCP_LAYOUT_DUAL_CHUNK_SWAP, cu_seqlens, 1, 2, &from),
                     GDNCP_OK);
    assert_int_equal(gdncp_layout_create(GDNCP_LAYOUT_CONTIGUOUS, cu_seqlens, 1, 2, &to), GDNCP_OK);
    assert_int_equal(gdncp_plan_relayout_rows(from, to, 0, GDNCP_F32, 4, &rows, &rows, &plan),
                     GDNCP_OK);
    for (int peer = 0; peer < 2; peer++) {
        assert_true(gdncp_block_list_is_run(&plan->sends[peer]));
        assert_true(gdncp_block_list_is_run(&plan->recvs[peer]));
    }
    gdncp_plan_destroy(plan);
    gdncp_layout_destroy(from);
    gdncp_layout_destroy(to);
}

typedef struct rows_argument {
    gdncp_rows_t in;
    gdncp_rows_t out;
    const char *argument;
} rows_argument_t;

/* Of 4 local and 8 all tokens, of 6 channels and 3 of my heads. */
static const rows_argument_t bad_rows[] = {
    {{0, 6, 6}, {1, 6, 0}, "in->batch:"},
    {{-1, 6, 6}, {1, 6, 0}, "in->batch:"},
    {{2, 12, 6}, {3, 18, 6}, "out->batch:"},
    {{2, 12, 5}, {2, 12, 6}, "in:"},
    {{2, 11, 6}, {2, 12, 6}, "in:"},
    {{2, 8, 25}, {2, 12, 6}, "in:"},
    {{2, 6, 23}, {2, 12, 6}, "in:"},
    {{1, 5, 0}, {1, 6, 0}, "in:"},
    {{1, -6, 0}, {1, 6, 0}, "in:"},
    {{2, 12, -6}, {2, 12, 6}, "in:"},
    {{1, INT64_MAX / 2, 0}, {1, 6, 0}, "in:"},
    {{1, (int64_t)1 << 47, 0}, {1, 6, 0}, "in:"},
    {{2, 12, 6}, {2, 12, 2}, "out:"},
};

static void rows_are_checked(void **state)
{
    static const gdncp_section_t section = {GDNCP_VALUE_HEADS, 3, 0};
    const int64_t cu_seqlens[] = {0, 8};
    const gdncp_rows_t good = gdncp_rows_token_major(2, 6);
    const gdncp_rows_t loose = {1, INT64_MAX, -1}; /* one row: its strides say nothing */
    gdncp_head_split_t split = {2, 2, &section, 1, 6, GDNCP_TOKENS_IN_PACK_ORDER};
    gdncp_layout_t *layout = NULL;
    gdncp_layout_t *single = NULL;
    gdncp_plan_t *plan = NULL;

    (void)state;
    assert_int_equal(gdncp_layout_create(GDNCP_LAYOUT_CONTIGUOUS, cu_seqlens, 1, 2, &layout),
                     GDNCP_OK);
    for (size_t i = 0; i < sizeof bad_rows / sizeof bad_rows[0]; i++) {
        const rows_argument_t *const bad = &bad_rows[i];

        check_refused(
            gdncp_plan_relayout_rows(layout, layout, 0, GDNCP_I8, 6, &bad->in, &bad->out, &plan),
            bad->argument);
        check_refused(
            gdncp_plan_conv_halo_rows(layout, 0, GDNCP_I8, 6, 3, &bad->in, &bad->out, &plan),
            bad->argument);
        check_refused(
            gdncp_plan_cp2hp_rows(layout, 0, GDNCP_I8, &split, &bad->in, &bad->out, &plan),
            bad->argument);
        check_refused(gdncp_plan_hp2cp_rows(
                          layout, 0, GDNCP_I8, &split,
                          strncmp(bad->argument, "in:", 3) == 0 ? &bad->out : &bad->in,
                          strncmp(bad->argument, "in:", 3) == 0 ? &bad->in : &bad->out, &plan),
                      strncmp(bad->argument, "in:", 3) == 0 ? "out:" : bad->argument);
    }
    check_refused(gdncp_plan_relayout_rows(layout, layout, 0, GDNCP_I8, 6, NULL, &good, &plan),
                  "in:");
    check_refused(gdncp_plan_relayout_rows(layout, layout, 0, GDNCP_I8, 6, &good, NULL, &plan),
                  "out:");
    check_refused(gdncp_plan_conv_halo_rows(layout, 0, GDNCP_I8, 6, 3, NULL, &good, &plan), "in:");
    check_refused(gdncp_plan_cp2hp_rows(layout, 0, GDNCP_I8, &split, NULL, &good, &plan), "in:");
    check_refused(gdncp_plan_hp2cp_rows(layout, 0, GDNCP_I8, &split, &good, NULL, &plan), "out:");
    check_refused(gdncp_plan_cp2hp_rows(layout, 0, GDNCP_I8, NULL, &good, &good, &plan), "split:");
    check_refused(gdncp_plan_relayout_rows(layout, layout, 0, GDNCP_I8, (int64_t)1 << 47, &good,
                                           &good, &plan),
                  "channels:");
    split.order = (gdncp_token_order_t)2;
    check_refused(gdncp_plan_cp2hp_rows(layout, 0, GDNCP_I8, &split, &good, &good, &plan),
                  "order:");
    assert_null(plan);
    assert_int_equal(
        gdncp_layout_create(GDNCP_LAYOUT_CONTIGUOUS, (const int64_t[]){0, 1}, 1, 1, &single),
        GDNCP_OK);
    assert_int_equal(
        gdncp_plan_relayout_rows(single, single, 0, GDNCP_I8, 6, &loose, &loose, &plan), GDNCP_OK);
    assert_int_equal(gdncp_plan_input_elements(plan), 6);
    gdncp_plan_destroy(plan);
    gdncp_layout_destroy(single);
    gdncp_layout_destroy(layout);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(relayout_moves_batches),
        cmocka_unit_test(conv_halo_fetches_batches),
        cmocka_unit_test(cp2hp_splits_batches),
        cmocka_unit_test(hp2cp_joins_batches),
        cmocka_unit_test(rows_are_permuted_each_by_its_own),
        cmocka_unit_test(rows_are_those_of_tensors),
        cmocka_unit_test(batches_without_gaps_are_merged),
        cmocka_unit_test(rows_are_checked),
    };

    return cmocka_run_group_tests_name("plans of batches", tests, NULL, NULL);
}
