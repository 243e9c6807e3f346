/* What a layer step queues on a device: as much for many heads and tokens as for few. */
#include "test_cuda_layer_step.h"

#include "emulator_control.h"

enum { MAX_RANKS = 4 };

typedef struct launch_case {
    const gdncp_layout_t *layout;
    gdncp_layer_config_t config;
    emulator_work_t forward; /* of all ranks */
    emulator_work_t backward;
} launch_case_t;

/* One direction, once all ranks are there; *work is rank 0's to write. */
static gdncp_status_t count_work(const step_t *step, gdncp_comm_t *comm,
                                 gdncp_status_t (*queue)(const step_t *step), emulator_work_t *work)
{
    gdncp_status_t status = gdncp_comm_barrier(comm);

    if (status == GDNCP_OK && gdncp_comm_rank(comm) == 0) {
        emulator_reset_counts();
    }
    if (status == GDNCP_OK) {
        status = gdncp_comm_barrier(comm);
    }
    if (status == GDNCP_OK) {
        status = queue(step);
    }
    /* Until then the communicator is the stream's. */
    if (status == GDNCP_OK) {
        status = step_synchronize(step);
    }
    if (status == GDNCP_OK) {
        status = gdncp_comm_barrier(comm);
    }
    if (status == GDNCP_OK && gdncp_comm_rank(comm) == 0) {
        *work = emulator_counts();
    }
    return status;
}

static void count_step(void *context, gdncp_comm_t *comm, char *problem, size_t size)
{
    launch_case_t *const test = context;
    step_t step;
    gdncp_status_t status = step_open_config(comm, test->layout, &test->config, &step);

    if (status == GDNCP_OK) {
        status = step_fill(&step, 1);
    }
    if (status == GDNCP_OK) {
        status = count_work(&step, comm, step_queue_forward, &test->forward);
    }
    if (status == GDNCP_OK) {
        status = count_work(&step, comm, step_queue_backward, &test->backward);
    }
    if (status != GDNCP_OK) {
        snprintf(problem, size, "%s", gdncp_last_error());
    }
    step_close(&step);
}

/* Heads are a multiple of the ranks, so that no chain is cut. */
static launch_case_t count(int ranks, gdncp_strategy_t strategy, int64_t key_heads, int64_t tokens)
{
    const int64_t cu_seqlens[] = {0, tokens};
    launch_case_t test = {.config = step_config};
    gdncp_layout_t *layout = NULL;

    test.config.strategy = strategy;
    test.config.shape.num_key_heads = key_heads;
    test.config.shape.num_value_heads = 2 * key_heads;
    assert_int_equal(
        gdncp_layout_create(GDNCP_LAYOUT_DUAL_CHUNK_SWAP, cu_seqlens, 1, ranks, &layout), GDNCP_OK);
    test.layout = layout;
    test_run_ranks(gdncp_strategy_name(strategy), ranks, count_step, &test);
    gdncp_layout_destroy(layout);
    return test;
}

static void show(const char *what, int ranks, gdncp_strategy_t strategy,
                 const emulator_work_t *work)
{
    print_message("%s, %s, %d ranks: %.2f kernels, %.2f copies, %.2f clears, %.2f host calls a "
                  "rank\n",
                  gdncp_strategy_name(strategy), what, ranks, (double)work->kernels / ranks,
                  (double)work->copies / ranks, (double)work->clears / ranks,
                  (double)work->host_calls / ranks);
}

static void assert_same_work(const emulator_work_t *a, const emulator_work_t *b)
{
    assert_int_equal(a->kernels, b->kernels);
    assert_int_equal(a->copies, b->copies);
    assert_int_equal(a->clears, b->clears);
    assert_int_equal(a->host_calls, b->host_calls);
}

static void launches_do_not_grow_with_heads_or_tokens(void **state)
{
    (void)state;
    for (int ranks = 1; ranks <= MAX_RANKS; ranks *= 4) {
        for (int strategy = 0; strategy < 2; strategy++) {
            const gdncp_strategy_t which = (gdncp_strategy_t)strategy;
            const launch_case_t few = count(ranks, which, MAX_RANKS, 24);
            show("forward", ranks, which, &few.forward);
            show("backward", ranks, which, &few.backward);
            const launch_case_t many = count(ranks, which, 3 * MAX_RANKS, 48);

            assert_same_work(&few.forward, &many.forward);
            assert_same_work(&few.backward, &many.backward);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(launches_do_not_grow_with_heads_or_tokens),
    };

    setenv("GDNCP_CUDA", "emulated", 1);
    return cmocka_run_group_tests_name("launches of a layer", tests, NULL, NULL);
}
