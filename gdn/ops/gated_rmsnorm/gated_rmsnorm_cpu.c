/* The gated RMSNorm on the CPU: blocks of tokens, head by head. */
#include "gated_rmsnorm_cpu.h"

#include <math.h>
#include <string.h>

#include "gated_rmsnorm_x86.h"
#include "inline_math.h"
#include "op_parallel.h"
#include "op_scratch.h"
#include "token_rows.h"

/* Buffers of a thread, each of the rows of some heads. */
#define FORWARD_BUFFERS 3
#define BACKWARD_BUFFERS 8

typedef struct norm_task {
    const gdncp_gated_rmsnorm_t *norm;
    const gdncp_tensor_t *y;      /* forward */
    const gdncp_tensor_t *grad_y; /* backward, as what follows */
    const gdncp_gated_rmsnorm_grads_t *grads;
    double *partials; /* [blocks, d] of the weight's gradient */
    int64_t heads;    /* whose rows are converted together */
    float *buffers;   /* [threads, FORWARD_BUFFERS or BACKWARD_BUFFERS, heads * d] */
    bool is_direct;   /* rows are read and written as they lie */
} norm_task_t;

/* What the rows of a call share. */
typedef struct row_params {
    const float *weight; /* [d] */
    float weight_offset;
    float eps;
    int64_t count; /* d */
} row_params_t;

static row_params_t params_of(const gdncp_gated_rmsnorm_t *norm)
{
    return (row_params_t){.weight = norm->weight.data,
                          .weight_offset = norm->weight_offset,
                          .eps = norm->eps,
                          .count = norm->x.shape[2]};
}

GDNCP_ALWAYS_INLINE float inverse_rms(const float *x, const row_params_t *params)
{
    return 1.0f /
           sqrtf((float)gdncp_dot_f64(x, x, params->count) / (float)params->count + params->eps);
}

GDNCP_VECTOR_CLONES
static void forward_row(const row_params_t *params, const float *x, const float *z,
                        float *restrict y)
{
    const float scale = inverse_rms(x, params);
    const float offset = params->weight_offset;

    for (int64_t i = 0; i < params->count; i++) {
        y[i] = scale * x[i] * (params->weight[i] + offset) * gdncp_silu_f32(z[i]);
    }
}

GDNCP_VECTOR_CLONES
static void forward_row_gate_first(const row_params_t *params, const float *x, const float *z,
                                   float *restrict y)
{
    const float offset = params->weight_offset;

    for (int64_t i = 0; i < params->count; i++) {
        y[i] = x[i] * gdncp_silu_f32(z[i]);
    }
    const float scale = inverse_rms(y, params);

    for (int64_t i = 0; i < params->count; i++) {
        y[i] *= scale * (params->weight[i] + offset);
    }
}

/* grad_normed [count] is scratch: the gradient of x times the inverse RMS. */
GDNCP_VECTOR_CLONES
static void backward_row(const row_params_t *params, const float *x, const float *z,
                         const float *grad_y, float *restrict grad_normed, float *restrict grad_x,
                         float *restrict grad_z, float *restrict grad_weight)
{
    const int64_t count = params->count;
    const float offset = params->weight_offset;
    const float scale = inverse_rms(x, params);

    for (int64_t i = 0; i < count; i++) {
        const gdncp_silu_parts_t silu = gdncp_split_silu_f32(z[i]);
        const float weight = params->weight[i] + offset;
        const float normed = scale * x[i];
        const float grad_scaled = grad_y[i] * silu.value;

        grad_normed[i] = grad_scaled * weight;
        grad_weight[i] += grad_scaled * normed;
        grad_z[i] = grad_y[i] * normed * weight * silu.slope;
    }
    const float along_x =
        scale * scale * (float)gdncp_dot_f64(grad_normed, x, count) / (float)count;

    for (int64_t i = 0; i < count; i++) {
        grad_x[i] = scale * (grad_normed[i] - along_x * x[i]);
    }
}

/* gated and grad_normed [count] are scratch: x SiLU(z), and the gradient of what the norm makes of
 * it. grad_x and grad_z hold SiLU(z) and its slope until they are multiplied by the gradient. */
GDNCP_VECTOR_CLONES
static void backward_row_gate_first(const row_params_t *params, const float *x, const float *z,
                                    const float *grad_y, float *restrict gated,
                                    float *restrict grad_normed, float *restrict grad_x,
                                    float *restrict grad_z, float *restrict grad_weight)
{
    const int64_t count = params->count;
    const float offset = params->weight_offset;

    for (int64_t i = 0; i < count; i++) {
        const gdncp_silu_parts_t silu = gdncp_split_silu_f32(z[i]);

        gated[i] = x[i] * silu.value;
        grad_x[i] = silu.value;
        grad_z[i] = silu.slope;
    }
    const float scale = inverse_rms(gated, params);

    for (int64_t i = 0; i < count; i++) {
        grad_normed[i] = grad_y[i] * (params->weight[i] + offset);
        grad_weight[i] += grad_y[i] * (scale * gated[i]);
    }
    const float along =
        scale * scale * (float)gdncp_dot_f64(grad_normed, gated, count) / (float)count;

    for (int64_t i = 0; i < count; i++) {
        const float grad_gated = scale * (grad_normed[i] - along * gated[i]);

        grad_x[i] *= grad_gated;
        grad_z[i] *= grad_gated * x[i];
    }
}

static gdncp_norm_rows_t rows_of(const gdncp_gated_rmsnorm_t *norm, const gdncp_strip_t *strip,
                                 float *buffer)
{
    return (gdncp_norm_rows_t){
        .x_dtype = norm->x.dtype,
        .dtype = norm->z.dtype,
        .weight = norm->weight.data,
        .weight_offset = norm->weight_offset,
        .eps = norm->eps,
        .gate_first = norm->gate_first,
        .d = norm->x.shape[2],
        .count = strip->count,
        .scratch = buffer,
        .x = gdncp_token_element(&norm->x, strip->token, strip->offset),
        .z = gdncp_token_element(&norm->z, strip->token, strip->offset),
    };
}

static void forward_strip_directly(const norm_task_t *task, const gdncp_strip_t *strip,
                                   float *buffer)
{
    gdncp_norm_rows_t rows = rows_of(task->norm, strip, buffer);

    rows.y = gdncp_token_element(task->y, strip->token, strip->offset);
    gdncp_gated_rmsnorm_x86_forward(&rows);
}

/* Adds the weight's gradient to grad_weight [d]. */
static void backward_strip_directly(const norm_task_t *task, const gdncp_strip_t *strip,
                                    float *buffer, float *grad_weight)
{
    gdncp_norm_rows_t rows = rows_of(task->norm, strip, buffer);

    rows.grad_y = gdncp_token_element(task->grad_y, strip->token, strip->offset);
    rows.grad_x = gdncp_token_element(&task->grads->x, strip->token, strip->offset);
    rows.grad_z = gdncp_token_element(&task->grads->z, strip->token, strip->offset);
    rows.grad_weight = grad_weight;
    gdncp_gated_rmsnorm_x86_backward(&rows);
}

/* Rows of some heads of a token. */
static void forward_strip(const norm_task_t *task, const gdncp_strip_t *strip, float *buffer)
{
    const gdncp_gated_rmsnorm_t *const norm = task->norm;
    const row_params_t params = params_of(norm);
    const int64_t d = params.count;
    const int64_t size = task->heads * d; /* of a buffer */
    const int64_t token = strip->token;
    const int64_t offset = strip->offset;
    const int64_t count = strip->count;
    const float *const x = gdncp_row_load(&norm->x, token, offset, count, buffer);
    const float *const z = gdncp_row_load(&norm->z, token, offset, count, buffer + size);
    float *const y = gdncp_row_output(task->y, token, offset, buffer + 2 * size);

    for (int64_t i = 0; i < count; i += d) {
        if (norm->gate_first) {
            forward_row_gate_first(&params, x + i, z + i, y + i);
        } else {
            forward_row(&params, x + i, z + i, y + i);
        }
    }
    gdncp_row_store(task->y, token, offset, count, y);
}

static void backward_strip(const norm_task_t *task, const gdncp_strip_t *strip, float *buffer,
                           float *grad_weight)
{
    const gdncp_gated_rmsnorm_t *const norm = task->norm;
    const gdncp_gated_rmsnorm_grads_t *const grads = task->grads;
    const row_params_t params = params_of(norm);
    const int64_t d = params.count;
    const int64_t size = task->heads * d;
    const int64_t token = strip->token;
    const int64_t offset = strip->offset;
    const int64_t count = strip->count;
    const float *const x = gdncp_row_load(&norm->x, token, offset, count, buffer);
    const float *const z = gdncp_row_load(&norm->z, token, offset, count, buffer + size);
    const float *const grad_y =
        gdncp_row_load(task->grad_y, token, offset, count, buffer + 2 * size);
    float *const grad_normed = buffer + 3 * size;
    float *const grad_x = gdncp_row_output(&grads->x, token, offset, buffer + 4 * size);
    float *const grad_z = gdncp_row_output(&grads->z, token, offset, buffer + 5 * size);

    for (int64_t i = 0; i < count; i += d) {
        if (norm->gate_first) {
            backward_row_gate_first(&params, x + i, z + i, grad_y + i, buffer + 6 * size,
                                    grad_normed, grad_x + i, grad_z + i, grad_weight);
        } else {
            backward_row(&params, x + i, z + i, grad_y + i, grad_normed, grad_x + i, grad_z + i,
                         grad_weight);
        }
    }
    gdncp_row_store(&grads->x, token, offset, count, grad_x);
    gdncp_row_store(&grads->z, token, offset, count, grad_z);
}

/* The weight's gradient of a strip, in float32, onto that of a block. */
GDNCP_VECTOR_CLONES
static void flush_grad_weight(int64_t d, float *restrict strip, double *restrict block)
{
    for (int64_t i = 0; i < d; i++) {
        block[i] += (double)strip[i];
        strip[i] = 0.0f;
    }
}

static void prefetch_strip(const norm_task_t *task, const gdncp_strip_t *strip)
{
    gdncp_strip_prefetch(&task->norm->x, strip);
    gdncp_strip_prefetch(&task->norm->z, strip);
    if (task->grads != NULL) {
        gdncp_strip_prefetch(task->grad_y, strip);
    }
}

static void norm_block(void *context, int64_t block, int thread)
{
    const norm_task_t *const task = context;
    const bool forward = task->grads == NULL;
    const int64_t num_tokens = task->norm->x.shape[0];
    const int64_t d = task->norm->x.shape[2];
    const int64_t end = gdncp_token_block_end(num_tokens, block);
    const int64_t width = task->norm->x.shape[1] * d;
    const int64_t size = task->heads * d;
    float *const buffer =
        task->buffers + thread * (forward ? FORWARD_BUFFERS : BACKWARD_BUFFERS) * size;
    float *const grad_weight =
        forward ? NULL : buffer + (BACKWARD_BUFFERS - 1) * size; /* strip's */
    double *const partial = forward ? NULL : task->partials + block * d;
    gdncp_strip_t strip =
        gdncp_strip_at(block * gdncp_token_block_size(num_tokens), 0, width, size);

    if (!forward) {
        memset(grad_weight, 0, (size_t)d * sizeof *grad_weight);
        memset(partial, 0, (size_t)d * sizeof *partial);
    }
    while (width > 0 && strip.token < end) {
        const gdncp_strip_t next = gdncp_strip_after(&strip, width, size);

        if (next.token < end) {
            prefetch_strip(task, &next);
        }
        if (forward) {
            (task->is_direct ? forward_strip_directly : forward_strip)(task, &strip, buffer);
        } else {
            (task->is_direct ? backward_strip_directly : backward_strip)(task, &strip, buffer,
                                                                         grad_weight);
            flush_grad_weight(d, grad_weight, partial);
        }
        strip = next;
    }
}

gdncp_status_t gdncp_gated_rmsnorm_forward_cpu(const gdncp_gated_rmsnorm_t *norm,
                                               const gdncp_tensor_t *y,
                                               gdncp_workspace_t *workspace)
{
    const int64_t num_blocks = gdncp_num_token_blocks(norm->x.shape[0]);
    const int64_t d = norm->x.shape[2];
    const int num_threads = gdncp_parallel_num_threads(num_blocks);
    norm_task_t task = {.norm = norm,
                        .y = y,
                        .heads = gdncp_heads_together(norm->x.shape[1], d),
                        .is_direct = gdncp_gated_rmsnorm_x86_serves(norm, y)};
    gdncp_scratch_t scratch;

    if (d == 0) {
        return GDNCP_OK;
    }
    const gdncp_status_t status = gdncp_scratch_open(
        workspace, 1,
        (size_t)(num_threads * FORWARD_BUFFERS * task.heads * d) * sizeof *task.buffers, &scratch);

    if (status != GDNCP_OK) {
        return status;
    }
    task.buffers = (float *)(void *)scratch.memory;
    gdncp_parallel_for(num_blocks, num_threads, norm_block, &task);
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
    norm_task_t task = {.norm = norm,
                        .grad_y = grad_y,
                        .grads = grads,
                        .heads = gdncp_heads_together(norm->x.shape[1], d),
                        .is_direct = gdncp_gated_rmsnorm_x86_serves(norm, grad_y)};
    const size_t partials_bytes = (size_t)(num_blocks * d) * sizeof *task.partials;
    const size_t buffers_bytes =
        (size_t)(num_threads * BACKWARD_BUFFERS * task.heads * d) * sizeof *task.buffers;
    gdncp_scratch_t scratch;

    if (d == 0) {
        return GDNCP_OK;
    }
    const gdncp_status_t status =
        gdncp_scratch_open(workspace, 1, partials_bytes + buffers_bytes, &scratch);

    if (status != GDNCP_OK) {
        return status;
    }
    task.partials = (double *)(void *)scratch.memory;
    task.buffers = (float *)(void *)(scratch.memory + partials_bytes);
    gdncp_parallel_for(num_blocks, num_threads, norm_block, &task);
    sum_partials(task.partials, num_blocks, d, grads->weight.data);
    gdncp_scratch_close(&scratch);
    return GDNCP_OK;
}
