#include "layout_picture.h"

#include <inttypes.h>

/* Of a hue in 0..1, by thirds of the colour circle. */
static int channel_of_hue(double hue, double offset)
{
    double place = 6.0 * (hue + offset);

    place -= place >= 6.0 ? 6.0 : 0.0;
    const double height = place < 1.0 ? place : place < 3.0 ? 1.0 : place < 4.0 ? 4.0 - place : 0.0;

    return (int)(90.0 + 140.0 * height);
}

picture_colour_t picture_colour(int rank)
{
    /* Okabe and Ito's colours, by how well neighbours differ. */
    static const picture_colour_t colours[] = {
        {86, 180, 233}, {230, 159, 0}, {0, 158, 115},  {204, 121, 167},
        {0, 114, 178},  {213, 94, 0},  {240, 228, 66}, {150, 150, 150},
    };
    const int num_colours = sizeof colours / sizeof colours[0];

    if (rank < num_colours) {
        return colours[rank];
    }
    /* The golden ratio puts any number of hues far from those before them. */
    const double turns = 0.618034 * (double)rank;
    const double hue = turns - (double)(int64_t)turns;

    return (picture_colour_t){channel_of_hue(hue, 1.0 / 3.0), channel_of_hue(hue, 0.0),
                              channel_of_hue(hue, 2.0 / 3.0)};
}

int64_t picture_longest(const gdncp_layout_t *layout)
{
    const int64_t *const slots = gdncp_layout_cu_seqlens_padded(layout);
    int64_t longest = 1;

    for (int64_t i = 0; i < gdncp_layout_num_sequences(layout); i++) {
        const int64_t length = slots[i + 1] - slots[i];

        longest = length > longest ? length : longest;
    }
    return longest;
}

int64_t picture_num_borders(const gdncp_layout_t *layout)
{
    const gdncp_segment_t *const segments = gdncp_layout_segments(layout);
    int64_t num_borders = 0;

    for (int64_t i = 0; i < gdncp_layout_num_sequences(layout); i++) {
        int64_t count;
        const int64_t *const chain = gdncp_layout_sequence_chain(layout, i, &count);

        for (int64_t j = 1; j < count; j++) {
            num_borders += segments[chain[j]].rank != segments[chain[j - 1]].rank;
        }
    }
    return num_borders;
}

/* 1 + 2 + … + tokens */
static double pairs_of(double tokens)
{
    return 0.5 * tokens * (tokens + 1.0);
}

double picture_attention(const gdncp_layout_t *layout)
{
    const int64_t *const cu_seqlens = gdncp_layout_cu_seqlens(layout);
    double pairs = 0.0;

    for (int64_t i = 0; i < gdncp_layout_num_sequences(layout); i++) {
        pairs += pairs_of((double)(cu_seqlens[i + 1] - cu_seqlens[i]));
    }
    return pairs > 0.0 ? pairs : 1.0;
}

double picture_rank_attention(const gdncp_layout_t *layout, int rank)
{
    int64_t count;
    const gdncp_segment_t *const segments = gdncp_layout_rank_segments(layout, rank, &count);
    double pairs = 0.0;

    for (int64_t i = 0; i < count; i++) {
        const double begin = (double)segments[i].begin;

        pairs += segments[i].is_padding
                     ? 0.0
                     : pairs_of(begin + (double)segments[i].length) - pairs_of(begin);
    }
    return pairs;
}

void picture_title(const gdncp_layout_t *layout, char *text, size_t size)
{
    const int num_ranks = gdncp_layout_num_ranks(layout);
    const int64_t num_sequences = gdncp_layout_num_sequences(layout);
    const int64_t num_tokens = gdncp_layout_num_tokens(layout);
    char padding[64] = "";

    if (gdncp_layout_has_padding(layout)) {
        snprintf(padding, sizeof padding, ", %" PRId64 " of them padding",
                 num_tokens - gdncp_layout_cu_seqlens(layout)[num_sequences]);
    }
    snprintf(text, size,
             "%s, %d rank%s: %" PRId64 " tokens in %" PRId64 " sequence%s%s, %" PRId64
             " segments, %" PRId64 " borders between ranks",
             gdncp_layout_kind_name(gdncp_layout_kind(layout)), num_ranks, num_ranks > 1 ? "s" : "",
             num_tokens, num_sequences, num_sequences > 1 ? "s" : "", padding,
             gdncp_layout_num_segments(layout), picture_num_borders(layout));
}
