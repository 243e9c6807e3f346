/* The L2 norm on the CPU: blocks of tokens, head by head. */
#include "l2norm_cpu.h"

#include <math.h>

#include "inline_math.h"
#include "op_parallel.h"
#include "op_scratch.h"
#include "token_rows.h"
#include "vector_math.h"

typedef struct norm_task {
    const gdncp_tensor_t *x;
    float eps;
    const gdncp_tensor_t *grad_y; /* NULL: forward */
    const gdncp_tensor_t *out;    /* y or grad_x */
    float *rows;                  /* [threads, 3, d] */
} norm_task_t;

/* y may be x. */
GDNCP_VECTOR_CLONES
static void forward_row(const float *x, float eps, int64_t count, float *y)
{
    const float scale = 1.0f / sqrtf((float)gdncp_vector_dot(x, x, count) + eps);

#pragma GCC ivdep
    for (int64_t i = 0; i < count; i++) {
        y[i] = scale * x[i];
    }
}

GDNCP_VECTOR_CLONES
static void backward_row(const float *x, const float *grad_y, float eps, int64_t count,
                         float *restrict grad_x)
{
    const float scale = 1.0f / sqrtf((float)gdncp_vector_dot(x, x, count) + eps);
    const float along_x = scale * scale * (float)gdncp_vector_dot(x, grad_y, count);

    for (int64_t i = 0; i < count; i++) {
        grad_x[i] = scale * (grad_y[i] - along_x * x[i]);
    }
}

static void norm_block(void *context, int64_t block, int thread)
{
    const norm_task_t *const task = context;
    const int64_t num_tokens = task->x->shape[0];
    const int64_t d = task->x->shape[2];
    const int64_t begin = block * gdncp_token_block_size(num_tokens);
    const int64_t end = gdncp_token_block_end(num_tokens, block);
    float *const rows = task->rows + thread * 3 * d;

    for (int64_t t = begin; t < end; t++) {
        for (int64_t offset = 0; offset < task->x->shape[1] * d; offset += d) {
            const float *const x = gdncp_row_load(task->x, t, offset, d, rows);
            float *const out = gdncp_row_output(task->out, t, offset, rows + d);

            if (task->grad_y != NULL) {
                const float *const grad_y =
                    gdncp_row_load(task->grad_y, t, offset, d, rows + 2 * d);

                backward_row(x, grad_y, task->eps, d, out);
            } else {
                forward_row(x, task->eps, d, out);
            }
            gdncp_row_store(task->out, t, offset, d, out);
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
    const gdncp_status_t status = gdncp_scratch_open(
        workspace, 1, (size_t)(num_threads * 3 * d) * sizeof *task->rows, &scratch);

    if (status != GDNCP_OK) {
        return status;
    }
    task->rows = (float *)(void *)scratch.memory;
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
