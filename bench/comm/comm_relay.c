/* The state relay in each of its forms: states of all segments, forward. */
#include <string.h>

#include "comm_groups.h"
#include "gdncp/memory.h"
#include "plan_internal.h"
#include "relay.h"
#include "test_comm_relay_steps.h"

enum { MOST_HEAD_DIM = 128 };

/* Transitions and states are [head_dim, head_dim] a head. */
typedef struct relay_op {
    int64_t heads;
    int64_t elements; /* of a transition, and of a state */
    gdncp_relay_schedule_t *schedule;
    gdncp_relay_t *relay;
    relay_steps_t steps;
    float *kept;
} relay_op_t;

/* As many heads of 128 as the transitions and states of two segments have bytes; where they are
 * less than one head's, one head of a smaller dim. */
static void choose_heads(const comm_case_t *c, relay_op_t *op)
{
    const int64_t bytes = c->shape.tokens / c->size * c->shape.channels * (int64_t)sizeof(float);
    const int64_t matrices = 4 * (int64_t)sizeof(float);
    int64_t dim = MOST_HEAD_DIM;

    while (dim > 1 && matrices * dim * dim > bytes) {
        dim /= 2;
    }
    op->elements = dim * dim;
    op->heads = bytes / (matrices * op->elements);
    op->heads = op->heads > 0 ? op->heads : 1;
}

/* A sum instead of the product, so that all is exact and the time is that of moving. */
static gdncp_status_t step(void *context, const float *transition, const float *contribution,
                           const float *in, bool transposed, float *out)
{
    const relay_op_t *const op = context;

    (void)transposed;
    for (int64_t i = 0; i < op->elements; i++) {
        out[i] = contribution[i] + (in != NULL ? in[i] + transition[i] : 0.0f);
    }
    return GDNCP_OK;
}

static int64_t received_bytes(const gdncp_plan_t *plan)
{
    int64_t elements = 0;

    for (int peer = 0; peer < plan->num_ranks; peer++) {
        elements += plan->recvs[peer].elements;
    }
    return elements * (int64_t)sizeof(float);
}

static void make_buffers(comm_case_t *c, relay_op_t *op)
{
    const gdncp_relay_walk_t *const walk = &op->schedule->forward;

    comm_make_buffers(c, gdncp_relay_outgoing_elements(op->schedule, false),
                      gdncp_relay_incoming_elements(op->schedule));
    op->kept = comm_alloc(c, gdncp_relay_kept_elements(op->schedule), (int64_t)sizeof *op->kept);
    c->sent_bytes = gdncp_relay_bytes_sent(op->schedule, false);
    c->least_bytes = c->out_bytes + received_bytes(walk->gather) + received_bytes(walk->scatter) +
                     walk->num_received * op->elements * (int64_t)sizeof(float);
}

static void setup(comm_case_t *c)
{
    relay_op_t *const op = c->op = comm_alloc(c, 1, (int64_t)sizeof *op);
    gdncp_relay_form_t form = GDNCP_RELAY_OWNERS;

    if (op == NULL) {
        return;
    }
    choose_heads(c, op);
    comm_keep(c, gdncp_relay_form_from_name(c->benchmark->name + strlen("relay_"), &form));
    if (c->status == GDNCP_OK) {
        comm_keep(c, gdncp_relay_schedule_create(c->layout, c->rank, form, op->heads, op->elements,
                                                 op->elements, &op->schedule));
    }
    if (c->status == GDNCP_OK) {
        make_buffers(c, op);
    }
    op->steps = (relay_steps_t){.schedule = op->schedule, .step = step, .context = op};
    /* All ranks get here or none: a schedule that could not be made is NULL, and fails on all. */
    comm_keep(c, gdncp_relay_create(c->comm, c->status == GDNCP_OK ? op->schedule : NULL,
                                    GDNCP_DEVICE_CPU, NULL, relay_steps_combine, &op->steps,
                                    &op->relay));
}

static gdncp_status_t run(comm_case_t *c)
{
    const relay_op_t *const op = c->op;

    return gdncp_relay_forward(op->relay, c->in, op->kept, c->out);
}

/* What a segment gives to its chain: rows of its rank's input. */
typedef struct given {
    int rank;
    int64_t local;        /* which of the rank's segments it is */
    int64_t contribution; /* first element */
    int64_t transition;
} given_t;

/* Those that have a segment before and after them come first, in local order, then the first of the
 * chain; the last gives nothing. */
static given_t find_given(const comm_case_t *c, const int64_t *chain, int64_t length, int64_t place)
{
    const relay_op_t *const op = c->op;
    const gdncp_segment_t *const segments = gdncp_layout_segments(c->layout);
    const int64_t row_elements = op->heads * op->elements;
    given_t given = {.rank = segments[chain[place]].rank};
    int64_t num_middle = 0;
    int64_t num_first = 0;
    int64_t row = 0;

    for (int64_t p = 0; p < length; p++) {
        const bool is_middle = p > 0 && p < length - 1;

        if (segments[chain[p]].rank == given.rank) {
            num_middle += is_middle;
            num_first += p == 0;
            row += is_middle && chain[p] < chain[place];
            given.local += chain[p] < chain[place];
        }
    }
    given.contribution = (place > 0 ? row : num_middle) * row_elements;
    given.transition = (num_middle + num_first + row) * row_elements;
    return given;
}

/* The state before each segment of the chain, and those that are this rank's. */
static int64_t check(comm_case_t *c)
{
    const relay_op_t *const op = c->op;
    const int64_t row_elements = op->heads * op->elements;
    float *const state = comm_alloc(c, row_elements, (int64_t)sizeof *state);
    int64_t wrong = 0;
    int64_t length;
    const int64_t *const chain = gdncp_layout_sequence_chain(c->layout, 0, &length);

    for (int64_t p = 0; p < length && state != NULL; p++) {
        const given_t given = find_given(c, chain, length, p);

        for (int64_t e = 0; e < row_elements; e++) {
            wrong += given.rank == c->rank &&
                     !comm_is(c->shape.dtype, c->out, given.local * row_elements + e, state[e]);
            state[e] += (float)comm_value(given.rank, given.contribution + e);
            state[e] += p > 0 ? (float)comm_value(given.rank, given.transition + e) : 0.0f;
        }
    }
    gdncp_memory_free(state);
    return wrong;
}

static void end(comm_case_t *c)
{
    relay_op_t *const op = c->op;

    if (op != NULL) {
        gdncp_relay_destroy(op->relay);
        gdncp_relay_schedule_destroy(op->schedule);
        gdncp_memory_free(op->kept);
        gdncp_memory_free(op);
    }
}

/* variable is relay_ and the form's name */
#define RELAY_BENCHMARK(variable, words)                                                           \
    const comm_benchmark_t comm_bench_##variable = {.name = #variable,                             \
                                                    .about = words,                                \
                                                    .least_ranks = 2,                              \
                                                    .moves_a_run = 1,                              \
                                                    .is_f32 = true,                                \
                                                    .setup = setup,                                \
                                                    .run = run,                                    \
                                                    .check = check,                                \
                                                    .end = end}

RELAY_BENCHMARK(relay_owners, "states of segments, borders dealt out evenly");
RELAY_BENCHMARK(relay_all_gather, "the same, every rank for itself");
RELAY_BENCHMARK(relay_chain, "the same, from holder to holder");
