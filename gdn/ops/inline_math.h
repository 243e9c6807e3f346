/* float32 functions for use inside loops that compilers vectorise: no calls, branches or tables. */
#ifndef GDNCP_INLINE_MATH_H
#define GDNCP_INLINE_MATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "vector_clones.h"

GDNCP_ALWAYS_INLINE int32_t gdncp_bits_of_f32(float x)
{
    int32_t bits;

    memcpy(&bits, &x, sizeof bits);
    return bits;
}

GDNCP_ALWAYS_INLINE float gdncp_f32_of_bits(int32_t bits)
{
    float x;

    memcpy(&x, &bits, sizeof x);
    return x;
}

/* x in [-87, 87]; NaN stays NaN. On integers: a comparison of floats may trap, which would keep
 * the compiler from doing several at once. */
GDNCP_ALWAYS_INLINE float gdncp_exp_argument_f32(float x)
{
    const int32_t limit = 0x42ae0000; /* 87 */
    const int32_t infinity = 0x7f800000;
    const int32_t magnitude = gdncp_bits_of_f32(x) & INT32_MAX;
    const int32_t sign = gdncp_bits_of_f32(x) ^ magnitude;
    const int32_t limited = magnitude > limit ? limit : magnitude;

    return gdncp_f32_of_bits(sign | (magnitude > infinity ? magnitude : limited));
}

/* exp(x) to 2 ulp, with x limited to [-87, 87], so that the result is neither 0 nor infinite; NaN
 * stays NaN. */
GDNCP_ALWAYS_INLINE float gdncp_exp_f32(float x)
{
    /* Adding 1.5 * 2^23 rounds to an integer, which then lies in the low bits. */
    const float magic = 0x1.8p23f;
    const float limited = gdncp_exp_argument_f32(x);
    const float shifted = limited * 0x1.715476p0f + magic; /* x / ln 2 */
    const float n = shifted - magic;
    /* ln 2 in two parts; n times the first is exact. */
    const float r = (limited - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f;
    /* Taylor series of degree 7: 5e-9 at |r| = ln 2 / 2. */
    float p = 1.0f / 5040.0f;

    p = p * r + 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
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

GDNCP_ALWAYS_INLINE float gdncp_sigmoid_f32(float x)
{
    return 1.0f / (1.0f + gdncp_exp_f32(-x));
}

/* log(1 + y) for 0 <= y <= 1, small y included: 2 atanh(y / (2 + y)). */
GDNCP_ALWAYS_INLINE float gdncp_log1p_unit_f32(float y)
{
    const float s = y / (2.0f + y); /* <= 1/3, so the first term left out is 1e-9 */
    const float z = s * s;
    float p = 1.0f / 15.0f;

    p = p * z + 1.0f / 13.0f;
    p = p * z + 1.0f / 11.0f;
    p = p * z + 1.0f / 9.0f;
    p = p * z + 1.0f / 7.0f;
    p = p * z + 1.0f / 5.0f;
    p = p * z + 1.0f / 3.0f;
    p = p * z + 1.0f;
    return 2.0f * s * p;
}

/* log(1 + exp(x)), to 4 ulp at any x >= -87. */
GDNCP_ALWAYS_INLINE float gdncp_softplus_f32(float x)
{
    const int32_t bits = gdncp_bits_of_f32(x);
    const float positive = gdncp_f32_of_bits(bits & ~(bits >> 31)); /* max(x, 0) */

    return positive + gdncp_log1p_unit_f32(gdncp_exp_f32(-fabsf(x)));
}

#endif
