#include "compare.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

double test_rms_ratio(const float *result, const double *reference, int64_t count)
{
    double error = 0.0;
    double norm = 0.0;

    for (int64_t i = 0; i < count; i++) {
        const double difference = (double)result[i] - reference[i];

        error += difference * difference;
        norm += reference[i] * reference[i];
    }
    return norm > 0.0 ? sqrt(error / norm) : sqrt(error);
}

void test_poison(float *values, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        values[i] = NAN;
    }
}

void test_check_rms_ratio(const char *what, const float *result, const double *reference,
                          int64_t count, double tolerance, const char *file, int line)
{
    const double ratio = test_rms_ratio(result, reference, count);

    if (!(ratio <= tolerance)) {
        print_error("%s: RMS ratio %.3g, tolerance %.3g\n", what, ratio, tolerance);
        _fail(file, line);
    }
}
