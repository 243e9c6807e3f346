/* Counted memory. */
#include "gdncp/memory.h"

#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "memory_count.h"

#define ALIGNMENT ((size_t)64)
#define PAGE ((size_t)4096)
#define LEAST_HUGE ((size_t)8 << 20)

/* Lies in the ALIGNMENT bytes before what the caller gets. */
typedef struct block_header {
    gdncp_memory_usage_t *usage; /* who is credited; may be NULL */
    int64_t bytes;
} block_header_t;

_Static_assert(sizeof(block_header_t) <= 64, "a header fits in one alignment unit");

static _Thread_local gdncp_memory_usage_t *tracked;

void gdncp_memory_track(gdncp_memory_usage_t *usage)
{
    tracked = usage;
}

static int64_t add_to(int64_t *counter, int64_t value)
{
    return __atomic_add_fetch(counter, value, __ATOMIC_RELAXED);
}

static void raise_to(int64_t *maximum, int64_t value)
{
    int64_t seen = __atomic_load_n(maximum, __ATOMIC_RELAXED);

    while (seen < value && !__atomic_compare_exchange_n(maximum, &seen, value, true,
                                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
}

gdncp_memory_usage_t *gdncp_memory_count_alloc(int64_t bytes)
{
    if (tracked != NULL) {
        add_to(&tracked->num_allocations, 1);
        raise_to(&tracked->peak_bytes, add_to(&tracked->current_bytes, bytes));
    }
    return tracked;
}

void gdncp_memory_count_free(gdncp_memory_usage_t *usage, int64_t bytes)
{
    if (usage != NULL) {
        add_to(&usage->current_bytes, -bytes);
    }
}

/* Walking through small pages costs a quarter of a copy's time. A system that has no huge ones, or
 * none left, says so, and that is all. */
static void ask_for_huge_pages(char *memory, size_t bytes)
{
    const size_t to_page = -(uintptr_t)memory % PAGE;

    if (bytes >= LEAST_HUGE) {
        (void)madvise(memory + to_page, (bytes - to_page) / PAGE * PAGE, MADV_HUGEPAGE);
    }
}

void *gdncp_memory_alloc(size_t bytes)
{
    if (bytes > SIZE_MAX / 2) {
        return NULL;
    }
    const size_t rounded = (bytes + 2 * ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    block_header_t *const header = aligned_alloc(ALIGNMENT, rounded);

    if (header == NULL) {
        return NULL;
    }
    ask_for_huge_pages((char *)header, rounded);
    *header = (block_header_t){.usage = gdncp_memory_count_alloc((int64_t)bytes),
                               .bytes = (int64_t)bytes};
    return (char *)header + ALIGNMENT;
}

void gdncp_memory_free(void *memory)
{
    if (memory == NULL) {
        return;
    }
    block_header_t *const header = (block_header_t *)((char *)memory - ALIGNMENT);

    gdncp_memory_count_free(header->usage, header->bytes);
    free(header);
}
