/* Layouts by name: packs and sequences cut into N or 2N parts. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "gdncp/layout_from.h"
#include "gdncp/layout_inline.h"
#include "layout_cutter.h"

static const struct {
    const char *name;
    int parts_per_rank; /* 0: no named cut */
    bool flat;          /* the pack is cut, not each sequence */
    bool striped;       /* into stripes, dealt out one after the other */
} kinds[] = {
    [GDNCP_LAYOUT_CONTIGUOUS] = {"contiguous", 1, false, false},
    [GDNCP_LAYOUT_CONTIGUOUS_FLAT] = {"contiguous_flat", 1, true, false},
    [GDNCP_LAYOUT_DUAL_CHUNK_SWAP] = {"dual_chunk_swap", 2, false, false},
    [GDNCP_LAYOUT_DUAL_CHUNK_SWAP_FLAT] = {"dual_chunk_swap_flat", 2, true, false},
    [GDNCP_LAYOUT_STRIPED] = {"striped", 1, false, true},
    [GDNCP_LAYOUT_STRIPED_FLAT] = {"striped_flat", 1, true, true},
    [GDNCP_LAYOUT_FROM_POSITIONS] = {"from_positions", 0, false, false},
};
static const char all_names[] =
    "contiguous, contiguous_flat, dual_chunk_swap, dual_chunk_swap_flat, striped, striped_flat, "
    "from_positions";

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

gdncp_status_t gdncp_cutter_take(gdncp_cutter_t *cutter, int64_t begin, int64_t end, int rank)
{
    gdncp_status_t status = GDNCP_OK;

    while (begin < end && status == GDNCP_OK) {
        gdncp_segment_t segment;

        while (cutter->layout->cu_seqlens_padded[cutter->sequence + 1] <= begin) {
            cutter->sequence++;
        }
        segment = gdncp_layout_cut_segment(cutter->layout, cutter->sequence, begin, end);
        segment.rank = rank;
        begin += segment.length;
        status = gdncp_segment_list_add(&cutter->list, segment);
    }
    return status;
}

/* Cut tokens first .. first+length-1 of the pack into equal parts, rank r holding parts r and, of
 * two a rank, 2N-1-r. Where there are fewer tokens than parts, only the parts that hold one are
 * visited. */
static gdncp_status_t cut(gdncp_cutter_t *cutter, int64_t first, int64_t length, int parts_per_rank)
{
    const int64_t num_ranks = cutter->layout->num_ranks;
    const int64_t num_parts = parts_per_rank * num_ranks;
    const int64_t quotient = length / num_parts;
    const int64_t remainder = length % num_parts;
    gdncp_status_t status = GDNCP_OK;
    int64_t begin = 0;
    int64_t part = 0;
    int64_t left = 0; /* part * remainder % num_parts */

    while (begin < length && status == GDNCP_OK) {
        int64_t end;

        if (quotient == 0) {
            part = gdncp_part_of_position(length, num_parts, begin);
            end = gdncp_part_border(length, num_parts, part + 1);
        } else {
            /* gdncp_part_border() of part + 1, without a division for each. */
            left += remainder;
            end = begin + quotient + (left >= num_parts ? 1 : 0);
            left -= left >= num_parts ? num_parts : 0;
        }
        status = gdncp_cutter_take(cutter, first + begin, first + end,
                                   (int)(part < num_ranks ? part : 2 * num_ranks - 1 - part));
        begin = end;
        part++;
    }
    return status;
}

/* Deal tokens first .. first+length-1 of the pack out in stripes. */
static gdncp_status_t cut_stripes(gdncp_cutter_t *cutter, int64_t first, int64_t length,
                                  int64_t stripe)
{
    const int num_ranks = cutter->layout->num_ranks;
    gdncp_status_t status = GDNCP_OK;
    int64_t begin = 0;
    int rank = 0;

    if (num_ranks == 1) {
        return gdncp_cutter_take(cutter, first, first + length, 0);
    }
    while (begin < length && status == GDNCP_OK) {
        const int64_t end = stripe < length - begin ? begin + stripe : length;

        status = gdncp_cutter_take(cutter, first + begin, first + end, rank);
        rank = rank + 1 < num_ranks ? rank + 1 : 0;
        begin = end;
    }
    return status;
}

gdncp_status_t gdncp_pack_check_dual_chunks(const gdncp_pack_t *pack)
{
    const int64_t num_parts = 2 * (int64_t)pack->num_ranks;
    const int64_t *const slots = gdncp_pack_slots(pack);
    const bool has_padding = slots[pack->num_sequences] > pack->cu_seqlens[pack->num_sequences];

    for (int64_t i = 0; i < pack->num_sequences; i++) {
        const int64_t length = slots[i + 1] - slots[i];

        if (length % num_parts != 0) {
            return gdncp_fail(
                GDNCP_ERR_INVALID_ARGUMENT,
                "cu_seqlens%s: expected the length of sequence %" PRId64
                " to be a multiple of 2N = %" PRId64 " for dual_chunk_swap on N = %d ranks, got "
                "%" PRId64 "%s; pad it to a multiple of 2N, or use contiguous or "
                "dual_chunk_swap_flat",
                has_padding ? "_padded" : "", i, num_parts, pack->num_ranks, length,
                length % pack->num_ranks == 0
                    ? " (a multiple of N is not enough: each rank holds two equal chunks of every "
                      "sequence)"
                    : "");
        }
    }
    return GDNCP_OK;
}

/* Cut what the layout's kind cuts; the stripe is that of a kind with stripes. */
static gdncp_status_t cut_pack(gdncp_cutter_t *cutter, const void *stripe)
{
    const gdncp_layout_t *const layout = cutter->layout;
    const bool flat = kinds[layout->kind].flat;
    const int64_t num_ranges = flat ? 1 : layout->num_sequences;
    gdncp_status_t status = GDNCP_OK;

    if (layout->kind == GDNCP_LAYOUT_DUAL_CHUNK_SWAP) {
        status = gdncp_pack_check_dual_chunks(&(gdncp_pack_t){
            .cu_seqlens = layout->cu_seqlens,
            .cu_seqlens_padded = layout->cu_seqlens_padded,
            .num_sequences = layout->num_sequences,
            .num_ranks = layout->num_ranks,
        });
    }
    for (int64_t i = 0; i < num_ranges && status == GDNCP_OK; i++) {
        const int64_t first = layout->cu_seqlens_padded[i];
        const int64_t end = layout->cu_seqlens_padded[flat ? layout->num_sequences : i + 1];

        status = kinds[layout->kind].striped
                     ? cut_stripes(cutter, first, end - first, *(const int64_t *)stripe)
                     : cut(cutter, first, end - first, kinds[layout->kind].parts_per_rank);
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

gdncp_status_t gdncp_layout_cut(gdncp_layout_kind_t kind, const gdncp_pack_t *pack,
                                gdncp_cut_pack_t *cut_all, const void *how,
                                gdncp_layout_t **layout_p)
{
    gdncp_layout_t *layout = NULL;
    gdncp_cutter_t cutter = {0};
    gdncp_status_t status;

    if (layout_p == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "layout_p: expected a place for the layout, got NULL");
    }
    status = gdncp_pack_check(pack);
    if (status == GDNCP_OK) {
        status = gdncp_layout_begin(kind, pack, &layout);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    cutter.layout = layout;
    status = cut_all(&cutter, how);
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
    gdncp_layout_destroy(layout);
    return status;
}

gdncp_status_t gdncp_layout_create_padded(gdncp_layout_kind_t kind, const int64_t *cu_seqlens,
                                          const int64_t *cu_seqlens_padded, int64_t num_sequences,
                                          int num_ranks, gdncp_layout_t **layout_p)
{
    const gdncp_pack_t pack = {cu_seqlens, cu_seqlens_padded, num_sequences, num_ranks};
    const int64_t stripe = 1;

    if ((unsigned)kind >= num_kinds || kinds[kind].parts_per_rank == 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "kind: expected a kind that cuts by itself (contiguous, contiguous_flat, "
                          "dual_chunk_swap, dual_chunk_swap_flat, striped, striped_flat), got %d "
                          "(%s)",
                          (int)kind, gdncp_layout_kind_name(kind));
    }
    return gdncp_layout_cut(kind, &pack, cut_pack, &stripe, layout_p);
}

gdncp_status_t gdncp_layout_create(gdncp_layout_kind_t kind, const int64_t *cu_seqlens,
                                   int64_t num_sequences, int num_ranks, gdncp_layout_t **layout_p)
{
    return gdncp_layout_create_padded(kind, cu_seqlens, NULL, num_sequences, num_ranks, layout_p);
}

gdncp_status_t gdncp_layout_striped(gdncp_layout_kind_t kind, const int64_t *cu_seqlens,
                                    int64_t num_sequences, int num_ranks, int64_t stripe,
                                    gdncp_layout_t **layout_p)
{
    const gdncp_pack_t pack = {cu_seqlens, NULL, num_sequences, num_ranks};

    if ((unsigned)kind >= num_kinds || !kinds[kind].striped) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "kind: expected striped or striped_flat, got %d (%s)", (int)kind,
                          gdncp_layout_kind_name(kind));
    }
    if (stripe <= 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "stripe: expected at least 1 token, got %" PRId64, stripe);
    }
    return gdncp_layout_cut(kind, &pack, cut_pack, &stripe, layout_p);
}
