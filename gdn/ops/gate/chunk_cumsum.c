/* Cumulative sums of the log-gate inside chunks. */
#include <inttypes.h>

#include "error.h"
#include "gdncp/ops.h"
#include "op_checks.h"
#include "op_parallel.h"
#include "token_rows.h"

#define HEAD_TILE 64

typedef struct cumsum_task {
    const gdncp_tensor_t *g;
    const gdncp_tensor_t *out;
    const int64_t *cu_seqlens;
    int64_t num_sequences;
    int64_t chunk_size;
} cumsum_task_t;

static int64_t min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void sum_chunk(const cumsum_task_t *task, int64_t begin, int64_t end)
{
    const int64_t num_heads = task->g->shape[1];

    for (int64_t first = 0; first < num_heads; first += HEAD_TILE) {
        const int64_t count = min_i64(num_heads - first, HEAD_TILE);
        double sum[HEAD_TILE] = {0.0};

        for (int64_t t = begin; t < end; t++) {
            const float *const g = gdncp_token_element(task->g, t, first);
            float *const out = gdncp_token_element(task->out, t, first);

            for (int64_t h = 0; h < count; h++) {
                sum[h] += (double)g[h];
                out[h] = (float)sum[h];
            }
        }
    }
}

/* Sum the chunks that start in a block of tokens. */
static void sum_block(void *context, int64_t block, int thread)
{
    const cumsum_task_t *const task = context;
    const int64_t num_tokens = task->g->shape[0];
    const int64_t begin = block * gdncp_token_block_size(num_tokens);
    const int64_t end = gdncp_token_block_end(num_tokens, block);

    (void)thread;
    for (int64_t i = gdncp_sequence_of(task->cu_seqlens, task->num_sequences, begin);
         i < task->num_sequences && task->cu_seqlens[i] < end; i++) {
        const int64_t first = task->cu_seqlens[i];
        const int64_t last = task->cu_seqlens[i + 1];
        const int64_t before = begin > first ? begin - first : 0;
        const int64_t chunks_before = (before + task->chunk_size - 1) / task->chunk_size;
        const int64_t stop = min_i64(end, last);

        for (int64_t t = first + chunks_before * task->chunk_size; t < stop;
             t += task->chunk_size) {
            sum_chunk(task, t, min_i64(t + task->chunk_size, last));
        }
    }
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
    const int64_t num_blocks = gdncp_num_token_blocks(num_tokens);
    cumsum_task_t task = {.g = g,
                          .out = out,
                          .cu_seqlens = cu_seqlens,
                          .num_sequences = num_sequences,
                          /* A chunk no longer than the pack: offsets cannot overflow. */
                          .chunk_size = min_i64(chunk_size, num_tokens)};

    gdncp_parallel_for(num_blocks, gdncp_parallel_num_threads(num_blocks), sum_block, &task);
    return GDNCP_OK;
}
