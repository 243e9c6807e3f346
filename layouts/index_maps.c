/* Index maps of layouts, written out token by token from segments. */
#include "gdncp/index_maps.h"

#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#include "count_up.h"
#include "error.h"
#include "layout_build.h"

static gdncp_status_t check(const gdncp_layout_t *layout, const char *argument, const int64_t *map)
{
    if (layout == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "layout: expected a layout, got NULL");
    }
    if (map == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "%s: expected an array, got NULL", argument);
    }
    return GDNCP_OK;
}

static void repeat(int64_t *map, int64_t value, int64_t length)
{
    for (int64_t i = 0; i < length; i++) {
        map[i] = value;
    }
}

/* What all ranks' tokens are in the order of their buffers; shard: from one rank's to the next's,
 * or 0 where they follow each other. */
static void write_positions(const gdncp_layout_t *layout, int64_t shard, int64_t *map)
{
    int64_t end = 0;

    for (int rank = 0; rank < layout->num_ranks; rank++) {
        if (shard > 0) {
            repeat(map + end, -1, rank * shard - end);
            end = rank * shard;
        }
        for (int64_t s = layout->rank_first[rank]; s < layout->rank_first[rank + 1]; s++) {
            const gdncp_segment_t *const segment = &layout->segments[s];

            gdncp_count_up(map + end, gdncp_segment_pack_begin(layout, segment), segment->length);
            end += segment->length;
        }
    }
    if (shard > 0) {
        repeat(map + end, -1, layout->num_ranks * shard - end);
    }
}

gdncp_status_t gdncp_layout_rank_offsets(const gdncp_layout_t *layout, int64_t *offsets)
{
    const gdncp_status_t status = check(layout, "offsets", offsets);

    if (status == GDNCP_OK) {
        memcpy(offsets, layout->rank_offset,
               ((size_t)layout->num_ranks + 1) * sizeof *layout->rank_offset);
    }
    return status;
}

gdncp_status_t gdncp_layout_redo(const gdncp_layout_t *layout, int64_t *redo)
{
    const gdncp_status_t status = check(layout, "redo", redo);

    if (status == GDNCP_OK) {
        write_positions(layout, 0, redo);
    }
    return status;
}

/* Segment i in the order of the pack. They lie far apart in memory, so some are fetched ahead. */
static const gdncp_segment_t *in_pack_order(const gdncp_layout_t *layout, int64_t i)
{
    enum { AHEAD = 16 };

    if (i + AHEAD < layout->num_segments) {
        __builtin_prefetch(&layout->segments[layout->chains[i + AHEAD]]);
    }
    return &layout->segments[layout->chains[i]];
}

/* Where each position is when rank r's buffer begins at r * shard, or, with shard 0, at the end of
 * that before it. In the order of the pack, so that the map is written from end to end. */
static void write_indices(const gdncp_layout_t *layout, int64_t shard, int64_t *map)
{
    int64_t end = 0;

    for (int64_t i = 0; i < layout->num_segments; i++) {
        const gdncp_segment_t *const segment = in_pack_order(layout, i);
        const int64_t first =
            shard > 0 ? segment->rank * shard : layout->rank_offset[segment->rank];

        gdncp_count_up(map + end, first + segment->local_offset, segment->length);
        end += segment->length;
    }
}

gdncp_status_t gdncp_layout_undo(const gdncp_layout_t *layout, int64_t *undo)
{
    const gdncp_status_t status = check(layout, "undo", undo);

    if (status == GDNCP_OK) {
        write_indices(layout, 0, undo);
    }
    return status;
}

gdncp_status_t gdncp_layout_locate(const gdncp_layout_t *layout, int64_t *ranks, int64_t *indices)
{
    gdncp_status_t status = check(layout, "ranks", ranks);
    int64_t end = 0;

    if (status == GDNCP_OK) {
        status = check(layout, "indices", indices);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    for (int64_t i = 0; i < layout->num_segments; i++) {
        const gdncp_segment_t *const segment = in_pack_order(layout, i);

        repeat(ranks + end, segment->rank, segment->length);
        gdncp_count_up(indices + end, segment->local_offset, segment->length);
        end += segment->length;
    }
    return GDNCP_OK;
}

static gdncp_status_t check_gather(const gdncp_layout_t *layout, int64_t shard_tokens,
                                   const char *argument, const int64_t *map)
{
    const gdncp_status_t status = check(layout, argument, map);

    for (int rank = 0; status == GDNCP_OK && rank < layout->num_ranks; rank++) {
        if (gdncp_layout_rank_tokens(layout, rank) > shard_tokens) {
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                              "shard_tokens: expected at least %" PRId64
                              ", the tokens of rank %d, got %" PRId64,
                              gdncp_layout_rank_tokens(layout, rank), rank, shard_tokens);
        }
    }
    if (status == GDNCP_OK && shard_tokens > INT64_MAX / layout->num_ranks) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "shard_tokens: expected at most %" PRId64 " for %d ranks, got %" PRId64,
                          INT64_MAX / layout->num_ranks, layout->num_ranks, shard_tokens);
    }
    return status;
}

gdncp_status_t gdncp_layout_gathered_index(const gdncp_layout_t *layout, int64_t shard_tokens,
                                           int64_t *gathered)
{
    const gdncp_status_t status = check_gather(layout, shard_tokens, "gathered", gathered);

    if (status == GDNCP_OK) {
        write_indices(layout, shard_tokens, gathered);
    }
    return status;
}

gdncp_status_t gdncp_layout_gathered_positions(const gdncp_layout_t *layout, int64_t shard_tokens,
                                               int64_t *positions)
{
    const gdncp_status_t status = check_gather(layout, shard_tokens, "positions", positions);

    if (status == GDNCP_OK) {
        write_positions(layout, shard_tokens, positions);
    }
    return status;
}

gdncp_status_t gdncp_partitioned_indices(const int64_t *cu_seqlens, int64_t num_sequences,
                                         int num_ranks, int rank, int64_t *indices)
{
    const gdncp_pack_t pack = {cu_seqlens, NULL, num_sequences, num_ranks};
    gdncp_status_t status = gdncp_pack_check(&pack);

    if (status == GDNCP_OK) {
        status = gdncp_pack_check_dual_chunks(&pack);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    if (rank < 0 || rank >= num_ranks) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "rank: expected 0..%d, got %d", num_ranks - 1,
                          rank);
    }
    if (indices == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "indices: expected a place for %" PRId64 " tokens, got NULL",
                          cu_seqlens[num_sequences] / num_ranks);
    }
    for (int64_t i = 0; i < num_sequences; i++) {
        const int64_t first = cu_seqlens[i];
        const int64_t chunk = (cu_seqlens[i + 1] - first) / num_ranks / 2;

        gdncp_count_up(indices, first + rank * chunk, chunk);
        gdncp_count_up(indices + chunk, first + (2 * (int64_t)num_ranks - 1 - rank) * chunk, chunk);
        indices += 2 * chunk;
    }
    return GDNCP_OK;
}
