/* A layout from the positions that each rank holds. */
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

/* The sequence that holds a pack position: the last one that starts at it or before it. */
static int64_t find_sequence(const gdncp_layout_t *layout, int64_t position)
{
    int64_t low = 0;
    int64_t high = layout->num_sequences;

    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;

        if (layout->cu_seqlens[middle] <= position) {
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
        const int64_t sequence_end = layout->cu_seqlens[sequence + 1];
        int64_t end = begin + 1;

        while (end < num_positions && positions[end] == positions[end - 1] + 1 &&
               positions[end] < sequence_end) {
            end++;
        }
        status = gdncp_segment_list_append(
            list, (gdncp_segment_t){.sequence = sequence,
                                    .begin = positions[begin] - layout->cu_seqlens[sequence],
                                    .length = end - begin,
                                    .local_offset = begin,
                                    .rank = rank});
        begin = end;
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
    const gdncp_segment_t **const order = calloc((size_t)list->count, sizeof *order);

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

gdncp_status_t gdncp_layout_from_positions(const int64_t *cu_seqlens, int64_t num_sequences,
                                           int num_ranks, const int64_t *positions,
                                           const int64_t *rank_tokens, gdncp_layout_t **layout_p)
{
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
    status = gdncp_layout_begin(GDNCP_LAYOUT_FROM_POSITIONS, cu_seqlens, num_sequences, num_ranks,
                                &layout);
    if (status != GDNCP_OK) {
        return status;
    }
    status = measure_lists(&lists, num_ranks);
    if (status != GDNCP_OK) {
        goto destroy_layout;
    }
    status = check_permutation(&lists, cu_seqlens[num_sequences]);
    if (status != GDNCP_OK) {
        goto destroy_layout;
    }
    status = join_all_runs(layout, &lists, &list);
    if (status != GDNCP_OK) {
        goto free_list;
    }
    status = gdncp_layout_make_room(layout, &list);
    if (status != GDNCP_OK) {
        goto free_list;
    }
    status = fill(layout, &list);
    if (status != GDNCP_OK) {
        goto free_list;
    }
    gdncp_layout_seal(layout);
    free(list.segments);
    *layout_p = layout;
    return GDNCP_OK;

free_list:
    free(list.segments);
destroy_layout:
    gdncp_layout_destroy(layout);
    return status;
}
