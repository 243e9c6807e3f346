/* gdncp-bench: time operators, or exchanges, beside what the machine could do. */
#include <stdio.h>
#include <stdlib.h>

#include "comm_main.h"
#include "gdncp/gdncp.h"
#include "report.h"
#include "run.h"

/* All numbers of tokens that a benchmark is to be run with. */
static gdncp_status_t sweep(const bench_options_t *options, bench_result_t result, json_t *json,
                            int *wrong_p)
{
    gdncp_status_t status = GDNCP_OK;

    for (int64_t tokens = options->min_tokens; tokens <= options->max_tokens && status == GDNCP_OK;
         tokens *= options->factor) {
        result.shape.tokens = tokens;
        status = bench_run_one(options, &result);
        if (status == GDNCP_OK) {
            bench_print_result(&result);
            bench_json_add(json, &result);
            *wrong_p += result.wrong > 0 ? result.wrong : 0;
        }
        if (result.benchmark->sweep != BENCH_TOKENS) {
            break;
        }
    }
    return status;
}

static gdncp_status_t run_dtype(const bench_options_t *options, gdncp_dtype_t dtype, json_t *json,
                                int *wrong_p)
{
    bench_result_t result = {.shape = options->shape, .dtype = dtype, .peaks = options->peaks};
    gdncp_status_t status = GDNCP_OK;

    if (!options->emulated) {
        status = bench_measure_peaks(options->device, dtype, &result.peaks);
    }
    if (status == GDNCP_OK) {
        bench_print_peaks(&result.peaks, dtype);
        bench_print_columns();
    }
    for (int i = 0; bench_registry[i] != NULL && status == GDNCP_OK; i++) {
        result.benchmark = bench_registry[i];
        if (bench_is_wanted(options, result.benchmark)) {
            status = sweep(options, result, json, wrong_p);
        }
    }
    return status;
}

static gdncp_status_t run(const bench_options_t *options, json_t *json, int *wrong_p)
{
    gdncp_status_t status = GDNCP_OK;

    for (int i = 0; i < options->num_dtypes && status == GDNCP_OK; i++) {
        status = run_dtype(options, options->dtypes[i], json, wrong_p);
    }
    /* What was measured before a failure is kept. */
    if (options->json != NULL) {
        const gdncp_status_t written = bench_json_write(json, options->json);

        status = status == GDNCP_OK ? written : status;
    }
    return status;
}

static void list(void)
{
    for (int i = 0; bench_registry[i] != NULL; i++) {
        printf("%-8s %s\n", bench_registry[i]->group, bench_registry[i]->name);
    }
}

static int time_operators(int argc, char **argv)
{
    bench_options_t options;
    gdncp_device_info_t info;
    int wrong = 0;
    gdncp_status_t status = bench_options_parse(argc, argv, &options);

    if (status == GDNCP_OK && options.request == BENCH_HELP) {
        fputs(bench_options_help(), stdout);
        return 0;
    }
    if (status == GDNCP_OK && options.request == BENCH_VERSION) {
        printf("gdncp-bench %s\n", gdncp_version());
        return 0;
    }
    if (status == GDNCP_OK && options.request == BENCH_LIST) {
        list();
        return 0;
    }
    /* The library reads it once, at the first call that concerns CUDA. */
    if (status == GDNCP_OK && options.emulated) {
        setenv("GDNCP_CUDA", "emulated", 1);
    }
    if (status == GDNCP_OK) {
        status = gdncp_device_describe(options.device, &info);
    }
    if (status == GDNCP_OK) {
        json_t *const json = bench_json_start(&options, &info, argc, argv);

        bench_print_head(&options, &info);
        status = run(&options, json, &wrong);
        json_decref(json);
    }
    if (status != GDNCP_OK) {
        fprintf(stderr, "gdncp-bench: %s: %s\n", gdncp_status_string(status), gdncp_last_error());
    } else if (wrong > 0) {
        fprintf(stderr, "gdncp-bench: %d outputs are wrong\n", wrong);
    }
    return status == GDNCP_OK && wrong == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    return comm_is_asked_for(argc, argv) ? comm_main(argc, argv) : time_operators(argc, argv);
}
