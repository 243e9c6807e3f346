/* The loop of which index maps are made. */
#ifndef GDNCP_COUNT_UP_H
#define GDNCP_COUNT_UP_H

#include <stdint.h>

/* first, first + 1, … */
static inline void gdncp_count_up(int64_t *map, int64_t first, int64_t length)
{
    for (int64_t i = 0; i < length; i++) {
        map[i] = first + i;
    }
}

#endif
