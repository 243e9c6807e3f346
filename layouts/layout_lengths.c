/* Contiguous layouts in shards of given lengths. */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>

#include "error.h"
#include "gdncp/layout_from.h"
#include "layout_cutter.h"

/* What is cut, and the lengths of all ranges. */
typedef struct shards {
    const int64_t *lengths; /* [ranges, num_ranks] */
    bool flat;
} shards_t;

static gdncp_status_t check_range(const shards_t *shards, int64_t range, int num_ranks,
                                  int64_t expected)
{
    const int64_t *const lengths = shards->lengths + range * num_ranks;
    int64_t sum = 0;

    for (int rank = 0; rank < num_ranks; rank++) {
        if (lengths[rank] < 0 || lengths[rank] > INT64_MAX - sum) {
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                              "lengths[%" PRId64 "]: expected 0..%" PRId64 ", got %" PRId64,
                              range * num_ranks + rank, expected, lengths[rank]);
        }
        sum += lengths[rank];
    }
    if (sum == expected) {
        return GDNCP_OK;
    }
    return shards->flat ? gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                                     "lengths: expected a sum of %" PRId64
                                     ", the tokens of the pack, got %" PRId64,
                                     expected, sum)
                        : gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                                     "lengths: expected those of sequence %" PRId64
                                     " to have its length as their sum, %" PRId64 ", got %" PRId64,
                                     range, expected, sum);
}

/* Take the tokens first .. end-1 of the pack, which is cut in a range for each row of lengths. */
static gdncp_status_t cut_range(gdncp_cutter_t *cutter, const shards_t *shards, int64_t range,
                                int64_t first, int64_t end)
{
    const int num_ranks = cutter->layout->num_ranks;
    gdncp_status_t status = check_range(shards, range, num_ranks, end - first);

    for (int rank = 0; rank < num_ranks && status == GDNCP_OK; rank++) {
        const int64_t length = shards->lengths[range * num_ranks + rank];

        status = gdncp_cutter_take(cutter, first, first + length, rank);
        first += length;
    }
    return status;
}

static gdncp_status_t cut_shards(gdncp_cutter_t *cutter, const void *how)
{
    const shards_t *const shards = how;
    const int64_t *const cu_seqlens = cutter->layout->cu_seqlens_padded;
    const int64_t num_sequences = cutter->layout->num_sequences;
    gdncp_status_t status = GDNCP_OK;

    if (shards->flat) {
        return cut_range(cutter, shards, 0, 0, cu_seqlens[num_sequences]);
    }
    for (int64_t i = 0; i < num_sequences && status == GDNCP_OK; i++) {
        status = cut_range(cutter, shards, i, cu_seqlens[i], cu_seqlens[i + 1]);
    }
    return status;
}

gdncp_status_t gdncp_layout_from_lengths(gdncp_layout_kind_t kind, const int64_t *cu_seqlens,
                                         int64_t num_sequences, int num_ranks,
                                         const int64_t *lengths, gdncp_layout_t **layout_p)
{
    const gdncp_pack_t pack = {cu_seqlens, NULL, num_sequences, num_ranks};
    const shards_t shards = {.lengths = lengths, .flat = kind == GDNCP_LAYOUT_CONTIGUOUS_FLAT};

    if (kind != GDNCP_LAYOUT_CONTIGUOUS && kind != GDNCP_LAYOUT_CONTIGUOUS_FLAT) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "kind: expected contiguous or contiguous_flat, got %d (%s)", (int)kind,
                          gdncp_layout_kind_name(kind));
    }
    if (lengths == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "lengths: expected %s lengths, got NULL",
                          shards.flat ? "num_ranks" : "num_sequences * num_ranks");
    }
    return gdncp_layout_cut(GDNCP_LAYOUT_FROM_POSITIONS, &pack, cut_shards, &shards, layout_p);
}
