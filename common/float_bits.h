/* The bits of a float32, inside loops that compilers vectorise. */
#ifndef GDNCP_FLOAT_BITS_H
#define GDNCP_FLOAT_BITS_H

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

#endif
