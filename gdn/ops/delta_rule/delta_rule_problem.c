/* A checked delta rule: dimensions and grouping resolved. */
#include "delta_rule_problem.h"

#include <inttypes.h>
#include <math.h>

#include "error.h"
#include "op_checks.h"
#include "operand.h"

size_t gdncp_rule_scratch_bytes = (size_t)1 << 30;

static gdncp_status_t resolve_group(gdncp_rule_problem_t *problem)
{
    const gdncp_delta_rule_t *const rule = problem->rule;
    const int64_t key_heads = problem->num_key_heads;
    const int64_t value_heads = problem->num_value_heads;

    if (rule->group_size < 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "group_size: expected >= 0, got %" PRId64,
                          rule->group_size);
    }
    if (rule->group_size == 0) {
        if (key_heads == 0 ? value_heads > 0 : value_heads % key_heads != 0) {
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                              "v: expected a multiple of the %" PRId64 " key heads, got %" PRId64
                              " value heads",
                              key_heads, value_heads);
        }
        problem->group_size = value_heads > 0 ? value_heads / key_heads : 1;
    } else {
        problem->group_size = rule->group_size;
    }
    if (rule->group_phase < 0 || rule->group_phase >= problem->group_size) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "group_phase: expected 0..%" PRId64 ", got %" PRId64,
                          problem->group_size - 1, rule->group_phase);
    }
    if (value_heads > 0 &&
        (value_heads - 1 + rule->group_phase) / problem->group_size >= key_heads) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "k: expected a key head for each %" PRId64 " of %" PRId64
                          " value heads from phase %" PRId64 ", got %" PRId64 " key heads",
                          problem->group_size, value_heads, rule->group_phase, key_heads);
    }
    return GDNCP_OK;
}

static gdncp_status_t check_gates(const gdncp_rule_problem_t *problem)
{
    const int64_t shape[] = {problem->num_tokens, problem->num_value_heads};
    const gdncp_status_t status = gdncp_op_check_tensor("g", &problem->rule->g, problem->device,
                                                        GDNCP_F32, GDNCP_OP_CONTIGUOUS, 2, shape);

    return status != GDNCP_OK ? status
                              : gdncp_op_check_tensor("beta", &problem->rule->beta, problem->device,
                                                      GDNCP_F32, GDNCP_OP_CONTIGUOUS, 2, shape);
}

static gdncp_status_t check_qkv(gdncp_rule_problem_t *problem, bool needs_q,
                                const gdncp_workspace_t *workspace)
{
    const gdncp_delta_rule_t *const rule = problem->rule;
    gdncp_status_t status = gdncp_op_check_ndim("k", &rule->k, 3);

    if (status == GDNCP_OK) {
        status = gdncp_op_check_ndim("v", &rule->v, 3);
    }
    if (status == GDNCP_OK) {
        status = gdncp_op_check_dtype("k", &rule->k);
    }
    if (status == GDNCP_OK) {
        status = gdncp_op_check_device("k", &rule->k, workspace, &problem->kernels);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    const int64_t key_shape[] = {rule->k.shape[0], rule->k.shape[1], rule->k.shape[2]};
    const int64_t value_shape[] = {key_shape[0], rule->v.shape[1], rule->v.shape[2]};

    problem->device = rule->k.device;
    problem->dtype = rule->k.dtype;
    problem->num_tokens = key_shape[0];
    problem->num_key_heads = key_shape[1];
    problem->dk = key_shape[2];
    problem->num_value_heads = value_shape[1];
    problem->dv = value_shape[2];
    if (problem->dk == 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "k: expected a head dimension > 0, got 0");
    }
    if (problem->dv == 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "v: expected a head dimension > 0, got 0");
    }
    status = gdncp_op_check_tensor("k", &rule->k, problem->device, problem->dtype,
                                   GDNCP_OP_TOKEN_STRIDE, 3, key_shape);
    if (status == GDNCP_OK && needs_q) {
        status = gdncp_op_check_tensor("q", &rule->q, problem->device, problem->dtype,
                                       GDNCP_OP_TOKEN_STRIDE, 3, key_shape);
    }
    return status != GDNCP_OK
               ? status
               : gdncp_op_check_tensor("v", &rule->v, problem->device, problem->dtype,
                                       GDNCP_OP_TOKEN_STRIDE, 3, value_shape);
}

static gdncp_status_t check_layout(const gdncp_rule_problem_t *problem, bool any_layout)
{
    const gdncp_state_layout_t layout = problem->rule->state_layout;

    if (layout != GDNCP_STATE_DK_DV && layout != GDNCP_STATE_DV_DK) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "state_layout: expected GDNCP_STATE_DK_DV or GDNCP_STATE_DV_DK, got %d",
                          (int)layout);
    }
    if (layout != GDNCP_STATE_DK_DV && !any_layout) {
        return gdncp_fail(
            GDNCP_ERR_NOT_SUPPORTED,
            "state_layout: expected GDNCP_STATE_DK_DV in a summary, got GDNCP_STATE_DV_DK");
    }
    return GDNCP_OK;
}

static gdncp_status_t check_saved_states(const gdncp_rule_problem_t *problem)
{
    const gdncp_tensor_t *const saved = &problem->rule->saved_states;

    if (!gdncp_op_is_absent(saved) && problem->device != GDNCP_DEVICE_CPU) {
        return gdncp_fail(GDNCP_ERR_NOT_SUPPORTED,
                          "saved_states: expected none on a CUDA device, got a tensor");
    }
    const int64_t shape[] = {problem->num_tokens / GDNCP_SAVED_STATE_TOKENS,
                             problem->num_value_heads, problem->dk, problem->dv};

    return gdncp_op_check_optional("saved_states", saved, problem->device, GDNCP_F32,
                                   GDNCP_OP_CONTIGUOUS, 4, shape);
}

gdncp_status_t gdncp_rule_problem_make(const gdncp_delta_rule_t *rule, unsigned needs,
                                       const gdncp_workspace_t *workspace,
                                       gdncp_rule_problem_t *problem)
{
    if (rule == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "rule: expected a delta rule, got NULL");
    }
    *problem = (gdncp_rule_problem_t){.rule = rule};
    gdncp_status_t status = check_qkv(problem, (needs & GDNCP_RULE_Q) != 0, workspace);

    if (status == GDNCP_OK) {
        status = resolve_group(problem);
    }
    if (status == GDNCP_OK) {
        status = check_gates(problem);
    }
    if (status == GDNCP_OK) {
        status = gdncp_op_check_cu_seqlens(problem->device, rule->cu_seqlens, rule->cu_seqlens_cuda,
                                           rule->num_sequences, problem->num_tokens);
    }
    if (status == GDNCP_OK) {
        status = check_layout(problem, (needs & GDNCP_RULE_ANY_LAYOUT) != 0);
    }
    if (status == GDNCP_OK && (needs & GDNCP_RULE_INITIAL_STATE) != 0) {
        status = gdncp_rule_check_states(problem, "initial_state", &rule->initial_state, true,
                                         rule->num_sequences, problem->dv);
    }
    if (status == GDNCP_OK) {
        status = check_saved_states(problem);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    if (!isfinite(rule->scale)) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "scale: expected a finite number, got %g",
                          (double)rule->scale);
    }
    problem->scale = rule->scale != 0.0f ? rule->scale : (float)(1.0 / sqrt((double)problem->dk));
    for (int64_t i = 0; i < rule->num_sequences; i++) {
        const int64_t length = rule->cu_seqlens[i + 1] - rule->cu_seqlens[i];

        problem->longest = length > problem->longest ? length : problem->longest;
    }
    return problem->kernels == NULL ? gdncp_operand_choose(problem->dtype, &problem->in_tiles)
                                    : GDNCP_OK;
}

gdncp_status_t gdncp_rule_check_selection(const gdncp_rule_problem_t *problem,
                                          const int64_t *sequences, const int64_t *sequences_cuda,
                                          int64_t num_selected)
{
    const int64_t num_sequences = problem->rule->num_sequences;

    if (sequences == NULL && num_selected != num_sequences) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "num_selected: expected all %" PRId64
                          " sequences where none are listed, got %" PRId64,
                          num_sequences, num_selected);
    }
    if (num_selected < 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "num_selected: expected >= 0, got %" PRId64,
                          num_selected);
    }
    if (problem->device == GDNCP_DEVICE_CUDA && (sequences == NULL) != (sequences_cuda == NULL)) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "sequences_cuda: expected a list where sequences is one, got %s",
                          sequences_cuda == NULL ? "NULL" : "one");
    }
    for (int64_t i = 0; sequences != NULL && i < num_selected; i++) {
        if (sequences[i] < 0 || sequences[i] >= num_sequences) {
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                              "sequences: expected 0..%" PRId64 " at index %" PRId64
                              ", got %" PRId64,
                              num_sequences - 1, i, sequences[i]);
        }
    }
    return GDNCP_OK;
}

gdncp_status_t gdncp_rule_check_values(const gdncp_rule_problem_t *problem, const char *name,
                                       const gdncp_tensor_t *tensor)
{
    const int64_t shape[] = {problem->num_tokens, problem->num_value_heads, problem->dv};

    return gdncp_op_check_tensor(name, tensor, problem->device, problem->dtype,
                                 GDNCP_OP_TOKEN_STRIDE, 3, shape);
}

gdncp_status_t gdncp_rule_check_states(const gdncp_rule_problem_t *problem, const char *name,
                                       const gdncp_tensor_t *tensor, bool optional, int64_t count,
                                       int64_t columns)
{
    const bool columns_first = problem->rule->state_layout == GDNCP_STATE_DV_DK;
    const int64_t shape[] = {count, problem->num_value_heads, columns_first ? columns : problem->dk,
                             columns_first ? problem->dk : columns};

    return optional ? gdncp_op_check_optional(name, tensor, problem->device, GDNCP_F32,
                                              GDNCP_OP_CONTIGUOUS, 4, shape)
                    : gdncp_op_check_tensor(name, tensor, problem->device, GDNCP_F32,
                                            GDNCP_OP_CONTIGUOUS, 4, shape);
}

gdncp_head_group_t gdncp_rule_group(const gdncp_rule_problem_t *problem, int64_t key_head)
{
    const int64_t heads = problem->num_value_heads;
    const int64_t first = key_head * problem->group_size - problem->rule->group_phase;
    const int64_t end = first + problem->group_size;

    return (gdncp_head_group_t){.first = first < 0 ? 0 : (first > heads ? heads : first),
                                .end = end > heads ? heads : end};
}

int64_t gdncp_rule_key_head(const gdncp_rule_problem_t *problem, int64_t value_head)
{
    return (value_head + problem->rule->group_phase) / problem->group_size;
}

int64_t gdncp_padded_rows(int64_t count)
{
    return (count + GDNCP_ROW_GRAIN - 1) / GDNCP_ROW_GRAIN * GDNCP_ROW_GRAIN;
}
