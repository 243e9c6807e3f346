#include "own_segments.h"

#include <stdlib.h>

#include "error.h"
#include "gdncp/memory.h"

static int compare_in_pack(const void *left, const void *right)
{
    const gdncp_segment_t *const a = *(const gdncp_segment_t *const *)left;
    const gdncp_segment_t *const b = *(const gdncp_segment_t *const *)right;

    if (a->sequence != b->sequence) {
        return a->sequence < b->sequence ? -1 : 1;
    }
    return a->begin < b->begin ? -1 : a->begin > b->begin;
}

gdncp_status_t gdncp_own_segments(const gdncp_layout_t *layout, int rank, bool with_padding,
                                  const gdncp_segment_t ***segments_p, int64_t *count_p)
{
    int64_t count;
    const gdncp_segment_t *const mine = gdncp_layout_rank_segments(layout, rank, &count);
    const gdncp_segment_t **const order =
        gdncp_memory_alloc((size_t)(count > 0 ? count : 1) * sizeof *order);
    bool sorted = true;
    int64_t kept = 0;

    if (order == NULL) {
        return gdncp_fail_memory("the segments of a rank");
    }
    for (int64_t s = 0; s < count; s++) {
        if (mine[s].is_padding && !with_padding) {
            continue;
        }
        order[kept] = &mine[s];
        sorted = sorted && (kept == 0 || compare_in_pack(&order[kept - 1], &order[kept]) < 0);
        kept++;
    }
    if (!sorted) {
        qsort(order, (size_t)kept, sizeof *order, compare_in_pack);
    }
    *segments_p = order;
    *count_p = kept;
    return GDNCP_OK;
}

gdncp_chain_t gdncp_chain_of(const gdncp_layout_t *layout, int64_t sequence, bool with_padding)
{
    gdncp_chain_t chain = {.segments = gdncp_layout_segments(layout)};

    chain.indices = with_padding ? gdncp_layout_slot_chain(layout, sequence, &chain.count)
                                 : gdncp_layout_sequence_chain(layout, sequence, &chain.count);
    return chain;
}

int64_t gdncp_chain_find(const gdncp_chain_t *chain, int64_t position)
{
    int64_t low = 0;
    int64_t high = chain->count;

    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;

        if (gdncp_chain_link(chain, middle)->begin <= position) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}
