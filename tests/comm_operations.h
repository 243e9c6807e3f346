/* Everything that ranks do together, in one form: made, then started and waited for many times. */
#ifndef GDNCP_TEST_COMM_OPERATIONS_H
#define GDNCP_TEST_COMM_OPERATIONS_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "gdncp/comm.h"
#include "gdncp/exchange.h"
#include "gdncp/layout.h"
#include "gdncp/plan.h"
#include "relay.h"
#include "test_comm_relay_steps.h"

typedef enum operation_kind {
    OPERATION_CP2HP,
    OPERATION_HP2CP,
    OPERATION_RELAYOUT,
    OPERATION_ALL_GATHER_CONCAT,
    OPERATION_CONV_HALO,
    NUM_PLAN_OPERATIONS, /* each of the above also transposed */
    OPERATION_RELAY = NUM_PLAN_OPERATIONS,
    OPERATION_BARRIER,
    OPERATION_ALL_GATHER,
    OPERATION_AGREE,
    OPERATION_SPLIT,
    NUM_OPERATIONS
} operation_kind_t;

typedef struct operation {
    operation_kind_t kind;
    gdncp_comm_t *comm;
    gdncp_layout_t *layouts[2];
    gdncp_plan_t *plan;
    gdncp_exchange_t *exchange;
    gdncp_relay_schedule_t *schedule;
    gdncp_relay_t *relay;
    relay_steps_t steps; /* the relay's */
    float *in;
    float *out;
    float *kept;
    size_t bytes; /* of an all-gather */
} operation_t;

static inline const char *operation_name_of(operation_kind_t kind, bool transposed)
{
    static const char *const names[][2] = {
        [OPERATION_CP2HP] = {"cp2hp", "cp2hp'"},
        [OPERATION_HP2CP] = {"hp2cp", "hp2cp'"},
        [OPERATION_RELAYOUT] = {"relayout", "relayout'"},
        [OPERATION_ALL_GATHER_CONCAT] = {"all_gather_concat", "all_gather_concat'"},
        [OPERATION_CONV_HALO] = {"conv_halo", "conv_halo'"},
        [OPERATION_RELAY] = {"relay", "relay"},
        [OPERATION_BARRIER] = {"barrier", "barrier"},
        [OPERATION_ALL_GATHER] = {"all_gather", "all_gather"},
        [OPERATION_AGREE] = {"agree", "agree"},
        [OPERATION_SPLIT] = {"split", "split"},
    };

    return names[kind][transposed];
}

static inline gdncp_status_t add_states(void *context, const float *transition,
                                        const float *contribution, const float *in, bool transposed,
                                        float *out)
{
    (void)context;
    (void)transposed;
    out[0] = contribution[0] + (transition != NULL ? in[0] : 0);
    return GDNCP_OK;
}

static inline float *alloc_filled(int64_t count)
{
    float *const values = malloc((size_t)(count + 1) * sizeof *values);

    for (int64_t i = 0; i <= count; i++) {
        values[i] = (float)(i % 251);
    }
    return values;
}

/* Messages of a few bytes, or of megabytes. */
static inline gdncp_status_t make_plan(operation_t *operation, bool transposed, bool large)
{
    static const gdncp_section_t sections[] = {{GDNCP_KEY_HEADS, 2, 0}, {GDNCP_VALUE_HEADS, 3, 4}};
    const int rank = gdncp_comm_rank(operation->comm);
    const int size = gdncp_comm_size(operation->comm);
    const gdncp_layout_t *const swap = operation->layouts[0];
    const gdncp_layout_t *const contiguous = operation->layouts[1];
    const int64_t width = large ? 2048 : 1; /* for plans that do not grow with the tokens */
    int64_t lengths[64];
    gdncp_plan_t *plan = NULL;
    gdncp_status_t status = GDNCP_OK;

    for (int i = 0; i < size; i++) {
        lengths[i] = 3 + i;
    }
    switch (operation->kind) {
    case OPERATION_CP2HP:
        status = gdncp_plan_cp2hp(swap, rank, GDNCP_F32, 2, 4, sections, 2, 16, &plan);
        break;
    case OPERATION_HP2CP:
        status = gdncp_plan_hp2cp(swap, rank, GDNCP_F32, 2, 4, sections, 2, 16, &plan);
        break;
    case OPERATION_RELAYOUT:
        status = gdncp_plan_relayout(swap, contiguous, rank, GDNCP_F32, 16, &plan);
        break;
    case OPERATION_ALL_GATHER_CONCAT:
        status =
            gdncp_plan_all_gather_concat(size, rank, GDNCP_F32, 1, lengths, 100 * width, &plan);
        break;
    default:
        status =
            gdncp_plan_conv_halo(contiguous, rank, GDNCP_F32, 50 * width, 50 * width, 3, &plan);
        break;
    }
    if (status == GDNCP_OK && transposed) {
        status = gdncp_plan_transpose(plan, GDNCP_PLAN_ASSIGN, &operation->plan);
        gdncp_plan_destroy(plan);
    } else {
        operation->plan = plan;
    }
    return status;
}

static inline gdncp_status_t make_layouts(operation_t *operation, bool large)
{
    const int size = gdncp_comm_size(operation->comm);
    const bool by_tokens = operation->kind <= OPERATION_RELAYOUT;
    const int64_t cu_seqlens[] = {0, 2 * size * (large && by_tokens ? 16384 : 4)};
    gdncp_status_t status = gdncp_layout_create(GDNCP_LAYOUT_DUAL_CHUNK_SWAP, cu_seqlens, 1, size,
                                                &operation->layouts[0]);

    if (status == GDNCP_OK) {
        status = gdncp_layout_create(GDNCP_LAYOUT_CONTIGUOUS, cu_seqlens, 1, size,
                                     &operation->layouts[1]);
    }
    return status;
}

static inline gdncp_status_t make_relay(operation_t *operation, bool large)
{
    const int rank = gdncp_comm_rank(operation->comm);
    const int64_t elements = large ? 200000 : 1;
    gdncp_status_t status =
        gdncp_relay_schedule_create(operation->layouts[0], rank, GDNCP_RELAY_OWNERS, 3, elements,
                                    elements, &operation->schedule);

    if (status == GDNCP_OK) {
        operation->steps = (relay_steps_t){.schedule = operation->schedule, .step = add_states};
        status = gdncp_relay_create(operation->comm, operation->schedule, GDNCP_DEVICE_CPU, NULL,
                                    relay_steps_combine, &operation->steps, &operation->relay);
    }
    if (status == GDNCP_OK) {
        operation->in = alloc_filled(gdncp_relay_outgoing_elements(operation->schedule, false));
        operation->out = alloc_filled(gdncp_relay_incoming_elements(operation->schedule));
        operation->kept = alloc_filled(gdncp_relay_kept_elements(operation->schedule));
    }
    return status;
}

/* Collective but for barriers and the like. Freed by free_operation(), whatever came of it. */
static inline gdncp_status_t make_operation(operation_t *operation, gdncp_comm_t *comm,
                                            operation_kind_t kind, bool transposed, bool large)
{
    *operation = (operation_t){.kind = kind, .comm = comm, .bytes = large ? 1 << 21 : 40};
    gdncp_status_t status = make_layouts(operation, large);

    if (status == GDNCP_OK && kind == OPERATION_RELAY) {
        return make_relay(operation, large);
    }
    if (status == GDNCP_OK && kind == OPERATION_ALL_GATHER) {
        const int64_t count = (int64_t)(operation->bytes / sizeof(float));

        operation->in = alloc_filled(count);
        operation->out = alloc_filled(count * gdncp_comm_size(comm));
    }
    if (status != GDNCP_OK || kind >= NUM_PLAN_OPERATIONS) {
        return status;
    }
    status = make_plan(operation, transposed, large);
    if (status == GDNCP_OK) {
        status = gdncp_exchange_create(comm, operation->plan, &operation->exchange);
    }
    if (status == GDNCP_OK) {
        operation->in = alloc_filled(gdncp_plan_input_elements(operation->plan));
        operation->out = alloc_filled(gdncp_plan_output_elements(operation->plan));
    }
    return status;
}

static inline gdncp_status_t split_once(gdncp_comm_t *comm)
{
    gdncp_comm_t *sub = NULL;
    gdncp_status_t status = gdncp_comm_split(comm, gdncp_comm_rank(comm) > 0, 0, &sub);

    if (status == GDNCP_OK) {
        gdncp_comm_destroy(sub);
    }
    return status;
}

/* What an exchange leaves for its wait, all others do at once. */
static inline gdncp_status_t start_operation(operation_t *operation)
{
    switch (operation->kind) {
    case OPERATION_RELAY:
        return gdncp_relay_forward(operation->relay, operation->in, operation->kept,
                                   operation->out);
    case OPERATION_BARRIER:
        return gdncp_comm_barrier(operation->comm);
    case OPERATION_ALL_GATHER:
        return gdncp_comm_all_gather(operation->comm, operation->in, operation->out,
                                     operation->bytes);
    case OPERATION_AGREE:
        return gdncp_comm_agree(operation->comm, GDNCP_OK);
    case OPERATION_SPLIT:
        return split_once(operation->comm);
    default:
        return gdncp_exchange_start(operation->exchange, operation->in, operation->out, NULL);
    }
}

static inline gdncp_status_t wait_operation(operation_t *operation)
{
    return operation->exchange != NULL ? gdncp_exchange_wait(operation->exchange) : GDNCP_OK;
}

static inline void free_operation(operation_t *operation)
{
    gdncp_exchange_destroy(operation->exchange);
    gdncp_plan_destroy(operation->plan);
    gdncp_relay_destroy(operation->relay);
    gdncp_relay_schedule_destroy(operation->schedule);
    for (int i = 0; i < 2; i++) {
        gdncp_layout_destroy(operation->layouts[i]);
    }
    free(operation->in);
    free(operation->out);
    free(operation->kept);
}

/* Move tokens from one layout to another, and see each where it belongs. */
static inline gdncp_status_t move_tokens(gdncp_comm_t *comm, bool *right_p)
{
    const int rank = gdncp_comm_rank(comm);
    operation_t move;
    gdncp_status_t status = make_operation(&move, comm, OPERATION_RELAYOUT, false, false);

    *right_p = false;
    if (status == GDNCP_OK) {
        const int64_t num_in = gdncp_plan_input_elements(move.plan) / 16;
        const int64_t num_out = gdncp_plan_output_elements(move.plan) / 16;
        int64_t *const from = malloc((size_t)(num_in + 1) * sizeof *from);
        int64_t *const to = malloc((size_t)(num_out + 1) * sizeof *to);

        gdncp_layout_rank_positions(move.layouts[0], rank, from);
        gdncp_layout_rank_positions(move.layouts[1], rank, to);
        for (int64_t i = 0; i < num_in * 16; i++) {
            move.in[i] = (float)(from[i / 16] * 16 + i % 16);
        }
        memset(move.out, 0xff, (size_t)num_out * 16 * sizeof *move.out);
        status = start_operation(&move);
        if (status == GDNCP_OK) {
            status = wait_operation(&move);
        }
        *right_p = status == GDNCP_OK;
        for (int64_t i = 0; i < num_out * 16; i++) {
            *right_p = *right_p && move.out[i] == (float)(to[i / 16] * 16 + i % 16);
        }
        free(from);
        free(to);
    }
    free_operation(&move);
    return status;
}

#endif
