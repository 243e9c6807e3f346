/*
 * Strategy "states" of the core: the convolution's halo is the only token traffic; the rule crosses
 * ranks by its states.
 */
#include "core_strategy.h"

#include "error.h"
#include "gdncp/device.h"
#include "gdncp/exchange.h"
#include "gdncp/memory.h"
#include "layer_views.h"
#include "rule_strategy.h"
#include "token_mix.h"

typedef struct core_states {
    gdncp_core_strategy_t base;
    gdncp_layer_config_t config;
    gdncp_token_mix_t mix;          /* all heads; sequences are the local segments */
    gdncp_device_list_t cu_seqlens; /* [segments + 1] */
    gdncp_plan_t *halo_plan;
    gdncp_plan_t *halo_plan_back;
    gdncp_exchange_t *halo;
    gdncp_exchange_t *halo_back;
    gdncp_rule_strategy_t *rule;
    gdncp_workspace_t *operator_scratch;
    void *scratch; /* gradients inside backward */
} core_states_t;

/* Memory between forward and backward. */
typedef struct saved_view {
    void *window; /* [segments, W-1, channels] */
    gdncp_mixed_t mixed;
    void *rule;
} saved_view_t;

typedef struct scratch_view {
    void *window; /* gradient of the halo */
    gdncp_mixed_t mixed;
} scratch_view_t;

static int64_t window_elements(const core_states_t *states)
{
    return states->mix.num_sequences * (states->mix.conv_kernel_dim - 1) *
           gdncp_token_mix_channels(&states->mix);
}

static saved_view_t view_saved(const core_states_t *states, void *saved, size_t *bytes_p)
{
    gdncp_arena_t arena = {.block = saved};
    saved_view_t view;

    view.window = gdncp_arena_elements(&arena, states->mix.dtype, window_elements(states));
    view.mixed = gdncp_mixed_take(&states->mix, &arena);
    view.rule =
        gdncp_arena_elements(&arena, GDNCP_I8, states->rule->ops->saved_bytes(states->rule));
    if (bytes_p != NULL) {
        *bytes_p = arena.used;
    }
    return view;
}

static scratch_view_t view_scratch(const core_states_t *states, void *scratch, size_t *bytes_p)
{
    gdncp_arena_t arena = {.block = scratch};
    scratch_view_t view;

    view.window = gdncp_arena_elements(&arena, states->mix.dtype, window_elements(states));
    view.mixed = gdncp_mixed_take(&states->mix, &arena);
    if (bytes_p != NULL) {
        *bytes_p = arena.used;
    }
    return view;
}

static int64_t saved_bytes(const gdncp_core_strategy_t *strategy)
{
    size_t bytes;

    view_saved((const core_states_t *)strategy, NULL, &bytes);
    return (int64_t)bytes;
}

static void destroy(gdncp_core_strategy_t *strategy)
{
    core_states_t *const states = (core_states_t *)strategy;

    if (states == NULL) {
        return;
    }
    gdncp_exchange_destroy(states->halo);
    gdncp_exchange_destroy(states->halo_back);
    gdncp_plan_destroy(states->halo_plan);
    gdncp_plan_destroy(states->halo_plan_back);
    if (states->rule != NULL) {
        states->rule->ops->destroy(states->rule);
    }
    gdncp_workspace_destroy(states->operator_scratch);
    gdncp_device_list_destroy(&states->cu_seqlens);
    gdncp_device_free(states->config.device, states->scratch);
    gdncp_memory_free(states);
}

static gdncp_status_t check(const gdncp_core_strategy_t *strategy)
{
    const core_states_t *const states = (const core_states_t *)strategy;
    gdncp_status_t status = gdncp_exchange_check(states->halo);

    if (status == GDNCP_OK) {
        status = gdncp_exchange_check(states->halo_back);
    }
    return status == GDNCP_OK ? states->rule->ops->check(states->rule) : status;
}

static gdncp_dtype_t o_dtype(const gdncp_core_strategy_t *strategy)
{
    return ((const core_states_t *)strategy)->config.rule_dtype;
}

static gdncp_status_t list_segments(core_states_t *states, const gdncp_segment_t *segments,
                                    int64_t count)
{
    const gdncp_status_t status =
        gdncp_device_list_create(states->config.device, count + 1, &states->cu_seqlens);

    if (status != GDNCP_OK) {
        return status;
    }
    states->cu_seqlens.host[0] = 0;
    for (int64_t i = 0; i < count; i++) {
        states->cu_seqlens.host[i + 1] = segments[i].local_offset + segments[i].length;
    }
    return gdncp_device_list_upload(&states->cu_seqlens, states->config.stream);
}

static gdncp_status_t prepare(core_states_t *states, const gdncp_layout_t *layout, int rank)
{
    const gdncp_layer_config_t *const config = &states->config;
    const gdncp_layer_shape_t *const shape = &config->shape;
    int64_t count;
    const gdncp_segment_t *const segments = gdncp_layout_rank_segments(layout, rank, &count);
    size_t scratch_bytes;
    gdncp_status_t status = list_segments(states, segments, count);

    if (status != GDNCP_OK) {
        return status;
    }
    states->mix = (gdncp_token_mix_t){
        .tokens = gdncp_layout_rank_tokens(layout, rank),
        .key_heads = shape->num_key_heads,
        .value_heads = shape->num_value_heads,
        .key_head_dim = shape->key_head_dim,
        .value_head_dim = shape->value_head_dim,
        .conv_kernel_dim = shape->conv_kernel_dim,
        .dtype = config->dtype,
        .rule_dtype = config->rule_dtype,
        .allow_neg_eigval = config->allow_neg_eigval,
        .cu_seqlens = &states->cu_seqlens,
        .num_sequences = count,
        .device = config->device,
    };
    view_scratch(states, NULL, &scratch_bytes);
    status = gdncp_device_alloc(config->device, scratch_bytes, &states->scratch);
    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_workspace_create_on(config->device, config->stream, &states->operator_scratch);
    if (status != GDNCP_OK) {
        return status;
    }
    const int64_t channels = gdncp_token_mix_channels(&states->mix);

    status = gdncp_plan_conv_halo(layout, rank, config->dtype, channels, channels,
                                  shape->conv_kernel_dim - 1, &states->halo_plan);
    if (status != GDNCP_OK) {
        return status;
    }
    return gdncp_plan_transpose(states->halo_plan, GDNCP_PLAN_ADD, &states->halo_plan_back);
}

static gdncp_status_t create(gdncp_comm_t *comm, const gdncp_layout_t *layout,
                             const gdncp_layer_config_t *config, gdncp_core_strategy_t **strategy_p)
{
    const gdncp_cp_rule_config_t rule_config = gdncp_rule_config_of(config);
    core_states_t *const states = gdncp_memory_alloc(sizeof *states);
    gdncp_status_t status;

    if (states == NULL) {
        status = gdncp_fail_memory("a core across ranks");
    } else {
        *states = (core_states_t){.base = {.ops = &gdncp_core_states}, .config = *config};
        status = prepare(states, layout, gdncp_comm_rank(comm));
    }
    /* Also where this rank could not prepare: the others must not wait for it. */
    status = gdncp_comm_agree(comm, status);
    if (status == GDNCP_OK) {
        status = gdncp_exchange_create_on(comm, states->halo_plan, config->device, &states->halo);
    }
    if (status == GDNCP_OK) {
        status = gdncp_exchange_create_on(comm, states->halo_plan_back, config->device,
                                          &states->halo_back);
    }
    if (status == GDNCP_OK) {
        status = gdncp_rule_states.create(comm, layout, &rule_config, &states->rule);
    }
    if (status != GDNCP_OK) {
        destroy((gdncp_core_strategy_t *)states);
        return status;
    }
    *strategy_p = &states->base;
    return GDNCP_OK;
}

static gdncp_tensor_t view_window(const core_states_t *states, void *data)
{
    const int64_t shape[] = {states->mix.num_sequences, states->mix.conv_kernel_dim - 1,
                             gdncp_token_mix_channels(&states->mix)};

    return gdncp_view_contiguous(states->mix.device, data, states->mix.dtype, 3, shape);
}

static gdncp_token_mix_tensors_t mix_tensors(const core_states_t *states,
                                             const gdncp_cp_core_params_t *params,
                                             const gdncp_cp_core_inputs_t *inputs, void *window)
{
    return (gdncp_token_mix_tensors_t){
        .qkv = inputs->qkv,
        .a = inputs->a,
        .b = inputs->b,
        .window = view_window(states, window),
        .conv_weight = params->conv_weight,
        .conv_bias = params->conv_bias,
        .A_log = params->A_log,
        .dt_bias = params->dt_bias,
    };
}

static gdncp_status_t forward(gdncp_core_strategy_t *strategy, const gdncp_cp_core_params_t *params,
                              const gdncp_cp_core_inputs_t *inputs, void *saved,
                              const gdncp_tensor_t *o)
{
    core_states_t *const states = (core_states_t *)strategy;
    const saved_view_t view = view_saved(states, saved, NULL);
    const gdncp_token_mix_tensors_t tensors = mix_tensors(states, params, inputs, view.window);
    const gdncp_cp_rule_inputs_t rule_inputs = gdncp_mixed_inputs(&states->mix, &view.mixed);
    gdncp_status_t status =
        gdncp_exchange_start(states->halo, inputs->qkv.data, view.window, states->config.stream);

    if (status != GDNCP_OK) {
        return status;
    }
    /* The gate needs no halo, which is on its way meanwhile. */
    status = gdncp_token_mix_gate(&states->mix, &tensors, &view.mixed, states->operator_scratch);
    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_exchange_wait(states->halo);
    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_token_mix_conv(&states->mix, &tensors, &view.mixed, states->operator_scratch);
    if (status != GDNCP_OK) {
        return status;
    }
    return states->rule->ops->forward(states->rule, &rule_inputs, view.rule, o, NULL);
}

static gdncp_status_t backward(gdncp_core_strategy_t *strategy,
                               const gdncp_cp_core_params_t *params,
                               const gdncp_cp_core_inputs_t *inputs, const void *saved,
                               const gdncp_tensor_t *grad_o, const gdncp_cp_core_grads_t *grads)
{
    core_states_t *const states = (core_states_t *)strategy;
    const saved_view_t view = view_saved(states, (void *)saved, NULL);
    const scratch_view_t scratch = view_scratch(states, states->scratch, NULL);
    const gdncp_token_mix_tensors_t tensors = mix_tensors(states, params, inputs, view.window);
    const gdncp_token_mix_tensors_t mix_grads =
        mix_tensors(states, &grads->params, &grads->inputs, scratch.window);
    const gdncp_cp_rule_inputs_t rule_inputs = gdncp_mixed_inputs(&states->mix, &view.mixed);
    const gdncp_cp_rule_inputs_t grad_inputs = gdncp_mixed_inputs(&states->mix, &scratch.mixed);
    const gdncp_cp_rule_grads_t rule_grads = {
        .q = grad_inputs.q,
        .k = grad_inputs.k,
        .v = grad_inputs.v,
        .g = grad_inputs.g,
        .beta = grad_inputs.beta,
    };
    gdncp_status_t status = states->rule->ops->backward(states->rule, &rule_inputs, view.rule,
                                                        grad_o, NULL, &rule_grads);

    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_token_mix_backward(&states->mix, &tensors, &scratch.mixed, &mix_grads,
                                      states->operator_scratch);
    if (status != GDNCP_OK) {
        return status;
    }
    return gdncp_exchange_run(states->halo_back, scratch.window, grads->inputs.qkv.data,
                              states->config.stream);
}

const gdncp_core_strategy_ops_t gdncp_core_states = {
    .create = create,
    .destroy = destroy,
    .check = check,
    .o_dtype = o_dtype,
    .saved_bytes = saved_bytes,
    .forward = forward,
    .backward = backward,
};
