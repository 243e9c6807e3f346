/*
 * Segments of a layout are spread over the pack, so most of their order follows from a division:
 * they are counted into about as many equal stretches of the pack as there are segments, and sorted
 * in each. That takes time in proportion to their number, and where they crowd in few stretches not
 * more than a sort by comparison.
 */
#define _GNU_SOURCE /* qsort_r */
#include "pack_order.h"

#include <stdlib.h>

#include "error.h"

enum { FEW = 24 }; /* sorted by insertion */

static int64_t pack_begin(const gdncp_layout_t *layout, int64_t index)
{
    return gdncp_segment_pack_begin(layout, &layout->segments[index]);
}

static int compare(const void *left, const void *right, void *layout)
{
    const int64_t a = pack_begin(layout, *(const int64_t *)left);
    const int64_t b = pack_begin(layout, *(const int64_t *)right);

    return a < b ? -1 : a > b;
}

static void insertion_sort(const gdncp_layout_t *layout, int64_t *indices, int64_t count)
{
    for (int64_t i = 1; i < count; i++) {
        const int64_t index = indices[i];
        const int64_t begin = pack_begin(layout, index);
        int64_t j = i;

        for (; j > 0 && pack_begin(layout, indices[j - 1]) > begin; j--) {
            indices[j] = indices[j - 1];
        }
        indices[j] = index;
    }
}

/* Stretches are 2^shift tokens: the shortest of which there are no more than segments. */
static int stretch_shift(int64_t num_tokens, int64_t num_segments)
{
    int shift = 0;

    while (((num_tokens - 1) >> shift) >= num_segments) {
        shift++;
    }
    return shift;
}

gdncp_status_t gdncp_sort_in_pack_order(gdncp_layout_t *layout)
{
    const int64_t num_tokens = layout->cu_seqlens_padded[layout->num_sequences];
    int64_t first = 0;

    if (layout->num_segments == 0) {
        return GDNCP_OK; /* there was nothing but padding */
    }
    const int shift = stretch_shift(num_tokens, layout->num_segments);
    const int64_t num_stretches = ((num_tokens - 1) >> shift) + 1;
    int64_t *const ends = calloc((size_t)num_stretches + 1, sizeof *ends);

    if (ends == NULL) {
        return gdncp_fail_memory("the order of a layout's segments");
    }
    for (int64_t i = 0; i < layout->num_segments; i++) {
        ends[(pack_begin(layout, i) >> shift) + 1]++;
    }
    for (int64_t s = 0; s < num_stretches; s++) {
        ends[s + 1] += ends[s];
    }
    /* From where each stretch begins, which becomes where it ends. */
    for (int64_t i = 0; i < layout->num_segments; i++) {
        layout->chains[ends[pack_begin(layout, i) >> shift]++] = i;
    }
    for (int64_t s = 0; s < num_stretches; s++) {
        const int64_t count = ends[s] - first;

        if (count > FEW) {
            qsort_r(layout->chains + first, (size_t)count, sizeof *layout->chains, compare, layout);
        } else {
            insertion_sort(layout, layout->chains + first, count);
        }
        first = ends[s];
    }
    free(ends);
    return GDNCP_OK;
}
