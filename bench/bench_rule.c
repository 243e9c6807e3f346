/* Benchmarks of the gated delta rule on one sequence: group "rule". */
#include "bench.h"
#include "delta_rule_reference.h"
#include "gdncp/ops.h"
#include "groups.h"
#include "tolerances.h"

/* Of chunks of BENCH_CHUNK tokens, as gdn/ops/delta_rule/README.md has them: each product counted
 * once, as a full tile; K K' and Q K' once a key head. A multiply and an add are two. */
static double pair_products(const bench_shape_t *s, double products)
{
    return products * 2.0 * BENCH_CHUNK * (double)s->key_dim * (double)s->key_heads *
           (double)s->tokens;
}

static double per_value_head(const bench_shape_t *s, double with_states, double with_keys,
                             double with_values)
{
    const double dk = (double)s->key_dim;
    const double dv = (double)s->value_dim;
    const double inverse = 2.0 / 3.0 * BENCH_CHUNK * BENCH_CHUNK;

    return (with_states * 2.0 * dk * dv + with_keys * 2.0 * BENCH_CHUNK * dk +
            with_values * 2.0 * BENCH_CHUNK * dv + inverse) *
           (double)s->value_heads * (double)s->tokens;
}

/* K S, Q S, K'U; T Y, P U. */
static double forward_flop(const bench_shape_t *s)
{
    return pair_products(s, 2.0) + per_value_head(s, 3.0, 0.0, 2.0);
}

/* Again K S, K'U, T Y; K dS, dO S', dR S', U dS', Q'dO, K'dR; E K, E'Q, (F + F')K; P'dO, T'dU,
 * dO U', dR U'. */
static double backward_flop(const bench_shape_t *s)
{
    return pair_products(s, 2.0) + per_value_head(s, 8.0, 3.0, 5.0);
}

static double training_flop(const bench_shape_t *s)
{
    return forward_flop(s) + backward_flop(s);
}

/* The state [M | U] has dk + dv columns: K S, K'U; T Y. */
static double summary_flop(const bench_shape_t *s)
{
    bench_shape_t wide = *s;

    wide.value_dim = s->key_dim + s->value_dim;
    return pair_products(s, 1.0) + per_value_head(&wide, 2.0, 0.0, 1.0);
}

/* A chain of a sequence that 4 ranks have in 8 segments, for each value head. */
enum { MERGE_STEPS = 7 };

static double merge_flop(const bench_shape_t *s)
{
    return 2.0 * (MERGE_STEPS - 1) * (double)s->value_heads * (double)s->key_dim *
           (double)s->key_dim * (double)s->value_dim;
}

typedef struct rule_op {
    gdncp_delta_rule_t rule;
    gdncp_tensor_t o;
    gdncp_tensor_t grad_o;
    gdncp_delta_rule_grads_t grads;
    gdncp_tensor_t transition;
    gdncp_tensor_t contribution;
} rule_op_t;

/* q [T, Hk, dk], k, v [T, Hv, dv], g [T, Hv], beta. */
static rule_op_t *make_rule(bench_case_t *c)
{
    const bench_shape_t *const s = &c->shape;
    const int64_t keys[3] = {s->tokens, s->key_heads, s->key_dim};
    const int64_t values[3] = {s->tokens, s->value_heads, s->value_dim};
    rule_op_t *const op = bench_make_op(c, sizeof *op);

    if (op == NULL) {
        return NULL;
    }
    op->rule.q = bench_input(c, BENCH_NORMAL, c->dtype, 3, keys);
    op->rule.k = bench_input(c, BENCH_NORMAL, c->dtype, 3, keys);
    op->rule.v = bench_input(c, BENCH_NORMAL, c->dtype, 3, values);
    op->rule.g = bench_input(c, BENCH_LOG_GATE, GDNCP_F32, 2, values);
    op->rule.beta = bench_input(c, BENCH_UNIT, GDNCP_F32, 2, values);
    op->rule.num_sequences = 1;
    op->rule.qk_l2norm = true;
    bench_steps(c, 2, s->tokens, &op->rule.cu_seqlens, &op->rule.cu_seqlens_cuda);
    return op;
}

static void make_outputs(bench_case_t *c)
{
    rule_op_t *const op = c->op;

    op->o = bench_output(c, "o", bench_tolerance(c->dtype), c->dtype, 3, op->rule.v.shape);
}

static void setup_forward(bench_case_t *c)
{
    if (make_rule(c) != NULL) {
        make_outputs(c);
    }
}

static gdncp_status_t run_forward(bench_case_t *c)
{
    const rule_op_t *const op = c->op;

    return gdncp_delta_rule_forward(&op->rule, &op->o, NULL, c->workspace);
}

static gdncp_delta_rule_reference_t reference_of(bench_case_t *c)
{
    const gdncp_delta_rule_t *const rule = &((rule_op_t *)c->op)->rule;

    return (gdncp_delta_rule_reference_t){
        .q = bench_values(c, &rule->q),
        .k = bench_values(c, &rule->k),
        .v = bench_values(c, &rule->v),
        .g = bench_values(c, &rule->g),
        .beta = bench_values(c, &rule->beta),
        .cu_seqlens = rule->cu_seqlens,
        .num_sequences = 1,
        .num_key_heads = c->shape.key_heads,
        .num_value_heads = c->shape.value_heads,
        .key_dim = c->shape.key_dim,
        .value_dim = c->shape.value_dim,
        .qk_l2norm = true,
    };
}

static void check_forward(bench_case_t *c)
{
    const rule_op_t *const op = c->op;
    const gdncp_delta_rule_reference_t reference = reference_of(c);
    double *const o = bench_like(c, &op->o);

    if (c->status == GDNCP_OK) {
        c->status = gdncp_delta_rule_reference_forward(&reference, o, NULL);
    }
    bench_run(c);
    bench_compare(c, (const double *[]){o});
}

static void make_grads(bench_case_t *c)
{
    rule_op_t *const op = c->op;
    const double tolerance = bench_tolerance_gradient(c->dtype);
    const bool exact = c->dtype == GDNCP_F32;
    const double of_gates =
        exact ? GDNCP_TOLERANCE_F32_CANCELLING : GDNCP_TOLERANCE_BF16_GATE_GRADIENT;

    const int64_t *const keys = op->rule.q.shape;
    const int64_t *const values = op->rule.v.shape;

    op->grad_o = bench_input(c, BENCH_NORMAL, c->dtype, 3, values);
    op->grads.q = bench_output(c, "grad_q", tolerance, c->dtype, 3, keys);
    op->grads.k = bench_output(c, "grad_k", tolerance, c->dtype, 3, keys);
    op->grads.v = bench_output(c, "grad_v", tolerance, c->dtype, 3, values);
    op->grads.g = bench_output(c, "grad_g", of_gates, GDNCP_F32, 2, values);
    op->grads.beta = bench_output(c, "grad_beta", of_gates, GDNCP_F32, 2, values);
}

static void setup_backward(bench_case_t *c)
{
    if (make_rule(c) != NULL) {
        make_grads(c);
    }
}

static gdncp_status_t run_backward(bench_case_t *c)
{
    const rule_op_t *const op = c->op;

    return gdncp_delta_rule_backward(&op->rule, &op->grad_o, NULL, &op->grads, c->workspace);
}

static void check_backward(bench_case_t *c)
{
    const rule_op_t *const op = c->op;
    const gdncp_delta_rule_reference_t reference = reference_of(c);
    const double *const grad_o = bench_values(c, &op->grad_o);
    const gdncp_delta_rule_reference_grads_t grads = {
        .q = bench_like(c, &op->rule.q),
        .k = bench_like(c, &op->rule.k),
        .v = bench_like(c, &op->rule.v),
        .g = bench_like(c, &op->rule.g),
        .beta = bench_like(c, &op->rule.beta),
    };
    double *const o = bench_like(c, &op->rule.v);
    const double *const all[] = {o, grads.q, grads.k, grads.v, grads.g, grads.beta};

    if (c->status == GDNCP_OK) {
        c->status = gdncp_delta_rule_reference_backward(&reference, grad_o, NULL, &grads);
    }
    if (c->status == GDNCP_OK && op->o.data != NULL) {
        c->status = gdncp_delta_rule_reference_forward(&reference, o, NULL);
    }
    bench_run(c);
    bench_compare(c, op->o.data != NULL ? all : all + 1);
}

/* A step of training: what the forward leaves for the backward is used, where the device has it. */
static void setup_training(bench_case_t *c)
{
    rule_op_t *const op = make_rule(c);
    const bench_shape_t *const s = &c->shape;
    const int64_t saved[4] = {s->tokens / GDNCP_SAVED_STATE_TOKENS, s->value_heads, s->key_dim,
                              s->value_dim};

    if (op == NULL) {
        return;
    }
    make_outputs(c);
    make_grads(c);
    if (c->device == GDNCP_DEVICE_CPU) {
        const int64_t count = saved[0] * saved[1] * saved[2] * saved[3];
        float *const states = bench_alloc(c, count > 0 ? count : 1, (int64_t)sizeof *states);

        op->rule.saved_states = gdncp_tensor_contiguous(states, GDNCP_F32, 4, saved);
    }
}

static gdncp_status_t run_training(bench_case_t *c)
{
    const gdncp_status_t status = run_forward(c);

    return status == GDNCP_OK ? run_backward(c) : status;
}

static void setup_summary(bench_case_t *c)
{
    const bench_shape_t *const s = &c->shape;
    const int64_t transition[4] = {1, s->value_heads, s->key_dim, s->key_dim};
    const int64_t contribution[4] = {1, s->value_heads, s->key_dim, s->value_dim};
    rule_op_t *const op = make_rule(c);
    const double tolerance = bench_tolerance(c->dtype);

    if (op == NULL) {
        return;
    }
    /* Queries have no part in it. */
    c->bytes -= (double)gdncp_tensor_num_elements(&op->rule.q) * (double)gdncp_dtype_size(c->dtype);
    op->transition = bench_output(c, "transition", tolerance, GDNCP_F32, 4, transition);
    op->contribution = bench_output(c, "contribution", tolerance, GDNCP_F32, 4, contribution);
}

static gdncp_status_t run_summary(bench_case_t *c)
{
    const rule_op_t *const op = c->op;

    return gdncp_delta_rule_summary(&op->rule, NULL, NULL, 1, &op->transition, &op->contribution,
                                    c->workspace);
}

/* M is the final state that values of zero leave of the identity, U that of the values alone. */
static void check_summary(bench_case_t *c)
{
    const rule_op_t *const op = c->op;
    const int64_t dk = c->shape.key_dim;
    gdncp_delta_rule_reference_t of_values = reference_of(c);
    double *const o = bench_like(c, &op->rule.v);
    double *const transition = bench_like(c, &op->transition);
    double *const contribution = bench_like(c, &op->contribution);
    double *const identity = bench_like(c, &op->transition);
    double *const zeros =
        bench_alloc(c, c->shape.tokens * c->shape.value_heads * dk, (int64_t)sizeof *zeros);
    double *const unused =
        bench_alloc(c, c->shape.tokens * c->shape.value_heads * dk, (int64_t)sizeof *unused);

    if (c->status == GDNCP_OK) {
        for (int64_t i = 0; i < c->shape.value_heads * dk; i++) {
            identity[i * dk + i % dk] = 1.0;
        }
        gdncp_delta_rule_reference_t of_identity = of_values;

        of_identity.value_dim = dk;
        of_identity.v = zeros;
        of_identity.initial_state = identity;
        c->status = gdncp_delta_rule_reference_forward(&of_identity, unused, transition);
    }
    if (c->status == GDNCP_OK) {
        c->status = gdncp_delta_rule_reference_forward(&of_values, o, contribution);
    }
    bench_run(c);
    bench_compare(c, (const double *[]){transition, contribution});
}

typedef struct merge_op {
    gdncp_state_chains_t merge;
    gdncp_tensor_t states;
} merge_op_t;

static void list_chains(bench_case_t *c, gdncp_state_chains_t *merge)
{
    const int64_t heads = c->shape.value_heads;
    const int64_t numbers = (int64_t)(sizeof *merge->chains / sizeof(int64_t));
    gdncp_state_chain_t *const chains = bench_alloc(c, heads, (int64_t)sizeof *chains);
    const int64_t *cuda = NULL;

    if (chains == NULL) {
        return;
    }
    for (int64_t i = 0; i < heads; i++) {
        chains[i] = (gdncp_state_chain_t){
            .first = i * MERGE_STEPS, .transition = i * (MERGE_STEPS - 1), .count = MERGE_STEPS};
    }
    bench_list(c, (const int64_t *)chains, heads * numbers, &cuda);
    merge->chains = chains;
    merge->chains_cuda = (const gdncp_state_chain_t *)cuda;
    merge->num_chains = heads;
}

static void setup_merge(bench_case_t *c)
{
    const bench_shape_t *const s = &c->shape;
    const int64_t squares[3] = {s->value_heads * (MERGE_STEPS - 1), s->key_dim, s->key_dim};
    const int64_t states[3] = {s->value_heads * MERGE_STEPS, s->key_dim, s->value_dim};
    merge_op_t *const op = bench_make_op(c, sizeof *op);

    if (op != NULL) {
        op->merge.transition = bench_input(c, BENCH_SMALL, GDNCP_F32, 3, squares);
        op->merge.contribution = bench_input(c, BENCH_NORMAL, GDNCP_F32, 3, states);
        op->states = bench_output(c, "states", GDNCP_TOLERANCE_F32, GDNCP_F32, 3, states);
        list_chains(c, &op->merge);
    }
}

static gdncp_status_t run_merge(bench_case_t *c)
{
    const merge_op_t *const op = c->op;

    return gdncp_state_merge(&op->merge, &op->states, c->workspace);
}

/* states [dk, dv] += M before. */
static void add_product(const bench_shape_t *s, const double *m, const double *before,
                        double *states)
{
    for (int64_t i = 0; i < s->key_dim; i++) {
        for (int64_t j = 0; j < s->key_dim; j++) {
            for (int64_t x = 0; x < s->value_dim; x++) {
                states[i * s->value_dim + x] +=
                    m[i * s->key_dim + j] * before[j * s->value_dim + x];
            }
        }
    }
}

static void check_merge(bench_case_t *c)
{
    const merge_op_t *const op = c->op;
    const bench_shape_t *const s = &c->shape;
    const int64_t size = s->key_dim * s->value_dim;
    const double *m = bench_values(c, &op->merge.transition);
    double *const states = bench_values(c, &op->merge.contribution);

    for (int64_t i = 0; i < s->value_heads * MERGE_STEPS && c->status == GDNCP_OK; i++) {
        if (i % MERGE_STEPS > 0) {
            add_product(s, m, states + (i - 1) * size, states + i * size);
            m += s->key_dim * s->key_dim;
        }
    }
    bench_run(c);
    bench_compare(c, (const double *[]){states});
}

const bench_benchmark_t bench_rule_training = {
    .name = "rule_training",
    .group = "rule",
    .sweep = BENCH_TOKENS,
    .setup = setup_training,
    .run = run_training,
    .forward = run_forward,
    .check = check_backward,
    .flop = training_flop,
};

const bench_benchmark_t bench_rule_forward = {
    .name = "rule_forward",
    .group = "rule",
    .sweep = BENCH_TOKENS,
    .setup = setup_forward,
    .run = run_forward,
    .check = check_forward,
    .flop = forward_flop,
};

const bench_benchmark_t bench_rule_backward = {
    .name = "rule_backward",
    .group = "rule",
    .sweep = BENCH_TOKENS,
    .setup = setup_backward,
    .run = run_backward,
    .check = check_backward,
    .flop = backward_flop,
};

const bench_benchmark_t bench_summary = {
    .name = "summary",
    .group = "rule",
    .sweep = BENCH_TOKENS,
    .setup = setup_summary,
    .run = run_summary,
    .check = check_summary,
    .flop = summary_flop,
};

const bench_benchmark_t bench_state_merge = {
    .name = "state_merge",
    .group = "rule",
    .sweep = BENCH_ONCE,
    .setup = setup_merge,
    .run = run_merge,
    .check = check_merge,
    .flop = merge_flop,
};
