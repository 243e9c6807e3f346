/* Benchmarks of decoding, one new token of each of a batch of sequences: group "decode". */
#include "bench.h"
#include "conv1d_update_reference.h"
#include "gdncp/ops.h"
#include "gdncp/ops_decode.h"
#include "groups.h"
#include "recurrent_step_reference.h"
#include "tolerances.h"

/* Sequence n has slot n. */
static gdncp_tensor_t make_slots(bench_case_t *c, const int64_t **slots_p)
{
    const int64_t *on_device = NULL;
    const int64_t count = c->shape.batch;

    bench_steps(c, count, 1, slots_p, &on_device);
    gdncp_tensor_t slots = gdncp_tensor_contiguous(
        (void *)(on_device != NULL ? on_device : *slots_p), GDNCP_I64, 1, &count);

    slots.device = c->device;
    return slots;
}

/* ------------------------------------------------------ recurrent step */

typedef struct step_op {
    gdncp_recurrent_step_t step;
    gdncp_tensor_t o;
    const int64_t *slots; /* on the host */
} step_op_t;

/* S'k, k u', S'q for each token. */
static double step_flop(const bench_shape_t *s)
{
    return 6.0 * (double)s->key_dim * (double)s->value_dim * (double)s->value_heads *
           (double)s->batch;
}

static void setup_step(bench_case_t *c)
{
    const bench_shape_t *const s = &c->shape;
    const int64_t keys[3] = {s->batch, s->key_heads, s->key_dim};
    const int64_t values[3] = {s->batch, s->value_heads, s->value_dim};
    const int64_t states[4] = {s->batch, s->value_heads, s->key_dim, s->value_dim};
    step_op_t *const op = bench_make_op(c, sizeof *op);
    const double tolerance = bench_tolerance(c->dtype);

    if (op == NULL) {
        return;
    }
    op->step.q = bench_input(c, BENCH_NORMAL, c->dtype, 3, keys);
    op->step.k = bench_input(c, BENCH_NORMAL, c->dtype, 3, keys);
    op->step.v = bench_input(c, BENCH_NORMAL, c->dtype, 3, values);
    op->step.g = bench_input(c, BENCH_LOG_GATE, GDNCP_F32, 2, values);
    op->step.beta = bench_input(c, BENCH_UNIT, GDNCP_F32, 2, values);
    op->step.slots = make_slots(c, &op->slots);
    op->step.num_sequences = s->batch;
    op->step.qk_l2norm = true;
    bench_steps(c, s->batch + 1, 1, &op->step.cu_seqlens, &op->step.cu_seqlens_cuda);
    op->o = bench_output(c, "o", tolerance, c->dtype, 3, values);
    op->step.states = bench_in_out(c, "states", GDNCP_TOLERANCE_F32, GDNCP_F32, 4, states);
}

static gdncp_status_t run_step(bench_case_t *c)
{
    const step_op_t *const op = c->op;

    return gdncp_recurrent_step(&op->step, &op->o, c->workspace);
}

static void check_step(bench_case_t *c)
{
    const step_op_t *const op = c->op;
    const gdncp_recurrent_step_t *const step = &op->step;
    const gdncp_recurrent_step_reference_t reference = {
        .rule =
            {
                .q = bench_values(c, &step->q),
                .k = bench_values(c, &step->k),
                .v = bench_values(c, &step->v),
                .g = bench_values(c, &step->g),
                .beta = bench_values(c, &step->beta),
                .cu_seqlens = step->cu_seqlens,
                .num_sequences = step->num_sequences,
                .num_key_heads = c->shape.key_heads,
                .num_value_heads = c->shape.value_heads,
                .key_dim = c->shape.key_dim,
                .value_dim = c->shape.value_dim,
                .qk_l2norm = true,
            },
        .states = bench_values(c, &step->states),
        .slots = op->slots,
    };
    double *const o = bench_like(c, &op->o);

    if (c->status == GDNCP_OK) {
        c->status = gdncp_recurrent_step_reference(&reference, o);
    }
    bench_run(c);
    bench_compare(c, (const double *[]){o, reference.states});
}

const bench_benchmark_t bench_recurrent_step = {
    .name = "recurrent_step",
    .group = "decode",
    .sweep = BENCH_BATCH,
    .setup = setup_step,
    .run = run_step,
    .check = check_step,
    .flop = step_flop,
};

/* ------------------------------------------------------- conv1d update */

typedef struct update_op {
    gdncp_conv1d_update_t update;
    gdncp_tensor_t y;
    const int64_t *slots; /* on the host */
} update_op_t;

static double update_flop(const bench_shape_t *s)
{
    return 2.0 * BENCH_CONV_WIDTH * (double)bench_channels(s) * (double)s->batch;
}

static void setup_update(bench_case_t *c)
{
    const int64_t rows[2] = {c->shape.batch, bench_channels(&c->shape)};
    const int64_t weight[2] = {rows[1], BENCH_CONV_WIDTH};
    const int64_t states[3] = {rows[0], BENCH_CONV_WIDTH - 1, rows[1]};
    update_op_t *const op = bench_make_op(c, sizeof *op);

    if (op == NULL) {
        return;
    }
    op->update.x = bench_input(c, BENCH_NORMAL, c->dtype, 2, rows);
    op->update.weight = bench_input(c, BENCH_NORMAL, GDNCP_F32, 2, weight);
    op->update.slots = make_slots(c, &op->slots);
    op->update.num_sequences = rows[0];
    op->update.activation = GDNCP_ACTIVATION_SILU;
    bench_steps(c, rows[0] + 1, 1, &op->update.cu_seqlens, &op->update.cu_seqlens_cuda);
    op->y = bench_output(c, "y", bench_tolerance(c->dtype), c->dtype, 2, rows);
    op->update.states = bench_in_out(c, "states", bench_tolerance(c->dtype), c->dtype, 3, states);
}

static gdncp_status_t run_update(bench_case_t *c)
{
    const update_op_t *const op = c->op;

    return gdncp_conv1d_update(&op->update, &op->y, c->workspace);
}

static void check_update(bench_case_t *c)
{
    const update_op_t *const op = c->op;
    const gdncp_conv1d_update_t *const update = &op->update;
    const gdncp_conv1d_update_reference_t reference = {
        .conv =
            {
                .channels = update->x.shape[1],
                .width = BENCH_CONV_WIDTH,
                .x = bench_values(c, &update->x),
                .weight = bench_values(c, &update->weight),
                .cu_seqlens = update->cu_seqlens,
                .num_sequences = update->num_sequences,
                .silu = true,
            },
        .states = bench_values(c, &update->states),
        .slot_rows = BENCH_CONV_WIDTH - 1,
        .slots = op->slots,
    };
    double *const y = bench_like(c, &op->y);

    if (c->status == GDNCP_OK) {
        c->status = gdncp_conv1d_update_reference(&reference, y);
    }
    bench_run(c);
    bench_compare(c, (const double *[]){y, reference.states});
}

const bench_benchmark_t bench_conv1d_update = {
    .name = "conv1d_update",
    .group = "decode",
    .sweep = BENCH_BATCH,
    .setup = setup_update,
    .run = run_update,
    .check = check_update,
    .flop = update_flop,
};
