/**
 * @file
 * Communicators whose device buffers are moved by NCCL.
 *
 * NCCL moves what exchanges on GDNCP_DEVICE_CUDA move, from device to device and in stream order.
 * Everything else (control calls, exchanges of the host's memory) goes over the transport below, so
 * that errors of one rank reach all of them also where NCCL does not run.
 *
 * NCCL is no part of gdncp and not needed to build it. Its library, 2.28 or newer, is opened by the
 * first of these calls: libnccl.so.2, or what GDNCP_NCCL_LIBRARY names. Without one, or with an
 * older one, they are GDNCP_ERR_NOT_SUPPORTED and say what was found.
 *
 * No stream waits longer for a group of messages than the communicator's time-out: a thread of the
 * communicator then aborts NCCL's communicator, as it does where NCCL reports an error or the
 * process of another rank on this machine ends. The stream goes on with outputs that mean nothing,
 * gdncp_exchange_check() tells, and the communicator can only be destroyed. CUDA graphs that were
 * captured over it may not be launched any more.
 *
 * gdncp_comm_destroy() gives the other ranks a second to end NCCL's communicator together.
 */
#ifndef GDNCP_NCCL_H
#define GDNCP_NCCL_H

#include "comm.h"
#include "export.h"
#include "status.h"

GDNCP_BEGIN_DECLS

/**
 * Make a communicator over UCX, and one of NCCL beside it. Collective over the ranks of @p
 * bootstrap.
 *
 * @param options  NULL: defaults
 * @param comm_p   set on success; free with gdncp_comm_destroy()
 *
 * The calling thread's current CUDA device is the rank's, and no other rank's.
 *
 * @return GDNCP_OK; those of gdncp_comm_create(); GDNCP_ERR_NOT_SUPPORTED without NCCL or a device;
 * GDNCP_ERR_TRANSPORT, GDNCP_ERR_DEVICE or GDNCP_ERR_PEER_LOST as NCCL reports it. An error of one
 * rank is an error on all.
 */
GDNCP_API gdncp_status_t gdncp_comm_create_nccl(const gdncp_bootstrap_t *bootstrap,
                                                const gdncp_comm_options_t *options,
                                                gdncp_comm_t **comm_p);

/**
 * The same with an ncclComm_t that the caller has, of the ranks and the size of @p bootstrap.
 *
 * It stays the caller's: gdncp does not destroy it, and it must live until gdncp_comm_destroy(). It
 * should be non-blocking (ncclConfig_t.blocking = 0): in a blocking one NCCL's calls wait as long
 * as NCCL waits. While exchanges are queued the caller queues nothing in it that other ranks queue
 * in another order. After an error gdncp stops it by ncclCommRevoke() where the library has that;
 * else a stream that waits goes on when the caller aborts it.
 *
 * @param nccl_comm  an ncclComm_t; its rank and size are asked for, and must be those of
 *                   @p bootstrap, which is needed for control calls and host buffers
 */
GDNCP_API gdncp_status_t gdncp_comm_adopt_nccl(void *nccl_comm, const gdncp_bootstrap_t *bootstrap,
                                               const gdncp_comm_options_t *options,
                                               gdncp_comm_t **comm_p);

/**
 * Let a communicator that there is already move device buffers by NCCL. Collective.
 *
 * For communicators that were made from the environment, or whose ranks are threads. It must have
 * no exchanges on GDNCP_DEVICE_CUDA. After an error it is what it was.
 */
GDNCP_API gdncp_status_t gdncp_comm_use_nccl(gdncp_comm_t *comm);

GDNCP_END_DECLS

#endif
