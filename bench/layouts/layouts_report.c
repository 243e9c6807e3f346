#include "layouts_report.h"

#include <inttypes.h>
#include <stdio.h>

static double gbs(const layouts_result_t *result)
{
    return (double)result->bytes * 1e-6 / result->times.median;
}

void layouts_print_head(void)
{
    printf("%-16s %9s %5s %5s %9s %9s %9s %7s %7s %8s %8s\n", "", "tokens", "ranks", "seqs",
           "segments", "min ms", "p50 ms", "GB/s", "of fill", "held", "peak");
}

void layouts_print_result(const layouts_result_t *result)
{
    char segments[24] = "";

    if (result->segments > 0) {
        snprintf(segments, sizeof segments, "%" PRId64, result->segments);
    }
    printf("%-16s %9" PRId64 " %5d %5" PRId64 " %9s %9.3f %9.3f", result->name,
           result->pack->tokens, result->pack->num_ranks, result->pack->num_sequences, segments,
           result->times.min, result->times.median);
    if (result->bytes > 0) {
        printf(" %7.2f %7.2f %8s %8s", gbs(result), result->fill_ms / result->times.median, "", "");
    } else {
        printf(" %7s %7s %8.2f %8.2f", "", "", result->held_mib, result->peak_mib);
    }
    printf(" %s\n", result->is_right ? "ok" : "WRONG");
    fflush(stdout);
}

void layouts_json_add(json_t *object, const layouts_result_t *result)
{
    json_t *const row = json_pack(
        "{s:s, s:I, s:i, s:I, s:f, s:f, s:f, s:i}", "name", result->name, "tokens",
        (json_int_t)result->pack->tokens, "ranks", result->pack->num_ranks, "sequences",
        (json_int_t)result->pack->num_sequences, "median_ms", result->times.median, "min_ms",
        result->times.min, "p99", result->times.p99, "wrong", (int)!result->is_right);

    if (result->bytes > 0) {
        json_object_set_new(row, "bytes", json_integer(result->bytes));
        json_object_set_new(row, "gbs", json_real(gbs(result)));
        json_object_set_new(row, "share", json_real(result->fill_ms / result->times.median));
    } else {
        json_object_set_new(row, "segments", json_integer(result->segments));
        json_object_set_new(row, "held_mib", json_real(result->held_mib));
        json_object_set_new(row, "peak_mib", json_real(result->peak_mib));
    }
    json_array_append_new(json_object_get(object, "results"), row);
}
