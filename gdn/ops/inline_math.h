/* float32 functions for use inside loops that compilers vectorise: no calls, branches or tables. */
#ifndef GDNCP_INLINE_MATH_H
#define GDNCP_INLINE_MATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "float_bits.h"
#include "vector_clones.h"

/* Of the bits of |x|, those of 87 at most: a NaN gives 87. On integers: a comparison of floats may
 * trap, which would keep the compiler from doing several at once. */
GDNCP_ALWAYS_INLINE int32_t gdncp_limit_exponent(int32_t magnitude)
{
    const int32_t limit = 0x42ae0000; /* 87 */

    return magnitude > limit ? limit : magnitude;
}

/* exp(x) to 2 ulp for x in [-87, 87], so that the result is neither 0 nor infinite. */
GDNCP_ALWAYS_INLINE float gdncp_exp_of_limited_f32(float x)
{
    /* Adding 1.5 * 2^23 rounds to an integer, which then lies in the low bits. */
    const float magic = 0x1.8p23f;
    const float shifted = x * 0x1.715476p0f + magic; /* x / ln 2 */
    const float n = shifted - magic;
    /* ln 2 in two parts; n times the first is exact. */
    const float r = (x - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f;
    /* 1 + r + r^2 p: the p of degree 4 that is best on |r| <= ln 2 / 2, to 5e-9. */
    float p = 0x1.6a1f62p-10f;

    p = p * r + 0x1.123ccap-7f;
    p = p * r + 0x1.555904p-5f;
    p = p * r + 0x1.55548ep-3f;
    p = p * r + 0x1.fffffcp-2f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    return p * gdncp_f32_of_bits(
                   (int32_t)(((uint32_t)gdncp_bits_of_f32(shifted) << 23) + (127u << 23)));
}

/* x in [-104, 104], beyond which e^x is 0 or infinite; NaN stays NaN. On integers, as a
 * comparison of floats keeps compilers from vectorising. */
GDNCP_ALWAYS_INLINE float gdncp_exp_wide_argument_f32(float x)
{
    const int32_t limit = 0x42d00000; /* 104 */
    const int32_t infinity = 0x7f800000;
    const int32_t magnitude = gdncp_bits_of_f32(x) & INT32_MAX;
    const int32_t sign = gdncp_bits_of_f32(x) ^ magnitude;
    const int32_t limited = magnitude > limit ? limit : magnitude;

    return gdncp_f32_of_bits(sign | (magnitude > infinity ? magnitude : limited));
}

/* 2^exponent for -126 <= exponent <= 127. */
GDNCP_ALWAYS_INLINE float gdncp_power_of_two_f32(int32_t exponent)
{
    return gdncp_f32_of_bits((int32_t)(((uint32_t)exponent + 127u) << 23));
}

/*
 * e^x to 2 ulp for any x; below the smallest float32: 0. e^x = 2^n e^r with |r| <= ln(2)/2. Adding
 * and taking away 1.5 * 2^23 rounds x log2(e) to the integer n and leaves n in the low bits of the
 * sum. 2^n is applied in two halves, as it may lie outside the normal range itself.
 */
GDNCP_ALWAYS_INLINE float gdncp_exp_wide_f32(float x)
{
    const float round_to_integer = 0x1.8p23f;
    const float limited = gdncp_exp_wide_argument_f32(x);
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
    return ((1.0f + sum) * gdncp_power_of_two_f32(half)) * gdncp_power_of_two_f32(exponent - half);
}

/* exp(x) to 2 ulp, with x limited to [-87, 87]; NaN stays NaN. */
GDNCP_ALWAYS_INLINE float gdncp_exp_f32(float x)
{
    const int32_t infinity = 0x7f800000;
    const int32_t magnitude = gdncp_bits_of_f32(x) & INT32_MAX;
    const int32_t sign = gdncp_bits_of_f32(x) ^ magnitude;
    const int32_t limited = gdncp_limit_exponent(magnitude);

    return gdncp_exp_of_limited_f32(
        gdncp_f32_of_bits(sign | (magnitude > infinity ? magnitude : limited)));
}

GDNCP_ALWAYS_INLINE float gdncp_sigmoid_f32(float x)
{
    return 1.0f / (1.0f + gdncp_exp_f32(-x));
}

/* 1 + exp(-x), and of a NaN some number: for where x itself is a factor of the result. */
GDNCP_ALWAYS_INLINE float gdncp_silu_divisor_f32(float x)
{
    const int32_t magnitude = gdncp_bits_of_f32(x) & INT32_MAX;
    const int32_t sign = gdncp_bits_of_f32(x) ^ magnitude;

    return 1.0f +
           gdncp_exp_of_limited_f32(-gdncp_f32_of_bits(sign | gdncp_limit_exponent(magnitude)));
}

GDNCP_ALWAYS_INLINE float gdncp_silu_f32(float x)
{
    return x / gdncp_silu_divisor_f32(x);
}

/* SiLU and its derivative. */
typedef struct gdncp_silu_parts {
    float value;
    float slope;
} gdncp_silu_parts_t;

GDNCP_ALWAYS_INLINE gdncp_silu_parts_t gdncp_split_silu_f32(float x)
{
    const float open = 1.0f / gdncp_silu_divisor_f32(x);
    const float value = x * open;

    return (gdncp_silu_parts_t){value, open * (1.0f + (x - value))};
}

/* log(1 + y) for 0 <= y <= 1, small y included: y + y^2 p, with the p of degree 8 that passes
 * through log1p at Chebyshev's points, to 3e-8. A series in y / (2 + y) would need a division. */
GDNCP_ALWAYS_INLINE float gdncp_log1p_unit_f32(float y)
{
    float p = -0x1.24b298p-8f;

    p = p * y + 0x1.9d455ap-6f;
    p = p * y - 0x1.11708cp-4f;
    p = p * y + 0x1.d992bcp-4f;
    p = p * y - 0x1.448ee2p-3f;
    p = p * y + 0x1.969cb2p-3f;
    p = p * y - 0x1.ffb95cp-3f;
    p = p * y + 0x1.55540cp-2f;
    p = p * y - 0x1.fffffep-2f;
    p = p * y + 1.0f;
    return y * p;
}

/* log(1 + exp(x)) to 4 ulp at any x >= -87, and its derivative, the sigmoid. */
typedef struct gdncp_softplus_parts {
    float value;
    float slope;
} gdncp_softplus_parts_t;

GDNCP_ALWAYS_INLINE gdncp_softplus_parts_t gdncp_split_softplus_f32(float x)
{
    const int32_t bits = gdncp_bits_of_f32(x);
    const int32_t is_negative = bits >> 31;
    const float positive = gdncp_f32_of_bits(bits & ~is_negative); /* max(x, 0) */
    const float e = gdncp_exp_f32(-fabsf(x));
    const float share = gdncp_f32_of_bits((gdncp_bits_of_f32(e) & is_negative) |
                                          (gdncp_bits_of_f32(1.0f) & ~is_negative));

    return (gdncp_softplus_parts_t){positive + gdncp_log1p_unit_f32(e), share / (1.0f + e)};
}

#define GDNCP_DOT_LANES 16

/* Half the lanes of a dot product, as one variable: an array of sums would be taken apart. */
typedef double gdncp_half_lanes_t __attribute__((vector_size(GDNCP_DOT_LANES / 2 * 8)));

typedef struct gdncp_dot_lanes {
    gdncp_half_lanes_t low;
    gdncp_half_lanes_t high;
} gdncp_dot_lanes_t;

GDNCP_ALWAYS_INLINE void gdncp_load_lanes(const float *x, gdncp_dot_lanes_t *lanes)
{
    lanes->low = (gdncp_half_lanes_t){x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]};
    lanes->high = (gdncp_half_lanes_t){x[8], x[9], x[10], x[11], x[12], x[13], x[14], x[15]};
}

/* The sum of the lanes, by halves. */
GDNCP_ALWAYS_INLINE double gdncp_sum_of_lanes(const gdncp_dot_lanes_t *lanes)
{
    const gdncp_half_lanes_t eight = lanes->low + lanes->high;

    return ((eight[0] + eight[4]) + (eight[2] + eight[6])) +
           ((eight[1] + eight[5]) + (eight[3] + eight[7]));
}

/* The sums of x[i]^2 and of x[i] y[i]. */
typedef struct gdncp_square_and_dot {
    double square;
    double dot;
} gdncp_square_and_dot_t;

/* Each in double, in an order that depends on count only. */
GDNCP_ALWAYS_INLINE gdncp_square_and_dot_t gdncp_square_and_dot_f64(const float *x, const float *y,
                                                                    int64_t count)
{
    gdncp_dot_lanes_t square = {0};
    gdncp_dot_lanes_t dot = {0};
    int64_t i = 0;

    for (; i + GDNCP_DOT_LANES <= count; i += GDNCP_DOT_LANES) {
        gdncp_dot_lanes_t a;
        gdncp_dot_lanes_t b;

        gdncp_load_lanes(x + i, &a);
        gdncp_load_lanes(y + i, &b);
        square.low += a.low * a.low;
        square.high += a.high * a.high;
        dot.low += a.low * b.low;
        dot.high += a.high * b.high;
    }
    gdncp_square_and_dot_t sums = {gdncp_sum_of_lanes(&square), gdncp_sum_of_lanes(&dot)};

    for (; i < count; i++) {
        sums.square += (double)x[i] * (double)x[i];
        sums.dot += (double)x[i] * (double)y[i];
    }
    return sums;
}

/* The sum of x[i] y[i] in double, in an order that depends on count only. */
GDNCP_ALWAYS_INLINE double gdncp_dot_f64(const float *x, const float *y, int64_t count)
{
    return gdncp_square_and_dot_f64(x, y, count).dot;
}

#endif
