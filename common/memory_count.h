/* Counting memory that does not come from gdncp_memory_alloc(). */
#ifndef GDNCP_MEMORY_COUNT_H
#define GDNCP_MEMORY_COUNT_H

#include <stdint.h>

#include "gdncp/memory.h"

/* Count an allocation of the calling thread; returns whom to credit when it is freed, or NULL. */
gdncp_memory_usage_t *gdncp_memory_count_alloc(int64_t bytes);

/* Credit what was counted. */
void gdncp_memory_count_free(gdncp_memory_usage_t *usage, int64_t bytes);

#endif
