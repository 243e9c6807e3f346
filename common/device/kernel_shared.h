/* What both builds of kernel.h give in the same words. */
#ifndef GDNCP_KERNEL_SHARED_H
#define GDNCP_KERNEL_SHARED_H

#include "kernel.h"

namespace GDNCP_KERNELS
{

constexpr int WARP = 32;

GDNCP_FN int lane()
{
    return thread_index() % WARP;
}

GDNCP_FN int warp()
{
    return thread_index() / WARP;
}

template <typename T> GDNCP_FN uint32_t pack(T low, T high)
{
    return (uint32_t)low.bits | (uint32_t)high.bits << 16;
}

template <typename T> GDNCP_FN uint32_t pack_floats(float low, float high)
{
    return pack(from_float<T>(low), from_float<T>(high));
}

/* The sum over all lanes, the same bits in each: lanes add in pairs. */
GDNCP_FN float warp_sum(float value)
{
    GDNCP_UNROLL
    for (int mask = WARP / 2; mask > 0; mask /= 2) {
        value += shuffle_xor(value, mask);
    }
    return value;
}

/* Calls function(T()) with the element type of a tensor that was checked to be F32, BF16 or F16. */
template <typename Function> gdncp_status_t with_dtype(gdncp_dtype_t dtype, Function function)
{
    switch (dtype) {
    case GDNCP_BF16:
        return function(bf16());
    case GDNCP_F16:
        return function(f16());
    default:
        return function(float());
    }
}

/* Of a tensor whose tokens lie a free distance apart and whose other dimensions are packed. */
template <typename T> struct token_rows {
    T *data;
    int64_t stride; /* elements from one token to the next */

    GDNCP_FN T *row(int64_t token) const
    {
        return data + token * stride;
    }
};

template <typename T> token_rows<T> rows_of(const gdncp_tensor_t &tensor)
{
    return {static_cast<T *>(tensor.data), tensor.strides[0]};
}

} /* namespace GDNCP_KERNELS */

#endif
