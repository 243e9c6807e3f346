/*
 * Operators whose tensors differ in dtype: 16-bit inputs with float32 outputs give the bits that
 * float32 inputs of the same values give, and narrow outputs are those rounded once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "compare.h"
#include "gdncp/ops.h"
#include "random.h"

enum { TOKENS = 37, CHANNELS = 24, WIDTH = 4, OUTPUTS = 18, HEADS = 3, DIM = 8 };

/* The same values in both dtypes. */
typedef struct pair {
    float wide[TOKENS * CHANNELS];
    uint16_t narrow[TOKENS * CHANNELS];
} pair_t;

static void fill(test_random_t *random, pair_t *pair)
{
    test_random_fill(random, pair->wide, TOKENS * CHANNELS);
    gdncp_convert_from_f32(pair->wide, TOKENS * CHANNELS, GDNCP_BF16, pair->narrow);
    gdncp_convert_to_f32(GDNCP_BF16, pair->narrow, TOKENS * CHANNELS, pair->wide);
}

static gdncp_tensor_t matrix(void *data, gdncp_dtype_t dtype, int64_t rows, int64_t columns)
{
    const int64_t shape[] = {rows, columns};

    return gdncp_tensor_contiguous(data, dtype, 2, shape);
}

static gdncp_tensor_t by_heads(void *data, gdncp_dtype_t dtype)
{
    const int64_t shape[] = {TOKENS, HEADS, DIM};

    return gdncp_tensor_contiguous(data, dtype, 3, shape);
}

static void assert_rounded(const uint16_t *narrow, const float *wide, int64_t count)
{
    uint16_t rounded[TOKENS * CHANNELS];

    gdncp_convert_from_f32(wide, count, GDNCP_BF16, rounded);
    assert_memory_equal(narrow, rounded, (size_t)count * sizeof *narrow);
}

static void conv1d_may_widen(void **state)
{
    static pair_t x;
    static float weight[CHANNELS * WIDTH];
    static float y[2][TOKENS * CHANNELS];
    static float grad_wide[TOKENS * CHANNELS];
    static uint16_t grad_narrow[TOKENS * CHANNELS];
    static float grad_weight[2][CHANNELS * WIDTH];
    const int64_t cu_seqlens[] = {0, 5, TOKENS};
    test_random_t random = test_random_start("conv1d_may_widen", 31);
    gdncp_conv1d_t conv = {.weight = matrix(weight, GDNCP_F32, CHANNELS, WIDTH),
                           .cu_seqlens = cu_seqlens,
                           .num_sequences = 2,
                           .activation = GDNCP_ACTIVATION_SILU};

    (void)state;
    fill(&random, &x);
    test_random_fill(&random, weight, CHANNELS * WIDTH);
    for (int narrow = 0; narrow < 2; narrow++) {
        const gdncp_dtype_t dtype = narrow ? GDNCP_BF16 : GDNCP_F32;
        const gdncp_tensor_t out = matrix(y[narrow], GDNCP_F32, TOKENS, CHANNELS);
        const gdncp_conv1d_grads_t grads = {
            .x = matrix(narrow ? (void *)grad_narrow : grad_wide, dtype, TOKENS, CHANNELS),
            .weight = matrix(grad_weight[narrow], GDNCP_F32, CHANNELS, WIDTH)};

        conv.x = matrix(narrow ? (void *)x.narrow : x.wide, dtype, TOKENS, CHANNELS);
        test_poison(y[narrow], TOKENS * CHANNELS);
        assert_int_equal(gdncp_conv1d_forward(&conv, &out, NULL, NULL), GDNCP_OK);
        assert_int_equal(gdncp_conv1d_backward(&conv, &out, &grads, NULL), GDNCP_OK);
    }
    assert_memory_equal(y[0], y[1], sizeof y[0]);
    assert_memory_equal(grad_weight[0], grad_weight[1], sizeof grad_weight[0]);
    assert_rounded(grad_narrow, grad_wide, TOKENS * CHANNELS);
}

static void gated_rmsnorm_takes_any_dtypes(void **state)
{
    static pair_t x;
    static pair_t z;
    static float weight[DIM];
    static float y[2][TOKENS * CHANNELS];
    static float grad_x[2][TOKENS * CHANNELS];
    static float grad_wide[TOKENS * CHANNELS];
    static uint16_t grad_narrow[TOKENS * CHANNELS];
    static float grad_weight[2][DIM];
    const int64_t dim = DIM;
    test_random_t random = test_random_start("gated_rmsnorm_takes_any_dtypes", 32);
    gdncp_gated_rmsnorm_t norm = {.x = by_heads(x.wide, GDNCP_F32),
                                  .weight = gdncp_tensor_contiguous(weight, GDNCP_F32, 1, &dim),
                                  .eps = 1e-6f};

    (void)state;
    fill(&random, &x);
    fill(&random, &z);
    test_random_fill(&random, weight, DIM);
    for (int narrow = 0; narrow < 2; narrow++) {
        const gdncp_dtype_t dtype = narrow ? GDNCP_BF16 : GDNCP_F32;
        const gdncp_tensor_t out = by_heads(y[narrow], GDNCP_F32);
        const gdncp_gated_rmsnorm_grads_t grads = {
            .x = by_heads(grad_x[narrow], GDNCP_F32),
            .z = by_heads(narrow ? (void *)grad_narrow : grad_wide, dtype),
            .weight = gdncp_tensor_contiguous(grad_weight[narrow], GDNCP_F32, 1, &dim)};

        norm.z = by_heads(narrow ? (void *)z.narrow : z.wide, dtype);
        test_poison(y[narrow], TOKENS * CHANNELS);
        assert_int_equal(gdncp_gated_rmsnorm_forward(&norm, &out, NULL), GDNCP_OK);
        assert_int_equal(gdncp_gated_rmsnorm_backward(&norm, &out, &grads, NULL), GDNCP_OK);
    }
    assert_memory_equal(y[0], y[1], sizeof y[0]);
    assert_memory_equal(grad_x[0], grad_x[1], sizeof grad_x[0]);
    assert_memory_equal(grad_weight[0], grad_weight[1], sizeof grad_weight[0]);
    assert_rounded(grad_narrow, grad_wide, TOKENS * CHANNELS);
}

static void linear_takes_wide_tokens(void **state)
{
    static pair_t weight; /* the first OUTPUTS rows */
    static float x[TOKENS * CHANNELS];
    static float y[2][TOKENS * OUTPUTS];
    static uint16_t y_narrow[TOKENS * OUTPUTS];
    static float grad_x[2][TOKENS * CHANNELS];
    test_random_t random = test_random_start("linear_takes_wide_tokens", 33);
    const gdncp_tensor_t input = matrix(x, GDNCP_F32, TOKENS, CHANNELS);

    (void)state;
    fill(&random, &weight);
    test_random_fill(&random, x, TOKENS * CHANNELS);
    for (int narrow = 0; narrow < 2; narrow++) {
        const gdncp_tensor_t w = matrix(narrow ? (void *)weight.narrow : weight.wide,
                                        narrow ? GDNCP_BF16 : GDNCP_F32, OUTPUTS, CHANNELS);
        const gdncp_tensor_t out = matrix(y[narrow], GDNCP_F32, TOKENS, OUTPUTS);
        const gdncp_tensor_t grad = matrix(grad_x[narrow], GDNCP_F32, TOKENS, CHANNELS);

        test_poison(y[narrow], TOKENS * OUTPUTS);
        test_poison(grad_x[narrow], TOKENS * CHANNELS);
        assert_int_equal(gdncp_linear_forward(&input, &w, &out, NULL), GDNCP_OK);
        assert_int_equal(gdncp_linear_backward_data(&out, &w, false, &grad, NULL), GDNCP_OK);
    }
    assert_memory_equal(y[0], y[1], sizeof y[0]);
    assert_memory_equal(grad_x[0], grad_x[1], sizeof grad_x[0]);

    const gdncp_tensor_t w = matrix(weight.narrow, GDNCP_BF16, OUTPUTS, CHANNELS);
    const gdncp_tensor_t out = matrix(y_narrow, GDNCP_BF16, TOKENS, OUTPUTS);

    assert_int_equal(gdncp_linear_forward(&input, &w, &out, NULL), GDNCP_OK);
    assert_rounded(y_narrow, y[0], TOKENS * OUTPUTS);
}

static void linear_weight_gradient_takes_one_wide(void **state)
{
    static pair_t grad_y;
    static float x[TOKENS * CHANNELS];
    static float grad_weight[2][CHANNELS * CHANNELS];
    test_random_t random = test_random_start("linear_weight_gradient_takes_one_wide", 34);
    const gdncp_tensor_t input = matrix(x, GDNCP_F32, TOKENS, CHANNELS);

    (void)state;
    fill(&random, &grad_y);
    test_random_fill(&random, x, TOKENS * CHANNELS);
    for (int narrow = 0; narrow < 2; narrow++) {
        const gdncp_tensor_t grad = matrix(narrow ? (void *)grad_y.narrow : grad_y.wide,
                                           narrow ? GDNCP_BF16 : GDNCP_F32, TOKENS, CHANNELS);
        const gdncp_tensor_t out = matrix(grad_weight[narrow], GDNCP_F32, CHANNELS, CHANNELS);

        assert_int_equal(gdncp_linear_backward_weight(&grad, &input, &out, NULL), GDNCP_OK);
    }
    assert_memory_equal(grad_weight[0], grad_weight[1], sizeof grad_weight[0]);

    const gdncp_tensor_t bf16 = matrix(grad_y.narrow, GDNCP_BF16, TOKENS, CHANNELS);
    const gdncp_tensor_t f16 = matrix(grad_y.narrow, GDNCP_F16, TOKENS, CHANNELS);
    const gdncp_tensor_t out = matrix(grad_weight[0], GDNCP_F32, CHANNELS, CHANNELS);

    assert_int_equal(gdncp_linear_backward_weight(&bf16, &f16, &out, NULL),
                     GDNCP_ERR_INVALID_ARGUMENT);
    assert_non_null(strstr(gdncp_last_error(), "grad_y: "));
}

/* Without M, the summary gives the final state that the rule itself leads to. */
static void summary_without_transition_is_the_final_state(void **state)
{
    enum { DK = 8, DV = 4, STATES = 2 * 2 * DK * DV };
    static float q[TOKENS * DK];
    static float k[TOKENS * DK];
    static float v[TOKENS * 2 * DV];
    static float g[TOKENS * 2];
    static float beta[TOKENS * 2];
    static float initial[STATES];
    static float o[TOKENS * 2 * DV];
    static float expected[STATES];
    static float final_states[STATES];
    const int64_t cu_seqlens[] = {0, 20, TOKENS};
    const int64_t key_shape[] = {TOKENS, 1, DK};
    const int64_t value_shape[] = {TOKENS, 2, DV};
    const int64_t state_shape[] = {2, 2, DK, DV};
    test_random_t random = test_random_start("summary_without_transition_is_the_final_state", 35);
    gdncp_delta_rule_t rule = {
        .q = gdncp_tensor_contiguous(q, GDNCP_F32, 3, key_shape),
        .k = gdncp_tensor_contiguous(k, GDNCP_F32, 3, key_shape),
        .v = gdncp_tensor_contiguous(v, GDNCP_F32, 3, value_shape),
        .g = matrix(g, GDNCP_F32, TOKENS, 2),
        .beta = matrix(beta, GDNCP_F32, TOKENS, 2),
        .initial_state = gdncp_tensor_contiguous(initial, GDNCP_F32, 4, state_shape),
        .cu_seqlens = cu_seqlens,
        .num_sequences = 2,
        .qk_l2norm = true,
    };
    const gdncp_tensor_t out = gdncp_tensor_contiguous(o, GDNCP_F32, 3, value_shape);
    const gdncp_tensor_t reference = gdncp_tensor_contiguous(expected, GDNCP_F32, 4, state_shape);
    const gdncp_tensor_t result = gdncp_tensor_contiguous(final_states, GDNCP_F32, 4, state_shape);

    (void)state;
    test_random_fill(&random, q, TOKENS * DK);
    test_random_fill(&random, k, TOKENS * DK);
    test_random_fill(&random, v, TOKENS * 2 * DV);
    test_random_fill(&random, initial, STATES);
    for (int i = 0; i < TOKENS * 2; i++) {
        g[i] = (float)-test_random_uniform(&random);
        beta[i] = (float)test_random_uniform(&random);
    }
    assert_int_equal(gdncp_delta_rule_forward(&rule, &out, &reference, NULL), GDNCP_OK);
    test_poison(final_states, STATES);
    rule.q.data = NULL;
    assert_int_equal(gdncp_delta_rule_summary(&rule, NULL, NULL, 2, NULL, &result, NULL), GDNCP_OK);
    assert_memory_equal(final_states, expected, sizeof expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conv1d_may_widen),
        cmocka_unit_test(gated_rmsnorm_takes_any_dtypes),
        cmocka_unit_test(linear_takes_wide_tokens),
        cmocka_unit_test(linear_weight_gradient_takes_one_wide),
        cmocka_unit_test(summary_without_transition_is_the_final_state),
    };

    return cmocka_run_group_tests_name("mixed dtypes", tests, NULL, NULL);
}
