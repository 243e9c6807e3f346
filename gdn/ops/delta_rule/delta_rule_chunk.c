/* One chunk of one head of the gated delta rule, forward. */
#include "delta_rule_chunk.h"

#include <assert.h>
#include <string.h>

#include "inline_math.h"
#include "small_gemm.h"
#include "vector_math.h"

/* Diagonal blocks of the triangular matrix that are inverted element by element. */
#define BLOCK GDNCP_TRIANGLE_BLOCK

/* Loops over triangles go by whole rows of blocks. */
static_assert(GDNCP_ROW_GRAIN % BLOCK == 0, "a chunk has a whole number of blocks");

gdncp_chunk_keys_t gdncp_chunk_keys_take(gdncp_arena_t *arena, int64_t num_chunks, int64_t dk)
{
    const int64_t rows = num_chunks * GDNCP_CHUNK;
    gdncp_chunk_keys_t keys;

    keys.k = gdncp_arena_floats(arena, rows * dk);
    keys.q = gdncp_arena_floats(arena, rows * dk);
    keys.k_factors = gdncp_arena_floats(arena, rows);
    keys.q_factors = gdncp_arena_floats(arena, rows);
    keys.kk = gdncp_arena_floats(arena, rows * GDNCP_CHUNK);
    keys.qk = gdncp_arena_floats(arena, rows * GDNCP_CHUNK);
    return keys;
}

gdncp_chunk_keys_t gdncp_chunk_keys_at(const gdncp_chunk_keys_t *keys, int64_t chunk, int64_t dk)
{
    const int64_t row = chunk * GDNCP_CHUNK;

    return (gdncp_chunk_keys_t){.k = keys->k + row * dk,
                                .q = keys->q + row * dk,
                                .k_factors = keys->k_factors + row,
                                .q_factors = keys->q_factors + row,
                                .kk = keys->kk + row * GDNCP_CHUNK,
                                .qk = keys->qk + row * GDNCP_CHUNK};
}

int64_t gdncp_num_chunks(int64_t length)
{
    return (length + GDNCP_CHUNK - 1) / GDNCP_CHUNK;
}

gdncp_chunk_span_t gdncp_chunk_span(int64_t begin, int64_t end, int64_t chunk)
{
    const int64_t first = begin + chunk * GDNCP_CHUNK;
    const int64_t count = end - first < GDNCP_CHUNK ? end - first : GDNCP_CHUNK;

    return (gdncp_chunk_span_t){.begin = first, .count = count, .rows = gdncp_padded_rows(count)};
}

static int64_t larger(int64_t x, int64_t y)
{
    return x > y ? x : y;
}

gdncp_chunk_rooms_t gdncp_chunk_rooms_take(gdncp_arena_t *arena,
                                           const gdncp_rule_problem_t *problem, int64_t width)
{
    const int64_t tall = larger(larger(problem->dk, problem->dv), GDNCP_CHUNK);
    const int64_t wide = larger(tall, width);
    gdncp_chunk_rooms_t rooms;

    rooms.left = gdncp_operand_room(arena, problem->in_tiles, 2 * GDNCP_CHUNK, tall);
    rooms.right = gdncp_operand_room(arena, problem->in_tiles, wide, tall);
    rooms.values = gdncp_operand_room(arena, problem->in_tiles, wide, GDNCP_CHUNK);
    return rooms;
}

gdncp_key_operands_t gdncp_key_operands_take(gdncp_arena_t *arena,
                                             const gdncp_rule_problem_t *problem)
{
    gdncp_key_operands_t operands = {.rooms = {NULL}};

    for (int i = 0; i < 4; i++) {
        operands.rooms[i] = gdncp_operand_room(arena, problem->in_tiles, GDNCP_CHUNK, problem->dk);
    }
    return operands;
}

void gdncp_key_operands_make(const gdncp_rule_problem_t *problem, int64_t rows,
                             const gdncp_chunk_keys_t *keys, unsigned which,
                             gdncp_key_operands_t *operands)
{
    const int64_t dk = problem->dk;
    const bool in_tiles = problem->in_tiles;
    const bool is_bf16 = problem->dtype == GDNCP_BF16;
    const gdncp_operand_rows_t k = {.data = keys->k, .ld = dk, .is_bf16 = is_bf16};
    const gdncp_operand_rows_t q = {.data = keys->q, .ld = dk, .is_bf16 = is_bf16};

    if ((which & GDNCP_KEY_K) != 0) {
        operands->k = gdncp_left(in_tiles, GDNCP_PRODUCT_FULL, rows, dk, &k, operands->rooms[0]);
    }
    if ((which & GDNCP_KEY_Q) != 0) {
        operands->q = gdncp_left(in_tiles, GDNCP_PRODUCT_FULL, rows, dk, &q, operands->rooms[1]);
    }
    if ((which & GDNCP_KEY_K_T) != 0) {
        operands->k_t =
            gdncp_left_transposed(in_tiles, GDNCP_PRODUCT_FULL, dk, rows, &k, operands->rooms[2]);
    }
    if ((which & GDNCP_KEY_Q_T) != 0) {
        operands->q_t =
            gdncp_left_transposed(in_tiles, GDNCP_PRODUCT_FULL, dk, rows, &q, operands->rooms[3]);
    }
}

/* pairs[i, j] *= row_factors[i] column_factors[j], as far as gdncp_multiply() sets them. */
GDNCP_VECTOR_CLONES
static void scale_pairs(int64_t rows, const float *row_factors, const float *column_factors,
                        float *pairs)
{
    for (int64_t i = 0; i < rows; i++) {
        const float factor = row_factors[i];

        for (int64_t first = 0; first <= i; first += BLOCK) {
            for (int64_t j = first; j < first + BLOCK; j++) {
                pairs[i * rows + j] *= factor * column_factors[j];
            }
        }
    }
}

void gdncp_chunk_keys_load(const gdncp_rule_problem_t *problem, const gdncp_chunk_span_t *span,
                           int64_t key_head, bool with_q, const gdncp_chunk_keys_t *keys,
                           gdncp_key_operands_t *operands, const gdncp_chunk_rooms_t *rooms)
{
    const int64_t rows = span->rows;
    const int64_t dk = problem->dk;
    const gdncp_operand_rows_t k = {
        .data = keys->k, .ld = dk, .is_bf16 = problem->dtype == GDNCP_BF16};

    gdncp_load_keys(problem, &problem->rule->k, span->begin, span->count, key_head, rows, keys->k,
                    keys->k_factors);
    if (with_q) {
        gdncp_load_keys(problem, &problem->rule->q, span->begin, span->count, key_head, rows,
                        keys->q, keys->q_factors);
    }
    gdncp_key_operands_make(problem, rows, keys, with_q ? GDNCP_KEY_K | GDNCP_KEY_Q : GDNCP_KEY_K,
                            operands);

    const gdncp_operand_t k_right =
        gdncp_right_transposed(problem->in_tiles, dk, rows, &k, rooms->right);

    gdncp_multiply(GDNCP_PRODUCT_PAIRS, rows, rows, dk, &operands->k, &k_right, false, keys->kk,
                   rows);
    scale_pairs(rows, keys->k_factors, keys->k_factors, keys->kk);
    if (with_q) {
        gdncp_multiply(GDNCP_PRODUCT_PAIRS, rows, rows, dk, &operands->q, &k_right, false, keys->qk,
                       rows);
        scale_pairs(rows, keys->q_factors, keys->k_factors, keys->qk);
    }
}

gdncp_chunk_gates_t gdncp_chunk_gates_take(gdncp_arena_t *arena, int64_t num_chunks)
{
    const int64_t rows = num_chunks * GDNCP_CHUNK;
    gdncp_chunk_gates_t gates;

    gates.decay = gdncp_arena_floats(arena, rows * GDNCP_CHUNK);
    gates.beta = gdncp_arena_floats(arena, rows);
    gates.from_start = gdncp_arena_floats(arena, rows);
    gates.to_end = gdncp_arena_floats(arena, rows);
    gates.total = gdncp_arena_floats(arena, num_chunks);
    return gates;
}

gdncp_chunk_gates_t gdncp_chunk_gates_at(const gdncp_chunk_gates_t *gates, int64_t chunk)
{
    const int64_t row = chunk * GDNCP_CHUNK;

    return (gdncp_chunk_gates_t){.decay = gates->decay + row * GDNCP_CHUNK,
                                 .beta = gates->beta + row,
                                 .from_start = gates->from_start + row,
                                 .to_end = gates->to_end + row,
                                 .total = gates->total + chunk};
}

/* decay[i, j] = e^(sums[i] - sums[j]) for i >= j. Each is the exponential of one difference:
 * e^G_i e^-G_j would overflow under strong decay. */
GDNCP_VECTOR_CLONES
static void fill_decay(int64_t rows, const double *sums, float *decay)
{
    for (int64_t i = 0; i < rows; i++) {
        const double sum = sums[i];

        for (int64_t first = 0; first <= i; first += BLOCK) {
            for (int64_t j = first; j < first + BLOCK; j++) {
                decay[i * rows + j] = gdncp_exp_wide_f32((float)(sum - sums[j]));
            }
        }
    }
}

/* Sums are in double, for a difference of two long sums keeps few of a float's digits. */
void gdncp_chunk_gates_load(const gdncp_rule_problem_t *problem, const gdncp_chunk_span_t *span,
                            int64_t value_head, const gdncp_chunk_gates_t *gates)
{
    const int64_t rows = span->rows;
    const int64_t heads = problem->num_value_heads;
    const int64_t offset = span->begin * heads + value_head;
    const float *const g = (const float *)problem->rule->g.data + offset;
    const float *const beta = (const float *)problem->rule->beta.data + offset;
    double sums[GDNCP_CHUNK] = {0.0}; /* analysers do not see that whole blocks are filled */
    double sum = 0.0;

    for (int64_t i = 0; i < rows; i++) {
        sum += i < span->count ? (double)g[i * heads] : 0.0;
        sums[i] = sum;
        gates->beta[i] = i < span->count ? beta[i * heads] : 0.0f;
        gates->from_start[i] = (float)sum;
    }
    for (int64_t i = 0; i < rows; i++) {
        gates->to_end[i] = (float)(sum - sums[i]);
    }
    fill_decay(rows, sums, gates->decay);
    gates->total[0] = (float)sum;
    gdncp_vector_exp(gates->from_start, rows);
    gdncp_vector_exp(gates->to_end, rows);
    gdncp_vector_exp(gates->total, 1);
}

/* t = (I - n)^-1 for one [BLOCK, BLOCK] block n below the diagonal, in double. */
GDNCP_VECTOR_CLONES
static void invert_block(const float *n, float *t, int64_t ld)
{
    double inverse[BLOCK][BLOCK];

    for (int i = 0; i < BLOCK; i++) {
        double row[BLOCK] = {0.0};

        row[i] = 1.0;
        for (int l = 0; l < i; l++) {
            const double factor = (double)n[i * ld + l];

            for (int j = 0; j < BLOCK; j++) {
                row[j] += factor * inverse[l][j];
            }
        }
        memcpy(inverse[i], row, sizeof row);
        for (int j = 0; j < BLOCK; j++) {
            t[i * ld + j] = (float)row[j];
        }
    }
}

/* n = -diag(beta) (D o KK') strictly below the diagonal, and anything beyond within its blocks. */
GDNCP_VECTOR_CLONES
static void couple_pairs(int64_t rows, const float *decay, const float *beta, const float *kk,
                         float *n)
{
    for (int64_t i = 0; i < rows; i++) {
        const float factor = -beta[i];

        for (int64_t first = 0; first <= i; first += BLOCK) {
            for (int64_t j = first; j < first + BLOCK; j++) {
                n[i * rows + j] = factor * (decay[i * rows + j] * kk[i * rows + j]);
            }
        }
    }
}

/*
 * Forward substitution by rows of blocks. The row of blocks I of (I - n)^-1 is T_II (n_I T) left
 * of the diagonal.
 */
void gdncp_chunk_inverse(int64_t rows, const gdncp_chunk_gates_t *gates, const float *kk, float *t,
                         float *work)
{
    float left[BLOCK * GDNCP_CHUNK];

    couple_pairs(rows, gates->decay, gates->beta, kk, work);
    for (int64_t i = 0; i < rows; i += BLOCK) {
        invert_block(work + i * rows + i, t + i * rows + i, rows);
        for (int64_t row = i; row < i + BLOCK; row++) {
            memset(t + row * rows + i + BLOCK, 0, (size_t)(rows - i - BLOCK) * sizeof(float));
        }
        gdncp_gemm(BLOCK, i, i, work + i * rows, rows, t, rows, false, left, i);
        gdncp_gemm(BLOCK, i, BLOCK, t + i * rows + i, rows, left, i, false, t + i * rows, rows);
    }
}

/* y = v - diag(k_start) x, then x = diag(beta) y; x [rows, width] packed. */
GDNCP_VECTOR_CLONES
static void subtract_rows(int64_t rows, int64_t width, const float *v, int64_t v_ld,
                          const float *k_start, const float *beta, float *y, int64_t ld, float *x)
{
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < width; j++) {
            const float value = v[i * v_ld + j] - k_start[i] * x[i * width + j];

            y[i * ld + j] = value;
            x[i * width + j] = beta[i] * value;
        }
    }
}

gdncp_chunk_t gdncp_chunk_make(const gdncp_rule_problem_t *problem, int64_t rows, bool with_q,
                               const gdncp_chunk_keys_t *keys, const gdncp_key_operands_t *operands,
                               const gdncp_chunk_gates_t *gates, const gdncp_chunk_rooms_t *rooms)
{
    gdncp_chunk_t chunk = {.problem = problem,
                           .rows = rows,
                           .keys = keys,
                           .operands = operands,
                           .gates = gates,
                           .rooms = rooms};

    for (int64_t i = 0; i < rows; i++) {
        chunk.k_start[i] = gates->from_start[i] * keys->k_factors[i];
        chunk.k_end[i] = gates->to_end[i] * keys->k_factors[i];
        if (with_q) {
            chunk.q_start[i] = problem->scale * gates->from_start[i] * keys->q_factors[i];
        }
    }
    return chunk;
}

void gdncp_chunk_values(const gdncp_chunk_t *chunk, int64_t width, int64_t ld, const float *t,
                        const gdncp_operand_t *state, const gdncp_float_rows_t *v, float *y,
                        float *u, float *work)
{
    const bool in_tiles = chunk->problem->in_tiles;
    const int64_t rows = chunk->rows;

    gdncp_multiply(GDNCP_PRODUCT_FULL, rows, width, chunk->problem->dk, &chunk->operands->k, state,
                   false, work, width);
    subtract_rows(rows, width, v->data, v->ld, chunk->k_start, chunk->gates->beta, y, ld, work);

    const gdncp_operand_t left =
        gdncp_left(in_tiles, GDNCP_PRODUCT_LOWER, rows, rows,
                   &(gdncp_operand_rows_t){.data = t, .ld = rows}, chunk->rooms->left);
    const gdncp_operand_t right =
        gdncp_right(in_tiles, rows, width, &(gdncp_operand_rows_t){.data = work, .ld = width},
                    chunk->rooms->values);

    gdncp_multiply(GDNCP_PRODUCT_LOWER, rows, width, rows, &left, &right, false, u, ld);
}

void gdncp_chunk_advance(const gdncp_chunk_t *chunk, int64_t width, int64_t ld, const float *u,
                         float *state)
{
    const int64_t dk = chunk->problem->dk;
    const int64_t rows = chunk->rows;
    const gdncp_operand_t right =
        gdncp_right(chunk->problem->in_tiles, rows, width,
                    &(gdncp_operand_rows_t){.data = u, .ld = ld, .factors = chunk->k_end},
                    chunk->rooms->values);

    gdncp_scale(dk, width, ld, chunk->gates->total[0], state);
    gdncp_multiply(GDNCP_PRODUCT_FULL, dk, width, rows, &chunk->operands->k_t, &right, true, state,
                   ld);
}

GDNCP_VECTOR_CLONES
static void fill_attention(int64_t rows, float scale, const float *decay, const float *qk, float *p)
{
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t first = 0; first <= i; first += BLOCK) {
            for (int64_t j = first; j < first + BLOCK; j++) {
                const float value = scale * decay[i * rows + j] * qk[i * rows + j];

                p[i * rows + j] = j <= i ? value : 0.0f;
            }
        }
    }
}

void gdncp_chunk_attention(int64_t rows, float scale, const gdncp_chunk_gates_t *gates,
                           const float *qk, float *p)
{
    fill_attention(rows, scale, gates->decay, qk, p);
}
