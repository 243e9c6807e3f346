/* relayout: every token from where one layout puts it to where another does. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "error.h"
#include "gdncp/memory.h"
#include "own_segments.h"
#include "plan_internal.h"

static gdncp_status_t check_same_offsets(const char *name, int64_t num_sequences,
                                         const int64_t *expected, const int64_t *got)
{
    for (int64_t i = 0; i <= num_sequences; i++) {
        if (expected[i] != got[i]) {
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                              "to: expected %s[%" PRId64 "] = %" PRId64 " like from, got %" PRId64,
                              name, i, expected[i], got[i]);
        }
    }
    return GDNCP_OK;
}

static gdncp_status_t check_same_pack(const gdncp_layout_t *from, const gdncp_layout_t *to)
{
    const int64_t num_sequences = gdncp_layout_num_sequences(from);
    gdncp_status_t status;

    if (gdncp_layout_num_ranks(from) != gdncp_layout_num_ranks(to)) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "to: expected a layout over %d ranks like from, got %d",
                          gdncp_layout_num_ranks(from), gdncp_layout_num_ranks(to));
    }
    if (num_sequences != gdncp_layout_num_sequences(to)) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "to: expected a layout of %" PRId64 " sequences like from, got %" PRId64,
                          num_sequences, gdncp_layout_num_sequences(to));
    }
    status = check_same_offsets("cu_seqlens", num_sequences, gdncp_layout_cu_seqlens(from),
                                gdncp_layout_cu_seqlens(to));
    if (status != GDNCP_OK) {
        return status;
    }
    return check_same_offsets("cu_seqlens_padded", num_sequences,
                              gdncp_layout_cu_seqlens_padded(from),
                              gdncp_layout_cu_seqlens_padded(to));
}

/* What is sent, and how. */
typedef struct relayout {
    const gdncp_layout_t *from;
    const gdncp_layout_t *to;
    const gdncp_piece_t *pieces;
    int64_t num_pieces;
} relayout_t;

static gdncp_status_t add_stretch(gdncp_plan_t *plan, const relayout_t *relayout,
                                  const gdncp_segment_t *source, const gdncp_segment_t *target)
{
    const int64_t in_stride = plan->input.rows.token_stride;
    const int64_t out_stride = plan->output.rows.token_stride;
    const int64_t source_end = source->begin + source->length;
    const int64_t target_end = target->begin + target->length;
    const int64_t begin = source->begin > target->begin ? source->begin : target->begin;
    const int64_t end = source_end < target_end ? source_end : target_end;
    const gdncp_transfer_t transfer = {
        .source_rank = source->rank,
        .destination_rank = target->rank,
        .rows = end - begin,
        .source_offset = (source->local_offset + begin - source->begin) * in_stride,
        .source_stride = in_stride,
        .destination_offset = (target->local_offset + begin - target->begin) * out_stride,
        .destination_stride = out_stride,
    };

    return gdncp_plan_add(plan, &transfer, relayout->pieces, relayout->num_pieces);
}

/*
 * One transfer for each stretch of a segment of this rank in one layout that is whole in the other,
 * in the order of the pack: what it sends and keeps, or what it receives.
 */
static gdncp_status_t add_own(gdncp_plan_t *plan, const relayout_t *relayout, bool sends)
{
    const gdncp_layout_t *const other = sends ? relayout->to : relayout->from;
    const gdncp_segment_t **own;
    int64_t num_own;
    gdncp_status_t status =
        gdncp_own_segments(sends ? relayout->from : relayout->to, plan->rank, true, &own, &num_own);

    if (status != GDNCP_OK) {
        return status;
    }
    for (int64_t s = 0; s < num_own && status == GDNCP_OK; s++) {
        const gdncp_chain_t chain = gdncp_chain_of(other, own[s]->sequence, true);
        const int64_t end = own[s]->begin + own[s]->length;

        for (int64_t i = gdncp_chain_find(&chain, own[s]->begin); status == GDNCP_OK; i++) {
            const gdncp_segment_t *const link =
                i < chain.count ? gdncp_chain_link(&chain, i) : NULL;

            if (link == NULL || link->begin >= end) {
                break;
            }
            if (sends) {
                status = add_stretch(plan, relayout, own[s], link);
            } else if (link->rank != plan->rank) {
                status = add_stretch(plan, relayout, link, own[s]);
            }
        }
    }
    gdncp_memory_free(own);
    return status;
}

static gdncp_status_t add_sequences(gdncp_plan_t *plan, const gdncp_layout_t *from,
                                    const gdncp_layout_t *to, int64_t channels)
{
    const gdncp_piece_t row = {.elements = channels};
    gdncp_piece_t *const pieces =
        gdncp_memory_alloc((size_t)plan->input.rows.batch * sizeof *pieces);
    const relayout_t relayout = {
        .from = from,
        .to = to,
        .pieces = pieces,
        .num_pieces = pieces != NULL ? gdncp_pieces_repeat(&row, 1, &plan->input.rows,
                                                           &plan->output.rows, pieces)
                                     : 0,
    };
    gdncp_status_t status;

    if (pieces == NULL) {
        return gdncp_fail_memory("the rows of a batch");
    }
    status = add_own(plan, &relayout, true);
    if (status == GDNCP_OK) {
        status = add_own(plan, &relayout, false);
    }
    gdncp_memory_free(pieces);
    return status;
}

static gdncp_status_t check_arguments(const gdncp_layout_t *from, const gdncp_layout_t *to,
                                      int rank, gdncp_dtype_t dtype, int64_t channels,
                                      const gdncp_rows_t *in, const gdncp_rows_t *out,
                                      gdncp_plan_t **plan_p)
{
    if (from == NULL || to == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "%s: expected a layout, got NULL",
                          from == NULL ? "from" : "to");
    }
    if (plan_p == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "plan_p: expected an address, got NULL");
    }
    if (channels <= 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "channels: expected > 0, got %" PRId64,
                          channels);
    }
    gdncp_status_t status = check_same_pack(from, to);

    if (status == GDNCP_OK) {
        status = gdncp_rows_check_batch(in, out);
    }
    if (status == GDNCP_OK) {
        status = gdncp_plan_check_elements("channels", dtype, gdncp_layout_num_tokens(from),
                                           channels, in->batch);
    }
    if (status == GDNCP_OK) {
        status = gdncp_rows_check("in", in, gdncp_layout_rank_tokens(from, rank), channels, dtype);
    }
    return status == GDNCP_OK
               ? gdncp_rows_check("out", out, gdncp_layout_rank_tokens(to, rank), channels, dtype)
               : status;
}

gdncp_status_t gdncp_plan_relayout_rows(const gdncp_layout_t *from, const gdncp_layout_t *to,
                                        int rank, gdncp_dtype_t dtype, int64_t channels,
                                        const gdncp_rows_t *in, const gdncp_rows_t *out,
                                        gdncp_plan_t **plan_p)
{
    gdncp_plan_t *plan;
    gdncp_status_t status = check_arguments(from, to, rank, dtype, channels, in, out, plan_p);

    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_plan_start("relayout", gdncp_layout_num_ranks(from), rank, dtype, &plan);
    if (status != GDNCP_OK) {
        return status;
    }
    snprintf(plan->text, sizeof plan->text,
             "%s [%" PRId64 " tokens, batch %" PRId64 ", %" PRId64 " channels], %s to %s",
             gdncp_dtype_name(dtype), gdncp_layout_num_tokens(from), in->batch, channels,
             gdncp_layout_kind_name(gdncp_layout_kind(from)),
             gdncp_layout_kind_name(gdncp_layout_kind(to)));
    gdncp_plan_mix(plan, gdncp_layout_hash(from));
    gdncp_plan_mix(plan, gdncp_layout_hash(to));
    gdncp_plan_mix(plan, (uint64_t)in->batch);
    gdncp_plan_mix(plan, (uint64_t)channels);
    gdncp_plan_set_buffers(plan,
                           (gdncp_buffer_t){*in, gdncp_layout_rank_tokens(from, rank), channels},
                           (gdncp_buffer_t){*out, gdncp_layout_rank_tokens(to, rank), channels});
    status = add_sequences(plan, from, to, channels);
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

gdncp_status_t gdncp_plan_relayout(const gdncp_layout_t *from, const gdncp_layout_t *to, int rank,
                                   gdncp_dtype_t dtype, int64_t channels, gdncp_plan_t **plan_p)
{
    const gdncp_rows_t rows = gdncp_rows_token_major(1, channels);

    return gdncp_plan_relayout_rows(from, to, rank, dtype, channels, &rows, &rows, plan_p);
}
