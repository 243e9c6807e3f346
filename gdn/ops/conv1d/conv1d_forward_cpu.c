/* The convolution's forward on the CPU: blocks of tokens times tiles of channels. */
#include <string.h>

#include "conv1d_cpu.h"
#include "conv1d_tile.h"
#include "conv1d_x86.h"
#include "op_parallel.h"
#include "token_rows.h"

typedef struct forward_task {
    const gdncp_conv1d_t *conv;
    const gdncp_tensor_t *y;
    int64_t num_tiles;
    bool is_direct; /* rows are read and written as they lie */
} forward_task_t;

/* The outputs of `tokens` positions whose inputs were pushed. */
static void write_outputs(const forward_task_t *task, const gdncp_conv1d_tile_t *tile,
                          const gdncp_conv1d_taps_t *taps, const gdncp_conv1d_rows_t *rows,
                          int64_t token, int tokens)
{
    _Alignas(64) float buffers[GDNCP_CONV1D_TOGETHER][GDNCP_CONV1D_STRIDE];
    float *y[GDNCP_CONV1D_TOGETHER];

    for (int n = 0; n < tokens; n++) {
        y[n] = gdncp_row_output(task->y, token + n, tile->first, buffers[n]);
    }
    gdncp_conv1d_apply(taps, task->conv->activation, rows, tokens, tile->count, y);
    for (int n = 0; n < tokens; n++) {
        gdncp_row_store(task->y, token + n, tile->first, tile->count, y[n]);
    }
}

static void forward_run_directly(const forward_task_t *task, const gdncp_conv1d_tile_t *tile,
                                 const gdncp_conv1d_taps_t *taps, const gdncp_conv1d_run_t *run)
{
    gdncp_conv1d_x86_rows_t rows = {.dtype = task->conv->x.dtype,
                                    .outer = task->y->dtype,
                                    .silu = task->conv->activation == GDNCP_ACTIVATION_SILU,
                                    .streams = gdncp_conv1d_x86_streams(task->y),
                                    .count = tile->count};

    for (int64_t position = run->begin; position < run->end; position += rows.tokens) {
        rows.tokens = gdncp_conv1d_tokens_at(position, run->end);
        for (int i = 0; i < taps->width - 1 + rows.tokens; i++) {
            rows.x[i] = gdncp_conv1d_input(tile, run, position - taps->width + 1 + i);
        }
        for (int n = 0; n < rows.tokens; n++) {
            rows.out[n] = gdncp_token_element(task->y, run->first + position + n, tile->first);
        }
        gdncp_conv1d_x86_forward(taps, &rows);
    }
    gdncp_conv1d_x86_fence();
}

static void forward_run(const forward_task_t *task, const gdncp_conv1d_tile_t *tile,
                        const gdncp_conv1d_taps_t *taps, const gdncp_conv1d_run_t *run)
{
    gdncp_conv1d_rows_t rows;
    int tokens;

    gdncp_conv1d_clear_rows(&rows, taps->width);
    for (int64_t position = run->begin - taps->width + 1; position < run->begin; position++) {
        gdncp_conv1d_push_input(tile, run, position, &rows);
    }
    for (int64_t position = run->begin; position < run->end; position += tokens) {
        tokens = gdncp_conv1d_tokens_at(position, run->end);
        for (int n = 0; n < tokens; n++) {
            gdncp_conv1d_push_input(tile, run, position + n, &rows);
            gdncp_conv1d_prefetch(tile, run, task->y, position + n);
        }
        write_outputs(task, tile, taps, &rows, run->first + position, tokens);
    }
}

static void forward_item(void *context, int64_t item, int thread)
{
    const forward_task_t *const task = context;
    const int64_t block = item / task->num_tiles;
    const gdncp_conv1d_tile_t tile = gdncp_conv1d_tile(task->conv, item % task->num_tiles);
    gdncp_conv1d_taps_t taps;
    gdncp_conv1d_run_t run;

    (void)thread;
    gdncp_conv1d_load_taps(&tile, &taps);
    for (bool more = gdncp_conv1d_first_run(task->conv, block, &run); more;
         more = gdncp_conv1d_next_run(task->conv, block, &run)) {
        (task->is_direct ? forward_run_directly : forward_run)(task, &tile, &taps, &run);
    }
}

/* Row w of a final window is position length - (W-1) + w. */
static void write_final_window(const gdncp_conv1d_t *conv, int64_t sequence,
                               const gdncp_tensor_t *final_window)
{
    const int64_t rows = final_window->shape[1];
    const int64_t channels = final_window->shape[2];
    const size_t row_bytes = (size_t)channels * gdncp_dtype_size(final_window->dtype);
    const int64_t first = conv->cu_seqlens[sequence];
    const int64_t length = conv->cu_seqlens[sequence + 1] - first;

    for (int64_t w = 0; w < rows; w++) {
        const int64_t position = length - rows + w;
        void *const out = gdncp_token_element(final_window, sequence, w * channels);

        if (position >= 0) {
            memcpy(out, gdncp_token_element(&conv->x, first + position, 0), row_bytes);
        } else if (conv->window.data != NULL) {
            memcpy(out, gdncp_token_element(&conv->window, sequence, (rows + position) * channels),
                   row_bytes);
        } else {
            memset(out, 0, row_bytes);
        }
    }
}

void gdncp_conv1d_forward_cpu(const gdncp_conv1d_t *conv, const gdncp_tensor_t *y,
                              const gdncp_tensor_t *final_window)
{
    forward_task_t task = {.conv = conv,
                           .y = y,
                           .num_tiles = gdncp_conv1d_num_tiles(conv),
                           .is_direct = gdncp_conv1d_x86_serves(conv)};
    const int64_t num_items = gdncp_num_token_blocks(conv->x.shape[0]) * task.num_tiles;

    gdncp_parallel_for(num_items, gdncp_parallel_num_threads(num_items), forward_item, &task);
    for (int64_t i = 0; final_window != NULL && i < conv->num_sequences; i++) {
        write_final_window(conv, i, final_window);
    }
}
