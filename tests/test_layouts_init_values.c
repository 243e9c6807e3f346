/* New parameters: the distributions that peers have, and the ranges. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "support/random.h"
#include "test_layouts_init_part.h"
#include "tolerances.h"

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;

    return (x > y) - (x < y);
}

static double uniform_below(double x)
{
    return x;
}

static double normal_below(double x)
{
    return 0.5 * erfc(-x / sqrt(2.0));
}

/* Samples that should be of a distribution, and should not depend on the one before. */
static void check_distribution(const double *samples, int64_t count, double mean, double variance,
                               double (*below)(double))
{
    double *const sorted = malloc((size_t)count * sizeof *sorted);
    const double bound = GDNCP_TOLERANCE_STANDARD_ERRORS / sqrt((double)count);
    double sum = 0.0;
    double squares = 0.0;
    double products = 0.0;
    double distance = 0.0;

    assert_non_null(sorted);
    memcpy(sorted, samples, (size_t)count * sizeof *sorted);
    qsort(sorted, (size_t)count, sizeof *sorted, compare_doubles);
    for (int64_t i = 0; i < count; i++) {
        const double centred = samples[i] - mean;

        sum += centred;
        squares += centred * centred;
        products += i > 0 ? centred * (samples[i - 1] - mean) : 0.0;
        distance = fmax(distance, fabs(below(sorted[i]) - (double)(i + 1) / (double)count));
        distance = fmax(distance, fabs(below(sorted[i]) - (double)i / (double)count));
    }
    assert_true(fabs(sum / (double)count) <= bound * sqrt(variance));
    /* A normal's square has the standard error sqrt(2) of its mean; a uniform's less. */
    assert_true(fabs(squares / (double)count / variance - 1.0) <= sqrt(2.0) * bound);
    assert_true(fabs(products / (double)count / variance) <= bound);
    assert_true(distance * sqrt((double)count) <= GDNCP_TOLERANCE_KOLMOGOROV);
    free(sorted);
}

enum { HEADS = 20000 };

/* Many heads, so that what comes once a head can be told from other distributions. */
static const gdncp_layer_shape_t many_heads = {2, HEADS, HEADS, 1, 1, 4};

/* What a float was made of, brought back to (0, 1) or to a standard normal. */
typedef double (*undo_t)(const gdncp_init_t *init, double value);

static double undo_A_log(const gdncp_init_t *init, double value)
{
    return (exp(value) - init->A_min) / (init->A_max - init->A_min);
}

static double undo_dt_bias(const gdncp_init_t *init, double value)
{
    return (log(log1p(exp(value))) - log(init->dt_min)) / (log(init->dt_max) - log(init->dt_min));
}

static double undo_conv(const gdncp_init_t *init, double value)
{
    const double bound = init->conv_bound > 0.0 ? init->conv_bound : 0.5; /* W = 4 */

    return (value / bound + 1.0) / 2.0;
}

static double undo_in_proj(const gdncp_init_t *init, double value)
{
    return value / init->in_proj_std;
}

static double undo_out_proj(const gdncp_init_t *init, double value)
{
    return value / init->out_proj_std;
}

static void check_parameter(const gdncp_init_t *init, gdncp_parameter_t parameter, undo_t undo,
                            double mean, double variance, double (*below)(double))
{
    const int64_t size = size_of(&many_heads, &whole, parameter);
    float *const data = make_part(init, &many_heads, &whole, parameter);
    double *const samples = malloc((size_t)size * sizeof *samples);

    assert_non_null(samples);
    for (int64_t i = 0; i < size; i++) {
        samples[i] = undo(init, data[i]);
    }
    check_distribution(samples, size, mean, variance, below);
    free(samples);
    free(data);
}

static void check_uniform(const gdncp_init_t *init, gdncp_parameter_t parameter, undo_t undo)
{
    check_parameter(init, parameter, undo, 0.5, 1.0 / 12.0, uniform_below);
}

static void distributions_are_the_peers(void **state)
{
    test_random_t random = test_random_start("distributions_are_the_peers", 20261128);
    gdncp_init_t init = gdncp_init_default(test_random_u64(&random), 3);

    (void)state;
    init.in_proj_std = 0.02;
    init.out_proj_std = 0.005;
    init.dt = GDNCP_DT_LOG_UNIFORM;
    check_uniform(&init, GDNCP_PARAMETER_A_LOG, undo_A_log);
    check_uniform(&init, GDNCP_PARAMETER_DT_BIAS, undo_dt_bias);
    check_uniform(&init, GDNCP_PARAMETER_CONV_WEIGHT, undo_conv);
    check_parameter(&init, GDNCP_PARAMETER_IN_PROJ_WEIGHT, undo_in_proj, 0.0, 1.0, normal_below);
    check_parameter(&init, GDNCP_PARAMETER_OUT_PROJ_WEIGHT, undo_out_proj, 0.0, 1.0, normal_below);
    init.A_min = 0.0;
    init.conv_bound = 0.1;
    check_uniform(&init, GDNCP_PARAMETER_A_LOG, undo_A_log);
    check_uniform(&init, GDNCP_PARAMETER_CONV_WEIGHT, undo_conv);
}

static void check_range(const gdncp_init_t *init, gdncp_parameter_t parameter, double low,
                        double high)
{
    float *const data = make_part(init, &many_heads, &whole, parameter);
    const int64_t size = size_of(&many_heads, &whole, parameter);

    for (int64_t i = 0; i < size; i++) {
        assert_true(data[i] >= (float)low && data[i] <= (float)high);
    }
    free(data);
}

/* x with log(1 + exp(x)) = dt, by another formula than the library's. */
static double before_softplus(double dt)
{
    return log(expm1(dt));
}

static void values_stay_in_their_ranges(void **state)
{
    gdncp_init_t init = gdncp_init_default(7, 0);

    (void)state;
    check_range(&init, GDNCP_PARAMETER_A_LOG, 0.0, log(16.0));
    check_range(&init, GDNCP_PARAMETER_CONV_WEIGHT, -0.5, 0.5);
    check_range(&init, GDNCP_PARAMETER_DT_BIAS, 1.0, 1.0);
    check_range(&init, GDNCP_PARAMETER_NORM_WEIGHT, 1.0, 1.0);
    init.norm_adds_one = true;
    check_range(&init, GDNCP_PARAMETER_NORM_WEIGHT, 0.0, 0.0);
    init.A_min = init.A_max = 4.0;
    check_range(&init, GDNCP_PARAMETER_A_LOG, log(4.0), log(4.0));
    init.conv_bound = 0.01;
    check_range(&init, GDNCP_PARAMETER_CONV_WEIGHT, -0.01, 0.01);
    init.in_proj_std = init.out_proj_std = 0.0;
    check_range(&init, GDNCP_PARAMETER_IN_PROJ_WEIGHT, 0.0, 0.0);
    check_range(&init, GDNCP_PARAMETER_OUT_PROJ_WEIGHT, 0.0, 0.0);

    init.dt = GDNCP_DT_LOG_UNIFORM;
    check_range(&init, GDNCP_PARAMETER_DT_BIAS, before_softplus(0.001) - 8 * GDNCP_ROUNDOFF_F32 * 7,
                before_softplus(0.1) + 8 * GDNCP_ROUNDOFF_F32 * 7);
    init.dt_floor = 0.25; /* above all of them */
    check_range(&init, GDNCP_PARAMETER_DT_BIAS, before_softplus(0.25) - GDNCP_ROUNDOFF_F32 * 4,
                before_softplus(0.25) + GDNCP_ROUNDOFF_F32 * 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(distributions_are_the_peers),
        cmocka_unit_test(values_stay_in_their_ranges),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
