/* Building a plan from transfers that are seen from all ranks' point of view. */
#include <stdio.h>
#include <string.h>

#include "error.h"
#include "gdncp/memory.h"
#include "plan_internal.h"

/* Finalizer of MurmurHash3: every input bit reaches every output bit. */
static uint64_t scramble(uint64_t value)
{
    value = (value ^ (value >> 33)) * 0xff51afd7ed558ccdu;
    value = (value ^ (value >> 33)) * 0xc4ceb9fe1a85ec53u;
    return value ^ (value >> 33);
}

void gdncp_plan_mix(gdncp_plan_t *plan, uint64_t value)
{
    plan->seed = scramble(plan->seed * 31 + value + 1);
}

gdncp_status_t gdncp_plan_start(const char *operation, int num_ranks, int rank, gdncp_dtype_t dtype,
                                gdncp_plan_t **plan_p)
{
    if (rank < 0 || rank >= num_ranks) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "rank: expected 0..%d, got %d", num_ranks - 1,
                          rank);
    }
    if (gdncp_dtype_size(dtype) == 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "dtype: expected a value of gdncp_dtype_t, got %d", (int)dtype);
    }
    const size_t list_bytes = (size_t)num_ranks * sizeof(gdncp_block_list_t);
    gdncp_plan_t *const plan = gdncp_memory_alloc(sizeof *plan);

    if (plan == NULL) {
        return gdncp_fail_memory("a plan");
    }
    *plan = (gdncp_plan_t){.rank = rank, .num_ranks = num_ranks, .dtype = dtype};
    plan->sends = gdncp_memory_alloc(list_bytes);
    plan->recvs = gdncp_memory_alloc(list_bytes);
    if (plan->sends == NULL || plan->recvs == NULL) {
        gdncp_memory_free(plan->sends);
        gdncp_memory_free(plan->recvs);
        gdncp_memory_free(plan);
        return gdncp_fail_memory("a plan's messages");
    }
    memset(plan->sends, 0, list_bytes);
    memset(plan->recvs, 0, list_bytes);
    snprintf(plan->operation, sizeof plan->operation, "%s", operation);
    for (const char *letter = operation; *letter != '\0'; letter++) {
        gdncp_plan_mix(plan, (unsigned char)*letter);
    }
    gdncp_plan_mix(plan, (uint64_t)num_ranks);
    gdncp_plan_mix(plan, (uint64_t)dtype);
    *plan_p = plan;
    return GDNCP_OK;
}

gdncp_status_t gdncp_plan_check_elements(const char *argument, gdncp_dtype_t dtype, int64_t a,
                                         int64_t b, int64_t c)
{
    const int64_t most = (int64_t)1 << 48; /* so that bytes over all ranks can be counted too */
    const int64_t size = (int64_t)gdncp_dtype_size(dtype);
    int64_t product;

    if (__builtin_mul_overflow(a, b, &product) || __builtin_mul_overflow(product, c, &product) ||
        __builtin_mul_overflow(product, size, &product) || product > most) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "%s: expected a buffer of at most 2^48 bytes, got %lld x %lld x %lld "
                          "elements",
                          argument, (long long)a, (long long)b, (long long)c);
    }
    return GDNCP_OK;
}

static gdncp_status_t push(gdncp_block_list_t *list, gdncp_block_t block)
{
    if (list->count == list->capacity) {
        const int64_t capacity = list->capacity == 0 ? 4 : 2 * list->capacity;
        gdncp_block_t *const grown = gdncp_memory_alloc((size_t)capacity * sizeof *grown);

        if (grown == NULL) {
            return gdncp_fail_memory("a plan's blocks");
        }
        if (list->count > 0) {
            memcpy(grown, list->blocks, (size_t)list->count * sizeof *grown);
        }
        gdncp_memory_free(list->blocks);
        list->blocks = grown;
        list->capacity = capacity;
    }
    list->blocks[list->count++] = block;
    return GDNCP_OK;
}

static bool is_run(const gdncp_block_t *block)
{
    return block->rows == 1 || block->stride == block->row_elements;
}

static void flatten(gdncp_block_t *block)
{
    block->row_elements *= block->rows;
    block->stride = block->row_elements;
    block->rows = 1;
}

/* Whether b continues the single row of a. */
static bool extends_row(const gdncp_block_t *a, const gdncp_block_t *b)
{
    return a->rows == 1 && b->rows == 1 && a->offset + a->row_elements == b->offset;
}

/* Whether the rows of b come after those of a at an even stride. */
static bool stacks(const gdncp_block_t *a, const gdncp_block_t *b)
{
    const int64_t step = a->rows > 1 ? a->stride : b->offset - a->offset;

    return a->row_elements == b->row_elements && step > 0 &&
           a->offset + a->rows * step == b->offset && (b->rows == 1 || b->stride == step);
}

static void extend_row(gdncp_block_t *a, const gdncp_block_t *b)
{
    a->row_elements += b->row_elements;
    a->stride = a->row_elements;
}

static void stack(gdncp_block_t *a, const gdncp_block_t *b)
{
    a->stride = a->rows > 1 ? a->stride : b->offset - a->offset;
    a->rows += b->rows;
}

static bool is_mergeable(const gdncp_block_t *block)
{
    return block->num_joined == 1 && !block->shared;
}

/* Merge the last block of a message into the one before it where the bytes stay in order. */
static void merge_last(gdncp_block_list_t *list)
{
    gdncp_block_t *const last = &list->blocks[list->count - 1];

    if (!is_mergeable(last)) {
        return;
    }
    if (is_run(last)) {
        flatten(last);
    }
    if (list->count < 2 || !is_mergeable(last - 1)) {
        return;
    }
    if (extends_row(last - 1, last)) {
        extend_row(last - 1, last);
        list->count--;
    } else if (stacks(last - 1, last)) {
        stack(last - 1, last);
        list->count--;
    }
}

/* One side of a transfer as a group of joined blocks, fewer where columns touch. */
static gdncp_status_t add_group(gdncp_block_list_t *list, const gdncp_transfer_t *transfer,
                                const gdncp_piece_t *pieces, int64_t num_pieces, bool is_source)
{
    const int64_t first = list->count;

    for (int64_t p = 0; p < num_pieces; p++) {
        const int64_t column = is_source ? pieces[p].source_column : pieces[p].destination_column;
        const gdncp_block_t block = {
            .offset = (is_source ? transfer->source_offset : transfer->destination_offset) + column,
            .stride = is_source ? transfer->source_stride : transfer->destination_stride,
            .rows = transfer->rows,
            .row_elements = pieces[p].elements,
            .shared = is_source && pieces[p].shared,
        };
        gdncp_block_t *const last = list->count > first ? &list->blocks[list->count - 1] : NULL;

        if (block.row_elements == 0) {
            continue;
        }
        list->elements += block.rows * block.row_elements;
        if (last != NULL && !last->shared && !block.shared &&
            last->offset + last->row_elements == block.offset) {
            last->row_elements += block.row_elements;
            continue;
        }
        const gdncp_status_t status = push(list, block);

        if (status != GDNCP_OK) {
            return status;
        }
    }
    if (list->count > first) {
        list->blocks[first].num_joined = list->count - first;
        merge_last(list);
    }
    return GDNCP_OK;
}

/* Merge the last local copy into the one before it where both of its sides allow it. */
static void merge_last_pair(gdncp_block_list_t *sources, gdncp_block_list_t *destinations)
{
    gdncp_block_t *const from = &sources->blocks[sources->count - 1];
    gdncp_block_t *const to = &destinations->blocks[destinations->count - 1];

    if (from->shared) {
        return;
    }
    if (is_run(from) && is_run(to)) {
        flatten(from);
        flatten(to);
    }
    if (sources->count < 2 || (from - 1)->shared) {
        return;
    }
    if (extends_row(from - 1, from) && extends_row(to - 1, to)) {
        extend_row(from - 1, from);
        extend_row(to - 1, to);
    } else if (stacks(from - 1, from) && stacks(to - 1, to)) {
        stack(from - 1, from);
        stack(to - 1, to);
    } else {
        return;
    }
    sources->count--;
    destinations->count--;
}

static gdncp_status_t add_local_copies(gdncp_plan_t *plan, const gdncp_transfer_t *transfer,
                                       const gdncp_piece_t *pieces, int64_t num_pieces)
{
    gdncp_block_list_t *const sources = &plan->sends[plan->rank];
    gdncp_block_list_t *const destinations = &plan->recvs[plan->rank];

    for (int64_t p = 0; p < num_pieces; p++) {
        gdncp_block_t block = {
            .rows = transfer->rows, .row_elements = pieces[p].elements, .num_joined = 1};

        if (block.row_elements == 0) {
            continue;
        }
        block.offset = transfer->destination_offset + pieces[p].destination_column;
        block.stride = transfer->destination_stride;
        gdncp_status_t status = push(destinations, block);

        if (status != GDNCP_OK) {
            return status;
        }
        block.offset = transfer->source_offset + pieces[p].source_column;
        block.stride = transfer->source_stride;
        block.shared = pieces[p].shared;
        status = push(sources, block);
        if (status != GDNCP_OK) {
            return status;
        }
        sources->elements += block.rows * block.row_elements;
        destinations->elements += block.rows * block.row_elements;
        merge_last_pair(sources, destinations);
    }
    return GDNCP_OK;
}

gdncp_status_t gdncp_plan_add(gdncp_plan_t *plan, const gdncp_transfer_t *transfer,
                              const gdncp_piece_t *pieces, int64_t num_pieces)
{
    const bool sends = transfer->source_rank == plan->rank;
    const bool receives = transfer->destination_rank == plan->rank;

    if (transfer->rows == 0) {
        return GDNCP_OK;
    }
    if (sends && receives) {
        return add_local_copies(plan, transfer, pieces, num_pieces);
    }
    if (sends) {
        return add_group(&plan->sends[transfer->destination_rank], transfer, pieces, num_pieces,
                         true);
    }
    if (receives) {
        return add_group(&plan->recvs[transfer->source_rank], transfer, pieces, num_pieces, false);
    }
    return GDNCP_OK;
}

static gdncp_status_t list_messages(gdncp_plan_t *plan)
{
    const int64_t size = (int64_t)gdncp_dtype_size(plan->dtype);

    plan->messages = gdncp_memory_alloc((size_t)plan->num_ranks * sizeof *plan->messages);
    if (plan->messages == NULL) {
        return gdncp_fail_memory("a plan's messages");
    }
    for (int peer = 0; peer < plan->num_ranks; peer++) {
        const gdncp_message_t message = {.peer = peer,
                                         .send_bytes = plan->sends[peer].elements * size,
                                         .recv_bytes = plan->recvs[peer].elements * size};

        if (peer != plan->rank && (message.send_bytes > 0 || message.recv_bytes > 0)) {
            plan->messages[plan->num_messages++] = message;
        }
    }
    return GDNCP_OK;
}

/* Output elements that are reached at all: targets of sums once, whatever their terms. */
static int64_t count_written(const gdncp_plan_t *plan)
{
    int64_t written = 0;

    for (int peer = 0; peer < plan->num_ranks && plan->write == GDNCP_PLAN_ASSIGN; peer++) {
        for (int64_t b = 0; b < plan->recvs[peer].count; b++) {
            const gdncp_block_t *const block = &plan->recvs[peer].blocks[b];

            written += block->shared ? 0 : block->rows * block->row_elements;
        }
    }
    for (int64_t s = 0; s < plan->num_sums; s++) {
        written += plan->sums[s].target.rows * plan->sums[s].target.row_elements;
    }
    return written;
}

gdncp_status_t gdncp_plan_seal(gdncp_plan_t *plan)
{
    gdncp_status_t status = list_messages(plan);

    snprintf(plan->name, sizeof plan->name, "%s%s", plan->transposed ? "transpose of " : "",
             plan->operation);
    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_plan_make_sums(plan);
    if (status != GDNCP_OK) {
        return status;
    }
    plan->writes_cover = count_written(plan) ==
                         plan->output.rows.batch * plan->output.tokens * plan->output.row_elements;
    return GDNCP_OK;
}
