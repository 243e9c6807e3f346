/* What all constructors of layouts share: argument checks, memory, offsets, hash. */
#include "layout_build.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"

static gdncp_status_t check_offsets(const char *name, const int64_t *offsets, int64_t num_sequences)
{
    if (offsets[0] != 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "%s[0]: expected 0, got %" PRId64, name,
                          offsets[0]);
    }
    for (int64_t i = 0; i < num_sequences; i++) {
        if (offsets[i + 1] < offsets[i]) {
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                              "%s[%" PRId64 "]: expected at least %" PRId64
                              ", the offset before it, got %" PRId64,
                              name, i + 1, offsets[i], offsets[i + 1]);
        }
    }
    return GDNCP_OK;
}

static gdncp_status_t check_slots(const gdncp_pack_t *pack)
{
    const int64_t *const slots = pack->cu_seqlens_padded;
    const gdncp_status_t status = check_offsets("cu_seqlens_padded", slots, pack->num_sequences);

    if (status != GDNCP_OK) {
        return status;
    }
    for (int64_t i = 0; i < pack->num_sequences; i++) {
        const int64_t length = pack->cu_seqlens[i + 1] - pack->cu_seqlens[i];

        if (slots[i + 1] - slots[i] < length) {
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                              "cu_seqlens_padded[%" PRId64 "]: expected room for the %" PRId64
                              " tokens of sequence %" PRId64 ", got a slot of %" PRId64,
                              i + 1, length, i, slots[i + 1] - slots[i]);
        }
    }
    return GDNCP_OK;
}

gdncp_status_t gdncp_pack_check(const gdncp_pack_t *pack)
{
    const int64_t most_sequences = INT64_MAX / (int64_t)sizeof(int64_t) - 1;
    gdncp_status_t status;
    int64_t num_tokens;

    if (pack->cu_seqlens == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "cu_seqlens: expected num_sequences + 1 offsets, got NULL");
    }
    if (pack->num_sequences <= 0 || pack->num_sequences > most_sequences) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "num_sequences: expected 1..%" PRId64 ", got %" PRId64, most_sequences,
                          pack->num_sequences);
    }
    status = check_offsets("cu_seqlens", pack->cu_seqlens, pack->num_sequences);
    if (status == GDNCP_OK && pack->cu_seqlens_padded != NULL) {
        status = check_slots(pack);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    if (pack->num_ranks <= 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "num_ranks: expected at least 1, got %d",
                          pack->num_ranks);
    }
    num_tokens = gdncp_pack_slots(pack)[pack->num_sequences];
    if (pack->num_ranks > num_tokens) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "num_ranks: expected no more ranks than the pack's %" PRId64
                          " tokens, got %d",
                          num_tokens, pack->num_ranks);
    }
    return GDNCP_OK;
}

gdncp_status_t gdncp_layout_begin(gdncp_layout_kind_t kind, const gdncp_pack_t *pack,
                                  gdncp_layout_t **layout_p)
{
    const int64_t *const slots = gdncp_pack_slots(pack);
    const int64_t num_sequences = pack->num_sequences;
    const size_t offset_bytes = ((size_t)num_sequences + 1) * sizeof *slots;
    gdncp_layout_t *layout;

    layout = calloc(1, sizeof *layout);
    if (layout == NULL) {
        return gdncp_fail_memory("a layout");
    }
    layout->kind = kind;
    layout->num_ranks = pack->num_ranks;
    layout->num_sequences = num_sequences;
    layout->cu_seqlens = malloc(offset_bytes);
    layout->cu_seqlens_padded = malloc(offset_bytes);
    layout->rank_first = calloc((size_t)pack->num_ranks + 1, sizeof *layout->rank_first);
    layout->rank_offset = calloc((size_t)pack->num_ranks + 1, sizeof *layout->rank_offset);
    layout->chain_first = calloc((size_t)num_sequences + 1, sizeof *layout->chain_first);
    layout->chain_length = calloc((size_t)num_sequences, sizeof *layout->chain_length);
    if (layout->cu_seqlens == NULL || layout->cu_seqlens_padded == NULL ||
        layout->rank_first == NULL || layout->rank_offset == NULL || layout->chain_first == NULL ||
        layout->chain_length == NULL) {
        gdncp_layout_destroy(layout);
        return gdncp_fail_memory("the ranks and sequences of a layout");
    }
    memcpy(layout->cu_seqlens, pack->cu_seqlens, offset_bytes);
    memcpy(layout->cu_seqlens_padded, slots, offset_bytes);
    /* No slot is shorter than its sequence. */
    layout->has_padding = slots[num_sequences] > pack->cu_seqlens[num_sequences];
    *layout_p = layout;
    return GDNCP_OK;
}

gdncp_segment_t gdncp_layout_cut_segment(const gdncp_layout_t *layout, int64_t sequence,
                                         int64_t begin, int64_t end)
{
    const int64_t slot_begin = layout->cu_seqlens_padded[sequence];
    const int64_t slot_end = layout->cu_seqlens_padded[sequence + 1];
    const int64_t padding_begin =
        slot_begin + (layout->cu_seqlens[sequence + 1] - layout->cu_seqlens[sequence]);
    const bool is_padding = begin >= padding_begin;
    const int64_t border = is_padding ? slot_end : padding_begin;

    return (gdncp_segment_t){
        .sequence = sequence,
        .begin = begin - slot_begin,
        .length = (end < border ? end : border) - begin,
        .is_padding = is_padding,
    };
}

static gdncp_status_t append(gdncp_segment_list_t *list, gdncp_segment_t segment)
{
    if (list->count == list->capacity) {
        const int64_t capacity = list->capacity > 0 ? 2 * list->capacity : 64;
        gdncp_segment_t *const segments =
            (uint64_t)capacity <= SIZE_MAX / sizeof *segments
                ? realloc(list->segments, (size_t)capacity * sizeof *segments)
                : NULL;

        if (segments == NULL) {
            return gdncp_fail_memory("the segments of a layout");
        }
        list->segments = segments;
        list->capacity = capacity;
    }
    list->segments[list->count++] = segment;
    return GDNCP_OK;
}

gdncp_status_t gdncp_segment_list_add(gdncp_segment_list_t *list, gdncp_segment_t segment)
{
    gdncp_segment_t *const last = list->count > 0 ? &list->segments[list->count - 1] : NULL;
    const bool same_rank = last != NULL && last->rank == segment.rank;

    if (same_rank && last->sequence == segment.sequence && last->is_padding == segment.is_padding &&
        last->begin + last->length == segment.begin) {
        last->length += segment.length;
        return GDNCP_OK;
    }
    segment.local_offset = same_rank ? last->local_offset + last->length : 0;
    return append(list, segment);
}

/* Counts at [i + 1] become first indices at [i]. */
static void add_up(int64_t *counts, int64_t num_counts)
{
    for (int64_t i = 0; i < num_counts; i++) {
        counts[i + 1] += counts[i];
    }
}

/* Set rank_first, chain_first and chain_length, and make room for the chains. */
static gdncp_status_t count_segments(gdncp_layout_t *layout, const gdncp_segment_list_t *list)
{
    /* Not 0, for which calloc() may give NULL. */
    layout->chains = calloc((size_t)list->count + 1, sizeof *layout->chains);
    if (layout->chains == NULL) {
        return gdncp_fail_memory("the chains of a layout");
    }
    layout->num_segments = list->count;
    for (int64_t i = 0; i < list->count; i++) {
        layout->rank_first[list->segments[i].rank + 1]++;
        layout->chain_first[list->segments[i].sequence + 1]++;
        layout->chain_length[list->segments[i].sequence] += !list->segments[i].is_padding;
    }
    add_up(layout->rank_first, layout->num_ranks);
    add_up(layout->chain_first, layout->num_sequences);
    return GDNCP_OK;
}

gdncp_status_t gdncp_layout_make_room(gdncp_layout_t *layout, const gdncp_segment_list_t *list)
{
    layout->segments = calloc((size_t)list->count + 1, sizeof *layout->segments);
    if (layout->segments == NULL) {
        return gdncp_fail_memory("the segments of a layout");
    }
    return count_segments(layout, list);
}

gdncp_status_t gdncp_layout_adopt(gdncp_layout_t *layout, gdncp_segment_list_t *list)
{
    const gdncp_status_t status = count_segments(layout, list);

    if (status != GDNCP_OK) {
        return status;
    }
    layout->segments = list->segments;
    *list = (gdncp_segment_list_t){0};

    gdncp_segment_t *const fitting =
        realloc(layout->segments, ((size_t)layout->num_segments + 1) * sizeof *layout->segments);

    if (fitting != NULL) {
        layout->segments = fitting;
    }
    return GDNCP_OK;
}

/* Both steps are one to one on 64 bits, so that no word is lost. */
static uint64_t mix(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * UINT64_C(0x9fb21c651e98df25);
    return hash ^ (hash >> 29);
}

void gdncp_layout_seal(gdncp_layout_t *layout)
{
    uint64_t hash = mix((uint64_t)layout->num_ranks, (uint64_t)layout->num_sequences);

    for (int64_t i = 0; i <= layout->num_sequences; i++) {
        hash = mix(hash, (uint64_t)layout->cu_seqlens[i]);
        if (layout->has_padding) {
            /* Never 0, which would leave a hash of 0 as it is. */
            hash = mix(hash, (uint64_t)layout->cu_seqlens_padded[i] + 1);
        }
    }
    for (int64_t i = 0; i < layout->num_segments; i++) {
        const gdncp_segment_t *const segment = &layout->segments[i];

        hash = mix(hash, (uint64_t)segment->sequence);
        hash = mix(hash, (uint64_t)segment->begin);
        hash = mix(hash, (uint64_t)segment->length);
        hash = mix(hash, (uint64_t)segment->local_offset);
        hash = mix(hash, (uint64_t)segment->rank);
    }
    layout->hash = hash;
    for (int rank = 0; rank < layout->num_ranks; rank++) {
        layout->rank_offset[rank + 1] =
            layout->rank_offset[rank] + gdncp_layout_rank_tokens(layout, rank);
    }
}

void gdncp_layout_destroy(gdncp_layout_t *layout)
{
    if (layout == NULL) {
        return;
    }
    free(layout->cu_seqlens);
    free(layout->cu_seqlens_padded);
    free(layout->segments);
    free(layout->rank_first);
    free(layout->rank_offset);
    free(layout->chains);
    free(layout->chain_first);
    free(layout->chain_length);
    free(layout);
}
