/*
 * The core across ranks, with a bias on the convolution, against the operators run one after the
 * other on whole sequences: what a trainer with its own projections relies on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "compare.h"
#include "gdncp/layer.h"
#include "gdncp/ops.h"
#include "op_case.h"
#include "padded_layout.h"
#include "random.h"
#include "rank_threads.h"
#include "tolerances.h"

enum {
    TOKENS = 96,
    SEQUENCES = 2,
    KEYS = 2,
    VALUES = 6,
    DK = 8,
    DV = 4,
    WIDTH = 4,
    KEY_CHANNELS = KEYS * DK,
    CHANNELS = 2 * KEY_CHANNELS + VALUES * DV,
    MAX_RANKS = 8
};

static const int64_t cu_seqlens[] = {0, 64, TOKENS};

static const gdncp_layer_config_t base_config = {
    .shape = {.hidden_size = -1, /* not used */
              .num_key_heads = KEYS,
              .num_value_heads = VALUES,
              .key_head_dim = DK,
              .value_head_dim = DV,
              .conv_kernel_dim = WIDTH},
    .norm_eps = 1e-5f,
    .allow_neg_eigval = true,
};

/* Tensors of tokens, in the order of token_widths; then parameters. */
enum { QKV, Z, B, A, Y, NUM_TOKEN_TENSORS };
enum { CONV_WEIGHT, CONV_BIAS, A_LOG, DT_BIAS, NORM_WEIGHT, NUM_PARAMS };

static const int64_t token_widths[] = {CHANNELS, VALUES *DV, VALUES, VALUES, VALUES *DV};
static const int64_t param_counts[] = {CHANNELS * WIDTH, CHANNELS, VALUES, VALUES, DV};

typedef struct tensors {
    float *tokens[NUM_TOKEN_TENSORS]; /* Y: the output, or its upstream gradient */
    float *params[NUM_PARAMS];
} tensors_t;

static tensors_t make_tensors(int64_t tokens)
{
    tensors_t made;

    for (int i = 0; i < NUM_TOKEN_TENSORS; i++) {
        made.tokens[i] = malloc((size_t)(tokens * token_widths[i] + 1) * sizeof(float));
        test_poison(made.tokens[i], tokens * token_widths[i]);
    }
    for (int i = 0; i < NUM_PARAMS; i++) {
        made.params[i] = malloc((size_t)param_counts[i] * sizeof(float));
        test_poison(made.params[i], param_counts[i]);
    }
    return made;
}

static tensors_t random_tensors(test_random_t *random)
{
    const tensors_t made = make_tensors(TOKENS);

    for (int i = 0; i < NUM_TOKEN_TENSORS; i++) {
        test_random_fill(random, made.tokens[i], TOKENS * token_widths[i]);
    }
    for (int i = 0; i < NUM_PARAMS; i++) {
        test_random_fill(random, made.params[i], param_counts[i]);
    }
    return made;
}

static void free_tensors(tensors_t *tensors)
{
    for (int i = 0; i < NUM_TOKEN_TENSORS; i++) {
        free(tensors->tokens[i]);
    }
    for (int i = 0; i < NUM_PARAMS; i++) {
        free(tensors->params[i]);
    }
}

static gdncp_tensor_t tokens_of(const tensors_t *tensors, int index, int64_t tokens)
{
    const int64_t shape[] = {tokens, token_widths[index]};

    return gdncp_tensor_contiguous(tensors->tokens[index], GDNCP_F32, 2, shape);
}

static gdncp_cp_core_inputs_t inputs_of(const tensors_t *tensors, int64_t tokens)
{
    return (gdncp_cp_core_inputs_t){.qkv = tokens_of(tensors, QKV, tokens),
                                    .z = tokens_of(tensors, Z, tokens),
                                    .b = tokens_of(tensors, B, tokens),
                                    .a = tokens_of(tensors, A, tokens)};
}

static gdncp_tensor_t vector(float *data, int64_t count)
{
    return gdncp_tensor_contiguous(data, GDNCP_F32, 1, &count);
}

static gdncp_cp_core_params_t params_of(const tensors_t *tensors)
{
    const int64_t conv[] = {CHANNELS, WIDTH};

    return (gdncp_cp_core_params_t){
        .conv_weight = gdncp_tensor_contiguous(tensors->params[CONV_WEIGHT], GDNCP_F32, 2, conv),
        .conv_bias = vector(tensors->params[CONV_BIAS], CHANNELS),
        .A_log = vector(tensors->params[A_LOG], VALUES),
        .dt_bias = vector(tensors->params[DT_BIAS], VALUES),
        .norm_weight = vector(tensors->params[NORM_WEIGHT], DV)};
}

static gdncp_tensor_t by_heads(float *data, int64_t heads, int64_t dim, int64_t token_stride)
{
    const int64_t shape[] = {TOKENS, heads, dim};
    gdncp_tensor_t tensor = gdncp_tensor_contiguous(data, GDNCP_F32, 3, shape);

    tensor.strides[0] = token_stride;
    return tensor;
}

/* q, k and v side by side. */
static void split_qkv(float *qkv, gdncp_tensor_t *q, gdncp_tensor_t *k, gdncp_tensor_t *v)
{
    *q = by_heads(qkv, KEYS, DK, CHANNELS);
    *k = by_heads(qkv + KEY_CHANNELS, KEYS, DK, CHANNELS);
    *v = by_heads(qkv + 2 * KEY_CHANNELS, VALUES, DV, CHANNELS);
}

/* One operator after the other. out->tokens[Y] is the output; grads the gradients for
 * in->tokens[Y] as the upstream one. */
static void run_operators(const tensors_t *in, tensors_t *out, const tensors_t *grads)
{
    static float mixed[TOKENS * CHANNELS];
    static float grad_mixed[TOKENS * CHANNELS];
    static float gates[4][TOKENS * VALUES]; /* g, beta, and their gradients */
    static float o[2][TOKENS * VALUES * DV];
    const gdncp_cp_core_inputs_t inputs = inputs_of(in, TOKENS);
    const gdncp_cp_core_params_t params = params_of(in);
    const gdncp_cp_core_inputs_t grad_inputs = inputs_of(grads, TOKENS);
    const gdncp_cp_core_params_t grad_params = params_of(grads);
    const int64_t channels[] = {TOKENS, CHANNELS};
    const int64_t per_head[] = {TOKENS, VALUES};
    const gdncp_tensor_t conv_out = gdncp_tensor_contiguous(mixed, GDNCP_F32, 2, channels);
    const gdncp_tensor_t grad_conv = gdncp_tensor_contiguous(grad_mixed, GDNCP_F32, 2, channels);
    gdncp_tensor_t gate_views[4];
    const gdncp_conv1d_t conv = {.x = inputs.qkv,
                                 .weight = params.conv_weight,
                                 .bias = params.conv_bias,
                                 .cu_seqlens = cu_seqlens,
                                 .num_sequences = SEQUENCES,
                                 .activation = GDNCP_ACTIVATION_SILU};
    const gdncp_gate_t gate = {.a = inputs.a,
                               .b = inputs.b,
                               .A_log = params.A_log,
                               .dt_bias = params.dt_bias,
                               .allow_neg_eigval = true};
    const gdncp_gated_rmsnorm_t norm = {.x = by_heads(o[0], VALUES, DV, VALUES * DV),
                                        .z = by_heads(in->tokens[Z], VALUES, DV, VALUES * DV),
                                        .weight = params.norm_weight,
                                        .eps = base_config.norm_eps};
    const gdncp_tensor_t y = by_heads(out->tokens[Y], VALUES, DV, VALUES * DV);
    const gdncp_tensor_t grad_y = by_heads(in->tokens[Y], VALUES, DV, VALUES * DV);
    const gdncp_tensor_t grad_o = by_heads(o[1], VALUES, DV, VALUES * DV);
    gdncp_delta_rule_t rule = {
        .cu_seqlens = cu_seqlens, .num_sequences = SEQUENCES, .qk_l2norm = true};
    gdncp_delta_rule_grads_t rule_grads = {.q.data = NULL};

    for (int i = 0; i < 4; i++) {
        gate_views[i] = gdncp_tensor_contiguous(gates[i], GDNCP_F32, 2, per_head);
    }
    split_qkv(mixed, &rule.q, &rule.k, &rule.v);
    split_qkv(grad_mixed, &rule_grads.q, &rule_grads.k, &rule_grads.v);
    rule.g = gate_views[0];
    rule.beta = gate_views[1];
    rule_grads.g = gate_views[2];
    rule_grads.beta = gate_views[3];
    assert_int_equal(gdncp_conv1d_forward(&conv, &conv_out, NULL, NULL), GDNCP_OK);
    assert_int_equal(gdncp_gate_forward(&gate, &rule.g, &rule.beta, NULL), GDNCP_OK);
    assert_int_equal(gdncp_delta_rule_forward(&rule, &norm.x, NULL, NULL), GDNCP_OK);
    assert_int_equal(gdncp_gated_rmsnorm_forward(&norm, &y, NULL), GDNCP_OK);

    const gdncp_gated_rmsnorm_grads_t norm_grads = {
        .x = grad_o,
        .z = by_heads(grads->tokens[Z], VALUES, DV, VALUES * DV),
        .weight = grad_params.norm_weight};
    const gdncp_gate_grads_t gate_grads = {.a = grad_inputs.a,
                                           .b = grad_inputs.b,
                                           .A_log = grad_params.A_log,
                                           .dt_bias = grad_params.dt_bias};
    const gdncp_conv1d_grads_t conv_grads = {
        .x = grad_inputs.qkv, .weight = grad_params.conv_weight, .bias = grad_params.conv_bias};

    assert_int_equal(gdncp_gated_rmsnorm_backward(&norm, &grad_y, &norm_grads, NULL), GDNCP_OK);
    assert_int_equal(gdncp_delta_rule_backward(&rule, &grad_o, NULL, &rule_grads, NULL), GDNCP_OK);
    assert_int_equal(gdncp_gate_backward(&gate, &rule_grads.g, &rule_grads.beta, &gate_grads, NULL),
                     GDNCP_OK);
    assert_int_equal(gdncp_conv1d_backward(&conv, &grad_conv, &conv_grads, NULL), GDNCP_OK);
}

/* What all ranks do. */
typedef struct run {
    const tensors_t *in;
    const gdncp_layout_t *layout;
    gdncp_strategy_t strategy;
    tensors_t *out;   /* of the pack */
    tensors_t *grads; /* of the pack; params are summed from param_grads */
    tensors_t param_grads[MAX_RANKS];
} run_t;

/* Rows of padding stay as they are. */
static void move_rows(const int64_t *positions, int64_t tokens, int64_t width, float *local,
                      float *pack, bool to_local)
{
    for (int64_t t = 0; t < tokens; t++) {
        float *const own = local + t * width;
        float *const all = pack + positions[t] * width;

        if (positions[t] >= 0) {
            memcpy(to_local ? own : all, to_local ? all : own, (size_t)width * sizeof *own);
        }
    }
}

static gdncp_status_t run_core(run_t *run, gdncp_comm_t *comm, const tensors_t *in,
                               const tensors_t *out, const tensors_t *grads, int64_t tokens)
{
    const gdncp_cp_core_params_t params = params_of(run->in);
    const gdncp_cp_core_inputs_t inputs = inputs_of(in, tokens);
    const gdncp_tensor_t y = tokens_of(out, Y, tokens);
    const gdncp_tensor_t grad_y = tokens_of(in, Y, tokens);
    const gdncp_cp_core_grads_t core_grads = {
        .inputs = inputs_of(grads, tokens),
        .params = params_of(&run->param_grads[gdncp_comm_rank(comm)])};
    gdncp_layer_config_t config = base_config;
    gdncp_cp_core_t *core = NULL;
    gdncp_cp_core_saved_t *saved = NULL;

    config.strategy = run->strategy;
    gdncp_status_t status = gdncp_cp_core_create(comm, run->layout, &config, &core);

    if (status == GDNCP_OK) {
        status = gdncp_cp_core_saved_create(core, &saved);
    }
    if (status == GDNCP_OK) {
        status = gdncp_cp_core_forward(core, &params, &inputs, saved, &y);
    }
    if (status == GDNCP_OK) {
        status = gdncp_cp_core_backward(core, &params, &inputs, saved, &grad_y, &core_grads);
    }
    if (status == GDNCP_OK) {
        status = gdncp_cp_core_check(core);
    }
    gdncp_cp_core_saved_destroy(saved);
    gdncp_cp_core_destroy(core);
    return status;
}

static void run_rank(void *context, gdncp_comm_t *comm, char *problem, size_t size)
{
    run_t *const run = context;
    const int rank = gdncp_comm_rank(comm);
    const int64_t tokens = gdncp_layout_rank_tokens(run->layout, rank);
    tensors_t in = make_tensors(tokens);
    tensors_t out = make_tensors(tokens);
    tensors_t grads = make_tensors(tokens);
    int64_t *const positions = malloc((size_t)(tokens + 1) * sizeof *positions);
    bool padding_is_zero;

    test_own_positions(run->layout, rank, positions);
    for (int i = 0; i < NUM_TOKEN_TENSORS; i++) {
        move_rows(positions, tokens, token_widths[i], in.tokens[i], run->in->tokens[i], true);
    }
    if (run_core(run, comm, &in, &out, &grads, tokens) != GDNCP_OK) {
        snprintf(problem, size, "%s", gdncp_last_error());
    }
    move_rows(positions, tokens, token_widths[Y], out.tokens[Y], run->out->tokens[Y], false);
    padding_is_zero = test_padding_is_zero(positions, tokens, token_widths[Y], out.tokens[Y]);
    for (int i = 0; i < Y; i++) {
        move_rows(positions, tokens, token_widths[i], grads.tokens[i], run->grads->tokens[i],
                  false);
        padding_is_zero &=
            test_padding_is_zero(positions, tokens, token_widths[i], grads.tokens[i]);
    }
    if (!padding_is_zero) {
        snprintf(problem, size, "padding that is not zero");
    }
    free(positions);
    free_tensors(&in);
    free_tensors(&out);
    free_tensors(&grads);
}

static void check(const char *what, const float *result, const float *expected, int64_t count,
                  double tolerance)
{
    const gdncp_tensor_t reference = vector((float *)expected, count);

    test_check_tensor(what, result, &reference, tolerance);
}

static void check_layout(const tensors_t *in, const tensors_t *expected_out,
                         const tensors_t *expected_grads, const gdncp_layout_t *layout,
                         gdncp_strategy_t strategy)
{
    static const char *const token_names[] = {"qkv", "z", "b", "a"};
    static const char *const param_names[] = {"conv_weight", "conv_bias", "A_log", "dt_bias",
                                              "norm_weight"};
    const int ranks = gdncp_layout_num_ranks(layout);
    tensors_t out = make_tensors(TOKENS);
    tensors_t grads = make_tensors(TOKENS);
    run_t run = {.in = in, .layout = layout, .strategy = strategy, .out = &out, .grads = &grads};

    for (int rank = 0; rank < ranks; rank++) {
        run.param_grads[rank] = make_tensors(0);
    }
    test_run_ranks(gdncp_strategy_name(strategy), ranks, run_rank, &run);
    for (int i = 0; i < NUM_PARAMS; i++) {
        for (int64_t j = 0; j < param_counts[i]; j++) {
            double sum = 0.0;

            for (int rank = 0; rank < ranks; rank++) {
                sum += run.param_grads[rank].params[i][j];
            }
            grads.params[i][j] = (float)sum;
        }
        check(param_names[i], grads.params[i], expected_grads->params[i], param_counts[i],
              i == A_LOG || i == DT_BIAS ? GDNCP_TOLERANCE_F32_CANCELLING : GDNCP_TOLERANCE_F32);
    }
    check("y", out.tokens[Y], expected_out->tokens[Y], TOKENS * token_widths[Y],
          GDNCP_TOLERANCE_F32);
    for (int i = 0; i < Y; i++) {
        check(token_names[i], grads.tokens[i], expected_grads->tokens[i], TOKENS * token_widths[i],
              GDNCP_TOLERANCE_F32);
    }
    for (int rank = 0; rank < ranks; rank++) {
        free_tensors(&run.param_grads[rank]);
    }
    free_tensors(&out);
    free_tensors(&grads);
}

static void check_both(const tensors_t *in, const tensors_t *out, const tensors_t *grads,
                       gdncp_layout_t *layout)
{
    check_layout(in, out, grads, layout, GDNCP_STRATEGY_STATES);
    check_layout(in, out, grads, layout, GDNCP_STRATEGY_HEADS);
    gdncp_layout_destroy(layout);
}

static void core_equals_its_operators(void **state)
{
    test_random_t random = test_random_start("core_equals_its_operators", 51);
    tensors_t in = random_tensors(&random);
    tensors_t out = make_tensors(TOKENS);
    tensors_t grads = make_tensors(TOKENS);

    (void)state;
    run_operators(&in, &out, &grads);
    for (int ranks = 1; ranks <= test_size(MAX_RANKS, 4); ranks *= 2) {
        gdncp_layout_t *layout = NULL;

        assert_int_equal(gdncp_layout_create(GDNCP_LAYOUT_DUAL_CHUNK_SWAP, cu_seqlens, SEQUENCES,
                                             ranks, &layout),
                         GDNCP_OK);
        check_both(&in, &out, &grads, layout);
    }
    for (int round = 0; round < test_size(20, 3); round++) {
        check_both(&in, &out, &grads,
                   test_dealt_layout(&random, cu_seqlens, cu_seqlens, SEQUENCES,
                                     (int)test_random_int(&random, 1, test_size(MAX_RANKS, 4))));
    }
    free_tensors(&in);
    free_tensors(&out);
    free_tensors(&grads);
}

/* Padding is NaN in all that is read. The sequence in the middle is nothing but padding. */
static void padding_is_ignored(void **state)
{
    static const int64_t with_empty[] = {0, 64, 64, TOKENS};
    /* On a device, where all takes long, none that cuts sequences into many segments. */
    const int last_kind =
        (int)test_size(GDNCP_LAYOUT_FROM_POSITIONS, GDNCP_LAYOUT_DUAL_CHUNK_SWAP_FLAT);
    test_random_t random = test_random_start("padding_is_ignored", 52);
    tensors_t in = random_tensors(&random);
    tensors_t out = make_tensors(TOKENS);
    tensors_t grads = make_tensors(TOKENS);

    (void)state;
    run_operators(&in, &out, &grads);
    for (int ranks = 1; ranks <= 4; ranks *= 2) {
        for (int kind = 0; kind <= last_kind; kind += (int)test_size(1, 3)) {
            check_both(
                &in, &out, &grads,
                test_padded_layout(&random, (gdncp_layout_kind_t)kind, with_empty, 3, ranks));
        }
    }
    free_tensors(&in);
    free_tensors(&out);
    free_tensors(&grads);
}

/* A pack of nothing but padding is a step without tokens: outputs and gradients are zeros. */
static void all_padding_gives_zeros(void **state)
{
    static const int64_t nothing[] = {0, 0, 0};
    static const int64_t slots[] = {0, 8, 12};
    test_random_t random = test_random_start("all_padding_gives_zeros", 53);
    tensors_t in = random_tensors(&random);
    tensors_t unused = make_tensors(TOKENS);
    gdncp_layout_t *layout = NULL;

    (void)state;
    assert_int_equal(
        gdncp_layout_create_padded(GDNCP_LAYOUT_DUAL_CHUNK_SWAP, nothing, slots, 2, 2, &layout),
        GDNCP_OK);
    for (int strategy = GDNCP_STRATEGY_STATES; strategy <= GDNCP_STRATEGY_HEADS; strategy++) {
        run_t run = {.in = &in,
                     .layout = layout,
                     .strategy = (gdncp_strategy_t)strategy,
                     .out = &unused,
                     .grads = &unused,
                     .param_grads = {make_tensors(0), make_tensors(0)}};

        test_run_ranks(gdncp_strategy_name(run.strategy), 2, run_rank, &run);
        for (int i = 0; i < 2 * NUM_PARAMS; i++) {
            for (int64_t j = 0; j < param_counts[i / 2]; j++) {
                assert_true(run.param_grads[i % 2].params[i / 2][j] == 0.0f);
            }
        }
        free_tensors(&run.param_grads[0]);
        free_tensors(&run.param_grads[1]);
    }
    gdncp_layout_destroy(layout);
    free_tensors(&in);
    free_tensors(&unused);
}

/* The figure a caller plans memory by is what a handle takes. */
static void saved_bytes_are_what_is_allocated(void **state)
{
    const gdncp_cp_rule_config_t rule_config = {
        .num_key_heads = KEYS, .num_value_heads = VALUES, .key_head_dim = DK, .value_head_dim = DV};
    gdncp_memory_usage_t usage = {0};
    gdncp_layout_t *layout = NULL;
    gdncp_comm_t *comm = NULL;
    gdncp_cp_core_t *core = NULL;
    gdncp_cp_rule_t *rule = NULL;
    gdncp_cp_core_saved_t *core_saved = NULL;
    gdncp_cp_rule_saved_t *rule_saved = NULL;

    (void)state;
    assert_int_equal(
        gdncp_layout_create(GDNCP_LAYOUT_CONTIGUOUS, cu_seqlens, SEQUENCES, 1, &layout), GDNCP_OK);
    assert_int_equal(gdncp_comm_create_self(&comm), GDNCP_OK);
    assert_int_equal(gdncp_cp_core_create(comm, layout, &base_config, &core), GDNCP_OK);
    assert_int_equal(gdncp_cp_rule_create(comm, layout, &rule_config, &rule), GDNCP_OK);
    gdncp_memory_track(&usage);
    assert_int_equal(gdncp_cp_core_saved_create(core, &core_saved), GDNCP_OK);
    const int64_t core_bytes = usage.current_bytes;

    assert_int_equal(gdncp_cp_rule_saved_create(rule, &rule_saved), GDNCP_OK);
    gdncp_memory_track(NULL);
    assert_in_range(core_bytes, gdncp_cp_core_saved_bytes(core),
                    gdncp_cp_core_saved_bytes(core) + 256);
    assert_in_range(usage.current_bytes - core_bytes, gdncp_cp_rule_saved_bytes(rule),
                    gdncp_cp_rule_saved_bytes(rule) + 256);
    gdncp_cp_core_saved_destroy(core_saved);
    gdncp_cp_rule_saved_destroy(rule_saved);
    assert_int_equal(usage.current_bytes, 0);
    gdncp_cp_core_destroy(core);
    gdncp_cp_rule_destroy(rule);
    gdncp_comm_destroy(comm);
    gdncp_layout_destroy(layout);
}

/* qkv is contiguous, tokens of the others do not overlap. */
static void strides_of_inputs_are_checked(void **state)
{
    static const char *const names[] = {"qkv", "z", "b", "a"};
    gdncp_layout_t *layout = NULL;
    gdncp_comm_t *comm = NULL;
    gdncp_cp_core_t *core = NULL;
    gdncp_cp_core_saved_t *saved = NULL;
    tensors_t in = make_tensors(TOKENS);
    const gdncp_cp_core_params_t params = params_of(&in);
    const gdncp_tensor_t y = tokens_of(&in, Y, TOKENS);

    (void)state;
    assert_int_equal(
        gdncp_layout_create(GDNCP_LAYOUT_CONTIGUOUS, cu_seqlens, SEQUENCES, 1, &layout), GDNCP_OK);
    assert_int_equal(gdncp_comm_create_self(&comm), GDNCP_OK);
    assert_int_equal(gdncp_cp_core_create(comm, layout, &base_config, &core), GDNCP_OK);
    assert_int_equal(gdncp_cp_core_saved_create(core, &saved), GDNCP_OK);
    for (int i = 0; i < Y; i++) {
        gdncp_cp_core_inputs_t inputs = inputs_of(&in, TOKENS);
        gdncp_tensor_t *const tensors[] = {&inputs.qkv, &inputs.z, &inputs.b, &inputs.a};

        tensors[i]->strides[0] += i == QKV ? 1 : -1;
        assert_argument_error(gdncp_cp_core_forward(core, &params, &inputs, saved, &y),
                              GDNCP_ERR_INVALID_ARGUMENT, names[i]);
    }
    gdncp_cp_core_saved_destroy(saved);
    gdncp_cp_core_destroy(core);
    gdncp_comm_destroy(comm);
    gdncp_layout_destroy(layout);
    free_tensors(&in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(core_equals_its_operators),
        cmocka_unit_test(padding_is_ignored),
        cmocka_unit_test(all_padding_gives_zeros),
        cmocka_unit_test(saved_bytes_are_what_is_allocated),
        cmocka_unit_test(strides_of_inputs_are_checked),
    };

    return cmocka_run_group_tests_name("core across ranks", tests, NULL, NULL);
}
