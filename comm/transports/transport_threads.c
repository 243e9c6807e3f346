/*
 * Ranks that are threads of one process.
 *
 * A send hangs in the queue of its channel (one an ordered pair of ranks) until the receiver, in
 * its own group_test, copies straight from the sender's buffer to its own. So every rank does its
 * own copying, and a rank that tests any group serves all it has in flight.
 */
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "error.h"
#include "gdncp/memory.h"
#include "threads_hub.h"
#include "transport.h"

enum { SENTENCE_BYTES = 400 };

typedef struct threads_group threads_group_t;

typedef struct threads_transport {
    gdncp_transport_t base;
    gdncp_hub_t *hub;
    threads_group_t *in_flight; /* list; this rank's thread only */
    int64_t num_created_among;  /* equal on all ranks */
} threads_transport_t;

struct threads_group {
    gdncp_group_t base;
    threads_group_t *next; /* in flight */
    gdncp_status_t status; /* of a group that failed while another one was tested */
    char sentence[SENTENCE_BYTES];
    int64_t num_done;               /* all messages before this one are done */
    gdncp_hub_message_t messages[]; /* [base.max_messages] */
};

static threads_transport_t *transport_of(const threads_group_t *group)
{
    return (threads_transport_t *)group->base.transport;
}

static gdncp_hub_channel_t *channel_of(const threads_group_t *group,
                                       const gdncp_hub_message_t *message)
{
    const int rank = group->base.transport->rank;
    const gdncp_hub_t *const hub = transport_of(group)->hub;

    return message->is_send ? gdncp_hub_channel(hub, rank, message->peer)
                            : gdncp_hub_channel(hub, message->peer, rank);
}

static gdncp_status_t group_create(gdncp_transport_t *transport, gdncp_device_kind_t memory,
                                   int64_t max_messages, gdncp_group_t **group_p)
{
    return gdncp_group_alloc(transport, memory, max_messages, sizeof(threads_group_t),
                             sizeof(gdncp_hub_message_t), group_p);
}

static gdncp_status_t group_begin(gdncp_group_t *base)
{
    threads_group_t *const group = (threads_group_t *)base;

    const gdncp_status_t status = gdncp_group_restart(base);

    if (status != GDNCP_OK) {
        return status;
    }
    group->num_done = 0;
    group->status = GDNCP_OK;
    return GDNCP_OK;
}

static gdncp_status_t add_message(threads_group_t *group, bool is_send, void *buffer, size_t bytes,
                                  int peer)
{
    const gdncp_status_t status = gdncp_group_add(&group->base);

    if (status != GDNCP_OK) {
        return status;
    }
    gdncp_hub_message_t *const message = &group->messages[group->base.num_messages - 1];
    message->is_send = is_send;
    message->peer = peer;
    message->buffer = buffer;
    message->bytes = bytes;
    atomic_init(&message->state, GDNCP_HUB_IDLE);
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

static void remove_from_flight(threads_group_t *group)
{
    threads_group_t **link = &transport_of(group)->in_flight;

    while (*link != group) {
        link = &(*link)->next;
    }
    *link = group->next;
    group->base.in_flight = false;
}

static void cancel(threads_group_t *group)
{
    for (int64_t i = group->num_done; i < group->base.num_messages; i++) {
        gdncp_hub_message_t *const message = &group->messages[i];

        if (message->is_send) {
            gdncp_hub_withdraw(channel_of(group, message), message);
        } else {
            atomic_store_explicit(&message->state, GDNCP_HUB_DONE, memory_order_relaxed);
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

/* Whether a rank has aborted the communicator; sentence then says who, and after what. */
static bool is_aborted(const threads_transport_t *transport, char *sentence, size_t size)
{
    const gdncp_hub_t *const hub = transport->hub;
    const int aborted_by = atomic_load(&hub->aborted_by);

    if (aborted_by >= 0) {
        snprintf(sentence, size, "rank %d: rank %d aborted the communicator%s%s",
                 transport->base.rank, aborted_by, hub->abort_text[0] != '\0' ? ", after: " : "",
                 hub->abort_text);
    }
    return aborted_by >= 0;
}

/* Whoever withdraws a message gives its operation up, as a rule since a rank has left or aborted;
 * that is known here too by now, and is the cause. */
static void fail_withdrawn(threads_group_t *group, const gdncp_hub_message_t *message)
{
    const threads_transport_t *const transport = transport_of(group);
    const int rank = transport->base.rank;
    char cause[SENTENCE_BYTES];

    if (is_aborted(transport, cause, sizeof cause)) {
        fail_group(group, GDNCP_ERR_PEER_LOST, "%s", cause);
        return;
    }
    cause[0] = '\0';
    for (int peer = 0; peer < transport->base.size; peer++) {
        if (atomic_load(&transport->hub->left[peer])) {
            snprintf(cause, sizeof cause, ", after rank %d destroyed its communicator", peer);
            break;
        }
    }
    fail_group(group, GDNCP_ERR_PEER_LOST,
               "rank %d: rank %d withdrew the message of which %zu bytes were expected%s", rank,
               message->peer, message->bytes, cause);
}

typedef enum outcome { WAITING, FINISHED, FAILED } outcome_t;

static outcome_t progress_recv(threads_group_t *group, gdncp_hub_message_t *message)
{
    const int rank = group->base.transport->rank;
    gdncp_hub_channel_t *const channel = channel_of(group, message);
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
    gdncp_hub_message_t *const send = gdncp_hub_take(channel, message->sequence);
    if (send == NULL) {
        fail_withdrawn(group, message);
        return FAILED;
    }
    const size_t bytes = send->bytes;
    if (bytes == message->bytes) {
        memcpy(message->buffer, send->buffer, bytes);
    }
    /* From here on the sender may free its message. */
    atomic_store_explicit(&send->state, GDNCP_HUB_DONE, memory_order_release);
    if (bytes != message->bytes) {
        fail_group(group, GDNCP_ERR_MISMATCH,
                   "rank %d: expected a message of %zu bytes from rank %d, got %zu", rank,
                   message->bytes, message->peer, bytes);
        return FAILED;
    }
    atomic_store_explicit(&message->state, GDNCP_HUB_DONE, memory_order_relaxed);
    return FINISHED;
}

static outcome_t progress_send(threads_group_t *group, gdncp_hub_message_t *message)
{
    /* Before the state: whoever has left has taken what it wanted. */
    const bool left = atomic_load(&transport_of(group)->hub->left[message->peer]);

    if (atomic_load_explicit(&message->state, memory_order_acquire) == GDNCP_HUB_DONE) {
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

    for (int64_t i = group->num_done; i < group->base.num_messages; i++) {
        gdncp_hub_message_t *const message = &group->messages[i];

        if (!message->is_send &&
            atomic_load_explicit(&message->state, memory_order_relaxed) == GDNCP_HUB_DONE) {
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
    char sentence[SENTENCE_BYTES];
    const bool aborted = is_aborted(transport, sentence, sizeof sentence);
    threads_group_t *next;

    for (threads_group_t *group = transport->in_flight; group != NULL; group = next) {
        next = group->next;
        if (aborted) {
            fail_group(group, GDNCP_ERR_PEER_LOST, "%s", sentence);
        } else {
            progress_group(group);
        }
    }
}

static gdncp_status_t check_aborted(const threads_transport_t *transport)
{
    char sentence[SENTENCE_BYTES];

    return is_aborted(transport, sentence, sizeof sentence)
               ? gdncp_fail(GDNCP_ERR_PEER_LOST, "%s", sentence)
               : GDNCP_OK;
}

static gdncp_status_t group_end(gdncp_group_t *base, gdncp_stream_t stream)
{
    threads_group_t *const group = (threads_group_t *)base;
    threads_transport_t *const transport = transport_of(group);
    const gdncp_status_t status = check_aborted(transport);

    (void)stream;
    if (status != GDNCP_OK) {
        return status;
    }
    for (int64_t i = 0; i < group->base.num_messages; i++) {
        gdncp_hub_message_t *const message = &group->messages[i];
        gdncp_hub_channel_t *const channel = channel_of(group, message);

        if (message->is_send) {
            gdncp_hub_post(channel, message);
        } else {
            message->sequence = channel->num_received++;
            atomic_store_explicit(&message->state, GDNCP_HUB_POSTED, memory_order_relaxed);
        }
    }
    group->base.in_flight = true;
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
    *done_p = !group->base.in_flight;
    return GDNCP_OK;
}

static bool group_waits_for(const gdncp_group_t *base, int peer)
{
    const threads_group_t *const group = (const threads_group_t *)base;

    for (int64_t i = group->num_done; group->base.in_flight && i < group->base.num_messages; i++) {
        const gdncp_hub_message_t *const message = &group->messages[i];

        if (message->peer == peer &&
            atomic_load_explicit(&message->state, memory_order_relaxed) != GDNCP_HUB_DONE) {
            return true;
        }
    }
    return false;
}

static void group_destroy(gdncp_group_t *base)
{
    threads_group_t *const group = (threads_group_t *)base;

    if (group->base.in_flight) {
        cancel(group);
    }
    gdncp_memory_free(group);
}

static gdncp_status_t check_peer(gdncp_transport_t *base, int peer)
{
    threads_transport_t *const transport = (threads_transport_t *)base;

    progress(transport);
    const gdncp_status_t status = check_aborted(transport);

    if (status == GDNCP_OK && atomic_load(&transport->hub->left[peer])) {
        return gdncp_fail(GDNCP_ERR_PEER_LOST, "rank %d: rank %d destroyed its communicator",
                          base->rank, peer);
    }
    return status;
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
    gdncp_hub_abort(((threads_transport_t *)base)->hub, base->rank, gdncp_transport_cause(base));
}

static void destroy(gdncp_transport_t *base)
{
    gdncp_hub_leave(((threads_transport_t *)base)->hub, base->rank);
    gdncp_memory_free(base);
}

/* One rank's part of a hub, which it leaves where that cannot be made. */
static gdncp_status_t enter_hub(gdncp_hub_t *hub, int rank, gdncp_transport_t **transport_p);

static gdncp_status_t create_among(gdncp_transport_t *base, int leader,
                                   const gdncp_bootstrap_t *bootstrap, int64_t timeout_ms,
                                   gdncp_transport_t **among_p)
{
    threads_transport_t *const transport = (threads_transport_t *)base;
    const int64_t key = transport->num_created_among++ * base->size + leader;
    gdncp_hub_t *hub = NULL;

    (void)timeout_ms; /* nothing waits */
    const gdncp_status_t status = gdncp_hub_find_child(transport->hub, key, bootstrap->size, &hub);
    return status == GDNCP_OK ? enter_hub(hub, bootstrap->rank, among_p) : status;
}

static gdncp_status_t shrink(gdncp_transport_t *base, int64_t timeout_ms,
                             gdncp_transport_t **survivors_p)
{
    enum { KEY = -1 }; /* that no call of create_among() has */
    gdncp_hub_t *const old = ((threads_transport_t *)base)->hub;
    gdncp_hub_t *hub = NULL;
    int new_rank = 0;
    int new_size = 0;

    if (!gdncp_hub_shrink(old, base->rank, timeout_ms)) {
        return gdncp_fail(
            GDNCP_ERR_PEER_LOST,
            "rank %d: this rank was given up by the others: it did not come to shrink "
            "the communicator",
            base->rank);
    }
    for (int rank = 0; rank < base->size; rank++) {
        new_rank += old->is_survivor[rank] && rank < base->rank;
        new_size += old->is_survivor[rank];
    }
    const gdncp_status_t status = gdncp_hub_find_child(old, KEY, new_size, &hub);
    return status == GDNCP_OK ? enter_hub(hub, new_rank, survivors_p) : status;
}

static const gdncp_transport_ops_t threads_ops = {
    .kind = GDNCP_TRANSPORT_THREADS,
    .check_device_memory = gdncp_transport_refuse_device,
    .group_create = group_create,
    .group_begin = group_begin,
    .send = send_message,
    .recv = recv_message,
    .group_end = group_end,
    .group_test = group_test,
    .group_waits_for = group_waits_for,
    .group_destroy = group_destroy,
    .check_peer = check_peer,
    .describe_lanes = describe_lanes,
    .abort = abort_transport,
    .create_among = create_among,
    .shrink = shrink,
    .destroy = destroy,
};

static gdncp_status_t enter_hub(gdncp_hub_t *hub, int rank, gdncp_transport_t **transport_p)
{
    threads_transport_t *const transport = gdncp_memory_alloc(sizeof *transport);

    if (transport == NULL) {
        gdncp_hub_leave(hub, rank);
        return gdncp_fail_memory("a communicator of threads");
    }
    *transport = (threads_transport_t){
        .base = {.ops = &threads_ops, .rank = rank, .size = hub->size}, .hub = hub};
    *transport_p = &transport->base;
    return GDNCP_OK;
}

gdncp_status_t gdncp_transport_threads_create(int num_ranks, gdncp_transport_t **transports)
{
    gdncp_hub_t *hub = NULL;
    int num_entered = 0;

    gdncp_status_t status = gdncp_hub_create(num_ranks, &hub);
    if (status != GDNCP_OK) {
        return status;
    }
    /* Each rank leaves the hub one way or another; with the last it is freed. */
    while (num_entered < num_ranks && status == GDNCP_OK) {
        status = enter_hub(hub, num_entered, &transports[num_entered]);
        num_entered += status == GDNCP_OK;
    }
    if (status != GDNCP_OK) {
        for (int rank = num_entered + 1; rank < num_ranks; rank++) {
            gdncp_hub_leave(hub, rank);
        }
        for (int rank = 0; rank < num_entered; rank++) {
            destroy(transports[rank]);
        }
    }
    return status;
}
