/* b and a side by side in one float32 buffer, in which they travel together. */
#ifndef GDNCP_JOINED_GATES_H
#define GDNCP_JOINED_GATES_H

#include "gdncp/memory.h"
#include "gdncp/status.h"
#include "gdncp/tensor.h"

/* both [tokens, 2 Hv] = b beside a, each [tokens, Hv] of any dtype. Runs where the workspace is. */
gdncp_status_t gdncp_gates_join(const gdncp_tensor_t *b, const gdncp_tensor_t *a, float *both,
                                gdncp_workspace_t *workspace);

/* The way back. */
gdncp_status_t gdncp_gates_part(const float *both, const gdncp_tensor_t *b, const gdncp_tensor_t *a,
                                gdncp_workspace_t *workspace);

#endif
