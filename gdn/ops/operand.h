/*
 * Operands of products: made ready once, then multiplied as often as needed.
 *
 * An operand is float32, as it lies or as a copy, and libxsmm multiplies it. Or, where inputs are
 * bf16 and the processor has matrix tiles (AMX), each of its numbers is the sum of two, high + low:
 * the bf16 nearest to it, and what is left, cut to bf16. So 15 bits of it count, or more; numbers
 * that are bf16 have no low. A product is high * high + high * low + low * high, each exact, summed
 * in float32.
 */
#ifndef GDNCP_OPERAND_H
#define GDNCP_OPERAND_H

#include <stdbool.h>
#include <stdint.h>

#include "gdncp/status.h"
#include "gdncp/tensor.h"
#include "op_scratch.h"

/* Whether a call whose inputs have this dtype multiplies on tiles here. */
gdncp_status_t gdncp_operand_choose(gdncp_dtype_t dtype, bool *in_tiles);

/* Around a thread's products. */
void gdncp_operand_begin(bool in_tiles);
void gdncp_operand_end(bool in_tiles);

/* What of a product is wanted, or counts. Triangles are read as far as the blocks of
 * GDNCP_TRIANGLE_BLOCK rows on the diagonal, within which they must be zero beyond it. */
typedef enum gdncp_product_shape {
    GDNCP_PRODUCT_FULL,
    GDNCP_PRODUCT_LOWER,   /* the left operand [m, m] is a lower triangle */
    GDNCP_PRODUCT_LOWER_T, /* it is the transpose of one */
    GDNCP_PRODUCT_PAIRS    /* of the product [m, m] the lower triangle is wanted, as far */
} gdncp_product_shape_t;

/* Rows of float32, each to be multiplied with its factor. */
typedef struct gdncp_operand_rows {
    const float *data;
    int64_t ld;           /* elements between rows */
    const float *factors; /* NULL: all 1 */
    bool is_bf16;         /* each number, times its factor, is a bf16 */
} gdncp_operand_rows_t;

typedef struct gdncp_operand {
    bool in_tiles;
    bool has_low;      /* of tiles */
    const float *data; /* of float32 */
    int64_t ld;
    bool is_transposed;   /* of a left operand in float32: data is [depth, rows] */
    const char *packed;   /* of tiles, see operand_amx.c */
    int64_t depth_blocks; /* of a row of tiles */
} gdncp_operand_t;

/* Room for an operand [rows, depth], left or right, or for its transpose. */
float *gdncp_operand_room(gdncp_arena_t *arena, bool in_tiles, int64_t rows, int64_t depth);

/*
 * Left operands [m, depth] from their rows [m, depth], or with _transposed from [depth, m]; right
 * ones [depth, n] from [depth, n], or from [n, depth], which takes no factors. room is that of the
 * operand and must not change while it is used; nor must float32 rows.
 */
gdncp_operand_t gdncp_left(bool in_tiles, gdncp_product_shape_t shape, int64_t m, int64_t depth,
                           const gdncp_operand_rows_t *rows, float *room);
gdncp_operand_t gdncp_left_transposed(bool in_tiles, gdncp_product_shape_t shape, int64_t m,
                                      int64_t depth, const gdncp_operand_rows_t *rows, float *room);
gdncp_operand_t gdncp_right(bool in_tiles, int64_t depth, int64_t n,
                            const gdncp_operand_rows_t *rows, float *room);
gdncp_operand_t gdncp_right_transposed(bool in_tiles, int64_t depth, int64_t n,
                                       const gdncp_operand_rows_t *rows, float *room);

/* The rows of a left operand, not transposed, from `row` on, a multiple of 16. */
gdncp_operand_t gdncp_left_from(const gdncp_operand_t *left, int64_t row);

/*
 * c [m, n] = left right, or += with accumulate; rows of c are ldc elements apart. An element is one
 * sum in the order of the depth, so its bits depend on its row and its column alone.
 */
void gdncp_multiply(gdncp_product_shape_t shape, int64_t m, int64_t n, int64_t depth,
                    const gdncp_operand_t *left, const gdncp_operand_t *right, bool accumulate,
                    float *c, int64_t ldc);

#endif
