/* The backward of one sequence and the value heads of one key head, block by block. */
#include "delta_rule_backward_walk.h"

#include <string.h>

#include "op_parallel.h"
#include "small_gemm.h"

/* What the turns share. */
typedef struct shared {
    gdncp_chunk_keys_t keys;   /* [block_chunks] */
    gdncp_chunk_gates_t gates; /* [block_chunks] */
    float *grad_q;             /* [block_chunks * rows, dk] summed over a group */
    float *grad_k;             /* [block_chunks * rows, dk] */
    float *records;            /* [block_chunks, record] */
    float *back_records;       /* [block_chunks with is_shared, else 1, back record] */
    float *borders;            /* [blocks, group, dk, dv] states at the start of each block, if not
                                  saved */
    float *state;              /* [dk, dv] */
    float *grad_states;        /* [group, dk, dv] */
} shared_t;

/* What a turn has to itself. */
typedef struct own {
    gdncp_chunk_backward_scratch_t chunk;
    gdncp_key_operands_t operands;
    gdncp_chunk_rooms_t rooms;
    float *grad_v; /* [rows, dv] */
    float *work;   /* [rows, max(rows, dv)] */
} own_t;

/* Where a walk is. */
typedef struct walk {
    const gdncp_backward_run_t *run;
    int64_t sequence;
    int64_t key_head;
    gdncp_head_group_t heads;
    int64_t begin;
    int64_t end;
    int64_t num_chunks;
    shared_t shared;
    char *thread_memory;
    own_t own; /* of the one thread */
    int64_t block;
    int64_t count; /* chunks of the block */
    int64_t head;
    bool with_q; /* keys are loaded with queries, and states are recorded */
} walk_t;

/* One turn of a stage. */
typedef void (*turn_t)(const walk_t *walk, int64_t index, own_t *own);

static int64_t state_size(const gdncp_backward_run_t *run)
{
    return run->problem.dk * run->problem.dv;
}

/* Floats of a chunk's record. */
static int64_t record_size(const gdncp_backward_run_t *run)
{
    return state_size(run) + 2 * GDNCP_CHUNK * run->problem.dv + GDNCP_CHUNK * GDNCP_CHUNK;
}

static int64_t back_record_size(const gdncp_backward_run_t *run)
{
    return state_size(run) + 2 * GDNCP_CHUNK * run->problem.dv;
}

static gdncp_chunk_record_t record_at(const walk_t *walk, int64_t slot)
{
    const int64_t dv = walk->run->problem.dv;
    gdncp_chunk_record_t record;

    record.t = walk->shared.records + slot * record_size(walk->run);
    record.y = record.t + GDNCP_CHUNK * GDNCP_CHUNK;
    record.u = record.y + GDNCP_CHUNK * dv;
    record.state_t = record.u + GDNCP_CHUNK * dv;
    return record;
}

static gdncp_chunk_back_record_t back_record_at(const walk_t *walk, int64_t slot)
{
    gdncp_chunk_back_record_t record;

    record.grads =
        walk->shared.back_records + (walk->run->is_shared ? slot * back_record_size(walk->run) : 0);
    record.grad_state_t = record.grads + 2 * GDNCP_CHUNK * walk->run->problem.dv;
    return record;
}

static int64_t num_blocks_of(const gdncp_backward_run_t *run, int64_t num_chunks)
{
    return (num_chunks + run->block_chunks - 1) / run->block_chunks;
}

static shared_t take_shared(const gdncp_backward_run_t *run, gdncp_arena_t *arena)
{
    const gdncp_rule_problem_t *const problem = &run->problem;
    const int64_t block_rows = run->block_chunks * GDNCP_CHUNK;
    const int64_t group_states = problem->group_size * state_size(run);
    const int64_t num_blocks = num_blocks_of(run, gdncp_num_chunks(problem->longest));
    shared_t shared;

    shared.keys = gdncp_chunk_keys_take(arena, run->block_chunks, problem->dk);
    shared.gates = gdncp_chunk_gates_take(arena, run->block_chunks);
    shared.grad_q = gdncp_arena_floats(arena, block_rows * problem->dk);
    shared.grad_k = gdncp_arena_floats(arena, block_rows * problem->dk);
    shared.records = gdncp_arena_floats(arena, run->block_chunks * record_size(run));
    shared.back_records =
        gdncp_arena_floats(arena, (run->is_shared ? run->block_chunks : 1) * back_record_size(run));
    shared.borders = gdncp_arena_floats(arena, run->has_saved ? 0 : num_blocks * group_states);
    shared.state = gdncp_arena_floats(arena, state_size(run));
    shared.grad_states = gdncp_arena_floats(arena, group_states);
    return shared;
}

static own_t take_own(const gdncp_backward_run_t *run, gdncp_arena_t *arena)
{
    const int64_t dk = run->problem.dk;
    const int64_t dv = run->problem.dv;
    own_t own;

    own.chunk = gdncp_chunk_backward_scratch_take(arena, dk, dv);
    own.operands = gdncp_key_operands_take(arena, &run->problem);
    own.rooms = gdncp_chunk_rooms_take(arena, &run->problem, dv);
    own.grad_v = gdncp_arena_floats(arena, GDNCP_CHUNK * dv);
    own.work = gdncp_arena_floats(arena, GDNCP_CHUNK * (dv > GDNCP_CHUNK ? dv : GDNCP_CHUNK));
    return own;
}

void gdncp_backward_measure(gdncp_backward_run_t *run)
{
    gdncp_arena_t shared = {.block = NULL};
    gdncp_arena_t own = {.block = NULL};

    take_shared(run, &shared);
    take_own(run, &own);
    run->shared_bytes = shared.used;
    run->thread_bytes = own.used;
}

/* A stage that threads share. */
typedef struct stage {
    const walk_t *walk;
    turn_t turn;
} stage_t;

static void take_turn(void *context, int64_t index, int thread)
{
    const stage_t *const stage = context;
    const gdncp_backward_run_t *const run = stage->walk->run;
    gdncp_arena_t arena = {.block =
                               stage->walk->thread_memory + (size_t)thread * run->thread_bytes};
    own_t own = take_own(run, &arena);

    gdncp_operand_begin(run->problem.in_tiles);
    stage->turn(stage->walk, index, &own);
    gdncp_operand_end(run->problem.in_tiles);
}

static void run_stage(walk_t *walk, int64_t num_turns, turn_t turn)
{
    stage_t stage = {.walk = walk, .turn = turn};

    if (walk->run->is_shared) {
        gdncp_parallel_for(num_turns, gdncp_parallel_num_threads(num_turns), take_turn, &stage);
        return;
    }
    for (int64_t index = 0; index < num_turns; index++) {
        turn(walk, index, &walk->own);
    }
}

static gdncp_chunk_span_t span_of_slot(const walk_t *walk, int64_t slot)
{
    return gdncp_chunk_span(walk->begin, walk->end, walk->block * walk->run->block_chunks + slot);
}

static gdncp_chunk_keys_t keys_of_slot(const walk_t *walk, int64_t slot)
{
    return gdncp_chunk_keys_at(&walk->shared.keys, slot, walk->run->problem.dk);
}

static int64_t num_panels(const walk_t *walk)
{
    return gdncp_num_panels(&walk->run->problem, walk->run->panel_width);
}

static gdncp_columns_t columns_of_panel(const walk_t *walk, int64_t panel)
{
    return gdncp_columns_of_panel(&walk->run->problem, walk->run->panel_width, panel);
}

/* A turn a chunk: keys of the block, and zeros for sums over a group without heads. */
static void load_keys(const walk_t *walk, int64_t slot, own_t *own)
{
    const int64_t floats = GDNCP_CHUNK * walk->run->problem.dk;
    const gdncp_chunk_span_t span = span_of_slot(walk, slot);
    const gdncp_chunk_keys_t keys = keys_of_slot(walk, slot);

    gdncp_chunk_keys_load(&walk->run->problem, &span, walk->key_head, walk->with_q, &keys,
                          &own->operands, &own->rooms);
    if (walk->heads.first == walk->heads.end) {
        memset(walk->shared.grad_q + slot * floats, 0, (size_t)floats * sizeof(float));
        memset(walk->shared.grad_k + slot * floats, 0, (size_t)floats * sizeof(float));
    }
}

/* A turn a chunk: what of a head does not depend on states. */
static void prepare(const walk_t *walk, int64_t slot, own_t *own)
{
    const gdncp_rule_problem_t *const problem = &walk->run->problem;
    const gdncp_chunk_span_t span = span_of_slot(walk, slot);
    const gdncp_chunk_keys_t keys = keys_of_slot(walk, slot);
    const gdncp_chunk_gates_t gates = gdncp_chunk_gates_at(&walk->shared.gates, slot);
    const gdncp_chunk_record_t record = record_at(walk, slot);

    gdncp_chunk_gates_load(problem, &span, walk->head, &gates);
    gdncp_chunk_inverse(span.rows, &gates, keys.kk, record.t, own->work);
}

/* A turn a panel: its columns of the state, from the block's start to its end. */
static void walk_forward(const walk_t *walk, int64_t panel, own_t *own)
{
    const gdncp_rule_problem_t *const problem = &walk->run->problem;
    const int64_t dk = problem->dk;
    const int64_t dv = problem->dv;
    const gdncp_columns_t columns = columns_of_panel(walk, panel);
    float *const state = walk->shared.state + columns.first;

    for (int64_t slot = 0; slot < walk->count; slot++) {
        const gdncp_chunk_span_t span = span_of_slot(walk, slot);
        const gdncp_chunk_keys_t keys = keys_of_slot(walk, slot);
        const gdncp_chunk_gates_t gates = gdncp_chunk_gates_at(&walk->shared.gates, slot);
        const gdncp_chunk_record_t record = record_at(walk, slot);
        float *const y = record.y + columns.first;
        float *const u = record.u + columns.first;
        const gdncp_chunk_t chunk =
            gdncp_chunk_make(problem, span.rows, false, &keys, &own->operands, &gates, &own->rooms);
        const gdncp_float_rows_t v = gdncp_columns_input(&problem->rule->v, span.begin, span.count,
                                                         walk->head, &columns, span.rows, y, dv);

        if (walk->with_q) {
            gdncp_transpose(dk, columns.width, state, dv, record.state_t + columns.first * dk, dk);
        }
        gdncp_key_operands_make(problem, span.rows, &keys, GDNCP_KEY_K | GDNCP_KEY_K_T,
                                &own->operands);

        const gdncp_operand_t right =
            gdncp_right(problem->in_tiles, dk, columns.width,
                        &(gdncp_operand_rows_t){.data = state, .ld = dv}, own->rooms.right);

        gdncp_chunk_values(&chunk, columns.width, dv, record.t, &right, &v, y, u, own->work);
        gdncp_chunk_advance(&chunk, columns.width, dv, u, state);
    }
}

static float *grad_state_of_head(const walk_t *walk)
{
    return walk->shared.grad_states + (walk->head - walk->heads.first) * state_size(walk->run);
}

/* One chunk of the walk back, in some columns of the gradient of the state. */
static void step_back(const walk_t *walk, int64_t slot, const gdncp_columns_t *columns, own_t *own)
{
    const gdncp_rule_problem_t *const problem = &walk->run->problem;
    const int64_t dk = problem->dk;
    const int64_t dv = problem->dv;
    const gdncp_chunk_span_t span = span_of_slot(walk, slot);
    const gdncp_chunk_keys_t keys = keys_of_slot(walk, slot);
    const gdncp_chunk_gates_t gates = gdncp_chunk_gates_at(&walk->shared.gates, slot);
    const gdncp_chunk_record_t record = record_at(walk, slot);
    const gdncp_chunk_back_record_t back = back_record_at(walk, slot);
    const gdncp_chunk_t chunk =
        gdncp_chunk_make(problem, span.rows, true, &keys, &own->operands, &gates, &own->rooms);
    float *const grad_state = grad_state_of_head(walk);

    gdncp_transpose(dk, columns->width, grad_state + columns->first, dv,
                    back.grad_state_t + columns->first * dk, dk);
    gdncp_load_columns(walk->run->grad_o, span.begin, span.count, walk->head, columns, span.rows,
                       back.grads + columns->first, dv);
    gdncp_key_operands_make(problem, span.rows, &keys, GDNCP_KEY_K | GDNCP_KEY_K_T | GDNCP_KEY_Q_T,
                            &own->operands);
    gdncp_chunk_grad_values(&chunk, columns, record.t, grad_state, back.grads, &own->chunk);
    gdncp_chunk_grad_state(&chunk, columns, back.grads, grad_state);
}

static void store_gate_grads(const gdncp_backward_run_t *run, const gdncp_chunk_span_t *span,
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

/* A turn a chunk: gradients of inputs, after both walks. */
static void grad_inputs(const walk_t *walk, int64_t slot, own_t *own)
{
    const gdncp_backward_run_t *const run = walk->run;
    const int64_t dk = run->problem.dk;
    const gdncp_columns_t all = {0, run->problem.dv};
    const gdncp_chunk_span_t span = span_of_slot(walk, slot);
    const gdncp_chunk_keys_t keys = keys_of_slot(walk, slot);
    const gdncp_chunk_gates_t gates = gdncp_chunk_gates_at(&walk->shared.gates, slot);
    const gdncp_chunk_record_t record = record_at(walk, slot);
    const gdncp_chunk_back_record_t back = back_record_at(walk, slot);
    const gdncp_chunk_t chunk = gdncp_chunk_make(&run->problem, span.rows, true, &keys,
                                                 &own->operands, &gates, &own->rooms);
    gdncp_chunk_grads_t grads = {.is_first = walk->head == walk->heads.first,
                                 .q = walk->shared.grad_q + slot * GDNCP_CHUNK * dk,
                                 .k = walk->shared.grad_k + slot * GDNCP_CHUNK * dk,
                                 .v = gdncp_columns_output(&run->grads->v, span.begin, span.count,
                                                           walk->head, &all, span.rows, own->grad_v,
                                                           run->problem.dv)};

    gdncp_chunk_grad_inputs(&chunk, &record, &back, &own->chunk, &grads);
    gdncp_store_columns(grads.v.data, grads.v.ld, span.begin, span.count, walk->head, &all,
                        &run->grads->v);
    store_gate_grads(run, &span, walk->head, &grads);
}

/* A turn a panel. */
static void walk_back(const walk_t *walk, int64_t panel, own_t *own)
{
    const gdncp_columns_t columns = columns_of_panel(walk, panel);

    for (int64_t slot = walk->count - 1; slot >= 0; slot--) {
        step_back(walk, slot, &columns, own);
    }
}

/* One turn for all, which uses what a step leaves while it is in the cache. */
static void walk_back_with_inputs(const walk_t *walk, int64_t index, own_t *own)
{
    const gdncp_columns_t all = {0, walk->run->problem.dv};

    (void)index;
    for (int64_t slot = walk->count - 1; slot >= 0; slot--) {
        step_back(walk, slot, &all, own);
        grad_inputs(walk, slot, own);
    }
}

/* A turn a chunk: sums over the group, taken back through the normalisation. */
static void store_key_grads(const walk_t *walk, int64_t slot, own_t *own)
{
    const gdncp_backward_run_t *const run = walk->run;
    const int64_t floats = GDNCP_CHUNK * run->problem.dk;
    const gdncp_chunk_span_t span = span_of_slot(walk, slot);
    const gdncp_chunk_keys_t keys = keys_of_slot(walk, slot);
    float *const grad_q = walk->shared.grad_q + slot * floats;
    float *const grad_k = walk->shared.grad_k + slot * floats;

    (void)own;
    gdncp_store_key_grads(&run->problem, keys.q, keys.q_factors, grad_q, span.begin, span.count,
                          walk->key_head, &run->grads->q);
    gdncp_store_key_grads(&run->problem, keys.k, keys.k_factors, grad_k, span.begin, span.count,
                          walk->key_head, &run->grads->k);
}

/* Where the state at the start of a block, > 0, of the head is kept. */
static float *border_state(const walk_t *walk, int64_t block)
{
    const gdncp_backward_run_t *const run = walk->run;
    const int64_t place = block * run->problem.group_size + walk->head - walk->heads.first;

    return run->has_saved ? gdncp_rule_saved_state(&run->problem, walk->sequence,
                                                   block * run->block_chunks, walk->head)
                          : walk->shared.borders + place * state_size(run);
}

/* The state at the start of the block. */
static void load_border(const walk_t *walk)
{
    const gdncp_rule_problem_t *const problem = &walk->run->problem;

    if (walk->block == 0) {
        gdncp_load_state(problem, &problem->rule->initial_state, walk->sequence, walk->head,
                         &(gdncp_columns_t){0, problem->dv}, walk->shared.state);
    } else {
        memcpy(walk->shared.state, border_state(walk, walk->block),
               (size_t)state_size(walk->run) * sizeof(float));
    }
}

static void enter_block(walk_t *walk, int64_t block, bool with_q)
{
    const int64_t left = walk->num_chunks - block * walk->run->block_chunks;

    walk->block = block;
    walk->count = left < walk->run->block_chunks ? left : walk->run->block_chunks;
    walk->with_q = with_q;
    run_stage(walk, walk->count, load_keys);
}

/* States at the start of every block, for all heads. */
static void fill_borders(walk_t *walk)
{
    const int64_t num_blocks = num_blocks_of(walk->run, walk->num_chunks);

    for (int64_t block = 0; block + 1 < num_blocks; block++) {
        enter_block(walk, block, false);
        for (walk->head = walk->heads.first; walk->head < walk->heads.end; walk->head++) {
            load_border(walk);
            run_stage(walk, walk->count, prepare);
            run_stage(walk, num_panels(walk), walk_forward);
            memcpy(border_state(walk, block + 1), walk->shared.state,
                   (size_t)state_size(walk->run) * sizeof(float));
        }
    }
}

static void go_through_block(walk_t *walk, int64_t block)
{
    enter_block(walk, block, true);
    for (walk->head = walk->heads.first; walk->head < walk->heads.end; walk->head++) {
        load_border(walk);
        run_stage(walk, walk->count, prepare);
        run_stage(walk, num_panels(walk), walk_forward);
        if (walk->run->is_shared) {
            run_stage(walk, num_panels(walk), walk_back);
            run_stage(walk, walk->count, grad_inputs);
        } else {
            run_stage(walk, 1, walk_back_with_inputs);
        }
    }
    run_stage(walk, walk->count, store_key_grads);
}

void gdncp_backward_item(const gdncp_backward_run_t *run, int64_t index, char *shared,
                         char *thread_memory)
{
    const gdncp_rule_problem_t *const problem = &run->problem;
    const gdncp_columns_t all = {0, problem->dv};
    gdncp_arena_t shared_arena = {.block = shared};
    gdncp_arena_t own_arena = {.block = thread_memory};
    walk_t walk = {.run = run,
                   .sequence = index / problem->num_key_heads,
                   .key_head = index % problem->num_key_heads,
                   .shared = take_shared(run, &shared_arena),
                   .thread_memory = thread_memory,
                   .own = take_own(run, &own_arena)};

    walk.heads = gdncp_rule_group(problem, walk.key_head);
    walk.begin = problem->rule->cu_seqlens[walk.sequence];
    walk.end = problem->rule->cu_seqlens[walk.sequence + 1];
    walk.num_chunks = gdncp_num_chunks(walk.end - walk.begin);
    if (!run->is_shared) {
        gdncp_operand_begin(problem->in_tiles);
    }
    if (!run->has_saved) {
        fill_borders(&walk);
    }
    for (walk.head = walk.heads.first; walk.head < walk.heads.end; walk.head++) {
        gdncp_load_state(problem, run->grad_final_state, walk.sequence, walk.head, &all,
                         grad_state_of_head(&walk));
    }
    for (int64_t block = num_blocks_of(run, walk.num_chunks) - 1; block >= 0; block--) {
        go_through_block(&walk, block);
    }
    for (walk.head = walk.heads.first; walk.head < walk.heads.end; walk.head++) {
        gdncp_store_state(problem, grad_state_of_head(&walk), walk.sequence, walk.head, &all,
                          &run->grads->initial_state);
    }
    if (!run->is_shared) {
        gdncp_operand_end(problem->in_tiles);
    }
}
