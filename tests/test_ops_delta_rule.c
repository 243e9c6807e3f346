/* The gated delta rule against golden files and against its float64 reference. */
#include "test_ops_delta_rule_check.h"

#include <math.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "op_case.h"

static const char *const golden[] = {
    "rule_basic",          "rule_correlated_keys",      "rule_d60",
    "rule_gva_odd_length", "rule_negative_eigenvalues", "rule_no_decay_initial_state",
    "rule_packed",         "rule_strong_decay",
};

#define NUM_GOLDEN (sizeof golden / sizeof golden[0])

static void golden_files_in_f32(void **state)
{
    (void)state;
    for (size_t i = 0; i < NUM_GOLDEN; i++) {
        rule_case_t rule_case;
        rule_result_t expected;

        rule_case_load(golden[i], &rule_case, &expected);
        rule_result_t result = rule_result_make(&rule_case);
        rule_reference_t reference = reference_from(&rule_case, &expected);

        rule_case_run(&rule_case, GDNCP_F32, 0, NULL, &result);
        check_result(golden[i], &rule_case, &result, &reference, &tolerances_f32);
        free_reference(&reference);
        rule_result_free(&result);
        rule_result_free(&expected);
        rule_case_free(&rule_case);
    }
}

static void check_golden_files(gdncp_dtype_t dtype)
{
    for (size_t i = 0; i < NUM_GOLDEN; i++) {
        rule_case_t rule_case;
        rule_result_t expected;
        char what[64];

        rule_case_load(golden[i], &rule_case, &expected);
        snprintf(what, sizeof what, "%s %s", golden[i], gdncp_dtype_name(dtype));
        check_against_reference(what, &rule_case, dtype, 0, &tolerances_bf16);
        rule_result_free(&expected);
        rule_case_free(&rule_case);
    }
}

static void golden_files_in_16_bits(void **state)
{
    (void)state;
    check_golden_files(GDNCP_BF16);
    check_golden_files(GDNCP_F16);
}

/* As processors without matrix tiles do it. */
static void golden_files_without_tiles(void **state)
{
    (void)state;
    setenv("GDNCP_AMX", "0", 1);
    check_golden_files(GDNCP_BF16);
    unsetenv("GDNCP_AMX");
}

/* Dims that are no multiple of anything, one key head for several value heads, lengths on both
 * sides of the chunk's and the padding's borders. */
static void random_packs(void **state)
{
    const rule_dims_t dims[] = {{1, 1, 24, 48},
                                {2, 4, 60, 100},
                                {1, 3, 96, 192},
                                {2, 2, 8, 8},
                                {1, 2, 2, 1},
                                {1, 1, 256, 256},
                                {1, 1, test_size(300, 200), 40}};
    static const int64_t lengths[] = {0, 1, 63, 64, 65, 0, 15, 16, 17, 130};
    static const double mean_g[] = {-0.05, -1.0, -0.2, -4.0, -0.3, -0.01, -0.1};
    test_random_t random = test_random_start(__func__, 11);

    (void)state;
    for (size_t i = 0; i < sizeof dims / sizeof dims[0]; i++) {
        const bool is_large = dims[i].key_dim * dims[i].value_dim > 10000;
        rule_case_t rule_case =
            rule_case_make(&dims[i], lengths + (is_large ? 3 : 0), is_large ? 3 : 10);
        char what[64];

        rule_case_fill(&rule_case, &random, mean_g[i]);
        snprintf(what, sizeof what, "dk %d dv %d", (int)dims[i].key_dim, (int)dims[i].value_dim);
        check_against_reference(what, &rule_case, GDNCP_F32, (int64_t)i % 3, &tolerances_f32);
        rule_case_free(&rule_case);
    }
}

/* The largest head dimension, and so many value heads of 96 that blocks have warps without columns
 * on the emulated device: several chunks, in 16 bits too. */
static void shapes_in_each_dtype(void **state)
{
    static const struct {
        gdncp_dtype_t dtype;
        const rule_tolerances_t *tolerances;
    } formats[] = {{GDNCP_F32, &tolerances_f32},
                   {GDNCP_BF16, &tolerances_bf16},
                   {GDNCP_F16, &tolerances_bf16}};
    static const rule_dims_t dims[] = {{1, 1, 256, 40}, {1, 4, 16, 96}, {1, 2, 20, 33}};
    static const int64_t lengths[] = {150};
    test_random_t random = test_random_start(__func__, 19);

    (void)state;
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        for (size_t j = 0; j < sizeof dims / sizeof dims[0]; j++) {
            rule_case_t rule_case = rule_case_make(&dims[j], lengths, 1);

            rule_case_fill(&rule_case, &random, -0.1);
            check_against_reference(gdncp_dtype_name(formats[i].dtype), &rule_case,
                                    formats[i].dtype, 0, formats[i].tolerances);
            rule_case_free(&rule_case);
        }
    }
}

static void random_shapes(void **state)
{
    test_random_t random = test_random_start(__func__, 12);

    (void)state;
    for (int64_t round = 0; round < test_size(20, 8); round++) {
        const int64_t key_heads = test_random_int(&random, 1, 3);
        const rule_dims_t dims = {key_heads, key_heads * test_random_int(&random, 1, 3),
                                  test_random_int(&random, 2, 70), test_random_int(&random, 2, 70)};
        const int64_t num_sequences = test_random_int(&random, 1, 4);
        int64_t lengths[4];
        char what[96];

        for (int i = 0; i < 4; i++) {
            lengths[i] = test_random_int(&random, 0, 150);
        }
        rule_case_t rule_case = rule_case_make(&dims, lengths, num_sequences);

        rule_case_fill(&rule_case, &random, -3.0 * test_random_uniform(&random));
        rule_case.scale = round % 4 == 1 ? -0.3f : 0.0f;
        if (round % 4 == 2) {
            /* Without normalisation, keys of norm 1 at most keep the state bounded. */
            rule_case.qk_l2norm = false;
            for (int64_t i = 0; i < rule_case_num_q(&rule_case); i++) {
                rule_case.k[i] *= (float)(0.5 / sqrt((double)dims.key_dim));
            }
        }
        snprintf(what, sizeof what, "round %d: Hk %d Hv %d dk %d dv %d T %d", (int)round,
                 (int)dims.num_key_heads, (int)dims.num_value_heads, (int)dims.key_dim,
                 (int)dims.value_dim, (int)rule_case.num_tokens);
        check_against_reference(what, &rule_case, GDNCP_F32, round % 3 == 0 ? 5 : 0,
                                &tolerances_f32);
        if (round < test_size(20, 2)) {
            check_against_reference(what, &rule_case, GDNCP_BF16, round % 3 == 0 ? 5 : 0,
                                    &tolerances_bf16);
        }
        rule_case_free(&rule_case);
    }
}

/* Strided tokens in 16 bits, of all tensors and of one alone, whose rows then are the only ones
 * that are not aligned: the packed run gives the same bits. */
static void strides_do_not_change_bits(void **state)
{
    static const rule_dims_t dims = {2, 4, 24, 40};
    static const int64_t lengths[] = {70, 3};
    static const rule_gaps_t gaps[] = {
        {13, 13, 13, 13}, {1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}, {0, 0, 0, 1}};
    test_random_t random = test_random_start(__func__, 13);
    rule_case_t rule_case = rule_case_make(&dims, lengths, 2);
    rule_result_t packed = rule_result_make(&rule_case);

    (void)state;
    rule_case_fill(&rule_case, &random, -0.1);
    rule_case_run(&rule_case, GDNCP_BF16, 0, NULL, &packed);
    for (size_t i = 0; i < sizeof gaps / sizeof gaps[0]; i++) {
        rule_result_t strided = rule_result_make(&rule_case);

        rule_case_run_gapped(&rule_case, GDNCP_BF16, &gaps[i], NULL, &strided);
        rule_result_check_equal(&rule_case, &packed, &strided);
        rule_result_free(&strided);
    }
    rule_result_free(&packed);
    rule_case_free(&rule_case);
}

/* More chunks than the backward keeps at once, so that it starts from states at block borders; on
 * the device, so many that forward cuts sequences into pieces. */
static void sequences_of_several_blocks(void **state)
{
    static const rule_dims_t dims = {1, 2, 16, 12};
    const int64_t lengths[] = {test_size(4096 * 2, 3072) + 65, test_size(4096, 700),
                               test_size(4097, 513)};
    test_random_t random = test_random_start(__func__, 14);
    rule_case_t rule_case = rule_case_make(&dims, lengths, 3);

    (void)state;
    rule_case_fill(&rule_case, &random, -0.002);
    check_against_reference("several blocks", &rule_case, GDNCP_F32, 0, &tolerances_f32);
    rule_case_free(&rule_case);
}

/* Value heads 2..6 of groups of three: the first group has one head here, the last two. A fourth
 * key head is read by none and gets zero gradients. */
static void a_part_of_the_heads(void **state)
{
    static const rule_dims_t dims = {4, 5, 20, 16};
    static const int64_t lengths[] = {80, 30};
    test_random_t random = test_random_start(__func__, 15);
    rule_case_t rule_case = rule_case_make(&dims, lengths, 2);

    (void)state;
    rule_case_fill(&rule_case, &random, -0.1);
    rule_case.group_size = 3;
    rule_case.group_phase = 2;
    check_against_reference("phase 2 of 3", &rule_case, GDNCP_F32, 0, &tolerances_f32);
    rule_case_free(&rule_case);
}

/* Both sides of what has an absent initial state, gradient of the final state, and outputs. */
static void states_are_optional(void **state)
{
    static const rule_dims_t dims = {1, 2, 16, 16};
    static const int64_t lengths[] = {70, 0, 9};
    test_random_t random = test_random_start(__func__, 16);
    rule_case_t rule_case = rule_case_make(&dims, lengths, 3);
    rule_result_t zeros = rule_result_make(&rule_case);
    rule_result_t absent = rule_result_make(&rule_case);

    (void)state;
    rule_case_fill(&rule_case, &random, -0.1);
    const size_t bytes = (size_t)rule_case_num_states(&rule_case) * sizeof(float);

    memset(rule_case.initial_state, 0, bytes);
    memset(rule_case.grad_final_state, 0, bytes);
    rule_case_run(&rule_case, GDNCP_F32, 0, NULL, &zeros);

    gdncp_delta_rule_t rule = rule_case_f32(&rule_case);
    gdncp_delta_rule_grads_t grads = {
        .q = rule.q, .k = rule.k, .v = rule.v, .g = rule.g, .beta = rule.beta};
    gdncp_tensor_t o = rule.v;
    gdncp_tensor_t grad_o = rule.v;

    rule.initial_state = (gdncp_tensor_t){.data = NULL};
    o.data = absent.o;
    grad_o.data = rule_case.grad_o;
    grads.q.data = absent.grad_q;
    grads.k.data = absent.grad_k;
    grads.v.data = absent.grad_v;
    grads.g.data = absent.grad_g;
    grads.beta.data = absent.grad_beta;
    assert_int_equal(gdncp_delta_rule_forward(&rule, &o, NULL, NULL), GDNCP_OK);
    assert_int_equal(gdncp_delta_rule_backward(&rule, &grad_o, NULL, &grads, NULL), GDNCP_OK);
    memcpy(absent.final_state, zeros.final_state, bytes);
    memcpy(absent.grad_initial_state, zeros.grad_initial_state, bytes);
    rule_result_check_equal(&rule_case, &zeros, &absent);
    rule_result_free(&zeros);
    rule_result_free(&absent);
    rule_case_free(&rule_case);
}

/* The gradient of the initial states may take the place of that of the final ones. */
static void the_gradient_of_states_may_be_replaced(void **state)
{
    static const rule_dims_t dims = {1, 3, 16, 16};
    static const int64_t lengths[] = {70, 0, 9};
    test_random_t random = test_random_start(__func__, 18);
    rule_case_t rule_case = rule_case_make(&dims, lengths, 3);
    rule_result_t apart = rule_result_make(&rule_case);
    rule_result_t in_place = rule_result_make(&rule_case);
    float *const poisoned = in_place.grad_initial_state;

    (void)state;
    rule_case_fill(&rule_case, &random, -0.1);
    rule_case_run(&rule_case, GDNCP_F32, 0, NULL, &apart);
    in_place.grad_initial_state = rule_case.grad_final_state;
    rule_case_run(&rule_case, GDNCP_F32, 0, NULL, &in_place);
    rule_result_check_equal(&rule_case, &apart, &in_place);
    in_place.grad_initial_state = poisoned;
    rule_result_free(&apart);
    rule_result_free(&in_place);
    rule_case_free(&rule_case);
}

/* Packs without a token, a sequence or a head: what there is of states goes through. */
static void nothing_to_do(void **state)
{
    static const rule_dims_t some = {1, 2, 8, 4};
    static const rule_dims_t none = {0, 0, 8, 4};
    static const int64_t empty[] = {0, 0};
    static const int64_t few[] = {3};
    test_random_t random = test_random_start(__func__, 17);
    rule_case_t cases[] = {rule_case_make(&some, empty, 2), rule_case_make(&some, empty, 0),
                           rule_case_make(&none, few, 1)};

    (void)state;
    for (int i = 0; i < 3; i++) {
        rule_result_t result = rule_result_make(&cases[i]);
        const size_t bytes = (size_t)rule_case_num_states(&cases[i]) * sizeof(float);

        rule_case_fill(&cases[i], &random, -0.1);
        rule_case_run(&cases[i], GDNCP_F32, 0, NULL, &result);
        assert_memory_equal(result.final_state, cases[i].initial_state, bytes);
        assert_memory_equal(result.grad_initial_state, cases[i].grad_final_state, bytes);
        rule_result_free(&result);
        rule_case_free(&cases[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_files_in_f32),
        cmocka_unit_test(golden_files_in_16_bits),
        cmocka_unit_test(golden_files_without_tiles),
        cmocka_unit_test(random_packs),
        cmocka_unit_test(shapes_in_each_dtype),
        cmocka_unit_test(random_shapes),
        cmocka_unit_test(strides_do_not_change_bits),
        cmocka_unit_test(sequences_of_several_blocks),
        cmocka_unit_test(a_part_of_the_heads),
        cmocka_unit_test(states_are_optional),
        cmocka_unit_test(the_gradient_of_states_may_be_replaced),
        cmocka_unit_test(nothing_to_do),
    };

    return cmocka_run_group_tests_name("delta_rule", tests, NULL, NULL);
}
