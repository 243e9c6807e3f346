/* An update of a random pool, its output and its reference, shared by its test programs. */
#ifndef GDNCP_TEST_OPS_CONV1D_UPDATE_CASE_H
#define GDNCP_TEST_OPS_CONV1D_UPDATE_CASE_H

#include <math.h>
#include <string.h>

#include "compare.h"
#include "conv1d_update_reference.h"
#include "test_ops_decode_case.h"

enum { MAX_SEQUENCES = 40 };

typedef struct update_shape {
    gdncp_dtype_t dtype;
    gdncp_dtype_t index_dtype;
    bool wide; /* y is F32 */
    int64_t channels;
    int64_t width;
    int64_t slot_rows;
    int64_t num_slots; /* as many as there are sequences, or more */
    int64_t gap;       /* elements between tokens */
    bool bias;
    bool has_initial_state; /* the list is there */
    bool accepted;          /* num_accepted is there */
    double pads;            /* share of slots */
    gdncp_activation_t activation;
    const int64_t *cu_seqlens;
    int64_t num_sequences;
} update_shape_t;

typedef struct update_case {
    test_arena_t arena;
    update_shape_t shape;
    gdncp_conv1d_update_t update;
    gdncp_tensor_t y;
    gdncp_conv1d_update_reference_t reference;
    int64_t slots[MAX_SEQUENCES];
    int64_t num_accepted[MAX_SEQUENCES];
    int8_t has_initial_state[MAX_SEQUENCES];
    void *before; /* the pool as the call finds it */
    gdncp_workspace_t *workspace;
} update_case_t;

static inline int64_t slot_size(const update_case_t *c)
{
    return c->shape.slot_rows * c->shape.channels;
}

static inline size_t pool_bytes(const update_case_t *c)
{
    return (size_t)(c->shape.num_slots * slot_size(c)) * gdncp_dtype_size(c->shape.dtype);
}

/* Each slot is named once at most; nonsense where nothing is read. */
static inline void fill_lists(test_random_t *random, update_case_t *c)
{
    const update_shape_t *const s = &c->shape;
    const int64_t most = s->slot_rows - s->width + 2;
    int64_t order[2 * MAX_SEQUENCES];

    assert_true(s->num_slots <= 2 * MAX_SEQUENCES && s->num_sequences <= MAX_SEQUENCES);
    random_order(random, order, s->num_slots);
    for (int64_t n = 0; n < s->num_sequences; n++) {
        const bool is_empty = s->cu_seqlens[n + 1] == s->cu_seqlens[n];
        const bool is_pad = test_random_uniform(random) < s->pads;
        const bool is_new = s->has_initial_state && test_random_int(random, 0, 2) == 0;

        c->slots[n] = is_empty ? nonsense(n) : is_pad ? -1 - n : order[n];
        c->has_initial_state[n] = is_new ? 0 : (int8_t)(n % 2 == 0 ? 1 : -1);
        c->num_accepted[n] =
            is_empty || is_pad || is_new ? nonsense(n) : test_random_int(random, 1, most);
    }
}

/* NaN in all rows but those of windows: what was in them may not matter. */
static inline void poison_unread(update_case_t *c)
{
    const update_shape_t *const s = &c->shape;

    for (int64_t row = 0; row < s->num_slots * s->slot_rows; row++) {
        bool is_read = false;

        for (int64_t n = 0; n < s->num_sequences; n++) {
            const int64_t first =
                c->slots[n] * s->slot_rows + (s->accepted ? c->num_accepted[n] - 1 : 0);

            is_read = is_read ||
                      (s->cu_seqlens[n + 1] > s->cu_seqlens[n] && c->slots[n] >= 0 &&
                       c->has_initial_state[n] != 0 && row >= first && row < first + s->width - 1);
        }
        for (int64_t i = row * s->channels; !is_read && i < (row + 1) * s->channels; i++) {
            const float nan = NAN;
            const size_t size = gdncp_dtype_size(s->dtype);

            gdncp_convert_from_f32(&nan, 1, s->dtype,
                                   (char *)c->update.states.data + (size_t)i * size);
            c->reference.states[i] = NAN;
        }
    }
}

static inline void poison_output(update_case_t *c)
{
    c->y = test_tensor(&c->arena, c->shape.wide ? GDNCP_F32 : c->shape.dtype, 2, c->update.x.shape,
                       2 * c->shape.gap);
}

static inline void start_case(test_random_t *random, const update_shape_t *shape, update_case_t *c)
{
    const int64_t tokens[] = {shape->cu_seqlens[shape->num_sequences], shape->channels};
    const int64_t weight[] = {shape->channels, shape->width};
    const int64_t pool[] = {shape->num_slots, shape->slot_rows, shape->channels};

    *c = (update_case_t){.shape = *shape,
                         .update = {.cu_seqlens = shape->cu_seqlens,
                                    .num_sequences = shape->num_sequences,
                                    .activation = shape->activation}};
    fill_lists(random, c);
    c->update.x = test_tensor(&c->arena, shape->dtype, 2, tokens, shape->gap);
    c->update.weight = test_tensor(&c->arena, GDNCP_F32, 2, weight, 0);
    c->update.states = test_tensor(&c->arena, shape->dtype, 3, pool, 0);
    c->update.slots =
        index_tensor(&c->arena, shape->index_dtype, 1, &shape->num_sequences, c->slots);
    if (shape->accepted) {
        c->update.num_accepted =
            index_tensor(&c->arena, shape->index_dtype, 1, &shape->num_sequences, c->num_accepted);
    }
    if (shape->has_initial_state) {
        c->update.has_initial_state =
            gdncp_tensor_contiguous(c->has_initial_state, GDNCP_I8, 1, &shape->num_sequences);
    }
    c->reference = (gdncp_conv1d_update_reference_t){
        .conv = {.channels = shape->channels,
                 .width = shape->width,
                 .x = test_tensor_fill(&c->arena, random, 1.0, 0.0, &c->update.x),
                 .weight = test_tensor_fill(&c->arena, random, 1.0, 0.0, &c->update.weight),
                 .cu_seqlens = shape->cu_seqlens,
                 .num_sequences = shape->num_sequences,
                 .silu = shape->activation == GDNCP_ACTIVATION_SILU},
        .states = test_tensor_fill(&c->arena, random, 1.0, 0.0, &c->update.states),
        .slot_rows = shape->slot_rows,
        .slots = c->slots,
        .has_initial_state = shape->has_initial_state ? c->has_initial_state : NULL,
        .num_accepted = shape->accepted ? c->num_accepted : NULL};
    if (shape->bias) {
        c->update.bias = test_tensor(&c->arena, GDNCP_F32, 1, weight, 0);
        c->reference.conv.bias = test_tensor_fill(&c->arena, random, 1.0, 0.0, &c->update.bias);
    }
    poison_unread(c);
    c->before = test_arena_alloc(&c->arena, (int64_t)pool_bytes(c));
    memcpy(c->before, c->update.states.data, pool_bytes(c));
    poison_output(c);
}

/* From the pool as it was at first. */
static inline gdncp_status_t run_update(void *context)
{
    const update_case_t *const c = context;

    memcpy(c->update.states.data, c->before, pool_bytes(c));
    return gdncp_conv1d_update(&c->update, &c->y, c->workspace);
}

/* The pool holds copies, so it is exactly the reference's. */
static inline void check_update(void *context)
{
    update_case_t *const c = context;
    const int64_t num_states = c->shape.num_slots * slot_size(c);
    test_arena_t arena = {0};
    double *const y = test_doubles(&arena, gdncp_tensor_num_elements(&c->y));
    double *const expected = test_doubles(&arena, num_states);
    gdncp_conv1d_update_reference_t reference = c->reference;

    assert_int_equal(run_update(c), GDNCP_OK);
    memcpy(expected, c->reference.states, (size_t)num_states * sizeof *expected);
    reference.states = expected;
    assert_int_equal(gdncp_conv1d_update_reference(&reference, y), GDNCP_OK);
    assert_tensor_close("y", &c->y, y, output_tolerance(&c->y));
    const float *const states = test_tensor_values(&arena, &c->update.states);

    for (int64_t i = 0; i < num_states; i++) {
        if (!((double)states[i] == expected[i] || (isnan(states[i]) && isnan(expected[i])))) {
            print_error(
                "states: slot %lld, row %lld: expected %g, got %g\n", (long long)(i / slot_size(c)),
                (long long)(i % slot_size(c) / c->shape.channels), expected[i], (double)states[i]);
            fail();
        }
    }
    test_arena_free(&arena);
}

#endif
