/* What a layout answers. */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>

#include "count_up.h"
#include "error.h"
#include "layout_build.h"

gdncp_layout_kind_t gdncp_layout_kind(const gdncp_layout_t *layout)
{
    return layout->kind;
}

int gdncp_layout_num_ranks(const gdncp_layout_t *layout)
{
    return layout->num_ranks;
}

int64_t gdncp_layout_num_sequences(const gdncp_layout_t *layout)
{
    return layout->num_sequences;
}

int64_t gdncp_layout_num_tokens(const gdncp_layout_t *layout)
{
    return layout->cu_seqlens_padded[layout->num_sequences];
}

int64_t gdncp_layout_num_segments(const gdncp_layout_t *layout)
{
    return layout->num_segments;
}

const int64_t *gdncp_layout_cu_seqlens(const gdncp_layout_t *layout)
{
    return layout->cu_seqlens;
}

const int64_t *gdncp_layout_cu_seqlens_padded(const gdncp_layout_t *layout)
{
    return layout->cu_seqlens_padded;
}

bool gdncp_layout_has_padding(const gdncp_layout_t *layout)
{
    return layout->has_padding;
}

const gdncp_segment_t *gdncp_layout_segments(const gdncp_layout_t *layout)
{
    return layout->segments;
}

uint64_t gdncp_layout_hash(const gdncp_layout_t *layout)
{
    return layout->hash;
}

static bool is_rank(const gdncp_layout_t *layout, int rank)
{
    return rank >= 0 && rank < layout->num_ranks;
}

const gdncp_segment_t *gdncp_layout_rank_segments(const gdncp_layout_t *layout, int rank,
                                                  int64_t *count_p)
{
    if (!is_rank(layout, rank)) {
        *count_p = 0;
        return NULL;
    }
    *count_p = layout->rank_first[rank + 1] - layout->rank_first[rank];
    return layout->segments + layout->rank_first[rank];
}

int64_t gdncp_layout_rank_tokens(const gdncp_layout_t *layout, int rank)
{
    int64_t count;
    const gdncp_segment_t *const segments = gdncp_layout_rank_segments(layout, rank, &count);

    return count > 0 ? segments[count - 1].local_offset + segments[count - 1].length : 0;
}

const int64_t *gdncp_layout_slot_chain(const gdncp_layout_t *layout, int64_t sequence,
                                       int64_t *count_p)
{
    if (sequence < 0 || sequence >= layout->num_sequences) {
        *count_p = 0;
        return NULL;
    }
    *count_p = layout->chain_first[sequence + 1] - layout->chain_first[sequence];
    return layout->chains + layout->chain_first[sequence];
}

const int64_t *gdncp_layout_sequence_chain(const gdncp_layout_t *layout, int64_t sequence,
                                           int64_t *count_p)
{
    const int64_t *const chain = gdncp_layout_slot_chain(layout, sequence, count_p);

    if (chain != NULL) {
        *count_p = layout->chain_length[sequence];
    }
    return chain;
}

static gdncp_status_t check_find(const gdncp_layout_t *layout, int64_t sequence, int64_t position,
                                 const int *rank_p, const int64_t *local_index_p)
{
    int64_t length;

    if (layout == NULL || rank_p == NULL || local_index_p == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "%s, got NULL",
                          layout == NULL   ? "layout: expected a layout"
                          : rank_p == NULL ? "rank_p: expected a place for the rank"
                                           : "local_index_p: expected a place for the index");
    }
    if (sequence < 0 || sequence >= layout->num_sequences) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "sequence: expected 0..%" PRId64 ", got %" PRId64,
                          layout->num_sequences - 1, sequence);
    }
    length = layout->cu_seqlens_padded[sequence + 1] - layout->cu_seqlens_padded[sequence];
    if (position < 0 || position >= length) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "position: expected one of the %" PRId64 " tokens of sequence %" PRId64
                          ", got %" PRId64,
                          length, sequence, position);
    }
    return GDNCP_OK;
}

gdncp_status_t gdncp_layout_find(const gdncp_layout_t *layout, int64_t sequence, int64_t position,
                                 int *rank_p, int64_t *local_index_p)
{
    const gdncp_status_t status = check_find(layout, sequence, position, rank_p, local_index_p);
    const gdncp_segment_t *segment;
    int64_t low;
    int64_t high;

    if (status != GDNCP_OK) {
        return status;
    }
    /* The last segment of the slot that begins at the position or before it. */
    low = layout->chain_first[sequence];
    high = layout->chain_first[sequence + 1];
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;

        if (layout->segments[layout->chains[middle]].begin <= position) {
            low = middle;
        } else {
            high = middle;
        }
    }
    segment = &layout->segments[layout->chains[low]];
    *rank_p = segment->rank;
    *local_index_p = segment->local_offset + (position - segment->begin);
    return GDNCP_OK;
}

gdncp_status_t gdncp_layout_rank_positions(const gdncp_layout_t *layout, int rank,
                                           int64_t *positions)
{
    const gdncp_segment_t *segments;
    int64_t count;

    if (layout == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "layout: expected a layout, got NULL");
    }
    if (!is_rank(layout, rank)) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "rank: expected 0..%d, got %d",
                          layout->num_ranks - 1, rank);
    }
    segments = gdncp_layout_rank_segments(layout, rank, &count);
    if (positions == NULL && count > 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "positions: expected a place for the %" PRId64
                          " tokens of rank %d, got NULL",
                          gdncp_layout_rank_tokens(layout, rank), rank);
    }
    for (int64_t s = 0; s < count; s++) {
        gdncp_count_up(positions + segments[s].local_offset,
                       gdncp_segment_pack_begin(layout, &segments[s]), segments[s].length);
    }
    return GDNCP_OK;
}
