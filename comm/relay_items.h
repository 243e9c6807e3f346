/* All segments of all chains in the one fixed order in which schedules are made: see relay.h. */
#ifndef GDNCP_RELAY_ITEMS_H
#define GDNCP_RELAY_ITEMS_H

#include "relay.h"

/* One segment of one head's chain, as met in the fixed order of all of them. */
typedef struct gdncp_relay_item {
    int64_t head;
    int64_t position;     /* in the chain: 0 .. length-1 */
    int64_t length;       /* segments in the chain, >= 2 */
    const int64_t *chain; /* the sequence's segments, indices into the layout's */
    int owner; /* that computes the states at the segment; where all members of the chain do, this
                  rank if it is one, else -1 */
    int owner_before; /* of the item before in the chain; -1 at its start */
    int owner_after;
    const int *members; /* with GDNCP_RELAY_ALL_GATHER: [num_members] all that compute it */
    int num_members;
    int64_t slot;       /* of the owner; counted on this rank only */
    int64_t transition; /* likewise; -1 at either end of the chain */
} gdncp_relay_item_t;

typedef struct gdncp_relay_items gdncp_relay_items_t;

/* Items as `rank` sees them; the layout must outlive them. */
gdncp_status_t gdncp_relay_items_create(const gdncp_layout_t *layout, int rank,
                                        gdncp_relay_form_t form, int64_t heads,
                                        gdncp_relay_items_t **items_p);
void gdncp_relay_items_destroy(gdncp_relay_items_t *items);

/*
 * Call visit for the items of all chains of two or more segments, by sequence, head, position.
 * Those that `rank` has no part in may be left out: it owns them, or holds their segment or the one
 * before or after it, or the form is GDNCP_RELAY_ALL_GATHER and it holds a segment of the chain.
 */
gdncp_status_t gdncp_relay_for_each_item(gdncp_relay_items_t *items,
                                         gdncp_status_t (*visit)(void *context,
                                                                 const gdncp_relay_item_t *item),
                                         void *context);

#endif
