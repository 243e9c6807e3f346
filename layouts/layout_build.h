/* The layout struct, and what its constructors share. */
#ifndef GDNCP_LAYOUT_BUILD_H
#define GDNCP_LAYOUT_BUILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gdncp/layout.h"

struct gdncp_layout {
    gdncp_layout_kind_t kind;
    int num_ranks;
    int64_t num_sequences;
    int64_t num_segments;
    bool has_padding;
    int64_t *cu_seqlens;        /* [num_sequences + 1] */
    int64_t *cu_seqlens_padded; /* [num_sequences + 1] the slots */
    gdncp_segment_t *segments;  /* [num_segments] by (rank, local_offset) */
    int64_t *rank_first;        /* [num_ranks + 1] first segment of each rank */
    int64_t *rank_offset;       /* [num_ranks + 1] tokens of the ranks before each rank */
    int64_t *chains;            /* [num_segments] indices of segments by (sequence, begin) */
    int64_t *chain_first;       /* [num_sequences + 1] first entry of each sequence in chains */
    int64_t *chain_length;      /* [num_sequences] entries that are not padding; those come first */
    uint64_t hash;
};

/* A growing list of segments; {0} is an empty one. Free segments with free(). */
typedef struct gdncp_segment_list {
    gdncp_segment_t *segments;
    int64_t count;
    int64_t capacity;
} gdncp_segment_list_t;

/* Append a segment, or make the last one longer by it where it is on the same rank and goes on with
 * the same sequence or padding. local_offset becomes that of a list in the order of the ranks'
 * buffers. */
gdncp_status_t gdncp_segment_list_add(gdncp_segment_list_t *list, gdncp_segment_t segment);

/* The pack position of a segment's first token. */
static inline int64_t gdncp_segment_pack_begin(const gdncp_layout_t *layout,
                                               const gdncp_segment_t *segment)
{
    return layout->cu_seqlens_padded[segment->sequence] + segment->begin;
}

/* The arguments that all constructors have. */
typedef struct gdncp_pack {
    const int64_t *cu_seqlens;
    const int64_t *cu_seqlens_padded; /* NULL: no padding */
    int64_t num_sequences;
    int num_ranks;
} gdncp_pack_t;

static inline const int64_t *gdncp_pack_slots(const gdncp_pack_t *pack)
{
    return pack->cu_seqlens_padded != NULL ? pack->cu_seqlens_padded : pack->cu_seqlens;
}

gdncp_status_t gdncp_pack_check(const gdncp_pack_t *pack);

/* Whether dual_chunk_swap can cut every sequence of a pack that was checked. */
gdncp_status_t gdncp_pack_check_dual_chunks(const gdncp_pack_t *pack);

/* Make a layout without segments of a pack that has been checked. Free with gdncp_layout_destroy().
 */
gdncp_status_t gdncp_layout_begin(gdncp_layout_kind_t kind, const gdncp_pack_t *pack,
                                  gdncp_layout_t **layout_p);

/* The longest segment from pack position `begin` on that stops at `end` at the latest, where the
 * slot of `sequence` holds `begin` < `end`. The caller puts it on a rank. */
gdncp_segment_t gdncp_layout_cut_segment(const gdncp_layout_t *layout, int64_t sequence,
                                         int64_t begin, int64_t end);

/* Make room for the segments of the list, in whatever order they are there, and set rank_first,
 * chain_first and chain_length. The caller then fills segments and chains. */
gdncp_status_t gdncp_layout_make_room(gdncp_layout_t *layout, const gdncp_segment_list_t *list);

/* The same where the list is in the order of the layout's segments, which it becomes: it is empty
 * afterwards. The caller then fills chains. */
gdncp_status_t gdncp_layout_adopt(gdncp_layout_t *layout, gdncp_segment_list_t *list);

/* The last step, when segments and chains are filled: everything derived from them. */
void gdncp_layout_seal(gdncp_layout_t *layout);

#endif
