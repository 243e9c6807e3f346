/* The convolution's backward on the CPU: blocks of tokens times tiles of channels. The
 * pre-activation is computed again; W - 1 tokens after a run are too, as its gradients need them.
 */
#include <string.h>

#include "conv1d_cpu.h"
#include "conv1d_tile.h"
#include "inline_math.h"
#include "op_parallel.h"
#include "op_scratch.h"
#include "token_rows.h"

/* Tokens whose parameter gradients are added in float32 before they are added in float64. */
#define FLUSH_TOKENS 64

typedef struct backward_task {
    const gdncp_conv1d_t *conv;
    const gdncp_tensor_t *grad_y;
    const gdncp_conv1d_grads_t *grads;
    int64_t num_tiles;
    double *partials; /* [blocks, W + 1, C]: weight by tap, then bias */
} backward_task_t;

/* One item: a block of tokens and a tile of channels. */
typedef struct backward_item {
    _Alignas(64) float sums[GDNCP_CONV1D_MAX_WIDTH + 1][GDNCP_CONV1D_STRIDE];
    float unused_sums[GDNCP_CONV1D_MAX_WIDTH + 1][GDNCP_CONV1D_STRIDE];
    const gdncp_conv1d_taps_t *taps;
    gdncp_conv1d_tile_t tile;
    const backward_task_t *task;
    double *partial;   /* [W + 1, C], from the tile's first channel on */
    int64_t unflushed; /* tokens in sums */
} backward_item_t;

/* Rows of `tokens` positions. */
typedef struct token_rows {
    int tokens; /* 1 or GDNCP_CONV1D_TOGETHER */
    const float *grad_y[GDNCP_CONV1D_TOGETHER];
    float *grad_u[GDNCP_CONV1D_TOGETHER];
} token_rows_t;

/* grad_u from grad_y, and what it adds to the parameters' gradients. width, silu and tokens are
 * constants where this is inlined. */
GDNCP_ALWAYS_INLINE void backward_loop(const int width, const bool silu, const int tokens,
                                       const gdncp_conv1d_taps_t *taps, const float *const *row,
                                       const token_rows_t *out, int64_t count,
                                       float (*sums)[GDNCP_CONV1D_STRIDE])
{
    GDNCP_INDEPENDENT_ITERATIONS
    for (int64_t c = 0; c < count; c++) {
        float grad[GDNCP_CONV1D_TOGETHER];

        for (int n = 0; n < tokens; n++) {
            const float slope =
                silu ? gdncp_split_silu_f32(gdncp_conv1d_sum(width, taps, row + n, c)).slope : 1.0f;

            grad[n] = out->grad_y[n][c] * slope;
            out->grad_u[n][c] = grad[n];
        }
        for (int i = 0; i < width; i++) {
            float sum = sums[i][c];

            for (int n = 0; n < tokens; n++) {
                sum += row[n + i][c] * grad[n];
            }
            sums[i][c] = sum;
        }
        float sum = sums[width][c];

        for (int n = 0; n < tokens; n++) {
            sum += grad[n];
        }
        sums[width][c] = sum;
    }
}

GDNCP_VECTOR_CLONES
static void backward_inputs(const gdncp_conv1d_taps_t *taps, bool silu, const float *const *row,
                            const token_rows_t *out, int64_t count,
                            float (*sums)[GDNCP_CONV1D_STRIDE])
{
    if (out->tokens == 1 && silu) {
        GDNCP_CONV1D_CALL(taps->width, backward_loop, true, 1, taps, row, out, count, sums);
    } else if (out->tokens == 1) {
        GDNCP_CONV1D_CALL(taps->width, backward_loop, false, 1, taps, row, out, count, sums);
    } else if (silu) {
        GDNCP_CONV1D_CALL(taps->width, backward_loop, true, GDNCP_CONV1D_TOGETHER, taps, row, out,
                          count, sums);
    } else {
        GDNCP_CONV1D_CALL(taps->width, backward_loop, false, GDNCP_CONV1D_TOGETHER, taps, row, out,
                          count, sums);
    }
}

/* The transposed convolution: grad[n][c] = sum_i weight[W - 1 - i][c] row[n + i][c]. */
GDNCP_ALWAYS_INLINE void transposed_loop(const int width, const int tokens,
                                         const gdncp_conv1d_taps_t *taps, const float *const *row,
                                         int64_t count, float *const *grad)
{
    GDNCP_INDEPENDENT_ITERATIONS
    for (int64_t c = 0; c < count; c++) {
        for (int n = 0; n < tokens; n++) {
            float sum = taps->weight[width - 1][c] * row[n][c];

            for (int i = 1; i < width; i++) {
                sum += taps->weight[width - 1 - i][c] * row[n + i][c];
            }
            grad[n][c] = sum;
        }
    }
}

GDNCP_VECTOR_CLONES
static void apply_transposed(const gdncp_conv1d_taps_t *taps, int tokens, const float *const *row,
                             int64_t count, float *const *grad)
{
    if (tokens == 1) {
        GDNCP_CONV1D_CALL(taps->width, transposed_loop, 1, taps, row, count, grad);
    } else {
        GDNCP_CONV1D_CALL(taps->width, transposed_loop, GDNCP_CONV1D_TOGETHER, taps, row, count,
                          grad);
    }
}

static void flush_sums(backward_item_t *item)
{
    const int64_t channels = item->task->conv->x.shape[1];

    for (int i = 0; i <= item->taps->width; i++) {
        for (int64_t c = 0; c < item->tile.count; c++) {
            item->partial[i * channels + c] += (double)item->sums[i][c];
            item->sums[i][c] = 0.0f;
        }
    }
    item->unflushed = 0;
}

/* Push the gradients of the pre-activation at `tokens` positions; inputs end there. The parameters'
 * gradients of tokens after the run belong to the next one. */
static void push_grad_us(backward_item_t *item, const gdncp_conv1d_run_t *run, int64_t position,
                         int tokens, const gdncp_conv1d_rows_t *inputs,
                         gdncp_conv1d_rows_t *grad_us)
{
    const backward_task_t *const task = item->task;
    const gdncp_conv1d_tile_t *const tile = &item->tile;
    const bool in_run = position < run->end;
    _Alignas(64) float buffers[GDNCP_CONV1D_TOGETHER][GDNCP_CONV1D_STRIDE];
    token_rows_t rows = {.tokens = tokens};

    for (int n = 0; n < tokens; n++) {
        gdncp_conv1d_prefetch(tile, run, task->grad_y, position + n);
        gdncp_conv1d_prefetch(tile, run, &task->grads->x, position + n);
        rows.grad_y[n] = gdncp_row_load(task->grad_y, run->first + position + n, tile->first,
                                        tile->count, buffers[n]);
        rows.grad_u[n] = gdncp_conv1d_next_slot(grad_us);
        gdncp_conv1d_push(grad_us, rows.grad_u[n]);
    }
    backward_inputs(item->taps, task->conv->activation == GDNCP_ACTIVATION_SILU,
                    gdncp_conv1d_last(inputs, tokens), &rows, tile->count,
                    in_run ? item->sums : item->unused_sums);
    item->unflushed += in_run ? tokens : 0;
    if (item->unflushed == FLUSH_TOKENS) {
        flush_sums(item);
    }
}

/* The gradients of the input at `tokens` positions: of x, or before position 0 of the window. */
static void write_grad_inputs(const backward_item_t *item, const gdncp_conv1d_run_t *run,
                              int64_t position, int tokens, const gdncp_conv1d_rows_t *grad_us)
{
    const gdncp_conv1d_grads_t *const grads = item->task->grads;
    const gdncp_conv1d_tile_t *const tile = &item->tile;
    const bool in_window = position < 0;
    const gdncp_tensor_t *const out = in_window ? &grads->window : &grads->x;
    const int64_t row = in_window ? run->sequence : run->first + position;
    const int64_t offset =
        (in_window ? (item->taps->width - 1 + position) * out->shape[2] : 0) + tile->first;
    _Alignas(64) float buffers[GDNCP_CONV1D_TOGETHER][GDNCP_CONV1D_STRIDE];
    float *grad[GDNCP_CONV1D_TOGETHER];

    for (int n = 0; n < tokens; n++) {
        grad[n] = gdncp_row_output(out, row + n, offset, buffers[n]);
    }
    apply_transposed(item->taps, tokens, gdncp_conv1d_last(grad_us, tokens), tile->count, grad);
    for (int n = 0; n < tokens; n++) {
        gdncp_row_store(out, row + n, offset, tile->count, grad[n]);
    }
}

/* Tokens to take together: all of the run, with the inputs whose gradients they complete, none of
 * the window, and no more than are still added in float32. */
static int tokens_at(const backward_item_t *item, const gdncp_conv1d_run_t *run, int64_t position)
{
    const bool together = position + GDNCP_CONV1D_TOGETHER <= run->end &&
                          position - item->taps->width + 1 >= run->begin &&
                          item->unflushed + GDNCP_CONV1D_TOGETHER <= FLUSH_TOKENS;

    return together ? GDNCP_CONV1D_TOGETHER : 1;
}

static void backward_run(backward_item_t *item, const gdncp_conv1d_run_t *run)
{
    const int width = item->taps->width;
    const bool wants_window = run->begin == 0 && item->task->grads->window.data != NULL;
    const int64_t first_grad = wants_window ? 1 - width : run->begin;
    gdncp_conv1d_rows_t inputs;
    gdncp_conv1d_rows_t grad_us; /* after position p: up to that of p */
    int tokens;

    gdncp_conv1d_clear_rows(&inputs, width);
    gdncp_conv1d_clear_rows(&grad_us, width);
    for (int64_t position = run->begin - width + 1; position < run->begin; position++) {
        gdncp_conv1d_push_input(&item->tile, run, position, &inputs);
    }
    for (int64_t position = run->begin; position < run->end + width - 1; position += tokens) {
        tokens = tokens_at(item, run, position);
        if (position < run->length) {
            for (int n = 0; n < tokens; n++) {
                gdncp_conv1d_push_input(&item->tile, run, position + n, &inputs);
            }
            push_grad_us(item, run, position, tokens, &inputs, &grad_us);
        } else {
            gdncp_conv1d_push(&grad_us, NULL);
        }
        if (position - width + 1 >= first_grad) {
            write_grad_inputs(item, run, position - width + 1, tokens, &grad_us);
        }
    }
}

static void backward_item(void *context, int64_t index, int thread)
{
    const backward_task_t *const task = context;
    const gdncp_conv1d_t *const conv = task->conv;
    const int64_t block = index / task->num_tiles;
    const int64_t channels = conv->x.shape[1];
    const int64_t width = conv->weight.shape[1];
    const gdncp_conv1d_tile_t tile = gdncp_conv1d_tile(conv, index % task->num_tiles);
    gdncp_conv1d_taps_t taps;
    backward_item_t item = {
        .taps = &taps,
        .tile = tile,
        .task = task,
        .partial = task->partials + block * (width + 1) * channels + tile.first,
    };
    gdncp_conv1d_run_t run;

    (void)thread;
    gdncp_conv1d_load_taps(&tile, &taps);
    for (int64_t i = 0; i <= width; i++) {
        memset(item.partial + i * channels, 0, (size_t)tile.count * sizeof *item.partial);
    }
    for (bool more = gdncp_conv1d_first_run(conv, block, &run); more;
         more = gdncp_conv1d_next_run(conv, block, &run)) {
        backward_run(&item, &run);
    }
    flush_sums(&item);
}

/* Add the other blocks to the first, in their order. */
static void sum_partials(double *partials, int64_t num_blocks, int64_t num_sums)
{
    for (int64_t block = 1; block < num_blocks; block++) {
        for (int64_t i = 0; i < num_sums; i++) {
            partials[i] += partials[block * num_sums + i];
        }
    }
}

/* sums [W + 1, C] to weight [C, W] and bias [C]; NULL where there was no token. */
static void write_parameter_grads(const gdncp_conv1d_t *conv, const double *sums,
                                  const gdncp_conv1d_grads_t *grads)
{
    const int64_t channels = conv->x.shape[1];
    const int64_t width = conv->weight.shape[1];
    float *const weight = grads->weight.data;
    float *const bias = grads->bias.data;

    for (int64_t c = 0; c < channels; c++) {
        for (int64_t i = 0; i < width; i++) {
            weight[c * width + i] = sums != NULL ? (float)sums[i * channels + c] : 0.0f;
        }
        if (bias != NULL) {
            bias[c] = sums != NULL ? (float)sums[width * channels + c] : 0.0f;
        }
    }
}

/* An empty sequence has no run that would write its window's gradient. */
static void clear_empty_windows(const gdncp_conv1d_t *conv, const gdncp_tensor_t *grad_window)
{
    const int64_t elements = grad_window->shape[1] * grad_window->shape[2];

    for (int64_t i = 0; i < conv->num_sequences; i++) {
        if (conv->cu_seqlens[i] == conv->cu_seqlens[i + 1]) {
            memset(gdncp_token_element(grad_window, i, 0), 0,
                   (size_t)elements * gdncp_dtype_size(grad_window->dtype));
        }
    }
}

gdncp_status_t gdncp_conv1d_backward_cpu(const gdncp_conv1d_t *conv, const gdncp_tensor_t *grad_y,
                                         const gdncp_conv1d_grads_t *grads,
                                         gdncp_workspace_t *workspace)
{
    const int64_t num_blocks = gdncp_num_token_blocks(conv->x.shape[0]);
    const int64_t channels = conv->x.shape[1];
    const int64_t num_sums = (conv->weight.shape[1] + 1) * channels; /* of one block */
    backward_task_t task = {
        .conv = conv, .grad_y = grad_y, .grads = grads, .num_tiles = gdncp_conv1d_num_tiles(conv)};
    const int64_t num_items = num_blocks * task.num_tiles;

    gdncp_scratch_t scratch;
    const gdncp_status_t status = gdncp_scratch_open(
        workspace, 1, (size_t)(num_blocks * num_sums) * sizeof *task.partials, &scratch);

    if (status != GDNCP_OK) {
        return status;
    }
    task.partials = (double *)(void *)scratch.memory;
    gdncp_parallel_for(num_items, gdncp_parallel_num_threads(num_items), backward_item, &task);
    sum_partials(task.partials, num_blocks, num_sums);
    write_parameter_grads(conv, num_blocks > 0 ? task.partials : NULL, grads);
    if (grads->window.data != NULL) {
        clear_empty_windows(conv, &grads->window);
    }
    gdncp_scratch_close(&scratch);
    return GDNCP_OK;
}
