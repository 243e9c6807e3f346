/*
 * Strategy "states": tokens stay where they are, states cross ranks.
 *
 * Forward: each segment's (M, U), or for a first segment the state at its end; the relay gives the
 * state before every segment; every segment runs its tokens from there. Backward: each
 * segment's D; the relay gives the gradient of the state after every segment; every segment runs
 * back from there.
 */
#include "rule_strategy.h"

#include <string.h>

#include "error.h"
#include "gdncp/memory.h"
#include "gdncp/ops.h"
#include "layer_views.h"
#include "op_checks.h"
#include "op_scratch.h"
#include "relay.h"
#include "trace_internal.h"

typedef struct rule_states {
    gdncp_rule_strategy_t base;
    gdncp_cp_rule_config_t config;
    int rank;
    int64_t num_sequences;
    int64_t num_segments;   /* local */
    int64_t state_elements; /* dk dv */
    int64_t *cu_seqlens;    /* [num_segments + 1] of the local segments */
    int64_t *sequence_of;   /* [num_segments] */
    bool *starts_sequence;  /* [num_segments] */
    bool *ends_sequence;    /* [num_segments] */
    int *first_holder;      /* [num_sequences] rank of the first token; 0 where there is none */
    int *last_holder;       /* [num_sequences] */
    bool *is_empty;         /* [num_sequences] */
    gdncp_relay_schedule_t *schedule;
    gdncp_relay_t *relay;
    gdncp_workspace_t *operator_scratch;
    float *outgoing; /* what this rank hands to the relay */
    float *states;   /* [num_segments, Hv, dk, dv] states at the ends, or gradients of either end */
} rule_states_t;

/* Memory between forward and backward. */
typedef struct saved_view {
    float *initial; /* [num_segments, Hv, dk, dv] the state before each segment */
    float *kept;    /* the relay's */
} saved_view_t;

static saved_view_t view_saved(const rule_states_t *states, void *saved, size_t *bytes_p)
{
    gdncp_arena_t arena = {.block = saved};
    const saved_view_t view = {
        .initial = gdncp_arena_floats(&arena, gdncp_relay_incoming_elements(states->schedule)),
        .kept = gdncp_arena_floats(&arena, gdncp_relay_kept_elements(states->schedule)),
    };

    if (bytes_p != NULL) {
        *bytes_p = arena.used;
    }
    return view;
}

static int64_t saved_bytes(const gdncp_rule_strategy_t *strategy)
{
    size_t bytes;

    view_saved((const rule_states_t *)strategy, NULL, &bytes);
    return (int64_t)bytes;
}

static gdncp_status_t merge(void *context, const float *transition, const float *contribution,
                            const float *in, bool transposed, float *out)
{
    const rule_states_t *const states = context;
    const int64_t dk = states->config.key_head_dim;
    const int64_t dv = states->config.value_head_dim;
    const int64_t transition_shape[] = {dk, dk};
    const int64_t state_shape[] = {dk, dv};

    if (transition == NULL) {
        memcpy(out, contribution, (size_t)(dk * dv) * sizeof *out);
        return GDNCP_OK;
    }
    const gdncp_tensor_t m =
        gdncp_tensor_contiguous((void *)transition, GDNCP_F32, 2, transition_shape);
    const gdncp_tensor_t u =
        gdncp_tensor_contiguous((void *)contribution, GDNCP_F32, 2, state_shape);
    const gdncp_tensor_t s = gdncp_tensor_contiguous((void *)in, GDNCP_F32, 2, state_shape);
    const gdncp_tensor_t result = gdncp_tensor_contiguous(out, GDNCP_F32, 2, state_shape);

    return gdncp_state_merge(&m, &u, &s, transposed, &result, states->operator_scratch);
}

static gdncp_status_t copy_segments(rule_states_t *states, const gdncp_layout_t *layout)
{
    const gdncp_segment_t *const segments =
        gdncp_layout_rank_segments(layout, states->rank, &states->num_segments);
    const int64_t *const all = gdncp_layout_cu_seqlens(layout);
    const size_t count = (size_t)states->num_segments + 1;
    const size_t sequences = (size_t)states->num_sequences;

    states->cu_seqlens = gdncp_memory_alloc(count * sizeof(int64_t));
    states->sequence_of = gdncp_memory_alloc(count * sizeof(int64_t));
    states->starts_sequence = gdncp_memory_alloc(count * sizeof(bool));
    states->ends_sequence = gdncp_memory_alloc(count * sizeof(bool));
    states->first_holder = gdncp_memory_alloc(sequences * sizeof(int));
    states->last_holder = gdncp_memory_alloc(sequences * sizeof(int));
    states->is_empty = gdncp_memory_alloc(sequences * sizeof(bool));
    if (states->cu_seqlens == NULL || states->sequence_of == NULL ||
        states->starts_sequence == NULL || states->ends_sequence == NULL ||
        states->first_holder == NULL || states->last_holder == NULL || states->is_empty == NULL) {
        return gdncp_fail_memory("segments of a rule across ranks");
    }
    states->cu_seqlens[0] = 0;
    for (int64_t i = 0; i < states->num_segments; i++) {
        const gdncp_segment_t *const segment = &segments[i];
        const int64_t length = all[segment->sequence + 1] - all[segment->sequence];

        states->cu_seqlens[i + 1] = segment->local_offset + segment->length;
        states->sequence_of[i] = segment->sequence;
        states->starts_sequence[i] = segment->begin == 0;
        states->ends_sequence[i] = segment->begin + segment->length == length;
    }
    for (int64_t i = 0; i < states->num_sequences; i++) {
        int64_t length;
        const int64_t *const chain = gdncp_layout_sequence_chain(layout, i, &length);
        const gdncp_segment_t *const every = gdncp_layout_segments(layout);

        states->is_empty[i] = length == 0;
        states->first_holder[i] = length > 0 ? every[chain[0]].rank : 0;
        states->last_holder[i] = length > 0 ? every[chain[length - 1]].rank : 0;
    }
    return GDNCP_OK;
}

static int64_t max_i64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static gdncp_status_t prepare(rule_states_t *states, const gdncp_layout_t *layout)
{
    const gdncp_cp_rule_config_t *const config = &states->config;
    gdncp_status_t status = copy_segments(states, layout);

    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_workspace_create(&states->operator_scratch);
    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_relay_schedule_create(layout, states->rank, config->num_value_heads,
                                         config->key_head_dim * config->key_head_dim,
                                         states->state_elements, &states->schedule);
    if (status != GDNCP_OK) {
        return status;
    }
    const int64_t outgoing = max_i64(gdncp_relay_outgoing_elements(states->schedule, false),
                                     gdncp_relay_outgoing_elements(states->schedule, true));

    states->outgoing = gdncp_memory_alloc((size_t)outgoing * sizeof(float));
    states->states =
        gdncp_memory_alloc((size_t)gdncp_relay_incoming_elements(states->schedule) * sizeof(float));
    if (states->outgoing == NULL || states->states == NULL) {
        return gdncp_fail_memory("states of a rule across ranks");
    }
    return GDNCP_OK;
}

static void destroy(gdncp_rule_strategy_t *strategy)
{
    rule_states_t *const states = (rule_states_t *)strategy;

    if (states == NULL) {
        return;
    }
    gdncp_relay_destroy(states->relay);
    gdncp_relay_schedule_destroy(states->schedule);
    gdncp_workspace_destroy(states->operator_scratch);
    gdncp_memory_free(states->cu_seqlens);
    gdncp_memory_free(states->sequence_of);
    gdncp_memory_free(states->starts_sequence);
    gdncp_memory_free(states->ends_sequence);
    gdncp_memory_free(states->first_holder);
    gdncp_memory_free(states->last_holder);
    gdncp_memory_free(states->is_empty);
    gdncp_memory_free(states->outgoing);
    gdncp_memory_free(states->states);
    gdncp_memory_free(states);
}

static gdncp_status_t create(gdncp_comm_t *comm, const gdncp_layout_t *layout,
                             const gdncp_cp_rule_config_t *config,
                             gdncp_rule_strategy_t **strategy_p)
{
    rule_states_t *const states = gdncp_memory_alloc(sizeof *states);
    gdncp_status_t status;

    if (states == NULL) {
        status = gdncp_fail_memory("a rule across ranks");
    } else {
        *states = (rule_states_t){
            .base = {.ops = &gdncp_rule_states},
            .config = *config,
            .rank = gdncp_comm_rank(comm),
            .num_sequences = gdncp_layout_num_sequences(layout),
            .state_elements = config->key_head_dim * config->value_head_dim,
        };
        status = prepare(states, layout);
    }
    /* Also where this rank could not prepare: the others must not wait for it. */
    status = gdncp_comm_agree(comm, status);
    if (status != GDNCP_OK) {
        goto destroy_states;
    }
    status = gdncp_relay_create(comm, states->schedule, merge, states, &states->relay);
    if (status != GDNCP_OK) {
        goto destroy_states;
    }
    *strategy_p = &states->base;
    return GDNCP_OK;

destroy_states:
    destroy(&states->base);
    return status;
}

/* The operator's view of the local segments, each starting from its row of `initial`. */
static gdncp_delta_rule_t local_rule(const rule_states_t *states,
                                     const gdncp_cp_rule_inputs_t *inputs, float *initial)
{
    const gdncp_cp_rule_config_t *const config = &states->config;

    return (gdncp_delta_rule_t){
        .q = inputs->q,
        .k = inputs->k,
        .v = inputs->v,
        .g = inputs->g,
        .beta = inputs->beta,
        .initial_state = gdncp_view_states(initial, states->num_segments, config->num_value_heads,
                                           config->key_head_dim, config->value_head_dim),
        .cu_seqlens = states->cu_seqlens,
        .num_sequences = states->num_segments,
        .scale = config->scale,
        .qk_l2norm = config->qk_l2norm,
    };
}

static gdncp_tensor_t view_states(const rule_states_t *states, float *data, int64_t count)
{
    const gdncp_cp_rule_config_t *const config = &states->config;

    return gdncp_view_states(data, count, config->num_value_heads, config->key_head_dim,
                             config->value_head_dim);
}

static float *row(const rule_states_t *states, const float *data, int64_t index)
{
    return (float *)data + index * states->config.num_value_heads * states->state_elements;
}

static size_t row_bytes(const rule_states_t *states)
{
    return (size_t)(states->config.num_value_heads * states->state_elements) * sizeof(float);
}

/* Copy rows between a caller's [sequences, ...] and the local segments that start (or end) them. */
static void sequences_to_segments(const rule_states_t *states, const gdncp_tensor_t *sequences,
                                  const bool *selected, float *segments)
{
    for (int64_t i = 0; i < states->num_segments; i++) {
        if (selected[i] && !gdncp_op_is_absent(sequences)) {
            memcpy(row(states, segments, i), row(states, sequences->data, states->sequence_of[i]),
                   row_bytes(states));
        } else if (selected[i]) {
            memset(row(states, segments, i), 0, row_bytes(states));
        }
    }
}

static void segments_to_sequences(const rule_states_t *states, const float *segments,
                                  const bool *selected, const gdncp_tensor_t *sequences)
{
    for (int64_t i = 0; i < states->num_segments; i++) {
        if (selected[i]) {
            memcpy(row(states, sequences->data, states->sequence_of[i]), row(states, segments, i),
                   row_bytes(states));
        }
    }
}

/* A sequence without tokens hands its state on as it is; rank 0 sees to it. */
static void pass_through_empty(const rule_states_t *states, const gdncp_tensor_t *from,
                               const gdncp_tensor_t *to)
{
    for (int64_t i = 0; states->rank == 0 && i < states->num_sequences; i++) {
        if (states->is_empty[i] && gdncp_op_is_absent(from)) {
            memset(row(states, to->data, i), 0, row_bytes(states));
        } else if (states->is_empty[i]) {
            memcpy(row(states, to->data, i), row(states, from->data, i), row_bytes(states));
        }
    }
}

/* Fill `outgoing`: (M, U) of middle segments, the state at the end of first ones. */
static gdncp_status_t summarise(rule_states_t *states, const gdncp_delta_rule_t *rule)
{
    const gdncp_relay_schedule_t *const schedule = states->schedule;
    const gdncp_cp_rule_config_t *const config = &states->config;
    const int64_t num_first = schedule->num_forward - schedule->num_middle;
    const gdncp_tensor_t middle = view_states(states, states->outgoing, schedule->num_middle);
    const gdncp_tensor_t first =
        view_states(states, row(states, states->outgoing, schedule->num_middle), num_first);
    const gdncp_tensor_t transitions = gdncp_view_states(
        row(states, states->outgoing, schedule->num_forward), schedule->num_middle,
        config->num_value_heads, config->key_head_dim, config->key_head_dim);
    const int64_t start = gdncp_trace_begin();
    gdncp_status_t status;

    status = gdncp_delta_rule_summary(rule, schedule->forward_segments, NULL, schedule->num_middle,
                                      &transitions, &middle, states->operator_scratch);
    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_delta_rule_summary(rule, schedule->forward_segments + schedule->num_middle, NULL,
                                      num_first, NULL, &first, states->operator_scratch);
    gdncp_trace_end("segment summary", start, 0);
    return status;
}

static gdncp_status_t forward(gdncp_rule_strategy_t *strategy, const gdncp_cp_rule_inputs_t *inputs,
                              void *saved, const gdncp_tensor_t *o,
                              const gdncp_tensor_t *final_state)
{
    rule_states_t *const states = (rule_states_t *)strategy;
    const saved_view_t view = view_saved(states, saved, NULL);
    const gdncp_delta_rule_t rule = local_rule(states, inputs, view.initial);
    const gdncp_tensor_t ends = view_states(states, states->states, states->num_segments);
    const bool wants_final = !gdncp_op_is_absent(final_state);
    gdncp_status_t status;

    sequences_to_segments(states, &inputs->initial_state, states->starts_sequence, view.initial);
    status = summarise(states, &rule);
    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_relay_forward(states->relay, states->outgoing, view.kept, view.initial);
    if (status != GDNCP_OK) {
        return status;
    }
    sequences_to_segments(states, &inputs->initial_state, states->starts_sequence, view.initial);
    const int64_t start = gdncp_trace_begin();

    status =
        gdncp_delta_rule_forward(&rule, o, wants_final ? &ends : NULL, states->operator_scratch);
    if (status != GDNCP_OK) {
        return status;
    }
    gdncp_trace_end("delta rule", start, 0);
    if (wants_final) {
        segments_to_sequences(states, states->states, states->ends_sequence, final_state);
        pass_through_empty(states, &inputs->initial_state, final_state);
    }
    return GDNCP_OK;
}

/* Fill `outgoing`: D of every segment that has one before it. Its rows first hold the gradients of
 * final states, zero where the segment is not its sequence's last. */
static gdncp_status_t summarise_gradients(rule_states_t *states, const gdncp_delta_rule_t *rule,
                                          const gdncp_tensor_t *grad_o,
                                          const gdncp_tensor_t *grad_final_state)
{
    const gdncp_relay_schedule_t *const schedule = states->schedule;
    const bool has_final = !gdncp_op_is_absent(grad_final_state);
    const gdncp_tensor_t d = view_states(states, states->outgoing, schedule->num_backward);
    const int64_t start = gdncp_trace_begin();

    for (int64_t i = 0; has_final && i < schedule->num_backward; i++) {
        const int64_t segment = schedule->backward_segments[i];

        if (states->ends_sequence[segment]) {
            memcpy(row(states, states->outgoing, i),
                   row(states, grad_final_state->data, states->sequence_of[segment]),
                   row_bytes(states));
        } else {
            memset(row(states, states->outgoing, i), 0, row_bytes(states));
        }
    }
    const gdncp_status_t status = gdncp_delta_rule_grad_summary(
        rule, schedule->backward_segments, NULL, schedule->num_backward, grad_o,
        has_final ? &d : NULL, &d, states->operator_scratch);

    gdncp_trace_end("gradient summary", start, 0);
    return status;
}

static gdncp_status_t backward(gdncp_rule_strategy_t *strategy,
                               const gdncp_cp_rule_inputs_t *inputs, const void *saved,
                               const gdncp_tensor_t *grad_o, const gdncp_tensor_t *grad_final_state,
                               const gdncp_cp_rule_grads_t *grads)
{
    rule_states_t *const states = (rule_states_t *)strategy;
    const saved_view_t view = view_saved(states, (void *)saved, NULL);
    const gdncp_delta_rule_t rule = local_rule(states, inputs, view.initial);
    const bool wants_initial = !gdncp_op_is_absent(&grads->initial_state);
    const gdncp_tensor_t ends = view_states(states, states->states, states->num_segments);
    gdncp_status_t status;

    status = summarise_gradients(states, &rule, grad_o, grad_final_state);
    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_relay_backward(states->relay, states->outgoing, view.kept, states->states);
    if (status != GDNCP_OK) {
        return status;
    }
    sequences_to_segments(states, grad_final_state, states->ends_sequence, states->states);
    const int64_t start = gdncp_trace_begin();
    gdncp_delta_rule_grads_t local = {
        .q = grads->q, .k = grads->k, .v = grads->v, .g = grads->g, .beta = grads->beta};

    /* In place: the operator has read a sequence's end before it writes its start. */
    if (wants_initial) {
        local.initial_state = ends;
    }
    status = gdncp_delta_rule_backward(&rule, grad_o, &ends, &local, states->operator_scratch);
    if (status != GDNCP_OK) {
        return status;
    }
    gdncp_trace_end("delta rule backward", start, 0);
    if (wants_initial) {
        segments_to_sequences(states, states->states, states->starts_sequence,
                              &grads->initial_state);
        pass_through_empty(states, grad_final_state, &grads->initial_state);
    }
    return GDNCP_OK;
}

static int initial_state_rank(const gdncp_rule_strategy_t *strategy, int64_t sequence,
                              int64_t value_head)
{
    (void)value_head;
    return ((const rule_states_t *)strategy)->first_holder[sequence];
}

static int final_state_rank(const gdncp_rule_strategy_t *strategy, int64_t sequence,
                            int64_t value_head)
{
    (void)value_head;
    return ((const rule_states_t *)strategy)->last_holder[sequence];
}

const gdncp_rule_strategy_ops_t gdncp_rule_states = {
    .create = create,
    .destroy = destroy,
    .saved_bytes = saved_bytes,
    .forward = forward,
    .backward = backward,
    .initial_state_rank = initial_state_rank,
    .final_state_rank = final_state_rank,
};
