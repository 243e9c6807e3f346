/* Results as a table on stdout, and as JSON. */
#ifndef GDNCP_BENCH_REPORT_H
#define GDNCP_BENCH_REPORT_H

#include <jansson.h>

#include "measure.h"
#include "options.h"

typedef struct bench_result {
    const bench_benchmark_t *benchmark;
    bench_shape_t shape;
    gdncp_dtype_t dtype;
    bench_times_t times;
    bench_times_t forward; /* of the benchmark's forward, if it has one */
    double bytes;
    double flop;
    bench_peaks_t peaks; /* 0: not known */
    int wrong;           /* outputs; -1: not checked */
    double worst;        /* error / tolerance, of the outputs that were compared */
} bench_result_t;

/* The least milliseconds that the machine needs; 0 where its peaks are not known. */
double bench_floor_ms(const bench_result_t *result);

void bench_print_head(const bench_options_t *options, const gdncp_device_info_t *info);
void bench_print_peaks(const bench_peaks_t *peaks, gdncp_dtype_t dtype);
void bench_print_columns(void);
void bench_print_result(const bench_result_t *result);

/* An object with the program's version, the date, the command and no results; NULL where memory is
 * out. */
json_t *bench_json_head(int argc, char **argv);

/* The same with the device. */
json_t *bench_json_start(const bench_options_t *options, const gdncp_device_info_t *info, int argc,
                         char **argv);
void bench_json_add(json_t *object, const bench_result_t *result);
gdncp_status_t bench_json_write(json_t *object, const char *file);

#endif
