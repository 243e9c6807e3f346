#include "gather.h"

#include <stdlib.h>

#include "fail.h"
#include "gdncp/exchange.h"
#include "gdncp/plan.h"
#include "local.h"

/* Elements of a parameter that are brought together at a time: rank 0 holds all ranks' of them. */
#define SLICE_ELEMENTS (INT64_C(1) << 18)

/* The layout of the same pack with all tokens on rank 0, in pack order. */
static gdncp_status_t create_root_layout(const gdncp_layout_t *from, gdncp_layout_t **root_p)
{
    const int64_t tokens = gdncp_layout_num_tokens(from);
    const int ranks = gdncp_layout_num_ranks(from);
    gdncp_status_t status = GDNCP_ERR_OUT_OF_MEMORY;
    int64_t *const positions = run_alloc((size_t)tokens, sizeof *positions, "positions");
    int64_t *const rank_tokens = run_alloc((size_t)ranks, sizeof *rank_tokens, "positions");

    if (positions != NULL && rank_tokens != NULL) {
        for (int64_t t = 0; t < tokens; t++) {
            positions[t] = t;
        }
        rank_tokens[0] = tokens;
        status = gdncp_layout_from_positions_padded(
            gdncp_layout_cu_seqlens(from), gdncp_layout_cu_seqlens_padded(from),
            gdncp_layout_num_sequences(from), ranks, positions, rank_tokens, root_p);
    }
    free(rank_tokens);
    free(positions);
    return status;
}

/* Move the tokens of `from` to rank 0. in: this rank's [tokens, channels]; out: rank 0's. */
static gdncp_status_t move_to_root(gdncp_comm_t *comm, const gdncp_layout_t *from,
                                   gdncp_dtype_t dtype, int64_t channels, const void *in, void *out)
{
    gdncp_layout_t *root = NULL;
    gdncp_plan_t *plan = NULL;
    gdncp_exchange_t *exchange = NULL;
    gdncp_status_t status = create_root_layout(from, &root);

    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_plan_relayout(from, root, gdncp_comm_rank(comm), dtype, channels, &plan);
    if (status != GDNCP_OK) {
        goto destroy_layout;
    }
    status = gdncp_exchange_create(comm, plan, &exchange);
    if (status != GDNCP_OK) {
        goto destroy_plan;
    }
    status = gdncp_exchange_run(exchange, in, out, NULL);
    gdncp_exchange_destroy(exchange);
destroy_plan:
    gdncp_plan_destroy(plan);
destroy_layout:
    gdncp_layout_destroy(root);
    return status;
}

static gdncp_status_t gather_tokens(const run_job_t *job, const run_spec_t *spec,
                                    const gdncp_tensor_t *part, float *whole)
{
    const bool is_root = gdncp_comm_rank(job->comm) == 0;
    const int64_t count = is_root ? run_spec_count(spec) : 0;
    void *const rows = run_alloc((size_t)count + 1, gdncp_dtype_size(part->dtype), spec->name);

    if (rows == NULL) {
        return GDNCP_ERR_OUT_OF_MEMORY;
    }
    gdncp_status_t status =
        move_to_root(job->comm, job->layout, part->dtype, run_spec_row(spec), part->data, rows);
    if (status == GDNCP_OK && is_root) {
        status = gdncp_convert_to_f32(part->dtype, rows, count, whole);
    }
    free(rows);
    return status;
}

/* all [ranks, count]: elements begin .. begin + count - 1 of every rank's part. */
static void combine(const run_job_t *job, const void *instance, const run_spec_t *spec,
                    const float *all, int64_t begin, int64_t count, float *whole)
{
    const int ranks = gdncp_comm_size(job->comm);

    for (int64_t i = 0; i < count; i++) {
        if (spec->place == RUN_PARAMETER) {
            double sum = 0.0;

            for (int r = 0; r < ranks; r++) {
                sum += all[r * count + i];
            }
            whole[begin + i] = (float)sum;
        } else {
            const int64_t state = (begin + i) / (spec->shape[2] * spec->shape[3]);

            whole[begin + i] = all[run_local_state_rank(job, instance, spec, state) * count + i];
        }
    }
}

/* Every rank has a tensor of the whole shape. A slice of it is one token of a pack of as many
 * tokens as ranks. */
static gdncp_status_t gather_slices(const run_job_t *job, const void *instance,
                                    const run_spec_t *spec, const float *part, float *whole)
{
    const int ranks = gdncp_comm_size(job->comm);
    const bool is_root = gdncp_comm_rank(job->comm) == 0;
    const int64_t total = run_spec_count(spec);
    const int64_t cu_seqlens[] = {0, ranks};
    gdncp_layout_t *layout = NULL;
    float *const all =
        run_alloc((size_t)SLICE_ELEMENTS * (is_root ? (size_t)ranks : 1), sizeof *all, spec->name);

    if (all == NULL) {
        return GDNCP_ERR_OUT_OF_MEMORY;
    }
    gdncp_status_t status =
        gdncp_layout_create(GDNCP_LAYOUT_CONTIGUOUS, cu_seqlens, 1, ranks, &layout);
    for (int64_t begin = 0; begin < total && status == GDNCP_OK; begin += SLICE_ELEMENTS) {
        const int64_t count = total - begin < SLICE_ELEMENTS ? total - begin : SLICE_ELEMENTS;

        status = move_to_root(job->comm, layout, GDNCP_F32, count, part + begin, all);
        if (status == GDNCP_OK && is_root) {
            combine(job, instance, spec, all, begin, count, whole);
        }
    }
    gdncp_layout_destroy(layout);
    free(all);
    return status;
}

gdncp_status_t run_gather(const run_job_t *job, const void *instance, const run_spec_t *spec,
                          const gdncp_tensor_t *part, float *whole)
{
    return spec->place == RUN_TOKENS ? gather_tokens(job, spec, part, whole)
                                     : gather_slices(job, instance, spec, part->data, whole);
}
