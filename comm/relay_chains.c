/* The order in which a rank walks its chains. */
#include "relay_chains.h"

#include <assert.h>

static void reverse_chains(gdncp_relay_walk_t *walk)
{
    for (int64_t i = 0, j = walk->num_chains - 1; i < j; i++, j--) {
        const gdncp_relay_chain_t chain = walk->chains[i];

        walk->chains[i] = walk->chains[j];
        walk->chains[j] = chain;
    }
}

void gdncp_relay_order_chains(gdncp_relay_walk_t *walk, bool backward)
{
    int64_t num_ready = 0;
    gdncp_relay_chain_t waiting = {0};

    if (backward) {
        reverse_chains(walk);
    }
    for (int64_t i = 0; i < walk->num_chains; i++) {
        const gdncp_relay_chain_t chain = walk->chains[i];

        if (chain.waits) {
            waiting = chain;
        } else {
            walk->chains[num_ready++] = chain;
        }
    }
    walk->first_waiting = num_ready;
    if (num_ready < walk->num_chains) {
        assert(num_ready == walk->num_chains - 1);
        walk->chains[num_ready] = waiting;
    }
    for (int64_t i = 0; i < walk->num_chains && walk->send_to >= 0; i++) {
        const gdncp_relay_chain_t *const chain = &walk->chains[i];
        const int64_t steps = chain->num_steps - 1;

        if (chain->slot + (backward ? -steps : steps) == walk->send_slot) {
            walk->send_chain = i;
        }
    }
}
