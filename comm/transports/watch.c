/* What is known of the ranks of a communicator, and telling it to all of them. */
#include "watch.h"

#include <stdio.h>
#include <string.h>

#include "deadline.h"
#include "error.h"
#include "gdncp/memory.h"
#include "watch_internal.h"

#define LOOK_MS 10
#define LEAVE_MS 100
#define MAX_MESH 32
/* For what a lost rank sent before: this long nothing has arrived, or this long at all. */
#define LAST_WORDS_MS 20
#define LAST_WORDS_AT_MOST_MS 500

gdncp_status_t gdncp_watch_open(gdncp_watch_t **watch_p)
{
    gdncp_watch_t *const watch = gdncp_memory_alloc(sizeof *watch);

    if (watch == NULL) {
        return gdncp_fail_memory("the watch over other ranks");
    }
    memset(watch, 0, sizeof *watch);
    pthread_mutex_init(&watch->mutex, NULL);
    watch->listeners[0] = -1;
    watch->listeners[1] = -1;
    for (int i = 0; i < GDNCP_WATCH_MAX_VISITORS; i++) {
        watch->visitors[i].fd = -1;
    }
    watch->first_lost = -1;
    watch->aborted_by = -1;
    watch->address.process = gdncp_own_process();
    const gdncp_status_t status = gdncp_watch_listen(watch);

    if (status != GDNCP_OK) {
        gdncp_watch_destroy(watch);
        return status;
    }
    *watch_p = watch;
    return GDNCP_OK;
}

void gdncp_watch_destroy(gdncp_watch_t *watch)
{
    if (watch == NULL) {
        return;
    }
    gdncp_links_close(watch);
    gdncp_liveness_destroy(&watch->liveness);
    for (int rank = 0; watch->watched != NULL && rank < watch->size; rank++) {
        gdncp_memory_free(watch->watched[rank].record);
        gdncp_memory_free(watch->watched[rank].set);
    }
    gdncp_memory_free((void *)watch->peers);
    gdncp_memory_free(watch->links);
    gdncp_memory_free(watch->polled);
    gdncp_memory_free(watch->watched);
    gdncp_memory_free(watch->own_set);
    gdncp_memory_free(watch->decided_set);
    pthread_mutex_destroy(&watch->mutex);
    gdncp_memory_free(watch);
}

const gdncp_watch_address_t *gdncp_watch_address(const gdncp_watch_t *watch)
{
    return &watch->address;
}

static bool is_power_of_two(int n)
{
    return n > 0 && (n & (n - 1)) == 0;
}

/* Whether ranks so far apart are connected. */
static bool are_neighbours(int distance, int size)
{
    return size <= MAX_MESH || is_power_of_two(distance);
}

/* Whether ranks connect to those that many places behind them. A pair that would be connected both
 * ways is so only where the two ways are as long, so that each rank is looked for by another. */
static bool is_distance(int distance, int size)
{
    return are_neighbours(distance, size) &&
           !(are_neighbours(size - distance, size) && distance > size - distance);
}

static void add_links(gdncp_watch_t *watch)
{
    for (int distance = 1; distance < watch->size; distance++) {
        if (!is_distance(distance, watch->size)) {
            continue;
        }
        watch->links[watch->num_links++] = (gdncp_link_t){
            .peer = (watch->rank + distance) % watch->size, .fd = -1, .state = GDNCP_LINK_RESTING};
        watch->links[watch->num_links++] =
            (gdncp_link_t){.peer = (watch->rank + watch->size - distance) % watch->size,
                           .fd = -1,
                           .state = GDNCP_LINK_AWAITED};
    }
}

static gdncp_status_t alloc_ranks(gdncp_watch_t *watch, size_t size)
{
    enum { MAX_LINKS = 64 }; /* two for each power of two that is an int; of a mesh MAX_MESH */

    gdncp_watch_address_t *const peers = gdncp_memory_alloc(size * sizeof *peers);
    watch->peers = peers;
    watch->links = gdncp_memory_alloc(MAX_LINKS * sizeof *watch->links);
    watch->polled =
        gdncp_memory_alloc((MAX_LINKS + 2 + GDNCP_WATCH_MAX_VISITORS) * sizeof *watch->polled);
    watch->watched = gdncp_memory_alloc(size * sizeof *watch->watched);
    watch->own_set = gdncp_memory_alloc(size * sizeof *watch->own_set);
    watch->decided_set = gdncp_memory_alloc(size * sizeof *watch->decided_set);
    if (peers == NULL || watch->links == NULL || watch->polled == NULL || watch->watched == NULL ||
        watch->own_set == NULL || watch->decided_set == NULL) {
        return gdncp_fail_memory("the watch over other ranks");
    }
    memset(watch->watched, 0, size * sizeof *watch->watched);
    return gdncp_liveness_init(&watch->liveness, (int)size);
}

gdncp_status_t gdncp_watch_connect(gdncp_watch_t *watch, int rank, int size,
                                   const gdncp_watch_address_t *addresses, size_t stride,
                                   int64_t timeout_ms)
{
    const gdncp_status_t status = alloc_ranks(watch, (size_t)size);

    if (status != GDNCP_OK) {
        return status;
    }
    gdncp_watch_address_t *const peers = (gdncp_watch_address_t *)watch->peers;

    for (int peer = 0; peer < size; peer++) {
        memcpy(&peers[peer], (const char *)addresses + (size_t)peer * stride, sizeof peers[peer]);
        if (peer != rank) {
            gdncp_liveness_watch(&watch->liveness, peer, &watch->address.process,
                                 &peers[peer].process);
        }
    }
    watch->rank = rank;
    watch->size = size;
    watch->timeout_ms = timeout_ms;
    watch->connect_ms = gdncp_now_ms();
    add_links(watch);
    return GDNCP_OK;
}

bool gdncp_watch_is_settled(const gdncp_watch_t *watch)
{
    for (int i = 0; i < watch->num_links; i++) {
        if (watch->links[i].state < GDNCP_LINK_UP) {
            return false;
        }
    }
    return true;
}

static void copy_text(char *text, const char *data, size_t bytes)
{
    const size_t length = bytes < GDNCP_WATCH_TEXT_BYTES - 1 ? bytes : GDNCP_WATCH_TEXT_BYTES - 1;

    memcpy(text, data, length);
    text[length] = '\0';
}

/* The first that is heard of a rank's end holds. */
static void learn_fate(gdncp_watch_t *watch, gdncp_fate_t fate, int rank, int seen_by,
                       const char *text, size_t bytes)
{
    gdncp_watched_t *const watched = &watch->watched[rank];

    if (watched->fate != GDNCP_FATE_ALIVE) {
        return;
    }
    watched->fate = fate;
    watched->seen_by = seen_by;
    copy_text(watched->text, text, bytes);
    if (rank == watch->rank) {
        watch->given_up = watch->given_up || fate == GDNCP_FATE_LOST;
    } else if (fate == GDNCP_FATE_LOST && watch->first_lost < 0) {
        watch->first_lost = rank;
        watch->lost_ms = gdncp_now_ms();
    }
    atomic_store(&watch->has_ended,
                 watch->first_lost >= 0 || watch->aborted_by >= 0 || watch->given_up);
    atomic_store(&watch->has_news, true);
    gdncp_links_flood(watch, fate == GDNCP_FATE_LOST ? GDNCP_NEWS_LOST : GDNCP_NEWS_LEFT, rank,
                      seen_by, watched->text, strlen(watched->text));
    gdncp_links_forget(watch, rank);
}

void gdncp_watch_lose(gdncp_watch_t *watch, int rank, int seen_by, const char *text)
{
    learn_fate(watch, GDNCP_FATE_LOST, rank, seen_by, text, strlen(text));
}

static void learn_abort(gdncp_watch_t *watch, int rank, const char *text, size_t bytes)
{
    if (watch->aborted_by >= 0) {
        return;
    }
    watch->aborted_by = rank;
    copy_text(watch->abort_text, text, bytes);
    atomic_store(&watch->has_ended, true);
    gdncp_links_flood(watch, GDNCP_NEWS_ABORT, rank, rank, watch->abort_text,
                      strlen(watch->abort_text));
}

void gdncp_watch_hear(gdncp_watch_t *watch, const gdncp_watch_frame_t *frame, const void *data)
{
    switch (frame->news) {
    case GDNCP_NEWS_LOST:
        learn_fate(watch, GDNCP_FATE_LOST, frame->rank, frame->seen_by, data, frame->bytes);
        return;
    case GDNCP_NEWS_LEFT:
        learn_fate(watch, GDNCP_FATE_LEFT, frame->rank, frame->seen_by, data, frame->bytes);
        return;
    case GDNCP_NEWS_ABORT:
        learn_abort(watch, frame->rank, data, frame->bytes);
        return;
    case GDNCP_NEWS_JOIN:
        gdncp_watch_hear_join(watch, frame->rank, data, frame->bytes);
        return;
    case GDNCP_NEWS_ANNOUNCE:
        if (frame->bytes == (uint64_t)watch->size * sizeof(bool)) {
            gdncp_watch_hear_announce(watch, frame->rank, data);
        }
        return;
    case GDNCP_NEWS_DECIDE:
        if (frame->bytes == (uint64_t)watch->size * sizeof(bool)) {
            gdncp_watch_hear_decide(watch, data);
        }
        return;
    default:
        return;
    }
}

void gdncp_watch_serve(gdncp_watch_t *watch, int wait_ms)
{
    int rank;

    /* In this order: what a process said before its end, its good-bye or an agreement, is there to
     * be heard once the end is seen, and comes first. */
    gdncp_liveness_look(&watch->liveness);
    gdncp_links_serve(watch, wait_ms);
    while ((rank = gdncp_liveness_next_dead(&watch->liveness)) >= 0) {
        gdncp_watch_lose(watch, rank, watch->rank, "its process ended");
    }
}

bool gdncp_watch_look(gdncp_watch_t *watch, int64_t now_ms, bool forced)
{
    if (now_ms < watch->next_look_ms && !forced) {
        return false;
    }
    pthread_mutex_lock(&watch->mutex);
    gdncp_watch_serve(watch, 0);
    watch->next_look_ms = now_ms + LOOK_MS;
    pthread_mutex_unlock(&watch->mutex);
    return atomic_exchange(&watch->has_news, false);
}

bool gdncp_watch_is_gone(gdncp_watch_t *watch, int rank)
{
    pthread_mutex_lock(&watch->mutex);
    const bool is_gone = watch->watched[rank].fate != GDNCP_FATE_ALIVE;

    pthread_mutex_unlock(&watch->mutex);
    return is_gone;
}

static gdncp_status_t fail_gone(const gdncp_watch_t *watch, int rank)
{
    const gdncp_watched_t *const watched = &watch->watched[rank];

    if (watched->fate == GDNCP_FATE_LOST) {
        return gdncp_fail(GDNCP_ERR_PEER_LOST, "rank %d: rank %d is lost: %s (seen by rank %d)",
                          watch->rank, rank, watched->text, watched->seen_by);
    }
    return gdncp_fail(GDNCP_ERR_PEER_LOST, "rank %d: rank %d destroyed its communicator%s%s",
                      watch->rank, rank, watched->text[0] != '\0' ? ", after: " : "",
                      watched->text);
}

gdncp_status_t gdncp_watch_fail_ended(const gdncp_watch_t *watch)
{
    if (watch->given_up) {
        return gdncp_fail(GDNCP_ERR_PEER_LOST,
                          "rank %d: this rank was given up by the others: %s (seen by rank %d)",
                          watch->rank, watch->watched[watch->rank].text,
                          watch->watched[watch->rank].seen_by);
    }
    if (watch->first_lost >= 0) {
        return fail_gone(watch, watch->first_lost);
    }
    if (watch->aborted_by == watch->rank) {
        return gdncp_fail(GDNCP_ERR_PEER_LOST, "rank %d: the communicator was aborted by this rank",
                          watch->rank);
    }
    return gdncp_fail(GDNCP_ERR_PEER_LOST, "rank %d: rank %d aborted the communicator%s%s",
                      watch->rank, watch->aborted_by,
                      watch->abort_text[0] != '\0' ? ", after: " : "", watch->abort_text);
}

bool gdncp_watch_waited_enough(bool idle, int64_t since_ms, int64_t now_ms)
{
    return now_ms - since_ms >= (idle ? LAST_WORDS_MS : LAST_WORDS_AT_MOST_MS);
}

gdncp_status_t gdncp_watch_verdict(gdncp_watch_t *watch, bool idle, int64_t since_ms,
                                   int64_t now_ms)
{
    gdncp_status_t status = GDNCP_OK;

    if (!atomic_load(&watch->has_ended)) {
        return GDNCP_OK;
    }
    pthread_mutex_lock(&watch->mutex);
    const int64_t lost_since_ms = watch->lost_ms > since_ms ? watch->lost_ms : since_ms;

    if (watch->given_up || watch->aborted_by >= 0 ||
        gdncp_watch_waited_enough(idle, lost_since_ms, now_ms)) {
        status = gdncp_watch_fail_ended(watch);
    }
    pthread_mutex_unlock(&watch->mutex);
    return status;
}

gdncp_status_t gdncp_watch_explain(gdncp_watch_t *watch, int peer)
{
    gdncp_status_t status = GDNCP_OK;

    pthread_mutex_lock(&watch->mutex);
    if (atomic_load(&watch->has_ended)) {
        status = gdncp_watch_fail_ended(watch);
    } else if (watch->watched[peer].fate != GDNCP_FATE_ALIVE) {
        status = fail_gone(watch, peer);
    }
    pthread_mutex_unlock(&watch->mutex);
    return status;
}

void gdncp_watch_abort(gdncp_watch_t *watch, const char *cause)
{
    pthread_mutex_lock(&watch->mutex);
    learn_abort(watch, watch->rank, cause, strlen(cause));
    pthread_mutex_unlock(&watch->mutex);
}

void gdncp_watch_flush(gdncp_watch_t *watch, int64_t deadline)
{
    while (!gdncp_links_are_flushed(watch) && gdncp_now_ms() < deadline) {
        gdncp_links_serve(watch, 1);
    }
}

void gdncp_watch_leave(gdncp_watch_t *watch, const char *cause)
{
    pthread_mutex_lock(&watch->mutex);
    if (!watch->has_left && watch->num_links > 0) {
        watch->has_left = true;
        /* What is unread when a socket closes would take what was sent with it. */
        gdncp_watch_serve(watch, 0);
        learn_fate(watch, GDNCP_FATE_LEFT, watch->rank, watch->rank, cause, strlen(cause));
        gdncp_watch_flush(watch, gdncp_deadline_after(LEAVE_MS));
    }
    gdncp_links_close(watch);
    pthread_mutex_unlock(&watch->mutex);
}
