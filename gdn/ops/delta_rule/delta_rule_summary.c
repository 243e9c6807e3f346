/* The affine map of a sequence: final state = M initial state + U. */
#include "gdncp/ops.h"

#include <string.h>

#include "delta_rule_chunk.h"
#include "op_checks.h"
#include "op_parallel.h"

/*
 * M and U are advanced side by side as one state [M | U] of dk + dv columns, from [I | 0] with
 * values [0 | V]: what the rule does to a state's columns does not depend on the values, so M is
 * the state that zero values leave of the identity.
 */
typedef struct summary_scratch {
    gdncp_chunk_keys_t keys;
    gdncp_chunk_gates_t gates;
    gdncp_key_operands_t operands;
    gdncp_chunk_rooms_t rooms;
    float *state;   /* [dk, dk + dv] M beside U */
    float *initial; /* [dk, dv] */
    float *v;       /* [rows, dv] */
    float *values;  /* [rows, dk + dv] */
    float *u;       /* [rows, dk + dv] */
    float *t;       /* [rows, rows] */
    float *work;    /* [rows, max(rows, dk + dv)] */
} summary_scratch_t;

typedef struct summary_run {
    gdncp_rule_problem_t problem;
    const int64_t *sequences; /* NULL: all */
    float *transition;        /* NULL: not wanted; contribution is then the final state itself */
    float *contribution;
    gdncp_scratch_t scratch;
} summary_run_t;

static summary_scratch_t take_scratch(const gdncp_rule_problem_t *problem, gdncp_arena_t *arena)
{
    const int64_t dk = problem->dk;
    const int64_t width = dk + problem->dv;
    summary_scratch_t scratch;

    scratch.keys = gdncp_chunk_keys_take(arena, 1, dk);
    scratch.gates = gdncp_chunk_gates_take(arena, 1);
    scratch.operands = gdncp_key_operands_take(arena, problem);
    scratch.rooms = gdncp_chunk_rooms_take(arena, problem, width);
    scratch.state = gdncp_arena_floats(arena, dk * width);
    scratch.initial = gdncp_arena_floats(arena, dk * problem->dv);
    scratch.v = gdncp_arena_floats(arena, GDNCP_CHUNK * problem->dv);
    scratch.values = gdncp_arena_floats(arena, GDNCP_CHUNK * width);
    scratch.u = gdncp_arena_floats(arena, GDNCP_CHUNK * width);
    scratch.t = gdncp_arena_floats(arena, GDNCP_CHUNK * GDNCP_CHUNK);
    scratch.work =
        gdncp_arena_floats(arena, GDNCP_CHUNK * (width > GDNCP_CHUNK ? width : GDNCP_CHUNK));
    return scratch;
}

static bool is_zero(const float *state, int64_t rows, int64_t width, int64_t ld)
{
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < width; j++) {
            if (state[i * ld + j] != 0.0f) {
                return false;
            }
        }
    }
    return true;
}

static void start_state(int64_t dk, int64_t width, float *state)
{
    memset(state, 0, (size_t)(dk * width) * sizeof(float));
    for (int64_t i = 0; i < dk; i++) {
        state[i * width + i] = 1.0f;
    }
}

/* Advance over one chunk the columns of [M | U] from first_column on. */
static void advance_columns(const gdncp_rule_problem_t *problem, const gdncp_chunk_span_t *span,
                            int64_t head, int64_t first_column, const summary_scratch_t *scratch)
{
    const int64_t rows = span->rows;
    const int64_t dk = problem->dk;
    const int64_t ld = dk + problem->dv;
    const int64_t width = ld - first_column;
    const gdncp_float_rows_t values = {scratch->values + first_column, ld};

    gdncp_chunk_gates_load(problem, span, head, &scratch->gates);
    gdncp_chunk_inverse(rows, &scratch->gates, scratch->keys.kk, scratch->t, scratch->work);
    gdncp_load_head(&problem->rule->v, span->begin, span->count, head, rows, scratch->v);
    memset(scratch->values, 0, (size_t)(rows * ld) * sizeof(float));
    gdncp_copy_columns(rows, problem->dv, scratch->v, problem->dv, scratch->values + dk, ld);

    const gdncp_chunk_t chunk = gdncp_chunk_make(
        problem, rows, false, &scratch->keys, &scratch->operands, &scratch->gates, &scratch->rooms);
    const gdncp_operand_t state =
        gdncp_right(problem->in_tiles, dk, width,
                    &(gdncp_operand_rows_t){.data = scratch->state + first_column, .ld = ld},
                    scratch->rooms.right);

    gdncp_chunk_values(&chunk, width, ld, scratch->t, &state, &values, values.data,
                       scratch->u + first_column, scratch->work);
    gdncp_chunk_advance(&chunk, width, ld, scratch->u + first_column,
                        scratch->state + first_column);
}

static void summary_item(void *context, int64_t item, int thread)
{
    const summary_run_t *const run = context;
    const gdncp_rule_problem_t *const problem = &run->problem;
    const int64_t dk = problem->dk;
    const int64_t dv = problem->dv;
    const int64_t head = item % problem->num_value_heads;
    const int64_t key_head = gdncp_rule_key_head(problem, head);
    const int64_t selected = item / problem->num_value_heads;
    const int64_t sequence = run->sequences != NULL ? run->sequences[selected] : selected;
    const int64_t begin = problem->rule->cu_seqlens[sequence];
    const int64_t end = problem->rule->cu_seqlens[sequence + 1];
    const int64_t num_chunks = gdncp_num_chunks(end - begin);
    gdncp_arena_t arena = gdncp_scratch_arena(&run->scratch, thread);
    summary_scratch_t scratch = take_scratch(problem, &arena);
    int64_t first_column = 0;

    gdncp_operand_begin(problem->in_tiles);
    start_state(dk, dk + dv, scratch.state);
    if (run->transition == NULL) {
        first_column = dk;
        gdncp_load_state(problem, &problem->rule->initial_state, sequence, head,
                         &(gdncp_columns_t){0, dv}, scratch.initial);
        gdncp_copy_columns(dk, dv, scratch.initial, dv, scratch.state + dk, dk + dv);
    }
    for (int64_t chunk = 0; chunk < num_chunks; chunk++) {
        const gdncp_chunk_span_t span = gdncp_chunk_span(begin, end, chunk);

        gdncp_chunk_keys_load(problem, &span, key_head, false, &scratch.keys, &scratch.operands,
                              &scratch.rooms);
        gdncp_key_operands_make(problem, span.rows, &scratch.keys, GDNCP_KEY_K_T,
                                &scratch.operands);
        advance_columns(problem, &span, head, first_column, &scratch);
        /* Once the tokens so far have forgotten every initial state, no later one brings it back.
         */
        if (first_column == 0 && is_zero(scratch.state, dk, dk, dk + dv)) {
            first_column = dk;
        }
    }
    gdncp_operand_end(problem->in_tiles);
    if (run->transition != NULL) {
        gdncp_copy_columns(dk, dk, scratch.state, dk + dv, run->transition + item * dk * dk, dk);
    }
    gdncp_copy_columns(dk, dv, scratch.state + dk, dk + dv, run->contribution + item * dk * dv, dv);
}

gdncp_status_t gdncp_delta_rule_summary(const gdncp_delta_rule_t *rule, const int64_t *sequences,
                                        const int64_t *sequences_cuda, int64_t num_selected,
                                        const gdncp_tensor_t *transition,
                                        const gdncp_tensor_t *contribution,
                                        gdncp_workspace_t *workspace)
{
    summary_run_t run = {.sequences = sequences};
    gdncp_rule_problem_t *const problem = &run.problem;
    const bool has_transition = !gdncp_op_is_absent(transition);
    gdncp_status_t status = gdncp_rule_problem_make(
        rule, has_transition ? 0 : GDNCP_RULE_INITIAL_STATE, workspace, problem);

    if (status == GDNCP_OK) {
        status = gdncp_rule_check_selection(problem, sequences, sequences_cuda, num_selected);
    }
    if (status == GDNCP_OK) {
        status = gdncp_rule_check_states(problem, "transition", transition, true, num_selected,
                                         problem->dk);
    }
    if (status == GDNCP_OK) {
        status = gdncp_rule_check_states(problem, "contribution", contribution, false, num_selected,
                                         problem->dv);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    if (problem->kernels != NULL) {
        return problem->kernels->delta_rule_summary(
            problem, sequences, sequences_cuda, num_selected, has_transition ? transition : NULL,
            contribution, workspace);
    }
    const int64_t num_items = num_selected * problem->num_value_heads;
    gdncp_arena_t measure = {.block = NULL};

    run.transition = has_transition ? transition->data : NULL;
    run.contribution = contribution->data;
    take_scratch(problem, &measure);
    return gdncp_scratch_parallel_for(workspace, num_items, measure.used, &run.scratch,
                                      summary_item, &run);
}
