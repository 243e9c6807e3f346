/* relayout, all_gather_concat and conv_halo against maps written from their formulas. */
#include "test_comm_plan_maps.h"

enum { NUM_CASES = 400 };

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
        index_map_t map = map_relayout(from, to, channels);
        gdncp_plan_t *plans[MAX_RANKS];

        for (int rank = 0; rank < num_ranks; rank++) {
            assert_int_equal(gdncp_plan_relayout(from, to, rank, dtype, channels, &plans[rank]),
                             GDNCP_OK);
            assert_string_equal(gdncp_plan_name(plans[rank]), "relayout");
        }
        check_plans(&random, plans, &map);
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
        gdncp_plan_t *plans[MAX_RANKS];

        for (int rank = 0; rank < num_ranks; rank++) {
            lengths[rank] = test_random_int(&random, 0, 6);
        }
        index_map_t map = map_all_gather(num_ranks, outer, lengths, inner);

        for (int rank = 0; rank < num_ranks; rank++) {
            assert_int_equal(gdncp_plan_all_gather_concat(num_ranks, rank, dtype, outer, lengths,
                                                          inner, &plans[rank]),
                             GDNCP_OK);
            assert_string_equal(gdncp_plan_name(plans[rank]), "all_gather_concat");
        }
        check_plans(&random, plans, &map);
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
        index_map_t map = map_halo(layout, channels, row_stride, width);
        gdncp_plan_t *plans[MAX_RANKS];

        for (int rank = 0; rank < num_ranks; rank++) {
            int64_t num_segments;
            int64_t num_messages;
            int64_t received = 0;

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
