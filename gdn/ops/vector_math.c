/* Loops over float32 rows that compilers turn into vector code. */
#include "vector_math.h"

#include "inline_math.h"

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
    return gdncp_dot_f64(x, y, count);
}

GDNCP_VECTOR_CLONES
static double square(const float *x, int64_t count)
{
    return gdncp_dot_f64(x, x, count);
}

GDNCP_VECTOR_CLONES
static void scale_rows(int64_t rows, int64_t width, const float *factors, const float *src,
                       int64_t src_ld, float *dst, int64_t dst_ld)
{
    for (int64_t i = 0; i < rows; i++) {
        const float factor = factors[i];

        for (int64_t j = 0; j < width; j++) {
            dst[i * dst_ld + j] = factor * src[i * src_ld + j];
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

double gdncp_vector_square(const float *x, int64_t count)
{
    return square(x, count);
}

void gdncp_scale_rows(int64_t rows, int64_t width, const float *factors, const float *src,
                      int64_t src_ld, float *dst, int64_t dst_ld)
{
    scale_rows(rows, width, factors, src, src_ld, dst, dst_ld);
}
