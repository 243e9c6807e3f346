/* Every argument that the weight maps refuse, and what the error says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "gdncp/weights.h"
#include "support/refused.h"

static const gdncp_layer_shape_t valid = {.hidden_size = 5,
                                          .num_key_heads = 2,
                                          .num_value_heads = 6,
                                          .key_head_dim = 3,
                                          .value_head_dim = 2,
                                          .conv_kernel_dim = 4};

static void shapes_are_checked(void **state)
{
    const char *const members[] = {"hidden_size",  "num_key_heads",  "num_value_heads",
                                   "key_head_dim", "value_head_dim", "conv_kernel_dim"};
    const int64_t large = (int64_t)1 << 40;
    const gdncp_layer_shape_t too_large[] = {
        {large, 1, 1, large, 1, 4}, {large, 1, large, 1, 1, 4},     {1, large, large, large, 1, 4},
        {1, 1, large, 1, large, 4}, {1, large, large, 1, 1, large}, {large, 1, 1, 1, large, 4},
        {1, 1, 1, 1, INT64_MAX, 1}, {1, 1, 1, INT64_MAX, 1, 1},     {INT64_MAX / 8, 1, 1, 1, 1, 1},
    };
    /* 2^29 times 2*(2^30 - 3) + 4 rows: just under 2^63 bytes. */
    const gdncp_layer_shape_t largest = {1 << 29, 1, 1, (1 << 30) - 3, 1, 4};
    const gdncp_layer_shape_t one_more = {1 << 29, 1, 1, (1 << 30) - 2, 1, 4};

    (void)state;
    check_refused(gdncp_layer_shape_check(NULL), "shape:", "NULL");
    for (int i = 0; i < 6; i++) {
        char argument[64];
        gdncp_layer_shape_t shape = valid;
        int64_t *const sizes[] = {&shape.hidden_size,     &shape.num_key_heads,
                                  &shape.num_value_heads, &shape.key_head_dim,
                                  &shape.value_head_dim,  &shape.conv_kernel_dim};

        snprintf(argument, sizeof argument, "shape.%s:", members[i]);
        *sizes[i] = 0;
        check_refused(gdncp_layer_shape_check(&shape), argument, "got 0");
        *sizes[i] = -3;
        check_refused(gdncp_layer_shape_check(&shape), argument, "got -3");
    }
    gdncp_layer_shape_t uneven = valid;

    uneven.num_key_heads = 4;
    check_refused(gdncp_layer_shape_check(&uneven), "shape.num_key_heads:", "got 4");
    for (size_t i = 0; i < sizeof too_large / sizeof too_large[0]; i++) {
        check_refused(gdncp_layer_shape_check(&too_large[i]), "shape:", "hidden_size");
    }
    check_refused(gdncp_layer_shape_check(&one_more), "shape:", "1073741822");
    assert_int_equal(gdncp_layer_shape_check(&largest), GDNCP_OK);
    assert_int_equal(gdncp_layer_shape_check(&valid), GDNCP_OK);
}

static void arguments_are_checked(void **state)
{
    const gdncp_layer_shape_t *const shape = &valid;
    const gdncp_layer_shape_t bad = {0};
    gdncp_family_t family = GDNCP_FAMILY_QWEN3_5;
    gdncp_family_tensor_t tensor = {.ndim = 77};
    gdncp_row_block_t block = {.rows = 77};
    int64_t dims[2] = {77, 77};
    int ndim = 77;

    (void)state;
    check_refused(gdncp_parameter_shape(&bad, GDNCP_PARAMETER_A_LOG, &ndim, dims),
                  "shape.hidden_size:", "got 0");
    check_refused(gdncp_parameter_shape(shape, (gdncp_parameter_t)6, &ndim, dims),
                  "parameter:", "got 6");
    check_refused(gdncp_parameter_shape(shape, (gdncp_parameter_t)-1, &ndim, dims),
                  "parameter:", "got -1");
    check_refused(gdncp_parameter_shape(shape, GDNCP_PARAMETER_A_LOG, NULL, dims),
                  "ndim_p:", "NULL");
    check_refused(gdncp_parameter_shape(shape, GDNCP_PARAMETER_A_LOG, &ndim, NULL),
                  "dims:", "NULL");
    assert_int_equal(ndim, 77);
    assert_int_equal(dims[0], 77);

    check_refused(gdncp_family_from_name("mamba", &family), "name:", "got \"mamba\"");
    check_refused(gdncp_family_from_name("mamba", &family),
                  "name:", "qwen3_next, qwen3_5, olmo_hybrid");
    check_refused(gdncp_family_from_name(NULL, &family), "name:", "NULL");
    check_refused(gdncp_family_from_name("qwen3_5", NULL), "family_p:", "NULL");
    assert_int_equal(family, GDNCP_FAMILY_QWEN3_5);

    check_refused(gdncp_family_tensor((gdncp_family_t)3, shape, 0, &tensor), "family:", "got 3");
    check_refused(gdncp_family_tensor((gdncp_family_t)-1, shape, 0, &tensor), "family:", "got -1");
    check_refused(gdncp_family_tensor(family, NULL, 0, &tensor), "shape:", "NULL");
    check_refused(gdncp_family_tensor(family, shape, 9, &tensor), "tensor:", "got 9");
    check_refused(gdncp_family_tensor(family, shape, -1, &tensor), "tensor:", "got -1");
    check_refused(gdncp_family_tensor(family, shape, 0, NULL), "tensor_p:", "NULL");
    assert_int_equal(tensor.ndim, 77);

    check_refused(gdncp_family_row_block((gdncp_family_t)3, shape, 0, 0, &block),
                  "family:", "got 3");
    check_refused(gdncp_family_row_block(family, &bad, 0, 0, &block),
                  "shape.hidden_size:", "got 0");
    check_refused(gdncp_family_row_block(family, shape, 9, 0, &block), "tensor:", "got 9");
    check_refused(gdncp_family_row_block(family, shape, 0, 1, &block), "block:", "got 1");
    check_refused(gdncp_family_row_block(family, shape, 0, -1, &block), "block:", "got -1");
    check_refused(gdncp_family_row_block(GDNCP_FAMILY_QWEN3_NEXT, shape, 0, 8, &block),
                  "block:", "0..7 for in_proj_qkvz.weight, got 8");
    check_refused(gdncp_family_row_block(family, shape, 0, 0, NULL), "block_p:", "NULL");
    assert_int_equal(block.rows, 77);
}

static void copies_are_checked(void **state)
{
    const gdncp_layer_shape_t *const shape = &valid;
    const gdncp_family_t family = GDNCP_FAMILY_QWEN3_5;
    char data[1] = {77};
    char parameter[1] = {77};
    void *parameters[GDNCP_NUM_PARAMETERS] = {parameter};
    const void *sources[GDNCP_NUM_PARAMETERS] = {parameter};
    const int64_t conv = 4; /* conv1d.weight */

    (void)state;
    check_refused(gdncp_family_gather((gdncp_family_t)3, shape, 0, 4, data, parameters),
                  "family:", "got 3");
    check_refused(gdncp_family_gather(family, NULL, 0, 4, data, parameters), "shape:", "NULL");
    check_refused(gdncp_family_gather(family, shape, -1, 4, data, parameters), "tensor:", "got -1");
    check_refused(gdncp_family_gather(family, shape, 0, 0, data, parameters),
                  "element_size:", "got 0");
    check_refused(gdncp_family_gather(family, shape, 0, 9, data, parameters),
                  "element_size:", "got 9");
    check_refused(gdncp_family_gather(family, shape, 0, 4, NULL, parameters),
                  "data:", "in_proj_qkv.weight");
    check_refused(gdncp_family_gather(family, shape, 0, 4, data, NULL), "parameters:", "NULL");
    check_refused(gdncp_family_gather(family, shape, conv, 4, data, parameters),
                  "parameters[1]:", "conv_weight");

    check_refused(gdncp_family_scatter((gdncp_family_t)3, shape, 0, 4, sources, data),
                  "family:", "got 3");
    check_refused(gdncp_family_scatter(family, NULL, 0, 4, sources, data), "shape:", "NULL");
    check_refused(gdncp_family_scatter(family, shape, 9, 4, sources, data), "tensor:", "got 9");
    check_refused(gdncp_family_scatter(family, shape, 0, 0, sources, data),
                  "element_size:", "got 0");
    check_refused(gdncp_family_scatter(family, shape, 0, 4, NULL, data), "parameters:", "NULL");
    check_refused(gdncp_family_scatter(family, shape, 0, 4, sources, NULL),
                  "data:", "in_proj_qkv.weight");
    check_refused(gdncp_family_scatter(family, shape, conv, 4, sources, data),
                  "parameters[1]:", "conv_weight");
    assert_int_equal(data[0], 77);
    assert_int_equal(parameter[0], 77);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes_are_checked),
        cmocka_unit_test(arguments_are_checked),
        cmocka_unit_test(copies_are_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
