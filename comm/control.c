/* Control calls: barrier, all-gather of small data, agreement on a status. */
#include <stdio.h>
#include <string.h>

#include "comm_internal.h"
#include "error.h"
#include "gdncp/memory.h"

#define MAGIC 0x67646e6370637472u
#define SENTENCE_BYTES 512

typedef enum operation { BARRIER = 1, ALL_GATHER, AGREE } operation_t;

/* What each rank tells all others before any data moves. */
typedef struct header {
    uint64_t magic;
    uint64_t call; /* control calls of this rank before this one */
    uint64_t bytes;
    uint32_t operation;
    int32_t status; /* AGREE: this rank's */
} header_t;

static const char *operation_name(uint32_t operation)
{
    switch (operation) {
    case BARRIER:
        return "barrier";
    case ALL_GATHER:
        return "all-gather";
    case AGREE:
        return "agree";
    default:
        return "unknown call";
    }
}

static gdncp_status_t swap(gdncp_comm_t *comm, gdncp_group_t *group, const void *out, int to,
                           void *in, int from, size_t bytes)
{
    const gdncp_transport_ops_t *const ops = comm->transport->ops;

    /* Straight to the transport: control messages are not counted. */
    gdncp_status_t status = ops->group_begin(group);
    if (status == GDNCP_OK) {
        status = ops->recv(group, in, bytes, from);
    }
    if (status == GDNCP_OK) {
        status = ops->send(group, out, bytes, to);
    }
    if (status == GDNCP_OK) {
        status = gdncp_comm_group_end(comm, group, NULL);
    }
    return status == GDNCP_OK ? gdncp_comm_group_wait(comm, group) : status;
}

/* All-gather in ceil(log2(count)) rounds (Bruck et al. 1997). Before round d = 1, 2, 4, ...
 * blocks [0, d) hold the data of members own, own + 1, ..., all modulo count. members: NULL for
 * all ranks. */
static gdncp_status_t gather_blocks(gdncp_comm_t *comm, const int *members, size_t count,
                                    size_t own, const void *in, char *out, size_t bytes)
{
    gdncp_group_t *group = NULL;

    if (bytes == 0) {
        return GDNCP_OK;
    }
    if (bytes > SIZE_MAX / 2 / count) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "bytes: expected at most %zu, got %zu",
                          SIZE_MAX / 2 / count, bytes);
    }
    char *const blocks = gdncp_memory_alloc(count * bytes);
    if (blocks == NULL) {
        return gdncp_fail_memory("an all-gather");
    }
    gdncp_status_t status = gdncp_comm_group_create(comm, 2, &group);
    if (status != GDNCP_OK) {
        goto free_blocks;
    }
    memcpy(blocks, in, bytes);
    for (size_t distance = 1; distance < count; distance *= 2) {
        const size_t num_blocks = distance < count - distance ? distance : count - distance;
        const size_t to = (own + count - distance) % count;
        const size_t from = (own + distance) % count;

        status = swap(comm, group, blocks, members != NULL ? members[to] : (int)to,
                      blocks + distance * bytes, members != NULL ? members[from] : (int)from,
                      num_blocks * bytes);
        if (status != GDNCP_OK) {
            goto destroy_group;
        }
    }
    for (size_t i = 0; i < count; i++) {
        memcpy(out + (own + i) % count * bytes, blocks + i * bytes, bytes);
    }

destroy_group:
    gdncp_comm_group_destroy(comm, group);
free_blocks:
    gdncp_memory_free(blocks);
    return status;
}

/* Between all ranks. */
static gdncp_status_t gather_all(gdncp_comm_t *comm, const void *in, char *out, size_t bytes)
{
    const gdncp_status_t status =
        gather_blocks(comm, NULL, (size_t)comm->size, (size_t)comm->rank, in, out, bytes);

    if (status != GDNCP_OK) {
        comm->control_failure = status;
    }
    return status;
}

/* Every rank sees the same headers, so either all find a mismatch or none does. */
static gdncp_status_t compare_headers(gdncp_comm_t *comm, const header_t *headers)
{
    const header_t *const mine = &headers[comm->rank];
    uint64_t last_call = mine->call;
    int differs = -1;

    for (int rank = comm->size - 1; rank >= 0; rank--) {
        const header_t *const other = &headers[rank];

        if (other->magic != MAGIC) {
            return gdncp_fail(GDNCP_ERR_MISMATCH,
                              "%s: expected a control message of rank %d, got other data",
                              operation_name(mine->operation), rank);
        }
        if (other->call > last_call) {
            last_call = other->call;
        }
        if (other->operation != mine->operation || other->bytes != mine->bytes ||
            other->call != mine->call) {
            differs = rank;
        }
    }
    comm->num_control_calls = last_call + 1;
    if (differs < 0) {
        return GDNCP_OK;
    }
    return gdncp_fail(
        GDNCP_ERR_MISMATCH,
        "control call: rank %d made call %llu, %s of %llu bytes; "
        "rank %d made call %llu, %s of %llu bytes",
        comm->rank, (unsigned long long)mine->call, operation_name(mine->operation),
        (unsigned long long)mine->bytes, differs, (unsigned long long)headers[differs].call,
        operation_name(headers[differs].operation), (unsigned long long)headers[differs].bytes);
}

/* A control call that did not end may have left messages under way, which the next one would
 * take for its own. */
static gdncp_status_t check_usable(const gdncp_comm_t *comm)
{
    if (comm->control_failure != GDNCP_OK) {
        return gdncp_fail(comm->control_failure,
                          "rank %d: this communicator can only be shrunk or destroyed: "
                          "an earlier control call ended with %s: %s",
                          comm->rank, gdncp_status_string(comm->control_failure),
                          gdncp_transport_cause(comm->transport));
    }
    return GDNCP_OK;
}

/* Tell all ranks what this one is about to do, and check that all are about to do the same.
 * headers [size]: written on success. */
static gdncp_status_t open_call(gdncp_comm_t *comm, operation_t operation, size_t bytes,
                                gdncp_status_t own_status, header_t *headers)
{
    const header_t mine = {
        .magic = MAGIC,
        .call = comm->num_control_calls,
        .bytes = bytes,
        .operation = operation,
        .status = (int32_t)own_status,
    };
    gdncp_status_t status = check_usable(comm);

    if (status != GDNCP_OK) {
        return status;
    }
    status = gather_all(comm, &mine, (char *)headers, sizeof mine);
    return status == GDNCP_OK ? compare_headers(comm, headers) : status;
}

gdncp_status_t gdncp_comm_gather_among(gdncp_comm_t *comm, const int *members, int count, int own,
                                       const void *in, void *out, size_t bytes)
{
    gdncp_status_t status = check_usable(comm);

    if (status == GDNCP_OK) {
        status = gather_blocks(comm, members, (size_t)count, (size_t)own, in, out, bytes);
    }
    if (status != GDNCP_OK) {
        comm->control_failure = status;
    }
    return status;
}

static header_t *alloc_headers(const gdncp_comm_t *comm)
{
    return gdncp_memory_alloc((size_t)comm->size * sizeof(header_t));
}

gdncp_status_t gdncp_comm_barrier(gdncp_comm_t *comm)
{
    header_t *const headers = alloc_headers(comm);

    if (headers == NULL) {
        return gdncp_fail_memory("a barrier");
    }
    const int64_t flight = gdncp_flight_begin(comm, "barrier", "", 0, 0, 0);
    const gdncp_status_t status = open_call(comm, BARRIER, 0, GDNCP_OK, headers);
    gdncp_memory_free(headers);
    return gdncp_flight_end(comm, flight, status);
}

gdncp_status_t gdncp_comm_all_gather(gdncp_comm_t *comm, const void *in, void *out, size_t bytes)
{
    if (bytes > 0 && (in == NULL || out == NULL)) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "%s: expected room for %zu bytes, got NULL",
                          in == NULL ? "in" : "out", bytes);
    }
    header_t *const headers = alloc_headers(comm);
    if (headers == NULL) {
        return gdncp_fail_memory("an all-gather");
    }
    const int64_t gathered = (int64_t)bytes * (comm->size - 1);
    const int64_t flight = gdncp_flight_begin(comm, "all-gather", "", gathered, gathered, 0);
    gdncp_status_t status = open_call(comm, ALL_GATHER, bytes, GDNCP_OK, headers);
    if (status == GDNCP_OK) {
        status = gather_all(comm, in, out, bytes);
    }
    gdncp_memory_free(headers);
    return gdncp_flight_end(comm, flight, status);
}

/* sentences [size, SENTENCE_BYTES] */
static gdncp_status_t report_failure(const gdncp_comm_t *comm, const header_t *headers,
                                     const char *sentences)
{
    int failed = 0;

    while (headers[failed].status == GDNCP_OK) {
        failed++;
    }
    return gdncp_fail((gdncp_status_t)headers[failed].status, "rank %d, seen by rank %d: %.*s",
                      failed, comm->rank, SENTENCE_BYTES - 1,
                      sentences + (size_t)failed * SENTENCE_BYTES);
}

gdncp_status_t gdncp_comm_agree(gdncp_comm_t *comm, gdncp_status_t own_status)
{
    char sentence[SENTENCE_BYTES] = "";
    bool any_failed = false;
    int64_t flight;

    if (own_status != GDNCP_OK) {
        snprintf(sentence, sizeof sentence, "%s", gdncp_last_error());
    }
    header_t *const headers = alloc_headers(comm);
    char *const sentences = gdncp_memory_alloc((size_t)comm->size * SENTENCE_BYTES);
    gdncp_status_t status = GDNCP_OK;
    if (headers == NULL || sentences == NULL) {
        status = gdncp_fail_memory("an agreement");
        goto free_memory;
    }
    flight = gdncp_flight_begin(comm, "agree", "", 0, 0, 0);
    status = open_call(comm, AGREE, 0, own_status, headers);
    for (int rank = 0; rank < comm->size && status == GDNCP_OK; rank++) {
        any_failed = any_failed || headers[rank].status != GDNCP_OK;
    }
    if (any_failed) {
        status = gather_all(comm, sentence, sentences, sizeof sentence);
        if (status == GDNCP_OK) {
            status = report_failure(comm, headers, sentences);
        }
    }
    gdncp_flight_end(comm, flight, status);

free_memory:
    gdncp_memory_free(sentences);
    gdncp_memory_free(headers);
    /* A rank's own failure explains more than whatever came of telling the others. */
    return own_status != GDNCP_OK ? gdncp_fail(own_status, "%s", sentence) : status;
}
