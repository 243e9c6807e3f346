/* The report as a table. */
#include <inttypes.h>
#include <string.h>

#include "device.h"
#include "fail.h"
#include "summary.h"

static const char *const pass_names[] = {[RUN_FORWARD] = "forward", [RUN_BACKWARD] = "backward"};

static void print_shape(const run_problem_t *problem, FILE *stream)
{
    const gdncp_layer_shape_t *const shape = &problem->layer.shape;
    const gdncp_cp_rule_config_t *const rule = &problem->rule;

    if (problem->kind == RUN_LAYER) {
        fprintf(stream,
                "layer      %s, hidden size %" PRId64 ", %" PRId64 " key heads of %" PRId64
                ", %" PRId64 " value heads of %" PRId64 ", convolution over %" PRId64 " tokens\n",
                gdncp_family_name(problem->family), shape->hidden_size, shape->num_key_heads,
                shape->key_head_dim, shape->num_value_heads, shape->value_head_dim,
                shape->conv_kernel_dim);
    } else {
        fprintf(stream,
                "operator   gated delta rule, %" PRId64 " key heads of %" PRId64 ", %" PRId64
                " value heads of %" PRId64 "%s\n",
                rule->num_key_heads, rule->key_head_dim, rule->num_value_heads,
                rule->value_head_dim,
                problem->ill_conditioned ? "; nearly parallel keys or strong decay" : "");
    }
}

static void print_head(const run_setup_t *setup, const run_summary_t *summary, FILE *stream)
{
    const run_problem_t *const problem = setup->problem;
    const run_options_t *const options = setup->options;
    int64_t least = INT64_MAX;
    int64_t most = 0;

    for (int r = 0; r < setup->ranks; r++) {
        least = summary->rank_tokens[r] < least ? summary->rank_tokens[r] : least;
        most = summary->rank_tokens[r] > most ? summary->rank_tokens[r] : most;
    }
    fprintf(stream, "dump       %s\n", problem->path);
    print_shape(problem, stream);
    fprintf(stream, "tokens     %" PRId64 " in %" PRId64 " sequence%s\n", problem->tokens,
            problem->sequences.count, problem->sequences.count == 1 ? "" : "s");
    fprintf(stream, "ranks      %d, %s, %" PRId64, setup->ranks,
            gdncp_layout_kind_name(options->layout), least);
    if (most > least) {
        fprintf(stream, " to %" PRId64, most);
    }
    fprintf(stream, " tokens each\n");
    fprintf(stream, "transport  %s (%s)\n", gdncp_transport_name(options->transport),
            summary->lanes);
    fprintf(stream, "device     %s", run_device_name(options->device));
    if (options->device == RUN_CUDA) {
        fprintf(stream, " (%s)", summary->device.name);
    }
    fprintf(stream, "\ndtype      %s%s\n", gdncp_dtype_name(options->dtype),
            options->rule_dtype != GDNCP_F32 ? ", inside the rule too" : "");
    fprintf(stream, "errors     against %s%s, and against the same run on one rank\n",
            run_problem_has_expected(problem) ? "the " : "", summary->reference);
}

static void print_errors(const run_problem_t *problem, const run_summary_t *summary,
                         const run_result_t *result, FILE *stream)
{
    fprintf(stream, "  %-28s %10s %10s %14s %10s\n", "", "max error", "RMS ratio", "to one rank",
            "tolerance");
    for (int i = 0; i < problem->num_reported; i++) {
        const run_error_t *const error = &result->errors[i];
        const run_error_t *const alone = &result->errors_one_rank[i];
        const double tolerance = summary->tolerances[i];
        const bool ok =
            run_error_is_inside(*error, tolerance) && run_error_is_inside(*alone, tolerance);

        fprintf(stream, "  %-28s %10.2e %10.2e %14.2e %10.1e  %s\n", problem->reported[i].name,
                error->max, error->rms_ratio, alone->rms_ratio, tolerance, ok ? "ok" : "FAIL");
    }
}

/* "12345" where all ranks have the same, else "from..to". */
static void print_range(FILE *stream, const char *what, const char *unit,
                        const run_result_t *result, int ranks,
                        int64_t (*value)(const run_measured_t *, int), int argument)
{
    int64_t least = INT64_MAX;
    int64_t most = 0;

    for (int r = 0; r < ranks; r++) {
        const int64_t v = value(&result->measured[r], argument);

        least = v < least ? v : least;
        most = v > most ? v : most;
    }
    fprintf(stream, "  %-28s %10" PRId64, what, least);
    if (most > least) {
        fprintf(stream, " to %" PRId64, most);
    }
    fprintf(stream, " %s\n", unit);
}

static int64_t bytes_of(const run_measured_t *measured, int pass)
{
    return measured->bytes_sent[pass];
}

static int64_t messages_of(const run_measured_t *measured, int pass)
{
    return measured->messages_sent[pass];
}

static int64_t peak_of(const run_measured_t *measured, int unused)
{
    (void)unused;
    return measured->peak_bytes;
}

static void print_measured(const run_setup_t *setup, const run_result_t *result, FILE *stream)
{
    char what[64];

    for (int pass = 0; pass < RUN_NUM_PASSES; pass++) {
        snprintf(what, sizeof what, "%s, sent per rank", pass_names[pass]);
        print_range(stream, what, "bytes", result, setup->ranks, bytes_of, pass);
        print_range(stream, "", "messages", result, setup->ranks, messages_of, pass);
    }
    print_range(stream, "peak memory per rank", "bytes", result, setup->ranks, peak_of, 0);
    for (int pass = 0; pass < RUN_NUM_PASSES; pass++) {
        snprintf(what, sizeof what, "time of %s", pass_names[pass]);
        fprintf(stream, "  %-28s %10.3f ms\n", what, result->measured[0].ms[pass]);
    }
}

gdncp_status_t run_report_text(const run_setup_t *setup, const run_summary_t *summary, FILE *stream)
{
    print_head(setup, summary, stream);
    for (int s = 0; s < setup->options->num_strategies; s++) {
        const run_result_t *const result = &summary->results[s];

        fprintf(stream, "\nstrategy %s\n", gdncp_strategy_name(result->strategy));
        print_errors(setup->problem, summary, result, stream);
        print_measured(setup, result, stream);
    }
    fprintf(stream, "\n%s\n", summary->ok ? "PASS" : "FAIL");
    if (ferror(stream)) {
        return run_fail(GDNCP_ERR_OUT_OF_MEMORY, "out of memory: the report");
    }
    return GDNCP_OK;
}
