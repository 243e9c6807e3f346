/* The command line. */
#ifndef GDNCP_COMM_OPTIONS_H
#define GDNCP_COMM_OPTIONS_H

#include "comm_bench.h"
#include "parse.h"

enum { COMM_MAX_NAMES = 32, COMM_MAX_RANKS = 64 };

typedef enum comm_request { COMM_MEASURE = 0, COMM_HELP, COMM_LIST, COMM_VERSION } comm_request_t;

typedef struct comm_options {
    comm_request_t request;
    const char *names[COMM_MAX_NAMES]; /* of benchmarks; none: all */
    int num_names;
    int ranks;      /* to start; under a launcher there are as many as it says */
    bool threads;   /* ranks are threads of one process, else processes over UCX */
    int64_t tokens; /* 0: as the bytes say */
    int64_t channels;
    int64_t min_bytes; /* of a rank's tokens */
    int64_t max_bytes;
    int64_t factor;
    gdncp_dtype_t dtypes[BENCH_MAX_DTYPES];
    int num_dtypes;
    int warm_up;
    int iterations;
    bool check;
    const char *json; /* file; NULL: none */
    const char *raw;  /* ucx_perftest; NULL: not asked for */
} comm_options_t;

/* The strings are argv's. */
gdncp_status_t comm_options_parse(int argc, char **argv, comm_options_t *options);

bool comm_is_wanted(const comm_options_t *options, const comm_benchmark_t *benchmark);

/* Tokens of all ranks so that each has about so many bytes: a multiple of twice the ranks. */
int64_t comm_tokens_for(const comm_options_t *options, gdncp_dtype_t dtype, int ranks,
                        int64_t bytes);

const char *comm_options_help(void);

#endif
