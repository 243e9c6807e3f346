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

/* y may be x. */
GDNCP_VECTOR_CLONES
static void forward_row(const float *x, float eps, int64_t count, float *y)
{
    const float scale = 1.0f / sqrtf((float)gdncp_dot_f64(x, x, count) + eps);

    GDNCP_INDEPENDENT_ITERATIONS
    for (int64_t i = 0; i < count; i++) {
        y[i] = scale * x[i];
    }
}

GDNCP_VECTOR_CLONES
static void backward_row(const float *x, const float *grad_y, float eps, int64_t count,
                         float *restrict grad_x)
{
    const float scale = 1.0f / sqrtf((float)gdncp_dot_f64(x, x, count) + eps);
    const float along_x = scale * scale * (float)gdncp_dot_f64(x, grad_y, count);

    for (int64_t i = 0; i < count; i++) {
        grad_x[i] = scale * (grad_y[i] - along_x * x[i]);
    }
}

/* Rows of some heads of a token: `count` elements from `offset` on. */
static void norm_heads(const norm_task_t *task, int64_t token, int64_t offset, int64_t count,
                       float *buffer)
{
    const int64_t d = task->x->shape[2];
    const int64_t size = task->heads * d; /* of a buffer */
    const float *const x = gdncp_row_load(task->x, token, offset, count, buffer);
    float *const out = gdncp_row_output(task->out, token, offset, buffer + size);

    if (task->grad_y == NULL) {
        for (int64_t i = 0; i < count; i += d) {
            forward_row(x + i, task->eps, d, out + i);
        }
    } else {
        const float *const grad_y =
            gdncp_row_load(task->grad_y, token, offset, count, buffer + 2 * size);

        for (int64_t i = 0; i < count; i += d) {
            backward_row(x + i, grad_y + i, task->eps, d, out + i);
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

    for (int64_t t = block * gdncp_token_block_size(num_tokens); t < end; t++) {
        for (int64_t offset = 0; offset < width; offset += size) {
            norm_heads(task, t, offset, width - offset < size ? width - offset : size,
                       task->buffers + thread * 3 * size);
        }
    }
}

static gdncp_status_t run(norm_task_t *task, gdncp_workspace_t *workspace)
{
    const int64_t num_blocks = gdncp_num_token_blocks(task->x->shape[0]);
    const int64_t d = task->x->shape[2];
    const int num_threads = gdncp_parallel_num_threads(num_blocks);
    gdncp_scratch_t scratch;

    if (d == 0) {
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
