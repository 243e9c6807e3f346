/* The gated delta rule over whole sequences, backward. */
#include "gdncp/ops.h"

#include <string.h>

#include "delta_rule_chunk_backward.h"
#include "error.h"
#include "op_checks.h"
#include "op_parallel.h"
#include "small_gemm.h"

/*
 * Chunks of a block, whose states and products are kept at once. From saved states blocks are
 * short, so that all this stays in a core's cache. Without any, a sequence of more than one block
 * is walked forward first for the states at the borders of its blocks, then again block by block
 * from the last: scratch grows by one state a block, not by one a chunk.
 */
#define BLOCK_CHUNKS 64

typedef struct backward_scratch {
    gdncp_chunk_keys_t keys;   /* of a block */
    gdncp_chunk_gates_t gates; /* of a chunk */
    gdncp_chunk_backward_scratch_t chunk;
    float *grad_q;  /* [block_chunks * rows, dk] summed over a group */
    float *grad_k;  /* [block_chunks * rows, dk] */
    float *records; /* [block_chunks, record] */
    float *borders; /* [blocks, group, dk, dv] states at the start of each block, if not saved */
    float *state;   /* [dk, dv] */
    float *grad_states; /* [group, dk, dv] */
    float *grad_v;      /* [rows, dv] */
    float *work;        /* [rows, max(rows, dk, dv)] */
} backward_scratch_t;

typedef struct backward_run {
    gdncp_rule_problem_t problem;
    const gdncp_tensor_t *grad_o;
    const gdncp_tensor_t *grad_final_state; /* NULL: zeros */
    const gdncp_delta_rule_grads_t *grads;
    bool has_saved;
    int64_t block_chunks; /* of a block; fewer than could be where no sequence has as many */
    gdncp_scratch_t scratch;
} backward_run_t;

/* One sequence and the value heads of one key head. */
typedef struct backward_item {
    int64_t sequence;
    int64_t key_head;
    gdncp_head_group_t heads;
    int64_t begin;
    int64_t end;
    int64_t num_chunks;
} backward_item_t;

/* Floats of one chunk's record. */
static int64_t record_size(const gdncp_rule_problem_t *problem)
{
    return problem->dk * problem->dv + 2 * GDNCP_CHUNK * problem->dv + GDNCP_CHUNK * GDNCP_CHUNK;
}

static gdncp_chunk_record_t record_at(const gdncp_rule_problem_t *problem,
                                      const backward_scratch_t *scratch, int64_t slot)
{
    const int64_t dv = problem->dv;
    gdncp_chunk_record_t record;

    record.t = scratch->records + slot * record_size(problem);
    record.y = record.t + GDNCP_CHUNK * GDNCP_CHUNK;
    record.u = record.y + GDNCP_CHUNK * dv;
    record.state_t = record.u + GDNCP_CHUNK * dv;
    return record;
}

static int64_t num_blocks_of(const backward_run_t *run, int64_t num_chunks)
{
    return (num_chunks + run->block_chunks - 1) / run->block_chunks;
}

static backward_scratch_t take_scratch(const backward_run_t *run, gdncp_arena_t *arena)
{
    const gdncp_rule_problem_t *const problem = &run->problem;
    const int64_t dk = problem->dk;
    const int64_t dv = problem->dv;
    const int64_t widest = dk > dv ? dk : dv;
    const int64_t block_rows = run->block_chunks * GDNCP_CHUNK;
    const int64_t group_states = problem->group_size * dk * dv;
    const int64_t num_blocks = num_blocks_of(run, gdncp_num_chunks(problem->longest));
    backward_scratch_t scratch;

    scratch.keys = gdncp_chunk_keys_take(arena, run->block_chunks, dk);
    scratch.gates = gdncp_chunk_gates_take(arena);
    scratch.chunk = gdncp_chunk_backward_scratch_take(arena, dk, dv);
    scratch.grad_q = gdncp_arena_floats(arena, block_rows * dk);
    scratch.grad_k = gdncp_arena_floats(arena, block_rows * dk);
    scratch.records = gdncp_arena_floats(arena, run->block_chunks * record_size(problem));
    scratch.borders = gdncp_arena_floats(arena, run->has_saved ? 0 : num_blocks * group_states);
    scratch.state = gdncp_arena_floats(arena, dk * dv);
    scratch.grad_states = gdncp_arena_floats(arena, group_states);
    scratch.grad_v = gdncp_arena_floats(arena, GDNCP_CHUNK * dv);
    scratch.work =
        gdncp_arena_floats(arena, GDNCP_CHUNK * (widest > GDNCP_CHUNK ? widest : GDNCP_CHUNK));
    return scratch;
}

/* Where the state at the start of a block, > 0, of a head is kept. */
static float *border_state(const backward_run_t *run, const backward_item_t *item,
                           const backward_scratch_t *scratch, int64_t block, int64_t head)
{
    const gdncp_rule_problem_t *const problem = &run->problem;
    const int64_t place = block * problem->group_size + head - item->heads.first;

    return run->has_saved
               ? gdncp_rule_saved_state(problem, item->sequence, block * run->block_chunks, head)
               : scratch->borders + place * problem->dk * problem->dv;
}

/* The state at the start of a block, in scratch->state. */
static void load_border(const backward_run_t *run, const backward_item_t *item,
                        const backward_scratch_t *scratch, int64_t block, int64_t head)
{
    const gdncp_rule_problem_t *const problem = &run->problem;

    if (block == 0) {
        gdncp_load_state(problem, &problem->rule->initial_state, item->sequence, head,
                         &(gdncp_columns_t){0, problem->dv}, scratch->state);
    } else {
        memcpy(scratch->state, border_state(run, item, scratch, block, head),
               (size_t)(problem->dk * problem->dv) * sizeof(float));
    }
}

static int64_t chunks_of_block(const backward_run_t *run, const backward_item_t *item,
                               int64_t block)
{
    const int64_t left = item->num_chunks - block * run->block_chunks;

    return left < run->block_chunks ? left : run->block_chunks;
}

static void load_block_keys(const backward_run_t *run, const backward_item_t *item,
                            const backward_scratch_t *scratch, int64_t block, bool with_q)
{
    const int64_t count = chunks_of_block(run, item, block);

    for (int64_t slot = 0; slot < count; slot++) {
        const gdncp_chunk_span_t span =
            gdncp_chunk_span(item->begin, item->end, block * run->block_chunks + slot);
        const gdncp_chunk_keys_t keys = gdncp_chunk_keys_at(&scratch->keys, slot, run->problem.dk);

        gdncp_chunk_keys_load(&run->problem, &span, item->key_head, with_q, &keys, scratch->work);
    }
}

/* Walk one head forward through a block, from the state at its start to that at its end, in
 * scratch->state. Records are kept in the chunks' own slots if keep, else each overwrites the one
 * before. */
static void walk_forward(const backward_run_t *run, const backward_item_t *item,
                         const backward_scratch_t *scratch, int64_t block, int64_t head, bool keep)
{
    float *const state = scratch->state;
    const gdncp_rule_problem_t *const problem = &run->problem;
    const int64_t dk = problem->dk;
    const int64_t dv = problem->dv;
    const int64_t count = chunks_of_block(run, item, block);

    for (int64_t slot = 0; slot < count; slot++) {
        const gdncp_chunk_span_t span =
            gdncp_chunk_span(item->begin, item->end, block * run->block_chunks + slot);
        const gdncp_chunk_keys_t keys = gdncp_chunk_keys_at(&scratch->keys, slot, dk);
        const gdncp_chunk_record_t record = record_at(problem, scratch, keep ? slot : 0);

        gdncp_chunk_gates_load(problem, &span, head, &scratch->gates);
        gdncp_chunk_inverse(span.rows, &scratch->gates, keys.kk, record.t, scratch->work);
        gdncp_load_head(&problem->rule->v, span.begin, span.count, head, span.rows, record.y);
        if (keep) {
            gdncp_transpose(dk, dv, state, dv, record.state_t, dk);
        }
        gdncp_chunk_values(span.rows, dk, dv, dv, &scratch->gates, keys.k, record.t, state,
                           record.y, record.u, scratch->work);
        gdncp_chunk_advance(span.rows, dk, dv, dv, &scratch->gates, keys.k, record.u, state,
                            scratch->work);
    }
}

/* States at the start of every block, for all heads of the item. */
static void fill_borders(const backward_run_t *run, const backward_item_t *item,
                         const backward_scratch_t *scratch)
{
    const gdncp_rule_problem_t *const problem = &run->problem;
    const int64_t num_blocks = num_blocks_of(run, item->num_chunks);

    for (int64_t block = 0; block + 1 < num_blocks; block++) {
        load_block_keys(run, item, scratch, block, false);
        for (int64_t head = item->heads.first; head < item->heads.end; head++) {
            load_border(run, item, scratch, block, head);
            walk_forward(run, item, scratch, block, head, false);
            memcpy(border_state(run, item, scratch, block + 1, head), scratch->state,
                   (size_t)(problem->dk * problem->dv) * sizeof(float));
        }
    }
}

static void store_gate_grads(const backward_run_t *run, const gdncp_chunk_span_t *span,
                             int64_t head, const gdncp_chunk_grads_t *grads)
{
    const int64_t heads = run->problem.num_value_heads;
    float *const g = (float *)run->grads->g.data + span->begin * heads + head;
    float *const beta = (float *)run->grads->beta.data + span->begin * heads + head;

    for (int64_t i = 0; i < span->count; i++) {
        g[i * heads] = (float)grads->g[i];
        beta[i * heads] = (float)grads->beta[i];
    }
}

static void walk_back(const backward_run_t *run, const backward_item_t *item,
                      const backward_scratch_t *scratch, int64_t block, int64_t head,
                      float *grad_state)
{
    const gdncp_rule_problem_t *const problem = &run->problem;
    const int64_t dk = problem->dk;

    for (int64_t slot = chunks_of_block(run, item, block) - 1; slot >= 0; slot--) {
        const gdncp_chunk_span_t span =
            gdncp_chunk_span(item->begin, item->end, block * run->block_chunks + slot);
        const gdncp_chunk_keys_t keys = gdncp_chunk_keys_at(&scratch->keys, slot, dk);
        const gdncp_chunk_record_t record = record_at(problem, scratch, slot);
        gdncp_chunk_grads_t grads = {.q = scratch->grad_q + slot * GDNCP_CHUNK * dk,
                                     .k = scratch->grad_k + slot * GDNCP_CHUNK * dk,
                                     .v = scratch->grad_v};

        gdncp_chunk_gates_load(problem, &span, head, &scratch->gates);
        gdncp_load_head(run->grad_o, span.begin, span.count, head, span.rows, scratch->chunk.grads);
        gdncp_chunk_grad_values(problem, span.rows, &keys, &scratch->gates, record.t, grad_state,
                                &scratch->chunk);
        gdncp_chunk_grad_inputs(problem, span.rows, &keys, &scratch->gates, &record, grad_state,
                                &scratch->chunk, &grads);
        gdncp_chunk_grad_state(problem, span.rows, &scratch->gates, grad_state, &scratch->chunk);
        gdncp_store_head(grads.v, span.begin, span.count, head, &run->grads->v);
        store_gate_grads(run, &span, head, &grads);
    }
}

/* Write the block's sums over the group, taken back through the normalisation. */
static void store_key_grads(const backward_run_t *run, const backward_item_t *item,
                            const backward_scratch_t *scratch, int64_t block)
{
    const gdncp_rule_problem_t *const problem = &run->problem;
    const int64_t dk = problem->dk;
    const int64_t count = chunks_of_block(run, item, block);

    for (int64_t slot = 0; slot < count; slot++) {
        const gdncp_chunk_span_t span =
            gdncp_chunk_span(item->begin, item->end, block * run->block_chunks + slot);
        const gdncp_chunk_keys_t keys = gdncp_chunk_keys_at(&scratch->keys, slot, dk);
        float *const grad_q = scratch->grad_q + slot * GDNCP_CHUNK * dk;
        float *const grad_k = scratch->grad_k + slot * GDNCP_CHUNK * dk;

        gdncp_normalise_rows_backward(problem, span.count, keys.q, keys.q_factors, grad_q);
        gdncp_normalise_rows_backward(problem, span.count, keys.k, keys.k_factors, grad_k);
        gdncp_store_head(grad_q, span.begin, span.count, item->key_head, &run->grads->q);
        gdncp_store_head(grad_k, span.begin, span.count, item->key_head, &run->grads->k);
    }
}

static void backward_item(void *context, int64_t index, int thread)
{
    const backward_run_t *const run = context;
    const gdncp_rule_problem_t *const problem = &run->problem;
    const int64_t size = problem->dk * problem->dv;
    const gdncp_columns_t all = {0, problem->dv};
    backward_item_t item = {.sequence = index / problem->num_key_heads,
                            .key_head = index % problem->num_key_heads};
    gdncp_arena_t arena = gdncp_scratch_arena(&run->scratch, thread);
    const backward_scratch_t scratch = take_scratch(run, &arena);

    item.heads = gdncp_rule_group(problem, item.key_head);
    item.begin = problem->rule->cu_seqlens[item.sequence];
    item.end = problem->rule->cu_seqlens[item.sequence + 1];
    item.num_chunks = gdncp_num_chunks(item.end - item.begin);

    if (!run->has_saved) {
        fill_borders(run, &item, &scratch);
    }
    for (int64_t head = item.heads.first; head < item.heads.end; head++) {
        gdncp_load_state(problem, run->grad_final_state, item.sequence, head, &all,
                         scratch.grad_states + (head - item.heads.first) * size);
    }
    for (int64_t block = num_blocks_of(run, item.num_chunks) - 1; block >= 0; block--) {
        const int64_t block_floats = run->block_chunks * GDNCP_CHUNK * problem->dk;

        load_block_keys(run, &item, &scratch, block, true);
        memset(scratch.grad_q, 0, (size_t)block_floats * sizeof(float));
        memset(scratch.grad_k, 0, (size_t)block_floats * sizeof(float));
        for (int64_t head = item.heads.first; head < item.heads.end; head++) {
            const int64_t in_group = head - item.heads.first;

            load_border(run, &item, &scratch, block, head);
            walk_forward(run, &item, &scratch, block, head, true);
            walk_back(run, &item, &scratch, block, head, scratch.grad_states + in_group * size);
        }
        store_key_grads(run, &item, &scratch, block);
    }
    for (int64_t head = item.heads.first; head < item.heads.end; head++) {
        gdncp_store_state(problem, scratch.grad_states + (head - item.heads.first) * size,
                          item.sequence, head, &all, &run->grads->initial_state);
    }
}

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

gdncp_status_t gdncp_delta_rule_backward(const gdncp_delta_rule_t *rule,
                                         const gdncp_tensor_t *grad_o,
                                         const gdncp_tensor_t *grad_final_state,
                                         const gdncp_delta_rule_grads_t *grads,
                                         gdncp_workspace_t *workspace)
{
    backward_run_t run = {.grad_o = grad_o, .grad_final_state = grad_final_state, .grads = grads};
    gdncp_rule_problem_t *const problem = &run.problem;
    gdncp_status_t status = gdncp_rule_problem_make(
        rule, GDNCP_RULE_Q | GDNCP_RULE_INITIAL_STATE | GDNCP_RULE_ANY_LAYOUT, workspace, problem);

    if (status == GDNCP_OK) {
        status = gdncp_rule_check_values(problem, "grad_o", grad_o);
    }
    if (status == GDNCP_OK) {
        status = gdncp_rule_check_states(problem, "grad_final_state", grad_final_state, true,
                                         rule->num_sequences, problem->dv);
    }
    if (status == GDNCP_OK) {
        status = check_grads(problem, grads);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    if (problem->kernels != NULL) {
        return problem->kernels->delta_rule_backward(
            problem, grad_o, gdncp_op_is_absent(grad_final_state) ? NULL : grad_final_state, grads,
            workspace);
    }
    /* The sums over a group run in one thread, in the order of its heads. */
    const int64_t num_items = rule->num_sequences * problem->num_key_heads;
    const int64_t most_chunks = gdncp_num_chunks(problem->longest);
    gdncp_arena_t measure = {.block = NULL};

    run.has_saved = !gdncp_op_is_absent(&rule->saved_states);
    run.block_chunks = run.has_saved ? GDNCP_SAVED_STATE_CHUNKS : BLOCK_CHUNKS;
    if (most_chunks < run.block_chunks) {
        run.block_chunks = most_chunks > 0 ? most_chunks : 1;
    }
    take_scratch(&run, &measure);
    return gdncp_scratch_parallel_for(workspace, num_items, measure.used, &run.scratch,
                                      backward_item, &run);
}
