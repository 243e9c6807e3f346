#include "report.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "error.h"
#include "gdncp/gdncp.h"
#include "threads_used.h"

double bench_floor_ms(const bench_result_t *result)
{
    const double of_bytes =
        result->peaks.gbs > 0.0 ? 1e-6 * result->bytes / result->peaks.gbs : 0.0;
    const double of_flop =
        result->peaks.tflops > 0.0 ? 1e-9 * result->flop / result->peaks.tflops : 0.0;

    return of_bytes > of_flop ? of_bytes : of_flop;
}

/* How many tokens a run took. */
static int64_t tokens_of(const bench_result_t *result)
{
    switch (result->benchmark->sweep) {
    case BENCH_TOKENS:
        return result->shape.tokens;
    case BENCH_BATCH:
        return result->shape.batch;
    default:
        return 0;
    }
}

void bench_print_head(const bench_options_t *options, const gdncp_device_info_t *info)
{
    const bench_shape_t *const s = &options->shape;

    printf("# gdncp-bench %s on %s (%s), %d threads\n", gdncp_version(),
           options->emulated ? "emulated" : gdncp_device_name(options->device), info->name,
           bench_num_threads());
    printf("# hidden %" PRId64 ", heads %" PRId64 "/%" PRId64 " of %" PRId64 "/%" PRId64
           ", batch %" PRId64 "; %d runs after %d\n",
           s->hidden, s->key_heads, s->value_heads, s->key_dim, s->value_dim, s->batch,
           options->iterations, options->warm_up);
}

void bench_print_peaks(const bench_peaks_t *peaks, gdncp_dtype_t dtype)
{
    if (peaks->gbs > 0.0 || peaks->tflops > 0.0) {
        printf("# peaks: %.1f GB/s, %.3f TFLOP/s with %s\n", peaks->gbs, peaks->tflops,
               gdncp_dtype_name(dtype));
    } else {
        printf("# peaks: not measured\n");
    }
}

void bench_print_columns(void)
{
    printf("%-23s %-5s %8s %10s %10s %9s %9s %10s %6s %6s %8s\n", "# benchmark", "dtype", "tokens",
           "median ms", "p99 ms", "GB/s", "TFLOP/s", "floor ms", "share", "wrong", "err/tol");
}

void bench_print_result(const bench_result_t *result)
{
    const double floor_ms = bench_floor_ms(result);
    const double median = result->times.median;

    printf("%-23s %-5s %8" PRId64 " %10.4f %10.4f %9.1f %9.3f", result->benchmark->name,
           gdncp_dtype_name(result->dtype), tokens_of(result), median, result->times.p99,
           1e-6 * result->bytes / median, 1e-9 * result->flop / median);
    if (floor_ms > 0.0) {
        printf(" %10.4f %5.0f%%", floor_ms, 100.0 * floor_ms / median);
    } else {
        printf(" %10s %6s", "-", "-");
    }
    if (result->wrong >= 0) {
        printf(" %6d %8.2g\n", result->wrong, result->worst);
    } else {
        printf(" %6s %8s\n", "-", "-");
    }
    fflush(stdout);
}

/* JSON has no NaN and no infinity. */
static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *number_or_null(bool known, double value)
{
    return known ? number(value) : json_null();
}

json_t *bench_json_head(int argc, char **argv)
{
    json_t *const command = json_array();
    const time_t now = time(NULL);
    struct tm utc;
    char date[32] = "?";

    if (gmtime_r(&now, &utc) != NULL) {
        strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &utc);
    }
    for (int i = 0; i < argc; i++) {
        json_t *const word = json_string(argv[i]);

        json_array_append_new(command, word != NULL ? word : json_string("?"));
    }
    return json_pack("{s:s, s:s, s:o, s:o}", "version", gdncp_version(), "date", date, "command",
                     command, "results", json_array());
}

json_t *bench_json_start(const bench_options_t *options, const gdncp_device_info_t *info, int argc,
                         char **argv)
{
    json_t *const object = bench_json_head(argc, argv);

    json_object_set_new(
        object, "device",
        json_string(options->emulated ? "emulated" : gdncp_device_name(options->device)));
    json_object_set_new(object, "device_name", json_string(info->name));
    json_object_set_new(object, "compute_capability", json_integer(info->compute_capability));
    json_object_set_new(object, "threads", json_integer(bench_num_threads()));
    return object;
}

void bench_json_add(json_t *object, const bench_result_t *result)
{
    const bench_shape_t *const s = &result->shape;
    const double floor_ms = bench_floor_ms(result);
    const bool has_floor = floor_ms > 0.0;
    const bool checked = result->wrong >= 0;
    json_t *const row =
        json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "name",
                  result->benchmark->name, "group", result->benchmark->group, "dtype",
                  gdncp_dtype_name(result->dtype), "tokens", (json_int_t)tokens_of(result), "batch",
                  (json_int_t)s->batch, "hidden", (json_int_t)s->hidden, "key_heads",
                  (json_int_t)s->key_heads, "value_heads", (json_int_t)s->value_heads, "key_dim",
                  (json_int_t)s->key_dim, "value_dim", (json_int_t)s->value_dim);

    json_object_set_new(row, "median_ms", number(result->times.median));
    json_object_set_new(row, "min_ms", number(result->times.min));
    json_object_set_new(row, "p50", number(result->times.median));
    json_object_set_new(row, "p99", number(result->times.p99));
    if (result->benchmark->forward != NULL) {
        json_object_set_new(row, "median_forward_ms", number(result->forward.median));
        json_object_set_new(row, "median_forward_backward_ms", number(result->times.median));
    }
    json_object_set_new(row, "bytes", number(result->bytes));
    json_object_set_new(row, "flop", number(result->flop));
    json_object_set_new(row, "peak_gbs",
                        number_or_null(result->peaks.gbs > 0.0, result->peaks.gbs));
    json_object_set_new(row, "peak_tflops",
                        number_or_null(result->peaks.tflops > 0.0, result->peaks.tflops));
    json_object_set_new(row, "floor_ms", number_or_null(has_floor, floor_ms));
    json_object_set_new(row, "share", number_or_null(has_floor, floor_ms / result->times.median));
    json_object_set_new(row, "wrong", checked ? json_integer(result->wrong) : json_null());
    json_object_set_new(row, "worst", number_or_null(checked, result->worst));
    json_array_append_new(json_object_get(object, "results"), row);
}

gdncp_status_t bench_json_write(json_t *object, const char *file)
{
    if (json_dump_file(object, file, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) != 0) {
        return gdncp_fail(GDNCP_ERR_IO, "--json: '%s' could not be written", file);
    }
    return GDNCP_OK;
}
