/*
 * Strategy "heads": every rank gets all tokens of its heads, runs the rule on whole sequences, and
 * sends the output back.
 */
#include "rule_strategy.h"

#include "error.h"
#include "gdncp/device.h"
#include "gdncp/memory.h"
#include "gdncp/ops.h"
#include "head_exchange.h"
#include "layer_views.h"
#include "move_rows.h"
#include "op_checks.h"
#include "trace_internal.h"

/* What crosses ranks; o goes the other way. */
enum { EXCHANGE_Q, EXCHANGE_K, EXCHANGE_V, EXCHANGE_G, EXCHANGE_BETA, EXCHANGE_O, NUM_EXCHANGES };
#define NUM_INPUTS EXCHANGE_O

typedef struct rule_heads {
    gdncp_rule_strategy_t base;
    gdncp_cp_rule_config_t config;
    int num_ranks;
    int64_t num_tokens; /* of the pack */
    int64_t num_sequences;
    gdncp_device_list_t cu_seqlens; /* [num_sequences + 1] */
    gdncp_head_range_t keys;
    gdncp_head_range_t values;
    gdncp_head_exchange_t exchanges[NUM_EXCHANGES];
    gdncp_workspace_t *operator_scratch;
    void *scratch; /* gathered gradients and outputs */
} rule_heads_t;

/* My heads of all tokens. */
typedef struct gathered_view {
    void *inputs[NUM_INPUTS]; /* in the order of the exchanges */
    void *o;
    float *initial; /* [sequences, my heads, dk, dv] */
    float *steps;   /* what the rule saves */
    float *final;   /* [sequences, my heads, dk, dv] */
} gathered_view_t;

static gathered_view_t view_gathered(const rule_heads_t *heads, void *memory, bool with_outputs,
                                     size_t *bytes_p)
{
    const gdncp_cp_rule_config_t *const config = &heads->config;
    const int64_t tokens = heads->num_tokens;
    const int64_t keys = tokens * heads->keys.count * config->key_head_dim;
    const int64_t values = tokens * heads->values.count * config->value_head_dim;
    const int64_t state = heads->values.count * config->key_head_dim * config->value_head_dim;
    const int64_t states = heads->num_sequences * state;
    gdncp_arena_t arena = {.block = memory};
    gathered_view_t view = {.o = NULL};

    view.inputs[EXCHANGE_Q] = gdncp_arena_elements(&arena, config->dtype, keys);
    view.inputs[EXCHANGE_K] = gdncp_arena_elements(&arena, config->dtype, keys);
    view.inputs[EXCHANGE_V] = gdncp_arena_elements(&arena, config->dtype, values);
    view.inputs[EXCHANGE_G] = gdncp_arena_elements(&arena, GDNCP_F32, tokens * heads->values.count);
    view.inputs[EXCHANGE_BETA] =
        gdncp_arena_elements(&arena, GDNCP_F32, tokens * heads->values.count);
    view.initial = gdncp_arena_elements(&arena, GDNCP_F32, states);
    view.steps = gdncp_arena_elements(&arena, GDNCP_F32,
                                      gdncp_num_saved_states(config->device, tokens) * state);
    if (with_outputs) {
        view.o = gdncp_arena_elements(&arena, config->dtype, values);
        view.final = gdncp_arena_elements(&arena, GDNCP_F32, states);
    }
    if (bytes_p != NULL) {
        *bytes_p = arena.used;
    }
    return view;
}

static int64_t saved_bytes(const gdncp_rule_strategy_t *strategy)
{
    size_t bytes;

    view_gathered((const rule_heads_t *)strategy, NULL, false, &bytes);
    return (int64_t)bytes;
}

static void destroy(gdncp_rule_strategy_t *strategy)
{
    rule_heads_t *const heads = (rule_heads_t *)strategy;

    if (heads == NULL) {
        return;
    }
    for (int i = 0; i < NUM_EXCHANGES; i++) {
        gdncp_head_exchange_destroy(&heads->exchanges[i]);
    }
    gdncp_workspace_destroy(heads->operator_scratch);
    gdncp_device_list_destroy(&heads->cu_seqlens);
    gdncp_device_free(heads->config.device, heads->scratch);
    gdncp_memory_free(heads);
}

static gdncp_status_t check(const gdncp_rule_strategy_t *strategy)
{
    const rule_heads_t *const heads = (const rule_heads_t *)strategy;
    gdncp_status_t status = GDNCP_OK;

    for (int i = 0; i < NUM_EXCHANGES && status == GDNCP_OK; i++) {
        status = gdncp_head_exchange_check(&heads->exchanges[i]);
    }
    return status;
}

static gdncp_status_t prepare(rule_heads_t *heads, const gdncp_layout_t *layout, int rank)
{
    const gdncp_cp_rule_config_t *const config = &heads->config;
    size_t scratch_bytes;
    gdncp_status_t status =
        gdncp_head_range(GDNCP_KEY_HEADS, config->num_key_heads, config->num_value_heads,
                         heads->num_ranks, rank, &heads->keys);

    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_head_range(GDNCP_VALUE_HEADS, config->num_key_heads, config->num_value_heads,
                              heads->num_ranks, rank, &heads->values);
    if (status != GDNCP_OK) {
        return status;
    }
    view_gathered(heads, NULL, true, &scratch_bytes);
    status = gdncp_device_alloc(config->device, scratch_bytes, &heads->scratch);
    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_device_list_copy(config->device, gdncp_layout_cu_seqlens(layout),
                                    heads->num_sequences + 1, config->stream, &heads->cu_seqlens);
    if (status != GDNCP_OK) {
        return status;
    }
    return gdncp_workspace_create_on(config->device, config->stream, &heads->operator_scratch);
}

static gdncp_status_t connect(rule_heads_t *heads, gdncp_comm_t *comm, const gdncp_layout_t *layout)
{
    const gdncp_cp_rule_config_t *const config = &heads->config;
    const struct {
        gdncp_head_kind_t kind;
        int64_t dim;
        gdncp_dtype_t dtype;
        gdncp_head_direction_t direction;
    } tensors[NUM_EXCHANGES] = {
        [EXCHANGE_Q] = {GDNCP_KEY_HEADS, config->key_head_dim, config->dtype, GDNCP_TO_HEADS},
        [EXCHANGE_K] = {GDNCP_KEY_HEADS, config->key_head_dim, config->dtype, GDNCP_TO_HEADS},
        [EXCHANGE_V] = {GDNCP_VALUE_HEADS, config->value_head_dim, config->dtype, GDNCP_TO_HEADS},
        [EXCHANGE_G] = {GDNCP_VALUE_HEADS, 1, GDNCP_F32, GDNCP_TO_HEADS},
        [EXCHANGE_BETA] = {GDNCP_VALUE_HEADS, 1, GDNCP_F32, GDNCP_TO_HEADS},
        [EXCHANGE_O] = {GDNCP_VALUE_HEADS, config->value_head_dim, config->dtype, GDNCP_FROM_HEADS},
    };

    for (int i = 0; i < NUM_EXCHANGES; i++) {
        const gdncp_section_t section = {.kind = tensors[i].kind, .head_dim = tensors[i].dim};
        const int64_t count =
            section.kind == GDNCP_KEY_HEADS ? config->num_key_heads : config->num_value_heads;
        const gdncp_status_t status = gdncp_head_exchange_create(
            comm, layout, tensors[i].direction, tensors[i].dtype, config->num_key_heads,
            config->num_value_heads, &section, 1, count * section.head_dim, config->device,
            &heads->exchanges[i]);

        if (status != GDNCP_OK) {
            return status;
        }
    }
    return GDNCP_OK;
}

static gdncp_status_t create(gdncp_comm_t *comm, const gdncp_layout_t *layout,
                             const gdncp_cp_rule_config_t *config,
                             gdncp_rule_strategy_t **strategy_p)
{
    rule_heads_t *const heads = gdncp_memory_alloc(sizeof *heads);
    gdncp_status_t status;

    if (heads == NULL) {
        status = gdncp_fail_memory("a rule across ranks");
    } else {
        *heads = (rule_heads_t){
            .base = {.ops = &gdncp_rule_heads},
            .config = *config,
            .num_ranks = gdncp_comm_size(comm),
            .num_tokens = gdncp_layout_num_tokens(layout),
            .num_sequences = gdncp_layout_num_sequences(layout),
        };
        status = prepare(heads, layout, gdncp_comm_rank(comm));
    }
    /* Also where this rank could not prepare: the others must not wait for it. */
    status = gdncp_comm_agree(comm, status);
    if (status != GDNCP_OK) {
        goto destroy_heads;
    }
    status = connect(heads, comm, layout);
    if (status != GDNCP_OK) {
        goto destroy_heads;
    }
    *strategy_p = &heads->base;
    return GDNCP_OK;

destroy_heads:
    destroy(&heads->base);
    return status;
}

static gdncp_tensor_t view_mine(const rule_heads_t *heads, int exchange, void *data)
{
    const gdncp_cp_rule_config_t *const config = &heads->config;
    const int64_t tokens = heads->num_tokens;

    if (exchange == EXCHANGE_G || exchange == EXCHANGE_BETA) {
        return gdncp_view_channels(config->device, data, GDNCP_F32, tokens, heads->values.count,
                                   heads->values.count);
    }
    const bool is_key = exchange == EXCHANGE_Q || exchange == EXCHANGE_K;
    const int64_t count = is_key ? heads->keys.count : heads->values.count;
    const int64_t dim = is_key ? config->key_head_dim : config->value_head_dim;

    return gdncp_view_heads(config->device, data, config->dtype, tokens, count, dim, count * dim);
}

static gdncp_tensor_t view_my_states(const rule_heads_t *heads, float *data)
{
    return gdncp_view_states(heads->config.device, data, heads->num_sequences, heads->values.count,
                             heads->config.key_head_dim, heads->config.value_head_dim);
}

static gdncp_delta_rule_t local_rule(const rule_heads_t *heads, const gathered_view_t *view,
                                     bool has_initial)
{
    const gdncp_cp_rule_config_t *const config = &heads->config;
    const int64_t group = config->num_value_heads / config->num_key_heads;
    const int64_t num_saved = gdncp_num_saved_states(config->device, heads->num_tokens);
    gdncp_delta_rule_t rule = {
        .q = view_mine(heads, EXCHANGE_Q, view->inputs[EXCHANGE_Q]),
        .k = view_mine(heads, EXCHANGE_K, view->inputs[EXCHANGE_K]),
        .v = view_mine(heads, EXCHANGE_V, view->inputs[EXCHANGE_V]),
        .g = view_mine(heads, EXCHANGE_G, view->inputs[EXCHANGE_G]),
        .beta = view_mine(heads, EXCHANGE_BETA, view->inputs[EXCHANGE_BETA]),
        .cu_seqlens = heads->cu_seqlens.host,
        .cu_seqlens_cuda = heads->cu_seqlens.cuda,
        .num_sequences = heads->num_sequences,
        .group_size = group,
        .group_phase = heads->values.first - heads->keys.first * group,
        .scale = config->scale,
        .qk_l2norm = config->qk_l2norm,
    };

    if (has_initial) {
        rule.initial_state = view_my_states(heads, view->initial);
    }
    if (num_saved > 0) {
        rule.saved_states =
            gdncp_view_states(config->device, view->steps, num_saved, heads->values.count,
                              config->key_head_dim, config->value_head_dim);
    }
    return rule;
}

/* Copy my heads between a caller's [sequences, Hv, dk, dv] and [sequences, my heads, dk, dv]. */
static gdncp_status_t copy_my_states(const rule_heads_t *heads, const gdncp_tensor_t *all,
                                     float *mine, bool to_mine)
{
    const gdncp_cp_rule_config_t *const config = &heads->config;
    const int64_t state = config->key_head_dim * config->value_head_dim;
    const int64_t width = heads->values.count * state;
    const gdncp_tensor_t theirs = gdncp_view_channels(
        config->device, (float *)all->data + heads->values.first * state, GDNCP_F32,
        heads->num_sequences, width, config->num_value_heads * state);
    const gdncp_tensor_t own =
        gdncp_view_channels(config->device, mine, GDNCP_F32, heads->num_sequences, width, width);
    const gdncp_row_moves_t moves = {.src = to_mine ? theirs : own,
                                     .dst = to_mine ? own : theirs,
                                     .count = heads->num_sequences};

    return gdncp_move_rows(&moves, heads->operator_scratch);
}

/* Run the exchanges [0, NUM_INPUTS) of the inputs, or of their gradients, all in flight at once. */
static gdncp_status_t exchange_inputs(rule_heads_t *heads, bool backward, const void *const *in,
                                      void *const *out)
{
    gdncp_status_t status;

    for (int i = 0; i < NUM_INPUTS; i++) {
        gdncp_exchange_t *const exchange =
            backward ? heads->exchanges[i].backward : heads->exchanges[i].forward;

        status = gdncp_exchange_start(exchange, in[i], out[i], heads->config.stream);
        if (status != GDNCP_OK) {
            return status;
        }
    }
    for (int i = 0; i < NUM_INPUTS; i++) {
        status = gdncp_exchange_wait(backward ? heads->exchanges[i].backward
                                              : heads->exchanges[i].forward);
        if (status != GDNCP_OK) {
            return status;
        }
    }
    return GDNCP_OK;
}

static gdncp_status_t forward(gdncp_rule_strategy_t *strategy, const gdncp_cp_rule_inputs_t *inputs,
                              void *saved, const gdncp_tensor_t *o,
                              const gdncp_tensor_t *final_state)
{
    rule_heads_t *const heads = (rule_heads_t *)strategy;
    const gathered_view_t view = view_gathered(heads, saved, false, NULL);
    const gathered_view_t scratch = view_gathered(heads, heads->scratch, true, NULL);
    const bool has_initial = !gdncp_op_is_absent(&inputs->initial_state);
    const bool wants_final = !gdncp_op_is_absent(final_state);
    const void *const in[NUM_INPUTS] = {inputs->q.data, inputs->k.data, inputs->v.data,
                                        inputs->g.data, inputs->beta.data};
    gdncp_status_t status = exchange_inputs(heads, false, in, view.inputs);

    if (status != GDNCP_OK) {
        return status;
    }
    if (has_initial) {
        status = copy_my_states(heads, &inputs->initial_state, view.initial, true);
        if (status != GDNCP_OK) {
            return status;
        }
    }
    const gdncp_delta_rule_t rule = local_rule(heads, &view, has_initial);
    const gdncp_tensor_t my_o = view_mine(heads, EXCHANGE_O, scratch.o);
    const gdncp_tensor_t my_final = view_my_states(heads, scratch.final);

    if (heads->values.count > 0) {
        const int64_t start = gdncp_trace_begin();

        status = gdncp_delta_rule_forward(&rule, &my_o, wants_final ? &my_final : NULL,
                                          heads->operator_scratch);
        if (status != GDNCP_OK) {
            return status;
        }
        gdncp_trace_end("delta rule", start, 0);
    }
    if (wants_final) {
        status = copy_my_states(heads, final_state, scratch.final, false);
        if (status != GDNCP_OK) {
            return status;
        }
    }
    return gdncp_exchange_run(heads->exchanges[EXCHANGE_O].forward, scratch.o, o->data,
                              heads->config.stream);
}

static gdncp_status_t backward(gdncp_rule_strategy_t *strategy,
                               const gdncp_cp_rule_inputs_t *inputs, const void *saved,
                               const gdncp_tensor_t *grad_o, const gdncp_tensor_t *grad_final_state,
                               const gdncp_cp_rule_grads_t *grads)
{
    rule_heads_t *const heads = (rule_heads_t *)strategy;
    const gathered_view_t view = view_gathered(heads, (void *)saved, false, NULL);
    const gathered_view_t scratch = view_gathered(heads, heads->scratch, true, NULL);
    const gdncp_delta_rule_t rule =
        local_rule(heads, &view, !gdncp_op_is_absent(&inputs->initial_state));
    const gdncp_tensor_t my_grad_o = view_mine(heads, EXCHANGE_O, scratch.o);
    const gdncp_tensor_t my_final = view_my_states(heads, scratch.final);
    const bool has_final = !gdncp_op_is_absent(grad_final_state);
    const bool wants_initial = !gdncp_op_is_absent(&grads->initial_state);
    gdncp_delta_rule_grads_t mine = {
        .q = view_mine(heads, EXCHANGE_Q, scratch.inputs[EXCHANGE_Q]),
        .k = view_mine(heads, EXCHANGE_K, scratch.inputs[EXCHANGE_K]),
        .v = view_mine(heads, EXCHANGE_V, scratch.inputs[EXCHANGE_V]),
        .g = view_mine(heads, EXCHANGE_G, scratch.inputs[EXCHANGE_G]),
        .beta = view_mine(heads, EXCHANGE_BETA, scratch.inputs[EXCHANGE_BETA]),
    };
    void *const out[NUM_INPUTS] = {grads->q.data, grads->k.data, grads->v.data, grads->g.data,
                                   grads->beta.data};
    gdncp_status_t status = gdncp_exchange_run(heads->exchanges[EXCHANGE_O].backward, grad_o->data,
                                               scratch.o, heads->config.stream);

    if (status != GDNCP_OK) {
        return status;
    }
    if (has_final) {
        status = copy_my_states(heads, grad_final_state, scratch.final, true);
        if (status != GDNCP_OK) {
            return status;
        }
    }
    if (wants_initial) {
        mine.initial_state = view_my_states(heads, scratch.initial);
    }
    if (heads->values.count > 0) {
        const int64_t start = gdncp_trace_begin();

        status = gdncp_delta_rule_backward(&rule, &my_grad_o, has_final ? &my_final : NULL, &mine,
                                           heads->operator_scratch);
        if (status != GDNCP_OK) {
            return status;
        }
        gdncp_trace_end("delta rule backward", start, 0);
    }
    if (wants_initial) {
        status = copy_my_states(heads, &grads->initial_state, scratch.initial, false);
        if (status != GDNCP_OK) {
            return status;
        }
    }
    return exchange_inputs(heads, true, (const void *const *)scratch.inputs, out);
}

/* The rank whose range of value heads holds the head; the same for both ends of a sequence. */
static int head_rank(const gdncp_rule_strategy_t *strategy, int64_t sequence, int64_t value_head)
{
    const rule_heads_t *const heads = (const rule_heads_t *)strategy;

    (void)sequence;
    for (int rank = 0; rank < heads->num_ranks; rank++) {
        gdncp_head_range_t range = {0};

        gdncp_head_range(GDNCP_VALUE_HEADS, heads->config.num_key_heads,
                         heads->config.num_value_heads, heads->num_ranks, rank, &range);
        if (value_head < range.first + range.count) {
            return rank;
        }
    }
    return -1;
}

const gdncp_rule_strategy_ops_t gdncp_rule_heads = {
    .create = create,
    .destroy = destroy,
    .check = check,
    .saved_bytes = saved_bytes,
    .forward = forward,
    .backward = backward,
    .initial_state_rank = head_rank,
    .final_state_rank = head_rank,
};
