/* The gate inside a delta rule: the bits of the two operators one after the other. */
#include "test_ops_delta_rule_check.h"

#include "op_case.h"

enum { NUM_KEY_HEADS = 2, NUM_VALUE_HEADS = 4, KEY_DIM = 20, VALUE_DIM = 12, NUM_TOKENS = 150 };

/* Inputs, gradients that come in, and one set of everything that goes out. */
typedef struct gated_case {
    test_arena_t arena;
    gdncp_delta_rule_t rule; /* g and beta: memory */
    gdncp_gate_t gate;
    gdncp_tensor_t o;
    gdncp_tensor_t grad_o;
    gdncp_delta_rule_grads_t grads;
    gdncp_gate_grads_t gate_grads;
} gated_case_t;

static const int64_t cu_seqlens[] = {0, 70, 70, NUM_TOKENS};
static const int64_t keys[] = {NUM_TOKENS, NUM_KEY_HEADS, KEY_DIM};
static const int64_t values[] = {NUM_TOKENS, NUM_VALUE_HEADS, VALUE_DIM};
static const int64_t heads[] = {NUM_TOKENS, NUM_VALUE_HEADS};
static const int64_t parameters[] = {NUM_VALUE_HEADS};

static gdncp_tensor_t make_input(gated_case_t *c, test_random_t *random, gdncp_dtype_t dtype,
                                 int ndim, const int64_t *shape)
{
    const gdncp_tensor_t tensor = test_tensor(&c->arena, dtype, ndim, shape, 0);

    test_tensor_fill(&c->arena, random, 1.0, 0.0, &tensor);
    return tensor;
}

/* The same inputs each time; outputs are NaN. */
static void start_case(gated_case_t *c, gdncp_dtype_t dtype)
{
    test_random_t random = test_random_start("gate", 111);

    *c = (gated_case_t){.rule = {.cu_seqlens = cu_seqlens, .num_sequences = 3, .qk_l2norm = true}};
    c->rule.q = make_input(c, &random, dtype, 3, keys);
    c->rule.k = make_input(c, &random, dtype, 3, keys);
    c->rule.v = make_input(c, &random, dtype, 3, values);
    c->gate.a = make_input(c, &random, dtype, 2, heads);
    c->gate.b = make_input(c, &random, dtype, 2, heads);
    c->gate.A_log = make_input(c, &random, GDNCP_F32, 1, parameters);
    c->gate.dt_bias = make_input(c, &random, GDNCP_F32, 1, parameters);
    c->grad_o = make_input(c, &random, dtype, 3, values);
    c->rule.g = test_tensor(&c->arena, GDNCP_F32, 2, heads, 0);
    c->rule.beta = test_tensor(&c->arena, GDNCP_F32, 2, heads, 0);
    c->o = test_tensor(&c->arena, dtype, 3, values, 0);
    c->grads.q = test_tensor(&c->arena, dtype, 3, keys, 0);
    c->grads.k = test_tensor(&c->arena, dtype, 3, keys, 0);
    c->grads.v = test_tensor(&c->arena, dtype, 3, values, 0);
    c->grads.g = test_tensor(&c->arena, GDNCP_F32, 2, heads, 0);
    c->grads.beta = test_tensor(&c->arena, GDNCP_F32, 2, heads, 0);
    c->gate_grads.a = test_tensor(&c->arena, dtype, 2, heads, 0);
    c->gate_grads.b = test_tensor(&c->arena, dtype, 2, heads, 0);
    c->gate_grads.A_log = test_tensor(&c->arena, GDNCP_F32, 1, parameters, 0);
    c->gate_grads.dt_bias = test_tensor(&c->arena, GDNCP_F32, 1, parameters, 0);
}

static void put_gate_inside(gated_case_t *c)
{
    c->rule.gate = &c->gate;
    c->grads.gate = &c->gate_grads;
}

static gdncp_status_t forward(gated_case_t *c)
{
    return gdncp_delta_rule_forward(&c->rule, &c->o, NULL, NULL);
}

static gdncp_status_t backward(gated_case_t *c)
{
    return gdncp_delta_rule_backward(&c->rule, &c->grad_o, NULL, &c->grads, NULL);
}

static void run_apart(gated_case_t *c)
{
    assert_int_equal(gdncp_gate_forward(&c->gate, &c->rule.g, &c->rule.beta, NULL), GDNCP_OK);
    assert_int_equal(forward(c), GDNCP_OK);
    assert_int_equal(backward(c), GDNCP_OK);
    assert_int_equal(
        gdncp_gate_backward(&c->gate, &c->grads.g, &c->grads.beta, &c->gate_grads, NULL), GDNCP_OK);
}

static void check_equal(const gated_case_t *a, const gated_case_t *b)
{
    assert_tensor_bits_equal("g", &a->rule.g, &b->rule.g);
    assert_tensor_bits_equal("beta", &a->rule.beta, &b->rule.beta);
    assert_tensor_bits_equal("o", &a->o, &b->o);
    assert_tensor_bits_equal("grads.q", &a->grads.q, &b->grads.q);
    assert_tensor_bits_equal("grads.k", &a->grads.k, &b->grads.k);
    assert_tensor_bits_equal("grads.v", &a->grads.v, &b->grads.v);
    assert_tensor_bits_equal("grads.a", &a->gate_grads.a, &b->gate_grads.a);
    assert_tensor_bits_equal("grads.b", &a->gate_grads.b, &b->gate_grads.b);
    assert_tensor_bits_equal("grads.A_log", &a->gate_grads.A_log, &b->gate_grads.A_log);
    assert_tensor_bits_equal("grads.dt_bias", &a->gate_grads.dt_bias, &b->gate_grads.dt_bias);
}

static void inside_as_apart(void **state)
{
    static const gdncp_dtype_t dtypes[] = {GDNCP_F32, GDNCP_BF16};

    (void)state;
    for (int i = 0; i < 4; i++) {
        gated_case_t apart;
        gated_case_t inside;

        start_case(&apart, dtypes[i / 2]);
        start_case(&inside, dtypes[i / 2]);
        apart.gate.allow_neg_eigval = i % 2 == 1;
        inside.gate.allow_neg_eigval = i % 2 == 1;
        put_gate_inside(&inside);
        run_apart(&apart);
        assert_int_equal(forward(&inside), GDNCP_OK);
        assert_int_equal(backward(&inside), GDNCP_OK);
        check_equal(&apart, &inside);
        test_arena_free(&apart.arena);
        test_arena_free(&inside.arena);
    }
}

static void the_gate_is_checked(void **state)
{
    gated_case_t c;

    (void)state;
    start_case(&c, GDNCP_F32);
    put_gate_inside(&c);
    c.gate.chunk_size = 64;
    c.gate.cu_seqlens = cu_seqlens;
    c.gate.num_sequences = 3;
    assert_argument_error(forward(&c), GDNCP_ERR_INVALID_ARGUMENT, "gate.chunk_size");
    assert_argument_error(backward(&c), GDNCP_ERR_INVALID_ARGUMENT, "gate.chunk_size");
    c.gate.chunk_size = 0;
    c.gate.a.shape[1]--;
    assert_argument_error(forward(&c), GDNCP_ERR_INVALID_ARGUMENT, "b");
    assert_argument_error(backward(&c), GDNCP_ERR_INVALID_ARGUMENT, "b");
    c.gate.a.shape[1]++;
    c.gate_grads.A_log.shape[0]--;
    assert_argument_error(backward(&c), GDNCP_ERR_INVALID_ARGUMENT, "grads.A_log");
    c.gate_grads.A_log.shape[0]++;
    c.grads.gate = NULL;
    assert_argument_error(backward(&c), GDNCP_ERR_INVALID_ARGUMENT, "grads.gate");
    c.rule.gate = NULL;
    c.grads.gate = &c.gate_grads;
    assert_argument_error(backward(&c), GDNCP_ERR_INVALID_ARGUMENT, "grads.gate");
    assert_tensor_untouched("o", &c.o);
    assert_tensor_untouched("g", &c.rule.g);
    assert_tensor_untouched("grads.q", &c.grads.q);
    test_arena_free(&c.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inside_as_apart),
        cmocka_unit_test(the_gate_is_checked),
    };

    return cmocka_run_group_tests_name("delta_rule_gate", tests, NULL, NULL);
}
