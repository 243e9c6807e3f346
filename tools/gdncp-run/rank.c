#include "rank.h"

#include <stdlib.h>

#include "device.h"
#include "fail.h"
#include "reference.h"
#include "summary.h"

/* Collective. measured [ranks] */
static gdncp_status_t run_strategy(run_rank_t *rank, int s, const gdncp_layout_t *layout,
                                   run_progress_t *progress, run_trace_t *trace,
                                   const run_outputs_t *outputs, run_measured_t *measured)
{
    const run_options_t *const options = rank->setup->options;
    const run_job_t job = {
        .problem = rank->setup->problem,
        .mode = {.dtype = options->dtype,
                 .rule_dtype = options->rule_dtype,
                 .strategy = options->strategies[s],
                 .device = run_device_kind(options->device)},
        .warm_ups = 1,
        .iterations = options->iterations,
        .comm = rank->comm,
        .layout = layout,
        .usage = &rank->usage[s],
        .progress = progress,
        .trace = options->trace != NULL ? trace : NULL,
    };
    run_measured_t mine;
    const gdncp_status_t status = run_execute(&job, outputs->values, &mine);

    return status == GDNCP_OK ? gdncp_comm_all_gather(rank->comm, &mine, measured, sizeof mine)
                              : status;
}

/* Collective. outputs [num_strategies]: allocated here on rank 0. */
static gdncp_status_t run_strategies(run_rank_t *rank, const gdncp_layout_t *layout,
                                     run_outputs_t *outputs, run_summary_t *summary)
{
    const run_options_t *const options = rank->setup->options;
    const bool is_root = gdncp_comm_rank(rank->comm) == 0;
    run_progress_t progress = run_progress_start(is_root);
    run_trace_t trace = {0};
    gdncp_status_t status = GDNCP_OK;

    if (options->trace != NULL) {
        status = run_trace_start(
            ((size_t)options->iterations + 1) * RUN_NUM_PASSES * RUN_MAX_STRATEGIES, &trace);
    }
    for (int s = 0; s < options->num_strategies && status == GDNCP_OK; s++) {
        run_result_t *const result = &summary->results[s];

        result->strategy = options->strategies[s];
        if (is_root) {
            status = run_outputs_create(rank->setup->problem, &outputs[s]);
        }
        if (status == GDNCP_OK) {
            status =
                run_strategy(rank, s, layout, &progress, &trace, &outputs[s], result->measured);
        }
    }
    run_progress_clear(&progress);
    if (status == GDNCP_OK && options->trace != NULL) {
        status = run_trace_write(&trace, rank->comm, rank->setup->trace);
    }
    run_trace_stop(&trace);
    return status;
}

static gdncp_status_t report(const run_rank_t *rank, const run_summary_t *summary)
{
    return rank->setup->options->json ? run_report_json(rank->setup, summary, rank->report)
                                      : run_report_text(rank->setup, summary, rank->report);
}

gdncp_status_t run_rank(run_rank_t *rank)
{
    const run_problem_t *const problem = rank->setup->problem;
    const int ranks = gdncp_comm_size(rank->comm);
    const bool is_root = gdncp_comm_rank(rank->comm) == 0;
    run_outputs_t outputs[RUN_MAX_STRATEGIES] = {{{NULL}}};
    gdncp_layout_t *layout = NULL;
    gdncp_status_t status = gdncp_device_check(run_device_kind(rank->setup->options->device));

    status = gdncp_comm_agree(rank->comm, status);
    if (status != GDNCP_OK) {
        return status;
    }
    run_summary_t *const summary = run_alloc(1, sizeof *summary, "a summary");

    if (summary == NULL) {
        return GDNCP_ERR_OUT_OF_MEMORY;
    }
    status = run_problem_layout(problem, rank->setup->options->layout, ranks, &layout);
    if (status != GDNCP_OK) {
        goto free_summary;
    }
    for (int r = 0; r < ranks; r++) {
        summary->rank_tokens[r] = gdncp_layout_rank_tokens(layout, r);
    }
    status = run_strategies(rank, layout, outputs, summary);
    if (status == GDNCP_OK && is_root) {
        status = gdncp_comm_describe_lanes(rank->comm, ranks > 1 ? 1 : 0, summary->lanes,
                                           sizeof summary->lanes);
    }
    if (status == GDNCP_OK && is_root) {
        status =
            gdncp_device_describe(run_device_kind(rank->setup->options->device), &summary->device);
    }
    /* The others are done: rank 0 checks the results while nobody waits for it. */
    if (status == GDNCP_OK && is_root) {
        status = run_check(rank->setup, outputs, summary);
    }
    if (status == GDNCP_OK && is_root) {
        status = report(rank, summary);
        rank->ok = summary->ok;
    }
    for (int s = 0; s < RUN_MAX_STRATEGIES; s++) {
        run_outputs_release(&outputs[s]);
    }
    gdncp_layout_destroy(layout);
free_summary:
    free(summary);
    return status;
}
