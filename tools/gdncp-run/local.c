#include "local.h"

#include <stdlib.h>
#include <string.h>

#include "device.h"
#include "fail.h"

/* A byte that makes NaN of every floating-point type. */
#define POISON 0xff
#define POISON_BYTES ((size_t)1 << 20)

static gdncp_status_t create_tensor(const run_job_t *job, const run_spec_t *spec,
                                    gdncp_tensor_t *tensor)
{
    const int rank = gdncp_comm_rank(job->comm);
    const gdncp_dtype_t dtype = spec->narrow ? job->mode.dtype : GDNCP_F32;
    int64_t shape[GDNCP_MAX_DIMS];

    memcpy(shape, spec->shape, sizeof shape);
    if (spec->place == RUN_TOKENS) {
        shape[0] = gdncp_layout_rank_tokens(job->layout, rank);
    }
    *tensor = gdncp_tensor_contiguous(NULL, dtype, spec->ndim, shape);
    return run_device_alloc(job->mode.device, spec->name, tensor);
}

/* values: of a tensor, on the host */
static gdncp_status_t fill_tokens(const run_input_t *input, const int64_t *positions,
                                  const gdncp_tensor_t *tensor, char *values)
{
    const int64_t channels = run_spec_row(&input->spec);
    const size_t row_bytes = (size_t)channels * gdncp_dtype_size(tensor->dtype);
    gdncp_status_t status = GDNCP_OK;

    for (int64_t t = 0; t < tensor->shape[0] && status == GDNCP_OK; t++) {
        status = gdncp_convert_from_f32(&input->values[positions[t] * channels], channels,
                                        tensor->dtype, values + (size_t)t * row_bytes);
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
                        float *values)
{
    const run_spec_t *const spec = &input->spec;
    const int64_t state_size = spec->shape[2] * spec->shape[3];
    const int rank = gdncp_comm_rank(job->comm);

    memset(values, POISON, (size_t)run_spec_count(spec) * sizeof *values);
    for (int64_t s = 0; s < spec->shape[0] * spec->shape[1]; s++) {
        if (run_local_state_rank(job, instance, spec, s) == rank) {
            memcpy(&values[s * state_size], &input->values[s * state_size],
                   (size_t)state_size * sizeof *values);
        }
    }
}

static gdncp_status_t fill_input(const run_job_t *job, const void *instance,
                                 const run_input_t *input, const int64_t *positions,
                                 const gdncp_tensor_t *tensor)
{
    gdncp_status_t status = GDNCP_OK;
    void *const values = run_alloc(1, run_tensor_bytes(tensor), input->spec.name);

    if (values == NULL) {
        return GDNCP_ERR_OUT_OF_MEMORY;
    }
    switch (input->spec.place) {
    case RUN_TOKENS:
        status = fill_tokens(input, positions, tensor, values);
        break;
    case RUN_PARAMETER:
        status = gdncp_convert_from_f32(input->values, run_spec_count(&input->spec), tensor->dtype,
                                        values);
        break;
    case RUN_INITIAL_STATE:
    case RUN_FINAL_STATE:
        fill_states(job, instance, input, values);
        break;
    }
    if (status == GDNCP_OK) {
        status = run_device_upload(tensor, values, job->mode.stream);
    }
    free(values);
    return status;
}

/* It is the tool's, and does not count. */
static gdncp_status_t create_poison(const run_job_t *job, run_local_t *local)
{
    const int64_t count = (int64_t)POISON_BYTES;
    char *const values = run_alloc(1, POISON_BYTES, "poison");
    gdncp_status_t status;

    if (values == NULL) {
        return GDNCP_ERR_OUT_OF_MEMORY;
    }
    memset(values, POISON, POISON_BYTES);
    local->poison = gdncp_tensor_contiguous(NULL, GDNCP_I8, 1, &count);
    gdncp_memory_track(NULL);
    status = run_device_alloc(job->mode.device, "poison", &local->poison);
    gdncp_memory_track(job->usage);
    if (status == GDNCP_OK) {
        status = run_device_upload(&local->poison, values, job->mode.stream);
    }
    free(values);
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
    *local = (run_local_t){.poison.data = NULL};
    status = create_poison(job, local);
    for (int i = 0; i < problem->num_inputs && status == GDNCP_OK; i++) {
        status = create_tensor(job, &problem->inputs[i].spec, &local->inputs[i]);
    }
    for (int i = 0; i < problem->num_outputs && status == GDNCP_OK; i++) {
        status = create_tensor(job, &problem->outputs[i], &local->outputs[i]);
    }
    if (status == GDNCP_OK) {
        status = gdncp_layout_rank_positions(job->layout, rank, positions);
    }
    for (int i = 0; i < problem->num_inputs && status == GDNCP_OK; i++) {
        status = fill_input(job, instance, &problem->inputs[i], positions, &local->inputs[i]);
    }
    free(positions);
    if (status != GDNCP_OK) {
        run_local_release(job, local);
    }
    return status;
}

void run_local_release(const run_job_t *job, run_local_t *local)
{
    for (int i = 0; i < job->problem->num_inputs; i++) {
        gdncp_device_free(job->mode.device, local->inputs[i].data);
    }
    for (int i = 0; i < job->problem->num_outputs; i++) {
        gdncp_device_free(job->mode.device, local->outputs[i].data);
    }
    gdncp_device_free(job->mode.device, local->poison.data);
    *local = (run_local_t){.poison.data = NULL};
}

static gdncp_status_t poison(const run_job_t *job, const gdncp_tensor_t *source,
                             const gdncp_tensor_t *tensor)
{
    const size_t bytes = run_tensor_bytes(tensor);
    gdncp_status_t status = GDNCP_OK;

    for (size_t begin = 0; begin < bytes && status == GDNCP_OK; begin += POISON_BYTES) {
        const size_t count = bytes - begin < POISON_BYTES ? bytes - begin : POISON_BYTES;

        status = gdncp_device_copy(job->mode.device, (char *)tensor->data + begin, source->data,
                                   count, job->mode.stream);
    }
    return status;
}

gdncp_status_t run_local_poison(const run_job_t *job, run_local_t *local)
{
    gdncp_status_t status = GDNCP_OK;

    for (int i = 0; i < job->problem->num_outputs && status == GDNCP_OK; i++) {
        status = poison(job, &local->poison, &local->outputs[i]);
    }
    return status == GDNCP_OK ? gdncp_stream_synchronize(job->mode.device, job->mode.stream)
                              : status;
}
