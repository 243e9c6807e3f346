/* Which rows of a parameter a place holds, and copies of them. */
#include "gdncp/sections.h"

#include <inttypes.h>
#include <string.h>

#include "error.h"
#include "place.h"

static gdncp_status_t check_section(const gdncp_parameter_split_t *split, int64_t index,
                                    int64_t begin, int64_t *end_p)
{
    const gdncp_section_t *const section = &split->sections[index];
    int64_t rows;

    if (section->kind != GDNCP_KEY_HEADS && section->kind != GDNCP_VALUE_HEADS) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "split.sections[%" PRId64 "].kind: expected GDNCP_KEY_HEADS or "
                          "GDNCP_VALUE_HEADS, got %d",
                          index, (int)section->kind);
    }
    if (section->head_dim <= 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "split.sections[%" PRId64 "].head_dim: expected at least 1, got %" PRId64,
                          index, section->head_dim);
    }
    if (section->offset != begin) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "split.sections[%" PRId64 "].offset: expected %" PRId64
                          ", where the section before ends, got %" PRId64,
                          index, begin, section->offset);
    }
    if (__builtin_mul_overflow(section->kind == GDNCP_KEY_HEADS ? split->num_key_heads
                                                                : split->num_value_heads,
                               section->head_dim, &rows) ||
        __builtin_add_overflow(begin, rows, end_p)) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "split.sections[%" PRId64 "].head_dim: expected rows that an int64_t can "
                          "count, got %" PRId64,
                          index, section->head_dim);
    }
    return GDNCP_OK;
}

static gdncp_status_t check_sections(const gdncp_parameter_split_t *split)
{
    gdncp_head_range_t heads;
    int64_t end = 0;
    /* Of one rank, for its checks of the numbers of heads. */
    gdncp_status_t status = gdncp_head_range(GDNCP_KEY_HEADS, split->num_key_heads,
                                             split->num_value_heads, 1, 0, &heads);

    if (status == GDNCP_OK && split->num_sections <= 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "split.num_sections: expected at least 1, got %" PRId64,
                          split->num_sections);
    }
    for (int64_t i = 0; i < split->num_sections && status == GDNCP_OK; i++) {
        status = check_section(split, i, end, &end);
    }
    if (status == GDNCP_OK && end != split->rows) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "split.sections: expected sections of %" PRId64
                          " rows, as the parameter has, got %" PRId64,
                          split->rows, end);
    }
    return status;
}

static gdncp_status_t check_split(const gdncp_parameter_split_t *split, const gdncp_place_t *place)
{
    if (split == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "split: expected a parameter's rows, got NULL");
    }
    if (split->rows <= 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "split.rows: expected at least 1, got %" PRId64, split->rows);
    }
    if (split->sections != NULL) {
        const gdncp_status_t status = check_sections(split);

        if (status != GDNCP_OK) {
            return status;
        }
    } else if (split->num_sections != 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "split.num_sections: expected 0 without sections, got %" PRId64,
                          split->num_sections);
    }
    return gdncp_place_check(place);
}

static gdncp_status_t check_extent(gdncp_extent_t extent)
{
    if (extent != GDNCP_EXTENT_WHOLE && extent != GDNCP_EXTENT_TP_RANK) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "extent: expected GDNCP_EXTENT_WHOLE or GDNCP_EXTENT_TP_RANK, got %d",
                          (int)extent);
    }
    return GDNCP_OK;
}

static int64_t num_blocks(const gdncp_parameter_split_t *split)
{
    return split->sections != NULL ? split->num_sections : 1;
}

/* The rows of block `index` that a place holds, counted from the first of the whole block. */
static gdncp_head_range_t held_rows(const gdncp_parameter_split_t *split, int64_t index,
                                    const gdncp_place_t *place)
{
    const gdncp_section_t *const section = split->sections;
    gdncp_head_range_t heads;

    if (section == NULL) {
        return gdncp_part_of_place(split->rows, place);
    }
    heads = gdncp_heads_of_place(section[index].kind, split->num_key_heads, split->num_value_heads,
                                 place);
    return (gdncp_head_range_t){heads.first * section[index].head_dim,
                                heads.count * section[index].head_dim};
}

/* A block whose rows on both sides begin after those of the block before, or NULL for the first. */
static gdncp_held_rows_t next_block(const gdncp_parameter_split_t *split, gdncp_extent_t extent,
                                    const gdncp_place_t *place, int64_t index, int64_t *full_end,
                                    int64_t *local_end)
{
    const gdncp_place_t whole = gdncp_place_of_extent(extent, place);
    const gdncp_head_range_t all = held_rows(split, index, &whole);
    const gdncp_head_range_t mine = held_rows(split, index, place);
    const gdncp_held_rows_t block = {
        .full_row = *full_end + (mine.first - all.first),
        .local_row = *local_end,
        .rows = mine.count,
    };

    *full_end += all.count;
    *local_end += mine.count;
    return block;
}

gdncp_status_t gdncp_split_blocks(const gdncp_parameter_split_t *split, gdncp_extent_t extent,
                                  const gdncp_place_t *place, gdncp_held_rows_t *blocks)
{
    gdncp_status_t status = check_split(split, place);
    int64_t full_end = 0;
    int64_t local_end = 0;

    if (status == GDNCP_OK) {
        status = check_extent(extent);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    if (blocks == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "blocks: expected a place for %" PRId64 " blocks, got NULL",
                          num_blocks(split));
    }
    for (int64_t i = 0; i < num_blocks(split); i++) {
        blocks[i] = next_block(split, extent, place, i, &full_end, &local_end);
    }
    return GDNCP_OK;
}

static int64_t count_rows(const gdncp_parameter_split_t *split, const gdncp_place_t *place)
{
    int64_t rows = 0;

    for (int64_t i = 0; i < num_blocks(split); i++) {
        rows += held_rows(split, i, place).count;
    }
    return rows;
}

gdncp_status_t gdncp_split_rows(const gdncp_parameter_split_t *split, const gdncp_place_t *place,
                                int64_t *rows_p)
{
    const gdncp_status_t status = check_split(split, place);

    if (status != GDNCP_OK) {
        return status;
    }
    if (rows_p == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "rows_p: expected a place for the number of rows, got NULL");
    }
    *rows_p = count_rows(split, place);
    return GDNCP_OK;
}

/* What copies share: a visit of the two places in memory, and the length, of each run of bytes. */
typedef void (*visit_t)(char *full, char *local, size_t bytes);

static gdncp_status_t check_copy(const gdncp_parameter_split_t *split, gdncp_extent_t extent,
                                 const gdncp_place_t *place, int64_t outer, const void *full,
                                 const void *local)
{
    gdncp_status_t status = check_split(split, place);

    if (status == GDNCP_OK) {
        status = check_extent(extent);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    if (outer <= 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "outer: expected at least 1, got %" PRId64,
                          outer);
    }
    const gdncp_place_t whole = gdncp_place_of_extent(extent, place);

    if (full == NULL && count_rows(split, &whole) > 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "full: expected the memory of %" PRId64 " rows, got NULL",
                          count_rows(split, &whole));
    }
    if (local == NULL && count_rows(split, place) > 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "local: expected the memory of %" PRId64 " rows, got NULL",
                          count_rows(split, place));
    }
    return GDNCP_OK;
}

static void visit_rows(const gdncp_parameter_split_t *split, gdncp_extent_t extent,
                       const gdncp_place_t *place, int64_t outer, size_t row_bytes, char *full,
                       char *local, visit_t visit)
{
    const gdncp_place_t whole = gdncp_place_of_extent(extent, place);
    const size_t full_stride = (size_t)count_rows(split, &whole) * row_bytes;
    const size_t local_stride = (size_t)count_rows(split, place) * row_bytes;
    int64_t full_end = 0;
    int64_t local_end = 0;

    for (int64_t i = 0; i < num_blocks(split); i++) {
        const gdncp_held_rows_t block = next_block(split, extent, place, i, &full_end, &local_end);

        for (int64_t o = 0; o < outer && block.rows > 0; o++) {
            visit(full + (size_t)o * full_stride + (size_t)block.full_row * row_bytes,
                  local + (size_t)o * local_stride + (size_t)block.local_row * row_bytes,
                  (size_t)block.rows * row_bytes);
        }
    }
}

static void copy_to_local(char *full, char *local, size_t bytes)
{
    memcpy(local, full, bytes);
}

static void copy_to_full(char *full, char *local, size_t bytes)
{
    memcpy(full, local, bytes);
}

static void add_to_full(char *full, char *local, size_t bytes)
{
    float *const sums = (float *)(void *)full;
    const float *const terms = (const float *)(const void *)local;

    for (size_t i = 0; i < bytes / sizeof *sums; i++) {
        sums[i] += terms[i];
    }
}

static gdncp_status_t copy_rows(const gdncp_parameter_split_t *split, gdncp_extent_t extent,
                                const gdncp_place_t *place, int64_t outer, size_t row_bytes,
                                const void *full, const void *local, visit_t visit)
{
    const gdncp_status_t status = check_copy(split, extent, place, outer, full, local);

    if (status != GDNCP_OK) {
        return status;
    }
    if (row_bytes == 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "row_bytes: expected at least 1, got 0");
    }
    /* The visit writes only to what its caller may write to. */
    visit_rows(split, extent, place, outer, row_bytes, (char *)full, (char *)local, visit);
    return GDNCP_OK;
}

gdncp_status_t gdncp_split_gather(const gdncp_parameter_split_t *split, gdncp_extent_t extent,
                                  const gdncp_place_t *place, int64_t outer, size_t row_bytes,
                                  const void *full, void *local)
{
    return copy_rows(split, extent, place, outer, row_bytes, full, local, copy_to_local);
}

gdncp_status_t gdncp_split_scatter(const gdncp_parameter_split_t *split, gdncp_extent_t extent,
                                   const gdncp_place_t *place, int64_t outer, size_t row_bytes,
                                   const void *local, void *full)
{
    return copy_rows(split, extent, place, outer, row_bytes, full, local, copy_to_full);
}

gdncp_status_t gdncp_split_add(const gdncp_parameter_split_t *split, gdncp_extent_t extent,
                               const gdncp_place_t *place, int64_t outer, int64_t inner,
                               const float *local, float *full)
{
    if (inner <= 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "inner: expected at least 1, got %" PRId64,
                          inner);
    }
    return copy_rows(split, extent, place, outer, (size_t)inner * sizeof(float), full, local,
                     add_to_full);
}
