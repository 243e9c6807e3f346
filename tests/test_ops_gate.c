#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "gate_reference.h"
#include "random.h"
#include "test_ops_check.h"

/* One call's tensors, and the reference's arrays over the same values. */
typedef struct gate_case {
    test_arena_t arena;
    gdncp_gate_t gate;
    gdncp_tensor_t g, beta, grad_g, grad_beta;
    gdncp_gate_grads_t grads;
    gdncp_gate_reference_t reference;
    double *a, *b, *A_log, *dt_bias;
    double *upstream_g, *upstream_beta;
    gdncp_workspace_t *workspace;
} gate_case_t;

static gate_case_t start_case(test_random_t *random, gdncp_dtype_t dtype, int64_t num_tokens,
                              int64_t num_heads, int64_t gap, bool allow_neg_eigval)
{
    const int64_t shape[2] = {num_tokens, num_heads};
    gate_case_t c = {0};

    c.gate = (gdncp_gate_t){
        .a = test_tensor(&c.arena, dtype, 2, shape, gap),
        .b = test_tensor(&c.arena, dtype, 2, shape, 3 * gap),
        .A_log = test_tensor(&c.arena, GDNCP_F32, 1, shape + 1, 0),
        .dt_bias = test_tensor(&c.arena, GDNCP_F32, 1, shape + 1, 0),
        .allow_neg_eigval = allow_neg_eigval,
    };
    c.grad_g = test_tensor(&c.arena, GDNCP_F32, 2, shape, gap);
    c.grad_beta = test_tensor(&c.arena, GDNCP_F32, 2, shape, gap);
    c.a = test_tensor_fill(&c.arena, random, 3.0, 0.0, &c.gate.a);
    c.b = test_tensor_fill(&c.arena, random, 3.0, 0.0, &c.gate.b);
    c.A_log = test_tensor_fill(&c.arena, random, 1.0, 0.0, &c.gate.A_log);
    c.dt_bias = test_tensor_fill(&c.arena, random, 1.0, 0.0, &c.gate.dt_bias);
    c.upstream_g = test_tensor_fill(&c.arena, random, 1.0, 0.0, &c.grad_g);
    c.upstream_beta = test_tensor_fill(&c.arena, random, 1.0, 0.0, &c.grad_beta);
    c.reference = (gdncp_gate_reference_t){.num_tokens = num_tokens,
                                           .num_heads = num_heads,
                                           .a = c.a,
                                           .b = c.b,
                                           .A_log = c.A_log,
                                           .dt_bias = c.dt_bias,
                                           .allow_neg_eigval = allow_neg_eigval};
    c.g = test_tensor(&c.arena, GDNCP_F32, 2, shape, gap);
    c.beta = test_tensor(&c.arena, GDNCP_F32, 2, shape, 0);
    c.grads = (gdncp_gate_grads_t){
        .a = test_tensor(&c.arena, dtype, 2, shape, gap),
        .b = test_tensor(&c.arena, dtype, 2, shape, 2 * gap),
        .A_log = test_tensor(&c.arena, GDNCP_F32, 1, shape + 1, 0),
        .dt_bias = test_tensor(&c.arena, GDNCP_F32, 1, shape + 1, 0),
    };
    return c;
}

/* a is the log-gate; no parameters. */
static void give_g(gate_case_t *c)
{
    c->gate.A_log = (gdncp_tensor_t){0};
    c->gate.dt_bias = (gdncp_tensor_t){0};
    c->grads.A_log = (gdncp_tensor_t){0};
    c->grads.dt_bias = (gdncp_tensor_t){0};
    c->reference.A_log = NULL;
    c->reference.dt_bias = NULL;
}

static void sum_chunks(gate_case_t *c, int64_t chunk_size, const int64_t *cu_seqlens,
                       int64_t num_sequences)
{
    c->gate.chunk_size = chunk_size;
    c->gate.cu_seqlens = cu_seqlens;
    c->gate.num_sequences = num_sequences;
    c->reference.chunk_size = chunk_size;
    c->reference.cu_seqlens = cu_seqlens;
    c->reference.num_sequences = num_sequences;
}

static gdncp_status_t run_forward(void *context)
{
    const gate_case_t *const c = context;

    return gdncp_gate_forward(&c->gate, &c->g, &c->beta, c->workspace);
}

static gdncp_status_t run_backward(void *context)
{
    const gate_case_t *const c = context;

    return gdncp_gate_backward(&c->gate, &c->grad_g, &c->grad_beta, &c->grads, c->workspace);
}

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

static void check_against_reference(void *context)
{
    gate_case_t *const c = context;
    const int64_t num_heads = c->reference.num_heads;
    const int64_t count = c->reference.num_tokens * num_heads;
    double *const first = test_doubles(&c->arena, count);
    double *const second = test_doubles(&c->arena, count);
    double *const grad_A_log = test_doubles(&c->arena, num_heads);
    double *const grad_dt_bias = test_doubles(&c->arena, num_heads);

    assert_int_equal(run_forward(c), GDNCP_OK);
    gdncp_gate_reference_forward(&c->reference, first, second);
    assert_tensor_close("g", &c->g, first, GDNCP_TOLERANCE_F32);
    assert_tensor_close("beta", &c->beta, second, GDNCP_TOLERANCE_F32);

    assert_int_equal(run_backward(c), GDNCP_OK);
    gdncp_gate_reference_backward(&c->reference, c->upstream_g, c->upstream_beta, first, second,
                                  grad_A_log, grad_dt_bias);
    assert_tensor_close("grads.a", &c->grads.a, first, grad_tolerance(&c->grads.a));
    assert_tensor_close("grads.b", &c->grads.b, second, grad_tolerance(&c->grads.b));
    if (c->reference.A_log != NULL) {
        assert_tensor_close("grads.A_log", &c->grads.A_log, grad_A_log,
                            GDNCP_TOLERANCE_F32_CANCELLING);
        assert_tensor_close("grads.dt_bias", &c->grads.dt_bias, grad_dt_bias,
                            GDNCP_TOLERANCE_F32_CANCELLING);
    }
}

static tested_op_t op_of(gate_case_t *c)
{
    return (tested_op_t){.context = c,
                         .forward = run_forward,
                         .backward = run_backward,
                         .check = check_against_reference,
                         .workspace = &c->workspace,
                         .outputs = {
                             {"g", &c->g},
                             {"beta", &c->beta},
                             {"grads.a", &c->grads.a},
                             {"grads.b", &c->grads.b},
                             {"grads.A_log", &c->grads.A_log},
                             {"grads.dt_bias", &c->grads.dt_bias},
                         }};
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

static void a_workspace_is_reused(void **state)
{
    test_random_t random = test_random_start(__func__, 10);
    gate_case_t empty = start_case(&random, GDNCP_F32, 0, 3, 0, false);
    gate_case_t c = start_case(&random, GDNCP_BF16, 300, 70, 0, false);
    const tested_op_t empty_op = op_of(&empty);
    const tested_op_t op = op_of(&c);

    (void)state;
    check_workspace_is_reused(&empty_op, &op);
    sum_chunks(&empty, 64, (const int64_t[]){0, 0}, 1);
    sum_chunks(&c, 64, (const int64_t[]){0, 300}, 1);
    check_workspace_is_reused(&empty_op, &op);
    test_arena_free(&c.arena);
    test_arena_free(&empty.arena);
}

static void arguments_are_checked(void **state)
{
    test_random_t random = test_random_start(__func__, 8);
    gate_case_t c = start_case(&random, GDNCP_BF16, 4, 3, 2, false);
    const test_argument_t forward[] = {
        {.name = "a", .tensor = &c.gate.a, .defines_shape = true},
        {.name = "b", .tensor = &c.gate.b},
        {.name = "A_log", .tensor = &c.gate.A_log, .contiguous = true},
        {.name = "dt_bias", .tensor = &c.gate.dt_bias, .contiguous = true},
        {.name = "g", .tensor = &c.g},
        {.name = "beta", .tensor = &c.beta},
    };
    const test_argument_t backward[] = {
        {.name = "a", .tensor = &c.gate.a, .defines_shape = true},
        {.name = "b", .tensor = &c.gate.b},
        {.name = "A_log", .tensor = &c.gate.A_log, .contiguous = true},
        {.name = "dt_bias", .tensor = &c.gate.dt_bias, .contiguous = true},
        {.name = "grad_g", .tensor = &c.grad_g},
        {.name = "grad_beta", .tensor = &c.grad_beta},
        {.name = "grads.a", .tensor = &c.grads.a},
        {.name = "grads.b", .tensor = &c.grads.b},
        {.name = "grads.A_log", .tensor = &c.grads.A_log, .contiguous = true},
        {.name = "grads.dt_bias", .tensor = &c.grads.dt_bias, .contiguous = true},
    };

    (void)state;
    test_each_argument(forward, sizeof forward / sizeof forward[0], run_forward, &c);
    test_each_argument(backward, sizeof backward / sizeof backward[0], run_backward, &c);
    assert_argument_error(gdncp_gate_forward(NULL, &c.g, &c.beta, NULL), GDNCP_ERR_INVALID_ARGUMENT,
                          "gate");
    assert_argument_error(gdncp_gate_forward(&c.gate, NULL, &c.beta, NULL),
                          GDNCP_ERR_INVALID_ARGUMENT, "g");
    assert_argument_error(gdncp_gate_backward(&c.gate, &c.grad_g, &c.grad_beta, NULL, NULL),
                          GDNCP_ERR_INVALID_ARGUMENT, "grads");
    test_arena_free(&c.arena);
}

/* The numbers of heads stand in the message, whichever tensor has another one. */
static void heads_must_agree(void **state)
{
    test_random_t random = test_random_start(__func__, 15);
    gate_case_t c = start_case(&random, GDNCP_F32, 4, 3, 0, false);

    (void)state;
    c.gate.b.shape[1] = 5;
    assert_argument_error(run_forward(&c), GDNCP_ERR_INVALID_ARGUMENT, "b");
    assert_string_equal(gdncp_last_error(), "b: expected shape [4, 3], got [4, 5]");
    c.gate.b.shape[1] = 3;
    c.gate.A_log.shape[0] = 6;
    assert_argument_error(run_forward(&c), GDNCP_ERR_INVALID_ARGUMENT, "A_log");
    assert_string_equal(gdncp_last_error(), "A_log: expected shape [3], got [6]");
    test_arena_free(&c.arena);
}

static void parameters_come_together(void **state)
{
    test_random_t random = test_random_start(__func__, 16);
    gate_case_t c = start_case(&random, GDNCP_F32, 4, 3, 0, false);
    const gate_case_t whole = c;
    const tested_op_t op = op_of(&c);

    (void)state;
    c.gate.A_log.data = NULL;
    check_both_name(&op, "A_log");
    c.gate = whole.gate;
    c.gate.dt_bias.data = NULL;
    check_both_name(&op, "dt_bias");
    give_g(&c);
    c.grads.A_log = whole.grads.A_log;
    assert_argument_error(run_backward(&c), GDNCP_ERR_INVALID_ARGUMENT, "grads.A_log");
    c.grads.A_log.data = NULL;
    c.grads.dt_bias = whole.grads.dt_bias;
    assert_argument_error(run_backward(&c), GDNCP_ERR_INVALID_ARGUMENT, "grads.dt_bias");
    test_arena_free(&c.arena);
}

static void chunks_are_checked(void **state)
{
    test_random_t random = test_random_start(__func__, 17);
    gate_case_t c = start_case(&random, GDNCP_F32, 4, 3, 0, false);
    const tested_op_t op = op_of(&c);

    (void)state;
    sum_chunks(&c, -1, (const int64_t[]){0, 4}, 1);
    check_both_name(&op, "chunk_size");
    sum_chunks(&c, 2, NULL, 1);
    check_both_name(&op, "cu_seqlens");
    sum_chunks(&c, 2, (const int64_t[]){0, 5}, 1);
    check_both_name(&op, "cu_seqlens");
    sum_chunks(&c, 2, (const int64_t[]){0, 4}, -1);
    check_both_name(&op, "num_sequences");
    test_arena_free(&c.arena);
}

static void an_error_writes_nothing(void **state)
{
    test_random_t random = test_random_start(__func__, 9);
    gate_case_t c = start_case(&random, GDNCP_F32, 4, 3, 0, false);

    (void)state;
    c.beta.shape[1]++;
    assert_argument_error(run_forward(&c), GDNCP_ERR_INVALID_ARGUMENT, "beta");
    assert_tensor_untouched("g", &c.g);
    c.grads.dt_bias.shape[0]++;
    assert_argument_error(run_backward(&c), GDNCP_ERR_INVALID_ARGUMENT, "grads.dt_bias");
    assert_tensor_untouched("grads.a", &c.grads.a);
    assert_tensor_untouched("grads.A_log", &c.grads.A_log);
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
        cmocka_unit_test(many_tokens_are_summed_without_drift),
        cmocka_unit_test(small_and_large_inputs_keep_their_digits),
        cmocka_unit_test(extreme_inputs_saturate),
        cmocka_unit_test(nan_is_passed_on),
        cmocka_unit_test(threads_do_not_change_bits),
        cmocka_unit_test(a_workspace_is_reused),
        cmocka_unit_test(arguments_are_checked),
        cmocka_unit_test(heads_must_agree),
        cmocka_unit_test(parameters_come_together),
        cmocka_unit_test(chunks_are_checked),
        cmocka_unit_test(an_error_writes_nothing),
    };

    return cmocka_run_group_tests_name("gate", tests, NULL, NULL);
}
