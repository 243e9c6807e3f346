/* The gate inside a delta rule. */
#ifndef GDNCP_DELTA_RULE_GATE_H
#define GDNCP_DELTA_RULE_GATE_H

#include "gdncp/ops.h"

/* Nothing to check where the rule has no gate. */
gdncp_status_t gdncp_rule_gate_check_forward(const gdncp_delta_rule_t *rule,
                                             const gdncp_workspace_t *workspace);
gdncp_status_t gdncp_rule_gate_check_backward(const gdncp_delta_rule_t *rule,
                                              const gdncp_delta_rule_grads_t *grads,
                                              const gdncp_workspace_t *workspace);

#endif
