/* The layout struct, and what its constructors share. */
#ifndef GDNCP_LAYOUT_BUILD_H
#define GDNCP_LAYOUT_BUILD_H

#include <stdint.h>

#include "gdncp/layout.h"

struct gdncp_layout {
    gdncp_layout_kind_t kind;
    int num_ranks;
    int64_t num_sequences;
    int64_t num_segments;
    int64_t *cu_seqlens;       /* [num_sequences + 1] */
    gdncp_segment_t *segments; /* [num_segments] by (rank, local_offset) */
    int64_t *rank_first;       /* [num_ranks + 1] first segment of each rank */
    int64_t *rank_offset;      /* [num_ranks + 1] tokens of the ranks before each rank */
    int64_t *chains;           /* [num_segments] indices of segments by (sequence, begin) */
    int64_t *chain_first;      /* [num_sequences + 1] first entry of each sequence in chains */
    uint64_t hash;
};

/* A growing list of segments; {0} is an empty one. Free segments with free(). */
typedef struct gdncp_segment_list {
    gdncp_segment_t *segments;
    int64_t count;
    int64_t capacity;
} gdncp_segment_list_t;

gdncp_status_t gdncp_segment_list_append(gdncp_segment_list_t *list, gdncp_segment_t segment);

/* Check the arguments that all constructors have. */
gdncp_status_t gdncp_check_pack(const int64_t *cu_seqlens, int64_t num_sequences, int num_ranks);

/* Whether dual_chunk_swap can cut every sequence of a pack that was checked. */
gdncp_status_t gdncp_check_dual_chunks(const int64_t *cu_seqlens, int64_t num_sequences,
                                       int num_ranks);

/* Check the arguments that all constructors have, and make a layout without segments.
 * Free with gdncp_layout_destroy(). */
gdncp_status_t gdncp_layout_begin(gdncp_layout_kind_t kind, const int64_t *cu_seqlens,
                                  int64_t num_sequences, int num_ranks, gdncp_layout_t **layout_p);

/* Make room for the segments of the list, in whatever order they are there, and set rank_first
 * and chain_first. The caller then fills segments and chains. */
gdncp_status_t gdncp_layout_make_room(gdncp_layout_t *layout, const gdncp_segment_list_t *list);

/* The same where the list is in the order of the layout's segments, which it becomes: it is empty
 * afterwards. The caller then fills chains. */
gdncp_status_t gdncp_layout_adopt(gdncp_layout_t *layout, gdncp_segment_list_t *list);

/* The last step, when segments and chains are filled: everything derived from them. */
void gdncp_layout_seal(gdncp_layout_t *layout);

#endif
