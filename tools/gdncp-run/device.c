#include "device.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "fail.h"

static const struct {
    const char *name;
    gdncp_device_kind_t kind;
} devices[] = {
    [RUN_CPU] = {"cpu", GDNCP_DEVICE_CPU},
    [RUN_CUDA] = {"cuda", GDNCP_DEVICE_CUDA},
    [RUN_EMULATED] = {"emulated", GDNCP_DEVICE_CUDA},
};

const char *run_device_name(run_device_t device)
{
    return devices[device].name;
}

gdncp_device_kind_t run_device_kind(run_device_t device)
{
    return devices[device].kind;
}

void run_device_select(run_device_t device)
{
    if (device == RUN_EMULATED) {
        setenv("GDNCP_CUDA", "emulated", 1);
    }
    if (device == RUN_CUDA) {
        /* Loading a kernel when it is first launched may wait for the device, whose stream may wait
         * for the other ranks, of which this thread is one. */
        setenv("CUDA_MODULE_LOADING", "EAGER", 0);
    }
}

/* As the driver lists them; 0 without one. */
static int count_gpus(void)
{
    DIR *const folder = opendir("/proc/driver/nvidia/gpus");
    int count = 0;

    if (folder == NULL) {
        return 0;
    }
    for (const struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        count += entry->d_name[0] != '.';
    }
    closedir(folder);
    return count;
}

void run_device_choose(run_device_t device, int index)
{
    const int num_gpus = device == RUN_CUDA ? count_gpus() : 0;
    char number[16];

    if (num_gpus > 1) {
        snprintf(number, sizeof number, "%d", index % num_gpus);
        setenv("CUDA_VISIBLE_DEVICES", number, 0);
    }
}

size_t run_tensor_bytes(const gdncp_tensor_t *tensor)
{
    return (size_t)gdncp_tensor_num_elements(tensor) * gdncp_dtype_size(tensor->dtype);
}

gdncp_status_t run_device_alloc(gdncp_device_kind_t device, const char *name,
                                gdncp_tensor_t *tensor)
{
    /* A rank without tokens has tensors too: no data would mean an absent tensor. */
    const size_t bytes = run_tensor_bytes(tensor) > 0 ? run_tensor_bytes(tensor) : 1;
    const gdncp_status_t status = gdncp_device_alloc(device, bytes, &tensor->data);

    tensor->device = device;
    return status == GDNCP_ERR_OUT_OF_MEMORY ? run_fail(status, "out of memory: %s", name) : status;
}

static gdncp_status_t copy(gdncp_device_kind_t device, void *dst, const void *src, size_t bytes,
                           gdncp_stream_t stream)
{
    const gdncp_status_t status = gdncp_device_copy(device, dst, src, bytes, stream);

    return status == GDNCP_OK ? gdncp_stream_synchronize(device, stream) : status;
}

gdncp_status_t run_device_upload(const gdncp_tensor_t *tensor, const void *host,
                                 gdncp_stream_t stream)
{
    return copy(tensor->device, tensor->data, host, run_tensor_bytes(tensor), stream);
}

gdncp_status_t run_device_download(const gdncp_tensor_t *tensor, void *host, gdncp_stream_t stream)
{
    return copy(tensor->device, host, tensor->data, run_tensor_bytes(tensor), stream);
}
