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

void gdncp_relay_order_chains(gdncp_relay_walk_t *walk, bool backward, bool waits_last)
{
    int64_t num_ready = 0;
    gdncp_relay_chain_t waiting = {0};

    if (backward) {
        reverse_chains(walk);
    }
    for (int64_t i = 0; i < walk->num_chains && waits_last; i++) {
        const gdncp_relay_chain_t chain = walk->chains[i];

        if (chain.receive_from >= 0) {
            waiting = chain;
        } else {
            walk->chains[num_ready++] = chain;
        }
    }
    if (waits_last && num_ready < walk->num_chains) {
        assert(num_ready == walk->num_chains - 1);
        walk->chains[num_ready] = waiting;
    }
}
