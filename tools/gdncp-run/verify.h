/* Errors of results, and what they may be. */
#ifndef GDNCP_RUN_VERIFY_H
#define GDNCP_RUN_VERIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "problem.h"

typedef struct run_error {
    double max;       /* largest absolute difference; NaN where one is */
    double rms_ratio; /* RMS(difference) / RMS(reference); RMS(difference) for a zero reference */
} run_error_t;

run_error_t run_compare(const float *values, const float *reference, int64_t count);

/* NaN is outside. */
bool run_error_is_inside(run_error_t error, double tolerance);

/* The tolerance of a reported result's rms_ratio, under any strategy. */
double run_tolerance(const run_problem_t *problem, const run_mode_t *mode, const char *name);

#endif
