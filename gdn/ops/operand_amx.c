/*
 * Operands as planes of bf16, packed in matrix tiles (AMX), and their products.
 *
 * An operand is tiles [its rows or columns by 16][its depth by 32][high, low]. In a left tile each
 * row is one of the operand's, 32 bf16 along the depth; in a right one each row is 16 columns of
 * two neighbours along the depth, side by side.
 */
#include "operand_amx.h"

#include <assert.h>

static int64_t tiles_of(int64_t count)
{
    return (count + GDNCP_TILE_ROWS - 1) / GDNCP_TILE_ROWS;
}

/* As if rows were a depth too: an operand's room serves its transpose. */
int64_t gdncp_tiles_bytes(int64_t rows, int64_t depth)
{
    const int64_t tiles = gdncp_tiles_depth_blocks(rows) * (GDNCP_TILE_DEPTH / GDNCP_TILE_ROWS);

    return tiles * gdncp_tiles_depth_blocks(depth) * GDNCP_PLANES_BYTES;
}

#if defined(__x86_64__) && defined(__linux__)

#include <string.h>

#include "lanes_x86.h"
#include "small_gemm.h"

#define TILE GDNCP_TILE_ROWS
#define DEPTH GDNCP_TILE_DEPTH
#define PLANES 2
#define BLOCK 32 /* rows and columns that are summed at a time, in four tiles */

static_assert(TILE == GDNCP_TRIANGLE_BLOCK, "triangles are cut by tiles");

#define INLINE_AVX512 GDNCP_AVX512 __attribute__((always_inline)) static inline
#define INLINE_AMX __attribute__((target("amx-tile,amx-bf16"), always_inline)) static inline

/* The bf16 of two vectors' numbers, in the upper halves of lanes, high and low. */
typedef struct split {
    __m512i first[PLANES];
    __m512i second[PLANES];
} split_t;

/* High is rounded, by adding half a unit to the bits, so low has a sign of its own and no bias. */
INLINE_AVX512 void split_lanes(__m512 x, __m512i *parts)
{
    const __m512i half = _mm512_set1_epi32(0x8000);
    const __m512i upper = _mm512_set1_epi32((int)0xffff0000u);

    parts[0] = _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(x), half), upper);
    parts[1] = _mm512_castps_si512(_mm512_sub_ps(x, _mm512_castsi512_ps(parts[0])));
}

INLINE_AVX512 split_t split_two(__m512 first, __m512 second)
{
    split_t split;

    split_lanes(first, split.first);
    split_lanes(second, split.second);
    return split;
}

/* The bf16 of first, then those of second. */
INLINE_AVX512 __m512i join(__m512i first, __m512i second)
{
    static const uint16_t upper_halves[32] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21,
                                              23, 25, 27, 29, 31, 33, 35, 37, 39, 41, 43,
                                              45, 47, 49, 51, 53, 55, 57, 59, 61, 63};

    return _mm512_permutex2var_epi16(first, _mm512_loadu_si512(upper_halves), second);
}

/* The bf16 of first beside those of second, lane by lane. */
INLINE_AVX512 __m512i zip(__m512i first, __m512i second)
{
    enum { SECOND_WHERE_SET = 0xca };

    return _mm512_ternarylogic_epi32(_mm512_set1_epi32((int)0xffff0000u), second,
                                     _mm512_srli_epi32(first, 16), SECOND_WHERE_SET);
}

INLINE_AVX512 __mmask16 lanes_left(int64_t left)
{
    return left <= 0 ? (__mmask16)0 : gdncp_x86_first_lanes(left);
}

/* The transpose of 16 by 16 words: by ones and twos within quarters of vectors, then quarters. */
INLINE_AVX512 void store_transposed(__m512i *rows, char *tile)
{
    __m512i t[TILE];

    for (int i = 0; i < TILE; i += 2) {
        t[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < TILE; i += 4) {
        rows[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        rows[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        rows[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        rows[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        const __m512i low = _mm512_shuffle_i32x4(rows[i], rows[i + 4], 0x88);
        const __m512i low_odd = _mm512_shuffle_i32x4(rows[i], rows[i + 4], 0xdd);
        const __m512i high = _mm512_shuffle_i32x4(rows[i + 8], rows[i + 12], 0x88);
        const __m512i high_odd = _mm512_shuffle_i32x4(rows[i + 8], rows[i + 12], 0xdd);
        char *const row = tile + i * GDNCP_TILE_ROW_BYTES;

        _mm512_store_si512(row, _mm512_shuffle_i32x4(low, high, 0x88));
        _mm512_store_si512(row + 4 * GDNCP_TILE_ROW_BYTES,
                           _mm512_shuffle_i32x4(low_odd, high_odd, 0x88));
        _mm512_store_si512(row + 8 * GDNCP_TILE_ROW_BYTES, _mm512_shuffle_i32x4(low, high, 0xdd));
        _mm512_store_si512(row + 12 * GDNCP_TILE_ROW_BYTES,
                           _mm512_shuffle_i32x4(low_odd, high_odd, 0xdd));
    }
}

/* 32 numbers of one row along the depth, of which `count` are there, times factor. */
INLINE_AVX512 split_t load_along(const float *row, int64_t count, __m512 factor)
{
    const __m512 first = _mm512_maskz_loadu_ps(lanes_left(count), row);
    const __m512 second = _mm512_maskz_loadu_ps(lanes_left(count - TILE), row + TILE);

    return split_two(_mm512_mul_ps(first, factor), _mm512_mul_ps(second, factor));
}

/* 16 columns of rows d and d + 1. */
INLINE_AVX512 split_t load_across(const gdncp_operand_rows_t *rows, int64_t d, int64_t depth,
                                  int64_t column, __mmask16 lanes)
{
    __m512 values[2];

    for (int i = 0; i < 2; i++) {
        const bool is_there = d + i < depth;
        const float *const row = rows->data + (d + i) * rows->ld + column;
        const float factor = is_there && rows->factors != NULL ? rows->factors[d + i] : 1.0f;

        values[i] =
            _mm512_mul_ps(_mm512_maskz_loadu_ps(is_there ? lanes : 0, row), _mm512_set1_ps(factor));
    }
    return split_two(values[0], values[1]);
}

static int planes_of(const gdncp_operand_rows_t *rows)
{
    return rows->is_bf16 ? 1 : PLANES;
}

/* Blocks of the depth that a row of tiles at `row` of a left operand has to do with. */
typedef struct span {
    int64_t begin;
    int64_t end;
} span_t;

static span_t depth_span(gdncp_product_shape_t shape, int64_t row, int64_t rows, int64_t blocks)
{
    span_t span = {0, blocks};

    if (shape == GDNCP_PRODUCT_LOWER) {
        span.end = gdncp_tiles_depth_blocks(row + rows) < blocks
                       ? gdncp_tiles_depth_blocks(row + rows)
                       : blocks;
    } else if (shape == GDNCP_PRODUCT_LOWER_T) {
        span.begin = row / DEPTH;
    }
    return span;
}

GDNCP_AVX512 void gdncp_tiles_left(gdncp_product_shape_t shape, int64_t m, int64_t depth,
                                   const gdncp_operand_rows_t *rows, char *packed)
{
    const int64_t blocks = gdncp_tiles_depth_blocks(depth);
    const int planes = planes_of(rows);

    for (int64_t i = 0; i < tiles_of(m) * TILE; i++) {
        const int64_t diagonal = (i / TILE + 1) * TILE;
        const bool is_cut = shape == GDNCP_PRODUCT_LOWER && diagonal < depth;
        const int64_t count = i >= m ? 0 : is_cut ? diagonal : depth;
        const float factor = i < m && rows->factors != NULL ? rows->factors[i] : 1.0f;
        const span_t span = depth_span(shape, i / TILE * TILE, TILE, blocks);
        const float *const row = rows->data + i * rows->ld;
        char *const tile_row =
            packed + i / TILE * blocks * GDNCP_PLANES_BYTES + i % TILE * GDNCP_TILE_ROW_BYTES;

        for (int64_t block = span.begin; block < span.end; block++) {
            const split_t split =
                load_along(row + block * DEPTH, count - block * DEPTH, _mm512_set1_ps(factor));

            for (int plane = 0; plane < planes; plane++) {
                _mm512_store_si512(tile_row + block * GDNCP_PLANES_BYTES + plane * GDNCP_TILE_BYTES,
                                   join(split.first[plane], split.second[plane]));
            }
        }
    }
}

/* Where rows run along the depth of a right operand, or across that of a left one, tiles are put
 * together the other way first. */
GDNCP_AVX512 void gdncp_tiles_right_transposed(int64_t depth, int64_t n,
                                               const gdncp_operand_rows_t *rows, char *packed)
{
    const int64_t blocks = gdncp_tiles_depth_blocks(depth);
    const int planes = planes_of(rows);

    for (int64_t j = 0; j < n; j += TILE) {
        for (int64_t block = 0; block < blocks; block++) {
            __m512i words[PLANES][TILE];

            for (int64_t i = 0; i < TILE; i++) {
                const int64_t count = j + i < n ? depth - block * DEPTH : 0;
                const split_t split = load_along(rows->data + (j + i) * rows->ld + block * DEPTH,
                                                 count, _mm512_set1_ps(1.0f));

                for (int plane = 0; plane < planes; plane++) {
                    words[plane][i] = join(split.first[plane], split.second[plane]);
                }
            }
            for (int plane = 0; plane < planes; plane++) {
                store_transposed(words[plane],
                                 packed + (j / TILE * blocks + block) * GDNCP_PLANES_BYTES +
                                     plane * GDNCP_TILE_BYTES);
            }
        }
    }
}

GDNCP_AVX512 void gdncp_tiles_left_transposed(gdncp_product_shape_t shape, int64_t m, int64_t depth,
                                              const gdncp_operand_rows_t *rows, char *packed)
{
    const int64_t blocks = gdncp_tiles_depth_blocks(depth);
    const int planes = planes_of(rows);

    for (int64_t i = 0; i < m; i += TILE) {
        const __mmask16 lanes = lanes_left(m - i);
        const span_t span = depth_span(shape, i, TILE, blocks);

        for (int64_t block = span.begin; block < span.end; block++) {
            __m512i words[PLANES][TILE];

            for (int64_t pair = 0; pair < TILE; pair++) {
                const int64_t d = block * DEPTH + 2 * pair;
                const bool is_beyond = shape == GDNCP_PRODUCT_LOWER_T && d / TILE * TILE < i;
                const split_t split = load_across(rows, d, depth, i, is_beyond ? 0 : lanes);

                for (int plane = 0; plane < planes; plane++) {
                    words[plane][pair] = zip(split.first[plane], split.second[plane]);
                }
            }
            for (int plane = 0; plane < planes; plane++) {
                store_transposed(words[plane],
                                 packed + (i / TILE * blocks + block) * GDNCP_PLANES_BYTES +
                                     plane * GDNCP_TILE_BYTES);
            }
        }
    }
}

GDNCP_AVX512 void gdncp_tiles_right(int64_t depth, int64_t n, const gdncp_operand_rows_t *rows,
                                    char *packed)
{
    const int64_t blocks = gdncp_tiles_depth_blocks(depth);
    const int planes = planes_of(rows);

    for (int64_t d = 0; d < blocks * DEPTH; d += 2) {
        char *const tile_row =
            packed + d / DEPTH * GDNCP_PLANES_BYTES + d % DEPTH / 2 * GDNCP_TILE_ROW_BYTES;

        for (int64_t j = 0; j < n; j += TILE) {
            const split_t split = load_across(rows, d, depth, j, lanes_left(n - j));

            for (int plane = 0; plane < planes; plane++) {
                _mm512_store_si512(tile_row + j / TILE * blocks * GDNCP_PLANES_BYTES +
                                       plane * GDNCP_TILE_BYTES,
                                   zip(split.first[plane], split.second[plane]));
            }
        }
    }
}

/* Up to two by two tiles of sums, 0 to 3: rows of tiles 4 and 5 times columns 6 and 7. */
typedef struct block_of_tiles {
    const char *left;
    const char *right;
    int64_t left_bytes; /* from a row of tiles to the next */
    int64_t right_bytes;
    int64_t count; /* blocks of the depth */
    bool left_has_low;
    bool right_has_low;
} block_of_tiles_t;

INLINE_AMX void load_left(const int rows, const char *tile, int64_t bytes)
{
    _tile_loadd(4, tile, GDNCP_TILE_ROW_BYTES);
    if (rows > 1) {
        _tile_loadd(5, tile + bytes, GDNCP_TILE_ROW_BYTES);
    }
}

INLINE_AMX void load_right(const int columns, const char *tile, int64_t bytes)
{
    _tile_loadd(6, tile, GDNCP_TILE_ROW_BYTES);
    if (columns > 1) {
        _tile_loadd(7, tile + bytes, GDNCP_TILE_ROW_BYTES);
    }
}

INLINE_AMX void multiply_tiles(const int rows, const int columns)
{
    _tile_dpbf16ps(0, 4, 6);
    if (columns > 1) {
        _tile_dpbf16ps(1, 4, 7);
    }
    if (rows > 1) {
        _tile_dpbf16ps(2, 5, 6);
    }
    if (rows > 1 && columns > 1) {
        _tile_dpbf16ps(3, 5, 7);
    }
}

INLINE_AMX void start_sums(const int rows, const int columns, bool accumulate, const float *c,
                           int64_t ldc)
{
    const size_t bytes = (size_t)ldc * sizeof(float);

    if (!accumulate) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
        return;
    }
    _tile_loadd(0, c, bytes);
    if (columns > 1) {
        _tile_loadd(1, c + TILE, bytes);
    }
    if (rows > 1) {
        _tile_loadd(2, c + TILE * ldc, bytes);
    }
    if (rows > 1 && columns > 1) {
        _tile_loadd(3, c + TILE * ldc + TILE, bytes);
    }
}

INLINE_AMX void store_sums(const int rows, const int columns, float *c, int64_t ldc)
{
    const size_t bytes = (size_t)ldc * sizeof(float);

    _tile_stored(0, c, bytes);
    if (columns > 1) {
        _tile_stored(1, c + TILE, bytes);
    }
    if (rows > 1) {
        _tile_stored(2, c + TILE * ldc, bytes);
    }
    if (rows > 1 && columns > 1) {
        _tile_stored(3, c + TILE * ldc + TILE, bytes);
    }
}

INLINE_AMX void sum_products(const int rows, const int columns, const block_of_tiles_t *block)
{
    for (int64_t d = 0; d < block->count; d++) {
        const char *const left = block->left + d * GDNCP_PLANES_BYTES;
        const char *const right = block->right + d * GDNCP_PLANES_BYTES;

        load_left(rows, left, block->left_bytes);
        if (block->right_has_low) {
            load_right(columns, right + GDNCP_TILE_BYTES, block->right_bytes);
            multiply_tiles(rows, columns);
        }
        load_right(columns, right, block->right_bytes);
        multiply_tiles(rows, columns);
        if (block->left_has_low) {
            load_left(rows, left + GDNCP_TILE_BYTES, block->left_bytes);
            multiply_tiles(rows, columns);
        }
    }
}

INLINE_AMX void multiply_block(const int rows, const int columns, const block_of_tiles_t *block,
                               bool accumulate, float *c, int64_t ldc)
{
    /* Compilers do not know that tiles are loaded from memory. */
    __asm__ volatile("" : : "r"(block->left), "r"(block->right), "r"(c) : "memory");
    start_sums(rows, columns, accumulate, c, ldc);
    sum_products(rows, columns, block);
    store_sums(rows, columns, c, ldc);
}

INLINE_AMX void multiply_rows_columns(int64_t rows, int64_t columns, const block_of_tiles_t *block,
                                      bool accumulate, float *c, int64_t ldc)
{
    if (rows > TILE && columns > TILE) {
        multiply_block(2, 2, block, accumulate, c, ldc);
    } else if (rows > TILE) {
        multiply_block(2, 1, block, accumulate, c, ldc);
    } else if (columns > TILE) {
        multiply_block(1, 2, block, accumulate, c, ldc);
    } else {
        multiply_block(1, 1, block, accumulate, c, ldc);
    }
}

static void copy_block(int64_t rows, int64_t columns, const float *src, int64_t src_ld, float *dst,
                       int64_t dst_ld)
{
    for (int64_t i = 0; i < rows; i++) {
        memcpy(dst + i * dst_ld, src + i * src_ld, (size_t)columns * sizeof(float));
    }
}

static int64_t smaller(int64_t x, int64_t y)
{
    return x < y ? x : y;
}

/* Tiles that reach beyond c go through one that does not. */
INLINE_AMX void multiply_any(int64_t rows, int64_t columns, const block_of_tiles_t *block,
                             bool accumulate, float *c, int64_t ldc)
{
    float whole[BLOCK * BLOCK];

    if (rows % TILE == 0 && columns % TILE == 0) {
        multiply_rows_columns(rows, columns, block, accumulate, c, ldc);
        return;
    }
    if (accumulate) {
        copy_block(rows, columns, c, ldc, whole, BLOCK);
    }
    multiply_rows_columns(rows, columns, block, accumulate, whole, BLOCK);
    copy_block(rows, columns, whole, BLOCK, c, ldc);
}

GDNCP_AMX void gdncp_tiles_multiply(gdncp_product_shape_t shape, int64_t m, int64_t n,
                                    const gdncp_operand_t *left, const gdncp_operand_t *right,
                                    bool accumulate, float *c, int64_t ldc)
{
    const int64_t left_bytes = left->depth_blocks * GDNCP_PLANES_BYTES;
    const int64_t right_bytes = right->depth_blocks * GDNCP_PLANES_BYTES;

    for (int64_t j = 0; j < n; j += BLOCK) {
        const int64_t first = shape == GDNCP_PRODUCT_PAIRS ? j : 0;

        for (int64_t i = first; i < m; i += BLOCK) {
            const int64_t rows = smaller(BLOCK, m - i);
            const span_t span = depth_span(shape, i, rows, left->depth_blocks);
            const block_of_tiles_t block = {
                .left = left->packed + i / TILE * left_bytes + span.begin * GDNCP_PLANES_BYTES,
                .right = right->packed + j / TILE * right_bytes + span.begin * GDNCP_PLANES_BYTES,
                .left_bytes = left_bytes,
                .right_bytes = right_bytes,
                .count = span.end - span.begin,
                .left_has_low = left->has_low,
                .right_has_low = right->has_low};

            multiply_any(rows, smaller(BLOCK, n - j), &block, accumulate, c + i * ldc + j, ldc);
        }
    }
}

#else

void gdncp_tiles_left(gdncp_product_shape_t shape, int64_t m, int64_t depth,
                      const gdncp_operand_rows_t *rows, char *packed)
{
    (void)shape, (void)m, (void)depth, (void)rows, (void)packed;
    assert(false);
}

void gdncp_tiles_left_transposed(gdncp_product_shape_t shape, int64_t m, int64_t depth,
                                 const gdncp_operand_rows_t *rows, char *packed)
{
    (void)shape, (void)m, (void)depth, (void)rows, (void)packed;
    assert(false);
}

void gdncp_tiles_right(int64_t depth, int64_t n, const gdncp_operand_rows_t *rows, char *packed)
{
    (void)depth, (void)n, (void)rows, (void)packed;
    assert(false);
}

void gdncp_tiles_right_transposed(int64_t depth, int64_t n, const gdncp_operand_rows_t *rows,
                                  char *packed)
{
    (void)depth, (void)n, (void)rows, (void)packed;
    assert(false);
}

void gdncp_tiles_multiply(gdncp_product_shape_t shape, int64_t m, int64_t n,
                          const gdncp_operand_t *left, const gdncp_operand_t *right,
                          bool accumulate, float *c, int64_t ldc)
{
    (void)shape, (void)m, (void)n, (void)left, (void)right, (void)accumulate;
    (void)c, (void)ldc;
    assert(false);
}

#endif
