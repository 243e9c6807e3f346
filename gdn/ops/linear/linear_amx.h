/* Products of bf16 matrices on the matrix tiles (AMX) of x86 processors, summed in float32. */
#ifndef GDNCP_LINEAR_AMX_H
#define GDNCP_LINEAR_AMX_H

#include "amx_tiles.h"
#include "linear_tiles.h"

/* Rows and columns of a block, and the greatest depth of a packed one. */
#define GDNCP_AMX_BLOCK 32
#define GDNCP_AMX_DEPTH 256

/* Floats of a packed block; each is a pair of bf16 that follow each other along the depth. */
#define GDNCP_AMX_PACKED (GDNCP_AMX_BLOCK * GDNCP_AMX_DEPTH / 2)

/*
 * Pack `count` <= GDNCP_AMX_BLOCK rows of A, or columns of B, and `depths` <= GDNCP_AMX_DEPTH of
 * their elements, with zeros to fill the block. along_depth: an element's neighbour in memory is
 * the next of the depth. packed, stage: [GDNCP_AMX_PACKED].
 */
void gdncp_amx_pack_a(const gdncp_matrix_t *matrix, bool along_depth, int64_t first, int64_t count,
                      int64_t depth, int64_t depths, float *packed, float *stage);
void gdncp_amx_pack_b(const gdncp_matrix_t *matrix, bool along_depth, int64_t first, int64_t count,
                      int64_t depth, int64_t depths, float *packed, float *stage);

/* product [GDNCP_AMX_BLOCK, GDNCP_AMX_BLOCK] = A B of two packed blocks of the same depths. Each
 * element is one sum over the depth in order. */
void gdncp_amx_multiply(int64_t depths, const float *a, const float *b, float *product);

#endif
