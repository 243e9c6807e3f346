/*
 * Ranks that are threads of one process.
 *
 * A send hangs in the queue of its channel (one an ordered pair of ranks) until the receiver, in
 * its own group_test, copies straight from the sender's buffer to its own. So every rank does its
 * own copying, and a rank that tests any group serves all it has in flight.
 */
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

#include <string.h>

#include "error.h"
#include "gdncp/memory.h"
#include "transport.h"

typedef enum message_state {
    IDLE,   /* not started */
    POSTED, /* a send: in its channel's queue; a receive: waiting for its send */
    TAKEN,  /* a send that the receiver is copying */
    DONE
} message_state_t;

typedef struct message {
    struct message *next; /* in the channel's queue */
    bool is_send;
    int peer;
    void *buffer; /* only read where is_send */
    size_t bytes;
    int64_t sequence; /* the n-th of its channel and direction */
    _Atomic message_state_t state;
} message_t;

/* From one rank to another (or itself). */
typedef struct channel {
    _Alignas(64) pthread_mutex_t mutex;
    message_t *head; /* sends not yet taken; by sequence */
    message_t *tail;
    _Atomic int64_t num_sent; /* written by the sender, under the mutex */
    int64_t num_received;     /* used by the receiver only */
} channel_t;

/* What the ranks share; freed by the last of them. */
typedef struct hub {
    int size;
    atomic_int num_users;
    atomic_int aborted_by; /* -1, or a rank */
    atomic_bool *left;     /* [size]: its communicator is destroyed */
    channel_t *channels;   /* [from, to] */
} hub_t;

typedef struct threads_group threads_group_t;

typedef struct threads_transport {
    gdncp_transport_t base;
    hub_t *hub;
    threads_group_t *in_flight; /* list; this rank's thread only */
} threads_transport_t;

struct threads_group {
    gdncp_group_t base;
    threads_group_t *next; /* in flight */
    bool in_flight;
    gdncp_status_t status; /* of a group that failed while another one was tested */
    char sentence[256];
    int64_t max_messages;
    int64_t num_messages;
    int64_t num_done;     /* all messages before this one are done */
    message_t messages[]; /* [max_messages] */
};

static threads_transport_t *transport_of(const threads_group_t *group)
{
    return (threads_transport_t *)group->base.transport;
}

static channel_t *channel_between(const hub_t *hub, int from, int to)
{
    return &hub->channels[(size_t)from * (size_t)hub->size + (size_t)to];
}

static channel_t *channel_of(const threads_group_t *group, const message_t *message)
{
    const int rank = group->base.transport->rank;
    const hub_t *const hub = transport_of(group)->hub;

    return message->is_send ? channel_between(hub, rank, message->peer)
                            : channel_between(hub, message->peer, rank);
}

static gdncp_status_t group_create(gdncp_transport_t *transport, int64_t max_messages,
                                   gdncp_group_t **group_p)
{
    threads_group_t *const group =
        gdncp_memory_alloc(sizeof *group + (size_t)max_messages * sizeof group->messages[0]);

    if (group == NULL) {
        return gdncp_fail_memory("a group of messages");
    }
    *group = (threads_group_t){.base.transport = transport, .max_messages = max_messages};
    *group_p = &group->base;
    return GDNCP_OK;
}

static gdncp_status_t group_begin(gdncp_group_t *base)
{
    threads_group_t *const group = (threads_group_t *)base;

    if (group->in_flight) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "group: expected one that is done, got one in flight");
    }
    group->num_messages = 0;
    group->num_done = 0;
    group->status = GDNCP_OK;
    return GDNCP_OK;
}

static gdncp_status_t add_message(threads_group_t *group, bool is_send, void *buffer, size_t bytes,
                                  int peer)
{
    if (group->in_flight) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "group: expected one that was begun, got one in flight");
    }
    if (group->num_messages == group->max_messages) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "group: expected at most max_messages = %lld messages, got one more",
                          (long long)group->max_messages);
    }
    message_t *const message = &group->messages[group->num_messages++];
    message->is_send = is_send;
    message->peer = peer;
    message->buffer = buffer;
    message->bytes = bytes;
    atomic_init(&message->state, IDLE);
    return GDNCP_OK;
}

static gdncp_status_t send_message(gdncp_group_t *base, const void *buffer, size_t bytes, int peer)
{
    return add_message((threads_group_t *)base, true, (void *)buffer, bytes, peer);
}

static gdncp_status_t recv_message(gdncp_group_t *base, void *buffer, size_t bytes, int peer)
{
    return add_message((threads_group_t *)base, false, buffer, bytes, peer);
}

static void post_send(channel_t *channel, message_t *message)
{
    message->next = NULL;
    pthread_mutex_lock(&channel->mutex);
    message->sequence = atomic_load_explicit(&channel->num_sent, memory_order_relaxed);
    atomic_store_explicit(&message->state, POSTED, memory_order_relaxed);
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
static void unlink_send(channel_t *channel, message_t *message)
{
    message_t *before = NULL;

    for (message_t *m = channel->head; m != message; m = m->next) {
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

/* The send of that sequence number, now the receiver's to copy; NULL where it was withdrawn. */
static message_t *take_send(channel_t *channel, int64_t sequence)
{
    message_t *message;

    pthread_mutex_lock(&channel->mutex);
    for (message = channel->head; message != NULL; message = message->next) {
        if (message->sequence == sequence) {
            unlink_send(channel, message);
            atomic_store_explicit(&message->state, TAKEN, memory_order_relaxed);
            break;
        }
    }
    pthread_mutex_unlock(&channel->mutex);
    return message;
}

/* After this the peer touches the message no more. */
static void withdraw_send(channel_t *channel, message_t *message)
{
    pthread_mutex_lock(&channel->mutex);
    if (atomic_load_explicit(&message->state, memory_order_relaxed) == POSTED) {
        unlink_send(channel, message);
        atomic_store_explicit(&message->state, DONE, memory_order_relaxed);
    }
    pthread_mutex_unlock(&channel->mutex);
    while (atomic_load_explicit(&message->state, memory_order_acquire) != DONE) {
        sched_yield();
    }
}

static void remove_from_flight(threads_group_t *group)
{
    threads_group_t **link = &transport_of(group)->in_flight;

    while (*link != group) {
        link = &(*link)->next;
    }
    *link = group->next;
    group->in_flight = false;
}

static void cancel(threads_group_t *group)
{
    for (int64_t i = group->num_done; i < group->num_messages; i++) {
        message_t *const message = &group->messages[i];

        if (message->is_send) {
            withdraw_send(channel_of(group, message), message);
        } else {
            atomic_store_explicit(&message->state, DONE, memory_order_relaxed);
        }
    }
    remove_from_flight(group);
}

__attribute__((format(printf, 3, 4))) static void
fail_group(threads_group_t *group, gdncp_status_t status, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(group->sentence, sizeof group->sentence, format, arguments);
    va_end(arguments);
    group->status = status;
    cancel(group);
}

typedef enum outcome { WAITING, FINISHED, FAILED } outcome_t;

static outcome_t progress_recv(threads_group_t *group, message_t *message)
{
    const int rank = group->base.transport->rank;
    channel_t *const channel = channel_of(group, message);
    /* Before num_sent: whoever has left sends no more. */
    const bool left = atomic_load(&transport_of(group)->hub->left[message->peer]);

    if (atomic_load_explicit(&channel->num_sent, memory_order_acquire) <= message->sequence) {
        if (left) {
            fail_group(group, GDNCP_ERR_PEER_LOST,
                       "rank %d: rank %d destroyed its communicator before it sent %zu bytes", rank,
                       message->peer, message->bytes);
            return FAILED;
        }
        return WAITING;
    }
    message_t *const send = take_send(channel, message->sequence);
    if (send == NULL) {
        fail_group(group, GDNCP_ERR_PEER_LOST,
                   "rank %d: rank %d withdrew the message of which %zu bytes were expected", rank,
                   message->peer, message->bytes);
        return FAILED;
    }
    const size_t bytes = send->bytes;
    if (bytes == message->bytes) {
        memcpy(message->buffer, send->buffer, bytes);
    }
    /* From here on the sender may free its message. */
    atomic_store_explicit(&send->state, DONE, memory_order_release);
    if (bytes != message->bytes) {
        fail_group(group, GDNCP_ERR_MISMATCH,
                   "rank %d: expected a message of %zu bytes from rank %d, got %zu", rank,
                   message->bytes, message->peer, bytes);
        return FAILED;
    }
    atomic_store_explicit(&message->state, DONE, memory_order_relaxed);
    return FINISHED;
}

static outcome_t progress_send(threads_group_t *group, message_t *message)
{
    /* Before the state: whoever has left has taken what it wanted. */
    const bool left = atomic_load(&transport_of(group)->hub->left[message->peer]);

    if (atomic_load_explicit(&message->state, memory_order_acquire) == DONE) {
        return FINISHED;
    }
    if (left) {
        fail_group(group, GDNCP_ERR_PEER_LOST,
                   "rank %d: rank %d destroyed its communicator before it received %zu bytes",
                   group->base.transport->rank, message->peer, message->bytes);
        return FAILED;
    }
    return WAITING;
}

static void progress_group(threads_group_t *group)
{
    bool all_done = true;

    for (int64_t i = group->num_done; i < group->num_messages; i++) {
        message_t *const message = &group->messages[i];

        if (!message->is_send &&
            atomic_load_explicit(&message->state, memory_order_relaxed) == DONE) {
            group->num_done += all_done;
            continue;
        }
        const outcome_t outcome =
            message->is_send ? progress_send(group, message) : progress_recv(group, message);
        if (outcome == FAILED) {
            return;
        }
        all_done = all_done && outcome == FINISHED;
        group->num_done += all_done;
    }
    if (all_done) {
        remove_from_flight(group);
    }
}

static void progress(threads_transport_t *transport)
{
    const int aborted_by = atomic_load(&transport->hub->aborted_by);
    threads_group_t *next;

    for (threads_group_t *group = transport->in_flight; group != NULL; group = next) {
        next = group->next;
        if (aborted_by >= 0) {
            fail_group(group, GDNCP_ERR_PEER_LOST, "rank %d: rank %d aborted the communicator",
                       transport->base.rank, aborted_by);
        } else {
            progress_group(group);
        }
    }
}

static gdncp_status_t group_end(gdncp_group_t *base, gdncp_stream_t stream)
{
    threads_group_t *const group = (threads_group_t *)base;
    threads_transport_t *const transport = transport_of(group);
    const int aborted_by = atomic_load(&transport->hub->aborted_by);

    (void)stream;
    if (aborted_by >= 0) {
        return gdncp_fail(GDNCP_ERR_PEER_LOST, "rank %d: rank %d aborted the communicator",
                          transport->base.rank, aborted_by);
    }
    for (int64_t i = 0; i < group->num_messages; i++) {
        message_t *const message = &group->messages[i];
        channel_t *const channel = channel_of(group, message);

        if (message->is_send) {
            post_send(channel, message);
        } else {
            message->sequence = channel->num_received++;
            atomic_store_explicit(&message->state, POSTED, memory_order_relaxed);
        }
    }
    group->in_flight = true;
    group->next = transport->in_flight;
    transport->in_flight = group;
    return GDNCP_OK;
}

static gdncp_status_t group_test(gdncp_group_t *base, bool *done_p)
{
    threads_group_t *const group = (threads_group_t *)base;

    progress(transport_of(group));
    if (group->status != GDNCP_OK) {
        return gdncp_fail(group->status, "%s", group->sentence);
    }
    *done_p = !group->in_flight;
    return GDNCP_OK;
}

static bool group_waits_for(const gdncp_group_t *base, int peer)
{
    const threads_group_t *const group = (const threads_group_t *)base;

    for (int64_t i = group->num_done; group->in_flight && i < group->num_messages; i++) {
        const message_t *const message = &group->messages[i];

        if (message->peer == peer &&
            atomic_load_explicit(&message->state, memory_order_relaxed) != DONE) {
            return true;
        }
    }
    return false;
}

static void group_destroy(gdncp_group_t *base)
{
    threads_group_t *const group = (threads_group_t *)base;

    if (group->in_flight) {
        cancel(group);
    }
    gdncp_memory_free(group);
}

static gdncp_status_t describe_lanes(gdncp_transport_t *transport, int peer, char *text,
                                     size_t size)
{
    (void)transport;
    (void)peer;
    snprintf(text, size, "memcpy");
    return GDNCP_OK;
}

static void abort_transport(gdncp_transport_t *base)
{
    int nobody = -1;

    atomic_compare_exchange_strong(&((threads_transport_t *)base)->hub->aborted_by, &nobody,
                                   base->rank);
}

static void destroy_hub(hub_t *hub)
{
    const size_t num_channels = (size_t)hub->size * (size_t)hub->size;

    for (size_t i = 0; i < num_channels; i++) {
        pthread_mutex_destroy(&hub->channels[i].mutex);
    }
    gdncp_memory_free(hub->channels);
    gdncp_memory_free(hub->left);
    gdncp_memory_free(hub);
}

static void destroy(gdncp_transport_t *base)
{
    hub_t *const hub = ((threads_transport_t *)base)->hub;

    atomic_store(&hub->left[base->rank], true);
    if (atomic_fetch_sub(&hub->num_users, 1) == 1) {
        destroy_hub(hub);
    }
    gdncp_memory_free(base);
}

static const gdncp_transport_ops_t threads_ops = {
    .kind = GDNCP_TRANSPORT_THREADS,
    .group_create = group_create,
    .group_begin = group_begin,
    .send = send_message,
    .recv = recv_message,
    .group_end = group_end,
    .group_test = group_test,
    .group_waits_for = group_waits_for,
    .group_destroy = group_destroy,
    .describe_lanes = describe_lanes,
    .abort = abort_transport,
    .destroy = destroy,
};

static gdncp_status_t create_hub(int size, hub_t **hub_p)
{
    const size_t num_channels = (size_t)size * (size_t)size;
    hub_t *const hub = gdncp_memory_alloc(sizeof *hub);

    if (hub == NULL) {
        return gdncp_fail_memory("communicators of threads");
    }
    hub->size = size;
    atomic_init(&hub->num_users, size);
    atomic_init(&hub->aborted_by, -1);
    hub->left = gdncp_memory_alloc((size_t)size * sizeof *hub->left);
    hub->channels = gdncp_memory_alloc(num_channels * sizeof *hub->channels);
    if (hub->left == NULL || hub->channels == NULL) {
        gdncp_memory_free(hub->channels);
        gdncp_memory_free(hub->left);
        gdncp_memory_free(hub);
        return gdncp_fail_memory("communicators of threads");
    }
    for (int rank = 0; rank < size; rank++) {
        atomic_init(&hub->left[rank], false);
    }
    for (size_t i = 0; i < num_channels; i++) {
        channel_t *const channel = &hub->channels[i];

        pthread_mutex_init(&channel->mutex, NULL);
        channel->head = NULL;
        channel->tail = NULL;
        atomic_init(&channel->num_sent, 0);
        channel->num_received = 0;
    }
    *hub_p = hub;
    return GDNCP_OK;
}

gdncp_status_t gdncp_transport_threads_create(int num_ranks, gdncp_transport_t **transports)
{
    hub_t *hub = NULL;

    const gdncp_status_t status = create_hub(num_ranks, &hub);
    if (status != GDNCP_OK) {
        return status;
    }
    for (int rank = 0; rank < num_ranks; rank++) {
        threads_transport_t *const transport = gdncp_memory_alloc(sizeof *transport);

        if (transport == NULL) {
            while (rank-- > 0) {
                gdncp_memory_free(transports[rank]);
            }
            destroy_hub(hub);
            return gdncp_fail_memory("a communicator of threads");
        }
        *transport = (threads_transport_t){
            .base = {.ops = &threads_ops, .rank = rank, .size = num_ranks}, .hub = hub};
        transports[rank] = &transport->base;
    }
    return GDNCP_OK;
}
