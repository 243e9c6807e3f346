/* Error measures of a result against a float64 reference. */
#ifndef GDNCP_TEST_COMPARE_H
#define GDNCP_TEST_COMPARE_H

#include <stdint.h>

/* RMS(result - reference) / RMS(reference); RMS(result) where the reference is all zero.
 * NaN where the result has one. */
double test_rms_ratio(const float *result, const double *reference, int64_t count);

/* Fill with NaN, so that what is never written is seen. */
void test_poison(float *values, int64_t count);

/* Fail the test, naming what and printing the ratio, unless the RMS ratio is inside the
 * tolerance; NaN fails. */
#define assert_rms_ratio(what, result, reference, count, tolerance)                                \
    test_check_rms_ratio(what, result, reference, count, tolerance, __FILE__, __LINE__)

void test_check_rms_ratio(const char *what, const float *result, const double *reference,
                          int64_t count, double tolerance, const char *file, int line);

#endif
