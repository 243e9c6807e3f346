/* What is to be run: shapes, inputs, and the results that are expected. */
#ifndef GDNCP_RUN_PROBLEM_H
#define GDNCP_RUN_PROBLEM_H

#include <stdbool.h>
#include <stdint.h>

#include "dump.h"
#include "gdncp/layer.h"
#include "gdncp/status.h"
#include "gdncp/tensor.h"
#include "gdncp/weights.h"
#include "operation.h"

#define RUN_MAX_TENSORS 16

typedef enum run_kind { RUN_LAYER = 0, RUN_RULE } run_kind_t;

/* How a tensor lies on the ranks. */
typedef enum run_place {
    RUN_TOKENS = 0,    /* [tokens, ...]: each row with its token */
    RUN_INITIAL_STATE, /* [S, Hv, dk, dv]: each state where it enters */
    RUN_FINAL_STATE,   /* likewise where it leaves */
    RUN_PARAMETER      /* inputs: the same on all ranks; outputs: the sum over the ranks */
} run_place_t;

typedef struct run_spec {
    const char *name; /* static storage */
    run_place_t place;
    bool narrow; /* in the dtype of the run; others are always float32 */
    int ndim;
    int64_t shape[GDNCP_MAX_DIMS]; /* of the whole problem, not of one rank's part */
} run_spec_t;

typedef struct run_input {
    run_spec_t spec;
    float *values;
} run_input_t;

/* A result under the name the dump has for it. */
typedef struct run_reported {
    char name[64];         /* "output", "grad.in_proj_qkvz.weight", ... */
    int output;            /* the output it is, or -1: */
    int64_t family_tensor; /* the tensor of the family that the parameter gradients give */
    int64_t count;
    float *expected; /* [count]; NULL where the run is not the dump's */
} run_reported_t;

typedef struct run_problem {
    const char *path;
    run_kind_t kind;
    const run_operation_t *operation;

    gdncp_family_t family;      /* RUN_LAYER */
    gdncp_layer_config_t layer; /* dtype and strategy are the run's */

    gdncp_cp_rule_config_t rule; /* RUN_RULE */
    /* Measured in the inputs: nearly parallel keys or strong decay, which lose digits in float32.
     */
    bool ill_conditioned;

    int64_t rows;   /* of the batch; tokens and sequences are of all rows */
    int64_t tokens; /* with padding */
    run_sequences_t sequences;

    run_input_t inputs[RUN_MAX_TENSORS];
    int num_inputs;
    run_spec_t outputs[RUN_MAX_TENSORS];
    int num_outputs;
    run_reported_t reported[RUN_MAX_TENSORS];
    int num_reported;
} run_problem_t;

/* Read a dump and check all of it. On an error there is nothing to release. */
gdncp_status_t run_problem_load(const char *path, run_problem_t *problem);
void run_problem_release(run_problem_t *problem);

/* Repeat or cut the last document of each row so that a row has that many tokens. What the dump
 * expects is then dropped, unless the rows have that many already. Not of a padded pack. */
gdncp_status_t run_problem_set_tokens(run_problem_t *problem, int64_t row_tokens);

/* Round all inputs to bfloat16 and drop what the dump expects. */
gdncp_status_t run_problem_round(run_problem_t *problem);

bool run_problem_has_expected(const run_problem_t *problem);

int64_t run_spec_count(const run_spec_t *spec);
/* Elements in one row of the first dimension. */
int64_t run_spec_row(const run_spec_t *spec);

gdncp_status_t run_problem_layout(const run_problem_t *problem, gdncp_layout_kind_t kind, int ranks,
                                  gdncp_layout_t **layout_p);

/* A hash of shapes and inputs, to tell whether ranks have read the same. */
uint64_t run_problem_hash(const run_problem_t *problem);

/* One reported result from the outputs ([num_outputs] whole tensors). values [count]. */
gdncp_status_t run_problem_report(const run_problem_t *problem, const run_reported_t *reported,
                                  float *const *outputs, float *values);

#endif
