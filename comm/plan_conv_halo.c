/* conv_halo: each local segment gets the tokens just before it in its sequence. */
#include <inttypes.h>
#include <stdio.h>

#include "error.h"
#include "gdncp/memory.h"
#include "own_segments.h"
#include "plan_internal.h"

typedef struct halo_shape {
    const gdncp_layout_t *layout;
    int64_t channels;
    int64_t in_row_elements; /* of which the first channels are read */
    int64_t width;
    const char *in_name; /* the argument that says how the input lies */
    const gdncp_rows_t *in;
    const gdncp_rows_t *out;
} halo_shape_t;

/* A token of all batch rows. */
typedef struct token_pieces {
    gdncp_piece_t *pieces; /* [in->batch] */
    int64_t count;
} token_pieces_t;

/* Where the halo of a segment begins in its holder's halo buffer. */
static int64_t halo_offset(const halo_shape_t *shape, const gdncp_segment_t *segment)
{
    int64_t count;
    const gdncp_segment_t *const mine =
        gdncp_layout_rank_segments(shape->layout, segment->rank, &count);

    return (segment - mine) * shape->width * shape->out->token_stride;
}

/* Tokens [begin, end) of one segment, which the segments first..last of the chain all read. */
static gdncp_status_t add_readers(gdncp_plan_t *plan, const halo_shape_t *shape,
                                  token_pieces_t *token, const gdncp_chain_t *chain, int64_t holder,
                                  int64_t begin, int64_t end, int64_t last)
{
    const gdncp_segment_t *const source = gdncp_chain_link(chain, holder);
    const gdncp_piece_t row = {.elements = shape->channels, .shared = last > holder + 1};

    token->count = gdncp_pieces_repeat(&row, 1, shape->in, shape->out, token->pieces);
    for (int64_t r = holder + 1; r <= last; r++) {
        const gdncp_segment_t *const reader = gdncp_chain_link(chain, r);
        const int64_t halo_row = begin - (reader->begin - shape->width);
        const gdncp_transfer_t transfer = {
            .source_rank = source->rank,
            .destination_rank = reader->rank,
            .rows = end - begin,
            .source_offset =
                (source->local_offset + begin - source->begin) * shape->in->token_stride,
            .source_stride = shape->in->token_stride,
            .destination_offset = halo_offset(shape, reader) + halo_row * shape->out->token_stride,
            .destination_stride = shape->out->token_stride,
        };
        const gdncp_status_t status = gdncp_plan_add(plan, &transfer, token->pieces, token->count);

        if (status != GDNCP_OK) {
            return status;
        }
    }
    return GDNCP_OK;
}

/*
 * What the segments after one read of it. Each later reader begins further on, so the segment's
 * tokens fall into stretches with one more reader each; a stretch is one target of a sum in the
 * transpose.
 */
static gdncp_status_t add_holder(gdncp_plan_t *plan, const halo_shape_t *shape,
                                 token_pieces_t *token, const gdncp_chain_t *chain, int64_t holder)
{
    const gdncp_segment_t *const source = gdncp_chain_link(chain, holder);
    const int64_t source_end = source->begin + source->length;

    for (int64_t last = holder + 1; last < chain->count; last++) {
        const int64_t reach = gdncp_chain_link(chain, last)->begin - shape->width;
        const int64_t begin = reach > source->begin ? reach : source->begin;
        int64_t end = source_end;

        if (begin >= source_end) {
            break;
        }
        if (last + 1 < chain->count) {
            const int64_t next = gdncp_chain_link(chain, last + 1)->begin - shape->width;

            end = next < end ? next : end;
        }
        if (end <= begin) {
            continue;
        }
        const gdncp_status_t status =
            add_readers(plan, shape, token, chain, holder, begin, end, last);

        if (status != GDNCP_OK) {
            return status;
        }
    }
    return GDNCP_OK;
}

static gdncp_status_t check_shape(const halo_shape_t *shape, gdncp_plan_t **plan_p)
{
    if (shape->layout == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "layout: expected a layout, got NULL");
    }
    if (plan_p == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "plan_p: expected an address, got NULL");
    }
    if (shape->channels <= 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "channels: expected > 0, got %" PRId64,
                          shape->channels);
    }
    if (shape->width < 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "width: expected >= 0, got %" PRId64,
                          shape->width);
    }
    return gdncp_rows_check_batch(shape->in, shape->out);
}

static gdncp_buffer_t input_of(const halo_shape_t *shape, int rank)
{
    return (gdncp_buffer_t){*shape->in, gdncp_layout_rank_tokens(shape->layout, rank),
                            shape->in_row_elements};
}

static gdncp_buffer_t output_of(const halo_shape_t *shape, int rank)
{
    int64_t num_segments;

    gdncp_layout_rank_segments(shape->layout, rank, &num_segments);
    return (gdncp_buffer_t){*shape->out, num_segments * shape->width, shape->channels};
}

static gdncp_status_t check_sizes(const halo_shape_t *shape, int rank, gdncp_dtype_t dtype)
{
    const int64_t num_tokens = gdncp_layout_num_tokens(shape->layout);
    const int64_t batch = shape->in->batch;
    gdncp_status_t status =
        gdncp_plan_check_elements("channels", dtype, num_tokens, shape->channels, batch);

    if (status == GDNCP_OK) {
        status = gdncp_plan_check_elements("width", dtype, gdncp_layout_num_segments(shape->layout),
                                           shape->width, shape->channels * batch);
    }
    if (status == GDNCP_OK) {
        const gdncp_buffer_t input = input_of(shape, rank);

        status =
            gdncp_rows_check(shape->in_name, &input.rows, input.tokens, input.row_elements, dtype);
    }
    if (status == GDNCP_OK) {
        const gdncp_buffer_t output = output_of(shape, rank);

        status = gdncp_rows_check("out", &output.rows, output.tokens, output.row_elements, dtype);
    }
    return status;
}

/* Whether a token is read by two segments or more, on any rank: over one that is shorter than the
 * halo, and has one before it and one after it in its sequence. */
static bool has_shared_reads(const halo_shape_t *shape)
{
    const gdncp_segment_t *const segments = gdncp_layout_segments(shape->layout);
    const int64_t num_segments = gdncp_layout_num_segments(shape->layout);
    const int64_t *const cu_seqlens = gdncp_layout_cu_seqlens(shape->layout);

    for (int64_t s = 0; s < num_segments; s++) {
        const int64_t sequence = segments[s].sequence;

        if (segments[s].length < shape->width && segments[s].begin > 0 &&
            segments[s].begin + segments[s].length <
                cu_seqlens[sequence + 1] - cu_seqlens[sequence]) {
            return true;
        }
    }
    return false;
}

/*
 * What this rank's segments read, and what is read of them: for each, in the order of the pack, the
 * segments that reach into its halo, and then itself, unless an earlier one had them.
 */
static gdncp_status_t add_own(gdncp_plan_t *plan, const halo_shape_t *shape, token_pieces_t *token)
{
    const gdncp_segment_t **own;
    int64_t num_own;
    int64_t next = 0; /* link of the chain that no earlier segment had */
    gdncp_status_t status = gdncp_own_segments(shape->layout, plan->rank, false, &own, &num_own);

    if (status != GDNCP_OK) {
        return status;
    }
    for (int64_t s = 0; s < num_own && status == GDNCP_OK; s++) {
        const gdncp_chain_t chain = gdncp_chain_of(shape->layout, own[s]->sequence, false);
        const int64_t reach = gdncp_chain_find(&chain, own[s]->begin - shape->width);

        if (s == 0 || own[s]->sequence != own[s - 1]->sequence) {
            next = 0;
        }
        for (next = next > reach ? next : reach; status == GDNCP_OK; next++) {
            const gdncp_segment_t *const holder =
                next < chain.count ? gdncp_chain_link(&chain, next) : NULL;

            if (holder == NULL || holder->begin > own[s]->begin) {
                break;
            }
            status = add_holder(plan, shape, token, &chain, next);
        }
    }
    gdncp_memory_free(own);
    return status;
}

static gdncp_status_t add_sequences(gdncp_plan_t *plan, const halo_shape_t *shape)
{
    token_pieces_t token = {
        .pieces = gdncp_memory_alloc((size_t)shape->in->batch * sizeof *token.pieces)};
    gdncp_status_t status;

    if (token.pieces == NULL) {
        return gdncp_fail_memory("the rows of a batch");
    }
    plan->reads_overlap = has_shared_reads(shape);
    status = add_own(plan, shape, &token);
    gdncp_memory_free(token.pieces);
    return status;
}

static gdncp_status_t plan_halo(const halo_shape_t *shape, int rank, gdncp_dtype_t dtype,
                                gdncp_plan_t **plan_p)
{
    gdncp_plan_t *plan;
    gdncp_status_t status = check_shape(shape, plan_p);

    if (status == GDNCP_OK) {
        status = check_sizes(shape, rank, dtype);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    status =
        gdncp_plan_start("conv_halo", gdncp_layout_num_ranks(shape->layout), rank, dtype, &plan);
    if (status != GDNCP_OK) {
        return status;
    }
    snprintf(
        plan->text, sizeof plan->text,
        "%s [%" PRId64 " tokens, batch %" PRId64 ", %" PRId64 " channels], width %" PRId64 ", %s",
        gdncp_dtype_name(dtype), gdncp_layout_num_tokens(shape->layout), shape->in->batch,
        shape->channels, shape->width, gdncp_layout_kind_name(gdncp_layout_kind(shape->layout)));
    gdncp_plan_mix(plan, gdncp_layout_hash(shape->layout));
    gdncp_plan_mix(plan, (uint64_t)shape->in->batch);
    gdncp_plan_mix(plan, (uint64_t)shape->channels);
    gdncp_plan_mix(plan, (uint64_t)shape->width);
    gdncp_plan_set_buffers(plan, input_of(shape, rank), output_of(shape, rank));
    status = add_sequences(plan, shape);
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

gdncp_status_t gdncp_plan_conv_halo_rows(const gdncp_layout_t *layout, int rank,
                                         gdncp_dtype_t dtype, int64_t channels, int64_t width,
                                         const gdncp_rows_t *in, const gdncp_rows_t *out,
                                         gdncp_plan_t **plan_p)
{
    const halo_shape_t shape = {layout, channels, channels, width, "in", in, out};

    return plan_halo(&shape, rank, dtype, plan_p);
}

gdncp_status_t gdncp_plan_conv_halo(const gdncp_layout_t *layout, int rank, gdncp_dtype_t dtype,
                                    int64_t channels, int64_t row_stride, int64_t width,
                                    gdncp_plan_t **plan_p)
{
    const gdncp_rows_t in = gdncp_rows_token_major(1, row_stride);
    const gdncp_rows_t out = gdncp_rows_token_major(1, channels);
    const halo_shape_t shape = {layout, channels, row_stride, width, "row_stride", &in, &out};

    if (channels > 0 && row_stride < channels) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "row_stride: expected at least channels = %" PRId64 ", got %" PRId64,
                          channels, row_stride);
    }
    return plan_halo(&shape, rank, dtype, plan_p);
}
