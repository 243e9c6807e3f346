/* What ranks that are threads share, and how some of them come to share another. */
#include "threads_hub.h"

#include <sched.h>
#include <stdio.h>

#include "deadline.h"
#include "error.h"
#include "gdncp/memory.h"

static void destroy_hub(gdncp_hub_t *hub);

static void drop_users(gdncp_hub_t *hub, int count)
{
    if (atomic_fetch_sub(&hub->num_users, count) == count) {
        destroy_hub(hub);
    }
}

static void free_hub(gdncp_hub_t *hub)
{
    gdncp_memory_free(hub->channels);
    gdncp_memory_free(hub->left);
    gdncp_memory_free(hub->is_survivor);
    gdncp_memory_free(hub);
}

static void destroy_hub(gdncp_hub_t *hub)
{
    const size_t num_channels = (size_t)hub->size * (size_t)hub->size;

    while (hub->children != NULL) {
        gdncp_hub_child_t *const child = hub->children;

        hub->children = child->next;
        drop_users(child->hub, child->num_missing); /* who will not come any more */
        gdncp_memory_free(child);
    }
    for (size_t i = 0; i < num_channels; i++) {
        pthread_mutex_destroy(&hub->channels[i].mutex);
    }
    pthread_mutex_destroy(&hub->mutex);
    free_hub(hub);
}

void gdncp_hub_leave(gdncp_hub_t *hub, int rank)
{
    atomic_store(&hub->left[rank], true);
    drop_users(hub, 1);
}

gdncp_status_t gdncp_hub_create(int size, gdncp_hub_t **hub_p)
{
    const size_t num_channels = (size_t)size * (size_t)size;
    gdncp_hub_t *const hub = gdncp_memory_alloc(sizeof *hub);

    if (hub == NULL) {
        return gdncp_fail_memory("communicators of threads");
    }
    hub->size = size;
    atomic_init(&hub->num_users, size);
    atomic_init(&hub->aborted_by, -1);
    hub->children = NULL;
    hub->is_aborting = false;
    hub->is_shrunk = false;
    hub->left = gdncp_memory_alloc((size_t)size * sizeof *hub->left);
    hub->is_survivor = gdncp_memory_alloc((size_t)size * sizeof *hub->is_survivor);
    hub->channels = gdncp_memory_alloc(num_channels * sizeof *hub->channels);
    if (hub->left == NULL || hub->is_survivor == NULL || hub->channels == NULL) {
        free_hub(hub);
        return gdncp_fail_memory("communicators of threads");
    }
    pthread_mutex_init(&hub->mutex, NULL);
    for (int rank = 0; rank < size; rank++) {
        atomic_init(&hub->left[rank], false);
        hub->is_survivor[rank] = false;
    }
    for (size_t i = 0; i < num_channels; i++) {
        gdncp_hub_channel_t *const channel = &hub->channels[i];

        pthread_mutex_init(&channel->mutex, NULL);
        channel->head = NULL;
        channel->tail = NULL;
        atomic_init(&channel->num_sent, 0);
        channel->num_received = 0;
    }
    *hub_p = hub;
    return GDNCP_OK;
}

/* With the mutex held: the child of that key, made where there is none. */
static gdncp_status_t find_or_make(gdncp_hub_t *parent, int64_t key, int size,
                                   gdncp_hub_child_t **child_p)
{
    for (gdncp_hub_child_t *child = parent->children; child != NULL; child = child->next) {
        if (child->key == key) {
            *child_p = child;
            return GDNCP_OK;
        }
    }
    gdncp_hub_child_t *const child = gdncp_memory_alloc(sizeof *child);

    if (child == NULL) {
        return gdncp_fail_memory("communicators of threads");
    }
    *child = (gdncp_hub_child_t){.next = parent->children, .key = key, .num_missing = size};
    const gdncp_status_t status = gdncp_hub_create(size, &child->hub);

    if (status != GDNCP_OK) {
        gdncp_memory_free(child);
        return status;
    }
    parent->children = child;
    *child_p = child;
    return GDNCP_OK;
}

gdncp_status_t gdncp_hub_find_child(gdncp_hub_t *parent, int64_t key, int size,
                                    gdncp_hub_t **child_p)
{
    gdncp_hub_child_t *child = NULL;

    pthread_mutex_lock(&parent->mutex);
    const gdncp_status_t status = find_or_make(parent, key, size, &child);
    if (status == GDNCP_OK) {
        *child_p = child->hub;
        child->num_missing--;
        if (child->num_missing == 0) {
            gdncp_hub_child_t **link = &parent->children;

            while (*link != child) {
                link = &(*link)->next;
            }
            *link = child->next;
            gdncp_memory_free(child);
        }
    }
    pthread_mutex_unlock(&parent->mutex);
    return status;
}

static bool is_anybody_missing(gdncp_hub_t *hub)
{
    for (int rank = 0; rank < hub->size; rank++) {
        if (!hub->is_survivor[rank] && !atomic_load(&hub->left[rank])) {
            return true;
        }
    }
    return false;
}

bool gdncp_hub_shrink(gdncp_hub_t *hub, int rank, int64_t timeout_ms)
{
    const int64_t deadline = gdncp_deadline_after(timeout_ms);

    pthread_mutex_lock(&hub->mutex);
    if (!hub->is_shrunk) {
        hub->is_survivor[rank] = true;
    }
    for (int64_t num_polls = 0; !hub->is_shrunk; num_polls++) {
        if (!is_anybody_missing(hub) || gdncp_now_ms() >= deadline) {
            hub->is_shrunk = true;
            break;
        }
        pthread_mutex_unlock(&hub->mutex);
        gdncp_pause_between_polls(num_polls);
        pthread_mutex_lock(&hub->mutex);
    }
    const bool is_survivor = hub->is_survivor[rank];

    pthread_mutex_unlock(&hub->mutex);
    return is_survivor;
}

void gdncp_hub_abort(gdncp_hub_t *hub, int rank, const char *cause)
{
    pthread_mutex_lock(&hub->mutex);
    const bool is_first = !hub->is_aborting;

    hub->is_aborting = true;
    pthread_mutex_unlock(&hub->mutex);
    if (is_first) {
        snprintf(hub->abort_text, sizeof hub->abort_text, "%s", cause);
        atomic_store(&hub->aborted_by, rank);
    }
}

void gdncp_hub_post(gdncp_hub_channel_t *channel, gdncp_hub_message_t *message)
{
    message->next = NULL;
    pthread_mutex_lock(&channel->mutex);
    message->sequence = atomic_load_explicit(&channel->num_sent, memory_order_relaxed);
    atomic_store_explicit(&message->state, GDNCP_HUB_POSTED, memory_order_relaxed);
    if (channel->tail != NULL) {
        channel->tail->next = message;
    } else {
        channel->head = message;
    }
    channel->tail = message;
    atomic_store_explicit(&channel->num_sent, message->sequence + 1, memory_order_release);
    pthread_mutex_unlock(&channel->mutex);
}

/* With the mutex held. */
static void unlink_send(gdncp_hub_channel_t *channel, gdncp_hub_message_t *message)
{
    gdncp_hub_message_t *before = NULL;

    for (gdncp_hub_message_t *m = channel->head; m != message; m = m->next) {
        before = m;
    }
    if (before != NULL) {
        before->next = message->next;
    } else {
        channel->head = message->next;
    }
    if (channel->tail == message) {
        channel->tail = before;
    }
}

gdncp_hub_message_t *gdncp_hub_take(gdncp_hub_channel_t *channel, int64_t sequence)
{
    gdncp_hub_message_t *message;

    pthread_mutex_lock(&channel->mutex);
    for (message = channel->head; message != NULL; message = message->next) {
        if (message->sequence == sequence) {
            unlink_send(channel, message);
            atomic_store_explicit(&message->state, GDNCP_HUB_TAKEN, memory_order_relaxed);
            break;
        }
    }
    pthread_mutex_unlock(&channel->mutex);
    return message;
}

void gdncp_hub_withdraw(gdncp_hub_channel_t *channel, gdncp_hub_message_t *message)
{
    pthread_mutex_lock(&channel->mutex);
    if (atomic_load_explicit(&message->state, memory_order_relaxed) == GDNCP_HUB_POSTED) {
        unlink_send(channel, message);
        atomic_store_explicit(&message->state, GDNCP_HUB_DONE, memory_order_relaxed);
    }
    pthread_mutex_unlock(&channel->mutex);
    while (atomic_load_explicit(&message->state, memory_order_acquire) != GDNCP_HUB_DONE) {
        sched_yield();
    }
}
