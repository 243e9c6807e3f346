/* Moving blocks of rows on a CUDA device: a warp a tile, in the widest steps that its rows allow.
 */
#include "plan_kernels_cuda.h"

namespace GDNCP_KERNELS
{

namespace
{

struct alignas(16) unit_16 {
    uint64_t halves[2];
};

template <typename Unit>
GDNCP_FN void move_rows(const gdncp_move_tile_t &tile, const char *__restrict__ from,
                        char *__restrict__ to)
{
    const int row_units = tile.row_bytes / (int)sizeof(Unit);
    const int num_units = tile.rows * row_units;

    for (int i = lane(); i < num_units; i += WARP) {
        const int row = i / row_units;
        const int column = i % row_units;

        reinterpret_cast<Unit *>(to + row * tile.to_stride)[column] =
            reinterpret_cast<const Unit *>(from + row * tile.from_stride)[column];
    }
}

/* alignment: of both buffers. */
GDNCP_KERNEL(PLAN_WARPS *WARP, 2)
void move_kernel(const gdncp_move_tile_t *tiles, int64_t num_tiles, const char *from, char *to,
                 int alignment)
{
    if (plan_tile() >= num_tiles) {
        return;
    }
    const gdncp_move_tile_t tile = tiles[plan_tile()];

    from += tile.from;
    to += tile.to;
    switch (tile.alignment < alignment ? tile.alignment : alignment) {
    case 16:
        return move_rows<unit_16>(tile, from, to);
    case 8:
        return move_rows<uint64_t>(tile, from, to);
    case 4:
        return move_rows<uint32_t>(tile, from, to);
    case 2:
        return move_rows<uint16_t>(tile, from, to);
    default:
        return move_rows<uint8_t>(tile, from, to);
    }
}

} /* namespace */

gdncp_status_t plan_move(const gdncp_move_tile_t *tiles, int64_t num_tiles, const void *from,
                         void *to, gdncp_stream_t stream)
{
    int alignment = 16;

    while (!plan_aligned(alignment, from, to, nullptr)) {
        alignment /= 2;
    }
    return launch("plan_move", move_kernel, plan_grid(num_tiles), plan_threads(num_tiles), 0,
                  stream, tiles, num_tiles, static_cast<const char *>(from),
                  static_cast<char *>(to), alignment);
}

} /* namespace GDNCP_KERNELS */
