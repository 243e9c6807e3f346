/* The part of an exchange that goes through memory which ranks of one machine share. */
#ifndef GDNCP_EXCHANGE_SHARED_H
#define GDNCP_EXCHANGE_SHARED_H

#include <stdbool.h>

#include "gdncp/comm.h"
#include "plan_internal.h"

typedef struct gdncp_shared_exchange gdncp_shared_exchange_t;

/* *exchange_p is NULL where the plan has no message with a rank that shares memory. NULL may be
 * given to all functions below but start, test and kept. */
gdncp_status_t gdncp_shared_exchange_create(gdncp_comm_t *comm, const gdncp_plan_t *plan,
                                            gdncp_shared_exchange_t **exchange_p);

/* May be called while messages are under way: the buffers are touched no more. */
void gdncp_shared_exchange_destroy(gdncp_shared_exchange_t *exchange);

/* Whether messages with a rank are this exchange's. */
bool gdncp_shared_exchange_moves(const gdncp_shared_exchange_t *exchange, int peer);

/* Start the messages, and the plan's local copies. */
void gdncp_shared_exchange_start(gdncp_shared_exchange_t *exchange, const void *in, void *out);

/* Whether all is moved, as far as it can be without adding. After an error no buffer is touched
 * any more. */
gdncp_status_t gdncp_shared_exchange_test(gdncp_shared_exchange_t *exchange, bool *done_p);

/* Let go of the buffers in the middle of a run. */
void gdncp_shared_exchange_abandon(gdncp_shared_exchange_t *exchange);

bool gdncp_shared_exchange_waits_for(const gdncp_shared_exchange_t *exchange, int peer);

/* What a rank's message has for sums, as gdncp_plan_add_sums() wants it; NULL: nothing. */
const void *gdncp_shared_exchange_kept(const gdncp_shared_exchange_t *exchange, int peer);

#endif
