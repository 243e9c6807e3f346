/*
 * From projected channels to the rule's output across ranks: what a strategy must be able to do.
 *
 * A strategy file exports one gdncp_core_strategy_ops_t. All slots are mandatory.
 */
#ifndef GDNCP_CORE_STRATEGY_H
#define GDNCP_CORE_STRATEGY_H

#include "gdncp/layer.h"

/* The head of every strategy's own struct. */
typedef struct gdncp_core_strategy gdncp_core_strategy_t;

typedef struct gdncp_core_strategy_ops {
    /* Collective. config and layout have been checked. */
    gdncp_status_t (*create)(gdncp_comm_t *comm, const gdncp_layout_t *layout,
                             const gdncp_layer_config_t *config,
                             gdncp_core_strategy_t **strategy_p);
    void (*destroy)(gdncp_core_strategy_t *strategy);
    /* As gdncp_cp_core_check(). */
    gdncp_status_t (*check)(const gdncp_core_strategy_t *strategy);
    /* The dtype of o and of its gradient: the rule's where o stays on its rank, else what travels.
     */
    gdncp_dtype_t (*o_dtype)(const gdncp_core_strategy_t *strategy);
    /* Bytes of the memory that forward fills for backward. */
    int64_t (*saved_bytes)(const gdncp_core_strategy_t *strategy);
    /* inputs->z is not used. o [T, Hv, dv] in the dtype of o_dtype(), contiguous.
     * saved: 64-byte aligned. */
    gdncp_status_t (*forward)(gdncp_core_strategy_t *strategy, const gdncp_cp_core_params_t *params,
                              const gdncp_cp_core_inputs_t *inputs, void *saved,
                              const gdncp_tensor_t *o);
    /* All gradients but those of z and norm_weight. */
    gdncp_status_t (*backward)(gdncp_core_strategy_t *strategy,
                               const gdncp_cp_core_params_t *params,
                               const gdncp_cp_core_inputs_t *inputs, const void *saved,
                               const gdncp_tensor_t *grad_o, const gdncp_cp_core_grads_t *grads);
} gdncp_core_strategy_ops_t;

struct gdncp_core_strategy {
    const gdncp_core_strategy_ops_t *ops;
};

extern const gdncp_core_strategy_ops_t gdncp_core_states;
extern const gdncp_core_strategy_ops_t gdncp_core_heads;

/* The rule inside a layer, on the convolution's output. */
static inline gdncp_cp_rule_config_t gdncp_rule_config_of(const gdncp_layer_config_t *config)
{
    return (gdncp_cp_rule_config_t){
        .num_key_heads = config->shape.num_key_heads,
        .num_value_heads = config->shape.num_value_heads,
        .key_head_dim = config->shape.key_head_dim,
        .value_head_dim = config->shape.value_head_dim,
        .dtype = config->rule_dtype,
        .strategy = config->strategy,
        .qk_l2norm = true,
        .device = config->device,
        .stream = config->stream,
    };
}

#endif
