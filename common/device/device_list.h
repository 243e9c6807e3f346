/* Numbers that the host reads and, on a CUDA device, kernels too. */
#ifndef GDNCP_DEVICE_LIST_H
#define GDNCP_DEVICE_LIST_H

#include <stdint.h>

#include "gdncp/device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* All zero is a list that was never made. */
typedef struct gdncp_device_list {
    gdncp_device_kind_t device;
    int64_t count;
    int64_t *host; /* [count] */
    int64_t *cuda; /* [count] in device memory; NULL on the CPU */
} gdncp_device_list_t;

/* Room for count numbers, which the caller puts in list->host and then uploads. */
gdncp_status_t gdncp_device_list_create(gdncp_device_kind_t device, int64_t count,
                                        gdncp_device_list_t *list);

/* Copy the host's numbers to the device, in stream order; on the CPU nothing. */
gdncp_status_t gdncp_device_list_upload(const gdncp_device_list_t *list, gdncp_stream_t stream);

/* Both, for numbers that there are already. */
gdncp_status_t gdncp_device_list_copy(gdncp_device_kind_t device, const int64_t *values,
                                      int64_t count, gdncp_stream_t stream,
                                      gdncp_device_list_t *list);

/* Where the numbers from `index` on lie on the device; NULL on the CPU. */
static inline const int64_t *gdncp_device_list_at(const gdncp_device_list_t *list, int64_t index)
{
    return list->cuda != NULL ? list->cuda + index : NULL;
}

void gdncp_device_list_destroy(gdncp_device_list_t *list);

#ifdef __cplusplus
}
#endif

#endif
