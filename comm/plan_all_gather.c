/* all_gather_concat: every rank gets all shards, side by side along one dimension. */
#include <inttypes.h>
#include <stdio.h>

#include "error.h"
#include "plan_internal.h"

static gdncp_status_t check_lengths(int num_ranks, const int64_t *lengths, int64_t *sum_p)
{
    int64_t sum = 0;

    if (lengths == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "lengths: expected [%d] lengths, got NULL",
                          num_ranks);
    }
    for (int i = 0; i < num_ranks; i++) {
        if (lengths[i] < 0 || __builtin_add_overflow(sum, lengths[i], &sum)) {
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                              "lengths[%d]: expected >= 0 and a sum below 2^63, got %" PRId64, i,
                              lengths[i]);
        }
    }
    *sum_p = sum;
    return GDNCP_OK;
}

/* All transfers that this rank is part of: its shard to everyone, everyone's shard to it. */
static gdncp_status_t add_shards(gdncp_plan_t *plan, int64_t outer, const int64_t *lengths,
                                 int64_t inner, int64_t row_elements)
{
    int64_t column = 0;

    for (int source = 0; source < plan->num_ranks; source++) {
        const gdncp_piece_t piece = {.elements = lengths[source] * inner,
                                     .shared = plan->num_ranks > 1};
        const bool is_mine = source == plan->rank;

        for (int target = is_mine ? 0 : plan->rank;
             target < (is_mine ? plan->num_ranks : plan->rank + 1); target++) {
            const gdncp_transfer_t transfer = {
                .source_rank = source,
                .destination_rank = target,
                .rows = outer,
                .source_stride = piece.elements,
                .destination_offset = column,
                .destination_stride = row_elements,
            };
            const gdncp_status_t status = gdncp_plan_add(plan, &transfer, &piece, 1);

            if (status != GDNCP_OK) {
                return status;
            }
        }
        column += piece.elements;
    }
    return GDNCP_OK;
}

gdncp_status_t gdncp_plan_all_gather_concat(int num_ranks, int rank, gdncp_dtype_t dtype,
                                            int64_t outer, const int64_t *lengths, int64_t inner,
                                            gdncp_plan_t **plan_p)
{
    gdncp_plan_t *plan;
    int64_t sum = 0;

    if (num_ranks <= 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "num_ranks: expected > 0, got %d", num_ranks);
    }
    if (outer < 0 || inner < 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "%s: expected >= 0, got %" PRId64,
                          outer < 0 ? "outer" : "inner", outer < 0 ? outer : inner);
    }
    if (plan_p == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "plan_p: expected an address, got NULL");
    }
    gdncp_status_t status = check_lengths(num_ranks, lengths, &sum);

    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_plan_check_elements("lengths", dtype, sum, inner, outer);
    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_plan_start("all_gather_concat", num_ranks, rank, dtype, &plan);
    if (status != GDNCP_OK) {
        return status;
    }
    snprintf(plan->text, sizeof plan->text, "%s [%" PRId64 ", %" PRId64 ", %" PRId64 "]",
             gdncp_dtype_name(dtype), outer, sum, inner);
    gdncp_plan_mix(plan, (uint64_t)outer);
    gdncp_plan_mix(plan, (uint64_t)inner);
    for (int i = 0; i < num_ranks; i++) {
        gdncp_plan_mix(plan, (uint64_t)lengths[i]);
    }
    gdncp_plan_set_buffers(plan, gdncp_buffer_of_run(outer * lengths[rank] * inner),
                           gdncp_buffer_of_run(outer * sum * inner));
    plan->reads_overlap = num_ranks > 1 && plan->output_elements > 0;
    status = add_shards(plan, outer, lengths, inner, sum * inner);
    if (status != GDNCP_OK) {
        goto destroy_plan;
    }
    status = gdncp_plan_seal(plan);
    if (status != GDNCP_OK) {
        goto destroy_plan;
    }
    *plan_p = plan;
    return GDNCP_OK;

destroy_plan:
    gdncp_plan_destroy(plan);
    return status;
}
