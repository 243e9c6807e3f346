/* Cutting a range into parts with borders at floor(part * length / num_parts). */
#ifndef GDNCP_PART_BORDER_H
#define GDNCP_PART_BORDER_H

#include <stdint.h>

/* floor(part * length / num_parts) for 0 <= part <= num_parts < 2^32. The plain product may be too
 * long for 64 bits; remainder times part is not. */
static inline int64_t gdncp_part_border(int64_t length, int64_t num_parts, int64_t part)
{
    const uint64_t remainder = (uint64_t)(length % num_parts);

    return length / num_parts * part + (int64_t)(remainder * (uint64_t)part / (uint64_t)num_parts);
}

/* The part that holds a position of a range with fewer positions than parts:
 * ceil((position + 1) * num_parts / length) - 1. */
static inline int64_t gdncp_part_of_position(int64_t length, int64_t num_parts, int64_t position)
{
    return (int64_t)(((uint64_t)(position + 1) * (uint64_t)num_parts - 1) / (uint64_t)length);
}

#endif
