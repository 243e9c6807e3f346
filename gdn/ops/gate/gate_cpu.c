/* The gate on the CPU: blocks of tokens, and in a block tiles of tokens times heads. */
#include "gate_cpu.h"

#include <math.h>
#include <string.h>

#include "chunk_sums.h"
#include "gate_x86.h"
#include "inline_math.h"
#include "op_parallel.h"
#include "op_scratch.h"
#include "token_rows.h"

#define TILE 512              /* elements */
#define THREAD_ELEMENTS 16384 /* what a thread must have for its start to pay */

/* Heads of several tokens, [tokens, heads], as one run of elements: heads alone may be fewer than
 * the processor works on at a time. */
typedef struct gate_tile {
    int64_t first; /* head */
    int64_t heads;
    int64_t tokens;
    float beta_scale;
    bool has_parameters;
    _Alignas(64) float rate[TILE]; /* -exp(A_log), again for each token */
    _Alignas(64) float dt_bias[TILE];
} gate_tile_t;

/* Rows of a tile that do not lie one after the other as float32. */
typedef struct gate_buffers {
    _Alignas(64) float rows[6][TILE];
} gate_buffers_t;

static int64_t min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* The first `period` values again and again. */
static void repeat(float *values, int64_t period, int64_t count)
{
    for (int64_t filled = period; filled < count; filled *= 2) {
        memcpy(values + filled, values, (size_t)min_i64(filled, count - filled) * sizeof *values);
    }
}

static void start_tile(const gdncp_gate_t *gate, int64_t first, gate_tile_t *tile)
{
    const int64_t left = gate->a.shape[1] - first;

    tile->first = first;
    tile->heads = left < TILE ? left : TILE;
    tile->tokens = TILE / tile->heads;
    tile->beta_scale = gate->allow_neg_eigval ? 2.0f : 1.0f;
    tile->has_parameters = gdncp_gate_has_parameters(gate);
    if (!tile->has_parameters) {
        return;
    }
    for (int64_t h = 0; h < tile->heads; h++) {
        tile->rate[h] = -expf(((const float *)gate->A_log.data)[first + h]);
        tile->dt_bias[h] = ((const float *)gate->dt_bias.data)[first + h];
    }
    repeat(tile->rate, tile->heads, tile->tokens * tile->heads);
    repeat(tile->dt_bias, tile->heads, tile->tokens * tile->heads);
}

static int num_threads_for(const gdncp_gate_t *gate)
{
    return gdncp_parallel_num_threads(
        min_i64(gdncp_num_token_blocks(gate->a.shape[0]),
                gdncp_tensor_num_elements(&gate->a) / THREAD_ELEMENTS));
}

/* Tokens [begin, end) of a block: with sums inside chunks, of the chunks that begin in it. */
typedef struct gate_range {
    int64_t begin;
    int64_t end;
} gate_range_t;

static gate_range_t block_range(const gdncp_gate_t *gate, const gdncp_chunk_sums_t *sums,
                                int64_t block)
{
    const int64_t num_tokens = gate->a.shape[0];
    const int64_t begin = block * gdncp_token_block_size(num_tokens);
    const int64_t end = gdncp_token_block_end(num_tokens, block);

    if (gate->chunk_size == 0) {
        return (gate_range_t){begin, end};
    }
    return (gate_range_t){gdncp_chunk_begin(sums, begin), gdncp_chunk_begin(sums, end)};
}

/* Of tokens from one on, as the kernels for x86 take them. */
static gdncp_gate_elements_t elements_of(const gdncp_gate_t *gate, const gate_tile_t *tile,
                                         int64_t token, int64_t num_tokens)
{
    return (gdncp_gate_elements_t){
        .dtype = gate->a.dtype,
        .count = num_tokens * tile->heads,
        .rate = tile->has_parameters ? tile->rate : NULL,
        .dt_bias = tile->dt_bias,
        .beta_scale = tile->beta_scale,
        .a = gdncp_token_element(&gate->a, token, tile->first),
        .b = gdncp_token_element(&gate->b, token, tile->first),
    };
}

typedef struct forward_task {
    const gdncp_gate_t *gate;
    const gdncp_tensor_t *g;
    const gdncp_tensor_t *beta;
    bool is_direct;          /* elements are read and written as they lie */
    gdncp_chunk_sums_t sums; /* where there is a chunk_size */
} forward_task_t;

/* has_parameters is a constant where this is inlined. */
GDNCP_ALWAYS_INLINE void forward_loop(const bool has_parameters, const gate_tile_t *tile,
                                      const float *a, const float *b, int64_t count,
                                      float *restrict g, float *restrict beta)
{
    const float beta_scale = tile->beta_scale;

    for (int64_t i = 0; i < count; i++) {
        g[i] = has_parameters
                   ? tile->rate[i] * gdncp_split_softplus_f32(a[i] + tile->dt_bias[i]).value
                   : a[i];
        beta[i] = beta_scale * gdncp_sigmoid_f32(b[i]);
    }
}

GDNCP_VECTOR_CLONES
static void forward_elements(const gate_tile_t *tile, const float *a, const float *b, int64_t count,
                             float *restrict g, float *restrict beta)
{
    if (tile->has_parameters) {
        forward_loop(true, tile, a, b, count, g, beta);
    } else {
        forward_loop(false, tile, a, b, count, g, beta);
    }
}

/* All tokens together where none of the tensors has gaps, else one at a time. */
static void forward_tile_directly(const forward_task_t *task, const gate_tile_t *tile,
                                  int64_t token, int64_t num_tokens)
{
    const gdncp_gate_t *const gate = task->gate;
    const int64_t heads = tile->heads;
    const bool is_dense = gdncp_rows_are_dense(&gate->a, num_tokens, heads) &&
                          gdncp_rows_are_dense(&gate->b, num_tokens, heads) &&
                          gdncp_rows_are_dense(task->g, num_tokens, heads) &&
                          gdncp_rows_are_dense(task->beta, num_tokens, heads);
    const int64_t together = is_dense ? num_tokens : 1;

    for (int64_t t = token; t < token + num_tokens; t += together) {
        gdncp_gate_elements_t elements = elements_of(gate, tile, t, together);

        elements.g = gdncp_token_element(task->g, t, tile->first);
        elements.beta = gdncp_token_element(task->beta, t, tile->first);
        gdncp_gate_x86_forward(&elements);
    }
}

static void forward_tile(const forward_task_t *task, const gate_tile_t *tile, int64_t token,
                         int64_t num_tokens)
{
    const gdncp_gate_t *const gate = task->gate;
    const int64_t first = tile->first;
    const int64_t heads = tile->heads;
    gate_buffers_t buffers;
    float *const g = gdncp_rows_output(task->g, token, num_tokens, first, heads, buffers.rows[0]);
    float *const beta =
        gdncp_rows_output(task->beta, token, num_tokens, first, heads, buffers.rows[1]);

    forward_elements(tile,
                     gdncp_rows_load(&gate->a, token, num_tokens, first, heads, buffers.rows[2]),
                     gdncp_rows_load(&gate->b, token, num_tokens, first, heads, buffers.rows[3]),
                     num_tokens * heads, g, beta);
    gdncp_rows_store(task->g, token, num_tokens, first, heads, g);
    gdncp_rows_store(task->beta, token, num_tokens, first, heads, beta);
}

static void forward_block(void *context, int64_t block, int thread)
{
    const forward_task_t *const task = context;
    const gate_range_t range = block_range(task->gate, &task->sums, block);
    gate_tile_t tile;

    (void)thread;
    for (int64_t first = 0; first < task->gate->a.shape[1]; first += TILE) {
        start_tile(task->gate, first, &tile);
        for (int64_t t = range.begin; t < range.end; t += tile.tokens) {
            const int64_t num_tokens = min_i64(range.end - t, tile.tokens);

            (task->is_direct ? forward_tile_directly : forward_tile)(task, &tile, t, num_tokens);
        }
    }
    if (task->gate->chunk_size > 0) {
        gdncp_chunk_sums_cpu(&task->sums, range.begin, range.end);
    }
}

void gdncp_gate_forward_cpu(const gdncp_gate_t *gate, const gdncp_tensor_t *g,
                            const gdncp_tensor_t *beta)
{
    forward_task_t task = {.gate = gate,
                           .g = g,
                           .beta = beta,
                           .is_direct = gdncp_gate_x86_serves(gate),
                           .sums = gdncp_chunk_sums_of(gate, g, g, false)};

    gdncp_parallel_for(gdncp_num_token_blocks(gate->a.shape[0]), num_threads_for(gate),
                       forward_block, &task);
}

typedef struct backward_task {
    const gdncp_gate_t *gate;
    const gdncp_tensor_t *grad_g;
    const gdncp_tensor_t *grad_beta;
    const gdncp_gate_grads_t *grads;
    bool is_direct;          /* as the forward's */
    double *partials;        /* [blocks, 2, Hv]: A_log, dt_bias */
    gdncp_chunk_sums_t sums; /* where there is a chunk_size, as what follows */
    int64_t range_tokens;    /* of a block, at most */
    float *summed;           /* [threads, range_tokens, Hv] */
} backward_task_t;

/* The gradient of the gate's g, from the token `first` on. */
typedef struct grad_g {
    gdncp_tensor_t rows;
    int64_t first;
} grad_g_t;

/* Sums of the parameters' gradients, one for each place in a tile. */
typedef struct gate_sums {
    _Alignas(64) double A_log[TILE];
    _Alignas(64) double dt_bias[TILE];
} gate_sums_t;

/* has_parameters is a constant where this is inlined. */
GDNCP_ALWAYS_INLINE void backward_loop(const bool has_parameters, const gate_tile_t *tile,
                                       const float *a, const float *b, const float *grad_g,
                                       const float *grad_beta, int64_t count,
                                       float *restrict grad_a, float *restrict grad_b,
                                       gate_sums_t *restrict sums)
{
    const float beta_scale = tile->beta_scale;

    for (int64_t i = 0; i < count; i++) {
        /* sigmoid'(b) = e / (1 + e)^2 with e = exp(-|b|): nothing cancels. */
        const float e = gdncp_exp_f32(-fabsf(b[i]));

        grad_b[i] = grad_beta[i] * beta_scale * (e / ((1.0f + e) * (1.0f + e)));
        if (has_parameters) {
            const gdncp_softplus_parts_t softplus =
                gdncp_split_softplus_f32(a[i] + tile->dt_bias[i]);
            const float scaled = grad_g[i] * tile->rate[i];
            const float through_x = scaled * softplus.slope;

            grad_a[i] = through_x;
            sums->A_log[i] += (double)(scaled * softplus.value);
            sums->dt_bias[i] += (double)through_x;
        } else {
            grad_a[i] = grad_g[i];
        }
    }
}

GDNCP_VECTOR_CLONES
static void backward_elements(const gate_tile_t *tile, const float *a, const float *b,
                              const float *grad_g, const float *grad_beta, int64_t count,
                              float *grad_a, float *grad_b, gate_sums_t *sums)
{
    if (tile->has_parameters) {
        backward_loop(true, tile, a, b, grad_g, grad_beta, count, grad_a, grad_b, sums);
    } else {
        backward_loop(false, tile, a, b, grad_g, grad_beta, count, grad_a, grad_b, sums);
    }
}

static void backward_tile_directly(const backward_task_t *task, const gate_tile_t *tile,
                                   const grad_g_t *grad_g, int64_t token, int64_t num_tokens,
                                   gate_sums_t *sums)
{
    const gdncp_gate_t *const gate = task->gate;
    const gdncp_gate_grads_t *const grads = task->grads;
    const int64_t heads = tile->heads;
    const bool is_dense = gdncp_rows_are_dense(&gate->a, num_tokens, heads) &&
                          gdncp_rows_are_dense(&gate->b, num_tokens, heads) &&
                          gdncp_rows_are_dense(&grad_g->rows, num_tokens, heads) &&
                          gdncp_rows_are_dense(task->grad_beta, num_tokens, heads) &&
                          gdncp_rows_are_dense(&grads->a, num_tokens, heads) &&
                          gdncp_rows_are_dense(&grads->b, num_tokens, heads);
    const int64_t together = is_dense ? num_tokens : 1;

    for (int64_t t = 0; t < num_tokens; t += together) {
        gdncp_gate_elements_t elements = elements_of(gate, tile, token + t, together);

        elements.grad_g =
            gdncp_token_element(&grad_g->rows, token + t - grad_g->first, tile->first);
        elements.grad_beta = gdncp_token_element(task->grad_beta, token + t, tile->first);
        elements.grad_a = gdncp_token_element(&grads->a, token + t, tile->first);
        elements.grad_b = gdncp_token_element(&grads->b, token + t, tile->first);
        elements.A_log_sums = sums->A_log + t * heads;
        elements.dt_bias_sums = sums->dt_bias + t * heads;
        gdncp_gate_x86_backward(&elements);
    }
}

static void backward_tile(const backward_task_t *task, const gate_tile_t *tile,
                          const grad_g_t *grad_g, int64_t token, int64_t num_tokens,
                          gate_sums_t *sums)
{
    const gdncp_gate_t *const gate = task->gate;
    const gdncp_gate_grads_t *const grads = task->grads;
    const int64_t first = tile->first;
    const int64_t heads = tile->heads;
    gate_buffers_t buffers;
    float *const grad_a =
        gdncp_rows_output(&grads->a, token, num_tokens, first, heads, buffers.rows[0]);
    float *const grad_b =
        gdncp_rows_output(&grads->b, token, num_tokens, first, heads, buffers.rows[1]);

    backward_elements(
        tile, gdncp_rows_load(&gate->a, token, num_tokens, first, heads, buffers.rows[2]),
        gdncp_rows_load(&gate->b, token, num_tokens, first, heads, buffers.rows[3]),
        gdncp_rows_load(&grad_g->rows, token - grad_g->first, num_tokens, first, heads,
                        buffers.rows[4]),
        gdncp_rows_load(task->grad_beta, token, num_tokens, first, heads, buffers.rows[5]),
        num_tokens * heads, grad_a, grad_b, sums);
    gdncp_rows_store(&grads->a, token, num_tokens, first, heads, grad_a);
    gdncp_rows_store(&grads->b, token, num_tokens, first, heads, grad_b);
}

/* The sum of each head's places: the later tokens onto the earlier ones, by halves. */
GDNCP_VECTOR_CLONES
static void add_places(const gate_tile_t *tile, double *sums, double *by_head)
{
    const int64_t heads = tile->heads;

    for (int64_t tokens = tile->tokens; tokens > 1; tokens -= tokens / 2) {
        const int64_t count = tokens / 2 * heads;
        const double *const later = sums + tokens * heads - count;

        GDNCP_INDEPENDENT_ITERATIONS
        for (int64_t i = 0; i < count; i++) {
            sums[i] += later[i];
        }
    }
    memcpy(by_head + tile->first, sums, (size_t)heads * sizeof *sums);
}

/* As given, or run backward through the sums of the chunks. */
static grad_g_t grad_g_of(const backward_task_t *task, const gate_range_t *range, int thread)
{
    const int64_t num_heads = task->gate->a.shape[1];
    const int64_t shape[2] = {range->end - range->begin, num_heads};
    grad_g_t summed = {*task->grad_g, 0};
    gdncp_chunk_sums_t sums = task->sums;

    if (task->gate->chunk_size == 0) {
        return summed;
    }
    summed.rows = gdncp_tensor_contiguous(task->summed + thread * task->range_tokens * num_heads,
                                          GDNCP_F32, 2, shape);
    summed.first = range->begin;
    sums.out = &summed.rows;
    sums.out_first = summed.first;
    gdncp_chunk_sums_cpu(&sums, range->begin, range->end);
    return summed;
}

static void backward_block(void *context, int64_t block, int thread)
{
    const backward_task_t *const task = context;
    const int64_t num_heads = task->gate->a.shape[1];
    const gate_range_t range = block_range(task->gate, &task->sums, block);
    const grad_g_t grad_g = grad_g_of(task, &range, thread);
    double *const partial = task->partials + block * 2 * num_heads;
    gate_tile_t tile;
    gate_sums_t sums;

    for (int64_t first = 0; first < num_heads; first += TILE) {
        start_tile(task->gate, first, &tile);
        memset(&sums, 0, sizeof sums);
        for (int64_t t = range.begin; t < range.end; t += tile.tokens) {
            (task->is_direct ? backward_tile_directly : backward_tile)(
                task, &tile, &grad_g, t, min_i64(range.end - t, tile.tokens), &sums);
        }
        add_places(&tile, sums.A_log, partial);
        add_places(&tile, sums.dt_bias, partial + num_heads);
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
    const int64_t num_tokens = gate->a.shape[0];
    const int64_t num_heads = gate->a.shape[1];
    const int64_t num_blocks = gdncp_num_token_blocks(num_tokens);
    const int num_threads = num_threads_for(gate);
    backward_task_t task = {.gate = gate,
                            .grad_g = grad_g,
                            .grad_beta = grad_beta,
                            .grads = grads,
                            .is_direct = gdncp_gate_x86_serves(gate),
                            .sums = gdncp_chunk_sums_of(gate, grad_g, NULL, true)};
    const size_t partials_bytes = (size_t)(num_blocks * 2 * num_heads) * sizeof *task.partials;
    size_t sums_bytes = 0;
    gdncp_scratch_t scratch;

    if (gate->chunk_size > 0) {
        task.range_tokens =
            min_i64(num_tokens, gdncp_token_block_size(num_tokens) + task.sums.chunk_size);
        sums_bytes = (size_t)(num_threads * task.range_tokens * num_heads) * sizeof *task.summed;
    }
    const gdncp_status_t status =
        gdncp_scratch_open(workspace, 1, partials_bytes + sums_bytes, &scratch);

    if (status != GDNCP_OK) {
        return status;
    }
    task.partials = (double *)(void *)scratch.memory;
    task.summed = (float *)(void *)(scratch.memory + partials_bytes);
    gdncp_parallel_for(num_blocks, num_threads, backward_block, &task);
    if (gdncp_gate_has_parameters(gate)) {
        sum_partials(task.partials, num_blocks, num_heads, grads->A_log.data);
        sum_partials(task.partials + num_heads, num_blocks, num_heads, grads->dt_bias.data);
    }
    gdncp_scratch_close(&scratch);
    return GDNCP_OK;
}
