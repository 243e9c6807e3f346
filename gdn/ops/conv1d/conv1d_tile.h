/* What the convolution's CPU kernels share: tiles of channels, and a sliding window of rows. */
#ifndef GDNCP_CONV1D_TILE_H
#define GDNCP_CONV1D_TILE_H

#include <assert.h>
#include <stdint.h>

#include "conv1d_checks.h"
#include "gdncp/ops.h"
#include "vector_clones.h"

/* Channels worked on at a time, at most: rows of float32 are then a page of memory, inside which
 * processors see by themselves where reads go on, and few pages are touched for what they give. */
#define GDNCP_CONV1D_TILE 1024

/* Floats from one row of a tile to the next. Rows a page apart would compete for the same places of
 * the cache. */
#define GDNCP_CONV1D_STRIDE (GDNCP_CONV1D_TILE + 16)

/* Tokens that a loop over channels takes together, where there are so many; else it takes one. Taps
 * and sums are then loaded once for all of them, and a row once for all that read it. */
#define GDNCP_CONV1D_TOGETHER 4

#define GDNCP_CONV1D_MAX_ROWS (GDNCP_CONV1D_MAX_WIDTH + GDNCP_CONV1D_TOGETHER - 1)

/* One coefficient per tap and channel, oldest tap first. */
typedef struct gdncp_conv1d_taps {
    int width;
    _Alignas(64) float weight[GDNCP_CONV1D_MAX_WIDTH][GDNCP_CONV1D_STRIDE];
    float bias[GDNCP_CONV1D_STRIDE];
} gdncp_conv1d_taps_t;

/* Channels [first, first + count) of a convolution. */
typedef struct gdncp_conv1d_tile {
    const gdncp_conv1d_t *conv;
    int64_t first;
    int64_t count; /* <= GDNCP_CONV1D_TILE */
} gdncp_conv1d_tile_t;

/* The tokens of one sequence that lie in a block: positions [begin, end), counted inside the
 * sequence. */
typedef struct gdncp_conv1d_run {
    int64_t sequence;
    int64_t first; /* token of the pack at position 0 */
    int64_t length;
    int64_t begin;
    int64_t end;
} gdncp_conv1d_run_t;

/* The last rows that were pushed, oldest first: those that a convolution at the last
 * GDNCP_CONV1D_TOGETHER positions reads. */
typedef struct gdncp_conv1d_rows {
    int width; /* of the convolution */
    int count;
    int next; /* slot that the next row may use */
    const float *row[GDNCP_CONV1D_MAX_ROWS];
    _Alignas(64) float slots[GDNCP_CONV1D_MAX_ROWS][GDNCP_CONV1D_STRIDE];
} gdncp_conv1d_rows_t;

/* A row of zeros, in any dtype. */
extern const float gdncp_conv1d_zeros[GDNCP_CONV1D_TILE];

static inline int64_t gdncp_conv1d_num_tiles(const gdncp_conv1d_t *conv)
{
    return (conv->x.shape[1] + GDNCP_CONV1D_TILE - 1) / GDNCP_CONV1D_TILE;
}

gdncp_conv1d_tile_t gdncp_conv1d_tile(const gdncp_conv1d_t *conv, int64_t index);

/* weight and bias of a tile's channels; a missing bias is 0. */
void gdncp_conv1d_load_taps(const gdncp_conv1d_tile_t *tile, gdncp_conv1d_taps_t *taps);

/* The first run of a block of tokens; false where the block is empty. */
bool gdncp_conv1d_first_run(const gdncp_conv1d_t *conv, int64_t block, gdncp_conv1d_run_t *run);

/* From one run of a block to the next; false after the last. */
bool gdncp_conv1d_next_run(const gdncp_conv1d_t *conv, int64_t block, gdncp_conv1d_run_t *run);

/* Positions before `end` to take together from one on. */
static inline int gdncp_conv1d_tokens_at(int64_t position, int64_t end)
{
    return position + GDNCP_CONV1D_TOGETHER <= end ? GDNCP_CONV1D_TOGETHER : 1;
}

/* Rows of zeros, for a convolution of that width. */
void gdncp_conv1d_clear_rows(gdncp_conv1d_rows_t *rows, int width);

/* Drop the oldest row and add one of `count` elements of a dtype, or gdncp_conv1d_zeros. Rows of
 * float32 must outlive their stay; others are converted into a slot. */
void gdncp_conv1d_push(gdncp_dtype_t dtype, const void *row, int64_t count,
                       gdncp_conv1d_rows_t *rows);

/* Push the input row at a position. */
void gdncp_conv1d_push_input(const gdncp_conv1d_tile_t *tile, const gdncp_conv1d_run_t *run,
                             int64_t position, gdncp_conv1d_rows_t *rows);

/* The input row at a position as it lies in memory: in x, before position 0 in the window, after
 * the sequence zeros, as without a window. */
const void *gdncp_conv1d_input(const gdncp_conv1d_tile_t *tile, const gdncp_conv1d_run_t *run,
                               int64_t position);

/* Have the row of a later token of the run brought near; nothing after the sequence's last. */
void gdncp_conv1d_prefetch(const gdncp_conv1d_tile_t *tile, const gdncp_conv1d_run_t *run,
                           const gdncp_tensor_t *tensor, int64_t position);

/* The rows that the last `tokens` positions read: position n of them reads `width` rows from n on.
 */
static inline const float *const *gdncp_conv1d_last(const gdncp_conv1d_rows_t *rows, int tokens)
{
    return rows->row + rows->count - (rows->width + tokens - 1);
}

/* For each of the last `tokens` positions, 1 or GDNCP_CONV1D_TOGETHER:
 * out[n][c] = act(bias[c] + sum_i weight[i][c] row[n + i][c]), summed in order of i. */
void gdncp_conv1d_apply(const gdncp_conv1d_taps_t *taps, gdncp_activation_t activation,
                        const gdncp_conv1d_rows_t *rows, int tokens, int64_t count,
                        float *const *out);

/* One channel's sum, before the activation. width is a constant where this is inlined, so that its
 * loop unrolls and the caller's, over channels, vectorises. */
GDNCP_ALWAYS_INLINE float gdncp_conv1d_sum(const int width, const gdncp_conv1d_taps_t *taps,
                                           const float *const *row, int64_t c)
{
    float sum = taps->bias[c];

    for (int i = 0; i < width; i++) {
        sum += taps->weight[i][c] * row[i][c];
    }
    return sum;
}

/* function(width, ...) with the width as a constant. */
#define GDNCP_CONV1D_CALL(width, function, ...)                                                    \
    switch (width) {                                                                               \
    case 1:                                                                                        \
        function(1, __VA_ARGS__);                                                                  \
        break;                                                                                     \
    case 2:                                                                                        \
        function(2, __VA_ARGS__);                                                                  \
        break;                                                                                     \
    case 3:                                                                                        \
        function(3, __VA_ARGS__);                                                                  \
        break;                                                                                     \
    case 4:                                                                                        \
        function(4, __VA_ARGS__);                                                                  \
        break;                                                                                     \
    case 5:                                                                                        \
        function(5, __VA_ARGS__);                                                                  \
        break;                                                                                     \
    case 6:                                                                                        \
        function(6, __VA_ARGS__);                                                                  \
        break;                                                                                     \
    case 7:                                                                                        \
        function(7, __VA_ARGS__);                                                                  \
        break;                                                                                     \
    default:                                                                                       \
        assert((width) == GDNCP_CONV1D_MAX_WIDTH);                                                 \
        function(GDNCP_CONV1D_MAX_WIDTH, __VA_ARGS__);                                             \
        break;                                                                                     \
    }

#endif
