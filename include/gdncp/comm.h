/**
 * @file
 * Communicators: a fixed group of ranks, and the transport between them.
 *
 * A communicator is used by one thread at a time, but for gdncp_comm_abort(). Calls marked
 * "collective" must be made by all ranks in the same order. No call waits longer than the
 * communicator's time-out.
 */
#ifndef GDNCP_COMM_H
#define GDNCP_COMM_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "export.h"
#include "status.h"

GDNCP_BEGIN_DECLS

typedef struct gdncp_comm gdncp_comm_t;

/**
 * How ranks that do not know each other yet exchange their addresses.
 *
 * Wraps what the caller has: torch.distributed, MPI, a file system. Needed only
 * while a communicator is made.
 */
typedef struct gdncp_bootstrap {
    int rank; /**< 0 <= rank < size */
    int size; /**< > 0 */
    /**
     * All-gather: in [bytes] of each rank to out [size, bytes] on all ranks.
     * @return 0 on success; anything else makes gdncp_comm_create() fail.
     */
    int (*all_gather)(void *context, const void *in, void *out, size_t bytes);
    void *context;
} gdncp_bootstrap_t;

typedef enum gdncp_transport_kind {
    GDNCP_TRANSPORT_UCX = 0, /**< processes: shared memory, TCP, InfiniBand */
    GDNCP_TRANSPORT_THREADS, /**< the ranks are threads of this process */
    GDNCP_TRANSPORT_SELF,    /**< one rank */
    GDNCP_TRANSPORT_NCCL     /**< devices' memory over NCCL, all else over one of the others */
} gdncp_transport_kind_t;

typedef struct gdncp_comm_options {
    int64_t timeout_ms; /**< no wait is longer; <= 0: GDNCP_TIMEOUT, else 60,000 */
} gdncp_comm_options_t;

/**
 * What this rank has sent and received since the last reset, counted where it is handed over.
 *
 * Over NCCL that is where a run is queued: launches of a CUDA graph are not counted.
 */
typedef struct gdncp_comm_counters {
    int64_t bytes_sent; /**< user data to other ranks; control messages are not counted */
    int64_t bytes_received;
    int64_t messages_sent;
    int64_t messages_received;
} gdncp_comm_counters_t;

/**
 * Make a communicator over UCX. Collective over the ranks of @p bootstrap.
 *
 * Ranks of one machine share 4 MiB each for their exchanges, unless GDNCP_SHARED_MEMORY is 0 on
 * one of them; see gdncp_comm_describe_lanes(). If UCX has CUDA transports, the device whose
 * buffers are to be exchanged is current. A GDNCP_UCX_CUDA that is neither 0 nor 1 is
 * GDNCP_ERR_INVALID_ARGUMENT, and the other ranks get GDNCP_ERR_PEER_LOST.
 * @param options  NULL: defaults
 * @param comm_p   set on success; free with gdncp_comm_destroy()
 */
GDNCP_API gdncp_status_t gdncp_comm_create(const gdncp_bootstrap_t *bootstrap,
                                           const gdncp_comm_options_t *options,
                                           gdncp_comm_t **comm_p);

/**
 * As gdncp_comm_create(), with ranks, size and addresses from the environment:
 * RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT (torchrun), else OMPI_COMM_WORLD_*,
 * PMI_*, SLURM_*. Ranks meet at GDNCP_PORT on MASTER_ADDR (default: a port derived from
 * MASTER_PORT or the job's id, never MASTER_PORT itself). Without any of them: one rank.
 */
GDNCP_API gdncp_status_t gdncp_comm_create_from_environment(const gdncp_comm_options_t *options,
                                                            gdncp_comm_t **comm_p);

/** Rank and size that the environment gives; 0 and 1 without any. Makes nothing. */
GDNCP_API gdncp_status_t gdncp_environment_rank(int *rank_p, int *size_p);

/** A communicator of one rank. */
GDNCP_API gdncp_status_t gdncp_comm_create_self(gdncp_comm_t **comm_p);

/**
 * Communicators of @p num_ranks ranks that are threads of this process.
 * @param comms  [num_ranks], set on success; one a thread, each freed by gdncp_comm_destroy()
 */
GDNCP_API gdncp_status_t gdncp_comm_create_threads(int num_ranks,
                                                   const gdncp_comm_options_t *options,
                                                   gdncp_comm_t **comms);

/**
 * A bootstrap for processes made by fork().
 *
 * Call gdncp_fork_group_create() before forking; in each child call
 * gdncp_fork_group_join() once with the child's rank, use the bootstrap to make
 * communicators, then gdncp_fork_group_destroy(). The parent destroys its copy
 * after the last fork; the sockets close when the last process is gone.
 */
typedef struct gdncp_fork_group gdncp_fork_group_t;
GDNCP_API gdncp_status_t gdncp_fork_group_create(int size, gdncp_fork_group_t **group_p);
GDNCP_API gdncp_status_t gdncp_fork_group_join(gdncp_fork_group_t *group, int rank,
                                               gdncp_bootstrap_t *bootstrap);
GDNCP_API void gdncp_fork_group_destroy(gdncp_fork_group_t *group);

/** Free a communicator; NULL does nothing. Its exchanges must be destroyed before. Not collective.
 */
GDNCP_API void gdncp_comm_destroy(gdncp_comm_t *comm);

GDNCP_API int gdncp_comm_rank(const gdncp_comm_t *comm);
GDNCP_API int gdncp_comm_size(const gdncp_comm_t *comm);
GDNCP_API gdncp_transport_kind_t gdncp_comm_transport(const gdncp_comm_t *comm);

/** "ucx", "threads", "self", "nccl"; "?" for a value outside the enum. */
GDNCP_API const char *gdncp_transport_name(gdncp_transport_kind_t kind);

/**
 * What carries data to @p peer, in the transport's own words; for UCX the lanes, such as
 * "posix/memory cma/memory". "gdncp/rings" before them: exchanges on the CPU pass by the
 * transport, through memory that both processes have mapped. With NCCL also its version. Written to
 * @p text, cut to @p size bytes with the final NUL.
 */
GDNCP_API gdncp_status_t gdncp_comm_describe_lanes(gdncp_comm_t *comm, int peer, char *text,
                                                   size_t size);

/** Counters since the last gdncp_comm_reset_counters(). */
GDNCP_API void gdncp_comm_counters(const gdncp_comm_t *comm, gdncp_comm_counters_t *counters);
GDNCP_API void gdncp_comm_reset_counters(gdncp_comm_t *comm);

/**
 * Wait for all ranks. Collective.
 *
 * Of this and the two calls below: ranks that make different calls, or give different sizes, all
 * get GDNCP_ERR_MISMATCH and may go on. After a time-out or a lost peer these calls fail at once,
 * as ranks may be out of step.
 */
GDNCP_API gdncp_status_t gdncp_comm_barrier(gdncp_comm_t *comm);

/**
 * All-gather of small control data: in [bytes] to out [size, bytes]. Collective.
 * For set-up, errors and results; not counted, and slow next to a plan.
 */
GDNCP_API gdncp_status_t gdncp_comm_all_gather(gdncp_comm_t *comm, const void *in, void *out,
                                               size_t bytes);

/**
 * Let all ranks know how a step went on each of them. Collective.
 *
 * Pass the status of a local step (with its sentence in gdncp_last_error()). If every rank
 * passed GDNCP_OK the result is GDNCP_OK everywhere. Else every rank gets an error: one that
 * failed its own status and sentence, the others the status of the lowest failed rank, with
 * that rank and its sentence in gdncp_last_error().
 */
GDNCP_API gdncp_status_t gdncp_comm_agree(gdncp_comm_t *comm, gdncp_status_t status);

/**
 * Stop: every wait of all ranks ends with GDNCP_ERR_PEER_LOST, and the last error names this rank
 * and what had failed here before. Ranks that are not waiting find out at their next call. The
 * communicator can then only be shrunk or destroyed. From any thread.
 */
GDNCP_API void gdncp_comm_abort(gdncp_comm_t *comm);

/**
 * Make a communicator of the ranks that are left. Collective over these; once a communicator.
 *
 * For use after GDNCP_ERR_PEER_LOST or GDNCP_ERR_TIMEOUT; a communicator on which a wait has
 * failed is aborted by it, so that no survivor waits on. The ranks agree on who is left, also if
 * another one dies meanwhile: not those that died, destroyed their communicator, or do not come
 * within the time-out. A rank that comes too late gets GDNCP_ERR_PEER_LOST. Survivors keep their
 * order: their ranks are numbered anew from 0. A rank that dies after the agreement is found by
 * the next operation of the new communicator, on all of its ranks alike; shrink that one then.
 *
 * @param comm         still to be destroyed, before or after @p survivors_p, as its exchanges are
 * @param survivors_p  set on success: of the same transport and time-out; free with
 *                     gdncp_comm_destroy()
 *
 * @return GDNCP_OK, GDNCP_ERR_INVALID_ARGUMENT, GDNCP_ERR_OUT_OF_MEMORY, GDNCP_ERR_TRANSPORT,
 * GDNCP_ERR_PEER_LOST where this rank was left out, GDNCP_ERR_TIMEOUT. Where it fails on one rank,
 * the others go on without it.
 */
GDNCP_API gdncp_status_t gdncp_comm_shrink(gdncp_comm_t *comm, gdncp_comm_t **survivors_p);

/**
 * Make communicators of parts of the ranks. Collective; fails on all ranks or on none.
 *
 * Ranks of one color get a communicator of the same transport and time-out, in which they are
 * numbered by their key, and by their rank where keys are equal. It is independent of @p comm:
 * each may be used by a thread of its own, and destroyed in any order.
 *
 * @param color  < 0: this rank gets none
 * @param sub_p  set on success, to NULL where color < 0; free with gdncp_comm_destroy()
 */
GDNCP_API gdncp_status_t gdncp_comm_split(gdncp_comm_t *comm, int color, int64_t key,
                                          gdncp_comm_t **sub_p);

/**
 * Write the last 256 operations of a communicator as one JSON object.
 *
 * With rank, size, transport, the time now and the first failure of a wait ("" without one) it has
 * "operations", oldest first: sequence (their number since the communicator was made), name, text
 * (of a plan: its shapes), bytes_sent and bytes_received, begin_ns and end_ns on the monotonic
 * clock, status; the last two are null for what is under way. On a CUDA device an operation ends
 * when it is queued.
 *
 * Where GDNCP_FLIGHT_RECORD is set this is also written to "<value>.<rank>.json", for others than
 * the first communicator of a process "<value>.<rank>.<number>.json": whenever an operation fails,
 * and at the next poll after SIGUSR1. The handler for that signal is installed with the first such
 * communicator; it sets a flag and calls the handler that was there before.
 *
 * @return GDNCP_OK, GDNCP_ERR_INVALID_ARGUMENT, GDNCP_ERR_IO.
 */
GDNCP_API gdncp_status_t gdncp_comm_write_flight_record(const gdncp_comm_t *comm, FILE *stream);

GDNCP_END_DECLS

#endif
