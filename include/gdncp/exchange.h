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
 * gdncp_exchange_create() for buffers in the memory of a device, which ranks need not have alike.
 *
 * On GDNCP_DEVICE_CUDA a run is queued in a stream. Blocks that stay on a rank are copied on the
 * device; what goes to others goes over NCCL where the communicator has it (nccl.h), and all ranks
 * then have their buffers on devices. Else a thread of the communicator sends and receives it while
 * the stream waits: from and into memory of the device where UCX has CUDA transports and
 * GDNCP_UCX_CUDA is not 0, which then takes as much more memory as messages are whole in the
 * caller's buffers; otherwise through pinned memory. A line in the log says which and why. So all
 * exchanges of one communicator on a device are started in one stream, or in streams that events
 * order, in the same order on all ranks; and while runs are queued nothing else is asked of the
 * communicator: synchronise the stream first.
 *
 * A run can be captured in a CUDA graph, which is then launched alike on all ranks, as long as the
 * exchange lives.
 */
GDNCP_API gdncp_status_t gdncp_exchange_create_on(gdncp_comm_t *comm, const gdncp_plan_t *plan,
                                                  gdncp_device_kind_t device,
                                                  gdncp_exchange_t **exchange_p);

/**
 * gdncp_exchange_create_on() for runs whose output may be the input, of any plan.
 *
 * Each run first copies the input to memory of the exchange, which is one pass over it more than
 * the other exchanges make. Ranks need not choose alike. A rank that lacks the memory gets
 * GDNCP_ERR_OUT_OF_MEMORY, and the others an error that says so.
 */
GDNCP_API gdncp_status_t gdncp_exchange_create_in_place(gdncp_comm_t *comm,
                                                        const gdncp_plan_t *plan,
                                                        gdncp_device_kind_t device,
                                                        gdncp_exchange_t **exchange_p);

/**
 * Start one run. Collective, in the same order on all ranks.
 *
 * Between processes that share memory, messages and local copies move while it is waited for this
 * or anything else of the communicator, from @p in to @p out by way of that memory. Of other
 * messages those that lie whole in the caller's buffers are sent and received where they lie; the
 * rest are packed in one pass. Nothing is allocated. On a CUDA device
 * the whole run is queued and the call returns at once.
 *
 * @param in      [gdncp_plan_input_elements()]; unchanged, and to be left alone until the wait
 *                (on a CUDA device: by all but what is queued in the stream after it)
 * @param out     [gdncp_plan_output_elements()]; valid after the wait. May not overlap @p in, but
 *                may be @p in if the exchange was made in place; that buffer then holds the
 *                larger of both numbers of elements.
 * @param stream  NULL on a CPU
 *
 * Several exchanges may be in flight on one communicator; one exchange only once at a time.
 *
 * On a CUDA device the communicator is the stream's while such work is queued: wait by
 * gdncp_stream_synchronize() before any other call on it but starts and waits of exchanges.
 */
GDNCP_API gdncp_status_t gdncp_exchange_start(gdncp_exchange_t *exchange, const void *in, void *out,
                                              gdncp_stream_t stream);

/** Make progress, and say whether gdncp_exchange_wait() would return at once. */
GDNCP_API gdncp_status_t gdncp_exchange_test(gdncp_exchange_t *exchange, bool *done_p);

/**
 * Wait until @p out is complete, no longer than the communicator's time-out. After an error the
 * buffers may still be written to until the exchange is destroyed.
 *
 * On a CUDA device it waits for nothing: what is queued in the stream after the start finds
 * @p out complete.
 */
GDNCP_API gdncp_status_t gdncp_exchange_wait(gdncp_exchange_t *exchange);

/** gdncp_exchange_start() and gdncp_exchange_wait(). */
GDNCP_API gdncp_status_t gdncp_exchange_run(gdncp_exchange_t *exchange, const void *in, void *out,
                                            gdncp_stream_t stream);

/**
 * GDNCP_OK, or what has gone wrong in earlier runs, after which there is no other.
 *
 * On a CUDA device a lost peer or a time-out is found while the stream runs. The stream goes on
 * with outputs that mean nothing, and this call, or the next one on the exchange, tells. It knows
 * all about runs that the caller has waited for by gdncp_stream_synchronize().
 */
GDNCP_API gdncp_status_t gdncp_exchange_check(const gdncp_exchange_t *exchange);

/**
 * Free an exchange that is not in flight; NULL does nothing. Not collective. On a CUDA device its
 * runs must be done: synchronise the stream first.
 */
GDNCP_API void gdncp_exchange_destroy(gdncp_exchange_t *exchange);

GDNCP_END_DECLS

#endif
