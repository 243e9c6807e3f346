/* Where the sequences of a pack begin and end among the segments that a rank holds. */
#ifndef GDNCP_RULE_SEGMENTS_H
#define GDNCP_RULE_SEGMENTS_H

#include "device_list.h"
#include "gdncp/layout.h"
#include "gdncp/status.h"

/* The local segments that lie at one end of their sequence, in local order. */
typedef struct gdncp_sequence_ends {
    gdncp_device_list_t segments;
    gdncp_device_list_t sequences; /* sequences[i] is the one that segments[i] belongs to */
    int *holder; /* [num_sequences] rank of that end's token; 0 where there is none */
} gdncp_sequence_ends_t;

typedef struct gdncp_rule_segments {
    int64_t num_sequences;
    int64_t num_segments;           /* local */
    gdncp_device_list_t cu_seqlens; /* [num_segments + 1] of the local segments */
    gdncp_sequence_ends_t first;
    gdncp_sequence_ends_t last;
    gdncp_device_list_t empty; /* sequences without tokens, which rank 0 sees to; else none */
} gdncp_rule_segments_t;

/* Zero *segments first; on an error gdncp_rule_segments_destroy() frees what there is. */
gdncp_status_t gdncp_rule_segments_create(const gdncp_layout_t *layout, int rank,
                                          gdncp_device_kind_t device, gdncp_stream_t stream,
                                          gdncp_rule_segments_t *segments);
void gdncp_rule_segments_destroy(gdncp_rule_segments_t *segments);

#endif
