/* Who works on which segment of which chain: see relay.h. */
#ifndef GDNCP_RELAY_OWNERS_H
#define GDNCP_RELAY_OWNERS_H

#include <stdint.h>

#include "gdncp/layout.h"
#include "gdncp/status.h"

typedef struct gdncp_relay_owners gdncp_relay_owners_t;

/* The same on every rank. Free with gdncp_relay_owners_destroy(); keeps a pointer to the layout. */
gdncp_status_t gdncp_relay_owners_create(const gdncp_layout_t *layout, int64_t heads,
                                         gdncp_relay_owners_t **owners_p);
void gdncp_relay_owners_destroy(gdncp_relay_owners_t *owners);

/*
 * The rank that computes the state after segment c of the chain of one head (0 <= c <= n - 2)
 * and the state's gradient before it (1 <= c <= n - 1). Chains of fewer than two segments have
 * no owners.
 */
int gdncp_relay_owner(const gdncp_relay_owners_t *owners, int64_t sequence, int64_t head,
                      int64_t segment);

/*
 * Of the chain of one head, the segments whose owner is `rank`: *first_p .. *end_p - 1, none where
 * they are equal. They follow each other.
 */
void gdncp_relay_owned(const gdncp_relay_owners_t *owners, int64_t sequence, int64_t head, int rank,
                       int64_t *first_p, int64_t *end_p);

#endif
