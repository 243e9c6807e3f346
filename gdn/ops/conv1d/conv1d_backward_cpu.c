/* The convolution's backward on the CPU: blocks of tokens times tiles of channels. The
 * pre-activation is computed again; W - 1 tokens after a run are too, as its gradients need them.
 */
#include <string.h>

#include "conv1d_cpu.h"
#include "conv1d_tile.h"
#include "conv1d_x86.h"
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
    bool is_direct;   /* rows are read and written as they lie */
} backward_task_t;

/* One item: a block of tokens and a tile of channels. */
typedef struct backward_item {
    _Alignas(64) float sums[GDNCP_CONV1D_MAX_WIDTH + 1][GDNCP_CONV1D_STRIDE];
    float unused_sums[GDNCP_CONV1D_MAX_WIDTH + 1][GDNCP_CONV1D_STRIDE];
    float unused_row[GDNCP_CONV1D_TILE]; /* or as many elements of 16 bits */
    float last_grad_u[GDNCP_CONV1D_MAX_WIDTH - 1][GDNCP_CONV1D_STRIDE]; /* of W - 1 positions */
    const gdncp_conv1d_taps_t *taps;
    gdncp_conv1d_tile_t tile;
    const backward_task_t *task;
    double *partial;   /* [W + 1, C], from the tile's first channel on */
    int64_t unflushed; /* tokens in sums */
} backward_item_t;

/* Rows of a step over `tokens` positions from p on. */
typedef struct step_rows {
    int tokens;            /* 1 or GDNCP_CONV1D_TOGETHER */
    const float *const *x; /* from p - W + 1 on */
    const float *grad_y[GDNCP_CONV1D_TOGETHER];
    float *grad_x[GDNCP_CONV1D_TOGETHER]; /* from p - W + 1 on */
} step_rows_t;

/* Per channel, all from one visit: grad_u = grad_y act'(u), what it adds to the parameters'
 * gradients, and the transposed convolution
 * grad_x[p - W + 1 + n] = sum_i weight[W - 1 - i] grad_u[p - W + 1 + n + i].
 * width, silu and tokens are constants where this is inlined. */
GDNCP_ALWAYS_INLINE void step_loop(const int width, const bool silu, const int tokens,
                                   const step_rows_t *rows, backward_item_t *item,
                                   float (*sums)[GDNCP_CONV1D_STRIDE])
{
    const gdncp_conv1d_taps_t *const taps = item->taps;
    const int64_t count = item->tile.count;

    GDNCP_INDEPENDENT_ITERATIONS
    for (int64_t c = 0; c < count; c++) {
        float grad_u[GDNCP_CONV1D_MAX_WIDTH - 1 + GDNCP_CONV1D_TOGETHER];

        for (int i = 0; i < width - 1; i++) {
            grad_u[i] = item->last_grad_u[i][c];
        }
        for (int n = 0; n < tokens; n++) {
            const float slope =
                silu ? gdncp_split_silu_f32(gdncp_conv1d_sum(width, taps, rows->x + n, c)).slope
                     : 1.0f;

            grad_u[width - 1 + n] = rows->grad_y[n][c] * slope;
        }
        for (int i = 0; i < width; i++) {
            float sum = sums[i][c];

            for (int n = 0; n < tokens; n++) {
                sum += rows->x[n + i][c] * grad_u[width - 1 + n];
            }
            sums[i][c] = sum;
        }
        float sum = sums[width][c];

        for (int n = 0; n < tokens; n++) {
            sum += grad_u[width - 1 + n];
        }
        sums[width][c] = sum;
        for (int n = 0; n < tokens; n++) {
            float grad = taps->weight[width - 1][c] * grad_u[n];

            for (int i = 1; i < width; i++) {
                grad += taps->weight[width - 1 - i][c] * grad_u[n + i];
            }
            rows->grad_x[n][c] = grad;
        }
        for (int i = 0; i < width - 1; i++) {
            item->last_grad_u[i][c] = grad_u[tokens + i];
        }
    }
}

GDNCP_VECTOR_CLONES
static void take_step(const step_rows_t *rows, bool silu, backward_item_t *item,
                      float (*sums)[GDNCP_CONV1D_STRIDE])
{
    const int width = item->taps->width;

    if (rows->tokens == 1 && silu) {
        GDNCP_CONV1D_CALL(width, step_loop, true, 1, rows, item, sums);
    } else if (rows->tokens == 1) {
        GDNCP_CONV1D_CALL(width, step_loop, false, 1, rows, item, sums);
    } else if (silu) {
        GDNCP_CONV1D_CALL(width, step_loop, true, GDNCP_CONV1D_TOGETHER, rows, item, sums);
    } else {
        GDNCP_CONV1D_CALL(width, step_loop, false, GDNCP_CONV1D_TOGETHER, rows, item, sums);
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

/* Where the gradient of an input goes: of x, before position 0 of the window. */
typedef struct grad_place {
    const gdncp_tensor_t *tensor; /* NULL: it is another run's, or nobody's */
    int64_t row;
    int64_t offset;
} grad_place_t;

static grad_place_t grad_place(const backward_item_t *item, const gdncp_conv1d_run_t *run,
                               int64_t position)
{
    const gdncp_conv1d_grads_t *const grads = item->task->grads;
    const gdncp_tensor_t *const window = &grads->window;
    const int64_t before = item->taps->width - 1; /* tokens in a window */

    if (position >= run->begin) {
        return (grad_place_t){&grads->x, run->first + position, item->tile.first};
    }
    if (run->begin > 0 || window->data == NULL) {
        return (grad_place_t){NULL, 0, 0};
    }
    return (grad_place_t){window, run->sequence,
                          (before + position) * window->shape[2] + item->tile.first};
}

/* Where the parameters' gradients of `tokens` positions are added: those of tokens after the run
 * belong to the next one. */
static float (*sums_at(backward_item_t *item, const gdncp_conv1d_run_t *run, int64_t position,
                       int tokens))[GDNCP_CONV1D_STRIDE]
{
    if (position >= run->end) {
        return item->unused_sums;
    }
    if (item->unflushed + tokens > FLUSH_TOKENS) {
        flush_sums(item);
    }
    item->unflushed += tokens;
    return item->sums;
}

/* The gradients of `tokens` positions' outputs; inputs end at the last of them. After the sequence
 * there are none: they are zero. */
static void backward_step(backward_item_t *item, const gdncp_conv1d_run_t *run, int64_t position,
                          int tokens, const gdncp_conv1d_rows_t *inputs)
{
    const backward_task_t *const task = item->task;
    const gdncp_conv1d_tile_t *const tile = &item->tile;
    const bool in_sequence = position < run->length;
    _Alignas(64) float grad_y[GDNCP_CONV1D_TOGETHER][GDNCP_CONV1D_STRIDE];
    _Alignas(64) float grad_x[GDNCP_CONV1D_TOGETHER][GDNCP_CONV1D_STRIDE];
    grad_place_t places[GDNCP_CONV1D_TOGETHER];
    step_rows_t rows = {.tokens = tokens, .x = gdncp_conv1d_last(inputs, tokens)};

    for (int n = 0; n < tokens; n++) {
        gdncp_conv1d_prefetch(tile, run, task->grad_y, position + n);
        gdncp_conv1d_prefetch(tile, run, &task->grads->x, position + n);
        rows.grad_y[n] = in_sequence ? gdncp_row_load(task->grad_y, run->first + position + n,
                                                      tile->first, tile->count, grad_y[n])
                                     : gdncp_conv1d_zeros;
        places[n] = grad_place(item, run, position - item->taps->width + 1 + n);
        rows.grad_x[n] =
            places[n].tensor != NULL
                ? gdncp_row_output(places[n].tensor, places[n].row, places[n].offset, grad_x[n])
                : grad_x[n];
    }
    take_step(&rows, in_sequence && task->conv->activation == GDNCP_ACTIVATION_SILU, item,
              sums_at(item, run, position, tokens));
    for (int n = 0; n < tokens; n++) {
        if (places[n].tensor != NULL) {
            gdncp_row_store(places[n].tensor, places[n].row, places[n].offset, tile->count,
                            rows.grad_x[n]);
        }
    }
}

static void backward_step_directly(backward_item_t *item, const gdncp_conv1d_run_t *run,
                                   int64_t position, int tokens)
{
    const backward_task_t *const task = item->task;
    const gdncp_conv1d_tile_t *const tile = &item->tile;
    const int64_t first = position - item->taps->width + 1;
    const bool in_sequence = position < run->length;
    gdncp_conv1d_x86_rows_t rows = {
        .dtype = task->conv->x.dtype,
        .outer = task->grad_y->dtype,
        .tokens = tokens,
        .silu = in_sequence && task->conv->activation == GDNCP_ACTIVATION_SILU,
        .streams = gdncp_conv1d_x86_streams(&task->grads->x),
        .count = tile->count,
        .last_grad_u = item->last_grad_u,
        .sums = sums_at(item, run, position, tokens),
    };

    for (int i = 0; i < item->taps->width - 1 + tokens; i++) {
        rows.x[i] = gdncp_conv1d_input(tile, run, first + i);
    }
    for (int n = 0; n < tokens; n++) {
        const grad_place_t place = grad_place(item, run, first + n);

        rows.grad_y[n] =
            in_sequence ? gdncp_token_element(task->grad_y, run->first + position + n, tile->first)
                        : gdncp_conv1d_zeros;
        rows.out[n] = place.tensor != NULL
                          ? gdncp_token_element(place.tensor, place.row, place.offset)
                          : item->unused_row;
    }
    gdncp_conv1d_x86_backward(item->taps, &rows);
}

static void backward_run(backward_item_t *item, const gdncp_conv1d_run_t *run)
{
    const int width = item->taps->width;
    gdncp_conv1d_rows_t inputs;
    int tokens;

    gdncp_conv1d_clear_rows(&inputs, width);
    memset(item->last_grad_u, 0, (size_t)(width - 1) * sizeof *item->last_grad_u);
    for (int64_t position = run->begin - width + 1; position < run->begin; position++) {
        gdncp_conv1d_push_input(&item->tile, run, position, &inputs);
    }
    for (int64_t position = run->begin; position < run->end + width - 1; position += tokens) {
        tokens = gdncp_conv1d_tokens_at(position, run->end);
        for (int n = 0; n < tokens; n++) {
            gdncp_conv1d_push_input(&item->tile, run, position + n, &inputs);
        }
        backward_step(item, run, position, tokens, &inputs);
    }
}

static void backward_run_directly(backward_item_t *item, const gdncp_conv1d_run_t *run)
{
    const int64_t end = run->end + item->taps->width - 1;
    int tokens;

    memset(item->last_grad_u, 0, (size_t)(item->taps->width - 1) * sizeof *item->last_grad_u);
    for (int64_t position = run->begin; position < end; position += tokens) {
        tokens = gdncp_conv1d_tokens_at(position, run->end);
        backward_step_directly(item, run, position, tokens);
    }
    gdncp_conv1d_x86_fence();
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
    backward_item_t item; /* its rows are too long to be set to zero where they are not used */
    gdncp_conv1d_run_t run;

    (void)thread;
    gdncp_conv1d_load_taps(&tile, &taps);
    item.taps = &taps;
    item.tile = tile;
    item.task = task;
    item.partial = task->partials + block * (width + 1) * channels + tile.first;
    item.unflushed = 0;
    memset(item.sums, 0, (size_t)(width + 1) * sizeof *item.sums);
    memset(item.unused_sums, 0, (size_t)(width + 1) * sizeof *item.unused_sums);
    for (int64_t i = 0; i <= width; i++) {
        memset(item.partial + i * channels, 0, (size_t)tile.count * sizeof *item.partial);
    }
    for (bool more = gdncp_conv1d_first_run(conv, block, &run); more;
         more = gdncp_conv1d_next_run(conv, block, &run)) {
        (task->is_direct ? backward_run_directly : backward_run)(&item, &run);
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
                            .num_tiles = gdncp_conv1d_num_tiles(conv),
                            .is_direct = gdncp_conv1d_x86_serves(conv)};
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
