/* What the convolution's CPU kernels share: tiles of channels, and a sliding window of rows. */
#ifndef GDNCP_CONV1D_TILE_H
#define GDNCP_CONV1D_TILE_H

#include <stdint.h>

#include "conv1d_checks.h"
#include "gdncp/ops.h"

#define GDNCP_CONV1D_TILE 256 /* channels worked on at a time; its rows stay in the first cache */

/* One coefficient per tap and channel, oldest tap first. */
typedef struct gdncp_conv1d_taps {
    int width;
    float weight[GDNCP_CONV1D_MAX_WIDTH][GDNCP_CONV1D_TILE];
    float bias[GDNCP_CONV1D_TILE];
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

/* The last `width` rows that were pushed, oldest first. */
typedef struct gdncp_conv1d_rows {
    int width;
    int next; /* slot that the next row may use */
    const float *row[GDNCP_CONV1D_MAX_WIDTH];
    float slots[GDNCP_CONV1D_MAX_WIDTH][GDNCP_CONV1D_TILE];
} gdncp_conv1d_rows_t;

static inline int64_t gdncp_conv1d_num_tiles(int64_t channels)
{
    return (channels + GDNCP_CONV1D_TILE - 1) / GDNCP_CONV1D_TILE;
}

gdncp_conv1d_tile_t gdncp_conv1d_tile(const gdncp_conv1d_t *conv, int64_t index);

/* weight and bias of a tile's channels; a missing bias is 0. */
void gdncp_conv1d_load_taps(const gdncp_conv1d_tile_t *tile, gdncp_conv1d_taps_t *taps);

/* The first run of a block of tokens; false where the block is empty. */
bool gdncp_conv1d_first_run(const gdncp_conv1d_t *conv, int64_t block, gdncp_conv1d_run_t *run);

/* From one run of a block to the next; false after the last. */
bool gdncp_conv1d_next_run(const gdncp_conv1d_t *conv, int64_t block, gdncp_conv1d_run_t *run);

/* `width` rows of zeros. */
void gdncp_conv1d_clear_rows(gdncp_conv1d_rows_t *rows, int width);

/* A slot for a row to be pushed; it is not one of the rows that stay. */
float *gdncp_conv1d_next_slot(gdncp_conv1d_rows_t *rows);

/* Drop the oldest row and add one, which lies in the slot that gdncp_conv1d_next_slot() gave or
 * anywhere that outlives its stay. NULL: zeros. */
void gdncp_conv1d_push(gdncp_conv1d_rows_t *rows, const float *row);

/* Push the input row at a position of the run's sequence: from x, or before position 0 from the
 * window. */
void gdncp_conv1d_push_input(const gdncp_conv1d_tile_t *tile, const gdncp_conv1d_run_t *run,
                             int64_t position, gdncp_conv1d_rows_t *rows);

/* out[c] = bias[c] + sum_i weight[i][c] row[i][c], summed in order of i. */
void gdncp_conv1d_apply(const gdncp_conv1d_taps_t *taps, const gdncp_conv1d_rows_t *rows,
                        int64_t count, float *out);

/* values[c] <- SiLU(values[c]). */
void gdncp_conv1d_silu(float *values, int64_t count);

#endif
