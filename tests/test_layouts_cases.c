/* Layouts: their formulas, sizes at the edge, hashes and names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "gdncp/layout.h"

enum { MAX_RANKS = 16 };

/* Stripes are as many as tokens. */
static const gdncp_layout_kind_t named_kinds[] = {
    GDNCP_LAYOUT_CONTIGUOUS,
    GDNCP_LAYOUT_CONTIGUOUS_FLAT,
    GDNCP_LAYOUT_DUAL_CHUNK_SWAP,
    GDNCP_LAYOUT_DUAL_CHUNK_SWAP_FLAT,
};

enum { NUM_NAMED_KINDS = sizeof named_kinds / sizeof named_kinds[0] };

/* Rank r holds c + r*n + [0,n) and c + (2N-1-r)*n + [0,n), from local index c/N on. */
static void dual_chunk_swap_follows_its_formula(void **state)
{
    const int64_t cu_seqlens[] = {0, 24, 24, 32, 80};

    (void)state;
    for (int num_ranks = 1; num_ranks <= 4; num_ranks *= 2) {
        gdncp_layout_t *layout = NULL;

        assert_int_equal(
            gdncp_layout_create(GDNCP_LAYOUT_DUAL_CHUNK_SWAP, cu_seqlens, 4, num_ranks, &layout),
            GDNCP_OK);
        for (int rank = 0; rank < num_ranks; rank++) {
            int64_t positions[80];

            assert_int_equal(gdncp_layout_rank_positions(layout, rank, positions), GDNCP_OK);
            for (int i = 0; i < 4; i++) {
                const int64_t c = cu_seqlens[i];
                const int64_t n = (cu_seqlens[i + 1] - c) / (2 * num_ranks);

                for (int64_t t = 0; t < n; t++) {
                    assert_int_equal(positions[c / num_ranks + t], c + rank * n + t);
                    assert_int_equal(positions[c / num_ranks + n + t],
                                     c + (2 * num_ranks - 1 - rank) * n + t);
                }
            }
        }
        gdncp_layout_destroy(layout);
    }
}

/* The last rank's two chunks are neighbours: one segment a sequence, where the others have two. */
static void last_rank_of_dual_chunk_swap_has_one_segment(void **state)
{
    const int64_t cu_seqlens[] = {0, 12, 36};
    const gdncp_segment_t expected[] = {
        {0, 0, 2, 0, 0, false},  {0, 10, 2, 2, 0, false}, {1, 0, 4, 4, 0, false},
        {1, 20, 4, 8, 0, false}, {0, 2, 2, 0, 1, false},  {0, 8, 2, 2, 1, false},
        {1, 4, 4, 4, 1, false},  {1, 16, 4, 8, 1, false}, {0, 4, 4, 0, 2, false},
        {1, 8, 8, 4, 2, false},
    };
    const int64_t expected_chains[] = {0, 4, 8, 5, 1, 2, 6, 9, 7, 3};
    gdncp_layout_t *layout = NULL;
    int64_t count = 0;

    (void)state;
    assert_int_equal(gdncp_layout_create(GDNCP_LAYOUT_DUAL_CHUNK_SWAP, cu_seqlens, 2, 3, &layout),
                     GDNCP_OK);
    assert_int_equal(gdncp_layout_num_segments(layout), 10);
    for (int s = 0; s < 10; s++) {
        const gdncp_segment_t *const segment = &gdncp_layout_segments(layout)[s];

        assert_int_equal(segment->sequence, expected[s].sequence);
        assert_int_equal(segment->begin, expected[s].begin);
        assert_int_equal(segment->length, expected[s].length);
        assert_int_equal(segment->local_offset, expected[s].local_offset);
        assert_int_equal(segment->rank, expected[s].rank);
    }
    assert_memory_equal(gdncp_layout_sequence_chain(layout, 0, &count), expected_chains,
                        5 * sizeof expected_chains[0]);
    assert_int_equal(count, 5);
    assert_memory_equal(gdncp_layout_sequence_chain(layout, 1, &count), expected_chains + 5,
                        5 * sizeof expected_chains[0]);
    assert_int_equal(count, 5);
    gdncp_layout_destroy(layout);
}

/* Rank-major chunks 0,2,..,2N-2, 2N-1,2N-3,..,1 are the sequence; chunks of the sequence
 * 0,2N-1,1,2N-2,.. are the ranks one after the other. */
static void undo_and_redo_orders(void **state)
{
    (void)state;
    for (int num_ranks = 1; num_ranks <= MAX_RANKS; num_ranks++) {
        enum { CHUNK = 3 };
        const int num_chunks = 2 * num_ranks;
        const int64_t cu_seqlens[] = {0, (int64_t)CHUNK * num_chunks};
        int64_t rank_major[2 * MAX_RANKS * CHUNK];
        gdncp_layout_t *layout = NULL;

        assert_int_equal(
            gdncp_layout_create(GDNCP_LAYOUT_DUAL_CHUNK_SWAP, cu_seqlens, 1, num_ranks, &layout),
            GDNCP_OK);
        for (int rank = 0; rank < num_ranks; rank++) {
            assert_int_equal(
                gdncp_layout_rank_positions(layout, rank, rank_major + (ptrdiff_t)2 * CHUNK * rank),
                GDNCP_OK);
        }
        for (int chunk = 0; chunk < num_chunks; chunk++) {
            const int undo = chunk < num_ranks ? 2 * chunk : 2 * num_chunks - 1 - 2 * chunk;
            const int redo = chunk % 2 == 0 ? chunk / 2 : num_chunks - 1 - chunk / 2;

            for (int t = 0; t < CHUNK; t++) {
                assert_int_equal(rank_major[undo * CHUNK + t], chunk * CHUNK + t);
                assert_int_equal(rank_major[chunk * CHUNK + t], redo * CHUNK + t);
            }
        }
        gdncp_layout_destroy(layout);
    }
}

/* 2^62 tokens: work and offsets must depend on segments only, and products must not wrap. */
static void long_sequences_cost_nothing(void **state)
{
    enum { NUM_RANKS = 1000 };
    const int64_t tokens = ((int64_t)1 << 62) + 12345;
    const int64_t cu_seqlens[] = {0, 7, tokens};

    (void)state;
    for (int k = 0; k < NUM_NAMED_KINDS; k++) {
        const gdncp_layout_kind_t kind = named_kinds[k];
        const int64_t padded[] = {0, 6000, tokens - tokens % 6000};
        gdncp_layout_t *layout = NULL;
        int64_t sum = 0;

        assert_int_equal(
            gdncp_layout_create(kind, kind == GDNCP_LAYOUT_DUAL_CHUNK_SWAP ? padded : cu_seqlens, 2,
                                NUM_RANKS, &layout),
            GDNCP_OK);
        assert_true(gdncp_layout_num_segments(layout) <= 4 * NUM_RANKS);
        for (int rank = 0; rank < NUM_RANKS; rank++) {
            const int64_t local = gdncp_layout_rank_tokens(layout, rank);

            assert_true(llabs(local - tokens / NUM_RANKS) <= 6000);
            sum += local;
        }
        assert_true(sum == gdncp_layout_num_tokens(layout));
        gdncp_layout_destroy(layout);
    }
}

static void borders_of_long_sequences_are_exact(void **state)
{
    enum { NUM_RANKS = 1000 };
    const int64_t cu_seqlens[] = {0, INT64_MAX};
    gdncp_layout_t *layout = NULL;

    (void)state;
    assert_int_equal(
        gdncp_layout_create(GDNCP_LAYOUT_CONTIGUOUS, cu_seqlens, 1, NUM_RANKS, &layout), GDNCP_OK);
    for (int rank = 0; rank < NUM_RANKS; rank++) {
        const int64_t border = (int64_t)((__int128)rank * INT64_MAX / NUM_RANKS);
        int holder_rank = -1;
        int64_t index = -1;

        assert_int_equal(gdncp_layout_find(layout, 0, border, &holder_rank, &index), GDNCP_OK);
        assert_int_equal(holder_rank, rank);
        assert_int_equal(index, 0);
    }
    gdncp_layout_destroy(layout);
}

/* 2^17 one-token documents on 2^17 ranks: proportional to documents times ranks would be 2^34. */
static void many_short_sequences_on_many_ranks(void **state)
{
    enum { NUM_RANKS = 1 << 17 };
    int64_t *const cu_seqlens = calloc(NUM_RANKS + 1, sizeof *cu_seqlens);

    (void)state;
    assert_non_null(cu_seqlens);
    for (int64_t i = 0; i <= NUM_RANKS; i++) {
        cu_seqlens[i] = i;
    }
    for (int k = 0; k < 2; k++) {
        gdncp_layout_t *layout = NULL;

        assert_int_equal(
            gdncp_layout_create(named_kinds[k], cu_seqlens, NUM_RANKS, NUM_RANKS, &layout),
            GDNCP_OK);
        assert_int_equal(gdncp_layout_num_segments(layout), NUM_RANKS);
        /* By sequence, the only token of each belongs to the last part. */
        assert_int_equal(gdncp_layout_rank_tokens(layout, NUM_RANKS - 1), k == 0 ? NUM_RANKS : 1);
        gdncp_layout_destroy(layout);
    }
    free(cu_seqlens);
}

static uint64_t hash_of(gdncp_layout_kind_t kind, const int64_t *cu_seqlens, int64_t num_sequences,
                        int num_ranks)
{
    gdncp_layout_t *layout = NULL;
    uint64_t hash;

    assert_int_equal(gdncp_layout_create(kind, cu_seqlens, num_sequences, num_ranks, &layout),
                     GDNCP_OK);
    hash = gdncp_layout_hash(layout);
    gdncp_layout_destroy(layout);
    return hash;
}

static void hash_tells_layouts_apart(void **state)
{
    const int64_t one[] = {0, 16};
    const int64_t two[] = {0, 8, 16};
    const int64_t empty_last[] = {0, 16, 16};
    const int64_t empty_first[] = {0, 0, 16};
    const uint64_t hashes[] = {
        hash_of(GDNCP_LAYOUT_DUAL_CHUNK_SWAP, one, 1, 2),
        hash_of(GDNCP_LAYOUT_DUAL_CHUNK_SWAP, one, 1, 4),
        hash_of(GDNCP_LAYOUT_DUAL_CHUNK_SWAP, two, 2, 2),
        hash_of(GDNCP_LAYOUT_DUAL_CHUNK_SWAP_FLAT, two, 2, 2),
        hash_of(GDNCP_LAYOUT_DUAL_CHUNK_SWAP, empty_last, 2, 2),
        hash_of(GDNCP_LAYOUT_DUAL_CHUNK_SWAP, empty_first, 2, 2),
        hash_of(GDNCP_LAYOUT_CONTIGUOUS, one, 1, 2),
        hash_of(GDNCP_LAYOUT_CONTIGUOUS, two, 2, 2),
        hash_of(GDNCP_LAYOUT_CONTIGUOUS, one, 1, 1),
    };

    (void)state;
    for (size_t i = 0; i < sizeof hashes / sizeof hashes[0]; i++) {
        for (size_t j = 0; j < i; j++) {
            assert_true(hashes[i] != hashes[j]);
        }
    }
    /* On one rank all kinds are the same layout. */
    assert_true(hash_of(GDNCP_LAYOUT_DUAL_CHUNK_SWAP, one, 1, 1) == hashes[8]);
    /* The same on every machine: ranks compare these. */
    assert_true(hashes[2] == UINT64_C(0xf96563d9b095be68));
}

static void kinds_have_names(void **state)
{
    (void)state;
    for (int i = 0; i <= GDNCP_LAYOUT_FROM_POSITIONS; i++) {
        gdncp_layout_kind_t kind = (gdncp_layout_kind_t)99;
        const char *const name = gdncp_layout_kind_name((gdncp_layout_kind_t)i);

        assert_int_equal(gdncp_layout_kind_from_name(name, &kind), GDNCP_OK);
        assert_int_equal(kind, i);
    }
    assert_string_equal(gdncp_layout_kind_name(GDNCP_LAYOUT_DUAL_CHUNK_SWAP_FLAT),
                        "dual_chunk_swap_flat");
    assert_string_equal(gdncp_layout_kind_name((gdncp_layout_kind_t)-1), "?");
    assert_string_equal(gdncp_layout_kind_name((gdncp_layout_kind_t)7), "?");
}

static void outside_ranks_and_sequences_hold_nothing(void **state)
{
    const int64_t cu_seqlens[] = {0, 4, 4};
    gdncp_layout_t *layout = NULL;

    (void)state;
    assert_int_equal(gdncp_layout_create(GDNCP_LAYOUT_CONTIGUOUS, cu_seqlens, 2, 2, &layout),
                     GDNCP_OK);
    for (int outside = -1; outside <= 2; outside += 3) {
        int64_t count = 99;

        assert_int_equal(gdncp_layout_rank_tokens(layout, outside), 0);
        assert_null(gdncp_layout_rank_segments(layout, outside, &count));
        assert_int_equal(count, 0);
        count = 99;
        assert_null(gdncp_layout_sequence_chain(layout, outside, &count));
        assert_int_equal(count, 0);
    }
    gdncp_layout_destroy(layout);
    gdncp_layout_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dual_chunk_swap_follows_its_formula),
        cmocka_unit_test(last_rank_of_dual_chunk_swap_has_one_segment),
        cmocka_unit_test(undo_and_redo_orders),
        cmocka_unit_test(long_sequences_cost_nothing),
        cmocka_unit_test(borders_of_long_sequences_are_exact),
        cmocka_unit_test(many_short_sequences_on_many_ranks),
        cmocka_unit_test(hash_tells_layouts_apart),
        cmocka_unit_test(kinds_have_names),
        cmocka_unit_test(outside_ranks_and_sequences_hold_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
