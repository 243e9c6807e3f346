/* The functions of tile_mma.h as kernels of one warp on one block of 16x16, which lies anywhere in
 * a matrix in shared memory. */
#ifndef GDNCP_TEST_TILE_KERNELS_H
#define GDNCP_TEST_TILE_KERNELS_H

#include <stdint.h>

#include "gdncp/device.h"
#include "gdncp/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { TILE_MEMORY_BYTES = 8192, TILE_LANES = 32, TILE_LANE_ELEMENTS = 8 };

/* Elements of `memory`, TILE_MEMORY_BYTES of the device that the kernel works on in shared memory:
 * where the block begins, from row to row, and from plane to plane. */
typedef struct tile_block {
    void *memory;
    int first;
    int ld;
    int plane;
} tile_block_t;

/* How an operand is read: from floats by the function of that name; from floats as a tile that
 * becomes the operand; or from as many planes of bf16 as it has pieces. */
typedef enum tile_reading {
    TILE_LOAD,
    TILE_LOAD_ACROSS,
    TILE_SET,
    TILE_LOAD_PLANES,
    TILE_LOAD_PLANES_ACROSS
} tile_reading_t;

typedef struct tile_operand {
    tile_block_t block;
    tile_reading_t reading;
    int pieces; /* 1 or 2 */
} tile_operand_t;

/*
 * d += a b, by the matrix instructions of tensors of a dtype. The element at (row, depth) of a, and
 * at (depth, column) of b, is that at so many rows and columns of the block, or at the transposed
 * place: for a in TILE_LOAD_ACROSS and TILE_LOAD_PLANES_ACROSS; for b in the same two and TILE_SET.
 *
 * lanes [TILE_LANES, TILE_LANE_ELEMENTS] are d in registers: read and written, on the device.
 */
gdncp_status_t tile_product(gdncp_dtype_t dtype, const tile_operand_t *a, const tile_operand_t *b,
                            float *lanes, gdncp_stream_t stream);

typedef enum tile_move {
    TILE_CLEAR,
    TILE_READ_F32, /* load_tile() and load_tile_across() */
    TILE_READ_ACROSS_F32,
    TILE_READ_BF16,
    TILE_READ_ACROSS_BF16,
    TILE_STORE_F32, /* store_tile() */
    TILE_STORE_BF16,
    TILE_STORE_F16,
    TILE_STORE_PIECES_F32,
    TILE_STORE_PIECES_BF16
} tile_move_t;

/* Between a tile, which is `lanes`, and the block. Both are read and written, on the device. */
gdncp_status_t tile_move(tile_move_t move, const tile_block_t *block, float *lanes,
                         gdncp_stream_t stream);

#ifdef __cplusplus
}
#endif

#endif
