/* The gate in float64, token by token. */
#include "gate_reference.h"

#include <math.h>

static double sigmoid(double x)
{
    return 1.0 / (1.0 + exp(-x));
}

static double softplus(double x)
{
    return fmax(x, 0.0) + log1p(exp(-fabs(x)));
}

void gdncp_gate_reference_forward(const gdncp_gate_reference_t *gate, double *g, double *beta)
{
    const double beta_max = gate->allow_neg_eigval ? 2.0 : 1.0;

    for (int64_t t = 0; t < gate->num_tokens; t++) {
        for (int64_t h = 0; h < gate->num_heads; h++) {
            const int64_t i = t * gate->num_heads + h;

            g[i] = -exp(gate->A_log[h]) * softplus(gate->a[i] + gate->dt_bias[h]);
            beta[i] = beta_max * sigmoid(gate->b[i]);
        }
    }
}

void gdncp_gate_reference_backward(const gdncp_gate_reference_t *gate, const double *grad_g,
                                   const double *grad_beta, double *grad_a, double *grad_b,
                                   double *grad_A_log, double *grad_dt_bias)
{
    const double beta_max = gate->allow_neg_eigval ? 2.0 : 1.0;

    for (int64_t h = 0; h < gate->num_heads; h++) {
        const double speed = exp(gate->A_log[h]);

        grad_A_log[h] = 0.0;
        grad_dt_bias[h] = 0.0;
        for (int64_t t = 0; t < gate->num_tokens; t++) {
            const int64_t i = t * gate->num_heads + h;
            const double x = gate->a[i] + gate->dt_bias[h];
            const double open = sigmoid(gate->b[i]);

            grad_a[i] = -grad_g[i] * speed * sigmoid(x);
            grad_b[i] = grad_beta[i] * beta_max * open * sigmoid(-gate->b[i]);
            grad_A_log[h] -= grad_g[i] * speed * softplus(x);
            grad_dt_bias[h] += grad_a[i];
        }
    }
}
