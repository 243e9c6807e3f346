#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "conv1d_reference.h"
#include "gdncp/ops.h"
#include "op_case.h"
#include "random.h"
#include "threads.h"
#include "tolerances.h"

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

static gdncp_dtype_t output_dtype(const conv_shape_t *shape)
{
    return shape->wide ? GDNCP_F32 : shape->dtype;
}

static void poison_outputs(conv_case_t *c)
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

static conv_case_t start_case(test_random_t *random, const conv_shape_t *shape)
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

static gdncp_status_t run_forward(void *context)
{
    const conv_case_t *const c = context;

    return gdncp_conv1d_forward(&c->conv, &c->y, &c->final_window);
}

static gdncp_status_t run_backward(void *context)
{
    const conv_case_t *const c = context;

    return gdncp_conv1d_backward(&c->conv, &c->grad_y, &c->grads, c->workspace);
}

static int64_t num_tokens_of(const conv_case_t *c)
{
    return c->shape.cu_seqlens[c->shape.num_sequences];
}

static int64_t window_elements(const conv_case_t *c)
{
    return c->shape.num_sequences * (c->shape.width - 1) * c->shape.channels;
}

static double reference_loss(void *context)
{
    const conv_case_t *const c = context;
    const int64_t count = num_tokens_of(c) * c->shape.channels;
    test_arena_t arena = {0};
    double *const y = test_doubles(&arena, count);
    double loss = 0.0;

    gdncp_conv1d_reference_forward(&c->reference, y, NULL);
    for (int64_t i = 0; i < count; i++) {
        loss += c->upstream[i] * y[i];
    }
    test_arena_free(&arena);
    return loss;
}

static void reference_gradients_are_finite_differences(void **state)
{
    static const int64_t cu_seqlens[] = {0, 4, 4, 5, 7, 10};
    test_random_t random = test_random_start(__func__, 1);

    (void)state;
    for (int64_t width = 1; width <= 5; width++) {
        const conv_shape_t shape = {.dtype = GDNCP_F32,
                                    .channels = 3,
                                    .width = width,
                                    .bias = true,
                                    .window = true,
                                    .activation = width % 2 == 0 ? GDNCP_ACTIVATION_SILU
                                                                 : GDNCP_ACTIVATION_NONE,
                                    .cu_seqlens = cu_seqlens,
                                    .num_sequences = 5};
        conv_case_t c = start_case(&random, &shape);
        double *const grad_x = test_doubles(&c.arena, 30);
        double *const grad_weight = test_doubles(&c.arena, 3 * width);
        double *const grad_bias = test_doubles(&c.arena, 3);
        double *const grad_window = test_doubles(&c.arena, window_elements(&c));

        gdncp_conv1d_reference_backward(&c.reference, c.upstream, grad_x, grad_weight, grad_bias,
                                        grad_window);
        assert_gradient("x", reference_loss, &c, c.x, grad_x, 30);
        assert_gradient("weight", reference_loss, &c, c.weight, grad_weight, 3 * width);
        assert_gradient("bias", reference_loss, &c, c.bias, grad_bias, 3);
        assert_gradient("window", reference_loss, &c, c.window, grad_window, window_elements(&c));
        test_arena_free(&c.arena);
    }
}

static void check_against_reference(conv_case_t *c)
{
    const bool f32 = c->shape.dtype == GDNCP_F32;
    const double tolerance =
        f32 || c->shape.wide ? GDNCP_TOLERANCE_F32 : GDNCP_TOLERANCE_BF16_OUTPUT;
    const double grad_tolerance = f32 ? GDNCP_TOLERANCE_F32 : GDNCP_TOLERANCE_BF16_GRADIENT;
    double *const tokens = test_doubles(&c->arena, num_tokens_of(c) * c->shape.channels);
    double *const windows = test_doubles(&c->arena, window_elements(c));
    double *const grad_weight = test_doubles(&c->arena, c->shape.channels * c->shape.width);
    double *const grad_bias = test_doubles(&c->arena, c->shape.channels);

    assert_int_equal(run_forward(c), GDNCP_OK);
    gdncp_conv1d_reference_forward(&c->reference, tokens, windows);
    assert_tensor_close("y", &c->y, tokens, tolerance);
    assert_tensor_close("final_window", &c->final_window, windows, 0.0);

    assert_int_equal(run_backward(c), GDNCP_OK);
    gdncp_conv1d_reference_backward(&c->reference, c->upstream, tokens, grad_weight, grad_bias,
                                    windows);
    assert_tensor_close("grads.x", &c->grads.x, tokens, grad_tolerance);
    assert_tensor_close("grads.window", &c->grads.window, windows, grad_tolerance);
    assert_tensor_close("grads.weight", &c->grads.weight, grad_weight, GDNCP_TOLERANCE_F32);
    if (c->shape.bias) {
        assert_tensor_close("grads.bias", &c->grads.bias, grad_bias, GDNCP_TOLERANCE_F32);
    }
}

/* Lengths 0, 1, 2, 3, about the width, and long enough for several blocks of tokens. */
static int64_t random_pack(test_random_t *random, int64_t *cu_seqlens)
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

static void results_match_the_reference(void **state)
{
    static const gdncp_dtype_t dtypes[] = {GDNCP_F32, GDNCP_F32, GDNCP_BF16, GDNCP_F16};
    test_random_t random = test_random_start(__func__, 2);

    (void)state;
    for (int i = 0; i < 160; i++) {
        int64_t cu_seqlens[MAX_SEQUENCES];
        conv_shape_t shape = {
            .dtype = dtypes[i % 4],
            .wide = test_random_int(&random, 0, 2) == 0,
            .channels =
                i % 16 == 0 ? test_random_int(&random, 250, 600) : test_random_int(&random, 1, 40),
            .width = 1 + i % 8,
            .gap = test_random_int(&random, 0, 3),
            .bias = test_random_int(&random, 0, 1) == 1,
            .window = test_random_int(&random, 0, 1) == 1,
            .activation =
                test_random_int(&random, 0, 2) == 0 ? GDNCP_ACTIVATION_NONE : GDNCP_ACTIVATION_SILU,
            .cu_seqlens = cu_seqlens,
        };

        shape.num_sequences = random_pack(&random, cu_seqlens);
        conv_case_t c = start_case(&random, &shape);

        check_against_reference(&c);
        test_arena_free(&c.arena);
    }
}

static void empty_packs_are_good(void **state)
{
    static const int64_t cu_seqlens[] = {0, 0, 0};
    test_random_t random = test_random_start(__func__, 3);
    conv_shape_t shape = {.dtype = GDNCP_BF16,
                          .channels = 5,
                          .width = 4,
                          .bias = true,
                          .window = true,
                          .activation = GDNCP_ACTIVATION_SILU,
                          .cu_seqlens = cu_seqlens};

    (void)state;
    for (shape.num_sequences = 0; shape.num_sequences <= 2; shape.num_sequences += 2) {
        conv_case_t c = start_case(&random, &shape);

        check_against_reference(&c);
        test_arena_free(&c.arena);
    }
}

static void windows_may_be_left_out(void **state)
{
    static const int64_t cu_seqlens[] = {0, 3, 20};
    test_random_t random = test_random_start(__func__, 4);
    const conv_shape_t shape = {.dtype = GDNCP_F32,
                                .channels = 5,
                                .width = 4,
                                .window = true,
                                .cu_seqlens = cu_seqlens,
                                .num_sequences = 2};
    conv_case_t with = start_case(&random, &shape);
    conv_case_t without = with;

    (void)state;
    without.arena = (test_arena_t){0};
    poison_outputs(&without);
    without.final_window.data = NULL;
    without.grads.window.data = NULL;
    assert_int_equal(run_forward(&with), GDNCP_OK);
    assert_int_equal(run_backward(&with), GDNCP_OK);
    assert_int_equal(run_forward(&without), GDNCP_OK);
    assert_int_equal(run_backward(&without), GDNCP_OK);
    assert_tensor_bits_equal("y", &without.y, &with.y);
    assert_tensor_bits_equal("grads.x", &without.grads.x, &with.grads.x);
    assert_tensor_bits_equal("grads.weight", &without.grads.weight, &with.grads.weight);
    assert_int_equal(gdncp_conv1d_forward(&without.conv, &without.y, NULL), GDNCP_OK);
    test_arena_free(&without.arena);
    test_arena_free(&with.arena);
}

/* Row w of the window of a segment: the token at begin - (W-1) + w of its sequence. */
static void copy_window(const conv_case_t *whole, int64_t sequence, int64_t begin,
                        const gdncp_tensor_t *window, int64_t segment)
{
    const int64_t rows = whole->shape.width - 1;
    const int64_t channels = whole->shape.channels;
    const size_t bytes = (size_t)channels * sizeof(float);

    for (int64_t w = 0; w < rows; w++) {
        const int64_t position = begin - rows + w;
        const float *const source =
            position >= 0
                ? (const float *)whole->conv.x.data +
                      (whole->shape.cu_seqlens[sequence] + position) * whole->conv.x.strides[0]
                : (const float *)whole->conv.window.data +
                      (sequence * rows + rows + position) * channels;

        memcpy((float *)window->data + (segment * rows + w) * channels, source, bytes);
    }
}

/* The same tokens, each sequence cut at random into segments with windows. */
static void cut(test_random_t *random, const conv_case_t *whole, int64_t *cu_segments,
                conv_case_t *segments)
{
    const int64_t width = whole->shape.width;
    int64_t num_segments = 0;

    *segments = *whole;
    segments->arena = (test_arena_t){0};
    const int64_t shape[3] = {MAX_SEQUENCES, width - 1, whole->shape.channels};

    segments->conv.window = test_tensor(&segments->arena, GDNCP_F32, 3, shape, 0);
    cu_segments[0] = 0;
    for (int64_t n = 0; n < whole->shape.num_sequences; n++) {
        const int64_t first = whole->shape.cu_seqlens[n];
        const int64_t length = whole->shape.cu_seqlens[n + 1] - first;
        int64_t begin = 0;

        for (int64_t left = test_random_int(random, 1, 4); left > 0; left--) {
            const int64_t end = left == 1 ? length : test_random_int(random, begin, length);

            copy_window(whole, n, begin, &segments->conv.window, num_segments);
            cu_segments[++num_segments] = first + end;
            begin = end;
        }
    }
    segments->conv.window.shape[0] = num_segments;
    segments->conv.cu_seqlens = cu_segments;
    segments->conv.num_sequences = num_segments;
    segments->shape.cu_seqlens = cu_segments;
    segments->shape.num_sequences = num_segments;
    poison_outputs(segments);
}

/* Send the gradients of the windows home and compare with the gradient of the whole. */
static void check_segment_grads(const conv_case_t *whole, const conv_case_t *segments)
{
    const int64_t rows = whole->shape.width - 1;
    const int64_t channels = whole->shape.channels;
    const int64_t *const cu_segments = segments->shape.cu_seqlens;
    test_arena_t arena = {0};
    double *const expected = test_doubles(&arena, num_tokens_of(whole) * channels);
    double *const grad_weight = test_doubles(&arena, channels * (rows + 1));
    float *const grad_x = segments->grads.x.data;
    int64_t sequence = 0;

    for (int64_t s = 0; s < segments->shape.num_sequences; s++) {
        while (whole->shape.cu_seqlens[sequence + 1] <= cu_segments[s] &&
               sequence + 1 < whole->shape.num_sequences) {
            sequence++;
        }
        for (int64_t w = 0; w < rows; w++) {
            const int64_t token = cu_segments[s] - rows + w;

            for (int64_t c = 0; token >= whole->shape.cu_seqlens[sequence] && c < channels; c++) {
                grad_x[token * segments->grads.x.strides[0] + c] +=
                    ((const float *)segments->grads.window.data)[(s * rows + w) * channels + c];
            }
        }
    }
    gdncp_conv1d_reference_backward(&whole->reference, whole->upstream, expected, grad_weight, NULL,
                                    NULL);
    assert_tensor_close("grads.x of segments", &segments->grads.x, expected, GDNCP_TOLERANCE_F32);
    assert_tensor_close("grads.weight of segments", &segments->grads.weight, grad_weight,
                        GDNCP_TOLERANCE_F32);
    test_arena_free(&arena);
}

static void segments_with_windows_are_the_whole_sequence(void **state)
{
    test_random_t random = test_random_start(__func__, 5);

    (void)state;
    for (int i = 0; i < 60; i++) {
        int64_t cu_seqlens[MAX_SEQUENCES];
        int64_t cu_segments[MAX_SEQUENCES + 1];
        conv_shape_t shape = {.dtype = GDNCP_F32,
                              .channels = test_random_int(&random, 1, 300),
                              .width = 1 + i % 8,
                              .gap = test_random_int(&random, 0, 3),
                              .window = true,
                              .activation = GDNCP_ACTIVATION_SILU,
                              .cu_seqlens = cu_seqlens};

        shape.num_sequences = random_pack(&random, cu_seqlens);
        conv_case_t whole = start_case(&random, &shape);
        conv_case_t segments;

        cut(&random, &whole, cu_segments, &segments);
        assert_int_equal(run_forward(&whole), GDNCP_OK);
        assert_int_equal(run_forward(&segments), GDNCP_OK);
        assert_tensor_bits_equal("y", &segments.y, &whole.y);
        assert_int_equal(run_backward(&segments), GDNCP_OK);
        check_segment_grads(&whole, &segments);
        test_arena_free(&segments.arena);
        test_arena_free(&whole.arena);
    }
}

/* Tokens [begin, end) of a case of one sequence, by themselves. */
static gdncp_conv1d_t part_of(const gdncp_conv1d_t *conv, int64_t begin, const int64_t *cu_part,
                              const gdncp_tensor_t *window)
{
    gdncp_conv1d_t part = *conv;

    part.x.data = (uint16_t *)conv->x.data + begin * conv->x.strides[0];
    part.x.shape[0] = cu_part[1];
    part.cu_seqlens = cu_part;
    part.window = *window;
    return part;
}

static void a_final_window_feeds_the_next_segment(void **state)
{
    static const int64_t cu_seqlens[] = {0, 150};
    test_random_t random = test_random_start(__func__, 6);

    (void)state;
    for (int64_t width = 2; width <= 8; width++) {
        const conv_shape_t shape = {.dtype = GDNCP_BF16,
                                    .channels = 37,
                                    .width = width,
                                    .gap = 1,
                                    .window = true,
                                    .activation = GDNCP_ACTIVATION_SILU,
                                    .cu_seqlens = cu_seqlens,
                                    .num_sequences = 1};
        conv_case_t c = start_case(&random, &shape);
        gdncp_tensor_t window = c.conv.window;
        int64_t begin = 0;

        assert_int_equal(run_forward(&c), GDNCP_OK);
        while (begin < 150) {
            /* Short ones too, whose final window is part of their own window. */
            const int64_t left = 150 - begin;
            const int64_t length = test_random_int(&random, 0, left < 9 ? left : 9);
            const int64_t cu_part[2] = {0, length};
            const gdncp_conv1d_t part = part_of(&c.conv, begin, cu_part, &window);
            const gdncp_tensor_t final_window =
                test_tensor(&c.arena, GDNCP_BF16, 3, window.shape, 0);
            const gdncp_tensor_t y = test_tensor(&c.arena, GDNCP_BF16, 2, part.x.shape, 0);
            gdncp_tensor_t expected = c.y;

            expected.data = (uint16_t *)c.y.data + begin * c.y.strides[0];
            expected.shape[0] = length;
            assert_int_equal(gdncp_conv1d_forward(&part, &y, &final_window), GDNCP_OK);
            assert_tensor_bits_equal("y", &y, &expected);
            window = final_window;
            begin += length;
        }
        assert_tensor_bits_equal("final_window", &window, &c.final_window);
        test_arena_free(&c.arena);
    }
}

static void a_changed_sequence_leaves_the_others_alone(void **state)
{
    static const int64_t cu_seqlens[] = {0, 90, 200, 260};
    test_random_t random = test_random_start(__func__, 7);
    const conv_shape_t shape = {.dtype = GDNCP_F32,
                                .channels = 20,
                                .width = 4,
                                .activation = GDNCP_ACTIVATION_SILU,
                                .cu_seqlens = cu_seqlens,
                                .num_sequences = 3};
    conv_case_t c = start_case(&random, &shape);
    conv_case_t changed = c;

    (void)state;
    assert_int_equal(run_forward(&c), GDNCP_OK);
    assert_int_equal(run_backward(&c), GDNCP_OK);
    changed.arena = (test_arena_t){0};
    poison_outputs(&changed);
    test_random_fill(&random, (float *)c.conv.x.data + 90 * 20, 110 * 20);
    test_random_fill(&random, (float *)c.grad_y.data + 90 * 20, 110 * 20);
    assert_int_equal(run_forward(&changed), GDNCP_OK);
    assert_int_equal(run_backward(&changed), GDNCP_OK);
    for (int64_t t = 0; t < 260; t++) {
        const bool same = t < 90 || t >= 200;
        const size_t bytes = 20 * sizeof(float);

        assert_int_equal(
            memcmp((float *)changed.y.data + t * 20, (float *)c.y.data + t * 20, bytes) == 0, same);
        assert_int_equal(memcmp((float *)changed.grads.x.data + t * 20,
                                (float *)c.grads.x.data + t * 20, bytes) == 0,
                         same);
    }
    test_arena_free(&changed.arena);
    test_arena_free(&c.arena);
}

static void threads_do_not_change_bits(void **state)
{
    static const int64_t cu_seqlens[] = {0, 3, 2000, 5000};
    test_random_t random = test_random_start(__func__, 8);
    const conv_shape_t shape = {.dtype = GDNCP_F32,
                                .channels = 300,
                                .width = 4,
                                .bias = true,
                                .activation = GDNCP_ACTIVATION_SILU,
                                .cu_seqlens = cu_seqlens,
                                .num_sequences = 3};
    conv_case_t one = start_case(&random, &shape);
    conv_case_t many = one;

    (void)state;
    test_set_num_threads(1);
    assert_int_equal(run_forward(&one), GDNCP_OK);
    assert_int_equal(run_backward(&one), GDNCP_OK);
    for (int num_threads = 2; num_threads <= 5; num_threads += 3) {
        many.arena = (test_arena_t){0};
        poison_outputs(&many);
        test_set_num_threads(num_threads);
        assert_int_equal(run_forward(&many), GDNCP_OK);
        assert_int_equal(run_backward(&many), GDNCP_OK);
        assert_tensor_bits_equal("y", &many.y, &one.y);
        assert_tensor_bits_equal("grads.x", &many.grads.x, &one.grads.x);
        assert_tensor_bits_equal("grads.window", &many.grads.window, &one.grads.window);
        assert_tensor_bits_equal("grads.weight", &many.grads.weight, &one.grads.weight);
        assert_tensor_bits_equal("grads.bias", &many.grads.bias, &one.grads.bias);
        test_arena_free(&many.arena);
    }
    test_arena_free(&one.arena);
}

static void a_workspace_is_reused(void **state)
{
    static const int64_t cu_seqlens[] = {0, 0, 200};
    test_random_t random = test_random_start(__func__, 11);
    conv_shape_t shape = {.dtype = GDNCP_F32,
                          .channels = 20,
                          .width = 4,
                          .bias = true,
                          .cu_seqlens = cu_seqlens,
                          .num_sequences = 1};
    conv_case_t empty = start_case(&random, &shape);
    gdncp_memory_usage_t usage = {0};

    (void)state;
    shape.num_sequences = 2;
    conv_case_t c = start_case(&random, &shape);
    const gdncp_conv1d_grads_t without = c.grads;

    assert_int_equal(run_backward(&c), GDNCP_OK);
    assert_int_equal(gdncp_workspace_create(&c.workspace), GDNCP_OK);
    empty.workspace = c.workspace;
    check_against_reference(&empty);
    check_against_reference(&c);
    poison_outputs(&c);
    gdncp_memory_track(&usage);
    assert_int_equal(run_forward(&c), GDNCP_OK);
    assert_int_equal(run_backward(&c), GDNCP_OK);
    gdncp_memory_track(NULL);
    assert_int_equal(usage.num_allocations, 0);
    assert_tensor_bits_equal("grads.x", &c.grads.x, &without.x);
    assert_tensor_bits_equal("grads.weight", &c.grads.weight, &without.weight);
    assert_tensor_bits_equal("grads.bias", &c.grads.bias, &without.bias);
    gdncp_workspace_destroy(c.workspace);
    test_arena_free(&c.arena);
    test_arena_free(&empty.arena);
}

static conv_case_t start_error_case(test_random_t *random, int64_t *cu_seqlens)
{
    const conv_shape_t shape = {.dtype = GDNCP_BF16,
                                .channels = 3,
                                .width = 4,
                                .gap = 1,
                                .bias = true,
                                .window = true,
                                .activation = GDNCP_ACTIVATION_SILU,
                                .cu_seqlens = cu_seqlens,
                                .num_sequences = 2};

    memcpy(cu_seqlens, (const int64_t[]){0, 2, 5}, 3 * sizeof *cu_seqlens);
    return start_case(random, &shape);
}

static void tensors_are_checked(void **state)
{
    test_random_t random = test_random_start(__func__, 9);
    int64_t cu_seqlens[3];
    conv_case_t c = start_error_case(&random, cu_seqlens);
    const test_argument_t inputs[] = {
        {.name = "x", .tensor = &c.conv.x, .defines_shape = true},
        {.name = "weight", .tensor = &c.conv.weight, .contiguous = true},
        {.name = "bias", .tensor = &c.conv.bias, .contiguous = true, .optional = true},
        {.name = "window", .tensor = &c.conv.window, .contiguous = true, .optional = true},
    };
    const test_argument_t forward[] = {
        {.name = "y", .tensor = &c.y},
        {.name = "final_window", .tensor = &c.final_window, .contiguous = true, .optional = true},
    };
    const test_argument_t backward[] = {
        {.name = "grad_y", .tensor = &c.grad_y},
        {.name = "grads.x", .tensor = &c.grads.x},
        {.name = "grads.weight", .tensor = &c.grads.weight, .contiguous = true},
        {.name = "grads.bias", .tensor = &c.grads.bias, .contiguous = true, .optional = true},
        {.name = "grads.window", .tensor = &c.grads.window, .contiguous = true, .optional = true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof inputs / sizeof inputs[0]; i++) {
        test_argument_errors(&inputs[i], run_forward, &c);
        test_argument_errors(&inputs[i], run_backward, &c);
    }
    for (size_t i = 0; i < sizeof forward / sizeof forward[0]; i++) {
        test_argument_errors(&forward[i], run_forward, &c);
    }
    for (size_t i = 0; i < sizeof backward / sizeof backward[0]; i++) {
        test_argument_errors(&backward[i], run_backward, &c);
    }
    test_arena_free(&c.arena);
}

/* Forward and backward both name it, and write nothing. */
static void check_both_name(conv_case_t *c, const char *name)
{
    assert_argument_error(run_forward(c), GDNCP_ERR_INVALID_ARGUMENT, name);
    assert_argument_error(run_backward(c), GDNCP_ERR_INVALID_ARGUMENT, name);
    assert_tensor_untouched("y", &c->y);
    assert_tensor_untouched("final_window", &c->final_window);
    assert_tensor_untouched("grads.x", &c->grads.x);
    assert_tensor_untouched("grads.weight", &c->grads.weight);
}

static void other_arguments_are_checked(void **state)
{
    test_random_t random = test_random_start(__func__, 10);
    int64_t cu_seqlens[3];
    conv_case_t c = start_error_case(&random, cu_seqlens);
    const gdncp_conv1d_t good = c.conv;
    const gdncp_tensor_t grad_bias = c.grads.bias;

    (void)state;
    for (int64_t width = 0; width <= 9; width += 9) {
        const int64_t shape[2] = {3, width};

        c.conv.weight = test_tensor(&c.arena, GDNCP_F32, 2, shape, 0);
        check_both_name(&c, "weight");
    }
    c.conv = good;
    c.conv.activation = (gdncp_activation_t)2;
    check_both_name(&c, "activation");
    c.conv = good;
    c.conv.cu_seqlens = NULL;
    check_both_name(&c, "cu_seqlens");
    c.conv = good;
    c.conv.num_sequences = -1;
    check_both_name(&c, "num_sequences");
    c.conv = good;
    for (int i = 0; i < 3; i++) {
        const int64_t saved = cu_seqlens[i];

        cu_seqlens[i] = 7;
        check_both_name(&c, "cu_seqlens");
        cu_seqlens[i] = saved;
    }
    c.grads.bias.data = NULL;
    assert_argument_error(run_backward(&c), GDNCP_ERR_INVALID_ARGUMENT, "grads.bias");
    c.grads.bias = grad_bias;
    c.conv.bias.data = NULL;
    assert_argument_error(run_backward(&c), GDNCP_ERR_INVALID_ARGUMENT, "grads.bias");
    assert_argument_error(gdncp_conv1d_forward(NULL, &c.y, NULL), GDNCP_ERR_INVALID_ARGUMENT,
                          "conv");
    assert_argument_error(gdncp_conv1d_forward(&good, NULL, NULL), GDNCP_ERR_INVALID_ARGUMENT, "y");
    assert_argument_error(gdncp_conv1d_backward(&good, &c.grad_y, NULL, NULL),
                          GDNCP_ERR_INVALID_ARGUMENT, "grads");
    test_arena_free(&c.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_gradients_are_finite_differences),
        cmocka_unit_test(results_match_the_reference),
        cmocka_unit_test(empty_packs_are_good),
        cmocka_unit_test(windows_may_be_left_out),
        cmocka_unit_test(segments_with_windows_are_the_whole_sequence),
        cmocka_unit_test(a_final_window_feeds_the_next_segment),
        cmocka_unit_test(a_changed_sequence_leaves_the_others_alone),
        cmocka_unit_test(threads_do_not_change_bits),
        cmocka_unit_test(a_workspace_is_reused),
        cmocka_unit_test(tensors_are_checked),
        cmocka_unit_test(other_arguments_are_checked),
    };

    return cmocka_run_group_tests_name("conv1d", tests, NULL, NULL);
}
