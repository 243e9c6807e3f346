/* gdncp-bench-layouts: time and memory of layouts, index maps and plans. No ranks are needed. */
#define _GNU_SOURCE /* mallinfo2 */
#include <getopt.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "error.h"
#include "layouts_bench.h"
#include "layouts_report.h"
#include "option_values.h"
#include "report.h"

enum { MAX_RUNS = 1000, MILLION = 1024 * 1024 };

static const struct {
    int64_t tokens;
    int num_ranks;
    int64_t num_sequences;
} packs[] = {
    {64 * 1024, 8, 1},       {MILLION, 8, 1},          {MILLION, 8, 64},
    {16 * MILLION, 1024, 1}, {16 * MILLION, 1024, 64}, {16 * MILLION, 1024, 1024},
    {16 * MILLION, 4096, 1}, {16 * MILLION, 4096, 64},
};

enum { NUM_PACKS = sizeof packs / sizeof packs[0] };

typedef struct options {
    int64_t max_tokens;
    int num_runs;
    const char *json; /* NULL: none */
} options_t;

static const char help[] = "Usage: gdncp-bench-layouts [options]\n"
                           "\n"
                           "Time layouts, index maps and plans of one rank, each checked first.\n"
                           "\n"
                           "  -n N        runs that are timed, each by itself (default 9)\n"
                           "  --tokens N  leave out packs of more tokens (default 16777216)\n"
                           "  --json FILE write the results, too\n"
                           "  --help\n"
                           "\n"
                           "p50 is the median. GB/s is what a map writes; of fill: the time of "
                           "memset() for as many bytes\n"
                           "divided by the map's. held is what stays allocated, peak what was at "
                           "most while it ran (more by\n"
                           "what the allocator rounds), both in MiB.\n"
                           "\n"
                           "Exit status: 0 when no result was wrong.\n";

static double milliseconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

static double held_mib(void)
{
    const struct mallinfo2 info = mallinfo2();

    return (double)(info.uordblks + info.hblkhd) / MILLION;
}

/* A line of /proc/self/status in MiB; 0 where there is none. */
static double status_mib(const char *name)
{
    FILE *const file = fopen("/proc/self/status", "r");
    char line[256];
    double mib = 0;

    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        long long kib;

        if (strncmp(line, name, strlen(name)) == 0 &&
            sscanf(line + strlen(name), ": %lld", &kib) == 1) {
            mib = (double)kib / 1024;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return mib;
}

/* From now on VmHWM counts anew. */
static void forget_peak(void)
{
    FILE *const file = fopen("/proc/self/clear_refs", "w");

    malloc_trim(0);
    if (file != NULL) {
        fputs("5", file);
        fclose(file);
    }
}

static void free_made(layouts_made_t *made)
{
    gdncp_layout_destroy(made->layout);
    gdncp_plan_destroy(made->plan);
    gdncp_relay_schedule_destroy(made->relay);
    *made = (layouts_made_t){0};
}

static double fill_milliseconds(const layouts_pack_t *pack, int64_t bytes, int num_runs)
{
    const size_t one = (size_t)pack->tokens * sizeof *pack->map;
    double times[MAX_RUNS];

    for (int i = 0; i < num_runs; i++) {
        const double start = milliseconds();

        memset(pack->map, i, (size_t)bytes < one ? (size_t)bytes : one);
        if ((size_t)bytes > one) {
            memset(pack->map_too, i, (size_t)bytes - one);
        }
        times[i] = milliseconds() - start;
    }
    return bench_times_of(times, num_runs).median;
}

/* Check an operation, then time it. */
static gdncp_status_t time_operation(const layouts_operation_t *operation,
                                     const layouts_pack_t *pack, int num_runs,
                                     layouts_result_t *result)
{
    layouts_made_t made = {0};
    double times[MAX_RUNS];

    *result = (layouts_result_t){
        .name = operation->name,
        .pack = pack,
        .bytes = operation->bytes != NULL ? operation->bytes(pack) : 0,
    };
    forget_peak();
    const double rss_before = status_mib("VmRSS");
    const double held_before = held_mib();
    gdncp_status_t status = operation->run(pack, &made);

    if (status != GDNCP_OK) {
        return status;
    }
    result->held_mib = held_mib() - held_before;
    result->peak_mib = status_mib("VmHWM") - rss_before;
    result->is_right = operation->check(pack, &made);
    result->segments = made.layout != NULL ? gdncp_layout_num_segments(made.layout) : 0;
    for (int i = 0; i < num_runs && status == GDNCP_OK; i++) {
        free_made(&made);
        const double start = milliseconds();

        status = operation->run(pack, &made);
        times[i] = milliseconds() - start;
    }
    free_made(&made);
    if (status == GDNCP_OK) {
        result->times = bench_times_of(times, num_runs);
        result->fill_ms =
            result->bytes > 0 ? fill_milliseconds(pack, result->bytes, num_runs) : 0.0;
    }
    return status;
}

static gdncp_status_t run(const options_t *options, json_t *json, int *wrong_p)
{
    gdncp_status_t status = GDNCP_OK;

    layouts_print_head();
    for (int p = 0; p < NUM_PACKS && status == GDNCP_OK; p++) {
        layouts_pack_t pack;

        if (packs[p].tokens > options->max_tokens) {
            continue;
        }
        status =
            layouts_pack_make(packs[p].tokens, packs[p].num_ranks, packs[p].num_sequences, &pack);
        for (int i = 0; layouts_operations[i].name != NULL && status == GDNCP_OK; i++) {
            layouts_result_t result;

            status = time_operation(&layouts_operations[i], &pack, options->num_runs, &result);
            if (status == GDNCP_OK) {
                layouts_print_result(&result);
                layouts_json_add(json, &result);
                *wrong_p += !result.is_right;
            }
        }
        layouts_pack_free(&pack);
    }
    return status;
}

static gdncp_status_t parse(int argc, char **argv, options_t *options, bool *help_p)
{
    enum { TOKENS = 256, JSON, HELP };
    static const struct option long_options[] = {
        {"tokens", required_argument, NULL, TOKENS},
        {"json", required_argument, NULL, JSON},
        {"help", no_argument, NULL, HELP},
        {NULL, 0, NULL, 0},
    };
    gdncp_status_t status = GDNCP_OK;
    int option;

    while (status == GDNCP_OK &&
           (option = getopt_long(argc, argv, "n:", long_options, NULL)) != -1) {
        switch (option) {
        case 'n':
            status = option_int(gdncp_fail, "-n", optarg, 1, MAX_RUNS, &options->num_runs);
            break;
        case TOKENS:
            status = option_integer(gdncp_fail, "--tokens", optarg, packs[0].tokens, INT64_MAX,
                                    &options->max_tokens);
            break;
        case JSON:
            options->json = optarg;
            break;
        case HELP:
            *help_p = true;
            break;
        default:
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "expected options of --help");
        }
    }
    if (status == GDNCP_OK && optind < argc) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "expected options, got '%s'", argv[optind]);
    }
    return status;
}

int main(int argc, char **argv)
{
    options_t options = {.max_tokens = 16 * MILLION, .num_runs = 9};
    bool wants_help = false;
    int wrong = 0;
    gdncp_status_t status = parse(argc, argv, &options, &wants_help);

    if (status == GDNCP_OK && wants_help) {
        fputs(help, stdout);
        return 0;
    }
    if (status == GDNCP_OK) {
        json_t *const json = bench_json_head(argc, argv);

        status = run(&options, json, &wrong);
        if (status == GDNCP_OK && options.json != NULL) {
            status = bench_json_write(json, options.json);
        }
        json_decref(json);
    }
    if (status != GDNCP_OK) {
        fprintf(stderr, "gdncp-bench-layouts: %s: %s\n", gdncp_status_string(status),
                gdncp_last_error());
    } else if (wrong > 0) {
        fprintf(stderr, "gdncp-bench-layouts: %d results are wrong\n", wrong);
    }
    return status == GDNCP_OK && wrong == 0 ? 0 : 1;
}
