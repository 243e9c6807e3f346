/* The order in which a rank walks its chains: see relay.h. */
#ifndef GDNCP_RELAY_CHAINS_H
#define GDNCP_RELAY_CHAINS_H

#include "relay.h"

/*
 * Order the chains of a walk, given in the order of sequences and heads; backward from the last.
 * With waits_last those that wait come last: whoever waits for the others then waits least. It is
 * for walks in which each rank receives one state at most, as messages match in order.
 */
void gdncp_relay_order_chains(gdncp_relay_walk_t *walk, bool backward, bool waits_last);

#endif
