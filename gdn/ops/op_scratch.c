/* Scratch memory of an operator's call. */
#include "op_scratch.h"

#include "error.h"

#define ALIGNMENT ((size_t)64)

static size_t round_up(size_t bytes)
{
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

float *gdncp_arena_floats(gdncp_arena_t *arena, int64_t count)
{
    const size_t offset = arena->used;

    arena->used += round_up((size_t)count * sizeof(float));
    return arena->block != NULL ? (float *)(void *)(arena->block + offset) : NULL;
}

gdncp_status_t gdncp_scratch_open(gdncp_workspace_t *workspace, int num_threads,
                                  size_t bytes_per_thread, gdncp_scratch_t *scratch)
{
    const size_t stride = round_up(bytes_per_thread);
    const size_t bytes = stride * (size_t)num_threads;
    void *memory = NULL;

    if (workspace != NULL) {
        const gdncp_status_t status = gdncp_workspace_reserve(workspace, bytes, &memory);

        if (status != GDNCP_OK) {
            return status;
        }
    } else {
        memory = gdncp_memory_alloc(bytes);
        if (memory == NULL) {
            return gdncp_fail(GDNCP_ERR_OUT_OF_MEMORY, "out of memory: %zu bytes of scratch",
                              bytes);
        }
    }
    *scratch = (gdncp_scratch_t){
        .memory = memory, .bytes_per_thread = stride, .owned = workspace == NULL ? memory : NULL};
    return GDNCP_OK;
}

void gdncp_scratch_close(gdncp_scratch_t *scratch)
{
    gdncp_memory_free(scratch->owned);
}

gdncp_status_t gdncp_scratch_parallel_for(gdncp_workspace_t *workspace, int64_t num_items,
                                          size_t bytes_per_thread, gdncp_scratch_t *scratch,
                                          gdncp_parallel_body_t body, void *context)
{
    const int num_threads = gdncp_parallel_num_threads(num_items);
    const gdncp_status_t status =
        gdncp_scratch_open(workspace, num_threads, bytes_per_thread, scratch);

    if (status != GDNCP_OK) {
        return status;
    }
    gdncp_parallel_for(num_items, num_threads, body, context);
    gdncp_scratch_close(scratch);
    return GDNCP_OK;
}

gdncp_arena_t gdncp_scratch_arena(const gdncp_scratch_t *scratch, int thread)
{
    return (gdncp_arena_t){.block = scratch->memory + (size_t)thread * scratch->bytes_per_thread};
}
