/* A convolution over random packs, its outputs and its reference, shared by its test programs. */
#ifndef GDNCP_TEST_OPS_CONV1D_CASE_H
#define GDNCP_TEST_OPS_CONV1D_CASE_H

#include "conv1d_reference.h"
#include "random.h"
#include "test_ops_check.h"

#define MAX_SEQUENCES 40

typedef struct conv_shape {
    gdncp_dtype_t dtype;
    bool wide; /* y and its gradient are F32 */
    int64_t channels;
    int64_t width;
    int64_t gap; /* elements between tokens */
    bool bias;
    bool window;
    gdncp_activation_t activation;
    const int64_t *cu_seqlens;
    int64_t num_sequences;
} conv_shape_t;

typedef struct conv_case {
    test_arena_t arena;
    conv_shape_t shape;
    gdncp_conv1d_t conv;
    gdncp_tensor_t y, final_window, grad_y;
    gdncp_conv1d_grads_t grads;
    gdncp_conv1d_reference_t reference;
    double *x, *weight, *bias, *window, *upstream;
    gdncp_workspace_t *workspace;
} conv_case_t;

static inline gdncp_dtype_t output_dtype(const conv_shape_t *shape)
{
    return shape->wide ? GDNCP_F32 : shape->dtype;
}

static inline void poison_outputs(conv_case_t *c)
{
    const conv_shape_t *const s = &c->shape;
    const int64_t window[3] = {s->num_sequences, s->width - 1, s->channels};
    const int64_t tokens[2] = {s->cu_seqlens[s->num_sequences], s->channels};

    c->y = test_tensor(&c->arena, output_dtype(s), 2, tokens, 2 * s->gap);
    c->final_window = test_tensor(&c->arena, s->dtype, 3, window, 0);
    c->grads = (gdncp_conv1d_grads_t){
        .x = test_tensor(&c->arena, s->dtype, 2, tokens, s->gap),
        .weight = test_tensor(&c->arena, GDNCP_F32, 2, c->conv.weight.shape, 0),
        .window = test_tensor(&c->arena, s->dtype, 3, window, 0),
    };
    if (s->bias) {
        c->grads.bias = test_tensor(&c->arena, GDNCP_F32, 1, &s->channels, 0);
    }
}

static inline conv_case_t start_case(test_random_t *random, const conv_shape_t *shape)
{
    const int64_t tokens[2] = {shape->cu_seqlens[shape->num_sequences], shape->channels};
    const int64_t weight[2] = {shape->channels, shape->width};
    const int64_t window[3] = {shape->num_sequences, shape->width - 1, shape->channels};
    conv_case_t c = {.shape = *shape};

    c.conv = (gdncp_conv1d_t){
        .x = test_tensor(&c.arena, shape->dtype, 2, tokens, shape->gap),
        .weight = test_tensor(&c.arena, GDNCP_F32, 2, weight, 0),
        .cu_seqlens = shape->cu_seqlens,
        .num_sequences = shape->num_sequences,
        .activation = shape->activation,
    };
    c.x = test_tensor_fill(&c.arena, random, 1.0, 0.0, &c.conv.x);
    c.weight = test_tensor_fill(&c.arena, random, 1.0, 0.0, &c.conv.weight);
    if (shape->bias) {
        c.conv.bias = test_tensor(&c.arena, GDNCP_F32, 1, weight, 0);
        c.bias = test_tensor_fill(&c.arena, random, 1.0, 0.0, &c.conv.bias);
    }
    if (shape->window) {
        c.conv.window = test_tensor(&c.arena, shape->dtype, 3, window, 0);
        c.window = test_tensor_fill(&c.arena, random, 1.0, 0.0, &c.conv.window);
    }
    c.grad_y = test_tensor(&c.arena, output_dtype(shape), 2, tokens, 3 * shape->gap);
    c.upstream = test_tensor_fill(&c.arena, random, 1.0, 0.0, &c.grad_y);
    c.reference = (gdncp_conv1d_reference_t){.channels = shape->channels,
                                             .width = shape->width,
                                             .x = c.x,
                                             .weight = c.weight,
                                             .bias = c.bias,
                                             .window = c.window,
                                             .cu_seqlens = shape->cu_seqlens,
                                             .num_sequences = shape->num_sequences,
                                             .silu = shape->activation == GDNCP_ACTIVATION_SILU};
    poison_outputs(&c);
    return c;
}

static inline gdncp_status_t run_forward(void *context)
{
    const conv_case_t *const c = context;

    return gdncp_conv1d_forward(&c->conv, &c->y, &c->final_window, NULL);
}

static inline gdncp_status_t run_backward(void *context)
{
    const conv_case_t *const c = context;

    return gdncp_conv1d_backward(&c->conv, &c->grad_y, &c->grads, c->workspace);
}

static inline int64_t num_tokens_of(const conv_case_t *c)
{
    return c->shape.cu_seqlens[c->shape.num_sequences];
}

static inline int64_t window_elements(const conv_case_t *c)
{
    return c->shape.num_sequences * (c->shape.width - 1) * c->shape.channels;
}

static inline void check_against_reference(void *context)
{
    conv_case_t *const c = context;
    double *const tokens = test_doubles(&c->arena, num_tokens_of(c) * c->shape.channels);
    double *const windows = test_doubles(&c->arena, window_elements(c));
    double *const grad_weight = test_doubles(&c->arena, c->shape.channels * c->shape.width);
    double *const grad_bias = test_doubles(&c->arena, c->shape.channels);

    assert_int_equal(run_forward(c), GDNCP_OK);
    gdncp_conv1d_reference_forward(&c->reference, tokens, windows);
    assert_tensor_close("y", &c->y, tokens, output_tolerance(&c->y));
    assert_tensor_close("final_window", &c->final_window, windows, 0.0);

    assert_int_equal(run_backward(c), GDNCP_OK);
    gdncp_conv1d_reference_backward(&c->reference, c->upstream, tokens, grad_weight, grad_bias,
                                    windows);
    assert_tensor_close("grads.x", &c->grads.x, tokens, grad_tolerance(&c->grads.x));
    assert_tensor_close("grads.window", &c->grads.window, windows,
                        grad_tolerance(&c->grads.window));
    assert_tensor_close("grads.weight", &c->grads.weight, grad_weight, GDNCP_TOLERANCE_F32);
    if (c->shape.bias) {
        assert_tensor_close("grads.bias", &c->grads.bias, grad_bias, GDNCP_TOLERANCE_F32);
    }
}

static inline tested_op_t op_of(conv_case_t *c)
{
    return (tested_op_t){.context = c,
                         .forward = run_forward,
                         .backward = run_backward,
                         .check = check_against_reference,
                         .workspace = &c->workspace,
                         .outputs = {
                             {"y", &c->y},
                             {"final_window", &c->final_window},
                             {"grads.x", &c->grads.x},
                             {"grads.weight", &c->grads.weight},
                             {"grads.bias", &c->grads.bias},
                             {"grads.window", &c->grads.window},
                         }};
}

/* Lengths 0, 1, 2, 3, about the width, and long enough for several blocks of tokens. */
static inline int64_t random_pack(test_random_t *random, int64_t *cu_seqlens)
{
    const int64_t num_sequences = test_random_int(random, 1, 8);

    cu_seqlens[0] = 0;
    for (int64_t i = 0; i < num_sequences; i++) {
        const int64_t kind = test_random_int(random, 0, 9);
        const int64_t length = kind < 4   ? kind
                               : kind < 7 ? test_random_int(random, 0, 9)
                               : kind < 9 ? test_random_int(random, 0, 100)
                                          : test_random_int(random, 100, 700);

        cu_seqlens[i + 1] = cu_seqlens[i] + length;
    }
    return num_sequences;
}

#endif
