/* Sequences and the segments of sequences do not see each other but through windows. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "test_ops_conv1d_case.h"

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
    assert_int_equal(gdncp_conv1d_forward(&without.conv, &without.y, NULL, NULL), GDNCP_OK);
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
            assert_int_equal(gdncp_conv1d_forward(&part, &y, &final_window, NULL), GDNCP_OK);
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

    (void)state;
    assert_int_equal(run_forward(&c), GDNCP_OK);
    assert_int_equal(run_backward(&c), GDNCP_OK);
    for (int round = 0; round < 2; round++) { /* other numbers, then NaN */
        conv_case_t changed = c;

        changed.arena = (test_arena_t){0};
        poison_outputs(&changed);
        for (int64_t i = 90 * 20; i < 200 * 20; i++) {
            ((float *)c.conv.x.data)[i] = round == 1 ? NAN : (float)test_random_normal(&random);
            ((float *)c.grad_y.data)[i] = ((float *)c.conv.x.data)[i];
        }
        assert_int_equal(run_forward(&changed), GDNCP_OK);
        assert_int_equal(run_backward(&changed), GDNCP_OK);
        for (int64_t t = 0; t < 260; t++) {
            const bool same = t < 90 || t >= 200;
            const size_t bytes = 20 * sizeof(float);

            assert_int_equal(
                memcmp((float *)changed.y.data + t * 20, (float *)c.y.data + t * 20, bytes) == 0,
                same);
            assert_int_equal(memcmp((float *)changed.grads.x.data + t * 20,
                                    (float *)c.grads.x.data + t * 20, bytes) == 0,
                             same);
        }
        test_arena_free(&changed.arena);
    }
    test_arena_free(&c.arena);
}

/* [tokens, channels], aligned to a line as trainers' tensors are. */
static gdncp_tensor_t make_lines(int64_t tokens, int64_t channels, float value)
{
    const int64_t shape[2] = {tokens, channels};
    float *const data = aligned_alloc(64, (size_t)(tokens * channels) * sizeof *data);

    assert_non_null(data);
    for (int64_t i = 0; i < tokens * channels; i++) {
        data[i] = value;
    }
    return gdncp_tensor_contiguous(data, GDNCP_F32, 2, shape);
}

/* Rows [begin, end) of a tensor. */
static gdncp_tensor_t rows_of(const gdncp_tensor_t *tensor, int64_t begin, int64_t end)
{
    const int64_t shape[2] = {end - begin, tensor->shape[1]};

    return gdncp_tensor_contiguous((float *)tensor->data + begin * tensor->shape[1], GDNCP_F32, 2,
                                   shape);
}

/* Outputs of more than 64 MiB may be written past the caches. */
static void large_outputs_have_the_bits_of_small_ones(void **state)
{
    const int64_t cu_seqlens[] = {0, test_size(7003, 23), test_size(16500, 70)};
    const int64_t channels = test_size(1040, 48);
    const gdncp_tensor_t x = make_lines(cu_seqlens[2], channels, 0.0f);
    const gdncp_tensor_t grad_y = make_lines(cu_seqlens[2], channels, 0.0f);
    const gdncp_tensor_t outputs[2] = {make_lines(cu_seqlens[2], channels, NAN),
                                       make_lines(cu_seqlens[2], channels, NAN)};
    const gdncp_tensor_t parts[2] = {make_lines(cu_seqlens[2], channels, NAN),
                                     make_lines(cu_seqlens[2], channels, NAN)};
    const gdncp_tensor_t weight = make_lines(channels, 4, 0.5f);
    const gdncp_tensor_t grad_weight = make_lines(channels, 4, NAN);
    gdncp_conv1d_t conv = {.weight = weight, .activation = GDNCP_ACTIVATION_SILU};

    (void)state;
    for (int64_t i = 0; i < cu_seqlens[2] * channels; i++) {
        ((float *)x.data)[i] = (float)(i % 1009) / 500.0f - 1.0f;
        ((float *)grad_y.data)[i] = (float)(i % 997) / 500.0f - 1.0f;
    }
    for (int part = 0; part < 3; part++) {
        const bool whole = part == 2;
        const int64_t begin = whole ? 0 : cu_seqlens[part];
        const int64_t end = whole ? cu_seqlens[2] : cu_seqlens[part + 1];
        const int64_t own_cu_seqlens[] = {0, end - begin};
        const gdncp_tensor_t y = rows_of(whole ? &outputs[0] : &parts[0], begin, end);
        const gdncp_tensor_t part_grad_y = rows_of(&grad_y, begin, end);
        const gdncp_conv1d_grads_t grads = {
            .x = rows_of(whole ? &outputs[1] : &parts[1], begin, end), .weight = grad_weight};

        conv.x = rows_of(&x, begin, end);
        conv.cu_seqlens = whole ? cu_seqlens : own_cu_seqlens;
        conv.num_sequences = whole ? 2 : 1;
        assert_int_equal(gdncp_conv1d_forward(&conv, &y, NULL, NULL), GDNCP_OK);
        assert_int_equal(gdncp_conv1d_backward(&conv, &part_grad_y, &grads, NULL), GDNCP_OK);
    }
    for (int i = 0; i < 2; i++) {
        assert_memory_equal(outputs[i].data, parts[i].data,
                            (size_t)(cu_seqlens[2] * channels) * sizeof(float));
        free(outputs[i].data);
        free(parts[i].data);
    }
    free(x.data);
    free(grad_y.data);
    free(weight.data);
    free(grad_weight.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_may_be_left_out),
        cmocka_unit_test(segments_with_windows_are_the_whole_sequence),
        cmocka_unit_test(a_final_window_feeds_the_next_segment),
        cmocka_unit_test(a_changed_sequence_leaves_the_others_alone),
        cmocka_unit_test(large_outputs_have_the_bits_of_small_ones),
    };

    return cmocka_run_group_tests_name("conv1d_segments", tests, NULL, NULL);
}
