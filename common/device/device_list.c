/* Lists of numbers in two places. */
#include "device_list.h"

#include <string.h>

#include "error.h"
#include "gdncp/memory.h"

static size_t list_bytes(int64_t count)
{
    return (size_t)count * sizeof(int64_t);
}

gdncp_status_t gdncp_device_list_create(gdncp_device_kind_t device, int64_t count,
                                        gdncp_device_list_t *list)
{
    gdncp_device_list_t made = {
        .device = device, .count = count, .host = gdncp_memory_alloc(list_bytes(count))};
    void *cuda = NULL;
    gdncp_status_t status = GDNCP_OK;

    if (made.host == NULL) {
        return gdncp_fail_memory("a list of numbers");
    }
    if (device != GDNCP_DEVICE_CPU) {
        status = gdncp_device_alloc(device, list_bytes(count), &cuda);
    }
    if (status != GDNCP_OK) {
        gdncp_memory_free(made.host);
        return status;
    }
    made.cuda = cuda;
    *list = made;
    return GDNCP_OK;
}

gdncp_status_t gdncp_device_list_upload(const gdncp_device_list_t *list, gdncp_stream_t stream)
{
    return list->cuda == NULL ? GDNCP_OK
                              : gdncp_device_copy(list->device, list->cuda, list->host,
                                                  list_bytes(list->count), stream);
}

gdncp_status_t gdncp_device_list_copy(gdncp_device_kind_t device, const int64_t *values,
                                      int64_t count, gdncp_stream_t stream,
                                      gdncp_device_list_t *list)
{
    gdncp_device_list_t made;
    gdncp_status_t status = gdncp_device_list_create(device, count, &made);

    if (status != GDNCP_OK) {
        return status;
    }
    memcpy(made.host, values, list_bytes(count));
    status = gdncp_device_list_upload(&made, stream);
    if (status != GDNCP_OK) {
        gdncp_device_list_destroy(&made);
        return status;
    }
    *list = made;
    return GDNCP_OK;
}

void gdncp_device_list_destroy(gdncp_device_list_t *list)
{
    gdncp_memory_free(list->host);
    gdncp_device_free(list->device, list->cuda);
    *list = (gdncp_device_list_t){0};
}
