/* The chains of a state relay, walked by an operator: what joins comm/relay.h to gdn/ops. */
#ifndef GDNCP_RULE_CHAINS_H
#define GDNCP_RULE_CHAINS_H

#include "device_list.h"
#include "gdncp/memory.h"
#include "relay.h"
#include "rule_strategy.h"

/* All zero: never made. */
typedef struct gdncp_rule_chains {
    gdncp_device_kind_t device;
    int64_t dk;
    int64_t dv;
    int64_t num_transitions; /* of the owner */
    int64_t num_slots;
    gdncp_device_list_t forward; /* a gdncp_state_chain_t each */
    gdncp_device_list_t backward;
    gdncp_workspace_t *workspace;
} gdncp_rule_chains_t;

/* Keeps the workspace, in which the chains are walked. Free with gdncp_rule_chains_destroy(), after
 * errors too. */
gdncp_status_t gdncp_rule_chains_create(const gdncp_cp_rule_config_t *config,
                                        const gdncp_relay_schedule_t *schedule,
                                        gdncp_workspace_t *workspace, gdncp_rule_chains_t *chains);
void gdncp_rule_chains_destroy(gdncp_rule_chains_t *chains);

/* A gdncp_relay_combine_t, whose context are the chains. */
gdncp_status_t gdncp_rule_chains_walk(void *context, const gdncp_relay_run_t *run);

#endif
