/* Summaries of the gated delta rule: the affine map of a segment, and its transpose's offset. */
#include "test_ops_delta_rule_check.h"

#include <string.h>

#include "op_case.h"
#include "threads.h"

/* M and U, or D, of the sequences of a case, poisoned until written. */
typedef struct summary {
    float *transition;   /* [N, Hv, dk, dk] */
    float *contribution; /* [N, Hv, dk, dv] */
    float *grad_initial; /* [N, Hv, dk, dv] */
} summary_t;

static int64_t num_transitions(const rule_case_t *rule_case)
{
    return rule_case->num_sequences * rule_case->num_value_heads * rule_case->key_dim *
           rule_case->key_dim;
}

static summary_t make_summary(const rule_case_t *rule_case)
{
    const int64_t num_states = rule_case_num_states(rule_case);
    summary_t summary = {.transition = calloc((size_t)num_transitions(rule_case), sizeof(float)),
                         .contribution = calloc((size_t)num_states, sizeof(float)),
                         .grad_initial = calloc((size_t)num_states, sizeof(float))};

    test_poison(summary.transition, num_transitions(rule_case));
    test_poison(summary.contribution, num_states);
    test_poison(summary.grad_initial, num_states);
    return summary;
}

static void free_summary(summary_t *summary)
{
    free(summary->transition);
    free(summary->contribution);
    free(summary->grad_initial);
}

static gdncp_tensor_t states_tensor(const rule_case_t *rule_case, float *values, int64_t count,
                                    int64_t columns)
{
    const int64_t shape[] = {count, rule_case->num_value_heads, rule_case->key_dim, columns};

    return gdncp_tensor_contiguous(values, GDNCP_F32, 4, shape);
}

/* What is not to be read is absent. */
static void run_summary(const rule_case_t *rule_case, const int64_t *sequences, int64_t count,
                        const summary_t *summary)
{
    const gdncp_tensor_t transition =
        states_tensor(rule_case, summary->transition, count, rule_case->key_dim);
    const gdncp_tensor_t contribution =
        states_tensor(rule_case, summary->contribution, count, rule_case->value_dim);
    gdncp_delta_rule_t rule = rule_case_f32(rule_case);

    rule.q = (gdncp_tensor_t){.data = NULL};
    rule.initial_state = (gdncp_tensor_t){.data = NULL};
    assert_int_equal(
        gdncp_delta_rule_summary(&rule, sequences, NULL, count, &transition, &contribution, NULL),
        GDNCP_OK);
}

static void run_grad_summary(const rule_case_t *rule_case, const int64_t *sequences, int64_t count,
                             float *grad_final_state, const summary_t *summary)
{
    const gdncp_tensor_t grad_final =
        states_tensor(rule_case, grad_final_state, count, rule_case->value_dim);
    const gdncp_tensor_t grad_initial =
        states_tensor(rule_case, summary->grad_initial, count, rule_case->value_dim);
    gdncp_delta_rule_t rule = rule_case_f32(rule_case);
    gdncp_tensor_t grad_o = rule.v;

    grad_o.data = rule_case->grad_o;
    rule.initial_state = (gdncp_tensor_t){.data = NULL};
    assert_int_equal(gdncp_delta_rule_grad_summary(&rule, sequences, NULL, count, &grad_o,
                                                   &grad_final, &grad_initial, NULL),
                     GDNCP_OK);
}

/* out = M in + U in place of in, for one head; or M' in + U. */
static void merge(const rule_case_t *rule_case, float *transition, float *contribution,
                  bool transposed, float *in_out)
{
    const int64_t square[] = {1, rule_case->key_dim, rule_case->key_dim};
    const int64_t shape[] = {1, rule_case->key_dim, rule_case->value_dim};
    const gdncp_state_chain_t step = {.count = 1, .continues = 1};
    const size_t bytes = (size_t)(shape[1] * shape[2]) * sizeof(float);
    float *const next = malloc(bytes);
    const gdncp_state_chains_t one_step = {
        .transition = gdncp_tensor_contiguous(transition, GDNCP_F32, 3, square),
        .contribution = gdncp_tensor_contiguous(contribution, GDNCP_F32, 3, shape),
        .in = gdncp_tensor_contiguous(in_out, GDNCP_F32, 2, shape + 1),
        .chains = &step,
        .num_chains = 1,
        .backward = transposed,
    };
    const gdncp_tensor_t out = gdncp_tensor_contiguous(next, GDNCP_F32, 3, shape);

    assert_non_null(next);
    test_poison(next, shape[1] * shape[2]);
    assert_int_equal(gdncp_state_merge(&one_step, &out, NULL), GDNCP_OK);
    memcpy(in_out, next, bytes);
    free(next);
}

/* Cut the sequence of `whole` at random places; the same tokens as a case of segments. */
static rule_case_t cut(const rule_case_t *whole, test_random_t *random, int64_t num_segments)
{
    const rule_dims_t dims = {whole->num_key_heads, whole->num_value_heads, whole->key_dim,
                              whole->value_dim};
    int64_t lengths[16] = {0};

    assert_true(num_segments <= 16);
    for (int64_t left = whole->num_tokens; left > 0;) {
        const int64_t length = test_random_int(random, 1, left < 90 ? left : 90);

        lengths[test_random_int(random, 0, num_segments - 1)] += length;
        left -= length;
    }
    rule_case_t segments = rule_case_make(&dims, lengths, num_segments);

    segments.group_size = whole->group_size;
    segments.group_phase = whole->group_phase;
    memcpy(segments.q, whole->q, (size_t)rule_case_num_q(whole) * sizeof(float));
    memcpy(segments.k, whole->k, (size_t)rule_case_num_q(whole) * sizeof(float));
    memcpy(segments.v, whole->v, (size_t)rule_case_num_v(whole) * sizeof(float));
    memcpy(segments.g, whole->g, (size_t)rule_case_num_gates(whole) * sizeof(float));
    memcpy(segments.beta, whole->beta, (size_t)rule_case_num_gates(whole) * sizeof(float));
    memcpy(segments.grad_o, whole->grad_o, (size_t)rule_case_num_v(whole) * sizeof(float));
    return segments;
}

/* Walk summaries of segments from the initial state to the final one, and gradients back. */
static void check_merged_summaries(const rule_case_t *whole, const rule_case_t *segments)
{
    const int64_t heads = whole->num_value_heads;
    const int64_t size = whole->key_dim * whole->value_dim;
    const int64_t square = whole->key_dim * whole->key_dim;
    const int64_t num_states = heads * size;
    summary_t summary = make_summary(segments);
    rule_reference_t reference = run_reference(whole);
    float *const state = malloc((size_t)num_states * sizeof(float));
    float *const grad = malloc((size_t)num_states * sizeof(float));

    assert_non_null(state);
    assert_non_null(grad);
    run_summary(segments, NULL, segments->num_sequences, &summary);
    run_grad_summary(segments, NULL, segments->num_sequences, NULL, &summary);
    memcpy(state, whole->initial_state, (size_t)num_states * sizeof(float));
    memcpy(grad, whole->grad_final_state, (size_t)num_states * sizeof(float));
    for (int64_t i = 0; i < segments->num_sequences; i++) {
        const int64_t j = segments->num_sequences - 1 - i;

        for (int64_t h = 0; h < heads; h++) {
            merge(whole, summary.transition + (i * heads + h) * square,
                  summary.contribution + (i * heads + h) * size, false, state + h * size);
            merge(whole, summary.transition + (j * heads + h) * square,
                  summary.grad_initial + (j * heads + h) * size, true, grad + h * size);
        }
    }
    assert_rms_ratio("merged final state", state, reference.outputs[1], num_states,
                     GDNCP_TOLERANCE_F32);
    assert_rms_ratio("merged gradient of the initial state", grad, reference.outputs[7], num_states,
                     GDNCP_TOLERANCE_F32);
    free(state);
    free(grad);
    free_reference(&reference);
    free_summary(&summary);
}

static void segments_merge_to_one_run(void **state)
{
    static const rule_dims_t dims[] = {{1, 2, 32, 32}, {2, 4, 60, 24}, {1, 1, 24, 100}};
    static const double mean_g[] = {-0.005, -0.05, -0.5};
    const int64_t lengths[] = {test_size(400, 200)};
    test_random_t random = test_random_start(__func__, 31);

    (void)state;
    for (int i = 0; i < 3; i++) {
        rule_case_t whole = rule_case_make(&dims[i], lengths, 1);

        rule_case_fill(&whole, &random, mean_g[i]);
        if (i == 1) {
            whole.group_size = 3;
            whole.group_phase = 2;
        }
        for (int64_t num_segments = 1; num_segments <= test_size(16, 4); num_segments *= 2) {
            rule_case_t segments = cut(&whole, &random, num_segments);

            check_merged_summaries(&whole, &segments);
            rule_case_free(&segments);
        }
        rule_case_free(&whole);
    }
}

/* The sequences asked for, in the order asked, once or twice; the same bits as all of them. */
static void sequences_can_be_selected(void **state)
{
    static const rule_dims_t dims = {1, 2, 16, 12};
    static const int64_t lengths[] = {70, 0, 64, 5};
    static const int64_t selected[] = {3, 1, 3};
    test_random_t random = test_random_start(__func__, 32);
    rule_case_t rule_case = rule_case_make(&dims, lengths, 4);
    summary_t all = make_summary(&rule_case);
    summary_t some = make_summary(&rule_case);
    const int64_t states = 2 * 16 * 12;
    const int64_t squares = 2 * 16 * 16;

    (void)state;
    rule_case_fill(&rule_case, &random, -0.1);
    run_summary(&rule_case, NULL, 4, &all);
    run_grad_summary(&rule_case, NULL, 4, NULL, &all);
    run_summary(&rule_case, selected, 3, &some);
    run_grad_summary(&rule_case, selected, 3, NULL, &some);
    for (int64_t i = 0; i < 3; i++) {
        assert_memory_equal(some.transition + i * squares, all.transition + selected[i] * squares,
                            (size_t)squares * sizeof(float));
        assert_memory_equal(some.contribution + i * states, all.contribution + selected[i] * states,
                            (size_t)states * sizeof(float));
        assert_memory_equal(some.grad_initial + i * states, all.grad_initial + selected[i] * states,
                            (size_t)states * sizeof(float));
    }
    /* What was not asked for was not written. */
    for (int64_t i = 3 * states; i < 4 * states; i++) {
        assert_true(some.contribution[i] != some.contribution[i]);
        assert_true(some.grad_initial[i] != some.grad_initial[i]);
    }
    free_summary(&all);
    free_summary(&some);
    rule_case_free(&rule_case);
}

/* Without M, the final states of the sequences asked for: the forward's own bits. */
static void without_a_transition_states_are_final(void **state)
{
    static const rule_dims_t dims = {1, 2, 24, 40};
    static const int64_t lengths[] = {70, 0, 64, 5};
    static const int64_t selected[] = {3, 1, 0};
    const int64_t states = 2 * 24 * 40;
    test_random_t random = test_random_start(__func__, 36);
    rule_case_t rule_case = rule_case_make(&dims, lengths, 4);
    summary_t summary = make_summary(&rule_case);
    rule_result_t result = rule_result_make(&rule_case);

    (void)state;
    rule_case_fill(&rule_case, &random, -0.1);
    rule_case_run(&rule_case, GDNCP_F32, 0, NULL, &result);
    const gdncp_delta_rule_t rule = rule_case_f32(&rule_case);
    const gdncp_tensor_t contribution =
        states_tensor(&rule_case, summary.contribution, 3, rule_case.value_dim);

    assert_int_equal(gdncp_delta_rule_summary(&rule, selected, NULL, 3, NULL, &contribution, NULL),
                     GDNCP_OK);
    for (int64_t i = 0; i < 3; i++) {
        assert_memory_equal(summary.contribution + i * states,
                            result.final_state + selected[i] * states,
                            (size_t)states * sizeof(float));
    }
    rule_result_free(&result);
    free_summary(&summary);
    rule_case_free(&rule_case);
}

/* No token: M is the identity, U and D are zero. */
static void an_empty_sequence_is_the_identity(void **state)
{
    static const rule_dims_t dims = {1, 1, 8, 4};
    static const int64_t lengths[] = {0};
    rule_case_t rule_case = rule_case_make(&dims, lengths, 1);
    summary_t summary = make_summary(&rule_case);

    (void)state;
    run_summary(&rule_case, NULL, 1, &summary);
    run_grad_summary(&rule_case, NULL, 1, NULL, &summary);
    for (int64_t i = 0; i < 8 * 8; i++) {
        assert_true(summary.transition[i] == (i % 9 == 0 ? 1.0f : 0.0f));
    }
    for (int64_t i = 0; i < 8 * 4; i++) {
        assert_true(summary.contribution[i] == 0.0f);
        assert_true(summary.grad_initial[i] == 0.0f);
    }
    free_summary(&summary);
    rule_case_free(&rule_case);
}

/* grad_summary with a gradient of the final state is the backward's gradient of the initial one,
 * bit for bit: it is the same walk. */
static void grad_summary_is_the_backward(void **state)
{
    static const rule_dims_t dims = {2, 4, 24, 40};
    static const int64_t lengths[] = {200, 0, 17};
    test_random_t random = test_random_start(__func__, 33);
    rule_case_t rule_case = rule_case_make(&dims, lengths, 3);
    summary_t summary = make_summary(&rule_case);
    rule_result_t result = rule_result_make(&rule_case);

    (void)state;
    rule_case_fill(&rule_case, &random, -0.1);
    rule_case_run(&rule_case, GDNCP_F32, 0, NULL, &result);
    run_grad_summary(&rule_case, NULL, 3, rule_case.grad_final_state, &summary);
    assert_memory_equal(summary.grad_initial, result.grad_initial_state,
                        (size_t)rule_case_num_states(&rule_case) * sizeof(float));
    rule_result_free(&result);
    free_summary(&summary);
    rule_case_free(&rule_case);
}

static void check_forgotten(const rule_dims_t *dims, test_random_t *random)
{
    static const int64_t lengths[] = {500};
    rule_case_t rule_case = rule_case_make(dims, lengths, 1);
    const int64_t num_states = rule_case_num_states(&rule_case);
    summary_t summary = make_summary(&rule_case);
    summary_t alone = make_summary(&rule_case);
    rule_reference_t reference;

    rule_case_fill(&rule_case, random, -10.0);
    reference = run_reference(&rule_case);
    run_summary(&rule_case, NULL, 1, &summary);
    for (int64_t i = 0; i < num_transitions(&rule_case); i++) {
        assert_true(summary.transition[i] == 0.0f);
    }
    assert_rms_ratio("contribution", summary.contribution, reference.outputs[1], num_states,
                     GDNCP_TOLERANCE_F32);
    gdncp_delta_rule_t rule = rule_case_f32(&rule_case);
    const gdncp_tensor_t contribution =
        states_tensor(&rule_case, alone.contribution, 1, rule_case.value_dim);

    rule.initial_state = (gdncp_tensor_t){.data = NULL};
    assert_int_equal(gdncp_delta_rule_summary(&rule, NULL, NULL, 1, NULL, &contribution, NULL),
                     GDNCP_OK);
    assert_memory_equal(summary.contribution, alone.contribution,
                        (size_t)num_states * sizeof(float));
    free_reference(&reference);
    free_summary(&summary);
    free_summary(&alone);
    rule_case_free(&rule_case);
}

/* Decay so strong that M is zero early, after which it is not advanced: U goes on, with the bits
 * that it has where no M is asked for. */
static void a_forgotten_transition_is_zero(void **state)
{
    /* The second with columns of both M and U in a block of a device. */
    static const rule_dims_t dims[] = {{1, 2, 32, 16}, {1, 6, 16, 40}};
    test_random_t random = test_random_start(__func__, 34);

    (void)state;
    for (size_t i = 0; i < sizeof dims / sizeof dims[0]; i++) {
        check_forgotten(&dims[i], &random);
    }
}

static void threads_do_not_change_bits(void **state)
{
    static const rule_dims_t dims = {1, 3, 24, 40};
    static const int64_t lengths[] = {100, 65};
    test_random_t random = test_random_start(__func__, 35);
    rule_case_t rule_case = rule_case_make(&dims, lengths, 2);
    summary_t alone = make_summary(&rule_case);
    summary_t together = make_summary(&rule_case);
    const size_t bytes = (size_t)rule_case_num_states(&rule_case) * sizeof(float);

    (void)state;
    rule_case_fill(&rule_case, &random, -0.1);
    test_set_num_threads(1);
    run_summary(&rule_case, NULL, 2, &alone);
    run_grad_summary(&rule_case, NULL, 2, rule_case.grad_final_state, &alone);
    test_set_num_threads(5);
    run_summary(&rule_case, NULL, 2, &together);
    run_grad_summary(&rule_case, NULL, 2, rule_case.grad_final_state, &together);
    assert_memory_equal(alone.transition, together.transition,
                        (size_t)num_transitions(&rule_case) * sizeof(float));
    assert_memory_equal(alone.contribution, together.contribution, bytes);
    assert_memory_equal(alone.grad_initial, together.grad_initial, bytes);
    free_summary(&alone);
    free_summary(&together);
    rule_case_free(&rule_case);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(segments_merge_to_one_run),
        cmocka_unit_test(sequences_can_be_selected),
        cmocka_unit_test(without_a_transition_states_are_final),
        cmocka_unit_test(an_empty_sequence_is_the_identity),
        cmocka_unit_test(grad_summary_is_the_backward),
        cmocka_unit_test(a_forgotten_transition_is_zero),
        cmocka_unit_test(threads_do_not_change_bits),
    };

    return cmocka_run_group_tests_name("delta_rule_summary", tests, NULL, NULL);
}
