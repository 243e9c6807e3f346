/* One run of a layer on the device, with arguments that lie on the host. */
#ifndef GDNCP_TEST_LAYER_DEVICE_CALL_H
#define GDNCP_TEST_LAYER_DEVICE_CALL_H

#include <stdbool.h>
#include <stdint.h>

#include "device_mirror.h"
#include "gdncp/memory.h"
#include "gdncp/tensor.h"

/* A rule, core or layer that was made here. */
typedef struct layer_place {
    struct layer_place *next;
    void *object;
    gdncp_stream_t stream;
    int num_runs[2]; /* forward, backward */
} layer_place_t;

/* The calling thread's next object is made with the stream of a new place, */
layer_place_t *layer_place_open(void);
/* and kept there, or NULL where it could not be made. */
void layer_place_keep(layer_place_t *place, void *object);
/* To be called when the object is gone. */
void layer_place_close(const void *object);

/*
 * How a wrapper uses it, after all tensors were mirrored:
 *
 *     while (layer_call_next(&call)) {
 *         call.status = gdncp_<run>(...);
 *     }
 *     return layer_call_end(&call);
 */
typedef struct layer_call {
    device_mirror_t mirror;
    layer_place_t *place;
    int direction; /* 0 forward, 1 backward */
    int num_runs;
    gdncp_status_t status; /* of the last run */
} layer_call_t;

/* *call is in place when it begins and is not moved: pointers lead into its caller's copies. */
void layer_call_begin(layer_call_t *call, const void *object, int direction);

/* `count` tensors in a row, absent ones too, become tensors on the device. */
void layer_call_inputs(layer_call_t *call, gdncp_tensor_t *tensors, int count);
void layer_call_outputs(layer_call_t *call, gdncp_tensor_t *tensors, int count);

bool layer_call_next(layer_call_t *call);
gdncp_status_t layer_call_end(layer_call_t *call);

#endif
