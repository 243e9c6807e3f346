/* Projections in float64. */
#include "linear_reference.h"

#include <string.h>

void gdncp_linear_reference_forward(const gdncp_linear_reference_t *linear, double *y)
{
    for (int64_t t = 0; t < linear->num_tokens; t++) {
        for (int64_t o = 0; o < linear->outputs; o++) {
            double sum = 0.0;

            for (int64_t i = 0; i < linear->inputs; i++) {
                sum += linear->x[t * linear->inputs + i] * linear->weight[o * linear->inputs + i];
            }
            y[t * linear->outputs + o] = sum;
        }
    }
}

void gdncp_linear_reference_backward(const gdncp_linear_reference_t *linear, const double *grad_y,
                                     double *grad_x, double *grad_weight)
{
    const int64_t inputs = linear->inputs;
    const int64_t outputs = linear->outputs;

    memset(grad_x, 0, (size_t)(linear->num_tokens * inputs) * sizeof(double));
    memset(grad_weight, 0, (size_t)(outputs * inputs) * sizeof(double));
    for (int64_t t = 0; t < linear->num_tokens; t++) {
        for (int64_t o = 0; o < outputs; o++) {
            const double grad = grad_y[t * outputs + o];

            for (int64_t i = 0; i < inputs; i++) {
                grad_x[t * inputs + i] += grad * linear->weight[o * inputs + i];
                grad_weight[o * inputs + i] += grad * linear->x[t * inputs + i];
            }
        }
    }
}
