/* Inputs of one gated delta rule, and runs of it through the public API in any dtype. */
#ifndef GDNCP_TEST_RULE_CASE_H
#define GDNCP_TEST_RULE_CASE_H

#include <stdbool.h>
#include <stdint.h>

#include "gdncp/ops.h"
#include "random.h"

typedef struct rule_case {
    int64_t num_tokens;
    int64_t num_sequences;
    int64_t num_key_heads;
    int64_t num_value_heads;
    int64_t key_dim;
    int64_t value_dim;
    int64_t group_size; /* as in gdncp_delta_rule_t */
    int64_t group_phase;
    float scale;
    bool qk_l2norm;
    int64_t *cu_seqlens;     /* [N + 1] */
    float *q;                /* [T, Hk, dk] */
    float *k;                /* [T, Hk, dk] */
    float *v;                /* [T, Hv, dv] */
    float *g;                /* [T, Hv] */
    float *beta;             /* [T, Hv] */
    float *initial_state;    /* [N, Hv, dk, dv]; NULL: absent */
    float *grad_o;           /* [T, Hv, dv] */
    float *grad_final_state; /* [N, Hv, dk, dv]; NULL: absent */
} rule_case_t;

/* Heads and dims of a case. */
typedef struct rule_dims {
    int64_t num_key_heads;
    int64_t num_value_heads;
    int64_t key_dim;
    int64_t value_dim;
} rule_dims_t;

/* Sequences of lengths [num_sequences], all numbers zero, qk_l2norm set, states present. */
rule_case_t rule_case_make(const rule_dims_t *dims, const int64_t *lengths, int64_t num_sequences);

/* Normal q, k, v, states and gradients; beta in (0, 1); g exponential with this mean (< 0). */
void rule_case_fill(rule_case_t *rule_case, test_random_t *random, double mean_g);

/* A golden file of tests/data, by name without folder and ending: inputs, and what it expects. */
typedef struct rule_result rule_result_t;
void rule_case_load(const char *name, rule_case_t *rule_case, rule_result_t *expected);

/* Round what has the dtype of activations (q, k, v, grad_o) to dtype. */
void rule_case_round(rule_case_t *rule_case, gdncp_dtype_t dtype);

void rule_case_free(rule_case_t *rule_case);

int64_t rule_case_num_q(const rule_case_t *rule_case);      /* T Hk dk */
int64_t rule_case_num_v(const rule_case_t *rule_case);      /* T Hv dv */
int64_t rule_case_num_gates(const rule_case_t *rule_case);  /* T Hv */
int64_t rule_case_num_states(const rule_case_t *rule_case); /* N Hv dk dv */

/* Outputs and gradients of a run, as float32, poisoned with NaN until written. */
struct rule_result {
    float *o;
    float *final_state;
    float *grad_q;
    float *grad_k;
    float *grad_v;
    float *grad_g;
    float *grad_beta;
    float *grad_initial_state;
};

rule_result_t rule_result_make(const rule_case_t *rule_case);
void rule_result_free(rule_result_t *result);

/* The rule over the case's own arrays in float32. */
gdncp_delta_rule_t rule_case_f32(const rule_case_t *rule_case);

/*
 * Run forward and backward with activations in dtype, tokens `gap` elements further apart than
 * they need be. Fails the test on an error, and where a gap of an output was written.
 */
void rule_case_run(const rule_case_t *rule_case, gdncp_dtype_t dtype, int64_t gap,
                   gdncp_workspace_t *workspace, rule_result_t *result);

/* Likewise, with a distance for each tensor: grad_o has that of o, gradients that of what they are
 * of. */
typedef struct rule_gaps {
    int64_t q;
    int64_t k;
    int64_t v;
    int64_t o;
} rule_gaps_t;

void rule_case_run_gapped(const rule_case_t *rule_case, gdncp_dtype_t dtype,
                          const rule_gaps_t *gaps, gdncp_workspace_t *workspace,
                          rule_result_t *result);

/* The eight outputs of a run with their names and sizes, in the order of rule_result_t. */
#define RULE_NUM_OUTPUTS 8
typedef struct rule_output {
    const char *name;
    const float *values;
    int64_t count;
} rule_output_t;

void rule_result_outputs(const rule_case_t *rule_case, const rule_result_t *result,
                         rule_output_t outputs[RULE_NUM_OUTPUTS]);

/* Fail unless both hold the same bits. */
void rule_result_check_equal(const rule_case_t *rule_case, const rule_result_t *a,
                             const rule_result_t *b);

#endif
