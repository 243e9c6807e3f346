/**
 * @file
 * Memory that gdncp counts.
 *
 * All that the library allocates (plans' staging, saved activations, scratch)
 * goes through these, so a caller can see how much a rank needs at its peak.
 */
#ifndef GDNCP_MEMORY_H
#define GDNCP_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "export.h"
#include "status.h"
#include "tensor.h"

GDNCP_BEGIN_DECLS

/** Bytes allocated and not yet freed, the most there ever was, and the number of allocations. */
typedef struct gdncp_memory_usage {
    int64_t current_bytes;
    int64_t peak_bytes;
    int64_t num_allocations;
} gdncp_memory_usage_t;

/**
 * Count the calling thread's allocations in @p usage from now on; NULL stops it.
 *
 * Memory allocated while tracked is credited back to the same @p usage when it
 * is freed, by whichever thread; @p usage must outlive that memory.
 */
GDNCP_API void gdncp_memory_track(gdncp_memory_usage_t *usage);

/** 64-byte aligned memory, not initialised; NULL when there is none. Free with gdncp_memory_free().
 * From 8 MiB on it asks for huge pages, so tensors are best allocated here. */
GDNCP_API void *gdncp_memory_alloc(size_t bytes);

/** Free what gdncp_memory_alloc() gave; NULL does nothing. */
GDNCP_API void gdncp_memory_free(void *memory);

/**
 * Scratch memory that grows to what its user needs once and is then reused.
 *
 * An operator that is handed the same workspace again allocates nothing.
 * Not thread-safe: one workspace a calling thread.
 */
typedef struct gdncp_workspace gdncp_workspace_t;

/** Make an empty workspace on the CPU. Free with gdncp_workspace_destroy(). */
GDNCP_API gdncp_status_t gdncp_workspace_create(gdncp_workspace_t **workspace_p);

/**
 * Make an empty workspace on a device. Operators that are handed it run there, in this stream.
 *
 * @param stream  of that device, and outlives the workspace; NULL: the default stream. Must be NULL
 *                on the CPU.
 */
GDNCP_API gdncp_status_t gdncp_workspace_create_on(gdncp_device_kind_t device,
                                                   gdncp_stream_t stream,
                                                   gdncp_workspace_t **workspace_p);

/**
 * At least @p bytes of 64-byte aligned scratch of the workspace's device, not initialised.
 *
 * One block a workspace: a second call invalidates what the first one returned. On a CUDA device a
 * block that has become too small is kept until the workspace is destroyed, for what is queued and
 * for graphs that were captured with it.
 */
GDNCP_API gdncp_status_t gdncp_workspace_reserve(gdncp_workspace_t *workspace, size_t bytes,
                                                 void **memory_p);

/** Free a workspace; NULL does nothing. */
GDNCP_API void gdncp_workspace_destroy(gdncp_workspace_t *workspace);

GDNCP_END_DECLS

#endif
