#include "options.h"

#include <getopt.h>
#include <string.h>

#include "device.h"
#include "fail.h"
#include "option_values.h"

#define MAX_TOKENS (INT64_C(1) << 32)
#define MAX_ITERATIONS 1000000

enum {
    RANKS = 256,
    LAYOUT,
    STRATEGY,
    DTYPE,
    RULE_DTYPE,
    DEVICE,
    TOKENS,
    ITERATIONS,
    TRANSPORT,
    TRACE,
    JSON,
    HELP,
    VERSION
};

static const struct option long_options[] = {
    {"ranks", required_argument, NULL, RANKS},
    {"layout", required_argument, NULL, LAYOUT},
    {"strategy", required_argument, NULL, STRATEGY},
    {"dtype", required_argument, NULL, DTYPE},
    {"rule-dtype", required_argument, NULL, RULE_DTYPE},
    {"device", required_argument, NULL, DEVICE},
    {"tokens", required_argument, NULL, TOKENS},
    {"iterations", required_argument, NULL, ITERATIONS},
    {"transport", required_argument, NULL, TRANSPORT},
    {"trace", required_argument, NULL, TRACE},
    {"json", no_argument, NULL, JSON},
    {"help", no_argument, NULL, HELP},
    {"version", no_argument, NULL, VERSION},
    {NULL, 0, NULL, 0},
};

const char *run_options_help(void)
{
    return "Usage: gdncp-run FILE [options]\n"
           "\n"
           "Run the Gated DeltaNet layer (or the gated delta rule) of a dump across ranks, "
           "forward\n"
           "and backward, and compare output and all gradients with the dump and with one rank.\n"
           "\n"
           "FILE is a .safetensors dump: weights, inputs, expected output, upstream gradient and\n"
           "expected gradients. The ranks are processes of this machine that gdncp-run starts\n"
           "itself. Under mpirun or torchrun with more than one process the ranks are theirs.\n"
           "\n"
           "  --ranks N         ranks, 1..64 (default 2)\n"
           "  --layout NAME     who holds which tokens: dual_chunk_swap (default), contiguous,\n"
           "                    dual_chunk_swap_flat, contiguous_flat, striped, striped_flat\n"
           "  --strategy LIST   states, heads or both (default states,heads)\n"
           "  --dtype NAME      f32 (default) or bf16\n"
           "  --rule-dtype NAME f32 (default) or bf16: q, k, v and o inside a bf16 layer\n"
           "  --device NAME     where the layer runs: cpu (default), cuda, or emulated: the CUDA\n"
           "                    kernels on the CPU, in builds for tests\n"
           "  --tokens N        tokens per batch row: the text is repeated or cut, and the errors\n"
           "                    are then against one rank in f32\n"
           "  --iterations K    time K runs after a warm-up and report the median (default 1)\n"
           "  --transport NAME  ucx (default); threads: the ranks are threads of one process; "
           "nccl: as\n"
           "                    ucx, and NCCL between devices\n"
           "  --trace FILE      write a timeline that chrome://tracing and Perfetto open\n"
           "  --json            print one JSON object\n"
           "  --help            print this\n"
           "  --version         print the version of the library\n"
           "\n"
           "Exit status: 0 when all errors are inside their tolerances, 1 otherwise.\n";
}

static gdncp_status_t parse_layout(const char *text, gdncp_layout_kind_t *layout_p)
{
    gdncp_layout_kind_t kind;

    /* No command line gives positions. */
    if (gdncp_layout_kind_from_name(text, &kind) != GDNCP_OK ||
        kind == GDNCP_LAYOUT_FROM_POSITIONS) {
        return run_fail(GDNCP_ERR_INVALID_ARGUMENT,
                        "--layout: expected dual_chunk_swap, dual_chunk_swap_flat, contiguous, "
                        "contiguous_flat, striped or striped_flat, got '%s'",
                        text);
    }
    *layout_p = kind;
    return GDNCP_OK;
}

static bool has_strategy(const run_options_t *options, gdncp_strategy_t strategy)
{
    for (int i = 0; i < options->num_strategies; i++) {
        if (options->strategies[i] == strategy) {
            return true;
        }
    }
    return false;
}

static gdncp_status_t parse_strategies(const char *text, run_options_t *options)
{
    char name[OPTION_NAME_BYTES];
    gdncp_strategy_t strategy;

    options->num_strategies = 0;
    for (const char *rest = text; option_next_name(&rest, name);) {
        if (gdncp_strategy_from_name(name, &strategy) != GDNCP_OK ||
            has_strategy(options, strategy)) {
            return run_fail(GDNCP_ERR_INVALID_ARGUMENT,
                            "--strategy: expected states, heads or both with a comma between, each "
                            "once, got '%s'",
                            text);
        }
        options->strategies[options->num_strategies++] = strategy;
    }
    return GDNCP_OK;
}

static gdncp_status_t parse_device(const char *text, run_device_t *device_p)
{
    const char *names[RUN_EMULATED + 1];
    int index = 0;

    for (int device = RUN_CPU; device <= RUN_EMULATED; device++) {
        names[device] = run_device_name((run_device_t)device);
    }
    const gdncp_status_t status =
        option_choice(run_fail, "--device", text, names, RUN_EMULATED + 1, &index);

    *device_p = (run_device_t)index;
    return status;
}

static gdncp_status_t parse_transport(const char *text, gdncp_transport_kind_t *transport_p)
{
    static const gdncp_transport_kind_t kinds[] = {GDNCP_TRANSPORT_UCX, GDNCP_TRANSPORT_THREADS,
                                                   GDNCP_TRANSPORT_NCCL};
    enum { num_kinds = sizeof kinds / sizeof kinds[0] };
    const char *names[num_kinds];
    int index = 0;

    for (int i = 0; i < num_kinds; i++) {
        names[i] = gdncp_transport_name(kinds[i]);
    }
    const gdncp_status_t status =
        option_choice(run_fail, "--transport", text, names, num_kinds, &index);

    *transport_p = kinds[index];
    return status;
}

static gdncp_status_t parse_dtype(const char *option, const char *text, gdncp_dtype_t *dtype_p)
{
    static const char *const names[] = {"f32", "bf16"};
    int index = 0;
    const gdncp_status_t status = option_choice(run_fail, option, text, names, 2, &index);

    *dtype_p = index == 1 ? GDNCP_BF16 : GDNCP_F32;
    return status;
}

static gdncp_status_t parse_option(int option, const char *text, run_options_t *options)
{
    switch (option) {
    case RANKS:
        return option_int(run_fail, "--ranks", text, 1, RUN_MAX_RANKS, &options->ranks);
    case LAYOUT:
        return parse_layout(text, &options->layout);
    case STRATEGY:
        return parse_strategies(text, options);
    case DTYPE:
        return parse_dtype("--dtype", text, &options->dtype);
    case RULE_DTYPE:
        return parse_dtype("--rule-dtype", text, &options->rule_dtype);
    case DEVICE:
        return parse_device(text, &options->device);
    case TOKENS:
        return option_integer(run_fail, "--tokens", text, 1, MAX_TOKENS, &options->tokens);
    case ITERATIONS:
        return option_int(run_fail, "--iterations", text, 1, MAX_ITERATIONS, &options->iterations);
    case TRANSPORT:
        return parse_transport(text, &options->transport);
    case TRACE:
        options->trace = text;
        return GDNCP_OK;
    case HELP:
        options->request = RUN_HELP;
        return GDNCP_OK;
    case VERSION:
        options->request = RUN_VERSION;
        return GDNCP_OK;
    default:
        return GDNCP_OK;
    }
}

gdncp_status_t run_options_parse(int argc, char **argv, run_options_t *options)
{
    int option;

    *options = (run_options_t){
        .layout = GDNCP_LAYOUT_DUAL_CHUNK_SWAP,
        .strategies = {GDNCP_STRATEGY_STATES, GDNCP_STRATEGY_HEADS},
        .num_strategies = 2,
        .dtype = GDNCP_F32,
        .iterations = 1,
        .transport = GDNCP_TRANSPORT_UCX,
    };
    /* Known before the first error, which is then printed as JSON. */
    for (int i = 1; i < argc && !options->json; i++) {
        options->json = strcmp(argv[i], "--json") == 0;
    }
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":", long_options, NULL)) != -1) {
        if (option == '?' && optopt > 0 && optopt < RANKS) {
            return run_fail(GDNCP_ERR_INVALID_ARGUMENT, "unknown option '-%c'", optopt);
        }
        if (option == '?') {
            return run_fail(GDNCP_ERR_INVALID_ARGUMENT, "unknown option '%s'", argv[optind - 1]);
        }
        if (option == ':') {
            return run_fail(GDNCP_ERR_INVALID_ARGUMENT, "option '%s' needs a value",
                            argv[optind - 1]);
        }
        const gdncp_status_t status = parse_option(option, optarg, options);
        if (status != GDNCP_OK) {
            return status;
        }
        if (options->request != RUN_DUMP) {
            return GDNCP_OK;
        }
    }
    if (argc - optind != 1) {
        return run_fail(GDNCP_ERR_INVALID_ARGUMENT, "FILE: expected one dump, got %d",
                        argc - optind);
    }
    options->file = argv[optind];
    if (options->rule_dtype != GDNCP_F32 && options->rule_dtype != options->dtype) {
        return run_fail(GDNCP_ERR_INVALID_ARGUMENT,
                        "--rule-dtype: expected f32 where --dtype is f32, got bf16");
    }
    if (options->transport == GDNCP_TRANSPORT_NCCL && options->device == RUN_CPU) {
        return run_fail(
            GDNCP_ERR_INVALID_ARGUMENT,
            "--transport: expected ucx or threads with --device cpu, got nccl, which is "
            "for devices");
    }
    return GDNCP_OK;
}
