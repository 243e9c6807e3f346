/* One chunk of one head of the gated delta rule, backward. */
#include "delta_rule_chunk_backward.h"

#include <string.h>

#include "inline_math.h"
#include "small_gemm.h"
#include "vector_math.h"

#define BLOCK GDNCP_TRIANGLE_BLOCK

gdncp_chunk_backward_scratch_t gdncp_chunk_backward_scratch_take(gdncp_arena_t *arena, int64_t dk,
                                                                 int64_t dv)
{
    const int64_t rows = GDNCP_CHUNK;
    gdncp_chunk_backward_scratch_t scratch;

    scratch.factors = gdncp_arena_floats(arena, 2 * rows * dk);
    scratch.k_to_end = gdncp_arena_floats(arena, rows * dk);
    scratch.grad_u = gdncp_arena_floats(arena, rows * dv);
    scratch.attention = gdncp_arena_floats(arena, rows * rows);
    scratch.u_t = gdncp_arena_floats(arena, dv * rows);
    scratch.pairs = gdncp_arena_floats(arena, 2 * rows * rows);
    scratch.state_rows = gdncp_arena_floats(arena, 2 * rows * dk);
    scratch.grad_qk = gdncp_arena_floats(arena, rows * rows);
    scratch.grad_kk = gdncp_arena_floats(arena, rows * rows);
    return scratch;
}

void gdncp_chunk_grad_values(const gdncp_rule_problem_t *problem, int64_t rows,
                             const gdncp_columns_t *columns, const gdncp_chunk_keys_t *keys,
                             const gdncp_chunk_gates_t *gates, const float *t,
                             const float *grad_state, float *grads,
                             const gdncp_chunk_backward_scratch_t *scratch)
{
    const int64_t dk = problem->dk;
    const int64_t dv = problem->dv;
    const int64_t width = columns->width;
    const float *const grad_o = grads + columns->first;
    float *const grad_r = grads + rows * dv + columns->first;

    gdncp_chunk_attention(rows, problem->scale, gates, keys->qk, scratch->attention);
    gdncp_scale_rows(rows, dk, gates->to_end, keys->k, dk, scratch->k_to_end, dk);
    gdncp_gemm_lower_tn(rows, width, scratch->attention, rows, grad_o, dv, false, scratch->grad_u,
                        width);
    gdncp_gemm(rows, width, dk, scratch->k_to_end, dk, grad_state + columns->first, dv, true,
               scratch->grad_u, width);
    gdncp_gemm_lower_tn(rows, width, t, rows, scratch->grad_u, width, false, grad_r, dv);
    gdncp_chunk_decay_rows(rows, dk, problem->scale, false, gates, keys->q, scratch->factors);
    gdncp_chunk_decay_rows(rows, dk, -1.0f, true, gates, keys->k, scratch->factors + rows * dk);
}

void gdncp_chunk_grad_state(const gdncp_rule_problem_t *problem, int64_t rows,
                            const gdncp_columns_t *columns, const gdncp_chunk_gates_t *gates,
                            const float *grads, float *grad_state,
                            const gdncp_chunk_backward_scratch_t *scratch)
{
    const int64_t dk = problem->dk;
    const int64_t dv = problem->dv;
    float *const state = grad_state + columns->first;

    gdncp_scale(dk, columns->width, dv, gates->total[0], state);
    gdncp_gemm_tn(dk, columns->width, 2 * rows, scratch->factors, dk, grads + columns->first, dv,
                  true, state, dv);
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

/* Add factors[i] src[i, :] to dst, and return in dots the products of those rows with those of x.
 */
GDNCP_VECTOR_CLONES
static void add_scaled_rows(int64_t rows, int64_t width, const float *factors, float factor,
                            const float *src, const float *x, float *dst, double *dots)
{
    for (int64_t i = 0; i < rows; i++) {
        const float row_factor = factor * factors[i];
        const float *const row = src + i * width;

        for (int64_t j = 0; j < width; j++) {
            dst[i * width + j] += row_factor * row[j];
        }
        dots[i] = (double)row_factor * gdncp_dot_f64(row, x + i * width, width);
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

void gdncp_chunk_grad_inputs(const gdncp_rule_problem_t *problem, int64_t rows,
                             const gdncp_chunk_keys_t *keys, const gdncp_chunk_gates_t *gates,
                             const gdncp_chunk_record_t *record,
                             const gdncp_chunk_back_record_t *back,
                             const gdncp_chunk_backward_scratch_t *scratch,
                             gdncp_chunk_grads_t *grads)
{
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

    gdncp_transpose(rows, dv, record->u, dv, scratch->u_t, rows);
    gdncp_gemm_pairs(rows, dv, back->grads, dv, scratch->u_t, rows, scratch->pairs, rows);
    gdncp_gemm_pairs(rows, dv, grad_r, dv, scratch->u_t, rows, scratch->pairs + rows * rows, rows);
    grad_pairs(rows, problem->scale, keys, gates, scratch, grads->beta, above);
    gdncp_gemm_lower(rows, dk, scratch->grad_qk, rows, keys->k, dk, !grads->is_first, grads->q, dk);
    gdncp_gemm_lower_tn(rows, dk, scratch->grad_qk, rows, keys->q, dk, !grads->is_first, grads->k,
                        dk);
    gdncp_gemm(rows, dk, rows, scratch->grad_kk, rows, keys->k, dk, true, grads->k, dk);

    gdncp_gemm(2 * rows, dk, dv, back->grads, dv, record->state_t, dk, false, scratch->state_rows,
               dk);
    add_scaled_rows(rows, dk, gates->from_start, problem->scale, scratch->state_rows, keys->q,
                    grads->q, from_start);
    add_scaled_rows(rows, dk, start_beta, -1.0f, scratch->state_rows + rows * dk, keys->k, grads->k,
                    from_start_k);
    for (int64_t i = 0; i < rows; i++) {
        from_start[i] += from_start_k[i];
    }

    gdncp_gemm(rows, dk, dv, record->u, dv, back->grad_state_t, dk, false, scratch->state_rows, dk);
    add_scaled_rows(rows, dk, gates->to_end, 1.0f, scratch->state_rows, keys->k, grads->k, to_end);

    grad_gates(rows, above, from_start, to_end,
               gates->total[0] * gdncp_vector_dot(back->grad_state_t, record->state_t, dk * dv),
               grads->g);
}
