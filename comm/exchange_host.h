/* Exchanges between processors' own memory. */
#ifndef GDNCP_EXCHANGE_HOST_H
#define GDNCP_EXCHANGE_HOST_H

#include "gdncp/comm.h"
#include "gdncp/plan.h"
#include "gdncp/status.h"

typedef struct gdncp_host_exchange gdncp_host_exchange_t;

/* Local call. Contracts as of gdncp_exchange_create_on(). */
gdncp_status_t gdncp_host_exchange_create(gdncp_comm_t *comm, const gdncp_plan_t *plan,
                                          gdncp_host_exchange_t **host_p);

/* NULL does nothing. */
void gdncp_host_exchange_destroy(gdncp_host_exchange_t *host);

/* Begin a run. in and out stay as they are until it has ended. After an error there is no other. */
gdncp_status_t gdncp_host_exchange_start(gdncp_host_exchange_t *host, const void *in, void *out);

/* Make progress with the run. An error ends it, as *done_p does. */
gdncp_status_t gdncp_host_exchange_test(gdncp_host_exchange_t *host, bool *done_p);

/* Wait for the run's end. */
gdncp_status_t gdncp_host_exchange_wait(gdncp_host_exchange_t *host);

#endif
