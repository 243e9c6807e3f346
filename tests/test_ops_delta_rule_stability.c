/* The gated delta rule where implementations break, and what must not change a bit. */
#include "test_ops_delta_rule_check.h"

#include <math.h>
#include <string.h>

#include "gdncp/device.h"
#include "op_case.h"
#include "threads.h"

static void fill_range(float *values, int64_t count, float value)
{
    for (int64_t i = 0; i < count; i++) {
        values[i] = value;
    }
}

/* All keys nearly the same and beta near 2: the triangular inverse is at its worst. */
static void correlated_keys_with_beta_near_2(void **state)
{
    static const rule_dims_t dims = {1, 2, 64, 32};
    static const int64_t lengths[] = {300};
    test_random_t random = test_random_start(__func__, 21);
    rule_case_t rule_case = rule_case_make(&dims, lengths, 1);

    (void)state;
    rule_case_fill(&rule_case, &random, -0.001);
    for (int64_t t = 0; t < 300; t++) {
        for (int64_t i = 0; i < 64; i++) {
            rule_case.k[t * 64 + i] = 1.0f + 0.02f * rule_case.k[t * 64 + i];
        }
    }
    fill_range(rule_case.beta, rule_case_num_gates(&rule_case), 1.99f);
    const rule_tolerances_t tolerances = {
        {GDNCP_TOLERANCE_F32_CANCELLING, GDNCP_TOLERANCE_F32_CANCELLING,
         GDNCP_TOLERANCE_F32_CANCELLING, GDNCP_TOLERANCE_F32_CANCELLING,
         GDNCP_TOLERANCE_F32_CANCELLING, GDNCP_TOLERANCE_F32_CANCELLING,
         GDNCP_TOLERANCE_F32_CANCELLING, GDNCP_TOLERANCE_F32_CANCELLING}};

    check_against_reference("correlated keys", &rule_case, GDNCP_F32, 0, &tolerances);
    rule_case_free(&rule_case);
}

/* A state that still remembers its first tokens after all others: e^-2.6 of it is left. */
static void slow_decay_over_262144_tokens(void **state)
{
    static const rule_dims_t dims = {1, 1, 16, 16};
    const int64_t lengths[] = {test_size(262144, 16384)};
    test_random_t random = test_random_start(__func__, 22);
    rule_case_t rule_case = rule_case_make(&dims, lengths, 1);

    (void)state;
    rule_case_fill(&rule_case, &random, -1e-5);
    for (int64_t i = 0; i < rule_case_num_gates(&rule_case); i++) {
        rule_case.beta[i] *= 0.01f;
    }
    check_against_reference("slow decay", &rule_case, GDNCP_F32, 0, &tolerances_f32);
    rule_case_free(&rule_case);
}

/* Decay by 20 and by 200 a token, beside heads with none: products of exponentials would be
 * infinite times zero. */
static void strong_decay(void **state)
{
    static const rule_dims_t dims = {1, 4, 32, 32};
    static const int64_t lengths[] = {200};
    static const float g_of_head[] = {-20.0f, -200.0f, 0.0f, -0.5f};
    test_random_t random = test_random_start(__func__, 23);
    rule_case_t rule_case = rule_case_make(&dims, lengths, 1);

    (void)state;
    rule_case_fill(&rule_case, &random, -1.0);
    for (int64_t t = 0; t < 200; t++) {
        for (int64_t h = 0; h < 4; h++) {
            /* Tokens without decay in between, so that neighbours still see each other. */
            rule_case.g[t * 4 + h] = t % 3 == 0 ? g_of_head[h] : -0.01f;
        }
    }
    check_against_reference("strong decay", &rule_case, GDNCP_F32, 0, &tolerances_f32);
    rule_case_free(&rule_case);
}

/* beta = 0 writes nothing but has a gradient. */
static void zero_beta(void **state)
{
    static const rule_dims_t dims = {1, 1, 16, 16};
    static const int64_t lengths[] = {100};
    test_random_t random = test_random_start(__func__, 24);
    rule_case_t rule_case = rule_case_make(&dims, lengths, 1);

    (void)state;
    rule_case_fill(&rule_case, &random, -0.1);
    for (int64_t i = 0; i < rule_case_num_gates(&rule_case); i += 2) {
        rule_case.beta[i] = 0.0f;
    }
    check_against_reference("beta 0", &rule_case, GDNCP_F32, 0, &tolerances_f32);
    rule_case_free(&rule_case);
}

/* Keys and queries of zeros have the gradient of x / sqrt(eps). */
static void zero_keys(void **state)
{
    static const rule_dims_t dims = {1, 1, 16, 16};
    static const int64_t lengths[] = {40};
    test_random_t random = test_random_start(__func__, 25);
    rule_case_t rule_case = rule_case_make(&dims, lengths, 1);

    (void)state;
    rule_case_fill(&rule_case, &random, -0.1);
    fill_range(rule_case.k + 5 * 16, 16, 0.0f);
    fill_range(rule_case.q + 7 * 16, 16, 0.0f);
    check_against_reference("zero keys", &rule_case, GDNCP_F32, 0, &tolerances_f32);
    rule_case_free(&rule_case);
}

/* Three documents; what is compared is all but the middle one. */

static const int64_t documents[] = {90, 70, 33};

/* The parts of an output that belong to documents 0 and 2 must hold the same bits. */
static void check_neighbours_equal(const char *what, const float *a, const float *b, int64_t count,
                                   bool is_state)
{
    const int64_t total = is_state ? 3 : documents[0] + documents[1] + documents[2];
    const int64_t unit = count / total;
    const int64_t first = (is_state ? 1 : documents[0]) * unit;
    const int64_t last = (is_state ? 2 : documents[0] + documents[1]) * unit;

    if (memcmp(a, b, (size_t)first * sizeof *a) != 0 ||
        memcmp(a + last, b + last, (size_t)(count - last) * sizeof *a) != 0) {
        print_error("%s: a neighbour's bits changed\n", what);
        fail();
    }
}

static void check_document_stays_alone(float replacement)
{
    static const rule_dims_t dims = {2, 4, 32, 24};
    test_random_t random = test_random_start(__func__, 26);
    rule_case_t rule_case = rule_case_make(&dims, documents, 3);
    rule_result_t before = rule_result_make(&rule_case);
    rule_result_t after = rule_result_make(&rule_case);
    rule_output_t outputs_before[RULE_NUM_OUTPUTS];
    rule_output_t outputs_after[RULE_NUM_OUTPUTS];

    rule_case_fill(&rule_case, &random, -0.1);
    rule_case_run(&rule_case, GDNCP_F32, 0, NULL, &before);
    fill_range(rule_case.q + documents[0] * 64, documents[1] * 64, replacement);
    fill_range(rule_case.k + documents[0] * 64, documents[1] * 64, replacement);
    fill_range(rule_case.v + documents[0] * 96, documents[1] * 96, replacement);
    fill_range(rule_case.g + documents[0] * 4, documents[1] * 4, replacement);
    fill_range(rule_case.beta + documents[0] * 4, documents[1] * 4, replacement);
    fill_range(rule_case.grad_o + documents[0] * 96, documents[1] * 96, replacement);
    fill_range(rule_case.initial_state + 4 * 768, 4 * 768, replacement);
    fill_range(rule_case.grad_final_state + 4 * 768, 4 * 768, replacement);
    rule_case_run(&rule_case, GDNCP_F32, 0, NULL, &after);
    rule_result_outputs(&rule_case, &before, outputs_before);
    rule_result_outputs(&rule_case, &after, outputs_after);
    for (int i = 0; i < RULE_NUM_OUTPUTS; i++) {
        check_neighbours_equal(outputs_before[i].name, outputs_before[i].values,
                               outputs_after[i].values, outputs_before[i].count, i == 1 || i == 7);
    }
    rule_result_free(&before);
    rule_result_free(&after);
    rule_case_free(&rule_case);
}

static void nan_stays_in_its_document(void **state)
{
    (void)state;
    check_document_stays_alone(NAN);
    check_document_stays_alone(INFINITY);
}

static void a_changed_document_leaves_its_neighbours_alone(void **state)
{
    (void)state;
    check_document_stays_alone(-0.25f);
}

static void check_threads(rule_case_t *rule_case, gdncp_dtype_t dtype)
{
    static const int num_threads[] = {2, 3, 16};
    rule_result_t alone = rule_result_make(rule_case);

    test_set_num_threads(1);
    rule_case_run(rule_case, dtype, 0, NULL, &alone);
    for (int i = 0; i < 3; i++) {
        rule_result_t together = rule_result_make(rule_case);

        test_set_num_threads(num_threads[i]);
        rule_case_run(rule_case, dtype, 0, NULL, &together);
        rule_result_check_equal(rule_case, &alone, &together);
        rule_result_free(&together);
    }
    rule_result_free(&alone);
}

static void threads_do_not_change_bits(void **state)
{
    static const rule_dims_t dims = {3, 6, 32, 24};
    static const int64_t lengths[] = {200, 1, 90};
    test_random_t random = test_random_start(__func__, 27);
    rule_case_t rule_case = rule_case_make(&dims, lengths, 3);

    (void)state;
    rule_case_fill(&rule_case, &random, -0.1);
    rule_case.group_size = 3;
    rule_case.group_phase = 2;
    check_threads(&rule_case, GDNCP_BF16);
    rule_case_free(&rule_case);
}

/* Of float32, where a device's shared memory holds one chunk, or one slice, at a time. */
static void threads_do_not_change_bits_of_large_heads(void **state)
{
    static const rule_dims_t dims = {1, 1, 256, 40};
    static const int64_t lengths[] = {150};
    test_random_t random = test_random_start(__func__, 29);
    rule_case_t rule_case = rule_case_make(&dims, lengths, 1);

    (void)state;
    rule_case_fill(&rule_case, &random, -0.1);
    check_threads(&rule_case, GDNCP_F32);
    rule_case_free(&rule_case);
}

/* Scratch of the device, or of the CPU. */
static void fill_scratch_with_nan(void *memory, size_t bytes)
{
    char *const nan = malloc(bytes);

    assert_non_null(nan);
    memset(nan, 0xff, bytes);
    assert_int_equal(gdncp_device_copy(test_device(), memory, nan, bytes, NULL), GDNCP_OK);
    free(nan);
}

/* Second and later calls on one workspace allocate nothing, and scratch full of NaN from another
 * call does not show. */
static void a_workspace_is_reused(void **state)
{
    static const rule_dims_t dims = {1, 2, 16, 16};
    static const int64_t lengths[] = {130, 7};
    test_random_t random = test_random_start(__func__, 28);
    rule_case_t rule_case = rule_case_make(&dims, lengths, 2);
    rule_result_t fresh = rule_result_make(&rule_case);
    rule_result_t reused = rule_result_make(&rule_case);
    gdncp_workspace_t *workspace = NULL;
    gdncp_memory_usage_t usage = {0};
    void *memory = NULL;

    (void)state;
    rule_case_fill(&rule_case, &random, -0.1);
    rule_case_run(&rule_case, GDNCP_F32, 0, NULL, &fresh);

    gdncp_memory_track(&usage);
    assert_int_equal(gdncp_workspace_create(&workspace), GDNCP_OK);
    rule_case_run(&rule_case, GDNCP_F32, 0, workspace, &reused);
    const int64_t peak = usage.peak_bytes;
    const int64_t allocations = usage.num_allocations;

    assert_true(peak > 0);
    assert_int_equal(gdncp_workspace_reserve(workspace, 1, &memory), GDNCP_OK);
    /* What is counted on the device is more than this one block. */
    fill_scratch_with_nan(memory,
                          (size_t)test_size(usage.current_bytes - 1024, usage.current_bytes / 2));
    rule_case_run(&rule_case, GDNCP_F32, 0, workspace, &reused);
    assert_int_equal(usage.num_allocations, allocations);
    gdncp_workspace_destroy(workspace);
    gdncp_memory_track(NULL);
    assert_int_equal(usage.current_bytes, 0);
    rule_result_check_equal(&rule_case, &fresh, &reused);
    rule_result_free(&fresh);
    rule_result_free(&reused);
    rule_case_free(&rule_case);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(correlated_keys_with_beta_near_2),
        cmocka_unit_test(slow_decay_over_262144_tokens),
        cmocka_unit_test(strong_decay),
        cmocka_unit_test(zero_beta),
        cmocka_unit_test(zero_keys),
        cmocka_unit_test(nan_stays_in_its_document),
        cmocka_unit_test(a_changed_document_leaves_its_neighbours_alone),
        cmocka_unit_test(threads_do_not_change_bits),
        cmocka_unit_test(threads_do_not_change_bits_of_large_heads),
        cmocka_unit_test(a_workspace_is_reused),
    };

    return cmocka_run_group_tests_name("delta_rule_stability", tests, NULL, NULL);
}
