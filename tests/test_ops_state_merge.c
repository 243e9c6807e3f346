/* One step along a chain of segments: out = M in + U, and its transpose. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "compare.h"
#include "gdncp/ops.h"
#include "op_case.h"
#include "tolerances.h"

typedef struct merge_case {
    test_arena_t arena;
    gdncp_tensor_t transition;
    gdncp_tensor_t contribution;
    gdncp_tensor_t in;
    gdncp_tensor_t out;
    const double *m; /* [dk, dk] */
    const double *u; /* [dk, dv] */
    const double *s; /* [dk, dv] */
    bool transposed;
} merge_case_t;

static merge_case_t start_case(test_random_t *random, int64_t dk, int64_t dv)
{
    const int64_t square[] = {dk, dk};
    const int64_t shape[] = {dk, dv};
    merge_case_t c = {.transposed = false};

    c.transition = test_tensor(&c.arena, GDNCP_F32, 2, square, 0);
    c.contribution = test_tensor(&c.arena, GDNCP_F32, 2, shape, 0);
    c.in = test_tensor(&c.arena, GDNCP_F32, 2, shape, 0);
    c.out = test_tensor(&c.arena, GDNCP_F32, 2, shape, 0);
    c.m = test_tensor_fill(&c.arena, random, 1.0, 0.0, &c.transition);
    c.u = test_tensor_fill(&c.arena, random, 1.0, 0.0, &c.contribution);
    c.s = test_tensor_fill(&c.arena, random, 1.0, 0.0, &c.in);
    return c;
}

static gdncp_status_t run(void *context)
{
    merge_case_t *const c = context;

    return gdncp_state_merge(&c->transition, &c->contribution, &c->in, c->transposed, &c->out,
                             NULL);
}

static void check_merge(merge_case_t *c)
{
    const int64_t dk = c->in.shape[0];
    const int64_t dv = c->in.shape[1];
    double *const expected = test_doubles(&c->arena, dk * dv);

    for (int64_t i = 0; i < dk; i++) {
        for (int64_t j = 0; j < dv; j++) {
            double sum = c->u[i * dv + j];

            for (int64_t l = 0; l < dk; l++) {
                sum += c->m[c->transposed ? l * dk + i : i * dk + l] * c->s[l * dv + j];
            }
            expected[i * dv + j] = sum;
        }
    }
    assert_int_equal(run(c), GDNCP_OK);
    assert_tensor_close("out", &c->out, expected, GDNCP_TOLERANCE_F32);
}

static void results_match_float64(void **state)
{
    static const int64_t dims[][2] = {{1, 1},   {24, 48},   {60, 100}, {96, 192},
                                      {100, 7}, {128, 128}, {256, 256}};
    test_random_t random = test_random_start(__func__, 51);

    (void)state;
    for (size_t i = 0; i < sizeof dims / sizeof dims[0]; i++) {
        for (int transposed = 0; transposed < 2; transposed++) {
            merge_case_t c = start_case(&random, dims[i][0], dims[i][1]);

            c.transposed = transposed != 0;
            check_merge(&c);
            test_arena_free(&c.arena);
        }
    }
}

/* <y, M x> = <M' y, x>: the two directions are each other's transpose. */
static void directions_are_transposes(void **state)
{
    test_random_t random = test_random_start(__func__, 52);
    merge_case_t c = start_case(&random, 32, 24);
    merge_case_t other = start_case(&random, 32, 24);
    double forward = 0.0;
    double backward = 0.0;
    float *const zeros = c.contribution.data;

    (void)state;
    for (int64_t i = 0; i < 32 * 24; i++) {
        zeros[i] = 0.0f;
    }
    other.transition = c.transition;
    other.contribution = c.contribution;
    other.transposed = true;
    assert_int_equal(run(&c), GDNCP_OK);
    assert_int_equal(run(&other), GDNCP_OK);
    for (int64_t i = 0; i < 32 * 24; i++) {
        forward += (double)((const float *)c.out.data)[i] * other.s[i];
        backward += (double)((const float *)other.out.data)[i] * c.s[i];
    }
    assert_true(fabs(forward - backward) <= GDNCP_TOLERANCE_F32 * fabs(forward));
    test_arena_free(&c.arena);
    test_arena_free(&other.arena);
}

static void arguments_are_checked(void **state)
{
    test_random_t random = test_random_start(__func__, 53);
    merge_case_t c = start_case(&random, 8, 4);
    const test_argument_t arguments[] = {
        {.name = "transition", .tensor = &c.transition, .contiguous = true},
        {.name = "contribution",
         .tensor = &c.contribution,
         .defines_shape = true,
         .contiguous = true},
        {.name = "in", .tensor = &c.in, .contiguous = true},
        {.name = "out", .tensor = &c.out, .contiguous = true},
    };
    gdncp_tensor_t *const others[] = {&c.in, &c.contribution};
    const gdncp_tensor_t out = c.out;

    (void)state;
    for (size_t i = 0; i < sizeof arguments / sizeof arguments[0]; i++) {
        test_argument_errors(&arguments[i], run, &c);
    }
    for (int i = 0; i < 2; i++) {
        c.out = *others[i];
        assert_argument_error(run(&c), GDNCP_ERR_INVALID_ARGUMENT, "out");
    }
    c.out = out;
    assert_argument_error(gdncp_state_merge(NULL, &c.contribution, &c.in, false, &c.out, NULL),
                          GDNCP_ERR_INVALID_ARGUMENT, "transition");
    assert_argument_error(gdncp_state_merge(&c.transition, NULL, &c.in, false, &c.out, NULL),
                          GDNCP_ERR_INVALID_ARGUMENT, "contribution");
    test_arena_free(&c.arena);
}

/* dk = dv, so that M has the shape of the output. */
static void out_is_not_the_transition(void **state)
{
    test_random_t random = test_random_start(__func__, 54);
    merge_case_t c = start_case(&random, 8, 8);

    (void)state;
    c.out = c.transition;
    assert_argument_error(run(&c), GDNCP_ERR_INVALID_ARGUMENT, "out");
    test_arena_free(&c.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_match_float64),
        cmocka_unit_test(directions_are_transposes),
        cmocka_unit_test(arguments_are_checked),
        cmocka_unit_test(out_is_not_the_transition),
    };

    return cmocka_run_group_tests_name("state_merge", tests, NULL, NULL);
}
