#include <math.h>

#include "test_ops_conv1d_case.h"

static double reference_loss(void *context)
{
    const conv_case_t *const c = context;
    const int64_t count = num_tokens_of(c) * c->shape.channels;
    test_arena_t arena = {0};
    double *const y = test_doubles(&arena, count);

    gdncp_conv1d_reference_forward(&c->reference, y, NULL);
    const double loss = dot(c->upstream, y, count);

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
            .channels = i % 15 == 0 ? test_random_int(&random, 1000, 1100)
                                    : test_random_int(&random, 1, 40),
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

/* The CPU takes 64 tokens at a time, kernels 32 and 256. */
static void sequences_may_end_anywhere_in_a_block(void **state)
{
    static const int64_t cu_seqlens[] = {0, 0, 1, 64, 128, 193, 193, 256};
    test_random_t random = test_random_start(__func__, 8);

    (void)state;
    for (int64_t width = 2; width <= 8; width++) {
        conv_shape_t shape = {.dtype = width % 2 == 0 ? GDNCP_F32 : GDNCP_BF16,
                              .channels = 5 + width,
                              .width = width,
                              .gap = width % 3,
                              .bias = true,
                              .window = width % 4 < 2,
                              .activation = GDNCP_ACTIVATION_SILU,
                              .cu_seqlens = cu_seqlens,
                              .num_sequences = 7};
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

static bool is_nan_token(const gdncp_tensor_t *tensor, int64_t token)
{
    return isnan(((const float *)tensor->data)[token * tensor->strides[0]]) != 0;
}

/* No tap that is not there multiplies it by zero. */
static void nan_reaches_as_far_as_the_taps(void **state)
{
    static const int64_t cu_seqlens[] = {0, 40};
    const int64_t nan_token = 20;
    test_random_t random = test_random_start(__func__, 4);

    (void)state;
    for (int64_t width = 1; width <= 8; width++) {
        const conv_shape_t shape = {.dtype = GDNCP_F32,
                                    .channels = 1,
                                    .width = width,
                                    .activation = GDNCP_ACTIVATION_SILU,
                                    .cu_seqlens = cu_seqlens,
                                    .num_sequences = 1};
        conv_case_t c = start_case(&random, &shape);

        ((float *)c.conv.x.data)[nan_token] = NAN;
        assert_int_equal(run_forward(&c), GDNCP_OK);
        assert_int_equal(run_backward(&c), GDNCP_OK);
        for (int64_t t = 0; t < 40; t++) {
            const int64_t distance = t - nan_token;

            assert_int_equal(is_nan_token(&c.y, t), distance >= 0 && distance < width);
            assert_int_equal(is_nan_token(&c.grads.x, t), distance > -width && distance < width);
        }
        test_arena_free(&c.arena);
    }
}

/* A token's gradient reaches the inputs of the window that the token reads, and no others. */
static void nan_reaches_the_window_that_is_read(void **state)
{
    static const int64_t cu_seqlens[] = {0, 12};
    test_random_t random = test_random_start(__func__, 9);

    (void)state;
    for (int64_t width = 2; width <= 8; width++) {
        for (int64_t nan_token = 0; nan_token + 1 < width; nan_token++) {
            const conv_shape_t shape = {.dtype = GDNCP_F32,
                                        .channels = 1,
                                        .width = width,
                                        .window = true,
                                        .activation = GDNCP_ACTIVATION_SILU,
                                        .cu_seqlens = cu_seqlens,
                                        .num_sequences = 1};
            conv_case_t c = start_case(&random, &shape);

            ((float *)c.grad_y.data)[nan_token] = NAN;
            assert_int_equal(run_backward(&c), GDNCP_OK);
            for (int64_t row = 0; row + 1 < width; row++) {
                assert_int_equal(isnan(((const float *)c.grads.window.data)[row]) != 0,
                                 row >= nan_token);
            }
            test_arena_free(&c.arena);
        }
    }
}

/* Units of rounding that a SiLU may be off. A GPU's reciprocal square root, which kernels square,
 * is good to two by itself. */
#ifdef GDNCP_TEST_ON_DEVICE
#define SILU_UNITS 10.0
#else
#define SILU_UNITS 5.0
#endif

/* Each element by itself: a ratio of RMS would only see the large ones. */
static void silu_keeps_its_digits(void **state)
{
    const int64_t channels = 3;
    const int64_t tokens = test_size(8701, 435);
    const int64_t cu_seqlens[] = {0, tokens};
    test_random_t random = test_random_start(__func__, 10);

    (void)state;
    for (int64_t width = 3; width <= 4; width++) {
        const conv_shape_t shape = {.dtype = GDNCP_F32,
                                    .channels = channels,
                                    .width = width,
                                    .activation = GDNCP_ACTIVATION_SILU,
                                    .cu_seqlens = cu_seqlens,
                                    .num_sequences = 1};
        conv_case_t c = start_case(&random, &shape);
        float *const x = c.conv.x.data;
        float *const weight = c.conv.weight.data;

        for (int64_t i = 0; i < tokens * channels; i++) {
            x[i] = (float)(i - tokens * channels / 2) * (87.0f / (tokens * channels / 2));
        }
        for (int64_t i = 0; i < channels * width; i++) {
            weight[i] = i % width == width - 1 ? 1.0f : 0.0f;
        }
        assert_int_equal(run_forward(&c), GDNCP_OK);
        for (int64_t i = 0; i < tokens * channels; i++) {
            const double expected = (double)x[i] / (1.0 + exp(-(double)x[i]));
            const double error = fabs((double)((float *)c.y.data)[i] - expected);

            assert_true(error <= SILU_UNITS * GDNCP_ROUNDOFF_F32 * fabs(expected));
        }
        test_arena_free(&c.arena);
    }
}

static void threads_do_not_change_bits(void **state)
{
    static const int64_t cu_seqlens[] = {0, 3, 2000, 5000};
    test_random_t random = test_random_start(__func__, 8);
    const conv_shape_t shape = {.dtype = GDNCP_F32,
                                .channels = test_size(1100, 300),
                                .width = 4,
                                .bias = true,
                                .activation = GDNCP_ACTIVATION_SILU,
                                .cu_seqlens = cu_seqlens,
                                .num_sequences = 3};
    conv_case_t c = start_case(&random, &shape);
    const tested_op_t op = op_of(&c);

    (void)state;
    check_threads_do_not_change_bits(&op);
    test_arena_free(&c.arena);
}

/* The same number again and again: float32 alone would round every sum in the same direction. */
static void parameter_gradients_of_many_tokens_are_exact(void **state)
{
    test_random_t random = test_random_start(__func__, 9);

    (void)state;
    for (int64_t width = 3; width <= 4; width++) {
        const int64_t cu_seqlens[] = {0, test_size(262144, 8192)};
        const conv_shape_t shape = {.dtype = GDNCP_F32,
                                    .channels = 2,
                                    .width = width,
                                    .bias = true,
                                    .activation = GDNCP_ACTIVATION_NONE,
                                    .cu_seqlens = cu_seqlens,
                                    .num_sequences = 1};
        conv_case_t c = start_case(&random, &shape);

        c.reference.x = test_tensor_fill(&c.arena, &random, 0.0, 1.0, &c.conv.x);
        c.upstream = test_tensor_fill(&c.arena, &random, 0.0, 0.1, &c.grad_y);
        check_against_reference(&c);
        test_arena_free(&c.arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_gradients_are_finite_differences),
        cmocka_unit_test(results_match_the_reference),
        cmocka_unit_test(sequences_may_end_anywhere_in_a_block),
        cmocka_unit_test(empty_packs_are_good),
        cmocka_unit_test(nan_reaches_as_far_as_the_taps),
        cmocka_unit_test(nan_reaches_the_window_that_is_read),
        cmocka_unit_test(silu_keeps_its_digits),
        cmocka_unit_test(threads_do_not_change_bits),
        cmocka_unit_test(parameter_gradients_of_many_tokens_are_exact),
    };

    return cmocka_run_group_tests_name("conv1d", tests, NULL, NULL);
}
