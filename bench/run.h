/* One row of the table. */
#ifndef GDNCP_BENCH_RUN_H
#define GDNCP_BENCH_RUN_H

#include "options.h"
#include "report.h"

/* Check a result's benchmark where the options ask for it, then time it: sets times, bytes, flop,
 * wrong and worst. */
gdncp_status_t bench_run_one(const bench_options_t *options, bench_result_t *result);

#endif
