/* What a rank holds, in the order of the pack, and who holds what lies around it: so that a plan of
 * one rank is made in time that does not grow with the segments of all ranks. */
#ifndef GDNCP_OWN_SEGMENTS_H
#define GDNCP_OWN_SEGMENTS_H

#include <stdbool.h>

#include "gdncp/layout.h"

/* A rank's segments by (sequence, begin), with or without those of padding. Free *segments_p with
 * gdncp_memory_free(). */
gdncp_status_t gdncp_own_segments(const gdncp_layout_t *layout, int rank, bool with_padding,
                                  const gdncp_segment_t ***segments_p, int64_t *count_p);

/* The segments of one sequence, or of its slot, in its order. */
typedef struct gdncp_chain {
    const gdncp_segment_t *segments; /* of the layout */
    const int64_t *indices;          /* [count] in segments */
    int64_t count;
} gdncp_chain_t;

gdncp_chain_t gdncp_chain_of(const gdncp_layout_t *layout, int64_t sequence, bool with_padding);

static inline const gdncp_segment_t *gdncp_chain_link(const gdncp_chain_t *chain, int64_t i)
{
    return &chain->segments[chain->indices[i]];
}

/* The link that holds a position of the sequence; the first one for a position before it. */
int64_t gdncp_chain_find(const gdncp_chain_t *chain, int64_t position);

#endif
