/* Memory and streams, on the CPU or through the backend of CUDA tensors. */
#include "gdncp/device.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"
#include "error.h"
#include "gdncp/memory.h"
#include "memory_count.h"

const char *gdncp_device_name(gdncp_device_kind_t device)
{
    switch (device) {
    case GDNCP_DEVICE_CPU:
        return "cpu";
    case GDNCP_DEVICE_CUDA:
        return "cuda";
    }
    return "?";
}

/* Memory of a CUDA device that was allocated here: to be counted when it is freed. */
typedef struct device_block {
    struct device_block *next;
    void *memory;
    gdncp_memory_usage_t *usage;
    int64_t bytes;
} device_block_t;

static pthread_mutex_t blocks_lock = PTHREAD_MUTEX_INITIALIZER;
static device_block_t *blocks;

static gdncp_status_t alloc_block(const gdncp_backend_t *backend, size_t bytes, void **memory_p)
{
    device_block_t *const block = malloc(sizeof *block);

    if (block == NULL) {
        return gdncp_fail_memory("a block of device memory");
    }
    const gdncp_status_t status = backend->alloc(bytes, &block->memory);

    if (status != GDNCP_OK) {
        free(block);
        return status;
    }
    block->bytes = (int64_t)bytes;
    block->usage = gdncp_memory_count_alloc(block->bytes);
    pthread_mutex_lock(&blocks_lock);
    block->next = blocks;
    blocks = block;
    pthread_mutex_unlock(&blocks_lock);
    *memory_p = block->memory;
    return GDNCP_OK;
}

static void free_block(const gdncp_backend_t *backend, void *memory)
{
    pthread_mutex_lock(&blocks_lock);
    device_block_t **link = &blocks;

    while (*link != NULL && (*link)->memory != memory) {
        link = &(*link)->next;
    }
    device_block_t *const block = *link;

    if (block != NULL) {
        *link = block->next;
    }
    pthread_mutex_unlock(&blocks_lock);
    if (block != NULL) {
        backend->free(memory);
        gdncp_memory_count_free(block->usage, block->bytes);
        free(block);
    }
}

/* NULL on the CPU. */
static gdncp_status_t find_backend(gdncp_device_kind_t device, const gdncp_backend_t **backend_p)
{
    *backend_p = NULL;
    if (device == GDNCP_DEVICE_CUDA) {
        return gdncp_backend_find(backend_p);
    }
    if (device != GDNCP_DEVICE_CPU) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "device: expected a gdncp_device_kind_t, got %d", (int)device);
    }
    return GDNCP_OK;
}

gdncp_status_t gdncp_device_check(gdncp_device_kind_t device)
{
    const gdncp_backend_t *backend;

    return find_backend(device, &backend);
}

gdncp_status_t gdncp_device_describe(gdncp_device_kind_t device, gdncp_device_info_t *info)
{
    const gdncp_backend_t *backend;
    const gdncp_status_t status = find_backend(device, &backend);

    if (status != GDNCP_OK) {
        return status;
    }
    if (info == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "info: expected an address, got NULL");
    }
    if (backend != NULL) {
        return backend->info(info);
    }
    *info = (gdncp_device_info_t){.name = "cpu", .num_multiprocessors = 1};
    return GDNCP_OK;
}

gdncp_status_t gdncp_device_alloc(gdncp_device_kind_t device, size_t bytes, void **memory_p)
{
    const gdncp_backend_t *backend;
    gdncp_status_t status = find_backend(device, &backend);
    void *memory = NULL;

    if (status != GDNCP_OK) {
        return status;
    }
    if (backend == NULL) {
        memory = gdncp_memory_alloc(bytes);
        status = memory != NULL
                     ? GDNCP_OK
                     : gdncp_fail(GDNCP_ERR_OUT_OF_MEMORY, "out of memory: %zu bytes", bytes);
    } else {
        status = alloc_block(backend, bytes, &memory);
    }
    if (status == GDNCP_OK) {
        *memory_p = memory;
    }
    return status;
}

void gdncp_device_free(gdncp_device_kind_t device, void *memory)
{
    const gdncp_backend_t *backend;

    if (memory == NULL || find_backend(device, &backend) != GDNCP_OK) {
        return;
    }
    if (backend == NULL) {
        gdncp_memory_free(memory);
    } else {
        free_block(backend, memory);
    }
}

gdncp_status_t gdncp_device_copy(gdncp_device_kind_t device, void *dst, const void *src,
                                 size_t bytes, gdncp_stream_t stream)
{
    const gdncp_backend_t *backend;
    const gdncp_status_t status = find_backend(device, &backend);

    if (status != GDNCP_OK || bytes == 0) {
        return status;
    }
    if (backend != NULL) {
        return backend->copy(dst, src, bytes, stream);
    }
    memcpy(dst, src, bytes);
    return GDNCP_OK;
}

gdncp_status_t gdncp_device_clear(gdncp_device_kind_t device, void *memory, size_t bytes,
                                  gdncp_stream_t stream)
{
    const gdncp_backend_t *backend;
    const gdncp_status_t status = find_backend(device, &backend);

    if (status != GDNCP_OK || bytes == 0) {
        return status;
    }
    if (backend != NULL) {
        return backend->clear(memory, bytes, stream);
    }
    memset(memory, 0, bytes);
    return GDNCP_OK;
}

gdncp_status_t gdncp_stream_create(gdncp_device_kind_t device, gdncp_stream_t *stream_p)
{
    const gdncp_backend_t *backend;
    const gdncp_status_t status = find_backend(device, &backend);

    if (status != GDNCP_OK) {
        return status;
    }
    if (stream_p == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "stream_p: expected an address, got NULL");
    }
    if (backend != NULL) {
        return backend->stream_create(stream_p);
    }
    *stream_p = NULL;
    return GDNCP_OK;
}

void gdncp_stream_destroy(gdncp_device_kind_t device, gdncp_stream_t stream)
{
    const gdncp_backend_t *backend;

    if (stream != NULL && find_backend(device, &backend) == GDNCP_OK && backend != NULL) {
        backend->stream_destroy(stream);
    }
}

gdncp_status_t gdncp_stream_synchronize(gdncp_device_kind_t device, gdncp_stream_t stream)
{
    const gdncp_backend_t *backend;
    const gdncp_status_t status = find_backend(device, &backend);

    return status == GDNCP_OK && backend != NULL ? backend->stream_synchronize(stream) : status;
}
