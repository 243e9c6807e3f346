/* Scratch memory of an operator's call. */
#ifndef GDNCP_OP_SCRATCH_H
#define GDNCP_OP_SCRATCH_H

#include <stddef.h>
#include <stdint.h>

#include "gdncp/memory.h"
#include "gdncp/status.h"
#include "op_parallel.h"

/* Hands out pieces of one block. Used first without a block, to learn how many bytes are taken,
 * then with one. */
typedef struct gdncp_arena {
    char *block; /* NULL: only count */
    size_t used;
} gdncp_arena_t;

/* 64-byte aligned space for count floats; NULL while the arena only counts. */
float *gdncp_arena_floats(gdncp_arena_t *arena, int64_t count);

/* Scratch for num_threads threads, bytes_per_thread each. */
typedef struct gdncp_scratch {
    char *memory;
    size_t bytes_per_thread; /* rounded up to what keeps threads off each other's lines */
    void *owned;             /* to be freed: there was no workspace */
} gdncp_scratch_t;

/* From the workspace, or allocated where that is NULL. */
gdncp_status_t gdncp_scratch_open(gdncp_workspace_t *workspace, int num_threads,
                                  size_t bytes_per_thread, gdncp_scratch_t *scratch);

void gdncp_scratch_close(gdncp_scratch_t *scratch);

/* gdncp_parallel_for() on as many threads as are worth having, with scratch for each of them in
 * *scratch, which the context gives the body access to. */
gdncp_status_t gdncp_scratch_parallel_for(gdncp_workspace_t *workspace, int64_t num_items,
                                          size_t bytes_per_thread, gdncp_scratch_t *scratch,
                                          gdncp_parallel_body_t body, void *context);

/* An arena over one thread's part. */
gdncp_arena_t gdncp_scratch_arena(const gdncp_scratch_t *scratch, int thread);

#endif
