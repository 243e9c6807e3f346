/* The state relay on the emulated device, over UCX between processes. */
#include "test_comm_device_relay.h"

#include "forked_ranks.h"
#include "test_comm_device_ways.h"

typedef struct ways_case {
    way_t way;
    relay_case_t relay;
} ways_case_t;

static int forked_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    ways_case_t *const test = context;
    gdncp_comm_t *const comm = create_on_way(bootstrap, 60000, test->way);
    char problem[1024] = "";

    run_relay_rank(&test->relay, comm, problem, sizeof problem);
    gdncp_comm_destroy(comm);
    if (problem[0] != '\0') {
        printf("rank %d: %s\n", bootstrap->rank, problem);
    }
    return problem[0] != '\0';
}

/* Two heads on three ranks, so that a chain is handed over; UCX completes no message that is not
 * waited for. */
static void relay_runs_over_ucx(void **state)
{
    static const int64_t cu_seqlens[] = {0, 18};
    test_random_t random = test_random_start("relay on a device over UCX", 72);
    ways_case_t test = {.relay = {.heads = 2, .seed = test_random_u64(&random)}};
    gdncp_layout_t *layout = NULL;

    (void)state;
    assert_int_equal(gdncp_layout_create(GDNCP_LAYOUT_DUAL_CHUNK_SWAP, cu_seqlens, 1, 3, &layout),
                     GDNCP_OK);
    test.relay.layout = layout;
    for (test.way = 0; test.way < NUM_WAYS; test.way++) {
        for (int form = GDNCP_RELAY_OWNERS; form <= GDNCP_RELAY_CHAIN; form++) {
            test.relay.form = (gdncp_relay_form_t)form;
            assert_int_equal(run_forked(3, forked_body, &test), 0);
        }
    }
    gdncp_layout_destroy(layout);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(relay_runs_over_ucx),
    };

    setenv("GDNCP_CUDA", "emulated", 1);
    return cmocka_run_group_tests_name("relay on a device over UCX", tests, NULL, NULL);
}
