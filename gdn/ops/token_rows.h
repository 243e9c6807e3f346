/* Rows of token tensors as float32, and the blocks of tokens that work is dealt out in. */
#ifndef GDNCP_TOKEN_ROWS_H
#define GDNCP_TOKEN_ROWS_H

#include <stdint.h>

#include "gdncp/tensor.h"

#define GDNCP_TOKEN_BLOCK_MIN 64
#define GDNCP_TOKEN_BLOCKS_MAX 64
#define GDNCP_LINE_BYTES 64

/* Tokens in a block: a multiple of GDNCP_TOKEN_BLOCK_MIN, such that there are at most
 * GDNCP_TOKEN_BLOCKS_MAX blocks. It depends on num_tokens alone, so that sums made by block and
 * then in block order are the same on any number of threads. */
static inline int64_t gdncp_token_block_size(int64_t num_tokens)
{
    const int64_t unit = (int64_t)GDNCP_TOKEN_BLOCK_MIN * GDNCP_TOKEN_BLOCKS_MAX;
    const int64_t multiple = num_tokens > 0 ? (num_tokens - 1) / unit + 1 : 1;

    return multiple * GDNCP_TOKEN_BLOCK_MIN;
}

static inline int64_t gdncp_num_token_blocks(int64_t num_tokens)
{
    return num_tokens > 0 ? (num_tokens - 1) / gdncp_token_block_size(num_tokens) + 1 : 0;
}

/* One past the last token of a block. */
static inline int64_t gdncp_token_block_end(int64_t num_tokens, int64_t block)
{
    const int64_t end = (block + 1) * gdncp_token_block_size(num_tokens);

    return end < num_tokens ? end : num_tokens;
}

/* The sequence that holds a token, 0 <= token < cu_seqlens[num_sequences]. */
static inline int64_t gdncp_sequence_of(const int64_t *cu_seqlens, int64_t num_sequences,
                                        int64_t token)
{
    int64_t low = 0;
    int64_t high = num_sequences;

    /* The last one that starts at the token or before: empty ones at the same place come first. */
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;

        if (cu_seqlens[middle] <= token) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

static inline void *gdncp_token_element(const gdncp_tensor_t *tensor, int64_t token, int64_t offset)
{
    return (char *)tensor->data +
           (size_t)(token * tensor->strides[0] + offset) * gdncp_dtype_size(tensor->dtype);
}

/* Have elements [offset, offset + count) of a token brought near: pieces of rows are too short for
 * the processor to see where it goes. */
static inline void gdncp_row_prefetch(const gdncp_tensor_t *tensor, int64_t token, int64_t offset,
                                      int64_t count)
{
    const char *const row = gdncp_token_element(tensor, token, offset);
    const int64_t bytes = count * (int64_t)gdncp_dtype_size(tensor->dtype);

    for (int64_t i = 0; i < bytes; i += GDNCP_LINE_BYTES) {
        __builtin_prefetch(row + i);
    }
}

/* Elements [offset, offset + count) of a token: where they lie when they are float32, else
 * converted into buffer. The dtype has been checked. */
static inline const float *gdncp_row_load(const gdncp_tensor_t *tensor, int64_t token,
                                          int64_t offset, int64_t count, float *buffer)
{
    const void *const source = gdncp_token_element(tensor, token, offset);

    if (tensor->dtype == GDNCP_F32) {
        return source;
    }
    (void)gdncp_convert_to_f32(tensor->dtype, source, count, buffer);
    return buffer;
}

/* Where to compute a row that gdncp_row_store() then puts in its place: the place itself when it
 * is float32, else buffer. */
static inline float *gdncp_row_output(const gdncp_tensor_t *tensor, int64_t token, int64_t offset,
                                      float *buffer)
{
    return tensor->dtype == GDNCP_F32 ? gdncp_token_element(tensor, token, offset) : buffer;
}

static inline void gdncp_row_store(const gdncp_tensor_t *tensor, int64_t token, int64_t offset,
                                   int64_t count, const float *values)
{
    (void)gdncp_convert_from_f32(values, count, tensor->dtype,
                                 gdncp_token_element(tensor, token, offset));
}

#endif
