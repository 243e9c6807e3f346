/* Which heads a rank works on. */
#include "gdncp/heads.h"

#include <inttypes.h>
#include <stddef.h>

#include "error.h"
#include "head_ranges.h"

static gdncp_status_t check_arguments(gdncp_head_kind_t kind, int64_t num_key_heads,
                                      int64_t num_value_heads, int num_ranks, int rank,
                                      const gdncp_head_range_t *range_p)
{
    if (kind != GDNCP_KEY_HEADS && kind != GDNCP_VALUE_HEADS) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "kind: expected GDNCP_KEY_HEADS or GDNCP_VALUE_HEADS, got %d", (int)kind);
    }
    if (num_value_heads <= 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "num_value_heads: expected at least 1, got %" PRId64, num_value_heads);
    }
    if (num_key_heads <= 0 || num_value_heads % num_key_heads != 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "num_key_heads: expected a divisor of the %" PRId64
                          " value heads, got %" PRId64,
                          num_value_heads, num_key_heads);
    }
    if (num_ranks <= 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "num_ranks: expected at least 1, got %d",
                          num_ranks);
    }
    if (rank < 0 || rank >= num_ranks) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "rank: expected 0..%d, got %d", num_ranks - 1,
                          rank);
    }
    if (range_p == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "range_p: expected a place for the range, got NULL");
    }
    return GDNCP_OK;
}

gdncp_status_t gdncp_head_range(gdncp_head_kind_t kind, int64_t num_key_heads,
                                int64_t num_value_heads, int num_ranks, int rank,
                                gdncp_head_range_t *range_p)
{
    const gdncp_status_t status =
        check_arguments(kind, num_key_heads, num_value_heads, num_ranks, rank, range_p);
    gdncp_head_range_t values;

    if (status != GDNCP_OK) {
        return status;
    }
    values = gdncp_part_of_range((gdncp_head_range_t){0, num_value_heads}, num_ranks, rank);
    *range_p = gdncp_heads_of_values(kind, num_value_heads / num_key_heads, values);
    return GDNCP_OK;
}
