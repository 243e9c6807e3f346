/* Results as a table on stdout, and as JSON. */
#ifndef GDNCP_COMM_REPORT_H
#define GDNCP_COMM_REPORT_H

#include <jansson.h>

#include "comm_options.h"
#include "measure.h"

typedef struct comm_result {
    const comm_benchmark_t *benchmark;
    comm_shape_t shape;
    int64_t bytes;       /* the larger of a rank's input and output */
    int64_t sent_bytes;  /* by the rank that sends most */
    bench_times_t times; /* of a move */
    double floor_ms;
    int64_t wrong; /* elements on all ranks; < 0: not checked */
} comm_result_t;

/* Where and by how many the results are made. */
typedef struct comm_place {
    int ranks;
    int cores; /* that this machine gives them */
    const char *transport;
    char lanes[256];
} comm_place_t;

void comm_print_head(const comm_options_t *options, const comm_place_t *place);
void comm_print_result(const comm_result_t *result);

json_t *comm_json_start(const comm_place_t *place, int argc, char **argv);
void comm_json_add(json_t *object, const comm_result_t *result);

/* Measure what the rows of a report sent with ucx_perftest, print it beside their times, and add
 * it to them. */
gdncp_status_t comm_report_raw(json_t *object, const char *program);

#endif
