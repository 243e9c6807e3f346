/* What serves CUDA tensors: a table of calls with two implementations, a GPU and the emulator. */
#ifndef GDNCP_BACKEND_H
#define GDNCP_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gdncp/device.h"
#include "gdncp/status.h"
#include "gdncp/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef void *gdncp_event_t;

/* All slots are mandatory. Each failure is recorded with gdncp_fail(), as GDNCP_ERR_DEVICE,
 * GDNCP_ERR_OUT_OF_MEMORY, or GDNCP_ERR_NOT_SUPPORTED where there is no driver. */
typedef struct gdncp_backend {
    /* Whether there is a device: called before anything else, any number of times. */
    gdncp_status_t (*check)(void);
    /* Other libraries are to take what alloc() gives, while it is lent, as memory of the host. */
    bool is_host_memory;
    gdncp_status_t (*info)(gdncp_device_info_t *info);
    /* The device that this thread's calls are for. */
    gdncp_status_t (*current)(int *device_p);

    gdncp_status_t (*alloc)(size_t bytes, void **memory_p);
    void (*free)(void *memory);

    /* Host memory that the device reads and writes in stream order. */
    gdncp_status_t (*alloc_pinned)(size_t bytes, void **memory_p);
    void (*free_pinned)(void *memory);

    /* In stream order, any direction. Pageable host memory: the call waits. */
    gdncp_status_t (*copy)(void *dst, const void *src, size_t bytes, gdncp_stream_t stream);
    gdncp_status_t (*clear)(void *memory, size_t bytes, gdncp_stream_t stream);

    /* Call function(context) on some host thread in stream order. It may use no call of a backend.
     */
    gdncp_status_t (*call_host)(gdncp_stream_t stream, void (*function)(void *context),
                                void *context);

    /* The stream goes on once *flag, in pinned memory, is not 0. Whoever sets it stores with
     * release order: what is queued later sees what came before. */
    gdncp_status_t (*wait_flag)(gdncp_stream_t stream, const uint32_t *flag);

    /* Store value to *flag, in pinned memory, in stream order. */
    gdncp_status_t (*write_flag)(gdncp_stream_t stream, uint32_t *flag, uint32_t value);

    /* Lend memory of a device to another library, which this thread calls until take_back(). What
     * the library has written until then is seen by what streams do afterwards. Loans may overlap;
     * both calls are made by threads that no stream calls, and may be by different ones. */
    gdncp_status_t (*lend)(int device);
    gdncp_status_t (*take_back)(int device);

    gdncp_status_t (*stream_create)(gdncp_stream_t *stream_p);
    void (*stream_destroy)(gdncp_stream_t stream);
    gdncp_status_t (*stream_synchronize)(gdncp_stream_t stream);

    gdncp_status_t (*event_create)(gdncp_event_t *event_p);
    void (*event_destroy)(gdncp_event_t event);
    gdncp_status_t (*event_record)(gdncp_event_t event, gdncp_stream_t stream);
    /* Work queued in the stream from now on waits for the event's last record. */
    gdncp_status_t (*stream_wait_event)(gdncp_stream_t stream, gdncp_event_t event);
    /* Milliseconds between two records that are done. */
    gdncp_status_t (*event_elapsed)(gdncp_event_t begin, gdncp_event_t end, float *ms_p);

    /* Record what is queued in a stream from begin to end instead of running it, and run that. */
    gdncp_status_t (*capture_begin)(gdncp_stream_t stream);
    gdncp_status_t (*capture_end)(gdncp_stream_t stream, void **graph_p);
    gdncp_status_t (*graph_launch)(void *graph, gdncp_stream_t stream);
    void (*graph_destroy)(void *graph);
} gdncp_backend_t;

/* The backend of CUDA tensors in this process; GDNCP_ERR_NOT_SUPPORTED where there is none. */
gdncp_status_t gdncp_backend_find(const gdncp_backend_t **backend_p);

extern const gdncp_backend_t gdncp_backend_cuda;     /* in builds with GDNCP_CUDA */
extern const gdncp_backend_t gdncp_backend_emulated; /* in builds with GDNCP_EMULATOR */

#ifdef __cplusplus
}
#endif

#endif
