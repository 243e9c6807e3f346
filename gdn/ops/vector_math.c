/* Loops over float32 rows that compilers turn into vector code. */
#include "vector_math.h"

#include "inline_math.h"

/* x in [-104, 104], beyond which e^x is 0 or infinite; NaN stays NaN. On integers, as a
 * comparison of floats keeps compilers from vectorising. */
GDNCP_ALWAYS_INLINE float limit_exponent(float x)
{
    const int32_t limit = 0x42d00000; /* 104 */
    const int32_t infinity = 0x7f800000;
    const int32_t magnitude = gdncp_bits_of_f32(x) & INT32_MAX;
    const int32_t sign = gdncp_bits_of_f32(x) ^ magnitude;
    const int32_t limited = magnitude > limit ? limit : magnitude;

    return gdncp_f32_of_bits(sign | (magnitude > infinity ? magnitude : limited));
}

/* 2^exponent for -126 <= exponent <= 127. */
GDNCP_ALWAYS_INLINE float power_of_two(int32_t exponent)
{
    return gdncp_f32_of_bits((int32_t)(((uint32_t)exponent + 127u) << 23));
}

/*
 * e^x = 2^n e^r with |r| <= ln(2)/2. Adding and taking away 1.5 * 2^23 rounds x log2(e) to the
 * integer n and leaves n in the low bits of the sum. 2^n is applied in two halves, as it may lie
 * outside the normal range itself.
 */
GDNCP_ALWAYS_INLINE float exp_of(float x)
{
    const float round_to_integer = 0x1.8p23f;
    const float limited = limit_exponent(x);
    const float shifted = limited * 0x1.715476p0f + round_to_integer;
    const float n = shifted - round_to_integer;
    /* ln(2) in two parts; n times the first is exact. */
    const float r = (limited - n * 0.693359375f) + n * 2.12194440e-4f;
    const int32_t exponent = (int32_t)((uint32_t)gdncp_bits_of_f32(shifted) -
                                       (uint32_t)gdncp_bits_of_f32(round_to_integer));
    const int32_t half = exponent >> 1;
    float sum = 1.0f / 5040.0f;

    sum = sum * r + 1.0f / 720.0f;
    sum = sum * r + 1.0f / 120.0f;
    sum = sum * r + 1.0f / 24.0f;
    sum = sum * r + 1.0f / 6.0f;
    sum = sum * r + 0.5f;
    sum = (sum * r) * r + r;
    return ((1.0f + sum) * power_of_two(half)) * power_of_two(exponent - half);
}

GDNCP_VECTOR_CLONES
static void exp_row(float *values, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        values[i] = exp_of(values[i]);
    }
}

GDNCP_VECTOR_CLONES
static double dot(const float *x, const float *y, int64_t count)
{
    return gdncp_dot_f64(x, y, count);
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
