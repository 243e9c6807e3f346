/*
 * The gated delta rule on devices whose blocks have little shared memory: 99 KiB as sm_86, sm_89
 * and sm_120 give, 163 KiB as sm_80. Kernels that do not fit are replaced there by others, which
 * make the same sums: what they compute has the bits of the largest device.
 */
#include "test_ops_delta_rule_check.h"

#include <stdio.h>
#include <string.h>

#include "emulator_control.h"
#include "op_case.h"

#define SMALL_DEVICES 2

static const size_t shared_bytes[SMALL_DEVICES] = {99 * 1024, 163 * 1024};

typedef struct size_case {
    rule_dims_t dims;
    gdncp_dtype_t dtype;
    int64_t gap;
    double mean_g;
} size_case_t;

/* Columns of v that fill a block's warps, and that leave some idle; keys that are padded. */
static const size_case_t cases[] = {
    {{1, 2, 60, 72}, GDNCP_F32, 0, -0.1},   {{1, 2, 100, 20}, GDNCP_F32, 0, -0.05},
    {{2, 2, 128, 36}, GDNCP_F32, 3, -0.2},  {{1, 1, 192, 72}, GDNCP_F32, 0, -1.0},
    {{1, 2, 256, 20}, GDNCP_F32, 0, -0.02}, {{1, 2, 100, 20}, GDNCP_BF16, 0, -0.05},
    {{1, 3, 128, 40}, GDNCP_BF16, 0, -0.1}, {{1, 2, 256, 24}, GDNCP_BF16, 5, -0.02},
    {{1, 1, 128, 16}, GDNCP_F16, 0, -0.3},  {{1, 1, 256, 16}, GDNCP_F16, 1, -0.1},
};

#define NUM_CASES (sizeof cases / sizeof cases[0])

/* More chunks than two stages hold, the last one short; no token. */
static const int64_t lengths[] = {130, 0};
#define NUM_SEQUENCES 2

static const char *name_of(const size_case_t *size, char name[64])
{
    snprintf(name, 64, "%s dk %d dv %d", gdncp_dtype_name(size->dtype), (int)size->dims.key_dim,
             (int)size->dims.value_dim);
    return name;
}

static rule_case_t make_case(const size_case_t *size, test_random_t *random)
{
    rule_case_t rule_case = rule_case_make(&size->dims, lengths, NUM_SEQUENCES);

    rule_case_fill(&rule_case, random, size->mean_g);
    rule_case_round(&rule_case, size->dtype);
    return rule_case;
}

static int largest_device(void **state)
{
    (void)state;
    emulator_set_shared_bytes(0);
    return 0;
}

static void outputs_and_gradients_keep_their_bits(void **state)
{
    test_random_t random = test_random_start(__func__, 51);

    (void)state;
    for (size_t i = 0; i < NUM_CASES; i++) {
        rule_case_t rule_case = make_case(&cases[i], &random);
        rule_result_t large = rule_result_make(&rule_case);
        rule_reference_t reference = run_reference(&rule_case);
        char name[64];

        emulator_set_shared_bytes(0);
        rule_case_run(&rule_case, cases[i].dtype, cases[i].gap, NULL, &large);
        check_result(name_of(&cases[i], name), &rule_case, &large, &reference,
                     cases[i].dtype == GDNCP_F32 ? &tolerances_f32 : &tolerances_bf16);
        for (int j = 0; j < SMALL_DEVICES; j++) {
            rule_result_t small = rule_result_make(&rule_case);

            emulator_set_shared_bytes(shared_bytes[j]);
            rule_case_run(&rule_case, cases[i].dtype, cases[i].gap, NULL, &small);
            rule_result_check_equal(&rule_case, &large, &small);
            rule_result_free(&small);
        }
        free_reference(&reference);
        rule_result_free(&large);
        rule_case_free(&rule_case);
    }
}

/* M and U of all sequences, and D, one after the other. */
static float *run_summaries(const rule_case_t *rule_case, int64_t *count_p)
{
    const int64_t num_states = rule_case_num_states(rule_case);
    const int64_t square[] = {NUM_SEQUENCES, rule_case->num_value_heads, rule_case->key_dim,
                              rule_case->key_dim};
    const int64_t shape[] = {NUM_SEQUENCES, rule_case->num_value_heads, rule_case->key_dim,
                             rule_case->value_dim};
    const int64_t num_squares = square[0] * square[1] * square[2] * square[3];
    float *const all = calloc((size_t)(num_squares + 2 * num_states), sizeof *all);
    gdncp_delta_rule_t rule = rule_case_f32(rule_case);
    gdncp_tensor_t grad_o = rule.v;

    assert_non_null(all);
    *count_p = num_squares + 2 * num_states;
    test_poison(all, *count_p);
    const gdncp_tensor_t m = gdncp_tensor_contiguous(all, GDNCP_F32, 4, square);
    const gdncp_tensor_t u = gdncp_tensor_contiguous(all + num_squares, GDNCP_F32, 4, shape);
    const gdncp_tensor_t d =
        gdncp_tensor_contiguous(all + num_squares + num_states, GDNCP_F32, 4, shape);
    const gdncp_tensor_t grad_final =
        gdncp_tensor_contiguous(rule_case->grad_final_state, GDNCP_F32, 4, shape);

    grad_o.data = rule_case->grad_o;
    rule.initial_state = (gdncp_tensor_t){.data = NULL};
    assert_int_equal(gdncp_delta_rule_summary(&rule, NULL, NULL, NUM_SEQUENCES, &m, &u, NULL),
                     GDNCP_OK);
    assert_int_equal(gdncp_delta_rule_grad_summary(&rule, NULL, NULL, NUM_SEQUENCES, &grad_o,
                                                   &grad_final, &d, NULL),
                     GDNCP_OK);
    return all;
}

static void summaries_keep_their_bits(void **state)
{
    test_random_t random = test_random_start(__func__, 52);

    (void)state;
    for (size_t i = 0; i < NUM_CASES; i++) {
        if (cases[i].dtype != GDNCP_F32) {
            continue;
        }
        rule_case_t rule_case = make_case(&cases[i], &random);
        int64_t count;

        emulator_set_shared_bytes(0);
        float *const large = run_summaries(&rule_case, &count);

        for (int j = 0; j < SMALL_DEVICES; j++) {
            emulator_set_shared_bytes(shared_bytes[j]);
            float *const small = run_summaries(&rule_case, &count);

            assert_memory_equal(small, large, (size_t)count * sizeof *large);
            free(small);
        }
        free(large);
        rule_case_free(&rule_case);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(outputs_and_gradients_keep_their_bits, largest_device),
        cmocka_unit_test_teardown(summaries_keep_their_bits, largest_device),
    };

    return cmocka_run_group_tests_name("cuda_delta_rule_sizes", tests, NULL, NULL);
}
