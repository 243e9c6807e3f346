/* Long sequences cut into pieces: where to cut, and the states at borders. */
#include "delta_rule_pieces.h"

#include <string.h>

#include "delta_rule_rows.h"
#include "op_checks.h"
#include "op_parallel.h"
#include "small_gemm.h"
#include "workspace.h"

/* Columns of a state that go along a sequence's borders together. */
#define CHAIN_COLUMNS 32

static int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* KK' and QK'; K S, Q S, the update; T Y, P U. */
int64_t gdncp_rule_forward_products(const gdncp_rule_problem_t *problem, int64_t columns)
{
    return 2 * GDNCP_CHUNK * problem->dk + columns * (3 * problem->dk + 2 * GDNCP_CHUNK);
}

/* Walks go by columns: K S, T Y, the update; P' dO, K dS, T' dU, two products for dS. The rest goes
 * by chunks: keys' five products over pairs; dP, dB, three products for dQ and dK. */
int64_t gdncp_rule_backward_products(const gdncp_rule_problem_t *problem, int64_t width,
                                     int64_t num_threads)
{
    const int64_t even = ceil_div(problem->dv, num_threads);
    const int64_t columns = even > width ? even : width;
    const int64_t rest =
        5 * GDNCP_CHUNK * problem->dk + problem->dv * (3 * problem->dk + 2 * GDNCP_CHUNK);

    return columns * (5 * problem->dk + 3 * GDNCP_CHUNK) + rest / num_threads;
}

/* KK'; K [M | U], T Y, the update. */
static int64_t summary_products(const gdncp_rule_problem_t *problem)
{
    return GDNCP_CHUNK * problem->dk +
           (problem->dk + problem->dv) * (2 * problem->dk + GDNCP_CHUNK);
}

/* Pieces are as long as what keeps all threads busy, in whole steps of saved states, whose places
 * are then those of the uncut sequence. */
int64_t gdncp_rule_piece_tokens(const gdncp_rule_problem_t *problem, int64_t items_per_sequence,
                                int64_t heads, int64_t uncut, int64_t cut)
{
    const int64_t num_threads = gdncp_parallel_num_threads(INT64_MAX);
    const int64_t even = ceil_div(problem->num_tokens * items_per_sequence, num_threads);
    const int64_t steps = even > 0 ? ceil_div(even, GDNCP_SAVED_STATE_TOKENS) : 1;
    const int64_t tokens = steps * GDNCP_SAVED_STATE_TOKENS;
    const int64_t pieces = tokens * (cut + heads * summary_products(problem));

    /* What loops over rows and memory take of the gain is not in these counts: it must be half. */
    return problem->longest >= 2 * tokens && 2 * uncut >= 3 * pieces ? tokens : 0;
}

static int64_t num_pieces_of(const gdncp_rule_pieces_t *pieces, int64_t sequence)
{
    const int64_t *const cu_seqlens = pieces->whole->rule->cu_seqlens;
    const int64_t length = cu_seqlens[sequence + 1] - cu_seqlens[sequence];

    return length >= 2 * pieces->tokens ? ceil_div(length, pieces->tokens) : 1;
}

static int64_t *take_list(gdncp_arena_t *arena, int64_t count)
{
    return (int64_t *)(void *)gdncp_arena_floats(
        arena, count * (int64_t)(sizeof(int64_t) / sizeof(float)));
}

static gdncp_tensor_t take_states(const gdncp_rule_problem_t *problem, gdncp_arena_t *arena,
                                  int64_t count, int64_t columns)
{
    const int64_t shape[] = {count, problem->num_value_heads, problem->dk, columns};

    return gdncp_tensor_contiguous(
        gdncp_arena_floats(arena, count * problem->num_value_heads * problem->dk * columns),
        GDNCP_F32, 4, shape);
}

static void take_scratch(gdncp_rule_pieces_t *pieces, bool is_backward, gdncp_arena_t *arena)
{
    const gdncp_rule_problem_t *const whole = pieces->whole;
    const int64_t num_pieces = pieces->rule.num_sequences;
    const int64_t num_borders = pieces->num_borders;

    pieces->cu_seqlens = take_list(arena, num_pieces + 1);
    pieces->first = take_list(arena, whole->rule->num_sequences + 1);
    pieces->before = take_list(arena, num_borders);
    pieces->behind = take_list(arena, num_borders);
    pieces->transition = take_states(whole, arena, num_borders, whole->dk);
    pieces->offset = take_states(whole, arena, num_borders, whole->dv);
    pieces->states = take_states(whole, arena, num_pieces, whole->dv);
    pieces->grad_states = take_states(whole, arena, is_backward ? num_pieces : 0, whole->dv);
}

static void fill_lists(gdncp_rule_pieces_t *pieces)
{
    const int64_t num_sequences = pieces->whole->rule->num_sequences;
    const int64_t *const whole = pieces->whole->rule->cu_seqlens;
    int64_t piece = 0;
    int64_t border = 0;

    for (int64_t sequence = 0; sequence < num_sequences; sequence++) {
        const int64_t count = num_pieces_of(pieces, sequence);

        pieces->first[sequence] = piece;
        for (int64_t i = 0; i < count; i++, piece++) {
            pieces->cu_seqlens[piece] = whole[sequence] + i * pieces->tokens;
            if (i > 0) {
                pieces->before[border] = piece - 1;
                pieces->behind[border++] = piece;
            }
        }
    }
    pieces->first[num_sequences] = piece;
    pieces->cu_seqlens[piece] = whole[num_sequences];
}

gdncp_status_t gdncp_rule_pieces_open(const gdncp_rule_problem_t *whole, int64_t tokens,
                                      bool is_backward, gdncp_workspace_t *workspace,
                                      gdncp_rule_pieces_t *pieces)
{
    gdncp_arena_t measure = {.block = NULL};
    gdncp_status_t status;

    *pieces = (gdncp_rule_pieces_t){
        .whole = whole, .problem = *whole, .rule = *whole->rule, .tokens = tokens};
    pieces->rule.num_sequences = 0;
    for (int64_t i = 0; i < whole->rule->num_sequences; i++) {
        pieces->rule.num_sequences += num_pieces_of(pieces, i);
    }
    pieces->num_borders = pieces->rule.num_sequences - whole->rule->num_sequences;
    status = gdncp_workspace_inner(workspace, &pieces->workspace);
    if (status != GDNCP_OK) {
        return status;
    }
    take_scratch(pieces, is_backward, &measure);
    status = gdncp_scratch_open(workspace, 1, measure.used, &pieces->scratch);
    if (status != GDNCP_OK) {
        return status;
    }
    gdncp_arena_t arena = gdncp_scratch_arena(&pieces->scratch, 0);

    take_scratch(pieces, is_backward, &arena);
    fill_lists(pieces);
    pieces->rule.cu_seqlens = pieces->cu_seqlens;
    pieces->rule.initial_state = pieces->states;
    pieces->rule.state_layout = GDNCP_STATE_DK_DV;
    pieces->problem.rule = &pieces->rule;
    pieces->problem.longest = 0;
    for (int64_t i = 0; i < pieces->rule.num_sequences; i++) {
        const int64_t length = pieces->cu_seqlens[i + 1] - pieces->cu_seqlens[i];

        pieces->problem.longest =
            length > pieces->problem.longest ? length : pieces->problem.longest;
    }
    return GDNCP_OK;
}

void gdncp_rule_pieces_close(gdncp_rule_pieces_t *pieces)
{
    gdncp_scratch_close(&pieces->scratch);
}

/* States of a sequence's first or last piece, and those of the call. */
typedef struct copy_run {
    const gdncp_rule_pieces_t *pieces;
    const gdncp_tensor_t *states;
    const gdncp_tensor_t *outer;
    bool is_last;
} copy_run_t;

static float *state_at(const gdncp_rule_pieces_t *pieces, const gdncp_tensor_t *states,
                       int64_t index, int64_t head)
{
    return (float *)states->data +
           (index * pieces->whole->num_value_heads + head) * states->shape[2] * states->shape[3];
}

static float *state_of_item(const copy_run_t *run, int64_t sequence, int64_t head)
{
    const int64_t *const first = run->pieces->first + sequence;

    return state_at(run->pieces, run->states, run->is_last ? first[1] - 1 : first[0], head);
}

static void load_item(void *context, int64_t item, int thread)
{
    const copy_run_t *const run = context;
    const gdncp_rule_problem_t *const whole = run->pieces->whole;
    const int64_t sequence = item / whole->num_value_heads;
    const int64_t head = item % whole->num_value_heads;

    (void)thread;
    gdncp_load_state(whole, run->outer, sequence, head, &(gdncp_columns_t){0, whole->dv},
                     state_of_item(run, sequence, head));
}

static void store_item(void *context, int64_t item, int thread)
{
    const copy_run_t *const run = context;
    const gdncp_rule_problem_t *const whole = run->pieces->whole;
    const int64_t sequence = item / whole->num_value_heads;
    const int64_t head = item % whole->num_value_heads;

    (void)thread;
    gdncp_store_state(whole, state_of_item(run, sequence, head), sequence, head,
                      &(gdncp_columns_t){0, whole->dv}, run->outer);
}

static void copy_states(copy_run_t run, gdncp_parallel_body_t body)
{
    const gdncp_rule_problem_t *const whole = run.pieces->whole;
    const int64_t num_items = whole->rule->num_sequences * whole->num_value_heads;

    gdncp_parallel_for(num_items, gdncp_parallel_num_threads(num_items), body, &run);
}

void gdncp_rule_pieces_store_last(const gdncp_rule_pieces_t *pieces, const gdncp_tensor_t *states,
                                  const gdncp_tensor_t *outer)
{
    copy_states((copy_run_t){pieces, states, outer, true}, store_item);
}

void gdncp_rule_pieces_store_first(const gdncp_rule_pieces_t *pieces, const gdncp_tensor_t *states,
                                   const gdncp_tensor_t *outer)
{
    copy_states((copy_run_t){pieces, states, outer, false}, store_item);
}

/* Some columns of the states of one head, along the pieces of a sequence. */
typedef struct chain {
    const gdncp_rule_pieces_t *pieces;
    int64_t sequence;
    int64_t head;
    gdncp_columns_t columns;
    int64_t first; /* piece */
    int64_t last;
    int64_t border; /* the one behind the first piece; others follow */
} chain_t;

typedef void (*chain_step_t)(const chain_t *chain);

typedef struct chain_run {
    const gdncp_rule_pieces_t *pieces;
    chain_step_t step;
} chain_run_t;

static void chain_item(void *context, int64_t item, int thread)
{
    const chain_run_t *const run = context;
    const gdncp_rule_problem_t *const whole = run->pieces->whole;
    const int64_t num_panels = gdncp_num_panels(whole, CHAIN_COLUMNS);
    const int64_t index = item / num_panels;
    const int64_t sequence = index / whole->num_value_heads;
    const chain_t chain = {.pieces = run->pieces,
                           .sequence = sequence,
                           .head = index % whole->num_value_heads,
                           .columns =
                               gdncp_columns_of_panel(whole, CHAIN_COLUMNS, item % num_panels),
                           .first = run->pieces->first[sequence],
                           .last = run->pieces->first[sequence + 1] - 1,
                           .border = run->pieces->first[sequence] - sequence};

    (void)thread;
    run->step(&chain);
}

static void walk_chains(const gdncp_rule_pieces_t *pieces, chain_step_t step)
{
    const gdncp_rule_problem_t *const whole = pieces->whole;
    const int64_t num_items = whole->rule->num_sequences * whole->num_value_heads *
                              gdncp_num_panels(whole, CHAIN_COLUMNS);
    chain_run_t run = {.pieces = pieces, .step = step};

    gdncp_parallel_for(num_items, gdncp_parallel_num_threads(num_items), chain_item, &run);
}

static float *columns_at(const chain_t *chain, const gdncp_tensor_t *states, int64_t index)
{
    return state_at(chain->pieces, states, index, chain->head) + chain->columns.first;
}

/* Of the state with which a piece begins that is not the first. */
static float *saved_columns(const chain_t *chain, int64_t piece)
{
    const int64_t chunk = (piece - chain->first) * (chain->pieces->tokens / GDNCP_CHUNK);

    return gdncp_rule_saved_state(chain->pieces->whole, chain->sequence, chunk, chain->head) +
           chain->columns.first;
}

static bool has_saved(const gdncp_rule_pieces_t *pieces)
{
    return !gdncp_op_is_absent(&pieces->rule.saved_states);
}

/* S <- M S + U. */
static void find_states(const chain_t *chain)
{
    const gdncp_rule_pieces_t *const pieces = chain->pieces;
    const int64_t dk = pieces->whole->dk;
    const int64_t dv = pieces->whole->dv;
    const int64_t width = chain->columns.width;

    for (int64_t piece = chain->first + 1; piece <= chain->last; piece++) {
        const int64_t border = chain->border + piece - 1 - chain->first;
        float *const state = columns_at(chain, &pieces->states, piece);

        gdncp_copy_columns(dk, width, columns_at(chain, &pieces->offset, border), dv, state, dv);
        gdncp_gemm(dk, width, dk, state_at(pieces, &pieces->transition, border, chain->head), dk,
                   columns_at(chain, &pieces->states, piece - 1), dv, true, state, dv);
        if (has_saved(pieces)) {
            gdncp_copy_columns(dk, width, state, dv, saved_columns(chain, piece), dv);
        }
    }
}

static void restore_states(const chain_t *chain)
{
    const int64_t dv = chain->pieces->whole->dv;

    for (int64_t piece = chain->first + 1; piece <= chain->last; piece++) {
        gdncp_copy_columns(chain->pieces->whole->dk, chain->columns.width,
                           saved_columns(chain, piece), dv,
                           columns_at(chain, &chain->pieces->states, piece), dv);
    }
}

/* dS <- M' dS + D, but at the last border, whose D has been walked to from the sequence's end. */
static void find_grad_states(const chain_t *chain)
{
    const gdncp_rule_pieces_t *const pieces = chain->pieces;
    const int64_t dk = pieces->whole->dk;
    const int64_t dv = pieces->whole->dv;
    const int64_t width = chain->columns.width;

    for (int64_t piece = chain->last - 1; piece >= chain->first; piece--) {
        const int64_t border = chain->border + piece - chain->first;
        float *const grad = columns_at(chain, &pieces->grad_states, piece);

        gdncp_copy_columns(dk, width, columns_at(chain, &pieces->offset, border), dv, grad, dv);
        if (piece + 1 < chain->last) {
            gdncp_gemm_tn(dk, width, dk,
                          state_at(pieces, &pieces->transition, border + 1, chain->head), dk,
                          columns_at(chain, &pieces->grad_states, piece + 1), dv, true, grad, dv);
        }
    }
}

static gdncp_status_t find_summaries(gdncp_rule_pieces_t *pieces)
{
    return gdncp_delta_rule_summary(&pieces->rule, pieces->before, NULL, pieces->num_borders,
                                    &pieces->transition, &pieces->offset, pieces->workspace);
}

gdncp_status_t gdncp_rule_pieces_forward(gdncp_rule_pieces_t *pieces)
{
    const gdncp_status_t status = find_summaries(pieces);

    if (status == GDNCP_OK) {
        copy_states(
            (copy_run_t){pieces, &pieces->states, &pieces->whole->rule->initial_state, false},
            load_item);
        walk_chains(pieces, find_states);
    }
    return status;
}

/* Where the walk back of a piece behind a border begins: with the gradient of the final state, if
 * no piece follows, else with zeros, for D. */
static void begin_at_ends(const gdncp_rule_pieces_t *pieces)
{
    const gdncp_rule_problem_t *const whole = pieces->whole;
    const int64_t size = whole->num_value_heads * whole->dk * whole->dv;

    for (int64_t border = 0; border < pieces->num_borders; border++) {
        const int64_t piece = pieces->behind[border];
        const bool is_last =
            border + 1 == pieces->num_borders || pieces->before[border + 1] != piece;
        float *const grad = (float *)pieces->offset.data + border * size;

        if (is_last) {
            memcpy(grad, (const float *)pieces->grad_states.data + piece * size,
                   (size_t)size * sizeof(float));
        } else {
            memset(grad, 0, (size_t)size * sizeof(float));
        }
    }
}

gdncp_status_t gdncp_rule_pieces_backward(gdncp_rule_pieces_t *pieces, const gdncp_tensor_t *grad_o,
                                          const gdncp_tensor_t *grad_final_state)
{
    gdncp_status_t status = find_summaries(pieces);

    if (status != GDNCP_OK) {
        return status;
    }
    copy_states((copy_run_t){pieces, &pieces->states, &pieces->whole->rule->initial_state, false},
                load_item);
    walk_chains(pieces, has_saved(pieces) ? restore_states : find_states);
    copy_states((copy_run_t){pieces, &pieces->grad_states, grad_final_state, true}, load_item);
    begin_at_ends(pieces);
    status =
        gdncp_delta_rule_grad_summary(&pieces->rule, pieces->behind, NULL, pieces->num_borders,
                                      grad_o, &pieces->offset, &pieces->offset, pieces->workspace);
    if (status == GDNCP_OK) {
        walk_chains(pieces, find_grad_states);
    }
    return status;
}
