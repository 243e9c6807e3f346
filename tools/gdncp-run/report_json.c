/* The report as one JSON object. */
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "device.h"
#include "fail.h"
#include "summary.h"

static const char *const pass_names[] = {[RUN_FORWARD] = "forward", [RUN_BACKWARD] = "backward"};

static json_t *number(double value)
{
    /* JSON has no NaN and no infinity. */
    return isfinite(value) ? json_real(value) : json_null();
}

/* Keys that every object has, also that of a run that failed. */
static json_t *make_head(const run_options_t *options, int ranks, bool ok)
{
    const char *const file = options->file != NULL ? options->file : "";
    json_t *name = json_string(file);

    if (name == NULL) { /* not UTF-8 */
        name = json_string("?");
    }
    return json_pack("{s:o, s:i, s:s, s:s, s:s, s:s, s:b, s:s}", "file", name, "ranks", ranks,
                     "layout", gdncp_layout_kind_name(options->layout), "dtype",
                     gdncp_dtype_name(options->dtype), "rule_dtype",
                     gdncp_dtype_name(options->rule_dtype), "device",
                     run_device_name(options->device), "ok", ok, "transport",
                     gdncp_transport_name(options->transport));
}

static json_t *make_errors(const run_problem_t *problem, const run_summary_t *summary,
                           const run_error_t *errors)
{
    json_t *const object = json_object();

    for (int i = 0; i < problem->num_reported; i++) {
        const double tolerance = summary->tolerances[i];

        json_object_set_new(object, problem->reported[i].name,
                            json_pack("{s:o, s:o, s:f, s:b}", "max", number(errors[i].max),
                                      "rms_ratio", number(errors[i].rms_ratio), "tolerance",
                                      tolerance, "ok", run_error_is_inside(errors[i], tolerance)));
    }
    return object;
}

static json_t *make_result(const run_setup_t *setup, const run_summary_t *summary,
                           const run_result_t *result)
{
    json_t *const object = json_pack("{s:s, s:b}", "strategy",
                                     gdncp_strategy_name(result->strategy), "ok", result->ok);
    json_t *const peaks = json_array();

    json_object_set_new(object, "errors", make_errors(setup->problem, summary, result->errors));
    json_object_set_new(object, "errors_one_rank",
                        make_errors(setup->problem, summary, result->errors_one_rank));
    for (int pass = 0; pass < RUN_NUM_PASSES; pass++) {
        json_t *const bytes = json_array();
        json_t *const messages = json_array();
        char key[32];

        for (int r = 0; r < setup->ranks; r++) {
            json_array_append_new(bytes, json_integer(result->measured[r].bytes_sent[pass]));
            json_array_append_new(messages, json_integer(result->measured[r].messages_sent[pass]));
        }
        snprintf(key, sizeof key, "bytes_sent_%s", pass_names[pass]);
        json_object_set_new(object, key, bytes);
        snprintf(key, sizeof key, "messages_sent_%s", pass_names[pass]);
        json_object_set_new(object, key, messages);
        snprintf(key, sizeof key, "ms_%s", pass_names[pass]);
        json_object_set_new(object, key, number(result->measured[0].ms[pass]));
    }
    for (int r = 0; r < setup->ranks; r++) {
        json_array_append_new(peaks, json_integer(result->measured[r].peak_bytes));
    }
    json_object_set_new(object, "peak_bytes", peaks);
    return object;
}

static gdncp_status_t write_object(json_t *object, FILE *stream)
{
    const int failed = json_dumpf(object, stream, JSON_INDENT(2) | JSON_REAL_PRECISION(6));

    json_decref(object);
    if (failed != 0 || fputc('\n', stream) == EOF) {
        return run_fail(GDNCP_ERR_OUT_OF_MEMORY, "out of memory: the report");
    }
    return GDNCP_OK;
}

gdncp_status_t run_report_json(const run_setup_t *setup, const run_summary_t *summary, FILE *stream)
{
    const run_problem_t *const problem = setup->problem;
    const run_options_t *const options = setup->options;
    json_t *const object = make_head(options, setup->ranks, summary->ok);
    json_t *const tokens = json_array();
    json_t *const results = json_array();

    json_object_set_new(object, "kind", json_string(problem->kind == RUN_LAYER ? "layer" : "rule"));
    if (problem->kind == RUN_LAYER) {
        json_object_set_new(object, "family", json_string(gdncp_family_name(problem->family)));
    }
    json_object_set_new(object, "tokens", json_integer(problem->tokens));
    json_object_set_new(object, "sequences", json_integer(problem->sequences.count));
    for (int r = 0; r < setup->ranks; r++) {
        json_array_append_new(tokens, json_integer(summary->rank_tokens[r]));
    }
    json_object_set_new(object, "rank_tokens", tokens);
    json_object_set_new(object, "iterations", json_integer(options->iterations));
    json_object_set_new(object, "device_name", json_string(summary->device.name));
    json_object_set_new(object, "lanes", json_string(summary->lanes));
    json_object_set_new(object, "reference", json_string(summary->reference));
    for (int s = 0; s < options->num_strategies; s++) {
        json_array_append_new(results, make_result(setup, summary, &summary->results[s]));
    }
    json_object_set_new(object, "results", results);
    return write_object(object, stream);
}

void run_report_json_failure(const run_options_t *options, int ranks, const char *sentence,
                             FILE *stream)
{
    json_t *const object = make_head(options, ranks, false);
    json_t *error = json_string(sentence);

    json_object_set_new(object, "results", json_array());
    json_object_set_new(object, "error", error != NULL ? error : json_string("?"));
    (void)write_object(object, stream);
}
