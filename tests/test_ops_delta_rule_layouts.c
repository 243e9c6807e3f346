/* States as [dv, dk]: the bits are those of states as [dk, dv]. */
#include "test_ops_delta_rule_check.h"

#include "delta_rule_pieces.h"
#include "delta_rule_problem.h"
#include "op_case.h"
#include "op_parallel.h"
#include "threads.h"

/* dst [count, columns, rows] = the transposes of src [count, rows, columns]. */
static void transpose_all(int64_t count, int64_t rows, int64_t columns, const float *src,
                          float *dst)
{
    for (int64_t i = 0; i < count; i++) {
        for (int64_t j = 0; j < rows; j++) {
            for (int64_t l = 0; l < columns; l++) {
                dst[(i * columns + l) * rows + j] = src[(i * rows + j) * columns + l];
            }
        }
    }
}

/* Initial and final states, and the gradients of both. */
static void check_transposed(const rule_case_t *rule_case)
{
    const int64_t dk = rule_case->key_dim;
    const int64_t dv = rule_case->value_dim;
    const int64_t count = rule_case->num_sequences * rule_case->num_value_heads;
    const int64_t shape[] = {rule_case->num_sequences, rule_case->num_value_heads, dv, dk};
    rule_result_t expected = rule_result_make(rule_case);
    rule_result_t result = rule_result_make(rule_case);
    test_arena_t arena = {0};
    gdncp_tensor_t states[4];

    for (int i = 0; i < 4; i++) {
        states[i] = test_tensor(&arena, GDNCP_F32, 4, shape, 0);
    }
    transpose_all(count, dk, dv, rule_case->initial_state, states[0].data);
    transpose_all(count, dk, dv, rule_case->grad_final_state, states[2].data);

    const rule_call_t plain = rule_call_over(rule_case, &expected);
    rule_call_t transposed = rule_call_over(rule_case, &result);

    transposed.rule.state_layout = GDNCP_STATE_DV_DK;
    transposed.rule.initial_state = states[0];
    transposed.final_state = states[1];
    transposed.grad_final_state = states[2];
    transposed.grads.initial_state = states[3];
    rule_call_run(&plain);
    rule_call_run(&transposed);
    transpose_all(count, dv, dk, states[1].data, result.final_state);
    transpose_all(count, dv, dk, states[3].data, result.grad_initial_state);
    rule_result_check_equal(rule_case, &expected, &result);
    test_arena_free(&arena);
    rule_result_free(&expected);
    rule_result_free(&result);
}

static void transposed_states_change_no_bit(void **state)
{
    static const rule_dims_t dims[] = {{1, 2, 20, 33}, {1, 1, 16, 8}};
    static const int64_t lengths[] = {70, 0, 9};
    test_random_t random = test_random_start(__func__, 103);

    (void)state;
    for (int i = 0; i < 2; i++) {
        rule_case_t rule_case = rule_case_make(&dims[i], lengths, 3);

        rule_case_fill(&rule_case, &random, -0.05);
        check_transposed(&rule_case);
        rule_case_free(&rule_case);
    }
}

/* On a device: windows of some chunks, so that states go on from one to the next, and a sequence
 * that is cut into pieces, the first of which begins with the initial state. */
static void windows_and_pieces_keep_the_layout(void **state)
{
    static const rule_dims_t dims = {1, 1, 20, 24};
    static const int64_t lengths[] = {40, 3100, 100};
    static const size_t limits[] = {(size_t)400 << 10, (size_t)1 << 40};
    const size_t usual = gdncp_rule_scratch_bytes;
    test_random_t random = test_random_start(__func__, 105);
    rule_case_t rule_case = rule_case_make(&dims, lengths, 3);

    (void)state;
    rule_case_fill(&rule_case, &random, -1e-3);
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        gdncp_rule_scratch_bytes = limits[i];
        check_transposed(&rule_case);
        gdncp_rule_scratch_bytes = usual;
    }
    rule_case_free(&rule_case);
}

#ifndef GDNCP_TEST_ON_DEVICE
/* On the CPU: a sequence between others that threads share in pieces, forward and backward. */
static void pieces_of_threads_keep_the_layout(void **state)
{
    static const rule_dims_t dims = {1, 1, 20, 24};
    static const int64_t lengths[] = {40, 3100, 100};
    test_random_t random = test_random_start(__func__, 106);
    rule_case_t rule_case = rule_case_make(&dims, lengths, 3);
    const gdncp_delta_rule_t rule = rule_case_f32(&rule_case);
    gdncp_rule_problem_t problem;

    (void)state;
    rule_case_fill(&rule_case, &random, -1e-3);
    assert_int_equal(gdncp_rule_problem_make(&rule, GDNCP_RULE_Q, NULL, &problem), GDNCP_OK);
    test_set_num_threads(16);
    if (gdncp_parallel_num_threads(INT64_MAX) == 16) {
        assert_int_equal(gdncp_rule_forward_piece_tokens(&problem), GDNCP_SAVED_STATE_TOKENS);
        assert_int_equal(gdncp_rule_backward_piece_tokens(&problem), GDNCP_SAVED_STATE_TOKENS);
    }
    check_transposed(&rule_case);
    test_set_num_threads(1);
    rule_case_free(&rule_case);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(transposed_states_change_no_bit),
        cmocka_unit_test(windows_and_pieces_keep_the_layout),
#ifndef GDNCP_TEST_ON_DEVICE
        cmocka_unit_test(pieces_of_threads_keep_the_layout),
#endif
    };

    return cmocka_run_group_tests_name("delta_rule_layouts", tests, NULL, NULL);
}
