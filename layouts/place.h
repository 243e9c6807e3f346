/* Checks and ranges of places that several files need. */
#ifndef GDNCP_PLACE_H
#define GDNCP_PLACE_H

#include "gdncp/sections.h"
#include "head_ranges.h"

/* Whether a place lies in its grid; the error names the member. */
gdncp_status_t gdncp_place_check(const gdncp_place_t *place);

/* A place's part of a range that is cut over tensor-parallel, then over context-parallel ranks. */
static inline gdncp_head_range_t gdncp_part_of_place(int64_t count, const gdncp_place_t *place)
{
    const gdncp_head_range_t whole = {.first = 0, .count = count};

    return gdncp_part_of_range(gdncp_part_of_range(whole, place->tp_size, place->tp_rank),
                               place->cp_size, place->cp_rank);
}

/* The heads of a kind that a place works on, of numbers that were checked. */
static inline gdncp_head_range_t gdncp_heads_of_place(gdncp_head_kind_t kind, int64_t num_key_heads,
                                                      int64_t num_value_heads,
                                                      const gdncp_place_t *place)
{
    return gdncp_heads_of_values(kind, num_value_heads / num_key_heads,
                                 gdncp_part_of_place(num_value_heads, place));
}

/* What the whole tensor-parallel rank of a place holds, or (GDNCP_EXTENT_WHOLE) all ranks. */
static inline gdncp_place_t gdncp_place_of_extent(gdncp_extent_t extent, const gdncp_place_t *place)
{
    return extent == GDNCP_EXTENT_WHOLE
               ? (gdncp_place_t){.tp_size = 1, .cp_size = 1}
               : (gdncp_place_t){place->tp_size, place->tp_rank, .cp_size = 1};
}

#endif
