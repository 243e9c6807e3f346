/* Scratch memory that is reused, on a device and for a stream. */
#include "workspace.h"

#include "error.h"
#include "gdncp/device.h"

/* A block that has become too small. On a CUDA device queued work and captured graphs may still use
 * it, and freeing it would wait for the device, so it stays until the workspace goes. */
typedef struct outgrown {
    struct outgrown *next;
    void *memory;
} outgrown_t;

struct gdncp_workspace {
    gdncp_device_kind_t device;
    gdncp_stream_t stream;
    void *memory;
    size_t bytes;
    outgrown_t *outgrown;
    gdncp_workspace_t *inner; /* NULL until it is asked for */
};

gdncp_status_t gdncp_workspace_create(gdncp_workspace_t **workspace_p)
{
    return gdncp_workspace_create_on(GDNCP_DEVICE_CPU, NULL, workspace_p);
}

gdncp_status_t gdncp_workspace_create_on(gdncp_device_kind_t device, gdncp_stream_t stream,
                                         gdncp_workspace_t **workspace_p)
{
    const gdncp_status_t status = gdncp_device_check(device);

    if (status != GDNCP_OK) {
        return status;
    }
    if (device == GDNCP_DEVICE_CPU && stream != NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "stream: expected NULL on a CPU, got %p",
                          stream);
    }
    gdncp_workspace_t *const workspace = gdncp_memory_alloc(sizeof *workspace);

    if (workspace == NULL) {
        return gdncp_fail_memory("a workspace");
    }
    *workspace = (gdncp_workspace_t){.device = device, .stream = stream};
    *workspace_p = workspace;
    return GDNCP_OK;
}

static gdncp_status_t set_aside(gdncp_workspace_t *workspace)
{
    outgrown_t *const outgrown = gdncp_memory_alloc(sizeof *outgrown);

    if (outgrown == NULL) {
        return gdncp_fail_memory("a workspace");
    }
    *outgrown = (outgrown_t){.next = workspace->outgrown, .memory = workspace->memory};
    workspace->outgrown = outgrown;
    return GDNCP_OK;
}

static gdncp_status_t grow(gdncp_workspace_t *workspace, size_t bytes)
{
    void *grown;
    gdncp_status_t status = gdncp_device_alloc(workspace->device, bytes, &grown);

    if (status != GDNCP_OK) {
        return status;
    }
    if (workspace->device == GDNCP_DEVICE_CPU) {
        gdncp_device_free(workspace->device, workspace->memory);
    } else if (workspace->memory != NULL) {
        status = set_aside(workspace);
    }
    if (status != GDNCP_OK) {
        gdncp_device_free(workspace->device, grown);
        return status;
    }
    workspace->memory = grown;
    workspace->bytes = bytes;
    return GDNCP_OK;
}

gdncp_status_t gdncp_workspace_reserve(gdncp_workspace_t *workspace, size_t bytes, void **memory_p)
{
    if (bytes > workspace->bytes) {
        const gdncp_status_t status = grow(workspace, bytes);

        if (status != GDNCP_OK) {
            return status;
        }
    }
    *memory_p = workspace->memory;
    return GDNCP_OK;
}

gdncp_status_t gdncp_workspace_inner(gdncp_workspace_t *workspace, gdncp_workspace_t **inner_p)
{
    if (workspace != NULL && workspace->inner == NULL) {
        const gdncp_status_t status =
            gdncp_workspace_create_on(workspace->device, workspace->stream, &workspace->inner);

        if (status != GDNCP_OK) {
            return status;
        }
    }
    *inner_p = workspace != NULL ? workspace->inner : NULL;
    return GDNCP_OK;
}

static void destroy_one(gdncp_workspace_t *workspace)
{
    while (workspace->outgrown != NULL) {
        outgrown_t *const outgrown = workspace->outgrown;

        workspace->outgrown = outgrown->next;
        gdncp_device_free(workspace->device, outgrown->memory);
        gdncp_memory_free(outgrown);
    }
    gdncp_device_free(workspace->device, workspace->memory);
    gdncp_memory_free(workspace);
}

void gdncp_workspace_destroy(gdncp_workspace_t *workspace)
{
    while (workspace != NULL) {
        gdncp_workspace_t *const inner = workspace->inner;

        destroy_one(workspace);
        workspace = inner;
    }
}

gdncp_device_kind_t gdncp_workspace_device(const gdncp_workspace_t *workspace)
{
    return workspace != NULL ? workspace->device : GDNCP_DEVICE_CPU;
}

gdncp_stream_t gdncp_workspace_stream(const gdncp_workspace_t *workspace)
{
    return workspace != NULL ? workspace->stream : NULL;
}
