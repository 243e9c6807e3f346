/* Workspaces and the errors of arguments. */
#include <string.h>

#include "test_ops_conv1d_case.h"

static void a_workspace_is_reused(void **state)
{
    static const int64_t cu_seqlens[] = {0, 0, 200};
    test_random_t random = test_random_start(__func__, 11);
    conv_shape_t shape = {.dtype = GDNCP_F32,
                          .channels = 20,
                          .width = 4,
                          .bias = true,
                          .cu_seqlens = cu_seqlens,
                          .num_sequences = 1};
    conv_case_t empty = start_case(&random, &shape);

    (void)state;
    shape.num_sequences = 2;
    conv_case_t c = start_case(&random, &shape);
    const tested_op_t empty_op = op_of(&empty);
    const tested_op_t op = op_of(&c);

    check_workspace_is_reused(&empty_op, &op);
    test_arena_free(&c.arena);
    test_arena_free(&empty.arena);
}

static conv_case_t start_error_case(test_random_t *random, int64_t *cu_seqlens)
{
    const conv_shape_t shape = {.dtype = GDNCP_BF16,
                                .channels = 3,
                                .width = 4,
                                .gap = 1,
                                .bias = true,
                                .window = true,
                                .activation = GDNCP_ACTIVATION_SILU,
                                .cu_seqlens = cu_seqlens,
                                .num_sequences = 2};

    memcpy(cu_seqlens, (const int64_t[]){0, 2, 5}, 3 * sizeof *cu_seqlens);
    return start_case(random, &shape);
}

static void tensors_are_checked(void **state)
{
    test_random_t random = test_random_start(__func__, 9);
    int64_t cu_seqlens[3];
    conv_case_t c = start_error_case(&random, cu_seqlens);
    const test_argument_t inputs[] = {
        {.name = "x", .tensor = &c.conv.x, .defines_shape = true},
        {.name = "weight", .tensor = &c.conv.weight, .contiguous = true},
        {.name = "bias", .tensor = &c.conv.bias, .contiguous = true, .optional = true},
        {.name = "window", .tensor = &c.conv.window, .contiguous = true, .optional = true},
    };
    const test_argument_t forward[] = {
        {.name = "y", .tensor = &c.y},
        {.name = "final_window", .tensor = &c.final_window, .contiguous = true, .optional = true},
    };
    const test_argument_t backward[] = {
        {.name = "grad_y", .tensor = &c.grad_y},
        {.name = "grads.x", .tensor = &c.grads.x},
        {.name = "grads.weight", .tensor = &c.grads.weight, .contiguous = true},
        {.name = "grads.bias", .tensor = &c.grads.bias, .contiguous = true, .optional = true},
        {.name = "grads.window", .tensor = &c.grads.window, .contiguous = true, .optional = true},
    };

    (void)state;
    test_each_argument(inputs, sizeof inputs / sizeof inputs[0], run_forward, &c);
    test_each_argument(inputs, sizeof inputs / sizeof inputs[0], run_backward, &c);
    test_each_argument(forward, sizeof forward / sizeof forward[0], run_forward, &c);
    test_each_argument(backward, sizeof backward / sizeof backward[0], run_backward, &c);
    test_arena_free(&c.arena);
}

static void other_arguments_are_checked(void **state)
{
    test_random_t random = test_random_start(__func__, 10);
    int64_t cu_seqlens[3];
    conv_case_t c = start_error_case(&random, cu_seqlens);
    const tested_op_t op = op_of(&c);
    const gdncp_conv1d_t good = c.conv;
    const gdncp_tensor_t grad_bias = c.grads.bias;

    (void)state;
    for (int64_t width = 0; width <= 9; width += 9) {
        const int64_t shape[2] = {3, width};

        c.conv.weight = test_tensor(&c.arena, GDNCP_F32, 2, shape, 0);
        check_both_name(&op, "weight");
    }
    c.conv = good;
    c.conv.activation = (gdncp_activation_t)2;
    check_both_name(&op, "activation");
    c.conv = good;
    c.conv.cu_seqlens = NULL;
    check_both_name(&op, "cu_seqlens");
    c.conv = good;
    c.conv.num_sequences = -1;
    check_both_name(&op, "num_sequences");
    c.conv = good;
    for (int i = 0; i < 3; i++) {
        const int64_t saved = cu_seqlens[i];

        cu_seqlens[i] = 7;
        check_both_name(&op, "cu_seqlens");
        cu_seqlens[i] = saved;
    }
    c.grads.bias.data = NULL;
    assert_argument_error(run_backward(&c), GDNCP_ERR_INVALID_ARGUMENT, "grads.bias");
    c.grads.bias = grad_bias;
    c.conv.bias.data = NULL;
    assert_argument_error(run_backward(&c), GDNCP_ERR_INVALID_ARGUMENT, "grads.bias");
    assert_argument_error(gdncp_conv1d_forward(NULL, &c.y, NULL, NULL), GDNCP_ERR_INVALID_ARGUMENT,
                          "conv");
    assert_argument_error(gdncp_conv1d_forward(&good, NULL, NULL, NULL), GDNCP_ERR_INVALID_ARGUMENT,
                          "y");
    assert_argument_error(gdncp_conv1d_backward(&good, &c.grad_y, NULL, NULL),
                          GDNCP_ERR_INVALID_ARGUMENT, "grads");
    test_arena_free(&c.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_workspace_is_reused),
        cmocka_unit_test(tensors_are_checked),
        cmocka_unit_test(other_arguments_are_checked),
    };

    return cmocka_run_group_tests_name("conv1d_arguments", tests, NULL, NULL);
}
