/**
 * @file
 * Memory and streams of the device that tensors lie on.
 *
 * CUDA tensors are served by a GPU where gdncp was built with the CUDA compiler, or, in builds for
 * tests, by an emulator on the CPU when GDNCP_CUDA=emulated is set. Which one is settled at the
 * first call of a process. Where there is neither, calls on GDNCP_DEVICE_CUDA are
 * GDNCP_ERR_NOT_SUPPORTED and say why.
 *
 * A caller who has CUDA memory and streams already (PyTorch, say) needs none of this: tensors and
 * streams made elsewhere are as good.
 *
 * Errors that a GPU finds later are reported by the next call on it: GDNCP_ERR_DEVICE.
 * All functions are thread-safe. On GDNCP_DEVICE_CPU everything happens at once and streams
 * are NULL.
 */
#ifndef GDNCP_DEVICE_H
#define GDNCP_DEVICE_H

#include <stddef.h>

#include "export.h"
#include "status.h"
#include "tensor.h"

GDNCP_BEGIN_DECLS

/** "cpu", "cuda"; "?" for a value outside the enum. */
GDNCP_API const char *gdncp_device_name(gdncp_device_kind_t device);

/** GDNCP_OK where tensors of that kind can be used in this process, else why not. */
GDNCP_API gdncp_status_t gdncp_device_check(gdncp_device_kind_t device);

/** What serves a kind of device: for CUDA the GPU's name, or "emulated". */
typedef struct gdncp_device_info {
    char name[128];
    int num_multiprocessors; /**< 1 on the CPU */
    int compute_capability;  /**< 90 for 9.0; 0 on the CPU */
    size_t shared_bytes;     /**< of shared memory that one block may have */
    size_t memory_bytes;     /**< of the device, 0 if not known */
} gdncp_device_info_t;

/** About the calling thread's current device. */
GDNCP_API gdncp_status_t gdncp_device_describe(gdncp_device_kind_t device,
                                               gdncp_device_info_t *info);

/** Memory, 256-byte aligned and not initialised; counted as gdncp_memory_track() says. */
GDNCP_API gdncp_status_t gdncp_device_alloc(gdncp_device_kind_t device, size_t bytes,
                                            void **memory_p);

/** Free what gdncp_device_alloc() gave; NULL does nothing. Waits for the device to be idle. */
GDNCP_API void gdncp_device_free(gdncp_device_kind_t device, void *memory);

/**
 * Copy bytes in stream order; each side may be memory of the host or of the device.
 *
 * Host memory that is not pinned makes the call wait until it has been read or written.
 */
GDNCP_API gdncp_status_t gdncp_device_copy(gdncp_device_kind_t device, void *dst, const void *src,
                                           size_t bytes, gdncp_stream_t stream);

/** Zero bytes of the device's memory in stream order. */
GDNCP_API gdncp_status_t gdncp_device_clear(gdncp_device_kind_t device, void *memory, size_t bytes,
                                            gdncp_stream_t stream);

/** A stream that waits for no other. Free with gdncp_stream_destroy(). */
GDNCP_API gdncp_status_t gdncp_stream_create(gdncp_device_kind_t device, gdncp_stream_t *stream_p);

/** Destroy a stream; work queued in it still runs. */
GDNCP_API void gdncp_stream_destroy(gdncp_device_kind_t device, gdncp_stream_t stream);

/** Wait on the host until all work queued in a stream is done, and report what went wrong in it. */
GDNCP_API gdncp_status_t gdncp_stream_synchronize(gdncp_device_kind_t device,
                                                  gdncp_stream_t stream);

GDNCP_END_DECLS

#endif
