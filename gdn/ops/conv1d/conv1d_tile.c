/* Tiles of channels, and a sliding window of rows. */
#include "conv1d_tile.h"

#include "gdncp/layout_inline.h"
#include "inline_math.h"
#include "token_rows.h"

/* Tokens ahead of which rows are asked for. */
#define PREFETCH_TOKENS GDNCP_CONV1D_TOGETHER

const float gdncp_conv1d_zeros[GDNCP_CONV1D_TILE];

gdncp_conv1d_tile_t gdncp_conv1d_tile(const gdncp_conv1d_t *conv, int64_t index)
{
    const int64_t first = index * GDNCP_CONV1D_TILE;
    const int64_t left = conv->x.shape[1] - first;

    return (gdncp_conv1d_tile_t){
        .conv = conv, .first = first, .count = left < GDNCP_CONV1D_TILE ? left : GDNCP_CONV1D_TILE};
}

void gdncp_conv1d_load_taps(const gdncp_conv1d_tile_t *tile, gdncp_conv1d_taps_t *taps)
{
    const gdncp_conv1d_t *const conv = tile->conv;
    const float *const bias = conv->bias.data;
    const int width = (int)conv->weight.shape[1];

    taps->width = width;
    for (int64_t c = 0; c < tile->count; c++) {
        const float *const weight =
            (const float *)conv->weight.data + (tile->first + c) * width; /* [W] */

        taps->bias[c] = bias != NULL ? bias[tile->first + c] : 0.0f;
        for (int i = 0; i < width; i++) {
            taps->weight[i][c] = weight[i];
        }
    }
}

/* The run that starts at a token of the block. Its sequence is the given one, or follows it with
 * none but empty ones between. */
static bool set_run(const gdncp_conv1d_t *conv, int64_t block, int64_t sequence, int64_t token,
                    gdncp_conv1d_run_t *run)
{
    const int64_t block_end = gdncp_token_block_end(conv->x.shape[0], block);
    int64_t i = sequence;

    while (i < conv->num_sequences && conv->cu_seqlens[i + 1] <= token) {
        i++;
    }
    if (i == conv->num_sequences || token >= block_end) {
        return false;
    }
    const int64_t first = conv->cu_seqlens[i];
    const int64_t last = conv->cu_seqlens[i + 1];

    *run = (gdncp_conv1d_run_t){.sequence = i,
                                .first = first,
                                .length = last - first,
                                .begin = token - first,
                                .end = (last < block_end ? last : block_end) - first};
    return true;
}

bool gdncp_conv1d_first_run(const gdncp_conv1d_t *conv, int64_t block, gdncp_conv1d_run_t *run)
{
    const int64_t begin = block * gdncp_token_block_size(conv->x.shape[0]);

    return set_run(conv, block,
                   gdncp_sequence_of_position(conv->cu_seqlens, conv->num_sequences, begin), begin,
                   run);
}

bool gdncp_conv1d_next_run(const gdncp_conv1d_t *conv, int64_t block, gdncp_conv1d_run_t *run)
{
    return set_run(conv, block, run->sequence, run->first + run->end, run);
}

void gdncp_conv1d_clear_rows(gdncp_conv1d_rows_t *rows, int width)
{
    rows->width = width;
    rows->count = width + GDNCP_CONV1D_TOGETHER - 1;
    rows->next = 0;
    for (int i = 0; i < rows->count; i++) {
        rows->row[i] = gdncp_conv1d_zeros;
    }
}

void gdncp_conv1d_prefetch(const gdncp_conv1d_tile_t *tile, const gdncp_conv1d_run_t *run,
                           const gdncp_tensor_t *tensor, int64_t position)
{
    if (position + PREFETCH_TOKENS < run->length) {
        gdncp_row_prefetch(tensor, run->first + position + PREFETCH_TOKENS, tile->first,
                           tile->count);
    }
}

const void *gdncp_conv1d_input(const gdncp_conv1d_tile_t *tile, const gdncp_conv1d_run_t *run,
                               int64_t position)
{
    const gdncp_conv1d_t *const conv = tile->conv;
    const int64_t before = conv->weight.shape[1] - 1; /* tokens in a window */

    if (position >= 0 && position < run->length) {
        return gdncp_token_element(&conv->x, run->first + position, tile->first);
    }
    if (position < 0 && conv->window.data != NULL) {
        return gdncp_token_element(&conv->window, run->sequence,
                                   (before + position) * conv->window.shape[2] + tile->first);
    }
    return gdncp_conv1d_zeros;
}

void gdncp_conv1d_push(gdncp_dtype_t dtype, const void *row, int64_t count,
                       gdncp_conv1d_rows_t *rows)
{
    const void *pushed = row;

    if (dtype != GDNCP_F32 && row != gdncp_conv1d_zeros) {
        (void)gdncp_convert_to_f32(dtype, row, count, rows->slots[rows->next]);
        pushed = rows->slots[rows->next];
    }
    for (int i = 0; i + 1 < rows->count; i++) {
        rows->row[i] = rows->row[i + 1];
    }
    rows->row[rows->count - 1] = pushed;
    rows->next = rows->next + 1 < rows->count ? rows->next + 1 : 0;
}

void gdncp_conv1d_push_input(const gdncp_conv1d_tile_t *tile, const gdncp_conv1d_run_t *run,
                             int64_t position, gdncp_conv1d_rows_t *rows)
{
    const gdncp_conv1d_t *const conv = tile->conv;

    if (position >= 0) {
        gdncp_conv1d_prefetch(tile, run, &conv->x, position);
    }
    gdncp_conv1d_push(conv->x.dtype, gdncp_conv1d_input(tile, run, position), tile->count, rows);
}

/* width, silu and tokens are constants where this is inlined. */
GDNCP_ALWAYS_INLINE void apply(const int width, const bool silu, const int tokens,
                               const gdncp_conv1d_taps_t *taps, const float *const *row,
                               int64_t count, float *const *out)
{
    GDNCP_INDEPENDENT_ITERATIONS
    for (int64_t c = 0; c < count; c++) {
        for (int n = 0; n < tokens; n++) {
            const float sum = gdncp_conv1d_sum(width, taps, row + n, c);

            out[n][c] = silu ? gdncp_silu_f32(sum) : sum;
        }
    }
}

GDNCP_VECTOR_CLONES
static void apply_taps(const gdncp_conv1d_taps_t *taps, bool silu, int tokens,
                       const float *const *row, int64_t count, float *const *out)
{
    if (tokens == 1 && silu) {
        GDNCP_CONV1D_CALL(taps->width, apply, true, 1, taps, row, count, out);
    } else if (tokens == 1) {
        GDNCP_CONV1D_CALL(taps->width, apply, false, 1, taps, row, count, out);
    } else if (silu) {
        GDNCP_CONV1D_CALL(taps->width, apply, true, GDNCP_CONV1D_TOGETHER, taps, row, count, out);
    } else {
        GDNCP_CONV1D_CALL(taps->width, apply, false, GDNCP_CONV1D_TOGETHER, taps, row, count, out);
    }
}

void gdncp_conv1d_apply(const gdncp_conv1d_taps_t *taps, gdncp_activation_t activation,
                        const gdncp_conv1d_rows_t *rows, int tokens, int64_t count,
                        float *const *out)
{
    assert(tokens == 1 || tokens == GDNCP_CONV1D_TOGETHER);
    apply_taps(taps, activation == GDNCP_ACTIVATION_SILU, tokens, gdncp_conv1d_last(rows, tokens),
               count, out);
}
