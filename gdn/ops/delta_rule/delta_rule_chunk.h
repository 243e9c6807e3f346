/*
 * One chunk of one head of the gated delta rule, forward.
 *
 * Names as in README.md. All matrices are row-major float32 with `rows` rows or columns where
 * the tokens of the chunk are meant; matrices over pairs of tokens are [rows, rows], element
 * (i, j) being what token i takes from token j.
 */
#ifndef GDNCP_DELTA_RULE_CHUNK_H
#define GDNCP_DELTA_RULE_CHUNK_H

#include <stdint.h>

#include "delta_rule_rows.h"
#include "op_scratch.h"
#include "operand.h"

/* What value heads of one group share. */
typedef struct gdncp_chunk_keys {
    float *k;         /* [rows, dk] as given */
    float *q;         /* [rows, dk]; not used where the caller has none */
    float *k_factors; /* [rows] what rows are to be multiplied by: normalisation */
    float *q_factors;
    float *kk; /* [rows, rows] k_i . k_j for i >= j, normalised */
    float *qk; /* [rows, rows] q_i . k_j for i >= j */
} gdncp_chunk_keys_t;

/* Room for num_chunks of them laid end to end; gdncp_chunk_keys_at() gives one. */
gdncp_chunk_keys_t gdncp_chunk_keys_take(gdncp_arena_t *arena, int64_t num_chunks, int64_t dk);
gdncp_chunk_keys_t gdncp_chunk_keys_at(const gdncp_chunk_keys_t *keys, int64_t chunk, int64_t dk);

/* Where a chunk's tokens lie. */
typedef struct gdncp_chunk_span {
    int64_t begin; /* in the pack */
    int64_t count; /* tokens, 1..GDNCP_CHUNK */
    int64_t rows;  /* padded */
} gdncp_chunk_span_t;

/* Chunks of a sequence of `length` tokens, and the span of one of them. */
int64_t gdncp_num_chunks(int64_t length);
gdncp_chunk_span_t gdncp_chunk_span(int64_t begin, int64_t end, int64_t chunk);

/* Room for operands that are used at once, of a chunk and at most `width` columns. */
typedef struct gdncp_chunk_rooms {
    float *left;   /* of [rows, rows] or [2 rows, dv] */
    float *right;  /* of a state [dk, width], or its transpose */
    float *values; /* right, of [rows, width] or [rows, dk] */
} gdncp_chunk_rooms_t;

gdncp_chunk_rooms_t gdncp_chunk_rooms_take(gdncp_arena_t *arena,
                                           const gdncp_rule_problem_t *problem, int64_t width);

/* Keys and queries, as given, as left operands: K, Q [rows, dk] and K', Q' [dk, rows]. */
typedef struct gdncp_key_operands {
    gdncp_operand_t k;
    gdncp_operand_t q;
    gdncp_operand_t k_t;
    gdncp_operand_t q_t;
    float *rooms[4];
} gdncp_key_operands_t;

/* Which of them. */
typedef enum gdncp_key_operand {
    GDNCP_KEY_K = 1,
    GDNCP_KEY_Q = 2,
    GDNCP_KEY_K_T = 4,
    GDNCP_KEY_Q_T = 8
} gdncp_key_operand_t;

gdncp_key_operands_t gdncp_key_operands_take(gdncp_arena_t *arena,
                                             const gdncp_rule_problem_t *problem);

/* Make those in `which`, of gdncp_key_operand_t, or'ed. */
void gdncp_key_operands_make(const gdncp_rule_problem_t *problem, int64_t rows,
                             const gdncp_chunk_keys_t *keys, unsigned which,
                             gdncp_key_operands_t *operands);

/* Load and multiply the keys, and the queries if with_q; their left operands K and Q are made on
 * the way. */
void gdncp_chunk_keys_load(const gdncp_rule_problem_t *problem, const gdncp_chunk_span_t *span,
                           int64_t key_head, bool with_q, const gdncp_chunk_keys_t *keys,
                           gdncp_key_operands_t *operands, const gdncp_chunk_rooms_t *rooms);

/* What the gates of one value head make of a chunk; G is the sum of g from the chunk's start. */
typedef struct gdncp_chunk_gates {
    float *decay;      /* [rows, rows] D: e^(G_i - G_j) for i >= j; anything above */
    float *beta;       /* [rows] */
    float *from_start; /* [rows] e^G_i */
    float *to_end;     /* [rows] e^(G_C - G_i) */
    float *total;      /* [1] e^G_C */
} gdncp_chunk_gates_t;

/* Room for num_chunks of them laid end to end; gdncp_chunk_gates_at() gives one. */
gdncp_chunk_gates_t gdncp_chunk_gates_take(gdncp_arena_t *arena, int64_t num_chunks);
gdncp_chunk_gates_t gdncp_chunk_gates_at(const gdncp_chunk_gates_t *gates, int64_t chunk);

void gdncp_chunk_gates_load(const gdncp_rule_problem_t *problem, const gdncp_chunk_span_t *span,
                            int64_t value_head, const gdncp_chunk_gates_t *gates);

/* t = (I + diag(beta) A)^-1 with A = D o KK' strictly below the diagonal. work: [rows, rows]. */
void gdncp_chunk_inverse(int64_t rows, const gdncp_chunk_gates_t *gates, const float *kk, float *t,
                         float *work);

/* One chunk of one value head, and room for its products. */
typedef struct gdncp_chunk {
    const gdncp_rule_problem_t *problem;
    int64_t rows;
    const gdncp_chunk_keys_t *keys;
    const gdncp_key_operands_t *operands;
    const gdncp_chunk_gates_t *gates;
    const gdncp_chunk_rooms_t *rooms;
    /* What products with rows of K and Q as given are to be multiplied by, row by row: the factors
     * of the normalisation and these. */
    float k_start[GDNCP_CHUNK]; /* e^G_i */
    float k_end[GDNCP_CHUNK];   /* e^(G_C - G_i) */
    float q_start[GDNCP_CHUNK]; /* scale e^G_i; not used where there are no queries */
} gdncp_chunk_t;

/* Of keys and gates that are loaded; operands may be made later. */
gdncp_chunk_t gdncp_chunk_make(const gdncp_rule_problem_t *problem, int64_t rows, bool with_q,
                               const gdncp_chunk_keys_t *keys, const gdncp_key_operands_t *operands,
                               const gdncp_chunk_gates_t *gates, const gdncp_chunk_rooms_t *rooms);

/*
 * With v [rows, width], which may be y, and the state [dk, width] at the chunk's start as a right
 * operand:
 *     y = v - diag(e^G) K S,    u = T diag(beta) y.
 * Takes operand K. ld: elements between rows of y and u. work: [rows, width], packed.
 */
void gdncp_chunk_values(const gdncp_chunk_t *chunk, int64_t width, int64_t ld, const float *t,
                        const gdncp_operand_t *state, const gdncp_float_rows_t *v, float *y,
                        float *u, float *work);

/* S <- e^G_C S + K' diag(e^(G_C - G)) u, with operand K'; rows of u and state are ld apart. */
void gdncp_chunk_advance(const gdncp_chunk_t *chunk, int64_t width, int64_t ld, const float *u,
                         float *state);

/* p = scale D o QK', lower with the diagonal, set as far as GDNCP_PRODUCT_LOWER is read. */
void gdncp_chunk_attention(int64_t rows, float scale, const gdncp_chunk_gates_t *gates,
                           const float *qk, float *p);

#endif
