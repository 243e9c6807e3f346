/* Runs of the gated delta rule against its float64 reference, shared by its test programs. */
#ifndef GDNCP_TEST_OPS_DELTA_RULE_CHECK_H
#define GDNCP_TEST_OPS_DELTA_RULE_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "compare.h"
#include "delta_rule_reference.h"
#include "op_case.h"
#include "rule_case.h"
#include "tolerances.h"

/* Outputs and gradients in the order of rule_result_outputs(). */
typedef struct rule_reference {
    double *outputs[RULE_NUM_OUTPUTS];
} rule_reference_t;

/* The largest error ratio each output may have, in the same order. */
typedef struct rule_tolerances {
    double of[RULE_NUM_OUTPUTS];
} rule_tolerances_t;

static const rule_tolerances_t tolerances_f32 = {
    {GDNCP_TOLERANCE_F32, GDNCP_TOLERANCE_F32, GDNCP_TOLERANCE_F32, GDNCP_TOLERANCE_F32,
     GDNCP_TOLERANCE_F32, GDNCP_TOLERANCE_F32_CANCELLING, GDNCP_TOLERANCE_F32,
     GDNCP_TOLERANCE_F32}};

static const rule_tolerances_t tolerances_bf16 = {
    {GDNCP_TOLERANCE_BF16_OUTPUT, GDNCP_TOLERANCE_BF16_STATE, GDNCP_TOLERANCE_BF16_GRADIENT,
     GDNCP_TOLERANCE_BF16_GRADIENT, GDNCP_TOLERANCE_BF16_GRADIENT,
     GDNCP_TOLERANCE_BF16_GATE_GRADIENT, GDNCP_TOLERANCE_BF16_GATE_GRADIENT,
     GDNCP_TOLERANCE_BF16_STATE}};

static inline double *doubles_of(const float *values, int64_t count)
{
    double *const copy = calloc((size_t)(count > 0 ? count : 1), sizeof *copy);

    assert_non_null(copy);
    for (int64_t i = 0; values != NULL && i < count; i++) {
        copy[i] = values[i];
    }
    return copy;
}

/* The inputs of a case in float64; free the seven arrays with free_reference_rule(). */
static inline gdncp_delta_rule_reference_t reference_rule(const rule_case_t *rule_case)
{
    return (gdncp_delta_rule_reference_t){
        .q = doubles_of(rule_case->q, rule_case_num_q(rule_case)),
        .k = doubles_of(rule_case->k, rule_case_num_q(rule_case)),
        .v = doubles_of(rule_case->v, rule_case_num_v(rule_case)),
        .g = doubles_of(rule_case->g, rule_case_num_gates(rule_case)),
        .beta = doubles_of(rule_case->beta, rule_case_num_gates(rule_case)),
        .initial_state = doubles_of(rule_case->initial_state, rule_case_num_states(rule_case)),
        .cu_seqlens = rule_case->cu_seqlens,
        .num_sequences = rule_case->num_sequences,
        .num_key_heads = rule_case->num_key_heads,
        .num_value_heads = rule_case->num_value_heads,
        .key_dim = rule_case->key_dim,
        .value_dim = rule_case->value_dim,
        .group_size = rule_case->group_size,
        .group_phase = rule_case->group_phase,
        .scale = rule_case->scale,
        .qk_l2norm = rule_case->qk_l2norm};
}

static inline void free_reference_rule(gdncp_delta_rule_reference_t *rule)
{
    free((void *)(uintptr_t)rule->q);
    free((void *)(uintptr_t)rule->k);
    free((void *)(uintptr_t)rule->v);
    free((void *)(uintptr_t)rule->g);
    free((void *)(uintptr_t)rule->beta);
    free((void *)(uintptr_t)rule->initial_state);
}

static inline rule_reference_t run_reference(const rule_case_t *rule_case)
{
    gdncp_delta_rule_reference_t rule = reference_rule(rule_case);
    double *const grad_o = doubles_of(rule_case->grad_o, rule_case_num_v(rule_case));
    double *const grad_final_state =
        doubles_of(rule_case->grad_final_state, rule_case_num_states(rule_case));
    const int64_t counts[RULE_NUM_OUTPUTS] = {
        rule_case_num_v(rule_case),     rule_case_num_states(rule_case),
        rule_case_num_q(rule_case),     rule_case_num_q(rule_case),
        rule_case_num_v(rule_case),     rule_case_num_gates(rule_case),
        rule_case_num_gates(rule_case), rule_case_num_states(rule_case)};
    rule_reference_t reference;

    for (int i = 0; i < RULE_NUM_OUTPUTS; i++) {
        reference.outputs[i] = doubles_of(NULL, counts[i]);
    }
    const gdncp_delta_rule_reference_grads_t grads = {.q = reference.outputs[2],
                                                      .k = reference.outputs[3],
                                                      .v = reference.outputs[4],
                                                      .g = reference.outputs[5],
                                                      .beta = reference.outputs[6],
                                                      .initial_state = reference.outputs[7]};

    assert_int_equal(
        gdncp_delta_rule_reference_forward(&rule, reference.outputs[0], reference.outputs[1]),
        GDNCP_OK);
    assert_int_equal(gdncp_delta_rule_reference_backward(&rule, grad_o, grad_final_state, &grads),
                     GDNCP_OK);
    free(grad_o);
    free(grad_final_state);
    free_reference_rule(&rule);
    return reference;
}

/* A golden result as a reference. */
static inline rule_reference_t reference_from(const rule_case_t *rule_case,
                                              const rule_result_t *result)
{
    rule_output_t outputs[RULE_NUM_OUTPUTS];
    rule_reference_t reference;

    rule_result_outputs(rule_case, result, outputs);
    for (int i = 0; i < RULE_NUM_OUTPUTS; i++) {
        reference.outputs[i] = doubles_of(outputs[i].values, outputs[i].count);
    }
    return reference;
}

static inline void free_reference(rule_reference_t *reference)
{
    for (int i = 0; i < RULE_NUM_OUTPUTS; i++) {
        free(reference->outputs[i]);
    }
}

/* Fail where a ratio is above its tolerance. The ratios are printed. */
static inline void check_result(const char *what, const rule_case_t *rule_case,
                                const rule_result_t *result, const rule_reference_t *reference,
                                const rule_tolerances_t *tolerances)
{
    rule_output_t outputs[RULE_NUM_OUTPUTS];

    rule_result_outputs(rule_case, result, outputs);
    print_message("%s:", what);
    for (int i = 0; i < RULE_NUM_OUTPUTS; i++) {
        print_message(" %s %.1e", outputs[i].name,
                      test_rms_ratio(outputs[i].values, reference->outputs[i], outputs[i].count));
    }
    print_message("\n");
    for (int i = 0; i < RULE_NUM_OUTPUTS; i++) {
        assert_rms_ratio(outputs[i].name, outputs[i].values, reference->outputs[i],
                         outputs[i].count, tolerances->of[i]);
    }
}

/* Run a case as its dtype would have it, and compare with the reference on the same numbers. */
static inline void check_against_reference(const char *what, rule_case_t *rule_case,
                                           gdncp_dtype_t dtype, int64_t gap,
                                           const rule_tolerances_t *tolerances)
{
    rule_case_round(rule_case, dtype);
    rule_result_t result = rule_result_make(rule_case);
    rule_reference_t reference = run_reference(rule_case);

    rule_case_run(rule_case, dtype, gap, NULL, &result);
    check_result(what, rule_case, &result, &reference, tolerances);
    free_reference(&reference);
    rule_result_free(&result);
}

/* A call's arguments over the arrays of a case and of a result. */
typedef struct rule_call {
    gdncp_delta_rule_t rule;
    gdncp_tensor_t o;
    gdncp_tensor_t final_state;
    gdncp_tensor_t grad_o;
    gdncp_tensor_t grad_final_state;
    gdncp_delta_rule_grads_t grads;
} rule_call_t;

static inline gdncp_tensor_t rule_tensor_with(gdncp_tensor_t tensor, float *data)
{
    tensor.data = data;
    return tensor;
}

static inline rule_call_t rule_call_over(const rule_case_t *rule_case, const rule_result_t *result)
{
    const gdncp_delta_rule_t rule = rule_case_f32(rule_case);

    return (rule_call_t){
        .rule = rule,
        .o = rule_tensor_with(rule.v, result->o),
        .final_state = rule_tensor_with(rule.initial_state, result->final_state),
        .grad_o = rule_tensor_with(rule.v, rule_case->grad_o),
        .grad_final_state = rule_tensor_with(rule.initial_state, rule_case->grad_final_state),
        .grads = {.q = rule_tensor_with(rule.q, result->grad_q),
                  .k = rule_tensor_with(rule.k, result->grad_k),
                  .v = rule_tensor_with(rule.v, result->grad_v),
                  .g = rule_tensor_with(rule.g, result->grad_g),
                  .beta = rule_tensor_with(rule.beta, result->grad_beta),
                  .initial_state =
                      rule_tensor_with(rule.initial_state, result->grad_initial_state)}};
}

/* Forward, then backward. */
static inline void rule_call_run(const rule_call_t *c)
{
    assert_int_equal(gdncp_delta_rule_forward(&c->rule, &c->o, &c->final_state, NULL), GDNCP_OK);
    assert_int_equal(
        gdncp_delta_rule_backward(&c->rule, &c->grad_o, &c->grad_final_state, &c->grads, NULL),
        GDNCP_OK);
}

/* Poisoned places for saved states. */
static inline gdncp_tensor_t rule_saved_states(test_arena_t *arena, const rule_case_t *rule_case)
{
    const int64_t shape[] = {rule_case->num_tokens / GDNCP_SAVED_STATE_TOKENS,
                             rule_case->num_value_heads, rule_case->key_dim, rule_case->value_dim};

    return test_tensor(arena, GDNCP_F32, 4, shape, 0);
}

/* A backward does use saved states: from those of another forward, gradients are others. */
static inline void check_saved_states_are_read(const rule_case_t *rule_case)
{
    rule_result_t expected = rule_result_make(rule_case);
    rule_result_t result = rule_result_make(rule_case);
    test_arena_t arena = {0};
    rule_call_t c = rule_call_over(rule_case, &expected);
    const rule_call_t other = rule_call_over(rule_case, &result);

    c.rule.saved_states = rule_saved_states(&arena, rule_case);
    rule_call_run(&c);
    ((float *)c.rule.saved_states.data)[17] += 1.0f;
    c.grads = other.grads;
    assert_int_equal(
        gdncp_delta_rule_backward(&c.rule, &c.grad_o, &c.grad_final_state, &c.grads, NULL),
        GDNCP_OK);
    assert_memory_not_equal(expected.grad_q, result.grad_q,
                            (size_t)rule_case_num_q(rule_case) * sizeof(float));
    test_arena_free(&arena);
    rule_result_free(&expected);
    rule_result_free(&result);
}

#endif
