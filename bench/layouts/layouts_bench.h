/* Timing layouts, maps and plans: an operation on a pack, and what it must hold. */
#ifndef GDNCP_LAYOUTS_BENCH_H
#define GDNCP_LAYOUTS_BENCH_H

#include <stdbool.h>
#include <stdint.h>

#include "gdncp/gdncp.h"
#include "relay.h"

/* A pack of equal sequences, and what was made of it before anything is timed. */
typedef struct layouts_pack {
    int64_t tokens;
    int num_ranks;
    int64_t num_sequences;
    int64_t *cu_seqlens;
    gdncp_layout_t *layout;     /* dual_chunk_swap */
    gdncp_layout_t *contiguous; /* contiguous_flat */
    int64_t *redo;              /* [tokens] of layout */
    int64_t *rank_tokens;       /* [num_ranks] of layout */
    int64_t *map;               /* [tokens] written by operations */
    int64_t *map_too;           /* [tokens] */
    uint8_t *mask;              /* [tokens] */
} layouts_pack_t;

gdncp_status_t layouts_pack_make(int64_t tokens, int num_ranks, int64_t num_sequences,
                                 layouts_pack_t *pack);
void layouts_pack_free(layouts_pack_t *pack);

/* What an operation made, for the caller to free. */
typedef struct layouts_made {
    gdncp_layout_t *layout;
    gdncp_plan_t *plan;
    gdncp_relay_schedule_t *relay;
} layouts_made_t;

typedef struct layouts_operation {
    const char *name;
    gdncp_status_t (*run)(const layouts_pack_t *pack, layouts_made_t *made);
    /* Bytes of the arrays that it writes; 0: it makes something. */
    int64_t (*bytes)(const layouts_pack_t *pack);
    /* Whether what the last run made or wrote is right. */
    bool (*check)(const layouts_pack_t *pack, const layouts_made_t *made);
} layouts_operation_t;

/* NULL in name ends it. */
extern const layouts_operation_t layouts_operations[];

#endif
