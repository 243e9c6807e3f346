/* The L2 norm on the CPU: blocks of tokens, head by head. */
#include "l2norm_cpu.h"

#include <math.h>

#include "inline_math.h"
#include "op_parallel.h"
#include "op_scratch.h"
#include "token_rows.h"

typedef struct norm_task {
    const gdncp_tensor_t *x;
    float eps;
    const gdncp_tensor_t *grad_y; /* NULL: forward */
    const gdncp_tensor_t *out;    /* y or grad_x */
    int64_t heads;                /* whose rows are converted together */
    float *buffers;               /* [threads, 3, heads * d] */
} norm_task_t;

/* Rows whose sums are made before the first of them is scaled by one, so that none waits for the
 * square root and the division of another. */
#define ROWS_AT_A_TIME 16

/* At most ROWS_AT_A_TIME rows of d elements. y may be x. */
GDNCP_VECTOR_CLONES
static void forward_rows(const float *x, float eps, int64_t num_rows, int64_t d, float *y)
{
    float scales[ROWS_AT_A_TIME];

    for (int64_t r = 0; r < num_rows; r++) {
        scales[r] = (float)gdncp_dot_f64(x + r * d, x + r * d, d);
    }
    for (int64_t r = 0; r < num_rows; r++) {
        scales[r] = 1.0f / sqrtf(scales[r] + eps);
    }
    for (int64_t r = 0; r < num_rows; r++) {
        const float scale = scales[r];

        GDNCP_INDEPENDENT_ITERATIONS
        for (int64_t i = r * d; i < (r + 1) * d; i++) {
            y[i] = scale * x[i];
        }
    }
}

GDNCP_VECTOR_CLONES
static void backward_rows(const float *x, const float *grad_y, float eps, int64_t num_rows,
                          int64_t d, float *restrict grad_x)
{
    float scales[ROWS_AT_A_TIME];
    float along_xs[ROWS_AT_A_TIME];

    for (int64_t r = 0; r < num_rows; r++) {
        const gdncp_square_and_dot_t sums = gdncp_square_and_dot_f64(x + r * d, grad_y + r * d, d);

        scales[r] = (float)sums.square;
        along_xs[r] = (float)sums.dot;
    }
    for (int64_t r = 0; r < num_rows; r++) {
        const float scale = 1.0f / sqrtf(scales[r] + eps);

        scales[r] = scale;
        along_xs[r] *= scale * scale;
    }
    for (int64_t r = 0; r < num_rows; r++) {
        const float scale = scales[r];
        const float along_x = along_xs[r];

        for (int64_t i = r * d; i < (r + 1) * d; i++) {
            grad_x[i] = scale * (grad_y[i] - along_x * x[i]);
        }
    }
}

/* Rows of some heads of a token. */
static void norm_strip(const norm_task_t *task, const gdncp_strip_t *strip, float *buffer)
{
    const int64_t d = task->x->shape[2];
    const int64_t size = task->heads * d; /* of a buffer */
    const int64_t token = strip->token;
    const int64_t offset = strip->offset;
    const int64_t count = strip->count;
    const float *const x = gdncp_row_load(task->x, token, offset, count, buffer);
    const float *const grad_y =
        task->grad_y != NULL ? gdncp_row_load(task->grad_y, token, offset, count, buffer + size)
                             : NULL;
    float *const out = gdncp_row_output(task->out, token, offset, buffer + 2 * size);

    for (int64_t i = 0; i < count; i += ROWS_AT_A_TIME * d) {
        const int64_t num_rows = count - i < ROWS_AT_A_TIME * d ? (count - i) / d : ROWS_AT_A_TIME;

        if (grad_y == NULL) {
            forward_rows(x + i, task->eps, num_rows, d, out + i);
        } else {
            backward_rows(x + i, grad_y + i, task->eps, num_rows, d, out + i);
        }
    }
    gdncp_row_store(task->out, token, offset, count, out);
}

static void norm_block(void *context, int64_t block, int thread)
{
    const norm_task_t *const task = context;
    const int64_t num_tokens = task->x->shape[0];
    const int64_t d = task->x->shape[2];
    const int64_t end = gdncp_token_block_end(num_tokens, block);
    const int64_t width = task->x->shape[1] * d;
    const int64_t size = task->heads * d;
    float *const buffer = task->buffers + thread * 3 * size;
    gdncp_strip_t strip =
        gdncp_strip_at(block * gdncp_token_block_size(num_tokens), 0, width, size);

    while (strip.token < end) {
        const gdncp_strip_t next = gdncp_strip_after(&strip, width, size);

        if (next.token < end) {
            gdncp_strip_prefetch(task->x, &next);
            if (task->grad_y != NULL) {
                gdncp_strip_prefetch(task->grad_y, &next);
            }
        }
        norm_strip(task, &strip, buffer);
        strip = next;
    }
}

static gdncp_status_t run(norm_task_t *task, gdncp_workspace_t *workspace)
{
    const int64_t num_blocks = gdncp_num_token_blocks(task->x->shape[0]);
    const int64_t d = task->x->shape[2];
    const int num_threads = gdncp_parallel_num_threads(num_blocks);
    gdncp_scratch_t scratch;

    if (gdncp_tensor_num_elements(task->x) == 0) {
        return GDNCP_OK;
    }
    task->heads = gdncp_heads_together(task->x->shape[1], d);
    const gdncp_status_t status = gdncp_scratch_open(
        workspace, 1, (size_t)(num_threads * 3 * task->heads * d) * sizeof *task->buffers,
        &scratch);

    if (status != GDNCP_OK) {
        return status;
    }
    task->buffers = (float *)(void *)scratch.memory;
    gdncp_parallel_for(num_blocks, num_threads, norm_block, task);
    gdncp_scratch_close(&scratch);
    return GDNCP_OK;
}

gdncp_status_t gdncp_l2norm_forward_cpu(const gdncp_tensor_t *x, float eps, const gdncp_tensor_t *y,
                                        gdncp_workspace_t *workspace)
{
    norm_task_t task = {.x = x, .eps = eps, .out = y};

    return run(&task, workspace);
}

gdncp_status_t gdncp_l2norm_backward_cpu(const gdncp_tensor_t *x, float eps,
                                         const gdncp_tensor_t *grad_y, const gdncp_tensor_t *grad_x,
                                         gdncp_workspace_t *workspace)
{
    norm_task_t task = {.x = x, .eps = eps, .grad_y = grad_y, .out = grad_x};

    return run(&task, workspace);
}
