/* The gated RMSNorm in float64, row by row. */
#include "gated_rmsnorm_reference.h"

#include <math.h>

static double sigmoid(double x)
{
    return 1.0 / (1.0 + exp(-x));
}

static double silu(double x)
{
    return x * sigmoid(x);
}

static double silu_slope(double x)
{
    return sigmoid(x) + silu(x) * (1.0 - sigmoid(x));
}

/* What is normalised is x times this. */
static double factor_before(const gdncp_gated_rmsnorm_reference_t *norm, int64_t i)
{
    return norm->gate_first ? silu(norm->z[i]) : 1.0;
}

/* What is normalised then gets this factor, and the weight. */
static double factor_after(const gdncp_gated_rmsnorm_reference_t *norm, int64_t i)
{
    return norm->gate_first ? 1.0 : silu(norm->z[i]);
}

static double rms_of_row(const gdncp_gated_rmsnorm_reference_t *norm, int64_t row)
{
    double square = 0.0;

    for (int64_t i = row * norm->d; i < (row + 1) * norm->d; i++) {
        const double u = norm->x[i] * factor_before(norm, i);

        square += u * u;
    }
    return sqrt(square / (double)norm->d + norm->eps);
}

void gdncp_gated_rmsnorm_reference_forward(const gdncp_gated_rmsnorm_reference_t *norm, double *y)
{
    for (int64_t row = 0; row < norm->num_rows; row++) {
        const double divisor = rms_of_row(norm, row);

        for (int64_t c = 0; c < norm->d; c++) {
            const int64_t i = row * norm->d + c;

            y[i] = norm->x[i] * factor_before(norm, i) / divisor *
                   (norm->weight[c] + norm->weight_offset) * factor_after(norm, i);
        }
    }
}

void gdncp_gated_rmsnorm_reference_backward(const gdncp_gated_rmsnorm_reference_t *norm,
                                            const double *grad_y, double *grad_x, double *grad_z,
                                            double *grad_weight)
{
    const int64_t d = norm->d;

    for (int64_t c = 0; c < d; c++) {
        grad_weight[c] = 0.0;
    }
    for (int64_t row = 0; row < norm->num_rows; row++) {
        const double divisor = rms_of_row(norm, row);
        double product = 0.0; /* of what is normalised and the gradient of its quotient */

        for (int64_t c = 0; c < d; c++) {
            const int64_t i = row * d + c;
            const double u = norm->x[i] * factor_before(norm, i);

            grad_weight[c] += grad_y[i] * factor_after(norm, i) * u / divisor;
            product +=
                grad_y[i] * (norm->weight[c] + norm->weight_offset) * factor_after(norm, i) * u;
        }
        for (int64_t c = 0; c < d; c++) {
            const int64_t i = row * d + c;
            const double u = norm->x[i] * factor_before(norm, i);
            const double grad_gated = grad_y[i] * (norm->weight[c] + norm->weight_offset);
            /* d divisor / d u = u / (d divisor) */
            const double grad_u = grad_gated * factor_after(norm, i) / divisor -
                                  product * u / ((double)d * divisor * divisor * divisor);

            grad_x[i] = grad_u * factor_before(norm, i);
            grad_z[i] = silu_slope(norm->z[i]) *
                        (norm->gate_first ? grad_u * norm->x[i] : grad_gated * u / divisor);
        }
    }
}
