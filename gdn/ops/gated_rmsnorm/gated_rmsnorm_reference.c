/* The gated RMSNorm in float64, row by row. */
#include "gated_rmsnorm_reference.h"

#include <math.h>

static double sigmoid(double x)
{
    return 1.0 / (1.0 + exp(-x));
}

static double rms(const double *x, int64_t d, double eps)
{
    double square = 0.0;

    for (int64_t i = 0; i < d; i++) {
        square += x[i] * x[i];
    }
    return sqrt(square / (double)d + eps);
}

void gdncp_gated_rmsnorm_reference_forward(const gdncp_gated_rmsnorm_reference_t *norm, double *y)
{
    for (int64_t row = 0; row < norm->num_rows; row++) {
        const double *const x = norm->x + row * norm->d;
        const double *const z = norm->z + row * norm->d;
        const double divisor = rms(x, norm->d, norm->eps);

        for (int64_t i = 0; i < norm->d; i++) {
            y[row * norm->d + i] = x[i] / divisor * norm->weight[i] * z[i] * sigmoid(z[i]);
        }
    }
}

void gdncp_gated_rmsnorm_reference_backward(const gdncp_gated_rmsnorm_reference_t *norm,
                                            const double *grad_y, double *grad_x, double *grad_z,
                                            double *grad_weight)
{
    const int64_t d = norm->d;

    for (int64_t i = 0; i < d; i++) {
        grad_weight[i] = 0.0;
    }
    for (int64_t row = 0; row < norm->num_rows; row++) {
        const double *const x = norm->x + row * d;
        const double *const z = norm->z + row * d;
        const double *const dy = grad_y + row * d;
        const double divisor = rms(x, d, norm->eps);
        double grad_divisor = 0.0;

        for (int64_t i = 0; i < d; i++) {
            const double open = sigmoid(z[i]);
            const double silu = z[i] * open;
            const double silu_slope = open + silu * (1.0 - open);

            grad_weight[i] += dy[i] * silu * x[i] / divisor;
            grad_z[row * d + i] = dy[i] * norm->weight[i] * x[i] / divisor * silu_slope;
            grad_x[row * d + i] = dy[i] * norm->weight[i] * silu / divisor;
            grad_divisor -= grad_x[row * d + i] * x[i] / divisor;
        }
        /* d divisor / d x = x / (d divisor) */
        for (int64_t i = 0; i < d; i++) {
            grad_x[row * d + i] += grad_divisor * x[i] / ((double)d * divisor);
        }
    }
}
