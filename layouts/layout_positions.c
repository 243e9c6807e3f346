/* Layouts from what each rank holds: its positions, or the segments of another layout. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "error.h"
#include "gdncp/layout_from.h"
#include "gdncp/layout_inline.h"
#include "layout_build.h"
#include "pack_order.h"

/* What the caller gives. Row b of the batch is row_tokens tokens of the pack, from b*row_tokens. */
typedef struct lists {
    const int64_t *positions;   /* [position_rows, length] */
    const int64_t *rank_tokens; /* [num_ranks]; NULL: row_tokens / num_ranks each */
    int64_t batch;
    int64_t position_rows; /* 1 or batch */
    int64_t row_tokens;
    int64_t length; /* of all ranks' lists of a row */
    int num_ranks;
} lists_t;

static int64_t list_tokens(const lists_t *lists, int rank)
{
    return lists->rank_tokens != NULL ? lists->rank_tokens[rank]
                                      : lists->row_tokens / lists->num_ranks;
}

/* The positions of a row of the batch. */
static const int64_t *row_positions(const lists_t *lists, int64_t row)
{
    return lists->positions + (lists->position_rows == 1 ? 0 : row * lists->length);
}

static gdncp_status_t measure_lists(lists_t *lists)
{
    lists->length = 0;
    if (lists->rank_tokens == NULL && lists->row_tokens % lists->num_ranks != 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "rank_tokens: expected lengths where %" PRId64
                          " tokens of a row do not divide by %d ranks, got NULL",
                          lists->row_tokens, lists->num_ranks);
    }
    for (int rank = 0; rank < lists->num_ranks; rank++) {
        const int64_t tokens = list_tokens(lists, rank);

        if (tokens < 0 || tokens > INT64_MAX - lists->length) {
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                              "rank_tokens[%d]: expected 0..%" PRId64 ", got %" PRId64, rank,
                              INT64_MAX - lists->length, tokens);
        }
        lists->length += tokens;
    }
    return GDNCP_OK;
}

/* How many of the positions from the first on follow each other, one after the other. What wraps
 * around is seen by check_run(). */
static int64_t run_length(const int64_t *positions, int64_t count)
{
    enum { BLOCK = 32 };
    int64_t length = 1;

    /* Without a branch for each position as long as all of a block go on. */
    while (length + BLOCK <= count) {
        uint64_t differences = 0;

        for (int64_t i = length; i < length + BLOCK; i++) {
            differences |= (uint64_t)positions[i] - (uint64_t)positions[i - 1] - 1;
        }
        if (differences != 0) {
            break;
        }
        length += BLOCK;
    }
    while (length < count && (uint64_t)positions[length] == (uint64_t)positions[length - 1] + 1) {
        length++;
    }
    return length;
}

/* Name the first of a run's positions that is none, or say that all are. */
static gdncp_status_t check_run(const lists_t *lists, const int64_t *run, int64_t length)
{
    int64_t outside = 0; /* first one that is */

    if (run[0] >= 0 && run[0] < lists->row_tokens) {
        outside = lists->row_tokens - run[0];
        if (length <= outside) {
            return GDNCP_OK;
        }
    }
    return gdncp_fail(
        GDNCP_ERR_INVALID_ARGUMENT, "positions[%" PRId64 "]: expected 0..%" PRId64 ", got %" PRId64,
        (int64_t)(run + outside - lists->positions), lists->row_tokens - 1, run[outside]);
}

/* The sequence of a position that comes after the last token of a list: often in the same sequence
 * or in the next. */
static int64_t find_sequence(const gdncp_layout_t *layout, const gdncp_segment_list_t *list,
                             int64_t position)
{
    const int64_t *const cu_seqlens = layout->cu_seqlens_padded;
    int64_t sequence = list->count > 0 ? list->segments[list->count - 1].sequence : 0;

    for (int tries = 0; tries < 2 && sequence < layout->num_sequences; tries++, sequence++) {
        if (cu_seqlens[sequence] <= position && position < cu_seqlens[sequence + 1]) {
            return sequence;
        }
    }
    return gdncp_sequence_of_position(cu_seqlens, layout->num_sequences, position);
}

/* Append tokens position .. position+length-1 of the pack to what a rank holds. */
static gdncp_status_t append_run(const gdncp_layout_t *layout, int rank, int64_t position,
                                 int64_t length, gdncp_segment_list_t *list)
{
    int64_t sequence = find_sequence(layout, list, position);
    gdncp_status_t status = GDNCP_OK;

    while (length > 0 && status == GDNCP_OK) {
        gdncp_segment_t segment;

        while (layout->cu_seqlens_padded[sequence + 1] <= position) {
            sequence++;
        }
        segment = gdncp_layout_cut_segment(layout, sequence, position, position + length);
        segment.rank = rank;
        position += segment.length;
        length -= segment.length;
        status = gdncp_segment_list_add(list, segment);
    }
    return status;
}

/* Join the positions of one list into segments. */
static gdncp_status_t join_runs(const gdncp_layout_t *layout, const lists_t *lists, int rank,
                                int64_t row, const int64_t *positions, gdncp_segment_list_t *list)
{
    const int64_t count = list_tokens(lists, rank);
    gdncp_status_t status = GDNCP_OK;

    for (int64_t i = 0; i < count && status == GDNCP_OK;) {
        const int64_t length = run_length(positions + i, count - i);

        status = check_run(lists, positions + i, length);
        if (status == GDNCP_OK) {
            status = append_run(layout, rank, row * lists->row_tokens + positions[i], length, list);
        }
        i += length;
    }
    return status;
}

static gdncp_status_t join_all_runs(const gdncp_layout_t *layout, const lists_t *lists,
                                    gdncp_segment_list_t *list)
{
    gdncp_status_t status = GDNCP_OK;
    int64_t first = 0;

    for (int rank = 0; rank < layout->num_ranks && status == GDNCP_OK; rank++) {
        for (int64_t row = 0; row < lists->batch && status == GDNCP_OK; row++) {
            status = join_runs(layout, lists, rank, row, row_positions(lists, row) + first, list);
        }
        first += list_tokens(lists, rank);
    }
    return status;
}

/* How an error names a row of a batch; nothing where there is one only. */
typedef struct row_name {
    char text[40];
} row_name_t;

static row_name_t name_row(const lists_t *lists, int64_t row)
{
    row_name_t name = {""};

    if (lists->batch > 1) {
        snprintf(name.text, sizeof name.text, " in row %" PRId64, row);
    }
    return name;
}

static gdncp_status_t fail_doubled(const lists_t *lists, int64_t position)
{
    const int64_t row = position / lists->row_tokens;
    const int64_t *const positions = row_positions(lists, row);
    const int64_t base = positions - lists->positions;
    int64_t first = 0;
    int64_t second;

    position %= lists->row_tokens;
    while (positions[first] != position) {
        first++;
    }
    second = first + 1;
    while (positions[second] != position) {
        second++;
    }
    return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                      "positions: expected every position of 0..%" PRId64 " once%s, got %" PRId64
                      " doubled, at [%" PRId64 "] and [%" PRId64 "]",
                      lists->row_tokens - 1, name_row(lists, row).text, position, base + first,
                      base + second);
}

static gdncp_status_t fail_missing(const lists_t *lists, int64_t position)
{
    return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                      "positions: expected every position of 0..%" PRId64
                      " once%s, got none that is %" PRId64 " (rank_tokens add up to %" PRId64 ")",
                      lists->row_tokens - 1, name_row(lists, position / lists->row_tokens).text,
                      position % lists->row_tokens, lists->length);
}

/* Segments tile the pack exactly if the lists are permutations. Name the lowest position that
 * they do not hold exactly once. */
static gdncp_status_t check_permutation(const gdncp_layout_t *layout, const lists_t *lists)
{
    int64_t end = 0;

    for (int64_t i = 0; i < layout->num_segments; i++) {
        const gdncp_segment_t *const segment = &layout->segments[layout->chains[i]];
        const int64_t begin = gdncp_segment_pack_begin(layout, segment);

        if (begin != end) {
            return begin > end ? fail_missing(lists, end) : fail_doubled(lists, begin);
        }
        end += segment->length;
    }
    return end < layout->cu_seqlens_padded[layout->num_sequences] ? fail_missing(lists, end)
                                                                  : GDNCP_OK;
}

static gdncp_status_t check_batch(const lists_t *lists, int64_t num_tokens)
{
    if (lists->batch <= 0 || num_tokens % lists->batch != 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "batch: expected a divisor of the pack's %" PRId64
                          " tokens, got %" PRId64,
                          num_tokens, lists->batch);
    }
    if (lists->position_rows != 1 && lists->position_rows != lists->batch) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "position_rows: expected 1 or the batch, %" PRId64 ", got %" PRId64,
                          lists->batch, lists->position_rows);
    }
    return GDNCP_OK;
}

static gdncp_status_t fill(gdncp_layout_t *layout, lists_t *lists, gdncp_segment_list_t *list)
{
    const int64_t num_tokens = layout->cu_seqlens_padded[layout->num_sequences];
    gdncp_status_t status = check_batch(lists, num_tokens);

    if (status != GDNCP_OK) {
        return status;
    }
    lists->num_ranks = layout->num_ranks;
    lists->row_tokens = num_tokens / lists->batch;
    status = measure_lists(lists);
    if (status != GDNCP_OK) {
        return status;
    }
    status = join_all_runs(layout, lists, list);
    if (status != GDNCP_OK) {
        return status;
    }
    if (list->count == 0) {
        return fail_missing(lists, 0);
    }
    status = gdncp_layout_adopt(layout, list);
    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_sort_in_pack_order(layout);
    return status == GDNCP_OK ? check_permutation(layout, lists) : status;
}

/* gdncp_layout_from_rows() of a pack that may have padding. */
static gdncp_status_t make_from_lists(const gdncp_pack_t *pack, lists_t *lists,
                                      gdncp_layout_t **layout_p)
{
    gdncp_segment_list_t list = {0};
    gdncp_layout_t *layout = NULL;
    gdncp_status_t status;

    if (lists->positions == NULL || layout_p == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "%s, got NULL",
                          lists->positions == NULL ? "positions: expected the ranks' lists"
                                                   : "layout_p: expected a place for the layout");
    }
    status = gdncp_pack_check(pack);
    if (status == GDNCP_OK) {
        status = gdncp_layout_begin(GDNCP_LAYOUT_FROM_POSITIONS, pack, &layout);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    status = fill(layout, lists, &list);
    free(list.segments);
    if (status != GDNCP_OK) {
        gdncp_layout_destroy(layout);
        return status;
    }
    gdncp_layout_seal(layout);
    *layout_p = layout;
    return GDNCP_OK;
}

gdncp_status_t gdncp_layout_from_rows(const int64_t *cu_seqlens, int64_t num_sequences,
                                      int num_ranks, int64_t batch, const int64_t *positions,
                                      int64_t position_rows, const int64_t *rank_tokens,
                                      gdncp_layout_t **layout_p)
{
    const gdncp_pack_t pack = {cu_seqlens, NULL, num_sequences, num_ranks};
    lists_t lists = {.positions = positions,
                     .rank_tokens = rank_tokens,
                     .batch = batch,
                     .position_rows = position_rows};

    return make_from_lists(&pack, &lists, layout_p);
}

gdncp_status_t
gdncp_layout_from_positions_padded(const int64_t *cu_seqlens, const int64_t *cu_seqlens_padded,
                                   int64_t num_sequences, int num_ranks, const int64_t *positions,
                                   const int64_t *rank_tokens, gdncp_layout_t **layout_p)
{
    const gdncp_pack_t pack = {cu_seqlens, cu_seqlens_padded, num_sequences, num_ranks};
    lists_t lists = {
        .positions = positions, .rank_tokens = rank_tokens, .batch = 1, .position_rows = 1};

    if (rank_tokens == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "rank_tokens: expected num_ranks lengths, got NULL");
    }
    return make_from_lists(&pack, &lists, layout_p);
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
        if (!layout->segments[i].is_padding) {
            status = gdncp_segment_list_add(list, layout->segments[i]);
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
    status = list_bare(layout, &list);
    if (status == GDNCP_OK) {
        status = gdncp_layout_adopt(bare, &list);
    }
    if (status == GDNCP_OK) {
        status = gdncp_sort_in_pack_order(bare);
    }
    free(list.segments);
    if (status != GDNCP_OK) {
        gdncp_layout_destroy(bare);
        return status;
    }
    gdncp_layout_seal(bare);
    *bare_p = bare;
    return GDNCP_OK;
}
