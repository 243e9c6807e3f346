/* A recurrent step over a random pool, its output and its reference, shared by its test programs.
 */
#ifndef GDNCP_TEST_OPS_RECURRENT_STEP_CASE_H
#define GDNCP_TEST_OPS_RECURRENT_STEP_CASE_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compare.h"
#include "recurrent_step_reference.h"
#include "test_ops_decode_case.h"

typedef struct step_shape {
    gdncp_dtype_t dtype;
    gdncp_dtype_t index_dtype;
    int64_t num_key_heads, num_value_heads, dk, dv;
    int64_t gap;        /* elements between tokens */
    int64_t num_slots;  /* as many as are named, or more */
    int64_t row_length; /* 0: one slot a sequence */
    bool accepted;      /* num_accepted is there */
    double pads;        /* share of slots */
    int64_t group_size, group_phase;
    float scale;
    bool qk_l2norm;
    double mean_g;
    const int64_t *cu_seqlens;
    int64_t num_sequences;
} step_shape_t;

typedef struct step_case {
    test_arena_t arena;
    step_shape_t shape;
    gdncp_recurrent_step_t step;
    gdncp_tensor_t o;
    gdncp_recurrent_step_reference_t reference;
    int64_t *slots, *num_accepted;
    float *before; /* the pool as the call finds it */
    gdncp_workspace_t *workspace;
} step_case_t;

static inline int64_t slot_size(const step_case_t *c)
{
    return c->shape.num_value_heads * c->shape.dk * c->shape.dv;
}

/* The entry of a sequence's row that its first state is read from. */
static inline int64_t start_entry(const step_case_t *c, int64_t sequence)
{
    return c->shape.accepted ? c->num_accepted[sequence] - 1 : 0;
}

/* Slots in random order, each named once; pads; nonsense where nothing is read. */
static inline void fill_slots(test_random_t *random, step_case_t *c)
{
    const step_shape_t *const s = &c->shape;
    const int64_t columns = s->row_length > 0 ? s->row_length : 1;
    int64_t *const order = test_arena_alloc(&c->arena, s->num_slots * (int64_t)sizeof *order);
    int64_t next = 0;

    c->slots = test_arena_alloc(&c->arena, s->num_sequences * columns * (int64_t)sizeof *c->slots);
    c->num_accepted =
        test_arena_alloc(&c->arena, s->num_sequences * (int64_t)sizeof *c->num_accepted);
    random_order(random, order, s->num_slots);
    for (int64_t n = 0; n < s->num_sequences; n++) {
        const int64_t length = s->cu_seqlens[n + 1] - s->cu_seqlens[n];

        c->num_accepted[n] = length > 0 ? test_random_int(random, 1, columns) : nonsense(n);
        for (int64_t i = 0; i < columns; i++) {
            const bool is_used =
                length > 0 && (s->row_length == 0 || i < length || i == start_entry(c, n));

            c->slots[n * columns + i] = !is_used                                ? nonsense(n + i)
                                        : test_random_uniform(random) < s->pads ? -1 - i
                                                                                : order[next++];
        }
    }
}

/* NaN in all slots but those that a sequence starts from: what was in them may not matter. */
static inline void poison_unread(step_case_t *c, double *states)
{
    const int64_t columns = c->shape.row_length > 0 ? c->shape.row_length : 1;
    float *const pool = c->step.states.data;

    for (int64_t slot = 0; slot < c->shape.num_slots; slot++) {
        bool is_start = false;

        for (int64_t n = 0; n < c->shape.num_sequences; n++) {
            const bool is_empty = c->shape.cu_seqlens[n + 1] == c->shape.cu_seqlens[n];

            is_start = is_start || (!is_empty && c->slots[n * columns + start_entry(c, n)] == slot);
        }
        for (int64_t i = slot * slot_size(c); !is_start && i < (slot + 1) * slot_size(c); i++) {
            pool[i] = NAN;
            states[i] = NAN;
        }
    }
}

/* Normal tokens; beta in (0, 1); g exponential with the mean of the shape. */
static inline void fill_tokens(test_random_t *random, step_case_t *c)
{
    const step_shape_t *const s = &c->shape;
    const int64_t num_tokens = s->cu_seqlens[s->num_sequences];
    const int64_t keys[] = {num_tokens, s->num_key_heads, s->dk};
    const int64_t values[] = {num_tokens, s->num_value_heads, s->dv};
    /* Without normalisation, keys of norm 1 at most keep the state bounded. */
    const double key_scale = s->qk_l2norm ? 1.0 : 0.5 / sqrt((double)s->dk);
    gdncp_recurrent_step_t *const step = &c->step;

    step->q = test_tensor(&c->arena, s->dtype, 3, keys, s->gap);
    step->k = test_tensor(&c->arena, s->dtype, 3, keys, 2 * s->gap);
    step->v = test_tensor(&c->arena, s->dtype, 3, values, 3 * s->gap);
    step->g = test_tensor(&c->arena, GDNCP_F32, 2, values, 0);
    step->beta = test_tensor(&c->arena, GDNCP_F32, 2, values, 0);
    c->reference.rule.q = test_tensor_fill(&c->arena, random, 1.0, 0.0, &step->q);
    c->reference.rule.k = test_tensor_fill(&c->arena, random, key_scale, 0.0, &step->k);
    c->reference.rule.v = test_tensor_fill(&c->arena, random, 1.0, 0.0, &step->v);
    const int64_t num_gates = num_tokens * s->num_value_heads;
    double *const g = test_doubles(&c->arena, num_gates);
    double *const beta = test_doubles(&c->arena, num_gates);

    for (int64_t i = 0; i < num_gates; i++) {
        ((float *)step->g.data)[i] = (float)(s->mean_g * -log(1.0 - test_random_uniform(random)));
        ((float *)step->beta.data)[i] = (float)test_random_uniform(random);
        g[i] = ((float *)step->g.data)[i];
        beta[i] = ((float *)step->beta.data)[i];
    }
    c->reference.rule.g = g;
    c->reference.rule.beta = beta;
}

static inline void poison_output(step_case_t *c)
{
    c->o = test_tensor(&c->arena, c->shape.dtype, 3, c->step.v.shape, c->shape.gap);
}

static inline step_case_t start_case(test_random_t *random, const step_shape_t *shape)
{
    const int64_t pool[] = {shape->num_slots, shape->num_value_heads, shape->dk, shape->dv};
    const int64_t rows[] = {shape->num_sequences, shape->row_length};
    step_case_t c = {.shape = *shape,
                     .step = {.cu_seqlens = shape->cu_seqlens,
                              .num_sequences = shape->num_sequences,
                              .group_size = shape->group_size,
                              .group_phase = shape->group_phase,
                              .scale = shape->scale,
                              .qk_l2norm = shape->qk_l2norm},
                     .reference.rule = {.cu_seqlens = shape->cu_seqlens,
                                        .num_sequences = shape->num_sequences,
                                        .num_key_heads = shape->num_key_heads,
                                        .num_value_heads = shape->num_value_heads,
                                        .key_dim = shape->dk,
                                        .value_dim = shape->dv,
                                        .group_size = shape->group_size,
                                        .group_phase = shape->group_phase,
                                        .scale = shape->scale,
                                        .qk_l2norm = shape->qk_l2norm}};

    fill_tokens(random, &c);
    fill_slots(random, &c);
    c.step.slots =
        index_tensor(&c.arena, shape->index_dtype, shape->row_length > 0 ? 2 : 1, rows, c.slots);
    if (shape->accepted) {
        c.step.num_accepted = index_tensor(&c.arena, shape->index_dtype, 1, rows, c.num_accepted);
    }
    c.step.states = test_tensor(&c.arena, GDNCP_F32, 4, pool, 0);
    c.reference.states = test_tensor_fill(&c.arena, random, 1.0, 0.0, &c.step.states);
    c.reference.slots = c.slots;
    c.reference.num_accepted = shape->accepted ? c.num_accepted : NULL;
    c.reference.row_length = shape->row_length;
    poison_unread(&c, c.reference.states);
    c.before = test_tensor_values(&c.arena, &c.step.states);
    poison_output(&c);
    return c;
}

/* From the pool as it was at first. */
static inline gdncp_status_t run_step(void *context)
{
    const step_case_t *const c = context;
    const int64_t num_states = c->shape.num_slots * slot_size(c);

    memcpy(c->step.states.data, c->before, (size_t)num_states * sizeof *c->before);
    return gdncp_recurrent_step(&c->step, &c->o, c->workspace);
}

/* Slots that the reference leaves keep their bits; each of the others is compared by itself. */
static inline void check_pool(step_case_t *c)
{
    const int64_t size = slot_size(c);
    const size_t bytes = (size_t)size * sizeof(float);
    test_arena_t arena = {0};
    double *const expected = test_doubles(&arena, c->shape.num_slots * size);
    double *const o = test_doubles(&arena, gdncp_tensor_num_elements(&c->o));
    gdncp_recurrent_step_reference_t reference = c->reference;

    memcpy(expected, c->reference.states, (size_t)(c->shape.num_slots * size) * sizeof *expected);
    reference.states = expected;
    assert_int_equal(gdncp_recurrent_step_reference(&reference, o), GDNCP_OK);
    for (int64_t slot = 0; slot < c->shape.num_slots; slot++) {
        const int64_t first = slot * size;
        const float *const got = (const float *)c->step.states.data + first;

        if (memcmp(expected + first, c->reference.states + first,
                   (size_t)size * sizeof *expected) == 0) {
            assert_memory_equal(got, c->before + first, bytes);
        } else {
            assert_rms_ratio("a slot", got, expected + first, size, GDNCP_TOLERANCE_F32);
        }
    }
    assert_tensor_close("o", &c->o, o, output_tolerance(&c->o));
    test_arena_free(&arena);
}

static inline void check_step(void *context)
{
    assert_int_equal(run_step(context), GDNCP_OK);
    check_pool(context);
}

#endif
