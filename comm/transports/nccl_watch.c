/* The thread that watches NCCL and the stream that is at a group of it. */
#include <time.h>

#include "deadline.h"
#include "error.h"
#include "name_ranks.h"
#include "nccl_internal.h"
#include "quiet_thread.h"

#define LOOK_MS 10

static bool has_messages_with(const void *context, int peer)
{
    const gdncp_nccl_group_t *const group = context;

    for (int64_t m = 0; m < group->num_messages; m++) {
        if (group->messages[m].peer == peer) {
            return true;
        }
    }
    return false;
}

/* NULL where it is no more. */
static const gdncp_nccl_group_t *find_group(const gdncp_nccl_t *nccl, uint32_t id)
{
    const gdncp_nccl_group_t *group = nccl->groups;

    while (group != NULL && group->id != id) {
        group = group->next;
    }
    return group;
}

/* How long the stream has been at this run of a group; -1: at none. */
static int64_t time_at_group(gdncp_nccl_t *nccl, int64_t now_ms)
{
    uint32_t id = __atomic_load_n(nccl->flag, __ATOMIC_ACQUIRE);

    if (id == 0) {
        return -1;
    }
    if ((id & GDNCP_NCCL_SEEN) == 0) {
        /* Where the stream writes meanwhile, the next look will tell. */
        __atomic_compare_exchange_n(nccl->flag, &id, id | GDNCP_NCCL_SEEN, false, __ATOMIC_RELAXED,
                                    __ATOMIC_RELAXED);
        nccl->seen = id;
        nccl->seen_ms = now_ms;
    }
    return now_ms - nccl->seen_ms;
}

static void look_at_stream(gdncp_nccl_t *nccl, int64_t now_ms)
{
    char peers[128] = "?";

    if (time_at_group(nccl, now_ms) >= nccl->limit_ms) {
        const gdncp_nccl_group_t *const group = find_group(nccl, nccl->seen);

        if (group != NULL) {
            gdncp_name_ranks(nccl->size, has_messages_with, group, peers, sizeof peers);
        }
        gdncp_nccl_keep_failure(
            nccl, gdncp_fail(GDNCP_ERR_TIMEOUT,
                             "rank %d of %d: waited %.3g s in vain for messages to or from rank %s "
                             "over NCCL",
                             nccl->rank, nccl->size, (double)nccl->limit_ms * 1e-3, peers));
    }
}

static void look_at_nccl(gdncp_nccl_t *nccl)
{
    gdncp_nccl_result_t state = GDNCP_NCCL_SUCCESS;
    gdncp_status_t status = gdncp_nccl_result(nccl, "ncclCommGetAsyncError",
                                              nccl->api->CommGetAsyncError(nccl->comm, &state));

    if (status == GDNCP_OK) {
        status = gdncp_nccl_result(nccl, "an exchange on a device", state);
    }
    if (status != GDNCP_OK) {
        gdncp_nccl_keep_failure(nccl, status);
    }
}

static void look_at_processes(gdncp_nccl_t *nccl)
{
    gdncp_liveness_look(&nccl->liveness);
    const int dead = gdncp_liveness_next_dead(&nccl->liveness);

    if (dead >= 0) {
        gdncp_nccl_keep_failure(nccl, gdncp_fail(GDNCP_ERR_PEER_LOST,
                                                 "rank %d of %d: the process of rank %d has ended",
                                                 nccl->rank, nccl->size, dead));
    }
}

/* Whatever NCCL has in a stream ends. Its communicator is gone then, but for one of the caller's,
 * which only a library that can leave it alive may stop. */
static void stop_nccl(gdncp_nccl_t *nccl)
{
    const gdncp_nccl_comm_t comm = nccl->comm;

    nccl->comm = NULL;
    pthread_mutex_unlock(&nccl->lock);
    if (nccl->is_own) {
        nccl->api->CommAbort(comm);
    } else if (nccl->api->CommRevoke != NULL) {
        nccl->api->CommRevoke(comm, 0);
    }
    pthread_mutex_lock(&nccl->lock);
}

static void sleep_until_next_look(gdncp_nccl_t *nccl)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    time.tv_nsec += LOOK_MS * 1000000;
    if (time.tv_nsec >= 1000000000) {
        time.tv_nsec -= 1000000000;
        time.tv_sec++;
    }
    pthread_cond_timedwait(&nccl->woken, &nccl->lock, &time);
}

static void *watch(void *argument)
{
    gdncp_nccl_t *const nccl = argument;

    pthread_mutex_lock(&nccl->lock);
    while (!nccl->ends && nccl->failure == GDNCP_OK) {
        const int64_t now_ms = gdncp_now_ms();

        look_at_nccl(nccl);
        look_at_processes(nccl);
        look_at_stream(nccl, now_ms);
        if (nccl->failure == GDNCP_OK) {
            sleep_until_next_look(nccl);
        }
    }
    if (nccl->failure != GDNCP_OK) {
        stop_nccl(nccl);
    }
    pthread_mutex_unlock(&nccl->lock);
    return NULL;
}

gdncp_status_t gdncp_nccl_watch(gdncp_nccl_t *nccl, const gdncp_process_t *processes)
{
    for (int rank = 0; rank < nccl->size; rank++) {
        if (rank != nccl->rank) {
            gdncp_liveness_watch(&nccl->liveness, rank, &processes[nccl->rank], &processes[rank]);
        }
    }
    nccl->limit_ms = nccl->timeout_ms;
    const gdncp_status_t status = gdncp_quiet_thread_create(&nccl->watcher, watch, nccl);

    nccl->is_watched = status == GDNCP_OK;
    return status;
}

void gdncp_nccl_stop_watching(gdncp_nccl_t *nccl)
{
    if (!nccl->is_watched) {
        return;
    }
    pthread_mutex_lock(&nccl->lock);
    nccl->ends = true;
    pthread_cond_signal(&nccl->woken);
    pthread_mutex_unlock(&nccl->lock);
    pthread_join(nccl->watcher, NULL);
    nccl->is_watched = false;
}
