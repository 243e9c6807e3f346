/* Exchanges: a plan's messages in one group of the communicator, and the staging between. */
#include "gdncp/exchange.h"

#include <inttypes.h>
#include <string.h>

#include "comm_internal.h"
#include "error.h"
#include "exchange_compare.h"
#include "exchange_device.h"
#include "exchange_shared.h"
#include "gdncp/device.h"
#include "gdncp/memory.h"
#include "plan_internal.h"
#include "trace_internal.h"

/* Where a message is packed and where it arrives; NULL: in the user's buffer, or no message. */
typedef struct staging {
    void *send;
    void *recv;
} staging_t;

struct gdncp_exchange {
    gdncp_comm_t *comm;
    const gdncp_plan_t *plan;
    void *input;                     /* for a copy of a run's; NULL: it is used where it lies */
    gdncp_device_exchange_t *device; /* NULL on the CPU, which alone uses what follows */

    gdncp_shared_exchange_t *shared; /* messages through rings; NULL: none. The others: */
    gdncp_group_t *group;
    staging_t *stagings;  /* [plan->num_messages] */
    const void **arrived; /* [plan->num_ranks], as gdncp_plan_unpack() wants it */
    const void **kept;    /* [plan->num_ranks], as gdncp_plan_add_sums() wants it */
    void *memory;         /* what all stagings point into */
    int64_t packed_bytes; /* in one run */
    int64_t unpacked_bytes;
    const void *in; /* of the run in flight */
    void *out;

    int64_t sent_bytes; /* in one run */
    int64_t received_bytes;
    bool in_flight;
    int64_t flight;         /* number in the flight record of the run in flight */
    gdncp_status_t failure; /* of an earlier run, after which there is no other */
};

static size_t staged_bytes(int64_t bytes, bool in_place)
{
    const size_t line = 64;

    return in_place ? 0 : ((size_t)bytes + line - 1) / line * line;
}

static gdncp_status_t allocate_staging(gdncp_exchange_t *exchange)
{
    const gdncp_plan_t *const plan = exchange->plan;
    size_t total = 0;

    for (int64_t m = 0; m < plan->num_messages; m++) {
        const gdncp_message_t *const message = &plan->messages[m];

        if (gdncp_shared_exchange_moves(exchange->shared, message->peer)) {
            continue;
        }
        total += staged_bytes(message->send_bytes, gdncp_plan_sends_in_place(plan, message->peer));
        total +=
            staged_bytes(message->recv_bytes, gdncp_plan_receives_in_place(plan, message->peer));
    }
    exchange->stagings =
        gdncp_memory_alloc((size_t)plan->num_messages * sizeof *exchange->stagings);
    exchange->arrived = gdncp_memory_alloc((size_t)plan->num_ranks * sizeof *exchange->arrived);
    exchange->kept = gdncp_memory_alloc((size_t)plan->num_ranks * sizeof *exchange->kept);
    exchange->memory = gdncp_memory_alloc(total);
    if (exchange->stagings == NULL || exchange->arrived == NULL || exchange->kept == NULL ||
        exchange->memory == NULL) {
        return gdncp_fail(GDNCP_ERR_OUT_OF_MEMORY, "out of memory: %zu bytes of staging for %s",
                          total, plan->name);
    }
    char *next = exchange->memory;

    memset(exchange->stagings, 0, (size_t)plan->num_messages * sizeof *exchange->stagings);
    memset(exchange->arrived, 0, (size_t)plan->num_ranks * sizeof *exchange->arrived);
    memset(exchange->kept, 0, (size_t)plan->num_ranks * sizeof *exchange->kept);
    for (int64_t m = 0; m < plan->num_messages; m++) {
        const gdncp_message_t *const message = &plan->messages[m];

        if (gdncp_shared_exchange_moves(exchange->shared, message->peer)) {
            exchange->kept[message->peer] =
                gdncp_shared_exchange_kept(exchange->shared, message->peer);
            continue;
        }
        if (message->send_bytes > 0 && !gdncp_plan_sends_in_place(plan, message->peer)) {
            exchange->stagings[m].send = next;
            exchange->packed_bytes += message->send_bytes;
            next += staged_bytes(message->send_bytes, false);
        }
        if (message->recv_bytes > 0 && !gdncp_plan_receives_in_place(plan, message->peer)) {
            exchange->stagings[m].recv = next;
            exchange->arrived[message->peer] = next;
            exchange->unpacked_bytes += message->recv_bytes;
            next += staged_bytes(message->recv_bytes, false);
        }
        exchange->kept[message->peer] = exchange->arrived[message->peer];
    }
    return GDNCP_OK;
}

static gdncp_device_kind_t kind_of(const gdncp_exchange_t *exchange)
{
    return exchange->device != NULL ? GDNCP_DEVICE_CUDA : GDNCP_DEVICE_CPU;
}

void gdncp_exchange_destroy(gdncp_exchange_t *exchange)
{
    if (exchange != NULL) {
        gdncp_device_free(kind_of(exchange), exchange->input);
        gdncp_device_exchange_destroy(exchange->device);
        gdncp_shared_exchange_destroy(exchange->shared);
        gdncp_comm_group_destroy(exchange->comm, exchange->group);
        gdncp_memory_free(exchange->stagings);
        gdncp_memory_free(exchange->arrived);
        gdncp_memory_free(exchange->kept);
        gdncp_memory_free(exchange->memory);
        gdncp_memory_free(exchange);
    }
}

/* Messages and their staging on the CPU. */
static gdncp_status_t make_parts(gdncp_exchange_t *exchange)
{
    gdncp_status_t status =
        gdncp_shared_exchange_create(exchange->comm, exchange->plan, &exchange->shared);

    if (status == GDNCP_OK) {
        status = allocate_staging(exchange);
    }
    return status == GDNCP_OK
               ? gdncp_comm_group_create(exchange->comm, 2 * exchange->plan->num_messages,
                                         &exchange->group)
               : status;
}

static gdncp_status_t make_exchange(gdncp_comm_t *comm, const gdncp_plan_t *plan,
                                    gdncp_device_kind_t device, gdncp_exchange_t **exchange_p)
{
    gdncp_status_t status = gdncp_device_check(device);

    if (status != GDNCP_OK) {
        return status;
    }
    gdncp_exchange_t *const exchange = gdncp_memory_alloc(sizeof *exchange);

    if (exchange == NULL) {
        return gdncp_fail_memory("an exchange");
    }
    *exchange =
        (gdncp_exchange_t){.comm = comm, .plan = plan, .sent_bytes = gdncp_plan_bytes_sent(plan)};
    for (int64_t m = 0; m < plan->num_messages; m++) {
        exchange->received_bytes += plan->messages[m].recv_bytes;
    }
    status = device == GDNCP_DEVICE_CUDA
                 ? gdncp_device_exchange_create(comm, plan, &exchange->device)
                 : make_parts(exchange);
    if (status != GDNCP_OK) {
        gdncp_exchange_destroy(exchange);
        return status;
    }
    *exchange_p = exchange;
    return GDNCP_OK;
}

gdncp_status_t gdncp_exchange_create(gdncp_comm_t *comm, const gdncp_plan_t *plan,
                                     gdncp_exchange_t **exchange_p)
{
    return gdncp_exchange_create_on(comm, plan, GDNCP_DEVICE_CPU, exchange_p);
}

gdncp_status_t gdncp_exchange_create_on(gdncp_comm_t *comm, const gdncp_plan_t *plan,
                                        gdncp_device_kind_t device, gdncp_exchange_t **exchange_p)
{
    gdncp_exchange_t *exchange = NULL;

    if (comm == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "comm: expected a communicator, got NULL");
    }
    gdncp_status_t status = gdncp_exchange_compare(comm, plan, device, exchange_p);

    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_comm_agree(comm, make_exchange(comm, plan, device, &exchange));
    if (status == GDNCP_OK && exchange->device != NULL && comm->nccl != NULL) {
        status = gdncp_comm_agree(comm, gdncp_device_exchange_connect(comm, exchange->device));
    }
    if (status != GDNCP_OK) {
        gdncp_exchange_destroy(exchange);
        return status;
    }
    *exchange_p = exchange;
    return GDNCP_OK;
}

static size_t input_bytes(const gdncp_plan_t *plan)
{
    return (size_t)plan->input_elements * gdncp_dtype_size(plan->dtype);
}

gdncp_status_t gdncp_exchange_create_in_place(gdncp_comm_t *comm, const gdncp_plan_t *plan,
                                              gdncp_device_kind_t device,
                                              gdncp_exchange_t **exchange_p)
{
    gdncp_status_t status = GDNCP_OK;
    void *input = NULL;

    if (plan != NULL) {
        status = gdncp_device_alloc(device, input_bytes(plan) + 1, &input); /* never NULL */
    }
    /* Without memory as without a plan: all get an error, and none waits. */
    const gdncp_status_t created =
        gdncp_exchange_create_on(comm, status == GDNCP_OK ? plan : NULL, device, exchange_p);

    if (created != GDNCP_OK) {
        gdncp_device_free(device, input);
        return status == GDNCP_OK ? created : status;
    }
    (*exchange_p)->input = input;
    return GDNCP_OK;
}

gdncp_status_t gdncp_exchange_check(const gdncp_exchange_t *exchange)
{
    if (exchange == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "exchange: expected an exchange, got NULL");
    }
    if (exchange->failure != GDNCP_OK) {
        return gdncp_fail(exchange->failure,
                          "exchange: expected one that has not failed, got %s after %s",
                          exchange->plan->name, gdncp_status_string(exchange->failure));
    }
    return exchange->device != NULL ? gdncp_device_exchange_check(exchange->device) : GDNCP_OK;
}

static bool overlap(const void *a, size_t a_bytes, const void *b, size_t b_bytes)
{
    const uintptr_t a_begin = (uintptr_t)a;
    const uintptr_t b_begin = (uintptr_t)b;

    return a_begin < b_begin + b_bytes && b_begin < a_begin + a_bytes;
}

static gdncp_status_t check_start(const gdncp_exchange_t *exchange, const void *in, const void *out,
                                  gdncp_stream_t stream)
{
    const gdncp_status_t status = gdncp_exchange_check(exchange);

    if (status != GDNCP_OK) {
        return status;
    }
    const gdncp_plan_t *const plan = exchange->plan;
    const size_t size = gdncp_dtype_size(plan->dtype);
    const size_t in_bytes = input_bytes(plan);
    const size_t out_bytes = (size_t)plan->output_elements * size;

    if (exchange->in_flight) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "exchange: expected one that is not in flight, got %s in flight",
                          plan->name);
    }
    if (in == NULL && in_bytes > 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "in: expected %" PRId64 " elements of %s, got NULL", plan->input_elements,
                          gdncp_dtype_name(plan->dtype));
    }
    if (out == NULL && out_bytes > 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "out: expected %" PRId64 " elements of %s, got NULL",
                          plan->output_elements, gdncp_dtype_name(plan->dtype));
    }
    if (in_bytes > 0 && out_bytes > 0 && overlap(in, in_bytes, out, out_bytes) &&
        exchange->input == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "out: expected a buffer apart from in, got one that overlaps it");
    }
    if (exchange->device == NULL && stream != NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "stream: expected NULL on a CPU, got %p",
                          stream);
    }
    return GDNCP_OK;
}

static gdncp_status_t add_receives(const gdncp_exchange_t *exchange, void *out)
{
    const gdncp_plan_t *const plan = exchange->plan;
    const size_t size = gdncp_dtype_size(plan->dtype);

    for (int64_t m = 0; m < plan->num_messages; m++) {
        const gdncp_message_t *const message = &plan->messages[m];
        void *buffer = exchange->stagings[m].recv;

        if (message->recv_bytes == 0 ||
            gdncp_shared_exchange_moves(exchange->shared, message->peer)) {
            continue;
        }
        if (buffer == NULL) {
            buffer = (char *)out + (size_t)plan->recvs[message->peer].blocks[0].offset * size;
        }
        const gdncp_status_t status = gdncp_comm_recv(exchange->comm, exchange->group, buffer,
                                                      (size_t)message->recv_bytes, message->peer);

        if (status != GDNCP_OK) {
            return status;
        }
    }
    return GDNCP_OK;
}

static gdncp_status_t add_sends(const gdncp_exchange_t *exchange, const void *in)
{
    const gdncp_plan_t *const plan = exchange->plan;
    const size_t size = gdncp_dtype_size(plan->dtype);

    for (int64_t m = 0; m < plan->num_messages; m++) {
        const gdncp_message_t *const message = &plan->messages[m];
        const void *buffer = exchange->stagings[m].send;

        if (message->send_bytes == 0 ||
            gdncp_shared_exchange_moves(exchange->shared, message->peer)) {
            continue;
        }
        if (buffer == NULL) {
            buffer = (const char *)in + (size_t)plan->sends[message->peer].blocks[0].offset * size;
        }
        const gdncp_status_t status = gdncp_comm_send(exchange->comm, exchange->group, buffer,
                                                      (size_t)message->send_bytes, message->peer);

        if (status != GDNCP_OK) {
            return status;
        }
    }
    return GDNCP_OK;
}

static void pack(const gdncp_exchange_t *exchange, const void *in)
{
    const gdncp_plan_t *const plan = exchange->plan;
    const int64_t begin_ns = gdncp_trace_begin();

    for (int64_t m = 0; m < plan->num_messages; m++) {
        if (exchange->stagings[m].send != NULL) {
            gdncp_plan_pack(plan, &plan->sends[plan->messages[m].peer], in,
                            exchange->stagings[m].send);
        }
    }
    gdncp_trace_end("pack", begin_ns, exchange->packed_bytes);
}

static void unpack(const gdncp_exchange_t *exchange)
{
    const int64_t begin_ns = gdncp_trace_begin();

    gdncp_plan_unpack(exchange->plan, exchange->arrived, exchange->out);
    gdncp_plan_add_sums(exchange->plan, exchange->in, exchange->kept, exchange->out);
    gdncp_trace_end("unpack", begin_ns, exchange->unpacked_bytes);
}

static gdncp_status_t start_on_cpu(gdncp_exchange_t *exchange, const void *in, void *out)
{
    pack(exchange, in);
    gdncp_plan_clear(exchange->plan, out);
    gdncp_status_t status = gdncp_comm_group_begin(exchange->comm, exchange->group);

    if (status == GDNCP_OK) {
        status = add_receives(exchange, out);
    }
    if (status == GDNCP_OK) {
        status = add_sends(exchange, in);
    }
    if (status == GDNCP_OK) {
        status = gdncp_comm_group_end(exchange->comm, exchange->group, NULL);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    exchange->in = in;
    exchange->out = out;
    if (exchange->shared != NULL) {
        gdncp_shared_exchange_start(exchange->shared, in, out);
    } else {
        gdncp_plan_copy_local(exchange->plan, in, out);
    }
    return GDNCP_OK;
}

gdncp_status_t gdncp_exchange_start(gdncp_exchange_t *exchange, const void *in, void *out,
                                    gdncp_stream_t stream)
{
    gdncp_status_t status = check_start(exchange, in, out, stream);

    if (status != GDNCP_OK) {
        return status;
    }
    exchange->flight =
        gdncp_flight_begin(exchange->comm, exchange->plan->name, exchange->plan->text,
                           exchange->sent_bytes, exchange->received_bytes, 0);
    if (exchange->input != NULL) {
        status = gdncp_device_copy(kind_of(exchange), exchange->input, in,
                                   input_bytes(exchange->plan), stream);
        in = exchange->input;
    }
    if (status == GDNCP_OK) {
        status = exchange->device != NULL
                     ? gdncp_device_exchange_run(exchange->device, in, out, stream)
                     : start_on_cpu(exchange, in, out);
    }
    if (status != GDNCP_OK) {
        exchange->failure = status;
        return gdncp_flight_end(exchange->comm, exchange->flight, status);
    }
    exchange->in_flight = true;
    return GDNCP_OK;
}

/* The messages are there, or will never be. */
static gdncp_status_t finish(gdncp_exchange_t *exchange, gdncp_status_t status)
{
    exchange->in_flight = false;
    if (status != GDNCP_OK) {
        if (exchange->shared != NULL) {
            gdncp_shared_exchange_abandon(exchange->shared);
        }
        exchange->failure = status;
    } else {
        unpack(exchange);
    }
    return gdncp_flight_end(exchange->comm, exchange->flight, status);
}

/* Nothing is left to do: what is queued in the stream from now on finds the result. */
static gdncp_status_t end_on_device(gdncp_exchange_t *exchange)
{
    const gdncp_status_t status = gdncp_exchange_check(exchange);

    if (exchange->in_flight) {
        exchange->in_flight = false;
        gdncp_flight_end(exchange->comm, exchange->flight, status);
    }
    return status;
}

/* Both ways of the messages. The rings make progress once, by either. */
static gdncp_status_t test_messages(void *context, bool *done_p)
{
    gdncp_exchange_t *const exchange = context;
    bool shared_done = true;

    if (exchange->shared == NULL) {
        return gdncp_comm_group_test(exchange->comm, exchange->group, done_p);
    }
    gdncp_status_t status = gdncp_shared_exchange_test(exchange->shared, &shared_done);

    if (status != GDNCP_OK) {
        gdncp_transport_keep_cause(exchange->comm->transport);
        return status;
    }
    status = gdncp_comm_group_look(exchange->comm, exchange->group, done_p);
    *done_p = *done_p && shared_done;
    return status;
}

static bool waits_for(const void *context, int peer)
{
    const gdncp_exchange_t *const exchange = context;

    return gdncp_shared_exchange_waits_for(exchange->shared, peer) ||
           exchange->comm->transport->ops->group_waits_for(exchange->group, peer);
}

/* Make progress with a run that is in flight. */
static gdncp_status_t test_in_flight(gdncp_exchange_t *exchange, bool *done_p)
{
    if (exchange->device != NULL) {
        return end_on_device(exchange);
    }
    const gdncp_status_t status = test_messages(exchange, done_p);

    return status != GDNCP_OK || *done_p ? finish(exchange, status) : GDNCP_OK;
}

gdncp_status_t gdncp_exchange_test(gdncp_exchange_t *exchange, bool *done_p)
{
    bool done = true;

    if (exchange == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "exchange: expected an exchange, got NULL");
    }
    if (done_p == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "done_p: expected an address, got NULL");
    }
    if (exchange->in_flight) {
        const gdncp_status_t status = test_in_flight(exchange, &done);

        if (status != GDNCP_OK) {
            return status;
        }
    }
    *done_p = done;
    return GDNCP_OK;
}

gdncp_status_t gdncp_exchange_wait(gdncp_exchange_t *exchange)
{
    if (exchange == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "exchange: expected an exchange, got NULL");
    }
    if (exchange->device != NULL) {
        return end_on_device(exchange);
    }
    if (!exchange->in_flight) {
        return GDNCP_OK;
    }
    const int64_t begin_ns = gdncp_trace_begin();
    const gdncp_status_t status = gdncp_comm_wait(
        exchange->comm,
        &(gdncp_comm_waiter_t){.test = test_messages, .waits_for = waits_for, .context = exchange});

    gdncp_trace_end("exchange wait", begin_ns, exchange->received_bytes);
    return finish(exchange, status);
}

gdncp_status_t gdncp_exchange_run(gdncp_exchange_t *exchange, const void *in, void *out,
                                  gdncp_stream_t stream)
{
    const gdncp_status_t status = gdncp_exchange_start(exchange, in, out, stream);

    return status == GDNCP_OK ? gdncp_exchange_wait(exchange) : status;
}
