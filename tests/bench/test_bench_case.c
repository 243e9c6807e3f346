/* The parts of gdncp-bench: what it would say of a wrong benchmark, and its arithmetic. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "options.h"
#include "report.h"
#include "run.h"

/* y = x, with a fault: which element of y is not as it should be, and what it is instead. */
typedef struct copy_op {
    gdncp_tensor_t x;
    gdncp_tensor_t y;
} copy_op_t;

static int64_t faulty_element;
static float faulty_value;
static int64_t num_written;
static int num_runs;

static void setup_copy(bench_case_t *c)
{
    copy_op_t *const op = bench_make_op(c, sizeof *op);
    const int64_t shape[2] = {c->shape.tokens, 3};

    op->x = bench_input(c, BENCH_NORMAL, GDNCP_F32, 2, shape);
    op->y = bench_output(c, "y", 1e-5, GDNCP_F32, 2, shape);
}

static gdncp_status_t run_copy(bench_case_t *c)
{
    const copy_op_t *const op = c->op;

    num_runs++;
    memcpy(op->y.data, op->x.data, (size_t)num_written * sizeof(float));
    if (faulty_element >= 0) {
        ((float *)op->y.data)[faulty_element] = faulty_value;
    }
    return GDNCP_OK;
}

static void check_copy(bench_case_t *c)
{
    const copy_op_t *const op = c->op;
    const double *const x = bench_values(c, &op->x);

    bench_run(c);
    bench_compare(c, (const double *[]){x});
}

static double copy_flop(const bench_shape_t *s)
{
    return (double)s->tokens;
}

static const bench_benchmark_t copy = {
    .name = "copy",
    .group = "tests",
    .sweep = BENCH_TOKENS,
    .setup = setup_copy,
    .run = run_copy,
    .check = check_copy,
    .flop = copy_flop,
};

enum { COPY_TOKENS = 10, COPY_ELEMENTS = 30 };

static bench_case_t start_copy(int64_t element, float value, int64_t written)
{
    const bench_shape_t shape = {.tokens = COPY_TOKENS};
    bench_case_t c;

    faulty_element = element;
    faulty_value = value;
    num_written = written;
    num_runs = 0;
    assert_int_equal(bench_case_start(&copy, &shape, GDNCP_F32, GDNCP_DEVICE_CPU, &c), GDNCP_OK);
    return c;
}

static void a_right_result_is_right(void **state)
{
    bench_case_t c = start_copy(-1, 0.0f, COPY_ELEMENTS);

    (void)state;
    check_copy(&c);
    assert_int_equal(c.status, GDNCP_OK);
    assert_int_equal(c.wrong, 0);
    assert_true(c.worst == 0.0);
    assert_int_equal(bench_count_not_finite(&c), 0);
    assert_true(c.bytes == 2.0 * COPY_ELEMENTS * 4.0);
    bench_case_end(&c);
}

static void a_wrong_element_is_wrong(void **state)
{
    bench_case_t c = start_copy(COPY_ELEMENTS - 1, 100.0f, COPY_ELEMENTS);

    (void)state;
    check_copy(&c);
    assert_int_equal(c.wrong, 1);
    assert_true(c.worst > 1.0);
    bench_case_end(&c);
}

static void a_nan_is_wrong_and_not_finite(void **state)
{
    static const float values[] = {NAN, INFINITY};

    (void)state;
    for (int i = 0; i < 2; i++) {
        bench_case_t c = start_copy(0, values[i], COPY_ELEMENTS);

        check_copy(&c);
        assert_int_equal(c.wrong, 1);
        assert_false(c.worst <= 1.0);
        assert_int_equal(bench_count_not_finite(&c), 1);
        bench_case_end(&c);
    }
}

static void what_is_not_written_is_seen(void **state)
{
    bench_case_t c = start_copy(-1, 0.0f, COPY_ELEMENTS - 1);

    (void)state;
    bench_run(&c);
    assert_int_equal(bench_count_not_finite(&c), 1);
    check_copy(&c);
    assert_int_equal(c.wrong, 1);
    assert_true(isnan(c.worst));
    bench_case_end(&c);
}

static void runs_are_counted(void **state)
{
    bench_case_t c = start_copy(-1, 0.0f, COPY_ELEMENTS);
    bench_times_t times = {.min = -1.0, .median = -1.0, .p99 = -1.0};

    (void)state;
    bench_time(&c, c.benchmark->run, 3, 4, false, &times);
    assert_int_equal(c.status, GDNCP_OK);
    assert_int_equal(num_runs, 7);
    assert_true(times.min >= 0.0 && times.median >= times.min && times.p99 >= times.median);
    bench_case_end(&c);
}

/* Of the small shape of the check, and of the one that is timed. */
static void a_row_counts_what_is_wrong(void **state)
{
    static const struct {
        int64_t element;
        float value;
        bool check;
        int wrong;
    } cases[] = {
        {-1, 0.0f, true, 0},
        {0, 9.0f, true, 1},
        {0, NAN, true, 2},
        {0, NAN, false, -1},
    };

    (void)state;
    num_written = COPY_ELEMENTS;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const bench_options_t options = {.check = cases[i].check, .iterations = 3, .warm_up = 1};
        bench_result_t result = {
            .benchmark = &copy,
            .shape = {.tokens = COPY_TOKENS, .key_heads = 1, .value_heads = 1},
        };

        faulty_element = cases[i].element;
        faulty_value = cases[i].value;
        num_runs = 0;
        assert_int_equal(bench_run_one(&options, &result), GDNCP_OK);
        assert_int_equal(result.wrong, cases[i].wrong);
        assert_int_equal(num_runs, cases[i].check ? 5 : 4);
        assert_true(result.flop == COPY_TOKENS);
        assert_true(result.bytes == 2.0 * COPY_ELEMENTS * 4.0);
        assert_true(result.times.median >= result.times.min);
    }
}

static void the_median_and_the_99th_percentile(void **state)
{
    double few[5] = {5.0, 1.0, 4.0, 2.0, 3.0};
    double many[200];
    const bench_times_t of_few = bench_times_of(few, 5);

    (void)state;
    for (int i = 0; i < 200; i++) {
        many[i] = 200.0 - (double)i;
    }
    const bench_times_t of_many = bench_times_of(many, 200);

    assert_true(of_few.min == 1.0 && of_few.median == 3.0 && of_few.p99 == 5.0);
    assert_true(of_many.min == 1.0 && of_many.median == 100.0 && of_many.p99 == 198.0);
}

static void the_floor_is_the_larger_time(void **state)
{
    bench_result_t result = {.bytes = 4e9, .flop = 1e12, .peaks = {.gbs = 1000.0, .tflops = 100.0}};

    (void)state;
    assert_true(fabs(bench_floor_ms(&result) - 10.0) < 1e-9);
    result.bytes = 4e10;
    assert_true(fabs(bench_floor_ms(&result) - 40.0) < 1e-9);
    result.peaks.gbs = 0.0;
    assert_true(fabs(bench_floor_ms(&result) - 10.0) < 1e-9);
    result.peaks.tflops = 0.0;
    assert_true(bench_floor_ms(&result) == 0.0);
}

static const bench_benchmark_t *find(const char *name)
{
    for (int i = 0; bench_registry[i] != NULL; i++) {
        if (strcmp(bench_registry[i]->name, name) == 0) {
            return bench_registry[i];
        }
    }
    fail_msg("there is no benchmark %s", name);
    return NULL;
}

/* Of 16/32 heads of 128 and 32 Ki tokens, worked out by hand. */
static void operations_and_bytes_of_the_rule(void **state)
{
    bench_shape_t shape = {.tokens = 32768, .batch = 1};
    bench_case_t c;

    (void)state;
    assert_true(bench_shape_of_model("qwen3_next", &shape));
    assert_int_equal(shape.tokens, 32768);
    assert_int_equal(bench_channels(&shape), 8192);
    assert_int_equal(bench_projections(&shape), 12352);

    /* A token and value head: 3 products of 2 * 128 * 128, 2 of 2 * 64 * 128, an inverse of
     * 2/3 * 64 * 64; a token and key head: 2 of 2 * 64 * 128. */
    const double of_value_head = 3.0 * 32768.0 + 2.0 * 16384.0 + 8192.0 / 3.0;
    const double flop = 32768.0 * (32.0 * of_value_head + 16.0 * 2.0 * 16384.0);

    assert_true(fabs(find("rule_forward")->flop(&shape) / flop - 1.0) < 1e-12);
    assert_true(find("rule_backward")->flop(&shape) > 2.0 * flop);
    /* q and k, v and o, g and beta. */
    shape.tokens = 64;
    assert_int_equal(
        bench_case_start(find("rule_forward"), &shape, GDNCP_BF16, GDNCP_DEVICE_CPU, &c), GDNCP_OK);
    assert_true(c.bytes ==
                64.0 * (2.0 * 16.0 * 128.0 * 2.0 + 2.0 * 32.0 * 128.0 * 2.0 + 2.0 * 32.0 * 4.0));
    bench_case_end(&c);

    /* q and k, v and o, g and beta, states that are read and written, slots are not counted. */
    shape.batch = 2;
    assert_int_equal(
        bench_case_start(find("recurrent_step"), &shape, GDNCP_F32, GDNCP_DEVICE_CPU, &c),
        GDNCP_OK);
    assert_true(c.bytes == 2.0 * 4.0 *
                               (2.0 * 16.0 * 128.0 + 2.0 * 32.0 * 128.0 + 2.0 * 32.0 +
                                2.0 * 32.0 * 128.0 * 128.0));
    bench_case_end(&c);
}

static void small_shapes_keep_groups_and_dims(void **state)
{
    static const char *const models[] = {"qwen3_next", "qwen3_5_9b", "qwen3_5_27b", "qwen3_5_397b",
                                         "olmo_hybrid"};

    (void)state;
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        bench_shape_t shape = {.tokens = 100000, .batch = 64};

        assert_true(bench_shape_of_model(models[i], &shape));
        assert_non_null(strstr(bench_model_names(), models[i]));

        const bench_shape_t small = bench_shape_to_check(&shape);

        assert_true(small.tokens > BENCH_CHUNK && small.tokens < 2 * BENCH_CHUNK);
        assert_true(small.key_heads <= 2 && small.batch <= 3 && small.hidden <= 72);
        assert_int_equal(small.value_heads * shape.key_heads, small.key_heads * shape.value_heads);
        assert_true(small.key_dim == shape.key_dim && small.value_dim == shape.value_dim);
    }
    assert_false(bench_shape_of_model("qwen4", &(bench_shape_t){0}));
}

static void names_choose_benchmarks(void **state)
{
    static const struct {
        const char *name;
        const char *wanted;
        const char *not_wanted;
    } cases[] = {
        {"rule", "summary", "gate_forward"},
        {"conv1d", "conv1d_update", "linear_forward"},
        {"conv1d_forward", "conv1d_forward", "conv1d_backward"},
        {"decode", "recurrent_step", "conv1d_forward"},
    };
    bench_options_t options = {0};

    (void)state;
    assert_true(bench_is_wanted(&options, find("l2norm_forward")));
    options.num_names = 1;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        options.names[0] = cases[i].name;
        assert_true(bench_is_wanted(&options, find(cases[i].wanted)));
        assert_false(bench_is_wanted(&options, find(cases[i].not_wanted)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_right_result_is_right),
        cmocka_unit_test(a_wrong_element_is_wrong),
        cmocka_unit_test(a_nan_is_wrong_and_not_finite),
        cmocka_unit_test(what_is_not_written_is_seen),
        cmocka_unit_test(runs_are_counted),
        cmocka_unit_test(a_row_counts_what_is_wrong),
        cmocka_unit_test(the_median_and_the_99th_percentile),
        cmocka_unit_test(the_floor_is_the_larger_time),
        cmocka_unit_test(operations_and_bytes_of_the_rule),
        cmocka_unit_test(small_shapes_keep_groups_and_dims),
        cmocka_unit_test(names_choose_benchmarks),
    };

    return cmocka_run_group_tests_name("bench", tests, NULL, NULL);
}
