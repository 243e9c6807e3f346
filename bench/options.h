/* The command line. */
#ifndef GDNCP_BENCH_OPTIONS_H
#define GDNCP_BENCH_OPTIONS_H

#include "bench.h"
#include "measure.h"
#include "parse.h"

enum { BENCH_MAX_NAMES = 32 };

typedef enum bench_request {
    BENCH_MEASURE = 0,
    BENCH_HELP,
    BENCH_LIST,
    BENCH_VERSION
} bench_request_t;

typedef struct bench_options {
    bench_request_t request;
    const char *names[BENCH_MAX_NAMES]; /* of benchmarks and groups; none: all */
    int num_names;
    bench_shape_t shape; /* but for tokens */
    const char *model;
    int64_t min_tokens;
    int64_t max_tokens;
    int64_t factor; /* from one token count to the next */
    gdncp_dtype_t dtypes[BENCH_MAX_DTYPES];
    int num_dtypes;
    gdncp_device_kind_t device;
    bool emulated;
    int warm_up;
    int iterations;
    bool check;
    bench_peaks_t peaks; /* 0: to be measured */
    const char *json;    /* file; NULL: none */
} bench_options_t;

/* The strings are argv's. */
gdncp_status_t bench_options_parse(int argc, char **argv, bench_options_t *options);

/* Whether the names ask for a benchmark: by its name, a part of it up to an underscore, or its
 * group. */
bool bench_is_wanted(const bench_options_t *options, const bench_benchmark_t *benchmark);

const char *bench_options_help(void);

#endif
