/* Exchanges of every kind of plan, and of their transposes. */
#include "comm_plans.h"

#include <string.h>

#include "comm_groups.h"
#include "error.h"
#include "gdncp/exchange.h"
#include "gdncp/memory.h"
#include "plan_internal.h"

enum { HALO = 3 }; /* tokens before a segment that a convolution over 4 needs */

typedef struct plan_op {
    gdncp_plan_t *plan;
    gdncp_exchange_t *exchange;
} plan_op_t;

/* Channels [first_channel(rank), first_channel(rank + 1)) are a rank's, once it has all tokens. */
static int64_t first_channel(const comm_case_t *c, int rank)
{
    return rank * c->shape.channels / c->size;
}

static int64_t num_channels(const comm_case_t *c, int rank)
{
    return first_channel(c, rank + 1) - first_channel(c, rank);
}

/* ------------------------------------------------------------------ cp2hp, hp2cp */

gdncp_status_t comm_plan_cp2hp(const comm_case_t *c, gdncp_plan_t **plan_p)
{
    const gdncp_section_t section = {.kind = GDNCP_VALUE_HEADS, .head_dim = 1};

    return gdncp_plan_cp2hp(c->layout, c->rank, c->shape.dtype, 1, c->shape.channels, &section, 1,
                            c->shape.channels, plan_p);
}

static int64_t count_tokens(const comm_case_t *c, int rank)
{
    (void)rank;
    return c->shape.tokens;
}

static comm_run_t cp2hp_run(const comm_case_t *c, int rank, int64_t t)
{
    const int64_t width = num_channels(c, rank);

    return (comm_run_t){.offset = t * width,
                        .elements = width,
                        .source = c->holder_of[t],
                        .source_offset =
                            c->place_of[t] * c->shape.channels + first_channel(c, rank)};
}

const comm_kind_t comm_kind_cp2hp = {comm_plan_cp2hp, count_tokens, cp2hp_run};

static gdncp_status_t plan_hp2cp(const comm_case_t *c, gdncp_plan_t **plan_p)
{
    const gdncp_section_t section = {.kind = GDNCP_VALUE_HEADS, .head_dim = 1};

    return gdncp_plan_hp2cp(c->layout, c->rank, c->shape.dtype, 1, c->shape.channels, &section, 1,
                            c->shape.channels, plan_p);
}

/* A token's channels from each rank; none of the tokens that are another's. */
static int64_t count_pieces(const comm_case_t *c, int rank)
{
    (void)rank;
    return c->shape.tokens * c->size;
}

static comm_run_t hp2cp_run(const comm_case_t *c, int rank, int64_t index)
{
    const int64_t t = index / c->size;
    const int source = (int)(index % c->size);

    return (comm_run_t){
        .offset = c->place_of[t] * c->shape.channels + first_channel(c, source),
        .elements = c->holder_of[t] == rank ? num_channels(c, source) : 0,
        .source = source,
        .source_offset = t * num_channels(c, source),
    };
}

static const comm_kind_t kind_hp2cp = {plan_hp2cp, count_pieces, hp2cp_run};

/* ------------------------------------------------------------------ relayout */

static gdncp_status_t plan_relayout(const comm_case_t *c, gdncp_plan_t **plan_p)
{
    return gdncp_plan_relayout(c->layout, c->contiguous, c->rank, c->shape.dtype, c->shape.channels,
                               plan_p);
}

static int64_t count_contiguous(const comm_case_t *c, int rank)
{
    return gdncp_layout_rank_tokens(c->contiguous, rank);
}

static comm_run_t relayout_run(const comm_case_t *c, int rank, int64_t i)
{
    int64_t count;
    const int64_t t = gdncp_layout_rank_segments(c->contiguous, rank, &count)->begin + i;

    return (comm_run_t){.offset = i * c->shape.channels,
                        .elements = c->shape.channels,
                        .source = c->holder_of[t],
                        .source_offset = c->place_of[t] * c->shape.channels};
}

static const comm_kind_t kind_relayout = {plan_relayout, count_contiguous, relayout_run};

/* ------------------------------------------------------------------ all-gather */

static gdncp_status_t plan_all_gather(const comm_case_t *c, gdncp_plan_t **plan_p)
{
    int64_t *const lengths = gdncp_memory_alloc((size_t)c->size * sizeof *lengths);

    if (lengths == NULL) {
        return gdncp_fail_memory("the lengths of shards");
    }
    for (int rank = 0; rank < c->size; rank++) {
        lengths[rank] = gdncp_layout_rank_tokens(c->contiguous, rank);
    }
    const gdncp_status_t status = gdncp_plan_all_gather_concat(c->size, c->rank, c->shape.dtype, 1,
                                                               lengths, c->shape.channels, plan_p);

    gdncp_memory_free(lengths);
    return status;
}

static int64_t count_ranks(const comm_case_t *c, int rank)
{
    (void)rank;
    return c->size;
}

static comm_run_t all_gather_run(const comm_case_t *c, int rank, int64_t source)
{
    int64_t count;
    const gdncp_segment_t *const segment =
        gdncp_layout_rank_segments(c->contiguous, (int)source, &count);

    (void)rank;
    return (comm_run_t){.offset = segment->begin * c->shape.channels,
                        .elements = segment->length * c->shape.channels,
                        .source = (int)source};
}

static const comm_kind_t kind_all_gather = {plan_all_gather, count_ranks, all_gather_run};

/* ------------------------------------------------------------------ halo */

static gdncp_status_t plan_conv_halo(const comm_case_t *c, gdncp_plan_t **plan_p)
{
    return gdncp_plan_conv_halo(c->layout, c->rank, c->shape.dtype, c->shape.channels,
                                c->shape.channels, HALO, plan_p);
}

static int64_t count_halo_rows(const comm_case_t *c, int rank)
{
    int64_t count;

    (void)gdncp_layout_rank_segments(c->layout, rank, &count);
    return count * HALO;
}

static comm_run_t conv_halo_run(const comm_case_t *c, int rank, int64_t index)
{
    int64_t count;
    const gdncp_segment_t *const segments = gdncp_layout_rank_segments(c->layout, rank, &count);
    const int64_t t = segments[index / HALO].begin - HALO + index % HALO;

    return (comm_run_t){.offset = index * c->shape.channels,
                        .elements = c->shape.channels,
                        .source = t < 0 ? -1 : c->holder_of[t],
                        .source_offset = t < 0 ? 0 : c->place_of[t] * c->shape.channels};
}

static const comm_kind_t kind_conv_halo = {plan_conv_halo, count_halo_rows, conv_halo_run};

/* ------------------------------------------------------------------ checks */

int64_t comm_check_runs(const comm_case_t *c, const comm_kind_t *kind, bool received_only)
{
    int64_t wrong = 0;

    for (int64_t i = 0; i < kind->num_runs(c, c->rank); i++) {
        const comm_run_t run = kind->run(c, c->rank, i);

        if (!received_only || run.source != c->rank) {
            wrong += comm_count_wrong(c, &run);
        }
    }
    return wrong;
}

/* Every element of every rank that was made of one of this rank's comes back to it. */
static int64_t check_transpose(comm_case_t *c, const comm_kind_t *kind)
{
    const int64_t elements = c->out_bytes / (int64_t)gdncp_dtype_size(c->shape.dtype);
    float *const sums = comm_alloc(c, elements, (int64_t)sizeof *sums);
    int64_t wrong = 0;

    if (sums == NULL) {
        return 0;
    }
    for (int rank = 0; rank < c->size; rank++) {
        for (int64_t i = 0; i < kind->num_runs(c, rank); i++) {
            const comm_run_t run = kind->run(c, rank, i);

            for (int64_t e = 0; e < run.elements && run.source == c->rank; e++) {
                sums[run.source_offset + e] += (float)comm_value(rank, run.offset + e);
            }
        }
    }
    for (int64_t e = 0; e < elements; e++) {
        wrong += !comm_is(c->shape.dtype, c->out, e, sums[e]);
    }
    gdncp_memory_free(sums);
    return wrong;
}

/* ------------------------------------------------------------------ benchmarks */

static void transpose(comm_case_t *c, plan_op_t *op)
{
    gdncp_plan_t *transposed = NULL;

    comm_keep(c, gdncp_plan_transpose(op->plan, GDNCP_PLAN_ASSIGN, &transposed));
    gdncp_plan_destroy(op->plan);
    op->plan = transposed;
}

void comm_make_plan_buffers(comm_case_t *c, const gdncp_plan_t *plan)
{
    const int64_t size = (int64_t)gdncp_dtype_size(plan->dtype);

    comm_make_buffers(c, plan->input_elements, plan->output_elements);
    c->sent_bytes = gdncp_plan_bytes_sent(plan);
    c->least_bytes = c->out_bytes;
    for (int peer = 0; peer < plan->num_ranks; peer++) {
        c->least_bytes += plan->recvs[peer].elements * size;
    }
}

static void setup(comm_case_t *c)
{
    const comm_benchmark_t *const benchmark = c->benchmark;
    plan_op_t *const op = c->op = comm_alloc(c, 1, (int64_t)sizeof *op);

    if (op != NULL) {
        comm_keep(c, benchmark->kind->plan(c, &op->plan));
    }
    if (c->status == GDNCP_OK && benchmark->transposed) {
        transpose(c, op);
    }
    if (c->status == GDNCP_OK) {
        comm_make_plan_buffers(c, op->plan);
    }
    if (op != NULL) {
        /* All ranks get here or none: a plan that could not be made is NULL, and fails on all. */
        comm_keep(c, gdncp_exchange_create(c->comm, c->status == GDNCP_OK ? op->plan : NULL,
                                           &op->exchange));
    }
}

static gdncp_status_t run(comm_case_t *c)
{
    const plan_op_t *const op = c->op;

    return gdncp_exchange_run(op->exchange, c->in, c->out, NULL);
}

static int64_t check(comm_case_t *c)
{
    const comm_benchmark_t *const benchmark = c->benchmark;

    return benchmark->transposed ? check_transpose(c, benchmark->kind)
                                 : comm_check_runs(c, benchmark->kind, false);
}

static void end(comm_case_t *c)
{
    plan_op_t *const op = c->op;

    if (op != NULL) {
        gdncp_exchange_destroy(op->exchange);
        gdncp_plan_destroy(op->plan);
        gdncp_memory_free(op);
    }
}

#define PLAN_BENCHMARK(variable, words, kind_p, is_transposed)                                     \
    const comm_benchmark_t comm_bench_##variable = {.name = #variable,                             \
                                                    .about = words,                                \
                                                    .least_ranks = 1,                              \
                                                    .moves_a_run = 1,                              \
                                                    .setup = setup,                                \
                                                    .run = run,                                    \
                                                    .check = check,                                \
                                                    .end = end,                                    \
                                                    .kind = (kind_p),                              \
                                                    .transposed = (is_transposed)}

PLAN_BENCHMARK(cp2hp, "my tokens, all channels -> all tokens, my channels", &comm_kind_cp2hp,
               false);
PLAN_BENCHMARK(cp2hp_transpose, "its backward", &comm_kind_cp2hp, true);
PLAN_BENCHMARK(hp2cp, "the way back", &kind_hp2cp, false);
PLAN_BENCHMARK(hp2cp_transpose, "its backward", &kind_hp2cp, true);
PLAN_BENCHMARK(relayout, "dual_chunk_swap -> contiguous", &kind_relayout, false);
PLAN_BENCHMARK(relayout_transpose, "its backward", &kind_relayout, true);
PLAN_BENCHMARK(all_gather, "all tokens on every rank", &kind_all_gather, false);
PLAN_BENCHMARK(all_gather_transpose, "its backward: sums over ranks", &kind_all_gather, true);
PLAN_BENCHMARK(conv_halo, "the 3 tokens before each segment", &kind_conv_halo, false);
PLAN_BENCHMARK(conv_halo_transpose, "its backward", &kind_conv_halo, true);
