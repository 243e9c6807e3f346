#include "reference.h"

#include <stdlib.h>

#include "device.h"
#include "fail.h"

gdncp_status_t run_outputs_create(const run_problem_t *problem, run_outputs_t *outputs)
{
    *outputs = (run_outputs_t){{NULL}};
    for (int i = 0; i < problem->num_outputs; i++) {
        const run_spec_t *const spec = &problem->outputs[i];

        outputs->values[i] = run_alloc((size_t)run_spec_count(spec), sizeof(float), spec->name);
        if (outputs->values[i] == NULL) {
            return GDNCP_ERR_OUT_OF_MEMORY;
        }
    }
    return GDNCP_OK;
}

void run_outputs_release(run_outputs_t *outputs)
{
    for (int i = 0; i < RUN_MAX_TENSORS; i++) {
        free(outputs->values[i]);
        outputs->values[i] = NULL;
    }
}

static gdncp_status_t run_alone(const run_problem_t *problem, const run_mode_t *mode,
                                const run_outputs_t *outputs)
{
    gdncp_memory_usage_t usage = {0};
    run_measured_t measured;
    run_job_t job = {.problem = problem, .mode = *mode, .iterations = 1, .usage = &usage};
    gdncp_layout_t *layout = NULL;
    gdncp_status_t status = gdncp_comm_create_self(&job.comm);

    if (status != GDNCP_OK) {
        return status;
    }
    status = run_problem_layout(problem, GDNCP_LAYOUT_CONTIGUOUS, 1, &layout);
    if (status == GDNCP_OK) {
        job.layout = layout;
        status = run_execute(&job, outputs->values, &measured);
    }
    gdncp_layout_destroy(layout);
    gdncp_comm_destroy(job.comm);
    return status;
}

/* One reported result of a run and of what it is compared with. reference NULL: the dump. */
static gdncp_status_t compare_reported(const run_problem_t *problem, const run_reported_t *reported,
                                       const run_outputs_t *run, const run_outputs_t *reference,
                                       run_error_t *error)
{
    gdncp_status_t status = GDNCP_ERR_OUT_OF_MEMORY;
    float *const values = run_alloc((size_t)reported->count, sizeof *values, reported->name);
    float *const expected = run_alloc((size_t)reported->count, sizeof *expected, reported->name);

    if (values == NULL || expected == NULL) {
        goto free_values;
    }
    status = run_problem_report(problem, reported, run->values, values);
    if (status == GDNCP_OK && reference != NULL) {
        status = run_problem_report(problem, reported, reference->values, expected);
    }
    if (status == GDNCP_OK) {
        *error =
            run_compare(values, reference != NULL ? expected : reported->expected, reported->count);
    }
free_values:
    free(expected);
    free(values);
    return status;
}

/* errors [num_reported] */
static gdncp_status_t compare_all(const run_problem_t *problem, const run_outputs_t *run,
                                  const run_outputs_t *reference, run_error_t *errors)
{
    gdncp_status_t status = GDNCP_OK;

    for (int i = 0; i < problem->num_reported && status == GDNCP_OK; i++) {
        status = compare_reported(problem, &problem->reported[i], run, reference, &errors[i]);
    }
    return status;
}

static void judge(const run_problem_t *problem, run_summary_t *summary, run_result_t *result)
{
    result->ok = true;
    for (int i = 0; i < problem->num_reported; i++) {
        const double tolerance = summary->tolerances[i];

        result->ok = result->ok && run_error_is_inside(result->errors[i], tolerance) &&
                     run_error_is_inside(result->errors_one_rank[i], tolerance);
    }
    summary->ok = summary->ok && result->ok;
}

gdncp_status_t run_check(const run_setup_t *setup, const run_outputs_t *gathered,
                         run_summary_t *summary)
{
    const run_problem_t *const problem = setup->problem;
    const run_options_t *const options = setup->options;
    const bool has_expected = run_problem_has_expected(problem);
    /* On the CPU, whatever the device: what the kernels have in common is not to be trusted. */
    const run_mode_t exact_mode = {.dtype = GDNCP_F32, .strategy = options->strategies[0]};
    run_outputs_t exact = {{NULL}};
    run_outputs_t alone = {{NULL}};
    gdncp_status_t status = GDNCP_OK;

    summary->reference = has_expected                 ? "dump"
                         : options->device == RUN_CPU ? "one rank in f32"
                                                      : "one rank in f32 on the cpu";
    if (!has_expected) {
        status = run_outputs_create(problem, &exact);
        if (status == GDNCP_OK) {
            status = run_alone(problem, &exact_mode, &exact);
        }
    }
    if (status == GDNCP_OK) {
        status = run_outputs_create(problem, &alone);
    }
    run_mode_t mode = {.dtype = options->dtype,
                       .rule_dtype = options->rule_dtype,
                       .device = run_device_kind(options->device)};

    for (int i = 0; i < problem->num_reported; i++) {
        summary->tolerances[i] = run_tolerance(problem, &mode, problem->reported[i].name);
    }
    summary->ok = true;
    for (int s = 0; s < options->num_strategies && status == GDNCP_OK; s++) {
        run_result_t *const result = &summary->results[s];

        mode.strategy = options->strategies[s];
        status = run_alone(problem, &mode, &alone);
        if (status == GDNCP_OK) {
            status = compare_all(problem, &gathered[s], &alone, result->errors_one_rank);
        }
        if (status == GDNCP_OK) {
            status =
                compare_all(problem, &gathered[s], has_expected ? NULL : &exact, result->errors);
        }
        if (status == GDNCP_OK) {
            judge(problem, summary, result);
        }
    }
    run_outputs_release(&alone);
    run_outputs_release(&exact);
    return status;
}
