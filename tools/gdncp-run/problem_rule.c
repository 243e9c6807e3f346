/* Dumps of the gated delta rule. */
#include "problem_kinds.h"

#include <math.h>
#include <string.h>

#include "fail.h"

#define MAX_SIZE (1 << 20)

/* Mean cosine of a key with the one before it. 0 for random keys, 1 for keys all alike. */
#define PARALLEL_KEYS 0.9
/* Mean log decay of a token: exp(-5) = 0.7% of the state is left. */
#define STRONG_DECAY (-5.0)

static gdncp_status_t read_config(const run_dump_t *dump, gdncp_cp_rule_config_t *config)
{
    int64_t l2norm = 0;
    const char *scale = NULL;
    gdncp_status_t status =
        run_dump_integer(dump, "num_key_heads", 1, MAX_SIZE, &config->num_key_heads);

    if (status == GDNCP_OK) {
        status = run_dump_integer(dump, "num_value_heads", 1, MAX_SIZE, &config->num_value_heads);
    }
    if (status == GDNCP_OK) {
        status = run_dump_integer(dump, "key_head_dim", 1, MAX_SIZE, &config->key_head_dim);
    }
    if (status == GDNCP_OK) {
        status = run_dump_integer(dump, "value_head_dim", 1, MAX_SIZE, &config->value_head_dim);
    }
    if (status == GDNCP_OK) {
        status = run_dump_integer(dump, "qk_l2norm", 0, 1, &l2norm);
    }
    if (status == GDNCP_OK) {
        status = run_dump_text(dump, "scale", &scale);
    }
    if (status == GDNCP_OK && strcmp(scale, "key_head_dim^-0.5") != 0) {
        status = run_dump_positive(dump, "scale", &config->scale);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    config->qk_l2norm = l2norm == 1;
    if (config->num_value_heads % config->num_key_heads != 0) {
        return run_fail(GDNCP_ERR_FORMAT,
                        "%s: metadata 'num_value_heads': expected a multiple of the %d key heads, "
                        "got %d",
                        dump->path, (int)config->num_key_heads, (int)config->num_value_heads);
    }
    return GDNCP_OK;
}

/* A sum of so many terms, over the tokens of all sequences. */
typedef struct mean {
    double sum;
    int64_t count;
} mean_t;

static double value_of(const mean_t *mean)
{
    return mean->count > 0 ? mean->sum / (double)mean->count : 0.0;
}

/* Cosines of the angles between the keys of neighbours in one sequence. */
static void add_cosines(const float *keys, int64_t tokens, int64_t channels, mean_t *mean)
{
    for (int64_t t = 1; t < tokens; t++) {
        const float *const a = &keys[(t - 1) * channels];
        const float *const b = &keys[t * channels];
        double ab = 0.0;
        double aa = 0.0;
        double bb = 0.0;

        for (int64_t c = 0; c < channels; c++) {
            ab += (double)a[c] * b[c];
            aa += (double)a[c] * a[c];
            bb += (double)b[c] * b[c];
        }
        mean->sum += aa * bb > 0.0 ? ab / sqrt(aa * bb) : 0.0;
        mean->count++;
    }
}

static void add_values(const float *values, int64_t count, mean_t *mean)
{
    for (int64_t i = 0; i < count; i++) {
        mean->sum += values[i];
    }
    mean->count += count;
}

static bool is_ill_conditioned(const run_problem_t *problem)
{
    const run_input_t *const k = &problem->inputs[RUN_RULE_K];
    const run_input_t *const g = &problem->inputs[RUN_RULE_G];

    const run_sequences_t *const sequences = &problem->sequences;
    const int64_t *const slots =
        sequences->cu_seqlens_padded != NULL ? sequences->cu_seqlens_padded : sequences->cu_seqlens;
    const int64_t channels = run_spec_row(&k->spec);
    const int64_t heads = run_spec_row(&g->spec);
    mean_t cosine = {0};
    mean_t decay = {0};

    for (int64_t i = 0; i < sequences->count; i++) {
        const int64_t length = sequences->cu_seqlens[i + 1] - sequences->cu_seqlens[i];

        add_cosines(&k->values[slots[i] * channels], length, channels, &cosine);
        add_values(&g->values[slots[i] * heads], length * heads, &decay);
    }
    return value_of(&cosine) > PARALLEL_KEYS || value_of(&decay) < STRONG_DECAY;
}

gdncp_status_t run_problem_load_rule(const run_dump_t *dump, run_problem_t *problem)
{
    gdncp_cp_rule_config_t *const rule = &problem->rule;
    gdncp_status_t status = read_config(dump, rule);

    problem->kind = RUN_RULE;
    problem->operation = &run_rule_operation;
    problem->rows = 1;
    if (status == GDNCP_OK) {
        status = run_dump_size(dump, "q", 3, 0, &problem->tokens);
    }
    if (status == GDNCP_OK) {
        status = run_dump_sequences(dump, problem->tokens, &problem->sequences);
    }
    if (status != GDNCP_OK) {
        return status;
    }

    const int64_t T = problem->tokens;
    const int64_t hk = rule->num_key_heads;
    const int64_t hv = rule->num_value_heads;
    const int64_t dk = rule->key_head_dim;
    const int64_t dv = rule->value_head_dim;
    const int64_t S = problem->sequences.count;
    const run_spec_t inputs[RUN_RULE_NUM_INPUTS] = {
        [RUN_RULE_Q] = {"q", RUN_TOKENS, true, 3, {T, hk, dk}},
        [RUN_RULE_K] = {"k", RUN_TOKENS, true, 3, {T, hk, dk}},
        [RUN_RULE_V] = {"v", RUN_TOKENS, true, 3, {T, hv, dv}},
        [RUN_RULE_G] = {"g", RUN_TOKENS, false, 2, {T, hv}},
        [RUN_RULE_BETA] = {"beta", RUN_TOKENS, false, 2, {T, hv}},
        [RUN_RULE_INITIAL_STATE] = {"initial_state", RUN_INITIAL_STATE, false, 4, {S, hv, dk, dv}},
        [RUN_RULE_GRAD_O] = {"grad_o", RUN_TOKENS, true, 3, {T, hv, dv}},
        [RUN_RULE_GRAD_FINAL_STATE] =
            {"grad_final_state", RUN_FINAL_STATE, false, 4, {S, hv, dk, dv}},
    };
    const run_spec_t outputs[RUN_RULE_NUM_OUTPUTS] = {
        [RUN_RULE_O] = {"o", RUN_TOKENS, true, 3, {T, hv, dv}},
        [RUN_RULE_FINAL_STATE] = {"final_state", RUN_FINAL_STATE, false, 4, {S, hv, dk, dv}},
        [RUN_RULE_GRAD_Q] = {"grad.q", RUN_TOKENS, true, 3, {T, hk, dk}},
        [RUN_RULE_GRAD_K] = {"grad.k", RUN_TOKENS, true, 3, {T, hk, dk}},
        [RUN_RULE_GRAD_V] = {"grad.v", RUN_TOKENS, true, 3, {T, hv, dv}},
        [RUN_RULE_GRAD_G] = {"grad.g", RUN_TOKENS, false, 2, {T, hv}},
        [RUN_RULE_GRAD_BETA] = {"grad.beta", RUN_TOKENS, false, 2, {T, hv}},
        [RUN_RULE_GRAD_INITIAL_STATE] =
            {"grad.initial_state", RUN_INITIAL_STATE, false, 4, {S, hv, dk, dv}},
    };

    for (int i = 0; i < RUN_RULE_NUM_INPUTS && status == GDNCP_OK; i++) {
        status = run_problem_read_input(dump, &inputs[i], problem);
    }
    for (int i = 0; i < RUN_RULE_NUM_OUTPUTS && status == GDNCP_OK; i++) {
        status = run_problem_add_output(dump, &outputs[i],
                                        i == RUN_RULE_O ? "output" : outputs[i].name, problem);
    }
    if (status == GDNCP_OK) {
        problem->ill_conditioned = is_ill_conditioned(problem);
    }
    return status;
}
