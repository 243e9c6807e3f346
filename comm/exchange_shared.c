#include "exchange_shared.h"

#include <string.h>

#include "comm_internal.h"
#include "error.h"
#include "gdncp/memory.h"
#include "shared_messages.h"

/* Both ways with one rank. */
typedef struct pair {
    int peer;
    gdncp_shared_message_t send; /* no bytes: none */
    gdncp_shared_message_t recv;
} pair_t;

struct gdncp_shared_exchange {
    gdncp_shared_retired_t retired; /* the head: it is freed as that */
    gdncp_comm_t *comm;
    const gdncp_plan_t *plan;
    gdncp_shared_message_t copy;
    char *memory; /* what all kept messages point into */
    bool was_started;
    int num_pairs;
    pair_t pairs[]; /* [num_pairs] in order of rank */
};

static bool has_shared_blocks(const gdncp_block_list_t *list)
{
    for (int64_t b = 0; b < list->count; b++) {
        if (list->blocks[b].shared) {
            return true;
        }
    }
    return false;
}

/* Bytes that are kept until they are added. */
static int64_t kept_bytes(const gdncp_plan_t *plan, const gdncp_message_t *message)
{
    const int64_t line = 64;

    return plan->write == GDNCP_PLAN_ADD || has_shared_blocks(&plan->recvs[message->peer])
               ? (message->recv_bytes + line - 1) / line * line
               : 0;
}

static void fill_pair(gdncp_shared_exchange_t *exchange, const gdncp_message_t *message,
                      int64_t kept_at)
{
    const gdncp_plan_t *const plan = exchange->plan;
    pair_t *const pair = &exchange->pairs[exchange->num_pairs++];

    *pair = (pair_t){.peer = message->peer};
    pair->send.bytes = message->send_bytes;
    pair->recv.bytes = message->recv_bytes;
    pair->recv.target.keeps = plan->write == GDNCP_PLAN_ADD;
    pair->recv.target.kept = kept_bytes(plan, message) > 0 ? exchange->memory + kept_at : NULL;
}

gdncp_status_t gdncp_shared_exchange_create(gdncp_comm_t *comm, const gdncp_plan_t *plan,
                                            gdncp_shared_exchange_t **exchange_p)
{
    int64_t num_pairs = 0;
    int64_t bytes = 0;

    for (int64_t m = 0; m < plan->num_messages; m++) {
        if (gdncp_shared_reaches(comm->shared, plan->messages[m].peer)) {
            num_pairs++;
            bytes += kept_bytes(plan, &plan->messages[m]);
        }
    }
    if (num_pairs == 0) {
        return GDNCP_OK;
    }
    gdncp_shared_exchange_t *const exchange =
        gdncp_memory_alloc(sizeof *exchange + (size_t)num_pairs * sizeof(pair_t));
    char *const memory = gdncp_memory_alloc((size_t)bytes);

    if (exchange == NULL || memory == NULL) {
        gdncp_memory_free(memory);
        gdncp_memory_free(exchange);
        return gdncp_fail_memory("an exchange through shared memory");
    }
    *exchange = (gdncp_shared_exchange_t){.comm = comm, .plan = plan, .memory = memory};
    bytes = 0;
    for (int64_t m = 0; m < plan->num_messages; m++) {
        if (gdncp_shared_reaches(comm->shared, plan->messages[m].peer)) {
            fill_pair(exchange, &plan->messages[m], bytes);
            bytes += kept_bytes(plan, &plan->messages[m]);
        }
    }
    *exchange_p = exchange;
    return GDNCP_OK;
}

static bool is_waiting(const pair_t *pair)
{
    return (pair->send.bytes > 0 && !pair->send.done) || (pair->recv.bytes > 0 && !pair->recv.done);
}

static bool is_in_flight(const gdncp_shared_exchange_t *exchange)
{
    bool waits = exchange->was_started && !exchange->copy.done;

    for (int p = 0; p < exchange->num_pairs && exchange->was_started; p++) {
        waits = waits || is_waiting(&exchange->pairs[p]);
    }
    return waits;
}

void gdncp_shared_exchange_destroy(gdncp_shared_exchange_t *exchange)
{
    if (exchange == NULL) {
        return;
    }
    gdncp_shared_exchange_abandon(exchange);
    gdncp_memory_free(exchange->memory);
    if (is_in_flight(exchange)) {
        gdncp_shared_retire(exchange->comm->shared, &exchange->retired);
    } else {
        gdncp_memory_free(exchange);
    }
}

static const pair_t *find_pair(const gdncp_shared_exchange_t *exchange, int peer)
{
    for (int p = 0; exchange != NULL && p < exchange->num_pairs; p++) {
        if (exchange->pairs[p].peer == peer) {
            return &exchange->pairs[p];
        }
    }
    return NULL;
}

bool gdncp_shared_exchange_moves(const gdncp_shared_exchange_t *exchange, int peer)
{
    return find_pair(exchange, peer) != NULL;
}

bool gdncp_shared_exchange_waits_for(const gdncp_shared_exchange_t *exchange, int peer)
{
    const pair_t *const pair = find_pair(exchange, peer);

    return pair != NULL && exchange->was_started && is_waiting(pair);
}

const void *gdncp_shared_exchange_kept(const gdncp_shared_exchange_t *exchange, int peer)
{
    return find_pair(exchange, peer)->recv.target.kept;
}

void gdncp_shared_exchange_start(gdncp_shared_exchange_t *exchange, const void *in, void *out)
{
    gdncp_comm_t *const comm = exchange->comm;
    const gdncp_plan_t *const plan = exchange->plan;
    const bool streams = gdncp_plan_streams(plan);

    exchange->was_started = true;
    for (int p = 0; p < exchange->num_pairs; p++) {
        pair_t *const pair = &exchange->pairs[p];

        if (pair->send.bytes > 0) {
            pair->send.cursor = gdncp_message_begin(&plan->sends[pair->peer], plan->dtype);
            pair->send.in = in;
            gdncp_shared_send(comm->shared, pair->peer, &pair->send);
            comm->counters.messages_sent++;
            comm->counters.bytes_sent += pair->send.bytes;
        }
        if (pair->recv.bytes > 0) {
            pair->recv.cursor = gdncp_message_begin(&plan->recvs[pair->peer], plan->dtype);
            pair->recv.target.out = out;
            pair->recv.target.streams = streams;
            gdncp_shared_recv(comm->shared, pair->peer, &pair->recv);
            comm->counters.messages_received++;
            comm->counters.bytes_received += pair->recv.bytes;
        }
    }
    exchange->copy.local = (gdncp_local_cursor_t){.plan = plan};
    exchange->copy.in = in;
    exchange->copy.target = (gdncp_message_target_t){.out = out, .streams = streams};
    gdncp_shared_copy(comm->shared, &exchange->copy);
    gdncp_shared_progress(comm->shared);
}

void gdncp_shared_exchange_abandon(gdncp_shared_exchange_t *exchange)
{
    exchange->copy.abandoned = true;
    for (int p = 0; p < exchange->num_pairs; p++) {
        exchange->pairs[p].send.abandoned = true;
        exchange->pairs[p].recv.abandoned = true;
    }
}

static gdncp_status_t check_lengths(const gdncp_shared_exchange_t *exchange)
{
    for (int p = 0; p < exchange->num_pairs; p++) {
        const gdncp_shared_message_t *const recv = &exchange->pairs[p].recv;

        if (recv->begun && recv->sender_bytes != recv->bytes) {
            return gdncp_fail(GDNCP_ERR_MISMATCH,
                              "rank %d: expected a message of %lld bytes from rank %d, got %lld",
                              exchange->comm->rank, (long long)recv->bytes, exchange->pairs[p].peer,
                              (long long)recv->sender_bytes);
        }
    }
    return GDNCP_OK;
}

/* Whether all ranks that are waited for are still there. */
static gdncp_status_t check_peers(const gdncp_shared_exchange_t *exchange)
{
    gdncp_comm_t *const comm = exchange->comm;
    gdncp_status_t status = GDNCP_OK;

    for (int p = 0; p < exchange->num_pairs && status == GDNCP_OK; p++) {
        const int peer = exchange->pairs[p].peer;

        if (!is_waiting(&exchange->pairs[p])) {
            continue;
        }
        status = comm->transport->ops->check_peer(comm->transport, peer);
    }
    return status;
}

gdncp_status_t gdncp_shared_exchange_test(gdncp_shared_exchange_t *exchange, bool *done_p)
{
    const bool moved = gdncp_shared_progress(exchange->comm->shared);
    gdncp_status_t status = check_lengths(exchange);

    *done_p = !is_in_flight(exchange);
    if (status == GDNCP_OK && !*done_p && !moved) {
        status = check_peers(exchange);
        /* What a rank wrote before it was gone may have come since. */
        if (status != GDNCP_OK && gdncp_shared_progress(exchange->comm->shared)) {
            return GDNCP_OK;
        }
    }
    if (status != GDNCP_OK) {
        gdncp_shared_exchange_abandon(exchange);
    }
    return status;
}
