/* The recurrent step on the CPU: one value head of one sequence at a time. */
#include "recurrent_step_cpu.h"

#include <math.h>
#include <string.h>

#include "delta_rule_rows.h"
#include "inline_math.h"
#include "token_rows.h"
#include "vector_math.h"

/* Rows of a state that are worked on together: sums over rows are loaded and stored once for all
 * of them. */
#define ROWS 4

typedef struct step_run {
    const gdncp_step_problem_t *problem;
    const gdncp_tensor_t *o;
    gdncp_scratch_t scratch;
} step_run_t;

/* One token of one value head, and a state that has no place in the pool. */
typedef struct step_scratch {
    float *q;     /* [dk] */
    float *k;     /* [dk] */
    float *v;     /* [dv] */
    float *u;     /* [dv] */
    float *o;     /* [dv] */
    float *state; /* [dk, dv] */
} step_scratch_t;

static step_scratch_t take_scratch(const gdncp_rule_problem_t *dims, gdncp_arena_t *arena)
{
    step_scratch_t scratch;

    scratch.q = gdncp_arena_floats(arena, dims->dk);
    scratch.k = gdncp_arena_floats(arena, dims->dk);
    scratch.v = gdncp_arena_floats(arena, dims->dv);
    scratch.u = gdncp_arena_floats(arena, dims->dv);
    scratch.o = gdncp_arena_floats(arena, dims->dv);
    scratch.state = gdncp_arena_floats(arena, dims->dk * dims->dv);
    return scratch;
}

/* sum [dv] = state' k, of state [dk, dv]. */
GDNCP_VECTOR_CLONES
static void read_state(int64_t dk, int64_t dv, const float *restrict state, const float *restrict k,
                       float *restrict sum)
{
    int64_t i = 0;

    memset(sum, 0, (size_t)dv * sizeof *sum);
    for (; i + ROWS <= dk; i += ROWS) {
        const float *const row = state + i * dv;

        for (int64_t j = 0; j < dv; j++) {
            sum[j] += (k[i] * row[j] + k[i + 1] * row[dv + j]) +
                      (k[i + 2] * row[2 * dv + j] + k[i + 3] * row[3 * dv + j]);
        }
    }
    for (; i < dk; i++) {
        for (int64_t j = 0; j < dv; j++) {
            sum[j] += k[i] * state[i * dv + j];
        }
    }
}

/* state <- decay state + k u';  o [dv] = state' q. */
GDNCP_VECTOR_CLONES
static void update_state(int64_t dk, int64_t dv, float decay, const float *restrict k,
                         const float *restrict u, const float *restrict q, float *restrict state,
                         float *restrict o)
{
    int64_t i = 0;

    memset(o, 0, (size_t)dv * sizeof *o);
    for (; i + ROWS <= dk; i += ROWS) {
        float *const row = state + i * dv;

        for (int64_t j = 0; j < dv; j++) {
            const float s0 = decay * row[j] + k[i] * u[j];
            const float s1 = decay * row[dv + j] + k[i + 1] * u[j];
            const float s2 = decay * row[2 * dv + j] + k[i + 2] * u[j];
            const float s3 = decay * row[3 * dv + j] + k[i + 3] * u[j];

            row[j] = s0;
            row[dv + j] = s1;
            row[2 * dv + j] = s2;
            row[3 * dv + j] = s3;
            o[j] += (q[i] * s0 + q[i + 1] * s1) + (q[i + 2] * s2 + q[i + 3] * s3);
        }
    }
    for (; i < dk; i++) {
        float *const row = state + i * dv;

        for (int64_t j = 0; j < dv; j++) {
            row[j] = decay * row[j] + k[i] * u[j];
            o[j] += q[i] * row[j];
        }
    }
}

/* row [dk] = a token's key or query, normalised where the rule asks for that. */
static void load_key(const gdncp_rule_problem_t *dims, const gdncp_tensor_t *keys, int64_t token,
                     int64_t head, float *row)
{
    float factor;

    gdncp_load_keys(dims, keys, token, 1, head, 1, row, &factor);
    gdncp_scale_rows(1, dims->dk, &factor, row, dims->dk, row, dims->dk);
}

/* Advance the state by a token and write its row of o. */
static void step_token(const step_run_t *run, int64_t token, int64_t head, float *state,
                       const step_scratch_t *scratch)
{
    const gdncp_rule_problem_t *const dims = &run->problem->dims;
    const gdncp_delta_rule_t *const rule = dims->rule;
    const int64_t dk = dims->dk;
    const int64_t dv = dims->dv;
    const int64_t gate = token * dims->num_value_heads + head;
    const float decay = expf(((const float *)rule->g.data)[gate]);
    const float beta = ((const float *)rule->beta.data)[gate];
    const int64_t key_head = gdncp_rule_key_head(dims, head);

    load_key(dims, &rule->q, token, key_head, scratch->q);
    load_key(dims, &rule->k, token, key_head, scratch->k);
    gdncp_load_head(&rule->v, token, 1, head, 1, scratch->v);
    read_state(dk, dv, state, scratch->k, scratch->u);
    for (int64_t j = 0; j < dv; j++) {
        scratch->u[j] = beta * (scratch->v[j] - decay * scratch->u[j]);
    }
    update_state(dk, dv, decay, scratch->k, scratch->u, scratch->q, state, scratch->o);
    for (int64_t j = 0; j < dv; j++) {
        scratch->o[j] *= dims->scale;
    }
    gdncp_store_head(scratch->o, token, 1, head, run->o);
}

/* One head of a slot of the pool, or of scratch where the slot is a pad. */
static float *state_of(const gdncp_step_problem_t *problem, int64_t slot, int64_t head,
                       const step_scratch_t *scratch)
{
    const gdncp_rule_problem_t *const dims = &problem->dims;
    const int64_t offset = (slot * dims->num_value_heads + head) * dims->dk * dims->dv;

    return slot >= 0 ? (float *)problem->step->states.data + offset : scratch->state;
}

static void clear_rows(const gdncp_tensor_t *o, int64_t begin, int64_t end, int64_t head)
{
    const int64_t dv = o->shape[2];

    for (int64_t t = begin; t < end; t++) {
        memset(gdncp_token_element(o, t, head * dv), 0, (size_t)dv * gdncp_dtype_size(o->dtype));
    }
}

/* A pool may hold more than the caches: a state is moved only where it must be kept for later. */
static void step_item(void *context, int64_t item, int thread)
{
    const step_run_t *const run = context;
    const gdncp_step_problem_t *const problem = run->problem;
    const gdncp_rule_problem_t *const dims = &problem->dims;
    const int64_t sequence = item / dims->num_value_heads;
    const int64_t head = item % dims->num_value_heads;
    const int64_t begin = problem->rule.cu_seqlens[sequence];
    const int64_t end = problem->rule.cu_seqlens[sequence + 1];
    gdncp_arena_t arena = gdncp_scratch_arena(&run->scratch, thread);
    const step_scratch_t scratch = take_scratch(dims, &arena);

    if (begin == end) {
        return;
    }
    const int64_t source = gdncp_step_source(problem, sequence);

    if (source < 0) {
        clear_rows(run->o, begin, end, head);
        return;
    }
    float *state = state_of(problem, source, head, &scratch);

    for (int64_t t = begin; t < end; t++) {
        const int64_t target = gdncp_step_target(problem, sequence, t - begin);
        float *const next = state_of(problem, target, head, &scratch);

        if (next != state) {
            memcpy(next, state, (size_t)(dims->dk * dims->dv) * sizeof *next);
        }
        step_token(run, t, head, next, &scratch);
        state = next;
    }
}

gdncp_status_t gdncp_recurrent_step_cpu(const gdncp_step_problem_t *problem,
                                        const gdncp_tensor_t *o, gdncp_workspace_t *workspace)
{
    const int64_t num_items = problem->step->num_sequences * problem->dims.num_value_heads;
    step_run_t run = {.problem = problem, .o = o};
    gdncp_arena_t measure = {.block = NULL};

    take_scratch(&problem->dims, &measure);
    return gdncp_scratch_parallel_for(workspace, num_items, measure.used, &run.scratch, step_item,
                                      &run);
}
