/* Exchanges: a plan's messages in one group of the communicator, on the CPU or a device. */
#include "gdncp/exchange.h"

#include <inttypes.h>

#include "comm_internal.h"
#include "error.h"
#include "exchange_compare.h"
#include "exchange_device.h"
#include "exchange_host.h"
#include "gdncp/device.h"
#include "gdncp/memory.h"
#include "plan_internal.h"

struct gdncp_exchange {
    gdncp_comm_t *comm;
    const gdncp_plan_t *plan;
    void *input;                     /* for a copy of a run's; NULL: it is used where it lies */
    gdncp_device_exchange_t *device; /* NULL on the CPU */
    gdncp_host_exchange_t *host;     /* NULL on a device */
    int64_t sent_bytes;              /* in one run */
    int64_t received_bytes;
    bool in_flight;
    int64_t flight;         /* number in the flight record of the run in flight */
    gdncp_status_t failure; /* of an earlier run, after which there is no other */
};

static gdncp_device_kind_t kind_of(const gdncp_exchange_t *exchange)
{
    return exchange->device != NULL ? GDNCP_DEVICE_CUDA : GDNCP_DEVICE_CPU;
}

void gdncp_exchange_destroy(gdncp_exchange_t *exchange)
{
    if (exchange != NULL) {
        gdncp_device_free(kind_of(exchange), exchange->input);
        gdncp_device_exchange_destroy(exchange->device);
        gdncp_host_exchange_destroy(exchange->host);
        gdncp_memory_free(exchange);
    }
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
    *exchange = (gdncp_exchange_t){.comm = comm,
                                   .plan = plan,
                                   .sent_bytes = gdncp_plan_bytes_sent(plan),
                                   .received_bytes = gdncp_plan_bytes_received(plan)};
    status = device == GDNCP_DEVICE_CUDA
                 ? gdncp_device_exchange_create(comm, plan, &exchange->device)
                 : gdncp_host_exchange_create(comm, plan, &exchange->host);
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
                     : gdncp_host_exchange_start(exchange->host, in, out);
    }
    if (status != GDNCP_OK) {
        exchange->failure = status;
        return gdncp_flight_end(exchange->comm, exchange->flight, status);
    }
    exchange->in_flight = true;
    return GDNCP_OK;
}

/* The run in flight has ended. */
static gdncp_status_t finish(gdncp_exchange_t *exchange, gdncp_status_t status)
{
    exchange->in_flight = false;
    if (status != GDNCP_OK) {
        exchange->failure = status;
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

/* Make progress with a run that is in flight. */
static gdncp_status_t test_in_flight(gdncp_exchange_t *exchange, bool *done_p)
{
    if (exchange->device != NULL) {
        return end_on_device(exchange);
    }
    const gdncp_status_t status = gdncp_host_exchange_test(exchange->host, done_p);

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
    return finish(exchange, gdncp_host_exchange_wait(exchange->host));
}

gdncp_status_t gdncp_exchange_run(gdncp_exchange_t *exchange, const void *in, void *out,
                                  gdncp_stream_t stream)
{
    const gdncp_status_t status = gdncp_exchange_start(exchange, in, out, stream);

    return status == GDNCP_OK ? gdncp_exchange_wait(exchange) : status;
}
