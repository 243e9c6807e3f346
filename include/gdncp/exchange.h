/**
 * @file
 * Exchanges: a plan bound to a communicator, run any number of times.
 */
#ifndef GDNCP_EXCHANGE_H
#define GDNCP_EXCHANGE_H

#include <stdbool.h>

#include "comm.h"
#include "export.h"
#include "plan.h"
#include "status.h"
#include "tensor.h"

GDNCP_BEGIN_DECLS

typedef struct gdncp_exchange gdncp_exchange_t;

/**
 * Bind a plan to a communicator and allocate its staging. Collective.
 *
 * The ranks compare the fingerprints of their plans: a difference is
 * GDNCP_ERR_MISMATCH on every rank and says who has which plan. An error of one
 * rank is an error on all.
 *
 * @param plan  made for this rank and size; must outlive the exchange. A rank whose plan could
 *              not be made may pass NULL, so that all ranks get an error and none waits.
 */
GDNCP_API gdncp_status_t gdncp_exchange_create(gdncp_comm_t *comm, const gdncp_plan_t *plan,
                                               gdncp_exchange_t **exchange_p);

/**
 * Start one run. Collective, in the same order on all ranks.
 *
 * Messages that lie whole in the caller's buffers are sent and received where
 * they lie; others are packed in one pass. Nothing is allocated.
 *
 * @param in      [gdncp_plan_input_elements()]; unchanged, and to be left alone until the wait
 * @param out     [gdncp_plan_output_elements()]; valid after the wait. May not overlap @p in.
 * @param stream  NULL on a CPU
 *
 * Several exchanges may be in flight on one communicator; one exchange only once at a time.
 */
GDNCP_API gdncp_status_t gdncp_exchange_start(gdncp_exchange_t *exchange, const void *in, void *out,
                                              gdncp_stream_t stream);

/** Make progress, and say whether gdncp_exchange_wait() would return at once. */
GDNCP_API gdncp_status_t gdncp_exchange_test(gdncp_exchange_t *exchange, bool *done_p);

/** Wait until @p out is complete, no longer than the communicator's time-out. */
GDNCP_API gdncp_status_t gdncp_exchange_wait(gdncp_exchange_t *exchange);

/** gdncp_exchange_start() and gdncp_exchange_wait(). */
GDNCP_API gdncp_status_t gdncp_exchange_run(gdncp_exchange_t *exchange, const void *in, void *out,
                                            gdncp_stream_t stream);

/** Free an exchange that is not in flight; NULL does nothing. Not collective. */
GDNCP_API void gdncp_exchange_destroy(gdncp_exchange_t *exchange);

GDNCP_END_DECLS

#endif
