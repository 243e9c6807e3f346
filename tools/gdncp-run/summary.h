/* What a run has found, as it is reported. */
#ifndef GDNCP_RUN_SUMMARY_H
#define GDNCP_RUN_SUMMARY_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "execute.h"
#include "gdncp/device.h"
#include "setup.h"
#include "verify.h"

typedef struct run_result {
    gdncp_strategy_t strategy;
    run_measured_t measured[RUN_MAX_RANKS];
    run_error_t errors[RUN_MAX_TENSORS];          /* against the reference */
    run_error_t errors_one_rank[RUN_MAX_TENSORS]; /* against the same run on one rank */
    bool ok;
} run_result_t;

typedef struct run_summary {
    const char *reference; /* what the errors are against */
    gdncp_device_info_t device;
    char lanes[256]; /* what carries data from rank 0 to rank 1 */
    int64_t rank_tokens[RUN_MAX_RANKS];
    double tolerances[RUN_MAX_TENSORS]; /* one a reported result */
    run_result_t results[RUN_MAX_STRATEGIES];
    bool ok;
} run_summary_t;

/* A table for people, or one JSON object. */
gdncp_status_t run_report_text(const run_setup_t *setup, const run_summary_t *summary,
                               FILE *stream);
gdncp_status_t run_report_json(const run_setup_t *setup, const run_summary_t *summary,
                               FILE *stream);

/* The JSON object of a run that failed. */
void run_report_json_failure(const run_options_t *options, int ranks, const char *sentence,
                             FILE *stream);

#endif
