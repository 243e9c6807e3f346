/* A rank's place in a grid, and its heads. */
#include "place.h"

#include <inttypes.h>
#include <stdbool.h>

#include "error.h"

gdncp_status_t gdncp_place_check(const gdncp_place_t *place)
{
    if (place == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "place: expected a place in a grid, got NULL");
    }

    const struct {
        const char *size_name;
        const char *rank_name;
        int size;
        int rank;
    } axes[] = {
        {"tp_size", "tp_rank", place->tp_size, place->tp_rank},
        {"cp_size", "cp_rank", place->cp_size, place->cp_rank},
    };

    for (int i = 0; i < 2; i++) {
        if (axes[i].size <= 0) {
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "place.%s: expected at least 1, got %d",
                              axes[i].size_name, axes[i].size);
        }
        if (axes[i].rank < 0 || axes[i].rank >= axes[i].size) {
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "place.%s: expected 0..%d, got %d",
                              axes[i].rank_name, axes[i].size - 1, axes[i].rank);
        }
    }
    return GDNCP_OK;
}

gdncp_status_t gdncp_place_of_rank(int tp_size, int cp_size, int rank, gdncp_place_t *place_p)
{
    int64_t ranks;

    if (tp_size <= 0 || cp_size <= 0) {
        const bool is_tp = tp_size <= 0;

        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "%s: expected at least 1, got %d",
                          is_tp ? "tp_size" : "cp_size", is_tp ? tp_size : cp_size);
    }
    ranks = (int64_t)tp_size * cp_size;
    if (rank < 0 || rank >= ranks) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "rank: expected 0..%" PRId64 " in a grid of %d x %d, got %d", ranks - 1,
                          tp_size, cp_size, rank);
    }
    if (place_p == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "place_p: expected a place for the place, got NULL");
    }
    *place_p = (gdncp_place_t){
        .tp_size = tp_size,
        .tp_rank = rank % tp_size,
        .cp_size = cp_size,
        .cp_rank = rank / tp_size,
    };
    return GDNCP_OK;
}

gdncp_status_t gdncp_place_heads(gdncp_head_kind_t kind, int64_t num_key_heads,
                                 int64_t num_value_heads, const gdncp_place_t *place,
                                 gdncp_head_range_t *range_p)
{
    gdncp_status_t status = gdncp_place_check(place);

    if (status == GDNCP_OK) {
        /* Of one rank, for its checks of all other arguments. */
        status = gdncp_head_range(kind, num_key_heads, num_value_heads, 1, 0, range_p);
    }
    if (status == GDNCP_OK) {
        *range_p = gdncp_heads_of_place(kind, num_key_heads, num_value_heads, place);
    }
    return status;
}
