/* Ranges of heads (or of rows): parts of a range, and the key heads that value heads read. */
#ifndef GDNCP_HEAD_RANGES_H
#define GDNCP_HEAD_RANGES_H

#include "gdncp/heads.h"
#include "gdncp/layout_inline.h"

/* Part `part` of `num_parts` of a range. */
static inline gdncp_head_range_t gdncp_part_of_range(gdncp_head_range_t whole, int num_parts,
                                                     int part)
{
    const int64_t first = gdncp_part_border(whole.count, num_parts, part);
    const int64_t end = gdncp_part_border(whole.count, num_parts, (int64_t)part + 1);

    return (gdncp_head_range_t){.first = whole.first + first, .count = end - first};
}

/* The key heads that some value heads read, each of which serves `ratio` of them. */
static inline gdncp_head_range_t gdncp_keys_of_values(int64_t ratio, gdncp_head_range_t values)
{
    const int64_t first = values.first / ratio;

    return (gdncp_head_range_t){
        .first = first,
        .count = values.count > 0 ? (values.first + values.count - 1) / ratio + 1 - first : 0,
    };
}

/* The heads of a kind that go with some value heads: those, or the key heads that they read. */
static inline gdncp_head_range_t gdncp_heads_of_values(gdncp_head_kind_t kind, int64_t ratio,
                                                       gdncp_head_range_t values)
{
    return kind == GDNCP_KEY_HEADS ? gdncp_keys_of_values(ratio, values) : values;
}

#endif
