/* The order in which a rank walks its chains: see relay.h. */
#ifndef GDNCP_RELAY_CHAINS_H
#define GDNCP_RELAY_CHAINS_H

#include "relay.h"

/*
 * Order the chains of a walk, given in the order of sequences and heads; backward from the last.
 * Then comes, as the last one, the chain that waits, if there is one: of a rank's piece only the
 * first chain can, backward the last. Also notes which chain ends in the result that is sent.
 */
void gdncp_relay_order_chains(gdncp_relay_walk_t *walk, bool backward);

#endif
