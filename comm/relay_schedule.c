/* The schedule of a relay: its four plans and the order in which a rank walks its chains. */
#include "relay.h"

#include <stdio.h>

#include "error.h"
#include "gdncp/memory.h"
#include "plan_internal.h"
#include "relay_chains.h"
#include "relay_items.h"

typedef struct schedule_builder {
    gdncp_relay_schedule_t *schedule;
    const gdncp_layout_t *layout;
    const gdncp_segment_t *segments;
    gdncp_relay_items_t *items;
    gdncp_relay_form_t form;
    int rank;
    int64_t first_segment; /* of the rank, in the layout's list */
    int64_t *forward_row;  /* [local segments] row among forward_segments, for those there */
    int64_t *backward_row; /* [local segments] likewise */
} schedule_builder_t;

typedef enum place { ALONE, FIRST, MIDDLE, LAST } place_t;

/* Where a segment stands in its chain. One of padding is in none. */
static place_t place_of(const gdncp_layout_t *layout, int64_t segment)
{
    const gdncp_segment_t *const segments = gdncp_layout_segments(layout);
    int64_t length;
    const int64_t *const chain =
        gdncp_layout_sequence_chain(layout, segments[segment].sequence, &length);

    if (length == 1 || segments[segment].is_padding) {
        return ALONE;
    }
    if (chain[0] == segment) {
        return FIRST;
    }
    return chain[length - 1] == segment ? LAST : MIDDLE;
}

/* List the local segments of one place, and note their rows. */
static void list_place(const schedule_builder_t *builder, place_t place, int64_t *list,
                       int64_t *count, int64_t *row)
{
    for (int64_t i = 0; i < builder->schedule->num_segments; i++) {
        if (place_of(builder->layout, builder->first_segment + i) == place) {
            row[i] = *count;
            list[(*count)++] = i;
        }
    }
}

static gdncp_status_t list_segments(schedule_builder_t *builder)
{
    gdncp_relay_schedule_t *const schedule = builder->schedule;
    const gdncp_segment_t *const own =
        gdncp_layout_rank_segments(builder->layout, builder->rank, &schedule->num_segments);
    const size_t bytes = (size_t)(schedule->num_segments + 1) * sizeof(int64_t);

    builder->first_segment = own - builder->segments;
    schedule->forward_segments = gdncp_memory_alloc(bytes);
    schedule->backward_segments = gdncp_memory_alloc(bytes);
    builder->forward_row = gdncp_memory_alloc(bytes);
    builder->backward_row = gdncp_memory_alloc(bytes);
    if (schedule->forward_segments == NULL || schedule->backward_segments == NULL ||
        builder->forward_row == NULL || builder->backward_row == NULL) {
        return gdncp_fail_memory("schedule of the state relay");
    }
    list_place(builder, MIDDLE, schedule->forward_segments, &schedule->num_forward,
               builder->forward_row);
    list_place(builder, MIDDLE, schedule->backward_segments, &schedule->num_backward,
               builder->backward_row);
    schedule->num_middle = schedule->num_forward;
    list_place(builder, FIRST, schedule->forward_segments, &schedule->num_forward,
               builder->forward_row);
    list_place(builder, LAST, schedule->backward_segments, &schedule->num_backward,
               builder->backward_row);
    return GDNCP_OK;
}

static gdncp_status_t count_item(void *context, const gdncp_relay_item_t *item)
{
    schedule_builder_t *const builder = context;

    if (item->owner == builder->rank) {
        builder->schedule->num_slots++;
        builder->schedule->num_transitions += item->transition >= 0;
    }
    return GDNCP_OK;
}

static gdncp_status_t move(gdncp_plan_t *plan, int source_rank, int64_t source_offset,
                           int destination_rank, int64_t destination_offset, int64_t elements)
{
    const gdncp_transfer_t transfer = {
        .source_rank = source_rank,
        .destination_rank = destination_rank,
        .rows = 1,
        .source_offset = source_offset,
        .source_stride = elements,
        .destination_offset = destination_offset,
        .destination_stride = elements,
    };
    const gdncp_piece_t piece = {.elements = elements};

    return gdncp_plan_add(plan, &transfer, &piece, 1);
}

/* Offset in one of this rank's buffers [rows, heads, elements]; 0 for a segment of another rank,
 * whose buffers are its own matter. */
static int64_t row_offset(const schedule_builder_t *builder, const gdncp_relay_item_t *item,
                          int64_t segment, const int64_t *rows, int64_t elements)
{
    if (builder->segments[segment].rank != builder->rank) {
        return 0;
    }
    const int64_t local = segment - builder->first_segment;
    const int64_t row = rows != NULL ? rows[local] : local;

    return (row * builder->schedule->heads + item->head) * elements;
}

/* Gather: the contribution of a segment, and forward its transition if it has one, to a rank. */
static gdncp_status_t gather_gdncp_relay_item_to(const schedule_builder_t *builder,
                                                 const gdncp_relay_item_t *item, bool backward,
                                                 int owner)
{
    const gdncp_relay_schedule_t *const schedule = builder->schedule;
    gdncp_plan_t *const plan = backward ? schedule->backward.gather : schedule->forward.gather;
    const int64_t *const rows = backward ? builder->backward_row : builder->forward_row;
    const int64_t segment = item->chain[item->position];
    const int holder = builder->segments[segment].rank;
    const gdncp_status_t status =
        move(plan, holder, row_offset(builder, item, segment, rows, schedule->state_elements),
             owner, item->slot * schedule->state_elements, schedule->state_elements);

    if (status != GDNCP_OK || backward || item->transition < 0) {
        return status;
    }
    const int64_t source = schedule->num_forward * schedule->heads * schedule->state_elements +
                           row_offset(builder, item, segment, rows, schedule->transition_elements);
    const int64_t destination = schedule->num_slots * schedule->state_elements +
                                item->transition * schedule->transition_elements;

    return move(plan, holder, source, owner, destination, schedule->transition_elements);
}

static gdncp_status_t gather_item(const schedule_builder_t *builder, const gdncp_relay_item_t *item,
                                  bool backward)
{
    gdncp_status_t status = GDNCP_OK;

    if (builder->form != GDNCP_RELAY_ALL_GATHER) {
        return gather_gdncp_relay_item_to(builder, item, backward, item->owner);
    }
    for (int m = 0; m < item->num_members && status == GDNCP_OK; m++) {
        status = gather_gdncp_relay_item_to(builder, item, backward, item->members[m]);
    }
    return status;
}

static gdncp_status_t scatter_item(const schedule_builder_t *builder, gdncp_plan_t *plan,
                                   const gdncp_relay_item_t *item, int64_t segment)
{
    const gdncp_relay_schedule_t *const schedule = builder->schedule;
    const int holder = builder->segments[segment].rank;
    const bool is_local = holder == builder->rank && item->owner == builder->rank;

    /* In the other forms a holder computes the state itself, or it is handed over to it. */
    if (builder->form != GDNCP_RELAY_OWNERS && !is_local) {
        return GDNCP_OK;
    }
    return move(plan, item->owner, item->slot * schedule->state_elements, holder,
                row_offset(builder, item, segment, NULL, schedule->state_elements),
                schedule->state_elements);
}

static gdncp_relay_chain_t *begin_chain(gdncp_relay_walk_t *walk)
{
    gdncp_relay_chain_t *const chain = &walk->chains[walk->num_chains++];

    *chain = (gdncp_relay_chain_t){.transition = -1, .receive_from = -1, .send_to = -1};
    return chain;
}

/* A chain goes on from a state of another rank. With GDNCP_RELAY_CHAIN that is the item's own
 * state, which nobody else brings. */
static gdncp_status_t receive(const schedule_builder_t *builder, gdncp_relay_walk_t *walk,
                              gdncp_relay_chain_t *chain, const gdncp_relay_item_t *item, int from)
{
    const gdncp_relay_schedule_t *const schedule = builder->schedule;

    chain->receive_from = from;
    chain->received = walk->num_received++;
    if (builder->form != GDNCP_RELAY_CHAIN) {
        return GDNCP_OK;
    }
    return move(
        walk->scatter, builder->rank,
        (schedule->num_slots + chain->received) * schedule->state_elements, builder->rank,
        row_offset(builder, item, item->chain[item->position], NULL, schedule->state_elements),
        schedule->state_elements);
}

/* Add a step of this rank to its chain, or begin one. Items come in the order of positions, so
 * backward each one goes before the steps there are. */
static gdncp_status_t add_step(const schedule_builder_t *builder, gdncp_relay_walk_t *walk,
                               const gdncp_relay_item_t *item, bool backward)
{
    const int rank = builder->rank;
    const int owner_previous = backward ? item->owner_after : item->owner_before;
    const int owner_next = backward ? item->owner_before : item->owner_after;
    const bool next_has_product =
        backward ? item->position >= 2 : item->position + 2 < item->length;
    const bool joins = item->owner_before == rank && item->position > (backward ? 1 : 0);
    const bool is_first_step = backward || !joins;
    gdncp_relay_chain_t *const chain =
        joins ? &walk->chains[walk->num_chains - 1] : begin_chain(walk);

    chain->num_steps++;
    if (is_first_step) {
        chain->slot = item->slot;
    }
    if (item->transition >= 0 && (is_first_step || chain->transition < 0)) {
        chain->transition = item->transition;
    }
    if (owner_next != rank && (next_has_product || builder->form == GDNCP_RELAY_CHAIN)) {
        chain->send_to = owner_next;
    }
    return item->transition >= 0 && owner_previous != rank
               ? receive(builder, walk, chain, item, owner_previous)
               : GDNCP_OK;
}

/* An item of this rank in one direction. */
static gdncp_status_t walk_item(const schedule_builder_t *builder, gdncp_relay_walk_t *walk,
                                const gdncp_relay_item_t *item, bool backward)
{
    const int owner_previous = backward ? item->owner_after : item->owner_before;
    const bool is_end = item->position == (backward ? 0 : item->length - 1);

    if (!is_end) {
        return add_step(builder, walk, item, backward);
    }
    /* The chain's last segment needs a state too, but makes none of it. */
    return builder->form == GDNCP_RELAY_CHAIN && owner_previous != builder->rank
               ? receive(builder, walk, begin_chain(walk), item, owner_previous)
               : GDNCP_OK;
}

static gdncp_status_t add_item(void *context, const gdncp_relay_item_t *item)
{
    schedule_builder_t *const builder = context;
    gdncp_relay_schedule_t *const schedule = builder->schedule;
    const bool has_forward = item->position < item->length - 1;
    const bool has_backward = item->position > 0;
    gdncp_status_t status = GDNCP_OK;

    if (has_forward) {
        status = gather_item(builder, item, false);
        if (status != GDNCP_OK) {
            return status;
        }
        status =
            scatter_item(builder, schedule->forward.scatter, item, item->chain[item->position + 1]);
        if (status != GDNCP_OK) {
            return status;
        }
    }
    if (has_backward) {
        status = gather_item(builder, item, true);
        if (status != GDNCP_OK) {
            return status;
        }
        status = scatter_item(builder, schedule->backward.scatter, item,
                              item->chain[item->position - 1]);
        if (status != GDNCP_OK) {
            return status;
        }
    }
    if (item->owner != builder->rank) {
        return GDNCP_OK;
    }
    status = walk_item(builder, &schedule->forward, item, false);
    return status == GDNCP_OK ? walk_item(builder, &schedule->backward, item, true) : status;
}

static gdncp_status_t start_plan(const schedule_builder_t *builder, const char *name,
                                 int64_t input_elements, int64_t output_elements,
                                 gdncp_plan_t **plan_p)
{
    const gdncp_relay_schedule_t *const schedule = builder->schedule;
    const gdncp_status_t status = gdncp_plan_start(name, gdncp_layout_num_ranks(builder->layout),
                                                   builder->rank, GDNCP_F32, plan_p);

    if (status != GDNCP_OK) {
        return status;
    }
    gdncp_plan_t *const plan = *plan_p;

    gdncp_plan_set_buffers(plan, gdncp_buffer_of_run(input_elements),
                           gdncp_buffer_of_run(output_elements));
    snprintf(plan->text, sizeof plan->text,
             "f32, %s, %lld heads, transition %lld, state %lld, layout %016llx",
             gdncp_relay_form_name(builder->form), (long long)schedule->heads,
             (long long)schedule->transition_elements, (long long)schedule->state_elements,
             (unsigned long long)gdncp_layout_hash(builder->layout));
    gdncp_plan_mix(plan, gdncp_layout_hash(builder->layout));
    gdncp_plan_mix(plan, (uint64_t)builder->form);
    gdncp_plan_mix(plan, (uint64_t)schedule->heads);
    gdncp_plan_mix(plan, (uint64_t)schedule->transition_elements);
    gdncp_plan_mix(plan, (uint64_t)schedule->state_elements);
    return GDNCP_OK;
}

static gdncp_status_t start_walk(const schedule_builder_t *builder, gdncp_relay_walk_t *walk,
                                 bool backward)
{
    const gdncp_relay_schedule_t *const schedule = builder->schedule;
    const int64_t slots = schedule->num_slots * schedule->state_elements;
    const int64_t incoming = gdncp_relay_incoming_elements(schedule);
    gdncp_status_t status;

    walk->chains = gdncp_memory_alloc((size_t)(schedule->num_slots + 1) * sizeof *walk->chains);
    if (walk->chains == NULL) {
        return gdncp_fail_memory("schedule of the state relay");
    }
    status = start_plan(builder, backward ? "relay gather backward" : "relay gather forward",
                        gdncp_relay_outgoing_elements(schedule, backward),
                        backward ? slots : gdncp_relay_kept_elements(schedule), &walk->gather);
    if (status != GDNCP_OK) {
        return status;
    }
    /* Either end of a chain has no contribution in one direction, and nobody reads its slot. */
    walk->gather->keeps_rest = true;
    return start_plan(builder, backward ? "relay scatter backward" : "relay scatter forward", slots,
                      incoming, &walk->scatter);
}

/* Behind the results lie the states received. */
static void finish_walk(const schedule_builder_t *builder, gdncp_relay_walk_t *walk, bool backward)
{
    const gdncp_relay_schedule_t *const schedule = builder->schedule;
    const int64_t states = schedule->num_slots + walk->num_received;

    gdncp_plan_set_buffers(walk->scatter, gdncp_buffer_of_run(states * schedule->state_elements),
                           gdncp_buffer_of_run(gdncp_relay_incoming_elements(schedule)));
    gdncp_relay_order_chains(walk, backward, builder->form == GDNCP_RELAY_OWNERS);
}

static gdncp_status_t build(schedule_builder_t *builder)
{
    gdncp_relay_schedule_t *const schedule = builder->schedule;
    gdncp_status_t status;

    status = list_segments(builder);
    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_relay_for_each_item(builder->items, count_item, builder);
    if (status != GDNCP_OK) {
        return status;
    }
    status = start_walk(builder, &schedule->forward, false);
    if (status != GDNCP_OK) {
        return status;
    }
    status = start_walk(builder, &schedule->backward, true);
    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_relay_for_each_item(builder->items, add_item, builder);
    if (status != GDNCP_OK) {
        return status;
    }
    finish_walk(builder, &schedule->forward, false);
    finish_walk(builder, &schedule->backward, true);
    gdncp_plan_t *const plans[] = {schedule->forward.gather, schedule->forward.scatter,
                                   schedule->backward.gather, schedule->backward.scatter};

    for (size_t i = 0; i < sizeof plans / sizeof plans[0]; i++) {
        status = gdncp_plan_seal(plans[i]);
        if (status != GDNCP_OK) {
            return status;
        }
    }
    return GDNCP_OK;
}

gdncp_status_t gdncp_relay_schedule_create(const gdncp_layout_t *layout, int rank,
                                           gdncp_relay_form_t form, int64_t heads,
                                           int64_t transition_elements, int64_t state_elements,
                                           gdncp_relay_schedule_t **schedule_p)
{
    gdncp_relay_schedule_t *const schedule = gdncp_memory_alloc(sizeof *schedule);
    schedule_builder_t builder = {
        .schedule = schedule,
        .layout = layout,
        .segments = gdncp_layout_segments(layout),
        .form = form,
        .rank = rank,
    };
    gdncp_status_t status;

    if (schedule == NULL) {
        return gdncp_fail_memory("schedule of the state relay");
    }
    *schedule = (gdncp_relay_schedule_t){
        .heads = heads,
        .transition_elements = transition_elements,
        .state_elements = state_elements,
    };
    status = gdncp_relay_items_create(layout, rank, form, heads, &builder.items);
    if (status != GDNCP_OK) {
        goto destroy_schedule;
    }
    status = build(&builder);
    if (status != GDNCP_OK) {
        goto destroy_schedule;
    }
    *schedule_p = schedule;
    goto free_builder;

destroy_schedule:
    gdncp_relay_schedule_destroy(schedule);
free_builder:
    gdncp_relay_items_destroy(builder.items);
    gdncp_memory_free(builder.forward_row);
    gdncp_memory_free(builder.backward_row);
    return status;
}

static void destroy_walk(gdncp_relay_walk_t *walk)
{
    gdncp_plan_destroy(walk->gather);
    gdncp_plan_destroy(walk->scatter);
    gdncp_memory_free(walk->chains);
}

void gdncp_relay_schedule_destroy(gdncp_relay_schedule_t *schedule)
{
    if (schedule != NULL) {
        destroy_walk(&schedule->forward);
        destroy_walk(&schedule->backward);
        gdncp_memory_free(schedule->forward_segments);
        gdncp_memory_free(schedule->backward_segments);
        gdncp_memory_free(schedule);
    }
}

int64_t gdncp_relay_bytes_sent(const gdncp_relay_schedule_t *schedule, bool backward)
{
    const gdncp_relay_walk_t *const walk = backward ? &schedule->backward : &schedule->forward;
    int64_t bytes = gdncp_plan_bytes_sent(walk->gather) + gdncp_plan_bytes_sent(walk->scatter);

    for (int64_t i = 0; i < walk->num_chains; i++) {
        bytes +=
            walk->chains[i].send_to >= 0 ? schedule->state_elements * (int64_t)sizeof(float) : 0;
    }
    return bytes;
}

int64_t gdncp_relay_incoming_elements(const gdncp_relay_schedule_t *schedule)
{
    return schedule->num_segments * schedule->heads * schedule->state_elements;
}

int64_t gdncp_relay_outgoing_elements(const gdncp_relay_schedule_t *schedule, bool backward)
{
    if (backward) {
        return schedule->num_backward * schedule->heads * schedule->state_elements;
    }
    return schedule->heads * (schedule->num_forward * schedule->state_elements +
                              schedule->num_middle * schedule->transition_elements);
}

int64_t gdncp_relay_kept_elements(const gdncp_relay_schedule_t *schedule)
{
    return schedule->num_slots * schedule->state_elements +
           schedule->num_transitions * schedule->transition_elements;
}
