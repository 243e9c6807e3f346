/* A layout as text: a line for each sequence with its tokens in the colours of their ranks, and a
 * line for each rank. */
#include <inttypes.h>
#include <string.h>

#include "layout_picture.h"

enum {
    MAX_SEQUENCES = 40, /* lines; what is left out is said */
    MAX_RANKS = 64,
    MAX_SEGMENTS = 6, /* of a rank, by name */
    MAX_COLUMNS = 512
};

/* What a column of a bar begins with. */
typedef struct column {
    int rank;
    bool is_padding;
} column_t;

/* So many columns of a bar that are alike. */
static void print_cell(column_t column, int count, bool in_colour, FILE *file)
{
    const int rank = column.rank;
    const char fill = column.is_padding ? '~' : in_colour ? ' ' : '.';
    char label[16];
    const picture_colour_t colour = picture_colour(rank);
    const int length = snprintf(label, sizeof label, "%d", rank);
    /* Without colours a stroke says where a rank's tokens begin. */
    const int border = !in_colour && count > length ? 1 : 0;
    const int room = count - border;
    const int before = room > length ? (room - length) / 2 : 0;

    if (in_colour) {
        /* The nearest of the 6 x 6 x 6 colours that terminals have. */
        fprintf(file, "\033[38;5;16;48;5;%dm",
                16 + 36 * ((colour.red + 25) / 51) + 6 * ((colour.green + 25) / 51) +
                    (colour.blue + 25) / 51);
    } else if (border > 0) {
        fputc('|', file);
    }
    for (int i = 0; i < room; i++) {
        const int place = i - before;
        const bool in_label = length + column.is_padding <= room && place >= 0 && place < length;

        fputc(in_label ? label[place] : fill, file);
    }
    if (in_colour) {
        fputs("\033[0m", file);
    }
}

/* Of a sequence and its padding; a column is scale tokens. Returns the number of columns: what has
 * tokens has one. columns [MAX_COLUMNS] */
static int fill_columns(const gdncp_layout_t *layout, int64_t sequence, double scale,
                        column_t *columns)
{
    const gdncp_segment_t *const segments = gdncp_layout_segments(layout);
    int64_t count;
    const int64_t *const chain = gdncp_layout_slot_chain(layout, sequence, &count);
    int num_columns = 0;

    for (int64_t i = 0; i < count; i++) {
        const gdncp_segment_t *const segment = &segments[chain[i]];
        const double end = (double)(segment->begin + segment->length);

        while (num_columns < MAX_COLUMNS && (double)num_columns * scale < end - 1e-9 * scale) {
            columns[num_columns++] = (column_t){segment->rank, segment->is_padding};
        }
    }
    return num_columns;
}

static bool are_alike(column_t a, column_t b)
{
    return a.rank == b.rank && a.is_padding == b.is_padding;
}

static void print_sequences(const gdncp_layout_t *layout, bool in_colour, int width_of_line,
                            FILE *file)
{
    const int64_t *const cu_seqlens = gdncp_layout_cu_seqlens(layout);
    const int64_t num_sequences = gdncp_layout_num_sequences(layout);
    const int64_t longest = picture_longest(layout);
    const int64_t width = longest < width_of_line - 22 ? longest : width_of_line - 22;
    const double scale = (double)longest / (double)width;
    column_t columns[MAX_COLUMNS];

    fprintf(file, "sequence   tokens  in columns of %.4g token%s, each by its first\n", scale,
            scale > 1.0 ? "s" : "");
    for (int64_t i = 0; i < num_sequences && i < MAX_SEQUENCES; i++) {
        const int num_columns = fill_columns(layout, i, scale, columns);

        fprintf(file, "%8" PRId64 " %8" PRId64 "  ", i, cu_seqlens[i + 1] - cu_seqlens[i]);
        for (int first = 0, next; first < num_columns; first = next) {
            for (next = first; next < num_columns && are_alike(columns[next], columns[first]);
                 next++) {
            }
            print_cell(columns[first], next - first, in_colour, file);
        }
        fputs(in_colour || num_columns == 0 ? "\n" : "|\n", file);
    }
    if (num_sequences > MAX_SEQUENCES) {
        fprintf(file, "     ... and %" PRId64 " more sequences\n", num_sequences - MAX_SEQUENCES);
    }
}

static void print_ranks(const gdncp_layout_t *layout, FILE *file)
{
    const int num_ranks = gdncp_layout_num_ranks(layout);
    const double all = picture_attention(layout);

    fputs("    rank   tokens  attention  sequence: tokens of it, in the order of the buffer\n",
          file);
    for (int rank = 0; rank < num_ranks && rank < MAX_RANKS; rank++) {
        int64_t count;
        const gdncp_segment_t *const segments = gdncp_layout_rank_segments(layout, rank, &count);

        fprintf(file, "%8d %8" PRId64 "  %8.1f%%  ", rank, gdncp_layout_rank_tokens(layout, rank),
                100.0 * picture_rank_attention(layout, rank) / all);
        for (int64_t i = 0; i < count && i < MAX_SEGMENTS; i++) {
            fprintf(file, "%s%" PRId64 ": %" PRId64 "-%" PRId64 "%s", i > 0 ? ", " : "",
                    segments[i].sequence, segments[i].begin,
                    segments[i].begin + segments[i].length - 1,
                    segments[i].is_padding ? " padding" : "");
        }
        if (count > MAX_SEGMENTS) {
            fprintf(file, ", ... %" PRId64 " more", count - MAX_SEGMENTS);
        }
        fputc('\n', file);
    }
    if (num_ranks > MAX_RANKS) {
        fprintf(file, "     ... and %d more ranks\n", num_ranks - MAX_RANKS);
    }
}

void picture_print(const gdncp_layout_t *layout, bool in_colour, int columns, FILE *file)
{
    char title[256];

    picture_title(layout, title, sizeof title);
    fprintf(file, "%s\n\n", title);
    print_sequences(layout, in_colour, columns < MAX_COLUMNS ? columns : MAX_COLUMNS, file);
    fputc('\n', file);
    print_ranks(layout, file);
}
