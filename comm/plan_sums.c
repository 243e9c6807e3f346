/* Output elements that are sums of what several ranks contribute, in fixed order of rank. */
#include <assert.h>
#include <stdlib.h>

#include "add_terms.h"
#include "error.h"
#include "gdncp/memory.h"
#include "plan_internal.h"
#include "row_copy.h"

/* A contribution before it is known to which sum it belongs. */
typedef struct contribution {
    gdncp_block_t target;
    gdncp_term_t term;
    int64_t order; /* counts contributions by rank, then by place in the message */
} contribution_t;

static bool must_add(const gdncp_plan_t *plan, const gdncp_block_t *target)
{
    return plan->write == GDNCP_PLAN_ADD || target->shared;
}

static int64_t count_contributions(const gdncp_plan_t *plan)
{
    int64_t count = 0;

    for (int peer = 0; peer < plan->num_ranks; peer++) {
        for (int64_t b = 0; b < plan->recvs[peer].count; b++) {
            count += must_add(plan, &plan->recvs[peer].blocks[b]);
        }
    }
    return count;
}

static int64_t list_local(const gdncp_plan_t *plan, contribution_t *contributions, int64_t count)
{
    const gdncp_block_list_t *const targets = &plan->recvs[plan->rank];
    const gdncp_block_list_t *const sources = &plan->sends[plan->rank];

    for (int64_t b = 0; b < targets->count; b++) {
        if (must_add(plan, &targets->blocks[b])) {
            contributions[count] = (contribution_t){
                .target = targets->blocks[b],
                .term = {plan->rank, sources->blocks[b].offset, sources->blocks[b].stride},
                .order = count};
            count++;
        }
    }
    return count;
}

static int64_t list_message(const gdncp_plan_t *plan, int peer, contribution_t *contributions,
                            int64_t count)
{
    const gdncp_block_list_t *const list = &plan->recvs[peer];
    int64_t group_offset = 0;

    for (int64_t first = 0; first < list->count; first += list->blocks[first].num_joined) {
        const gdncp_block_t *const group = &list->blocks[first];
        int64_t group_row = 0; /* elements of one row of the whole group */

        for (int64_t b = 0; b < group->num_joined; b++) {
            group_row += group[b].row_elements;
        }
        int64_t column = 0;

        for (int64_t b = 0; b < group->num_joined; b++) {
            if (must_add(plan, &group[b])) {
                contributions[count] =
                    (contribution_t){.target = group[b],
                                     .term = {peer, group_offset + column, group_row},
                                     .order = count};
                count++;
            }
            column += group[b].row_elements;
        }
        group_offset += group->rows * group_row;
    }
    return count;
}

static int compare_contributions(const void *left, const void *right)
{
    const contribution_t *const a = left;
    const contribution_t *const b = right;

    if (a->target.offset != b->target.offset) {
        return a->target.offset < b->target.offset ? -1 : 1;
    }
    return (a->order > b->order) - (a->order < b->order);
}

gdncp_status_t gdncp_plan_make_sums(gdncp_plan_t *plan)
{
    const int64_t capacity = count_contributions(plan);
    int64_t count = 0;

    if (capacity == 0) {
        return GDNCP_OK;
    }
    contribution_t *const contributions =
        gdncp_memory_alloc((size_t)capacity * sizeof *contributions);

    plan->sums = gdncp_memory_alloc((size_t)capacity * sizeof *plan->sums);
    plan->terms = gdncp_memory_alloc((size_t)capacity * sizeof *plan->terms);
    if (contributions == NULL || plan->sums == NULL || plan->terms == NULL) {
        gdncp_memory_free(contributions);
        return gdncp_fail_memory("a plan's sums");
    }
    for (int peer = 0; peer < plan->num_ranks; peer++) {
        count = peer == plan->rank ? list_local(plan, contributions, count)
                                   : list_message(plan, peer, contributions, count);
    }
    assert(count == capacity);
    qsort(contributions, (size_t)count, sizeof *contributions, compare_contributions);

    /* Targets are equal or disjoint, so that one offset is one target. */
    for (int64_t c = 0; c < count; c++) {
        const gdncp_block_t *const target = &contributions[c].target;

        if (c == 0 || target->offset != contributions[c - 1].target.offset) {
            plan->sums[plan->num_sums++] = (gdncp_sum_t){.target = *target, .first_term = c};
        }
        gdncp_sum_t *const sum = &plan->sums[plan->num_sums - 1];

        assert(sum->target.rows == target->rows);
        assert(sum->target.row_elements == target->row_elements);
        plan->terms[c] = contributions[c].term;
        sum->num_terms++;
    }
    gdncp_memory_free(contributions);
    return GDNCP_OK;
}

/* What a run reads and writes. */
typedef struct buffers {
    const char *in;
    const void *const *messages; /* [num_ranks] */
    char *out;
    bool streams; /* the output is written past the caches */
} buffers_t;

/* A run of at most GDNCP_TOTAL_ELEMENTS elements in one row of a sum. */
typedef struct tile {
    const gdncp_sum_t *sum;
    int64_t row;
    int64_t column;
    int64_t count;
} tile_t;

static const void *term_elements(const gdncp_plan_t *plan, const buffers_t *buffers,
                                 const tile_t *tile, int64_t index)
{
    const gdncp_term_t *const term = &plan->terms[tile->sum->first_term + index];
    const char *const base = term->peer == plan->rank ? buffers->in : buffers->messages[term->peer];

    return base + (term->offset + tile->row * term->stride + tile->column) *
                      (int64_t)gdncp_dtype_size(plan->dtype);
}

static void *target_elements(const gdncp_plan_t *plan, const buffers_t *buffers, const tile_t *tile)
{
    const gdncp_block_t *const target = &tile->sum->target;

    return buffers->out + (target->offset + tile->row * target->stride + tile->column) *
                              (int64_t)gdncp_dtype_size(plan->dtype);
}

/* What is added is term 0, 1, ..., after what the output holds where that is kept. Dtypes that
 * cannot be added were refused when the plan was transposed. */
static void sum_tile(const gdncp_plan_t *plan, const buffers_t *buffers, const tile_t *tile)
{
    const gdncp_dtype_t dtype = plan->dtype;
    const bool keeps = plan->write == GDNCP_PLAN_ADD;
    void *const out = target_elements(plan, buffers, tile);
    const void *const first = keeps ? out : term_elements(plan, buffers, tile, 0);
    int64_t t = keeps ? 0 : 1;
    gdncp_total_t total;

    if (t < tile->sum->num_terms) {
        gdncp_total_begin_pair(&total, dtype, first, term_elements(plan, buffers, tile, t),
                               tile->count);
    } else {
        gdncp_total_begin(&total, dtype, first, tile->count);
    }
    for (t++; t < tile->sum->num_terms; t++) {
        gdncp_total_add(&total, dtype, term_elements(plan, buffers, tile, t), tile->count);
    }
    gdncp_copy_row(out, gdncp_total_round(&total, dtype, tile->count),
                   (size_t)tile->count * gdncp_dtype_size(dtype), NULL, buffers->streams);
}

void gdncp_plan_add_sums(const gdncp_plan_t *plan, const void *in, const void *const *messages,
                         void *out)
{
    const buffers_t buffers = {
        .in = in, .messages = messages, .out = out, .streams = gdncp_plan_streams(plan)};

    for (int64_t s = 0; s < plan->num_sums; s++) {
        tile_t tile = {.sum = &plan->sums[s]};
        const int64_t row_elements = tile.sum->target.row_elements;

        for (tile.row = 0; tile.row < tile.sum->target.rows; tile.row++) {
            for (tile.column = 0; tile.column < row_elements; tile.column += GDNCP_TOTAL_ELEMENTS) {
                const int64_t rest = row_elements - tile.column;

                tile.count = rest < GDNCP_TOTAL_ELEMENTS ? rest : GDNCP_TOTAL_ELEMENTS;
                sum_tile(plan, &buffers, &tile);
            }
        }
    }
    if (buffers.streams) {
        gdncp_copy_fence();
    }
}
