/* The gated delta rule across ranks: checks, and the choice of strategy. */
#include "gdncp/layer.h"

#include "error.h"
#include "gdncp/device.h"
#include "gdncp/memory.h"
#include "layer_checks.h"
#include "op_checks.h"
#include "padding.h"
#include "rule_strategy.h"

struct gdncp_cp_rule {
    gdncp_cp_rule_config_t config;
    gdncp_padding_t padding;
    int64_t num_sequences;
    gdncp_rule_strategy_t *strategy;
};

struct gdncp_cp_rule_saved {
    gdncp_saved_block_t block;
};

static const gdncp_rule_strategy_ops_t *const strategies[] = {
    [GDNCP_STRATEGY_STATES] = &gdncp_rule_states,
    [GDNCP_STRATEGY_HEADS] = &gdncp_rule_heads,
};

/* Bytes of a token in all tensors of backward: the inputs, their gradients and grad_o. */
static int64_t row_bytes(const gdncp_cp_rule_config_t *config)
{
    const int64_t keys = config->num_key_heads * config->key_head_dim;
    const int64_t values = config->num_value_heads * config->value_head_dim;

    return (4 * keys + 3 * values) * (int64_t)gdncp_dtype_size(config->dtype) +
           4 * config->num_value_heads * (int64_t)sizeof(float);
}

gdncp_status_t gdncp_cp_rule_create(gdncp_comm_t *comm, const gdncp_layout_t *layout,
                                    const gdncp_cp_rule_config_t *config, gdncp_cp_rule_t **rule_p)
{
    gdncp_cp_rule_t *rule = NULL;
    gdncp_status_t status = gdncp_check_level(comm, layout, config);

    if (status == GDNCP_OK) {
        rule = gdncp_memory_alloc(sizeof *rule);
        status = rule != NULL ? GDNCP_OK : gdncp_fail_memory("a rule across ranks");
    }
    if (status == GDNCP_OK) {
        *rule = (gdncp_cp_rule_t){
            .config = *config,
            .num_sequences = gdncp_layout_num_sequences(layout),
        };
        status = gdncp_padding_create(layout, gdncp_comm_rank(comm), row_bytes(config),
                                      config->device, config->stream, &rule->padding);
    }
    status = gdncp_comm_agree(comm, status);
    if (status != GDNCP_OK) {
        goto destroy_rule;
    }
    status = strategies[config->strategy]->create(
        comm, gdncp_padding_layout(&rule->padding, layout), config, &rule->strategy);
    if (status != GDNCP_OK) {
        goto destroy_rule;
    }
    *rule_p = rule;
    return GDNCP_OK;

destroy_rule:
    gdncp_cp_rule_destroy(rule);
    return status;
}

void gdncp_cp_rule_destroy(gdncp_cp_rule_t *rule)
{
    if (rule != NULL) {
        gdncp_stream_synchronize(rule->config.device, rule->config.stream);
        if (rule->strategy != NULL) {
            rule->strategy->ops->destroy(rule->strategy);
        }
        gdncp_padding_destroy(&rule->padding);
        gdncp_memory_free(rule);
    }
}

gdncp_status_t gdncp_cp_rule_check(const gdncp_cp_rule_t *rule)
{
    return rule->strategy->ops->check(rule->strategy);
}

int64_t gdncp_cp_rule_saved_bytes(const gdncp_cp_rule_t *rule)
{
    return rule->strategy->ops->saved_bytes(rule->strategy);
}

gdncp_status_t gdncp_cp_rule_saved_create(const gdncp_cp_rule_t *rule,
                                          gdncp_cp_rule_saved_t **saved_p)
{
    return gdncp_saved_block_create(rule, rule->config.device, gdncp_cp_rule_saved_bytes(rule),
                                    (gdncp_saved_block_t **)saved_p);
}

void gdncp_cp_rule_saved_destroy(gdncp_cp_rule_saved_t *saved)
{
    gdncp_saved_block_destroy((gdncp_saved_block_t *)saved);
}

int gdncp_cp_rule_initial_state_rank(const gdncp_cp_rule_t *rule, int64_t sequence,
                                     int64_t value_head)
{
    return rule->strategy->ops->initial_state_rank(rule->strategy, sequence, value_head);
}

int gdncp_cp_rule_final_state_rank(const gdncp_cp_rule_t *rule, int64_t sequence,
                                   int64_t value_head)
{
    return rule->strategy->ops->final_state_rank(rule->strategy, sequence, value_head);
}

/* Tensors shaped like the inputs, which the gradients are too. Under "heads" the exchanges want
 * whole rows, so both strategies ask for contiguous tensors. */
static gdncp_status_t check_like_inputs(const gdncp_cp_rule_t *rule, const char *const *names,
                                        const gdncp_tensor_t *const *tensors)
{
    const gdncp_cp_rule_config_t *const config = &rule->config;
    const int64_t tokens = rule->padding.num_tokens;
    const int64_t key[] = {tokens, config->num_key_heads, config->key_head_dim};
    const int64_t value[] = {tokens, config->num_value_heads, config->value_head_dim};
    const int64_t gate[] = {tokens, config->num_value_heads};
    const int64_t state[] = {rule->num_sequences, config->num_value_heads, config->key_head_dim,
                             config->value_head_dim};
    const struct {
        gdncp_dtype_t dtype;
        int ndim;
        const int64_t *shape;
    } expected[] = {
        {config->dtype, 3, key}, {config->dtype, 3, key}, {config->dtype, 3, value},
        {GDNCP_F32, 2, gate},    {GDNCP_F32, 2, gate},
    };

    for (int i = 0; i < 5; i++) {
        const gdncp_status_t status =
            gdncp_op_check_tensor(names[i], tensors[i], config->device, expected[i].dtype,
                                  GDNCP_OP_CONTIGUOUS, expected[i].ndim, expected[i].shape);

        if (status != GDNCP_OK) {
            return status;
        }
    }
    return gdncp_op_check_optional(names[5], tensors[5], config->device, GDNCP_F32,
                                   GDNCP_OP_CONTIGUOUS, 4, state);
}

static gdncp_status_t check_inputs(const gdncp_cp_rule_t *rule,
                                   const gdncp_cp_rule_inputs_t *inputs)
{
    static const char *const names[] = {"q", "k", "v", "g", "beta", "initial_state"};
    const gdncp_tensor_t *const tensors[] = {&inputs->q, &inputs->k,    &inputs->v,
                                             &inputs->g, &inputs->beta, &inputs->initial_state};

    return check_like_inputs(rule, names, tensors);
}

static gdncp_status_t check_grads(const gdncp_cp_rule_t *rule, const gdncp_cp_rule_grads_t *grads)
{
    static const char *const names[] = {"grads.q", "grads.k",    "grads.v",
                                        "grads.g", "grads.beta", "grads.initial_state"};
    const gdncp_tensor_t *const tensors[] = {&grads->q, &grads->k,    &grads->v,
                                             &grads->g, &grads->beta, &grads->initial_state};

    return check_like_inputs(rule, names, tensors);
}

/* [T, Hv, dv], and the optional states of all sequences that go with it. */
static gdncp_status_t check_outputs(const gdncp_cp_rule_t *rule, const char *o_name,
                                    const gdncp_tensor_t *o, const char *state_name,
                                    const gdncp_tensor_t *state)
{
    const gdncp_cp_rule_config_t *const config = &rule->config;
    const int64_t value[] = {rule->padding.num_tokens, config->num_value_heads,
                             config->value_head_dim};
    const int64_t states[] = {rule->num_sequences, config->num_value_heads, config->key_head_dim,
                              config->value_head_dim};
    const gdncp_status_t status = gdncp_op_check_tensor(o_name, o, config->device, config->dtype,
                                                        GDNCP_OP_CONTIGUOUS, 3, value);

    if (status != GDNCP_OK) {
        return status;
    }
    return gdncp_op_check_optional(state_name, state, config->device, GDNCP_F32,
                                   GDNCP_OP_CONTIGUOUS, 4, states);
}

gdncp_status_t gdncp_cp_rule_forward(gdncp_cp_rule_t *rule, const gdncp_cp_rule_inputs_t *inputs,
                                     gdncp_cp_rule_saved_t *saved, const gdncp_tensor_t *o,
                                     const gdncp_tensor_t *final_state)
{
    gdncp_cp_rule_inputs_t bare = {.initial_state = inputs->initial_state};
    gdncp_tensor_t bare_o;
    const gdncp_padded_tensor_t tensors[] = {
        {&inputs->q, &bare.q, false},       {&inputs->k, &bare.k, false},
        {&inputs->v, &bare.v, false},       {&inputs->g, &bare.g, false},
        {&inputs->beta, &bare.beta, false}, {o, &bare_o, true},
    };
    gdncp_status_t status = gdncp_check_saved((gdncp_saved_block_t *)saved, rule);

    if (status == GDNCP_OK) {
        status = check_inputs(rule, inputs);
    }
    if (status == GDNCP_OK) {
        status = check_outputs(rule, "o", o, "final_state", final_state);
    }
    if (status == GDNCP_OK) {
        status = gdncp_padding_enter(&rule->padding, tensors, 6);
    }
    if (status == GDNCP_OK) {
        status = rule->strategy->ops->forward(rule->strategy, &bare, saved->block.memory, &bare_o,
                                              final_state);
    }
    return status == GDNCP_OK ? gdncp_padding_leave(&rule->padding, tensors, 6) : status;
}

gdncp_status_t gdncp_cp_rule_backward(gdncp_cp_rule_t *rule, const gdncp_cp_rule_inputs_t *inputs,
                                      const gdncp_cp_rule_saved_t *saved,
                                      const gdncp_tensor_t *grad_o,
                                      const gdncp_tensor_t *grad_final_state,
                                      const gdncp_cp_rule_grads_t *grads)
{
    gdncp_cp_rule_inputs_t bare = {.initial_state = inputs->initial_state};
    gdncp_tensor_t bare_grad_o;
    gdncp_cp_rule_grads_t bare_grads = {.initial_state = grads->initial_state};
    const gdncp_padded_tensor_t tensors[] = {
        {&inputs->q, &bare.q, false},           {&inputs->k, &bare.k, false},
        {&inputs->v, &bare.v, false},           {&inputs->g, &bare.g, false},
        {&inputs->beta, &bare.beta, false},     {grad_o, &bare_grad_o, false},
        {&grads->q, &bare_grads.q, true},       {&grads->k, &bare_grads.k, true},
        {&grads->v, &bare_grads.v, true},       {&grads->g, &bare_grads.g, true},
        {&grads->beta, &bare_grads.beta, true},
    };
    gdncp_status_t status = gdncp_check_saved((const gdncp_saved_block_t *)saved, rule);

    if (status == GDNCP_OK) {
        status = check_inputs(rule, inputs);
    }
    if (status == GDNCP_OK) {
        status = check_outputs(rule, "grad_o", grad_o, "grad_final_state", grad_final_state);
    }
    if (status == GDNCP_OK) {
        status = check_grads(rule, grads);
    }
    if (status == GDNCP_OK) {
        status = gdncp_padding_enter(&rule->padding, tensors, 11);
    }
    if (status == GDNCP_OK) {
        status = rule->strategy->ops->backward(rule->strategy, &bare, saved->block.memory,
                                               &bare_grad_o, grad_final_state, &bare_grads);
    }
    return status == GDNCP_OK ? gdncp_padding_leave(&rule->padding, tensors, 11) : status;
}
