/* The key head dimensions that kernels of states are compiled for. */
#ifndef GDNCP_KEY_DIMS_CUDA_H
#define GDNCP_KEY_DIMS_CUDA_H

#include <type_traits>

#include "kernel.h"

namespace GDNCP_KERNELS
{

/* The largest head dimension, padded ones being 64, 128 and this. */
constexpr int64_t MAX_DIM = 256;

/* Calls function(std::integral_constant<int, D>()) with dk padded to D. */
template <typename Function> gdncp_status_t with_key_dim(int64_t dk, Function function)
{
    if (dk <= 64) {
        return function(std::integral_constant<int, 64>());
    }
    if (dk <= 128) {
        return function(std::integral_constant<int, 128>());
    }
    return function(std::integral_constant<int, (int)MAX_DIM>());
}

} /* namespace GDNCP_KERNELS */

#endif
