/* Scratch memory that is reused, on a device and for a stream. */
#include "workspace.h"

#include "error.h"
#include "gdncp/device.h"

struct gdncp_workspace {
    gdncp_device_kind_t device;
    gdncp_stream_t stream;
    void *memory;
    size_t bytes;
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

gdncp_status_t gdncp_workspace_reserve(gdncp_workspace_t *workspace, size_t bytes, void **memory_p)
{
    if (bytes > workspace->bytes) {
        void *grown;
        const gdncp_status_t status = gdncp_device_alloc(workspace->device, bytes, &grown);

        if (status != GDNCP_OK) {
            return status;
        }
        gdncp_device_free(workspace->device, workspace->memory);
        workspace->memory = grown;
        workspace->bytes = bytes;
    }
    *memory_p = workspace->memory;
    return GDNCP_OK;
}

void gdncp_workspace_destroy(gdncp_workspace_t *workspace)
{
    if (workspace != NULL) {
        gdncp_device_free(workspace->device, workspace->memory);
        gdncp_memory_free(workspace);
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
