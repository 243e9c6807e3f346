#include "convert_x86.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>

#include "half.h"

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl")))
#define AVX512_BF16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16")))

#define LANES 16 /* float32 in a vector of AVX-512 */
#define ALL_LANES ((__mmask16)0xffff)

static __mmask16 first_lanes(int64_t count)
{
    return (__mmask16)((1u << count) - 1u);
}

AVX512 static inline void widen_f16_lanes(const uint16_t *src, __mmask16 lanes, float *dst)
{
    _mm512_mask_storeu_ps(dst, lanes, _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes, src)));
}

AVX512 static void widen_f16_avx512(const uint16_t *src, int64_t count, float *dst)
{
    int64_t i = 0;

    for (; i + LANES <= count; i += LANES) {
        widen_f16_lanes(src + i, ALL_LANES, dst + i);
    }
    widen_f16_lanes(src + i, first_lanes(count - i), dst + i);
}

AVX512 static inline void narrow_f16_lanes(const float *src, __mmask16 lanes, uint16_t *dst)
{
    _mm256_mask_storeu_epi16(
        dst, lanes, _mm512_cvtps_ph(_mm512_maskz_loadu_ps(lanes, src), _MM_FROUND_TO_NEAREST_INT));
}

AVX512 static void narrow_f16_avx512(const float *src, int64_t count, uint16_t *dst)
{
    int64_t i = 0;

    for (; i + LANES <= count; i += LANES) {
        narrow_f16_lanes(src + i, ALL_LANES, dst + i);
    }
    narrow_f16_lanes(src + i, first_lanes(count - i), dst + i);
}

/* The instruction takes subnormal numbers for zeros: vectors with some are rounded without it. */
AVX512_BF16 static inline void narrow_bf16_lanes(const float *src, __mmask16 lanes, uint16_t *dst)
{
    const __m512 x = _mm512_maskz_loadu_ps(lanes, src);
    const __m512i bits = _mm512_castps_si512(x);
    const __mmask16 no_exponent = _mm512_testn_epi32_mask(bits, _mm512_set1_epi32(0x7f800000));

    if (no_exponent == 0 ||
        _mm512_mask_test_epi32_mask(no_exponent, bits, _mm512_set1_epi32(0x7fffff)) == 0) {
        _mm256_mask_storeu_epi16(dst, lanes, (__m256i)_mm512_cvtneps_pbh(x));
        return;
    }
    for (int i = 0; i < LANES && (lanes >> i & 1) != 0; i++) {
        dst[i] = gdncp_f32_to_bf16(src[i]);
    }
}

AVX512_BF16 static void narrow_bf16_avx512(const float *src, int64_t count, uint16_t *dst)
{
    int64_t i = 0;

    for (; i + LANES <= count; i += LANES) {
        narrow_bf16_lanes(src + i, ALL_LANES, dst + i);
    }
    narrow_bf16_lanes(src + i, first_lanes(count - i), dst + i);
}

static bool has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl");
}

bool gdncp_x86_narrow_bf16(const float *src, int64_t count, uint16_t *dst)
{
    const bool has = has_avx512() && __builtin_cpu_supports("avx512bf16");

    if (has) {
        narrow_bf16_avx512(src, count, dst);
    }
    return has;
}

#define F16C __attribute__((target("avx,f16c")))
#define F16C_LANES 8

F16C static inline void widen_f16_octet(const uint16_t *src, float *dst)
{
    _mm256_storeu_ps(dst, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)src)));
}

F16C static void widen_f16_f16c(const uint16_t *src, int64_t count, float *dst)
{
    uint16_t last[F16C_LANES] = {0};
    float wide[F16C_LANES];
    int64_t i = 0;

    for (; i + F16C_LANES <= count; i += F16C_LANES) {
        widen_f16_octet(src + i, dst + i);
    }
    memcpy(last, src + i, (size_t)(count - i) * sizeof *src);
    widen_f16_octet(last, wide);
    memcpy(dst + i, wide, (size_t)(count - i) * sizeof *dst);
}

F16C static inline void narrow_f16_octet(const float *src, uint16_t *dst)
{
    _mm_storeu_si128((__m128i *)dst,
                     _mm256_cvtps_ph(_mm256_loadu_ps(src), _MM_FROUND_TO_NEAREST_INT));
}

F16C static void narrow_f16_f16c(const float *src, int64_t count, uint16_t *dst)
{
    float last[F16C_LANES] = {0.0f};
    uint16_t narrow[F16C_LANES];
    int64_t i = 0;

    for (; i + F16C_LANES <= count; i += F16C_LANES) {
        narrow_f16_octet(src + i, dst + i);
    }
    memcpy(last, src + i, (size_t)(count - i) * sizeof *src);
    narrow_f16_octet(last, narrow);
    memcpy(dst + i, narrow, (size_t)(count - i) * sizeof *dst);
}

static bool has_f16c(void)
{
#ifdef __clang__ /* which cannot ask */
    return false;
#else
    return __builtin_cpu_supports("avx") && __builtin_cpu_supports("f16c");
#endif
}

bool gdncp_x86_widen_f16(const uint16_t *src, int64_t count, float *dst)
{
    const bool wide = has_avx512();
    const bool has = wide || has_f16c();

    if (has) {
        (wide ? widen_f16_avx512 : widen_f16_f16c)(src, count, dst);
    }
    return has;
}

bool gdncp_x86_narrow_f16(const float *src, int64_t count, uint16_t *dst)
{
    const bool wide = has_avx512();
    const bool has = wide || has_f16c();

    if (has) {
        (wide ? narrow_f16_avx512 : narrow_f16_f16c)(src, count, dst);
    }
    return has;
}

#else

bool gdncp_x86_widen_f16(const uint16_t *src, int64_t count, float *dst)
{
    (void)src, (void)count, (void)dst;
    return false;
}

bool gdncp_x86_narrow_f16(const float *src, int64_t count, uint16_t *dst)
{
    (void)src, (void)count, (void)dst;
    return false;
}

bool gdncp_x86_narrow_bf16(const float *src, int64_t count, uint16_t *dst)
{
    (void)src, (void)count, (void)dst;
    return false;
}

#endif
