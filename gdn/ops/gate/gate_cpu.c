/* The gate on the CPU: blocks of tokens, and in a block tiles of heads. */
#include "gate_cpu.h"

#include <math.h>
#include <string.h>

#include "inline_math.h"
#include "op_parallel.h"
#include "op_scratch.h"
#include "token_rows.h"

#define HEAD_TILE 64

/* What all tokens of a tile of heads share. */
typedef struct head_tile {
    int64_t first;
    int64_t count;
    float rate[HEAD_TILE]; /* -exp(A_log) */
    const float *dt_bias;
    float beta_scale;
} head_tile_t;

static void start_tile(const gdncp_gate_t *gate, int64_t first, head_tile_t *tile)
{
    const int64_t left = gate->a.shape[1] - first;

    tile->first = first;
    tile->count = left < HEAD_TILE ? left : HEAD_TILE;
    tile->dt_bias = (const float *)gate->dt_bias.data + first;
    tile->beta_scale = gate->allow_neg_eigval ? 2.0f : 1.0f;
    for (int64_t h = 0; h < tile->count; h++) {
        tile->rate[h] = -expf(((const float *)gate->A_log.data)[first + h]);
    }
}

typedef struct forward_task {
    const gdncp_gate_t *gate;
    const gdncp_tensor_t *g;
    const gdncp_tensor_t *beta;
} forward_task_t;

GDNCP_VECTOR_CLONES
static void forward_row(const head_tile_t *tile, const float *a, const float *b, float *restrict g,
                        float *restrict beta)
{
    for (int64_t h = 0; h < tile->count; h++) {
        g[h] = tile->rate[h] * gdncp_softplus_f32(a[h] + tile->dt_bias[h]);
        beta[h] = tile->beta_scale * gdncp_sigmoid_f32(b[h]);
    }
}

static void forward_block(void *context, int64_t block, int thread)
{
    const forward_task_t *const task = context;
    const gdncp_gate_t *const gate = task->gate;
    const int64_t num_tokens = gate->a.shape[0];
    const int64_t begin = block * gdncp_token_block_size(num_tokens);
    const int64_t end = gdncp_token_block_end(num_tokens, block);
    float a_row[HEAD_TILE];
    float b_row[HEAD_TILE];
    head_tile_t tile;

    (void)thread;
    for (int64_t first = 0; first < gate->a.shape[1]; first += HEAD_TILE) {
        start_tile(gate, first, &tile);
        for (int64_t t = begin; t < end; t++) {
            forward_row(&tile, gdncp_row_load(&gate->a, t, first, tile.count, a_row),
                        gdncp_row_load(&gate->b, t, first, tile.count, b_row),
                        gdncp_token_element(task->g, t, first),
                        gdncp_token_element(task->beta, t, first));
        }
    }
}

void gdncp_gate_forward_cpu(const gdncp_gate_t *gate, const gdncp_tensor_t *g,
                            const gdncp_tensor_t *beta)
{
    const int64_t num_blocks = gdncp_num_token_blocks(gate->a.shape[0]);
    forward_task_t task = {.gate = gate, .g = g, .beta = beta};

    gdncp_parallel_for(num_blocks, gdncp_parallel_num_threads(num_blocks), forward_block, &task);
}

typedef struct backward_task {
    const gdncp_gate_t *gate;
    const gdncp_tensor_t *grad_g;
    const gdncp_tensor_t *grad_beta;
    const gdncp_gate_grads_t *grads;
    double *partials; /* [blocks, 2, Hv]: A_log, dt_bias */
} backward_task_t;

GDNCP_VECTOR_CLONES
static void backward_row(const head_tile_t *tile, const float *a, const float *b,
                         const float *grad_g, const float *grad_beta, float *restrict grad_a,
                         float *restrict grad_b, double *restrict grad_A_log,
                         double *restrict grad_dt_bias)
{
    for (int64_t h = 0; h < tile->count; h++) {
        const float x = a[h] + tile->dt_bias[h];
        const float scaled = grad_g[h] * tile->rate[h];
        const float through_x = scaled * gdncp_sigmoid_f32(x);
        /* sigmoid'(b) = e / (1 + e)^2 with e = exp(-|b|): nothing cancels. */
        const float e = gdncp_exp_f32(-fabsf(b[h]));

        grad_a[h] = through_x;
        grad_b[h] = grad_beta[h] * tile->beta_scale * (e / ((1.0f + e) * (1.0f + e)));
        grad_A_log[h] += (double)(scaled * gdncp_softplus_f32(x));
        grad_dt_bias[h] += (double)through_x;
    }
}

static void backward_tile(const backward_task_t *task, const head_tile_t *tile, int64_t begin,
                          int64_t end, double *grad_A_log, double *grad_dt_bias)
{
    const gdncp_gate_t *const gate = task->gate;
    const gdncp_gate_grads_t *const grads = task->grads;
    const int64_t first = tile->first;
    float a_row[HEAD_TILE];
    float b_row[HEAD_TILE];
    float grad_a_row[HEAD_TILE];
    float grad_b_row[HEAD_TILE];

    for (int64_t t = begin; t < end; t++) {
        float *const grad_a = gdncp_row_output(&grads->a, t, first, grad_a_row);
        float *const grad_b = gdncp_row_output(&grads->b, t, first, grad_b_row);

        backward_row(tile, gdncp_row_load(&gate->a, t, first, tile->count, a_row),
                     gdncp_row_load(&gate->b, t, first, tile->count, b_row),
                     gdncp_token_element(task->grad_g, t, first),
                     gdncp_token_element(task->grad_beta, t, first), grad_a, grad_b, grad_A_log,
                     grad_dt_bias);
        gdncp_row_store(&grads->a, t, first, tile->count, grad_a);
        gdncp_row_store(&grads->b, t, first, tile->count, grad_b);
    }
}

static void backward_block(void *context, int64_t block, int thread)
{
    const backward_task_t *const task = context;
    const int64_t num_tokens = task->gate->a.shape[0];
    const int64_t num_heads = task->gate->a.shape[1];
    const int64_t begin = block * gdncp_token_block_size(num_tokens);
    const int64_t end = gdncp_token_block_end(num_tokens, block);
    double *const partial = task->partials + block * 2 * num_heads;
    head_tile_t tile;

    (void)thread;
    memset(partial, 0, (size_t)(2 * num_heads) * sizeof *partial);
    for (int64_t first = 0; first < num_heads; first += HEAD_TILE) {
        start_tile(task->gate, first, &tile);
        backward_tile(task, &tile, begin, end, partial + first, partial + num_heads + first);
    }
}

/* Sum over blocks, in their order. */
static void sum_partials(const double *partials, int64_t num_blocks, int64_t num_heads, float *sum)
{
    for (int64_t h = 0; h < num_heads; h++) {
        double total = 0.0;

        for (int64_t block = 0; block < num_blocks; block++) {
            total += partials[block * 2 * num_heads + h];
        }
        sum[h] = (float)total;
    }
}

gdncp_status_t gdncp_gate_backward_cpu(const gdncp_gate_t *gate, const gdncp_tensor_t *grad_g,
                                       const gdncp_tensor_t *grad_beta,
                                       const gdncp_gate_grads_t *grads,
                                       gdncp_workspace_t *workspace)
{
    const int64_t num_heads = gate->a.shape[1];
    const int64_t num_blocks = gdncp_num_token_blocks(gate->a.shape[0]);
    backward_task_t task = {.gate = gate, .grad_g = grad_g, .grad_beta = grad_beta, .grads = grads};
    gdncp_scratch_t scratch;
    const gdncp_status_t status = gdncp_scratch_open(
        workspace, 1, (size_t)(num_blocks * 2 * num_heads) * sizeof *task.partials, &scratch);

    if (status != GDNCP_OK) {
        return status;
    }
    task.partials = (double *)(void *)scratch.memory;
    gdncp_parallel_for(num_blocks, gdncp_parallel_num_threads(num_blocks), backward_block, &task);
    sum_partials(task.partials, num_blocks, num_heads, grads->A_log.data);
    sum_partials(task.partials + num_heads, num_blocks, num_heads, grads->dt_bias.data);
    gdncp_scratch_close(&scratch);
    return GDNCP_OK;
}
