/* Tensors [T, H, d] of any dtype as rows of d elements, for kernels whose warps have a row each. */
#ifndef GDNCP_HEAD_ROWS_H
#define GDNCP_HEAD_ROWS_H

#include "kernel_math.h"

namespace GDNCP_KERNELS
{

/* The dtype is looked up with each access and is the same for all threads: one kernel serves all
 * mixtures of dtypes. */
struct head_rows {
    void *data;
    gdncp_dtype_t dtype;
    int64_t stride; /* elements from one token to the next */
    int64_t num_tokens;
    int64_t num_heads;
    int64_t d;
    bool aligned; /* every quad that begins at a multiple of four elements */
};

/* Four elements as they lie in memory; of 16-bit ones the first two words count. They are widened
 * only when all loads are under way. */
struct raw_quad {
    quad<float> bits;
};

/* Four elements of a row in float32. */
struct float_quad {
    float x[QUAD];
};

/* A row of a block. Blocks have so few rows that they are counted in 32 bits, which divide fast. */
struct head_row {
    int64_t token;
    int head;
};

/* The rows of this block: those of `tokens_per_block` tokens. */
struct block_rows {
    int64_t first_token;
    int num_heads;
    int count;

    GDNCP_FN head_row at(int i) const
    {
        return {first_token + i / num_heads, i % num_heads};
    }
};

GDNCP_FN block_rows rows_of_block(const head_rows &rows, int64_t tokens_per_block)
{
    const int64_t first = block_x() * tokens_per_block;
    const int64_t num_tokens = min_of(rows.num_tokens - first, tokens_per_block);

    return {first, (int)rows.num_heads, (int)(num_tokens * rows.num_heads)};
}

GDNCP_FN int64_t row_offset(const head_rows &rows, const head_row &row)
{
    return row.token * rows.stride + row.head * rows.d;
}

/* Elements first .. first+3 of a row that begins at that offset, zero beyond d. */
GDNCP_FN raw_quad load_raw(const head_rows &rows, int64_t offset, int64_t first)
{
    const int count = quad_count(first, rows.d);

    if (rows.dtype == GDNCP_F32) {
        return {
            load_quad(static_cast<const float *>(rows.data) + offset + first, count, rows.aligned)};
    }
    const quad<bf16> pair =
        load_quad(static_cast<const bf16 *>(rows.data) + offset + first, count, rows.aligned);

    return {{{pair.words[0], pair.words[1], 0, 0}}};
}

GDNCP_FN float_quad widen(gdncp_dtype_t dtype, const raw_quad &raw)
{
    float_quad result;

    if (dtype == GDNCP_F32) {
        widen(raw.bits, result.x);
    } else if (dtype == GDNCP_BF16) {
        widen(quad<bf16>{{raw.bits.words[0], raw.bits.words[1]}}, result.x);
    } else {
        widen(quad<f16>{{raw.bits.words[0], raw.bits.words[1]}}, result.x);
    }
    return result;
}

GDNCP_FN float_quad load_row(const head_rows &rows, int64_t offset, int64_t first)
{
    return widen(rows.dtype, load_raw(rows, offset, first));
}

GDNCP_FN void store_row(const head_rows &rows, int64_t offset, int64_t first,
                        const float_quad &values)
{
    const int count = quad_count(first, rows.d);

    if (rows.dtype == GDNCP_F32) {
        store_quad(static_cast<float *>(rows.data) + offset + first, narrow<float>(values.x), count,
                   rows.aligned);
    } else if (rows.dtype == GDNCP_BF16) {
        store_quad(static_cast<bf16 *>(rows.data) + offset + first, narrow<bf16>(values.x), count,
                   rows.aligned);
    } else {
        store_quad(static_cast<f16 *>(rows.data) + offset + first, narrow<f16>(values.x), count,
                   rows.aligned);
    }
}

/* Of float32 values that lie at rows.d's columns, such as a weight [d]. */
GDNCP_FN float_quad load_columns(const float *values, int64_t first, int64_t d)
{
    float_quad result;

    widen(load_quad(values + first, quad_count(first, d), quads_are_aligned(values, 0)), result.x);
    return result;
}

inline head_rows head_rows_of(const gdncp_tensor_t &tensor)
{
    const int64_t quad_bytes = QUAD * (int64_t)gdncp_dtype_size(tensor.dtype);
    const bool aligned = reinterpret_cast<uintptr_t>(tensor.data) % (uintptr_t)quad_bytes == 0 &&
                         tensor.strides[0] % QUAD == 0 && tensor.shape[2] % QUAD == 0;

    return {tensor.data,     tensor.dtype, tensor.strides[0], tensor.shape[0], tensor.shape[1],
            tensor.shape[2], aligned};
}

/* Warps take the rows of a block in turn; lane l has quads l, l + 32, ... of a row. */
constexpr int ROW_WARPS = 8;
constexpr int ROW_THREADS = ROW_WARPS * WARP;
constexpr int64_t MIN_BLOCK_ROWS = 4 * ROW_WARPS;

/* As many tokens a block as give each of its warps a few rows. */
inline int64_t tokens_of_block(const gdncp_tensor_t &tensor)
{
    return ceil_div(MIN_BLOCK_ROWS, tensor.shape[1] > 0 ? tensor.shape[1] : 1);
}

/* Blocks of that many tokens; none where rows have no elements. */
inline int64_t num_blocks_of(const gdncp_tensor_t &tensor, int64_t tokens_per_block)
{
    return gdncp_tensor_num_elements(&tensor) > 0 ? ceil_div(tensor.shape[0], tokens_per_block) : 0;
}

GDNCP_FN int64_t first_of_lane()
{
    return (int64_t)lane() * QUAD;
}

constexpr int64_t NEXT_OF_LANE = WARP * QUAD;

} /* namespace GDNCP_KERNELS */

#endif
