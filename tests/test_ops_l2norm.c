#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "l2norm_reference.h"
#include "random.h"
#include "test_ops_check.h"

typedef struct l2norm_case {
    test_arena_t arena;
    gdncp_tensor_t x, y, grad_y, grad_x;
    float eps;
    int64_t num_rows, d;
    double *values, *upstream; /* [num_rows, d] of x and grad_y */
    gdncp_workspace_t *workspace;
} l2norm_case_t;

static l2norm_case_t start_case(test_random_t *random, gdncp_dtype_t dtype, const int64_t *shape,
                                int64_t gap)
{
    l2norm_case_t c = {.eps = 1e-6f, .num_rows = shape[0] * shape[1], .d = shape[2]};

    c.x = test_tensor(&c.arena, dtype, 3, shape, gap);
    c.y = test_tensor(&c.arena, dtype, 3, shape, 2 * gap);
    c.grad_y = test_tensor(&c.arena, dtype, 3, shape, 3 * gap);
    c.grad_x = test_tensor(&c.arena, dtype, 3, shape, gap);
    c.values = test_tensor_fill(&c.arena, random, 1.0, 0.3, &c.x);
    c.upstream = test_tensor_fill(&c.arena, random, 1.0, 0.0, &c.grad_y);
    return c;
}

static gdncp_status_t run_forward(void *context)
{
    const l2norm_case_t *const c = context;

    return gdncp_l2norm_forward(&c->x, c->eps, &c->y, c->workspace);
}

static gdncp_status_t run_backward(void *context)
{
    const l2norm_case_t *const c = context;

    return gdncp_l2norm_backward(&c->x, c->eps, &c->grad_y, &c->grad_x, c->workspace);
}

static double reference_loss(void *context)
{
    const l2norm_case_t *const c = context;
    test_arena_t arena = {0};
    double *const y = test_doubles(&arena, c->num_rows * c->d);

    gdncp_l2norm_reference_forward(c->num_rows, c->d, (double)c->eps, c->values, y);
    const double loss = dot(c->upstream, y, c->num_rows * c->d);

    test_arena_free(&arena);
    return loss;
}

static void reference_gradients_are_finite_differences(void **state)
{
    static const int64_t shape[3] = {3, 2, 7};
    test_random_t random = test_random_start(__func__, 1);

    (void)state;
    for (int i = 0; i < 2; i++) {
        l2norm_case_t c = start_case(&random, GDNCP_F32, shape, 0);
        double *const grad_x = test_doubles(&c.arena, 42);

        c.eps = i == 0 ? 1e-6f : 2.0f; /* a large one shows an eps that is left out */
        gdncp_l2norm_reference_backward(c.num_rows, c.d, (double)c.eps, c.values, c.upstream,
                                        grad_x);
        assert_gradient("x", reference_loss, &c, c.values, grad_x, 42);
        test_arena_free(&c.arena);
    }
}

static void check_against_reference(void *context)
{
    l2norm_case_t *const c = context;
    double *const expected = test_doubles(&c->arena, c->num_rows * c->d);

    assert_int_equal(run_forward(c), GDNCP_OK);
    gdncp_l2norm_reference_forward(c->num_rows, c->d, (double)c->eps, c->values, expected);
    assert_tensor_close("y", &c->y, expected, output_tolerance(&c->y));

    assert_int_equal(run_backward(c), GDNCP_OK);
    gdncp_l2norm_reference_backward(c->num_rows, c->d, (double)c->eps, c->values, c->upstream,
                                    expected);
    assert_tensor_close("grad_x", &c->grad_x, expected, grad_tolerance(&c->grad_x));
}

static tested_op_t op_of(l2norm_case_t *c)
{
    return (tested_op_t){.context = c,
                         .forward = run_forward,
                         .backward = run_backward,
                         .check = check_against_reference,
                         .workspace = &c->workspace,
                         .outputs = {
                             {"y", &c->y},
                             {"grad_x", &c->grad_x},
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
                                  test_random_int(&random, 1, 5),
                                  /* One channel: y is +-1, whose gradient is all cancelled. */
                                  test_random_int(&random, 2, 200)};
        l2norm_case_t c = start_case(&random, dtypes[i % 3], shape, test_random_int(&random, 0, 5));

        c.eps = i % 2 == 0 ? 1e-6f : 0.5f;
        check_against_reference(&c);
        test_arena_free(&c.arena);
    }
}

static void y_may_be_x(void **state)
{
    static const gdncp_dtype_t dtypes[] = {GDNCP_F32, GDNCP_BF16, GDNCP_F16};
    static const int64_t shape[3] = {70, 3, 37};
    test_random_t random = test_random_start(__func__, 3);

    (void)state;
    for (int i = 0; i < 3; i++) {
        l2norm_case_t c = start_case(&random, dtypes[i], shape, 1);

        assert_int_equal(run_forward(&c), GDNCP_OK);
        assert_int_equal(gdncp_l2norm_forward(&c.x, c.eps, &c.x, NULL), GDNCP_OK);
        assert_tensor_bits_equal("y", &c.x, &c.y);
        test_arena_free(&c.arena);
    }
}

static void zeros_stay_zeros(void **state)
{
    static const int64_t shape[3] = {2, 2, 8};
    test_random_t random = test_random_start(__func__, 4);
    l2norm_case_t c = start_case(&random, GDNCP_F32, shape, 0);

    (void)state;
    for (int i = 0; i < 32; i++) {
        ((float *)c.x.data)[i] = 0.0f;
        c.values[i] = 0.0;
    }
    check_against_reference(&c);
    assert_true(((float *)c.y.data)[0] == 0.0f);
    test_arena_free(&c.arena);
}

static void threads_do_not_change_bits(void **state)
{
    const int64_t shape[3] = {test_size(1000, 100), 3, 40};
    test_random_t random = test_random_start(__func__, 5);
    l2norm_case_t c = start_case(&random, GDNCP_F32, shape, 0);
    const tested_op_t op = op_of(&c);

    (void)state;
    check_threads_do_not_change_bits(&op);
    test_arena_free(&c.arena);
}

static void a_workspace_is_reused(void **state)
{
    static const int64_t empty_shape[3] = {0, 2, 24};
    static const int64_t shape[3] = {100, 2, 24};
    test_random_t random = test_random_start(__func__, 7);
    l2norm_case_t empty = start_case(&random, GDNCP_BF16, empty_shape, 0);
    l2norm_case_t c = start_case(&random, GDNCP_BF16, shape, 0);
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
    test_random_t random = test_random_start(__func__, 6);
    l2norm_case_t c = start_case(&random, GDNCP_BF16, shape, 1);
    const tested_op_t op = op_of(&c);
    const test_argument_t x = {.name = "x", .tensor = &c.x, .defines_shape = true};
    const test_argument_t y = {.name = "y", .tensor = &c.y};
    const test_argument_t grad_y = {.name = "grad_y", .tensor = &c.grad_y};
    const test_argument_t grad_x = {.name = "grad_x", .tensor = &c.grad_x};

    (void)state;
    test_argument_errors(&x, run_forward, &c);
    test_argument_errors(&y, run_forward, &c);
    test_argument_errors(&x, run_backward, &c);
    test_argument_errors(&grad_y, run_backward, &c);
    test_argument_errors(&grad_x, run_backward, &c);
    renew_outputs(&op, &c.arena);
    for (int i = 0; i < 3; i++) {
        c.eps = bad_eps[i];
        check_both_name(&op, "eps");
    }
    assert_argument_error(gdncp_l2norm_forward(NULL, 0.0f, &c.y, NULL), GDNCP_ERR_INVALID_ARGUMENT,
                          "x");
    assert_tensor_untouched("y", &c.y);
    assert_tensor_untouched("grad_x", &c.grad_x);
    test_arena_free(&c.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_gradients_are_finite_differences),
        cmocka_unit_test(results_match_the_reference),
        cmocka_unit_test(y_may_be_x),
        cmocka_unit_test(zeros_stay_zeros),
        cmocka_unit_test(threads_do_not_change_bits),
        cmocka_unit_test(a_workspace_is_reused),
        cmocka_unit_test(arguments_are_checked),
    };

    return cmocka_run_group_tests_name("l2norm", tests, NULL, NULL);
}
