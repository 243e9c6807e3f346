/* Where a run's tensors lie, and what is moved there and back. */
#ifndef GDNCP_RUN_DEVICE_H
#define GDNCP_RUN_DEVICE_H

#include "gdncp/device.h"
#include "options.h"

/* "cpu", "cuda" or "emulated" */
const char *run_device_name(run_device_t device);

/* The library's name for where the tensors lie. */
gdncp_device_kind_t run_device_kind(run_device_t device);

/* To be called before the library's first use of a device. */
void run_device_select(run_device_t device);

/* Let this process, the index-th of the machine, use a GPU of its own where there are several and
 * the user has not chosen. To be called before the first use as well. */
void run_device_choose(run_device_t device, int index);

/* Memory of the device, which counts, for a tensor that has all but data and device. */
gdncp_status_t run_device_alloc(gdncp_device_kind_t device, const char *name,
                                gdncp_tensor_t *tensor);

/* Copy all of a tensor from or to the host's memory, and wait for it. */
gdncp_status_t run_device_upload(const gdncp_tensor_t *tensor, const void *host,
                                 gdncp_stream_t stream);
gdncp_status_t run_device_download(const gdncp_tensor_t *tensor, void *host, gdncp_stream_t stream);

size_t run_tensor_bytes(const gdncp_tensor_t *tensor);

#endif
