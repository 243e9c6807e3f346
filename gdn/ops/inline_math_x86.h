/* float32 functions on vectors, for processors with AVX-512. */
#ifndef GDNCP_INLINE_MATH_X86_H
#define GDNCP_INLINE_MATH_X86_H

#include "lanes_x86.h"

#if defined(__x86_64__) && defined(__GNUC__)

#define GDNCP_X86_TOGETHER 4 /* vectors at most, of functions that take several */

/* x in [-87, 87], so that e^x is neither 0 nor infinite; NaN stays NaN. */
GDNCP_AVX512_BF16_INLINE __m512 gdncp_x86_limit_exponent(__m512 x)
{
    /* Of a number and a NaN these instructions give the second one. */
    return _mm512_max_ps(_mm512_set1_ps(-87.0f), _mm512_min_ps(_mm512_set1_ps(87.0f), x));
}

/* 1 + exp(-x), by a polynomial of degree 4, to 4e-6, or 5, to 1.3e-6, or to 2.1e-7 when exact, for
 * x in [-87, 87]; others count as these. degree and exact are constants where this is inlined. */
GDNCP_AVX512_BF16_INLINE __m512 gdncp_x86_one_plus_exp(const int degree, const bool exact, __m512 x)
{
    /* Of 2^r for |r| <= 1/2 those with the least relative error, from the highest power on. */
    static const float best[2][6] = {
        {0x1.3997d6p-7f, 0x1.ca1442p-5f, 0x1.ec06dap-3f, 0x1.62e0dcp-1f, 0x1.ffffe8p-1f},
        {0x1.5bba14p-10f, 0x1.3cea88p-7f, 0x1.c6b752p-5f, 0x1.ebf9bcp-3f, 0x1.62e42ap-1f, 1.0f}};
    const float *const coefficients = best[degree - 4];
    const __m512 one = _mm512_set1_ps(1.0f);
    const __m512 magic = _mm512_set1_ps(0x1.8p23f); /* added, it rounds to an integer */
    const __m512 log2_e = _mm512_set1_ps(0x1.715476p0f);
    const __m512 limited = gdncp_x86_limit_exponent(x);
    const __m512 shifted = _mm512_fnmadd_ps(limited, log2_e, magic);
    /* -x log2(e) is n + r. */
    const __m512 n = _mm512_sub_ps(shifted, magic);
    const __m512 near = _mm512_fnmsub_ps(limited, log2_e, n);
    /* log2(e) is 1.9e-8 more than its float32. */
    const __m512 r = exact ? _mm512_fnmadd_ps(limited, _mm512_set1_ps(0x1.4ae0cp-26f), near) : near;
    const __m512i two_to_n = _mm512_add_epi32(_mm512_slli_epi32(_mm512_castps_si512(shifted), 23),
                                              _mm512_castps_si512(one));
    __m512 p = _mm512_set1_ps(coefficients[0]);

    for (int i = 1; i <= degree; i++) {
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(coefficients[i]));
    }
    return _mm512_fmadd_ps(p, _mm512_castsi512_ps(two_to_n), one);
}

/* 1 / (1 + exp(-x)), to 2.4e-7 for float32 results, to 1.4e-6 for what is rounded to 16 bits. A
 * division takes as long as ten other instructions; one step of Newton's makes a reciprocal of 14
 * bits good to 2^-24. dtype is a constant where this and what follows are inlined. */
GDNCP_AVX512_BF16_INLINE __m512 gdncp_x86_sigmoid_for(const gdncp_dtype_t dtype, __m512 x)
{
    const __m512 divisor = gdncp_x86_one_plus_exp(5, dtype == GDNCP_F32, x);
    const __m512 near = _mm512_rcp14_ps(divisor);
    const __m512 rest = _mm512_fnmadd_ps(near, divisor, _mm512_set1_ps(1.0f));

    return _mm512_fmadd_ps(near, rest, near);
}

/* SiLU for what is then rounded to a dtype: to 6e-5 for bf16, a thirtieth of what rounding costs.
 */
GDNCP_AVX512_BF16_INLINE __m512 gdncp_x86_silu_for(const gdncp_dtype_t dtype, __m512 x)
{
    const __m512 sigmoid = dtype == GDNCP_BF16
                               ? _mm512_rcp14_ps(gdncp_x86_one_plus_exp(4, false, x))
                               : gdncp_x86_sigmoid_for(dtype, x);

    return _mm512_mul_ps(x, sigmoid);
}

/* SiLU and its derivative. */
typedef struct gdncp_x86_silu_parts {
    __m512 value;
    __m512 slope;
} gdncp_x86_silu_parts_t;

GDNCP_AVX512_BF16_INLINE gdncp_x86_silu_parts_t gdncp_x86_split_silu_for(const gdncp_dtype_t dtype,
                                                                         __m512 x)
{
    const __m512 open = gdncp_x86_sigmoid_for(dtype, x);
    const __m512 value = _mm512_mul_ps(x, open);
    const __m512 rest = _mm512_sub_ps(x, value);

    return (gdncp_x86_silu_parts_t){value, _mm512_fmadd_ps(open, rest, open)};
}

/* -min(|x|, 87); NaN stays NaN. */
GDNCP_AVX512_BF16_INLINE __m512 gdncp_x86_limited_negative(__m512 x)
{
    return _mm512_max_ps(_mm512_set1_ps(-87.0f), _mm512_or_ps(x, _mm512_set1_ps(-0.0f)));
}

/* Of each x in [-87, 87] the exponential, in its place, as gdncp_exp_of_limited_f32() has it, with
 * its bits where products and sums are fused. A vector alone would spend its time waiting for the
 * last multiplication; count is a constant where this and the next one are inlined. */
GDNCP_AVX512_BF16_INLINE void gdncp_x86_exp_of_limited(const int count, __m512 *x)
{
    static const float best[] = {0x1.123ccap-7f, 0x1.555904p-5f, 0x1.55548ep-3f,
                                 0x1.fffffcp-2f, 1.0f,           1.0f};
    const __m512 magic = _mm512_set1_ps(0x1.8p23f);
    __m512 n[GDNCP_X86_TOGETHER];
    __m512 p[GDNCP_X86_TOGETHER];

    for (int k = 0; k < count; k++) {
        n[k] = _mm512_fmadd_ps(x[k], _mm512_set1_ps(0x1.715476p0f), magic);
    }
    for (int k = 0; k < count; k++) {
        n[k] = _mm512_sub_ps(n[k], magic);
    }
    for (int k = 0; k < count; k++) {
        x[k] = _mm512_fnmadd_ps(n[k], _mm512_set1_ps(0x1.62e4p-1f), x[k]);
    }
    for (int k = 0; k < count; k++) {
        x[k] = _mm512_fnmadd_ps(n[k], _mm512_set1_ps(0x1.7f7d1cp-20f), x[k]);
        p[k] = _mm512_set1_ps(0x1.6a1f62p-10f);
    }
    for (size_t i = 0; i < sizeof best / sizeof best[0]; i++) {
        for (int k = 0; k < count; k++) {
            p[k] = _mm512_fmadd_ps(p[k], x[k], _mm512_set1_ps(best[i]));
        }
    }
    for (int k = 0; k < count; k++) {
        x[k] = _mm512_scalef_ps(p[k], n[k]);
    }
}

/* value = log(1 + exp(x)) from x and e = exp(-|x|), as gdncp_split_softplus_f32() has it, with its
 * bits as above. */
GDNCP_AVX512_BF16_INLINE void gdncp_x86_softplus(const int count, const __m512 *x, const __m512 *e,
                                                 __m512 *value)
{
    static const float best[] = {0x1.9d455ap-6f,  -0x1.11708cp-4f, 0x1.d992bcp-4f,
                                 -0x1.448ee2p-3f, 0x1.969cb2p-3f,  -0x1.ffb95cp-3f,
                                 0x1.55540cp-2f,  -0x1.fffffep-2f, 1.0f};

    for (int k = 0; k < count; k++) {
        value[k] = _mm512_set1_ps(-0x1.24b298p-8f);
    }
    for (size_t i = 0; i < sizeof best / sizeof best[0]; i++) {
        for (int k = 0; k < count; k++) {
            value[k] = _mm512_fmadd_ps(value[k], e[k], _mm512_set1_ps(best[i]));
        }
    }
    for (int k = 0; k < count; k++) {
        value[k] = _mm512_fmadd_ps(value[k], e[k], _mm512_max_ps(x[k], _mm512_setzero_ps()));
    }
}

/* The sigmoid of x from e = exp(-|x|): 1 or e, over 1 + e. */
GDNCP_AVX512_BF16_INLINE __m512 gdncp_x86_sigmoid_of_exp(__m512 x, __m512 e)
{
    const __m512 one = _mm512_set1_ps(1.0f);
    const __mmask16 is_negative = _mm512_movepi32_mask(_mm512_castps_si512(x));

    return _mm512_div_ps(_mm512_mask_mov_ps(one, is_negative, e), _mm512_add_ps(one, e));
}

#endif

#endif
