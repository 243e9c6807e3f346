/* Bad arguments to the three levels: a sentence that names the argument, on every rank. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "gdncp/layer.h"
#include "gdncp/memory.h"

static const gdncp_cp_rule_config_t good_rule = {
    .num_key_heads = 1,
    .num_value_heads = 2,
    .key_head_dim = 8,
    .value_head_dim = 4,
};

static const gdncp_layer_config_t good_layer = {
    .shape = {.hidden_size = 6,
              .num_key_heads = 1,
              .num_value_heads = 2,
              .key_head_dim = 8,
              .value_head_dim = 4,
              .conv_kernel_dim = 4},
    .norm_eps = 1e-6f,
};

static gdncp_layout_t *layout_of(int64_t tokens, int ranks)
{
    const int64_t cu_seqlens[] = {0, tokens};
    gdncp_layout_t *layout = NULL;

    assert_int_equal(gdncp_layout_create(GDNCP_LAYOUT_CONTIGUOUS, cu_seqlens, 1, ranks, &layout),
                     GDNCP_OK);
    return layout;
}

static void assert_says(gdncp_status_t status, gdncp_status_t expected, const char *words)
{
    assert_int_equal(status, expected);
    if (strstr(gdncp_last_error(), words) == NULL) {
        fail_msg("expected a sentence with \"%s\", got \"%s\"", words, gdncp_last_error());
    }
}

static void strategies_have_names(void **state)
{
    gdncp_strategy_t strategy = GDNCP_STRATEGY_STATES;

    (void)state;
    assert_string_equal(gdncp_strategy_name(GDNCP_STRATEGY_STATES), "states");
    assert_string_equal(gdncp_strategy_name((gdncp_strategy_t)9), "?");
    assert_int_equal(gdncp_strategy_from_name("heads", &strategy), GDNCP_OK);
    assert_int_equal(strategy, GDNCP_STRATEGY_HEADS);
    assert_says(gdncp_strategy_from_name("tokens", &strategy), GDNCP_ERR_INVALID_ARGUMENT,
                "expected states or heads, got tokens");
    assert_says(gdncp_strategy_from_name(NULL, &strategy), GDNCP_ERR_INVALID_ARGUMENT, "NULL");
    assert_int_equal(strategy, GDNCP_STRATEGY_HEADS);
}

static void rule_configs_are_checked(void **state)
{
    gdncp_layout_t *const layout = layout_of(8, 1);
    gdncp_layout_t *const for_two = layout_of(8, 2);
    gdncp_comm_t *comm = NULL;
    gdncp_cp_rule_t *rule = NULL;
    gdncp_cp_rule_config_t config = good_rule;

    (void)state;
    assert_int_equal(gdncp_comm_create_self(&comm), GDNCP_OK);
    assert_says(gdncp_cp_rule_create(comm, NULL, &config, &rule), GDNCP_ERR_INVALID_ARGUMENT,
                "layout: ");
    assert_says(gdncp_cp_rule_create(comm, for_two, &config, &rule), GDNCP_ERR_INVALID_ARGUMENT,
                "1 ranks, got one for 2");
    assert_says(gdncp_cp_rule_create(comm, layout, NULL, &rule), GDNCP_ERR_INVALID_ARGUMENT,
                "config: ");
    config.key_head_dim = 0;
    assert_says(gdncp_cp_rule_create(comm, layout, &config, &rule), GDNCP_ERR_INVALID_ARGUMENT,
                "key_head_dim: expected > 0, got 0");
    config = good_rule;
    config.num_key_heads = 3;
    assert_says(gdncp_cp_rule_create(comm, layout, &config, &rule), GDNCP_ERR_INVALID_ARGUMENT,
                "multiple of num_key_heads 3, got 2");
    config = good_rule;
    config.dtype = GDNCP_I32;
    assert_says(gdncp_cp_rule_create(comm, layout, &config, &rule), GDNCP_ERR_INVALID_ARGUMENT,
                "dtype: expected f32, bf16 or f16, got i32");
    config = good_rule;
    config.strategy = (gdncp_strategy_t)7;
    assert_says(gdncp_cp_rule_create(comm, layout, &config, &rule), GDNCP_ERR_INVALID_ARGUMENT,
                "strategy: ");
    assert_null(rule);
    gdncp_comm_destroy(comm);
    gdncp_layout_destroy(layout);
    gdncp_layout_destroy(for_two);
}

static void layer_configs_are_checked(void **state)
{
    gdncp_layout_t *const layout = layout_of(8, 1);
    gdncp_comm_t *comm = NULL;
    gdncp_layer_t *layer = NULL;
    gdncp_cp_core_t *core = NULL;
    gdncp_layer_config_t config = good_layer;

    (void)state;
    assert_int_equal(gdncp_comm_create_self(&comm), GDNCP_OK);
    assert_says(gdncp_layer_create(comm, layout, NULL, &layer), GDNCP_ERR_INVALID_ARGUMENT,
                "config: ");
    assert_says(gdncp_layer_create(comm, NULL, &config, &layer), GDNCP_ERR_INVALID_ARGUMENT,
                "layout: ");
    assert_says(gdncp_cp_core_create(comm, layout, NULL, &core), GDNCP_ERR_INVALID_ARGUMENT,
                "config: ");
    config.shape.hidden_size = -1;
    assert_says(gdncp_layer_create(comm, layout, &config, &layer), GDNCP_ERR_INVALID_ARGUMENT,
                "hidden_size");
    config = good_layer;
    config.shape.conv_kernel_dim = 9;
    assert_says(gdncp_layer_create(comm, layout, &config, &layer), GDNCP_ERR_INVALID_ARGUMENT,
                "conv_kernel_dim: expected 1..8, got 9");
    config = good_layer;
    config.dtype = GDNCP_I32;
    assert_says(gdncp_layer_create(comm, layout, &config, &layer), GDNCP_ERR_INVALID_ARGUMENT,
                "dtype: expected f32, bf16 or f16, got i32");
    config = good_layer;
    config.dtype = GDNCP_F16;
    config.rule_dtype = GDNCP_BF16;
    assert_says(gdncp_layer_create(comm, layout, &config, &layer), GDNCP_ERR_INVALID_ARGUMENT,
                "rule_dtype: expected f32 or f16, got bf16");
    config = good_layer;
    config.norm_eps = NAN;
    assert_says(gdncp_layer_create(comm, layout, &config, &layer), GDNCP_ERR_INVALID_ARGUMENT,
                "norm_eps: ");
    assert_null(layer);
    assert_null(core);
    gdncp_comm_destroy(comm);
    gdncp_layout_destroy(layout);
}

/* Contiguous tensors over one block of memory that is large enough for each. */
static gdncp_tensor_t tensor2(float *memory, int64_t rows, int64_t columns)
{
    const int64_t shape[] = {rows, columns};

    return gdncp_tensor_contiguous(memory, GDNCP_F32, 2, shape);
}

static gdncp_tensor_t tensor1(float *memory, int64_t count)
{
    return gdncp_tensor_contiguous(memory, GDNCP_F32, 1, &count);
}

static void layer_tensors_are_checked(void **state)
{
    enum { TOKENS = 8, HIDDEN = 6, QKV = 24, VALUES = 8, HEADS = 2, WIDTH = 4 };
    static float in[512];
    static float out[2048];
    gdncp_layout_t *const layout = layout_of(TOKENS, 1);
    gdncp_comm_t *comm = NULL;
    gdncp_layer_t *layer = NULL;
    gdncp_layer_t *other = NULL;
    gdncp_layer_saved_t *saved = NULL;
    gdncp_layer_saved_t *saved_of_other = NULL;
    const gdncp_layer_params_t good = {
        .in_proj_weight = tensor2(in, QKV + VALUES + 2 * HEADS, HIDDEN),
        .out_proj_weight = tensor2(in, HIDDEN, VALUES),
        .core = {.conv_weight = tensor2(in, QKV, WIDTH),
                 .A_log = tensor1(in, HEADS),
                 .dt_bias = tensor1(in, HEADS),
                 .norm_weight = tensor1(in, 4)},
    };
    const gdncp_tensor_t hidden = tensor2(in, TOKENS, HIDDEN);
    const gdncp_tensor_t output = tensor2(out, TOKENS, HIDDEN);
    gdncp_layer_params_t params = good;
    gdncp_layer_params_t grads = good;

    (void)state;
    assert_int_equal(gdncp_comm_create_self(&comm), GDNCP_OK);
    assert_int_equal(gdncp_layer_create(comm, layout, &good_layer, &layer), GDNCP_OK);
    assert_int_equal(gdncp_layer_create(comm, layout, &good_layer, &other), GDNCP_OK);
    assert_int_equal(gdncp_layer_saved_create(layer, &saved), GDNCP_OK);
    assert_int_equal(gdncp_layer_saved_create(other, &saved_of_other), GDNCP_OK);
    assert_true(gdncp_layer_saved_bytes(layer) > 0);

    assert_int_equal(gdncp_layer_forward(layer, &params, &hidden, saved, &output), GDNCP_OK);
    assert_says(gdncp_layer_forward(layer, &params, &hidden, NULL, &output),
                GDNCP_ERR_INVALID_ARGUMENT, "saved: ");
    assert_says(gdncp_layer_forward(layer, &params, &hidden, saved_of_other, &output),
                GDNCP_ERR_INVALID_ARGUMENT, "saved: ");
    const gdncp_tensor_t too_long = tensor2(in, TOKENS + 1, HIDDEN);

    assert_says(gdncp_layer_forward(layer, &params, &too_long, saved, &output),
                GDNCP_ERR_INVALID_ARGUMENT, "hidden: ");
    assert_says(gdncp_layer_forward(layer, &params, &hidden, saved, &too_long),
                GDNCP_ERR_INVALID_ARGUMENT, "output: ");
    params.in_proj_weight = tensor2(in, QKV, HIDDEN);
    assert_says(gdncp_layer_forward(layer, &params, &hidden, saved, &output),
                GDNCP_ERR_INVALID_ARGUMENT, "in_proj_weight: ");
    params = good;
    params.out_proj_weight.data = NULL;
    assert_says(gdncp_layer_forward(layer, &params, &hidden, saved, &output),
                GDNCP_ERR_INVALID_ARGUMENT, "out_proj_weight: ");
    params = good;
    params.core.conv_weight = tensor2(in, QKV, WIDTH - 1);
    assert_says(gdncp_layer_forward(layer, &params, &hidden, saved, &output),
                GDNCP_ERR_INVALID_ARGUMENT, "conv_weight: ");
    params = good;
    params.core.A_log = tensor1(in, HEADS + 1);
    assert_says(gdncp_layer_forward(layer, &params, &hidden, saved, &output),
                GDNCP_ERR_INVALID_ARGUMENT, "A_log: ");
    params = good;
    params.core.norm_weight.dtype = GDNCP_BF16;
    assert_says(gdncp_layer_forward(layer, &params, &hidden, saved, &output),
                GDNCP_ERR_INVALID_ARGUMENT, "norm_weight: ");
    params = good;
    grads.in_proj_weight = tensor2(out, QKV, HIDDEN);
    assert_says(gdncp_layer_backward(layer, &params, &hidden, saved, &hidden, &output, &grads),
                GDNCP_ERR_INVALID_ARGUMENT, "grads.in_proj_weight: ");
    grads = good;
    grads.core.conv_bias = tensor1(out, QKV);
    assert_says(gdncp_layer_backward(layer, &params, &hidden, saved, &hidden, &output, &grads),
                GDNCP_ERR_INVALID_ARGUMENT, "grads.conv_bias: ");
    grads = good;
    grads.core.dt_bias.data = NULL;
    assert_says(gdncp_layer_backward(layer, &params, &hidden, saved, &hidden, &output, &grads),
                GDNCP_ERR_INVALID_ARGUMENT, "grads.dt_bias: ");

    gdncp_layer_saved_destroy(saved);
    gdncp_layer_saved_destroy(saved_of_other);
    gdncp_layer_saved_destroy(NULL);
    gdncp_layer_destroy(layer);
    gdncp_layer_destroy(other);
    gdncp_layer_destroy(NULL);
    gdncp_comm_destroy(comm);
    gdncp_layout_destroy(layout);
}

/* Two ranks that ask for different things: both get an error, and neither waits. */
typedef struct rank_job {
    gdncp_comm_t *comm;
    const gdncp_layout_t *layout;
    gdncp_cp_rule_config_t config;
    gdncp_status_t status;
    char sentence[1024];
} rank_job_t;

static void *create_rule(void *argument)
{
    rank_job_t *const job = argument;
    gdncp_cp_rule_t *rule = NULL;

    job->status = gdncp_cp_rule_create(job->comm, job->layout, &job->config, &rule);
    snprintf(job->sentence, sizeof job->sentence, "%s", gdncp_last_error());
    gdncp_cp_rule_destroy(rule);
    return NULL;
}

static void run_two(rank_job_t jobs[2])
{
    gdncp_comm_t *comms[2];
    pthread_t threads[2];

    assert_int_equal(gdncp_comm_create_threads(2, NULL, comms), GDNCP_OK);
    for (int rank = 0; rank < 2; rank++) {
        jobs[rank].comm = comms[rank];
        assert_int_equal(pthread_create(&threads[rank], NULL, create_rule, &jobs[rank]), 0);
    }
    for (int rank = 0; rank < 2; rank++) {
        pthread_join(threads[rank], NULL);
        gdncp_comm_destroy(comms[rank]);
    }
}

static void ranks_that_differ_all_get_an_error(void **state)
{
    gdncp_layout_t *const layout = layout_of(8, 2);
    gdncp_layout_t *const longer = layout_of(12, 2);
    rank_job_t jobs[2] = {{.layout = layout, .config = good_rule},
                          {.layout = longer, .config = good_rule}};

    (void)state;
    run_two(jobs);
    assert_int_equal(jobs[0].status, GDNCP_ERR_MISMATCH);
    assert_int_equal(jobs[1].status, GDNCP_ERR_MISMATCH);

    jobs[1].layout = layout;
    jobs[1].config.strategy = GDNCP_STRATEGY_HEADS;
    run_two(jobs);
    assert_int_equal(jobs[0].status, GDNCP_ERR_MISMATCH);
    assert_int_equal(jobs[1].status, GDNCP_ERR_MISMATCH);

    jobs[1].config = good_rule;
    jobs[1].config.num_value_heads = 0;
    run_two(jobs);
    assert_int_equal(jobs[0].status, GDNCP_ERR_INVALID_ARGUMENT);
    assert_int_equal(jobs[1].status, GDNCP_ERR_INVALID_ARGUMENT);
    assert_non_null(strstr(jobs[0].sentence, "num_value_heads"));
    assert_non_null(strstr(jobs[1].sentence, "num_value_heads"));
    gdncp_layout_destroy(layout);
    gdncp_layout_destroy(longer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strategies_have_names),
        cmocka_unit_test(rule_configs_are_checked),
        cmocka_unit_test(layer_configs_are_checked),
        cmocka_unit_test(layer_tensors_are_checked),
        cmocka_unit_test(ranks_that_differ_all_get_an_error),
    };

    return cmocka_run_group_tests_name("layer errors", tests, NULL, NULL);
}
