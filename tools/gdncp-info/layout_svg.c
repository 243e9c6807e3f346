/* A layout as SVG: a bar for each sequence with its tokens in the colours of their ranks, and what
 * each rank holds. */
#include <inttypes.h>
#include <string.h>

#include "layout_picture.h"

enum {
    MAX_SEQUENCES = 200, /* bars; what is left out is said */
    LEFT = 110,          /* of the bars */
    WIDTH = 800,         /* of the longest bar */
    TOP = 72,
    BAR = 22,
    STEP = 28,
    KEY = 18,
    KEYS_A_LINE = 6
};

static void write_segment(const gdncp_segment_t *segment, double scale, double top, FILE *file)
{
    const picture_colour_t colour = picture_colour(segment->rank);
    const double left = LEFT + (double)segment->begin * scale;
    const double width = (double)segment->length * scale;

    fprintf(file,
            "<rect x=\"%.2f\" y=\"%.0f\" width=\"%.2f\" height=\"%d\" fill=\"#%02x%02x%02x\""
            " fill-opacity=\"%s\" stroke=\"white\" stroke-width=\"%.2f\"><title>sequence %" PRId64
            ", %s %" PRId64 "-%" PRId64 ": rank %d, from its row %" PRId64 "</title></rect>\n",
            left, top, width, BAR, (unsigned)colour.red, (unsigned)colour.green,
            (unsigned)colour.blue, segment->is_padding ? "0.3" : "1",
            width > 4.0 ? 1.0 : 0.1 * width, segment->sequence,
            segment->is_padding ? "padding" : "tokens", segment->begin,
            segment->begin + segment->length - 1, segment->rank, segment->local_offset);
    if (width > 10.0 * (segment->rank > 99 ? 3 : segment->rank > 9 ? 2 : 1)) {
        fprintf(file, "<text x=\"%.2f\" y=\"%.0f\" text-anchor=\"middle\">%d</text>\n",
                left + 0.5 * width, top + 16.0, segment->rank);
    }
}

static void write_keys(const gdncp_layout_t *layout, double top, FILE *file)
{
    const double all = picture_attention(layout);

    for (int rank = 0; rank < gdncp_layout_num_ranks(layout); rank++) {
        const picture_colour_t colour = picture_colour(rank);
        const double left = LEFT + rank % KEYS_A_LINE * (double)(WIDTH / KEYS_A_LINE);
        const double line = top + rank / KEYS_A_LINE * (double)KEY;

        fprintf(file,
                "<rect x=\"%.0f\" y=\"%.0f\" width=\"12\" height=\"12\""
                " fill=\"#%02x%02x%02x\"/><text x=\"%.0f\" y=\"%.0f\">rank %d: %" PRId64 ", %.1f%%"
                "</text>\n",
                left, line, (unsigned)colour.red, (unsigned)colour.green, (unsigned)colour.blue,
                left + 17.0, line + 11.0, rank, gdncp_layout_rank_tokens(layout, rank),
                100.0 * picture_rank_attention(layout, rank) / all);
    }
}

void picture_write_svg(const gdncp_layout_t *layout, FILE *file)
{
    const int64_t *const cu_seqlens = gdncp_layout_cu_seqlens(layout);
    const gdncp_segment_t *const segments = gdncp_layout_segments(layout);
    const int64_t num_sequences = gdncp_layout_num_sequences(layout);
    const int64_t num_bars = num_sequences < MAX_SEQUENCES ? num_sequences : MAX_SEQUENCES;
    const double scale = (double)WIDTH / (double)picture_longest(layout);
    const double below = TOP + (double)num_bars * STEP + (num_bars < num_sequences ? STEP : 0);
    const int num_lines = (gdncp_layout_num_ranks(layout) + KEYS_A_LINE - 1) / KEYS_A_LINE;
    char title[256];

    picture_title(layout, title, sizeof title);
    char *const counts = strchr(title, ':');

    *counts = '\0';
    fprintf(file,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%.0f\""
            " font-family=\"sans-serif\" font-size=\"12\">\n"
            "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n"
            "<text x=\"20\" y=\"30\" font-size=\"15\" font-weight=\"bold\">%s</text>\n"
            "<text x=\"20\" y=\"50\">%s</text>\n",
            LEFT + WIDTH + 30, below + 32.0 + num_lines * (double)KEY, title, counts + 2);
    for (int64_t i = 0; i < num_bars; i++) {
        const double top = TOP + (double)i * STEP;
        int64_t count;
        const int64_t *const chain = gdncp_layout_slot_chain(layout, i, &count);

        fprintf(file, "<text x=\"20\" y=\"%.0f\">%" PRId64 ": %" PRId64 "</text>\n", top + 16.0, i,
                cu_seqlens[i + 1] - cu_seqlens[i]);
        for (int64_t j = 0; j < count; j++) {
            write_segment(&segments[chain[j]], scale, top, file);
        }
    }
    if (num_bars < num_sequences) {
        fprintf(file, "<text x=\"20\" y=\"%.0f\">and %" PRId64 " more sequences</text>\n",
                below - STEP + 16.0, num_sequences - num_bars);
    }
    fprintf(file,
            "<text x=\"20\" y=\"%.0f\" fill=\"#555\">tokens, share of causal attention%s</text>\n",
            below + 11.0, gdncp_layout_has_padding(layout) ? "; pale: padding" : "");
    write_keys(layout, below + 20.0, file);
    fputs("</svg>\n", file);
}
