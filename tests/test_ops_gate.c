/* The gate's results. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "test_ops_gate_case.h"

static double reference_loss(void *context)
{
    gate_case_t *const c = context;
    const int64_t count = c->reference.num_tokens * c->reference.num_heads;
    test_arena_t arena = {0};
    double *const g = test_doubles(&arena, count);
    double *const beta = test_doubles(&arena, count);

    gdncp_gate_reference_forward(&c->reference, g, beta);
    const double loss = dot(c->upstream_g, g, count) + dot(c->upstream_beta, beta, count);

    test_arena_free(&arena);
    return loss;
}

static const int64_t short_pack[] = {0, 5, 5, 9};

static void reference_gradients_are_finite_differences(void **state)
{
    test_random_t random = test_random_start(__func__, 1);

    (void)state;
    for (int i = 0; i < 8; i++) {
        gate_case_t c = start_case(&random, GDNCP_F32, 9, 5, 0, i % 2 != 0);
        double *const grad_a = test_doubles(&c.arena, 45);
        double *const grad_b = test_doubles(&c.arena, 45);
        double *const grad_A_log = test_doubles(&c.arena, 5);
        double *const grad_dt_bias = test_doubles(&c.arena, 5);

        if (i / 2 % 2 != 0) {
            sum_chunks(&c, 3, short_pack, 3);
        }
        if (i / 4 != 0) {
            give_g(&c);
        }
        gdncp_gate_reference_backward(&c.reference, c.upstream_g, c.upstream_beta, grad_a, grad_b,
                                      grad_A_log, grad_dt_bias);
        assert_gradient("a", reference_loss, &c, c.a, grad_a, 45);
        assert_gradient("b", reference_loss, &c, c.b, grad_b, 45);
        if (i / 4 == 0) {
            assert_gradient("A_log", reference_loss, &c, c.A_log, grad_A_log, 5);
            assert_gradient("dt_bias", reference_loss, &c, c.dt_bias, grad_dt_bias, 5);
        }
        test_arena_free(&c.arena);
    }
}

static void results_match_the_reference(void **state)
{
    static const gdncp_dtype_t dtypes[] = {GDNCP_F32, GDNCP_BF16, GDNCP_F16};
    test_random_t random = test_random_start(__func__, 2);

    (void)state;
    for (int i = 0; i < 60; i++) {
        const int64_t num_tokens = i % 4 == 0 ? i / 4 : test_random_int(&random, 1, 600);
        const int64_t num_heads = test_random_int(&random, 1, i % 5 == 0 ? 150 : 20);
        const int64_t gap = test_random_int(&random, 0, 3);
        gate_case_t c = start_case(&random, dtypes[i % 3], num_tokens, num_heads, gap, i % 2 == 0);

        check_against_reference(&c);
        test_arena_free(&c.arena);
    }
}

static void g_may_be_given(void **state)
{
    static const gdncp_dtype_t dtypes[] = {GDNCP_F32, GDNCP_BF16, GDNCP_F16};
    test_random_t random = test_random_start(__func__, 11);

    (void)state;
    for (int i = 0; i < 12; i++) {
        gate_case_t c =
            start_case(&random, dtypes[i % 3], i == 0 ? 0 : 70 * i, 1 + 9 * i, i % 2, i % 2 == 0);
        gdncp_tensor_t wide = c.g;

        give_g(&c);
        check_against_reference(&c);
        wide.data = test_doubles(&c.arena, c.reference.num_tokens * c.reference.num_heads);
        if (i % 2 == 0) { /* no gap: the bits of a, and back */
            const int64_t count = gdncp_tensor_num_elements(&c.g);

            (void)gdncp_convert_to_f32(c.gate.a.dtype, c.gate.a.data, count, wide.data);
            assert_tensor_bits_equal("g", &c.g, &wide);
        }
        test_arena_free(&c.arena);
    }
}

/* Lengths around a chunk and a block of 64 tokens. */
static void chunks_are_summed(void **state)
{
    static const int64_t chunk_sizes[] = {1, 16, 32, 64, 100, INT64_MAX};
    static const int64_t cu_seqlens[] = {0, 0, 1, 64, 128, 193, 193, 400};
    test_random_t random = test_random_start(__func__, 12);

    (void)state;
    for (int i = 0; i < 24; i++) {
        gate_case_t c = start_case(&random, i % 4 == 0 ? GDNCP_BF16 : GDNCP_F32, 400,
                                   test_random_int(&random, 1, 40), i % 3, i % 2 == 0);

        sum_chunks(&c, chunk_sizes[i % 6], cu_seqlens, 7);
        if (i >= 18) {
            give_g(&c);
        }
        check_against_reference(&c);
        test_arena_free(&c.arena);
    }
}

/* Values of token t, where tokens lie one behind the other. */
static const float *token_of(const gdncp_tensor_t *tensor, int64_t t)
{
    return (const float *)tensor->data + t * tensor->strides[0];
}

static void a_changed_sequence_leaves_the_others_alone(void **state)
{
    static const int64_t cu_seqlens[] = {0, 65, 129, 192};
    enum { HEADS = 5, BYTES = HEADS * sizeof(float) };
    test_random_t random = test_random_start(__func__, 13);
    gate_case_t c = start_case(&random, GDNCP_F32, 192, HEADS, 0, false);
    const tested_op_t op = op_of(&c);
    gdncp_tensor_t kept[MAX_OUTPUTS];

    (void)state;
    sum_chunks(&c, 64, cu_seqlens, 3);
    run_both(&op);
    keep_outputs(&op, kept);
    for (int round = 0; round < 2; round++) { /* other numbers, then NaN */
        renew_outputs(&op, &c.arena);
        for (int64_t i = 65 * HEADS; i < 129 * HEADS; i++) {
            ((float *)c.gate.a.data)[i] = round == 1 ? NAN : (float)test_random_normal(&random);
            ((float *)c.gate.b.data)[i] = ((float *)c.gate.a.data)[i];
            ((float *)c.grad_g.data)[i] = ((float *)c.gate.a.data)[i];
        }
        run_both(&op);
        for (int i = 0; i < 4; i++) { /* those that have tokens */
            for (int64_t t = 0; t < 192; t++) {
                const bool is_equal =
                    memcmp(token_of(op.outputs[i].tensor, t), token_of(&kept[i], t), BYTES) == 0;

                assert_int_equal(is_equal, t < 65 || t >= 129);
            }
        }
    }
    test_arena_free(&c.arena);
}

/* Added up before anything is rounded to the dtype of a: with gradients of one sign nothing
 * cancels, and the sums are as good as float32. */
static void narrow_inputs_have_wide_sums(void **state)
{
    const int64_t num_tokens = test_size(20000, 2000);
    test_random_t random = test_random_start(__func__, 14);

    (void)state;
    for (gdncp_dtype_t dtype = GDNCP_BF16; dtype <= GDNCP_F16; dtype++) {
        gate_case_t c = start_case(&random, dtype, num_tokens, 3, 0, false);
        double *const grad_a = test_doubles(&c.arena, 3 * num_tokens);
        double *const grad_b = test_doubles(&c.arena, 3 * num_tokens);
        double *const grad_A_log = test_doubles(&c.arena, 3);
        double *const grad_dt_bias = test_doubles(&c.arena, 3);

        for (int64_t i = 0; i < 3 * num_tokens; i++) {
            ((float *)c.grad_g.data)[i] = fabsf(((float *)c.grad_g.data)[i]);
            c.upstream_g[i] = fabs(c.upstream_g[i]);
        }
        assert_int_equal(run_backward(&c), GDNCP_OK);
        gdncp_gate_reference_backward(&c.reference, c.upstream_g, c.upstream_beta, grad_a, grad_b,
                                      grad_A_log, grad_dt_bias);
        assert_tensor_close("grads.A_log", &c.grads.A_log, grad_A_log, GDNCP_TOLERANCE_F32);
        assert_tensor_close("grads.dt_bias", &c.grads.dt_bias, grad_dt_bias, GDNCP_TOLERANCE_F32);
        test_arena_free(&c.arena);
    }
}

/* Element i of a tensor of [.., num_heads], which may have gaps, as float32. */
static float element(const gdncp_tensor_t *tensor, int64_t i)
{
    const int64_t num_heads = tensor->shape[1];
    const int64_t at = i / num_heads * tensor->strides[0] + i % num_heads;
    float value;

    (void)gdncp_convert_to_f32(tensor->dtype,
                               (char *)tensor->data + (size_t)at * gdncp_dtype_size(tensor->dtype),
                               1, &value);
    return value;
}

static void assert_elements_agree(const char *name, const gdncp_tensor_t *result,
                                  const gdncp_tensor_t *wide, double relative, double absolute)
{
    for (int64_t i = 0; i < gdncp_tensor_num_elements(wide); i++) {
        const double x = (double)element(result, i);
        const double y = (double)element(wide, i);

        if (!(x == y || (isnan(x) && isnan(y)) || fabs(x - y) <= relative * fabs(y) + absolute)) {
            fail_msg("%s[%d]: expected %g, got %g", name, (int)i, y, x);
        }
    }
}

/* Every number of 16 bits as a and b, NaN and infinities too, and tokens with gaps in one tensor or
 * none: results are those of float32 inputs, to a few roundings, and gradients those rounded once
 * more. */
static void narrow_inputs_give_what_wide_ones_give(void **state)
{
    enum { HEADS = 33, TOKENS = (1 << 16) / HEADS + 1 };
    static const double roundoff[] = {
        [GDNCP_BF16] = GDNCP_ROUNDOFF_BF16, [GDNCP_F16] = GDNCP_ROUNDOFF_TF32}; /* as many bits */
    static const double least[] = {[GDNCP_BF16] = 0x1p-133, [GDNCP_F16] = 0x1p-24};
    const double few = 16.0 * GDNCP_ROUNDOFF_F32;
    const int64_t shape[2] = {TOKENS, HEADS};
    test_random_t random = test_random_start(__func__, 15);

    (void)state;
    for (int64_t i = 0; i < test_size(18, 2); i++) {
        const gdncp_dtype_t dtype = i % 2 == 0 ? GDNCP_BF16 : GDNCP_F16;
        gate_case_t narrow = start_case(&random, dtype, TOKENS, HEADS, 0, i % 4 < 2);
        gdncp_tensor_t *const tensors[] = {&narrow.gate.a,  &narrow.gate.b,  &narrow.g,
                                           &narrow.beta,    &narrow.grad_g,  &narrow.grad_beta,
                                           &narrow.grads.a, &narrow.grads.b, NULL};
        gdncp_tensor_t *const spread = tensors[i / 2];

        if (spread != NULL) {
            *spread = test_tensor(&narrow.arena, spread->dtype, 2, shape, 3);
            (void)test_tensor_fill(&narrow.arena, &random, 1.0, 0.0, spread);
        }
        for (int64_t t = 0; t < TOKENS; t++) {
            for (int64_t h = 0; h < HEADS; h++) {
                const uint16_t bits = (uint16_t)(t * HEADS + h);

                ((uint16_t *)narrow.gate.a.data)[t * narrow.gate.a.strides[0] + h] = bits;
                ((uint16_t *)narrow.gate.b.data)[t * narrow.gate.b.strides[0] + h] =
                    (uint16_t)(bits * 40503u);
            }
        }
        if (i % 5 == 0) {
            give_g(&narrow);
        }
        gate_case_t wide = narrow;

        wide.gate.a = test_tensor(&narrow.arena, GDNCP_F32, 2, shape, 0);
        wide.gate.b = test_tensor(&narrow.arena, GDNCP_F32, 2, shape, 0);
        wide.g = test_tensor(&narrow.arena, GDNCP_F32, 2, shape, 0);
        wide.beta = test_tensor(&narrow.arena, GDNCP_F32, 2, shape, 0);
        wide.grads.a = test_tensor(&narrow.arena, GDNCP_F32, 2, shape, 0);
        wide.grads.b = test_tensor(&narrow.arena, GDNCP_F32, 2, shape, 0);
        for (int64_t k = 0; k < TOKENS * HEADS; k++) {
            ((float *)wide.gate.a.data)[k] = element(&narrow.gate.a, k);
            ((float *)wide.gate.b.data)[k] = element(&narrow.gate.b, k);
        }
        assert_int_equal(run_forward(&narrow), GDNCP_OK);
        assert_int_equal(run_backward(&narrow), GDNCP_OK);
        assert_int_equal(run_forward(&wide), GDNCP_OK);
        assert_int_equal(run_backward(&wide), GDNCP_OK);
        assert_elements_agree("g", &narrow.g, &wide.g, few, 0x1p-148);
        assert_elements_agree("beta", &narrow.beta, &wide.beta, few, 0x1p-148);
        assert_elements_agree("grads.a", &narrow.grads.a, &wide.grads.a, roundoff[dtype],
                              least[dtype]);
        assert_elements_agree("grads.b", &narrow.grads.b, &wide.grads.b, roundoff[dtype],
                              least[dtype]);
        test_arena_free(&narrow.arena);
    }
}

static void many_tokens_are_summed_without_drift(void **state)
{
    test_random_t random = test_random_start(__func__, 3);
    gate_case_t c = start_case(&random, GDNCP_F32, 50000, 3, 0, false);

    (void)state;
    check_against_reference(&c);
    test_arena_free(&c.arena);
}

static double relative_error(float result, double reference)
{
    return fabs((double)result - reference) / fabs(reference);
}

/* Each element by itself: a ratio of RMS would only see the large ones. */
static void small_and_large_inputs_keep_their_digits(void **state)
{
    const int64_t count = 1601;
    test_random_t random = test_random_start(__func__, 4);
    gate_case_t c = start_case(&random, GDNCP_F32, count, 1, 0, false);
    double *const g = test_doubles(&c.arena, count);
    double *const beta = test_doubles(&c.arena, count);
    double *const grad_a = test_doubles(&c.arena, count);
    double *const grad_b = test_doubles(&c.arena, count);
    double sums[2];

    (void)state;
    ((float *)c.gate.dt_bias.data)[0] = 0.0f;
    c.dt_bias[0] = 0.0;
    for (int64_t t = 0; t < count; t++) {
        ((float *)c.gate.a.data)[t] = (float)(t - 800) * 0.1f;
        ((float *)c.gate.b.data)[t] = (float)(t - 800) * 0.1f;
        c.a[t] = (double)((float *)c.gate.a.data)[t];
        c.b[t] = c.a[t];
    }
    assert_int_equal(run_forward(&c), GDNCP_OK);
    assert_int_equal(run_backward(&c), GDNCP_OK);
    gdncp_gate_reference_forward(&c.reference, g, beta);
    gdncp_gate_reference_backward(&c.reference, c.upstream_g, c.upstream_beta, grad_a, grad_b,
                                  &sums[0], &sums[1]);
    for (int64_t t = 0; t < count; t++) {
        assert_true(relative_error(((float *)c.g.data)[t], g[t]) <= GDNCP_TOLERANCE_F32);
        assert_true(relative_error(((float *)c.beta.data)[t], beta[t]) <= GDNCP_TOLERANCE_F32);
        assert_true(relative_error(((float *)c.grads.a.data)[t], grad_a[t]) <= GDNCP_TOLERANCE_F32);
        assert_true(relative_error(((float *)c.grads.b.data)[t], grad_b[t]) <= GDNCP_TOLERANCE_F32);
    }
    test_arena_free(&c.arena);
}

static void extreme_inputs_saturate(void **state)
{
    static const float extremes[] = {-FLT_MAX, -1e6f, -200.0f, 200.0f, 1e6f, FLT_MAX};
    test_random_t random = test_random_start(__func__, 5);
    gate_case_t c = start_case(&random, GDNCP_F32, 6, 1, 0, true);
    const float *const g = c.g.data;
    const float *const beta = c.beta.data;

    (void)state;
    ((float *)c.gate.A_log.data)[0] = 0.0f;
    ((float *)c.gate.dt_bias.data)[0] = 0.0f;
    for (int t = 0; t < 6; t++) {
        ((float *)c.gate.a.data)[t] = extremes[t];
        ((float *)c.gate.b.data)[t] = extremes[t];
        ((float *)c.grad_g.data)[t] = 1.0f;
        ((float *)c.grad_beta.data)[t] = 1.0f;
    }
    assert_int_equal(run_forward(&c), GDNCP_OK);
    assert_int_equal(run_backward(&c), GDNCP_OK);
    for (int t = 0; t < 6; t++) {
        const double expected = extremes[t] > 0.0f ? -(double)extremes[t] : 0.0;
        const double open = extremes[t] > 0.0f ? 1.0 : 0.0;

        assert_true(fabs((double)g[t] - expected) <= 1e-30 - 1e-6 * expected);
        assert_true(fabs((double)beta[t] - 2.0 * open) <= 1e-30);
        assert_true(fabs((double)((float *)c.grads.a.data)[t] + open) <= 1e-30);
        assert_true(fabs((double)((float *)c.grads.b.data)[t]) <= 1e-30);
    }
    test_arena_free(&c.arena);
}

static void nan_is_passed_on(void **state)
{
    test_random_t random = test_random_start(__func__, 6);
    gate_case_t c = start_case(&random, GDNCP_F32, 3, 2, 0, false);

    (void)state;
    ((float *)c.gate.a.data)[2] = NAN;
    ((float *)c.gate.b.data)[3] = NAN;
    assert_int_equal(run_forward(&c), GDNCP_OK);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(isnan(((float *)c.g.data)[i]) != 0, i == 2);
        assert_int_equal(isnan(((float *)c.beta.data)[i]) != 0, i == 3);
    }
    test_arena_free(&c.arena);
}

static void threads_do_not_change_bits(void **state)
{
    test_random_t random = test_random_start(__func__, 7);
    gate_case_t c = start_case(&random, GDNCP_F32, test_size(5000, 500), 12, 1, false);
    const tested_op_t op = op_of(&c);

    (void)state;
    check_threads_do_not_change_bits(&op);
    sum_chunks(&c, 64, (const int64_t[]){0, c.reference.num_tokens}, 1);
    check_threads_do_not_change_bits(&op);
    test_arena_free(&c.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_gradients_are_finite_differences),
        cmocka_unit_test(results_match_the_reference),
        cmocka_unit_test(g_may_be_given),
        cmocka_unit_test(chunks_are_summed),
        cmocka_unit_test(a_changed_sequence_leaves_the_others_alone),
        cmocka_unit_test(narrow_inputs_have_wide_sums),
        cmocka_unit_test(narrow_inputs_give_what_wide_ones_give),
        cmocka_unit_test(many_tokens_are_summed_without_drift),
        cmocka_unit_test(small_and_large_inputs_keep_their_digits),
        cmocka_unit_test(extreme_inputs_saturate),
        cmocka_unit_test(nan_is_passed_on),
        cmocka_unit_test(threads_do_not_change_bits),
    };

    return cmocka_run_group_tests_name("gate", tests, NULL, NULL);
}
