/* The whole layer across ranks: projections around the core. */
#include "gdncp/layer.h"

#include "error.h"
#include "gdncp/device.h"
#include "gdncp/memory.h"
#include "gdncp/ops.h"
#include "layer_checks.h"
#include "layer_views.h"
#include "op_checks.h"
#include "padding.h"
#include "trace_internal.h"

/* The parts of the input projection, in the order of in_proj_weight's rows. */
/* Of the projected channels, in their order: those that travel, and z, b, a side by side. */
enum { PART_QKV, PART_GATES, NUM_PARTS };

struct gdncp_layer {
    gdncp_layer_config_t config;
    gdncp_padding_t padding;
    int64_t num_tokens; /* local, without padding */
    int64_t channels[NUM_PARTS];
    gdncp_cp_core_t *core;
    gdncp_workspace_t *operator_scratch;
    void *scratch; /* gradients inside backward */
};

struct gdncp_layer_saved {
    gdncp_saved_block_t block;
    gdncp_cp_core_saved_t *core;
};

/* Projected channels and the core's output, or their gradients. */
typedef struct activations {
    void *parts[NUM_PARTS]; /* [T, channels of the part] */
    float *y;               /* [T, Hv dv] */
} activations_t;

/* What travels has the layer's dtype. The output gate and y never leave the rank, and the gates are
 * few and decide how states decay: those stay float32. Each rounding to 16 bits would cost more
 * than all the float32 arithmetic. */
static gdncp_dtype_t part_dtype(const gdncp_layer_t *layer, int index)
{
    return index != PART_QKV ? GDNCP_F32 : layer->config.dtype;
}

static int64_t value_channels(const gdncp_layer_t *layer)
{
    return layer->config.shape.num_value_heads * layer->config.shape.value_head_dim;
}

static int64_t projected_channels(const gdncp_layer_t *layer)
{
    int64_t sum = 0;

    for (int i = 0; i < NUM_PARTS; i++) {
        sum += layer->channels[i];
    }
    return sum;
}

static activations_t view_activations(const gdncp_layer_t *layer, void *memory, size_t *bytes_p)
{
    gdncp_arena_t arena = {.block = memory};
    activations_t view;

    for (int i = 0; i < NUM_PARTS; i++) {
        view.parts[i] = gdncp_arena_elements(&arena, part_dtype(layer, i),
                                             layer->num_tokens * layer->channels[i]);
    }
    view.y = gdncp_arena_floats(&arena, layer->num_tokens * value_channels(layer));
    if (bytes_p != NULL) {
        *bytes_p = arena.used;
    }
    return view;
}

static gdncp_status_t prepare(gdncp_layer_t *layer, const gdncp_layer_config_t *config,
                              const gdncp_layout_t *layout, int rank)
{
    const gdncp_layer_shape_t *const shape = &config->shape;
    /* Backward: hidden, grad_output and grad_hidden. */
    const int64_t row_bytes = 3 * shape->hidden_size * (int64_t)gdncp_dtype_size(config->dtype);
    const int64_t values = shape->num_value_heads * shape->value_head_dim;
    gdncp_status_t status;
    size_t bytes;

    *layer = (gdncp_layer_t){
        .config = *config,
        .channels = {2 * shape->num_key_heads * shape->key_head_dim + values,
                     values + 2 * shape->num_value_heads},
    };
    status = gdncp_padding_create(layout, rank, row_bytes, config->device, config->stream,
                                  &layer->padding);
    if (status != GDNCP_OK) {
        return status;
    }
    layer->num_tokens = layer->padding.num_bare_tokens;
    view_activations(layer, NULL, &bytes);
    status = gdncp_workspace_create_on(config->device, config->stream, &layer->operator_scratch);
    return status == GDNCP_OK ? gdncp_device_alloc(config->device, bytes, &layer->scratch) : status;
}

gdncp_status_t gdncp_layer_create(gdncp_comm_t *comm, const gdncp_layout_t *layout,
                                  const gdncp_layer_config_t *config, gdncp_layer_t **layer_p)
{
    gdncp_layer_t *layer = NULL;
    gdncp_status_t status = config != NULL ? gdncp_layer_shape_check(&config->shape)
                                           : gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                                                        "config: expected a config, got NULL");

    if (status == GDNCP_OK && layout == NULL) {
        status = gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "layout: expected a layout, got NULL");
    }
    if (status == GDNCP_OK) {
        layer = gdncp_memory_alloc(sizeof *layer);
        status = layer != NULL ? prepare(layer, config, layout, gdncp_comm_rank(comm))
                               : gdncp_fail_memory("a layer across ranks");
    }
    status = gdncp_comm_agree(comm, status);
    if (status != GDNCP_OK) {
        goto destroy_layer;
    }
    status = gdncp_cp_core_create(comm, gdncp_padding_layout(&layer->padding, layout), config,
                                  &layer->core);
    if (status != GDNCP_OK) {
        goto destroy_layer;
    }
    *layer_p = layer;
    return GDNCP_OK;

destroy_layer:
    gdncp_layer_destroy(layer);
    return status;
}

void gdncp_layer_destroy(gdncp_layer_t *layer)
{
    if (layer != NULL) {
        gdncp_cp_core_destroy(layer->core);
        gdncp_padding_destroy(&layer->padding);
        gdncp_workspace_destroy(layer->operator_scratch);
        gdncp_device_free(layer->config.device, layer->scratch);
        gdncp_memory_free(layer);
    }
}

gdncp_status_t gdncp_layer_check(const gdncp_layer_t *layer)
{
    return gdncp_cp_core_check(layer->core);
}

int64_t gdncp_layer_saved_bytes(const gdncp_layer_t *layer)
{
    size_t bytes;

    view_activations(layer, NULL, &bytes);
    return (int64_t)bytes + gdncp_cp_core_saved_bytes(layer->core);
}

gdncp_status_t gdncp_layer_saved_create(const gdncp_layer_t *layer, gdncp_layer_saved_t **saved_p)
{
    gdncp_layer_saved_t *const saved = gdncp_memory_alloc(sizeof *saved);
    size_t bytes;
    gdncp_status_t status;

    if (saved == NULL) {
        return gdncp_fail_memory("saved activations");
    }
    view_activations(layer, NULL, &bytes);
    *saved = (gdncp_layer_saved_t){.block = {.owner = layer, .device = layer->config.device}};
    status = gdncp_device_alloc(layer->config.device, bytes, &saved->block.memory);
    if (status == GDNCP_OK) {
        status = gdncp_cp_core_saved_create(layer->core, &saved->core);
    }
    if (status != GDNCP_OK) {
        gdncp_layer_saved_destroy(saved);
        return status;
    }
    *saved_p = saved;
    return GDNCP_OK;
}

void gdncp_layer_saved_destroy(gdncp_layer_saved_t *saved)
{
    if (saved != NULL) {
        gdncp_cp_core_saved_destroy(saved->core);
        gdncp_device_free(saved->block.device, saved->block.memory);
        gdncp_memory_free(saved);
    }
}

/* [rows, columns] over contiguous memory. */
static gdncp_tensor_t matrix(const gdncp_layer_t *layer, void *data, gdncp_dtype_t dtype,
                             int64_t rows, int64_t columns)
{
    return gdncp_view_channels(layer->config.device, data, dtype, rows, columns, columns);
}

static gdncp_tensor_t part(const gdncp_layer_t *layer, const activations_t *view, int index)
{
    return matrix(layer, view->parts[index], part_dtype(layer, index), layer->num_tokens,
                  layer->channels[index]);
}

/* Columns of the gates' part. */
static gdncp_tensor_t gate_columns(const gdncp_layer_t *layer, const activations_t *view,
                                   int64_t first, int64_t count)
{
    float *const gates = view->parts[PART_GATES];

    return gdncp_view_channels(layer->config.device, gates + first, GDNCP_F32, layer->num_tokens,
                               count, layer->channels[PART_GATES]);
}

static gdncp_cp_core_inputs_t core_inputs(const gdncp_layer_t *layer, const activations_t *view)
{
    const int64_t values = value_channels(layer);
    const int64_t heads = layer->config.shape.num_value_heads;

    return (gdncp_cp_core_inputs_t){
        .qkv = part(layer, view, PART_QKV),
        .z = gate_columns(layer, view, 0, values),
        .b = gate_columns(layer, view, values, heads),
        .a = gate_columns(layer, view, values + heads, heads),
    };
}

/* Rows of in_proj_weight, or of its gradient, that make one part. */
static gdncp_tensor_t part_weight(const gdncp_layer_t *layer, const gdncp_tensor_t *weight,
                                  int index)
{
    int64_t first = 0;

    for (int i = 0; i < index; i++) {
        first += layer->channels[i];
    }
    const int64_t hidden = layer->config.shape.hidden_size;

    return matrix(layer, gdncp_view_at(weight->data, weight->dtype, first * hidden), weight->dtype,
                  layer->channels[index], hidden);
}

static gdncp_status_t check_projections(const gdncp_layer_t *layer, const char *in_name,
                                        const gdncp_tensor_t *in_proj, const char *out_name,
                                        const gdncp_tensor_t *out_proj, gdncp_dtype_t dtype)
{
    const int64_t hidden = layer->config.shape.hidden_size;
    const int64_t in_shape[] = {projected_channels(layer), hidden};
    const int64_t out_shape[] = {hidden, value_channels(layer)};
    const gdncp_status_t status = gdncp_op_check_tensor(in_name, in_proj, layer->config.device,
                                                        dtype, GDNCP_OP_CONTIGUOUS, 2, in_shape);

    if (status != GDNCP_OK) {
        return status;
    }
    return gdncp_op_check_tensor(out_name, out_proj, layer->config.device, dtype,
                                 GDNCP_OP_CONTIGUOUS, 2, out_shape);
}

static gdncp_status_t check_hidden(const gdncp_layer_t *layer, const char *name,
                                   const gdncp_tensor_t *tensor)
{
    const int64_t shape[] = {layer->padding.num_tokens, layer->config.shape.hidden_size};

    return gdncp_op_check_tensor(name, tensor, layer->config.device, layer->config.dtype,
                                 GDNCP_OP_CONTIGUOUS, 2, shape);
}

static gdncp_status_t check_call(const gdncp_layer_t *layer, const gdncp_layer_params_t *params,
                                 const gdncp_tensor_t *hidden, const gdncp_layer_saved_t *saved)
{
    gdncp_status_t status = gdncp_check_saved((const gdncp_saved_block_t *)saved, layer);

    if (status == GDNCP_OK) {
        status = check_hidden(layer, "hidden", hidden);
    }
    if (status == GDNCP_OK) {
        status =
            check_projections(layer, "in_proj_weight", &params->in_proj_weight, "out_proj_weight",
                              &params->out_proj_weight, layer->config.dtype);
    }
    return status;
}

/* Without padding. */
static gdncp_status_t forward(gdncp_layer_t *layer, const gdncp_layer_params_t *params,
                              const gdncp_tensor_t *hidden, gdncp_layer_saved_t *saved,
                              const gdncp_tensor_t *output)
{
    const activations_t view = view_activations(layer, saved->block.memory, NULL);
    const gdncp_cp_core_inputs_t inputs = core_inputs(layer, &view);
    const gdncp_tensor_t y =
        matrix(layer, view.y, GDNCP_F32, layer->num_tokens, value_channels(layer));
    int64_t start = gdncp_trace_begin();
    gdncp_status_t status;

    for (int i = 0; i < NUM_PARTS; i++) {
        const gdncp_tensor_t weight = part_weight(layer, &params->in_proj_weight, i);
        const gdncp_tensor_t projected = part(layer, &view, i);

        status = gdncp_linear_forward(hidden, &weight, &projected, layer->operator_scratch);
        if (status != GDNCP_OK) {
            return status;
        }
    }
    gdncp_trace_end("in_proj", start, 0);
    status = gdncp_cp_core_forward(layer->core, &params->core, &inputs, saved->core, &y);
    if (status != GDNCP_OK) {
        return status;
    }
    start = gdncp_trace_begin();
    status = gdncp_linear_forward(&y, &params->out_proj_weight, output, layer->operator_scratch);
    gdncp_trace_end("out_proj", start, 0);
    return status;
}

gdncp_status_t gdncp_layer_forward(gdncp_layer_t *layer, const gdncp_layer_params_t *params,
                                   const gdncp_tensor_t *hidden, gdncp_layer_saved_t *saved,
                                   const gdncp_tensor_t *output)
{
    gdncp_tensor_t bare_hidden;
    gdncp_tensor_t bare_output;
    const gdncp_padded_tensor_t tensors[] = {{hidden, &bare_hidden, false},
                                             {output, &bare_output, true}};
    gdncp_status_t status = check_call(layer, params, hidden, saved);

    if (status == GDNCP_OK) {
        status = check_hidden(layer, "output", output);
    }
    if (status == GDNCP_OK) {
        status = gdncp_padding_enter(&layer->padding, tensors, 2);
    }
    if (status == GDNCP_OK) {
        status = forward(layer, params, &bare_hidden, saved, &bare_output);
    }
    return status == GDNCP_OK ? gdncp_padding_leave(&layer->padding, tensors, 2) : status;
}

static gdncp_status_t out_proj_backward(gdncp_layer_t *layer, const gdncp_layer_params_t *params,
                                        const gdncp_tensor_t *y, const gdncp_tensor_t *grad_output,
                                        const gdncp_tensor_t *grad_y,
                                        const gdncp_layer_params_t *grads)
{
    const int64_t start = gdncp_trace_begin();
    gdncp_status_t status = gdncp_linear_backward_data(grad_output, &params->out_proj_weight, false,
                                                       grad_y, layer->operator_scratch);

    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_linear_backward_weight(grad_output, y, &grads->out_proj_weight,
                                          layer->operator_scratch);
    gdncp_trace_end("out_proj backward", start, 0);
    return status;
}

static gdncp_status_t in_proj_backward(gdncp_layer_t *layer, const gdncp_layer_params_t *params,
                                       const gdncp_tensor_t *hidden, const activations_t *grad_view,
                                       const gdncp_tensor_t *grad_hidden,
                                       const gdncp_layer_params_t *grads)
{
    const int64_t start = gdncp_trace_begin();

    /* The widest part last: in 16 bits each addition rounds what is there so far. */
    for (int i = NUM_PARTS - 1; i >= 0; i--) {
        const gdncp_tensor_t weight = part_weight(layer, &params->in_proj_weight, i);
        const gdncp_tensor_t grad_weight = part_weight(layer, &grads->in_proj_weight, i);
        const gdncp_tensor_t grad_part = part(layer, grad_view, i);
        gdncp_status_t status = gdncp_linear_backward_data(&grad_part, &weight, i != NUM_PARTS - 1,
                                                           grad_hidden, layer->operator_scratch);

        if (status != GDNCP_OK) {
            return status;
        }
        status =
            gdncp_linear_backward_weight(&grad_part, hidden, &grad_weight, layer->operator_scratch);
        if (status != GDNCP_OK) {
            return status;
        }
    }
    gdncp_trace_end("in_proj backward", start, 0);
    return GDNCP_OK;
}

/* Without padding. */
static gdncp_status_t backward(gdncp_layer_t *layer, const gdncp_layer_params_t *params,
                               const gdncp_tensor_t *hidden, gdncp_layer_saved_t *saved,
                               const gdncp_tensor_t *grad_output, const gdncp_tensor_t *grad_hidden,
                               const gdncp_layer_params_t *grads)
{
    const activations_t view = view_activations(layer, saved->block.memory, NULL);
    const activations_t grad_view = view_activations(layer, layer->scratch, NULL);
    const gdncp_cp_core_inputs_t inputs = core_inputs(layer, &view);
    const gdncp_cp_core_grads_t core_grads = {.inputs = core_inputs(layer, &grad_view),
                                              .params = grads->core};
    const int64_t values = value_channels(layer);
    const gdncp_tensor_t y = matrix(layer, view.y, GDNCP_F32, layer->num_tokens, values);
    const gdncp_tensor_t grad_y = matrix(layer, grad_view.y, GDNCP_F32, layer->num_tokens, values);
    gdncp_status_t status;

    status = out_proj_backward(layer, params, &y, grad_output, &grad_y, grads);
    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_cp_core_backward(layer->core, &params->core, &inputs, saved->core, &grad_y,
                                    &core_grads);
    if (status != GDNCP_OK) {
        return status;
    }
    return in_proj_backward(layer, params, hidden, &grad_view, grad_hidden, grads);
}

gdncp_status_t gdncp_layer_backward(gdncp_layer_t *layer, const gdncp_layer_params_t *params,
                                    const gdncp_tensor_t *hidden, gdncp_layer_saved_t *saved,
                                    const gdncp_tensor_t *grad_output,
                                    const gdncp_tensor_t *grad_hidden,
                                    const gdncp_layer_params_t *grads)
{
    gdncp_tensor_t bare[3];
    const gdncp_padded_tensor_t tensors[] = {
        {hidden, &bare[0], false}, {grad_output, &bare[1], false}, {grad_hidden, &bare[2], true}};
    gdncp_status_t status = check_call(layer, params, hidden, saved);

    if (status == GDNCP_OK) {
        status = check_hidden(layer, "grad_output", grad_output);
    }
    if (status == GDNCP_OK) {
        status = check_hidden(layer, "grad_hidden", grad_hidden);
    }
    if (status == GDNCP_OK) {
        status = check_projections(layer, "grads.in_proj_weight", &grads->in_proj_weight,
                                   "grads.out_proj_weight", &grads->out_proj_weight, GDNCP_F32);
    }
    if (status == GDNCP_OK) {
        status = gdncp_padding_enter(&layer->padding, tensors, 3);
    }
    if (status == GDNCP_OK) {
        status = backward(layer, params, &bare[0], saved, &bare[1], &bare[2], grads);
    }
    return status == GDNCP_OK ? gdncp_padding_leave(&layer->padding, tensors, 3) : status;
}
