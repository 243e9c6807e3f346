/* The gradient of a sequence's initial state, without its states. */
#include "gdncp/ops.h"

#include "delta_rule_chunk_backward.h"
#include "op_checks.h"
#include "op_parallel.h"

typedef struct grad_summary_scratch {
    gdncp_chunk_keys_t keys;
    gdncp_chunk_gates_t gates;
    gdncp_key_operands_t operands;
    gdncp_chunk_rooms_t rooms;
    gdncp_chunk_backward_scratch_t chunk;
    float *grads;      /* [2 rows, dv] */
    float *grad_state; /* [dk, dv] */
    float *t;          /* [rows, rows] */
    float *work;       /* [rows, rows] */
} grad_summary_scratch_t;

typedef struct grad_summary_run {
    gdncp_rule_problem_t problem;
    const int64_t *sequences; /* NULL: all */
    const gdncp_tensor_t *grad_o;
    const gdncp_tensor_t *grad_final_state;
    const gdncp_tensor_t *grad_initial;
    gdncp_scratch_t scratch;
} grad_summary_run_t;

static grad_summary_scratch_t take_scratch(const gdncp_rule_problem_t *problem,
                                           gdncp_arena_t *arena)
{
    const int64_t dk = problem->dk;
    const int64_t dv = problem->dv;
    grad_summary_scratch_t scratch;

    scratch.keys = gdncp_chunk_keys_take(arena, 1, dk);
    scratch.gates = gdncp_chunk_gates_take(arena, 1);
    scratch.operands = gdncp_key_operands_take(arena, problem);
    scratch.rooms = gdncp_chunk_rooms_take(arena, problem, dv);
    scratch.chunk = gdncp_chunk_backward_scratch_take(arena, dk, dv);
    scratch.grads = gdncp_arena_floats(arena, 2 * GDNCP_CHUNK * dv);
    scratch.grad_state = gdncp_arena_floats(arena, dk * dv);
    scratch.t = gdncp_arena_floats(arena, GDNCP_CHUNK * GDNCP_CHUNK);
    scratch.work = gdncp_arena_floats(arena, GDNCP_CHUNK * GDNCP_CHUNK);
    return scratch;
}

static void grad_summary_item(void *context, int64_t item, int thread)
{
    const grad_summary_run_t *const run = context;
    const gdncp_rule_problem_t *const problem = &run->problem;
    const gdncp_columns_t all = {0, problem->dv};
    const int64_t head = item % problem->num_value_heads;
    const int64_t key_head = gdncp_rule_key_head(problem, head);
    const int64_t selected = item / problem->num_value_heads;
    const int64_t sequence = run->sequences != NULL ? run->sequences[selected] : selected;
    const int64_t begin = problem->rule->cu_seqlens[sequence];
    const int64_t end = problem->rule->cu_seqlens[sequence + 1];
    gdncp_arena_t arena = gdncp_scratch_arena(&run->scratch, thread);
    grad_summary_scratch_t scratch = take_scratch(problem, &arena);

    gdncp_operand_begin(problem->in_tiles);
    gdncp_load_state(problem, run->grad_final_state, selected, head, &all, scratch.grad_state);
    for (int64_t chunk = gdncp_num_chunks(end - begin) - 1; chunk >= 0; chunk--) {
        const gdncp_chunk_span_t span = gdncp_chunk_span(begin, end, chunk);

        gdncp_chunk_keys_load(problem, &span, key_head, true, &scratch.keys, &scratch.operands,
                              &scratch.rooms);
        gdncp_key_operands_make(problem, span.rows, &scratch.keys, GDNCP_KEY_K_T | GDNCP_KEY_Q_T,
                                &scratch.operands);
        gdncp_chunk_gates_load(problem, &span, head, &scratch.gates);
        gdncp_chunk_inverse(span.rows, &scratch.gates, scratch.keys.kk, scratch.t, scratch.work);
        gdncp_load_head(run->grad_o, span.begin, span.count, head, span.rows, scratch.grads);

        const gdncp_chunk_t part =
            gdncp_chunk_make(problem, span.rows, true, &scratch.keys, &scratch.operands,
                             &scratch.gates, &scratch.rooms);

        gdncp_chunk_grad_values(&part, &all, scratch.t, scratch.grad_state, scratch.grads,
                                &scratch.chunk);
        gdncp_chunk_grad_state(&part, &all, scratch.grads, scratch.grad_state);
    }
    gdncp_operand_end(problem->in_tiles);
    gdncp_store_state(problem, scratch.grad_state, selected, head, &all, run->grad_initial);
}

gdncp_status_t
gdncp_delta_rule_grad_summary(const gdncp_delta_rule_t *rule, const int64_t *sequences,
                              const int64_t *sequences_cuda, int64_t num_selected,
                              const gdncp_tensor_t *grad_o, const gdncp_tensor_t *grad_final_state,
                              const gdncp_tensor_t *grad_initial, gdncp_workspace_t *workspace)
{
    grad_summary_run_t run = {.sequences = sequences,
                              .grad_o = grad_o,
                              .grad_final_state = grad_final_state,
                              .grad_initial = grad_initial};
    gdncp_rule_problem_t *const problem = &run.problem;
    gdncp_status_t status = gdncp_rule_problem_make(rule, GDNCP_RULE_Q, workspace, problem);

    if (status == GDNCP_OK) {
        status = gdncp_rule_check_selection(problem, sequences, sequences_cuda, num_selected);
    }
    if (status == GDNCP_OK) {
        status = gdncp_rule_check_values(problem, "grad_o", grad_o);
    }
    if (status == GDNCP_OK) {
        status = gdncp_rule_check_states(problem, "grad_final_state", grad_final_state, true,
                                         num_selected, problem->dv);
    }
    if (status == GDNCP_OK) {
        status = gdncp_rule_check_states(problem, "grad_initial", grad_initial, false, num_selected,
                                         problem->dv);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    if (problem->kernels != NULL) {
        return problem->kernels->delta_rule_grad_summary(
            problem, sequences, sequences_cuda, num_selected, grad_o,
            gdncp_op_is_absent(grad_final_state) ? NULL : grad_final_state, grad_initial,
            workspace);
    }
    const int64_t num_items = num_selected * problem->num_value_heads;
    gdncp_arena_t measure = {.block = NULL};

    take_scratch(problem, &measure);
    return gdncp_scratch_parallel_for(workspace, num_items, measure.used, &run.scratch,
                                      grad_summary_item, &run);
}
