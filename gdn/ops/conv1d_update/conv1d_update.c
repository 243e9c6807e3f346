/* The update of the convolution: argument checks and dispatch. */
#include <inttypes.h>

#include "conv1d_checks.h"
#include "conv1d_update_cpu.h"
#include "error.h"

static int64_t length_of(const gdncp_update_problem_t *problem, int64_t sequence)
{
    return problem->conv.cu_seqlens[sequence + 1] - problem->conv.cu_seqlens[sequence];
}

/* Tokens, parameters and lengths are those of a convolution without windows. */
static gdncp_status_t check_tokens(const gdncp_conv1d_update_t *update,
                                   const gdncp_workspace_t *workspace,
                                   gdncp_update_problem_t *problem)
{
    problem->conv = (gdncp_conv1d_t){.x = update->x,
                                     .weight = update->weight,
                                     .bias = update->bias,
                                     .cu_seqlens = update->cu_seqlens,
                                     .cu_seqlens_cuda = update->cu_seqlens_cuda,
                                     .num_sequences = update->num_sequences,
                                     .activation = update->activation};
    return gdncp_conv1d_check(&problem->conv, workspace, &problem->kernels);
}

static gdncp_status_t check_states(gdncp_update_problem_t *problem)
{
    const gdncp_tensor_t *const x = &problem->update->x;
    const gdncp_tensor_t *const states = &problem->update->states;
    const gdncp_status_t status = gdncp_op_check_ndim("states", states, 3);

    if (status != GDNCP_OK) {
        return status;
    }
    problem->num_slots = states->shape[0];
    problem->slot_rows = states->shape[1];
    problem->window_rows = problem->update->weight.shape[1] - 1;
    if (problem->slot_rows < problem->window_rows) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "states: expected slots of at least %" PRId64 " rows, got %" PRId64,
                          problem->window_rows, problem->slot_rows);
    }
    const int64_t shape[] = {problem->num_slots, problem->slot_rows, x->shape[1]};

    return gdncp_op_check_tensor("states", states, x->device, x->dtype, GDNCP_OP_CONTIGUOUS, 3,
                                 shape);
}

/* Tokens that may be taken back need a row each, but for the first. */
static gdncp_status_t check_lengths(const gdncp_update_problem_t *problem)
{
    const int64_t num_sequences = problem->num_accepted != NULL ? problem->conv.num_sequences : 0;

    for (int64_t n = 0; n < num_sequences; n++) {
        const int64_t rows = problem->window_rows + length_of(problem, n) - 1;

        if (problem->slot_rows < rows) {
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                              "states: expected slots of at least %" PRId64 " rows for the %" PRId64
                              " tokens of sequence %" PRId64 ", got %" PRId64,
                              rows, length_of(problem, n), n, problem->slot_rows);
        }
    }
    return GDNCP_OK;
}

static gdncp_status_t check_lists(gdncp_update_problem_t *problem)
{
    const gdncp_conv1d_update_t *const update = problem->update;
    gdncp_status_t status =
        gdncp_op_check_slots(&update->slots, update->x.device, 1, update->num_sequences);

    if (status == GDNCP_OK) {
        status = gdncp_op_check_optional("has_initial_state", &update->has_initial_state,
                                         update->x.device, GDNCP_I8, GDNCP_OP_CONTIGUOUS, 1,
                                         update->slots.shape);
    }
    if (status == GDNCP_OK) {
        status = gdncp_op_check_num_accepted(&update->num_accepted, &update->slots);
    }
    problem->has_initial_state =
        gdncp_op_is_absent(&update->has_initial_state) ? NULL : &update->has_initial_state;
    problem->num_accepted =
        gdncp_op_is_absent(&update->num_accepted) ? NULL : &update->num_accepted;
    return status == GDNCP_OK ? check_lengths(problem) : status;
}

static gdncp_status_t check_accepted(const gdncp_update_problem_t *problem, int64_t sequence)
{
    const int64_t most = problem->slot_rows - problem->window_rows + 1;
    const int64_t accepted = gdncp_index_at(problem->num_accepted, sequence);

    if (accepted < 1 || accepted > most) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "num_accepted: expected 1..%" PRId64 " at sequence %" PRId64
                          ", got %" PRId64,
                          most, sequence, accepted);
    }
    return GDNCP_OK;
}

static gdncp_status_t check_numbers(const gdncp_update_problem_t *problem,
                                    gdncp_slot_writers_t *writers)
{
    gdncp_status_t status = GDNCP_OK;

    for (int64_t n = 0; status == GDNCP_OK && n < problem->conv.num_sequences; n++) {
        const int64_t slot = gdncp_index_at(&problem->update->slots, n);

        if (length_of(problem, n) == 0 || slot < 0) {
            continue;
        }
        status = gdncp_slot_writers_add(writers, n, slot);
        if (status == GDNCP_OK && problem->num_accepted != NULL &&
            gdncp_update_has_window(problem, n)) {
            status = check_accepted(problem, n);
        }
    }
    return status;
}

static gdncp_status_t run_on_cpu(const gdncp_update_problem_t *problem, const gdncp_tensor_t *y,
                                 gdncp_workspace_t *workspace)
{
    gdncp_slot_writers_t writers;
    gdncp_status_t status = gdncp_slot_writers_open(workspace, problem->num_slots, &writers);

    if (status != GDNCP_OK) {
        return status;
    }
    status = check_numbers(problem, &writers);
    gdncp_slot_writers_close(&writers);
    if (status == GDNCP_OK) {
        gdncp_conv1d_update_cpu(problem, y);
    }
    return status;
}

gdncp_status_t gdncp_conv1d_update(const gdncp_conv1d_update_t *update, const gdncp_tensor_t *y,
                                   gdncp_workspace_t *workspace)
{
    if (update == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "update: expected an update, got NULL");
    }
    gdncp_update_problem_t problem = {.update = update};
    gdncp_status_t status = check_tokens(update, workspace, &problem);

    if (status == GDNCP_OK) {
        status = check_states(&problem);
    }
    if (status == GDNCP_OK) {
        status = check_lists(&problem);
    }
    if (status == GDNCP_OK) {
        status = gdncp_conv1d_check_output("y", y, &problem.conv);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    return problem.kernels != NULL ? problem.kernels->conv1d_update(&problem, y, workspace)
                                   : run_on_cpu(&problem, y, workspace);
}
