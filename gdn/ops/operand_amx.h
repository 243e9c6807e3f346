/* Operands as planes of bf16, packed in matrix tiles (AMX), and their products. */
#ifndef GDNCP_OPERAND_AMX_H
#define GDNCP_OPERAND_AMX_H

#include "amx_tiles.h"
#include "operand.h"

/* Tiles of 16 rows and 32 of the depth, high and low. */
#define GDNCP_PLANES_BYTES (2 * GDNCP_TILE_BYTES)

/* Blocks of GDNCP_TILE_DEPTH that a depth takes. */
static inline int64_t gdncp_tiles_depth_blocks(int64_t depth)
{
    return (depth + GDNCP_TILE_DEPTH - 1) / GDNCP_TILE_DEPTH;
}

/* Bytes of an operand [rows, depth], or of its transpose. */
int64_t gdncp_tiles_bytes(int64_t rows, int64_t depth);

/* As the functions of operand.h without gdncp_tiles_, for operands in tiles. */
void gdncp_tiles_left(gdncp_product_shape_t shape, int64_t m, int64_t depth,
                      const gdncp_operand_rows_t *rows, char *packed);
void gdncp_tiles_left_transposed(gdncp_product_shape_t shape, int64_t m, int64_t depth,
                                 const gdncp_operand_rows_t *rows, char *packed);
void gdncp_tiles_right(int64_t depth, int64_t n, const gdncp_operand_rows_t *rows, char *packed);
void gdncp_tiles_right_transposed(int64_t depth, int64_t n, const gdncp_operand_rows_t *rows,
                                  char *packed);
void gdncp_tiles_multiply(gdncp_product_shape_t shape, int64_t m, int64_t n,
                          const gdncp_operand_t *left, const gdncp_operand_t *right,
                          bool accumulate, float *c, int64_t ldc);

#endif
