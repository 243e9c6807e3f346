/* What ranks that are threads of one process share: a channel between every two of them. */
#ifndef GDNCP_THREADS_HUB_H
#define GDNCP_THREADS_HUB_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gdncp/status.h"

typedef enum gdncp_hub_message_state {
    GDNCP_HUB_IDLE,   /* not started */
    GDNCP_HUB_POSTED, /* a send: in its channel's queue; a receive: waiting for its send */
    GDNCP_HUB_TAKEN,  /* a send that the receiver is copying */
    GDNCP_HUB_DONE
} gdncp_hub_message_state_t;

typedef struct gdncp_hub_message {
    struct gdncp_hub_message *next; /* in the channel's queue */
    bool is_send;
    int peer;
    void *buffer; /* only read where is_send */
    size_t bytes;
    int64_t sequence; /* the n-th of its channel and direction */
    _Atomic gdncp_hub_message_state_t state;
} gdncp_hub_message_t;

/* From one rank to another (or itself). */
typedef struct gdncp_hub_channel {
    _Alignas(64) pthread_mutex_t mutex;
    gdncp_hub_message_t *head; /* sends not yet taken; by sequence */
    gdncp_hub_message_t *tail;
    _Atomic int64_t num_sent; /* written by the sender, under the mutex */
    int64_t num_received;     /* used by the receiver only */
} gdncp_hub_channel_t;

/* A hub of some of the ranks, which not all of these have come for yet. */
typedef struct gdncp_hub_child {
    struct gdncp_hub_child *next;
    int64_t key;
    int num_missing;
    struct gdncp_hub *hub;
} gdncp_hub_child_t;

/* What the ranks share; freed by the last of them. */
typedef struct gdncp_hub {
    int size;
    atomic_int num_users;
    atomic_int aborted_by;         /* -1, or a rank */
    char abort_text[240];          /* written before aborted_by */
    atomic_bool *left;             /* [size]: its communicator is destroyed */
    gdncp_hub_channel_t *channels; /* [from, to] */

    pthread_mutex_t mutex; /* of what follows */
    gdncp_hub_child_t *children;
    bool is_aborting; /* somebody writes abort_text */
    bool is_shrunk;
    bool *is_survivor; /* [size]: has come to shrink; from is_shrunk on, is left */
} gdncp_hub_t;

gdncp_status_t gdncp_hub_create(int size, gdncp_hub_t **hub_p);

/* A rank needs the hub no more. */
void gdncp_hub_leave(gdncp_hub_t *hub, int rank);

/* The hub that size ranks share who ask with the same key; made by the first of them. */
gdncp_status_t gdncp_hub_find_child(gdncp_hub_t *parent, int64_t key, int size,
                                    gdncp_hub_t **child_p);

/* Come, and wait until all ranks have come or left, or the time-out has passed for some. Whether
 * this rank is one of those that are left; is_survivor is final then. */
bool gdncp_hub_shrink(gdncp_hub_t *hub, int rank, int64_t timeout_ms);

/* The first to call it is the one that others are told of. */
void gdncp_hub_abort(gdncp_hub_t *hub, int rank, const char *cause);

static inline gdncp_hub_channel_t *gdncp_hub_channel(const gdncp_hub_t *hub, int from, int to)
{
    return &hub->channels[(size_t)from * (size_t)hub->size + (size_t)to];
}

/* Put a send at the end of its channel's queue. */
void gdncp_hub_post(gdncp_hub_channel_t *channel, gdncp_hub_message_t *message);

/* The send of that sequence number, now the receiver's to copy; NULL where it was withdrawn. */
gdncp_hub_message_t *gdncp_hub_take(gdncp_hub_channel_t *channel, int64_t sequence);

/* Take a send back. After this the peer touches the message no more. */
void gdncp_hub_withdraw(gdncp_hub_channel_t *channel, gdncp_hub_message_t *message);

#endif
