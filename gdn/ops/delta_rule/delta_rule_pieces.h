/*
 * Long sequences cut into pieces, for threads that heads and columns leave idle. On the CPU.
 *
 * A rule over pieces is the rule of the call, whose sequences are cut further: each piece is a
 * sequence of its own, and begins with the state that the pieces before it leave. What pieces do to
 * states is known from their summaries, so all states at borders come first, then all pieces at
 * once.
 */
#ifndef GDNCP_DELTA_RULE_PIECES_H
#define GDNCP_DELTA_RULE_PIECES_H

#include "delta_rule_problem.h"
#include "op_scratch.h"

/* Multiplications of a token and some columns of v in a forward; columns may be those of several
 * heads with the same key head. */
int64_t gdncp_rule_forward_products(const gdncp_rule_problem_t *problem, int64_t columns);

/* Likewise of a token and value head in a backward, on each of num_threads that share its stages:
 * chunks, and in the walks panels of `width` columns. */
int64_t gdncp_rule_backward_products(const gdncp_rule_problem_t *problem, int64_t width,
                                     int64_t num_threads);

/*
 * Tokens of a piece; 0: no sequence is worth cutting. A work item is a piece and one of
 * items_per_sequence. uncut: multiplications of the thread that has the most of them, without cuts;
 * cut: those of an item's token with cuts, but for those of summaries for each of its `heads`.
 */
int64_t gdncp_rule_piece_tokens(const gdncp_rule_problem_t *problem, int64_t items_per_sequence,
                                int64_t heads, int64_t uncut, int64_t cut);

/* What gdncp_delta_rule_forward() and gdncp_delta_rule_backward() make of it, for as many threads
 * as there are. */
int64_t gdncp_rule_forward_piece_tokens(const gdncp_rule_problem_t *problem);
int64_t gdncp_rule_backward_piece_tokens(const gdncp_rule_problem_t *problem);

typedef struct gdncp_rule_pieces {
    const gdncp_rule_problem_t *whole;
    gdncp_rule_problem_t problem; /* over pieces, with states of [dk, dv] */
    gdncp_delta_rule_t rule;      /* likewise */
    gdncp_workspace_t *workspace; /* for calls over pieces, if the caller has one */
    int64_t tokens;
    int64_t num_borders;
    int64_t *cu_seqlens;
    int64_t *first;             /* [sequences + 1] piece of each */
    int64_t *before;            /* [borders] piece, in order */
    int64_t *behind;            /* [borders] piece */
    gdncp_tensor_t transition;  /* M [borders, Hv, dk, dk] of pieces before borders */
    gdncp_tensor_t offset;      /* [borders, Hv, dk, dv] U of pieces before, or D behind */
    gdncp_tensor_t states;      /* [pieces, Hv, dk, dv] at their starts: the rule's initial state */
    gdncp_tensor_t grad_states; /* [pieces, Hv, dk, dv] at their ends, in a backward */
    gdncp_scratch_t scratch;
} gdncp_rule_pieces_t;

/* Cut the sequences of a problem, which must outlive the pieces, as must its rule. Not to be moved:
 * what it holds points into it. */
gdncp_status_t gdncp_rule_pieces_open(const gdncp_rule_problem_t *whole, int64_t tokens,
                                      bool is_backward, gdncp_workspace_t *workspace,
                                      gdncp_rule_pieces_t *pieces);

void gdncp_rule_pieces_close(gdncp_rule_pieces_t *pieces);

/* Find the states, and leave those at borders in saved_states too. */
gdncp_status_t gdncp_rule_pieces_forward(gdncp_rule_pieces_t *pieces);

/* Find the states, from saved_states if there are any, and the gradients of those at ends. */
gdncp_status_t gdncp_rule_pieces_backward(gdncp_rule_pieces_t *pieces, const gdncp_tensor_t *grad_o,
                                          const gdncp_tensor_t *grad_final_state);

/* Of states [pieces, Hv, dk, dv], those of the last piece of each sequence, or of the first one, to
 * a tensor of the call, if it is there. */
void gdncp_rule_pieces_store_last(const gdncp_rule_pieces_t *pieces, const gdncp_tensor_t *states,
                                  const gdncp_tensor_t *outer);
void gdncp_rule_pieces_store_first(const gdncp_rule_pieces_t *pieces, const gdncp_tensor_t *states,
                                   const gdncp_tensor_t *outer);

#endif
