#include "execute.h"

#include <stdlib.h>

#include "clock.h"
#include "device.h"
#include "fail.h"
#include "gather.h"
#include "local.h"
#include "options.h"

static const char *const pass_names[] = {[RUN_FORWARD] = "forward", [RUN_BACKWARD] = "backward"};

/* One pass from a common start. ns_p: this rank's time. */
static gdncp_status_t run_pass(const run_job_t *job, void *instance, run_pass_t pass,
                               const run_local_t *local, run_measured_t *measured, int64_t *ns_p)
{
    const run_operation_t *const operation = job->problem->operation;
    gdncp_comm_counters_t counters;
    gdncp_status_t status = gdncp_comm_barrier(job->comm);

    if (status != GDNCP_OK) {
        return status;
    }
    gdncp_comm_reset_counters(job->comm);
    const int64_t begin = run_clock_ns();
    if (pass == RUN_FORWARD) {
        status = operation->forward(instance, local->inputs, local->outputs);
    } else {
        status = operation->backward(instance, local->inputs, local->outputs);
    }
    if (status == GDNCP_OK) {
        status = gdncp_stream_synchronize(job->mode.device, job->mode.stream);
    }
    const int64_t end = run_clock_ns();
    if (status == GDNCP_OK) {
        status = operation->check(instance);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    gdncp_comm_counters(job->comm, &counters);
    measured->bytes_sent[pass] = counters.bytes_sent;
    measured->messages_sent[pass] = counters.messages_sent;
    if (job->trace != NULL) {
        run_trace_add(job->trace, gdncp_strategy_name(job->mode.strategy), pass_names[pass], begin,
                      end);
    }
    *ns_p = end - begin;
    return GDNCP_OK;
}

/* Forward and backward. slowest [RUN_NUM_PASSES]: the longest of all ranks' times */
static gdncp_status_t run_once(const run_job_t *job, void *instance, run_local_t *local,
                               run_measured_t *measured, double *slowest)
{
    int64_t mine[RUN_NUM_PASSES];
    int64_t all[RUN_MAX_RANKS][RUN_NUM_PASSES];
    gdncp_status_t status = run_local_poison(job, local);

    for (int pass = 0; pass < RUN_NUM_PASSES && status == GDNCP_OK; pass++) {
        status = run_pass(job, instance, (run_pass_t)pass, local, measured, &mine[pass]);
    }
    if (status == GDNCP_OK) {
        status = gdncp_comm_all_gather(job->comm, mine, all, sizeof mine);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    for (int pass = 0; pass < RUN_NUM_PASSES; pass++) {
        slowest[pass] = 0.0;
        for (int r = 0; r < gdncp_comm_size(job->comm); r++) {
            const double ms = (double)all[r][pass] * 1e-6;

            slowest[pass] = ms > slowest[pass] ? ms : slowest[pass];
        }
    }
    return GDNCP_OK;
}

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, compare_doubles);
    return count % 2 == 1 ? values[count / 2] : 0.5 * (values[count / 2 - 1] + values[count / 2]);
}

static gdncp_status_t run_iterations(const run_job_t *job, void *instance, run_local_t *local,
                                     run_measured_t *measured)
{
    gdncp_status_t status = GDNCP_OK;
    double *const times =
        run_alloc((size_t)job->iterations * RUN_NUM_PASSES, sizeof *times, "times");

    if (times == NULL) {
        return GDNCP_ERR_OUT_OF_MEMORY;
    }
    for (int i = -job->warm_ups; i < job->iterations && status == GDNCP_OK; i++) {
        double slowest[RUN_NUM_PASSES];

        if (job->progress != NULL) {
            run_progress_show(job->progress, gdncp_strategy_name(job->mode.strategy),
                              i < 0 ? 1 : i + 1, job->iterations);
        }
        status = run_once(job, instance, local, measured, slowest);
        for (int pass = 0; pass < RUN_NUM_PASSES && i >= 0 && status == GDNCP_OK; pass++) {
            times[pass * job->iterations + i] = slowest[pass];
        }
    }
    for (int pass = 0; pass < RUN_NUM_PASSES && status == GDNCP_OK; pass++) {
        measured->ms[pass] = median(&times[pass * job->iterations], job->iterations);
    }
    free(times);
    return status;
}

static gdncp_status_t gather_outputs(const run_job_t *job, const void *instance,
                                     const run_local_t *local, float *const *outputs)
{
    const bool is_root = gdncp_comm_rank(job->comm) == 0;
    gdncp_status_t status = GDNCP_OK;

    for (int i = 0; i < job->problem->num_outputs && status == GDNCP_OK; i++) {
        gdncp_tensor_t part = local->outputs[i];

        part.data = run_alloc(1, run_tensor_bytes(&part), job->problem->outputs[i].name);
        part.device = GDNCP_DEVICE_CPU;
        status = part.data != NULL
                     ? run_device_download(&local->outputs[i], part.data, job->mode.stream)
                     : GDNCP_ERR_OUT_OF_MEMORY;
        status = gdncp_comm_agree(job->comm, status);
        if (status == GDNCP_OK) {
            status = run_gather(job, instance, &job->problem->outputs[i], &part,
                                is_root ? outputs[i] : NULL);
        }
        free(part.data);
    }
    return status;
}

static gdncp_status_t execute(const run_job_t *job, float *const *outputs, run_measured_t *measured)
{
    const run_operation_t *const operation = job->problem->operation;
    run_measured_t result = {0};
    run_local_t local;
    void *instance = NULL;

    gdncp_memory_track(job->usage);
    gdncp_status_t status =
        operation->create(job->problem, &job->mode, job->comm, job->layout, &instance);
    if (status != GDNCP_OK) {
        goto stop_tracking;
    }
    status = run_local_create(job, instance, &local);
    const bool have_local = status == GDNCP_OK;
    status = gdncp_comm_agree(job->comm, status);
    if (status != GDNCP_OK) {
        goto release_local;
    }
    status = run_iterations(job, instance, &local, &result);
    if (status == GDNCP_OK) {
        /* What follows is for the check of the results and no part of the run. */
        gdncp_memory_track(NULL);
        result.peak_bytes = job->usage->peak_bytes;
        status = gather_outputs(job, instance, &local, outputs);
    }
    if (status == GDNCP_OK) {
        *measured = result;
    }
release_local:
    if (have_local) {
        run_local_release(job, &local);
    }
    operation->destroy(instance);
stop_tracking:
    gdncp_memory_track(NULL);
    return status;
}

gdncp_status_t run_execute(const run_job_t *job, float *const *outputs, run_measured_t *measured)
{
    run_job_t in_stream = *job;
    const gdncp_status_t created = gdncp_stream_create(job->mode.device, &in_stream.mode.stream);
    gdncp_status_t status = gdncp_comm_agree(job->comm, created);

    if (status == GDNCP_OK) {
        status = execute(&in_stream, outputs, measured);
    }
    if (created == GDNCP_OK) {
        gdncp_stream_destroy(job->mode.device, in_stream.mode.stream);
    }
    return status;
}
