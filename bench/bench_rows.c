/* Benchmarks of the operators that look at one row at a time: gate, norms. Group "ops". */
#include "bench.h"
#include "gate_reference.h"
#include "gated_rmsnorm_reference.h"
#include "gdncp/ops.h"
#include "groups.h"
#include "l2norm_reference.h"
#include "tolerances.h"

#define EPS 1e-6f

/* They are bound by memory: their few operations an element are not counted. */
static double no_flop(const bench_shape_t *s)
{
    (void)s;
    return 0.0;
}

/* ---------------------------------------------------------------- gate */

typedef struct gate_op {
    gdncp_gate_t gate;
    gdncp_tensor_t g;
    gdncp_tensor_t beta;
    gdncp_tensor_t grad_g;
    gdncp_tensor_t grad_beta;
    gdncp_gate_grads_t grads;
} gate_op_t;

static gate_op_t *make_gate(bench_case_t *c)
{
    const int64_t rows[2] = {c->shape.tokens, c->shape.value_heads};
    const int64_t *const heads = &rows[1];
    gate_op_t *const op = bench_make_op(c, sizeof *op);

    if (op != NULL) {
        op->gate.a = bench_input(c, BENCH_NORMAL, c->dtype, 2, rows);
        op->gate.b = bench_input(c, BENCH_NORMAL, c->dtype, 2, rows);
        op->gate.A_log = bench_input(c, BENCH_UNIT, GDNCP_F32, 1, heads);
        op->gate.dt_bias = bench_input(c, BENCH_NORMAL, GDNCP_F32, 1, heads);
    }
    return op;
}

static void setup_gate_forward(bench_case_t *c)
{
    gate_op_t *const op = make_gate(c);

    if (op != NULL) {
        const int64_t *const rows = op->gate.a.shape;

        op->g = bench_output(c, "g", GDNCP_TOLERANCE_F32, GDNCP_F32, 2, rows);
        op->beta = bench_output(c, "beta", GDNCP_TOLERANCE_F32, GDNCP_F32, 2, rows);
    }
}

static gdncp_status_t run_gate_forward(bench_case_t *c)
{
    const gate_op_t *const op = c->op;

    return gdncp_gate_forward(&op->gate, &op->g, &op->beta, c->workspace);
}

static gdncp_gate_reference_t gate_reference(bench_case_t *c)
{
    const gdncp_gate_t *const gate = &((gate_op_t *)c->op)->gate;

    return (gdncp_gate_reference_t){
        .num_tokens = c->shape.tokens,
        .num_heads = c->shape.value_heads,
        .a = bench_values(c, &gate->a),
        .b = bench_values(c, &gate->b),
        .A_log = bench_values(c, &gate->A_log),
        .dt_bias = bench_values(c, &gate->dt_bias),
        .chunk_size = gate->chunk_size,
        .cu_seqlens = gate->cu_seqlens,
        .num_sequences = gate->num_sequences,
    };
}

static void check_gate_forward(bench_case_t *c)
{
    const gate_op_t *const op = c->op;
    const gdncp_gate_reference_t reference = gate_reference(c);
    double *const g = bench_like(c, &op->g);
    double *const beta = bench_like(c, &op->beta);

    if (c->status == GDNCP_OK) {
        gdncp_gate_reference_forward(&reference, g, beta);
    }
    bench_run(c);
    bench_compare(c, (const double *[]){g, beta});
}

static void setup_gate_backward(bench_case_t *c)
{
    gate_op_t *const op = make_gate(c);
    const double tolerance = bench_tolerance_gradient(c->dtype);

    if (op != NULL) {
        const int64_t *const rows = op->gate.a.shape;
        const int64_t *const heads = &rows[1];

        op->grad_g = bench_input(c, BENCH_NORMAL, GDNCP_F32, 2, rows);
        op->grad_beta = bench_input(c, BENCH_NORMAL, GDNCP_F32, 2, rows);
        op->grads.a = bench_output(c, "grad_a", tolerance, c->dtype, 2, rows);
        op->grads.b = bench_output(c, "grad_b", tolerance, c->dtype, 2, rows);
        op->grads.A_log =
            bench_output(c, "grad_A_log", GDNCP_TOLERANCE_F32_CANCELLING, GDNCP_F32, 1, heads);
        op->grads.dt_bias =
            bench_output(c, "grad_dt_bias", GDNCP_TOLERANCE_F32_CANCELLING, GDNCP_F32, 1, heads);
    }
}

static gdncp_status_t run_gate_backward(bench_case_t *c)
{
    const gate_op_t *const op = c->op;

    return gdncp_gate_backward(&op->gate, &op->grad_g, &op->grad_beta, &op->grads, c->workspace);
}

static void check_gate_backward(bench_case_t *c)
{
    const gate_op_t *const op = c->op;
    const gdncp_gate_reference_t reference = gate_reference(c);
    const double *const grad_g = bench_values(c, &op->grad_g);
    const double *const grad_beta = bench_values(c, &op->grad_beta);
    double *const a = bench_like(c, &op->grads.a);
    double *const b = bench_like(c, &op->grads.b);
    double *const A_log = bench_like(c, &op->grads.A_log);
    double *const dt_bias = bench_like(c, &op->grads.dt_bias);

    if (c->status == GDNCP_OK) {
        gdncp_gate_reference_backward(&reference, grad_g, grad_beta, a, b, A_log, dt_bias);
    }
    bench_run(c);
    bench_compare(c, (const double *[]){a, b, A_log, dt_bias});
}

/* Sums inside chunks, as the delta rule's take them. */
static void sum_chunks(bench_case_t *c)
{
    gate_op_t *const op = c->op;

    if (op != NULL) {
        op->gate.chunk_size = BENCH_CHUNK;
        op->gate.num_sequences = 1;
        bench_steps(c, 2, c->shape.tokens, &op->gate.cu_seqlens, &op->gate.cu_seqlens_cuda);
    }
}

static void setup_gate_sums_forward(bench_case_t *c)
{
    setup_gate_forward(c);
    sum_chunks(c);
}

static void setup_gate_sums_backward(bench_case_t *c)
{
    setup_gate_backward(c);
    sum_chunks(c);
}

const bench_benchmark_t bench_gate_forward = {
    .name = "gate_forward",
    .group = "ops",
    .sweep = BENCH_TOKENS,
    .setup = setup_gate_forward,
    .run = run_gate_forward,
    .check = check_gate_forward,
    .flop = no_flop,
};

const bench_benchmark_t bench_gate_backward = {
    .name = "gate_backward",
    .group = "ops",
    .sweep = BENCH_TOKENS,
    .setup = setup_gate_backward,
    .run = run_gate_backward,
    .check = check_gate_backward,
    .flop = no_flop,
};

const bench_benchmark_t bench_gate_sums_forward = {
    .name = "gate_sums_forward",
    .group = "ops",
    .sweep = BENCH_TOKENS,
    .setup = setup_gate_sums_forward,
    .run = run_gate_forward,
    .check = check_gate_forward,
    .flop = no_flop,
};

const bench_benchmark_t bench_gate_sums_backward = {
    .name = "gate_sums_backward",
    .group = "ops",
    .sweep = BENCH_TOKENS,
    .setup = setup_gate_sums_backward,
    .run = run_gate_backward,
    .check = check_gate_backward,
    .flop = no_flop,
};

/* -------------------------------------------------------------- l2norm */

typedef struct l2norm_op {
    gdncp_tensor_t x;
    gdncp_tensor_t y;
    gdncp_tensor_t grad_y;
    gdncp_tensor_t grad_x;
} l2norm_op_t;

static l2norm_op_t *make_l2norm(bench_case_t *c)
{
    const int64_t keys[3] = {c->shape.tokens, c->shape.key_heads, c->shape.key_dim};
    l2norm_op_t *const op = bench_make_op(c, sizeof *op);

    if (op != NULL) {
        op->x = bench_input(c, BENCH_NORMAL, c->dtype, 3, keys);
    }
    return op;
}

static void setup_l2norm_forward(bench_case_t *c)
{
    l2norm_op_t *const op = make_l2norm(c);

    if (op != NULL) {
        op->y = bench_output(c, "y", bench_tolerance(c->dtype), c->dtype, 3, op->x.shape);
    }
}

static gdncp_status_t run_l2norm_forward(bench_case_t *c)
{
    const l2norm_op_t *const op = c->op;

    return gdncp_l2norm_forward(&op->x, EPS, &op->y, c->workspace);
}

static void check_l2norm_forward(bench_case_t *c)
{
    const l2norm_op_t *const op = c->op;
    const double *const x = bench_values(c, &op->x);
    double *const y = bench_like(c, &op->y);

    if (c->status == GDNCP_OK) {
        gdncp_l2norm_reference_forward(c->shape.tokens * c->shape.key_heads, c->shape.key_dim,
                                       (double)EPS, x, y);
    }
    bench_run(c);
    bench_compare(c, (const double *[]){y});
}

static void setup_l2norm_backward(bench_case_t *c)
{
    l2norm_op_t *const op = make_l2norm(c);

    if (op != NULL) {
        op->grad_y = bench_input(c, BENCH_NORMAL, c->dtype, 3, op->x.shape);
        op->grad_x =
            bench_output(c, "grad_x", bench_tolerance_gradient(c->dtype), c->dtype, 3, op->x.shape);
    }
}

static gdncp_status_t run_l2norm_backward(bench_case_t *c)
{
    const l2norm_op_t *const op = c->op;

    return gdncp_l2norm_backward(&op->x, EPS, &op->grad_y, &op->grad_x, c->workspace);
}

static void check_l2norm_backward(bench_case_t *c)
{
    const l2norm_op_t *const op = c->op;
    const double *const x = bench_values(c, &op->x);
    const double *const grad_y = bench_values(c, &op->grad_y);
    double *const grad_x = bench_like(c, &op->grad_x);

    if (c->status == GDNCP_OK) {
        gdncp_l2norm_reference_backward(c->shape.tokens * c->shape.key_heads, c->shape.key_dim,
                                        (double)EPS, x, grad_y, grad_x);
    }
    bench_run(c);
    bench_compare(c, (const double *[]){grad_x});
}

const bench_benchmark_t bench_l2norm_forward = {
    .name = "l2norm_forward",
    .group = "ops",
    .sweep = BENCH_TOKENS,
    .setup = setup_l2norm_forward,
    .run = run_l2norm_forward,
    .check = check_l2norm_forward,
    .flop = no_flop,
};

const bench_benchmark_t bench_l2norm_backward = {
    .name = "l2norm_backward",
    .group = "ops",
    .sweep = BENCH_TOKENS,
    .setup = setup_l2norm_backward,
    .run = run_l2norm_backward,
    .check = check_l2norm_backward,
    .flop = no_flop,
};

/* ------------------------------------------------------- gated RMSNorm */

typedef struct rmsnorm_op {
    gdncp_gated_rmsnorm_t norm;
    gdncp_tensor_t y;
    gdncp_tensor_t grad_y;
    gdncp_gated_rmsnorm_grads_t grads;
} rmsnorm_op_t;

static rmsnorm_op_t *make_rmsnorm(bench_case_t *c)
{
    const int64_t values[3] = {c->shape.tokens, c->shape.value_heads, c->shape.value_dim};
    rmsnorm_op_t *const op = bench_make_op(c, sizeof *op);

    if (op != NULL) {
        op->norm.x = bench_input(c, BENCH_NORMAL, c->dtype, 3, values);
        op->norm.z = bench_input(c, BENCH_NORMAL, c->dtype, 3, values);
        op->norm.weight = bench_input(c, BENCH_UNIT, GDNCP_F32, 1, &values[2]);
        op->norm.eps = EPS;
    }
    return op;
}

static void setup_rmsnorm_forward(bench_case_t *c)
{
    rmsnorm_op_t *const op = make_rmsnorm(c);

    if (op != NULL) {
        op->y = bench_output(c, "y", bench_tolerance(c->dtype), c->dtype, 3, op->norm.x.shape);
    }
}

static gdncp_status_t run_rmsnorm_forward(bench_case_t *c)
{
    const rmsnorm_op_t *const op = c->op;

    return gdncp_gated_rmsnorm_forward(&op->norm, &op->y, c->workspace);
}

static gdncp_gated_rmsnorm_reference_t rmsnorm_reference(bench_case_t *c)
{
    const gdncp_gated_rmsnorm_t *const norm = &((rmsnorm_op_t *)c->op)->norm;

    return (gdncp_gated_rmsnorm_reference_t){
        .num_rows = c->shape.tokens * c->shape.value_heads,
        .d = c->shape.value_dim,
        .x = bench_values(c, &norm->x),
        .z = bench_values(c, &norm->z),
        .weight = bench_values(c, &norm->weight),
        .eps = (double)norm->eps,
        .gate_first = norm->gate_first,
    };
}

static void check_rmsnorm_forward(bench_case_t *c)
{
    const rmsnorm_op_t *const op = c->op;
    const gdncp_gated_rmsnorm_reference_t reference = rmsnorm_reference(c);
    double *const y = bench_like(c, &op->y);

    if (c->status == GDNCP_OK) {
        gdncp_gated_rmsnorm_reference_forward(&reference, y);
    }
    bench_run(c);
    bench_compare(c, (const double *[]){y});
}

static void setup_rmsnorm_backward(bench_case_t *c)
{
    rmsnorm_op_t *const op = make_rmsnorm(c);
    const double tolerance = bench_tolerance_gradient(c->dtype);

    if (op != NULL) {
        const int64_t *const values = op->norm.x.shape;

        op->grad_y = bench_input(c, BENCH_NORMAL, c->dtype, 3, values);
        op->grads.x = bench_output(c, "grad_x", tolerance, c->dtype, 3, values);
        op->grads.z = bench_output(c, "grad_z", tolerance, c->dtype, 3, values);
        op->grads.weight =
            bench_output(c, "grad_weight", GDNCP_TOLERANCE_F32, GDNCP_F32, 1, &values[2]);
    }
}

static gdncp_status_t run_rmsnorm_backward(bench_case_t *c)
{
    const rmsnorm_op_t *const op = c->op;

    return gdncp_gated_rmsnorm_backward(&op->norm, &op->grad_y, &op->grads, c->workspace);
}

static void check_rmsnorm_backward(bench_case_t *c)
{
    const rmsnorm_op_t *const op = c->op;
    const gdncp_gated_rmsnorm_reference_t reference = rmsnorm_reference(c);
    const double *const grad_y = bench_values(c, &op->grad_y);
    double *const x = bench_like(c, &op->grads.x);
    double *const z = bench_like(c, &op->grads.z);
    double *const weight = bench_like(c, &op->grads.weight);

    if (c->status == GDNCP_OK) {
        gdncp_gated_rmsnorm_reference_backward(&reference, grad_y, x, z, weight);
    }
    bench_run(c);
    bench_compare(c, (const double *[]){x, z, weight});
}

/* Mamba-2 gates before it normalises. */
static void gate_first(bench_case_t *c)
{
    rmsnorm_op_t *const op = c->op;

    if (op != NULL) {
        op->norm.gate_first = true;
    }
}

static void setup_mamba2_norm_forward(bench_case_t *c)
{
    setup_rmsnorm_forward(c);
    gate_first(c);
}

static void setup_mamba2_norm_backward(bench_case_t *c)
{
    setup_rmsnorm_backward(c);
    gate_first(c);
}

const bench_benchmark_t bench_gated_rmsnorm_forward = {
    .name = "gated_rmsnorm_forward",
    .group = "ops",
    .sweep = BENCH_TOKENS,
    .setup = setup_rmsnorm_forward,
    .run = run_rmsnorm_forward,
    .check = check_rmsnorm_forward,
    .flop = no_flop,
};

const bench_benchmark_t bench_gated_rmsnorm_backward = {
    .name = "gated_rmsnorm_backward",
    .group = "ops",
    .sweep = BENCH_TOKENS,
    .setup = setup_rmsnorm_backward,
    .run = run_rmsnorm_backward,
    .check = check_rmsnorm_backward,
    .flop = no_flop,
};

const bench_benchmark_t bench_mamba2_norm_forward = {
    .name = "mamba2_norm_forward",
    .group = "ops",
    .sweep = BENCH_TOKENS,
    .setup = setup_mamba2_norm_forward,
    .run = run_rmsnorm_forward,
    .check = check_rmsnorm_forward,
    .flop = no_flop,
};

const bench_benchmark_t bench_mamba2_norm_backward = {
    .name = "mamba2_norm_backward",
    .group = "ops",
    .sweep = BENCH_TOKENS,
    .setup = setup_mamba2_norm_backward,
    .run = run_rmsnorm_backward,
    .check = check_rmsnorm_backward,
    .flop = no_flop,
};
