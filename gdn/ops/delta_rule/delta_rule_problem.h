/* A checked delta rule: dimensions and grouping resolved. */
#ifndef GDNCP_DELTA_RULE_PROBLEM_H
#define GDNCP_DELTA_RULE_PROBLEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gdncp/ops.h"
#include "op_kernels.h"

/* Tokens of a chunk. */
#define GDNCP_CHUNK 64

/* Chunks from one saved state to the next. */
#define GDNCP_SAVED_STATE_CHUNKS (GDNCP_SAVED_STATE_TOKENS / GDNCP_CHUNK)

/*
 * A chunk's rows are padded to a multiple of this, so that few shapes of kernels are needed.
 * Padding rows have q = k = v = 0, g = 0 and beta = 0: tokens that change no state.
 */
#define GDNCP_ROW_GRAIN 16

typedef struct gdncp_rule_problem {
    const gdncp_delta_rule_t *rule;
    gdncp_device_kind_t device;
    const gdncp_op_kernels_t *kernels; /* of the device; NULL on the CPU */
    gdncp_dtype_t dtype;               /* of k, v and, where they are used, q and o */
    int64_t num_tokens;
    int64_t num_key_heads;
    int64_t num_value_heads;
    int64_t dk;
    int64_t dv;
    int64_t group_size;
    int64_t longest; /* tokens of the longest sequence */
    float scale;
    bool in_tiles; /* operands on the CPU, see operand.h */
} gdncp_rule_problem_t;

/* Scratch that a call on a CUDA device takes at most, about, whatever the length of the pack. Tests
 * set less. */
extern size_t gdncp_rule_scratch_bytes;

/* What a call has to do with a rule. */
typedef enum gdncp_rule_needs {
    GDNCP_RULE_Q = 1,
    GDNCP_RULE_INITIAL_STATE = 2, /* reads it, if it is there */
    GDNCP_RULE_ANY_LAYOUT = 4     /* of states */
} gdncp_rule_needs_t;

/* Check a rule and resolve its defaults. needs: of gdncp_rule_needs_t, or'ed. */
gdncp_status_t gdncp_rule_problem_make(const gdncp_delta_rule_t *rule, unsigned needs,
                                       const gdncp_workspace_t *workspace,
                                       gdncp_rule_problem_t *problem);

/* sequences is NULL (then num_selected must be the number of sequences) or lists valid ones, on a
 * CUDA device with a copy there. */
gdncp_status_t gdncp_rule_check_selection(const gdncp_rule_problem_t *problem,
                                          const int64_t *sequences, const int64_t *sequences_cuda,
                                          int64_t num_selected);

/* Checks of tensors shaped by the rule: [T, Hv, dv], and states [count, Hv, dk, columns] in the
 * rule's layout. */
gdncp_status_t gdncp_rule_check_values(const gdncp_rule_problem_t *problem, const char *name,
                                       const gdncp_tensor_t *tensor);
gdncp_status_t gdncp_rule_check_states(const gdncp_rule_problem_t *problem, const char *name,
                                       const gdncp_tensor_t *tensor, bool optional, int64_t count,
                                       int64_t columns);

/* Value heads [first, end) of the group of a key head; empty where no value head here reads it. */
typedef struct gdncp_head_group {
    int64_t first;
    int64_t end;
} gdncp_head_group_t;

gdncp_head_group_t gdncp_rule_group(const gdncp_rule_problem_t *problem, int64_t key_head);
int64_t gdncp_rule_key_head(const gdncp_rule_problem_t *problem, int64_t value_head);

/* Rows that `count` tokens are padded to. */
int64_t gdncp_padded_rows(int64_t count);

#endif
