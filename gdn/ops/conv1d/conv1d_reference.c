/* The convolution in float64, token by token. */
#include "conv1d_reference.h"

#include <math.h>
#include <stddef.h>

/* Input of a sequence at a position; before position 0 it is the window's. */
static double input_at(const gdncp_conv1d_reference_t *conv, int64_t sequence, int64_t position,
                       int64_t channel)
{
    const int64_t before = conv->width - 1;

    if (position >= 0) {
        return conv->x[(conv->cu_seqlens[sequence] + position) * conv->channels + channel];
    }
    return conv->window == NULL
               ? 0.0
               : conv->window[(sequence * before + before + position) * conv->channels + channel];
}

static double pre_activation(const gdncp_conv1d_reference_t *conv, int64_t sequence,
                             int64_t position, int64_t channel)
{
    double sum = conv->bias != NULL ? conv->bias[channel] : 0.0;

    for (int64_t i = 0; i < conv->width; i++) {
        sum += conv->weight[channel * conv->width + i] *
               input_at(conv, sequence, position - conv->width + 1 + i, channel);
    }
    return sum;
}

static double silu(double u)
{
    return u / (1.0 + exp(-u));
}

static double silu_slope(double u)
{
    const double open = 1.0 / (1.0 + exp(-u));

    return open + u * open * (1.0 - open);
}

void gdncp_conv1d_reference_forward(const gdncp_conv1d_reference_t *conv, double *y,
                                    double *final_window)
{
    const int64_t before = conv->width - 1;

    for (int64_t n = 0; n < conv->num_sequences; n++) {
        const int64_t length = conv->cu_seqlens[n + 1] - conv->cu_seqlens[n];

        for (int64_t c = 0; c < conv->channels; c++) {
            for (int64_t position = 0; position < length; position++) {
                const double u = pre_activation(conv, n, position, c);

                y[(conv->cu_seqlens[n] + position) * conv->channels + c] = conv->silu ? silu(u) : u;
            }
            for (int64_t w = 0; final_window != NULL && w < before; w++) {
                final_window[(n * before + w) * conv->channels + c] =
                    input_at(conv, n, length - before + w, c);
            }
        }
    }
}

static void clear(double *values, int64_t count)
{
    for (int64_t i = 0; values != NULL && i < count; i++) {
        values[i] = 0.0;
    }
}

void gdncp_conv1d_reference_backward(const gdncp_conv1d_reference_t *conv, const double *grad_y,
                                     double *grad_x, double *grad_weight, double *grad_bias,
                                     double *grad_window)
{
    const int64_t before = conv->width - 1;

    clear(grad_x, conv->cu_seqlens[conv->num_sequences] * conv->channels);
    clear(grad_weight, conv->channels * conv->width);
    clear(grad_bias, conv->channels);
    clear(grad_window, conv->num_sequences * before * conv->channels);
    for (int64_t n = 0; n < conv->num_sequences; n++) {
        const int64_t first = conv->cu_seqlens[n];

        for (int64_t t = first; t < conv->cu_seqlens[n + 1]; t++) {
            for (int64_t c = 0; c < conv->channels; c++) {
                const double slope =
                    conv->silu ? silu_slope(pre_activation(conv, n, t - first, c)) : 1.0;
                const double grad_u = grad_y[t * conv->channels + c] * slope;

                if (grad_bias != NULL) {
                    grad_bias[c] += grad_u;
                }
                for (int64_t i = 0; i < conv->width; i++) {
                    const double weight = conv->weight[c * conv->width + i];
                    const int64_t position = t - first - before + i;

                    grad_weight[c * conv->width + i] += grad_u * input_at(conv, n, position, c);
                    if (position >= 0) {
                        grad_x[(first + position) * conv->channels + c] += grad_u * weight;
                    } else if (grad_window != NULL) {
                        grad_window[(n * before + before + position) * conv->channels + c] +=
                            grad_u * weight;
                    }
                }
            }
        }
    }
}
