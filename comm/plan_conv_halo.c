/* conv_halo: each local segment gets the tokens just before it in its sequence. */
#include <inttypes.h>
#include <stdio.h>

#include "error.h"
#include "plan_internal.h"

typedef struct halo_shape {
    const gdncp_layout_t *layout;
    int64_t channels;
    int64_t row_stride;
    int64_t width;
} halo_shape_t;

/* The segments of one sequence, in its order. */
typedef struct chain {
    const gdncp_segment_t *segments;
    const int64_t *indices;
    int64_t count;
} chain_t;

static const gdncp_segment_t *link_at(const chain_t *chain, int64_t i)
{
    return &chain->segments[chain->indices[i]];
}

/* Where the halo of a segment begins in its holder's halo buffer. */
static int64_t halo_offset(const halo_shape_t *shape, const gdncp_segment_t *segment)
{
    int64_t count;
    const gdncp_segment_t *const mine =
        gdncp_layout_rank_segments(shape->layout, segment->rank, &count);

    return (segment - mine) * shape->width * shape->channels;
}

/* Tokens [begin, end) of one segment, which the segments first..last of the chain all read. */
static gdncp_status_t add_readers(gdncp_plan_t *plan, const halo_shape_t *shape,
                                  const chain_t *chain, int64_t holder, int64_t begin, int64_t end,
                                  int64_t last)
{
    const gdncp_segment_t *const source = link_at(chain, holder);
    const gdncp_piece_t row = {.elements = shape->channels, .shared = last > holder + 1};

    plan->reads_overlap |= row.shared;
    for (int64_t r = holder + 1; r <= last; r++) {
        const gdncp_segment_t *const reader = link_at(chain, r);
        const int64_t halo_row = begin - (reader->begin - shape->width);
        const gdncp_transfer_t transfer = {
            .source_rank = source->rank,
            .destination_rank = reader->rank,
            .rows = end - begin,
            .source_offset = (source->local_offset + begin - source->begin) * shape->row_stride,
            .source_stride = shape->row_stride,
            .destination_offset = halo_offset(shape, reader) + halo_row * shape->channels,
            .destination_stride = shape->channels,
        };
        const gdncp_status_t status = gdncp_plan_add(plan, &transfer, &row, 1);

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
                                 const chain_t *chain, int64_t holder)
{
    const gdncp_segment_t *const source = link_at(chain, holder);
    const int64_t source_end = source->begin + source->length;

    for (int64_t last = holder + 1; last < chain->count; last++) {
        const int64_t reach = link_at(chain, last)->begin - shape->width;
        const int64_t begin = reach > source->begin ? reach : source->begin;
        int64_t end = source_end;

        if (begin >= source_end) {
            break;
        }
        if (last + 1 < chain->count) {
            const int64_t next = link_at(chain, last + 1)->begin - shape->width;

            end = next < end ? next : end;
        }
        if (end <= begin) {
            continue;
        }
        const gdncp_status_t status = add_readers(plan, shape, chain, holder, begin, end, last);

        if (status != GDNCP_OK) {
            return status;
        }
    }
    return GDNCP_OK;
}

static gdncp_status_t check_shape(const halo_shape_t *shape, gdncp_dtype_t dtype,
                                  gdncp_plan_t **plan_p)
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
    if (shape->row_stride < shape->channels) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "row_stride: expected at least channels = %" PRId64 ", got %" PRId64,
                          shape->channels, shape->row_stride);
    }
    if (shape->width < 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "width: expected >= 0, got %" PRId64,
                          shape->width);
    }
    const gdncp_status_t status = gdncp_plan_check_elements(
        "row_stride", dtype, gdncp_layout_num_tokens(shape->layout), shape->row_stride, 1);

    if (status != GDNCP_OK) {
        return status;
    }
    return gdncp_plan_check_elements("width", dtype, gdncp_layout_num_segments(shape->layout),
                                     shape->width, shape->channels);
}

static gdncp_status_t add_sequences(gdncp_plan_t *plan, const halo_shape_t *shape)
{
    const int64_t num_sequences = gdncp_layout_num_sequences(shape->layout);

    for (int64_t sequence = 0; sequence < num_sequences; sequence++) {
        chain_t chain = {.segments = gdncp_layout_segments(shape->layout)};

        chain.indices = gdncp_layout_sequence_chain(shape->layout, sequence, &chain.count);
        for (int64_t holder = 0; holder < chain.count; holder++) {
            const gdncp_status_t status = add_holder(plan, shape, &chain, holder);

            if (status != GDNCP_OK) {
                return status;
            }
        }
    }
    return GDNCP_OK;
}

gdncp_status_t gdncp_plan_conv_halo(const gdncp_layout_t *layout, int rank, gdncp_dtype_t dtype,
                                    int64_t channels, int64_t row_stride, int64_t width,
                                    gdncp_plan_t **plan_p)
{
    const halo_shape_t shape = {layout, channels, row_stride, width};
    gdncp_plan_t *plan;
    int64_t num_segments;
    gdncp_status_t status = check_shape(&shape, dtype, plan_p);

    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_plan_start("conv_halo", gdncp_layout_num_ranks(layout), rank, dtype, &plan);
    if (status != GDNCP_OK) {
        return status;
    }
    snprintf(plan->text, sizeof plan->text,
             "%s [%" PRId64 " tokens, %" PRId64 " of %" PRId64 " channels], width %" PRId64 ", %s",
             gdncp_dtype_name(dtype), gdncp_layout_num_tokens(layout), channels, row_stride, width,
             gdncp_layout_kind_name(gdncp_layout_kind(layout)));
    gdncp_plan_mix(plan, gdncp_layout_hash(layout));
    gdncp_plan_mix(plan, (uint64_t)channels);
    gdncp_plan_mix(plan, (uint64_t)row_stride);
    gdncp_plan_mix(plan, (uint64_t)width);
    gdncp_layout_rank_segments(layout, rank, &num_segments);
    plan->input_elements = gdncp_layout_rank_tokens(layout, rank) * row_stride;
    plan->output_elements = num_segments * width * channels;
    status = add_sequences(plan, &shape);
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
