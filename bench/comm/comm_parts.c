/* The parts of an exchange alone: packing, unpacking, copies, and messages between two ranks. */
#include <string.h>

#include "comm_groups.h"
#include "comm_internal.h"
#include "comm_plans.h"
#include "error.h"
#include "gdncp/memory.h"
#include "plan_internal.h"
#include "row_copy.h"

static int64_t count_elements(const comm_case_t *c)
{
    const int64_t local = c->shape.tokens / c->size;

    return local * c->shape.channels;
}

/* variable is the name. */
#define PART_BENCHMARK(variable, words, ranks, moves, part, run_once)                              \
    const comm_benchmark_t comm_bench_##variable = {.name = #variable,                             \
                                                    .about = words,                                \
                                                    .least_ranks = ranks,                          \
                                                    .moves_a_run = moves,                          \
                                                    .setup = setup_##part,                         \
                                                    .run = run_once,                               \
                                                    .check = check_##part,                         \
                                                    .end = end_##part}

/* Start the messages that were added to a group, and wait for them. */
static gdncp_status_t exchange_group(comm_case_t *c, gdncp_group_t *group, gdncp_status_t added)
{
    const gdncp_status_t status =
        added == GDNCP_OK ? gdncp_comm_group_end(c->comm, group, NULL) : added;

    return status == GDNCP_OK ? gdncp_comm_group_wait(c->comm, group) : status;
}

/* ------------------------------------------------------------------ pack, unpack */

/* Of cp2hp: the messages that this rank sends, and those that it receives. */
typedef struct parts_op {
    gdncp_plan_t *plan;
    void **sends;       /* [size] */
    const void **recvs; /* [size] */
    gdncp_group_t *group;
} parts_op_t;

static void make_messages(comm_case_t *c, parts_op_t *op)
{
    const int64_t size = (int64_t)gdncp_dtype_size(c->shape.dtype);

    op->sends = comm_alloc(c, c->size, (int64_t)sizeof *op->sends);
    op->recvs = comm_alloc(c, c->size, (int64_t)sizeof *op->recvs);
    for (int peer = 0; peer < c->size && c->status == GDNCP_OK; peer++) {
        if (peer != c->rank) {
            op->sends[peer] = comm_alloc(c, op->plan->sends[peer].elements, size);
            op->recvs[peer] = comm_alloc(c, op->plan->recvs[peer].elements, size);
        }
    }
}

static void setup_parts(comm_case_t *c)
{
    parts_op_t *const op = c->op = comm_alloc(c, 1, (int64_t)sizeof *op);

    if (op != NULL) {
        comm_keep(c, comm_plan_cp2hp(c, &op->plan));
    }
    if (c->status == GDNCP_OK) {
        make_messages(c, op);
        comm_make_plan_buffers(c, op->plan);
        c->least_bytes = 2 * c->sent_bytes;
        comm_keep(c, gdncp_comm_group_create(c->comm, 2 * (int64_t)c->size, &op->group));
    }
}

static gdncp_status_t run_pack(comm_case_t *c)
{
    const parts_op_t *const op = c->op;

    for (int peer = 0; peer < c->size; peer++) {
        if (peer != c->rank) {
            gdncp_plan_pack(op->plan, &op->plan->sends[peer], c->in, op->sends[peer]);
        }
    }
    return GDNCP_OK;
}

static gdncp_status_t run_unpack(comm_case_t *c)
{
    const parts_op_t *const op = c->op;

    gdncp_plan_unpack(op->plan, op->recvs, c->out);
    return GDNCP_OK;
}

static gdncp_status_t swap_messages(comm_case_t *c)
{
    const parts_op_t *const op = c->op;
    const size_t size = gdncp_dtype_size(c->shape.dtype);
    gdncp_status_t status = gdncp_comm_group_begin(c->comm, op->group);

    for (int peer = 0; peer < c->size && status == GDNCP_OK; peer++) {
        if (op->plan->recvs[peer].elements > 0 && peer != c->rank) {
            status = gdncp_comm_recv(c->comm, op->group, (void *)(uintptr_t)op->recvs[peer],
                                     (size_t)op->plan->recvs[peer].elements * size, peer);
        }
        if (op->plan->sends[peer].elements > 0 && peer != c->rank && status == GDNCP_OK) {
            status = gdncp_comm_send(c->comm, op->group, op->sends[peer],
                                     (size_t)op->plan->sends[peer].elements * size, peer);
        }
    }
    return exchange_group(c, op->group, status);
}

/* What was packed here arrives unpacked there, and the other way round. */
static int64_t check_parts(comm_case_t *c)
{
    comm_keep(c, run_pack(c));
    comm_keep(c, swap_messages(c));
    comm_keep(c, run_unpack(c));
    return c->status == GDNCP_OK ? comm_check_runs(c, &comm_kind_cp2hp, true) : 0;
}

static void end_parts(comm_case_t *c)
{
    parts_op_t *const op = c->op;

    if (op == NULL) {
        return;
    }
    for (int peer = 0; peer < c->size; peer++) {
        gdncp_memory_free(op->sends != NULL ? op->sends[peer] : NULL);
        gdncp_memory_free(op->recvs != NULL ? (void *)(uintptr_t)op->recvs[peer] : NULL);
    }
    gdncp_memory_free(op->sends);
    gdncp_memory_free(op->recvs);
    gdncp_comm_group_destroy(c->comm, op->group);
    gdncp_plan_destroy(op->plan);
    gdncp_memory_free(op);
}

PART_BENCHMARK(pack, "the messages of cp2hp, without sending them", 2, 1, parts, run_pack);
PART_BENCHMARK(unpack, "the messages of cp2hp, once they are there", 2, 1, parts, run_unpack);

/* ------------------------------------------------------------------ copies */

static void setup_copy(comm_case_t *c)
{
    comm_make_buffers(c, count_elements(c), count_elements(c));
    c->least_bytes = 2 * c->in_bytes;
}

gdncp_status_t comm_run_memcpy(comm_case_t *c)
{
    memcpy(c->out, c->in, (size_t)c->in_bytes);
    return GDNCP_OK;
}

gdncp_status_t comm_run_copy(comm_case_t *c)
{
    gdncp_copy_row(c->out, c->in, (size_t)c->in_bytes, NULL, true);
    gdncp_copy_fence();
    return GDNCP_OK;
}

static int64_t check_copy(comm_case_t *c)
{
    const comm_run_t run = {.elements = count_elements(c), .source = c->rank};

    return comm_count_wrong(c, &run);
}

static void end_copy(comm_case_t *c)
{
    (void)c;
}

PART_BENCHMARK(memcpy, "of a rank's tokens, on all ranks at once", 1, 1, copy, comm_run_memcpy);
PART_BENCHMARK(copy, "the same as exchanges do it, past the caches", 1, 1, copy, comm_run_copy);

/* ------------------------------------------------------------------ ping-pong */

static void setup_ping_pong(comm_case_t *c)
{
    gdncp_group_t *group = NULL;

    c->idle = c->rank > 1;
    comm_make_buffers(c, count_elements(c), count_elements(c));
    c->sent_bytes = c->idle ? 0 : c->in_bytes;
    c->least_bytes = c->idle ? 0 : 2 * c->in_bytes;
    comm_keep(c, gdncp_comm_group_create(c->comm, 1, &group));
    c->op = group;
}

static gdncp_status_t one_message(comm_case_t *c, bool is_send)
{
    gdncp_group_t *const group = c->op;
    const size_t bytes = (size_t)c->in_bytes;
    gdncp_status_t status = gdncp_comm_group_begin(c->comm, group);

    if (status == GDNCP_OK) {
        status = is_send ? gdncp_comm_send(c->comm, group, c->in, bytes, 1 - c->rank)
                         : gdncp_comm_recv(c->comm, group, c->out, bytes, 1 - c->rank);
    }
    return exchange_group(c, group, status);
}

static gdncp_status_t run_ping_pong(comm_case_t *c)
{
    const gdncp_status_t status = c->idle ? GDNCP_OK : one_message(c, c->rank == 0);

    return status == GDNCP_OK && !c->idle ? one_message(c, c->rank == 1) : status;
}

static int64_t check_ping_pong(comm_case_t *c)
{
    const comm_run_t run = {.elements = count_elements(c), .source = 1 - c->rank};

    return c->idle ? 0 : comm_count_wrong(c, &run);
}

static void end_ping_pong(comm_case_t *c)
{
    gdncp_comm_group_destroy(c->comm, c->op);
}

PART_BENCHMARK(ping_pong, "a rank's tokens from rank 0 to 1 and back by the transport, one way", 2,
               2, ping_pong, run_ping_pong);
