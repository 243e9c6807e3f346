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
    int64_t num_key_heads;
    int64_t num_value_heads;
    const gdncp_section_t *sections;
    int64_t num_sections;
    int64_t row_channels;
} head_shape_t;

/* Who works on which heads. */
typedef struct head_owners {
    int num_ranks;
    gdncp_head_range_t *ranges[2]; /* by gdncp_head_kind_t: [num_ranks] */
    int *lowest_key_owner;         /* [num_key_heads] */
    int *num_key_owners;           /* [num_key_heads] */
    gdncp_piece_t *pieces;         /* room for one rank's */
} head_owners_t;

static int64_t num_heads(const head_shape_t *shape, gdncp_head_kind_t kind)
{
    return kind == GDNCP_KEY_HEADS ? shape->num_key_heads : shape->num_value_heads;
}

static int64_t section_end(const head_shape_t *shape, const gdncp_section_t *section)
{
    return section->offset + num_heads(shape, section->kind) * section->head_dim;
}

static gdncp_status_t check_section(const head_shape_t *shape, int64_t index)
{
    const gdncp_section_t *const section = &shape->sections[index];

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

    if (section->offset < 0 || section->offset > shape->row_channels ||
        section->head_dim > (shape->row_channels - section->offset) / heads) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "sections[%" PRId64 "]: expected %" PRId64 " heads of %" PRId64
                          " channels to fit in row_channels %" PRId64 ", got offset %" PRId64,
                          index, heads, section->head_dim, shape->row_channels, section->offset);
    }
    for (int64_t other = 0; other < index; other++) {
        const gdncp_section_t *const before = &shape->sections[other];

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
    if (shape->num_sections <= 0 || shape->sections == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "sections: expected at least one, got num_sections %" PRId64 " and %s",
                          shape->num_sections, shape->sections == NULL ? "NULL" : "an array");
    }
    if (shape->row_channels <= 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "row_channels: expected > 0, got %" PRId64,
                          shape->row_channels);
    }
    gdncp_status_t status = gdncp_head_range(GDNCP_KEY_HEADS, shape->num_key_heads,
                                             shape->num_value_heads, 1, 0, &range);

    for (int64_t s = 0; s < shape->num_sections && status == GDNCP_OK; s++) {
        status = check_section(shape, s);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    return gdncp_plan_check_elements("row_channels", shape->dtype,
                                     gdncp_layout_num_tokens(shape->layout), shape->row_channels,
                                     1);
}

static void free_owners(head_owners_t *owners)
{
    gdncp_memory_free(owners->ranges[GDNCP_KEY_HEADS]);
    gdncp_memory_free(owners->ranges[GDNCP_VALUE_HEADS]);
    gdncp_memory_free(owners->lowest_key_owner);
    gdncp_memory_free(owners->num_key_owners);
    gdncp_memory_free(owners->pieces);
}

/* A rank's piece of a key section is cut at each head it shares, at most this often in all. */
static int64_t max_pieces(const head_shape_t *shape)
{
    int64_t count = 0;

    for (int64_t s = 0; s < shape->num_sections; s++) {
        count += shape->sections[s].kind == GDNCP_KEY_HEADS ? shape->num_key_heads : 1;
    }
    return count;
}

/* On failure free_owners() is still the caller's to call. */
static gdncp_status_t find_owners(const head_shape_t *shape, head_owners_t *owners)
{
    const int num_ranks = gdncp_layout_num_ranks(shape->layout);
    const size_t range_bytes = (size_t)num_ranks * sizeof(gdncp_head_range_t);
    const size_t key_bytes = (size_t)shape->num_key_heads * sizeof(int);

    owners->num_ranks = num_ranks;
    owners->ranges[GDNCP_KEY_HEADS] = gdncp_memory_alloc(range_bytes);
    owners->ranges[GDNCP_VALUE_HEADS] = gdncp_memory_alloc(range_bytes);
    owners->lowest_key_owner = gdncp_memory_alloc(key_bytes);
    owners->num_key_owners = gdncp_memory_alloc(key_bytes);
    owners->pieces = gdncp_memory_alloc((size_t)max_pieces(shape) * sizeof *owners->pieces);
    if (owners->ranges[GDNCP_KEY_HEADS] == NULL || owners->ranges[GDNCP_VALUE_HEADS] == NULL ||
        owners->lowest_key_owner == NULL || owners->num_key_owners == NULL ||
        owners->pieces == NULL) {
        return gdncp_fail_memory("the heads of all ranks");
    }
    memset(owners->num_key_owners, 0, key_bytes);
    for (int rank = 0; rank < num_ranks; rank++) {
        for (int kind = GDNCP_KEY_HEADS; kind <= GDNCP_VALUE_HEADS; kind++) {
            const gdncp_status_t status = gdncp_head_range(
                (gdncp_head_kind_t)kind, shape->num_key_heads, shape->num_value_heads, num_ranks,
                rank, &owners->ranges[kind][rank]);

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

    for (int64_t s = 0; s < shape->num_sections; s++) {
        channels +=
            owners->ranges[shape->sections[s].kind][rank].count * shape->sections[s].head_dim;
    }
    return channels;
}

/* Append a piece, or lengthen the last one where it goes on unshared on both sides. */
static int64_t append_piece(gdncp_piece_t *pieces, int64_t count, gdncp_piece_t piece)
{
    gdncp_piece_t *const last = count > 0 ? &pieces[count - 1] : NULL;

    if (last != NULL && !last->shared && !piece.shared &&
        last->source_column + last->elements == piece.source_column &&
        last->destination_column + last->elements == piece.destination_column) {
        last->elements += piece.elements;
        return count;
    }
    pieces[count] = piece;
    return count + 1;
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

    for (int64_t s = 0; s < shape->num_sections; s++) {
        const gdncp_section_t *const section = &shape->sections[s];
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
                count = append_piece(owners->pieces, count, piece);
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

/* All transfers between the holders of tokens and one owner of heads that this rank is part of. */
static gdncp_status_t add_owner(gdncp_plan_t *plan, const head_shape_t *shape,
                                head_owners_t *owners, int owner, bool to_heads)
{
    const int64_t *const cu_seqlens = gdncp_layout_cu_seqlens(shape->layout);
    const int64_t channels = rank_channels(shape, owners, owner);
    const int64_t num_pieces = list_pieces(shape, owners, owner, !to_heads);
    int64_t num_segments = gdncp_layout_num_segments(shape->layout);
    const gdncp_segment_t *segments = gdncp_layout_segments(shape->layout);

    if (owner != shape->rank) {
        segments = gdncp_layout_rank_segments(shape->layout, shape->rank, &num_segments);
    }
    if (!to_heads) {
        swap_columns(owners->pieces, num_pieces);
    }
    for (int64_t s = 0; s < num_segments; s++) {
        const gdncp_segment_t *const segment = &segments[s];
        const int64_t row_offset = segment->local_offset * shape->row_channels;
        const int64_t pack_offset = (cu_seqlens[segment->sequence] + segment->begin) * channels;
        const gdncp_transfer_t transfer = {
            .source_rank = to_heads ? segment->rank : owner,
            .destination_rank = to_heads ? owner : segment->rank,
            .rows = segment->length,
            .source_offset = to_heads ? row_offset : pack_offset,
            .source_stride = to_heads ? shape->row_channels : channels,
            .destination_offset = to_heads ? pack_offset : row_offset,
            .destination_stride = to_heads ? channels : shape->row_channels,
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

    for (int64_t s = 0; s < shape->num_sections; s++) {
        has_key_section |= shape->sections[s].kind == GDNCP_KEY_HEADS;
    }
    for (int64_t head = 0; head < shape->num_key_heads; head++) {
        has_shared_head |= owners->num_key_owners[head] > 1;
    }
    return has_key_section && has_shared_head && gdncp_layout_num_tokens(shape->layout) > 0;
}

static void describe(gdncp_plan_t *plan, const head_shape_t *shape)
{
    snprintf(plan->text, sizeof plan->text,
             "%s [%" PRId64 " tokens, %" PRId64 " channels], %" PRId64 "/%" PRId64
             " heads in %" PRId64 " sections, %s",
             gdncp_dtype_name(plan->dtype), gdncp_layout_num_tokens(shape->layout),
             shape->row_channels, shape->num_key_heads, shape->num_value_heads, shape->num_sections,
             gdncp_layout_kind_name(gdncp_layout_kind(shape->layout)));
    gdncp_plan_mix(plan, gdncp_layout_hash(shape->layout));
    gdncp_plan_mix(plan, (uint64_t)shape->num_key_heads);
    gdncp_plan_mix(plan, (uint64_t)shape->num_value_heads);
    gdncp_plan_mix(plan, (uint64_t)shape->row_channels);
    for (int64_t s = 0; s < shape->num_sections; s++) {
        gdncp_plan_mix(plan, (uint64_t)shape->sections[s].kind);
        gdncp_plan_mix(plan, (uint64_t)shape->sections[s].head_dim);
        gdncp_plan_mix(plan, (uint64_t)shape->sections[s].offset);
    }
}

static gdncp_status_t plan_heads(const char *name, const head_shape_t *shape, bool to_heads,
                                 gdncp_plan_t **plan_p)
{
    head_owners_t owners = {0};
    gdncp_plan_t *plan = NULL;
    gdncp_status_t status = check_shape(shape, plan_p);

    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_plan_start(name, gdncp_layout_num_ranks(shape->layout), shape->rank,
                              shape->dtype, &plan);
    if (status != GDNCP_OK) {
        return status;
    }
    status = find_owners(shape, &owners);
    if (status != GDNCP_OK) {
        goto destroy_plan;
    }
    const int64_t token_elements =
        gdncp_layout_rank_tokens(shape->layout, shape->rank) * shape->row_channels;
    const int64_t head_elements =
        gdncp_layout_num_tokens(shape->layout) * rank_channels(shape, &owners, shape->rank);

    describe(plan, shape);
    plan->input_elements = to_heads ? token_elements : head_elements;
    plan->output_elements = to_heads ? head_elements : token_elements;
    plan->reads_overlap = to_heads && shares_key_heads(shape, &owners);
    for (int owner = 0; owner < owners.num_ranks && status == GDNCP_OK; owner++) {
        status = add_owner(plan, shape, &owners, owner, to_heads);
    }
    if (status != GDNCP_OK) {
        goto destroy_plan;
    }
    status = gdncp_plan_seal(plan);
    if (status != GDNCP_OK) {
        goto destroy_plan;
    }
    free_owners(&owners);
    *plan_p = plan;
    return GDNCP_OK;

destroy_plan:
    free_owners(&owners);
    gdncp_plan_destroy(plan);
    return status;
}

gdncp_status_t gdncp_plan_cp2hp(const gdncp_layout_t *layout, int rank, gdncp_dtype_t dtype,
                                int64_t num_key_heads, int64_t num_value_heads,
                                const gdncp_section_t *sections, int64_t num_sections,
                                int64_t row_channels, gdncp_plan_t **plan_p)
{
    const head_shape_t shape = {layout,          rank,     dtype,        num_key_heads,
                                num_value_heads, sections, num_sections, row_channels};

    return plan_heads("cp2hp", &shape, true, plan_p);
}

gdncp_status_t gdncp_plan_hp2cp(const gdncp_layout_t *layout, int rank, gdncp_dtype_t dtype,
                                int64_t num_key_heads, int64_t num_value_heads,
                                const gdncp_section_t *sections, int64_t num_sections,
                                int64_t row_channels, gdncp_plan_t **plan_p)
{
    const head_shape_t shape = {layout,          rank,     dtype,        num_key_heads,
                                num_value_heads, sections, num_sections, row_channels};

    return plan_heads("hp2cp", &shape, false, plan_p);
}
