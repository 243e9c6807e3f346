/* Indices that take the padding out of a batch and put it back. */
#include "gdncp/unpad.h"

#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#include "error.h"

static gdncp_status_t check_mask(const uint8_t *mask, int64_t batch, int64_t tokens)
{
    if (batch <= 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "batch: expected at least 1 row, got %" PRId64, batch);
    }
    if (tokens < 0 || tokens > INT64_MAX / batch) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "tokens: expected 0..%" PRId64 " for a batch of %" PRId64
                          ", got %" PRId64,
                          INT64_MAX / batch, batch, tokens);
    }
    if (mask == NULL && tokens > 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "mask: expected batch * tokens bytes, got NULL");
    }
    return GDNCP_OK;
}

/* Bytes that are not zero. */
static int64_t count_kept(const uint8_t *mask, int64_t tokens)
{
    enum { BLOCK = 128 };
    int64_t kept = 0;
    int64_t t = 0;

    /* Sums of so few fit a byte, and are made of many bytes at once. */
    for (; t + BLOCK <= tokens; t += BLOCK) {
        uint8_t sum = 0;

        for (int64_t i = t; i < t + BLOCK; i++) {
            sum = (uint8_t)(sum + (mask[i] != 0));
        }
        kept += sum;
    }
    for (; t < tokens; t++) {
        kept += mask[t] != 0;
    }
    return kept;
}

gdncp_status_t gdncp_unpad_lengths(const uint8_t *mask, int64_t batch, int64_t tokens,
                                   int64_t *cu_seqlens, int64_t *max_length_p)
{
    const gdncp_status_t status = check_mask(mask, batch, tokens);
    int64_t max_length = 0;

    if (status != GDNCP_OK) {
        return status;
    }
    if (cu_seqlens == NULL || max_length_p == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "%s, got NULL",
                          cu_seqlens == NULL ? "cu_seqlens: expected a place for batch + 1 offsets"
                                             : "max_length_p: expected a place for the length");
    }
    cu_seqlens[0] = 0;
    for (int64_t b = 0; b < batch; b++) {
        const int64_t kept = tokens > 0 ? count_kept(mask + b * tokens, tokens) : 0;

        cu_seqlens[b + 1] = cu_seqlens[b] + kept;
        max_length = kept > max_length ? kept : max_length;
    }
    *max_length_p = max_length;
    return GDNCP_OK;
}

static gdncp_status_t fail_room(const uint8_t *mask, int64_t num_tokens, int64_t num_indices)
{
    return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                      "num_indices: expected at least the %" PRId64
                      " tokens that mask keeps, got %" PRId64,
                      count_kept(mask, num_tokens), num_indices);
}

gdncp_status_t gdncp_unpad_indices(const uint8_t *mask, int64_t batch, int64_t tokens,
                                   int64_t num_indices, int64_t *indices)
{
    enum { WORD = sizeof(uint64_t) };
    const gdncp_status_t status = check_mask(mask, batch, tokens);
    const int64_t num_tokens = status == GDNCP_OK ? batch * tokens : 0;
    int64_t kept = 0;
    int64_t t = 0;

    if (status != GDNCP_OK) {
        return status;
    }
    if (num_indices < 0 || (indices == NULL && num_indices > 0)) {
        return num_indices < 0
                   ? gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                                "num_indices: expected at least 0, got %" PRId64, num_indices)
                   : gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                                "indices: expected a place for %" PRId64 " indices, got NULL",
                                num_indices);
    }
    while (t < num_tokens) {
        uint64_t word;

        /* Whole words of padding, and of kept tokens whose bytes are 1, are what masks have. */
        for (; t + WORD <= num_tokens; t += WORD) {
            memcpy(&word, mask + t, WORD);
            if (word == UINT64_C(0x0101010101010101) && kept + WORD <= num_indices) {
                for (int i = 0; i < WORD; i++) {
                    indices[kept + i] = t + i;
                }
                kept += WORD;
            } else if (word != 0) {
                break;
            }
        }
        for (int i = 0; i < WORD && t < num_tokens; i++, t++) {
            if (mask[t] == 0) {
                continue;
            }
            if (kept == num_indices) {
                return fail_room(mask, num_tokens, num_indices);
            }
            indices[kept++] = t;
        }
    }
    return GDNCP_OK;
}

static gdncp_status_t check_scatter(const int64_t *indices, int64_t num_indices, int64_t num_tokens,
                                    const int64_t *scatter)
{
    if (num_tokens < 0 || (scatter == NULL && num_tokens > 0)) {
        return num_tokens < 0
                   ? gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                                "num_tokens: expected at least 0, got %" PRId64, num_tokens)
                   : gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                                "scatter: expected a place for %" PRId64 " indices, got NULL",
                                num_tokens);
    }
    if (num_indices < 0 || num_indices > num_tokens) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "num_indices: expected 0..%" PRId64
                          ", the number of tokens, got %" PRId64,
                          num_tokens, num_indices);
    }
    if (indices == NULL && num_indices > 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "indices: expected %" PRId64 " indices, got NULL", num_indices);
    }
    return GDNCP_OK;
}

gdncp_status_t gdncp_repad_scatter(const int64_t *indices, int64_t num_indices, int64_t num_tokens,
                                   int64_t *scatter)
{
    const gdncp_status_t status = check_scatter(indices, num_indices, num_tokens, scatter);

    if (status != GDNCP_OK) {
        return status;
    }
    if (num_tokens > 0) {
        memset(scatter, 0xff, (size_t)num_tokens * sizeof *scatter); /* -1 */
    }
    for (int64_t i = 0; i < num_indices; i++) {
        if (indices[i] < 0 || indices[i] >= num_tokens) {
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                              "indices[%" PRId64 "]: expected 0..%" PRId64 ", got %" PRId64, i,
                              num_tokens - 1, indices[i]);
        }
        if (scatter[indices[i]] >= 0) {
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                              "indices[%" PRId64 "]: expected indices that differ, got %" PRId64
                              " as at [%" PRId64 "]",
                              i, indices[i], scatter[indices[i]]);
        }
        scatter[indices[i]] = i;
    }
    return GDNCP_OK;
}
