/* Maps of all kinds of plans, element by element, written from the formulas of the public headers.
 */
#ifndef GDNCP_TEST_COMM_PLAN_MAPS_H
#define GDNCP_TEST_COMM_PLAN_MAPS_H

#include "test_comm_plan_check.h"

#include "gdncp/heads.h"
#include "gdncp/layout.h"

static inline int64_t *positions_of(const gdncp_layout_t *layout, int rank)
{
    int64_t *const positions = test_alloc(gdncp_layout_rank_tokens(layout, rank), sizeof(int64_t));

    assert_int_equal(gdncp_layout_rank_positions(layout, rank, positions), GDNCP_OK);
    return positions;
}

/* Holder and local index of every pack token. */
typedef struct placement {
    int *rank;
    int64_t *index;
} placement_t;

static inline placement_t place_tokens(const gdncp_layout_t *layout)
{
    const int64_t tokens = gdncp_layout_num_tokens(layout);
    const placement_t placement = {test_alloc(tokens, sizeof(int)),
                                   test_alloc(tokens, sizeof(int64_t))};

    for (int rank = 0; rank < gdncp_layout_num_ranks(layout); rank++) {
        int64_t *const positions = positions_of(layout, rank);

        for (int64_t i = 0; i < gdncp_layout_rank_tokens(layout, rank); i++) {
            placement.rank[positions[i]] = rank;
            placement.index[positions[i]] = i;
        }
        free(positions);
    }
    return placement;
}

static inline void free_placement(placement_t *placement)
{
    free(placement->rank);
    free(placement->index);
}

static inline index_map_t map_relayout(const gdncp_layout_t *from, const gdncp_layout_t *to,
                                       int64_t channels)
{
    placement_t placement = place_tokens(from);
    index_map_t map = {.num_ranks = gdncp_layout_num_ranks(from)};

    for (int rank = 0; rank < map.num_ranks; rank++) {
        const int64_t tokens = gdncp_layout_rank_tokens(to, rank);
        int64_t *const positions = positions_of(to, rank);

        map_start_rank(&map, rank, gdncp_layout_rank_tokens(from, rank) * channels,
                       tokens * channels);
        for (int64_t i = 0; i < tokens * channels; i++) {
            const int64_t position = positions[i / channels];

            map.from_rank[rank][i] = placement.rank[position];
            map.from_index[rank][i] = placement.index[position] * channels + i % channels;
        }
        free(positions);
    }
    free_placement(&placement);
    return map;
}

static inline index_map_t map_all_gather(int num_ranks, int64_t outer, const int64_t *lengths,
                                         int64_t inner)
{
    int64_t begins[MAX_RANKS];
    int64_t sum = 0;
    index_map_t map = {.num_ranks = num_ranks};

    for (int rank = 0; rank < num_ranks; rank++) {
        begins[rank] = sum;
        sum += lengths[rank];
    }
    for (int rank = 0; rank < num_ranks; rank++) {
        map_start_rank(&map, rank, outer * lengths[rank] * inner, outer * sum * inner);
        for (int64_t i = 0; i < outer * sum * inner; i++) {
            const int64_t o = i / (sum * inner);
            const int64_t l = i / inner % sum;
            int source = num_ranks - 1;

            while (l < begins[source] || lengths[source] == 0) {
                source--;
            }
            map.from_rank[rank][i] = source;
            map.from_index[rank][i] =
                (o * lengths[source] + l - begins[source]) * inner + i % inner;
        }
    }
    return map;
}

/* Halos of the first channels of rows of row_stride elements; padding has none. */
static inline index_map_t map_halo(const gdncp_layout_t *layout, int64_t channels,
                                   int64_t row_stride, int64_t width)
{
    index_map_t map = {.num_ranks = gdncp_layout_num_ranks(layout)};

    for (int rank = 0; rank < map.num_ranks; rank++) {
        int64_t num_segments;
        const gdncp_segment_t *const segments =
            gdncp_layout_rank_segments(layout, rank, &num_segments);

        map_start_rank(&map, rank, gdncp_layout_rank_tokens(layout, rank) * row_stride,
                       num_segments * width * channels);
        for (int64_t i = 0; i < num_segments * width * channels; i++) {
            const gdncp_segment_t *const segment = &segments[i / channels / width];
            const int64_t position = segment->begin - width + i / channels % width;
            int64_t index;

            map.order[rank][i] = segment->begin;
            if (position >= 0 && !segment->is_padding) {
                assert_int_equal(gdncp_layout_find(layout, segment->sequence, position,
                                                   &map.from_rank[rank][i], &index),
                                 GDNCP_OK);
                map.from_index[rank][i] = index * row_stride + i % channels;
            }
        }
    }
    return map;
}

enum { MAX_SECTIONS = 6 };

typedef struct head_case {
    gdncp_layout_t *layout;
    int num_ranks;
    gdncp_dtype_t dtype;
    int64_t num_key_heads;
    int64_t num_value_heads;
    gdncp_section_t sections[MAX_SECTIONS];
    int64_t num_sections;
    int64_t row_channels;
    gdncp_token_order_t order;
} head_case_t;

/* Sections in any order of offset, now and then with channels between that belong to none. */
static inline head_case_t random_head_case(test_random_t *random, int num_ranks)
{
    static const int64_t heads[][2] = {{1, 4}, {2, 6}, {3, 3}, {2, 4}, {16, 32}, {1, 1}, {5, 10}};
    const int64_t *const pair = heads[test_random_int(random, 0, 6)];
    const bool has_gaps = test_random_int(random, 0, 1) == 1;
    const test_pack_t pack = random_pack(random, num_ranks);
    head_case_t head_case = {
        .layout = random_layout(random, &pack, num_ranks),
        .num_ranks = num_ranks,
        .dtype = random_dtype(random),
        .num_key_heads = pair[0],
        .num_value_heads = pair[1],
        .num_sections = test_random_int(random, 1, MAX_SECTIONS),
    };

    for (int64_t s = 0; s < head_case.num_sections; s++) {
        gdncp_section_t *const section = &head_case.sections[s];

        section->kind = test_random_int(random, 0, 1) == 1 ? GDNCP_KEY_HEADS : GDNCP_VALUE_HEADS;
        section->head_dim = test_random_int(random, 1, 3);
        head_case.row_channels += has_gaps ? test_random_int(random, 0, 2) : 0;
        section->offset = head_case.row_channels;
        head_case.row_channels +=
            section->head_dim * (section->kind == GDNCP_KEY_HEADS ? pair[0] : pair[1]);
    }
    for (int64_t s = head_case.num_sections - 1; s > 0; s--) {
        const int64_t other = test_random_int(random, 0, s);
        const gdncp_section_t section = head_case.sections[s];

        head_case.sections[s] = head_case.sections[other];
        head_case.sections[other] = section;
    }
    return head_case;
}

static inline gdncp_head_range_t heads_of(const head_case_t *head_case, gdncp_head_kind_t kind,
                                          int rank)
{
    gdncp_head_range_t range;

    assert_int_equal(gdncp_head_range(kind, head_case->num_key_heads, head_case->num_value_heads,
                                      head_case->num_ranks, rank, &range),
                     GDNCP_OK);
    return range;
}

/* The channel of a row of all channels that each channel of a rank's heads is; returns how many. */
static inline int64_t channels_of(const head_case_t *head_case, int rank, int64_t *channels)
{
    int64_t count = 0;

    for (int64_t s = 0; s < head_case->num_sections; s++) {
        const gdncp_section_t *const section = &head_case->sections[s];
        const gdncp_head_range_t mine = heads_of(head_case, section->kind, rank);

        for (int64_t c = 0; c < mine.count * section->head_dim; c++) {
            channels[count++] = section->offset + mine.first * section->head_dim + c;
        }
    }
    return count;
}

/* local_channels [row_channels]: where the rank keeps each channel, or -1. */
static inline void invert_channels(const head_case_t *head_case, const int64_t *channels,
                                   int64_t count, int64_t *local_channels)
{
    for (int64_t c = 0; c < head_case->row_channels; c++) {
        local_channels[c] = -1;
    }
    for (int64_t c = 0; c < count; c++) {
        local_channels[channels[c]] = c;
    }
}

/* Who holds a token that comes at a place of all tokens, and where. */
static inline void find_token(const head_case_t *head_case, int64_t place, int *rank_p,
                              int64_t *index_p)
{
    const gdncp_layout_t *const layout = head_case->layout;
    const int64_t *const slots = gdncp_layout_cu_seqlens_padded(layout);
    int64_t sequence = 0;

    if (head_case->order == GDNCP_TOKENS_BY_RANK) {
        *rank_p = 0;
        while (place >= gdncp_layout_rank_tokens(layout, *rank_p)) {
            place -= gdncp_layout_rank_tokens(layout, (*rank_p)++);
        }
        *index_p = place;
        return;
    }
    while (place >= slots[sequence + 1]) {
        sequence++;
    }
    assert_int_equal(gdncp_layout_find(layout, sequence, place - slots[sequence], rank_p, index_p),
                     GDNCP_OK);
}

static inline index_map_t map_cp2hp(const head_case_t *head_case)
{
    const int64_t tokens = gdncp_layout_num_tokens(head_case->layout);
    int64_t *const channels = test_alloc(head_case->row_channels, sizeof *channels);
    index_map_t map = {.num_ranks = head_case->num_ranks};

    for (int rank = 0; rank < map.num_ranks; rank++) {
        const int64_t count = channels_of(head_case, rank, channels);

        map_start_rank(&map, rank,
                       gdncp_layout_rank_tokens(head_case->layout, rank) * head_case->row_channels,
                       tokens * count);
        for (int64_t i = 0; i < tokens * count; i++) {
            int64_t index;

            find_token(head_case, i / count, &map.from_rank[rank][i], &index);
            map.from_index[rank][i] = index * head_case->row_channels + channels[i % count];
        }
    }
    free(channels);
    return map;
}

/* The places of a rank's tokens among all tokens. */
static inline int64_t *places_of(const head_case_t *head_case, int rank)
{
    int64_t *const places = positions_of(head_case->layout, rank);
    int64_t first = 0;

    if (head_case->order == GDNCP_TOKENS_BY_RANK) {
        for (int before = 0; before < rank; before++) {
            first += gdncp_layout_rank_tokens(head_case->layout, before);
        }
        for (int64_t t = 0; t < gdncp_layout_rank_tokens(head_case->layout, rank); t++) {
            places[t] = first + t;
        }
    }
    return places;
}

static inline index_map_t map_hp2cp(const head_case_t *head_case)
{
    const int64_t tokens = gdncp_layout_num_tokens(head_case->layout);
    int64_t *const channels = test_alloc(head_case->row_channels, sizeof *channels);
    int64_t *local_channels[MAX_RANKS];
    int64_t counts[MAX_RANKS];
    index_map_t map = {.num_ranks = head_case->num_ranks};

    for (int rank = 0; rank < map.num_ranks; rank++) {
        local_channels[rank] = test_alloc(head_case->row_channels, sizeof **local_channels);
        counts[rank] = channels_of(head_case, rank, channels);
        invert_channels(head_case, channels, counts[rank], local_channels[rank]);
    }
    for (int rank = 0; rank < map.num_ranks; rank++) {
        const int64_t out_elements =
            gdncp_layout_rank_tokens(head_case->layout, rank) * head_case->row_channels;
        int64_t *const places = places_of(head_case, rank);

        map_start_rank(&map, rank, tokens * counts[rank], out_elements);
        for (int64_t i = 0; i < out_elements; i++) {
            const int64_t channel = i % head_case->row_channels;

            for (int holder = map.num_ranks - 1; holder >= 0; holder--) {
                if (local_channels[holder][channel] >= 0) {
                    map.from_rank[rank][i] = holder;
                    map.from_index[rank][i] = places[i / head_case->row_channels] * counts[holder] +
                                              local_channels[holder][channel];
                }
            }
        }
        free(places);
    }
    for (int rank = 0; rank < map.num_ranks; rank++) {
        free(local_channels[rank]);
    }
    free(channels);
    return map;
}

static inline gdncp_head_split_t split_of(const head_case_t *head_case)
{
    return (gdncp_head_split_t){head_case->num_key_heads, head_case->num_value_heads,
                                head_case->sections,      head_case->num_sections,
                                head_case->row_channels,  head_case->order};
}

/* How the rows of a batch lie in each rank's buffers. */
typedef struct batch_rows {
    gdncp_rows_t in[MAX_RANKS];
    gdncp_rows_t out[MAX_RANKS];
} batch_rows_t;

/* Tokens or batch rows outermost, now and then with gaps. */
static inline gdncp_rows_t random_rows(test_random_t *random, int64_t batch, int64_t tokens,
                                       int64_t elements)
{
    const int64_t inner_gap = test_random_int(random, 0, 1) * test_random_int(random, 0, 3);
    const int64_t outer_gap = test_random_int(random, 0, 1) * test_random_int(random, 0, 3);

    return test_random_int(random, 0, 1) == 0
               ? (gdncp_rows_t){batch, batch * (elements + inner_gap) + outer_gap,
                                elements + inner_gap}
               : (gdncp_rows_t){batch, elements + inner_gap,
                                tokens * (elements + inner_gap) + outer_gap};
}

/* Elements of a buffer that ends with its last row. */
static inline int64_t rows_end(const gdncp_rows_t *rows, int64_t tokens, int64_t elements)
{
    return tokens * elements == 0 ? 0
                                  : (tokens - 1) * rows->token_stride +
                                        (rows->batch - 1) * rows->batch_stride + elements;
}

/* Mark all as lying in gaps; rows are then taken out. */
static inline void map_start_batch_rank(index_map_t *batch, int rank, int64_t in_elements,
                                        int64_t out_elements)
{
    map_start_rank(batch, rank, in_elements, out_elements);
    memset(batch->in_gap[rank], 1, (size_t)in_elements);
    for (int64_t i = 0; i < out_elements; i++) {
        batch->from_rank[rank][i] = MAP_GAP;
    }
}

/*
 * The map of a batch, each of whose rows moves as `map` says, in random buffers.
 * Frees the map of one row. in_tokens, out_tokens [num_ranks].
 */
static inline index_map_t map_batch(test_random_t *random, index_map_t *map, int64_t num_rows,
                                    const int64_t *in_tokens, const int64_t *out_tokens,
                                    batch_rows_t *rows)
{
    index_map_t batch = {.num_ranks = map->num_ranks};
    int64_t in_width[MAX_RANKS];

    for (int rank = 0; rank < map->num_ranks; rank++) {
        const int64_t tokens = in_tokens[rank];
        const int64_t out_width =
            out_tokens[rank] > 0 ? map->out_elements[rank] / out_tokens[rank] : 0;

        in_width[rank] = tokens > 0 ? map->in_elements[rank] / tokens : 0;
        rows->in[rank] = random_rows(random, num_rows, tokens, in_width[rank]);
        rows->out[rank] = random_rows(random, num_rows, out_tokens[rank], out_width);
        map_start_batch_rank(&batch, rank, rows_end(&rows->in[rank], tokens, in_width[rank]),
                             rows_end(&rows->out[rank], out_tokens[rank], out_width));
        for (int64_t i = 0; i < map->in_elements[rank] * num_rows; i++) {
            const int64_t b = i / map->in_elements[rank];
            const int64_t e = i % map->in_elements[rank];

            batch.in_gap[rank][e / in_width[rank] * rows->in[rank].token_stride +
                               b * rows->in[rank].batch_stride + e % in_width[rank]] = 0;
        }
    }
    for (int rank = 0; rank < map->num_ranks; rank++) {
        const int64_t count = map->out_elements[rank];
        const int64_t width = out_tokens[rank] > 0 ? count / out_tokens[rank] : 0;

        for (int64_t i = 0; i < count * num_rows; i++) {
            const int64_t b = i / count;
            const int64_t e = i % count;
            const int64_t to = e / width * rows->out[rank].token_stride +
                               b * rows->out[rank].batch_stride + e % width;
            const int from = map->from_rank[rank][e];

            batch.from_rank[rank][to] = from;
            batch.order[rank][to] = map->order[rank][e];
            if (from >= 0) {
                const int64_t index = map->from_index[rank][e];

                batch.from_index[rank][to] = index / in_width[from] * rows->in[from].token_stride +
                                             b * rows->in[from].batch_stride +
                                             index % in_width[from];
            }
        }
    }
    map_free(map);
    return batch;
}

#endif
