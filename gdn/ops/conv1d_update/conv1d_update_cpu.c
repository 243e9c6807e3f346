/* The update of the convolution on the CPU: blocks of sequences times tiles of channels. */
#include "conv1d_update_cpu.h"

#include <string.h>

#include "conv1d_tile.h"
#include "conv1d_x86.h"
#include "op_parallel.h"
#include "token_rows.h"

/* Sequences of a block: enough that loading a tile's taps is little of its work. */
#define SEQUENCES 16

typedef struct update_task {
    const gdncp_update_problem_t *problem;
    const gdncp_tensor_t *y;
    int64_t num_tiles;
    bool is_direct; /* rows are read and written as they lie */
} update_task_t;

/* The tokens of one sequence in one tile of channels. */
typedef struct update_run {
    const update_task_t *task;
    gdncp_conv1d_tile_t tile;
    int64_t slot;
    int64_t window_row; /* of the slot, where the window starts; negative: it is zeros */
    int64_t first;      /* token of the pack at position 0 */
    int64_t length;
} update_run_t;

/* Where in the pool the input before the sequence lies, by position < 0. */
static int64_t window_offset(const update_run_t *run, int64_t position)
{
    const int64_t row = run->window_row + run->task->problem->window_rows + position;

    return row * run->task->problem->conv.x.shape[1] + run->tile.first;
}

/* The input row at a position as it lies in memory, in x, in the pool, or zeros. */
static const void *input_at(const update_run_t *run, int64_t position)
{
    const gdncp_update_problem_t *const problem = run->task->problem;

    if (position >= 0) {
        return gdncp_token_element(&problem->conv.x, run->first + position, run->tile.first);
    }
    if (run->window_row >= 0) {
        return gdncp_token_element(&problem->update->states, run->slot,
                                   window_offset(run, position));
    }
    return gdncp_conv1d_zeros;
}

static void write_outputs_directly(const update_run_t *run, const gdncp_conv1d_taps_t *taps)
{
    const gdncp_conv1d_t *const conv = run->tile.conv;
    gdncp_conv1d_x86_rows_t rows = {.dtype = conv->x.dtype,
                                    .outer = run->task->y->dtype,
                                    .silu = conv->activation == GDNCP_ACTIVATION_SILU,
                                    .count = run->tile.count};

    for (int64_t position = 0; position < run->length; position += rows.tokens) {
        rows.tokens = gdncp_conv1d_tokens_at(position, run->length);
        for (int i = 0; i < taps->width - 1 + rows.tokens; i++) {
            rows.x[i] = input_at(run, position - taps->width + 1 + i);
        }
        for (int n = 0; n < rows.tokens; n++) {
            rows.out[n] =
                gdncp_token_element(run->task->y, run->first + position + n, run->tile.first);
        }
        gdncp_conv1d_x86_forward(taps, &rows);
    }
}

static void write_outputs(const update_run_t *run, const gdncp_conv1d_taps_t *taps)
{
    const gdncp_tensor_t *const y = run->task->y;
    const gdncp_conv1d_tile_t *const tile = &run->tile;
    gdncp_conv1d_rows_t rows;
    float buffer[GDNCP_CONV1D_TILE];

    gdncp_conv1d_clear_rows(&rows, taps->width);
    for (int64_t position = 1 - taps->width; position < run->length; position++) {
        gdncp_conv1d_push(tile->conv->x.dtype, input_at(run, position), tile->count, &rows);
        if (position < 0) {
            continue;
        }
        float *const out = gdncp_row_output(y, run->first + position, tile->first, buffer);

        gdncp_conv1d_apply(taps, tile->conv->activation, &rows, 1, tile->count, &out);
        gdncp_row_store(y, run->first + position, tile->first, tile->count, out);
    }
}

/* In order: a row of the window is read before its place is written, as it moves to a lower row. */
static void keep_inputs(const update_run_t *run)
{
    const gdncp_update_problem_t *const problem = run->task->problem;
    const gdncp_tensor_t *const states = &problem->update->states;
    const int64_t channels = problem->conv.x.shape[1];
    const int64_t first_kept = gdncp_update_first_kept(problem, run->length);
    const size_t bytes = (size_t)run->tile.count * gdncp_dtype_size(states->dtype);

    for (int64_t position = first_kept; position < run->length; position++) {
        void *const kept = gdncp_token_element(
            states, run->slot, (position - first_kept) * channels + run->tile.first);

        memcpy(kept, input_at(run, position), bytes);
    }
}

static void clear_outputs(const update_run_t *run)
{
    const gdncp_tensor_t *const y = run->task->y;

    for (int64_t position = 0; position < run->length; position++) {
        memset(gdncp_token_element(y, run->first + position, run->tile.first), 0,
               (size_t)run->tile.count * gdncp_dtype_size(y->dtype));
    }
}

static void update_sequence(const update_task_t *task, const gdncp_conv1d_tile_t *tile,
                            const gdncp_conv1d_taps_t *taps, int64_t sequence)
{
    const gdncp_update_problem_t *const problem = task->problem;
    const int64_t first = problem->conv.cu_seqlens[sequence];
    update_run_t run = {.task = task,
                        .tile = *tile,
                        .first = first,
                        .length = problem->conv.cu_seqlens[sequence + 1] - first};

    if (run.length == 0) {
        return;
    }
    run.slot = gdncp_index_at(&problem->update->slots, sequence);
    if (run.slot < 0) {
        clear_outputs(&run);
        return;
    }
    run.window_row = gdncp_update_has_window(problem, sequence)
                         ? gdncp_update_window_row(problem, sequence)
                         : -1;
    (task->is_direct ? write_outputs_directly : write_outputs)(&run, taps);
    keep_inputs(&run);
}

static void update_item(void *context, int64_t item, int thread)
{
    const update_task_t *const task = context;
    const gdncp_conv1d_t *const conv = &task->problem->conv;
    const gdncp_conv1d_tile_t tile = gdncp_conv1d_tile(conv, item % task->num_tiles);
    const int64_t begin = item / task->num_tiles * SEQUENCES;
    gdncp_conv1d_taps_t taps;

    (void)thread;
    gdncp_conv1d_load_taps(&tile, &taps);
    for (int64_t n = begin; n < begin + SEQUENCES && n < conv->num_sequences; n++) {
        update_sequence(task, &tile, &taps, n);
    }
}

void gdncp_conv1d_update_cpu(const gdncp_update_problem_t *problem, const gdncp_tensor_t *y)
{
    update_task_t task = {.problem = problem,
                          .y = y,
                          .num_tiles = gdncp_conv1d_num_tiles(&problem->conv),
                          .is_direct = gdncp_conv1d_x86_serves(&problem->conv)};
    const int64_t num_blocks = (problem->conv.num_sequences + SEQUENCES - 1) / SEQUENCES;
    const int64_t num_items = num_blocks * task.num_tiles;

    gdncp_parallel_for(num_items, gdncp_parallel_num_threads(num_items), update_item, &task);
}
