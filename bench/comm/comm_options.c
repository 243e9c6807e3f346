#include "comm_options.h"

#include <getopt.h>
#include <inttypes.h>
#include <string.h>

#include "error.h"
#include "option_values.h"

#define MAX_BYTES (INT64_C(1) << 40)
#define MAX_COUNT (INT64_C(1) << 24)

enum { RANKS = 256, TOKENS, CHANNELS, DTYPE, TRANSPORT, JSON, RAW, LIST, HELP, VERSION };

static const struct option long_options[] = {
    {"ranks", required_argument, NULL, RANKS},
    {"tokens", required_argument, NULL, TOKENS},
    {"channels", required_argument, NULL, CHANNELS},
    {"dtype", required_argument, NULL, DTYPE},
    {"transport", required_argument, NULL, TRANSPORT},
    {"json", required_argument, NULL, JSON},
    {"raw", required_argument, NULL, RAW},
    {"list", no_argument, NULL, LIST},
    {"help", no_argument, NULL, HELP},
    {"version", no_argument, NULL, VERSION},
    {NULL, 0, NULL, 0},
};

const char *comm_options_help(void)
{
    return "Usage: gdncp-bench-comm [NAME...] [options]\n"
           "\n"
           "Time exchanges between ranks and what they are made of, after a check of every "
           "element.\n"
           "NAME is a benchmark of --list; without one, all are run.\n"
           "\n"
           "  -b N, -e N        smallest and largest size: bytes of a rank's tokens, with K, M or "
           "G\n"
           "                    (default 32M)\n"
           "  -f N              factor from one size to the next (default 2)\n"
           "  -w N              runs before those that are timed (default 5)\n"
           "  -n N              runs that are timed, each by itself (default 20)\n"
           "  -c 0|1            check results (default 1)\n"
           "  --ranks N         ranks to start (default 2); mpirun, torchrun or Slurm start their "
           "own\n"
           "  --transport NAME  ucx (default): ranks are processes; threads: of one process\n"
           "  --tokens N        tokens of all ranks, instead of a size\n"
           "  --channels N      of each token (default 12352)\n"
           "  --dtype LIST      bf16 (default), f16, f32, or several with a comma between; states "
           "of "
           "the\n"
           "                    relay are f32\n"
           "  --json FILE       write the results, too\n"
           "  --raw PROGRAM     ucx_perftest of ucx-utils: what UCX alone takes for as many bytes\n"
           "  --list            print the benchmarks' names\n"
           "  --help, --version\n"
           "\n"
           "size is the larger of a rank's input and output; algbw = size / time; busbw = bytes "
           "that\n"
           "a rank sends to others / time. A run takes as long as its slowest rank. The floor is "
           "what\n"
           "a rank's core must read and write at least, at the speed of a copy of as many bytes "
           "that\n"
           "all ranks make at once; the share is floor / median.\n"
           "\n"
           "Exit status: 0 when no result was wrong.\n";
}

static gdncp_status_t parse_transport(const char *text, comm_options_t *options)
{
    static const char *const names[] = {"ucx", "threads"};
    int index = 0;
    const gdncp_status_t status = option_choice(gdncp_fail, "--transport", text, names, 2, &index);

    options->threads = index == 1;
    return status;
}

static gdncp_status_t parse_option(int option, const char *text, comm_options_t *options)
{
    gdncp_status_t status;
    int check = 0;

    switch (option) {
    case 'b':
        return option_bytes(gdncp_fail, "-b", text, MAX_BYTES, &options->min_bytes);
    case 'e':
        return option_bytes(gdncp_fail, "-e", text, MAX_BYTES, &options->max_bytes);
    case 'f':
        return option_integer(gdncp_fail, "-f", text, 2, MAX_COUNT, &options->factor);
    case 'w':
        return option_int(gdncp_fail, "-w", text, 0, 1000000, &options->warm_up);
    case 'n':
        return option_int(gdncp_fail, "-n", text, 1, 1000000, &options->iterations);
    case 'c':
        status = option_int(gdncp_fail, "-c", text, 0, 1, &check);
        options->check = check == 1;
        return status;
    case RANKS:
        return option_int(gdncp_fail, "--ranks", text, 1, COMM_MAX_RANKS, &options->ranks);
    case TOKENS:
        return option_integer(gdncp_fail, "--tokens", text, 1, MAX_COUNT, &options->tokens);
    case CHANNELS:
        return option_integer(gdncp_fail, "--channels", text, 1, MAX_COUNT, &options->channels);
    case DTYPE:
        return bench_parse_dtypes(text, options->dtypes, &options->num_dtypes);
    case TRANSPORT:
        return parse_transport(text, options);
    case JSON:
        options->json = text;
        return GDNCP_OK;
    case RAW:
        options->raw = text;
        return GDNCP_OK;
    case LIST:
        options->request = COMM_LIST;
        return GDNCP_OK;
    case HELP:
        options->request = COMM_HELP;
        return GDNCP_OK;
    default:
        options->request = COMM_VERSION;
        return GDNCP_OK;
    }
}

bool comm_is_wanted(const comm_options_t *options, const comm_benchmark_t *benchmark)
{
    bool wanted = options->num_names == 0;

    for (int i = 0; i < options->num_names; i++) {
        wanted = wanted || strcmp(options->names[i], benchmark->name) == 0;
    }
    return wanted;
}

static gdncp_status_t parse_name(const char *name, comm_options_t *options)
{
    bool known = false;

    for (int i = 0; comm_registry[i] != NULL; i++) {
        known = known || strcmp(name, comm_registry[i]->name) == 0;
    }
    if (!known || options->num_names == COMM_MAX_NAMES) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "NAME: expected up to %d benchmarks of gdncp-bench-comm --list, got '%s'",
                          COMM_MAX_NAMES, name);
    }
    options->names[options->num_names++] = name;
    return GDNCP_OK;
}

int64_t comm_tokens_for(const comm_options_t *options, gdncp_dtype_t dtype, int ranks,
                        int64_t bytes)
{
    const int64_t row = options->channels * (int64_t)gdncp_dtype_size(dtype);
    const int64_t step = 2 * (int64_t)ranks;
    const int64_t tokens = options->tokens > 0 ? options->tokens : bytes / row * ranks;
    const int64_t steps = (tokens + step - 1) / step;

    return (steps > 0 ? steps : 1) * step;
}

gdncp_status_t comm_options_parse(int argc, char **argv, comm_options_t *options)
{
    int option;

    *options = (comm_options_t){
        .ranks = 2,
        .channels = 12352,
        .min_bytes = INT64_C(32) << 20,
        .factor = 2,
        .dtypes = {GDNCP_BF16},
        .num_dtypes = 1,
        .warm_up = 5,
        .iterations = 20,
        .check = true,
    };
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":b:e:f:w:n:c:", long_options, NULL)) != -1) {
        if (option == '?' || option == ':') {
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                              option == '?' ? "unknown option '%s'" : "option '%s' needs a value",
                              argv[optind - 1]);
        }
        const gdncp_status_t status = parse_option(option, optarg, options);

        if (status != GDNCP_OK || options->request != COMM_MEASURE) {
            return status;
        }
    }
    for (int i = optind; i < argc; i++) {
        const gdncp_status_t status = parse_name(argv[i], options);

        if (status != GDNCP_OK) {
            return status;
        }
    }
    options->max_bytes = options->max_bytes > 0 ? options->max_bytes : options->min_bytes;
    if (options->min_bytes > options->max_bytes) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "-e: expected %" PRId64 " bytes or more, as -b, got %" PRId64,
                          options->min_bytes, options->max_bytes);
    }
    return GDNCP_OK;
}
