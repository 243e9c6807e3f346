/* Communicators made from another one: of some of its ranks, or of those that are left. */
#include <stdio.h>
#include <string.h>

#include "comm_internal.h"
#include "deadline.h"
#include "error.h"
#include "gdncp/memory.h"

/* What a rank asks of a split. */
typedef struct wish {
    int32_t status; /* of its arguments */
    int32_t color;
    int64_t key;
    char sentence[128];
} wish_t;

/* The ranks of one color, as a bootstrap sees them. */
typedef struct part {
    gdncp_comm_t *comm;
    int *members; /* [count], in the order of their new ranks */
    int count;
    int own; /* number of this rank */
} part_t;

static int gather_part(void *context, const void *in, void *out, size_t bytes)
{
    const part_t *const part = context;

    return (int)gdncp_comm_gather_among(part->comm, part->members, part->count, part->own, in, out,
                                        bytes);
}

/* The same on all ranks: the lowest one in the wrong. */
static gdncp_status_t judge_wishes(const wish_t *wishes, int size)
{
    for (int rank = 0; rank < size; rank++) {
        if (wishes[rank].status != GDNCP_OK) {
            return gdncp_fail((gdncp_status_t)wishes[rank].status, "rank %d: %.*s", rank,
                              (int)sizeof wishes[rank].sentence - 1, wishes[rank].sentence);
        }
    }
    return GDNCP_OK;
}

static bool comes_before(const wish_t *wishes, int a, int b)
{
    return wishes[a].key != wishes[b].key ? wishes[a].key < wishes[b].key : a < b;
}

/* Those of this rank's color, by key and then by rank. */
static void find_members(const wish_t *wishes, part_t *part)
{
    const int rank = part->comm->rank;

    for (int other = 0; other < part->comm->size; other++) {
        int place = part->count;

        if (wishes[other].color != wishes[rank].color) {
            continue;
        }
        for (; place > 0 && comes_before(wishes, other, part->members[place - 1]); place--) {
            part->members[place] = part->members[place - 1];
        }
        part->members[place] = other;
        part->count++;
    }
    while (part->members[part->own] != rank) {
        part->own++;
    }
}

/* Collective over the ranks of this color; part->members [comm->size]. */
static gdncp_status_t create_part(part_t *part, const wish_t *wishes, gdncp_comm_t **sub_p)
{
    gdncp_comm_t *const comm = part->comm;
    gdncp_transport_t *transport = NULL;

    find_members(wishes, part);
    const gdncp_bootstrap_t bootstrap = {
        .rank = part->own, .size = part->count, .all_gather = gather_part, .context = part};
    const int64_t begin_ns = gdncp_now_ns();
    gdncp_comm_t *sub = NULL;
    gdncp_status_t status = comm->transport->ops->create_among(
        comm->transport, part->members[0], &bootstrap, comm->timeout_ms, &transport);

    if (status == GDNCP_OK) {
        status = gdncp_comm_wrap(transport, comm->timeout_ms, gdncp_flight_next_number(), begin_ns,
                                 &sub);
    }
    if (status == GDNCP_OK) {
        status = gdncp_comm_share(sub);
    }
    if (status == GDNCP_OK) {
        *sub_p = sub;
    }
    return status;
}

gdncp_status_t gdncp_comm_split(gdncp_comm_t *comm, int color, int64_t key, gdncp_comm_t **sub_p)
{
    wish_t own = {.color = color < 0 ? -1 : color, .key = key};
    gdncp_comm_t *sub = NULL;
    gdncp_status_t status = GDNCP_OK;

    if (comm == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "comm: expected a communicator, got NULL");
    }
    if (sub_p == NULL) {
        own.status = GDNCP_ERR_INVALID_ARGUMENT;
        snprintf(own.sentence, sizeof own.sentence, "sub_p: expected an address, got NULL");
    }
    const int64_t flight = gdncp_flight_begin(comm, "split", "", 0, 0, 0);
    wish_t *const wishes = gdncp_memory_alloc((size_t)comm->size * sizeof *wishes);
    part_t part = {.comm = comm,
                   .members = gdncp_memory_alloc((size_t)comm->size * sizeof *part.members)};
    if (wishes == NULL || part.members == NULL) {
        status = gdncp_fail_memory("the split of a communicator");
        goto free_memory;
    }
    status = gdncp_comm_all_gather(comm, &own, wishes, sizeof own);
    if (status == GDNCP_OK) {
        status = judge_wishes(wishes, comm->size);
    }
    if (status != GDNCP_OK) {
        goto free_memory;
    }
    status = gdncp_comm_agree(comm, color < 0 ? GDNCP_OK : create_part(&part, wishes, &sub));
    if (status != GDNCP_OK) {
        gdncp_comm_destroy(sub);
        if (comm->control_failure != GDNCP_OK) {
            /* What failed in the part counts its ranks anew; this communicator's are the caller's.
             */
            status =
                gdncp_fail(comm->control_failure, "%s", gdncp_transport_cause(comm->transport));
        }
        goto free_memory;
    }
    *sub_p = sub;

free_memory:
    gdncp_memory_free(part.members);
    gdncp_memory_free(wishes);
    return gdncp_flight_end(comm, flight, status);
}

gdncp_status_t gdncp_comm_shrink(gdncp_comm_t *comm, gdncp_comm_t **survivors_p)
{
    gdncp_transport_t *transport = NULL;
    gdncp_comm_t *survivors = NULL;

    if (comm == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "comm: expected a communicator, got NULL");
    }
    if (survivors_p == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "survivors_p: expected an address, got NULL");
    }
    if (comm->is_shrunk) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "comm: expected one that was not shrunk before, got one that was");
    }
    comm->is_shrunk = true;
    if (gdncp_transport_cause(comm->transport)[0] != '\0') {
        /* Others may still wait in this communicator for what will not come. */
        gdncp_comm_abort(comm);
    }
    const int64_t begin_ns = gdncp_now_ns();
    const int64_t flight = gdncp_flight_begin(comm, "shrink", "", 0, 0, begin_ns);
    gdncp_status_t status =
        comm->transport->ops->shrink(comm->transport, comm->timeout_ms, &transport);
    if (status == GDNCP_OK) {
        status = gdncp_comm_wrap(transport, comm->timeout_ms, gdncp_flight_next_number(), begin_ns,
                                 &survivors);
    }
    if (status == GDNCP_OK) {
        /* Where another rank is lost meanwhile the survivors are told at their next call, and can
         * shrink again. */
        gdncp_shared_create(survivors, &survivors->shared);
        *survivors_p = survivors;
    }
    return gdncp_flight_end(comm, flight, status);
}
