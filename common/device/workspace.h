/* What operators ask of a workspace. */
#ifndef GDNCP_WORKSPACE_H
#define GDNCP_WORKSPACE_H

#include "gdncp/memory.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where it is; NULL is on the CPU. */
gdncp_device_kind_t gdncp_workspace_device(const gdncp_workspace_t *workspace);

/* The stream in which calls that use it run. */
gdncp_stream_t gdncp_workspace_stream(const gdncp_workspace_t *workspace);

#ifdef __cplusplus
}
#endif

#endif
