/* Counted memory, and workspaces made of it. */
#include "gdncp/memory.h"

#include <stdbool.h>
#include <stdlib.h>

#include "error.h"

#define ALIGNMENT ((size_t)64)

/* Lies in the ALIGNMENT bytes before what the caller gets. */
typedef struct block_header {
    gdncp_memory_usage_t *usage; /* who is credited; may be NULL */
    int64_t bytes;
} block_header_t;

_Static_assert(sizeof(block_header_t) <= 64, "a header fits in one alignment unit");

static _Thread_local gdncp_memory_usage_t *tracked;

void gdncp_memory_track(gdncp_memory_usage_t *usage)
{
    tracked = usage;
}

static int64_t add_to(int64_t *counter, int64_t value)
{
    return __atomic_add_fetch(counter, value, __ATOMIC_RELAXED);
}

static void raise_to(int64_t *maximum, int64_t value)
{
    int64_t seen = __atomic_load_n(maximum, __ATOMIC_RELAXED);

    while (seen < value && !__atomic_compare_exchange_n(maximum, &seen, value, true,
                                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
}

void *gdncp_memory_alloc(size_t bytes)
{
    if (bytes > SIZE_MAX / 2) {
        return NULL;
    }
    const size_t rounded = (bytes + 2 * ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    block_header_t *const header = aligned_alloc(ALIGNMENT, rounded);

    if (header == NULL) {
        return NULL;
    }
    *header = (block_header_t){.usage = tracked, .bytes = (int64_t)bytes};
    if (tracked != NULL) {
        add_to(&tracked->num_allocations, 1);
        raise_to(&tracked->peak_bytes, add_to(&tracked->current_bytes, (int64_t)bytes));
    }
    return (char *)header + ALIGNMENT;
}

void gdncp_memory_free(void *memory)
{
    if (memory == NULL) {
        return;
    }
    block_header_t *const header = (block_header_t *)((char *)memory - ALIGNMENT);

    if (header->usage != NULL) {
        add_to(&header->usage->current_bytes, -header->bytes);
    }
    free(header);
}

struct gdncp_workspace {
    void *memory;
    size_t bytes;
};

gdncp_status_t gdncp_workspace_create(gdncp_workspace_t **workspace_p)
{
    gdncp_workspace_t *const workspace = gdncp_memory_alloc(sizeof *workspace);

    if (workspace == NULL) {
        return gdncp_fail_memory("a workspace");
    }
    *workspace = (gdncp_workspace_t){0};
    *workspace_p = workspace;
    return GDNCP_OK;
}

gdncp_status_t gdncp_workspace_reserve(gdncp_workspace_t *workspace, size_t bytes, void **memory_p)
{
    if (bytes > workspace->bytes) {
        void *const grown = gdncp_memory_alloc(bytes);

        if (grown == NULL) {
            return gdncp_fail(GDNCP_ERR_OUT_OF_MEMORY, "out of memory: %zu bytes of workspace",
                              bytes);
        }
        gdncp_memory_free(workspace->memory);
        workspace->memory = grown;
        workspace->bytes = bytes;
    }
    *memory_p = workspace->memory;
    return GDNCP_OK;
}

void gdncp_workspace_destroy(gdncp_workspace_t *workspace)
{
    if (workspace != NULL) {
        gdncp_memory_free(workspace->memory);
        gdncp_memory_free(workspace);
    }
}
