/* Products of bf16 matrices on the matrix tiles (AMX) of x86 processors, summed in float32. */
#include "linear_amx.h"

#include <assert.h>

#if defined(__x86_64__) && defined(__linux__)

#include <immintrin.h>
#include <string.h>

#include "small_gemm.h"
#include "vector_clones.h"

#define BLOCK GDNCP_AMX_BLOCK
#define TILE GDNCP_TILE_ROWS /* rows of a tile, and floats or pairs of a row */

static const uint16_t *element(const gdncp_matrix_t *matrix, int64_t row, int64_t column)
{
    return (const uint16_t *)matrix->data + row * matrix->ld + column;
}

static int64_t pairs_of(int64_t depths)
{
    return (depths + 2 * TILE - 1) / (2 * TILE) * TILE;
}

/* packed [BLOCK, pairs] from rows along the depth. */
static void copy_pairs(const gdncp_matrix_t *matrix, int64_t first, int64_t count, int64_t depth,
                       int64_t depths, float *packed)
{
    const int64_t pairs = pairs_of(depths);
    const size_t bytes = (size_t)depths * sizeof(uint16_t);
    const size_t row_bytes = (size_t)pairs * sizeof(float);

    for (int64_t i = 0; i < count; i++) {
        char *const row = (char *)(packed + i * pairs);

        memcpy(row, element(matrix, first + i, depth), bytes);
        memset(row + bytes, 0, row_bytes - bytes);
    }
    memset(packed + count * pairs, 0, (size_t)(BLOCK - count) * row_bytes);
}

/* pairs[i] = x[i] below y[i]. */
GDNCP_VECTOR_CLONES
static void zip_rows(const uint16_t *x, const uint16_t *y, uint32_t *pairs)
{
    for (int i = 0; i < BLOCK; i++) {
        pairs[i] = (uint32_t)x[i] | (uint32_t)y[i] << 16;
    }
}

/* packed [pairs, BLOCK] from rows across the depth. */
static void zip_pairs(const gdncp_matrix_t *matrix, int64_t first, int64_t count, int64_t depth,
                      int64_t depths, float *packed)
{
    const size_t bytes = (size_t)count * sizeof(uint16_t);

    for (int64_t pair = 0; pair < pairs_of(depths); pair++) {
        uint16_t rows[2][BLOCK] = {{0}};
        uint32_t zipped[BLOCK];

        for (int64_t i = 0; i < 2 && 2 * pair + i < depths; i++) {
            memcpy(rows[i], element(matrix, depth + 2 * pair + i, first), bytes);
        }
        zip_rows(rows[0], rows[1], zipped);
        memcpy(packed + pair * BLOCK, zipped, sizeof zipped);
    }
}

void gdncp_amx_pack_a(const gdncp_matrix_t *matrix, bool along_depth, int64_t first, int64_t count,
                      int64_t depth, int64_t depths, float *packed, float *stage)
{
    const int64_t pairs = pairs_of(depths);

    if (along_depth) {
        copy_pairs(matrix, first, count, depth, depths, packed);
    } else {
        zip_pairs(matrix, first, count, depth, depths, stage);
        gdncp_transpose(pairs, BLOCK, stage, BLOCK, packed, pairs);
    }
}

void gdncp_amx_pack_b(const gdncp_matrix_t *matrix, bool along_depth, int64_t first, int64_t count,
                      int64_t depth, int64_t depths, float *packed, float *stage)
{
    const int64_t pairs = pairs_of(depths);

    if (along_depth) {
        copy_pairs(matrix, first, count, depth, depths, stage);
        gdncp_transpose(BLOCK, pairs, stage, pairs, packed, BLOCK);
    } else {
        zip_pairs(matrix, first, count, depth, depths, packed);
    }
}

GDNCP_AMX void gdncp_amx_multiply(int64_t depths, const float *a, const float *b, float *product)
{
    const int64_t pairs = pairs_of(depths);
    const size_t a_bytes = (size_t)pairs * sizeof(float);
    const size_t b_bytes = BLOCK * sizeof(float);

    /* Nor do compilers know that tiles are loaded from memory. */
    __asm__ volatile("" : : "r"(a), "r"(b) : "memory");
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t pair = 0; pair < pairs; pair += TILE) {
        _tile_loadd(4, a + pair, a_bytes);
        _tile_loadd(5, a + TILE * pairs + pair, a_bytes);
        _tile_loadd(6, b + pair * BLOCK, b_bytes);
        _tile_loadd(7, b + pair * BLOCK + TILE, b_bytes);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, product, b_bytes);
    _tile_stored(1, product + TILE, b_bytes);
    _tile_stored(2, product + TILE * BLOCK, b_bytes);
    _tile_stored(3, product + TILE * BLOCK + TILE, b_bytes);
}

#else

void gdncp_amx_pack_a(const gdncp_matrix_t *matrix, bool along_depth, int64_t first, int64_t count,
                      int64_t depth, int64_t depths, float *packed, float *stage)
{
    (void)matrix, (void)along_depth, (void)first, (void)count, (void)depth, (void)depths;
    (void)packed, (void)stage;
    assert(false);
}

void gdncp_amx_pack_b(const gdncp_matrix_t *matrix, bool along_depth, int64_t first, int64_t count,
                      int64_t depth, int64_t depths, float *packed, float *stage)
{
    (void)matrix, (void)along_depth, (void)first, (void)count, (void)depth, (void)depths;
    (void)packed, (void)stage;
    assert(false);
}

void gdncp_amx_multiply(int64_t depths, const float *a, const float *b, float *product)
{
    (void)depths, (void)a, (void)b, (void)product;
    assert(false);
}

#endif
