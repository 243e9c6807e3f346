/* gdncp-info layout: options, and who draws what. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "info.h"
#include "layout_picture.h"
#include "option_values.h"

#define MAX_TOKENS (INT64_C(1) << 40)
#define MAX_RANKS 65536

enum { KIND = 256, RANKS, TOKENS, CU_SEQLENS, PADDED, SVG, COLOUR, HELP };

static const struct option long_options[] = {
    {"kind", required_argument, NULL, KIND},
    {"ranks", required_argument, NULL, RANKS},
    {"tokens", required_argument, NULL, TOKENS},
    {"cu-seqlens", required_argument, NULL, CU_SEQLENS},
    {"cu-seqlens-padded", required_argument, NULL, PADDED},
    {"svg", required_argument, NULL, SVG},
    {"color", required_argument, NULL, COLOUR},
    {"help", no_argument, NULL, HELP},
    {NULL, 0, NULL, 0},
};

static const char usage[] =
    "Usage: gdncp-info layout [options]\n"
    "\n"
    "Show which rank holds which tokens: a line for each sequence of the pack, then for each rank\n"
    "its tokens and its share of the work of causal attention on this layout.\n"
    "\n"
    "  --kind NAME         dual_chunk_swap (default), contiguous or striped, each also with "
    "_flat:\n"
    "                      cut as one, blind to sequences\n"
    "  --ranks N           ranks that share the pack, 1..65536 (default 4)\n"
    "  --cu-seqlens LIST   where the sequences begin, and the end of the last: 0,64,192\n"
    "  --cu-seqlens-padded LIST\n"
    "                      where their slots begin, if they are padded: 0,64,256\n"
    "  --tokens N          one sequence of N tokens (default 64)\n"
    "  --svg FILE          write the picture there, too\n"
    "  --color WHEN        auto (default): on a terminal unless NO_COLOR is set; always, never\n"
    "  --help              print this\n";

typedef enum colour_use { COLOUR_AUTO = 0, COLOUR_ALWAYS, COLOUR_NEVER } colour_use_t;

/* Numbers with commas between. */
typedef struct offsets {
    int64_t *values; /* to be freed */
    int64_t count;
} offsets_t;

typedef struct layout_options {
    gdncp_layout_kind_t kind;
    int num_ranks;
    offsets_t cu_seqlens;
    offsets_t padded; /* empty: none */
    const char *svg;  /* NULL: none */
    colour_use_t colour;
    bool help;
} layout_options_t;

static gdncp_status_t parse_offsets(const char *option, const char *text, offsets_t *offsets)
{
    char number[OPTION_NAME_BYTES];
    const char *rest = text;
    int64_t count = 1;
    gdncp_status_t status = GDNCP_OK;

    for (const char *c = text; *c != '\0'; c++) {
        count += *c == ',';
    }
    if (count < 2) {
        return info_fail(GDNCP_ERR_INVALID_ARGUMENT,
                         "%s: expected two numbers or more with commas between, got '%s'", option,
                         text);
    }
    free(offsets->values);
    offsets->count = count;
    offsets->values = calloc((size_t)count, sizeof *offsets->values);
    if (offsets->values == NULL) {
        return info_fail(GDNCP_ERR_OUT_OF_MEMORY, "%s: out of memory", option);
    }
    for (int64_t i = 0; status == GDNCP_OK && option_next_name(&rest, number); i++) {
        status = option_integer(info_fail, option, number, 0, MAX_TOKENS, &offsets->values[i]);
    }
    return status;
}

static gdncp_status_t parse_tokens(const char *text, offsets_t *offsets)
{
    int64_t tokens;
    char pair[64];
    gdncp_status_t status = option_integer(info_fail, "--tokens", text, 1, MAX_TOKENS, &tokens);

    if (status == GDNCP_OK) {
        snprintf(pair, sizeof pair, "0,%" PRId64, tokens);
        status = parse_offsets("--tokens", pair, offsets);
    }
    return status;
}

static gdncp_status_t parse_option(int option, const char *text, layout_options_t *options)
{
    static const char *const colours[] = {"auto", "always", "never"};
    gdncp_status_t status;
    int index = 0;

    switch (option) {
    case KIND:
        status = gdncp_layout_kind_from_name(text, &options->kind);
        return status == GDNCP_OK ? status : info_fail(status, "--kind: %s", gdncp_last_error());
    case RANKS:
        return option_int(info_fail, "--ranks", text, 1, MAX_RANKS, &options->num_ranks);
    case TOKENS:
        return parse_tokens(text, &options->cu_seqlens);
    case CU_SEQLENS:
        return parse_offsets("--cu-seqlens", text, &options->cu_seqlens);
    case PADDED:
        return parse_offsets("--cu-seqlens-padded", text, &options->padded);
    case SVG:
        options->svg = text;
        return GDNCP_OK;
    case COLOUR:
        status = option_choice(info_fail, "--color", text, colours, 3, &index);
        options->colour = (colour_use_t)index;
        return status;
    case HELP:
        options->help = true;
        return GDNCP_OK;
    default: /* getopt has said what was wrong */
        return GDNCP_ERR_INVALID_ARGUMENT;
    }
}

static gdncp_status_t parse_options(int argc, char **argv, layout_options_t *options)
{
    gdncp_status_t status = parse_tokens("64", &options->cu_seqlens);
    int option;

    while (status == GDNCP_OK && (option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        status = parse_option(option, optarg, options);
    }
    if (status == GDNCP_OK && optind < argc) {
        status = info_fail(GDNCP_ERR_INVALID_ARGUMENT, "layout: expected options only, got '%s'",
                           argv[optind]);
    }
    if (status == GDNCP_OK && options->padded.count > 0 &&
        options->padded.count != options->cu_seqlens.count) {
        status = info_fail(GDNCP_ERR_INVALID_ARGUMENT,
                           "--cu-seqlens-padded: expected %" PRId64
                           " numbers, as many as there are without padding, got %" PRId64,
                           options->cu_seqlens.count, options->padded.count);
    }
    return status;
}

static gdncp_status_t write_svg(const gdncp_layout_t *layout, const char *path)
{
    FILE *const file = fopen(path, "w");

    if (file == NULL) {
        return info_fail(GDNCP_ERR_IO, "--svg: cannot write '%s': %s", path, strerror(errno));
    }
    picture_write_svg(layout, file);
    const bool is_written = !ferror(file);

    if (fclose(file) != 0 || !is_written) {
        return info_fail(GDNCP_ERR_IO, "--svg: cannot write all of '%s'", path);
    }
    return GDNCP_OK;
}

static int terminal_columns(void)
{
    struct winsize size;

    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= 40 ? size.ws_col : 100;
}

static gdncp_status_t draw(const layout_options_t *options)
{
    gdncp_layout_t *layout = NULL;
    gdncp_status_t status = gdncp_layout_create_padded(
        options->kind, options->cu_seqlens.values, options->padded.values,
        options->cu_seqlens.count - 1, options->num_ranks, &layout);
    const bool in_colour =
        options->colour == COLOUR_ALWAYS ||
        (options->colour == COLOUR_AUTO && isatty(STDOUT_FILENO) && getenv("NO_COLOR") == NULL);

    if (status != GDNCP_OK) {
        return info_fail(status, "%s", gdncp_last_error());
    }
    if (options->svg != NULL) {
        status = write_svg(layout, options->svg);
    }
    if (status == GDNCP_OK) {
        picture_print(layout, in_colour, terminal_columns(), stdout);
    }
    gdncp_layout_destroy(layout);
    return status;
}

int info_layout(int argc, char **argv)
{
    layout_options_t options = {.kind = GDNCP_LAYOUT_DUAL_CHUNK_SWAP, .num_ranks = 4};
    gdncp_status_t status = parse_options(argc, argv, &options);

    if (status == GDNCP_OK && options.help) {
        fputs(usage, stdout);
    } else if (status == GDNCP_OK) {
        status = draw(&options);
    }
    free(options.cu_seqlens.values);
    free(options.padded.values);
    return status == GDNCP_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
