/*
 * Strategy "states": tokens stay where they are, states cross ranks.
 *
 * Forward: each segment's (M, U), or for a first segment the state at its end; the relay gives the
 * state before every segment; every segment runs its tokens from there. Backward: each
 * segment's D; the relay gives the gradient of the state after every segment; every segment runs
 * back from there.
 */
#include "rule_strategy.h"

#include "error.h"
#include "gdncp/device.h"
#include "gdncp/memory.h"
#include "gdncp/ops.h"
#include "layer_views.h"
#include "move_rows.h"
#include "op_checks.h"
#include "op_scratch.h"
#include "relay.h"
#include "rule_chains.h"
#include "rule_segments.h"
#include "trace_internal.h"

typedef struct rule_states {
    gdncp_rule_strategy_t base;
    gdncp_cp_rule_config_t config;
    int rank;
    int64_t state_elements; /* dk dv */
    gdncp_rule_segments_t segments;
    gdncp_relay_schedule_t *schedule;
    gdncp_device_list_t forward_segments;  /* the schedule's */
    gdncp_device_list_t backward_segments; /* the schedule's */
    gdncp_device_list_t backward_ends;     /* the sequence each of these is the last of; -1: none */
    gdncp_rule_chains_t chains;            /* the schedule's */
    gdncp_relay_t *relay;
    gdncp_workspace_t *operator_scratch;
    float *outgoing; /* what this rank hands to the relay */
    float *states;   /* [num_segments, Hv, dk, dv] states at the ends, or gradients of either end */
} rule_states_t;

/* Memory between forward and backward. */
typedef struct saved_view {
    float *initial; /* [num_segments, Hv, dk, dv] the state before each segment */
    float *kept;    /* the relay's */
    float *steps;   /* what the rule saves */
} saved_view_t;

static int64_t num_saved_states(const rule_states_t *states)
{
    return gdncp_num_saved_states(states->config.device,
                                  states->segments.cu_seqlens.host[states->segments.num_segments]);
}

static saved_view_t view_saved(const rule_states_t *states, void *saved, size_t *bytes_p)
{
    const gdncp_cp_rule_config_t *const config = &states->config;
    const int64_t steps = num_saved_states(states) * config->num_value_heads *
                          config->key_head_dim * config->value_head_dim;
    gdncp_arena_t arena = {.block = saved};
    const saved_view_t view = {
        .initial = gdncp_arena_floats(&arena, gdncp_relay_incoming_elements(states->schedule)),
        .kept = gdncp_arena_floats(&arena, gdncp_relay_kept_elements(states->schedule)),
        .steps = gdncp_arena_floats(&arena, steps),
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

static int64_t max_i64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* The schedule's segments, for operators. */
static gdncp_status_t list_scheduled(rule_states_t *states)
{
    const gdncp_cp_rule_config_t *const config = &states->config;
    const gdncp_relay_schedule_t *const schedule = states->schedule;
    const gdncp_sequence_ends_t *const last = &states->segments.last;
    gdncp_device_list_t *const ends = &states->backward_ends;
    gdncp_status_t status =
        gdncp_device_list_copy(config->device, schedule->forward_segments, schedule->num_forward,
                               config->stream, &states->forward_segments);

    if (status == GDNCP_OK) {
        status = gdncp_device_list_copy(config->device, schedule->backward_segments,
                                        schedule->num_backward, config->stream,
                                        &states->backward_segments);
    }
    if (status == GDNCP_OK) {
        status = gdncp_device_list_create(config->device, schedule->num_backward, ends);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    for (int64_t i = 0; i < schedule->num_backward; i++) {
        ends->host[i] = -1;
        for (int64_t j = 0; j < last->segments.count; j++) {
            if (last->segments.host[j] == schedule->backward_segments[i]) {
                ends->host[i] = last->sequences.host[j];
            }
        }
    }
    return gdncp_device_list_upload(ends, config->stream);
}

static gdncp_status_t allocate(rule_states_t *states)
{
    const gdncp_cp_rule_config_t *const config = &states->config;
    const gdncp_relay_schedule_t *const schedule = states->schedule;
    const int64_t outgoing = max_i64(gdncp_relay_outgoing_elements(schedule, false),
                                     gdncp_relay_outgoing_elements(schedule, true));
    const int64_t incoming = gdncp_relay_incoming_elements(schedule);
    void *memory;
    gdncp_status_t status =
        gdncp_device_alloc(config->device, (size_t)outgoing * sizeof(float), &memory);

    if (status != GDNCP_OK) {
        return status;
    }
    states->outgoing = memory;
    status = gdncp_device_alloc(config->device, (size_t)incoming * sizeof(float), &memory);
    if (status != GDNCP_OK) {
        return status;
    }
    states->states = memory;
    return gdncp_workspace_create_on(config->device, config->stream, &states->operator_scratch);
}

static gdncp_status_t prepare(rule_states_t *states, const gdncp_layout_t *layout)
{
    const gdncp_cp_rule_config_t *const config = &states->config;
    gdncp_status_t status = gdncp_rule_segments_create(layout, states->rank, config->device,
                                                       config->stream, &states->segments);

    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_relay_schedule_create(
        layout, states->rank, GDNCP_RELAY_OWNERS, config->num_value_heads,
        config->key_head_dim * config->key_head_dim, states->state_elements, &states->schedule);
    if (status != GDNCP_OK) {
        return status;
    }
    status = list_scheduled(states);
    if (status == GDNCP_OK) {
        status = allocate(states);
    }
    return status == GDNCP_OK ? gdncp_rule_chains_create(config, states->schedule,
                                                         states->operator_scratch, &states->chains)
                              : status;
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
    gdncp_rule_segments_destroy(&states->segments);
    gdncp_device_list_destroy(&states->forward_segments);
    gdncp_device_list_destroy(&states->backward_segments);
    gdncp_device_list_destroy(&states->backward_ends);
    gdncp_rule_chains_destroy(&states->chains);
    gdncp_device_free(states->config.device, states->outgoing);
    gdncp_device_free(states->config.device, states->states);
    gdncp_memory_free(states);
}

static gdncp_status_t check(const gdncp_rule_strategy_t *strategy)
{
    return gdncp_relay_check(((const rule_states_t *)strategy)->relay);
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
            .state_elements = config->key_head_dim * config->value_head_dim,
        };
        status = prepare(states, layout);
    }
    /* Also where this rank could not prepare: the others must not wait for it. */
    status = gdncp_comm_agree(comm, status);
    if (status != GDNCP_OK) {
        goto destroy_states;
    }
    status = gdncp_relay_create(comm, states->schedule, config->device, config->stream,
                                gdncp_rule_chains_walk, &states->chains, &states->relay);
    if (status != GDNCP_OK) {
        goto destroy_states;
    }
    *strategy_p = &states->base;
    return GDNCP_OK;

destroy_states:
    destroy(&states->base);
    return status;
}

static gdncp_tensor_t view_states(const rule_states_t *states, float *data, int64_t count)
{
    const gdncp_cp_rule_config_t *const config = &states->config;

    return gdncp_view_states(config->device, data, count, config->num_value_heads,
                             config->key_head_dim, config->value_head_dim);
}

/* The operator's view of the local segments, each starting from its row of the initial states. */
static gdncp_delta_rule_t local_rule(const rule_states_t *states,
                                     const gdncp_cp_rule_inputs_t *inputs, const saved_view_t *view)
{
    const gdncp_cp_rule_config_t *const config = &states->config;
    const int64_t num_saved = num_saved_states(states);
    gdncp_delta_rule_t rule = {
        .q = inputs->q,
        .k = inputs->k,
        .v = inputs->v,
        .g = inputs->g,
        .beta = inputs->beta,
        .initial_state = view_states(states, view->initial, states->segments.num_segments),
        .cu_seqlens = states->segments.cu_seqlens.host,
        .cu_seqlens_cuda = states->segments.cu_seqlens.cuda,
        .num_sequences = states->segments.num_segments,
        .scale = config->scale,
        .qk_l2norm = config->qk_l2norm,
    };

    if (num_saved > 0) {
        rule.saved_states = view_states(states, view->steps, num_saved);
    }
    return rule;
}

static float *row(const rule_states_t *states, const float *data, int64_t index)
{
    return (float *)data + index * states->config.num_value_heads * states->state_elements;
}

/* [count, Hv dk dv] */
static gdncp_tensor_t view_rows(const rule_states_t *states, float *data, int64_t count)
{
    const int64_t width = states->config.num_value_heads * states->state_elements;

    return gdncp_view_channels(states->config.device, data, GDNCP_F32, count, width, width);
}

/* Copy states between the listed rows of two buffers. from_data == NULL: zeros. */
static gdncp_status_t move_states(const rule_states_t *states, const float *from_data,
                                  const gdncp_device_list_t *from, float *to_data,
                                  const gdncp_device_list_t *to, int64_t count)
{
    const gdncp_row_moves_t moves = {.src = view_rows(states, (float *)from_data, count),
                                     .dst = view_rows(states, to_data, count),
                                     .from = from,
                                     .to = to,
                                     .count = count};

    return gdncp_move_rows(&moves, states->operator_scratch);
}

/* From a caller's optional [sequences, ...] to the local segments at one end of them. Without one
 * they are left as they are: what the relay writes there is zero. */
static gdncp_status_t sequences_to_segments(const rule_states_t *states,
                                            const gdncp_tensor_t *sequences,
                                            const gdncp_sequence_ends_t *ends, float *segments)
{
    return gdncp_op_is_absent(sequences)
               ? GDNCP_OK
               : move_states(states, sequences->data, &ends->sequences, segments, &ends->segments,
                             ends->segments.count);
}

/* From the local segments at one end of their sequences to a caller's [sequences, ...]. A sequence
 * without tokens hands on its state, or gradient, at the other end as it is. */
static gdncp_status_t segments_to_sequences(const rule_states_t *states, const float *segments,
                                            const gdncp_sequence_ends_t *ends,
                                            const gdncp_tensor_t *other_end,
                                            const gdncp_tensor_t *sequences)
{
    const gdncp_device_list_t *const empty = &states->segments.empty;
    const gdncp_status_t status = move_states(states, segments, &ends->segments, sequences->data,
                                              &ends->sequences, ends->segments.count);

    return status == GDNCP_OK
               ? move_states(states, gdncp_op_is_absent(other_end) ? NULL : other_end->data, empty,
                             sequences->data, empty, empty->count)
               : status;
}

/* Fill `outgoing`: (M, U) of middle segments, the state at the end of first ones. Only their rows
 * of the rule's initial states are there yet, where there are any. */
static gdncp_status_t summarise(rule_states_t *states, gdncp_delta_rule_t rule, bool has_initial)
{
    const gdncp_relay_schedule_t *const schedule = states->schedule;
    const gdncp_cp_rule_config_t *const config = &states->config;
    const gdncp_device_list_t *const segments = &states->forward_segments;
    const int64_t num_middle = schedule->num_middle;
    const int64_t num_first = schedule->num_forward - num_middle;
    const gdncp_tensor_t middle = view_states(states, states->outgoing, num_middle);
    const gdncp_tensor_t first =
        view_states(states, row(states, states->outgoing, num_middle), num_first);
    const gdncp_tensor_t transitions = gdncp_view_states(
        config->device, row(states, states->outgoing, schedule->num_forward), num_middle,
        config->num_value_heads, config->key_head_dim, config->key_head_dim);
    const int64_t start = gdncp_trace_begin();
    gdncp_status_t status;

    if (!has_initial) {
        rule.initial_state.data = NULL;
    }
    status = gdncp_delta_rule_summary(&rule, segments->host, segments->cuda, num_middle,
                                      &transitions, &middle, states->operator_scratch);
    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_delta_rule_summary(&rule, segments->host + num_middle,
                                      gdncp_device_list_at(segments, num_middle), num_first, NULL,
                                      &first, states->operator_scratch);
    gdncp_trace_end("segment summary", start, 0);
    return status;
}

static gdncp_status_t forward(gdncp_rule_strategy_t *strategy, const gdncp_cp_rule_inputs_t *inputs,
                              void *saved, const gdncp_tensor_t *o,
                              const gdncp_tensor_t *final_state)
{
    rule_states_t *const states = (rule_states_t *)strategy;
    const saved_view_t view = view_saved(states, saved, NULL);
    const gdncp_delta_rule_t rule = local_rule(states, inputs, &view);
    const gdncp_tensor_t ends = view_states(states, states->states, states->segments.num_segments);
    const bool wants_final = !gdncp_op_is_absent(final_state);
    const gdncp_sequence_ends_t *const first_ends = &states->segments.first;
    gdncp_status_t status =
        sequences_to_segments(states, &inputs->initial_state, first_ends, view.initial);

    if (status != GDNCP_OK) {
        return status;
    }
    status = summarise(states, rule, !gdncp_op_is_absent(&inputs->initial_state));
    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_relay_forward(states->relay, states->outgoing, view.kept, view.initial);
    if (status != GDNCP_OK) {
        return status;
    }
    /* Again: the relay has written all rows. */
    status = sequences_to_segments(states, &inputs->initial_state, first_ends, view.initial);
    if (status != GDNCP_OK) {
        return status;
    }
    const int64_t start = gdncp_trace_begin();

    status =
        gdncp_delta_rule_forward(&rule, o, wants_final ? &ends : NULL, states->operator_scratch);
    if (status != GDNCP_OK) {
        return status;
    }
    gdncp_trace_end("delta rule", start, 0);
    return wants_final ? segments_to_sequences(states, states->states, &states->segments.last,
                                               &inputs->initial_state, final_state)
                       : GDNCP_OK;
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
    gdncp_status_t status = GDNCP_OK;

    if (has_final) {
        status = move_states(states, grad_final_state->data, &states->backward_ends,
                             states->outgoing, NULL, schedule->num_backward);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_delta_rule_grad_summary(
        rule, states->backward_segments.host, states->backward_segments.cuda,
        schedule->num_backward, grad_o, has_final ? &d : NULL, &d, states->operator_scratch);

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
    const gdncp_delta_rule_t rule = local_rule(states, inputs, &view);
    const bool wants_initial = !gdncp_op_is_absent(&grads->initial_state);
    const gdncp_tensor_t ends = view_states(states, states->states, states->segments.num_segments);
    gdncp_status_t status;

    status = summarise_gradients(states, &rule, grad_o, grad_final_state);
    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_relay_backward(states->relay, states->outgoing, view.kept, states->states);
    if (status != GDNCP_OK) {
        return status;
    }
    status =
        sequences_to_segments(states, grad_final_state, &states->segments.last, states->states);
    if (status != GDNCP_OK) {
        return status;
    }
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
    return wants_initial ? segments_to_sequences(states, states->states, &states->segments.first,
                                                 grad_final_state, &grads->initial_state)
                         : GDNCP_OK;
}

static int initial_state_rank(const gdncp_rule_strategy_t *strategy, int64_t sequence,
                              int64_t value_head)
{
    (void)value_head;
    return ((const rule_states_t *)strategy)->segments.first.holder[sequence];
}

static int final_state_rank(const gdncp_rule_strategy_t *strategy, int64_t sequence,
                            int64_t value_head)
{
    (void)value_head;
    return ((const rule_states_t *)strategy)->segments.last.holder[sequence];
}

const gdncp_rule_strategy_ops_t gdncp_rule_states = {
    .create = create,
    .destroy = destroy,
    .check = check,
    .saved_bytes = saved_bytes,
    .forward = forward,
    .backward = backward,
    .initial_state_rank = initial_state_rank,
    .final_state_rank = final_state_rank,
};
