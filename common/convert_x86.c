#include "convert_x86.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <string.h>

#include "lanes_x86.h"

GDNCP_AVX512 static void widen_f16_avx512(const uint16_t *src, int64_t count, float *dst)
{
    for (int64_t i = 0; i < count; i += GDNCP_X86_LANES) {
        const __mmask16 lanes = gdncp_x86_first_lanes(count - i);

        _mm512_mask_storeu_ps(dst + i, lanes, gdncp_x86_load_f16(src + i, lanes));
    }
}

GDNCP_AVX512 static void narrow_f16_avx512(const float *src, int64_t count, uint16_t *dst)
{
    for (int64_t i = 0; i < count; i += GDNCP_X86_LANES) {
        const __mmask16 lanes = gdncp_x86_first_lanes(count - i);

        gdncp_x86_store_f16(dst + i, lanes, _mm512_maskz_loadu_ps(lanes, src + i));
    }
}

GDNCP_AVX512_BF16 static void narrow_bf16_avx512(const float *src, int64_t count, uint16_t *dst)
{
    for (int64_t i = 0; i < count; i += GDNCP_X86_LANES) {
        const __mmask16 lanes = gdncp_x86_first_lanes(count - i);

        gdncp_x86_store_bf16(dst + i, lanes, _mm512_maskz_loadu_ps(lanes, src + i));
    }
}

bool gdncp_x86_narrow_bf16(const float *src, int64_t count, uint16_t *dst)
{
    const bool has = gdncp_x86_has_avx512_bf16();

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
    const bool wide = gdncp_x86_has_avx512();
    const bool has = wide || has_f16c();

    if (has) {
        (wide ? widen_f16_avx512 : widen_f16_f16c)(src, count, dst);
    }
    return has;
}

bool gdncp_x86_narrow_f16(const float *src, int64_t count, uint16_t *dst)
{
    const bool wide = gdncp_x86_has_avx512();
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
