#include "options.h"

#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "option_values.h"
#include "parse.h"

#define MAX_TOKENS (INT64_C(1) << 24)
#define MAX_HEADS 4096
#define MAX_DIM 256

enum {
    TOKENS = 256,
    BATCH,
    SHAPE,
    HIDDEN,
    HEADS,
    HEAD_DIM,
    DIM,
    KEY_HEADS,
    VALUE_HEADS,
    DTYPE,
    DEVICE,
    PEAK_GBS,
    PEAK_TFLOPS,
    JSON,
    LIST,
    HELP,
    VERSION
};

static const struct option long_options[] = {
    {"tokens", required_argument, NULL, TOKENS},
    {"batch", required_argument, NULL, BATCH},
    {"shape", required_argument, NULL, SHAPE},
    {"hidden", required_argument, NULL, HIDDEN},
    {"heads", required_argument, NULL, HEADS},
    {"head-dim", required_argument, NULL, HEAD_DIM},
    {"dim", required_argument, NULL, DIM},
    {"key-heads", required_argument, NULL, KEY_HEADS},
    {"value-heads", required_argument, NULL, VALUE_HEADS},
    {"dtype", required_argument, NULL, DTYPE},
    {"device", required_argument, NULL, DEVICE},
    {"peak-gbs", required_argument, NULL, PEAK_GBS},
    {"peak-tflops", required_argument, NULL, PEAK_TFLOPS},
    {"json", required_argument, NULL, JSON},
    {"list", no_argument, NULL, LIST},
    {"help", no_argument, NULL, HELP},
    {"version", no_argument, NULL, VERSION},
    {NULL, 0, NULL, 0},
};

const char *bench_options_help(void)
{
    return "Usage: gdncp-bench [NAME...] [options]\n"
           "\n"
           "Time operators, after a check of their results against a reference in float64.\n"
           "\n"
           "NAME is a benchmark, the first words of some (conv1d), or a group (rule, ops, "
           "decode);\n"
           "without one, all are run. The name of an exchange, such as cp2hp, makes it\n"
           "gdncp-bench-comm, with the options of that.\n"
           "\n"
           "  -b N, -e N        smallest and largest number of tokens (default 4096)\n"
           "  -f N              factor from one number of tokens to the next (default 2)\n"
           "  --tokens N        the same as -b N -e N\n"
           "  -w N              runs before those that are timed (default 5)\n"
           "  -n N              runs that are timed, each by itself (default 20)\n"
           "  -c 0|1            check results (default 1)\n"
           "  --shape MODEL     sizes of a model's layer: qwen3_next (default), qwen3_5_9b,\n"
           "                    qwen3_5_27b, qwen3_5_397b, olmo_hybrid\n"
           "  --heads K/V       key and value heads, instead of the model's\n"
           "  --head-dim K[/V]  their dims; also --dim\n"
           "  --key-heads N, --value-heads N\n"
           "  --hidden N        hidden size\n"
           "  --batch N         sequences that decode a token each (default 64)\n"
           "  --dtype LIST      bf16 (default), f16, f32, or several with a comma between\n"
           "  --device NAME     cpu (default), cuda, or emulated, where times say nothing\n"
           "  --peak-gbs X      the machine's memory bandwidth, else measured by a copy\n"
           "  --peak-tflops X   its arithmetic, else measured by a matrix product\n"
           "  --json FILE       write the results, too\n"
           "  --list            print the benchmarks' names\n"
           "  --help, --version\n"
           "\n"
           "The floor is the larger of bytes / bandwidth and operations / arithmetic, with each\n"
           "input read once and each output written once; the share is floor / median.\n"
           "\n"
           "Exit status: 0 when no result was wrong.\n";
}

/* FIRST/SECOND, or FIRST alone for both where that is allowed. */
static gdncp_status_t parse_pair(const char *option, const char *text, bool alone, int64_t maximum,
                                 int64_t *first_p, int64_t *second_p)
{
    char first[32] = "";
    const char *const slash = strchr(text, '/');
    const size_t length = slash != NULL ? (size_t)(slash - text) : strlen(text);

    if (length >= sizeof first || (slash == NULL && !alone)) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "%s: expected two integers as K/V, got '%s'",
                          option, text);
    }
    memcpy(first, text, length);
    const gdncp_status_t status = option_integer(gdncp_fail, option, first, 1, maximum, first_p);

    return status != GDNCP_OK
               ? status
               : option_integer(gdncp_fail, option, slash != NULL ? slash + 1 : first, 1, maximum,
                                second_p);
}

static gdncp_status_t parse_peak(const char *option, const char *text, double *value_p)
{
    char *end;
    const double value = strtod(text, &end);

    if (end == text || *end != '\0' || !isfinite(value) || value <= 0.0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "%s: expected a number above 0, got '%s'",
                          option, text);
    }
    *value_p = value;
    return GDNCP_OK;
}

static gdncp_status_t parse_device(const char *text, bench_options_t *options)
{
    static const char *const names[] = {"cpu", "cuda", "emulated"};
    int index = 0;
    const gdncp_status_t status = option_choice(gdncp_fail, "--device", text, names, 3, &index);

    options->device = index == 0 ? GDNCP_DEVICE_CPU : GDNCP_DEVICE_CUDA;
    options->emulated = index == 2;
    return status;
}

static gdncp_status_t parse_sizes(int option, const char *text, bench_options_t *options)
{
    bench_shape_t *const shape = &options->shape;
    gdncp_status_t status;

    switch (option) {
    case 'b':
        return option_integer(gdncp_fail, "-b", text, 1, MAX_TOKENS, &options->min_tokens);
    case 'e':
        return option_integer(gdncp_fail, "-e", text, 1, MAX_TOKENS, &options->max_tokens);
    case 'f':
        return option_integer(gdncp_fail, "-f", text, 2, MAX_TOKENS, &options->factor);
    case TOKENS:
        status = option_integer(gdncp_fail, "--tokens", text, 1, MAX_TOKENS, &options->min_tokens);
        options->max_tokens = options->min_tokens;
        return status;
    case BATCH:
        return option_integer(gdncp_fail, "--batch", text, 1, MAX_TOKENS, &shape->batch);
    case SHAPE:
        options->model = text;
        return bench_shape_of_model(text, shape)
                   ? GDNCP_OK
                   : gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "--shape: expected one of %s, got '%s'",
                                bench_model_names(), text);
    case HIDDEN:
        return option_integer(gdncp_fail, "--hidden", text, 1, MAX_TOKENS, &shape->hidden);
    case HEADS:
        return parse_pair("--heads", text, false, MAX_HEADS, &shape->key_heads,
                          &shape->value_heads);
    case KEY_HEADS:
        return option_integer(gdncp_fail, "--key-heads", text, 1, MAX_HEADS, &shape->key_heads);
    case VALUE_HEADS:
        return option_integer(gdncp_fail, "--value-heads", text, 1, MAX_HEADS, &shape->value_heads);
    case DIM:
        return parse_pair("--dim", text, true, MAX_DIM, &shape->key_dim, &shape->value_dim);
    default:
        return parse_pair("--head-dim", text, true, MAX_DIM, &shape->key_dim, &shape->value_dim);
    }
}

static gdncp_status_t parse_option(int option, const char *text, bench_options_t *options)
{
    int check = 0;
    gdncp_status_t status;

    switch (option) {
    case 'w':
        return option_int(gdncp_fail, "-w", text, 0, 1000000, &options->warm_up);
    case 'n':
        return option_int(gdncp_fail, "-n", text, 1, 1000000, &options->iterations);
    case 'c':
        status = option_int(gdncp_fail, "-c", text, 0, 1, &check);
        options->check = check == 1;
        return status;
    case DTYPE:
        return bench_parse_dtypes(text, options->dtypes, &options->num_dtypes);
    case DEVICE:
        return parse_device(text, options);
    case PEAK_GBS:
        return parse_peak("--peak-gbs", text, &options->peaks.gbs);
    case PEAK_TFLOPS:
        return parse_peak("--peak-tflops", text, &options->peaks.tflops);
    case JSON:
        options->json = text;
        return GDNCP_OK;
    case LIST:
        options->request = BENCH_LIST;
        return GDNCP_OK;
    case HELP:
        options->request = BENCH_HELP;
        return GDNCP_OK;
    case VERSION:
        options->request = BENCH_VERSION;
        return GDNCP_OK;
    default:
        return parse_sizes(option, text, options);
    }
}

static bool matches(const char *name, const bench_benchmark_t *benchmark)
{
    const size_t length = strlen(name);

    return strcmp(name, benchmark->group) == 0 ||
           (strncmp(name, benchmark->name, length) == 0 &&
            (benchmark->name[length] == '\0' || benchmark->name[length] == '_'));
}

bool bench_is_wanted(const bench_options_t *options, const bench_benchmark_t *benchmark)
{
    bool wanted = options->num_names == 0;

    for (int i = 0; i < options->num_names; i++) {
        wanted = wanted || matches(options->names[i], benchmark);
    }
    return wanted;
}

static gdncp_status_t parse_name(const char *name, bench_options_t *options)
{
    bool known = false;

    for (int i = 0; bench_registry[i] != NULL; i++) {
        known = known || matches(name, bench_registry[i]);
    }
    if (!known || options->num_names == BENCH_MAX_NAMES) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "NAME: expected up to %d benchmarks of gdncp-bench --list, got '%s'",
                          BENCH_MAX_NAMES, name);
    }
    options->names[options->num_names++] = name;
    return GDNCP_OK;
}

static gdncp_status_t check_together(const bench_options_t *options)
{
    if (options->min_tokens > options->max_tokens) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "-e: expected %" PRId64 " or more, as -b, got %" PRId64,
                          options->min_tokens, options->max_tokens);
    }
    if (options->shape.value_heads % options->shape.key_heads != 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "--heads: expected a multiple of %" PRId64 " value heads, got %" PRId64,
                          options->shape.key_heads, options->shape.value_heads);
    }
    return GDNCP_OK;
}

gdncp_status_t bench_options_parse(int argc, char **argv, bench_options_t *options)
{
    int option;

    *options = (bench_options_t){
        .shape = {.batch = 64},
        .model = "qwen3_next",
        .min_tokens = 4096,
        .max_tokens = 4096,
        .factor = 2,
        .dtypes = {GDNCP_BF16},
        .num_dtypes = 1,
        .warm_up = 5,
        .iterations = 20,
        .check = true,
    };
    (void)bench_shape_of_model(options->model, &options->shape);
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":b:e:f:w:n:c:", long_options, NULL)) != -1) {
        if (option == '?' && optopt > 0 && optopt < TOKENS) {
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "unknown option '-%c'", optopt);
        }
        if (option == '?' || option == ':') {
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                              option == '?' ? "unknown option '%s'" : "option '%s' needs a value",
                              argv[optind - 1]);
        }
        const gdncp_status_t status = parse_option(option, optarg, options);
        if (status != GDNCP_OK || options->request != BENCH_MEASURE) {
            return status;
        }
    }
    for (int i = optind; i < argc; i++) {
        const gdncp_status_t status = parse_name(argv[i], options);
        if (status != GDNCP_OK) {
            return status;
        }
    }
    return check_together(options);
}
