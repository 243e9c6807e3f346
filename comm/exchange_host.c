/* Messages of a plan between processors' own memory, and the staging between. */
#include "exchange_host.h"

#include <string.h>

#include "comm_internal.h"
#include "error.h"
#include "exchange_shared.h"
#include "gdncp/memory.h"
#include "plan_internal.h"
#include "trace_internal.h"

/* Where a message is packed and where it arrives; NULL: in the user's buffer, or no message. */
typedef struct staging {
    void *send;
    void *recv;
} staging_t;

struct gdncp_host_exchange {
    gdncp_comm_t *comm;
    const gdncp_plan_t *plan;
    gdncp_shared_exchange_t *shared; /* messages through rings; NULL: none. The others: */
    gdncp_group_t *group;
    staging_t *stagings;  /* [plan->num_messages] */
    const void **arrived; /* [plan->num_ranks], as gdncp_plan_unpack() wants it */
    const void **kept;    /* [plan->num_ranks], as gdncp_plan_add_sums() wants it */
    void *memory;         /* what all stagings point into */
    int64_t packed_bytes; /* in one run */
    int64_t unpacked_bytes;
    int64_t received_bytes; /* staged or not */
    const void *in;         /* of the run in flight */
    void *out;
};

static size_t staged_bytes(int64_t bytes, bool in_place)
{
    const size_t line = 64;

    return in_place ? 0 : ((size_t)bytes + line - 1) / line * line;
}

static gdncp_status_t allocate_staging(gdncp_host_exchange_t *host)
{
    const gdncp_plan_t *const plan = host->plan;
    size_t total = 0;

    for (int64_t m = 0; m < plan->num_messages; m++) {
        const gdncp_message_t *const message = &plan->messages[m];

        if (gdncp_shared_exchange_moves(host->shared, message->peer)) {
            continue;
        }
        total += staged_bytes(message->send_bytes, gdncp_plan_sends_in_place(plan, message->peer));
        total +=
            staged_bytes(message->recv_bytes, gdncp_plan_receives_in_place(plan, message->peer));
    }
    host->stagings = gdncp_memory_alloc((size_t)plan->num_messages * sizeof *host->stagings);
    host->arrived = gdncp_memory_alloc((size_t)plan->num_ranks * sizeof *host->arrived);
    host->kept = gdncp_memory_alloc((size_t)plan->num_ranks * sizeof *host->kept);
    host->memory = gdncp_memory_alloc(total);
    if (host->stagings == NULL || host->arrived == NULL || host->kept == NULL ||
        host->memory == NULL) {
        return gdncp_fail(GDNCP_ERR_OUT_OF_MEMORY, "out of memory: %zu bytes of staging for %s",
                          total, plan->name);
    }
    char *next = host->memory;

    memset(host->stagings, 0, (size_t)plan->num_messages * sizeof *host->stagings);
    memset(host->arrived, 0, (size_t)plan->num_ranks * sizeof *host->arrived);
    memset(host->kept, 0, (size_t)plan->num_ranks * sizeof *host->kept);
    for (int64_t m = 0; m < plan->num_messages; m++) {
        const gdncp_message_t *const message = &plan->messages[m];

        if (gdncp_shared_exchange_moves(host->shared, message->peer)) {
            host->kept[message->peer] = gdncp_shared_exchange_kept(host->shared, message->peer);
            continue;
        }
        if (message->send_bytes > 0 && !gdncp_plan_sends_in_place(plan, message->peer)) {
            host->stagings[m].send = next;
            host->packed_bytes += message->send_bytes;
            next += staged_bytes(message->send_bytes, false);
        }
        if (message->recv_bytes > 0 && !gdncp_plan_receives_in_place(plan, message->peer)) {
            host->stagings[m].recv = next;
            host->arrived[message->peer] = next;
            host->unpacked_bytes += message->recv_bytes;
            next += staged_bytes(message->recv_bytes, false);
        }
        host->kept[message->peer] = host->arrived[message->peer];
    }
    return GDNCP_OK;
}

/* All but the exchange itself. */
static gdncp_status_t make_parts(gdncp_host_exchange_t *host)
{
    gdncp_status_t status = gdncp_shared_exchange_create(host->comm, host->plan, &host->shared);

    if (status == GDNCP_OK) {
        status = allocate_staging(host);
    }
    return status == GDNCP_OK
               ? gdncp_comm_group_create(host->comm, 2 * host->plan->num_messages, &host->group)
               : status;
}

gdncp_status_t gdncp_host_exchange_create(gdncp_comm_t *comm, const gdncp_plan_t *plan,
                                          gdncp_host_exchange_t **host_p)
{
    gdncp_host_exchange_t *const host = gdncp_memory_alloc(sizeof *host);

    if (host == NULL) {
        return gdncp_fail_memory("an exchange");
    }
    *host = (gdncp_host_exchange_t){
        .comm = comm, .plan = plan, .received_bytes = gdncp_plan_bytes_received(plan)};
    const gdncp_status_t status = make_parts(host);

    if (status != GDNCP_OK) {
        gdncp_host_exchange_destroy(host);
        return status;
    }
    *host_p = host;
    return GDNCP_OK;
}

void gdncp_host_exchange_destroy(gdncp_host_exchange_t *host)
{
    if (host != NULL) {
        gdncp_shared_exchange_destroy(host->shared);
        gdncp_comm_group_destroy(host->comm, host->group);
        gdncp_memory_free(host->stagings);
        gdncp_memory_free(host->arrived);
        gdncp_memory_free(host->kept);
        gdncp_memory_free(host->memory);
        gdncp_memory_free(host);
    }
}

static gdncp_status_t add_receives(const gdncp_host_exchange_t *host, void *out)
{
    const gdncp_plan_t *const plan = host->plan;
    const size_t size = gdncp_dtype_size(plan->dtype);

    for (int64_t m = 0; m < plan->num_messages; m++) {
        const gdncp_message_t *const message = &plan->messages[m];
        void *buffer = host->stagings[m].recv;

        if (message->recv_bytes == 0 || gdncp_shared_exchange_moves(host->shared, message->peer)) {
            continue;
        }
        if (buffer == NULL) {
            buffer = (char *)out + (size_t)plan->recvs[message->peer].blocks[0].offset * size;
        }
        const gdncp_status_t status = gdncp_comm_recv(host->comm, host->group, buffer,
                                                      (size_t)message->recv_bytes, message->peer);

        if (status != GDNCP_OK) {
            return status;
        }
    }
    return GDNCP_OK;
}

static gdncp_status_t add_sends(const gdncp_host_exchange_t *host, const void *in)
{
    const gdncp_plan_t *const plan = host->plan;
    const size_t size = gdncp_dtype_size(plan->dtype);

    for (int64_t m = 0; m < plan->num_messages; m++) {
        const gdncp_message_t *const message = &plan->messages[m];
        const void *buffer = host->stagings[m].send;

        if (message->send_bytes == 0 || gdncp_shared_exchange_moves(host->shared, message->peer)) {
            continue;
        }
        if (buffer == NULL) {
            buffer = (const char *)in + (size_t)plan->sends[message->peer].blocks[0].offset * size;
        }
        const gdncp_status_t status = gdncp_comm_send(host->comm, host->group, buffer,
                                                      (size_t)message->send_bytes, message->peer);

        if (status != GDNCP_OK) {
            return status;
        }
    }
    return GDNCP_OK;
}

static void pack(const gdncp_host_exchange_t *host, const void *in)
{
    const gdncp_plan_t *const plan = host->plan;
    const int64_t begin_ns = gdncp_trace_begin();

    for (int64_t m = 0; m < plan->num_messages; m++) {
        if (host->stagings[m].send != NULL) {
            gdncp_plan_pack(plan, &plan->sends[plan->messages[m].peer], in, host->stagings[m].send);
        }
    }
    gdncp_trace_end("pack", begin_ns, host->packed_bytes);
}

static void unpack(const gdncp_host_exchange_t *host)
{
    const int64_t begin_ns = gdncp_trace_begin();

    gdncp_plan_unpack(host->plan, host->arrived, host->out);
    gdncp_plan_add_sums(host->plan, host->in, host->kept, host->out);
    gdncp_trace_end("unpack", begin_ns, host->unpacked_bytes);
}

gdncp_status_t gdncp_host_exchange_start(gdncp_host_exchange_t *host, const void *in, void *out)
{
    pack(host, in);
    gdncp_plan_clear(host->plan, out);
    gdncp_status_t status = gdncp_comm_group_begin(host->comm, host->group);

    if (status == GDNCP_OK) {
        status = add_receives(host, out);
    }
    if (status == GDNCP_OK) {
        status = add_sends(host, in);
    }
    if (status == GDNCP_OK) {
        status = gdncp_comm_group_end(host->comm, host->group, NULL);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    host->in = in;
    host->out = out;
    if (host->shared != NULL) {
        gdncp_shared_exchange_start(host->shared, in, out);
    } else {
        gdncp_plan_copy_local(host->plan, in, out);
    }
    return GDNCP_OK;
}

/* The messages are there, or will never be. */
static gdncp_status_t finish(gdncp_host_exchange_t *host, gdncp_status_t status)
{
    if (status == GDNCP_OK) {
        unpack(host);
    } else if (host->shared != NULL) {
        gdncp_shared_exchange_abandon(host->shared);
    }
    return status;
}

/* Both ways of the messages. The rings make progress once, by either. */
static gdncp_status_t test_messages(void *context, bool *done_p)
{
    gdncp_host_exchange_t *const host = context;
    bool shared_done = true;

    if (host->shared == NULL) {
        return gdncp_comm_group_test(host->comm, host->group, done_p);
    }
    gdncp_status_t status = gdncp_shared_exchange_test(host->shared, &shared_done);

    if (status != GDNCP_OK) {
        gdncp_transport_keep_cause(host->comm->transport);
        return status;
    }
    status = gdncp_comm_group_look(host->comm, host->group, done_p);
    *done_p = *done_p && shared_done;
    return status;
}

static bool waits_for(const void *context, int peer)
{
    const gdncp_host_exchange_t *const host = context;

    return gdncp_shared_exchange_waits_for(host->shared, peer) ||
           host->comm->transport->ops->group_waits_for(host->group, peer);
}

gdncp_status_t gdncp_host_exchange_test(gdncp_host_exchange_t *host, bool *done_p)
{
    const gdncp_status_t status = test_messages(host, done_p);

    return status != GDNCP_OK || *done_p ? finish(host, status) : GDNCP_OK;
}

gdncp_status_t gdncp_host_exchange_wait(gdncp_host_exchange_t *host)
{
    const int64_t begin_ns = gdncp_trace_begin();
    const gdncp_status_t status = gdncp_comm_wait(
        host->comm,
        &(gdncp_comm_waiter_t){.test = test_messages, .waits_for = waits_for, .context = host});

    gdncp_trace_end("exchange wait", begin_ns, host->received_bytes);
    return finish(host, status);
}
