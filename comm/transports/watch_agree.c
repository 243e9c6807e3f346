/* Agreement on which ranks are left. See watch.h for why it holds. */
#include <stdio.h>
#include <string.h>

#include "deadline.h"
#include "error.h"
#include "gdncp/memory.h"
#include "watch_internal.h"

#define POLL_MS 5
#define FLUSH_MS 2000

void gdncp_watch_hear_join(gdncp_watch_t *watch, int rank, const void *record, size_t bytes)
{
    gdncp_watched_t *const watched = &watch->watched[rank];

    if (watched->has_joined) {
        return;
    }
    watched->record = gdncp_memory_alloc(bytes);
    if (watched->record == NULL) {
        return; /* as if it had not come: this rank cannot agree without it */
    }
    memcpy(watched->record, record, bytes);
    watched->record_bytes = bytes;
    watched->has_joined = true;
    gdncp_links_flood(watch, GDNCP_NEWS_JOIN, rank, rank, record, bytes);
}

static int count_set(const gdncp_watch_t *watch, const bool *set)
{
    int count = 0;

    for (int rank = 0; rank < watch->size; rank++) {
        count += set[rank];
    }
    return count;
}

static bool are_equal(const gdncp_watch_t *watch, const bool *a, const bool *b)
{
    return memcmp(a, b, (size_t)watch->size * sizeof *a) == 0;
}

void gdncp_watch_hear_announce(gdncp_watch_t *watch, int rank, const bool *set)
{
    gdncp_watched_t *const watched = &watch->watched[rank];
    const size_t bytes = (size_t)watch->size * sizeof *set;

    /* Over the longer of two ways comes what is known already, or less. */
    if (watched->set != NULL && count_set(watch, set) <= count_set(watch, watched->set)) {
        return;
    }
    if (watched->set == NULL) {
        watched->set = gdncp_memory_alloc(bytes);
    }
    if (watched->set == NULL) {
        return; /* as if it were late */
    }
    memcpy(watched->set, set, bytes);
    gdncp_links_flood(watch, GDNCP_NEWS_ANNOUNCE, rank, rank, watched->set, bytes);
}

void gdncp_watch_hear_decide(gdncp_watch_t *watch, const bool *set)
{
    if (watch->decided) {
        return;
    }
    watch->decided = true;
    memcpy(watch->decided_set, set, (size_t)watch->size * sizeof *set);
    if (set[watch->rank]) {
        gdncp_watch_lose(watch, watch->rank, watch->rank, "they have agreed to go on without it");
    }
    gdncp_links_flood(watch, GDNCP_NEWS_DECIDE, watch->rank, watch->rank, watch->decided_set,
                      (size_t)watch->size * sizeof *watch->decided_set);
}

/* Announce whom this rank takes for gone; whether that has changed. */
static bool announce(gdncp_watch_t *watch)
{
    for (int rank = 0; rank < watch->size; rank++) {
        watch->own_set[rank] = watch->watched[rank].fate != GDNCP_FATE_ALIVE;
    }
    const bool *const announced = watch->watched[watch->rank].set;

    if (announced != NULL && are_equal(watch, watch->own_set, announced)) {
        return false;
    }
    gdncp_watch_hear_announce(watch, watch->rank, watch->own_set);
    return true;
}

/* A rank that has not yet announced what this one did, or -1. */
static int find_differing(const gdncp_watch_t *watch)
{
    for (int rank = 0; rank < watch->size; rank++) {
        const gdncp_watched_t *const watched = &watch->watched[rank];

        if (!watch->own_set[rank] && (!watched->has_joined || watched->set == NULL ||
                                      !are_equal(watch, watched->set, watch->own_set))) {
            return rank;
        }
    }
    return -1;
}

/* Whoever has not come by now is waited for no longer. */
static void give_up_absent(gdncp_watch_t *watch, int64_t timeout_ms)
{
    for (int rank = 0; rank < watch->size; rank++) {
        if (watch->watched[rank].fate == GDNCP_FATE_ALIVE && !watch->watched[rank].has_joined) {
            char text[GDNCP_WATCH_TEXT_BYTES];

            snprintf(text, sizeof text, "it did not come to shrink the communicator in %.3g s",
                     (double)timeout_ms * 1e-3);
            gdncp_watch_lose(watch, rank, watch->rank, text);
        }
    }
}

/* Two things are waited for: that all come, and that after any change all announce it. */
static gdncp_status_t agree(gdncp_watch_t *watch, int64_t timeout_ms)
{
    const int64_t come_until = gdncp_deadline_after(timeout_ms);
    int64_t announce_until = come_until;

    while (!watch->decided && !watch->given_up) {
        /* Once a turn: whoever is absent is given up before this rank gives up. */
        const int64_t now_ms = gdncp_now_ms();

        if (now_ms >= come_until) {
            give_up_absent(watch, timeout_ms);
        }
        if (announce(watch)) {
            announce_until = gdncp_deadline_after(timeout_ms);
        }
        const int differs = find_differing(watch);

        if (differs < 0) {
            gdncp_watch_hear_decide(watch, watch->own_set);
            break;
        }
        if (now_ms >= announce_until && now_ms >= come_until) {
            return gdncp_fail(GDNCP_ERR_TIMEOUT,
                              "rank %d of %d: waited %.3g s in vain for rank %d to agree on "
                              "which ranks are left",
                              watch->rank, watch->size, (double)timeout_ms * 1e-3, differs);
        }
        gdncp_watch_serve(watch, POLL_MS);
    }
    return watch->given_up ? gdncp_watch_fail_ended(watch) : GDNCP_OK;
}

gdncp_status_t gdncp_watch_agree(gdncp_watch_t *watch, const void *record, size_t bytes,
                                 int64_t timeout_ms, const bool **lost_p)
{
    pthread_mutex_lock(&watch->mutex);
    gdncp_watch_serve(watch, 0);
    gdncp_watch_hear_join(watch, watch->rank, record, bytes);
    const gdncp_status_t status = agree(watch, timeout_ms);

    /* Before this rank goes its way: nobody may be left to hear of it from this rank alone. */
    gdncp_watch_flush(watch, gdncp_deadline_after(FLUSH_MS));
    pthread_mutex_unlock(&watch->mutex);
    if (status == GDNCP_OK) {
        *lost_p = watch->decided_set;
    }
    return status;
}

const void *gdncp_watch_record(const gdncp_watch_t *watch, int rank, size_t *bytes_p)
{
    *bytes_p = watch->watched[rank].record_bytes;
    return watch->watched[rank].record;
}
