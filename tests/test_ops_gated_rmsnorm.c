#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "gated_rmsnorm_reference.h"
#include "random.h"
#include "test_ops_check.h"

typedef struct norm_case {
    test_arena_t arena;
    gdncp_gated_rmsnorm_t norm;
    gdncp_tensor_t y, grad_y;
    gdncp_gated_rmsnorm_grads_t grads;
    gdncp_gated_rmsnorm_reference_t reference;
    double *x, *z, *weight, *upstream;
    gdncp_workspace_t *workspace;
} norm_case_t;

/* x, y and its gradient have the dtype of z, or are F32. */
typedef struct norm_dtypes {
    gdncp_dtype_t x, y, z;
} norm_dtypes_t;

static norm_case_t start_mixed_case(test_random_t *random, const norm_dtypes_t *dtypes,
                                    const int64_t *shape, int64_t gap, float eps)
{
    norm_case_t c = {0};

    c.norm.x = test_tensor(&c.arena, dtypes->x, 3, shape, gap);
    c.norm.z = test_tensor(&c.arena, dtypes->z, 3, shape, 3 * gap);
    c.norm.weight = test_tensor(&c.arena, GDNCP_F32, 1, shape + 2, 0);
    c.norm.eps = eps;
    c.grad_y = test_tensor(&c.arena, dtypes->y, 3, shape, 2 * gap);
    c.x = test_tensor_fill(&c.arena, random, 1.0, 0.2, &c.norm.x);
    c.z = test_tensor_fill(&c.arena, random, 2.0, 0.0, &c.norm.z);
    c.weight = test_tensor_fill(&c.arena, random, 0.5, 1.0, &c.norm.weight);
    c.upstream = test_tensor_fill(&c.arena, random, 1.0, 0.0, &c.grad_y);
    c.reference = (gdncp_gated_rmsnorm_reference_t){.num_rows = shape[0] * shape[1],
                                                    .d = shape[2],
                                                    .x = c.x,
                                                    .z = c.z,
                                                    .weight = c.weight,
                                                    .eps = (double)eps};
    c.y = test_tensor(&c.arena, dtypes->y, 3, shape, gap);
    c.grads.x = test_tensor(&c.arena, dtypes->x, 3, shape, gap);
    c.grads.z = test_tensor(&c.arena, dtypes->z, 3, shape, 2 * gap);
    c.grads.weight = test_tensor(&c.arena, GDNCP_F32, 1, shape + 2, 0);
    return c;
}

static norm_case_t start_case(test_random_t *random, gdncp_dtype_t dtype, const int64_t *shape,
                              int64_t gap, float eps)
{
    const norm_dtypes_t dtypes = {.x = dtype, .y = dtype, .z = dtype};

    return start_mixed_case(random, &dtypes, shape, gap, eps);
}

static void set_variant(norm_case_t *c, float weight_offset, bool gate_first)
{
    c->norm.weight_offset = weight_offset;
    c->norm.gate_first = gate_first;
    c->reference.weight_offset = (double)weight_offset;
    c->reference.gate_first = gate_first;
}

static gdncp_status_t run_forward(void *context)
{
    const norm_case_t *const c = context;

    return gdncp_gated_rmsnorm_forward(&c->norm, &c->y, c->workspace);
}

static gdncp_status_t run_backward(void *context)
{
    const norm_case_t *const c = context;

    return gdncp_gated_rmsnorm_backward(&c->norm, &c->grad_y, &c->grads, c->workspace);
}

static double reference_loss(void *context)
{
    const norm_case_t *const c = context;
    const int64_t count = c->reference.num_rows * c->reference.d;
    test_arena_t arena = {0};
    double *const y = test_doubles(&arena, count);

    gdncp_gated_rmsnorm_reference_forward(&c->reference, y);
    const double loss = dot(c->upstream, y, count);

    test_arena_free(&arena);
    return loss;
}

static void reference_gradients_are_finite_differences(void **state)
{
    static const int64_t shape[3] = {3, 2, 7};
    test_random_t random = test_random_start(__func__, 1);

    (void)state;
    for (int i = 0; i < 4; i++) {
        /* A large eps shows one that is left out. */
        norm_case_t c = start_case(&random, GDNCP_F32, shape, 0, i % 2 == 0 ? 1e-6f : 2.0f);
        double *const grad_x = test_doubles(&c.arena, 42);
        double *const grad_z = test_doubles(&c.arena, 42);
        double *const grad_weight = test_doubles(&c.arena, 7);

        set_variant(&c, i % 2 == 0 ? 0.0f : 0.75f, i >= 2);
        gdncp_gated_rmsnorm_reference_backward(&c.reference, c.upstream, grad_x, grad_z,
                                               grad_weight);
        assert_gradient("x", reference_loss, &c, c.x, grad_x, 42);
        assert_gradient("z", reference_loss, &c, c.z, grad_z, 42);
        assert_gradient("weight", reference_loss, &c, c.weight, grad_weight, 7);
        test_arena_free(&c.arena);
    }
}

static void check_against_reference(void *context)
{
    norm_case_t *const c = context;
    const int64_t count = c->reference.num_rows * c->reference.d;
    double *const first = test_doubles(&c->arena, count);
    double *const second = test_doubles(&c->arena, count);
    double *const grad_weight = test_doubles(&c->arena, c->reference.d);

    assert_int_equal(run_forward(c), GDNCP_OK);
    gdncp_gated_rmsnorm_reference_forward(&c->reference, first);
    assert_tensor_close("y", &c->y, first, output_tolerance(&c->y));

    assert_int_equal(run_backward(c), GDNCP_OK);
    gdncp_gated_rmsnorm_reference_backward(&c->reference, c->upstream, first, second, grad_weight);
    assert_tensor_close("grads.x", &c->grads.x, first, grad_tolerance(&c->grads.x));
    assert_tensor_close("grads.z", &c->grads.z, second, grad_tolerance(&c->grads.z));
    assert_tensor_close("grads.weight", &c->grads.weight, grad_weight, GDNCP_TOLERANCE_F32);
}

static tested_op_t op_of(norm_case_t *c)
{
    return (tested_op_t){.context = c,
                         .forward = run_forward,
                         .backward = run_backward,
                         .check = check_against_reference,
                         .workspace = &c->workspace,
                         .outputs = {
                             {"y", &c->y},
                             {"grads.x", &c->grads.x},
                             {"grads.z", &c->grads.z},
                             {"grads.weight", &c->grads.weight},
                         }};
}

static void results_match_the_reference(void **state)
{
    static const gdncp_dtype_t dtypes[] = {GDNCP_F32, GDNCP_BF16, GDNCP_F16};
    test_random_t random = test_random_start(__func__, 2);

    (void)state;
    for (int i = 0; i < 60; i++) {
        const int64_t shape[3] = {i % 4 == 0 ? i / 4
                                             : test_random_int(&random, 1, test_size(200, 30)),
                                  test_random_int(&random, 1, 5), test_random_int(&random, 2, 200)};
        const norm_dtypes_t mixed = {
            .x = test_random_int(&random, 0, 1) == 0 ? GDNCP_F32 : dtypes[i % 3],
            .y = test_random_int(&random, 0, 1) == 0 ? GDNCP_F32 : dtypes[i % 3],
            .z = dtypes[i % 3]};
        norm_case_t c = start_mixed_case(&random, &mixed, shape, test_random_int(&random, 0, 5),
                                         i % 2 == 0 ? 1e-6f : 0.5f);

        set_variant(&c, i % 3 == 1 ? 1.0f : 0.0f, test_random_int(&random, 0, 1) == 1);
        check_against_reference(&c);
        test_arena_free(&c.arena);
    }
}

/* Dimensions and dtypes that processors may have kernels of their own for, and those beside them.
 */
static void dimensions_of_models_match_the_reference(void **state)
{
    static const int64_t dims[] = {16, 64, 128, 256, 1024, 1040};
    static const norm_dtypes_t dtypes[] = {
        {GDNCP_BF16, GDNCP_BF16, GDNCP_BF16}, {GDNCP_F16, GDNCP_F16, GDNCP_F16},
        {GDNCP_F32, GDNCP_BF16, GDNCP_BF16},  {GDNCP_F32, GDNCP_F16, GDNCP_F16},
        {GDNCP_BF16, GDNCP_BF16, GDNCP_F16},  {GDNCP_BF16, GDNCP_F16, GDNCP_BF16},
        {GDNCP_F16, GDNCP_BF16, GDNCP_BF16}};
    test_random_t random = test_random_start(__func__, 5);

    (void)state;
    for (int i = 0; i < 84; i++) {
        const int64_t d = dims[i % 6];
        const int64_t shape[3] = {test_random_int(&random, 1, test_size(70, 5)),
                                  test_random_int(&random, 1, d < 100 ? 70 : 9), d};
        norm_case_t c =
            start_mixed_case(&random, &dtypes[i / 6 % 7], shape, test_random_int(&random, 0, 1) * 8,
                             i % 4 < 2 ? 1e-6f : 0.5f);

        set_variant(&c, i % 2 == 1 ? 1.0f : 0.0f, i % 7 == 6);
        check_against_reference(&c);
        test_arena_free(&c.arena);
    }
}

/* By hand. */
static void variants_are_what_they_say(void **state)
{
    static const int64_t shape[3] = {1, 1, 2};
    test_random_t random = test_random_start(__func__, 8);
    norm_case_t c = start_case(&random, GDNCP_F32, shape, 0, 0.0f);
    const float *const y = c.y.data;

    (void)state;
    memcpy(c.norm.x.data, (float[]){3.0f, 4.0f}, 2 * sizeof(float));
    memcpy(c.norm.z.data, (float[]){50.0f, 100.0f}, 2 * sizeof(float)); /* SiLU(z) = z */
    memcpy(c.norm.weight.data, (float[]){1.0f, -0.5f}, 2 * sizeof(float));
    set_variant(&c, 1.0f, false);
    assert_int_equal(run_forward(&c), GDNCP_OK);
    assert_true(fabs((double)y[0] - 2.0 * 50.0 * 3.0 / sqrt(12.5)) <= 1e-4);
    assert_true(fabs((double)y[1] - 0.5 * 100.0 * 4.0 / sqrt(12.5)) <= 1e-4);
    set_variant(&c, 0.0f, true);
    assert_int_equal(run_forward(&c), GDNCP_OK);
    assert_true(fabs((double)y[0] - 150.0 / sqrt(91250.0)) <= 1e-6);
    assert_true(fabs((double)y[1] + 0.5 * 400.0 / sqrt(91250.0)) <= 1e-6);
    test_arena_free(&c.arena);
}

/* A kernel may cut them into pieces. */
static void rows_may_be_wide(void **state)
{
    static const gdncp_dtype_t dtypes[] = {GDNCP_F32, GDNCP_BF16};
    test_random_t random = test_random_start(__func__, 7);

    (void)state;
    for (int i = 0; i < 4; i++) {
        const int64_t shape[3] = {21, 2, 601 + 3 * i};
        norm_case_t c = start_case(&random, dtypes[i % 2], shape, 2, 1e-6f);

        set_variant(&c, i % 2 == 0 ? 0.0f : 1.0f, i >= 2);
        check_against_reference(&c);
        test_arena_free(&c.arena);
    }
}

static void large_gates_saturate(void **state)
{
    static const int64_t shape[3] = {2, 1, 4};
    static const float gates[] = {-1e30f, -300.0f, -90.0f, -50.0f, 50.0f, 90.0f, 300.0f, 1e6f};
    test_random_t random = test_random_start(__func__, 3);
    norm_case_t c = start_case(&random, GDNCP_F32, shape, 0, 1e-6f);

    (void)state;
    for (int i = 0; i < 8; i++) {
        ((float *)c.norm.z.data)[i] = gates[i];
        c.z[i] = (double)gates[i];
    }
    check_against_reference(&c);
    for (int i = 0; i < 3; i++) {
        assert_true(fabsf(((float *)c.y.data)[i]) <= 1e-6f);
        assert_true(fabsf(((float *)c.grads.z.data)[i]) <= 1e-6f);
    }
    test_arena_free(&c.arena);
}

static void threads_do_not_change_bits(void **state)
{
    const int64_t shape[3] = {test_size(5000, 100), 3, 40};
    test_random_t random = test_random_start(__func__, 4);
    norm_case_t c = start_case(&random, GDNCP_F32, shape, 1, 1e-6f);
    const tested_op_t op = op_of(&c);

    (void)state;
    check_threads_do_not_change_bits(&op);
    set_variant(&c, 1.0f, true);
    check_threads_do_not_change_bits(&op);
    test_arena_free(&c.arena);
}

static void a_workspace_is_reused(void **state)
{
    static const int64_t empty_shape[3] = {0, 2, 24};
    static const int64_t shape[3] = {100, 2, 24};
    test_random_t random = test_random_start(__func__, 6);
    norm_case_t empty = start_case(&random, GDNCP_BF16, empty_shape, 0, 1e-6f);
    norm_case_t c = start_case(&random, GDNCP_BF16, shape, 0, 1e-6f);
    const tested_op_t empty_op = op_of(&empty);
    const tested_op_t op = op_of(&c);

    (void)state;
    check_workspace_is_reused(&empty_op, &op);
    test_arena_free(&c.arena);
    test_arena_free(&empty.arena);
}

static void arguments_are_checked(void **state)
{
    static const int64_t shape[3] = {4, 2, 8};
    static const float bad_eps[] = {-1.0f, NAN, INFINITY};
    test_random_t random = test_random_start(__func__, 5);
    norm_case_t c = start_case(&random, GDNCP_BF16, shape, 1, 1e-6f);
    const tested_op_t op = op_of(&c);
    const test_argument_t inputs[] = {
        {.name = "x", .tensor = &c.norm.x, .defines_shape = true},
        {.name = "z", .tensor = &c.norm.z},
        {.name = "weight", .tensor = &c.norm.weight, .contiguous = true},
    };
    const test_argument_t y = {.name = "y", .tensor = &c.y};
    const test_argument_t others[] = {
        {.name = "grad_y", .tensor = &c.grad_y},
        {.name = "grads.x", .tensor = &c.grads.x},
        {.name = "grads.z", .tensor = &c.grads.z},
        {.name = "grads.weight", .tensor = &c.grads.weight, .contiguous = true},
    };

    (void)state;
    test_each_argument(inputs, sizeof inputs / sizeof inputs[0], run_forward, &c);
    test_each_argument(inputs, sizeof inputs / sizeof inputs[0], run_backward, &c);
    test_argument_errors(&y, run_forward, &c);
    test_each_argument(others, sizeof others / sizeof others[0], run_backward, &c);
    renew_outputs(&op, &c.arena);
    assert_argument_error(gdncp_gated_rmsnorm_forward(NULL, &c.y, NULL), GDNCP_ERR_INVALID_ARGUMENT,
                          "norm");
    assert_argument_error(gdncp_gated_rmsnorm_forward(&c.norm, NULL, NULL),
                          GDNCP_ERR_INVALID_ARGUMENT, "y");
    assert_argument_error(gdncp_gated_rmsnorm_backward(&c.norm, &c.grad_y, NULL, NULL),
                          GDNCP_ERR_INVALID_ARGUMENT, "grads");
    for (int i = 0; i < 3; i++) {
        c.norm.eps = bad_eps[i];
        check_both_name(&op, "eps");
    }
    c.norm.eps = 0.0f;
    c.norm.weight_offset = INFINITY;
    check_both_name(&op, "weight_offset");
    assert_tensor_untouched("y", &c.y);
    assert_tensor_untouched("grads.x", &c.grads.x);
    assert_tensor_untouched("grads.weight", &c.grads.weight);
    test_arena_free(&c.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_gradients_are_finite_differences),
        cmocka_unit_test(results_match_the_reference),
        cmocka_unit_test(dimensions_of_models_match_the_reference),
        cmocka_unit_test(variants_are_what_they_say),
        cmocka_unit_test(rows_may_be_wide),
        cmocka_unit_test(large_gates_saturate),
        cmocka_unit_test(threads_do_not_change_bits),
        cmocka_unit_test(a_workspace_is_reused),
        cmocka_unit_test(arguments_are_checked),
    };

    return cmocka_run_group_tests_name("gated_rmsnorm", tests, NULL, NULL);
}
