/* One chunk of one head of the gated delta rule, backward. Conventions of delta_rule_chunk.h. */
#ifndef GDNCP_DELTA_RULE_CHUNK_BACKWARD_H
#define GDNCP_DELTA_RULE_CHUNK_BACKWARD_H

#include "delta_rule_chunk.h"

/* Scratch of the backward chunk functions. */
typedef struct gdncp_chunk_backward_scratch {
    float *grad_u;     /* [rows, dv] */
    float *attention;  /* [rows, rows] */
    float *pairs;      /* [2 rows, rows] dO U' over dR U', for i >= j */
    float *state_rows; /* [2 rows, dk] dO S0' over dR S0'; then U dS' */
    float *grad_qk;    /* [rows, rows] */
    float *grad_kk;    /* [rows, rows] of KK', symmetric */
} gdncp_chunk_backward_scratch_t;

gdncp_chunk_backward_scratch_t gdncp_chunk_backward_scratch_take(gdncp_arena_t *arena, int64_t dk,
                                                                 int64_t dv);

/* What the forward walk leaves of a chunk. */
typedef struct gdncp_chunk_record {
    float *state_t; /* [dv, dk] at the chunk's start */
    float *y;       /* [rows, dv] */
    float *u;       /* [rows, dv] */
    float *t;       /* [rows, rows] */
} gdncp_chunk_record_t;

/* What the walk back leaves of a chunk. */
typedef struct gdncp_chunk_back_record {
    float *grads;        /* [2 rows, dv] dO over dR */
    float *grad_state_t; /* [dv, dk] dS' of the chunk's end */
} gdncp_chunk_back_record_t;

/* The walk back that needs no states, for some of v's columns, with operand K. On entry dO [rows,
 * dv] lies in grads; on return dR lies below it. */
void gdncp_chunk_grad_values(const gdncp_chunk_t *chunk, const gdncp_columns_t *columns,
                             const float *t, const float *grad_state, float *grads,
                             const gdncp_chunk_backward_scratch_t *scratch);

/* grad_state [dk, dv], of the chunk's end on entry, of its start on return, in the same columns;
 * after the call above, with operands K' and Q'. */
void gdncp_chunk_grad_state(const gdncp_chunk_t *chunk, const gdncp_columns_t *columns,
                            const float *grads, float *grad_state);

/* Gradients of one chunk of one head. */
typedef struct gdncp_chunk_grads {
    bool is_first;        /* of its group: q and k are set, else added to */
    float *q;             /* [rows, dk] of the normalised q */
    float *k;             /* [rows, dk] */
    gdncp_float_rows_t v; /* [rows, dv] */
    double g[GDNCP_CHUNK];
    double beta[GDNCP_CHUNK];
} gdncp_chunk_grads_t;

/* The rest, from what the walks left; takes no operand. */
void gdncp_chunk_grad_inputs(const gdncp_chunk_t *chunk, const gdncp_chunk_record_t *record,
                             const gdncp_chunk_back_record_t *back,
                             const gdncp_chunk_backward_scratch_t *scratch,
                             gdncp_chunk_grads_t *grads);

#endif
