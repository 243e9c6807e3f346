/* relayout, all_gather_concat and conv_halo against maps written from their formulas. */
#include "test_comm_plan_check.h"

enum { NUM_CASES = 400 };

static int64_t *positions_of(const gdncp_layout_t *layout, int rank)
{
    int64_t *const positions = test_alloc(gdncp_layout_rank_tokens(layout, rank), sizeof(int64_t));

    assert_int_equal(gdncp_layout_rank_positions(layout, rank, positions), GDNCP_OK);
    return positions;
}

/* Holder and local index of every pack token. */
typedef struct placement {
    int *rank;
    int64_t *index;
} placement_t;

static placement_t place_tokens(const gdncp_layout_t *layout)
{
    const int64_t tokens = gdncp_layout_num_tokens(layout);
    const placement_t placement = {test_alloc(tokens, sizeof(int)),
                                   test_alloc(tokens, sizeof(int64_t))};

    for (int rank = 0; rank < gdncp_layout_num_ranks(layout); rank++) {
        int64_t *const positions = positions_of(layout, rank);

        for (int64_t i = 0; i < gdncp_layout_rank_tokens(layout, rank); i++) {
            placement.rank[positions[i]] = rank;
            placement.index[positions[i]] = i;
        }
        free(positions);
    }
    return placement;
}

static void free_placement(placement_t *placement)
{
    free(placement->rank);
    free(placement->index);
}

static void relayout_moves_every_token(void **state)
{
    test_random_t random = test_random_start("relayout", 11);

    (void)state;
    for (int c = 0; c < NUM_CASES; c++) {
        const int num_ranks = (int)test_random_int(&random, 1, MAX_RANKS);
        const test_pack_t pack = random_pack(&random, num_ranks);
        gdncp_layout_t *const from = random_layout(&random, &pack, num_ranks);
        gdncp_layout_t *const to = random_layout(&random, &pack, num_ranks);
        const int64_t channels = test_random_int(&random, 1, 9);
        const gdncp_dtype_t dtype = random_dtype(&random);
        placement_t placement = place_tokens(from);
        index_map_t map = {.num_ranks = num_ranks};
        gdncp_plan_t *plans[MAX_RANKS];

        for (int rank = 0; rank < num_ranks; rank++) {
            const int64_t tokens = gdncp_layout_rank_tokens(to, rank);
            int64_t *const positions = positions_of(to, rank);

            map_start_rank(&map, rank, gdncp_layout_rank_tokens(from, rank) * channels,
                           tokens * channels);
            for (int64_t i = 0; i < tokens * channels; i++) {
                const int64_t position = positions[i / channels];

                map.from_rank[rank][i] = placement.rank[position];
                map.from_index[rank][i] = placement.index[position] * channels + i % channels;
            }
            free(positions);
            assert_int_equal(gdncp_plan_relayout(from, to, rank, dtype, channels, &plans[rank]),
                             GDNCP_OK);
            assert_string_equal(gdncp_plan_name(plans[rank]), "relayout");
        }
        check_plans(&random, plans, &map);
        free_placement(&placement);
        gdncp_layout_destroy(from);
        gdncp_layout_destroy(to);
    }
}

static void all_gather_concatenates_shards(void **state)
{
    test_random_t random = test_random_start("all_gather_concat", 12);

    (void)state;
    for (int c = 0; c < NUM_CASES; c++) {
        const int num_ranks = (int)test_random_int(&random, 1, MAX_RANKS);
        const int64_t outer = test_random_int(&random, 0, 4);
        const int64_t inner = test_random_int(&random, 0, 5);
        const gdncp_dtype_t dtype = random_dtype(&random);
        int64_t lengths[MAX_RANKS];
        int64_t begins[MAX_RANKS];
        int64_t sum = 0;
        index_map_t map = {.num_ranks = num_ranks};
        gdncp_plan_t *plans[MAX_RANKS];

        for (int rank = 0; rank < num_ranks; rank++) {
            lengths[rank] = test_random_int(&random, 0, 6);
            begins[rank] = sum;
            sum += lengths[rank];
        }
        for (int rank = 0; rank < num_ranks; rank++) {
            map_start_rank(&map, rank, outer * lengths[rank] * inner, outer * sum * inner);
            for (int64_t i = 0; i < outer * sum * inner; i++) {
                const int64_t o = i / (sum * inner);
                const int64_t l = i / inner % sum;
                int source = num_ranks - 1;

                while (l < begins[source]) {
                    source--;
                }
                while (lengths[source] == 0) {
                    source--;
                }
                map.from_rank[rank][i] = source;
                map.from_index[rank][i] =
                    (o * lengths[source] + l - begins[source]) * inner + i % inner;
            }
            assert_int_equal(gdncp_plan_all_gather_concat(num_ranks, rank, dtype, outer, lengths,
                                                          inner, &plans[rank]),
                             GDNCP_OK);
            assert_string_equal(gdncp_plan_name(plans[rank]), "all_gather_concat");
        }
        check_plans(&random, plans, &map);
    }
}

/* Rows of one rank's halo, from the formula in the header. */
static void map_halo(index_map_t *map, const gdncp_layout_t *layout, int rank, int64_t channels,
                     int64_t row_stride, int64_t width)
{
    int64_t num_segments;
    const gdncp_segment_t *const segments = gdncp_layout_rank_segments(layout, rank, &num_segments);

    map_start_rank(map, rank, gdncp_layout_rank_tokens(layout, rank) * row_stride,
                   num_segments * width * channels);
    for (int64_t i = 0; i < num_segments * width * channels; i++) {
        const gdncp_segment_t *const segment = &segments[i / channels / width];
        const int64_t position = segment->begin - width + i / channels % width;
        int64_t index;

        map->order[rank][i] = segment->begin;
        if (position >= 0) {
            assert_int_equal(gdncp_layout_find(layout, segment->sequence, position,
                                               &map->from_rank[rank][i], &index),
                             GDNCP_OK);
            map->from_index[rank][i] = index * row_stride + i % channels;
        }
    }
}

static void conv_halo_fetches_the_tokens_before(void **state)
{
    test_random_t random = test_random_start("conv_halo", 13);

    (void)state;
    for (int c = 0; c < 2 * NUM_CASES; c++) {
        const int num_ranks = (int)test_random_int(&random, 1, MAX_RANKS);
        const test_pack_t pack = random_pack(&random, num_ranks);
        gdncp_layout_t *const layout = random_layout(&random, &pack, num_ranks);
        const int64_t channels = test_random_int(&random, 1, 5);
        const int64_t row_stride = channels + test_random_int(&random, 0, 3);
        const int64_t width = test_random_int(&random, 0, test_random_int(&random, 3, 12));
        const gdncp_dtype_t dtype = random_dtype(&random);
        const int64_t most = width * channels * (int64_t)gdncp_dtype_size(dtype);
        index_map_t map = {.num_ranks = num_ranks};
        gdncp_plan_t *plans[MAX_RANKS];

        for (int rank = 0; rank < num_ranks; rank++) {
            int64_t num_segments;
            int64_t num_messages;
            int64_t received = 0;

            map_halo(&map, layout, rank, channels, row_stride, width);
            assert_int_equal(gdncp_plan_conv_halo(layout, rank, dtype, channels, row_stride, width,
                                                  &plans[rank]),
                             GDNCP_OK);
            assert_string_equal(gdncp_plan_name(plans[rank]), "conv_halo");
            const gdncp_message_t *const messages = gdncp_plan_messages(plans[rank], &num_messages);

            for (int64_t m = 0; m < num_messages; m++) {
                received += messages[m].recv_bytes;
            }
            gdncp_layout_rank_segments(layout, rank, &num_segments);
            assert_true(received <= num_segments * most);
        }
        check_plans(&random, plans, &map);
        gdncp_layout_destroy(layout);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(relayout_moves_every_token),
        cmocka_unit_test(all_gather_concatenates_shards),
        cmocka_unit_test(conv_halo_fetches_the_tokens_before),
    };

    return cmocka_run_group_tests_name("plan builders", tests, NULL, NULL);
}
