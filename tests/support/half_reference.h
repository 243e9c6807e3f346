/* Elements of 16 bits to and from float32 as their definition says, one at a time. */
#ifndef GDNCP_TEST_HALF_REFERENCE_H
#define GDNCP_TEST_HALF_REFERENCE_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "gdncp/tensor.h"

/* A sign, exponent_bits, mantissa_bits: 16 in all. */
typedef struct half_format {
    int mantissa_bits;
    int least_exponent; /* of normal numbers, and of the subnormals' quantum */
    uint32_t infinity;
} half_format_t;

static inline half_format_t half_format(gdncp_dtype_t dtype)
{
    return dtype == GDNCP_BF16 ? (half_format_t){7, -126, 0x7f80u}
                               : (half_format_t){10, -14, 0x7c00u};
}

static inline bool half_is_nan(gdncp_dtype_t dtype, uint16_t value)
{
    return (value & 0x7fffu) > half_format(dtype).infinity;
}

static inline float half_to_f32(gdncp_dtype_t dtype, uint16_t value)
{
    const half_format_t format = half_format(dtype);
    const int exponent = (value & 0x7fff) >> format.mantissa_bits;
    const int fraction = value & ((1 << format.mantissa_bits) - 1);
    const int implied = exponent > 0 ? 1 << format.mantissa_bits : 0;
    const double sign = (value & 0x8000u) != 0 ? -1.0 : 1.0;

    if (half_is_nan(dtype, value)) {
        return NAN;
    }
    if ((value & 0x7fffu) == format.infinity) {
        return (float)(sign * INFINITY);
    }
    return (float)(sign * ldexp(implied + fraction, format.least_exponent - format.mantissa_bits +
                                                        (exponent > 0 ? exponent - 1 : 0)));
}

/* Rounded to nearest even; some NaN for NaN. */
static inline uint16_t half_from_f32(gdncp_dtype_t dtype, float value)
{
    const half_format_t format = half_format(dtype);
    const uint32_t sign = signbit(value) ? 0x8000u : 0;
    const double magnitude = fabs((double)value);

    if (isnan(value)) {
        return (uint16_t)(sign | format.infinity | 1u);
    }
    if (isinf(value)) {
        return (uint16_t)(sign | format.infinity);
    }
    const int own = magnitude > 0.0 ? ilogb(magnitude) : format.least_exponent;
    const int exponent = own > format.least_exponent ? own : format.least_exponent;
    /* In quanta of its exponent, of which a normal number has 2^mantissa_bits or more. */
    const uint32_t quanta = (uint32_t)nearbyint(ldexp(magnitude, format.mantissa_bits - exponent));
    const uint32_t bits =
        ((uint32_t)(exponent - format.least_exponent) << format.mantissa_bits) + quanta;

    return (uint16_t)(sign | (bits < format.infinity ? bits : format.infinity));
}

#endif
