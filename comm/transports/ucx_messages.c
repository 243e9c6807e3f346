/* Groups of messages over UCX. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "deadline.h"
#include "error.h"
#include "gdncp/memory.h"
#include "log.h"
#include "ucx_internal.h"

#define RANK_BITS 24
#define CANCEL_MS 200
#define EXPLAIN_MS 50

_Static_assert(sizeof(ucp_tag_t) == 8, "a rank and a message number fit in a tag");

typedef struct message {
    bool is_send;
    bool pending; /* UCX or the loopback may still touch the buffer */
    int peer;
    void *buffer; /* only read where is_send */
    size_t bytes;
    size_t received_bytes;
    ucs_status_t status;
    void *request;                     /* NULL unless pending */
    gdncp_loopback_message_t loopback; /* where the peer is the rank itself */
} message_t;

typedef struct ucx_group {
    gdncp_group_t base;
    ucs_memory_type_t memory_type;
    int64_t num_done;     /* all messages before this one are done and checked */
    int64_t started_ms;   /* when it was ended */
    message_t messages[]; /* [base.max_messages] */
} ucx_group_t;

static gdncp_ucx_t *ucx_of(const ucx_group_t *group)
{
    return (gdncp_ucx_t *)group->base.transport;
}

static ucp_tag_t make_tag(int sender, uint64_t number)
{
    return (uint64_t)sender << (64 - RANK_BITS) | (number & (UINT64_MAX >> RANK_BITS));
}

static gdncp_status_t group_create(gdncp_transport_t *transport, gdncp_device_kind_t memory,
                                   int64_t max_messages, gdncp_group_t **group_p)
{
    const gdncp_status_t status = gdncp_group_alloc(
        transport, memory, max_messages, sizeof(ucx_group_t), sizeof(message_t), group_p);

    if (status == GDNCP_OK) {
        ((ucx_group_t *)*group_p)->memory_type = gdncp_ucx_memory_type(memory);
    }
    return status;
}

static gdncp_status_t group_begin(gdncp_group_t *base)
{
    ucx_group_t *const group = (ucx_group_t *)base;

    const gdncp_status_t status = gdncp_group_restart(base);

    if (status != GDNCP_OK) {
        return status;
    }
    group->num_done = 0;
    return GDNCP_OK;
}

static gdncp_status_t add_message(ucx_group_t *group, bool is_send, void *buffer, size_t bytes,
                                  int peer)
{
    const gdncp_status_t status = gdncp_group_add(&group->base);

    if (status != GDNCP_OK) {
        return status;
    }
    assert(group->base.memory == GDNCP_DEVICE_CPU || peer != group->base.transport->rank);
    group->messages[group->base.num_messages - 1] =
        (message_t){.is_send = is_send, .peer = peer, .buffer = buffer, .bytes = bytes};
    return GDNCP_OK;
}

static gdncp_status_t send_message(gdncp_group_t *base, const void *buffer, size_t bytes, int peer)
{
    return add_message((ucx_group_t *)base, true, (void *)buffer, bytes, peer);
}

static gdncp_status_t recv_message(gdncp_group_t *base, void *buffer, size_t bytes, int peer)
{
    return add_message((ucx_group_t *)base, false, buffer, bytes, peer);
}

static void finish_message(message_t *message, void *request, ucs_status_t status)
{
    message->status = status;
    message->pending = false;
    message->request = NULL;
    ucp_request_free(request);
}

static void on_sent(void *request, ucs_status_t status, void *context)
{
    finish_message(context, request, status);
}

static void on_received(void *request, ucs_status_t status, const ucp_tag_recv_info_t *info,
                        void *context)
{
    message_t *const message = context;

    message->received_bytes =
        status == UCS_OK || status == UCS_ERR_MESSAGE_TRUNCATED ? info->length : 0;
    finish_message(message, request, status);
}

static void post_send(gdncp_ucx_t *ucx, message_t *message, ucs_memory_type_t memory_type)
{
    gdncp_ucx_peer_t *const peer = &ucx->peers[message->peer];
    const ucp_request_param_t params = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA |
                        UCP_OP_ATTR_FIELD_MEMORY_TYPE,
        .cb.send = on_sent,
        .user_data = message,
        .memory_type = memory_type,
    };

    if (peer->endpoint == NULL) {
        message->status = peer->reason;
        return;
    }
    message->pending = true;
    const ucs_status_ptr_t request =
        ucp_tag_send_nbx(peer->endpoint, message->buffer, message->bytes,
                         make_tag(ucx->base.rank, peer->num_sends++), &params);
    if (UCS_PTR_IS_PTR(request)) {
        message->request = request;
    } else {
        message->status = UCS_PTR_STATUS(request);
        message->pending = false;
    }
}

static void post_recv(gdncp_ucx_t *ucx, message_t *message, ucs_memory_type_t memory_type)
{
    gdncp_ucx_peer_t *const peer = &ucx->peers[message->peer];
    /* Always through the callback: only there a truncated message tells its length. */
    const ucp_request_param_t params = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA |
                        UCP_OP_ATTR_FIELD_MEMORY_TYPE | UCP_OP_ATTR_FLAG_NO_IMM_CMPL,
        .cb.recv = on_received,
        .user_data = message,
        .memory_type = memory_type,
    };

    message->pending = true;
    const ucs_status_ptr_t request =
        ucp_tag_recv_nbx(ucx->worker, message->buffer, message->bytes,
                         make_tag(message->peer, peer->num_recvs++), UINT64_MAX, &params);
    if (UCS_PTR_IS_PTR(request)) {
        message->request = message->pending ? request : NULL;
    } else {
        message->status = UCS_PTR_STATUS(request);
        message->pending = false;
    }
}

static void post_to_self(gdncp_ucx_t *ucx, message_t *message)
{
    if (message->is_send) {
        gdncp_loopback_send(&ucx->loopback, &message->loopback, message->buffer, message->bytes);
    } else {
        gdncp_loopback_recv(&ucx->loopback, &message->loopback, message->buffer, message->bytes);
    }
}

static bool is_pending(const ucx_group_t *group, const message_t *message)
{
    return message->peer == group->base.transport->rank ? message->loopback.pending
                                                        : message->pending;
}

/* Progress until UCX has let go of all buffers, or the deadline. */
static bool drain(ucx_group_t *group, int64_t deadline)
{
    for (int64_t num_polls = 0;; num_polls++) {
        bool any_pending = false;

        ucp_worker_progress(ucx_of(group)->worker);
        for (int64_t i = group->num_done; i < group->base.num_messages; i++) {
            any_pending = any_pending || is_pending(group, &group->messages[i]);
        }
        if (!any_pending || gdncp_now_ms() >= deadline) {
            return !any_pending;
        }
        gdncp_pause_between_polls(num_polls);
    }
}

/* Close the connections that hold on to buffers of the group. */
static void drop_peers(ucx_group_t *group, bool only_lost)
{
    gdncp_ucx_t *const ucx = ucx_of(group);

    for (int64_t i = group->num_done; i < group->base.num_messages; i++) {
        const int peer = group->messages[i].peer;

        if (is_pending(group, &group->messages[i]) && (ucx->peers[peer].lost || !only_lost)) {
            gdncp_ucx_drop_peer(ucx, peer);
        }
    }
}

/* Receives can be cancelled; a send that waits for its receiver ends only with the connection. */
static void cancel(ucx_group_t *group)
{
    gdncp_ucx_t *const ucx = ucx_of(group);

    group->base.in_flight = false;
    for (int64_t i = group->num_done; i < group->base.num_messages; i++) {
        message_t *const message = &group->messages[i];

        if (message->peer == ucx->base.rank) {
            gdncp_loopback_cancel(&ucx->loopback, &message->loopback);
        } else if (message->pending && !message->is_send) {
            ucp_request_cancel(ucx->worker, message->request);
        }
    }
    drop_peers(group, true);
    if (!drain(group, gdncp_deadline_after(CANCEL_MS))) {
        drop_peers(group, false);
        drain(group, gdncp_deadline_after(CANCEL_MS));
    }
}

static gdncp_status_t group_end(gdncp_group_t *base, gdncp_stream_t stream)
{
    ucx_group_t *const group = (ucx_group_t *)base;
    gdncp_ucx_t *const ucx = ucx_of(group);

    (void)stream;
    group->started_ms = gdncp_now_ms();
    /* After an abort. Of a rank that is lost there may be last words for this group. */
    const gdncp_status_t status =
        gdncp_watch_verdict(ucx->watch, false, group->started_ms, group->started_ms);
    if (status != GDNCP_OK) {
        return status;
    }
    group->base.in_flight = true;
    /* Receives first: a message that finds its receive needs no copy. */
    for (int64_t i = 0; i < group->base.num_messages; i++) {
        message_t *const message = &group->messages[i];

        if (message->peer == ucx->base.rank) {
            post_to_self(ucx, message);
        } else if (!message->is_send) {
            post_recv(ucx, message, group->memory_type);
        }
    }
    for (int64_t i = 0; i < group->base.num_messages; i++) {
        message_t *const message = &group->messages[i];

        if (message->is_send && message->peer != ucx->base.rank) {
            post_send(ucx, message, group->memory_type);
        }
    }
    return GDNCP_OK;
}

/* Of a message that is no longer pending. */
static gdncp_status_t check_message(const gdncp_ucx_t *ucx, const message_t *message)
{
    const bool to_self = message->peer == ucx->base.rank;
    const size_t received = to_self ? message->loopback.partner_bytes : message->received_bytes;

    if (message->status != UCS_OK && message->status != UCS_ERR_MESSAGE_TRUNCATED) {
        return gdncp_ucx_fail(ucx, message->peer, message->status,
                              message->is_send ? "sending to" : "receiving from");
    }
    if (!message->is_send && received != message->bytes) {
        return gdncp_fail(GDNCP_ERR_MISMATCH,
                          "rank %d: expected a message of %zu bytes from rank %d, got %zu",
                          ucx->base.rank, message->bytes, message->peer, received);
    }
    return GDNCP_OK;
}

/* Of a message that is pending. UCX keeps a posted receive though its sender is gone, as what was
 * sent before may be on its way. idle: nothing has arrived just now, from whomever. */
static gdncp_status_t check_peer(const ucx_group_t *group, const message_t *message, bool idle,
                                 int64_t now_ms)
{
    const gdncp_ucx_t *const ucx = ucx_of(group);
    const gdncp_ucx_peer_t *const peer = &ucx->peers[message->peer];
    const int64_t since_ms = peer->lost_ms > group->started_ms ? peer->lost_ms : group->started_ms;

    if (peer->lost && gdncp_watch_waited_enough(idle, since_ms, now_ms)) {
        return gdncp_ucx_fail(ucx, message->peer, peer->reason, "lost");
    }
    return GDNCP_OK;
}

static void look_for_gone(gdncp_ucx_t *ucx, int64_t now_ms, bool forced)
{
    if (!gdncp_watch_look(ucx->watch, now_ms, forced)) {
        return;
    }
    for (int rank = 0; rank < ucx->base.size; rank++) {
        if (rank != ucx->base.rank && gdncp_watch_is_gone(ucx->watch, rank)) {
            gdncp_ucx_lose_peer(&ucx->peers[rank], UCS_ERR_CONNECTION_RESET);
        }
    }
}

/* UCX says that a connection broke; the watch, within moments, whose end was the first and why. */
static gdncp_status_t explain_loss(gdncp_ucx_t *ucx, int peer, gdncp_status_t status)
{
    const int64_t deadline = gdncp_deadline_after(EXPLAIN_MS);
    char sentence[512];

    snprintf(sentence, sizeof sentence, "%s", gdncp_last_error());
    for (;;) {
        const int64_t now_ms = gdncp_now_ms();

        look_for_gone(ucx, now_ms, true);
        const gdncp_status_t explained = gdncp_watch_explain(ucx->watch, peer);
        if (explained != GDNCP_OK) {
            return explained;
        }
        if (now_ms >= deadline) {
            return gdncp_fail(status, "%s", sentence);
        }
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

static gdncp_status_t group_test(gdncp_group_t *base, bool *done_p)
{
    ucx_group_t *const group = (ucx_group_t *)base;
    gdncp_ucx_t *const ucx = ucx_of(group);
    gdncp_status_t status = GDNCP_OK;
    int peer = 0;
    bool all_done = true;

    if (!group->base.in_flight) {
        *done_p = true;
        return GDNCP_OK;
    }
    const int64_t now_ms = gdncp_now_ms();
    look_for_gone(ucx, now_ms, false);
    const bool idle = ucp_worker_progress(ucx->worker) == 0;
    for (int64_t i = group->num_done; i < group->base.num_messages && status == GDNCP_OK; i++) {
        const message_t *const message = &group->messages[i];
        const bool pending = is_pending(group, message);

        peer = message->peer;
        status = pending ? check_peer(group, message, idle, now_ms) : check_message(ucx, message);
        all_done = all_done && !pending;
        group->num_done += all_done && status == GDNCP_OK;
    }
    if (status == GDNCP_OK && !all_done) {
        status = gdncp_watch_verdict(ucx->watch, idle, group->started_ms, now_ms);
    } else if (status == GDNCP_ERR_PEER_LOST) {
        status = explain_loss(ucx, peer, status);
    }
    if (status != GDNCP_OK) {
        cancel(group);
        return status;
    }
    group->base.in_flight = !all_done;
    *done_p = all_done;
    return GDNCP_OK;
}

static bool group_waits_for(const gdncp_group_t *base, int peer)
{
    const ucx_group_t *const group = (const ucx_group_t *)base;

    for (int64_t i = group->num_done; group->base.in_flight && i < group->base.num_messages; i++) {
        if (group->messages[i].peer == peer && is_pending(group, &group->messages[i])) {
            return true;
        }
    }
    return false;
}

static void group_destroy(gdncp_group_t *base)
{
    ucx_group_t *const group = (ucx_group_t *)base;

    if (group->base.in_flight) {
        cancel(group);
    }
    for (int64_t i = group->num_done; i < group->base.num_messages; i++) {
        if (is_pending(group, &group->messages[i])) {
            /* UCX may yet write to the message, so that it must stay. */
            gdncp_log(GDNCP_LOG_ERROR, base->transport->rank,
                      "UCX did not let go of a message of %zu bytes with rank %d",
                      group->messages[i].bytes, group->messages[i].peer);
            return;
        }
    }
    gdncp_memory_free(group);
}

static gdncp_status_t check_rank(gdncp_transport_t *transport, int peer)
{
    gdncp_ucx_t *const ucx = (gdncp_ucx_t *)transport;

    const int64_t now_ms = gdncp_now_ms();

    look_for_gone(ucx, now_ms, false);
    ucp_worker_progress(ucx->worker);
    const gdncp_status_t status = gdncp_watch_verdict(ucx->watch, true, 0, now_ms);

    return status == GDNCP_OK && ucx->peers[peer].lost
               ? explain_loss(ucx, peer, gdncp_ucx_fail(ucx, peer, ucx->peers[peer].reason, "lost"))
               : status;
}

static gdncp_status_t describe_lanes(gdncp_transport_t *transport, int peer, char *text,
                                     size_t size)
{
    const gdncp_ucx_t *const ucx = (const gdncp_ucx_t *)transport;
    char *info = NULL;
    size_t info_bytes = 0;

    if (peer == transport->rank) {
        snprintf(text, size, "memcpy");
        return GDNCP_OK;
    }
    if (ucx->peers[peer].endpoint == NULL) {
        return gdncp_ucx_fail(ucx, peer, ucx->peers[peer].reason, "lost");
    }
    FILE *const stream = open_memstream(&info, &info_bytes);
    if (stream == NULL) {
        return gdncp_fail_memory("the description of lanes");
    }
    ucp_ep_print_info(ucx->peers[peer].endpoint, stream);
    fclose(stream);
    gdncp_ucx_lanes_text(info, text, size);
    free(info);
    return GDNCP_OK;
}

static void abort_transport(gdncp_transport_t *transport)
{
    gdncp_watch_abort(((gdncp_ucx_t *)transport)->watch, gdncp_transport_cause(transport));
}

static gdncp_status_t create_among(gdncp_transport_t *transport, int leader,
                                   const gdncp_bootstrap_t *bootstrap, int64_t timeout_ms,
                                   gdncp_transport_t **among_p)
{
    (void)transport;
    (void)leader;
    return gdncp_transport_ucx_create(bootstrap, timeout_ms, among_p);
}

static void destroy(gdncp_transport_t *transport)
{
    gdncp_ucx_t *const ucx = (gdncp_ucx_t *)transport;

    gdncp_ucx_disconnect(ucx);
    if (ucx->watch != NULL) {
        gdncp_watch_leave(ucx->watch, gdncp_transport_cause(transport));
    }
    gdncp_watch_destroy(ucx->watch);
    gdncp_memory_free(ucx->peers);
    gdncp_memory_free(ucx);
}

const gdncp_transport_ops_t gdncp_ucx_ops = {
    .kind = GDNCP_TRANSPORT_UCX,
    .check_device_memory = gdncp_ucx_check_device_memory,
    .group_create = group_create,
    .group_begin = group_begin,
    .send = send_message,
    .recv = recv_message,
    .group_end = group_end,
    .group_test = group_test,
    .group_waits_for = group_waits_for,
    .group_destroy = group_destroy,
    .check_peer = check_rank,
    .describe_lanes = describe_lanes,
    .abort = abort_transport,
    .create_among = create_among,
    .shrink = gdncp_ucx_shrink,
    .destroy = destroy,
};
