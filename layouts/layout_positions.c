/* Layouts from what each rank holds: its positions, or the segments of another layout. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "layout_build.h"

/* What the caller gives, and the length of all lists together. */
typedef struct lists {
    const int64_t *positions;
    const int64_t *rank_tokens; /* [num_ranks] */
    int64_t length;
} lists_t;

static gdncp_status_t measure_lists(lists_t *lists, int num_ranks)
{
    lists->length = 0;
    for (int rank = 0; rank < num_ranks; rank++) {
        const int64_t tokens = lists->rank_tokens[rank];

        if (tokens < 0 || tokens > INT64_MAX - lists->length) {
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                              "rank_tokens[%d]: expected 0..%" PRId64 ", got %" PRId64, rank,
                              INT64_MAX - lists->length, tokens);
        }
        lists->length += tokens;
    }
    return GDNCP_OK;
}

static gdncp_status_t fail_doubled(const lists_t *lists, int64_t num_tokens, int64_t position)
{
    int64_t first = 0;
    int64_t second;

    while (lists->positions[first] != position) {
        first++;
    }
    second = first + 1;
    while (lists->positions[second] != position) {
        second++;
    }
    return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                      "positions: expected every position of 0..%" PRId64 " once, got %" PRId64
                      " doubled, at [%" PRId64 "] and [%" PRId64 "]",
                      num_tokens - 1, position, first, second);
}

/* Name the lowest position that the lists do not hold exactly once. */
static gdncp_status_t check_permutation(const lists_t *lists, int64_t num_tokens)
{
    unsigned char *const times = calloc((size_t)num_tokens, 1); /* 0, 1, or 2 for more */
    gdncp_status_t status = GDNCP_OK;

    if (times == NULL) {
        return gdncp_fail_memory("the check of a layout's positions");
    }
    for (int64_t i = 0; i < lists->length; i++) {
        const int64_t position = lists->positions[i];

        if (position < 0 || position >= num_tokens) {
            status = gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                                "positions[%" PRId64 "]: expected 0..%" PRId64 ", got %" PRId64, i,
                                num_tokens - 1, position);
            goto free_times;
        }
        times[position] = times[position] == 0 ? 1 : 2;
    }
    for (int64_t position = 0; position < num_tokens; position++) {
        if (times[position] == 0) {
            status = gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                                "positions: expected every position of 0..%" PRId64
                                " once, got none that is %" PRId64
                                " (rank_tokens add up to %" PRId64 ")",
                                num_tokens - 1, position, lists->length);
            goto free_times;
        }
        if (times[position] == 2) {
            status = fail_doubled(lists, num_tokens, position);
            goto free_times;
        }
    }
free_times:
    free(times);
    return status;
}

/* The sequence whose slot holds a pack position: the last one that starts at it or before it. */
static int64_t find_sequence(const gdncp_layout_t *layout, int64_t position)
{
    int64_t low = 0;
    int64_t high = layout->num_sequences;

    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;

        if (layout->cu_seqlens_padded[middle] <= position) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Join one rank's list into segments. */
static gdncp_status_t join_runs(const gdncp_layout_t *layout, int rank, const int64_t *positions,
                                int64_t num_positions, gdncp_segment_list_t *list)
{
    gdncp_status_t status = GDNCP_OK;
    int64_t begin = 0;

    while (begin < num_positions && status == GDNCP_OK) {
        const int64_t sequence = find_sequence(layout, positions[begin]);
        gdncp_segment_t segment = gdncp_layout_cut_segment(
            layout, sequence, positions[begin], positions[begin] + (num_positions - begin));
        int64_t length = 1;

        while (length < segment.length && positions[begin + length] == positions[begin] + length) {
            length++;
        }
        segment.length = length;
        segment.local_offset = begin;
        segment.rank = rank;
        status = gdncp_segment_list_append(list, segment);
        begin += segment.length;
    }
    return status;
}

static gdncp_status_t join_all_runs(const gdncp_layout_t *layout, const lists_t *lists,
                                    gdncp_segment_list_t *list)
{
    const int64_t *positions = lists->positions;
    gdncp_status_t status = GDNCP_OK;

    for (int rank = 0; rank < layout->num_ranks && status == GDNCP_OK; rank++) {
        status = join_runs(layout, rank, positions, lists->rank_tokens[rank], list);
        positions += lists->rank_tokens[rank];
    }
    return status;
}

static int compare_in_pack(const void *left, const void *right)
{
    const gdncp_segment_t *const a = *(const gdncp_segment_t *const *)left;
    const gdncp_segment_t *const b = *(const gdncp_segment_t *const *)right;

    if (a->sequence != b->sequence) {
        return a->sequence < b->sequence ? -1 : 1;
    }
    return a->begin < b->begin ? -1 : a->begin > b->begin;
}

/* The list is in the order of the layout's segments; the chains are in pack order. */
static gdncp_status_t fill(gdncp_layout_t *layout, const gdncp_segment_list_t *list)
{
    const gdncp_segment_t **order;

    if (list->count == 0) {
        return GDNCP_OK; /* there was nothing but padding */
    }
    order = calloc((size_t)list->count, sizeof *order);
    if (order == NULL) {
        return gdncp_fail_memory("the chains of a layout");
    }
    memcpy(layout->segments, list->segments, (size_t)list->count * sizeof *list->segments);
    for (int64_t i = 0; i < list->count; i++) {
        order[i] = &layout->segments[i];
    }
    qsort(order, (size_t)list->count, sizeof *order, compare_in_pack);
    for (int64_t i = 0; i < list->count; i++) {
        layout->chains[i] = order[i] - layout->segments;
    }
    free(order);
    return GDNCP_OK;
}

/* Put the segments of a list into a layout that has none, and free both on failure. The list is in
 * the order of the layout's segments. */
static gdncp_status_t finish(gdncp_layout_t *layout, gdncp_segment_list_t *list,
                             gdncp_status_t status, gdncp_layout_t **layout_p)
{
    if (status == GDNCP_OK) {
        status = gdncp_layout_make_room(layout, list);
    }
    if (status == GDNCP_OK) {
        status = fill(layout, list);
    }
    free(list->segments);
    if (status != GDNCP_OK) {
        gdncp_layout_destroy(layout);
        return status;
    }
    gdncp_layout_seal(layout);
    *layout_p = layout;
    return GDNCP_OK;
}

gdncp_status_t
gdncp_layout_from_positions_padded(const int64_t *cu_seqlens, const int64_t *cu_seqlens_padded,
                                   int64_t num_sequences, int num_ranks, const int64_t *positions,
                                   const int64_t *rank_tokens, gdncp_layout_t **layout_p)
{
    const gdncp_pack_t pack = {cu_seqlens, cu_seqlens_padded, num_sequences, num_ranks};
    lists_t lists = {.positions = positions, .rank_tokens = rank_tokens};
    gdncp_segment_list_t list = {0};
    gdncp_layout_t *layout = NULL;
    gdncp_status_t status;

    if (positions == NULL || rank_tokens == NULL || layout_p == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "%s, got NULL",
                          positions == NULL     ? "positions: expected the ranks' lists"
                          : rank_tokens == NULL ? "rank_tokens: expected num_ranks lengths"
                                                : "layout_p: expected a place for the layout");
    }
    status = gdncp_pack_check(&pack);
    if (status == GDNCP_OK) {
        status = measure_lists(&lists, num_ranks);
    }
    if (status == GDNCP_OK) {
        status = check_permutation(&lists, gdncp_pack_slots(&pack)[num_sequences]);
    }
    if (status == GDNCP_OK) {
        status = gdncp_layout_begin(GDNCP_LAYOUT_FROM_POSITIONS, &pack, &layout);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    return finish(layout, &list, join_all_runs(layout, &lists, &list), layout_p);
}

gdncp_status_t gdncp_layout_from_positions(const int64_t *cu_seqlens, int64_t num_sequences,
                                           int num_ranks, const int64_t *positions,
                                           const int64_t *rank_tokens, gdncp_layout_t **layout_p)
{
    return gdncp_layout_from_positions_padded(cu_seqlens, NULL, num_sequences, num_ranks, positions,
                                              rank_tokens, layout_p);
}

/* List the segments that are no padding, joined where padding alone kept them apart. */
static gdncp_status_t list_bare(const gdncp_layout_t *layout, gdncp_segment_list_t *list)
{
    gdncp_status_t status = GDNCP_OK;

    for (int64_t i = 0; i < layout->num_segments && status == GDNCP_OK; i++) {
        gdncp_segment_t *const last = list->count > 0 ? &list->segments[list->count - 1] : NULL;
        gdncp_segment_t segment = layout->segments[i];
        const bool follows = last != NULL && last->rank == segment.rank;

        if (segment.is_padding) {
            continue;
        }
        segment.local_offset = follows ? last->local_offset + last->length : 0;
        if (follows && last->sequence == segment.sequence &&
            last->begin + last->length == segment.begin) {
            last->length += segment.length;
        } else {
            status = gdncp_segment_list_append(list, segment);
        }
    }
    return status;
}

gdncp_status_t gdncp_layout_without_padding(const gdncp_layout_t *layout, gdncp_layout_t **bare_p)
{
    gdncp_segment_list_t list = {0};
    gdncp_layout_t *bare = NULL;
    gdncp_status_t status;

    if (layout == NULL || bare_p == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "%s, got NULL",
                          layout == NULL ? "layout: expected a layout"
                                         : "bare_p: expected a place for the layout");
    }
    const gdncp_pack_t pack = {.cu_seqlens = layout->cu_seqlens,
                               .num_sequences = layout->num_sequences,
                               .num_ranks = layout->num_ranks};

    status = gdncp_layout_begin(layout->has_padding ? GDNCP_LAYOUT_FROM_POSITIONS : layout->kind,
                                &pack, &bare);
    if (status != GDNCP_OK) {
        return status;
    }
    return finish(bare, &list, list_bare(layout, &list), bare_p);
}
