#include "verify.h"

#include <math.h>
#include <string.h>

#include "tolerances.h"

run_error_t run_compare(const float *values, const float *reference, int64_t count)
{
    double difference_squares = 0.0;
    double reference_squares = 0.0;
    double max = 0.0;

    for (int64_t i = 0; i < count; i++) {
        const double difference = fabs((double)values[i] - reference[i]);

        difference_squares += difference * difference;
        reference_squares += (double)reference[i] * reference[i];
        if (!(difference <= max)) {
            max = difference;
        }
        if (isnan(difference)) {
            return (run_error_t){.max = NAN, .rms_ratio = NAN};
        }
    }
    const double scale = reference_squares > 0.0 ? reference_squares : (double)count;
    return (run_error_t){.max = max, .rms_ratio = count > 0 ? sqrt(difference_squares / scale) : 0};
}

bool run_error_is_inside(run_error_t error, double tolerance)
{
    return error.rms_ratio <= tolerance;
}

static bool is_one_of(const char *name, const char *const *names)
{
    for (; *names != NULL; names++) {
        if (strcmp(name, *names) == 0) {
            return true;
        }
    }
    return false;
}

double run_tolerance(const run_problem_t *problem, const run_mode_t *mode, const char *name)
{
    /* Sums over all tokens of terms that cancel. */
    static const char *const cancelling[] = {"grad.g", "grad.A_log", "grad.dt_bias", NULL};
    /* What only the gates see. */
    static const char *const gates[] = {"grad.beta",
                                        "grad.in_proj_ba.weight",
                                        "grad.in_proj_b.weight",
                                        "grad.in_proj_a.weight",
                                        "grad.b_proj.weight",
                                        "grad.a_proj.weight",
                                        NULL};
    const bool cancels = is_one_of(name, cancelling);

    if (mode->dtype == GDNCP_F32) {
        return cancels || problem->ill_conditioned ? GDNCP_TOLERANCE_F32_CANCELLING
                                                   : GDNCP_TOLERANCE_F32;
    }
    if (cancels || is_one_of(name, gates)) {
        return GDNCP_TOLERANCE_BF16_GATE_GRADIENT;
    }
    const bool is_gradient = strncmp(name, "grad.", 5) == 0;

    if (mode->rule_dtype != GDNCP_F32 && problem->kind == RUN_LAYER) {
        return is_gradient ? GDNCP_TOLERANCE_BF16_RULE_GRADIENT : GDNCP_TOLERANCE_BF16_RULE_OUTPUT;
    }
    return is_gradient ? GDNCP_TOLERANCE_BF16_GRADIENT : GDNCP_TOLERANCE_BF16_OUTPUT;
}
