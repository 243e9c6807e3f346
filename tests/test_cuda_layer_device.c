/*
 * Layers on the emulated device: a step that neither waits nor allocates, that is captured once and
 * replayed, tensors that lie elsewhere, and a rank that is lost while the stream runs.
 */
#include "test_cuda_layer_step.h"

#include <math.h>
#include <pthread.h>

#include "backend.h"
#include "emulator_control.h"

enum { NUM_SEEDS = 2 };

/* What all ranks do. */
typedef struct capture_case {
    const gdncp_layout_t *layout;
    gdncp_strategy_t strategy;
} capture_case_t;

/* Not captured: what replays must give. Only the first run may allocate or wait. */
static gdncp_status_t run_eagerly(const step_t *step, step_results_t *expected, char *problem,
                                  size_t size)
{
    step_results_t again = {{NULL}};
    gdncp_status_t status = GDNCP_OK;

    for (int run = 0; run <= NUM_SEEDS && status == GDNCP_OK; run++) {
        status = step_fill(step, (uint64_t)(run % NUM_SEEDS));
        if (status != GDNCP_OK) {
            break;
        }
        emulator_forbid(run > 0);
        status = step_queue(step);
        emulator_forbid(false);
        if (status == GDNCP_OK) {
            status = step_take(step, run < NUM_SEEDS ? &expected[run] : &again);
        }
    }
    if (status == GDNCP_OK && step_compare(step, &again, &expected[0]) >= 0) {
        snprintf(problem, size, "other bits the second time");
    }
    step_free(&again);
    return status;
}

static gdncp_status_t capture(const step_t *step, const gdncp_backend_t *backend, void **graph_p)
{
    gdncp_status_t status = backend->capture_begin(step->config.stream);

    if (status == GDNCP_OK) {
        status = step_queue(step);
    }
    return status == GDNCP_OK ? backend->capture_end(step->config.stream, graph_p) : status;
}

/* Also that the capture itself ran nothing. */
static gdncp_status_t replay(const step_t *step, const gdncp_backend_t *backend, void *graph,
                             const step_results_t *expected, char *problem, size_t size)
{
    gdncp_status_t status = GDNCP_OK;

    for (int run = 0; run <= 2 * NUM_SEEDS && status == GDNCP_OK; run++) {
        step_results_t results;

        if (run > 0) {
            status = step_fill(step, (uint64_t)(run % NUM_SEEDS));
            if (status == GDNCP_OK) {
                status = backend->graph_launch(graph, step->config.stream);
            }
        }
        if (status == GDNCP_OK) {
            status = step_take(step, &results);
        }
        if (status != GDNCP_OK) {
            break;
        }
        const int differs = step_compare(step, &results, &expected[run % NUM_SEEDS]);

        if (run > 0 && differs >= 0) {
            snprintf(problem, size, "replay %d: tensor %d differs", run, differs);
        }
        if (run == 0 && !isnan(results.values[STEP_UPSTREAM][0])) {
            snprintf(problem, size, "the capture ran the step");
        }
        step_free(&results);
    }
    return status;
}

static void capture_and_replay(void *context, gdncp_comm_t *comm, char *problem, size_t size)
{
    const capture_case_t *const test = context;
    step_results_t expected[NUM_SEEDS] = {{{NULL}}};
    const gdncp_backend_t *backend = NULL;
    void *graph = NULL;
    step_t step;
    gdncp_status_t status = step_open(comm, test->layout, test->strategy, &step);

    if (status == GDNCP_OK) {
        status = gdncp_backend_find(&backend);
    }
    if (status == GDNCP_OK) {
        status = run_eagerly(&step, expected, problem, size);
    }
    if (status == GDNCP_OK) {
        status = step_fill(&step, 0);
    }
    if (status == GDNCP_OK) {
        status = capture(&step, backend, &graph);
    }
    if (status == GDNCP_OK) {
        status = replay(&step, backend, graph, expected, problem, size);
    }
    if (status == GDNCP_OK) {
        status = gdncp_layer_check(step.layer);
    }
    if (status != GDNCP_OK) {
        snprintf(problem, size, "%s", gdncp_last_error());
    }
    if (graph != NULL) {
        backend->graph_destroy(graph);
    }
    for (int i = 0; i < NUM_SEEDS; i++) {
        step_free(&expected[i]);
    }
    step_close(&step);
}

static void a_step_is_captured_once_and_replayed(void **state)
{
    (void)state;
    for (int ranks = 1; ranks <= 2; ranks++) {
        gdncp_layout_t *const layout = step_layout(ranks);

        for (int strategy = 0; strategy < 2; strategy++) {
            capture_case_t test = {.layout = layout, .strategy = (gdncp_strategy_t)strategy};

            test_run_ranks(gdncp_strategy_name(test.strategy), ranks, capture_and_replay, &test);
        }
        gdncp_layout_destroy(layout);
    }
}

static void assert_says(gdncp_status_t status, const char *words)
{
    assert_int_equal(status, GDNCP_ERR_INVALID_ARGUMENT);
    if (strncmp(gdncp_last_error(), words, strlen(words)) != 0) {
        fail_msg("expected a sentence that begins with \"%s\", got \"%s\"", words,
                 gdncp_last_error());
    }
}

/* Each tensor of a step in turn as one on the CPU. */
static void tensors_lie_on_the_layers_device(void **state)
{
    static const char *const names[] = {"hidden",      "in_proj_weight", "out_proj_weight",
                                        "conv_weight", "A_log",          "dt_bias",
                                        "norm_weight"};
    static const char *const grad_names[] = {
        "grad_hidden", "grads.in_proj_weight", "grads.out_proj_weight", "grads.conv_weight",
        "grads.A_log", "grads.dt_bias",        "grads.norm_weight",     "grad_output"};
    gdncp_layout_t *const layout = step_layout(1);
    gdncp_comm_t *comm = NULL;
    char words[128];
    step_t step;

    (void)state;
    assert_int_equal(gdncp_comm_create_self(&comm), GDNCP_OK);
    assert_int_equal(step_open(comm, layout, GDNCP_STRATEGY_HEADS, &step), GDNCP_OK);
    for (int i = 0; i < STEP_UPSTREAM; i++) {
        step.in[i].device = GDNCP_DEVICE_CPU;
        snprintf(words, sizeof words, "%s: expected a tensor on the cuda", names[i]);
        assert_says(step_queue(&step), words);
        step.in[i].device = GDNCP_DEVICE_CUDA;
    }
    step.out[STEP_UPSTREAM].device = GDNCP_DEVICE_CPU;
    assert_says(step_queue(&step), "output: expected a tensor on the cuda");
    step.out[STEP_UPSTREAM].device = GDNCP_DEVICE_CUDA;
    assert_int_equal(step_fill(&step, 0), GDNCP_OK);
    for (int i = 0; i < STEP_NUM_TENSORS; i++) {
        gdncp_tensor_t *const tensor = i == STEP_UPSTREAM ? &step.in[i] : &step.out[i];

        tensor->device = GDNCP_DEVICE_CPU;
        snprintf(words, sizeof words, "%s: expected a tensor on the cuda", grad_names[i]);
        assert_says(step_queue(&step), words);
        tensor->device = GDNCP_DEVICE_CUDA;
    }
    assert_int_equal(step_queue(&step), GDNCP_OK);
    step_close(&step);
    gdncp_comm_destroy(comm);
    gdncp_layout_destroy(layout);
}

static void tensors_of_a_rule_lie_on_its_device(void **state)
{
    const gdncp_cp_rule_config_t config = {.num_key_heads = 1,
                                           .num_value_heads = 1,
                                           .key_head_dim = 8,
                                           .value_head_dim = 8,
                                           .device = GDNCP_DEVICE_CUDA};
    const int64_t shape[] = {STEP_TOKENS, 1, 8};
    const int64_t states[] = {STEP_SEQUENCES, 1, 8, 8};
    gdncp_layout_t *const layout = step_layout(1);
    gdncp_comm_t *comm = NULL;
    gdncp_cp_rule_t *rule = NULL;
    gdncp_cp_rule_saved_t *saved = NULL;
    void *memory = NULL;

    (void)state;
    assert_int_equal(gdncp_comm_create_self(&comm), GDNCP_OK);
    assert_int_equal(gdncp_cp_rule_create(comm, layout, &config, &rule), GDNCP_OK);
    assert_int_equal(gdncp_cp_rule_saved_create(rule, &saved), GDNCP_OK);
    assert_int_equal(gdncp_device_alloc(config.device, sizeof(float) * STEP_TOKENS * 8, &memory),
                     GDNCP_OK);
    gdncp_tensor_t heads = gdncp_tensor_contiguous(memory, GDNCP_F32, 3, shape);
    gdncp_tensor_t gates = gdncp_tensor_contiguous(memory, GDNCP_F32, 2, shape);
    gdncp_tensor_t state_tensor = gdncp_tensor_contiguous(memory, GDNCP_F32, 4, states);

    heads.device = gates.device = state_tensor.device = config.device;
    gdncp_cp_rule_inputs_t inputs = {.q = heads, .k = heads, .v = heads, .g = gates, .beta = gates};
    gdncp_tensor_t o = heads;

    o.device = GDNCP_DEVICE_CPU;
    assert_says(gdncp_cp_rule_forward(rule, &inputs, saved, &o, NULL),
                "o: expected a tensor on the cuda");
    inputs.beta.device = GDNCP_DEVICE_CPU;
    assert_says(gdncp_cp_rule_forward(rule, &inputs, saved, &heads, NULL),
                "beta: expected a tensor on the cuda");
    inputs.beta.device = config.device;
    state_tensor.device = GDNCP_DEVICE_CPU;
    assert_says(gdncp_cp_rule_forward(rule, &inputs, saved, &heads, &state_tensor),
                "final_state: expected a tensor on the cuda");
    inputs.initial_state = state_tensor;
    assert_says(gdncp_cp_rule_forward(rule, &inputs, saved, &heads, NULL),
                "initial_state: expected a tensor on the cuda");
    gdncp_device_free(config.device, memory);
    gdncp_cp_rule_saved_destroy(saved);
    gdncp_cp_rule_destroy(rule);
    gdncp_comm_destroy(comm);
    gdncp_layout_destroy(layout);
}

static void devices_and_streams_are_checked(void **state)
{
    gdncp_layout_t *const layout = step_layout(1);
    gdncp_layer_config_t config = step_config;
    gdncp_cp_rule_config_t rule_config = {
        .num_key_heads = 1, .num_value_heads = 1, .key_head_dim = 8, .value_head_dim = 8};
    gdncp_comm_t *comm = NULL;
    gdncp_layer_t *layer = NULL;
    gdncp_cp_rule_t *rule = NULL;
    int not_a_stream;

    (void)state;
    assert_int_equal(gdncp_comm_create_self(&comm), GDNCP_OK);
    config.device = (gdncp_device_kind_t)7;
    assert_says(gdncp_layer_create(comm, layout, &config, &layer), "device: expected");
    config.device = GDNCP_DEVICE_CPU;
    config.stream = &not_a_stream;
    assert_says(gdncp_layer_create(comm, layout, &config, &layer), "stream: expected NULL");
    rule_config.stream = &not_a_stream;
    assert_says(gdncp_cp_rule_create(comm, layout, &rule_config, &rule), "stream: expected NULL");
    rule_config.device = (gdncp_device_kind_t)7;
    assert_says(gdncp_cp_rule_create(comm, layout, &rule_config, &rule), "device: expected");
    assert_null(layer);
    assert_null(rule);
    gdncp_comm_destroy(comm);
    gdncp_layout_destroy(layout);
}

typedef struct lost_rank_case {
    const gdncp_layout_t *layout;
    gdncp_strategy_t strategy;
    pthread_barrier_t made; /* the layer, on both ranks */
} lost_rank_case_t;

/* Rank 1 goes away; rank 0 gets to know it once it has waited, and its stream comes to an end. */
static void lose_a_rank(void *context, gdncp_comm_t *comm, char *problem, size_t size)
{
    lost_rank_case_t *const test = context;
    step_t step;
    gdncp_status_t status = step_open(comm, test->layout, test->strategy, &step);

    if (status == GDNCP_OK) {
        status = step_fill(&step, 0);
    }
    pthread_barrier_wait(&test->made);
    if (status != GDNCP_OK) {
        snprintf(problem, size, "%s", gdncp_last_error());
    } else if (gdncp_comm_rank(comm) == 1) {
        gdncp_comm_abort(comm);
    } else {
        step_queue(&step);
        step_synchronize(&step);
        if (gdncp_layer_check(step.layer) != GDNCP_ERR_PEER_LOST) {
            snprintf(problem, size, "expected a lost peer, got \"%s\"", gdncp_last_error());
        } else if (step_queue(&step) != GDNCP_ERR_PEER_LOST) {
            snprintf(problem, size, "expected a lost peer again, got \"%s\"", gdncp_last_error());
        }
    }
    step_close(&step);
}

static void a_lost_rank_is_reported(void **state)
{
    gdncp_layout_t *const layout = step_layout(2);

    (void)state;
    for (int strategy = 0; strategy < 2; strategy++) {
        lost_rank_case_t test = {.layout = layout, .strategy = (gdncp_strategy_t)strategy};

        assert_int_equal(pthread_barrier_init(&test.made, NULL, 2), 0);
        test_run_ranks(gdncp_strategy_name(test.strategy), 2, lose_a_rank, &test);
        pthread_barrier_destroy(&test.made);
    }
    gdncp_layout_destroy(layout);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_is_captured_once_and_replayed),
        cmocka_unit_test(tensors_lie_on_the_layers_device),
        cmocka_unit_test(tensors_of_a_rule_lie_on_its_device),
        cmocka_unit_test(devices_and_streams_are_checked),
        cmocka_unit_test(a_lost_rank_is_reported),
    };

    setenv("GDNCP_CUDA", "emulated", 1);
    return cmocka_run_group_tests_name("layers on a device", tests, NULL, NULL);
}
