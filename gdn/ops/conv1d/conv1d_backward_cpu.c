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
    const backward_task_t *task;
    gdncp_conv1d_tile_t tile;
    gdncp_conv1d_taps_t taps;
    gdncp_conv1d_taps_t reversed; /* of the transposed convolution: newest tap first, no bias */
    int64_t unflushed;            /* tokens in sums */
    float sums[GDNCP_CONV1D_MAX_WIDTH + 1][GDNCP_CONV1D_TILE];
    double *partial; /* [W + 1, C], from the tile's first channel on */
} backward_item_t;

static void reverse_taps(const gdncp_conv1d_taps_t *taps, gdncp_conv1d_taps_t *reversed)
{
    reversed->width = taps->width;
    for (int i = 0; i < taps->width; i++) {
        memcpy(reversed->weight[i], taps->weight[taps->width - 1 - i], sizeof taps->weight[i]);
    }
    memset(reversed->bias, 0, sizeof reversed->bias);
}

/* grad_u holds the pre-activation, and then its gradient. */
GDNCP_VECTOR_CLONES
static void silu_backward(const float *grad_y, int64_t count, float *restrict grad_u)
{
    for (int64_t c = 0; c < count; c++) {
        const float open = gdncp_sigmoid_f32(grad_u[c]);
        const float silu = grad_u[c] * open;

        grad_u[c] = grad_y[c] * (open * (1.0f + (grad_u[c] - silu)));
    }
}

GDNCP_VECTOR_CLONES
static void add_products(const float *a, const float *b, int64_t count, float *restrict sum)
{
    for (int64_t c = 0; c < count; c++) {
        sum[c] += a[c] * b[c];
    }
}

GDNCP_VECTOR_CLONES
static void add_row(const float *a, int64_t count, float *restrict sum)
{
    for (int64_t c = 0; c < count; c++) {
        sum[c] += a[c];
    }
}

static void flush_sums(backward_item_t *item)
{
    const int64_t channels = item->task->conv->x.shape[1];

    for (int i = 0; i <= item->taps.width; i++) {
        for (int64_t c = 0; c < item->tile.count; c++) {
            item->partial[i * channels + c] += (double)item->sums[i][c];
        }
    }
    memset(item->sums, 0, sizeof item->sums);
    item->unflushed = 0;
}

static void add_parameter_grads(backward_item_t *item, const gdncp_conv1d_rows_t *inputs,
                                const float *grad_u)
{
    for (int i = 0; i < inputs->width; i++) {
        add_products(inputs->row[i], grad_u, item->tile.count, item->sums[i]);
    }
    add_row(grad_u, item->tile.count, item->sums[inputs->width]);
    item->unflushed++;
    if (item->unflushed == FLUSH_TOKENS) {
        flush_sums(item);
    }
}

/* Push the gradient of the pre-activation at a position; inputs end there. */
static const float *push_grad_u(const backward_item_t *item, const gdncp_conv1d_run_t *run,
                                int64_t position, const gdncp_conv1d_rows_t *inputs,
                                gdncp_conv1d_rows_t *grad_us)
{
    const backward_task_t *const task = item->task;
    const gdncp_conv1d_tile_t *const tile = &item->tile;
    float *const grad_u = gdncp_conv1d_next_slot(grad_us);
    float buffer[GDNCP_CONV1D_TILE];
    const float *const grad_y =
        gdncp_row_load(task->grad_y, run->first + position, tile->first, tile->count, buffer);

    if (task->conv->activation == GDNCP_ACTIVATION_SILU) {
        gdncp_conv1d_apply(&item->taps, inputs, tile->count, grad_u);
        silu_backward(grad_y, tile->count, grad_u);
    } else {
        memcpy(grad_u, grad_y, (size_t)tile->count * sizeof *grad_u);
    }
    gdncp_conv1d_push(grad_us, grad_u);
    return grad_u;
}

/* The gradient of the input at a position: of x, or before position 0 of the window. */
static void write_grad_input(const backward_item_t *item, const gdncp_conv1d_run_t *run,
                             int64_t position, const gdncp_conv1d_rows_t *grad_us)
{
    const gdncp_conv1d_grads_t *const grads = item->task->grads;
    const gdncp_conv1d_tile_t *const tile = &item->tile;
    const bool in_window = position < 0;
    const gdncp_tensor_t *const out = in_window ? &grads->window : &grads->x;
    const int64_t row = in_window ? run->sequence : run->first + position;
    const int64_t offset =
        (in_window ? (item->taps.width - 1 + position) * out->shape[2] : 0) + tile->first;
    float buffer[GDNCP_CONV1D_TILE];
    float *const grad = gdncp_row_output(out, row, offset, buffer);

    gdncp_conv1d_apply(&item->reversed, grad_us, tile->count, grad);
    gdncp_row_store(out, row, offset, tile->count, grad);
}

static void backward_run(backward_item_t *item, const gdncp_conv1d_run_t *run)
{
    const int width = item->taps.width;
    const bool wants_window = run->begin == 0 && item->task->grads->window.data != NULL;
    const int64_t first_grad = wants_window ? 1 - width : run->begin;
    gdncp_conv1d_rows_t inputs;
    gdncp_conv1d_rows_t grad_us; /* after position p: of positions p - W + 1 .. p */

    gdncp_conv1d_clear_rows(&inputs, width);
    gdncp_conv1d_clear_rows(&grad_us, width);
    for (int64_t position = run->begin - width + 1; position < run->begin; position++) {
        gdncp_conv1d_push_input(&item->tile, run, position, &inputs);
    }
    for (int64_t position = run->begin; position < run->end + width - 1; position++) {
        if (position < run->length) {
            gdncp_conv1d_push_input(&item->tile, run, position, &inputs);
            const float *const grad_u = push_grad_u(item, run, position, &inputs, &grad_us);

            if (position < run->end) {
                add_parameter_grads(item, &inputs, grad_u);
            }
        } else {
            gdncp_conv1d_push(&grad_us, NULL);
        }
        if (position - width + 1 >= first_grad) {
            write_grad_input(item, run, position - width + 1, &grad_us);
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
    backward_item_t item = {.task = task, .tile = gdncp_conv1d_tile(conv, index % task->num_tiles)};
    gdncp_conv1d_run_t run;

    (void)thread;
    gdncp_conv1d_load_taps(&item.tile, &item.taps);
    reverse_taps(&item.taps, &item.reversed);
    item.partial = task->partials + block * (width + 1) * channels + item.tile.first;
    for (int64_t i = 0; i <= width; i++) {
        memset(item.partial + i * channels, 0, (size_t)item.tile.count * sizeof *item.partial);
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
    backward_task_t task = {.conv = conv,
                            .grad_y = grad_y,
                            .grads = grads,
                            .num_tiles = gdncp_conv1d_num_tiles(channels)};
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
