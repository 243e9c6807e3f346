/* The L2 norm in float64, row by row. */
#include "l2norm_reference.h"

#include <math.h>

static double length_of(const double *x, int64_t d, double eps)
{
    double square = eps;

    for (int64_t i = 0; i < d; i++) {
        square += x[i] * x[i];
    }
    return sqrt(square);
}

void gdncp_l2norm_reference_forward(int64_t num_rows, int64_t d, double eps, const double *x,
                                    double *y)
{
    for (int64_t row = 0; row < num_rows; row++) {
        const double length = length_of(x + row * d, d, eps);

        for (int64_t i = row * d; i < (row + 1) * d; i++) {
            y[i] = x[i] / length;
        }
    }
}

void gdncp_l2norm_reference_backward(int64_t num_rows, int64_t d, double eps, const double *x,
                                     const double *grad_y, double *grad_x)
{
    for (int64_t row = 0; row < num_rows; row++) {
        const double length = length_of(x + row * d, d, eps);
        double product = 0.0;

        for (int64_t i = row * d; i < (row + 1) * d; i++) {
            product += x[i] * grad_y[i];
        }
        for (int64_t i = row * d; i < (row + 1) * d; i++) {
            grad_x[i] = grad_y[i] / length - x[i] * product / (length * length * length);
        }
    }
}
