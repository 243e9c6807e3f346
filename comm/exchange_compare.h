/* Whether all ranks are about to bind the same plan. */
#ifndef GDNCP_EXCHANGE_COMPARE_H
#define GDNCP_EXCHANGE_COMPARE_H

#include "gdncp/exchange.h"

/* Compare what the ranks hand to gdncp_exchange_create_on(). Collective: an error of one rank is an
 * error on all. */
gdncp_status_t gdncp_exchange_compare(gdncp_comm_t *comm, const gdncp_plan_t *plan,
                                      gdncp_device_kind_t device, gdncp_exchange_t **exchange_p);

#endif
