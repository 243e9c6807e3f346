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

/* Another one, of the same device and stream, that goes with this one: for calls inside a call that
 * has scratch of its own meanwhile. That of NULL is NULL. */
gdncp_status_t gdncp_workspace_inner(gdncp_workspace_t *workspace, gdncp_workspace_t **inner_p);

#ifdef __cplusplus
}
#endif

#endif
