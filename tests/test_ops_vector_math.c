/* Exponentials and sums of rows. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "random.h"
#include "vector_math.h"

/* The distance between e^x and the next float32, no less than the smallest one. */
static double unit_in_last_place(double exponential)
{
    const float rounded = (float)exponential;

    return (double)nextafterf(rounded, INFINITY) - (double)rounded;
}

static void exponentials_are_within_2_units(void **state)
{
    enum { COUNT = 200000 };
    static float values[COUNT];

    (void)state;
    for (int i = 0; i < COUNT; i++) {
        values[i] = -110.0f + 198.0f * (float)i / COUNT;
    }
    gdncp_vector_exp(values, COUNT);
    for (int i = 0; i < COUNT; i++) {
        const double expected = exp((double)(-110.0f + 198.0f * (float)i / COUNT));

        assert_true(fabs(values[i] - expected) <= 2.0 * unit_in_last_place(expected));
    }
}

static void exponentials_at_the_ends(void **state)
{
    float values[] = {0.0f, -0.0f, -200.0f, -FLT_MAX, -INFINITY, 89.0f, 200.0f, INFINITY, NAN};

    (void)state;
    gdncp_vector_exp(values, 9);
    assert_true(values[0] == 1.0f);
    assert_true(values[1] == 1.0f);
    for (int i = 2; i < 5; i++) {
        assert_true(values[i] == 0.0f);
    }
    for (int i = 5; i < 8; i++) {
        assert_true(isinf(values[i]));
    }
    assert_true(isnan(values[8]));
}

static void dots_are_sums_in_double(void **state)
{
    enum { COUNT = 100 };
    float x[COUNT];
    float y[COUNT];
    test_random_t random = test_random_start(__func__, 81);

    (void)state;
    test_random_fill(&random, x, COUNT);
    test_random_fill(&random, y, COUNT);
    for (int64_t count = 0; count <= COUNT; count++) {
        double sum = 0.0;

        for (int64_t i = 0; i < count; i++) {
            sum += (double)x[i] * (double)y[i];
        }
        assert_true(fabs(gdncp_vector_dot(x, y, count) - sum) <= 1e-13);
        assert_true(gdncp_vector_square(x, count) == gdncp_vector_dot(x, x, count));
    }
}

static void rows_are_scaled(void **state)
{
    const float factors[] = {2.0f, -1.0f};
    const float src[] = {1.0f, 2.0f, 3.0f, 99.0f, 4.0f, 5.0f, 6.0f, 99.0f};
    float dst[10] = {NAN, NAN, NAN, 7.0f, 7.0f, NAN, NAN, NAN, 7.0f, 7.0f};
    const float expected[] = {2.0f, 4.0f, 6.0f, 7.0f, 7.0f, -4.0f, -5.0f, -6.0f, 7.0f, 7.0f};

    (void)state;
    gdncp_scale_rows(2, 3, factors, src, 4, dst, 5);
    for (int i = 0; i < 10; i++) {
        assert_true(dst[i] == expected[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exponentials_are_within_2_units),
        cmocka_unit_test(exponentials_at_the_ends),
        cmocka_unit_test(dots_are_sums_in_double),
        cmocka_unit_test(rows_are_scaled),
    };

    return cmocka_run_group_tests_name("vector_math", tests, NULL, NULL);
}
