/* Workspaces and the errors of arguments. */
#include "test_ops_gate_case.h"

static void a_workspace_is_reused(void **state)
{
    test_random_t random = test_random_start(__func__, 10);
    gate_case_t empty = start_case(&random, GDNCP_F32, 0, 3, 0, false);
    gate_case_t c = start_case(&random, GDNCP_BF16, 300, 70, 0, false);
    const tested_op_t empty_op = op_of(&empty);
    const tested_op_t op = op_of(&c);

    (void)state;
    check_workspace_is_reused(&empty_op, &op);
    sum_chunks(&empty, 64, (const int64_t[]){0, 0}, 1);
    sum_chunks(&c, 64, (const int64_t[]){0, 300}, 1);
    check_workspace_is_reused(&empty_op, &op);
    test_arena_free(&c.arena);
    test_arena_free(&empty.arena);
}

static void arguments_are_checked(void **state)
{
    test_random_t random = test_random_start(__func__, 8);
    gate_case_t c = start_case(&random, GDNCP_BF16, 4, 3, 2, false);
    const test_argument_t forward[] = {
        {.name = "a", .tensor = &c.gate.a, .defines_shape = true},
        {.name = "b", .tensor = &c.gate.b},
        {.name = "A_log", .tensor = &c.gate.A_log, .contiguous = true},
        {.name = "dt_bias", .tensor = &c.gate.dt_bias, .contiguous = true},
        {.name = "g", .tensor = &c.g},
        {.name = "beta", .tensor = &c.beta},
    };
    const test_argument_t backward[] = {
        {.name = "a", .tensor = &c.gate.a, .defines_shape = true},
        {.name = "b", .tensor = &c.gate.b},
        {.name = "A_log", .tensor = &c.gate.A_log, .contiguous = true},
        {.name = "dt_bias", .tensor = &c.gate.dt_bias, .contiguous = true},
        {.name = "grad_g", .tensor = &c.grad_g},
        {.name = "grad_beta", .tensor = &c.grad_beta},
        {.name = "grads.a", .tensor = &c.grads.a},
        {.name = "grads.b", .tensor = &c.grads.b},
        {.name = "grads.A_log", .tensor = &c.grads.A_log, .contiguous = true},
        {.name = "grads.dt_bias", .tensor = &c.grads.dt_bias, .contiguous = true},
    };

    (void)state;
    test_each_argument(forward, sizeof forward / sizeof forward[0], run_forward, &c);
    test_each_argument(backward, sizeof backward / sizeof backward[0], run_backward, &c);
    assert_argument_error(gdncp_gate_forward(NULL, &c.g, &c.beta, NULL), GDNCP_ERR_INVALID_ARGUMENT,
                          "gate");
    assert_argument_error(gdncp_gate_forward(&c.gate, NULL, &c.beta, NULL),
                          GDNCP_ERR_INVALID_ARGUMENT, "g");
    assert_argument_error(gdncp_gate_backward(&c.gate, &c.grad_g, &c.grad_beta, NULL, NULL),
                          GDNCP_ERR_INVALID_ARGUMENT, "grads");
    test_arena_free(&c.arena);
}

/* The numbers of heads stand in the message, whichever tensor has another one. */
static void heads_must_agree(void **state)
{
    test_random_t random = test_random_start(__func__, 15);
    gate_case_t c = start_case(&random, GDNCP_F32, 4, 3, 0, false);

    (void)state;
    c.gate.b.shape[1] = 5;
    assert_argument_error(run_forward(&c), GDNCP_ERR_INVALID_ARGUMENT, "b");
    assert_string_equal(gdncp_last_error(), "b: expected shape [4, 3], got [4, 5]");
    c.gate.b.shape[1] = 3;
    c.gate.A_log.shape[0] = 6;
    assert_argument_error(run_forward(&c), GDNCP_ERR_INVALID_ARGUMENT, "A_log");
    assert_string_equal(gdncp_last_error(), "A_log: expected shape [3], got [6]");
    test_arena_free(&c.arena);
}

static void parameters_come_together(void **state)
{
    test_random_t random = test_random_start(__func__, 16);
    gate_case_t c = start_case(&random, GDNCP_F32, 4, 3, 0, false);
    const gate_case_t whole = c;
    const tested_op_t op = op_of(&c);

    (void)state;
    c.gate.A_log.data = NULL;
    check_both_name(&op, "A_log");
    c.gate = whole.gate;
    c.gate.dt_bias.data = NULL;
    check_both_name(&op, "dt_bias");
    give_g(&c);
    c.grads.A_log = whole.grads.A_log;
    assert_argument_error(run_backward(&c), GDNCP_ERR_INVALID_ARGUMENT, "grads.A_log");
    c.grads.A_log.data = NULL;
    c.grads.dt_bias = whole.grads.dt_bias;
    assert_argument_error(run_backward(&c), GDNCP_ERR_INVALID_ARGUMENT, "grads.dt_bias");
    test_arena_free(&c.arena);
}

static void chunks_are_checked(void **state)
{
    test_random_t random = test_random_start(__func__, 17);
    gate_case_t c = start_case(&random, GDNCP_F32, 4, 3, 0, false);
    const tested_op_t op = op_of(&c);

    (void)state;
    sum_chunks(&c, -1, (const int64_t[]){0, 4}, 1);
    check_both_name(&op, "chunk_size");
    sum_chunks(&c, 2, NULL, 1);
    check_both_name(&op, "cu_seqlens");
    sum_chunks(&c, 2, (const int64_t[]){0, 5}, 1);
    check_both_name(&op, "cu_seqlens");
    sum_chunks(&c, 2, (const int64_t[]){0, 4}, -1);
    check_both_name(&op, "num_sequences");
    test_arena_free(&c.arena);
}

static void an_error_writes_nothing(void **state)
{
    test_random_t random = test_random_start(__func__, 9);
    gate_case_t c = start_case(&random, GDNCP_F32, 4, 3, 0, false);

    (void)state;
    c.beta.shape[1]++;
    assert_argument_error(run_forward(&c), GDNCP_ERR_INVALID_ARGUMENT, "beta");
    assert_tensor_untouched("g", &c.g);
    c.grads.dt_bias.shape[0]++;
    assert_argument_error(run_backward(&c), GDNCP_ERR_INVALID_ARGUMENT, "grads.dt_bias");
    assert_tensor_untouched("grads.a", &c.grads.a);
    assert_tensor_untouched("grads.A_log", &c.grads.A_log);
    test_arena_free(&c.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_workspace_is_reused), cmocka_unit_test(arguments_are_checked),
        cmocka_unit_test(heads_must_agree),      cmocka_unit_test(parameters_come_together),
        cmocka_unit_test(chunks_are_checked),    cmocka_unit_test(an_error_writes_nothing),
    };

    return cmocka_run_group_tests_name("gate_arguments", tests, NULL, NULL);
}
