/* A gate, its outputs and its reference, shared by its test programs. */
#ifndef GDNCP_TEST_OPS_GATE_CASE_H
#define GDNCP_TEST_OPS_GATE_CASE_H

#include "gate_reference.h"
#include "random.h"
#include "test_ops_check.h"

/* One call's tensors, and the reference's arrays over the same values. */
typedef struct gate_case {
    test_arena_t arena;
    gdncp_gate_t gate;
    gdncp_tensor_t g, beta, grad_g, grad_beta;
    gdncp_gate_grads_t grads;
    gdncp_gate_reference_t reference;
    double *a, *b, *A_log, *dt_bias;
    double *upstream_g, *upstream_beta;
    gdncp_workspace_t *workspace;
} gate_case_t;

static inline gate_case_t start_case(test_random_t *random, gdncp_dtype_t dtype, int64_t num_tokens,
                                     int64_t num_heads, int64_t gap, bool allow_neg_eigval)
{
    const int64_t shape[2] = {num_tokens, num_heads};
    gate_case_t c = {0};

    c.gate = (gdncp_gate_t){
        .a = test_tensor(&c.arena, dtype, 2, shape, gap),
        .b = test_tensor(&c.arena, dtype, 2, shape, 3 * gap),
        .A_log = test_tensor(&c.arena, GDNCP_F32, 1, shape + 1, 0),
        .dt_bias = test_tensor(&c.arena, GDNCP_F32, 1, shape + 1, 0),
        .allow_neg_eigval = allow_neg_eigval,
    };
    c.grad_g = test_tensor(&c.arena, GDNCP_F32, 2, shape, gap);
    c.grad_beta = test_tensor(&c.arena, GDNCP_F32, 2, shape, gap);
    c.a = test_tensor_fill(&c.arena, random, 3.0, 0.0, &c.gate.a);
    c.b = test_tensor_fill(&c.arena, random, 3.0, 0.0, &c.gate.b);
    c.A_log = test_tensor_fill(&c.arena, random, 1.0, 0.0, &c.gate.A_log);
    c.dt_bias = test_tensor_fill(&c.arena, random, 1.0, 0.0, &c.gate.dt_bias);
    c.upstream_g = test_tensor_fill(&c.arena, random, 1.0, 0.0, &c.grad_g);
    c.upstream_beta = test_tensor_fill(&c.arena, random, 1.0, 0.0, &c.grad_beta);
    c.reference = (gdncp_gate_reference_t){.num_tokens = num_tokens,
                                           .num_heads = num_heads,
                                           .a = c.a,
                                           .b = c.b,
                                           .A_log = c.A_log,
                                           .dt_bias = c.dt_bias,
                                           .allow_neg_eigval = allow_neg_eigval};
    c.g = test_tensor(&c.arena, GDNCP_F32, 2, shape, gap);
    c.beta = test_tensor(&c.arena, GDNCP_F32, 2, shape, 0);
    c.grads = (gdncp_gate_grads_t){
        .a = test_tensor(&c.arena, dtype, 2, shape, gap),
        .b = test_tensor(&c.arena, dtype, 2, shape, 2 * gap),
        .A_log = test_tensor(&c.arena, GDNCP_F32, 1, shape + 1, 0),
        .dt_bias = test_tensor(&c.arena, GDNCP_F32, 1, shape + 1, 0),
    };
    return c;
}

/* a is the log-gate; no parameters. */
static inline void give_g(gate_case_t *c)
{
    c->gate.A_log = (gdncp_tensor_t){0};
    c->gate.dt_bias = (gdncp_tensor_t){0};
    c->grads.A_log = (gdncp_tensor_t){0};
    c->grads.dt_bias = (gdncp_tensor_t){0};
    c->reference.A_log = NULL;
    c->reference.dt_bias = NULL;
}

static inline void sum_chunks(gate_case_t *c, int64_t chunk_size, const int64_t *cu_seqlens,
                              int64_t num_sequences)
{
    c->gate.chunk_size = chunk_size;
    c->gate.cu_seqlens = cu_seqlens;
    c->gate.num_sequences = num_sequences;
    c->reference.chunk_size = chunk_size;
    c->reference.cu_seqlens = cu_seqlens;
    c->reference.num_sequences = num_sequences;
}

static inline gdncp_status_t run_forward(void *context)
{
    const gate_case_t *const c = context;

    return gdncp_gate_forward(&c->gate, &c->g, &c->beta, c->workspace);
}

static inline gdncp_status_t run_backward(void *context)
{
    const gate_case_t *const c = context;

    return gdncp_gate_backward(&c->gate, &c->grad_g, &c->grad_beta, &c->grads, c->workspace);
}

static inline void check_against_reference(void *context)
{
    gate_case_t *const c = context;
    const int64_t num_heads = c->reference.num_heads;
    const int64_t count = c->reference.num_tokens * num_heads;
    double *const first = test_doubles(&c->arena, count);
    double *const second = test_doubles(&c->arena, count);
    double *const grad_A_log = test_doubles(&c->arena, num_heads);
    double *const grad_dt_bias = test_doubles(&c->arena, num_heads);

    assert_int_equal(run_forward(c), GDNCP_OK);
    gdncp_gate_reference_forward(&c->reference, first, second);
    assert_tensor_close("g", &c->g, first, GDNCP_TOLERANCE_F32);
    assert_tensor_close("beta", &c->beta, second, GDNCP_TOLERANCE_F32);

    assert_int_equal(run_backward(c), GDNCP_OK);
    gdncp_gate_reference_backward(&c->reference, c->upstream_g, c->upstream_beta, first, second,
                                  grad_A_log, grad_dt_bias);
    assert_tensor_close("grads.a", &c->grads.a, first, grad_tolerance(&c->grads.a));
    assert_tensor_close("grads.b", &c->grads.b, second, grad_tolerance(&c->grads.b));
    if (c->reference.A_log != NULL) {
        assert_tensor_close("grads.A_log", &c->grads.A_log, grad_A_log,
                            GDNCP_TOLERANCE_F32_CANCELLING);
        assert_tensor_close("grads.dt_bias", &c->grads.dt_bias, grad_dt_bias,
                            GDNCP_TOLERANCE_F32_CANCELLING);
    }
}

static inline tested_op_t op_of(gate_case_t *c)
{
    return (tested_op_t){.context = c,
                         .forward = run_forward,
                         .backward = run_backward,
                         .check = check_against_reference,
                         .workspace = &c->workspace,
                         .outputs = {
                             {"g", &c->g},
                             {"beta", &c->beta},
                             {"grads.a", &c->grads.a},
                             {"grads.b", &c->grads.b},
                             {"grads.A_log", &c->grads.A_log},
                             {"grads.dt_bias", &c->grads.dt_bias},
                         }};
}

#endif
