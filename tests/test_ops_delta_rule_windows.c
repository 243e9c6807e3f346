/*
 * Packs of many chunks on a device: scratch is for a window of them, and long sequences are cut
 * into pieces that are walked at once. The CPU has neither, and must agree all the more.
 */
#include "test_ops_delta_rule_check.h"

#include <string.h>

#include "delta_rule_problem.h"

/* Scratch that is enough for a few chunks of these cases, so that a window has so many. */
static void limit_scratch(size_t bytes)
{
    gdncp_rule_scratch_bytes = bytes;
}

/* Windows that end inside sequences, at their ends and between them; a window of one chunk; a
 * sequence of several windows. */
static void windows_do_not_change_bits(void **state)
{
    static const rule_dims_t dims = {1, 2, 24, 40};
    static const int64_t lengths[] = {130, 0, 64, 1, 300, 0, 70};
    static const size_t limits[] = {1, (size_t)200 << 10, (size_t)400 << 10};
    const size_t usual = gdncp_rule_scratch_bytes;
    test_random_t random = test_random_start(__func__, 61);
    rule_case_t rule_case = rule_case_make(&dims, lengths, 7);
    rule_result_t whole = rule_result_make(&rule_case);
    rule_reference_t reference;

    (void)state;
    rule_case_fill(&rule_case, &random, -0.02);
    reference = run_reference(&rule_case);
    rule_case_run(&rule_case, GDNCP_F32, 0, NULL, &whole);
    check_result("one window", &rule_case, &whole, &reference, &tolerances_f32);
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        rule_result_t result = rule_result_make(&rule_case);

        limit_scratch(limits[i]);
        rule_case_run(&rule_case, GDNCP_F32, 0, NULL, &result);
        limit_scratch(usual);
        rule_result_check_equal(&rule_case, &whole, &result);
        rule_result_free(&result);
    }
    free_reference(&reference);
    rule_result_free(&whole);
    rule_case_free(&rule_case);
}

/* What summaries of chosen sequences give: maps, final states, and gradients of initial states. */
enum { NUM_CHOSEN = 4, HEADS = 2, KEY_DIM = 24, VALUE_DIM = 40 };

typedef struct summaries {
    float transition[NUM_CHOSEN * HEADS * KEY_DIM * KEY_DIM];
    float contribution[NUM_CHOSEN * HEADS * KEY_DIM * VALUE_DIM];
    float final[NUM_CHOSEN * HEADS * KEY_DIM * VALUE_DIM];
    float grad_initial[NUM_CHOSEN * HEADS * KEY_DIM * VALUE_DIM];
} summaries_t;

static gdncp_tensor_t states(float *data, int64_t columns)
{
    const int64_t shape[] = {NUM_CHOSEN, HEADS, KEY_DIM, columns};

    return gdncp_tensor_contiguous(data, GDNCP_F32, 4, shape);
}

static void summarise(const rule_case_t *rule_case, const int64_t *chosen, summaries_t *result)
{
    const gdncp_delta_rule_t rule = rule_case_f32(rule_case);
    const gdncp_tensor_t transition = states(result->transition, KEY_DIM);
    const gdncp_tensor_t contribution = states(result->contribution, VALUE_DIM);
    const gdncp_tensor_t final = states(result->final, VALUE_DIM);
    const gdncp_tensor_t grad_final = states(rule_case->grad_final_state, VALUE_DIM);
    const gdncp_tensor_t grad_initial = states(result->grad_initial, VALUE_DIM);
    gdncp_tensor_t grad_o = rule.v;

    grad_o.data = rule_case->grad_o;
    memset(result, 0xff, sizeof *result);
    assert_int_equal(
        gdncp_delta_rule_summary(&rule, chosen, NULL, NUM_CHOSEN, &transition, &contribution, NULL),
        GDNCP_OK);
    assert_int_equal(gdncp_delta_rule_summary(&rule, chosen, NULL, NUM_CHOSEN, NULL, &final, NULL),
                     GDNCP_OK);
    assert_int_equal(gdncp_delta_rule_grad_summary(&rule, chosen, NULL, NUM_CHOSEN, &grad_o,
                                                   &grad_final, &grad_initial, NULL),
                     GDNCP_OK);
}

static void summaries_in_windows(void **state)
{
    static const rule_dims_t dims = {1, HEADS, KEY_DIM, VALUE_DIM};
    static const int64_t lengths[] = {130, 0, 64, 1, 300, 0, 170};
    static const int64_t chosen[NUM_CHOSEN] = {4, 6, 0, 2};
    static const size_t limits[] = {1, (size_t)100 << 10, (size_t)200 << 10};
    const size_t usual = gdncp_rule_scratch_bytes;
    test_random_t random = test_random_start(__func__, 64);
    rule_case_t rule_case = rule_case_make(&dims, lengths, 7);
    summaries_t whole;
    summaries_t result;

    (void)state;
    rule_case_fill(&rule_case, &random, -0.02);
    summarise(&rule_case, chosen, &whole);
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        limit_scratch(limits[i]);
        summarise(&rule_case, chosen, &result);
        limit_scratch(usual);
        assert_memory_equal(&result, &whole, sizeof whole);
    }
    rule_case_free(&rule_case);
}

/* Pieces have 8 chunks at least, and only what has 6 pieces is cut: here the second sequence, which
 * begins between two borders. Its initial state shall be seen from its end. */
static void pieces_join(void **state)
{
    static const rule_dims_t dims[] = {{1, 1, 24, 40}, {1, 2, 70, 12}};
    static const gdncp_dtype_t dtypes[] = {GDNCP_F32, GDNCP_BF16};
    static const int64_t lengths[] = {100, 3100, 0, 70};
    test_random_t random = test_random_start(__func__, 62);

    (void)state;
    for (int i = 0; i < 2; i++) {
        rule_case_t rule_case = rule_case_make(&dims[i], lengths, 4);

        rule_case_fill(&rule_case, &random, -1e-4);
        for (int64_t j = 0; j < rule_case_num_gates(&rule_case); j++) {
            rule_case.beta[j] *= 0.02f;
        }
        check_against_reference(i == 0 ? "pieces" : "pieces bf16", &rule_case, dtypes[i], 0,
                                i == 0 ? &tolerances_f32 : &tolerances_bf16);
        rule_case_free(&rule_case);
    }
}

/* Two windows, of which one is cut into pieces; they meet inside the second sequence. */
static void pieces_in_windows(void **state)
{
    static const rule_dims_t dims = {1, 1, 16, 16};
    static const int64_t lengths[] = {3100, 3300};
    const size_t usual = gdncp_rule_scratch_bytes;
    test_random_t random = test_random_start(__func__, 63);
    rule_case_t rule_case = rule_case_make(&dims, lengths, 2);

    (void)state;
    rule_case_fill(&rule_case, &random, -1e-4);
    for (int64_t j = 0; j < rule_case_num_gates(&rule_case); j++) {
        rule_case.beta[j] *= 0.02f;
    }
    limit_scratch((size_t)1600 << 10);
    check_against_reference("windows", &rule_case, GDNCP_F32, 0, &tolerances_f32);
    limit_scratch(usual);
    rule_case_free(&rule_case);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_do_not_change_bits),
        cmocka_unit_test(summaries_in_windows),
        cmocka_unit_test(pieces_join),
        cmocka_unit_test(pieces_in_windows),
    };

    return cmocka_run_group_tests_name("delta_rule_windows", tests, NULL, NULL);
}
