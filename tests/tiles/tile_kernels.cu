/* See tile_kernels.h. */
#include "tile_kernels.h"

#include <type_traits>

#include "tile_mma.h"

namespace GDNCP_KERNELS
{

namespace
{

/* A block's place in shared memory, whose copy is there after a sync_block(). */
template <typename Element> struct place {
    Element *first;
    int ld;
    int plane;
};

template <typename Element>
GDNCP_FN place<Element> place_of(const tile_block_t &block, char *shared)
{
    return {reinterpret_cast<Element *>(shared) + block.first, block.ld, block.plane};
}

GDNCP_FN void copy_memory(void *dst, const void *src)
{
    for (int i = lane(); i < TILE_MEMORY_BYTES / 4; i += WARP) {
        static_cast<uint32_t *>(dst)[i] = static_cast<const uint32_t *>(src)[i];
    }
}

GDNCP_FN void read_lane(tile &t, const float *lanes)
{
    for (int i = 0; i < TILE_LANE_ELEMENTS; i++) {
        t.x[i / 4][i % 4] = lanes[lane() * TILE_LANE_ELEMENTS + i];
    }
}

GDNCP_FN void write_lane(const tile &t, float *lanes)
{
    for (int i = 0; i < TILE_LANE_ELEMENTS; i++) {
        lanes[lane() * TILE_LANE_ELEMENTS + i] = t.x[i / 4][i % 4];
    }
}

/* The four forms of loads, under the names of left operands. */
template <typename T, int pieces, typename Element>
GDNCP_FN void load(operand_a<T, pieces> &a, bool across, const place<Element> &from)
{
    if (across) {
        load_a_across(a, from.first, from.ld, from.plane);
    } else {
        load_a(a, from.first, from.ld, from.plane);
    }
}

template <typename T, int pieces, typename Element>
GDNCP_FN void load(operand_b<T, pieces> &b, bool across, const place<Element> &from)
{
    if (across) {
        load_b_across(b, from.first, from.ld, from.plane);
    } else {
        load_b(b, from.first, from.ld, from.plane);
    }
}

template <typename T, typename Operand>
GDNCP_FN void read_operand(Operand &operand, const tile_operand_t &of, char *shared)
{
    const place<float> floats = place_of<float>(of.block, shared);

    switch (of.reading) {
    case TILE_LOAD:
    case TILE_LOAD_ACROSS:
        load(operand, of.reading == TILE_LOAD_ACROSS, floats);
        break;
    case TILE_SET: {
        tile t;

        load_tile(t, floats.first, floats.ld);
        set_operand(operand, t);
        break;
    }
    case TILE_LOAD_PLANES:
    case TILE_LOAD_PLANES_ACROSS:
        if constexpr (std::is_same<T, bf16>::value) {
            load(operand, of.reading == TILE_LOAD_PLANES_ACROSS, place_of<bf16>(of.block, shared));
        }
        break;
    }
}

template <typename T, int pieces_a, int pieces_b>
GDNCP_KERNEL(WARP, 1)
void product(tile_operand_t of_a, tile_operand_t of_b, float *lanes)
{
    char *const shared = shared_memory();
    operand_a<T, pieces_a> a;
    operand_b<T, pieces_b> b;
    tile d;

    copy_memory(shared, of_a.block.memory);
    copy_memory(shared + TILE_MEMORY_BYTES, of_b.block.memory);
    sync_block();
    read_operand<T>(a, of_a, shared);
    read_operand<T>(b, of_b, shared + TILE_MEMORY_BYTES);
    read_lane(d, lanes);
    mma(d, a, b);
    write_lane(d, lanes);
}

GDNCP_KERNEL(WARP, 1)
void move(tile_move_t number, tile_block_t block, float *lanes)
{
    char *const shared = shared_memory();
    const place<float> floats = place_of<float>(block, shared);
    const place<bf16> halves = place_of<bf16>(block, shared);
    tile t;

    copy_memory(shared, block.memory);
    sync_block();
    read_lane(t, lanes);
    switch (number) {
    case TILE_CLEAR:
        clear(t);
        break;
    case TILE_READ_F32:
        load_tile(t, floats.first, block.ld);
        break;
    case TILE_READ_ACROSS_F32:
        load_tile_across(t, floats.first, block.ld);
        break;
    case TILE_READ_BF16:
        load_tile(t, halves.first, block.ld);
        break;
    case TILE_READ_ACROSS_BF16:
        load_tile_across(t, halves.first, block.ld);
        break;
    case TILE_STORE_F32:
        store_tile(t, floats.first, block.ld);
        break;
    case TILE_STORE_BF16:
        store_tile(t, halves.first, block.ld);
        break;
    case TILE_STORE_F16:
        store_tile(t, place_of<f16>(block, shared).first, block.ld);
        break;
    case TILE_STORE_PIECES_F32:
        store_pieces(t, floats.first, block.ld, block.plane);
        break;
    case TILE_STORE_PIECES_BF16:
        store_pieces(t, halves.first, block.ld, block.plane);
        break;
    }
    sync_block();
    copy_memory(block.memory, shared);
    write_lane(t, lanes);
}

template <typename T, int pieces_a, int pieces_b>
gdncp_status_t launch_product(const tile_operand_t &a, const tile_operand_t &b, float *lanes,
                              gdncp_stream_t stream)
{
    return launch("tile_product", product<T, pieces_a, pieces_b>, {1, 1, 1}, WARP,
                  2 * TILE_MEMORY_BYTES, stream, a, b, lanes);
}

template <typename T>
gdncp_status_t launch_pieces(const tile_operand_t &a, const tile_operand_t &b, float *lanes,
                             gdncp_stream_t stream)
{
    if (a.pieces == 1) {
        return b.pieces == 1 ? launch_product<T, 1, 1>(a, b, lanes, stream)
                             : launch_product<T, 1, 2>(a, b, lanes, stream);
    }
    return b.pieces == 1 ? launch_product<T, 2, 1>(a, b, lanes, stream)
                         : launch_product<T, 2, 2>(a, b, lanes, stream);
}

} /* namespace */

} /* namespace GDNCP_KERNELS */

using namespace GDNCP_KERNELS;

gdncp_status_t tile_product(gdncp_dtype_t dtype, const tile_operand_t *a, const tile_operand_t *b,
                            float *lanes, gdncp_stream_t stream)
{
    return with_dtype(dtype,
                      [=](auto x) { return launch_pieces<decltype(x)>(*a, *b, lanes, stream); });
}

gdncp_status_t tile_move(tile_move_t number, const tile_block_t *block, float *lanes,
                         gdncp_stream_t stream)
{
    return launch("tile_move", GDNCP_KERNELS::move, {1, 1, 1}, WARP, TILE_MEMORY_BYTES, stream,
                  number, *block, lanes);
}
