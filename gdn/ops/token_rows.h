/* Rows of token tensors as float32, and the blocks of tokens that work is dealt out in. */
#ifndef GDNCP_TOKEN_ROWS_H
#define GDNCP_TOKEN_ROWS_H

#include <stdbool.h>
#include <stdint.h>

#include "gdncp/tensor.h"

#define GDNCP_TOKEN_BLOCK_MIN 64
#define GDNCP_TOKEN_BLOCKS_MAX 64
#define GDNCP_LINE_BYTES 64
#define GDNCP_PAGE_BYTES 4096
#define GDNCP_ROW_ELEMENTS 1024

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

static inline void *gdncp_token_element(const gdncp_tensor_t *tensor, int64_t token, int64_t offset)
{
    return (char *)tensor->data +
           (size_t)(token * tensor->strides[0] + offset) * gdncp_dtype_size(tensor->dtype);
}

/* Have elements [offset, offset + count) of a token brought near: pieces of rows are too short for
 * the processor to see where they go on. Of a page it follows the first lines by itself. */
static inline void gdncp_row_prefetch(const gdncp_tensor_t *tensor, int64_t token, int64_t offset,
                                      int64_t count)
{
    const char *const row = gdncp_token_element(tensor, token, offset);
    const int64_t bytes = count * (int64_t)gdncp_dtype_size(tensor->dtype);
    const int64_t asked = bytes < GDNCP_PAGE_BYTES ? bytes : 4 * GDNCP_LINE_BYTES;

    for (int64_t i = 0; i < asked; i += GDNCP_LINE_BYTES) {
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

/* Whether tokens' pieces of `count` elements follow each other without a gap. */
static inline bool gdncp_rows_are_dense(const gdncp_tensor_t *tensor, int64_t num_tokens,
                                        int64_t count)
{
    return num_tokens == 1 || tensor->strides[0] == count;
}

/* Rows of d elements, the heads of a token, that are converted together: single ones are short. */
static inline int64_t gdncp_heads_together(int64_t num_heads, int64_t d)
{
    const int64_t heads = d > 0 ? GDNCP_ROW_ELEMENTS / d : 1;

    return heads > num_heads ? num_heads : heads > 1 ? heads : 1;
}

/* Elements [offset, offset + count) of a token. */
typedef struct gdncp_strip {
    int64_t token;
    int64_t offset;
    int64_t count;
} gdncp_strip_t;

static inline gdncp_strip_t gdncp_strip_at(int64_t token, int64_t offset, int64_t width,
                                           int64_t size)
{
    const int64_t left = width - offset;

    return (gdncp_strip_t){token, offset, left < size ? left : size};
}

/* The strip that follows, where those of a token, `width` elements, have `size` each but the last.
 */
static inline gdncp_strip_t gdncp_strip_after(const gdncp_strip_t *strip, int64_t width,
                                              int64_t size)
{
    const int64_t offset = strip->offset + strip->count;

    return offset < width ? gdncp_strip_at(strip->token, offset, width, size)
                          : gdncp_strip_at(strip->token + 1, 0, width, size);
}

static inline void gdncp_strip_prefetch(const gdncp_tensor_t *tensor, const gdncp_strip_t *strip)
{
    gdncp_row_prefetch(tensor, strip->token, strip->offset, strip->count);
}

/* The same elements of several tokens, one after the other: as gdncp_row_load(). */
static inline const float *gdncp_rows_load(const gdncp_tensor_t *tensor, int64_t token,
                                           int64_t num_tokens, int64_t offset, int64_t count,
                                           float *buffer)
{
    if (gdncp_rows_are_dense(tensor, num_tokens, count)) {
        return gdncp_row_load(tensor, token, offset, num_tokens * count, buffer);
    }
    for (int64_t t = 0; t < num_tokens; t++) {
        (void)gdncp_convert_to_f32(tensor->dtype, gdncp_token_element(tensor, token + t, offset),
                                   count, buffer + t * count);
    }
    return buffer;
}

/* As gdncp_row_output(). */
static inline float *gdncp_rows_output(const gdncp_tensor_t *tensor, int64_t token,
                                       int64_t num_tokens, int64_t offset, int64_t count,
                                       float *buffer)
{
    return gdncp_rows_are_dense(tensor, num_tokens, count)
               ? gdncp_row_output(tensor, token, offset, buffer)
               : buffer;
}

static inline void gdncp_rows_store(const gdncp_tensor_t *tensor, int64_t token, int64_t num_tokens,
                                    int64_t offset, int64_t count, const float *values)
{
    if (gdncp_rows_are_dense(tensor, num_tokens, count)) {
        gdncp_row_store(tensor, token, offset, num_tokens * count, values);
        return;
    }
    for (int64_t t = 0; t < num_tokens; t++) {
        gdncp_row_store(tensor, token + t, offset, count, values + t * count);
    }
}

#endif
