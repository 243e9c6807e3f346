#include "comm_report.h"

#include <inttypes.h>
#include <stdio.h>

#include "comm_raw.h"
#include "gdncp/gdncp.h"
#include "report.h"

/* 1e9 bytes a second. */
static double gbs(int64_t bytes, double ms)
{
    return ms > 0.0 ? 1e-6 * (double)bytes / ms : 0.0;
}

static int64_t count_of(const comm_result_t *result)
{
    return result->bytes / (int64_t)gdncp_dtype_size(result->shape.dtype);
}

void comm_print_head(const comm_options_t *options, const comm_place_t *place)
{
    printf("# gdncp-bench-comm %s, %d ranks on %d cores%s, %s (%s)\n", gdncp_version(),
           place->ranks, place->cores,
           place->ranks > place->cores ? ": more ranks than cores, which take turns" : ", pinned",
           place->transport, place->lanes);
    printf("# %" PRId64 " channels; %d runs after %d\n", options->channels, options->iterations,
           options->warm_up);
    printf("%-20s %12s %12s %-5s %9s %9s %9s %8s %8s %9s %6s %6s\n", "# benchmark", "size B",
           "count", "dtype", "min ms", "p50 ms", "p99 ms", "algbw", "busbw", "floor ms", "share",
           "wrong");
}

void comm_print_result(const comm_result_t *result)
{
    const double median = result->times.median;

    printf("%-20s %12" PRId64 " %12" PRId64 " %-5s %9.4f %9.4f %9.4f %8.2f %8.2f %9.4f %5.0f%%",
           result->benchmark->name, result->bytes, count_of(result),
           gdncp_dtype_name(result->shape.dtype), result->times.min, median, result->times.p99,
           gbs(result->bytes, median), gbs(result->sent_bytes, median), result->floor_ms,
           100.0 * result->floor_ms / median);
    if (result->wrong >= 0) {
        printf(" %6" PRId64 "\n", result->wrong);
    } else {
        printf(" %6s\n", "-");
    }
    fflush(stdout);
}

json_t *comm_json_start(const comm_place_t *place, int argc, char **argv)
{
    json_t *const object = bench_json_head(argc, argv);

    json_object_set_new(object, "ranks", json_integer(place->ranks));
    json_object_set_new(object, "cores", json_integer(place->cores));
    json_object_set_new(object, "transport", json_string(place->transport));
    json_object_set_new(object, "lanes", json_string(place->lanes));
    return object;
}

void comm_json_add(json_t *object, const comm_result_t *result)
{
    const double median = result->times.median;
    json_t *const row = json_pack(
        "{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:n, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "name",
        result->benchmark->name, "dtype", gdncp_dtype_name(result->shape.dtype), "tokens",
        (json_int_t)result->shape.tokens, "channels", (json_int_t)result->shape.channels, "bytes",
        (json_int_t)result->bytes, "count", (json_int_t)count_of(result), "sent_bytes",
        (json_int_t)result->sent_bytes, "raw_ms", "median_ms", median, "min_ms", result->times.min,
        "p50", median, "p99", result->times.p99, "algbw", gbs(result->bytes, median), "busbw",
        gbs(result->sent_bytes, median), "floor_ms", result->floor_ms, "share",
        result->floor_ms / median);

    json_object_set_new(row, "wrong",
                        result->wrong >= 0 ? json_integer(result->wrong) : json_null());
    json_array_append_new(json_object_get(object, "results"), row);
}

/* What an earlier row measured for as many bytes; NULL: none did. */
static json_t *find_raw(const json_t *rows, size_t before, int64_t bytes)
{
    for (size_t i = 0; i < before; i++) {
        const json_t *const row = json_array_get(rows, i);

        if (json_integer_value(json_object_get(row, "sent_bytes")) == bytes) {
            return json_object_get(row, "raw_ms");
        }
    }
    return NULL;
}

gdncp_status_t comm_report_raw(json_t *object, const char *program)
{
    const json_t *const rows = json_object_get(object, "results");

    printf("# one message of as many bytes as a rank sends, by %s, one way\n", program);
    printf("%-20s %12s %-8s %9s %8s %9s\n", "# benchmark", "sent B", "test", "raw ms", "bw",
           "p50 / raw");
    for (size_t i = 0; i < json_array_size(rows); i++) {
        json_t *const row = json_array_get(rows, i);
        const int64_t bytes = json_integer_value(json_object_get(row, "sent_bytes"));
        json_t *const found = find_raw(rows, i, bytes);
        double ms = json_real_value(found);

        if (bytes == 0) {
            continue;
        }
        if (found == NULL) {
            const gdncp_status_t status = comm_raw_measure(program, bytes, &ms);

            if (status != GDNCP_OK) {
                return status;
            }
        }
        json_object_set_new(row, "raw_ms", json_real(ms));
        printf("%-20s %12" PRId64 " %-8s %9.5f %8.2f %9.2f\n",
               json_string_value(json_object_get(row, "name")), bytes, comm_raw_test(bytes), ms,
               gbs(bytes, ms), json_real_value(json_object_get(row, "p50")) / ms);
        fflush(stdout);
    }
    return GDNCP_OK;
}
