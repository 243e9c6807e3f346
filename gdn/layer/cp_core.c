/* The core of a layer across ranks: checks, the choice of strategy, and the output norm. */
#include "gdncp/layer.h"

#include "core_strategy.h"
#include "error.h"
#include "gdncp/device.h"
#include "gdncp/memory.h"
#include "gdncp/ops.h"
#include "layer_checks.h"
#include "layer_views.h"
#include "op_checks.h"
#include "padding.h"
#include "trace_internal.h"

struct gdncp_cp_core {
    gdncp_layer_config_t config;
    gdncp_padding_t padding;
    int64_t num_tokens; /* local, without padding */
    gdncp_core_strategy_t *strategy;
    gdncp_workspace_t *operator_scratch;
    void *grad_o; /* [T, Hv, dv] inside backward, large enough for float32 */
};

struct gdncp_cp_core_saved {
    gdncp_saved_block_t block;
};

/* Memory between forward and backward. */
typedef struct saved_view {
    void *o; /* [T, Hv, dv] before the norm */
    void *strategy;
} saved_view_t;

static const gdncp_core_strategy_ops_t *const strategies[] = {
    [GDNCP_STRATEGY_STATES] = &gdncp_core_states,
    [GDNCP_STRATEGY_HEADS] = &gdncp_core_heads,
};

static int64_t value_channels(const gdncp_cp_core_t *core)
{
    return core->config.shape.num_value_heads * core->config.shape.value_head_dim;
}

static int64_t conv_channels(const gdncp_cp_core_t *core)
{
    return 2 * core->config.shape.num_key_heads * core->config.shape.key_head_dim +
           value_channels(core);
}

static saved_view_t view_saved(const gdncp_cp_core_t *core, void *saved, size_t *bytes_p)
{
    gdncp_arena_t arena = {.block = saved};
    saved_view_t view;

    view.o = gdncp_arena_elements(&arena, core->strategy->ops->o_dtype(core->strategy),
                                  core->num_tokens * value_channels(core));
    view.strategy =
        gdncp_arena_elements(&arena, GDNCP_I8, core->strategy->ops->saved_bytes(core->strategy));
    if (bytes_p != NULL) {
        *bytes_p = arena.used;
    }
    return view;
}

static gdncp_status_t check_config(gdncp_comm_t *comm, const gdncp_layout_t *layout,
                                   const gdncp_layer_config_t *config)
{
    if (config == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "config: expected a config, got NULL");
    }
    gdncp_cp_rule_config_t rule = gdncp_rule_config_of(config);

    rule.dtype = config->dtype;
    const gdncp_status_t status = gdncp_check_level(comm, layout, &rule);

    if (status != GDNCP_OK) {
        return status;
    }
    if (config->rule_dtype != GDNCP_F32 && config->rule_dtype != config->dtype) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "rule_dtype: expected f32 or %s, got %s",
                          gdncp_dtype_name(config->dtype), gdncp_dtype_name(config->rule_dtype));
    }
    if (config->shape.conv_kernel_dim < 1 || config->shape.conv_kernel_dim > 8) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "conv_kernel_dim: expected 1..8, got %lld",
                          (long long)config->shape.conv_kernel_dim);
    }
    if (!(config->norm_eps >= 0.0f)) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "norm_eps: expected >= 0, got %g",
                          (double)config->norm_eps);
    }
    return GDNCP_OK;
}

/* Bytes of a token in all tensors of backward: the inputs and their gradients, of which all but
 * qkv may be float32, and grad_y, which may be so too. */
static int64_t row_bytes(const gdncp_cp_core_t *core)
{
    const int64_t wide = 3 * value_channels(core) + 4 * core->config.shape.num_value_heads;

    return 2 * conv_channels(core) * (int64_t)gdncp_dtype_size(core->config.dtype) +
           wide * (int64_t)sizeof(float);
}

static gdncp_status_t prepare(gdncp_cp_core_t *core, const gdncp_layout_t *layout, int rank)
{
    const gdncp_layer_config_t *const config = &core->config;
    gdncp_status_t status = gdncp_padding_create(layout, rank, row_bytes(core), config->device,
                                                 config->stream, &core->padding);

    if (status != GDNCP_OK) {
        return status;
    }
    core->num_tokens = core->padding.num_bare_tokens;
    const size_t bytes = (size_t)(core->num_tokens * value_channels(core)) * sizeof(float);

    status = gdncp_device_alloc(config->device, bytes, &core->grad_o);
    return status == GDNCP_OK
               ? gdncp_workspace_create_on(config->device, config->stream, &core->operator_scratch)
               : status;
}

gdncp_status_t gdncp_cp_core_create(gdncp_comm_t *comm, const gdncp_layout_t *layout,
                                    const gdncp_layer_config_t *config, gdncp_cp_core_t **core_p)
{
    gdncp_cp_core_t *core = NULL;
    gdncp_status_t status = check_config(comm, layout, config);

    if (status == GDNCP_OK) {
        core = gdncp_memory_alloc(sizeof *core);
        status = core != NULL ? GDNCP_OK : gdncp_fail_memory("a core across ranks");
    }
    if (status == GDNCP_OK) {
        *core = (gdncp_cp_core_t){.config = *config};
        status = prepare(core, layout, gdncp_comm_rank(comm));
    }
    status = gdncp_comm_agree(comm, status);
    if (status != GDNCP_OK) {
        goto free_core;
    }
    status = strategies[config->strategy]->create(
        comm, gdncp_padding_layout(&core->padding, layout), config, &core->strategy);
    if (status != GDNCP_OK) {
        goto free_core;
    }
    *core_p = core;
    return GDNCP_OK;

free_core:
    gdncp_cp_core_destroy(core);
    return status;
}

void gdncp_cp_core_destroy(gdncp_cp_core_t *core)
{
    if (core != NULL) {
        gdncp_stream_synchronize(core->config.device, core->config.stream);
        if (core->strategy != NULL) {
            core->strategy->ops->destroy(core->strategy);
        }
        gdncp_padding_destroy(&core->padding);
        gdncp_workspace_destroy(core->operator_scratch);
        gdncp_device_free(core->config.device, core->grad_o);
        gdncp_memory_free(core);
    }
}

gdncp_status_t gdncp_cp_core_check(const gdncp_cp_core_t *core)
{
    return core->strategy->ops->check(core->strategy);
}

int64_t gdncp_cp_core_saved_bytes(const gdncp_cp_core_t *core)
{
    size_t bytes;

    view_saved(core, NULL, &bytes);
    return (int64_t)bytes;
}

gdncp_status_t gdncp_cp_core_saved_create(const gdncp_cp_core_t *core,
                                          gdncp_cp_core_saved_t **saved_p)
{
    return gdncp_saved_block_create(core, core->config.device, gdncp_cp_core_saved_bytes(core),
                                    (gdncp_saved_block_t **)saved_p);
}

void gdncp_cp_core_saved_destroy(gdncp_cp_core_saved_t *saved)
{
    gdncp_saved_block_destroy((gdncp_saved_block_t *)saved);
}

/* The core's dtype, or float32 where a tensor that may be is. */
static gdncp_dtype_t own_or_wide(const gdncp_cp_core_t *core, const gdncp_tensor_t *tensor)
{
    return tensor != NULL && tensor->dtype == GDNCP_F32 ? GDNCP_F32 : core->config.dtype;
}

/* Tensors shaped like the inputs: [T, channels]. */
static gdncp_status_t check_like_inputs(const gdncp_cp_core_t *core, const char *const names[4],
                                        gdncp_dtype_t z_dtype, gdncp_dtype_t gate_dtype,
                                        const gdncp_cp_core_inputs_t *inputs)
{
    const struct {
        const gdncp_tensor_t *tensor;
        int64_t channels;
        gdncp_dtype_t dtype;
        gdncp_op_strides_t strides;
    } expected[] = {
        {&inputs->qkv, conv_channels(core), core->config.dtype, GDNCP_OP_CONTIGUOUS},
        {&inputs->z, value_channels(core), z_dtype, GDNCP_OP_TOKEN_STRIDE},
        {&inputs->b, core->config.shape.num_value_heads, gate_dtype, GDNCP_OP_TOKEN_STRIDE},
        {&inputs->a, core->config.shape.num_value_heads, gate_dtype, GDNCP_OP_TOKEN_STRIDE},
    };

    for (int i = 0; i < 4; i++) {
        const int64_t shape[] = {core->padding.num_tokens, expected[i].channels};
        const gdncp_status_t status =
            gdncp_op_check_tensor(names[i], expected[i].tensor, core->config.device,
                                  expected[i].dtype, expected[i].strides, 2, shape);

        if (status != GDNCP_OK) {
            return status;
        }
    }
    return GDNCP_OK;
}

static gdncp_status_t check_like_params(const gdncp_cp_core_t *core, const char *const names[5],
                                        const gdncp_cp_core_params_t *params)
{
    const gdncp_layer_shape_t *const layer = &core->config.shape;
    const int64_t conv[] = {conv_channels(core), layer->conv_kernel_dim};
    const struct {
        const gdncp_tensor_t *tensor;
        int ndim;
        const int64_t *shape;
    } expected[] = {
        {&params->conv_weight, 2, conv},
        {&params->A_log, 1, &layer->num_value_heads},
        {&params->dt_bias, 1, &layer->num_value_heads},
        {&params->norm_weight, 1, &layer->value_head_dim},
    };

    for (int i = 0; i < 4; i++) {
        const gdncp_status_t status =
            gdncp_op_check_tensor(names[i], expected[i].tensor, core->config.device, GDNCP_F32,
                                  GDNCP_OP_CONTIGUOUS, expected[i].ndim, expected[i].shape);

        if (status != GDNCP_OK) {
            return status;
        }
    }
    return gdncp_op_check_optional(names[4], &params->conv_bias, core->config.device, GDNCP_F32,
                                   GDNCP_OP_CONTIGUOUS, 1, conv);
}

static gdncp_status_t check_call(const gdncp_cp_core_t *core, const gdncp_cp_core_params_t *params,
                                 const gdncp_cp_core_inputs_t *inputs,
                                 const gdncp_cp_core_saved_t *saved, const char *y_name,
                                 const gdncp_tensor_t *y)
{
    static const char *const input_names[] = {"qkv", "z", "b", "a"};
    static const char *const param_names[] = {"conv_weight", "A_log", "dt_bias", "norm_weight",
                                              "conv_bias"};
    const int64_t shape[] = {core->padding.num_tokens, value_channels(core)};
    gdncp_status_t status = gdncp_check_saved((const gdncp_saved_block_t *)saved, core);

    if (status == GDNCP_OK) {
        status = check_like_params(core, param_names, params);
    }
    if (status == GDNCP_OK) {
        status = check_like_inputs(core, input_names, own_or_wide(core, &inputs->z),
                                   own_or_wide(core, &inputs->b), inputs);
    }
    if (status == GDNCP_OK) {
        status = gdncp_op_check_tensor(y_name, y, core->config.device, own_or_wide(core, y),
                                       GDNCP_OP_CONTIGUOUS, 2, shape);
    }
    return status;
}

static gdncp_status_t check_grads(const gdncp_cp_core_t *core, const gdncp_cp_core_params_t *params,
                                  const gdncp_cp_core_inputs_t *inputs,
                                  const gdncp_cp_core_grads_t *grads)
{
    static const char *const input_names[] = {"grads.qkv", "grads.z", "grads.b", "grads.a"};
    static const char *const param_names[] = {"grads.conv_weight", "grads.A_log", "grads.dt_bias",
                                              "grads.norm_weight", "grads.conv_bias"};
    const gdncp_status_t status =
        check_like_inputs(core, input_names, inputs->z.dtype, inputs->b.dtype, &grads->inputs);

    if (status != GDNCP_OK) {
        return status;
    }
    if ((params->conv_bias.data == NULL) != (grads->params.conv_bias.data == NULL)) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "grads.conv_bias: expected it to be given exactly where conv_bias is");
    }
    return check_like_params(core, param_names, &grads->params);
}

static gdncp_tensor_t view_heads(const gdncp_cp_core_t *core, gdncp_dtype_t dtype, void *data)
{
    const gdncp_layer_shape_t *const shape = &core->config.shape;

    return gdncp_view_heads(core->config.device, data, dtype, core->num_tokens,
                            shape->num_value_heads, shape->value_head_dim, value_channels(core));
}

/* A caller's [T, Hv dv] tensor by heads. */
static gdncp_tensor_t by_heads(const gdncp_cp_core_t *core, const gdncp_tensor_t *tensor)
{
    gdncp_tensor_t view = view_heads(core, tensor->dtype, tensor->data);

    view.strides[0] = tensor->strides[0];
    return view;
}

/* The rule's output, or its gradient. */
static gdncp_tensor_t view_o(const gdncp_cp_core_t *core, void *data)
{
    return view_heads(core, core->strategy->ops->o_dtype(core->strategy), data);
}

static gdncp_gated_rmsnorm_t norm_of(const gdncp_cp_core_t *core,
                                     const gdncp_cp_core_params_t *params,
                                     const gdncp_cp_core_inputs_t *inputs, void *o)
{
    return (gdncp_gated_rmsnorm_t){
        .x = view_o(core, o),
        .z = by_heads(core, &inputs->z),
        .weight = params->norm_weight,
        .eps = core->config.norm_eps,
    };
}

/* Without padding. */
static gdncp_status_t forward(gdncp_cp_core_t *core, const gdncp_cp_core_params_t *params,
                              const gdncp_cp_core_inputs_t *inputs, gdncp_cp_core_saved_t *saved,
                              const gdncp_tensor_t *y)
{
    gdncp_status_t status;
    const saved_view_t view = view_saved(core, saved->block.memory, NULL);
    const gdncp_tensor_t o = view_o(core, view.o);
    const gdncp_tensor_t y_heads = by_heads(core, y);
    const gdncp_gated_rmsnorm_t norm = norm_of(core, params, inputs, view.o);

    status = core->strategy->ops->forward(core->strategy, params, inputs, view.strategy, &o);
    if (status != GDNCP_OK) {
        return status;
    }
    const int64_t start = gdncp_trace_begin();

    status = gdncp_gated_rmsnorm_forward(&norm, &y_heads, core->operator_scratch);
    gdncp_trace_end("gated norm", start, 0);
    return status;
}

gdncp_status_t gdncp_cp_core_forward(gdncp_cp_core_t *core, const gdncp_cp_core_params_t *params,
                                     const gdncp_cp_core_inputs_t *inputs,
                                     gdncp_cp_core_saved_t *saved, const gdncp_tensor_t *y)
{
    gdncp_cp_core_inputs_t bare;
    gdncp_tensor_t bare_y;
    const gdncp_padded_tensor_t tensors[] = {
        {&inputs->qkv, &bare.qkv, false},
        {&inputs->z, &bare.z, false},
        {&inputs->b, &bare.b, false},
        {&inputs->a, &bare.a, false},
        {y, &bare_y, true},
    };
    gdncp_status_t status = check_call(core, params, inputs, saved, "y", y);

    if (status == GDNCP_OK) {
        status = gdncp_padding_enter(&core->padding, tensors, 5);
    }
    if (status == GDNCP_OK) {
        status = forward(core, params, &bare, saved, &bare_y);
    }
    return status == GDNCP_OK ? gdncp_padding_leave(&core->padding, tensors, 5) : status;
}

/* Without padding. */
static gdncp_status_t backward(gdncp_cp_core_t *core, const gdncp_cp_core_params_t *params,
                               const gdncp_cp_core_inputs_t *inputs, gdncp_cp_core_saved_t *saved,
                               const gdncp_tensor_t *grad_y, const gdncp_cp_core_grads_t *grads)
{
    gdncp_status_t status;
    const saved_view_t view = view_saved(core, saved->block.memory, NULL);
    const gdncp_gated_rmsnorm_t norm = norm_of(core, params, inputs, view.o);
    const gdncp_tensor_t grad_y_heads = by_heads(core, grad_y);
    const gdncp_gated_rmsnorm_grads_t norm_grads = {
        .x = view_o(core, core->grad_o),
        .z = by_heads(core, &grads->inputs.z),
        .weight = grads->params.norm_weight,
    };
    const int64_t start = gdncp_trace_begin();

    status =
        gdncp_gated_rmsnorm_backward(&norm, &grad_y_heads, &norm_grads, core->operator_scratch);
    if (status != GDNCP_OK) {
        return status;
    }
    gdncp_trace_end("gated norm backward", start, 0);
    return core->strategy->ops->backward(core->strategy, params, inputs, view.strategy,
                                         &norm_grads.x, grads);
}

gdncp_status_t gdncp_cp_core_backward(gdncp_cp_core_t *core, const gdncp_cp_core_params_t *params,
                                      const gdncp_cp_core_inputs_t *inputs,
                                      gdncp_cp_core_saved_t *saved, const gdncp_tensor_t *grad_y,
                                      const gdncp_cp_core_grads_t *grads)
{
    gdncp_cp_core_inputs_t bare;
    gdncp_tensor_t bare_grad_y;
    gdncp_cp_core_grads_t bare_grads = {.params = grads->params};
    const gdncp_padded_tensor_t tensors[] = {
        {&inputs->qkv, &bare.qkv, false},
        {&inputs->z, &bare.z, false},
        {&inputs->b, &bare.b, false},
        {&inputs->a, &bare.a, false},
        {grad_y, &bare_grad_y, false},
        {&grads->inputs.qkv, &bare_grads.inputs.qkv, true},
        {&grads->inputs.z, &bare_grads.inputs.z, true},
        {&grads->inputs.b, &bare_grads.inputs.b, true},
        {&grads->inputs.a, &bare_grads.inputs.a, true},
    };
    gdncp_status_t status = check_call(core, params, inputs, saved, "grad_y", grad_y);

    if (status == GDNCP_OK) {
        status = check_grads(core, params, inputs, grads);
    }
    if (status == GDNCP_OK) {
        status = gdncp_padding_enter(&core->padding, tensors, 9);
    }
    if (status == GDNCP_OK) {
        status = backward(core, params, &bare, saved, &bare_grad_y, &bare_grads);
    }
    return status == GDNCP_OK ? gdncp_padding_leave(&core->padding, tensors, 9) : status;
}
