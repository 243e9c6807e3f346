/* The recurrent step: argument checks and dispatch. */
#include <inttypes.h>

#include "error.h"
#include "op_checks.h"
#include "recurrent_step_cpu.h"

static int64_t length_of(const gdncp_step_problem_t *problem, int64_t sequence)
{
    return problem->rule.cu_seqlens[sequence + 1] - problem->rule.cu_seqlens[sequence];
}

/* Tokens, gates, heads, lengths and scale are those of a delta rule without states. */
static gdncp_status_t check_tokens(const gdncp_recurrent_step_t *step,
                                   const gdncp_workspace_t *workspace,
                                   gdncp_step_problem_t *problem)
{
    problem->rule = (gdncp_delta_rule_t){.q = step->q,
                                         .k = step->k,
                                         .v = step->v,
                                         .g = step->g,
                                         .beta = step->beta,
                                         .cu_seqlens = step->cu_seqlens,
                                         .cu_seqlens_cuda = step->cu_seqlens_cuda,
                                         .num_sequences = step->num_sequences,
                                         .group_size = step->group_size,
                                         .group_phase = step->group_phase,
                                         .scale = step->scale,
                                         .qk_l2norm = step->qk_l2norm};
    return gdncp_rule_problem_make(&problem->rule, GDNCP_RULE_Q, workspace, &problem->dims);
}

static gdncp_status_t check_states(gdncp_step_problem_t *problem)
{
    const gdncp_tensor_t *const states = &problem->step->states;
    const gdncp_status_t status = gdncp_op_check_ndim("states", states, 4);

    if (status != GDNCP_OK) {
        return status;
    }
    problem->num_slots = states->shape[0];
    return gdncp_rule_check_states(&problem->dims, "states", states, false, problem->num_slots,
                                   problem->dims.dv);
}

static gdncp_status_t check_rows(gdncp_step_problem_t *problem)
{
    const gdncp_recurrent_step_t *const step = problem->step;

    if (step->slots.ndim == 1) {
        return gdncp_op_is_absent(&step->num_accepted)
                   ? GDNCP_OK
                   : gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                                "num_accepted: expected none where slots has one slot a sequence, "
                                "got a tensor");
    }
    problem->row_length = step->slots.shape[1];
    problem->num_accepted = gdncp_op_is_absent(&step->num_accepted) ? NULL : &step->num_accepted;
    for (int64_t n = 0; n < step->num_sequences; n++) {
        if (length_of(problem, n) > problem->row_length) {
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                              "slots: expected one for each of the %" PRId64
                              " tokens of sequence %" PRId64 ", got %" PRId64,
                              length_of(problem, n), n, problem->row_length);
        }
    }
    return gdncp_op_check_num_accepted(&step->num_accepted, &step->slots);
}

static gdncp_status_t check_accepted(const gdncp_step_problem_t *problem)
{
    for (int64_t n = 0; problem->num_accepted != NULL && n < problem->step->num_sequences; n++) {
        const int64_t accepted = gdncp_index_at(problem->num_accepted, n);

        if (length_of(problem, n) > 0 && (accepted < 1 || accepted > problem->row_length)) {
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                              "num_accepted: expected 1..%" PRId64 " at sequence %" PRId64
                              ", got %" PRId64,
                              problem->row_length, n, accepted);
        }
    }
    return GDNCP_OK;
}

/* Reads are checked when all writes are known. */
static gdncp_status_t check_numbers(const gdncp_step_problem_t *problem,
                                    gdncp_slot_writers_t *writers)
{
    const int64_t num_sequences = problem->step->num_sequences;
    gdncp_status_t status = GDNCP_OK;

    for (int64_t n = 0; status == GDNCP_OK && n < num_sequences; n++) {
        const int64_t length = length_of(problem, n);
        const int64_t written = length > 0 && gdncp_step_source(problem, n) >= 0 ? length : 0;

        for (int64_t i = 0; status == GDNCP_OK && i < written; i++) {
            status = gdncp_slot_writers_add(writers, n, gdncp_step_target(problem, n, i));
        }
    }
    for (int64_t n = 0; status == GDNCP_OK && n < num_sequences; n++) {
        if (length_of(problem, n) > 0) {
            status = gdncp_slot_writers_check_read(writers, n, gdncp_step_source(problem, n));
        }
    }
    return status;
}

static gdncp_status_t run_on_cpu(const gdncp_step_problem_t *problem, const gdncp_tensor_t *o,
                                 gdncp_workspace_t *workspace)
{
    gdncp_slot_writers_t writers;
    gdncp_status_t status = check_accepted(problem);

    if (status == GDNCP_OK) {
        status = gdncp_slot_writers_open(workspace, problem->num_slots, &writers);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    status = check_numbers(problem, &writers);
    gdncp_slot_writers_close(&writers);
    return status == GDNCP_OK ? gdncp_recurrent_step_cpu(problem, o, workspace) : status;
}

gdncp_status_t gdncp_recurrent_step(const gdncp_recurrent_step_t *step, const gdncp_tensor_t *o,
                                    gdncp_workspace_t *workspace)
{
    if (step == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "step: expected a recurrent step, got NULL");
    }
    gdncp_step_problem_t problem = {.step = step};
    gdncp_status_t status = check_tokens(step, workspace, &problem);

    if (status == GDNCP_OK) {
        status = check_states(&problem);
    }
    if (status == GDNCP_OK) {
        status = gdncp_op_check_slots(&step->slots, problem.dims.device, 2, step->num_sequences);
    }
    if (status == GDNCP_OK) {
        status = check_rows(&problem);
    }
    if (status == GDNCP_OK) {
        status = gdncp_rule_check_values(&problem.dims, "o", o);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    return problem.dims.kernels != NULL
               ? problem.dims.kernels->recurrent_step(&problem, o, workspace)
               : run_on_cpu(&problem, o, workspace);
}
