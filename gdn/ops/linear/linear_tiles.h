/* Large matrix products by tiles of the small kernels, of operands in any activation dtype. */
#ifndef GDNCP_LINEAR_TILES_H
#define GDNCP_LINEAR_TILES_H

#include <stdbool.h>
#include <stdint.h>

#include "gdncp/memory.h"
#include "gdncp/status.h"
#include "gdncp/tensor.h"

/* A row-major matrix in F32, BF16 or F16. */
typedef struct gdncp_matrix {
    void *data;
    gdncp_dtype_t dtype;
    int64_t ld; /* elements between rows */
} gdncp_matrix_t;

/* out [rows, columns] = A B, with A [rows, depth] and B [depth, columns]. */
typedef struct gdncp_product {
    int64_t rows;
    int64_t columns;
    int64_t depth;
    gdncp_matrix_t a;
    gdncp_matrix_t b;
    gdncp_matrix_t out;
    bool a_is_transposed; /* a holds [depth, rows] */
    bool b_is_transposed; /* b holds [columns, depth] */
    bool accumulate;      /* out += A B, in float32, then cast */
} gdncp_product_t;

/*
 * Every element of out is summed over the depth in tiles, each in order and the tiles in order:
 * its bits depend on its row of A, its column of B and the depth alone.
 */
gdncp_status_t gdncp_product_run(const gdncp_product_t *product, gdncp_workspace_t *workspace);

#endif
