/* Exchanges between buffers of a CUDA device: all of a run is queued in a stream. */
#ifndef GDNCP_EXCHANGE_DEVICE_H
#define GDNCP_EXCHANGE_DEVICE_H

#include "gdncp/comm.h"
#include "gdncp/plan.h"
#include "gdncp/status.h"
#include "gdncp/tensor.h"

typedef struct gdncp_device_exchange gdncp_device_exchange_t;

/* Local call. Contracts as of gdncp_exchange_create_on(). */
gdncp_status_t gdncp_device_exchange_create(gdncp_comm_t *comm, const gdncp_plan_t *plan,
                                            gdncp_device_exchange_t **exchange_p);

/* All its runs must be done. NULL does nothing. */
void gdncp_device_exchange_destroy(gdncp_device_exchange_t *exchange);

/* Let the communicator prepare for the messages: see gdncp_stream_group_connect(). Collective. */
gdncp_status_t gdncp_device_exchange_connect(gdncp_comm_t *comm,
                                             const gdncp_device_exchange_t *exchange);

/* Queue one run. Neither waits nor allocates. */
gdncp_status_t gdncp_device_exchange_run(gdncp_device_exchange_t *exchange, const void *in,
                                         void *out, gdncp_stream_t stream);

/* GDNCP_OK, or what went wrong in the runs that are done. */
gdncp_status_t gdncp_device_exchange_check(const gdncp_device_exchange_t *exchange);

#endif
