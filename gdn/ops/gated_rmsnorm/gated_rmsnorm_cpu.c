/* The gated RMSNorm on the CPU: blocks of tokens, head by head. */
#include "gated_rmsnorm_cpu.h"

#include <math.h>
#include <string.h>

#include "inline_math.h"
#include "op_parallel.h"
#include "op_scratch.h"
#include "token_rows.h"
#include "vector_math.h"

#define FORWARD_ROWS 3
#define BACKWARD_ROWS 6

typedef struct norm_task {
    const gdncp_gated_rmsnorm_t *norm;
    const gdncp_tensor_t *y;      /* forward */
    const gdncp_tensor_t *grad_y; /* backward, as what follows */
    const gdncp_gated_rmsnorm_grads_t *grads;
    double *partials; /* [blocks, d] of the weight's gradient */
    float *rows;      /* [threads, FORWARD_ROWS or BACKWARD_ROWS, d] */
} norm_task_t;

GDNCP_ALWAYS_INLINE float inverse_rms(const float *x, float eps, int64_t count)
{
    return 1.0f / sqrtf((float)gdncp_vector_dot(x, x, count) / (float)count + eps);
}

GDNCP_VECTOR_CLONES
static void forward_row(const float *x, const float *z, const float *weight, float eps,
                        int64_t count, float *restrict y)
{
    const float scale = inverse_rms(x, eps, count);

    for (int64_t i = 0; i < count; i++) {
        y[i] = scale * x[i] * weight[i] * (z[i] * gdncp_sigmoid_f32(z[i]));
    }
}

/* grad_normed [count] is scratch: the gradient of x times the inverse RMS. */
GDNCP_VECTOR_CLONES
static void backward_row(const float *x, const float *z, const float *grad_y, const float *weight,
                         float eps, int64_t count, float *restrict grad_normed,
                         float *restrict grad_x, float *restrict grad_z,
                         double *restrict grad_weight)
{
    const float scale = inverse_rms(x, eps, count);

    for (int64_t i = 0; i < count; i++) {
        const float open = gdncp_sigmoid_f32(z[i]);
        const float silu = z[i] * open;
        const float normed = scale * x[i];
        const float grad_scaled = grad_y[i] * silu;

        grad_normed[i] = grad_scaled * weight[i];
        grad_weight[i] += (double)(grad_scaled * normed);
        grad_z[i] = grad_y[i] * normed * weight[i] * (open * (1.0f + (z[i] - silu)));
    }
    const float along_x =
        scale * scale * (float)gdncp_vector_dot(grad_normed, x, count) / (float)count;

    for (int64_t i = 0; i < count; i++) {
        grad_x[i] = scale * (grad_normed[i] - along_x * x[i]);
    }
}

static void forward_block(void *context, int64_t block, int thread)
{
    const norm_task_t *const task = context;
    const gdncp_gated_rmsnorm_t *const norm = task->norm;
    const int64_t num_tokens = norm->x.shape[0];
    const int64_t d = norm->x.shape[2];
    const int64_t begin = block * gdncp_token_block_size(num_tokens);
    const int64_t end = gdncp_token_block_end(num_tokens, block);
    float *const rows = task->rows + thread * FORWARD_ROWS * d;

    for (int64_t t = begin; t < end; t++) {
        for (int64_t offset = 0; offset < norm->x.shape[1] * d; offset += d) {
            float *const y = gdncp_row_output(task->y, t, offset, rows + 2 * d);

            forward_row(gdncp_row_load(&norm->x, t, offset, d, rows),
                        gdncp_row_load(&norm->z, t, offset, d, rows + d), norm->weight.data,
                        norm->eps, d, y);
            gdncp_row_store(task->y, t, offset, d, y);
        }
    }
}

static void backward_block(void *context, int64_t block, int thread)
{
    const norm_task_t *const task = context;
    const gdncp_gated_rmsnorm_t *const norm = task->norm;
    const gdncp_gated_rmsnorm_grads_t *const grads = task->grads;
    const int64_t num_tokens = norm->x.shape[0];
    const int64_t d = norm->x.shape[2];
    const int64_t begin = block * gdncp_token_block_size(num_tokens);
    const int64_t end = gdncp_token_block_end(num_tokens, block);
    float *const rows = task->rows + thread * BACKWARD_ROWS * d;
    double *const grad_weight = task->partials + block * d;

    memset(grad_weight, 0, (size_t)d * sizeof *grad_weight);
    for (int64_t t = begin; t < end; t++) {
        for (int64_t offset = 0; offset < norm->x.shape[1] * d; offset += d) {
            float *const grad_x = gdncp_row_output(&grads->x, t, offset, rows + 4 * d);
            float *const grad_z = gdncp_row_output(&grads->z, t, offset, rows + 5 * d);

            backward_row(gdncp_row_load(&norm->x, t, offset, d, rows),
                         gdncp_row_load(&norm->z, t, offset, d, rows + d),
                         gdncp_row_load(task->grad_y, t, offset, d, rows + 2 * d),
                         norm->weight.data, norm->eps, d, rows + 3 * d, grad_x, grad_z,
                         grad_weight);
            gdncp_row_store(&grads->x, t, offset, d, grad_x);
            gdncp_row_store(&grads->z, t, offset, d, grad_z);
        }
    }
}

gdncp_status_t gdncp_gated_rmsnorm_forward_cpu(const gdncp_gated_rmsnorm_t *norm,
                                               const gdncp_tensor_t *y,
                                               gdncp_workspace_t *workspace)
{
    const int64_t num_blocks = gdncp_num_token_blocks(norm->x.shape[0]);
    const int64_t d = norm->x.shape[2];
    const int num_threads = gdncp_parallel_num_threads(num_blocks);
    norm_task_t task = {.norm = norm, .y = y};
    gdncp_scratch_t scratch;

    if (d == 0) {
        return GDNCP_OK;
    }
    const gdncp_status_t status = gdncp_scratch_open(
        workspace, 1, (size_t)(num_threads * FORWARD_ROWS * d) * sizeof *task.rows, &scratch);

    if (status != GDNCP_OK) {
        return status;
    }
    task.rows = (float *)(void *)scratch.memory;
    gdncp_parallel_for(num_blocks, num_threads, forward_block, &task);
    gdncp_scratch_close(&scratch);
    return GDNCP_OK;
}

/* Sum over blocks, in their order. */
static void sum_partials(const double *partials, int64_t num_blocks, int64_t d, float *sum)
{
    for (int64_t i = 0; i < d; i++) {
        double total = 0.0;

        for (int64_t block = 0; block < num_blocks; block++) {
            total += partials[block * d + i];
        }
        sum[i] = (float)total;
    }
}

gdncp_status_t gdncp_gated_rmsnorm_backward_cpu(const gdncp_gated_rmsnorm_t *norm,
                                                const gdncp_tensor_t *grad_y,
                                                const gdncp_gated_rmsnorm_grads_t *grads,
                                                gdncp_workspace_t *workspace)
{
    const int64_t num_blocks = gdncp_num_token_blocks(norm->x.shape[0]);
    const int64_t d = norm->x.shape[2];
    const int num_threads = gdncp_parallel_num_threads(num_blocks);
    norm_task_t task = {.norm = norm, .grad_y = grad_y, .grads = grads};
    const size_t partials_bytes = (size_t)(num_blocks * d) * sizeof *task.partials;
    const size_t rows_bytes = (size_t)(num_threads * BACKWARD_ROWS * d) * sizeof *task.rows;
    gdncp_scratch_t scratch;

    if (d == 0) {
        return GDNCP_OK;
    }
    const gdncp_status_t status =
        gdncp_scratch_open(workspace, 1, partials_bytes + rows_bytes, &scratch);

    if (status != GDNCP_OK) {
        return status;
    }
    task.partials = (double *)(void *)scratch.memory;
    task.rows = (float *)(void *)(scratch.memory + partials_bytes);
    gdncp_parallel_for(num_blocks, num_threads, backward_block, &task);
    sum_partials(task.partials, num_blocks, d, grads->weight.data);
    gdncp_scratch_close(&scratch);
    return GDNCP_OK;
}
