/* Loading pieces of tensors that another grid has saved. */
#include <inttypes.h>
#include <stdint.h>
#include <string.h>

#include "error.h"
#include "gdncp/checkpoint.h"

enum { MAX_SHARD_DIMS = 3 };

/* Whether a shard lies in its tensor. `which` names it in errors. */
static gdncp_status_t check_shard(const gdncp_shard_t *shard, const char *which)
{
    if (shard == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "%s: expected a shard, got NULL", which);
    }
    if (shard->name == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "%s->name: expected a tensor's name, got NULL", which);
    }
    if (shard->ndim < 1 || shard->ndim > MAX_SHARD_DIMS) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "%s->ndim: expected 1..%d, got %d", which,
                          MAX_SHARD_DIMS, shard->ndim);
    }

    int64_t bytes = sizeof(int64_t);

    for (int d = 0; d < shard->ndim; d++) {
        const int64_t offset = shard->global_offset[d];
        const int64_t length = shard->shape[d];

        if (offset < 0 || length <= 0 || length > shard->global_shape[d] ||
            offset > shard->global_shape[d] - length) {
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                              "%s: expected %s inside its tensor, got %" PRId64
                              " elements from %" PRId64 " of %" PRId64 " in dimension %d",
                              which, shard->name, length, offset, shard->global_shape[d], d);
        }
        if (__builtin_mul_overflow(bytes, shard->global_shape[d], &bytes)) {
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                              "%s->global_shape: expected less than 2^63 bytes of %s, got %" PRId64
                              " in dimension %d",
                              which, shard->name, shard->global_shape[d], d);
        }
    }
    return GDNCP_OK;
}

static gdncp_status_t check_pair(const gdncp_shard_t *wanted, const gdncp_shard_t *saved)
{
    gdncp_status_t status = check_shard(wanted, "wanted");

    if (status == GDNCP_OK) {
        status = check_shard(saved, "saved");
    }
    if (status != GDNCP_OK) {
        return status;
    }
    if (strcmp(wanted->name, saved->name) != 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "saved->name: expected %s, got %s",
                          wanted->name, saved->name);
    }
    if (wanted->ndim != saved->ndim) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "saved->ndim: expected %d for %s, got %d",
                          wanted->ndim, wanted->name, saved->ndim);
    }
    for (int d = 0; d < wanted->ndim; d++) {
        if (wanted->global_shape[d] != saved->global_shape[d]) {
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                              "saved->global_shape[%d]: expected %" PRId64 " for %s, got %" PRId64,
                              d, wanted->global_shape[d], wanted->name, saved->global_shape[d]);
        }
    }
    return GDNCP_OK;
}

static gdncp_status_t check_memory(size_t element_size, const void *data, const void *parameter,
                                   const int64_t *num_elements_p)
{
    if (element_size < 1 || element_size > sizeof(int64_t)) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "element_size: expected 1..8, got %zu",
                          element_size);
    }
    if (data == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "data: expected the memory of the saved piece, got NULL");
    }
    if (parameter == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "parameter: expected the memory of the parameter, got NULL");
    }
    if (num_elements_p == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "num_elements_p: expected a place for the number of elements, got NULL");
    }
    return GDNCP_OK;
}

/* What two pieces have in common, and where each keeps it, with dimensions of 1 put in front. */
typedef struct common {
    int64_t shape[MAX_SHARD_DIMS];
    int64_t saved_begin[MAX_SHARD_DIMS]; /* in the saved piece */
    int64_t saved_shape[MAX_SHARD_DIMS];
    int64_t wanted_begin[MAX_SHARD_DIMS];
    int64_t wanted_shape[MAX_SHARD_DIMS];
} common_t;

static common_t find_common(const gdncp_shard_t *wanted, const gdncp_shard_t *saved)
{
    common_t common = {{1, 1, 1}, {0}, {1, 1, 1}, {0}, {1, 1, 1}};

    for (int d = 0; d < wanted->ndim; d++) {
        const int to = MAX_SHARD_DIMS - wanted->ndim + d;
        const int64_t wanted_first = wanted->global_offset[d];
        const int64_t saved_first = saved->global_offset[d];
        const int64_t wanted_end = wanted_first + wanted->shape[d];
        const int64_t saved_end = saved_first + saved->shape[d];
        const int64_t begin = wanted_first > saved_first ? wanted_first : saved_first;
        const int64_t end = wanted_end < saved_end ? wanted_end : saved_end;

        common.shape[to] = end > begin ? end - begin : 0;
        common.saved_begin[to] = begin - saved_first;
        common.saved_shape[to] = saved->shape[d];
        common.wanted_begin[to] = begin - wanted_first;
        common.wanted_shape[to] = wanted->shape[d];
    }
    return common;
}

/* First byte of run (i, j) of what is common, in a piece of that shape. */
static size_t run_offset(const int64_t *begin, const int64_t *shape, int64_t i, int64_t j,
                         size_t element_size)
{
    const int64_t row = (begin[0] + i) * shape[1] + begin[1] + j;

    return (size_t)(row * shape[2] + begin[2]) * element_size;
}

gdncp_status_t gdncp_shard_load(const gdncp_shard_t *wanted, const gdncp_shard_t *saved,
                                size_t element_size, const void *data, void *parameter,
                                int64_t *num_elements_p)
{
    gdncp_status_t status = check_pair(wanted, saved);
    common_t common;

    if (status == GDNCP_OK) {
        status = check_memory(element_size, data, parameter, num_elements_p);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    if (wanted->local_offset < 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "wanted->local_offset: expected at least 0, got %" PRId64,
                          wanted->local_offset);
    }
    common = find_common(wanted, saved);
    *num_elements_p = common.shape[0] * common.shape[1] * common.shape[2];
    for (int64_t i = 0; i < common.shape[0] && *num_elements_p > 0; i++) {
        for (int64_t j = 0; j < common.shape[1]; j++) {
            memcpy((char *)parameter + (size_t)wanted->local_offset * element_size +
                       run_offset(common.wanted_begin, common.wanted_shape, i, j, element_size),
                   (const char *)data +
                       run_offset(common.saved_begin, common.saved_shape, i, j, element_size),
                   (size_t)common.shape[2] * element_size);
        }
    }
    return GDNCP_OK;
}
