/* A thread of a communicator that runs jobs in the order in which they are posted. */
#include "courier.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "error.h"
#include "gdncp/memory.h"
#include "quiet_thread.h"

struct gdncp_courier {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t posted;
    gdncp_courier_job_t *first;
    gdncp_courier_job_t *last;
    bool ends; /* once there are no jobs left */
};

/* The next job, or NULL at the end. */
static gdncp_courier_job_t *take_job(gdncp_courier_t *courier)
{
    pthread_mutex_lock(&courier->mutex);
    while (courier->first == NULL && !courier->ends) {
        pthread_cond_wait(&courier->posted, &courier->mutex);
    }
    gdncp_courier_job_t *const job = courier->first;

    if (job != NULL) {
        courier->first = job->next;
    }
    pthread_mutex_unlock(&courier->mutex);
    return job;
}

static void *run_jobs(void *argument)
{
    gdncp_courier_job_t *job;

    while ((job = take_job(argument)) != NULL) {
        job->run(job->context);
    }
    return NULL;
}

gdncp_status_t gdncp_courier_create(gdncp_courier_t **courier_p)
{
    gdncp_courier_t *const courier = gdncp_memory_alloc(sizeof *courier);

    if (courier == NULL) {
        return gdncp_fail_memory("a communicator's thread");
    }
    memset(courier, 0, sizeof *courier);
    pthread_mutex_init(&courier->mutex, NULL);
    pthread_cond_init(&courier->posted, NULL);
    const gdncp_status_t status = gdncp_quiet_thread_create(&courier->thread, run_jobs, courier);

    if (status != GDNCP_OK) {
        pthread_cond_destroy(&courier->posted);
        pthread_mutex_destroy(&courier->mutex);
        gdncp_memory_free(courier);
        return status;
    }
    *courier_p = courier;
    return GDNCP_OK;
}

void gdncp_courier_destroy(gdncp_courier_t *courier)
{
    if (courier == NULL) {
        return;
    }
    pthread_mutex_lock(&courier->mutex);
    courier->ends = true;
    pthread_cond_signal(&courier->posted);
    pthread_mutex_unlock(&courier->mutex);
    pthread_join(courier->thread, NULL);
    pthread_cond_destroy(&courier->posted);
    pthread_mutex_destroy(&courier->mutex);
    gdncp_memory_free(courier);
}

void gdncp_courier_post(gdncp_courier_t *courier, gdncp_courier_job_t *job)
{
    job->next = NULL;
    pthread_mutex_lock(&courier->mutex);
    if (courier->first != NULL) {
        courier->last->next = job;
    } else {
        courier->first = job;
    }
    courier->last = job;
    pthread_cond_signal(&courier->posted);
    pthread_mutex_unlock(&courier->mutex);
}
