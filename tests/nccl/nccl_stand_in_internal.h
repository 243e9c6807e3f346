/* Inside of the stand-in for NCCL. */
#ifndef NCCL_STAND_IN_INTERNAL_H
#define NCCL_STAND_IN_INTERNAL_H

#include <pthread.h>

#include "nccl_api.h"
#include "nccl_stand_in.h"

typedef struct message {
    struct message *next; /* in the queue from one rank to another */
    const void *buffer;
    size_t bytes;
    bool is_taken;
} message_t;

/* The ranks of one id. */
typedef struct world {
    struct world *next;
    char id[sizeof(gdncp_nccl_id_t)];
    int size;
    int num_joined;
    struct comm **comms; /* [size] */
    message_t **firsts;  /* [from, to] */
} world_t;

typedef struct comm {
    world_t *world;
    int rank;
    bool is_blocking;
    bool is_joining;
    bool is_stopped;
    int async_error;
    int polls_left; /* until what was asked for is done */
    pthread_t asked_by;
    struct batch *pending;
    bool *is_connected;  /* [2, size]: sending to, receiving from */
    struct links *links; /* between processes */
} comm_t;

typedef struct operation {
    bool is_send;
    int peer;
    void *buffer;
    size_t bytes;
    bool is_done;
    message_t message; /* between threads */
    size_t length;     /* between processes: what goes before the message */
    size_t moved;      /* bytes of both */
} operation_t;

/* What one group queues. */
typedef struct batch {
    struct batch *next; /* of all there ever were: a graph may launch one at any time */
    comm_t *comm;
    void *stream;
    operation_t *operations;
    int num_operations;
} batch_t;

/* Of all that is here, and of the control. */
extern pthread_mutex_t stand_in_lock;
extern pthread_cond_t stand_in_changed;
extern nccl_stand_in_t stand_in_control;

/* The following two, between threads in nccl_stand_in_messages.c, between processes in
 * nccl_stand_in_sockets.c. */

/* A communicator is one of its world's, from now on; with the lock. */
void stand_in_join(comm_t *comm);

/* Run a batch_t, in its stream: post what it sends, and wait until all of it was sent and received,
 * or its communicator is stopped. */
void stand_in_run_batch(void *context);

/* Whether an earlier operation of the batch, of the same direction and peer, is not done. */
bool stand_in_must_wait(const batch_t *batch, int index);

#endif
