/* Loops over float32 rows that compilers turn into vector code. */
#include "vector_math.h"

#include "inline_math.h"

/* Partial sums of a dot product: enough of them to hide how long an addition takes. */
#define LANES 32

GDNCP_VECTOR_CLONES
static void exp_row(float *values, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        values[i] = gdncp_exp_wide_f32(values[i]);
    }
}

GDNCP_VECTOR_CLONES
static double dot(const float *x, const float *y, int64_t count)
{
    const int64_t whole = count / LANES * LANES;
    double lane[LANES] = {0.0};
    double sum = 0.0;

    for (int64_t i = 0; i < whole; i += LANES) {
        for (int l = 0; l < LANES; l++) {
            lane[l] += (double)x[i + l] * (double)y[i + l];
        }
    }
    for (int64_t i = whole; i < count; i++) {
        sum += (double)x[i] * (double)y[i];
    }
    for (int half = LANES / 2; half > 0; half /= 2) {
        for (int l = 0; l < half; l++) {
            lane[l] += lane[l + half];
        }
    }
    return sum + lane[0];
}

GDNCP_VECTOR_CLONES
static void scale_rows(int64_t rows, int64_t width, const float *factors, const float *src,
                       float *dst, int64_t ld)
{
    for (int64_t i = 0; i < rows; i++) {
        const float factor = factors[i];

        for (int64_t j = 0; j < width; j++) {
            dst[i * ld + j] = factor * src[i * ld + j];
        }
    }
}

GDNCP_VECTOR_CLONES
static void scale(int64_t rows, int64_t width, int64_t ld, float factor, float *x)
{
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < width; j++) {
            x[i * ld + j] *= factor;
        }
    }
}

void gdncp_scale(int64_t rows, int64_t width, int64_t ld, float factor, float *x)
{
    scale(rows, width, ld, factor, x);
}

GDNCP_VECTOR_CLONES
static void add(int64_t count, const float *src, float *dst)
{
    for (int64_t i = 0; i < count; i++) {
        dst[i] += src[i];
    }
}

void gdncp_add(int64_t count, const float *src, float *dst)
{
    add(count, src, dst);
}

void gdncp_vector_exp(float *values, int64_t count)
{
    exp_row(values, count);
}

double gdncp_vector_dot(const float *x, const float *y, int64_t count)
{
    return dot(x, y, count);
}

void gdncp_scale_rows(int64_t rows, int64_t width, const float *factors, const float *src,
                      float *dst, int64_t ld)
{
    scale_rows(rows, width, factors, src, dst, ld);
}
