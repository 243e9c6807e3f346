/*
 * A thread of a communicator that runs jobs in the order in which they are posted.
 *
 * What a CUDA stream asks of other ranks is done here and not in the stream's callbacks: these may
 * not use CUDA, as a transport might, and those of several streams may share one thread, so that
 * one that waited for another rank in the same process would wait for ever.
 */
#ifndef GDNCP_COURIER_H
#define GDNCP_COURIER_H

#include "gdncp/status.h"

typedef struct gdncp_courier gdncp_courier_t;

typedef struct gdncp_courier_job {
    void (*run)(void *context);
    void *context;
    struct gdncp_courier_job *next; /* the courier's */
} gdncp_courier_job_t;

gdncp_status_t gdncp_courier_create(gdncp_courier_t **courier_p);

/* Runs what is posted first. NULL does nothing. */
void gdncp_courier_destroy(gdncp_courier_t *courier);

/* From any thread; neither waits for the job nor allocates. It is not posted again, nor changed,
 * until it has run. */
void gdncp_courier_post(gdncp_courier_t *courier, gdncp_courier_job_t *job);

#endif
