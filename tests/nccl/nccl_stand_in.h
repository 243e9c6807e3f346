/*
 * A library with NCCL's calls for tests without a GPU: what tests can ask of it.
 *
 * Ranks are threads of one process, or in nccl_stand_in_processes processes of one machine; device
 * memory is what the program's emulated streams can touch. Between threads messages are moved when
 * both sides' streams are at them, straight from buffer to buffer: a stream waits at a group until
 * all of it has been sent and received, as the least that NCCL may do. Between processes they go
 * through sockets, the control is that of the process, and no other hears of an abort.
 *
 * Get the control by dlsym(dlopen(file), "nccl_stand_in_control"), before or after gdncp opens it.
 */
#ifndef NCCL_STAND_IN_H
#define NCCL_STAND_IN_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

enum { STAND_IN_MAX_RECORDS = 4096 };

/* One call that moves something, or GroupStart and GroupEnd. */
typedef struct nccl_record {
    const char *call;
    int rank;  /* -1: a call without a communicator */
    int depth; /* of groups, inside of the call */
    int peer;  /* -1: none */
    size_t bytes;
    const void *buffer;
    void *stream;
} nccl_record_t;

typedef struct nccl_stand_in {
    /* Queues a function in a stream; it may run again where that is captured. To be set first. */
    int (*queue)(void *stream, const char *name, void (*function)(void *), void *context);

    pthread_mutex_t *lock; /* of all fields, while communicators are in use */

    /* How often non-blocking communicators say "in progress" before they have done what was asked;
     * work is queued only then, and only by a question of the thread that asked for it. */
    int num_polls;
    const char *stuck_call; /* never gets further than that; NULL: none */
    const char *fault_call; /* its fault_count-th call from now on gives fault_result */
    int fault_count;
    int fault_rank; /* of this rank; -1: of any */
    int fault_result;
    bool abort_is_remote; /* other ranks of an aborted communicator see an error */

    long num_sends; /* that were queued, as all of these */
    long num_recvs;
    long num_gathers;
    long num_open_groups; /* begun and not ended, of all threads */
    long num_unconnected; /* of more than a byte, where no message of one byte went before */
    long num_mismatched;  /* messages of other lengths than asked for */
    long num_unsent;      /* that were under way as their communicator was aborted */
    long num_comms;       /* made and neither destroyed nor aborted */
    long num_aborted;
    long num_revoked;

    nccl_record_t records[STAND_IN_MAX_RECORDS];
    int num_records;
} nccl_stand_in_t;

typedef nccl_stand_in_t *nccl_stand_in_control_t(void);

#endif
