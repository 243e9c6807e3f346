/* Lists of slots and other numbers as kernels read them. */
#ifndef GDNCP_POOL_SLOTS_CUDA_H
#define GDNCP_POOL_SLOTS_CUDA_H

#include "kernel.h"

namespace GDNCP_KERNELS
{

struct slot_list {
    const void *data; /* I32 or I64 */
    bool is_wide;

    GDNCP_FN int64_t at(int64_t i) const
    {
        return is_wide ? static_cast<const int64_t *>(data)[i]
                       : static_cast<const int32_t *>(data)[i];
    }

    /* The slot in entry i; negative where the pool has none of that number. */
    GDNCP_FN int64_t slot(int64_t i, int64_t num_slots) const
    {
        const int64_t number = at(i);

        return number < num_slots ? number : -1;
    }
};

inline slot_list list_of(const gdncp_tensor_t &tensor)
{
    return {tensor.data, tensor.dtype == GDNCP_I64};
}

} /* namespace GDNCP_KERNELS */

#endif
