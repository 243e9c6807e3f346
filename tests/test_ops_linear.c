/* Projections and their gradients. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "compare.h"
#include "gdncp/device.h"
#include "gdncp/ops.h"
#include "linear_reference.h"
#include "op_case.h"
#include "threads.h"
#include "tolerances.h"

typedef struct linear_case {
    test_arena_t arena;
    gdncp_tensor_t x;           /* [T, I] */
    gdncp_tensor_t weight;      /* [O, I] */
    gdncp_tensor_t y;           /* [T, O] */
    gdncp_tensor_t grad_y;      /* [T, O] */
    gdncp_tensor_t grad_x;      /* [T, I] */
    gdncp_tensor_t grad_weight; /* [O, I] F32 */
    gdncp_linear_reference_t reference;
    double *grad_y_values;
    bool accumulate;
} linear_case_t;

/* A weight scaled so that outputs are near 1. */
static linear_case_t start_case(test_random_t *random, gdncp_dtype_t dtype, int64_t num_tokens,
                                int64_t inputs, int64_t outputs, int64_t gap)
{
    const int64_t x_shape[] = {num_tokens, inputs};
    const int64_t y_shape[] = {num_tokens, outputs};
    const int64_t weight_shape[] = {outputs, inputs};
    linear_case_t c = {.accumulate = false};

    c.x = test_tensor(&c.arena, dtype, 2, x_shape, gap);
    c.weight = test_tensor(&c.arena, dtype, 2, weight_shape, 0);
    c.y = test_tensor(&c.arena, dtype, 2, y_shape, gap);
    c.grad_y = test_tensor(&c.arena, dtype, 2, y_shape, gap);
    c.grad_x = test_tensor(&c.arena, dtype, 2, x_shape, gap);
    c.grad_weight = test_tensor(&c.arena, GDNCP_F32, 2, weight_shape, 0);
    c.reference = (gdncp_linear_reference_t){
        .num_tokens = num_tokens,
        .inputs = inputs,
        .outputs = outputs,
        .x = test_tensor_fill(&c.arena, random, 1.0, 0.0, &c.x),
        .weight =
            test_tensor_fill(&c.arena, random, 1.0 / sqrt((double)inputs + 1.0), 0.0, &c.weight)};
    c.grad_y_values = test_tensor_fill(&c.arena, random, 1.0, 0.0, &c.grad_y);
    return c;
}

static gdncp_status_t forward(void *context)
{
    linear_case_t *const c = context;

    return gdncp_linear_forward(&c->x, &c->weight, &c->y, NULL);
}

static gdncp_status_t backward_data(void *context)
{
    linear_case_t *const c = context;

    return gdncp_linear_backward_data(&c->grad_y, &c->weight, c->accumulate, &c->grad_x, NULL);
}

static gdncp_status_t backward_weight(void *context)
{
    linear_case_t *const c = context;

    return gdncp_linear_backward_weight(&c->grad_y, &c->x, &c->grad_weight, NULL);
}

static void check_case(linear_case_t *c)
{
    const gdncp_linear_reference_t *const reference = &c->reference;
    const bool is_f32 = c->x.dtype == GDNCP_F32;
    double *const y = test_doubles(&c->arena, reference->num_tokens * reference->outputs);
    double *const grad_x = test_doubles(&c->arena, reference->num_tokens * reference->inputs);
    double *const grad_weight = test_doubles(&c->arena, reference->outputs * reference->inputs);

    gdncp_linear_reference_forward(reference, y);
    gdncp_linear_reference_backward(reference, c->grad_y_values, grad_x, grad_weight);
    assert_int_equal(forward(c), GDNCP_OK);
    assert_int_equal(backward_data(c), GDNCP_OK);
    assert_int_equal(backward_weight(c), GDNCP_OK);
    assert_tensor_close("y", &c->y, y, is_f32 ? GDNCP_TOLERANCE_F32 : GDNCP_TOLERANCE_BF16_OUTPUT);
    assert_tensor_close("grad_x", &c->grad_x, grad_x,
                        is_f32 ? GDNCP_TOLERANCE_F32 : GDNCP_TOLERANCE_BF16_GRADIENT);
    assert_tensor_close("grad_weight", &c->grad_weight, grad_weight, GDNCP_TOLERANCE_F32);
}

typedef struct loss_context {
    gdncp_linear_reference_t reference;
    const double *grad_y;
    double *y;
} loss_context_t;

static double loss(void *context)
{
    loss_context_t *const c = context;
    double sum = 0.0;

    gdncp_linear_reference_forward(&c->reference, c->y);
    for (int64_t i = 0; i < c->reference.num_tokens * c->reference.outputs; i++) {
        sum += c->grad_y[i] * c->y[i];
    }
    return sum;
}

static void reference_gradients_are_finite_differences(void **state)
{
    test_random_t random = test_random_start(__func__, 61);
    linear_case_t c = start_case(&random, GDNCP_F32, 3, 4, 5, 0);
    double *const grad_x = test_doubles(&c.arena, 3 * 4);
    double *const grad_weight = test_doubles(&c.arena, 5 * 4);
    loss_context_t context = {
        .reference = c.reference, .grad_y = c.grad_y_values, .y = test_doubles(&c.arena, 3 * 5)};

    (void)state;
    gdncp_linear_reference_backward(&c.reference, c.grad_y_values, grad_x, grad_weight);
    assert_gradient("x", loss, &context, (double *)(uintptr_t)c.reference.x, grad_x, 3 * 4);
    assert_gradient("weight", loss, &context, (double *)(uintptr_t)c.reference.weight, grad_weight,
                    5 * 4);
    test_arena_free(&c.arena);
}

/* Sizes on both sides of the tiles' borders, and none. */
static void results_match_the_reference(void **state)
{
#ifdef GDNCP_TEST_ON_DEVICE
    static const int64_t sizes[][3] = {{1, 1, 1},    {63, 33, 65}, {64, 32, 64},
                                       {65, 290, 3}, {17, 5, 290}, {290, 31, 16},
                                       {0, 8, 8},    {5, 0, 8},    {5, 8, 0}};
#else
    static const int64_t sizes[][3] = {
        {1, 1, 1},      {63, 100, 257}, {64, 256, 256}, {65, 257, 300}, {513, 30, 70},
        {600, 520, 33}, {7, 13, 1030},  {0, 8, 8},      {5, 0, 8},      {5, 8, 0}};
#endif
    static const gdncp_dtype_t dtypes[] = {GDNCP_F32, GDNCP_BF16, GDNCP_F16};
    test_random_t random = test_random_start(__func__, 62);

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (int j = 0; j < 3; j++) {
            linear_case_t c = start_case(&random, dtypes[j], sizes[i][0], sizes[i][1], sizes[i][2],
                                         (int64_t)i % 3);

            check_case(&c);
            test_arena_free(&c.arena);
        }
    }
}

/* In float32 and then cast: in 16 bits too the sum is rounded once. */
static void gradients_accumulate(void **state)
{
    static const gdncp_dtype_t dtypes[] = {GDNCP_F32, GDNCP_BF16};
    test_random_t random = test_random_start(__func__, 63);

    (void)state;
    for (int i = 0; i < 2; i++) {
        linear_case_t c = start_case(&random, dtypes[i], 70, 40, 300, 3);
        double *const expected = test_doubles(&c.arena, 70 * 40);
        double *const grad_weight = test_doubles(&c.arena, 300 * 40);
        const double *const before = test_tensor_fill(&c.arena, &random, 10.0, 0.0, &c.grad_x);

        gdncp_linear_reference_backward(&c.reference, c.grad_y_values, expected, grad_weight);
        for (int64_t j = 0; j < 70 * 40; j++) {
            expected[j] += before[j];
        }
        c.accumulate = true;
        assert_int_equal(backward_data(&c), GDNCP_OK);
        assert_tensor_close("grad_x", &c.grad_x, expected,
                            i == 0 ? GDNCP_TOLERANCE_F32 : GDNCP_TOLERANCE_BF16_GRADIENT);
        test_arena_free(&c.arena);
    }
}

static bool is_on_gpu(void)
{
#ifdef GDNCP_TEST_ON_DEVICE
    gdncp_device_info_t info;

    assert_int_equal(gdncp_device_describe(GDNCP_DEVICE_CUDA, &info), GDNCP_OK);
    return strcmp(info.name, "emulated") != 0;
#else
    return false;
#endif
}

/* Each token's row is the same bits in whatever company it is computed: a rank that holds a part
 * of the tokens gets what one that holds all of them gets. cuBLASLt, on a GPU, does not promise it.
 */
static void rows_do_not_depend_on_their_neighbours(void **state)
{
    if (is_on_gpu()) {
        skip();
    }
    const int64_t first = test_size(37, 7);
    const int64_t count = test_size(101, 67);
    const int64_t inputs = test_size(300, 90);
    const int64_t outputs = test_size(270, 70);
    test_random_t random = test_random_start(__func__, 64);
    linear_case_t all = start_case(&random, GDNCP_F32, test_size(600, 90), inputs, outputs, 0);
    linear_case_t part = start_case(&random, GDNCP_F32, count, inputs, outputs, 0);
    gdncp_tensor_t y = part.y;
    gdncp_tensor_t grad_x = part.grad_x;

    (void)state;
    memcpy(part.x.data, (float *)all.x.data + first * inputs,
           (size_t)(count * inputs) * sizeof(float));
    memcpy(part.grad_y.data, (float *)all.grad_y.data + first * outputs,
           (size_t)(count * outputs) * sizeof(float));
    part.weight = all.weight;
    assert_int_equal(forward(&all), GDNCP_OK);
    assert_int_equal(forward(&part), GDNCP_OK);
    assert_int_equal(backward_data(&all), GDNCP_OK);
    assert_int_equal(backward_data(&part), GDNCP_OK);
    y.data = (float *)all.y.data + first * outputs;
    grad_x.data = (float *)all.grad_x.data + first * inputs;
    assert_tensor_bits_equal("y", &part.y, &y);
    assert_tensor_bits_equal("grad_x", &part.grad_x, &grad_x);
    test_arena_free(&all.arena);
    test_arena_free(&part.arena);
}

static void threads_do_not_change_bits(void **state)
{
    const int64_t sizes[] = {test_size(700, 70), test_size(300, 40), test_size(530, 90)};
    test_random_t random = test_random_start(__func__, 65);
    linear_case_t c = start_case(&random, GDNCP_BF16, sizes[0], sizes[1], sizes[2], 0);
    const linear_case_t alone = c;
    linear_case_t other = start_case(&random, GDNCP_BF16, sizes[0], sizes[1], sizes[2], 0);

    (void)state;
    test_set_num_threads(1);
    assert_int_equal(forward(&c), GDNCP_OK);
    assert_int_equal(backward_data(&c), GDNCP_OK);
    assert_int_equal(backward_weight(&c), GDNCP_OK);
    test_set_num_threads(4);
    c.y = other.y;
    c.grad_x = other.grad_x;
    c.grad_weight = other.grad_weight;
    assert_int_equal(forward(&c), GDNCP_OK);
    assert_int_equal(backward_data(&c), GDNCP_OK);
    assert_int_equal(backward_weight(&c), GDNCP_OK);
    assert_tensor_bits_equal("y", &c.y, &alone.y);
    assert_tensor_bits_equal("grad_x", &c.grad_x, &alone.grad_x);
    assert_tensor_bits_equal("grad_weight", &c.grad_weight, &alone.grad_weight);
    test_arena_free(&c.arena);
    test_arena_free(&other.arena);
}

static void a_workspace_is_reused(void **state)
{
    test_random_t random = test_random_start(__func__, 66);
    linear_case_t c = start_case(&random, GDNCP_BF16, 70, 30, 40, 0);
    gdncp_memory_usage_t usage = {0};
    gdncp_workspace_t *workspace = NULL;
    int64_t allocations = 0;

    (void)state;
    test_set_num_threads(2);
    gdncp_memory_track(&usage);
    assert_int_equal(gdncp_workspace_create(&workspace), GDNCP_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(gdncp_linear_forward(&c.x, &c.weight, &c.y, workspace), GDNCP_OK);
        assert_int_equal(
            gdncp_linear_backward_data(&c.grad_y, &c.weight, false, &c.grad_x, workspace),
            GDNCP_OK);
        assert_int_equal(gdncp_linear_backward_weight(&c.grad_y, &c.x, &c.grad_weight, workspace),
                         GDNCP_OK);
        allocations = i == 0 ? usage.num_allocations : allocations;
    }
    /* The workspace, and its memory where a product needs scratch. */
    assert_in_range(allocations, 1, 2);
    assert_int_equal(usage.num_allocations, allocations);
    gdncp_workspace_destroy(workspace);
    gdncp_memory_track(NULL);
    assert_int_equal(usage.current_bytes, 0);
    test_arena_free(&c.arena);
}

#ifndef GDNCP_TEST_ON_DEVICE
/* Where the processor has no matrix tiles, both are the same code. */
static void results_match_without_amx(void **state)
{
    setenv("GDNCP_AMX", "0", 1);
    results_match_the_reference(state);
    gradients_accumulate(state);
    threads_do_not_change_bits(state);
    unsetenv("GDNCP_AMX");
}

static void a_wrong_amx_is_an_error(void **state)
{
    test_random_t random = test_random_start(__func__, 68);
    linear_case_t c = start_case(&random, GDNCP_BF16, 4, 6, 8, 0);

    (void)state;
    setenv("GDNCP_AMX", "yes", 1);
    assert_argument_error(forward(&c), GDNCP_ERR_INVALID_ARGUMENT, "GDNCP_AMX");
    unsetenv("GDNCP_AMX");
    test_arena_free(&c.arena);
}

/* The same rows in bf16: company changes no bit there either. */
static void rows_in_bf16_do_not_depend_on_their_neighbours(void **state)
{
    test_random_t random = test_random_start(__func__, 69);
    linear_case_t all = start_case(&random, GDNCP_BF16, 600, 300, 270, 0);
    linear_case_t part = start_case(&random, GDNCP_BF16, 101, 300, 270, 0);
    gdncp_tensor_t y = part.y;

    (void)state;
    memcpy(part.x.data, (uint16_t *)all.x.data + 37 * 300, 101 * 300 * sizeof(uint16_t));
    part.weight = all.weight;
    assert_int_equal(forward(&all), GDNCP_OK);
    assert_int_equal(forward(&part), GDNCP_OK);
    y.data = (uint16_t *)all.y.data + 37 * 270;
    assert_tensor_bits_equal("y", &part.y, &y);
    test_arena_free(&all.arena);
    test_arena_free(&part.arena);
}
#endif

static void arguments_are_checked(void **state)
{
    test_random_t random = test_random_start(__func__, 67);
    linear_case_t c = start_case(&random, GDNCP_BF16, 4, 6, 8, 1);
    const struct {
        gdncp_status_t (*call)(void *context);
        test_argument_t argument;
    } all[] = {
        {forward, {.name = "x", .tensor = &c.x, .defines_shape = true}},
        {forward,
         {.name = "weight", .tensor = &c.weight, .defines_shape = true, .contiguous = true}},
        {forward, {.name = "y", .tensor = &c.y}},
        {backward_data, {.name = "grad_y", .tensor = &c.grad_y, .defines_shape = true}},
        {backward_data,
         {.name = "weight", .tensor = &c.weight, .defines_shape = true, .contiguous = true}},
        {backward_data, {.name = "grad_x", .tensor = &c.grad_x}},
        {backward_weight, {.name = "grad_y", .tensor = &c.grad_y, .defines_shape = true}},
        {backward_weight, {.name = "x", .tensor = &c.x, .defines_shape = true}},
        {backward_weight, {.name = "grad_weight", .tensor = &c.grad_weight, .contiguous = true}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        test_argument_errors(&all[i].argument, all[i].call, &c);
    }
    c.weight.shape[1]--;
    assert_argument_error(forward(&c), GDNCP_ERR_INVALID_ARGUMENT, "weight");
    c.weight.shape[1]++;
    c.weight.shape[0]--;
    assert_argument_error(backward_data(&c), GDNCP_ERR_INVALID_ARGUMENT, "weight");
    c.weight.shape[0]++;
    c.x.shape[0]--;
    assert_argument_error(backward_weight(&c), GDNCP_ERR_INVALID_ARGUMENT, "x");
    c.x.shape[0]++;
    assert_argument_error(gdncp_linear_forward(NULL, &c.weight, &c.y, NULL),
                          GDNCP_ERR_INVALID_ARGUMENT, "x");
    assert_argument_error(gdncp_linear_backward_data(NULL, &c.weight, false, &c.grad_x, NULL),
                          GDNCP_ERR_INVALID_ARGUMENT, "grad_y");
    assert_argument_error(gdncp_linear_backward_weight(&c.grad_y, NULL, &c.grad_weight, NULL),
                          GDNCP_ERR_INVALID_ARGUMENT, "x");
    test_arena_free(&c.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_gradients_are_finite_differences),
        cmocka_unit_test(results_match_the_reference),
        cmocka_unit_test(gradients_accumulate),
        cmocka_unit_test(rows_do_not_depend_on_their_neighbours),
        cmocka_unit_test(threads_do_not_change_bits),
        cmocka_unit_test(a_workspace_is_reused),
        cmocka_unit_test(arguments_are_checked),
#ifndef GDNCP_TEST_ON_DEVICE
        cmocka_unit_test(results_match_without_amx),
        cmocka_unit_test(a_wrong_amx_is_an_error),
        cmocka_unit_test(rows_in_bf16_do_not_depend_on_their_neighbours),
#endif
    };

    return cmocka_run_group_tests_name("linear", tests, NULL, NULL);
}
