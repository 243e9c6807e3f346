/* Rows and states of a head, read and written as float32. */
#include "delta_rule_rows.h"

#include <math.h>
#include <string.h>

#include "inline_math.h"
#include "op_checks.h"
#include "small_gemm.h"
#include "token_rows.h"
#include "vector_math.h"

#define L2NORM_EPS 1e-6

/* Rows of a head lie a token apart, often a page, where the processor does not look ahead. */
#define ROWS_AHEAD 4

/* Where the columns of a head begin in a token. */
static int64_t offset_of(const gdncp_tensor_t *tensor, int64_t head, const gdncp_columns_t *columns)
{
    return head * tensor->shape[2] + columns->first;
}

/* The dtype was checked before any work began, so this conversion cannot fail. */
void gdncp_load_columns(const gdncp_tensor_t *tensor, int64_t begin, int64_t count, int64_t head,
                        const gdncp_columns_t *columns, int64_t rows, float *dst, int64_t ld)
{
    const int64_t width = columns->width;
    const int64_t offset = offset_of(tensor, head, columns);

    for (int64_t i = 0; i < count; i++) {
        if (i + ROWS_AHEAD < count) {
            gdncp_row_prefetch(tensor, begin + i + ROWS_AHEAD, offset, width);
        }
        gdncp_convert_to_f32(tensor->dtype, gdncp_token_element(tensor, begin + i, offset), width,
                             dst + i * ld);
    }
    for (int64_t i = count; i < rows; i++) {
        memset(dst + i * ld, 0, (size_t)width * sizeof(float));
    }
}

void gdncp_store_columns(const float *src, int64_t ld, int64_t begin, int64_t count, int64_t head,
                         const gdncp_columns_t *columns, const gdncp_tensor_t *tensor)
{
    const int64_t width = columns->width;
    const int64_t offset = offset_of(tensor, head, columns);

    for (int64_t i = 0; i < count; i++) {
        gdncp_row_store(tensor, begin + i, offset, width, src + i * ld);
    }
}

gdncp_float_rows_t gdncp_columns_output(const gdncp_tensor_t *tensor, int64_t begin, int64_t count,
                                        int64_t head, const gdncp_columns_t *columns, int64_t rows,
                                        float *buffer, int64_t ld)
{
    if (tensor->dtype != GDNCP_F32 || count != rows) {
        return (gdncp_float_rows_t){buffer, ld};
    }
    return (gdncp_float_rows_t){
        gdncp_token_element(tensor, begin, offset_of(tensor, head, columns)), tensor->strides[0]};
}

gdncp_float_rows_t gdncp_columns_input(const gdncp_tensor_t *tensor, int64_t begin, int64_t count,
                                       int64_t head, const gdncp_columns_t *columns, int64_t rows,
                                       float *buffer, int64_t ld)
{
    const gdncp_float_rows_t input =
        gdncp_columns_output(tensor, begin, count, head, columns, rows, buffer, ld);

    if (input.data == buffer) {
        gdncp_load_columns(tensor, begin, count, head, columns, rows, buffer, ld);
    }
    return input;
}

void gdncp_load_head(const gdncp_tensor_t *tensor, int64_t begin, int64_t count, int64_t head,
                     int64_t rows, float *dst)
{
    gdncp_load_columns(tensor, begin, count, head, &(gdncp_columns_t){0, tensor->shape[2]}, rows,
                       dst, tensor->shape[2]);
}

void gdncp_store_head(const float *src, int64_t begin, int64_t count, int64_t head,
                      const gdncp_tensor_t *tensor)
{
    gdncp_store_columns(src, tensor->shape[2], begin, count, head,
                        &(gdncp_columns_t){0, tensor->shape[2]}, tensor);
}

void gdncp_load_keys(const gdncp_rule_problem_t *problem, const gdncp_tensor_t *tensor,
                     int64_t begin, int64_t count, int64_t head, int64_t rows, float *dst,
                     float *factors)
{
    const int64_t dk = problem->dk;

    gdncp_load_head(tensor, begin, count, head, rows, dst);
    for (int64_t i = 0; i < rows; i++) {
        factors[i] = 1.0f;
        if (problem->rule->qk_l2norm && i < count) {
            factors[i] = (float)(1.0 / sqrt(gdncp_vector_square(dst + i * dk, dk) + L2NORM_EPS));
        }
    }
}

/* dst = factor (grad - along x) */
GDNCP_VECTOR_CLONES
static void project_row(int64_t dk, float factor, float along, const float *x, const float *grad,
                        float *dst)
{
    for (int64_t j = 0; j < dk; j++) {
        dst[j] = factor * (grad[j] - along * x[j]);
    }
}

void gdncp_store_key_grads(const gdncp_rule_problem_t *problem, const float *x,
                           const float *factors, float *grad, int64_t begin, int64_t count,
                           int64_t head, const gdncp_tensor_t *tensor)
{
    const int64_t dk = problem->dk;

    if (!problem->rule->qk_l2norm) {
        gdncp_store_head(grad, begin, count, head, tensor);
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        const double factor = (double)factors[i];
        const float *const row = x + i * dk;
        float *const grad_row = grad + i * dk;
        float *const target = gdncp_row_output(tensor, begin + i, head * dk, grad_row);
        const float along = (float)(factor * factor * gdncp_vector_dot(row, grad_row, dk));

        project_row(dk, factors[i], along, row, grad_row, target);
        gdncp_row_store(tensor, begin + i, head * dk, dk, target);
    }
}

static size_t state_offset(const gdncp_rule_problem_t *problem, int64_t sequence, int64_t head)
{
    return (size_t)((sequence * problem->num_value_heads + head) * problem->dk * problem->dv);
}

void gdncp_copy_columns(int64_t rows, int64_t width, const float *src, int64_t src_ld, float *dst,
                        int64_t dst_ld)
{
    for (int64_t i = 0; i < rows; i++) {
        memcpy(dst + i * dst_ld, src + i * src_ld, (size_t)width * sizeof(float));
    }
}

void gdncp_load_state(const gdncp_rule_problem_t *problem, const gdncp_tensor_t *states,
                      int64_t sequence, int64_t head, const gdncp_columns_t *columns, float *state)
{
    const int64_t dk = problem->dk;
    const int64_t width = columns->width;

    if (gdncp_op_is_absent(states)) {
        memset(state, 0, (size_t)(dk * width) * sizeof(float));
        return;
    }
    const float *const src = (const float *)states->data + state_offset(problem, sequence, head);

    if (problem->rule->state_layout == GDNCP_STATE_DV_DK) {
        gdncp_transpose(width, dk, src + columns->first * dk, dk, state, width);
    } else {
        gdncp_copy_columns(dk, width, src + columns->first, problem->dv, state, width);
    }
}

void gdncp_store_state(const gdncp_rule_problem_t *problem, const float *state, int64_t sequence,
                       int64_t head, const gdncp_columns_t *columns, const gdncp_tensor_t *states)
{
    const int64_t dk = problem->dk;
    const int64_t width = columns->width;

    if (gdncp_op_is_absent(states)) {
        return;
    }
    float *const dst = (float *)states->data + state_offset(problem, sequence, head);

    if (problem->rule->state_layout == GDNCP_STATE_DV_DK) {
        gdncp_transpose(dk, width, state, width, dst + columns->first * dk, dk);
    } else {
        gdncp_copy_columns(dk, width, state, width, dst + columns->first, problem->dv);
    }
}

float *gdncp_rule_saved_state(const gdncp_rule_problem_t *problem, int64_t sequence, int64_t chunk,
                              int64_t head)
{
    const int64_t place = problem->rule->cu_seqlens[sequence] / GDNCP_SAVED_STATE_TOKENS +
                          chunk / GDNCP_SAVED_STATE_CHUNKS - 1;

    return (float *)problem->rule->saved_states.data + state_offset(problem, place, head);
}

int64_t gdncp_num_panels(const gdncp_rule_problem_t *problem, int64_t width)
{
    return (problem->dv + width - 1) / width;
}

gdncp_columns_t gdncp_columns_of_panel(const gdncp_rule_problem_t *problem, int64_t width,
                                       int64_t panel)
{
    const int64_t first = panel * width;
    const int64_t left = problem->dv - first;

    return (gdncp_columns_t){.first = first, .width = left < width ? left : width};
}
