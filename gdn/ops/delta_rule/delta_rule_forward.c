/* The gated delta rule over whole sequences, forward. */
#include "gdncp/ops.h"

#include <string.h>

#include "delta_rule_chunk.h"
#include "delta_rule_gate.h"
#include "delta_rule_pieces.h"
#include "op_checks.h"
#include "op_parallel.h"
#include "vector_math.h"

typedef struct forward_scratch {
    gdncp_chunk_keys_t keys;
    gdncp_chunk_gates_t gates;
    gdncp_key_operands_t operands;
    gdncp_chunk_rooms_t rooms;
    float *states; /* [heads of an item, dk, width] */
    float *values; /* [rows, width] y */
    float *u;      /* [rows, width] */
    float *o;      /* [rows, width] */
    float *t;      /* [rows, rows] */
    float *work;   /* [rows, max(rows, width)] */
} forward_scratch_t;

typedef struct forward_run {
    gdncp_rule_problem_t problem;
    const gdncp_tensor_t *o;
    const gdncp_tensor_t *final_state; /* NULL: none */
    bool by_group;                     /* an item is a group of value heads, else one value head */
    int64_t width;                     /* columns of an item, but where fewer are left */
    int64_t panels_per_head;
    int64_t items_per_sequence;
    gdncp_scratch_t scratch;
} forward_run_t;

static forward_scratch_t take_scratch(const forward_run_t *run, gdncp_arena_t *arena)
{
    const gdncp_rule_problem_t *const problem = &run->problem;
    const int64_t dk = problem->dk;
    const int64_t width = run->width;
    const int64_t heads = run->by_group ? problem->group_size : 1;
    forward_scratch_t scratch;

    scratch.keys = gdncp_chunk_keys_take(arena, 1, dk);
    scratch.gates = gdncp_chunk_gates_take(arena, 1);
    scratch.operands = gdncp_key_operands_take(arena, problem);
    scratch.rooms = gdncp_chunk_rooms_take(arena, problem, width);
    scratch.states = gdncp_arena_floats(arena, heads * dk * width);
    scratch.values = gdncp_arena_floats(arena, GDNCP_CHUNK * width);
    scratch.u = gdncp_arena_floats(arena, GDNCP_CHUNK * width);
    scratch.o = gdncp_arena_floats(arena, GDNCP_CHUNK * width);
    scratch.t = gdncp_arena_floats(arena, GDNCP_CHUNK * GDNCP_CHUNK);
    scratch.work =
        gdncp_arena_floats(arena, GDNCP_CHUNK * (width > GDNCP_CHUNK ? width : GDNCP_CHUNK));
    return scratch;
}

/* o = scale diag(e^G) Q S + P u of a chunk; scratch->o has Q S, of queries as given. */
static void write_output(const forward_run_t *run, const gdncp_chunk_t *chunk,
                         const gdncp_chunk_span_t *span, int64_t head,
                         const gdncp_columns_t *columns, const forward_scratch_t *scratch)
{
    const gdncp_rule_problem_t *const problem = &run->problem;
    const int64_t rows = span->rows;
    const int64_t width = columns->width;
    const gdncp_float_rows_t o = gdncp_columns_output(run->o, span->begin, span->count, head,
                                                      columns, rows, scratch->o, width);

    gdncp_scale_rows(rows, width, chunk->q_start, scratch->o, width, o.data, o.ld);
    gdncp_chunk_attention(rows, problem->scale, &scratch->gates, scratch->keys.qk, scratch->work);

    const gdncp_operand_t p =
        gdncp_left(problem->in_tiles, GDNCP_PRODUCT_LOWER, rows, rows,
                   &(gdncp_operand_rows_t){.data = scratch->work, .ld = rows}, scratch->rooms.left);
    const gdncp_operand_t u = gdncp_right(problem->in_tiles, rows, width,
                                          &(gdncp_operand_rows_t){.data = scratch->u, .ld = width},
                                          scratch->rooms.values);

    gdncp_multiply(GDNCP_PRODUCT_LOWER, rows, width, rows, &p, &u, true, o.data, o.ld);
    gdncp_store_columns(o.data, o.ld, span->begin, span->count, head, columns, run->o);
}

static void advance_head(const forward_run_t *run, const gdncp_chunk_span_t *span, int64_t head,
                         const gdncp_columns_t *columns, const forward_scratch_t *scratch,
                         float *state)
{
    const gdncp_rule_problem_t *const problem = &run->problem;
    const int64_t rows = span->rows;
    const int64_t dk = problem->dk;
    const int64_t width = columns->width;

    gdncp_chunk_gates_load(problem, span, head, &scratch->gates);
    gdncp_chunk_inverse(rows, &scratch->gates, scratch->keys.kk, scratch->t, scratch->work);

    const gdncp_chunk_t chunk = gdncp_chunk_make(
        problem, rows, true, &scratch->keys, &scratch->operands, &scratch->gates, &scratch->rooms);
    const gdncp_float_rows_t v = gdncp_columns_input(&problem->rule->v, span->begin, span->count,
                                                     head, columns, rows, scratch->values, width);
    const gdncp_operand_t right =
        gdncp_right(problem->in_tiles, dk, width,
                    &(gdncp_operand_rows_t){.data = state, .ld = width}, scratch->rooms.right);

    gdncp_multiply(GDNCP_PRODUCT_FULL, rows, width, dk, &scratch->operands.q, &right, false,
                   scratch->o, width);
    gdncp_chunk_values(&chunk, width, width, scratch->t, &right, &v, scratch->values, scratch->u,
                       scratch->work);
    write_output(run, &chunk, span, head, columns, scratch);
    gdncp_chunk_advance(&chunk, width, width, scratch->u, state);
}

/* Keep the state at the start of a chunk, where it is one of those to be saved. */
static void save_state(const gdncp_rule_problem_t *problem, int64_t sequence, int64_t chunk,
                       int64_t head, const gdncp_columns_t *columns, const float *state)
{
    if (chunk > 0 && chunk % GDNCP_SAVED_STATE_CHUNKS == 0 &&
        !gdncp_op_is_absent(&problem->rule->saved_states)) {
        float *const saved = gdncp_rule_saved_state(problem, sequence, chunk, head);

        gdncp_copy_columns(problem->dk, columns->width, state, columns->width,
                           saved + columns->first, problem->dv);
    }
}

static void forward_item(void *context, int64_t item, int thread)
{
    const forward_run_t *const run = context;
    const gdncp_rule_problem_t *const problem = &run->problem;
    const gdncp_delta_rule_t *const rule = problem->rule;
    const gdncp_columns_t columns =
        gdncp_columns_of_panel(problem, run->width, item % run->panels_per_head);
    const int64_t size = problem->dk * columns.width;
    const int64_t sequence = item / run->items_per_sequence;
    const int64_t part = item % run->items_per_sequence / run->panels_per_head;
    const int64_t key_head = run->by_group ? part : gdncp_rule_key_head(problem, part);
    const gdncp_head_group_t heads =
        run->by_group ? gdncp_rule_group(problem, key_head) : (gdncp_head_group_t){part, part + 1};
    const int64_t begin = rule->cu_seqlens[sequence];
    const int64_t end = rule->cu_seqlens[sequence + 1];
    const int64_t num_chunks = gdncp_num_chunks(end - begin);
    gdncp_arena_t arena = gdncp_scratch_arena(&run->scratch, thread);
    forward_scratch_t scratch = take_scratch(run, &arena);

    gdncp_operand_begin(problem->in_tiles);
    for (int64_t head = heads.first; head < heads.end; head++) {
        gdncp_load_state(problem, &rule->initial_state, sequence, head, &columns,
                         scratch.states + (head - heads.first) * size);
    }
    for (int64_t chunk = 0; chunk < num_chunks && heads.first < heads.end; chunk++) {
        const gdncp_chunk_span_t span = gdncp_chunk_span(begin, end, chunk);

        gdncp_chunk_keys_load(problem, &span, key_head, true, &scratch.keys, &scratch.operands,
                              &scratch.rooms);
        gdncp_key_operands_make(problem, span.rows, &scratch.keys, GDNCP_KEY_K_T,
                                &scratch.operands);
        for (int64_t head = heads.first; head < heads.end; head++) {
            float *const state = scratch.states + (head - heads.first) * size;

            save_state(problem, sequence, chunk, head, &columns, state);
            advance_head(run, &span, head, &columns, &scratch, state);
        }
    }
    for (int64_t head = heads.first; head < heads.end; head++) {
        gdncp_store_state(problem, scratch.states + (head - heads.first) * size, sequence, head,
                          &columns, run->final_state);
    }
    gdncp_operand_end(problem->in_tiles);
}

/*
 * Groups of value heads share the products of their keys; single heads keep more threads busy, and
 * panels of their columns still more, at the price of the products of keys, and of the inverse,
 * once for each. No choice changes a bit: columns of a state have nothing to do with each other.
 */
static void choose_items(forward_run_t *run)
{
    const gdncp_rule_problem_t *const problem = &run->problem;
    const int64_t num_sequences = problem->rule->num_sequences;
    const int64_t num_groups = num_sequences * problem->num_key_heads;
    const int64_t num_heads = num_sequences * problem->num_value_heads;
    const int64_t most_panels =
        problem->dv % GDNCP_PANEL_COLUMNS == 0 ? problem->dv / GDNCP_PANEL_COLUMNS : 1;
    const int64_t num_threads = gdncp_parallel_num_threads(num_heads * most_panels);

    run->by_group = gdncp_parallel_num_threads(num_groups) < num_groups;
    run->width = problem->dv;
    if (num_heads > 0 && num_heads < num_threads) {
        const int64_t panels = (num_threads + num_heads - 1) / num_heads;

        run->width = (most_panels + panels - 1) / panels * GDNCP_PANEL_COLUMNS;
    }
    run->panels_per_head = gdncp_num_panels(problem, run->width);
    run->items_per_sequence =
        run->panels_per_head * (run->by_group ? problem->num_key_heads : problem->num_value_heads);
}

int64_t gdncp_rule_forward_piece_tokens(const gdncp_rule_problem_t *problem)
{
    forward_run_t run = {.problem = *problem};

    choose_items(&run);
    const int64_t heads = run.by_group ? problem->group_size : 1;

    return gdncp_rule_piece_tokens(problem, problem->num_value_heads, 1,
                                   problem->longest *
                                       gdncp_rule_forward_products(problem, heads * run.width),
                                   gdncp_rule_forward_products(problem, problem->dv));
}

static gdncp_status_t walk_sequences(const gdncp_rule_problem_t *problem, const gdncp_tensor_t *o,
                                     const gdncp_tensor_t *final_state,
                                     gdncp_workspace_t *workspace)
{
    forward_run_t run = {.problem = *problem, .o = o, .final_state = final_state};
    gdncp_arena_t measure = {.block = NULL};

    choose_items(&run);
    take_scratch(&run, &measure);
    return gdncp_scratch_parallel_for(workspace,
                                      problem->rule->num_sequences * run.items_per_sequence,
                                      measure.used, &run.scratch, forward_item, &run);
}

/* A piece leaves its final state where its initial one was. */
static gdncp_status_t walk_pieces(const gdncp_rule_problem_t *problem, int64_t tokens,
                                  const gdncp_tensor_t *o, const gdncp_tensor_t *final_state,
                                  gdncp_workspace_t *workspace)
{
    gdncp_rule_pieces_t pieces;
    gdncp_status_t status = gdncp_rule_pieces_open(problem, tokens, false, workspace, &pieces);

    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_rule_pieces_forward(&pieces);
    if (status == GDNCP_OK) {
        status = walk_sequences(&pieces.problem, o, &pieces.states, pieces.workspace);
    }
    if (status == GDNCP_OK) {
        gdncp_rule_pieces_store_last(&pieces, &pieces.states, final_state);
    }
    gdncp_rule_pieces_close(&pieces);
    return status;
}

gdncp_status_t gdncp_delta_rule_forward(const gdncp_delta_rule_t *rule, const gdncp_tensor_t *o,
                                        const gdncp_tensor_t *final_state,
                                        gdncp_workspace_t *workspace)
{
    gdncp_rule_problem_t problem;
    gdncp_status_t status = gdncp_rule_problem_make(
        rule, GDNCP_RULE_Q | GDNCP_RULE_INITIAL_STATE | GDNCP_RULE_ANY_LAYOUT, workspace, &problem);

    if (status == GDNCP_OK) {
        status = gdncp_rule_check_values(&problem, "o", o);
    }
    if (status == GDNCP_OK) {
        status = gdncp_rule_check_states(&problem, "final_state", final_state, true,
                                         rule->num_sequences, problem.dv);
    }
    if (status == GDNCP_OK) {
        status = gdncp_rule_gate_check_forward(rule, workspace);
    }
    if (status == GDNCP_OK && rule->gate != NULL) {
        status = gdncp_gate_forward(rule->gate, &rule->g, &rule->beta, workspace);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    if (problem.kernels != NULL) {
        return problem.kernels->delta_rule_forward(
            &problem, o, gdncp_op_is_absent(final_state) ? NULL : final_state, workspace);
    }
    const int64_t tokens = gdncp_rule_forward_piece_tokens(&problem);

    return tokens == 0 ? walk_sequences(&problem, o, final_state, workspace)
                       : walk_pieces(&problem, tokens, o, final_state, workspace);
}
