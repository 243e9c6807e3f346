/*
 * Strategy "heads" of the core: all tokens of a rank's heads come together before the convolution,
 * and the rule's output goes back. The output gate z never moves: the norm is applied at home.
 */
#include "core_strategy.h"

#include "error.h"
#include "gdncp/device.h"
#include "gdncp/memory.h"
#include "head_exchange.h"
#include "head_params.h"
#include "joined_gates.h"
#include "layer_views.h"
#include "move_rows.h"
#include "op_checks.h"
#include "token_mix.h"
#include "trace_internal.h"

typedef struct core_heads {
    gdncp_core_strategy_t base;
    gdncp_layer_config_t config;
    int64_t local_tokens;
    gdncp_token_mix_t mix; /* my heads, all tokens */
    gdncp_head_range_t keys;
    gdncp_head_range_t values;
    gdncp_device_list_t cu_seqlens; /* [sequences + 1] */
    gdncp_head_exchange_t qkv;
    gdncp_head_exchange_t gates; /* b and a side by side, float32 for any dtype of the layer */
    gdncp_head_exchange_t o;
    gdncp_workspace_t *operator_scratch;
    gdncp_head_params_t *params;
    void *scratch;
} core_heads_t;

/* Memory between forward and backward. */
typedef struct saved_view {
    void *qkv;    /* [all tokens, my channels] */
    float *gates; /* [all tokens, 2 my value heads] b, a */
    gdncp_mixed_t mixed;
} saved_view_t;

typedef struct scratch_view {
    float *local_gates; /* [local tokens, 2 Hv] b, a */
    void *o;            /* [all tokens, my value heads, dv], or its gradient: what travels */
    void *rule_o;       /* the same in the rule's dtype, where that is another */
    saved_view_t grads;
} scratch_view_t;

static saved_view_t take_saved(const core_heads_t *heads, gdncp_arena_t *arena)
{
    const gdncp_token_mix_t *const mix = &heads->mix;
    saved_view_t view;

    view.qkv = gdncp_arena_elements(arena, mix->dtype, mix->tokens * gdncp_token_mix_channels(mix));
    view.gates = gdncp_arena_floats(arena, 2 * mix->tokens * mix->value_heads);
    view.mixed = gdncp_mixed_take(mix, arena);
    return view;
}

static saved_view_t view_saved(const core_heads_t *heads, void *saved)
{
    gdncp_arena_t arena = {.block = saved};

    return take_saved(heads, &arena);
}

/* Elements of o on all tokens of my heads. */
static int64_t num_my_values(const core_heads_t *heads)
{
    return heads->mix.tokens * heads->mix.value_heads * heads->mix.value_head_dim;
}

static scratch_view_t view_scratch(const core_heads_t *heads, void *scratch, size_t *bytes_p)
{
    const gdncp_token_mix_t *const mix = &heads->mix;
    gdncp_arena_t arena = {.block = scratch};
    scratch_view_t view;

    view.local_gates =
        gdncp_arena_floats(&arena, 2 * heads->local_tokens * heads->config.shape.num_value_heads);
    view.o = gdncp_arena_elements(&arena, mix->dtype, num_my_values(heads));
    view.rule_o = mix->dtype == mix->rule_dtype
                      ? view.o
                      : gdncp_arena_elements(&arena, mix->rule_dtype, num_my_values(heads));
    view.grads = take_saved(heads, &arena);
    if (bytes_p != NULL) {
        *bytes_p = arena.used;
    }
    return view;
}

static int64_t saved_bytes(const gdncp_core_strategy_t *strategy)
{
    gdncp_arena_t arena = {.block = NULL};

    take_saved((const core_heads_t *)strategy, &arena);
    return (int64_t)arena.used;
}

static void destroy(gdncp_core_strategy_t *strategy)
{
    core_heads_t *const heads = (core_heads_t *)strategy;

    if (heads == NULL) {
        return;
    }
    gdncp_head_exchange_destroy(&heads->qkv);
    gdncp_head_exchange_destroy(&heads->gates);
    gdncp_head_exchange_destroy(&heads->o);
    gdncp_workspace_destroy(heads->operator_scratch);
    gdncp_device_list_destroy(&heads->cu_seqlens);
    gdncp_head_params_destroy(heads->params);
    gdncp_device_free(heads->config.device, heads->scratch);
    gdncp_memory_free(heads);
}

static gdncp_status_t check(const gdncp_core_strategy_t *strategy)
{
    const core_heads_t *const heads = (const core_heads_t *)strategy;
    const gdncp_head_exchange_t *const exchanges[] = {&heads->qkv, &heads->gates, &heads->o};
    gdncp_status_t status = GDNCP_OK;

    for (int i = 0; i < 3 && status == GDNCP_OK; i++) {
        status = gdncp_head_exchange_check(exchanges[i]);
    }
    return status;
}

static gdncp_status_t allocate(core_heads_t *heads, int num_ranks, int rank)
{
    const gdncp_layer_config_t *const config = &heads->config;
    size_t scratch_bytes;
    gdncp_status_t status;

    view_scratch(heads, NULL, &scratch_bytes);
    status = gdncp_device_alloc(config->device, scratch_bytes, &heads->scratch);
    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_head_params_create(config, num_ranks, rank, &heads->params);
    if (status != GDNCP_OK) {
        return status;
    }
    return gdncp_workspace_create_on(config->device, config->stream, &heads->operator_scratch);
}

static gdncp_dtype_t o_dtype(const gdncp_core_strategy_t *strategy)
{
    return ((const core_heads_t *)strategy)->config.dtype;
}

static gdncp_status_t prepare(core_heads_t *heads, const gdncp_layout_t *layout, int rank)
{
    const gdncp_layer_shape_t *const shape = &heads->config.shape;
    const int ranks = gdncp_layout_num_ranks(layout);
    const int64_t sequences = gdncp_layout_num_sequences(layout);
    gdncp_status_t status = gdncp_head_range(GDNCP_KEY_HEADS, shape->num_key_heads,
                                             shape->num_value_heads, ranks, rank, &heads->keys);

    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_head_range(GDNCP_VALUE_HEADS, shape->num_key_heads, shape->num_value_heads,
                              ranks, rank, &heads->values);
    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_device_list_copy(heads->config.device, gdncp_layout_cu_seqlens(layout),
                                    sequences + 1, heads->config.stream, &heads->cu_seqlens);
    if (status != GDNCP_OK) {
        return status;
    }
    heads->mix = (gdncp_token_mix_t){
        .tokens = gdncp_layout_num_tokens(layout),
        .key_heads = heads->keys.count,
        .value_heads = heads->values.count,
        .key_head_dim = shape->key_head_dim,
        .value_head_dim = shape->value_head_dim,
        .conv_kernel_dim = shape->conv_kernel_dim,
        .dtype = heads->config.dtype,
        .rule_dtype = heads->config.rule_dtype,
        .allow_neg_eigval = heads->config.allow_neg_eigval,
        .cu_seqlens = &heads->cu_seqlens,
        .num_sequences = sequences,
        .device = heads->config.device,
    };
    return allocate(heads, ranks, rank);
}

static gdncp_status_t connect(core_heads_t *heads, gdncp_comm_t *comm, const gdncp_layout_t *layout)
{
    const gdncp_layer_shape_t *const shape = &heads->config.shape;
    const gdncp_dtype_t dtype = heads->config.dtype;
    const int64_t key_channels = shape->num_key_heads * shape->key_head_dim;
    const int64_t value_channels = shape->num_value_heads * shape->value_head_dim;
    const gdncp_section_t qkv[] = {
        {GDNCP_KEY_HEADS, shape->key_head_dim, 0},
        {GDNCP_KEY_HEADS, shape->key_head_dim, key_channels},
        {GDNCP_VALUE_HEADS, shape->value_head_dim, 2 * key_channels},
    };
    const gdncp_section_t gates[] = {
        {GDNCP_VALUE_HEADS, 1, 0},
        {GDNCP_VALUE_HEADS, 1, shape->num_value_heads},
    };
    const gdncp_section_t o = {GDNCP_VALUE_HEADS, shape->value_head_dim, 0};
    gdncp_status_t status = gdncp_head_exchange_create(
        comm, layout, GDNCP_TO_HEADS, dtype, shape->num_key_heads, shape->num_value_heads, qkv, 3,
        2 * key_channels + value_channels, heads->config.device, &heads->qkv);

    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_head_exchange_create(
        comm, layout, GDNCP_TO_HEADS, GDNCP_F32, shape->num_key_heads, shape->num_value_heads,
        gates, 2, 2 * shape->num_value_heads, heads->config.device, &heads->gates);
    if (status != GDNCP_OK) {
        return status;
    }
    return gdncp_head_exchange_create(comm, layout, GDNCP_FROM_HEADS, dtype, shape->num_key_heads,
                                      shape->num_value_heads, &o, 1, value_channels,
                                      heads->config.device, &heads->o);
}

static gdncp_status_t create(gdncp_comm_t *comm, const gdncp_layout_t *layout,
                             const gdncp_layer_config_t *config, gdncp_core_strategy_t **strategy_p)
{
    const int rank = gdncp_comm_rank(comm);
    core_heads_t *const heads = gdncp_memory_alloc(sizeof *heads);
    gdncp_status_t status;

    if (heads == NULL) {
        status = gdncp_fail_memory("a core across ranks");
    } else {
        *heads = (core_heads_t){
            .base = {.ops = &gdncp_core_heads},
            .config = *config,
            .local_tokens = gdncp_layout_rank_tokens(layout, rank),
        };
        status = prepare(heads, layout, rank);
    }
    /* Also where this rank could not prepare: the others must not wait for it. */
    status = gdncp_comm_agree(comm, status);
    if (status == GDNCP_OK) {
        status = connect(heads, comm, layout);
    }
    if (status != GDNCP_OK) {
        destroy((gdncp_core_strategy_t *)heads);
        return status;
    }
    *strategy_p = &heads->base;
    return GDNCP_OK;
}

static gdncp_tensor_t view_slice(const core_heads_t *heads, const gdncp_tensor_t *all)
{
    return gdncp_view_vector(heads->config.device, (float *)all->data + heads->values.first,
                             GDNCP_F32, heads->values.count);
}

/* The mix's tensors over [all tokens, my channels] buffers. */
static gdncp_token_mix_tensors_t mix_tensors(const core_heads_t *heads, const saved_view_t *view,
                                             const gdncp_cp_core_params_t *params,
                                             float *conv_weight, float *conv_bias)
{
    const gdncp_token_mix_t *const mix = &heads->mix;
    const int64_t channels = gdncp_token_mix_channels(mix);
    const int64_t weight_shape[] = {channels, mix->conv_kernel_dim};
    void *const a = gdncp_view_at(view->gates, GDNCP_F32, mix->value_heads);
    gdncp_token_mix_tensors_t tensors = {
        .qkv = gdncp_view_channels(mix->device, view->qkv, mix->dtype, mix->tokens, channels,
                                   channels),
        .b = gdncp_view_channels(mix->device, view->gates, GDNCP_F32, mix->tokens, mix->value_heads,
                                 2 * mix->value_heads),
        .a = gdncp_view_channels(mix->device, a, GDNCP_F32, mix->tokens, mix->value_heads,
                                 2 * mix->value_heads),
        .conv_weight = gdncp_view_contiguous(mix->device, conv_weight, GDNCP_F32, 2, weight_shape),
        .A_log = view_slice(heads, &params->A_log),
        .dt_bias = view_slice(heads, &params->dt_bias),
    };

    if (!gdncp_op_is_absent(&params->conv_bias)) {
        tensors.conv_bias = gdncp_view_vector(mix->device, conv_bias, GDNCP_F32, channels);
    }
    return tensors;
}

static gdncp_delta_rule_t local_rule(const core_heads_t *heads, const gdncp_mixed_t *mixed)
{
    const gdncp_layer_shape_t *const shape = &heads->config.shape;
    const int64_t group = shape->num_value_heads / shape->num_key_heads;
    const gdncp_cp_rule_inputs_t inputs = gdncp_mixed_inputs(&heads->mix, mixed);

    return (gdncp_delta_rule_t){
        .q = inputs.q,
        .k = inputs.k,
        .v = inputs.v,
        .g = inputs.g,
        .beta = inputs.beta,
        .cu_seqlens = heads->cu_seqlens.host,
        .cu_seqlens_cuda = heads->cu_seqlens.cuda,
        .num_sequences = heads->mix.num_sequences,
        .group_size = group,
        .group_phase = heads->values.first - heads->keys.first * group,
        .qk_l2norm = true,
    };
}

static gdncp_tensor_t view_o(const core_heads_t *heads, void *data)
{
    const gdncp_token_mix_t *const mix = &heads->mix;

    return gdncp_view_heads(mix->device, data, mix->rule_dtype, mix->tokens, mix->value_heads,
                            mix->value_head_dim, mix->value_heads * mix->value_head_dim);
}

/* Between o as it travels and o as the rule has it, which is the same memory where both have one
 * dtype. */
static gdncp_status_t convert_o(const core_heads_t *heads, const scratch_view_t *scratch,
                                bool for_rule)
{
    const gdncp_token_mix_t *const mix = &heads->mix;
    const int64_t width = mix->value_heads * mix->value_head_dim;
    const gdncp_tensor_t own =
        gdncp_view_channels(mix->device, scratch->o, mix->dtype, mix->tokens, width, width);
    const gdncp_tensor_t of_rule = gdncp_view_channels(mix->device, scratch->rule_o,
                                                       mix->rule_dtype, mix->tokens, width, width);

    const gdncp_row_moves_t moves = {
        .src = for_rule ? own : of_rule, .dst = for_rule ? of_rule : own, .count = mix->tokens};

    return mix->dtype == mix->rule_dtype ? GDNCP_OK
                                         : gdncp_move_rows(&moves, heads->operator_scratch);
}

/* Two exchanges in flight at once. */
static gdncp_status_t exchange_both(const core_heads_t *heads, gdncp_exchange_t *first,
                                    const void *first_in, void *first_out, gdncp_exchange_t *second,
                                    const void *second_in, void *second_out)
{
    const gdncp_stream_t stream = heads->config.stream;
    gdncp_status_t status = gdncp_exchange_start(first, first_in, first_out, stream);

    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_exchange_start(second, second_in, second_out, stream);
    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_exchange_wait(first);
    if (status != GDNCP_OK) {
        return status;
    }
    return gdncp_exchange_wait(second);
}

static gdncp_status_t compute_forward(core_heads_t *heads, const gdncp_cp_core_params_t *params,
                                      const saved_view_t *view, const scratch_view_t *scratch)
{
    const gdncp_token_mix_tensors_t tensors =
        mix_tensors(heads, view, params, heads->params->conv_weight, heads->params->conv_bias);
    const gdncp_delta_rule_t rule = local_rule(heads, &view->mixed);
    const gdncp_tensor_t my_o = view_o(heads, scratch->rule_o);
    gdncp_status_t status = gdncp_head_params_gather(heads->params, params);

    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_token_mix_gate(&heads->mix, &tensors, &view->mixed, heads->operator_scratch);
    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_token_mix_conv(&heads->mix, &tensors, &view->mixed, heads->operator_scratch);
    if (status != GDNCP_OK) {
        return status;
    }
    const int64_t start = gdncp_trace_begin();

    status = gdncp_delta_rule_forward(&rule, &my_o, NULL, heads->operator_scratch);
    if (status != GDNCP_OK) {
        return status;
    }
    gdncp_trace_end("delta rule", start, 0);
    return convert_o(heads, scratch, false);
}

static gdncp_status_t forward(gdncp_core_strategy_t *strategy, const gdncp_cp_core_params_t *params,
                              const gdncp_cp_core_inputs_t *inputs, void *saved,
                              const gdncp_tensor_t *o)
{
    core_heads_t *const heads = (core_heads_t *)strategy;
    const saved_view_t view = view_saved(heads, saved);
    const scratch_view_t scratch = view_scratch(heads, heads->scratch, NULL);
    gdncp_status_t status =
        gdncp_gates_join(&inputs->b, &inputs->a, scratch.local_gates, heads->operator_scratch);

    if (status != GDNCP_OK) {
        return status;
    }
    status = exchange_both(heads, heads->qkv.forward, inputs->qkv.data, view.qkv,
                           heads->gates.forward, scratch.local_gates, view.gates);
    if (status != GDNCP_OK) {
        return status;
    }
    if (heads->values.count > 0) {
        status = compute_forward(heads, params, &view, &scratch);
        if (status != GDNCP_OK) {
            return status;
        }
    }
    return gdncp_exchange_run(heads->o.forward, scratch.o, o->data, heads->config.stream);
}

static gdncp_status_t compute_backward(core_heads_t *heads, const gdncp_cp_core_params_t *params,
                                       const saved_view_t *view, const scratch_view_t *scratch,
                                       const gdncp_cp_core_params_t *grads)
{
    const gdncp_token_mix_tensors_t tensors =
        mix_tensors(heads, view, params, heads->params->conv_weight, heads->params->conv_bias);
    const gdncp_token_mix_tensors_t mix_grads =
        mix_tensors(heads, &scratch->grads, grads, heads->params->grad_conv_weight,
                    heads->params->grad_conv_bias);
    const gdncp_delta_rule_t rule = local_rule(heads, &view->mixed);
    const gdncp_cp_rule_inputs_t grad_inputs =
        gdncp_mixed_inputs(&heads->mix, &scratch->grads.mixed);
    const gdncp_tensor_t my_grad_o = view_o(heads, scratch->rule_o);
    const gdncp_delta_rule_grads_t rule_grads = {
        .q = grad_inputs.q,
        .k = grad_inputs.k,
        .v = grad_inputs.v,
        .g = grad_inputs.g,
        .beta = grad_inputs.beta,
    };
    const int64_t start = gdncp_trace_begin();
    gdncp_status_t status = convert_o(heads, scratch, true);

    if (status == GDNCP_OK) {
        status = gdncp_head_params_gather(heads->params, params);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    status =
        gdncp_delta_rule_backward(&rule, &my_grad_o, NULL, &rule_grads, heads->operator_scratch);
    if (status != GDNCP_OK) {
        return status;
    }
    gdncp_trace_end("delta rule backward", start, 0);
    return gdncp_token_mix_backward(&heads->mix, &tensors, &scratch->grads.mixed, &mix_grads,
                                    heads->operator_scratch);
}

static gdncp_status_t backward(gdncp_core_strategy_t *strategy,
                               const gdncp_cp_core_params_t *params,
                               const gdncp_cp_core_inputs_t *inputs, const void *saved,
                               const gdncp_tensor_t *grad_o, const gdncp_cp_core_grads_t *grads)
{
    core_heads_t *const heads = (core_heads_t *)strategy;
    const saved_view_t view = view_saved(heads, (void *)saved);
    const scratch_view_t scratch = view_scratch(heads, heads->scratch, NULL);
    gdncp_status_t status =
        gdncp_exchange_run(heads->o.backward, grad_o->data, scratch.o, heads->config.stream);

    (void)inputs; /* all that is needed of them was gathered by forward */
    if (status != GDNCP_OK) {
        return status;
    }
    if (heads->values.count > 0) {
        status = compute_backward(heads, params, &view, &scratch, &grads->params);
        if (status != GDNCP_OK) {
            return status;
        }
    }
    status = gdncp_head_params_scatter(heads->params, &grads->params);
    if (status != GDNCP_OK) {
        return status;
    }
    status = exchange_both(heads, heads->qkv.backward, scratch.grads.qkv, grads->inputs.qkv.data,
                           heads->gates.backward, scratch.grads.gates, scratch.local_gates);
    if (status != GDNCP_OK) {
        return status;
    }
    return gdncp_gates_part(scratch.local_gates, &grads->inputs.b, &grads->inputs.a,
                            heads->operator_scratch);
}

const gdncp_core_strategy_ops_t gdncp_core_heads = {
    .create = create,
    .destroy = destroy,
    .check = check,
    .o_dtype = o_dtype,
    .saved_bytes = saved_bytes,
    .forward = forward,
    .backward = backward,
};
