/* A plan's blocks as a device wants them: lists of tiles in its memory, made once. */
#ifndef GDNCP_PLAN_IMAGE_H
#define GDNCP_PLAN_IMAGE_H

#include <stddef.h>

#include "plan_internal.h"
#include "plan_kernels.h"

/* Where the message of each peer lies in the staging buffer, in bytes and 64-byte aligned;
 * negative: nowhere, there is none or it is left in the user's buffer. */
typedef struct gdncp_plan_places {
    const int64_t *sends; /* [num_ranks] */
    const int64_t *recvs; /* [num_ranks] */
} gdncp_plan_places_t;

typedef struct gdncp_plan_image gdncp_plan_image_t;

/* The plan must outlive the image. Waits until all is in the device's memory. */
gdncp_status_t gdncp_plan_image_create(const gdncp_plan_t *plan, const gdncp_plan_places_t *places,
                                       const gdncp_plan_kernels_t *kernels,
                                       gdncp_plan_image_t **image_p);
void gdncp_plan_image_destroy(gdncp_plan_image_t *image);

/* The parts of a run, queued in a stream; staging, in and out are memory of the device. Each is one
 * kernel at most, the last one two. Local copies come after the clearing of rows that need it,
 * which is one more. */
gdncp_status_t gdncp_plan_image_pack(const gdncp_plan_image_t *image, const void *in, void *staging,
                                     gdncp_stream_t stream);
gdncp_status_t gdncp_plan_image_copy_local(const gdncp_plan_image_t *image, const void *in,
                                           void *out, gdncp_stream_t stream);
gdncp_status_t gdncp_plan_image_deliver(const gdncp_plan_image_t *image, const void *in,
                                        const void *staging, void *out, gdncp_stream_t stream);

#endif
