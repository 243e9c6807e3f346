/*
 * The gated delta rule across ranks: what a strategy must be able to do.
 *
 * A strategy file exports one gdncp_rule_strategy_ops_t. All slots are mandatory.
 */
#ifndef GDNCP_RULE_STRATEGY_H
#define GDNCP_RULE_STRATEGY_H

#include "gdncp/layer.h"

/* The head of every strategy's own struct. */
typedef struct gdncp_rule_strategy gdncp_rule_strategy_t;

typedef struct gdncp_rule_strategy_ops {
    /* Collective. config and layout have been checked; config is copied as needed. */
    gdncp_status_t (*create)(gdncp_comm_t *comm, const gdncp_layout_t *layout,
                             const gdncp_cp_rule_config_t *config,
                             gdncp_rule_strategy_t **strategy_p);
    void (*destroy)(gdncp_rule_strategy_t *strategy);
    /* As gdncp_cp_rule_check(). */
    gdncp_status_t (*check)(const gdncp_rule_strategy_t *strategy);
    /* Bytes of the memory that forward fills for backward. */
    int64_t (*saved_bytes)(const gdncp_rule_strategy_t *strategy);
    /* As gdncp_cp_rule_forward() and gdncp_cp_rule_backward(), with arguments checked.
     * saved: 64-byte aligned. */
    gdncp_status_t (*forward)(gdncp_rule_strategy_t *strategy, const gdncp_cp_rule_inputs_t *inputs,
                              void *saved, const gdncp_tensor_t *o,
                              const gdncp_tensor_t *final_state);
    gdncp_status_t (*backward)(gdncp_rule_strategy_t *strategy,
                               const gdncp_cp_rule_inputs_t *inputs, const void *saved,
                               const gdncp_tensor_t *grad_o, const gdncp_tensor_t *grad_final_state,
                               const gdncp_cp_rule_grads_t *grads);
    int (*initial_state_rank)(const gdncp_rule_strategy_t *strategy, int64_t sequence,
                              int64_t value_head);
    int (*final_state_rank)(const gdncp_rule_strategy_t *strategy, int64_t sequence,
                            int64_t value_head);
} gdncp_rule_strategy_ops_t;

struct gdncp_rule_strategy {
    const gdncp_rule_strategy_ops_t *ops;
};

extern const gdncp_rule_strategy_ops_t gdncp_rule_states;
extern const gdncp_rule_strategy_ops_t gdncp_rule_heads;

#endif
