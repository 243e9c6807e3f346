/* The launchers that make up the table of a plan's kernels. */
#ifndef GDNCP_PLAN_KERNELS_CUDA_H
#define GDNCP_PLAN_KERNELS_CUDA_H

#include "kernel.h"
#include "plan_kernels.h"

namespace GDNCP_KERNELS
{

/* Tiles are dealt out to warps, so that small blocks leave no thread of a large block idle. */
constexpr int PLAN_WARPS = 8;

gdncp_status_t plan_move(const gdncp_move_tile_t *tiles, int64_t num_tiles, const void *from,
                         void *to, gdncp_stream_t stream);
gdncp_status_t plan_add(const gdncp_sum_list_t *sums, const void *in, const void *received,
                        void *out, gdncp_stream_t stream);

/* Threads of a block: a warp a tile, and no more warps than tiles. */
inline int plan_threads(int64_t num_tiles)
{
    return (int)(num_tiles < PLAN_WARPS ? num_tiles : PLAN_WARPS) * WARP;
}

inline gdncp_grid plan_grid(int64_t num_tiles)
{
    return {(num_tiles + PLAN_WARPS - 1) / PLAN_WARPS, 1, 1};
}

/* The tile of the calling warp; beyond the last one in the last block. */
GDNCP_FN int64_t plan_tile()
{
    return block_x() * PLAN_WARPS + warp();
}

/* Whether all addresses are multiples of a power of two. */
inline bool plan_aligned(int64_t bytes, const void *a, const void *b, const void *c)
{
    return ((reinterpret_cast<uintptr_t>(a) | reinterpret_cast<uintptr_t>(b) |
             reinterpret_cast<uintptr_t>(c)) &
            (uintptr_t)(bytes - 1)) == 0;
}

} /* namespace GDNCP_KERNELS */

#endif
