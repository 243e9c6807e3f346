/* The state relay on the emulated device, over ranks that are threads. */
#include "test_comm_device_relay.h"

#include "rank_threads.h"

enum { MAX_RANKS = TEST_MOST_DEVICE_RANKS < 6 ? TEST_MOST_DEVICE_RANKS : 6 };

static void relay_on_a_device_equals_the_cpu(void **state)
{
    static const gdncp_layout_kind_t kinds[] = {GDNCP_LAYOUT_DUAL_CHUNK_SWAP,
                                                GDNCP_LAYOUT_CONTIGUOUS_FLAT};
    test_random_t random = test_random_start("relay on a device", 71);

    (void)state;
    for (int round = 0; round < 24; round++) {
        const int ranks = (int)test_random_int(&random, 1, MAX_RANKS);
        const gdncp_layout_kind_t kind = kinds[round / 3 % 2];
        const int64_t multiple = kind == GDNCP_LAYOUT_DUAL_CHUNK_SWAP ? 2 * ranks : 1;
        int64_t cu_seqlens[4] = {0};
        gdncp_layout_t *layout = NULL;

        for (int i = 0; i < 3; i++) {
            cu_seqlens[i + 1] =
                cu_seqlens[i] + multiple * test_random_int(&random, i == 0 ? MAX_RANKS : 0, 9);
        }
        assert_int_equal(gdncp_layout_create(kind, cu_seqlens, 3, ranks, &layout), GDNCP_OK);
        test_run_ranks(gdncp_layout_kind_name(kind), ranks, run_relay_rank,
                       &(relay_case_t){.layout = layout,
                                       .form = (gdncp_relay_form_t)(round % 3),
                                       .heads = test_random_int(&random, 1, 5),
                                       .seed = test_random_u64(&random)});
        gdncp_layout_destroy(layout);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(relay_on_a_device_equals_the_cpu),
    };

    setenv("GDNCP_CUDA", "emulated", 1);
    return cmocka_run_group_tests_name("relay on a device", tests, NULL, NULL);
}
