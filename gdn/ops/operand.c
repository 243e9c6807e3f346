/* Operands of products: made ready once, then multiplied as often as needed. */
#include "operand.h"

#include <assert.h>

#include "operand_amx.h"
#include "small_gemm.h"
#include "vector_math.h"

gdncp_status_t gdncp_operand_choose(gdncp_dtype_t dtype, bool *in_tiles)
{
    bool has_tiles;
    const gdncp_status_t status = gdncp_amx_is_wanted(&has_tiles);

    *in_tiles = has_tiles && dtype == GDNCP_BF16;
    return status;
}

void gdncp_operand_begin(bool in_tiles)
{
    if (in_tiles) {
        gdncp_amx_begin();
    }
}

void gdncp_operand_end(bool in_tiles)
{
    if (in_tiles) {
        gdncp_amx_end();
    }
}

float *gdncp_operand_room(gdncp_arena_t *arena, bool in_tiles, int64_t rows, int64_t depth)
{
    const int64_t bytes = gdncp_tiles_bytes(rows, depth);
    const int64_t floats = bytes / (int64_t)sizeof(float);

    return gdncp_arena_floats(arena, in_tiles ? floats : rows * depth);
}

/* Float32 rows [count, width] where they lie, or a scaled copy in room. */
static gdncp_operand_t float_operand(bool is_transposed, int64_t count, int64_t width,
                                     const gdncp_operand_rows_t *rows, float *room)
{
    gdncp_operand_t operand = {.data = rows->data, .ld = rows->ld, .is_transposed = is_transposed};

    if (rows->factors != NULL) {
        gdncp_scale_rows(count, width, rows->factors, rows->data, rows->ld, room, width);
        operand.data = room;
        operand.ld = width;
    }
    return operand;
}

static gdncp_operand_t packed_operand(int64_t depth, const gdncp_operand_rows_t *rows,
                                      const float *room)
{
    return (gdncp_operand_t){.in_tiles = true,
                             .has_low = !rows->is_bf16,
                             .packed = (const char *)room,
                             .depth_blocks = gdncp_tiles_depth_blocks(depth)};
}

gdncp_operand_t gdncp_left(bool in_tiles, gdncp_product_shape_t shape, int64_t m, int64_t depth,
                           const gdncp_operand_rows_t *rows, float *room)
{
    if (!in_tiles) {
        return float_operand(false, m, depth, rows, room);
    }
    gdncp_tiles_left(shape, m, depth, rows, (char *)room);
    return packed_operand(depth, rows, room);
}

gdncp_operand_t gdncp_left_transposed(bool in_tiles, gdncp_product_shape_t shape, int64_t m,
                                      int64_t depth, const gdncp_operand_rows_t *rows, float *room)
{
    if (!in_tiles) {
        return float_operand(true, depth, m, rows, room);
    }
    gdncp_tiles_left_transposed(shape, m, depth, rows, (char *)room);
    return packed_operand(depth, rows, room);
}

gdncp_operand_t gdncp_right(bool in_tiles, int64_t depth, int64_t n,
                            const gdncp_operand_rows_t *rows, float *room)
{
    if (!in_tiles) {
        return float_operand(false, depth, n, rows, room);
    }
    gdncp_tiles_right(depth, n, rows, (char *)room);
    return packed_operand(depth, rows, room);
}

gdncp_operand_t gdncp_right_transposed(bool in_tiles, int64_t depth, int64_t n,
                                       const gdncp_operand_rows_t *rows, float *room)
{
    assert(rows->factors == NULL);
    if (!in_tiles) {
        gdncp_transpose(n, depth, rows->data, rows->ld, room, n);
        return (gdncp_operand_t){.data = room, .ld = n};
    }
    gdncp_tiles_right_transposed(depth, n, rows, (char *)room);
    return packed_operand(depth, rows, room);
}

gdncp_operand_t gdncp_left_from(const gdncp_operand_t *left, int64_t row)
{
    gdncp_operand_t rest = *left;

    assert(row % GDNCP_TILE_ROWS == 0 && !left->is_transposed);
    if (left->in_tiles) {
        rest.packed += row / GDNCP_TILE_ROWS * left->depth_blocks * GDNCP_PLANES_BYTES;
    } else {
        rest.data += row * left->ld;
    }
    return rest;
}

void gdncp_multiply(gdncp_product_shape_t shape, int64_t m, int64_t n, int64_t depth,
                    const gdncp_operand_t *left, const gdncp_operand_t *right, bool accumulate,
                    float *c, int64_t ldc)
{
    assert(left->in_tiles == right->in_tiles && left->depth_blocks == right->depth_blocks);
    if (left->in_tiles) {
        gdncp_tiles_multiply(shape, m, n, left, right, accumulate, c, ldc);
        return;
    }
    switch (shape) {
    case GDNCP_PRODUCT_LOWER:
        gdncp_gemm_lower(m, n, left->data, left->ld, right->data, right->ld, accumulate, c, ldc);
        break;
    case GDNCP_PRODUCT_LOWER_T:
        gdncp_gemm_lower_tn(m, n, left->data, left->ld, right->data, right->ld, accumulate, c, ldc);
        break;
    case GDNCP_PRODUCT_PAIRS:
        assert(!accumulate && !left->is_transposed);
        gdncp_gemm_pairs(m, depth, left->data, left->ld, right->data, right->ld, c, ldc);
        break;
    case GDNCP_PRODUCT_FULL:
        (left->is_transposed ? gdncp_gemm_tn : gdncp_gemm)(
            m, n, depth, left->data, left->ld, right->data, right->ld, accumulate, c, ldc);
        break;
    }
}
