/* One call of an operator on the device, with arguments that lie on the host. */
#ifndef GDNCP_TEST_DEVICE_CALL_H
#define GDNCP_TEST_DEVICE_CALL_H

#include <stdbool.h>

#include "device_mirror.h"
#include "gdncp/memory.h"
#include "gdncp/tensor.h"

/*
 * How a wrapper uses it, after all arguments were mirrored:
 *
 *     while (device_call_next(&call)) {
 *         call.status = gdncp_<op>(..., call.workspace);
 *     }
 *     return device_call_end(&call);
 */
typedef struct device_call {
    device_mirror_t mirror;
    gdncp_tensor_t tensors[MAX_MIRRORED]; /* of arguments that are tensors by themselves */
    int num_tensors;
    gdncp_workspace_t *workspace;
    gdncp_workspace_t *owned;      /* the same, where the caller gave none */
    gdncp_memory_usage_t of_owned; /* its memory */
    int num_runs;
    gdncp_status_t status; /* of the last run */
} device_call_t;

/* *call is in place when it begins and is not moved: pointers lead into it. */
void device_call_begin(device_call_t *call, gdncp_workspace_t *workspace);

/* A tensor that is a member of a struct of arguments: *tensor becomes one on the device. */
void device_call_input(device_call_t *call, gdncp_tensor_t *tensor);
void device_call_output(device_call_t *call, gdncp_tensor_t *tensor);

/* A tensor that is an argument itself; NULL stays NULL. */
const gdncp_tensor_t *device_call_input_argument(device_call_t *call, const gdncp_tensor_t *tensor);
const gdncp_tensor_t *device_call_output_argument(device_call_t *call,
                                                  const gdncp_tensor_t *tensor);

/* A list of that many numbers that is read on the host: *copy becomes the one on the device. */
void device_call_list(device_call_t *call, const int64_t *list, int64_t count,
                      const int64_t **copy);

bool device_call_next(device_call_t *call);
gdncp_status_t device_call_end(device_call_t *call);

#endif
