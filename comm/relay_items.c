/* Items of a relay, and who computes them. */
#include "relay_items.h"

#include <string.h>

#include "error.h"
#include "gdncp/memory.h"
#include "own_segments.h"
#include "relay_owners.h"

struct gdncp_relay_items {
    const gdncp_layout_t *layout;
    int rank;
    gdncp_relay_form_t form;
    int64_t heads;
    gdncp_relay_owners_t *owners; /* with GDNCP_RELAY_OWNERS */
    bool *is_member;              /* [ranks] of the sequence that is visited */
    int *members;                 /* [num_members] of the same */
    int num_members;
    const gdncp_segment_t **own; /* [num_own] segments of the rank, in the order of the pack */
    int64_t *own_places;         /* [num_own] their positions in their chains */
    int64_t num_own;
};

/* Positions of a chain from `first` to `end` - 1. */
typedef struct positions {
    int64_t first;
    int64_t end;
} positions_t;

/* List the rank's segments, and where they stand in their chains. */
static gdncp_status_t find_own(gdncp_relay_items_t *items)
{
    const gdncp_status_t status =
        gdncp_own_segments(items->layout, items->rank, false, &items->own, &items->num_own);

    if (status != GDNCP_OK) {
        return status;
    }
    items->own_places = gdncp_memory_alloc((size_t)(items->num_own + 1) * sizeof(int64_t));
    if (items->own_places == NULL) {
        return gdncp_fail_memory("chains of the state relay");
    }
    for (int64_t s = 0; s < items->num_own; s++) {
        const gdncp_chain_t chain = gdncp_chain_of(items->layout, items->own[s]->sequence, false);

        items->own_places[s] = gdncp_chain_find(&chain, items->own[s]->begin);
    }
    return GDNCP_OK;
}

gdncp_status_t gdncp_relay_items_create(const gdncp_layout_t *layout, int rank,
                                        gdncp_relay_form_t form, int64_t heads,
                                        gdncp_relay_items_t **items_p)
{
    const size_t ranks = (size_t)gdncp_layout_num_ranks(layout);
    gdncp_relay_items_t *const items = gdncp_memory_alloc(sizeof *items);
    gdncp_status_t status = GDNCP_OK;

    if (items == NULL) {
        return gdncp_fail_memory("chains of the state relay");
    }
    *items = (gdncp_relay_items_t){.layout = layout, .rank = rank, .form = form, .heads = heads};
    items->is_member = gdncp_memory_alloc(ranks * sizeof *items->is_member);
    items->members = gdncp_memory_alloc(ranks * sizeof *items->members);
    if (items->is_member == NULL || items->members == NULL) {
        status = gdncp_fail_memory("chains of the state relay");
    } else {
        status = find_own(items);
    }
    if (status == GDNCP_OK && form == GDNCP_RELAY_OWNERS) {
        status = gdncp_relay_owners_create(layout, heads, &items->owners);
    }
    if (status != GDNCP_OK) {
        gdncp_relay_items_destroy(items);
        return status;
    }
    *items_p = items;
    return GDNCP_OK;
}

void gdncp_relay_items_destroy(gdncp_relay_items_t *items)
{
    if (items != NULL) {
        gdncp_relay_owners_destroy(items->owners);
        gdncp_memory_free(items->is_member);
        gdncp_memory_free(items->members);
        gdncp_memory_free(items->own);
        gdncp_memory_free(items->own_places);
        gdncp_memory_free(items);
    }
}

/* The ranks that hold a segment of the chain, each once. */
static void list_members(gdncp_relay_items_t *items, const gdncp_relay_item_t *item)
{
    const gdncp_segment_t *const segments = gdncp_layout_segments(items->layout);

    memset(items->is_member, 0,
           (size_t)gdncp_layout_num_ranks(items->layout) * sizeof *items->is_member);
    items->num_members = 0;
    for (int64_t i = 0; i < item->length; i++) {
        const int rank = segments[item->chain[i]].rank;

        if (!items->is_member[rank]) {
            items->is_member[rank] = true;
            items->members[items->num_members++] = rank;
        }
    }
}

static int owner_of(const gdncp_relay_items_t *items, int64_t sequence,
                    const gdncp_relay_item_t *item, int64_t position)
{
    switch (items->form) {
    case GDNCP_RELAY_ALL_GATHER:
        return items->is_member[items->rank] ? items->rank : -1;
    case GDNCP_RELAY_CHAIN:
        return gdncp_layout_segments(items->layout)[item->chain[position]].rank;
    default:
        return gdncp_relay_owner(items->owners, sequence, item->head, position);
    }
}

/* A visit of all items of a rank. */
typedef struct visit {
    gdncp_relay_items_t *items;
    gdncp_status_t (*function)(void *context, const gdncp_relay_item_t *item);
    void *context;
    int64_t sequence;
    int64_t first_own; /* of items->own: those of the sequence */
    int64_t end_own;
    gdncp_relay_item_t item;
    int64_t slot; /* of the next item that the rank owns */
    int64_t transition;
} visit_t;

static gdncp_status_t visit_position(visit_t *visit, int64_t position)
{
    const gdncp_relay_items_t *const items = visit->items;
    gdncp_relay_item_t *const item = &visit->item;
    const bool is_last = position == item->length - 1;
    gdncp_status_t status;

    item->position = position;
    item->owner = owner_of(items, visit->sequence, item, position);
    item->owner_before = position > 0 ? owner_of(items, visit->sequence, item, position - 1) : -1;
    item->owner_after = is_last ? -1 : owner_of(items, visit->sequence, item, position + 1);
    item->slot = visit->slot;
    item->transition = position > 0 && !is_last ? visit->transition : -1;
    status = visit->function(visit->context, item);
    if (item->owner == items->rank) {
        visit->slot++;
        visit->transition += item->transition >= 0;
    }
    return status;
}

/* What the rank owns of the chain of one head. */
static positions_t owned_positions(const visit_t *visit)
{
    const gdncp_relay_items_t *const items = visit->items;
    positions_t owned = {0, 0};

    if (items->form == GDNCP_RELAY_OWNERS) {
        gdncp_relay_owned(items->owners, visit->sequence, visit->item.head, items->rank,
                          &owned.first, &owned.end);
    } else if (items->form == GDNCP_RELAY_ALL_GATHER && items->is_member[items->rank]) {
        owned.end = visit->item.length;
    }
    return owned;
}

/* Visit what was not yet visited, from `next` on, up to the end of some positions. */
static gdncp_status_t visit_positions(visit_t *visit, positions_t positions, int64_t *next)
{
    gdncp_status_t status = GDNCP_OK;

    for (int64_t position = *next > positions.first ? *next : positions.first;
         position < positions.end && status == GDNCP_OK; position++) {
        status = visit_position(visit, position);
        *next = position + 1;
    }
    return status;
}

/* What the rank owns, merged with what lies at its own segments and beside them. */
static gdncp_status_t visit_head(visit_t *visit)
{
    positions_t owned = owned_positions(visit);
    gdncp_status_t status = GDNCP_OK;
    int64_t next = 0;

    for (int64_t s = visit->first_own; s < visit->end_own && status == GDNCP_OK; s++) {
        const int64_t place = visit->items->own_places[s];
        const positions_t near = {place > 0 ? place - 1 : 0,
                                  place + 2 < visit->item.length ? place + 2 : visit->item.length};

        if (owned.first <= near.first) {
            status = visit_positions(visit, owned, &next);
        }
        if (status == GDNCP_OK) {
            status = visit_positions(visit, near, &next);
        }
    }
    return status == GDNCP_OK ? visit_positions(visit, owned, &next) : status;
}

gdncp_status_t gdncp_relay_for_each_item(gdncp_relay_items_t *items,
                                         gdncp_status_t (*visit)(void *context,
                                                                 const gdncp_relay_item_t *item),
                                         void *context)
{
    const int64_t sequences = gdncp_layout_num_sequences(items->layout);
    visit_t state = {.items = items, .function = visit, .context = context};
    gdncp_status_t status;

    for (state.sequence = 0; state.sequence < sequences; state.sequence++) {
        gdncp_relay_item_t *const item = &state.item;

        item->chain = gdncp_layout_sequence_chain(items->layout, state.sequence, &item->length);
        state.first_own = state.end_own;
        while (state.end_own < items->num_own &&
               items->own[state.end_own]->sequence == state.sequence) {
            state.end_own++;
        }
        if (item->length < 2) {
            continue;
        }
        if (items->form == GDNCP_RELAY_ALL_GATHER) {
            list_members(items, item);
        }
        item->members = items->members;
        item->num_members = items->num_members;
        for (item->head = 0; item->head < items->heads; item->head++) {
            status = visit_head(&state);
            if (status != GDNCP_OK) {
                return status;
            }
        }
    }
    return GDNCP_OK;
}
