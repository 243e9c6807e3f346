/* What UCX's own program measures for one message between two processes of this machine. */
#ifndef GDNCP_COMM_RAW_H
#define GDNCP_COMM_RAW_H

#include <stdint.h>

#include "gdncp/status.h"

/*
 * One way, in milliseconds: half of a ping-pong where latency counts, else the time between
 * messages that follow each other. program is ucx_perftest, looked for in PATH. Two processes are
 * started, pinned as ranks are; no other rank should be running.
 */
gdncp_status_t comm_raw_measure(const char *program, int64_t bytes, double *ms_p);

/* The test of ucx_perftest that a message of so many bytes is given. */
const char *comm_raw_test(int64_t bytes);

#endif
