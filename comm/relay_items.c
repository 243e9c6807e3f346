/* Items of a relay, and who computes them. */
#include "relay_items.h"

#include <string.h>

#include "error.h"
#include "gdncp/memory.h"
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
};

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
    } else if (form == GDNCP_RELAY_OWNERS) {
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

gdncp_status_t gdncp_relay_for_each_item(gdncp_relay_items_t *items,
                                         gdncp_status_t (*visit)(void *context,
                                                                 const gdncp_relay_item_t *item),
                                         void *context)
{
    const int64_t sequences = gdncp_layout_num_sequences(items->layout);
    int64_t slot = 0;
    int64_t transition = 0;

    for (int64_t sequence = 0; sequence < sequences; sequence++) {
        gdncp_relay_item_t item = {0};

        item.chain = gdncp_layout_sequence_chain(items->layout, sequence, &item.length);
        if (item.length < 2) {
            continue;
        }
        if (items->form == GDNCP_RELAY_ALL_GATHER) {
            list_members(items, &item);
        }
        item.members = items->members;
        item.num_members = items->num_members;
        for (item.head = 0; item.head < items->heads; item.head++) {
            item.owner = -1;
            item.owner_after = owner_of(items, sequence, &item, 0);
            for (item.position = 0; item.position < item.length; item.position++) {
                const bool is_last = item.position == item.length - 1;

                item.owner_before = item.owner;
                item.owner = item.owner_after;
                item.owner_after =
                    is_last ? -1 : owner_of(items, sequence, &item, item.position + 1);
                item.slot = slot;
                item.transition = item.position > 0 && !is_last ? transition : -1;
                const gdncp_status_t status = visit(context, &item);

                if (status != GDNCP_OK) {
                    return status;
                }
                if (item.owner == items->rank) {
                    slot++;
                    transition += item.transition >= 0;
                }
            }
        }
    }
    return GDNCP_OK;
}
