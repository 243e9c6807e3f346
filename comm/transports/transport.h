/*
 * What every transport must be able to do.
 *
 * A transport moves messages between the ranks of one communicator. Messages
 * between two ranks match in the order in which their groups were ended, and
 * within a group in the order of the calls: the n-th send from a to b is
 * received by the n-th receive on b from a. A message must have the length that
 * its receiver expects; anything else is GDNCP_ERR_MISMATCH on the receiver.
 *
 * Every slot is mandatory. A backend file exports one constructor.
 */
#ifndef GDNCP_TRANSPORT_H
#define GDNCP_TRANSPORT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gdncp/comm.h"
#include "gdncp/status.h"
#include "gdncp/tensor.h"

enum { GDNCP_TRANSPORT_CAUSE_BYTES = 240 };

typedef struct gdncp_transport gdncp_transport_t;

/* A set of messages that is posted together; made once, run many times. */
typedef struct gdncp_group gdncp_group_t;

typedef struct gdncp_transport_ops {
    gdncp_transport_kind_t kind;

    /* Whether groups may be made whose messages lie in memory of a CUDA device; else
     * GDNCP_ERR_NOT_SUPPORTED, and the sentence says why. The other end of a message may lie in
     * either memory. */
    gdncp_status_t (*check_device_memory)(const gdncp_transport_t *transport);
    /* Allocate room for max_messages sends and receives, all of them in that memory. The only slot
     * but the constructor that allocates. */
    gdncp_status_t (*group_create)(gdncp_transport_t *transport, gdncp_device_kind_t memory,
                                   int64_t max_messages, gdncp_group_t **group_p);
    /* Empty the group. It must not be in flight. */
    gdncp_status_t (*group_begin)(gdncp_group_t *group);
    /* Add a message. bytes > 0. peer may be the rank itself, unless the memory is a device's.
     * Buffers stay the caller's and must live until the group is done. Nothing moves before
     * group_end. */
    gdncp_status_t (*send)(gdncp_group_t *group, const void *buffer, size_t bytes, int peer);
    gdncp_status_t (*recv)(gdncp_group_t *group, void *buffer, size_t bytes, int peer);
    /* Start all messages of the group. Does not wait, and no message waits for what a stream has
     * yet to do. */
    gdncp_status_t (*group_end)(gdncp_group_t *group, gdncp_stream_t stream);
    /* Make progress. *done_p: all messages of the group have arrived and all sends' buffers may
     * be used again. Never blocks. After an error the group counts as done. */
    gdncp_status_t (*group_test)(gdncp_group_t *group, bool *done_p);
    /* Whether a message to or from the peer is outstanding, for the sentence of a time-out. */
    bool (*group_waits_for)(const gdncp_group_t *group, int peer);
    /* Free a group; one in flight is cancelled first. */
    void (*group_destroy)(gdncp_group_t *group);

    /* Make progress with all groups, and say whether the rank may still be heard of: else
     * GDNCP_ERR_PEER_LOST, as after an abort. Never blocks. */
    gdncp_status_t (*check_peer)(gdncp_transport_t *transport, int peer);

    /* The lanes to a peer, in words. */
    gdncp_status_t (*describe_lanes)(gdncp_transport_t *transport, int peer, char *text,
                                     size_t size);
    /* All waits, here and where the transport can reach, end with GDNCP_ERR_PEER_LOST. May be
     * called from any thread. */
    void (*abort)(gdncp_transport_t *transport);
    /* Another transport of this kind between some of the ranks, who are those of the bootstrap;
     * its first is rank leader here. Collective over them; all ranks make as many such calls. */
    gdncp_status_t (*create_among)(gdncp_transport_t *transport, int leader,
                                   const gdncp_bootstrap_t *bootstrap, int64_t timeout_ms,
                                   gdncp_transport_t **among_p);
    /* Another transport of this kind between the ranks that are left, in their order; they agree
     * on who that is, also if one of them ends meanwhile. Whoever does not come within timeout_ms
     * is left out, and gets GDNCP_ERR_PEER_LOST should it come later. At most once. */
    gdncp_status_t (*shrink)(gdncp_transport_t *transport, int64_t timeout_ms,
                             gdncp_transport_t **survivors_p);
    void (*destroy)(gdncp_transport_t *transport);
} gdncp_transport_ops_t;

/* The head of every backend's own struct. */
struct gdncp_transport {
    const gdncp_transport_ops_t *ops;
    int rank;
    int size;
    /* The first failure of a wait, which the others are told by an abort or the destruction. Read
     * by gdncp_transport_cause() from any thread, as it is written once. */
    atomic_bool has_cause;
    char cause[GDNCP_TRANSPORT_CAUSE_BYTES];
};

/* "" where nothing failed. */
const char *gdncp_transport_cause(const gdncp_transport_t *transport);

/* Keep this thread's last error as the cause, unless there is one. */
void gdncp_transport_keep_cause(gdncp_transport_t *transport);

/* check_device_memory() of a transport that knows the host's memory only. */
gdncp_status_t gdncp_transport_refuse_device(const gdncp_transport_t *transport);

/* The head of every backend's groups. */
struct gdncp_group {
    gdncp_transport_t *transport;
    gdncp_device_kind_t memory; /* where all its messages lie */
    bool in_flight;
    int64_t max_messages;
    int64_t num_messages;
};

/* Allocate a backend's group: a head of head_bytes, zeroed but for what is above, then room for
 * max_messages of message_bytes each, not initialised. */
gdncp_status_t gdncp_group_alloc(gdncp_transport_t *transport, gdncp_device_kind_t memory,
                                 int64_t max_messages, size_t head_bytes, size_t message_bytes,
                                 gdncp_group_t **group_p);

/* Empty a group; an error where it is in flight. */
gdncp_status_t gdncp_group_restart(gdncp_group_t *group);

/* Count one more message; an error where the group is in flight or full. Its place is
 * num_messages - 1. */
gdncp_status_t gdncp_group_add(gdncp_group_t *group);

gdncp_status_t gdncp_transport_self_create(gdncp_transport_t **transport_p);
/* transports [num_ranks]: one a thread */
gdncp_status_t gdncp_transport_threads_create(int num_ranks, gdncp_transport_t **transports);
/* Collective over the ranks of the bootstrap. */
gdncp_status_t gdncp_transport_ucx_create(const gdncp_bootstrap_t *bootstrap, int64_t timeout_ms,
                                          gdncp_transport_t **transport_p);

#endif
