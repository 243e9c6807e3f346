/* One chunk of one head of the gated delta rule, backward. */
#include "delta_rule_chunk_backward.h"

#include <string.h>

#include "inline_math.h"
#include "operand.h"
#include "small_gemm.h"
#include "vector_math.h"

#define BLOCK GDNCP_TRIANGLE_BLOCK

gdncp_chunk_backward_scratch_t gdncp_chunk_backward_scratch_take(gdncp_arena_t *arena, int64_t dk,
                                                                 int64_t dv)
{
    const int64_t rows = GDNCP_CHUNK;
    gdncp_chunk_backward_scratch_t scratch;

    scratch.grad_u = gdncp_arena_floats(arena, rows * dv);
    scratch.attention = gdncp_arena_floats(arena, rows * rows);
    scratch.pairs = gdncp_arena_floats(arena, 2 * rows * rows);
    scratch.state_rows = gdncp_arena_floats(arena, 2 * rows * dk);
    scratch.grad_qk = gdncp_arena_floats(arena, rows * rows);
    scratch.grad_kk = gdncp_arena_floats(arena, rows * rows);
    return scratch;
}

void gdncp_chunk_grad_values(const gdncp_chunk_t *chunk, const gdncp_columns_t *columns,
                             const float *t, const float *grad_state, float *grads,
                             const gdncp_chunk_backward_scratch_t *scratch)
{
    const gdncp_rule_problem_t *const problem = chunk->problem;
    const gdncp_chunk_rooms_t *const rooms = chunk->rooms;
    const bool in_tiles = problem->in_tiles;
    const int64_t rows = chunk->rows;
    const int64_t dk = problem->dk;
    const int64_t dv = problem->dv;
    const int64_t width = columns->width;
    const gdncp_operand_rows_t grad_o = {
        .data = grads + columns->first, .ld = dv, .is_bf16 = problem->dtype == GDNCP_BF16};
    float *const grad_u = scratch->grad_u;
    gdncp_operand_t left;
    gdncp_operand_t right = gdncp_right(
        in_tiles, dk, width, &(gdncp_operand_rows_t){.data = grad_state + columns->first, .ld = dv},
        rooms->right);

    gdncp_multiply(GDNCP_PRODUCT_FULL, rows, width, dk, &chunk->operands->k, &right, false, grad_u,
                   width);
    gdncp_scale_rows(rows, width, chunk->k_end, grad_u, width, grad_u, width);

    gdncp_chunk_attention(rows, problem->scale, chunk->gates, chunk->keys->qk, scratch->attention);
    left = gdncp_left_transposed(in_tiles, GDNCP_PRODUCT_LOWER_T, rows, rows,
                                 &(gdncp_operand_rows_t){.data = scratch->attention, .ld = rows},
                                 rooms->left);
    right = gdncp_right(in_tiles, rows, width, &grad_o, rooms->values);
    gdncp_multiply(GDNCP_PRODUCT_LOWER_T, rows, width, rows, &left, &right, true, grad_u, width);

    left = gdncp_left_transposed(in_tiles, GDNCP_PRODUCT_LOWER_T, rows, rows,
                                 &(gdncp_operand_rows_t){.data = t, .ld = rows}, rooms->left);
    right = gdncp_right(in_tiles, rows, width, &(gdncp_operand_rows_t){.data = grad_u, .ld = width},
                        rooms->values);
    gdncp_multiply(GDNCP_PRODUCT_LOWER_T, rows, width, rows, &left, &right, false,
                   grads + rows * dv + columns->first, dv);
}

void gdncp_chunk_grad_state(const gdncp_chunk_t *chunk, const gdncp_columns_t *columns,
                            const float *grads, float *grad_state)
{
    const bool in_tiles = chunk->problem->in_tiles;
    const int64_t rows = chunk->rows;
    const int64_t dk = chunk->problem->dk;
    const int64_t dv = chunk->problem->dv;
    const int64_t width = columns->width;
    float *const state = grad_state + columns->first;
    float minus_k[GDNCP_CHUNK];
    gdncp_operand_rows_t grad_rows = {
        .data = grads + columns->first, .ld = dv, .factors = chunk->q_start};
    gdncp_operand_t right;

    for (int64_t i = 0; i < rows; i++) {
        minus_k[i] = -chunk->gates->beta[i] * chunk->k_start[i];
    }
    gdncp_scale(dk, width, dv, chunk->gates->total[0], state);
    right = gdncp_right(in_tiles, rows, width, &grad_rows, chunk->rooms->values);
    gdncp_multiply(GDNCP_PRODUCT_FULL, dk, width, rows, &chunk->operands->q_t, &right, true, state,
                   dv);
    grad_rows.data += rows * dv;
    grad_rows.factors = minus_k;
    right = gdncp_right(in_tiles, rows, width, &grad_rows, chunk->rooms->values);
    gdncp_multiply(GDNCP_PRODUCT_FULL, dk, width, rows, &chunk->operands->k_t, &right, true, state,
                   dv);
}

/* Of one row of pairs, j < count: gradients of QK' and KK', what A's gradient is to be multiplied
 * with by KK', and what D receives, times D. */
GDNCP_VECTOR_CLONES
static void grad_pair_row(int64_t count, float scale, float beta, const float *decay,
                          const float *qk, const float *kk, const float *grad_p,
                          const float *grad_a, float *grad_qk, float *grad_kk, float *decayed,
                          double *received)
{
    for (int64_t j = 0; j < count; j++) {
        decayed[j] = decay[j] * grad_a[j];
        grad_qk[j] = scale * decay[j] * grad_p[j];
        grad_kk[j] = -beta * decayed[j];
        received[j] = (double)grad_qk[j] * (double)qk[j] + (double)grad_kk[j] * (double)kk[j];
    }
}

/*
 * Through the pairs of tokens: from dO U' and dR U' to the gradients of QK' and KK', and to the
 * rows' beta. above[t], which is added to, is the sum of i >= t > j of what D_ij receives, times
 * D_ij: the part of the gradient of g_t that pairs give. It is summed as it stands, for as a
 * difference of two running sums it would cancel.
 */
static void grad_pairs(int64_t rows, float scale, const gdncp_chunk_keys_t *keys,
                       const gdncp_chunk_gates_t *gates,
                       const gdncp_chunk_backward_scratch_t *scratch, double *grad_beta,
                       double *above)
{
    for (int64_t i = 0; i < rows; i++) {
        const float *const grad_p = scratch->pairs + i * rows;
        const float *const grad_a = scratch->pairs + (rows + i) * rows; /* negated */
        const float *const kk = keys->kk + i * rows;
        float *const grad_qk = scratch->grad_qk + i * rows;
        float *const grad_kk = scratch->grad_kk + i * rows;
        float decayed[GDNCP_CHUNK];
        double received[GDNCP_CHUNK];
        double row_sum = 0.0;

        grad_pair_row(i, scale, gates->beta[i], gates->decay + i * rows, keys->qk + i * rows, kk,
                      grad_p, grad_a, grad_qk, grad_kk, decayed, received);
        grad_qk[i] = scale * grad_p[i];
        memset(grad_qk + i + 1, 0, (size_t)(BLOCK - 1 - i % BLOCK) * sizeof(float));
        memset(grad_kk + i, 0, (size_t)(rows - i) * sizeof(float));
        grad_beta[i] -= gdncp_vector_dot(decayed, kk, i);
        for (int64_t j = 0; j < i; j++) {
            above[j] += row_sum;
            row_sum += received[j];
        }
        above[i] += row_sum;
    }
    /* The strict lower triangle and its transpose. */
    gdncp_transpose(rows, rows, scratch->grad_kk, rows, scratch->pairs, rows);
    gdncp_add(rows * rows, scratch->pairs, scratch->grad_kk);
}

/* Add factors[i] src[i, :] to dst, and return in dots the products of those rows with those of
 * x times x_factors. */
GDNCP_VECTOR_CLONES
static void add_scaled_rows(int64_t rows, int64_t width, const float *factors, float factor,
                            const float *src, const float *x, const float *x_factors, float *dst,
                            double *dots)
{
    for (int64_t i = 0; i < rows; i++) {
        const float row_factor = factor * factors[i];
        const float *const row = src + i * width;

        for (int64_t j = 0; j < width; j++) {
            dst[i * width + j] += row_factor * row[j];
        }
        dots[i] =
            (double)row_factor * (double)x_factors[i] * gdncp_dot_f64(row, x + i * width, width);
    }
}

/*
 * Gradient of g from what the three kinds of decay receive: pairs e^(G_i - G_j), which `above`
 * holds summed; e^G_i for i >= t; e^(G_C - G_j) for j < t; and e^G_C.
 */
static void grad_gates(int64_t rows, const double *above, const double *from_start,
                       const double *to_end, double whole, double *grad_g)
{
    double after = 0.0;
    double before = 0.0;

    for (int64_t t = rows - 1; t >= 0; t--) {
        after += from_start[t];
        grad_g[t] = above[t] + after + whole;
    }
    for (int64_t t = 0; t < rows; t++) {
        grad_g[t] += before;
        before += to_end[t];
    }
}

/* Gradients of q and k through the pairs E and F; they are set, or added to. */
static void grad_keys(const gdncp_chunk_t *chunk, const gdncp_chunk_backward_scratch_t *scratch,
                      gdncp_chunk_grads_t *grads)
{
    const gdncp_chunk_keys_t *const keys = chunk->keys;
    const gdncp_chunk_rooms_t *const rooms = chunk->rooms;
    const bool in_tiles = chunk->problem->in_tiles;
    const int64_t rows = chunk->rows;
    const int64_t dk = chunk->problem->dk;
    const gdncp_operand_rows_t grad_qk = {.data = scratch->grad_qk, .ld = rows};
    const gdncp_operand_rows_t grad_kk = {.data = scratch->grad_kk, .ld = rows};
    const bool accumulate = !grads->is_first;
    gdncp_operand_t left;
    gdncp_operand_t right;

    right =
        gdncp_right(in_tiles, rows, dk,
                    &(gdncp_operand_rows_t){.data = keys->k, .ld = dk, .factors = keys->k_factors},
                    rooms->values);
    left = gdncp_left(in_tiles, GDNCP_PRODUCT_LOWER, rows, rows, &grad_qk, rooms->left);
    gdncp_multiply(GDNCP_PRODUCT_LOWER, rows, dk, rows, &left, &right, accumulate, grads->q, dk);
    left = gdncp_left(in_tiles, GDNCP_PRODUCT_FULL, rows, rows, &grad_kk, rooms->left);
    gdncp_multiply(GDNCP_PRODUCT_FULL, rows, dk, rows, &left, &right, accumulate, grads->k, dk);

    right =
        gdncp_right(in_tiles, rows, dk,
                    &(gdncp_operand_rows_t){.data = keys->q, .ld = dk, .factors = keys->q_factors},
                    rooms->values);
    left =
        gdncp_left_transposed(in_tiles, GDNCP_PRODUCT_LOWER_T, rows, rows, &grad_qk, rooms->left);
    gdncp_multiply(GDNCP_PRODUCT_LOWER_T, rows, dk, rows, &left, &right, true, grads->k, dk);
}

void gdncp_chunk_grad_inputs(const gdncp_chunk_t *chunk, const gdncp_chunk_record_t *record,
                             const gdncp_chunk_back_record_t *back,
                             const gdncp_chunk_backward_scratch_t *scratch,
                             gdncp_chunk_grads_t *grads)
{
    const gdncp_rule_problem_t *const problem = chunk->problem;
    const gdncp_chunk_keys_t *const keys = chunk->keys;
    const gdncp_chunk_gates_t *const gates = chunk->gates;
    const gdncp_chunk_rooms_t *const rooms = chunk->rooms;
    const bool in_tiles = problem->in_tiles;
    const int64_t rows = chunk->rows;
    const int64_t dk = problem->dk;
    const int64_t dv = problem->dv;
    const float *const grad_r = back->grads + rows * dv;
    double above[GDNCP_CHUNK] = {0.0};
    double from_start[GDNCP_CHUNK];
    double from_start_k[GDNCP_CHUNK];
    double to_end[GDNCP_CHUNK];
    float start_beta[GDNCP_CHUNK];

    for (int64_t i = 0; i < rows; i++) {
        grads->beta[i] = gdncp_vector_dot(grad_r + i * dv, record->y + i * dv, dv);
        start_beta[i] = gates->from_start[i] * gates->beta[i];
    }
    gdncp_scale_rows(rows, dv, gates->beta, grad_r, dv, grads->v.data, grads->v.ld);

    /* dO over dR, with U' and with S0'. */
    gdncp_operand_t left =
        gdncp_left(in_tiles, GDNCP_PRODUCT_FULL, 2 * rows, dv,
                   &(gdncp_operand_rows_t){.data = back->grads, .ld = dv}, rooms->left);
    gdncp_operand_t right = gdncp_right_transposed(
        in_tiles, dv, rows, &(gdncp_operand_rows_t){.data = record->u, .ld = dv}, rooms->values);
    const gdncp_operand_t left_r = gdncp_left_from(&left, rows);

    gdncp_multiply(GDNCP_PRODUCT_PAIRS, rows, rows, dv, &left, &right, false, scratch->pairs, rows);
    gdncp_multiply(GDNCP_PRODUCT_PAIRS, rows, rows, dv, &left_r, &right, false,
                   scratch->pairs + rows * rows, rows);
    right = gdncp_right(in_tiles, dv, dk,
                        &(gdncp_operand_rows_t){.data = record->state_t, .ld = dk}, rooms->right);
    gdncp_multiply(GDNCP_PRODUCT_FULL, 2 * rows, dk, dv, &left, &right, false, scratch->state_rows,
                   dk);

    grad_pairs(rows, problem->scale, keys, gates, scratch, grads->beta, above);
    grad_keys(chunk, scratch, grads);
    add_scaled_rows(rows, dk, gates->from_start, problem->scale, scratch->state_rows, keys->q,
                    keys->q_factors, grads->q, from_start);
    add_scaled_rows(rows, dk, start_beta, -1.0f, scratch->state_rows + rows * dk, keys->k,
                    keys->k_factors, grads->k, from_start_k);
    for (int64_t i = 0; i < rows; i++) {
        from_start[i] += from_start_k[i];
    }

    left = gdncp_left(in_tiles, GDNCP_PRODUCT_FULL, rows, dv,
                      &(gdncp_operand_rows_t){.data = record->u, .ld = dv}, rooms->left);
    right =
        gdncp_right(in_tiles, dv, dk, &(gdncp_operand_rows_t){.data = back->grad_state_t, .ld = dk},
                    rooms->right);
    gdncp_multiply(GDNCP_PRODUCT_FULL, rows, dk, dv, &left, &right, false, scratch->state_rows, dk);
    add_scaled_rows(rows, dk, gates->to_end, 1.0f, scratch->state_rows, keys->k, keys->k_factors,
                    grads->k, to_end);

    grad_gates(rows, above, from_start, to_end,
               gates->total[0] * gdncp_vector_dot(back->grad_state_t, record->state_t, dk * dv),
               grads->g);
}
