/* Where a call's tensors, its workspace and its lists must lie. No call gets as far as a kernel, so
 * the data of all tensors is one block of the host. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "gdncp/ops.h"
#include "gdncp/ops_decode.h"
#include "op_case.h"

enum { TOKENS = 4, HEADS = 2, DIM = 8, WIDTH = 3 };

/* What varies from call to call. */
typedef struct place {
    gdncp_device_kind_t device; /* of the tensors */
    const int64_t *cu_seqlens_cuda;
    const int64_t *selected; /* sequences that summaries are of; NULL: all */
    const int64_t *selected_cuda;
    int64_t key_dim; /* of the delta rule; 0: DIM */
    gdncp_workspace_t *workspace;
} place_t;

static double block[1024];
static const int64_t cu_seqlens[] = {0, 1, TOKENS};
static const int64_t selected[] = {1, 0};

static gdncp_tensor_t tensor(const place_t *place, int ndim, int64_t a, int64_t b, int64_t c)
{
    const int64_t shape[] = {a, b, c};
    gdncp_tensor_t result = gdncp_tensor_contiguous(block, GDNCP_F32, ndim, shape);

    result.device = place->device;
    return result;
}

static gdncp_gate_t gate_of(const place_t *place)
{
    return (gdncp_gate_t){.a = tensor(place, 2, TOKENS, HEADS, 0),
                          .b = tensor(place, 2, TOKENS, HEADS, 0),
                          .A_log = tensor(place, 1, HEADS, 0, 0),
                          .dt_bias = tensor(place, 1, HEADS, 0, 0)};
}

static gdncp_status_t gate_forward(const place_t *place)
{
    const gdncp_gate_t gate = gate_of(place);

    return gdncp_gate_forward(&gate, &gate.a, &gate.b, place->workspace);
}

/* Only sums of chunks need lists. */
static gdncp_status_t gate_forward_chunks(const place_t *place)
{
    gdncp_gate_t gate = gate_of(place);

    gate.chunk_size = 2;
    gate.cu_seqlens = cu_seqlens;
    gate.cu_seqlens_cuda = place->cu_seqlens_cuda;
    gate.num_sequences = 2;
    return gdncp_gate_forward(&gate, &gate.a, &gate.b, place->workspace);
}

static gdncp_status_t gate_backward(const place_t *place)
{
    const gdncp_gate_t gate = gate_of(place);
    const gdncp_gate_grads_t grads = {
        .a = gate.a, .b = gate.b, .A_log = gate.A_log, .dt_bias = gate.dt_bias};

    return gdncp_gate_backward(&gate, &gate.a, &gate.b, &grads, place->workspace);
}

static gdncp_status_t chunk_cumsum(const place_t *place)
{
    const gdncp_tensor_t g = tensor(place, 2, TOKENS, HEADS, 0);

    return gdncp_chunk_cumsum(&g, cu_seqlens, place->cu_seqlens_cuda, 2, 2, &g, place->workspace);
}

static gdncp_status_t l2norm_forward(const place_t *place)
{
    const gdncp_tensor_t x = tensor(place, 3, TOKENS, HEADS, DIM);

    return gdncp_l2norm_forward(&x, 1e-6f, &x, place->workspace);
}

static gdncp_status_t l2norm_backward(const place_t *place)
{
    const gdncp_tensor_t x = tensor(place, 3, TOKENS, HEADS, DIM);

    return gdncp_l2norm_backward(&x, 1e-6f, &x, &x, place->workspace);
}

static gdncp_gated_rmsnorm_t norm_of(const place_t *place)
{
    return (gdncp_gated_rmsnorm_t){.x = tensor(place, 3, TOKENS, HEADS, DIM),
                                   .z = tensor(place, 3, TOKENS, HEADS, DIM),
                                   .weight = tensor(place, 1, DIM, 0, 0),
                                   .eps = 1e-6f};
}

static gdncp_status_t gated_rmsnorm_forward(const place_t *place)
{
    const gdncp_gated_rmsnorm_t norm = norm_of(place);

    return gdncp_gated_rmsnorm_forward(&norm, &norm.x, place->workspace);
}

static gdncp_status_t gated_rmsnorm_backward(const place_t *place)
{
    const gdncp_gated_rmsnorm_t norm = norm_of(place);
    const gdncp_gated_rmsnorm_grads_t grads = {.x = norm.x, .z = norm.z, .weight = norm.weight};

    return gdncp_gated_rmsnorm_backward(&norm, &norm.x, &grads, place->workspace);
}

static gdncp_conv1d_t conv_of(const place_t *place)
{
    return (gdncp_conv1d_t){.x = tensor(place, 2, TOKENS, DIM, 0),
                            .weight = tensor(place, 2, DIM, WIDTH, 0),
                            .cu_seqlens = cu_seqlens,
                            .cu_seqlens_cuda = place->cu_seqlens_cuda,
                            .num_sequences = 2};
}

static gdncp_status_t conv1d_forward(const place_t *place)
{
    const gdncp_conv1d_t conv = conv_of(place);

    return gdncp_conv1d_forward(&conv, &conv.x, NULL, place->workspace);
}

static gdncp_status_t conv1d_backward(const place_t *place)
{
    const gdncp_conv1d_t conv = conv_of(place);
    const gdncp_conv1d_grads_t grads = {.x = conv.x, .weight = conv.weight};

    return gdncp_conv1d_backward(&conv, &conv.x, &grads, place->workspace);
}

static int64_t key_dim(const place_t *place)
{
    return place->key_dim != 0 ? place->key_dim : DIM;
}

/* [sequences, HEADS, dk, columns] */
static gdncp_tensor_t states(const place_t *place, int64_t columns)
{
    const int64_t shape[] = {2, HEADS, key_dim(place), columns};
    gdncp_tensor_t result = gdncp_tensor_contiguous(block, GDNCP_F32, 4, shape);

    result.device = place->device;
    return result;
}

static gdncp_delta_rule_t rule_of(const place_t *place)
{
    const gdncp_tensor_t key = tensor(place, 3, TOKENS, HEADS, key_dim(place));
    const gdncp_tensor_t gate = tensor(place, 2, TOKENS, HEADS, 0);

    return (gdncp_delta_rule_t){.q = key,
                                .k = key,
                                .v = tensor(place, 3, TOKENS, HEADS, DIM),
                                .g = gate,
                                .beta = gate,
                                .cu_seqlens = cu_seqlens,
                                .cu_seqlens_cuda = place->cu_seqlens_cuda,
                                .num_sequences = 2};
}

static gdncp_status_t delta_rule_forward(const place_t *place)
{
    const gdncp_delta_rule_t rule = rule_of(place);

    return gdncp_delta_rule_forward(&rule, &rule.v, NULL, place->workspace);
}

static gdncp_status_t delta_rule_backward(const place_t *place)
{
    const gdncp_delta_rule_t rule = rule_of(place);
    const gdncp_delta_rule_grads_t grads = {
        .q = rule.q, .k = rule.k, .v = rule.v, .g = rule.g, .beta = rule.beta};

    return gdncp_delta_rule_backward(&rule, &rule.v, NULL, &grads, place->workspace);
}

static gdncp_status_t delta_rule_summary(const place_t *place)
{
    const gdncp_delta_rule_t rule = rule_of(place);
    const gdncp_tensor_t transition = states(place, key_dim(place));
    const gdncp_tensor_t contribution = states(place, DIM);

    return gdncp_delta_rule_summary(&rule, place->selected, place->selected_cuda, 2, &transition,
                                    &contribution, place->workspace);
}

static gdncp_status_t delta_rule_grad_summary(const place_t *place)
{
    const gdncp_delta_rule_t rule = rule_of(place);
    const gdncp_tensor_t grad = states(place, DIM);

    return gdncp_delta_rule_grad_summary(&rule, place->selected, place->selected_cuda, 2, &rule.v,
                                         NULL, &grad, place->workspace);
}

static const struct {
    gdncp_status_t (*call)(const place_t *place);
    const char *first; /* its first tensor */
    bool has_list;
    bool selects;
} calls[] = {
    {gate_forward, "a", false, false},          {gate_forward_chunks, "a", true, false},
    {gate_backward, "a", false, false},         {chunk_cumsum, "g", true, false},
    {l2norm_forward, "x", false, false},        {l2norm_backward, "x", false, false},
    {gated_rmsnorm_forward, "x", false, false}, {gated_rmsnorm_backward, "x", false, false},
    {conv1d_forward, "x", true, false},         {conv1d_backward, "x", true, false},
    {delta_rule_forward, "k", true, false},     {delta_rule_backward, "k", true, false},
    {delta_rule_summary, "k", true, true},      {delta_rule_grad_summary, "k", true, true},
};

#define NUM_CALLS (sizeof calls / sizeof calls[0])

static void cuda_tensors_need_a_workspace_there(void **state)
{
    const place_t place = {.device = GDNCP_DEVICE_CUDA, .cu_seqlens_cuda = cu_seqlens};
    place_t with_workspace = place;

    (void)state;
    assert_int_equal(gdncp_workspace_create(&with_workspace.workspace), GDNCP_OK);
    for (size_t i = 0; i < NUM_CALLS; i++) {
        assert_argument_error(calls[i].call(&place), GDNCP_ERR_INVALID_ARGUMENT, calls[i].first);
        assert_argument_error(calls[i].call(&with_workspace), GDNCP_ERR_INVALID_ARGUMENT,
                              calls[i].first);
    }
    gdncp_workspace_destroy(with_workspace.workspace);
}

static void a_cuda_workspace_needs_tensors_there(void **state)
{
    place_t place = {.device = GDNCP_DEVICE_CPU, .cu_seqlens_cuda = cu_seqlens};

    (void)state;
    assert_int_equal(gdncp_workspace_create_on(GDNCP_DEVICE_CUDA, NULL, &place.workspace),
                     GDNCP_OK);
    for (size_t i = 0; i < NUM_CALLS; i++) {
        assert_argument_error(calls[i].call(&place), GDNCP_ERR_INVALID_ARGUMENT, calls[i].first);
    }
    gdncp_workspace_destroy(place.workspace);
}

static void lists_are_needed_on_the_device_too(void **state)
{
    place_t place = {.device = GDNCP_DEVICE_CUDA};

    (void)state;
    assert_int_equal(gdncp_workspace_create_on(GDNCP_DEVICE_CUDA, NULL, &place.workspace),
                     GDNCP_OK);
    for (size_t i = 0; i < NUM_CALLS; i++) {
        if (calls[i].has_list) {
            assert_argument_error(calls[i].call(&place), GDNCP_ERR_INVALID_ARGUMENT,
                                  "cu_seqlens_cuda");
        }
    }
    gdncp_workspace_destroy(place.workspace);
}

static void selections_are_needed_in_both_places(void **state)
{
    place_t place = {.device = GDNCP_DEVICE_CUDA, .cu_seqlens_cuda = cu_seqlens};

    (void)state;
    assert_int_equal(gdncp_workspace_create_on(GDNCP_DEVICE_CUDA, NULL, &place.workspace),
                     GDNCP_OK);
    for (size_t i = 0; i < NUM_CALLS; i++) {
        if (calls[i].selects) {
            place.selected = selected;
            place.selected_cuda = NULL;
            assert_argument_error(calls[i].call(&place), GDNCP_ERR_INVALID_ARGUMENT,
                                  "sequences_cuda");
            place.selected = NULL;
            place.selected_cuda = selected;
            assert_argument_error(calls[i].call(&place), GDNCP_ERR_INVALID_ARGUMENT,
                                  "sequences_cuda");
        }
    }
    gdncp_workspace_destroy(place.workspace);
}

static gdncp_status_t recurrent_step(const place_t *place)
{
    const gdncp_delta_rule_t rule = rule_of(place);
    gdncp_recurrent_step_t step = {.q = rule.q,
                                   .k = rule.k,
                                   .v = rule.v,
                                   .g = rule.g,
                                   .beta = rule.beta,
                                   .states = states(place, DIM),
                                   .slots = tensor(place, 1, 2, 0, 0),
                                   .cu_seqlens = cu_seqlens,
                                   .cu_seqlens_cuda = place->cu_seqlens_cuda,
                                   .num_sequences = 2};

    step.slots.dtype = GDNCP_I32;
    return gdncp_recurrent_step(&step, &rule.v, place->workspace);
}

/* No q, k or state is read. */
static void keys_have_at_most_256_elements(void **state)
{
    static gdncp_status_t (*const long_keys[])(const place_t *place) = {
        delta_rule_forward, delta_rule_backward, delta_rule_summary, delta_rule_grad_summary,
        recurrent_step};
    place_t place = {.device = GDNCP_DEVICE_CUDA, .cu_seqlens_cuda = cu_seqlens, .key_dim = 257};

    (void)state;
    assert_int_equal(gdncp_workspace_create_on(GDNCP_DEVICE_CUDA, NULL, &place.workspace),
                     GDNCP_OK);
    for (size_t i = 0; i < sizeof long_keys / sizeof long_keys[0]; i++) {
        assert_int_equal(long_keys[i](&place), GDNCP_ERR_NOT_SUPPORTED);
        assert_string_equal(
            gdncp_last_error(),
            "k: expected a head dimension of at most 256 on a CUDA device, got 257");
    }
    gdncp_workspace_destroy(place.workspace);
}

/* The same calls are good where everything lies in one place. */
static void all_of_it_on_the_cpu_is_good(void **state)
{
    const place_t place = {.device = GDNCP_DEVICE_CPU, .selected = selected};

    (void)state;
    for (size_t i = 0; i < NUM_CALLS; i++) {
        assert_int_equal(calls[i].call(&place), GDNCP_OK);
    }
}

static gdncp_status_t state_merge(const place_t *place, int64_t dk,
                                  const gdncp_state_chain_t *chains_cuda)
{
    static const gdncp_state_chain_t chain = {.count = 1};
    const gdncp_state_chains_t merge = {.contribution = tensor(place, 3, 1, dk, 1),
                                        .chains = &chain,
                                        .chains_cuda = chains_cuda,
                                        .num_chains = 1};
    gdncp_tensor_t states = merge.contribution;

    states.data = block + sizeof block / sizeof *block / 2;
    return gdncp_state_merge(&merge, &states, place->workspace);
}

static void chains_are_needed_on_the_device_too(void **state)
{
    const gdncp_state_chain_t chain = {.count = 1};
    place_t place = {.device = GDNCP_DEVICE_CUDA};

    (void)state;
    assert_argument_error(state_merge(&place, DIM, &chain), GDNCP_ERR_INVALID_ARGUMENT,
                          "contribution");
    assert_int_equal(gdncp_workspace_create_on(GDNCP_DEVICE_CUDA, NULL, &place.workspace),
                     GDNCP_OK);
    assert_argument_error(state_merge(&place, DIM, NULL), GDNCP_ERR_INVALID_ARGUMENT,
                          "chains_cuda");
    assert_argument_error(state_merge(&place, 257, &chain), GDNCP_ERR_NOT_SUPPORTED,
                          "contribution");
    place.device = GDNCP_DEVICE_CPU;
    assert_argument_error(state_merge(&place, DIM, &chain), GDNCP_ERR_INVALID_ARGUMENT,
                          "contribution");
    gdncp_workspace_destroy(place.workspace);
    assert_int_equal(state_merge(&(place_t){.device = GDNCP_DEVICE_CPU}, DIM, NULL), GDNCP_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cuda_tensors_need_a_workspace_there),
        cmocka_unit_test(a_cuda_workspace_needs_tensors_there),
        cmocka_unit_test(lists_are_needed_on_the_device_too),
        cmocka_unit_test(selections_are_needed_in_both_places),
        cmocka_unit_test(keys_have_at_most_256_elements),
        cmocka_unit_test(all_of_it_on_the_cpu_is_good),
        cmocka_unit_test(chains_are_needed_on_the_device_too),
    };

    setenv("GDNCP_CUDA", "emulated", 0);
    return cmocka_run_group_tests_name("cuda_arguments", tests, NULL, NULL);
}
