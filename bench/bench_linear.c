/* Benchmarks of the projection from hidden states to all that the layer needs: group "ops". */
#include "bench.h"
#include "gdncp/ops.h"
#include "groups.h"
#include "linear_reference.h"
#include "tolerances.h"

typedef struct linear_op {
    gdncp_tensor_t x;      /* [T, hidden] */
    gdncp_tensor_t weight; /* [outputs, hidden] */
    gdncp_tensor_t grad_y; /* [T, outputs] */
    gdncp_tensor_t out;    /* what the direction writes */
} linear_op_t;

static double linear_flop(const bench_shape_t *s)
{
    return 2.0 * (double)s->tokens * (double)s->hidden * (double)bench_projections(s);
}

static void setup_forward(bench_case_t *c)
{
    const int64_t x[2] = {c->shape.tokens, c->shape.hidden};
    const int64_t weight[2] = {bench_projections(&c->shape), c->shape.hidden};
    const int64_t y[2] = {x[0], weight[0]};
    linear_op_t *const op = bench_make_op(c, sizeof *op);

    if (op != NULL) {
        op->x = bench_input(c, BENCH_NORMAL, c->dtype, 2, x);
        op->weight = bench_input(c, BENCH_SMALL, c->dtype, 2, weight);
        op->out = bench_output(c, "y", bench_tolerance(c->dtype), c->dtype, 2, y);
    }
}

static void setup_backward_data(bench_case_t *c)
{
    const int64_t weight[2] = {bench_projections(&c->shape), c->shape.hidden};
    const int64_t y[2] = {c->shape.tokens, weight[0]};
    const int64_t x[2] = {c->shape.tokens, c->shape.hidden};
    linear_op_t *const op = bench_make_op(c, sizeof *op);

    if (op != NULL) {
        op->weight = bench_input(c, BENCH_SMALL, c->dtype, 2, weight);
        op->grad_y = bench_input(c, BENCH_NORMAL, c->dtype, 2, y);
        op->out = bench_output(c, "grad_x", bench_tolerance_gradient(c->dtype), c->dtype, 2, x);
    }
}

static void setup_backward_weight(bench_case_t *c)
{
    const int64_t x[2] = {c->shape.tokens, c->shape.hidden};
    const int64_t weight[2] = {bench_projections(&c->shape), c->shape.hidden};
    const int64_t y[2] = {x[0], weight[0]};
    linear_op_t *const op = bench_make_op(c, sizeof *op);

    if (op != NULL) {
        op->x = bench_input(c, BENCH_NORMAL, c->dtype, 2, x);
        op->grad_y = bench_input(c, BENCH_NORMAL, c->dtype, 2, y);
        op->out = bench_output(c, "grad_weight", GDNCP_TOLERANCE_F32, GDNCP_F32, 2, weight);
    }
}

static gdncp_status_t run_forward(bench_case_t *c)
{
    const linear_op_t *const op = c->op;

    return gdncp_linear_forward(&op->x, &op->weight, &op->out, c->workspace);
}

static gdncp_status_t run_backward_data(bench_case_t *c)
{
    const linear_op_t *const op = c->op;

    return gdncp_linear_backward_data(&op->grad_y, &op->weight, false, &op->out, c->workspace);
}

static gdncp_status_t run_backward_weight(bench_case_t *c)
{
    const linear_op_t *const op = c->op;

    return gdncp_linear_backward_weight(&op->grad_y, &op->x, &op->out, c->workspace);
}

static gdncp_linear_reference_t reference_of(bench_case_t *c, const double *x, const double *weight)
{
    return (gdncp_linear_reference_t){
        .num_tokens = c->shape.tokens,
        .inputs = c->shape.hidden,
        .outputs = bench_projections(&c->shape),
        .x = x,
        .weight = weight,
    };
}

static void check_forward(bench_case_t *c)
{
    const linear_op_t *const op = c->op;
    const gdncp_linear_reference_t reference =
        reference_of(c, bench_values(c, &op->x), bench_values(c, &op->weight));
    double *const y = bench_like(c, &op->out);

    if (c->status == GDNCP_OK) {
        gdncp_linear_reference_forward(&reference, y);
    }
    bench_run(c);
    bench_compare(c, (const double *[]){y});
}

/* Both gradients are of sums of products, so each takes zeros for what it does not depend on. */
static void check_backward(bench_case_t *c)
{
    const linear_op_t *const op = c->op;
    const bool of_data = op->x.data == NULL;
    const int64_t num_x = c->shape.tokens * c->shape.hidden;
    const int64_t num_weight = bench_projections(&c->shape) * c->shape.hidden;
    double *const zeros = bench_alloc(c, of_data ? num_x : num_weight, (int64_t)sizeof *zeros);
    const gdncp_linear_reference_t reference =
        reference_of(c, of_data ? zeros : bench_values(c, &op->x),
                     of_data ? bench_values(c, &op->weight) : zeros);
    const double *const grad_y = bench_values(c, &op->grad_y);
    double *const grad_x = bench_alloc(c, num_x, (int64_t)sizeof *grad_x);
    double *const grad_weight = bench_alloc(c, num_weight, (int64_t)sizeof *grad_weight);

    if (c->status == GDNCP_OK) {
        gdncp_linear_reference_backward(&reference, grad_y, grad_x, grad_weight);
    }
    bench_run(c);
    bench_compare(c, (const double *[]){of_data ? grad_x : grad_weight});
}

const bench_benchmark_t bench_linear_forward = {
    .name = "linear_forward",
    .group = "ops",
    .sweep = BENCH_TOKENS,
    .setup = setup_forward,
    .run = run_forward,
    .check = check_forward,
    .flop = linear_flop,
};

const bench_benchmark_t bench_linear_backward_data = {
    .name = "linear_backward_data",
    .group = "ops",
    .sweep = BENCH_TOKENS,
    .setup = setup_backward_data,
    .run = run_backward_data,
    .check = check_backward,
    .flop = linear_flop,
};

const bench_benchmark_t bench_linear_backward_weight = {
    .name = "linear_backward_weight",
    .group = "ops",
    .sweep = BENCH_TOKENS,
    .setup = setup_backward_weight,
    .run = run_backward_weight,
    .check = check_backward,
    .flop = linear_flop,
};
