/*
 * NCCL beside a communicator of gdncp: messages between buffers of CUDA devices, in stream order.
 *
 * NCCL's communicator is non-blocking: no call waits for another rank for longer than the time-out.
 * A thread of ours watches. It sees NCCL's errors, the end of processes on this machine, and a
 * stream that is at a group for longer than the time-out; then it aborts NCCL's communicator, so
 * that the stream goes on, and all later groups fail with the first sentence.
 *
 * Used by one thread at a time, but for gdncp_nccl_abort() and gdncp_nccl_check().
 */
#ifndef GDNCP_NCCL_COMM_H
#define GDNCP_NCCL_COMM_H

#include <stddef.h>
#include <stdint.h>

#include "gdncp/status.h"
#include "gdncp/tensor.h"
#include "nccl_api.h"
#include "stream_group.h"
#include "ucx_liveness.h"

typedef struct gdncp_nccl gdncp_nccl_t;

/* Messages that are queued together, again and again. */
typedef struct gdncp_nccl_group gdncp_nccl_group_t;

typedef struct gdncp_nccl_options {
    const gdncp_nccl_api_t *api;
    int rank;
    int size;
    int64_t timeout_ms;
} gdncp_nccl_options_t;

/* What is needed on this rank, without a word to others. */
gdncp_status_t gdncp_nccl_create(const gdncp_nccl_options_t *options, gdncp_nccl_t **nccl_p);

/* An id for ranks to meet by, made by one of them. */
gdncp_status_t gdncp_nccl_make_id(gdncp_nccl_t *nccl, gdncp_nccl_id_t *id);

/* Then one of these two. Make NCCL's communicator on the thread's current device; collective. Or
 * take the caller's, which stays its own and must have the rank and size of the options. */
gdncp_status_t gdncp_nccl_join(gdncp_nccl_t *nccl, const gdncp_nccl_id_t *id);
gdncp_status_t gdncp_nccl_adopt(gdncp_nccl_t *nccl, gdncp_nccl_comm_t comm);

/* Then begin to watch it, and these [size] processes. */
gdncp_status_t gdncp_nccl_watch(gdncp_nccl_t *nccl, const gdncp_process_t *processes);

/* At any of these points; NULL does nothing. All that was queued must be done. */
void gdncp_nccl_destroy(gdncp_nccl_t *nccl);

/* "nccl 2.28.9 for devices, ", cut to size bytes with the final NUL. Returns the length. */
size_t gdncp_nccl_describe(const gdncp_nccl_t *nccl, char *text, size_t size);

/* From any thread: stop what is under way, and fail all that follows. */
void gdncp_nccl_abort(gdncp_nccl_t *nccl);

/* From any thread: GDNCP_OK, or the first thing that went wrong. */
gdncp_status_t gdncp_nccl_check(gdncp_nccl_t *nccl);

/* Let NCCL connect to those to whom or from whom these messages will go, so that no run does.
 * Collective: whoever is at the other end of one does the same. Buffers are not looked at. */
gdncp_status_t gdncp_nccl_connect(gdncp_nccl_t *nccl, const gdncp_stream_message_t *messages,
                                  int64_t num_messages);

/* The same for an all-gather of bytes > 0 a rank, which these messages would make. NCCL may take
 * another way for other lengths, so that this is made as long as it will be, up to 1 MiB a rank. */
gdncp_status_t gdncp_nccl_connect_all_gather(gdncp_nccl_t *nccl,
                                             const gdncp_stream_message_t *messages,
                                             int64_t num_messages, size_t bytes);

/* Messages must live as long as the group; their buffers may change from run to run. */
gdncp_status_t gdncp_nccl_group_create(gdncp_nccl_t *nccl, const gdncp_stream_message_t *messages,
                                       int64_t num_messages, gdncp_nccl_group_t **group_p);
void gdncp_nccl_group_destroy(gdncp_nccl_group_t *group);

/* Queue all messages; the stream goes on when they are there and sent. Waits for no other rank, and
 * allocates nothing. */
gdncp_status_t gdncp_nccl_group_run(gdncp_nccl_group_t *group, gdncp_stream_t stream);

/* The same where the messages take in [bytes] of every rank to out [size, bytes] on every rank. */
gdncp_status_t gdncp_nccl_group_all_gather(gdncp_nccl_group_t *group, const void *in, void *out,
                                           size_t bytes, gdncp_stream_t stream);

#endif
