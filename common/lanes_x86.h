/* Sixteen elements of 16 bits to and from a vector of float32, on x86 processors with AVX-512. */
#ifndef GDNCP_LANES_X86_H
#define GDNCP_LANES_X86_H

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>

#include "gdncp/tensor.h"
#include "half.h"

#define GDNCP_X86_LANES 16
#define GDNCP_X86_ALL_LANES ((__mmask16)0xffff)
#define GDNCP_X86_SUBNORMAL 0x20 /* a class of numbers of vfpclassps */

/* Put before functions that use these; ask gdncp_x86_has_avx512() or gdncp_x86_has_avx512_bf16()
 * before they are called. */
#define GDNCP_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
#define GDNCP_AVX512_BF16 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))

#define GDNCP_AVX512_BF16_INLINE GDNCP_AVX512_BF16 __attribute__((always_inline)) static inline

static inline bool gdncp_x86_has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

static inline bool gdncp_x86_has_avx512_bf16(void)
{
    return gdncp_x86_has_avx512() && __builtin_cpu_supports("avx512bf16");
}

/* Lanes below `count`. */
static inline __mmask16 gdncp_x86_first_lanes(int64_t count)
{
    return count < GDNCP_X86_LANES ? (__mmask16)((1u << count) - 1u) : GDNCP_X86_ALL_LANES;
}

GDNCP_AVX512 static inline __m512 gdncp_x86_load_f16(const uint16_t *src, __mmask16 lanes)
{
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes, src));
}

GDNCP_AVX512 static inline void gdncp_x86_store_f16(uint16_t *dst, __mmask16 lanes, __m512 x)
{
    _mm256_mask_storeu_epi16(dst, lanes, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

GDNCP_AVX512 static inline __m512 gdncp_x86_load_bf16(const uint16_t *src, __mmask16 lanes)
{
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes, src)), 16));
}

/* Not inline: seldom needed. */
GDNCP_AVX512_BF16 __attribute__((noinline, cold)) static void
gdncp_x86_store_bf16_one_by_one(uint16_t *dst, __mmask16 lanes, __m512 x)
{
    float values[GDNCP_X86_LANES];

    _mm512_storeu_ps(values, x);
    for (int i = 0; i < GDNCP_X86_LANES; i++) {
        if ((lanes >> i & 1) != 0) {
            dst[i] = gdncp_f32_to_bf16(values[i]);
        }
    }
}

/* The instruction takes subnormal numbers for zeros: vectors with some are rounded without it. */
GDNCP_AVX512_BF16 static inline void gdncp_x86_store_bf16(uint16_t *dst, __mmask16 lanes, __m512 x)
{
    if (__builtin_expect(_mm512_fpclass_ps_mask(x, GDNCP_X86_SUBNORMAL) == 0, 1)) {
        _mm256_mask_storeu_epi16(dst, lanes, (__m256i)_mm512_cvtneps_pbh(x));
    } else {
        gdncp_x86_store_bf16_one_by_one(dst, lanes, x);
    }
}

/* Elements of a row from c on, to and from float32. dtype is a constant where these are inlined. */
GDNCP_AVX512_BF16_INLINE __m512 gdncp_x86_load(const gdncp_dtype_t dtype, const void *row,
                                               int64_t c, __mmask16 lanes)
{
    switch (dtype) {
    case GDNCP_F32:
        return _mm512_maskz_loadu_ps(lanes, (const float *)row + c);
    case GDNCP_BF16:
        return gdncp_x86_load_bf16((const uint16_t *)row + c, lanes);
    default:
        return gdncp_x86_load_f16((const uint16_t *)row + c, lanes);
    }
}

GDNCP_AVX512_BF16_INLINE void gdncp_x86_store(const gdncp_dtype_t dtype, void *row, int64_t c,
                                              __mmask16 lanes, __m512 x)
{
    switch (dtype) {
    case GDNCP_F32:
        _mm512_mask_storeu_ps((float *)row + c, lanes, x);
        break;
    case GDNCP_BF16:
        gdncp_x86_store_bf16((uint16_t *)row + c, lanes, x);
        break;
    default:
        gdncp_x86_store_f16((uint16_t *)row + c, lanes, x);
        break;
    }
}

#endif

#endif
