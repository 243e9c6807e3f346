/* The gated delta rule over whole sequences, backward. */
#include "gdncp/ops.h"

#include "delta_rule_backward_walk.h"
#include "delta_rule_gate.h"
#include "delta_rule_pieces.h"
#include "error.h"
#include "op_checks.h"
#include "op_parallel.h"

/*
 * Chunks of a block, whose states and products are kept at once. From saved states blocks are short
 * where one thread goes through them, so that all this stays in a core's cache. Without any, a
 * sequence of more than one block is walked forward first for the states at the borders of its
 * blocks, then again block by block from the last: scratch grows by one state a block, not by one a
 * chunk.
 */
#define BLOCK_CHUNKS 64

/* Chunks times elements of a state from which on threads share an item: work of a quarter of a
 * millisecond, where meeting costs them some hundredth. */
#define MIN_SHARED_WORK 16384

static gdncp_status_t check_grads(const gdncp_rule_problem_t *problem,
                                  const gdncp_delta_rule_grads_t *grads)
{
    const int64_t key_shape[] = {problem->num_tokens, problem->num_key_heads, problem->dk};
    const int64_t gate_shape[] = {problem->num_tokens, problem->num_value_heads};

    if (grads == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "grads: expected tensors, got NULL");
    }
    gdncp_status_t status = gdncp_op_check_tensor(
        "grads.q", &grads->q, problem->device, problem->dtype, GDNCP_OP_TOKEN_STRIDE, 3, key_shape);

    if (status == GDNCP_OK) {
        status = gdncp_op_check_tensor("grads.k", &grads->k, problem->device, problem->dtype,
                                       GDNCP_OP_TOKEN_STRIDE, 3, key_shape);
    }
    if (status == GDNCP_OK) {
        status = gdncp_rule_check_values(problem, "grads.v", &grads->v);
    }
    if (status == GDNCP_OK) {
        status = gdncp_op_check_tensor("grads.g", &grads->g, problem->device, GDNCP_F32,
                                       GDNCP_OP_CONTIGUOUS, 2, gate_shape);
    }
    if (status == GDNCP_OK) {
        status = gdncp_op_check_tensor("grads.beta", &grads->beta, problem->device, GDNCP_F32,
                                       GDNCP_OP_CONTIGUOUS, 2, gate_shape);
    }
    return status != GDNCP_OK
               ? status
               : gdncp_rule_check_states(problem, "grads.initial_state", &grads->initial_state,
                                         true, problem->rule->num_sequences, problem->dv);
}

/* Sums over a group run in the order of its heads, so an item is a sequence and a key head. */
static int64_t num_items_of(const gdncp_rule_problem_t *problem)
{
    return problem->rule->num_sequences * problem->num_key_heads;
}

static int64_t panel_width_of(const gdncp_rule_problem_t *problem)
{
    return problem->dv % GDNCP_PANEL_COLUMNS == 0 ? GDNCP_PANEL_COLUMNS : problem->dv;
}

/* Multiplications, for a group of value heads: of each thread where all share item after item, and
 * of the one with the longest sequence where each has items of its own. */
static int64_t shared_products(const gdncp_rule_problem_t *problem)
{
    return problem->num_tokens * problem->num_key_heads * problem->group_size *
           gdncp_rule_backward_products(problem, panel_width_of(problem),
                                        gdncp_parallel_num_threads(INT64_MAX));
}

static int64_t longest_products(const gdncp_rule_problem_t *problem)
{
    return problem->longest * problem->group_size *
           gdncp_rule_backward_products(problem, problem->dv, 1);
}

static bool is_better_shared(const gdncp_rule_problem_t *problem)
{
    const int64_t num_items = num_items_of(problem);
    const int64_t most_chunks = gdncp_num_chunks(problem->longest);

    return num_items < gdncp_parallel_num_threads(num_items + most_chunks) &&
           most_chunks * problem->dk * problem->dv >= MIN_SHARED_WORK &&
           shared_products(problem) < longest_products(problem);
}

static void choose_blocks(gdncp_backward_run_t *run)
{
    const gdncp_rule_problem_t *const problem = &run->problem;
    const int64_t most_chunks = gdncp_num_chunks(problem->longest);

    run->has_saved = !gdncp_op_is_absent(&problem->rule->saved_states);
    run->is_shared = is_better_shared(problem);
    run->panel_width = run->is_shared ? panel_width_of(problem) : problem->dv;
    run->block_chunks = run->has_saved && !run->is_shared ? GDNCP_SAVED_STATE_CHUNKS : BLOCK_CHUNKS;
    if (most_chunks < run->block_chunks) {
        run->block_chunks = most_chunks > 0 ? most_chunks : 1;
    }
}

static void run_item(void *context, int64_t index, int thread)
{
    const gdncp_backward_run_t *const run = context;
    gdncp_arena_t arena = gdncp_scratch_arena(&run->scratch, thread);

    gdncp_backward_item(run, index, arena.block, arena.block + run->shared_bytes);
}

static gdncp_status_t run_items(gdncp_backward_run_t *run, gdncp_workspace_t *workspace)
{
    return gdncp_scratch_parallel_for(workspace, num_items_of(&run->problem),
                                      run->shared_bytes + run->thread_bytes, &run->scratch,
                                      run_item, run);
}

/* Item after item, whose stages all threads share. */
static gdncp_status_t run_shared(gdncp_backward_run_t *run, gdncp_workspace_t *workspace)
{
    const int num_threads = gdncp_parallel_num_threads(INT64_MAX);
    const gdncp_status_t status = gdncp_scratch_open(
        workspace, 1, run->shared_bytes + (size_t)num_threads * run->thread_bytes, &run->scratch);

    if (status != GDNCP_OK) {
        return status;
    }
    char *const memory = gdncp_scratch_arena(&run->scratch, 0).block;

    for (int64_t index = 0; index < num_items_of(&run->problem); index++) {
        gdncp_backward_item(run, index, memory, memory + run->shared_bytes);
    }
    gdncp_scratch_close(&run->scratch);
    return GDNCP_OK;
}

int64_t gdncp_rule_backward_piece_tokens(const gdncp_rule_problem_t *problem)
{
    const int64_t heads = problem->group_size;

    return gdncp_rule_piece_tokens(problem, problem->num_key_heads, heads,
                                   is_better_shared(problem) ? shared_products(problem)
                                                             : longest_products(problem),
                                   heads * (gdncp_rule_backward_products(problem, problem->dv, 1) +
                                            gdncp_rule_forward_products(problem, problem->dv)));
}

static gdncp_status_t walk_sequences(const gdncp_rule_problem_t *problem,
                                     const gdncp_tensor_t *grad_o,
                                     const gdncp_tensor_t *grad_final_state,
                                     const gdncp_delta_rule_grads_t *grads,
                                     gdncp_workspace_t *workspace)
{
    gdncp_backward_run_t run = {.problem = *problem,
                                .grad_o = grad_o,
                                .grad_final_state = grad_final_state,
                                .grads = grads};

    choose_blocks(&run);
    gdncp_backward_measure(&run);
    return run.is_shared ? run_shared(&run, workspace) : run_items(&run, workspace);
}

/* The gradient of a piece's initial state takes the place of that of its final one. */
static gdncp_status_t walk_pieces(const gdncp_rule_problem_t *problem, int64_t tokens,
                                  const gdncp_tensor_t *grad_o,
                                  const gdncp_tensor_t *grad_final_state,
                                  const gdncp_delta_rule_grads_t *grads,
                                  gdncp_workspace_t *workspace)
{
    gdncp_rule_pieces_t pieces;
    gdncp_status_t status = gdncp_rule_pieces_open(problem, tokens, true, workspace, &pieces);

    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_rule_pieces_backward(&pieces, grad_o, grad_final_state);
    if (status == GDNCP_OK) {
        gdncp_delta_rule_grads_t of_pieces = *grads;

        of_pieces.initial_state = pieces.grad_states;
        status = walk_sequences(&pieces.problem, grad_o, &pieces.grad_states, &of_pieces,
                                pieces.workspace);
    }
    if (status == GDNCP_OK) {
        gdncp_rule_pieces_store_first(&pieces, &pieces.grad_states, &grads->initial_state);
    }
    gdncp_rule_pieces_close(&pieces);
    return status;
}

gdncp_status_t gdncp_delta_rule_backward(const gdncp_delta_rule_t *rule,
                                         const gdncp_tensor_t *grad_o,
                                         const gdncp_tensor_t *grad_final_state,
                                         const gdncp_delta_rule_grads_t *grads,
                                         gdncp_workspace_t *workspace)
{
    gdncp_rule_problem_t problem;
    gdncp_status_t status = gdncp_rule_problem_make(
        rule, GDNCP_RULE_Q | GDNCP_RULE_INITIAL_STATE | GDNCP_RULE_ANY_LAYOUT, workspace, &problem);

    if (status == GDNCP_OK) {
        status = gdncp_rule_check_values(&problem, "grad_o", grad_o);
    }
    if (status == GDNCP_OK) {
        status = gdncp_rule_check_states(&problem, "grad_final_state", grad_final_state, true,
                                         rule->num_sequences, problem.dv);
    }
    if (status == GDNCP_OK) {
        status = check_grads(&problem, grads);
    }
    if (status == GDNCP_OK) {
        status = gdncp_rule_gate_check_backward(rule, grads, workspace);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    if (problem.kernels != NULL) {
        status = problem.kernels->delta_rule_backward(
            &problem, grad_o, gdncp_op_is_absent(grad_final_state) ? NULL : grad_final_state, grads,
            workspace);
    } else {
        const int64_t tokens = gdncp_rule_backward_piece_tokens(&problem);

        status = tokens == 0
                     ? walk_sequences(&problem, grad_o, grad_final_state, grads, workspace)
                     : walk_pieces(&problem, tokens, grad_o, grad_final_state, grads, workspace);
    }
    return status == GDNCP_OK && rule->gate != NULL
               ? gdncp_gate_backward(rule->gate, &grads->g, &grads->beta, grads->gate, workspace)
               : status;
}
