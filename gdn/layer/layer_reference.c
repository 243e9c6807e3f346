/* A whole layer in float64, put together from the operators' references. */
#include "layer_reference.h"

#include "conv1d_reference.h"
#include "delta_rule_reference.h"
#include "error.h"
#include "gate_reference.h"
#include "gated_rmsnorm_reference.h"
#include "gdncp/memory.h"

/* Sizes that follow from a layer's shape. */
typedef struct widths {
    int64_t tokens;
    int64_t hidden;
    int64_t keys;      /* Kd */
    int64_t values;    /* Vd */
    int64_t heads;     /* Hv */
    int64_t conv;      /* 2 Kd + Vd */
    int64_t projected; /* conv + Vd + 2 Hv: query, key, value, z, beta, alpha */
} widths_t;

/* What lies between hidden states and output, or the gradients of it. */
typedef struct activations {
    double *projected; /* [T, projected] */
    double *unmixed;   /* [T, conv]: before the convolution */
    double *mixed;     /* [T, conv] */
    double *q;         /* [T, Kd] */
    double *k;         /* [T, Kd] */
    double *v;         /* [T, Vd] */
    double *z;         /* [T, Vd] */
    double *b;         /* [T, Hv] */
    double *a;         /* [T, Hv] */
    double *g;         /* [T, Hv] */
    double *beta;      /* [T, Hv] */
    double *o;         /* [T, Vd] */
    double *normed;    /* [T, Vd] */
} activations_t;

static widths_t widths_of(const gdncp_layer_reference_t *layer)
{
    const gdncp_layer_shape_t *const shape = &layer->shape;
    widths_t w = {.tokens = layer->cu_seqlens[layer->num_sequences],
                  .hidden = shape->hidden_size,
                  .keys = shape->num_key_heads * shape->key_head_dim,
                  .values = shape->num_value_heads * shape->value_head_dim,
                  .heads = shape->num_value_heads};

    w.conv = 2 * w.keys + w.values;
    w.projected = w.conv + w.values + 2 * w.heads;
    return w;
}

/* All in one block, which the caller frees through `projected`. */
static gdncp_status_t alloc_activations(const widths_t *w, activations_t *activations)
{
    const int64_t widths[] = {w->projected, w->conv,   w->conv,  w->keys,  w->keys,
                              w->values,    w->values, w->heads, w->heads, w->heads,
                              w->heads,     w->values, w->values};
    double **const arrays[] = {&activations->projected, &activations->unmixed, &activations->mixed,
                               &activations->q,         &activations->k,       &activations->v,
                               &activations->z,         &activations->b,       &activations->a,
                               &activations->g,         &activations->beta,    &activations->o,
                               &activations->normed};
    int64_t elements = 0;
    double *next;

    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++) {
        elements += w->tokens * widths[i];
    }
    next = gdncp_memory_alloc((size_t)elements * sizeof *next);
    if (next == NULL) {
        return gdncp_fail_memory("the activations of the layer's reference");
    }
    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++) {
        *arrays[i] = next;
        next += w->tokens * widths[i];
    }
    return GDNCP_OK;
}

/* out [T, columns] = rows [T, inner] weight [columns, inner]' */
static void project(const double *rows, const double *weight, int64_t tokens, int64_t inner,
                    int64_t columns, double *out)
{
    for (int64_t t = 0; t < tokens; t++) {
        for (int64_t c = 0; c < columns; c++) {
            double sum = 0.0;

            for (int64_t i = 0; i < inner; i++) {
                sum += rows[t * inner + i] * weight[c * inner + i];
            }
            out[t * columns + c] = sum;
        }
    }
}

/* grad_rows [T, inner] and grad_weight [columns, inner] of project(), from grad_out [T, columns].
 */
static void project_backward(const double *rows, const double *weight, const double *grad_out,
                             int64_t tokens, int64_t inner, int64_t columns, double *grad_rows,
                             double *grad_weight)
{
    for (int64_t i = 0; i < tokens * inner; i++) {
        grad_rows[i] = 0.0;
    }
    for (int64_t i = 0; i < columns * inner; i++) {
        grad_weight[i] = 0.0;
    }
    for (int64_t t = 0; t < tokens; t++) {
        for (int64_t c = 0; c < columns; c++) {
            const double grad = grad_out[t * columns + c];

            for (int64_t i = 0; i < inner; i++) {
                grad_rows[t * inner + i] += grad * weight[c * inner + i];
                grad_weight[c * inner + i] += grad * rows[t * inner + i];
            }
        }
    }
}

/* part [T, columns] <- columns [first, first + columns) of whole [T, width] */
static void take_columns(const double *whole, int64_t tokens, int64_t width, int64_t first,
                         int64_t columns, double *part)
{
    for (int64_t t = 0; t < tokens; t++) {
        for (int64_t c = 0; c < columns; c++) {
            part[t * columns + c] = whole[t * width + first + c];
        }
    }
}

static void put_columns(const double *part, int64_t tokens, int64_t width, int64_t first,
                        int64_t columns, double *whole)
{
    for (int64_t t = 0; t < tokens; t++) {
        for (int64_t c = 0; c < columns; c++) {
            whole[t * width + first + c] = part[t * columns + c];
        }
    }
}

static gdncp_conv1d_reference_t conv_of(const gdncp_layer_reference_t *layer, const widths_t *w,
                                        const activations_t *activations)
{
    return (gdncp_conv1d_reference_t){
        .channels = w->conv,
        .width = layer->shape.conv_kernel_dim,
        .x = activations->unmixed,
        .weight = layer->parameters[GDNCP_PARAMETER_CONV_WEIGHT],
        .cu_seqlens = layer->cu_seqlens,
        .num_sequences = layer->num_sequences,
        .silu = true,
    };
}

static gdncp_gate_reference_t gate_of(const gdncp_layer_reference_t *layer, const widths_t *w,
                                      const activations_t *activations)
{
    return (gdncp_gate_reference_t){
        .num_tokens = w->tokens,
        .num_heads = w->heads,
        .a = activations->a,
        .b = activations->b,
        .A_log = layer->parameters[GDNCP_PARAMETER_A_LOG],
        .dt_bias = layer->parameters[GDNCP_PARAMETER_DT_BIAS],
        .allow_neg_eigval = layer->allow_neg_eigval,
    };
}

static gdncp_delta_rule_reference_t rule_of(const gdncp_layer_reference_t *layer,
                                            const activations_t *activations)
{
    return (gdncp_delta_rule_reference_t){
        .q = activations->q,
        .k = activations->k,
        .v = activations->v,
        .g = activations->g,
        .beta = activations->beta,
        .cu_seqlens = layer->cu_seqlens,
        .num_sequences = layer->num_sequences,
        .num_key_heads = layer->shape.num_key_heads,
        .num_value_heads = layer->shape.num_value_heads,
        .key_dim = layer->shape.key_head_dim,
        .value_dim = layer->shape.value_head_dim,
        .qk_l2norm = true,
    };
}

static gdncp_gated_rmsnorm_reference_t norm_of(const gdncp_layer_reference_t *layer,
                                               const widths_t *w, const activations_t *activations)
{
    return (gdncp_gated_rmsnorm_reference_t){
        .num_rows = w->tokens * w->heads,
        .d = layer->shape.value_head_dim,
        .x = activations->o,
        .z = activations->z,
        .weight = layer->parameters[GDNCP_PARAMETER_NORM_WEIGHT],
        .eps = layer->norm_eps,
    };
}

/* From hidden states to what the output projection reads. */
static gdncp_status_t compute_activations(const gdncp_layer_reference_t *layer, const widths_t *w,
                                          const activations_t *x)
{
    const gdncp_conv1d_reference_t conv = conv_of(layer, w, x);
    const gdncp_gate_reference_t gate = gate_of(layer, w, x);
    const gdncp_delta_rule_reference_t rule = rule_of(layer, x);
    const gdncp_gated_rmsnorm_reference_t norm = norm_of(layer, w, x);
    const int64_t first_b = w->conv + w->values;
    gdncp_status_t status;

    project(layer->hidden, layer->parameters[GDNCP_PARAMETER_IN_PROJ_WEIGHT], w->tokens, w->hidden,
            w->projected, x->projected);
    take_columns(x->projected, w->tokens, w->projected, 0, w->conv, x->unmixed);
    take_columns(x->projected, w->tokens, w->projected, w->conv, w->values, x->z);
    take_columns(x->projected, w->tokens, w->projected, first_b, w->heads, x->b);
    take_columns(x->projected, w->tokens, w->projected, first_b + w->heads, w->heads, x->a);
    gdncp_conv1d_reference_forward(&conv, x->mixed, NULL);
    take_columns(x->mixed, w->tokens, w->conv, 0, w->keys, x->q);
    take_columns(x->mixed, w->tokens, w->conv, w->keys, w->keys, x->k);
    take_columns(x->mixed, w->tokens, w->conv, 2 * w->keys, w->values, x->v);
    gdncp_gate_reference_forward(&gate, x->g, x->beta);
    status = gdncp_delta_rule_reference_forward(&rule, x->o, NULL);
    if (status == GDNCP_OK) {
        gdncp_gated_rmsnorm_reference_forward(&norm, x->normed);
    }
    return status;
}

/* From grad->normed to grad->projected, and the gradients of the parameters between. */
static gdncp_status_t compute_gradients(const gdncp_layer_reference_t *layer, const widths_t *w,
                                        const activations_t *x, const activations_t *grad,
                                        double *const *grads)
{
    const gdncp_conv1d_reference_t conv = conv_of(layer, w, x);
    const gdncp_gate_reference_t gate = gate_of(layer, w, x);
    const gdncp_delta_rule_reference_t rule = rule_of(layer, x);
    const gdncp_gated_rmsnorm_reference_t norm = norm_of(layer, w, x);
    const gdncp_delta_rule_reference_grads_t rule_grads = {
        .q = grad->q, .k = grad->k, .v = grad->v, .g = grad->g, .beta = grad->beta};
    const int64_t first_b = w->conv + w->values;
    gdncp_status_t status;

    gdncp_gated_rmsnorm_reference_backward(&norm, grad->normed, grad->o, grad->z,
                                           grads[GDNCP_PARAMETER_NORM_WEIGHT]);
    status = gdncp_delta_rule_reference_backward(&rule, grad->o, NULL, &rule_grads);
    if (status != GDNCP_OK) {
        return status;
    }
    gdncp_gate_reference_backward(&gate, grad->g, grad->beta, grad->a, grad->b,
                                  grads[GDNCP_PARAMETER_A_LOG], grads[GDNCP_PARAMETER_DT_BIAS]);
    put_columns(grad->q, w->tokens, w->conv, 0, w->keys, grad->mixed);
    put_columns(grad->k, w->tokens, w->conv, w->keys, w->keys, grad->mixed);
    put_columns(grad->v, w->tokens, w->conv, 2 * w->keys, w->values, grad->mixed);
    gdncp_conv1d_reference_backward(&conv, grad->mixed, grad->unmixed,
                                    grads[GDNCP_PARAMETER_CONV_WEIGHT], NULL, NULL);
    put_columns(grad->unmixed, w->tokens, w->projected, 0, w->conv, grad->projected);
    put_columns(grad->z, w->tokens, w->projected, w->conv, w->values, grad->projected);
    put_columns(grad->b, w->tokens, w->projected, first_b, w->heads, grad->projected);
    put_columns(grad->a, w->tokens, w->projected, first_b + w->heads, w->heads, grad->projected);
    return GDNCP_OK;
}

gdncp_status_t gdncp_layer_reference_forward(const gdncp_layer_reference_t *layer, double *output)
{
    const widths_t w = widths_of(layer);
    activations_t x;
    gdncp_status_t status = alloc_activations(&w, &x);

    if (status != GDNCP_OK) {
        return status;
    }
    status = compute_activations(layer, &w, &x);
    if (status == GDNCP_OK) {
        project(x.normed, layer->parameters[GDNCP_PARAMETER_OUT_PROJ_WEIGHT], w.tokens, w.values,
                w.hidden, output);
    }
    gdncp_memory_free(x.projected);
    return status;
}

gdncp_status_t gdncp_layer_reference_backward(const gdncp_layer_reference_t *layer,
                                              const double *grad_output, double *grad_hidden,
                                              double *const *grads)
{
    const widths_t w = widths_of(layer);
    activations_t x;
    activations_t grad;
    gdncp_status_t status = alloc_activations(&w, &x);

    if (status != GDNCP_OK) {
        return status;
    }
    status = alloc_activations(&w, &grad);
    if (status != GDNCP_OK) {
        goto free_activations;
    }
    status = compute_activations(layer, &w, &x);
    if (status != GDNCP_OK) {
        goto free_gradients;
    }
    project_backward(x.normed, layer->parameters[GDNCP_PARAMETER_OUT_PROJ_WEIGHT], grad_output,
                     w.tokens, w.values, w.hidden, grad.normed,
                     grads[GDNCP_PARAMETER_OUT_PROJ_WEIGHT]);
    status = compute_gradients(layer, &w, &x, &grad, grads);
    if (status != GDNCP_OK) {
        goto free_gradients;
    }
    project_backward(layer->hidden, layer->parameters[GDNCP_PARAMETER_IN_PROJ_WEIGHT],
                     grad.projected, w.tokens, w.hidden, w.projected, grad_hidden,
                     grads[GDNCP_PARAMETER_IN_PROJ_WEIGHT]);
free_gradients:
    gdncp_memory_free(grad.projected);
free_activations:
    gdncp_memory_free(x.projected);
    return status;
}
