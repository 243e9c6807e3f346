/* Cumulative sums of the log-gate inside chunks. */
#include <inttypes.h>

#include "chunk_sums.h"
#include "error.h"
#include "gdncp/layout_inline.h"
#include "op_checks.h"
#include "op_parallel.h"
#include "token_rows.h"
#include "vector_clones.h"

/* Heads that are summed together, in registers. */
#define HEAD_TILE 16

static int64_t min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* count is a constant where this is inlined. The first element of each token lies `step` behind
 * that of the token before it, in g and in out. */
GDNCP_ALWAYS_INLINE void sum_heads(const int count, int64_t num_tokens, const float *g,
                                   int64_t g_step, float *out, int64_t out_step)
{
    double sum[HEAD_TILE] = {0.0};

    for (int64_t t = 0; t < num_tokens; t++) {
        for (int h = 0; h < count; h++) {
            sum[h] += (double)g[t * g_step + h];
        }
        for (int h = 0; h < count; h++) {
            out[t * out_step + h] = (float)sum[h];
        }
    }
}

GDNCP_VECTOR_CLONES
static void sum_tile(int64_t count, int64_t num_tokens, const float *g, int64_t g_step, float *out,
                     int64_t out_step)
{
    if (count == HEAD_TILE) {
        sum_heads(HEAD_TILE, num_tokens, g, g_step, out, out_step);
    } else if (count == HEAD_TILE / 2) {
        sum_heads(HEAD_TILE / 2, num_tokens, g, g_step, out, out_step);
    } else {
        sum_heads((int)count, num_tokens, g, g_step, out, out_step);
    }
}

static void sum_chunk(const gdncp_chunk_sums_t *sums, int64_t begin, int64_t end)
{
    const int64_t num_heads = sums->g->shape[1];
    const int64_t from = sums->reverse ? end - 1 : begin;
    const int64_t sign = sums->reverse ? -1 : 1;

    for (int64_t first = 0; first < num_heads; first += HEAD_TILE) {
        sum_tile(min_i64(num_heads - first, HEAD_TILE), end - begin,
                 gdncp_token_element(sums->g, from, first), sign * sums->g->strides[0],
                 gdncp_token_element(sums->out, from, first), sign * sums->out->strides[0]);
    }
}

/* Sum the chunks that start in a block of tokens. */
static void sum_block(void *context, int64_t block, int thread)
{
    const gdncp_chunk_sums_t *const sums = context;
    const int64_t num_tokens = sums->g->shape[0];
    const int64_t begin = block * gdncp_token_block_size(num_tokens);
    const int64_t end = gdncp_token_block_end(num_tokens, block);

    (void)thread;
    for (int64_t i = gdncp_sequence_of_position(sums->cu_seqlens, sums->num_sequences, begin);
         i < sums->num_sequences && sums->cu_seqlens[i] < end; i++) {
        const int64_t first = sums->cu_seqlens[i];
        const int64_t last = sums->cu_seqlens[i + 1];
        const int64_t before = begin > first ? begin - first : 0;
        const int64_t chunks_before = (before + sums->chunk_size - 1) / sums->chunk_size;
        const int64_t stop = min_i64(end, last);

        for (int64_t t = first + chunks_before * sums->chunk_size; t < stop;
             t += sums->chunk_size) {
            sum_chunk(sums, t, min_i64(t + sums->chunk_size, last));
        }
    }
}

void gdncp_chunk_sums_cpu(const gdncp_chunk_sums_t *sums)
{
    const int64_t num_blocks = gdncp_num_token_blocks(sums->g->shape[0]);
    gdncp_chunk_sums_t task = *sums;

    gdncp_parallel_for(num_blocks, gdncp_parallel_num_threads(num_blocks), sum_block, &task);
}

gdncp_status_t gdncp_chunk_cumsum(const gdncp_tensor_t *g, const int64_t *cu_seqlens,
                                  const int64_t *cu_seqlens_cuda, int64_t num_sequences,
                                  int64_t chunk_size, const gdncp_tensor_t *out,
                                  gdncp_workspace_t *workspace)
{
    const gdncp_op_kernels_t *kernels;
    gdncp_status_t status = gdncp_op_check_ndim("g", g, 2);

    if (status == GDNCP_OK) {
        status = gdncp_op_check_device("g", g, workspace, &kernels);
    }
    if (status == GDNCP_OK) {
        status =
            gdncp_op_check_tensor("g", g, g->device, GDNCP_F32, GDNCP_OP_TOKEN_STRIDE, 2, g->shape);
    }
    if (status == GDNCP_OK) {
        status = gdncp_op_check_cu_seqlens(g->device, cu_seqlens, cu_seqlens_cuda, num_sequences,
                                           g->shape[0]);
    }
    if (status == GDNCP_OK && chunk_size <= 0) {
        status = gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "chunk_size: expected > 0, got %" PRId64,
                            chunk_size);
    }
    if (status == GDNCP_OK) {
        status = gdncp_op_check_tensor("out", out, g->device, GDNCP_F32, GDNCP_OP_TOKEN_STRIDE, 2,
                                       g->shape);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    const int64_t num_tokens = g->shape[0];

    if (kernels != NULL) {
        return kernels->chunk_cumsum(g, cu_seqlens, cu_seqlens_cuda, num_sequences,
                                     min_i64(chunk_size, num_tokens), out, workspace);
    }
    gdncp_chunk_sums_cpu(&(gdncp_chunk_sums_t){.g = g,
                                               .out = out,
                                               .cu_seqlens = cu_seqlens,
                                               .num_sequences = num_sequences,
                                               .chunk_size = min_i64(chunk_size, num_tokens)});
    return GDNCP_OK;
}
