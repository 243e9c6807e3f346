/* Times of a benchmark, and what the machine can do at most. */
#ifndef GDNCP_BENCH_MEASURE_H
#define GDNCP_BENCH_MEASURE_H

#include "bench.h"

/* A part of a benchmark, or all of it. */
typedef gdncp_status_t (*bench_run_t)(bench_case_t *c);

/* Milliseconds of single runs. */
typedef struct bench_times {
    double min;
    double median;
    double p99;
} bench_times_t;

/* Warm up, then time so many runs, each by itself. On a GPU by events, after its caches were
 * emptied; elsewhere by the clock. Leaves an error in the case's status. */
void bench_time(bench_case_t *c, bench_run_t run, int warm_up, int iterations, bool emulated,
                bench_times_t *times);

/* Sorts what it is given. */
bench_times_t bench_times_of(double *milliseconds, int count);

typedef struct bench_peaks {
    double gbs;    /* 1e9 bytes a second, read and written; 0: not known */
    double tflops; /* 1e12 operations a second; 0: not known */
} bench_peaks_t;

/* Measure the peaks that are 0: bandwidth by a copy that no cache holds, arithmetic by the largest
 * of the library's own matrix products, in this dtype. */
gdncp_status_t bench_measure_peaks(gdncp_device_kind_t device, gdncp_dtype_t dtype,
                                   bench_peaks_t *peaks);

#endif
