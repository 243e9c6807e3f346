/* The communicator: made over a transport, it checks arguments, counts messages and waits. */
#include "comm_internal.h"

#include <stdarg.h>
#include <string.h>

#include "deadline.h"
#include "environment.h"
#include "error.h"
#include "gdncp/memory.h"
#include "name_ranks.h"

#define DEFAULT_TIMEOUT_MS 60000

gdncp_status_t gdncp_comm_timeout(const gdncp_comm_options_t *options, int64_t *timeout_ms_p)
{
    if (options != NULL && options->timeout_ms > 0) {
        *timeout_ms_p = options->timeout_ms;
        return GDNCP_OK;
    }
    return gdncp_environment_integer(GDNCP_VARIABLE_TIMEOUT, 1, INT64_MAX, DEFAULT_TIMEOUT_MS,
                                     timeout_ms_p);
}

gdncp_status_t gdncp_comm_wrap(gdncp_transport_t *transport, int64_t timeout_ms, int64_t number,
                               int64_t begin_ns, gdncp_comm_t **comm_p)
{
    gdncp_comm_t *const comm = gdncp_memory_alloc(sizeof *comm);
    gdncp_status_t status;

    if (comm == NULL) {
        status = gdncp_fail_memory("a communicator");
        goto destroy_transport;
    }
    *comm = (gdncp_comm_t){
        .transport = transport,
        .rank = transport->rank,
        .size = transport->size,
        .timeout_ms = timeout_ms,
    };
    status = gdncp_flight_create(comm->rank, number, &comm->recorder);
    if (status != GDNCP_OK) {
        goto destroy_transport;
    }
    gdncp_flight_end(comm, gdncp_flight_begin(comm, "create", "", 0, 0, begin_ns), GDNCP_OK);
    *comm_p = comm;
    return GDNCP_OK;

destroy_transport:
    gdncp_memory_free(comm);
    gdncp_transport_keep_cause(transport);
    transport->ops->destroy(transport);
    return status;
}

gdncp_status_t gdncp_comm_share(gdncp_comm_t *comm)
{
    const gdncp_status_t status = gdncp_shared_create(comm, &comm->shared);

    if (status != GDNCP_OK) {
        gdncp_comm_destroy(comm);
    }
    return status;
}

static gdncp_status_t check_bootstrap(const gdncp_bootstrap_t *bootstrap)
{
    if (bootstrap == NULL || bootstrap->all_gather == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "bootstrap: expected a struct with an all_gather, got NULL");
    }
    if (bootstrap->size < 1) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "bootstrap->size: expected > 0, got %d",
                          bootstrap->size);
    }
    if (bootstrap->rank < 0 || bootstrap->rank >= bootstrap->size) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "bootstrap->rank: expected 0..%d, got %d",
                          bootstrap->size - 1, bootstrap->rank);
    }
    return GDNCP_OK;
}

gdncp_status_t gdncp_comm_create(const gdncp_bootstrap_t *bootstrap,
                                 const gdncp_comm_options_t *options, gdncp_comm_t **comm_p)
{
    const int64_t begin_ns = gdncp_now_ns();
    gdncp_transport_t *transport = NULL;
    gdncp_comm_t *comm = NULL;
    int64_t timeout_ms = 0;

    gdncp_status_t status = check_bootstrap(bootstrap);
    if (status == GDNCP_OK) {
        status = gdncp_comm_timeout(options, &timeout_ms);
    }
    if (status == GDNCP_OK) {
        status = gdncp_transport_ucx_create(bootstrap, timeout_ms, &transport);
    }
    if (status == GDNCP_OK) {
        status =
            gdncp_comm_wrap(transport, timeout_ms, gdncp_flight_next_number(), begin_ns, &comm);
    }
    if (status == GDNCP_OK) {
        status = gdncp_comm_share(comm);
    }
    if (status == GDNCP_OK) {
        *comm_p = comm;
    }
    return status;
}

gdncp_status_t gdncp_comm_create_self(gdncp_comm_t **comm_p)
{
    const int64_t begin_ns = gdncp_now_ns();
    gdncp_transport_t *transport = NULL;
    int64_t timeout_ms = 0;

    gdncp_status_t status = gdncp_comm_timeout(NULL, &timeout_ms);
    if (status == GDNCP_OK) {
        status = gdncp_transport_self_create(&transport);
    }
    return status == GDNCP_OK ? gdncp_comm_wrap(transport, timeout_ms, gdncp_flight_next_number(),
                                                begin_ns, comm_p)
                              : status;
}

gdncp_status_t gdncp_comm_create_threads(int num_ranks, const gdncp_comm_options_t *options,
                                         gdncp_comm_t **comms)
{
    const int64_t begin_ns = gdncp_now_ns();
    int64_t timeout_ms = 0;
    int num_made = 0;

    if (num_ranks < 1) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "num_ranks: expected > 0, got %d", num_ranks);
    }
    gdncp_status_t status = gdncp_comm_timeout(options, &timeout_ms);
    if (status != GDNCP_OK) {
        return status;
    }
    gdncp_transport_t **const transports =
        gdncp_memory_alloc((size_t)num_ranks * sizeof *transports);
    gdncp_comm_t **const made = gdncp_memory_alloc((size_t)num_ranks * sizeof *made);
    if (transports == NULL || made == NULL) {
        status = gdncp_fail_memory("communicators of threads");
        goto free_arrays;
    }
    status = gdncp_transport_threads_create(num_ranks, transports);
    if (status != GDNCP_OK) {
        goto free_arrays;
    }
    const int64_t number = gdncp_flight_next_number();
    while (num_made < num_ranks && status == GDNCP_OK) {
        status =
            gdncp_comm_wrap(transports[num_made], timeout_ms, number, begin_ns, &made[num_made]);
        num_made++;
    }
    if (status == GDNCP_OK) {
        memcpy(comms, made, (size_t)num_ranks * sizeof *comms);
        goto free_arrays;
    }
    for (int rank = 0; rank < num_made - 1; rank++) {
        gdncp_comm_destroy(made[rank]);
    }
    for (int rank = num_made; rank < num_ranks; rank++) {
        transports[rank]->ops->destroy(transports[rank]);
    }

free_arrays:
    gdncp_memory_free(made);
    gdncp_memory_free(transports);
    return status;
}

void gdncp_comm_destroy(gdncp_comm_t *comm)
{
    if (comm != NULL) {
        gdncp_nccl_destroy(comm->nccl);
        gdncp_shared_destroy(comm->shared);
        comm->transport->ops->destroy(comm->transport);
        gdncp_flight_destroy(comm->recorder);
        gdncp_memory_free(comm);
    }
}

int gdncp_comm_rank(const gdncp_comm_t *comm)
{
    return comm->rank;
}

int gdncp_comm_size(const gdncp_comm_t *comm)
{
    return comm->size;
}

gdncp_transport_kind_t gdncp_comm_transport(const gdncp_comm_t *comm)
{
    return comm->nccl != NULL ? GDNCP_TRANSPORT_NCCL : comm->transport->ops->kind;
}

const char *gdncp_transport_name(gdncp_transport_kind_t kind)
{
    static const char *const names[] = {
        [GDNCP_TRANSPORT_UCX] = "ucx",
        [GDNCP_TRANSPORT_THREADS] = "threads",
        [GDNCP_TRANSPORT_SELF] = "self",
        [GDNCP_TRANSPORT_NCCL] = "nccl",
    };

    return (unsigned)kind < sizeof names / sizeof names[0] ? names[kind] : "?";
}

static gdncp_status_t check_peer(const gdncp_comm_t *comm, int peer)
{
    if (peer < 0 || peer >= comm->size) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "peer: expected 0..%d, got %d",
                          comm->size - 1, peer);
    }
    return GDNCP_OK;
}

gdncp_status_t gdncp_comm_describe_lanes(gdncp_comm_t *comm, int peer, char *text, size_t size)
{
    const gdncp_status_t status = check_peer(comm, peer);

    if (status != GDNCP_OK) {
        return status;
    }
    if (text == NULL || size == 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "text: expected room for at least 1 byte, got %p with size %zu",
                          (void *)text, size);
    }
    size_t used = comm->nccl != NULL ? gdncp_nccl_describe(comm->nccl, text, size) : 0;

    if (peer != comm->rank && gdncp_shared_reaches(comm->shared, peer)) {
        used += (size_t)snprintf(text + used, size - used, "gdncp/rings ");
    }
    return used < size ? comm->transport->ops->describe_lanes(comm->transport, peer, text + used,
                                                              size - used)
                       : GDNCP_OK;
}

void gdncp_comm_counters(const gdncp_comm_t *comm, gdncp_comm_counters_t *counters)
{
    *counters = comm->counters;
}

void gdncp_comm_reset_counters(gdncp_comm_t *comm)
{
    comm->counters = (gdncp_comm_counters_t){0};
}

void gdncp_comm_abort(gdncp_comm_t *comm)
{
    if (comm->nccl != NULL) {
        gdncp_nccl_abort(comm->nccl);
    }
    comm->transport->ops->abort(comm->transport);
}

gdncp_status_t gdncp_comm_group_create(gdncp_comm_t *comm, int64_t max_messages,
                                       gdncp_group_t **group_p)
{
    return gdncp_comm_group_create_on(comm, GDNCP_DEVICE_CPU, max_messages, group_p);
}

gdncp_status_t gdncp_comm_group_create_on(gdncp_comm_t *comm, gdncp_device_kind_t memory,
                                          int64_t max_messages, gdncp_group_t **group_p)
{
    if (max_messages < 0 || max_messages > INT32_MAX) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "max_messages: expected 0..%lld, got %lld",
                          (long long)INT32_MAX, (long long)max_messages);
    }
    return comm->transport->ops->group_create(comm->transport, memory, max_messages, group_p);
}

gdncp_status_t gdncp_comm_group_begin(gdncp_comm_t *comm, gdncp_group_t *group)
{
    return comm->transport->ops->group_begin(group);
}

static gdncp_status_t check_message(const gdncp_comm_t *comm, const void *buffer, size_t bytes,
                                    int peer)
{
    if (buffer == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "buffer: expected %zu bytes, got NULL",
                          bytes);
    }
    if (bytes == 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "bytes: expected > 0, got 0");
    }
    return check_peer(comm, peer);
}

gdncp_status_t gdncp_comm_send(gdncp_comm_t *comm, gdncp_group_t *group, const void *buffer,
                               size_t bytes, int peer)
{
    gdncp_status_t status = check_message(comm, buffer, bytes, peer);

    if (status != GDNCP_OK) {
        return status;
    }
    status = comm->transport->ops->send(group, buffer, bytes, peer);
    if (status == GDNCP_OK && peer != comm->rank) {
        comm->counters.messages_sent++;
        comm->counters.bytes_sent += (int64_t)bytes;
    }
    return status;
}

gdncp_status_t gdncp_comm_recv(gdncp_comm_t *comm, gdncp_group_t *group, void *buffer, size_t bytes,
                               int peer)
{
    gdncp_status_t status = check_message(comm, buffer, bytes, peer);

    if (status != GDNCP_OK) {
        return status;
    }
    status = comm->transport->ops->recv(group, buffer, bytes, peer);
    if (status == GDNCP_OK && peer != comm->rank) {
        comm->counters.messages_received++;
        comm->counters.bytes_received += (int64_t)bytes;
    }
    return status;
}

gdncp_status_t gdncp_comm_group_end(gdncp_comm_t *comm, gdncp_group_t *group, gdncp_stream_t stream)
{
    const gdncp_status_t status = comm->transport->ops->group_end(group, stream);

    if (status != GDNCP_OK) {
        gdncp_transport_keep_cause(comm->transport);
    }
    return status;
}

gdncp_status_t gdncp_comm_group_test(gdncp_comm_t *comm, gdncp_group_t *group, bool *done_p)
{
    gdncp_shared_progress(comm->shared);
    return gdncp_comm_group_look(comm, group, done_p);
}

gdncp_status_t gdncp_comm_group_look(gdncp_comm_t *comm, gdncp_group_t *group, bool *done_p)
{
    const gdncp_status_t status = comm->transport->ops->group_test(group, done_p);

    gdncp_flight_look(comm);
    if (status != GDNCP_OK) {
        gdncp_transport_keep_cause(comm->transport);
    }
    return status;
}

static bool is_missing(const void *context, int peer)
{
    const gdncp_comm_waiter_t *const waiter = context;

    return waiter->waits_for(waiter->context, peer);
}

gdncp_status_t gdncp_comm_wait(gdncp_comm_t *comm, const gdncp_comm_waiter_t *waiter)
{
    const int64_t deadline = gdncp_deadline_after(comm->timeout_ms);
    /* Who is waited for may be waiting for this core. */
    const int64_t first_poll = gdncp_shared_is_crowded(comm->shared) ? GDNCP_POLLS_SPUN : 0;
    char missing[128];

    for (int64_t num_polls = first_poll;; num_polls++) {
        const int64_t num_moves = gdncp_shared_num_moves(comm->shared);
        bool done = false;
        const gdncp_status_t status = waiter->test(waiter->context, &done);

        if (status != GDNCP_OK || done) {
            return status;
        }
        if (gdncp_shared_num_moves(comm->shared) != num_moves) {
            num_polls = first_poll; /* there may be more to do at once */
        } else {
            gdncp_pause_between_polls(num_polls);
        }
        if (gdncp_now_ms() >= deadline) {
            break;
        }
    }
    gdncp_name_ranks(comm->size, is_missing, waiter, missing, sizeof missing);
    gdncp_fail(GDNCP_ERR_TIMEOUT,
               "rank %d of %d: waited %.3g s in vain for messages to or from rank %s", comm->rank,
               comm->size, (double)comm->timeout_ms * 1e-3, missing);
    gdncp_transport_keep_cause(comm->transport);
    return GDNCP_ERR_TIMEOUT;
}

/* A group, as what is waited for. */
typedef struct group_wait {
    gdncp_comm_t *comm;
    gdncp_group_t *group;
} group_wait_t;

static gdncp_status_t test_group(void *context, bool *done_p)
{
    const group_wait_t *const wait = context;

    return gdncp_comm_group_test(wait->comm, wait->group, done_p);
}

static bool group_waits_for(const void *context, int peer)
{
    const group_wait_t *const wait = context;

    return wait->comm->transport->ops->group_waits_for(wait->group, peer);
}

gdncp_status_t gdncp_comm_group_wait(gdncp_comm_t *comm, gdncp_group_t *group)
{
    group_wait_t wait = {.comm = comm, .group = group};

    return gdncp_comm_wait(
        comm,
        &(gdncp_comm_waiter_t){.test = test_group, .waits_for = group_waits_for, .context = &wait});
}

void gdncp_comm_group_destroy(gdncp_comm_t *comm, gdncp_group_t *group)
{
    if (group != NULL) {
        comm->transport->ops->group_destroy(group);
    }
}
