/* The parts of which layout_inline.h makes its lookups, each by itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "gdncp/layout_inline.h"

enum { MAX_RANKS = 7, MAX_LENGTH = 50 };

static void parts_tile_a_range(void **state)
{
    (void)state;
    for (int64_t num_parts = 1; num_parts <= 9; num_parts++) {
        for (int64_t length = 0; length <= MAX_LENGTH; length++) {
            int64_t end = 0;

            assert_int_equal(gdncp_part_border(length, num_parts, 0), 0);
            assert_int_equal(gdncp_part_border(length, num_parts, num_parts), length);
            for (int64_t part = 0; part < num_parts; part++) {
                const int64_t tokens = gdncp_part_tokens(length, num_parts, part);

                /* Parts differ by one token at most. */
                assert_true(tokens == length / num_parts || tokens == length / num_parts + 1);
                assert_int_equal(gdncp_part_border(length, num_parts, part), end);
                for (int64_t t = end; t < end + tokens; t++) {
                    assert_int_equal(gdncp_part_of_position(length, num_parts, t), part);
                }
                end += tokens;
            }
        }
    }
}

/* Where the products of positions and parts are too long for 64 bits. */
static void parts_of_the_longest_ranges(void **state)
{
    const int64_t length = INT64_MAX;
    const int64_t num_parts = 6001;

    (void)state;
    for (int64_t part = 0; part < num_parts; part += 1000) {
        const int64_t begin = gdncp_part_border(length, num_parts, part);
        const int64_t tokens = gdncp_part_tokens(length, num_parts, part);

        assert_int_equal(gdncp_part_of_position(length, num_parts, begin), part);
        assert_int_equal(gdncp_part_of_position(length, num_parts, begin + tokens - 1), part);
    }
    assert_int_equal(gdncp_part_border(length, num_parts, num_parts), length);
}

/* Empty sequences hold nothing. */
static void positions_have_sequences(void **state)
{
    static const int64_t cu_seqlens[] = {0, 0, 3, 3, 3, 5, 5};
    static const int64_t expected[] = {1, 1, 1, 4, 4};

    (void)state;
    for (int64_t t = 0; t < 5; t++) {
        assert_int_equal(gdncp_sequence_of_position(cu_seqlens, 6, t), expected[t]);
    }
}

static gdncp_cut_t cut_of(gdncp_layout_kind_t kind, const int64_t *cu_seqlens,
                          int64_t num_sequences, int num_ranks)
{
    return gdncp_cut_of(kind, cu_seqlens, num_sequences, num_ranks, 3);
}

static void kinds_are_told_apart(void **state)
{
    static const int64_t cu_seqlens[] = {0, 12};
    static const struct {
        gdncp_layout_kind_t kind;
        bool is_flat;
        bool has_stripes;
        bool has_dual_chunks;
    } kinds[] = {
        {GDNCP_LAYOUT_CONTIGUOUS, false, false, false},
        {GDNCP_LAYOUT_CONTIGUOUS_FLAT, true, false, false},
        {GDNCP_LAYOUT_DUAL_CHUNK_SWAP, false, false, true},
        {GDNCP_LAYOUT_DUAL_CHUNK_SWAP_FLAT, true, false, true},
        {GDNCP_LAYOUT_STRIPED, false, true, false},
        {GDNCP_LAYOUT_STRIPED_FLAT, true, true, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        const gdncp_cut_t cut = cut_of(kinds[i].kind, cu_seqlens, 1, 2);

        assert_int_equal(gdncp_cut_is_flat(&cut), kinds[i].is_flat);
        assert_int_equal(gdncp_cut_has_stripes(&cut), kinds[i].has_stripes);
        assert_int_equal(gdncp_cut_has_dual_chunks(&cut), kinds[i].has_dual_chunks);
    }
}

/* Every token of a range is one of those that a rank holds of it, in their order. */
static void check_range(gdncp_layout_kind_t kind, int64_t length, int num_ranks)
{
    const int64_t cu_seqlens[] = {0, length};
    const gdncp_cut_t cut = cut_of(kind, cu_seqlens, 1, num_ranks);
    int64_t next[MAX_RANKS] = {0};

    for (int64_t t = 0; t < length; t++) {
        int rank = -1;
        int64_t local = -1;

        gdncp_cut_locate_in_range(&cut, length, t, &rank, &local);
        assert_in_range(rank, 0, num_ranks - 1);
        assert_int_equal(local, next[rank]);
        assert_int_equal(gdncp_cut_position_in_range(&cut, length, rank, local), t);
        next[rank]++;
    }
    for (int rank = 0; rank < num_ranks; rank++) {
        assert_int_equal(gdncp_cut_range_tokens(&cut, length, rank), next[rank]);
    }
}

static void ranges_are_dealt_out(void **state)
{
    (void)state;
    for (int num_ranks = 1; num_ranks <= MAX_RANKS; num_ranks++) {
        for (int64_t length = 0; length <= MAX_LENGTH; length++) {
            for (int kind = 0; kind < GDNCP_LAYOUT_FROM_POSITIONS; kind++) {
                check_range((gdncp_layout_kind_t)kind, length, num_ranks);
            }
        }
    }
}

/* With lengths that divide by the ranks, and with others. */
static void sequences_begin_one_after_the_other(void **state)
{
    static const int64_t packs[][4] = {{0, 24, 24, 36}, {0, 5, 6, 36}};
    static const gdncp_layout_kind_t kinds[] = {GDNCP_LAYOUT_CONTIGUOUS,
                                                GDNCP_LAYOUT_DUAL_CHUNK_SWAP, GDNCP_LAYOUT_STRIPED};

    (void)state;
    for (int i = 0; i < 6; i++) {
        const int64_t *const cu_seqlens = packs[i % 2];
        const gdncp_cut_t cut = cut_of(kinds[i / 2], cu_seqlens, 3, 2);

        for (int rank = 0; rank < 2; rank++) {
            int64_t start = 0;

            for (int64_t sequence = 0; sequence < 3; sequence++) {
                const int64_t length = cu_seqlens[sequence + 1] - cu_seqlens[sequence];

                assert_int_equal(gdncp_cut_local_start(&cut, sequence, rank), start);
                start += gdncp_cut_range_tokens(&cut, length, rank);
            }
            assert_int_equal(gdncp_cut_rank_tokens(&cut, rank), start);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_tile_a_range),
        cmocka_unit_test(parts_of_the_longest_ranges),
        cmocka_unit_test(positions_have_sequences),
        cmocka_unit_test(kinds_are_told_apart),
        cmocka_unit_test(ranges_are_dealt_out),
        cmocka_unit_test(sequences_begin_one_after_the_other),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
