/* What a caller may choose of a delta rule on the CPU: saved states and threads, as long as those
 * do not cut sequences into pieces. No choice changes a bit. */
#include "test_ops_delta_rule_check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "delta_rule_pieces.h"
#include "op_case.h"
#include "threads.h"

/* Both sides of every number of saved states from none to two, and of a backward's block. */
static const int64_t lengths[] = {
    GDNCP_SAVED_STATE_TOKENS - 1, 0, GDNCP_SAVED_STATE_TOKENS,
    GDNCP_SAVED_STATE_TOKENS + 1, 1, 2 * GDNCP_SAVED_STATE_TOKENS + 65};

#define NUM_LENGTHS ((int64_t)(sizeof lengths / sizeof lengths[0]))

static void saved_states_change_no_bit(void **state)
{
    static const rule_dims_t dims[] = {{1, 2, 20, 12}, {2, 2, 16, 40}};
    test_random_t random = test_random_start(__func__, 101);

    (void)state;
    for (int i = 0; i < 2; i++) {
        rule_case_t rule_case = rule_case_make(&dims[i], lengths, NUM_LENGTHS);
        rule_result_t expected = rule_result_make(&rule_case);
        rule_result_t result = rule_result_make(&rule_case);
        test_arena_t arena = {0};

        rule_case_fill(&rule_case, &random, -0.01);
        const rule_call_t without = rule_call_over(&rule_case, &expected);
        rule_call_t with = rule_call_over(&rule_case, &result);

        with.rule.saved_states = rule_saved_states(&arena, &rule_case);
        rule_call_run(&without);
        rule_call_run(&with);
        rule_result_check_equal(&rule_case, &expected, &result);
        test_arena_free(&arena);
        rule_result_free(&expected);
        rule_result_free(&result);
        rule_case_free(&rule_case);
    }
}

/* One thread goes by short blocks, each of which begins at a saved state. */
static void the_backward_reads_saved_states(void **state)
{
    static const rule_dims_t dims = {1, 1, 16, 16};
    static const int64_t long_one[] = {GDNCP_SAVED_STATE_TOKENS + 70};
    test_random_t random = test_random_start(__func__, 102);
    rule_case_t rule_case = rule_case_make(&dims, long_one, 1);

    (void)state;
    rule_case_fill(&rule_case, &random, -0.01);
    test_set_num_threads(1);
    check_saved_states_are_read(&rule_case);
    rule_case_free(&rule_case);
}

static void check_whole(const gdncp_delta_rule_t *rule)
{
    gdncp_rule_problem_t problem;

    assert_int_equal(gdncp_rule_problem_make(rule, GDNCP_RULE_Q, NULL, &problem), GDNCP_OK);
    assert_int_equal(gdncp_rule_forward_piece_tokens(&problem), 0);
    assert_int_equal(gdncp_rule_backward_piece_tokens(&problem), 0);
}

/* From one thread for all to several for one head: its columns in the walks, its chunks in what
 * does not depend on others. The second sequence has more than one block. */
static void threads_change_no_bit(void **state)
{
    static const rule_dims_t dims[] = {
        {1, 1, 24, 128}, {1, 2, 16, 192}, {2, 4, 12, 10}, {1, 1, 72, 16}};
    static const int64_t some[] = {200, 4096 + 70};
    test_random_t random = test_random_start(__func__, 104);

    (void)state;
    for (int i = 0; i < 4; i++) {
        rule_case_t rule_case = rule_case_make(&dims[i], some, 2);
        rule_result_t expected = rule_result_make(&rule_case);
        test_arena_t arena = {0};

        rule_case_fill(&rule_case, &random, -0.02);
        test_set_num_threads(1);
        const rule_call_t alone = rule_call_over(&rule_case, &expected);

        rule_call_run(&alone);
        for (int num_threads = 2; num_threads <= 4; num_threads++) {
            rule_result_t result = rule_result_make(&rule_case);
            rule_call_t shared = rule_call_over(&rule_case, &result);

            if (num_threads % 2 == 0) {
                shared.rule.saved_states = rule_saved_states(&arena, &rule_case);
            }
            test_set_num_threads(num_threads);
            check_whole(&shared.rule);
            rule_call_run(&shared);
            rule_result_check_equal(&rule_case, &expected, &result);
            rule_result_free(&result);
        }
        test_arena_free(&arena);
        rule_result_free(&expected);
        rule_case_free(&rule_case);
    }
}

static void threads_change_no_bit_in_bf16(void **state)
{
    static const rule_dims_t dims = {1, 1, 40, 128};
    static const int64_t long_one[] = {GDNCP_SAVED_STATE_TOKENS + 70};
    test_random_t random = test_random_start(__func__, 106);
    rule_case_t rule_case = rule_case_make(&dims, long_one, 1);
    rule_result_t expected = rule_result_make(&rule_case);

    (void)state;
    rule_case_fill(&rule_case, &random, -0.05);
    rule_case_round(&rule_case, GDNCP_BF16);
    test_set_num_threads(1);
    rule_case_run(&rule_case, GDNCP_BF16, 0, NULL, &expected);
    for (int num_threads = 2; num_threads <= 3; num_threads++) {
        rule_result_t result = rule_result_make(&rule_case);

        test_set_num_threads(num_threads);
        rule_case_run(&rule_case, GDNCP_BF16, 0, NULL, &result);
        rule_result_check_equal(&rule_case, &expected, &result);
        rule_result_free(&result);
    }
    rule_result_free(&expected);
    rule_case_free(&rule_case);
}

static void a_wrong_amx_is_an_error(void **state)
{
    static const rule_dims_t dims = {1, 1, 8, 8};
    static const int64_t one_token[] = {1};
    test_random_t random = test_random_start(__func__, 105);
    rule_case_t rule_case = rule_case_make(&dims, one_token, 1);
    rule_result_t result = rule_result_make(&rule_case);
    const rule_call_t call = rule_call_over(&rule_case, &result);

    (void)state;
    rule_case_fill(&rule_case, &random, -0.05);
    setenv("GDNCP_AMX", "yes", 1);
    assert_argument_error(gdncp_delta_rule_forward(&call.rule, &call.o, &call.final_state, NULL),
                          GDNCP_ERR_INVALID_ARGUMENT, "GDNCP_AMX");
    assert_argument_error(gdncp_delta_rule_backward(&call.rule, &call.grad_o,
                                                    &call.grad_final_state, &call.grads, NULL),
                          GDNCP_ERR_INVALID_ARGUMENT, "GDNCP_AMX");
    unsetenv("GDNCP_AMX");
    rule_result_free(&result);
    rule_case_free(&rule_case);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(saved_states_change_no_bit),
        cmocka_unit_test(the_backward_reads_saved_states),
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(threads_change_no_bit_in_bf16),
        cmocka_unit_test(a_wrong_amx_is_an_error),
    };

    return cmocka_run_group_tests_name("delta_rule_options", tests, NULL, NULL);
}
