/* Benchmarks of the convolution with SiLU over query, key and value channels: group "ops". */
#include "bench.h"
#include "conv1d_reference.h"
#include "gdncp/ops.h"
#include "groups.h"
#include "tolerances.h"

typedef struct conv1d_op {
    gdncp_conv1d_t conv;
    gdncp_tensor_t y;
    gdncp_tensor_t grad_y;
    gdncp_conv1d_grads_t grads;
} conv1d_op_t;

static double forward_flop(const bench_shape_t *s)
{
    return 2.0 * BENCH_CONV_WIDTH * (double)bench_channels(s) * (double)s->tokens;
}

/* Again forward, for the activation; x and weight. */
static double backward_flop(const bench_shape_t *s)
{
    return 3.0 * forward_flop(s);
}

static conv1d_op_t *make_conv(bench_case_t *c)
{
    const int64_t rows[2] = {c->shape.tokens, bench_channels(&c->shape)};
    const int64_t weight[2] = {rows[1], BENCH_CONV_WIDTH};
    conv1d_op_t *const op = bench_make_op(c, sizeof *op);

    if (op != NULL) {
        op->conv.x = bench_input(c, BENCH_NORMAL, c->dtype, 2, rows);
        op->conv.weight = bench_input(c, BENCH_NORMAL, GDNCP_F32, 2, weight);
        op->conv.num_sequences = 1;
        op->conv.activation = GDNCP_ACTIVATION_SILU;
        bench_steps(c, 2, c->shape.tokens, &op->conv.cu_seqlens, &op->conv.cu_seqlens_cuda);
    }
    return op;
}

static void setup_forward(bench_case_t *c)
{
    conv1d_op_t *const op = make_conv(c);

    if (op != NULL) {
        op->y = bench_output(c, "y", bench_tolerance(c->dtype), c->dtype, 2, op->conv.x.shape);
    }
}

static gdncp_status_t run_forward(bench_case_t *c)
{
    const conv1d_op_t *const op = c->op;

    return gdncp_conv1d_forward(&op->conv, &op->y, NULL, c->workspace);
}

static gdncp_conv1d_reference_t reference_of(bench_case_t *c)
{
    const gdncp_conv1d_t *const conv = &((conv1d_op_t *)c->op)->conv;

    return (gdncp_conv1d_reference_t){
        .channels = conv->x.shape[1],
        .width = BENCH_CONV_WIDTH,
        .x = bench_values(c, &conv->x),
        .weight = bench_values(c, &conv->weight),
        .cu_seqlens = conv->cu_seqlens,
        .num_sequences = 1,
        .silu = true,
    };
}

static void check_forward(bench_case_t *c)
{
    const conv1d_op_t *const op = c->op;
    const gdncp_conv1d_reference_t reference = reference_of(c);
    double *const y = bench_like(c, &op->y);

    if (c->status == GDNCP_OK) {
        gdncp_conv1d_reference_forward(&reference, y, NULL);
    }
    bench_run(c);
    bench_compare(c, (const double *[]){y});
}

static void setup_backward(bench_case_t *c)
{
    conv1d_op_t *const op = make_conv(c);
    const double tolerance = bench_tolerance_gradient(c->dtype);

    if (op != NULL) {
        const int64_t *const rows = op->conv.x.shape;

        op->grad_y = bench_input(c, BENCH_NORMAL, c->dtype, 2, rows);
        op->grads.x = bench_output(c, "grad_x", tolerance, c->dtype, 2, rows);
        op->grads.weight = bench_output(c, "grad_weight", GDNCP_TOLERANCE_F32, GDNCP_F32, 2,
                                        op->conv.weight.shape);
    }
}

static gdncp_status_t run_backward(bench_case_t *c)
{
    const conv1d_op_t *const op = c->op;

    return gdncp_conv1d_backward(&op->conv, &op->grad_y, &op->grads, c->workspace);
}

static void check_backward(bench_case_t *c)
{
    const conv1d_op_t *const op = c->op;
    const gdncp_conv1d_reference_t reference = reference_of(c);
    const double *const grad_y = bench_values(c, &op->grad_y);
    double *const x = bench_like(c, &op->grads.x);
    double *const weight = bench_like(c, &op->grads.weight);

    if (c->status == GDNCP_OK) {
        gdncp_conv1d_reference_backward(&reference, grad_y, x, weight, NULL, NULL);
    }
    bench_run(c);
    bench_compare(c, (const double *[]){x, weight});
}

const bench_benchmark_t bench_conv1d_forward = {
    .name = "conv1d_forward",
    .group = "ops",
    .sweep = BENCH_TOKENS,
    .setup = setup_forward,
    .run = run_forward,
    .check = check_forward,
    .flop = forward_flop,
};

const bench_benchmark_t bench_conv1d_backward = {
    .name = "conv1d_backward",
    .group = "ops",
    .sweep = BENCH_TOKENS,
    .setup = setup_backward,
    .run = run_backward,
    .check = check_backward,
    .flop = backward_flop,
};
