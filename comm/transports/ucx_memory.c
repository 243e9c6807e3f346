/* Which memory UCX moves: the host's, and that of CUDA devices where it was built for it and finds
 * a driver. */
#include "backend.h"
#include "environment.h"
#include "error.h"
#include "ucx_internal.h"

gdncp_status_t gdncp_ucx_read_settings(gdncp_ucx_t *ucx)
{
    int64_t wanted = 0;
    const gdncp_status_t status =
        gdncp_environment_integer(GDNCP_VARIABLE_UCX_CUDA, 0, 1, 1, &wanted);

    ucx->may_use_devices = wanted == 1;
    return status;
}

ucs_status_t gdncp_ucx_ask_memory_types(gdncp_ucx_t *ucx)
{
    ucp_context_attr_t attributes = {.field_mask = UCP_ATTR_FIELD_MEMORY_TYPES};
    const ucs_status_t status = ucp_context_query(ucx->context, &attributes);

    if (status == UCS_OK) {
        ucx->memory_types = attributes.memory_types;
    }
    return status;
}

ucs_memory_type_t gdncp_ucx_memory_type(gdncp_device_kind_t memory)
{
    const gdncp_backend_t *backend;

    return memory == GDNCP_DEVICE_CUDA && gdncp_backend_find(&backend) == GDNCP_OK &&
                   !backend->is_host_memory
               ? UCS_MEMORY_TYPE_CUDA
               : UCS_MEMORY_TYPE_HOST;
}

gdncp_status_t gdncp_ucx_check_device_memory(const gdncp_transport_t *transport)
{
    const gdncp_ucx_t *const ucx = (const gdncp_ucx_t *)transport;

    if (!ucx->may_use_devices) {
        return gdncp_fail(GDNCP_ERR_NOT_SUPPORTED, "GDNCP_UCX_CUDA is 0");
    }
    if ((ucx->memory_types & UCS_BIT(gdncp_ucx_memory_type(GDNCP_DEVICE_CUDA))) == 0) {
        return gdncp_fail(GDNCP_ERR_NOT_SUPPORTED,
                          "UCX %s has no CUDA transports, or found no driver for them",
                          ucp_get_version_string());
    }
    return GDNCP_OK;
}
