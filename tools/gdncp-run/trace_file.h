/* A timeline of all ranks in the JSON that chrome://tracing and Perfetto open. */
#ifndef GDNCP_RUN_TRACE_FILE_H
#define GDNCP_RUN_TRACE_FILE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "gdncp/comm.h"
#include "gdncp/status.h"

typedef struct run_span {
    char name[40]; /* "states forward" */
    int64_t begin_ns;
    int64_t duration_ns;
} run_span_t;

/* One rank's: what the tool has run. The library records what is inside by itself. */
typedef struct run_trace {
    run_span_t *spans;
    size_t count;
    size_t capacity;
} run_trace_t;

/* Start the calling thread's record, with room for `capacity` spans of the tool's. */
gdncp_status_t run_trace_start(size_t capacity, run_trace_t *trace);
void run_trace_add(run_trace_t *trace, const char *strategy, const char *pass, int64_t begin_ns,
                   int64_t end_ns);

/* Bring all ranks' records to rank 0, which writes them. Collective. stream: used on rank 0. */
gdncp_status_t run_trace_write(const run_trace_t *trace, gdncp_comm_t *comm, FILE *stream);
void run_trace_stop(run_trace_t *trace);

#endif
