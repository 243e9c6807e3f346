/* cp2hp and hp2cp: between all heads of my tokens and my heads of all tokens. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "error.h"
#include "gdncp/memory.h"
#include "plan_internal.h"

/* The arguments of both builders. */
typedef struct head_shape {
    const gdncp_layout_t *layout;
    int rank;
    gdncp_dtype_t dtype;
    const gdncp_head_split_t *split;
    bool to_heads;
    bool is_dense; /* one row a token; the strides below are then set from the rank's heads */
    gdncp_rows_t in;
    gdncp_rows_t out;
} head_shape_t;

/* Who works on which heads, and holds which tokens. */
typedef struct head_owners {
    int num_ranks;
    gdncp_head_range_t *ranges[2]; /* by gdncp_head_kind_t: [num_ranks] */
    int *lowest_key_owner;         /* [num_key_heads] */
    int *num_key_owners;           /* [num_key_heads] */
    int64_t *first_token;          /* [num_ranks]: its tokens' begin where all lie by rank */
    gdncp_piece_t *row;            /* room for one rank's pieces */
    gdncp_piece_t *pieces;         /* and for those of a whole batch */
} head_owners_t;

static int64_t num_heads(const head_shape_t *shape, gdncp_head_kind_t kind)
{
    return kind == GDNCP_KEY_HEADS ? shape->split->num_key_heads : shape->split->num_value_heads;
}

static int64_t section_end(const head_shape_t *shape, const gdncp_section_t *section)
{
    return section->offset + num_heads(shape, section->kind) * section->head_dim;
}

static gdncp_status_t check_section(const head_shape_t *shape, int64_t index)
{
    const gdncp_section_t *const section = &shape->split->sections[index];

    if (section->kind != GDNCP_KEY_HEADS && section->kind != GDNCP_VALUE_HEADS) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "sections[%" PRId64 "].kind: expected a value of gdncp_head_kind_t, "
                          "got %d",
                          index, (int)section->kind);
    }
    if (section->head_dim <= 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "sections[%" PRId64 "].head_dim: expected > 0, got %" PRId64, index,
                          section->head_dim);
    }
    const int64_t heads = num_heads(shape, section->kind);

    if (section->offset < 0 || section->offset > shape->split->row_channels ||
        section->head_dim > (shape->split->row_channels - section->offset) / heads) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "sections[%" PRId64 "]: expected %" PRId64 " heads of %" PRId64
                          " channels to fit in row_channels %" PRId64 ", got offset %" PRId64,
                          index, heads, section->head_dim, shape->split->row_channels,
                          section->offset);
    }
    for (int64_t other = 0; other < index; other++) {
        const gdncp_section_t *const before = &shape->split->sections[other];

        if (section->offset < section_end(shape, before) &&
            before->offset < section_end(shape, section)) {
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                              "sections[%" PRId64 "]: expected channels apart from those of "
                              "sections[%" PRId64 "], got [%" PRId64 ", %" PRId64 ") and [%" PRId64
                              ", %" PRId64 ")",
                              index, other, section->offset, section_end(shape, section),
                              before->offset, section_end(shape, before));
        }
    }
    return GDNCP_OK;
}

static gdncp_status_t check_shape(const head_shape_t *shape, gdncp_plan_t **plan_p)
{
    gdncp_head_range_t range;

    if (shape->layout == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "layout: expected a layout, got NULL");
    }
    if (plan_p == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "plan_p: expected an address, got NULL");
    }
    if (shape->split == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "split: expected a description, got NULL");
    }
    if (shape->split->order != GDNCP_TOKENS_IN_PACK_ORDER &&
        shape->split->order != GDNCP_TOKENS_BY_RANK) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "order: expected a value of gdncp_token_order_t, got %d",
                          (int)shape->split->order);
    }
    if (shape->split->num_sections <= 0 || shape->split->sections == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "sections: expected at least one, got num_sections %" PRId64 " and %s",
                          shape->split->num_sections,
                          shape->split->sections == NULL ? "NULL" : "an array");
    }
    if (shape->split->row_channels <= 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "row_channels: expected > 0, got %" PRId64,
                          shape->split->row_channels);
    }
    gdncp_status_t status = gdncp_head_range(GDNCP_KEY_HEADS, shape->split->num_key_heads,
                                             shape->split->num_value_heads, 1, 0, &range);

    for (int64_t s = 0; s < shape->split->num_sections && status == GDNCP_OK; s++) {
        status = check_section(shape, s);
    }
    return status == GDNCP_OK
               ? gdncp_plan_check_elements("row_channels", shape->dtype,
                                           gdncp_layout_num_tokens(shape->layout),
                                           shape->split->row_channels, shape->in.batch)
               : status;
}

static void free_owners(head_owners_t *owners)
{
    gdncp_memory_free(owners->ranges[GDNCP_KEY_HEADS]);
    gdncp_memory_free(owners->ranges[GDNCP_VALUE_HEADS]);
    gdncp_memory_free(owners->lowest_key_owner);
    gdncp_memory_free(owners->num_key_owners);
    gdncp_memory_free(owners->first_token);
    gdncp_memory_free(owners->row);
    gdncp_memory_free(owners->pieces);
}

/* A rank's piece of a key section is cut at each head it shares, at most this often in all. */
static int64_t max_pieces(const head_shape_t *shape)
{
    int64_t count = 0;

    for (int64_t s = 0; s < shape->split->num_sections; s++) {
        count +=
            shape->split->sections[s].kind == GDNCP_KEY_HEADS ? shape->split->num_key_heads : 1;
    }
    return count;
}

/* On failure free_owners() is still the caller's to call. */
static gdncp_status_t find_owners(const head_shape_t *shape, head_owners_t *owners)
{
    const int num_ranks = gdncp_layout_num_ranks(shape->layout);
    const size_t range_bytes = (size_t)num_ranks * sizeof(gdncp_head_range_t);
    const size_t key_bytes = (size_t)shape->split->num_key_heads * sizeof(int);

    owners->num_ranks = num_ranks;
    owners->ranges[GDNCP_KEY_HEADS] = gdncp_memory_alloc(range_bytes);
    owners->ranges[GDNCP_VALUE_HEADS] = gdncp_memory_alloc(range_bytes);
    owners->lowest_key_owner = gdncp_memory_alloc(key_bytes);
    owners->num_key_owners = gdncp_memory_alloc(key_bytes);
    owners->first_token = gdncp_memory_alloc((size_t)num_ranks * sizeof *owners->first_token);
    owners->row = gdncp_memory_alloc((size_t)max_pieces(shape) * sizeof *owners->row);
    owners->pieces =
        gdncp_memory_alloc((size_t)(max_pieces(shape) * shape->in.batch) * sizeof *owners->pieces);
    if (owners->ranges[GDNCP_KEY_HEADS] == NULL || owners->ranges[GDNCP_VALUE_HEADS] == NULL ||
        owners->lowest_key_owner == NULL || owners->num_key_owners == NULL ||
        owners->first_token == NULL || owners->row == NULL || owners->pieces == NULL) {
        return gdncp_fail_memory("the heads of all ranks");
    }
    int64_t num_tokens = 0;

    memset(owners->num_key_owners, 0, key_bytes);
    for (int rank = 0; rank < num_ranks; rank++) {
        owners->first_token[rank] = num_tokens;
        num_tokens += gdncp_layout_rank_tokens(shape->layout, rank);
        for (int kind = GDNCP_KEY_HEADS; kind <= GDNCP_VALUE_HEADS; kind++) {
            const gdncp_status_t status = gdncp_head_range(
                (gdncp_head_kind_t)kind, shape->split->num_key_heads, shape->split->num_value_heads,
                num_ranks, rank, &owners->ranges[kind][rank]);

            if (status != GDNCP_OK) {
                return status;
            }
        }
        const gdncp_head_range_t keys = owners->ranges[GDNCP_KEY_HEADS][rank];

        for (int64_t head = keys.first; head < keys.first + keys.count; head++) {
            if (owners->num_key_owners[head]++ == 0) {
                owners->lowest_key_owner[head] = rank;
            }
        }
    }
    return GDNCP_OK;
}

/* Elements of one token on a rank under head parallelism. */
static int64_t rank_channels(const head_shape_t *shape, const head_owners_t *owners, int rank)
{
    int64_t channels = 0;

    for (int64_t s = 0; s < shape->split->num_sections; s++) {
        channels += owners->ranges[shape->split->sections[s].kind][rank].count *
                    shape->split->sections[s].head_dim;
    }
    return channels;
}

/*
 * How a row of all channels (source) becomes a row of one rank's channels (destination).
 * lowest_only: without the key heads that a lower rank holds as well.
 */
static int64_t list_pieces(const head_shape_t *shape, head_owners_t *owners, int rank,
                           bool lowest_only)
{
    int64_t local_column = 0;
    int64_t count = 0;

    for (int64_t s = 0; s < shape->split->num_sections; s++) {
        const gdncp_section_t *const section = &shape->split->sections[s];
        const gdncp_head_range_t range = owners->ranges[section->kind][rank];
        const bool is_key = section->kind == GDNCP_KEY_HEADS;
        const int64_t step = is_key ? 1 : range.count;

        for (int64_t head = range.first; head < range.first + range.count; head += step) {
            const gdncp_piece_t piece = {
                .source_column = section->offset + head * section->head_dim,
                .destination_column = local_column + (head - range.first) * section->head_dim,
                .elements = step * section->head_dim,
                .shared = is_key && !lowest_only && owners->num_key_owners[head] > 1,
            };

            if (!is_key || !lowest_only || owners->lowest_key_owner[head] == rank) {
                count = gdncp_pieces_append(owners->row, count, piece);
            }
        }
        local_column += range.count * section->head_dim;
    }
    assert(count <= max_pieces(shape));
    return count;
}

static void swap_columns(gdncp_piece_t *pieces, int64_t count)
{
    for (int64_t p = 0; p < count; p++) {
        const int64_t column = pieces[p].source_column;

        pieces[p].source_column = pieces[p].destination_column;
        pieces[p].destination_column = column;
    }
}

/* Where a segment's first token lies among all tokens. */
static int64_t place_of(const head_shape_t *shape, const head_owners_t *owners,
                        const gdncp_segment_t *segment)
{
    return shape->split->order == GDNCP_TOKENS_BY_RANK
               ? owners->first_token[segment->rank] + segment->local_offset
               : gdncp_layout_cu_seqlens_padded(shape->layout)[segment->sequence] + segment->begin;
}

/* All transfers between the holders of tokens and one owner of heads that this rank is part of. */
static gdncp_status_t add_owner(gdncp_plan_t *plan, const head_shape_t *shape,
                                head_owners_t *owners, int owner)
{
    const bool to_heads = shape->to_heads;
    const int64_t in_stride = shape->in.token_stride;
    const int64_t out_stride = shape->out.token_stride;
    const int64_t num_in_row = list_pieces(shape, owners, owner, !to_heads);
    int64_t num_segments = gdncp_layout_num_segments(shape->layout);
    const gdncp_segment_t *segments = gdncp_layout_segments(shape->layout);

    if (owner != shape->rank) {
        segments = gdncp_layout_rank_segments(shape->layout, shape->rank, &num_segments);
    }
    if (!to_heads) {
        swap_columns(owners->row, num_in_row);
    }
    const int64_t num_pieces =
        gdncp_pieces_repeat(owners->row, num_in_row, &shape->in, &shape->out, owners->pieces);

    for (int64_t s = 0; s < num_segments; s++) {
        const gdncp_segment_t *const segment = &segments[s];
        const int64_t local = segment->local_offset;
        const int64_t place = place_of(shape, owners, segment);
        const gdncp_transfer_t transfer = {
            .source_rank = to_heads ? segment->rank : owner,
            .destination_rank = to_heads ? owner : segment->rank,
            .rows = segment->length,
            .source_offset = (to_heads ? local : place) * in_stride,
            .source_stride = in_stride,
            .destination_offset = (to_heads ? place : local) * out_stride,
            .destination_stride = out_stride,
        };
        const gdncp_status_t status = gdncp_plan_add(plan, &transfer, owners->pieces, num_pieces);

        if (status != GDNCP_OK) {
            return status;
        }
    }
    return GDNCP_OK;
}

static bool shares_key_heads(const head_shape_t *shape, const head_owners_t *owners)
{
    bool has_key_section = false;
    bool has_shared_head = false;

    for (int64_t s = 0; s < shape->split->num_sections; s++) {
        has_key_section |= shape->split->sections[s].kind == GDNCP_KEY_HEADS;
    }
    for (int64_t head = 0; head < shape->split->num_key_heads; head++) {
        has_shared_head |= owners->num_key_owners[head] > 1;
    }
    return has_key_section && has_shared_head && gdncp_layout_num_tokens(shape->layout) > 0;
}

static void describe(gdncp_plan_t *plan, const head_shape_t *shape)
{
    const gdncp_head_split_t *const split = shape->split;

    snprintf(plan->text, sizeof plan->text,
             "%s [%" PRId64 " tokens%s, batch %" PRId64 ", %" PRId64 " channels], %" PRId64
             "/%" PRId64 " heads in %" PRId64 " sections, %s",
             gdncp_dtype_name(plan->dtype), gdncp_layout_num_tokens(shape->layout),
             split->order == GDNCP_TOKENS_BY_RANK ? " by rank" : "", shape->in.batch,
             split->row_channels, split->num_key_heads, split->num_value_heads, split->num_sections,
             gdncp_layout_kind_name(gdncp_layout_kind(shape->layout)));
    gdncp_plan_mix(plan, gdncp_layout_hash(shape->layout));
    gdncp_plan_mix(plan, (uint64_t)split->order);
    gdncp_plan_mix(plan, (uint64_t)shape->in.batch);
    gdncp_plan_mix(plan, (uint64_t)split->num_key_heads);
    gdncp_plan_mix(plan, (uint64_t)split->num_value_heads);
    gdncp_plan_mix(plan, (uint64_t)split->row_channels);
    for (int64_t s = 0; s < split->num_sections; s++) {
        gdncp_plan_mix(plan, (uint64_t)split->sections[s].kind);
        gdncp_plan_mix(plan, (uint64_t)split->sections[s].head_dim);
        gdncp_plan_mix(plan, (uint64_t)split->sections[s].offset);
    }
}

/* What this rank holds of all heads, and of its own. */
static gdncp_status_t set_buffers(gdncp_plan_t *plan, head_shape_t *shape,
                                  const head_owners_t *owners)
{
    gdncp_buffer_t mine = {.tokens = gdncp_layout_rank_tokens(shape->layout, shape->rank),
                           .row_elements = shape->split->row_channels};
    gdncp_buffer_t all = {.tokens = gdncp_layout_num_tokens(shape->layout),
                          .row_elements = rank_channels(shape, owners, shape->rank)};
    gdncp_buffer_t *const input = shape->to_heads ? &mine : &all;
    gdncp_buffer_t *const output = shape->to_heads ? &all : &mine;

    if (shape->is_dense) {
        shape->in = gdncp_rows_token_major(1, input->row_elements);
        shape->out = gdncp_rows_token_major(1, output->row_elements);
    }
    input->rows = shape->in;
    output->rows = shape->out;
    gdncp_status_t status =
        gdncp_rows_check("in", &shape->in, input->tokens, input->row_elements, shape->dtype);

    if (status == GDNCP_OK) {
        status = gdncp_rows_check("out", &shape->out, output->tokens, output->row_elements,
                                  shape->dtype);
    }
    if (status == GDNCP_OK) {
        gdncp_plan_set_buffers(plan, *input, *output);
    }
    return status;
}

static gdncp_status_t fill_plan(gdncp_plan_t *plan, head_shape_t *shape, head_owners_t *owners)
{
    gdncp_status_t status = find_owners(shape, owners);

    if (status == GDNCP_OK) {
        status = set_buffers(plan, shape, owners);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    describe(plan, shape);
    plan->reads_overlap = shape->to_heads && shares_key_heads(shape, owners);
    for (int owner = 0; owner < owners->num_ranks && status == GDNCP_OK; owner++) {
        status = add_owner(plan, shape, owners, owner);
    }
    return status == GDNCP_OK ? gdncp_plan_seal(plan) : status;
}

static gdncp_status_t plan_heads(head_shape_t shape, gdncp_plan_t **plan_p)
{
    head_owners_t owners = {0};
    gdncp_plan_t *plan = NULL;
    gdncp_status_t status = check_shape(&shape, plan_p);

    if (status == GDNCP_OK) {
        status =
            gdncp_plan_start(shape.to_heads ? "cp2hp" : "hp2cp",
                             gdncp_layout_num_ranks(shape.layout), shape.rank, shape.dtype, &plan);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    status = fill_plan(plan, &shape, &owners);
    free_owners(&owners);
    if (status != GDNCP_OK) {
        gdncp_plan_destroy(plan);
        return status;
    }
    *plan_p = plan;
    return GDNCP_OK;
}

static gdncp_status_t plan_head_rows(head_shape_t shape, const gdncp_rows_t *in,
                                     const gdncp_rows_t *out, gdncp_plan_t **plan_p)
{
    const gdncp_status_t status = gdncp_rows_check_batch(in, out);

    if (status != GDNCP_OK) {
        return status;
    }
    shape.in = *in;
    shape.out = *out;
    return plan_heads(shape, plan_p);
}

static gdncp_status_t plan_dense_heads(head_shape_t shape, gdncp_plan_t **plan_p)
{
    shape.is_dense = true;
    shape.in.batch = 1;
    shape.out.batch = 1;
    return plan_heads(shape, plan_p);
}

gdncp_status_t gdncp_plan_cp2hp_rows(const gdncp_layout_t *layout, int rank, gdncp_dtype_t dtype,
                                     const gdncp_head_split_t *split, const gdncp_rows_t *in,
                                     const gdncp_rows_t *out, gdncp_plan_t **plan_p)
{
    return plan_head_rows((head_shape_t){layout, rank, dtype, split, .to_heads = true}, in, out,
                          plan_p);
}

gdncp_status_t gdncp_plan_hp2cp_rows(const gdncp_layout_t *layout, int rank, gdncp_dtype_t dtype,
                                     const gdncp_head_split_t *split, const gdncp_rows_t *in,
                                     const gdncp_rows_t *out, gdncp_plan_t **plan_p)
{
    return plan_head_rows((head_shape_t){layout, rank, dtype, split, .to_heads = false}, in, out,
                          plan_p);
}

gdncp_status_t gdncp_plan_cp2hp(const gdncp_layout_t *layout, int rank, gdncp_dtype_t dtype,
                                int64_t num_key_heads, int64_t num_value_heads,
                                const gdncp_section_t *sections, int64_t num_sections,
                                int64_t row_channels, gdncp_plan_t **plan_p)
{
    const gdncp_head_split_t split = {num_key_heads, num_value_heads, sections,
                                      num_sections,  row_channels,    GDNCP_TOKENS_IN_PACK_ORDER};

    return plan_dense_heads((head_shape_t){layout, rank, dtype, &split, .to_heads = true}, plan_p);
}

gdncp_status_t gdncp_plan_hp2cp(const gdncp_layout_t *layout, int rank, gdncp_dtype_t dtype,
                                int64_t num_key_heads, int64_t num_value_heads,
                                const gdncp_section_t *sections, int64_t num_sections,
                                int64_t row_channels, gdncp_plan_t **plan_p)
{
    const gdncp_head_split_t split = {num_key_heads, num_value_heads, sections,
                                      num_sections,  row_channels,    GDNCP_TOKENS_IN_PACK_ORDER};

    return plan_dense_heads((head_shape_t){layout, rank, dtype, &split, .to_heads = false}, plan_p);
}
