/* The chains of a state relay, walked by an operator. */
#include "rule_chains.h"

#include "gdncp/ops.h"
#include "layer_views.h"

enum { CHAIN_NUMBERS = sizeof(gdncp_state_chain_t) / sizeof(int64_t) };

static gdncp_status_t list_chains(const gdncp_cp_rule_config_t *config,
                                  const gdncp_relay_walk_t *walk, gdncp_device_list_t *list)
{
    const gdncp_status_t status =
        gdncp_device_list_create(config->device, CHAIN_NUMBERS * walk->num_chains, list);

    if (status != GDNCP_OK) {
        return status;
    }
    for (int64_t i = 0; i < walk->num_chains; i++) {
        const gdncp_relay_chain_t *const chain = &walk->chains[i];

        ((gdncp_state_chain_t *)list->host)[i] =
            (gdncp_state_chain_t){.first = chain->slot,
                                  .transition = chain->transition,
                                  .count = chain->num_steps,
                                  .continues = chain->receive_from >= 0};
    }
    return gdncp_device_list_upload(list, config->stream);
}

gdncp_status_t gdncp_rule_chains_create(const gdncp_cp_rule_config_t *config,
                                        const gdncp_relay_schedule_t *schedule,
                                        gdncp_workspace_t *workspace, gdncp_rule_chains_t *chains)
{
    *chains = (gdncp_rule_chains_t){.device = config->device,
                                    .dk = config->key_head_dim,
                                    .dv = config->value_head_dim,
                                    .num_transitions = schedule->num_transitions,
                                    .num_slots = schedule->num_slots,
                                    .workspace = workspace};
    const gdncp_status_t status = list_chains(config, &schedule->forward, &chains->forward);

    return status == GDNCP_OK ? list_chains(config, &schedule->backward, &chains->backward)
                              : status;
}

void gdncp_rule_chains_destroy(gdncp_rule_chains_t *chains)
{
    gdncp_device_list_destroy(&chains->forward);
    gdncp_device_list_destroy(&chains->backward);
}

gdncp_status_t gdncp_rule_chains_walk(void *context, const gdncp_relay_run_t *run)
{
    const gdncp_rule_chains_t *const chains = context;
    const gdncp_device_list_t *const list = run->backward ? &chains->backward : &chains->forward;
    const int64_t first = CHAIN_NUMBERS * run->first_chain;
    const int64_t transitions[] = {chains->num_transitions, chains->dk, chains->dk};
    const int64_t slots[] = {chains->num_slots, chains->dk, chains->dv};
    const gdncp_state_chains_t walked = {
        .transition = gdncp_view_contiguous(chains->device, (void *)run->transitions, GDNCP_F32, 3,
                                            transitions),
        .contribution =
            gdncp_view_contiguous(chains->device, (void *)run->contributions, GDNCP_F32, 3, slots),
        .in = gdncp_view_contiguous(chains->device, (void *)run->handed_over, GDNCP_F32, 2,
                                    slots + 1),
        .chains = (const gdncp_state_chain_t *)(list->host + first),
        .chains_cuda = (const gdncp_state_chain_t *)gdncp_device_list_at(list, first),
        .num_chains = run->num_chains,
        .backward = run->backward,
    };
    const gdncp_tensor_t results =
        gdncp_view_contiguous(chains->device, run->results, GDNCP_F32, 3, slots);

    return gdncp_state_merge(&walked, &results, chains->workspace);
}
