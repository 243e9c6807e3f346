#include "local.h"

#include <stdlib.h>
#include <string.h>

#include "fail.h"

/* A byte that makes NaN of every floating-point type. */
#define POISON 0xff

static size_t tensor_bytes(const gdncp_tensor_t *tensor)
{
    return (size_t)gdncp_tensor_num_elements(tensor) * gdncp_dtype_size(tensor->dtype);
}

static gdncp_status_t create_tensor(const run_job_t *job, const run_spec_t *spec,
                                    gdncp_tensor_t *tensor)
{
    const int rank = gdncp_comm_rank(job->comm);
    const gdncp_dtype_t dtype = spec->narrow ? job->dtype : GDNCP_F32;
    int64_t shape[GDNCP_MAX_DIMS];

    memcpy(shape, spec->shape, sizeof shape);
    if (spec->place == RUN_TOKENS) {
        shape[0] = gdncp_layout_rank_tokens(job->layout, rank);
    }
    *tensor = gdncp_tensor_contiguous(NULL, dtype, spec->ndim, shape);
    /* A rank without tokens has tensors too: no data would mean an absent tensor. */
    tensor->data = gdncp_memory_alloc(tensor_bytes(tensor) > 0 ? tensor_bytes(tensor) : 1);
    if (tensor->data == NULL) {
        return run_fail(GDNCP_ERR_OUT_OF_MEMORY, "out of memory: %s", spec->name);
    }
    memset(tensor->data, POISON, tensor_bytes(tensor));
    return GDNCP_OK;
}

static gdncp_status_t fill_tokens(const run_input_t *input, const int64_t *positions,
                                  const gdncp_tensor_t *tensor)
{
    const int64_t channels = run_spec_row(&input->spec);
    const size_t row_bytes = (size_t)channels * gdncp_dtype_size(tensor->dtype);
    gdncp_status_t status = GDNCP_OK;

    for (int64_t t = 0; t < tensor->shape[0] && status == GDNCP_OK; t++) {
        status =
            gdncp_convert_from_f32(&input->values[positions[t] * channels], channels, tensor->dtype,
                                   (char *)tensor->data + (size_t)t * row_bytes);
    }
    return status;
}

int run_local_state_rank(const run_job_t *job, const void *instance, const run_spec_t *spec,
                         int64_t state)
{
    const run_operation_t *const operation = job->problem->operation;
    const int64_t sequence = state / spec->shape[1];
    const int64_t head = state % spec->shape[1];

    return spec->place == RUN_INITIAL_STATE
               ? operation->initial_state_rank(instance, sequence, head)
               : operation->final_state_rank(instance, sequence, head);
}

/* States of other ranks stay NaN: they must not be read. */
static void fill_states(const run_job_t *job, const void *instance, const run_input_t *input,
                        const gdncp_tensor_t *tensor)
{
    const run_spec_t *const spec = &input->spec;
    const int64_t state_size = spec->shape[2] * spec->shape[3];
    const int rank = gdncp_comm_rank(job->comm);
    float *const values = tensor->data;

    for (int64_t s = 0; s < spec->shape[0] * spec->shape[1]; s++) {
        if (run_local_state_rank(job, instance, spec, s) == rank) {
            memcpy(&values[s * state_size], &input->values[s * state_size],
                   (size_t)state_size * sizeof *values);
        }
    }
}

static gdncp_status_t fill_inputs(const run_job_t *job, const void *instance,
                                  const int64_t *positions, const run_local_t *local)
{
    gdncp_status_t status = GDNCP_OK;

    for (int i = 0; i < job->problem->num_inputs && status == GDNCP_OK; i++) {
        const run_input_t *const input = &job->problem->inputs[i];
        const gdncp_tensor_t *const tensor = &local->inputs[i];

        switch (input->spec.place) {
        case RUN_TOKENS:
            status = fill_tokens(input, positions, tensor);
            break;
        case RUN_PARAMETER:
            status = gdncp_convert_from_f32(input->values, run_spec_count(&input->spec),
                                            tensor->dtype, tensor->data);
            break;
        case RUN_INITIAL_STATE:
        case RUN_FINAL_STATE:
            fill_states(job, instance, input, tensor);
            break;
        }
    }
    return status;
}

gdncp_status_t run_local_create(const run_job_t *job, const void *instance, run_local_t *local)
{
    const run_problem_t *const problem = job->problem;
    const int rank = gdncp_comm_rank(job->comm);
    gdncp_status_t status = GDNCP_OK;
    int64_t *const positions = run_alloc((size_t)gdncp_layout_rank_tokens(job->layout, rank),
                                         sizeof *positions, "positions");

    if (positions == NULL) {
        return GDNCP_ERR_OUT_OF_MEMORY;
    }
    *local = (run_local_t){0};
    for (int i = 0; i < problem->num_inputs && status == GDNCP_OK; i++) {
        status = create_tensor(job, &problem->inputs[i].spec, &local->inputs[i]);
    }
    for (int i = 0; i < problem->num_outputs && status == GDNCP_OK; i++) {
        status = create_tensor(job, &problem->outputs[i], &local->outputs[i]);
    }
    if (status == GDNCP_OK) {
        status = gdncp_layout_rank_positions(job->layout, rank, positions);
    }
    if (status == GDNCP_OK) {
        status = fill_inputs(job, instance, positions, local);
    }
    free(positions);
    if (status != GDNCP_OK) {
        run_local_release(problem, local);
    }
    return status;
}

void run_local_release(const run_problem_t *problem, run_local_t *local)
{
    for (int i = 0; i < problem->num_inputs; i++) {
        gdncp_memory_free(local->inputs[i].data);
    }
    for (int i = 0; i < problem->num_outputs; i++) {
        gdncp_memory_free(local->outputs[i].data);
    }
    *local = (run_local_t){0};
}

void run_local_poison(const run_problem_t *problem, run_local_t *local)
{
    for (int i = 0; i < problem->num_outputs; i++) {
        memset(local->outputs[i].data, POISON, tensor_bytes(&local->outputs[i]));
    }
}
