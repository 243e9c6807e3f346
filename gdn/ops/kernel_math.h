/* Functions that kernels share: the gate's, activations, vectors of four elements. */
#ifndef GDNCP_KERNEL_MATH_H
#define GDNCP_KERNEL_MATH_H

#include "kernel.h"

namespace GDNCP_KERNELS
{

/* Blocks of `divisor` that x things need. */
constexpr int64_t ceil_div(int64_t x, int64_t divisor)
{
    return (x + divisor - 1) / divisor;
}

GDNCP_FN int64_t min_of(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* ln(1 + exp(x)), without overflow. */
GDNCP_FN float softplus(float x)
{
    return fmaxf(x, 0.0f) + log1pf(expf(-fabsf(x)));
}

/* 1 / (1 + exp(-x)) and what it lacks to 1, each to its last digits. */
struct sigmoid_parts {
    float open;
    float closed;
};

GDNCP_FN sigmoid_parts split_sigmoid(float x)
{
    const float e = expf(-fabsf(x));
    /* A squared root costs less than a division; its argument is in 1..2. */
    const float root = rsqrtf(1.0f + e);
    const float large = root * root;
    const float small = e * large;

    return {x < 0.0f ? small : large, x < 0.0f ? large : small};
}

GDNCP_FN float sigmoid(float x)
{
    return split_sigmoid(x).open;
}

GDNCP_FN float silu(float x)
{
    return x * sigmoid(x);
}

/* SiLU and its derivative. */
struct silu_parts {
    float value;
    float slope;
};

GDNCP_FN silu_parts split_silu(float x)
{
    const sigmoid_parts s = split_sigmoid(x);

    return {x * s.open, s.open * (1.0f + x * s.closed)};
}

/* Four neighbours in a row, as they lie in memory. Elements of 16 bits stay in pairs, so that those
 * whose loads are under way take no more registers than they must. */
constexpr int QUAD = 4;

template <typename T> struct alignas(QUAD * sizeof(T)) quad {
    static_assert(sizeof(T) == 2 || sizeof(T) == 4, "elements of 16 or 32 bits");
    uint32_t words[sizeof(T)];
};

template <typename T> GDNCP_FN T from_bits(uint32_t bits)
{
    return {(uint16_t)bits};
}

template <> GDNCP_FN float from_bits<float>(uint32_t bits)
{
    return bits_float(bits);
}

template <typename T> GDNCP_FN uint32_t to_bits(T x)
{
    return x.bits;
}

template <> GDNCP_FN uint32_t to_bits<float>(float x)
{
    return float_bits(x);
}

template <typename T> GDNCP_FN T quad_element(const quad<T> &q, int i)
{
    return sizeof(T) == 2 ? from_bits<T>(q.words[i / 2] >> i % 2 * 16 & 0xffff)
                          : from_bits<T>(q.words[i % sizeof(T)]);
}

template <typename T> GDNCP_FN void set_quad_element(quad<T> *q, int i, T x)
{
    if (sizeof(T) == 2) {
        q->words[i / 2] |= to_bits(x) << i % 2 * 16; /* it was zero */
    } else {
        q->words[i % sizeof(T)] = to_bits(x);
    }
}

template <typename T> GDNCP_FN void widen(const quad<T> &q, float *values)
{
    GDNCP_UNROLL
    for (int i = 0; i < QUAD; i++) {
        values[i] = to_float(quad_element(q, i));
    }
}

template <typename T> GDNCP_FN quad<T> narrow(const float *values)
{
    quad<T> q = {};

    GDNCP_UNROLL
    for (int i = 0; i < QUAD; i++) {
        set_quad_element(&q, i, from_float<T>(values[i]));
    }
    return q;
}

/* Whether every quad of rows is aligned that begins at a multiple of four elements. */
template <typename T> constexpr bool quads_are_aligned(const T *data, int64_t stride)
{
    return reinterpret_cast<uintptr_t>(data) % sizeof(quad<T>) == 0 && stride % QUAD == 0;
}

/* The first `count` of four elements; the rest is zero. */
template <typename T> GDNCP_FN quad<T> load_quad(const T *from, int count, bool aligned)
{
    quad<T> q = {};

    if (aligned && count == QUAD) {
        return *reinterpret_cast<const quad<T> *>(from);
    }
    GDNCP_UNROLL
    for (int i = 0; i < QUAD; i++) {
        if (i < count) {
            set_quad_element(&q, i, from[i]);
        }
    }
    return q;
}

template <typename T> GDNCP_FN void store_quad(T *to, const quad<T> &q, int count, bool aligned)
{
    if (aligned && count == QUAD) {
        *reinterpret_cast<quad<T> *>(to) = q;
        return;
    }
    GDNCP_UNROLL
    for (int i = 0; i < QUAD; i++) {
        if (i < count) {
            to[i] = quad_element(q, i);
        }
    }
}

/* Of a row's elements from `first` on, those that one quad has: 0 to 4. */
GDNCP_FN int quad_count(int64_t first, int64_t end)
{
    return end - first >= QUAD ? QUAD : end > first ? (int)(end - first) : 0;
}

} /* namespace GDNCP_KERNELS */

#endif
