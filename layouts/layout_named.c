/* Layouts by name: packs and sequences cut into N or 2N parts. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "layout_build.h"
#include "part_border.h"

static const struct {
    const char *name;
    int parts_per_rank; /* 0: no named cut */
    bool flat;          /* the pack is cut, not each sequence */
} kinds[] = {
    [GDNCP_LAYOUT_CONTIGUOUS] = {"contiguous", 1, false},
    [GDNCP_LAYOUT_CONTIGUOUS_FLAT] = {"contiguous_flat", 1, true},
    [GDNCP_LAYOUT_DUAL_CHUNK_SWAP] = {"dual_chunk_swap", 2, false},
    [GDNCP_LAYOUT_DUAL_CHUNK_SWAP_FLAT] = {"dual_chunk_swap_flat", 2, true},
    [GDNCP_LAYOUT_FROM_POSITIONS] = {"from_positions", 0, false},
};
static const char all_names[] =
    "contiguous, contiguous_flat, dual_chunk_swap, dual_chunk_swap_flat, from_positions";

enum { num_kinds = sizeof kinds / sizeof kinds[0] };

const char *gdncp_layout_kind_name(gdncp_layout_kind_t kind)
{
    return (unsigned)kind < num_kinds ? kinds[kind].name : "?";
}

gdncp_status_t gdncp_layout_kind_from_name(const char *name, gdncp_layout_kind_t *kind_p)
{
    if (name == NULL || kind_p == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "%s: expected %s, got NULL",
                          name == NULL ? "name" : "kind_p",
                          name == NULL ? all_names : "a place for the kind");
    }
    for (int i = 0; i < num_kinds; i++) {
        if (strcmp(name, kinds[i].name) == 0) {
            *kind_p = (gdncp_layout_kind_t)i;
            return GDNCP_OK;
        }
    }
    return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "name: expected one of %s, got \"%s\"", all_names,
                      name);
}

/* Segments in pack order. */
typedef struct cutter {
    const gdncp_layout_t *layout;
    gdncp_segment_list_t list;
    int64_t sequence; /* that of the last token taken */
} cutter_t;

/* Give a rank the next tokens of the pack, begin .. end-1. It holds its tokens in pack order, so
 * what follows on its own tokens in one sequence follows on them in its buffer too. */
static gdncp_status_t take(cutter_t *cutter, int64_t begin, int64_t end, int rank)
{
    gdncp_status_t status = GDNCP_OK;

    while (begin < end && status == GDNCP_OK) {
        gdncp_segment_t *const last =
            cutter->list.count > 0 ? &cutter->list.segments[cutter->list.count - 1] : NULL;
        gdncp_segment_t segment;

        while (cutter->layout->cu_seqlens_padded[cutter->sequence + 1] <= begin) {
            cutter->sequence++;
        }
        segment = gdncp_layout_cut_segment(cutter->layout, cutter->sequence, begin, end);
        segment.rank = rank;
        begin += segment.length;
        if (last != NULL && last->rank == rank && last->sequence == segment.sequence &&
            last->is_padding == segment.is_padding) {
            last->length += segment.length;
        } else {
            status = gdncp_segment_list_append(&cutter->list, segment);
        }
    }
    return status;
}

/* Cut tokens first .. first+length-1 of the pack into equal parts, rank r holding parts r and, of
 * two a rank, 2N-1-r. Where there are fewer tokens than parts, only the parts that hold one are
 * visited. */
static gdncp_status_t cut(cutter_t *cutter, int64_t first, int64_t length, int parts_per_rank)
{
    const int64_t num_ranks = cutter->layout->num_ranks;
    const int64_t num_parts = parts_per_rank * num_ranks;
    gdncp_status_t status = GDNCP_OK;
    int64_t begin = 0;
    int64_t part = 0;

    while (begin < length && status == GDNCP_OK) {
        const int64_t holder =
            length < num_parts ? gdncp_part_of_position(length, num_parts, begin) : part++;
        const int64_t end = gdncp_part_border(length, num_parts, holder + 1);
        const int64_t rank = holder < num_ranks ? holder : 2 * num_ranks - 1 - holder;

        status = take(cutter, first + begin, first + end, (int)rank);
        begin = end;
    }
    return status;
}

static gdncp_status_t check_dual_chunks(const gdncp_layout_t *layout)
{
    const int64_t num_parts = 2 * (int64_t)layout->num_ranks;

    for (int64_t i = 0; i < layout->num_sequences; i++) {
        const int64_t length = layout->cu_seqlens_padded[i + 1] - layout->cu_seqlens_padded[i];

        if (length % num_parts != 0) {
            return gdncp_fail(
                GDNCP_ERR_INVALID_ARGUMENT,
                "cu_seqlens%s: expected the length of sequence %" PRId64
                " to be a multiple of 2N = %" PRId64 " for dual_chunk_swap on N = %d ranks, got "
                "%" PRId64 "%s; pad it to a multiple of 2N, or use contiguous or "
                "dual_chunk_swap_flat",
                layout->has_padding ? "_padded" : "", i, num_parts, layout->num_ranks, length,
                length % layout->num_ranks == 0
                    ? " (a multiple of N is not enough: each rank holds two equal chunks of every "
                      "sequence)"
                    : "");
        }
    }
    return GDNCP_OK;
}

static gdncp_status_t cut_pack(cutter_t *cutter)
{
    const gdncp_layout_t *const layout = cutter->layout;
    const int parts_per_rank = kinds[layout->kind].parts_per_rank;
    gdncp_status_t status = GDNCP_OK;

    if (kinds[layout->kind].flat) {
        return cut(cutter, 0, layout->cu_seqlens_padded[layout->num_sequences], parts_per_rank);
    }
    for (int64_t i = 0; i < layout->num_sequences && status == GDNCP_OK; i++) {
        status =
            cut(cutter, layout->cu_seqlens_padded[i],
                layout->cu_seqlens_padded[i + 1] - layout->cu_seqlens_padded[i], parts_per_rank);
    }
    return status;
}

/* Deal segments in pack order out to their ranks. The list is in the order of the chains. */
static gdncp_status_t deal_out(gdncp_layout_t *layout, const gdncp_segment_list_t *list)
{
    int64_t *const filled = calloc((size_t)layout->num_ranks, sizeof *filled);

    if (filled == NULL) {
        return gdncp_fail_memory("the ranks of a layout");
    }
    for (int64_t i = 0; i < list->count; i++) {
        const int rank = list->segments[i].rank;
        const int64_t index = layout->rank_first[rank] + filled[rank];
        gdncp_segment_t *const segment = &layout->segments[index];

        *segment = list->segments[i];
        segment->local_offset =
            filled[rank] > 0 ? segment[-1].local_offset + segment[-1].length : 0;
        layout->chains[i] = index;
        filled[rank]++;
    }
    free(filled);
    return GDNCP_OK;
}

gdncp_status_t gdncp_layout_create_padded(gdncp_layout_kind_t kind, const int64_t *cu_seqlens,
                                          const int64_t *cu_seqlens_padded, int64_t num_sequences,
                                          int num_ranks, gdncp_layout_t **layout_p)
{
    const gdncp_pack_t pack = {cu_seqlens, cu_seqlens_padded, num_sequences, num_ranks};
    gdncp_layout_t *layout = NULL;
    cutter_t cutter = {0};
    gdncp_status_t status;

    if ((unsigned)kind >= num_kinds || kinds[kind].parts_per_rank == 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "kind: expected a kind that cuts by itself (contiguous, contiguous_flat, "
                          "dual_chunk_swap, dual_chunk_swap_flat), got %d (%s)",
                          (int)kind, gdncp_layout_kind_name(kind));
    }
    if (layout_p == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "layout_p: expected a place for the layout, got NULL");
    }
    status = gdncp_pack_check(&pack);
    if (status == GDNCP_OK) {
        status = gdncp_layout_begin(kind, &pack, &layout);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    if (kind == GDNCP_LAYOUT_DUAL_CHUNK_SWAP) {
        status = check_dual_chunks(layout);
        if (status != GDNCP_OK) {
            goto destroy_layout;
        }
    }
    cutter.layout = layout;
    status = cut_pack(&cutter);
    if (status != GDNCP_OK) {
        goto free_list;
    }
    status = gdncp_layout_make_room(layout, &cutter.list);
    if (status != GDNCP_OK) {
        goto free_list;
    }
    status = deal_out(layout, &cutter.list);
    if (status != GDNCP_OK) {
        goto free_list;
    }
    gdncp_layout_seal(layout);
    free(cutter.list.segments);
    *layout_p = layout;
    return GDNCP_OK;

free_list:
    free(cutter.list.segments);
destroy_layout:
    gdncp_layout_destroy(layout);
    return status;
}

gdncp_status_t gdncp_layout_create(gdncp_layout_kind_t kind, const int64_t *cu_seqlens,
                                   int64_t num_sequences, int num_ranks, gdncp_layout_t **layout_p)
{
    return gdncp_layout_create_padded(kind, cu_seqlens, NULL, num_sequences, num_ranks, layout_p);
}
