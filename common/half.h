/* Elements of 16 bits to and from float32, inside loops that compilers vectorise. */
#ifndef GDNCP_HALF_H
#define GDNCP_HALF_H

#include <stdint.h>

#include "float_bits.h"
#include "vector_clones.h"

/* a where x < limit, else b; both below 2^31. By a mask: a branch would keep loops from becoming
 * vector code, and compilers make one of a choice where computing a or b may trap. */
GDNCP_ALWAYS_INLINE uint32_t gdncp_half_choose(uint32_t x, uint32_t limit, uint32_t a, uint32_t b)
{
    const uint32_t mask = (uint32_t)((int32_t)(x - limit) >> 31);

    return (a & mask) | (b & ~mask);
}

GDNCP_ALWAYS_INLINE float gdncp_bf16_to_f32(uint16_t value)
{
    return gdncp_f32_of_bits((int32_t)((uint32_t)value << 16));
}

/* Round to nearest even; NaN stays NaN. */
GDNCP_ALWAYS_INLINE uint16_t gdncp_f32_to_bf16(float value)
{
    const uint32_t bits = (uint32_t)gdncp_bits_of_f32(value);
    const uint32_t rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
    const uint32_t quiet_nan = bits | 0x400000u;

    return (uint16_t)(((int32_t)(bits & 0x7fffffffu) > 0x7f800000 ? quiet_nan : rounded) >> 16);
}

GDNCP_ALWAYS_INLINE float gdncp_f16_to_f32(uint16_t value)
{
    const uint32_t sign = (uint32_t)(value & 0x8000u) << 16;
    const uint32_t magnitude = value & 0x7fffu;
    /* Zero, or subnormal: a multiple of 2^-24. */
    const uint32_t small = (uint32_t)gdncp_bits_of_f32((float)(int32_t)magnitude * 0x1p-24f);
    const uint32_t normal = (magnitude << 13) + (112u << 23);
    const uint32_t not_finite = 0x7f800000u | magnitude << 13;
    const uint32_t large = gdncp_half_choose(magnitude, 0x7c00u, normal, not_finite);

    return gdncp_f32_of_bits((int32_t)(sign | gdncp_half_choose(magnitude, 0x400u, small, large)));
}

/* Round to nearest even; NaN stays NaN. */
GDNCP_ALWAYS_INLINE uint16_t gdncp_f32_to_f16(float value)
{
    const uint32_t sign = ((uint32_t)gdncp_bits_of_f32(value) >> 16) & 0x8000u;
    const uint32_t bits = (uint32_t)gdncp_bits_of_f32(value) & 0x7fffffffu;
    /* Below 2^-14. Floats in [1/2, 1) are 2^-24 apart: the sum is rounded as wanted. */
    const uint32_t small =
        (uint32_t)gdncp_bits_of_f32(gdncp_f32_of_bits((int32_t)bits) + 0.5f) - 0x3f000000u;
    const uint32_t normal = ((bits + 0xfffu + ((bits >> 13) & 1u)) >> 13) - (112u << 10);
    const uint32_t finite = gdncp_half_choose(bits, 0x38800000u, small, normal);
    /* From 65520 on, which is halfway from the largest to what follows. */
    const uint32_t nan = 0x7e00u | ((bits >> 13) & 0x3ffu);
    const uint32_t not_finite = gdncp_half_choose(bits, 0x7f800001u, 0x7c00u, nan);

    return (uint16_t)(sign | gdncp_half_choose(bits, 0x477ff000u, finite, not_finite));
}

#endif
