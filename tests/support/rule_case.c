#include "rule_case.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "compare.h"
#include "gdncp/safetensors.h"
#include "test_block.h"

#define GAP_BYTE 0xa5

/* At least one element, so that NULL means absent and nothing else. */
static float *make_floats(int64_t count)
{
    const size_t bytes = (size_t)(count > 0 ? count : 1) * sizeof(float);

    return memset(test_block_alloc(bytes), 0, bytes);
}

int64_t rule_case_num_q(const rule_case_t *rule_case)
{
    return rule_case->num_tokens * rule_case->num_key_heads * rule_case->key_dim;
}

int64_t rule_case_num_v(const rule_case_t *rule_case)
{
    return rule_case->num_tokens * rule_case->num_value_heads * rule_case->value_dim;
}

int64_t rule_case_num_gates(const rule_case_t *rule_case)
{
    return rule_case->num_tokens * rule_case->num_value_heads;
}

int64_t rule_case_num_states(const rule_case_t *rule_case)
{
    return rule_case->num_sequences * rule_case->num_value_heads * rule_case->key_dim *
           rule_case->value_dim;
}

rule_case_t rule_case_make(const rule_dims_t *dims, const int64_t *lengths, int64_t num_sequences)
{
    rule_case_t made = {.num_sequences = num_sequences,
                        .num_key_heads = dims->num_key_heads,
                        .num_value_heads = dims->num_value_heads,
                        .key_dim = dims->key_dim,
                        .value_dim = dims->value_dim,
                        .qk_l2norm = true};

    made.cu_seqlens = calloc((size_t)num_sequences + 1, sizeof *made.cu_seqlens);
    assert_non_null(made.cu_seqlens);
    for (int64_t i = 0; i < num_sequences; i++) {
        made.cu_seqlens[i + 1] = made.cu_seqlens[i] + lengths[i];
    }
    made.num_tokens = made.cu_seqlens[num_sequences];
    made.q = make_floats(rule_case_num_q(&made));
    made.k = make_floats(rule_case_num_q(&made));
    made.v = make_floats(rule_case_num_v(&made));
    made.g = make_floats(rule_case_num_gates(&made));
    made.beta = make_floats(rule_case_num_gates(&made));
    made.initial_state = make_floats(rule_case_num_states(&made));
    made.grad_o = make_floats(rule_case_num_v(&made));
    made.grad_final_state = make_floats(rule_case_num_states(&made));
    return made;
}

void rule_case_fill(rule_case_t *rule_case, test_random_t *random, double mean_g)
{
    test_random_fill(random, rule_case->q, rule_case_num_q(rule_case));
    test_random_fill(random, rule_case->k, rule_case_num_q(rule_case));
    test_random_fill(random, rule_case->v, rule_case_num_v(rule_case));
    test_random_fill(random, rule_case->grad_o, rule_case_num_v(rule_case));
    test_random_fill(random, rule_case->initial_state, rule_case_num_states(rule_case));
    test_random_fill(random, rule_case->grad_final_state, rule_case_num_states(rule_case));
    for (int64_t i = 0; i < rule_case_num_gates(rule_case); i++) {
        rule_case->g[i] = (float)(mean_g * -log(1.0 - test_random_uniform(random)));
        rule_case->beta[i] = (float)test_random_uniform(random);
    }
}

static void read_tensor(const gdncp_safetensors_t *file, const char *name, void *dst, size_t size,
                        int64_t count)
{
    gdncp_tensor_t tensor;

    assert_int_equal(gdncp_safetensors_get(file, name, &tensor), GDNCP_OK);
    assert_int_equal(gdncp_tensor_num_elements(&tensor), count);
    assert_int_equal(gdncp_dtype_size(tensor.dtype), size);
    memcpy(dst, tensor.data, size * (size_t)count);
}

static void read_floats(const gdncp_safetensors_t *file, const char *name, float *dst,
                        int64_t count)
{
    read_tensor(file, name, dst, sizeof *dst, count);
}

void rule_case_load(const char *name, rule_case_t *rule_case, rule_result_t *expected)
{
    char path[512];
    gdncp_safetensors_t *file = NULL;
    gdncp_tensor_t q;
    gdncp_tensor_t v;
    gdncp_tensor_t offsets;
    int64_t lengths[64];

    snprintf(path, sizeof path, "%s/%s.safetensors", GDNCP_TEST_DATA, name);
    assert_int_equal(gdncp_safetensors_open(path, &file), GDNCP_OK);
    assert_int_equal(gdncp_safetensors_get(file, "q", &q), GDNCP_OK);
    assert_int_equal(gdncp_safetensors_get(file, "v", &v), GDNCP_OK);
    assert_int_equal(gdncp_safetensors_get(file, "cu_seqlens", &offsets), GDNCP_OK);
    const int64_t num_sequences = offsets.shape[0] - 1;

    assert_true(num_sequences <= 64);
    for (int64_t i = 0; i < num_sequences; i++) {
        lengths[i] = ((const int64_t *)offsets.data)[i + 1] - ((const int64_t *)offsets.data)[i];
    }
    const rule_dims_t dims = {q.shape[1], v.shape[1], q.shape[2], v.shape[2]};

    *rule_case = rule_case_make(&dims, lengths, num_sequences);
    *expected = rule_result_make(rule_case);

    const int64_t num_q = rule_case_num_q(rule_case);
    const int64_t num_v = rule_case_num_v(rule_case);
    const int64_t num_gates = rule_case_num_gates(rule_case);
    const int64_t num_states = rule_case_num_states(rule_case);

    read_floats(file, "q", rule_case->q, num_q);
    read_floats(file, "k", rule_case->k, num_q);
    read_floats(file, "v", rule_case->v, num_v);
    read_floats(file, "g", rule_case->g, num_gates);
    read_floats(file, "beta", rule_case->beta, num_gates);
    read_floats(file, "initial_state", rule_case->initial_state, num_states);
    read_floats(file, "grad_o", rule_case->grad_o, num_v);
    read_floats(file, "grad_final_state", rule_case->grad_final_state, num_states);
    read_floats(file, "o", expected->o, num_v);
    read_floats(file, "final_state", expected->final_state, num_states);
    read_floats(file, "grad.q", expected->grad_q, num_q);
    read_floats(file, "grad.k", expected->grad_k, num_q);
    read_floats(file, "grad.v", expected->grad_v, num_v);
    read_floats(file, "grad.g", expected->grad_g, num_gates);
    read_floats(file, "grad.beta", expected->grad_beta, num_gates);
    read_floats(file, "grad.initial_state", expected->grad_initial_state, num_states);
    gdncp_safetensors_close(file);
}

static void round_values(float *values, int64_t count, gdncp_dtype_t dtype)
{
    for (int64_t i = 0; i < count; i++) {
        uint32_t rounded;

        assert_int_equal(gdncp_convert_from_f32(&values[i], 1, dtype, &rounded), GDNCP_OK);
        assert_int_equal(gdncp_convert_to_f32(dtype, &rounded, 1, &values[i]), GDNCP_OK);
    }
}

void rule_case_round(rule_case_t *rule_case, gdncp_dtype_t dtype)
{
    round_values(rule_case->q, rule_case_num_q(rule_case), dtype);
    round_values(rule_case->k, rule_case_num_q(rule_case), dtype);
    round_values(rule_case->v, rule_case_num_v(rule_case), dtype);
    round_values(rule_case->grad_o, rule_case_num_v(rule_case), dtype);
}

void rule_case_free(rule_case_t *rule_case)
{
    free(rule_case->cu_seqlens);
    test_block_free(rule_case->q);
    test_block_free(rule_case->k);
    test_block_free(rule_case->v);
    test_block_free(rule_case->g);
    test_block_free(rule_case->beta);
    test_block_free(rule_case->initial_state);
    test_block_free(rule_case->grad_o);
    test_block_free(rule_case->grad_final_state);
}

static float *make_poisoned(int64_t count)
{
    float *const values = make_floats(count);

    test_poison(values, count);
    return values;
}

rule_result_t rule_result_make(const rule_case_t *rule_case)
{
    const int64_t num_q = rule_case_num_q(rule_case);
    const int64_t num_v = rule_case_num_v(rule_case);
    const int64_t num_gates = rule_case_num_gates(rule_case);
    const int64_t num_states = rule_case_num_states(rule_case);

    return (rule_result_t){.o = make_poisoned(num_v),
                           .final_state = make_poisoned(num_states),
                           .grad_q = make_poisoned(num_q),
                           .grad_k = make_poisoned(num_q),
                           .grad_v = make_poisoned(num_v),
                           .grad_g = make_poisoned(num_gates),
                           .grad_beta = make_poisoned(num_gates),
                           .grad_initial_state = make_poisoned(num_states)};
}

void rule_result_free(rule_result_t *result)
{
    test_block_free(result->o);
    test_block_free(result->final_state);
    test_block_free(result->grad_q);
    test_block_free(result->grad_k);
    test_block_free(result->grad_v);
    test_block_free(result->grad_g);
    test_block_free(result->grad_beta);
    test_block_free(result->grad_initial_state);
}

static gdncp_tensor_t gates_of(const rule_case_t *rule_case, float *values)
{
    const int64_t shape[] = {rule_case->num_tokens, rule_case->num_value_heads};

    return gdncp_tensor_contiguous(values, GDNCP_F32, 2, shape);
}

static gdncp_tensor_t states_of(const rule_case_t *rule_case, float *values)
{
    const int64_t shape[] = {rule_case->num_sequences, rule_case->num_value_heads,
                             rule_case->key_dim, rule_case->value_dim};

    return gdncp_tensor_contiguous(values, GDNCP_F32, 4, shape);
}

gdncp_delta_rule_t rule_case_f32(const rule_case_t *rule_case)
{
    const int64_t q_shape[] = {rule_case->num_tokens, rule_case->num_key_heads, rule_case->key_dim};
    const int64_t v_shape[] = {rule_case->num_tokens, rule_case->num_value_heads,
                               rule_case->value_dim};

    return (gdncp_delta_rule_t){.q = gdncp_tensor_contiguous(rule_case->q, GDNCP_F32, 3, q_shape),
                                .k = gdncp_tensor_contiguous(rule_case->k, GDNCP_F32, 3, q_shape),
                                .v = gdncp_tensor_contiguous(rule_case->v, GDNCP_F32, 3, v_shape),
                                .g = gates_of(rule_case, rule_case->g),
                                .beta = gates_of(rule_case, rule_case->beta),
                                .initial_state = states_of(rule_case, rule_case->initial_state),
                                .cu_seqlens = rule_case->cu_seqlens,
                                .num_sequences = rule_case->num_sequences,
                                .group_size = rule_case->group_size,
                                .group_phase = rule_case->group_phase,
                                .scale = rule_case->scale,
                                .qk_l2norm = rule_case->qk_l2norm};
}

/* A tensor of the shape of `like` in dtype with gaps between tokens, all bytes GAP_BYTE. */
static gdncp_tensor_t make_gapped(const gdncp_tensor_t *like, gdncp_dtype_t dtype, int64_t gap)
{
    gdncp_tensor_t tensor = gdncp_tensor_contiguous(NULL, dtype, like->ndim, like->shape);

    tensor.strides[0] += gap;
    const size_t bytes =
        (size_t)(tensor.shape[0] * tensor.strides[0] + 1) * gdncp_dtype_size(dtype);

    tensor.data = malloc(bytes);
    assert_non_null(tensor.data);
    memset(tensor.data, GAP_BYTE, bytes);
    return tensor;
}

static char *token_of(const gdncp_tensor_t *tensor, int64_t token)
{
    return (char *)tensor->data +
           (size_t)(token * tensor->strides[0]) * gdncp_dtype_size(tensor->dtype);
}

static gdncp_tensor_t make_input(const gdncp_tensor_t *like, const float *values,
                                 gdncp_dtype_t dtype, int64_t gap)
{
    const gdncp_tensor_t tensor = make_gapped(like, dtype, gap);
    const int64_t row = tensor.shape[1] * tensor.shape[2];

    for (int64_t t = 0; t < tensor.shape[0]; t++) {
        gdncp_convert_from_f32(values + t * row, row, dtype, token_of(&tensor, t));
    }
    return tensor;
}

static void take_output(gdncp_tensor_t *tensor, float *values)
{
    const int64_t row = tensor->shape[1] * tensor->shape[2];
    const size_t size = gdncp_dtype_size(tensor->dtype);

    for (int64_t t = 0; t < tensor->shape[0]; t++) {
        const char *const gap = token_of(tensor, t) + (size_t)row * size;

        gdncp_convert_to_f32(tensor->dtype, token_of(tensor, t), row, values + t * row);
        for (size_t i = 0; i < (size_t)(tensor->strides[0] - row) * size; i++) {
            assert_int_equal((unsigned char)gap[i], GAP_BYTE);
        }
    }
    free(tensor->data);
}

void rule_case_run_gapped(const rule_case_t *rule_case, gdncp_dtype_t dtype,
                          const rule_gaps_t *gaps, gdncp_workspace_t *workspace,
                          rule_result_t *result)
{
    gdncp_delta_rule_t rule = rule_case_f32(rule_case);

    rule.q = make_input(&rule.q, rule_case->q, dtype, gaps->q);
    rule.k = make_input(&rule.k, rule_case->k, dtype, gaps->k);
    const gdncp_tensor_t grad_o = make_input(&rule.v, rule_case->grad_o, dtype, gaps->o);

    rule.v = make_input(&rule.v, rule_case->v, dtype, gaps->v);
    const gdncp_tensor_t final_state = states_of(rule_case, result->final_state);
    const gdncp_tensor_t grad_final_state = states_of(rule_case, rule_case->grad_final_state);
    gdncp_tensor_t o = make_gapped(&rule.v, dtype, gaps->o);
    gdncp_delta_rule_grads_t grads = {.q = make_gapped(&rule.q, dtype, gaps->q),
                                      .k = make_gapped(&rule.k, dtype, gaps->k),
                                      .v = make_gapped(&rule.v, dtype, gaps->v),
                                      .g = gates_of(rule_case, result->grad_g),
                                      .beta = gates_of(rule_case, result->grad_beta),
                                      .initial_state =
                                          states_of(rule_case, result->grad_initial_state)};

    assert_int_equal(gdncp_delta_rule_forward(&rule, &o, &final_state, workspace), GDNCP_OK);
    assert_int_equal(
        gdncp_delta_rule_backward(&rule, &grad_o, &grad_final_state, &grads, workspace), GDNCP_OK);
    take_output(&o, result->o);
    take_output(&grads.q, result->grad_q);
    take_output(&grads.k, result->grad_k);
    take_output(&grads.v, result->grad_v);
    free(rule.q.data);
    free(rule.k.data);
    free(rule.v.data);
    free(grad_o.data);
}

void rule_case_run(const rule_case_t *rule_case, gdncp_dtype_t dtype, int64_t gap,
                   gdncp_workspace_t *workspace, rule_result_t *result)
{
    const rule_gaps_t gaps = {gap, gap, gap, gap};

    rule_case_run_gapped(rule_case, dtype, &gaps, workspace, result);
}

void rule_result_outputs(const rule_case_t *rule_case, const rule_result_t *result,
                         rule_output_t outputs[RULE_NUM_OUTPUTS])
{
    const int64_t num_q = rule_case_num_q(rule_case);
    const int64_t num_v = rule_case_num_v(rule_case);
    const int64_t num_gates = rule_case_num_gates(rule_case);
    const int64_t num_states = rule_case_num_states(rule_case);
    const rule_output_t all[RULE_NUM_OUTPUTS] = {
        {"o", result->o, num_v},
        {"final_state", result->final_state, num_states},
        {"grad q", result->grad_q, num_q},
        {"grad k", result->grad_k, num_q},
        {"grad v", result->grad_v, num_v},
        {"grad g", result->grad_g, num_gates},
        {"grad beta", result->grad_beta, num_gates},
        {"grad initial_state", result->grad_initial_state, num_states},
    };

    memcpy(outputs, all, sizeof all);
}

void rule_result_check_equal(const rule_case_t *rule_case, const rule_result_t *a,
                             const rule_result_t *b)
{
    rule_output_t outputs_a[RULE_NUM_OUTPUTS];
    rule_output_t outputs_b[RULE_NUM_OUTPUTS];

    rule_result_outputs(rule_case, a, outputs_a);
    rule_result_outputs(rule_case, b, outputs_b);
    for (int i = 0; i < RULE_NUM_OUTPUTS; i++) {
        if (memcmp(outputs_a[i].values, outputs_b[i].values,
                   (size_t)outputs_a[i].count * sizeof(float)) != 0) {
            print_error("%s: bits differ\n", outputs_a[i].name);
            fail();
        }
    }
}
