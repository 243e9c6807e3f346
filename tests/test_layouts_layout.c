/* Layouts against an oracle that places token after token. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "gdncp/layout.h"
#include "support/random.h"
#include "test_layouts_oracle.h"

enum { NUM_PACKS = 100, MAX_RANKS = 16 };

static void check_tokens(const gdncp_layout_t *layout, const pack_t *pack,
                         const placement_t *placement)
{
    for (int64_t t = 0; t < placement->num_tokens; t++) {
        const int64_t sequence = sequence_of(pack, t);
        int64_t local_index = -1;
        int rank = -1;

        assert_int_equal(
            gdncp_layout_find(layout, sequence, t - pack->slots[sequence], &rank, &local_index),
            GDNCP_OK);
        assert_int_equal(rank, placement->ranks[t]);
        assert_int_equal(local_index, placement->local_indices[t]);
    }
}

static void check_rank_positions(const gdncp_layout_t *layout, const pack_t *pack,
                                 const placement_t *placement)
{
    int64_t *const positions = malloc((size_t)placement->num_tokens * sizeof *positions);
    int64_t first = 0;

    assert_non_null(positions);
    memset(positions, 0xa5, (size_t)placement->num_tokens * sizeof *positions);
    for (int rank = 0; rank < pack->num_ranks; rank++) {
        assert_int_equal(gdncp_layout_rank_tokens(layout, rank), placement->rank_tokens[rank]);
        assert_int_equal(gdncp_layout_rank_positions(layout, rank, positions + first), GDNCP_OK);
        first += placement->rank_tokens[rank];
    }
    assert_int_equal(first, placement->num_tokens);
    assert_memory_equal(positions, placement->positions,
                        (size_t)placement->num_tokens * sizeof *positions);
    free(positions);
}

/* Segments are the runs found by joining tokens one by one, and no two of them could be one. */
static void check_segments(const gdncp_layout_t *layout, const pack_t *pack,
                           const placement_t *placement)
{
    const gdncp_segment_t *const segments = gdncp_layout_segments(layout);
    int64_t index = 0; /* in positions */
    int64_t s = 0;

    for (int rank = 0; rank < pack->num_ranks; rank++) {
        const int64_t first_segment = s;
        int64_t count = -1;
        int64_t local = 0;

        while (local < placement->rank_tokens[rank]) {
            const int64_t token = placement->positions[index];
            const int64_t sequence = sequence_of(pack, token);
            int64_t length = 1;

            while (local + length < placement->rank_tokens[rank] &&
                   placement->positions[index + length] == token + length &&
                   sequence_of(pack, token + length) == sequence &&
                   is_padding(pack, token + length) == is_padding(pack, token)) {
                length++;
            }
            assert_true(s < gdncp_layout_num_segments(layout));
            assert_int_equal(segments[s].rank, rank);
            assert_int_equal(segments[s].sequence, sequence);
            assert_int_equal(segments[s].begin, token - pack->slots[sequence]);
            assert_int_equal(segments[s].length, length);
            assert_int_equal(segments[s].local_offset, local);
            assert_int_equal(segments[s].is_padding, is_padding(pack, token));
            local += length;
            index += length;
            s++;
        }
        assert_ptr_equal(gdncp_layout_rank_segments(layout, rank, &count),
                         segments + first_segment);
        assert_int_equal(count, s - first_segment);
    }
    assert_int_equal(s, gdncp_layout_num_segments(layout));
}

static void check_chains(const gdncp_layout_t *layout, const pack_t *pack)
{
    const gdncp_segment_t *const segments = gdncp_layout_segments(layout);
    int64_t in_chains = 0;

    for (int64_t i = 0; i < pack->num_sequences; i++) {
        int64_t count = -1;
        int64_t own_count = -1;
        int64_t end = 0;
        const int64_t *const chain = gdncp_layout_slot_chain(layout, i, &count);

        assert_ptr_equal(gdncp_layout_sequence_chain(layout, i, &own_count), chain);
        for (int64_t c = 0; c < count; c++) {
            assert_in_range(chain[c], 0, gdncp_layout_num_segments(layout) - 1);
            assert_int_equal(segments[chain[c]].sequence, i);
            assert_int_equal(segments[chain[c]].begin, end);
            assert_int_equal(segments[chain[c]].is_padding, c >= own_count);
            assert_true(!segments[chain[c]].is_padding || end >= sequence_length(pack, i));
            end += segments[chain[c]].length;
            assert_true(segments[chain[c]].is_padding || end <= sequence_length(pack, i));
        }
        assert_int_equal(end, pack->slots[i + 1] - pack->slots[i]);
        in_chains += count;
    }
    assert_int_equal(in_chains, gdncp_layout_num_segments(layout));
}

/* The layout without padding is the one of the positions that are left, counted without it. */
static void check_bare(const gdncp_layout_t *layout, const pack_t *pack,
                       const placement_t *placement)
{
    int64_t *const positions = calloc((size_t)placement->num_tokens, sizeof *positions);
    int64_t rank_tokens[MAX_RANKS] = {0};
    gdncp_layout_t *bare = NULL;
    gdncp_layout_t *expected = NULL;
    int64_t index = 0;
    int64_t filled = 0;

    assert_int_equal(gdncp_layout_without_padding(layout, &bare), GDNCP_OK);
    assert_false(gdncp_layout_has_padding(bare));
    for (int rank = 0; rank < pack->num_ranks; rank++) {
        for (int64_t i = 0; i < placement->rank_tokens[rank]; i++, index++) {
            const int64_t token = placement->positions[index];
            const int64_t sequence = sequence_of(pack, token);

            if (!is_padding(pack, token)) {
                positions[filled++] = pack->cu_seqlens[sequence] + token - pack->slots[sequence];
                rank_tokens[rank]++;
            }
        }
        assert_int_equal(gdncp_layout_rank_tokens(bare, rank), rank_tokens[rank]);
    }
    assert_int_equal(gdncp_layout_num_tokens(bare), filled);
    if (filled >= pack->num_ranks) { /* else it is no layout that can be made otherwise */
        assert_int_equal(gdncp_layout_from_positions(pack->cu_seqlens, pack->num_sequences,
                                                     pack->num_ranks, positions, rank_tokens,
                                                     &expected),
                         GDNCP_OK);
        assert_true(gdncp_layout_hash(bare) == gdncp_layout_hash(expected));
        assert_int_equal(gdncp_layout_num_segments(bare), gdncp_layout_num_segments(expected));
        assert_int_equal(gdncp_layout_hash(bare) == gdncp_layout_hash(layout), !has_padding(pack));
        gdncp_layout_destroy(expected);
    }
    gdncp_layout_destroy(bare);
    free(positions);
}

static void check_layout(const gdncp_layout_t *layout, gdncp_layout_kind_t kind, const pack_t *pack,
                         const placement_t *placement)
{
    assert_int_equal(gdncp_layout_kind(layout), kind);
    assert_int_equal(gdncp_layout_num_ranks(layout), pack->num_ranks);
    assert_int_equal(gdncp_layout_num_sequences(layout), pack->num_sequences);
    assert_int_equal(gdncp_layout_num_tokens(layout), placement->num_tokens);
    assert_ptr_not_equal(gdncp_layout_cu_seqlens(layout), pack->cu_seqlens);
    assert_memory_equal(gdncp_layout_cu_seqlens(layout), pack->cu_seqlens,
                        (size_t)(pack->num_sequences + 1) * sizeof pack->cu_seqlens[0]);
    assert_ptr_not_equal(gdncp_layout_cu_seqlens_padded(layout), pack->slots);
    assert_memory_equal(gdncp_layout_cu_seqlens_padded(layout), pack->slots,
                        (size_t)(pack->num_sequences + 1) * sizeof pack->slots[0]);
    assert_int_equal(gdncp_layout_has_padding(layout), has_padding(pack));
    check_tokens(layout, pack, placement);
    check_rank_positions(layout, pack, placement);
    check_segments(layout, pack, placement);
    check_chains(layout, pack);
    check_bare(layout, pack, placement);
}

static gdncp_layout_t *create(gdncp_layout_kind_t kind, const pack_t *pack)
{
    gdncp_layout_t *layout = NULL;

    if (gdncp_layout_create_padded(kind, pack->cu_seqlens, pack->slots, pack->num_sequences,
                                   pack->num_ranks, &layout) != GDNCP_OK) {
        fail_msg("%s", gdncp_last_error());
    }
    return layout;
}

static gdncp_layout_t *create_from_positions(const pack_t *pack, const placement_t *placement)
{
    gdncp_layout_t *layout = NULL;

    if (gdncp_layout_from_positions_padded(pack->cu_seqlens, pack->slots, pack->num_sequences,
                                           pack->num_ranks, placement->positions,
                                           placement->rank_tokens, &layout) != GDNCP_OK) {
        fail_msg("%s", gdncp_last_error());
    }
    return layout;
}

/* Without padding both lists are the same, or one is not given, or the other constructor is taken:
 * all are one layout. With padding it is another than the one without. */
static void check_equal_lists(gdncp_layout_kind_t kind, const pack_t *pack,
                              const gdncp_layout_t *layout)
{
    gdncp_layout_t *unpadded = NULL;
    gdncp_layout_t *without_list = NULL;

    assert_int_equal(
        gdncp_layout_create(kind, pack->slots, pack->num_sequences, pack->num_ranks, &unpadded),
        GDNCP_OK);
    assert_int_equal(gdncp_layout_create_padded(kind, pack->slots, NULL, pack->num_sequences,
                                                pack->num_ranks, &without_list),
                     GDNCP_OK);
    assert_true(gdncp_layout_hash(unpadded) == gdncp_layout_hash(without_list));
    assert_int_equal(gdncp_layout_hash(unpadded) == gdncp_layout_hash(layout), !has_padding(pack));
    gdncp_layout_destroy(unpadded);
    gdncp_layout_destroy(without_list);
}

static void named_kinds_place_every_token(void **state)
{
    test_random_t random = test_random_start("named_kinds", 20261121);

    (void)state;
    for (int num_ranks = 1; num_ranks <= MAX_RANKS; num_ranks++) {
        for (int i = 0; i < NUM_PACKS * NUM_NAMED_KINDS; i++) {
            const gdncp_layout_kind_t kind = named_kinds[i % NUM_NAMED_KINDS];
            const pack_t pack = random_pack(
                &random, num_ranks, kind == GDNCP_LAYOUT_DUAL_CHUNK_SWAP ? 2 * num_ranks : 1);
            placement_t placement = place_by_kind(&pack, kind);
            gdncp_layout_t *const named = create(kind, &pack);
            gdncp_layout_t *const same = create_from_positions(&pack, &placement);

            check_layout(named, kind, &pack, &placement);
            check_equal_lists(kind, &pack, named);
            check_layout(same, GDNCP_LAYOUT_FROM_POSITIONS, &pack, &placement);
            assert_true(gdncp_layout_hash(named) == gdncp_layout_hash(same));
            gdncp_layout_destroy(same);
            gdncp_layout_destroy(named);
            free_placement(&placement);
        }
    }
}

static void any_permutation_is_a_layout(void **state)
{
    test_random_t random = test_random_start("permutations", 20261122);

    (void)state;
    for (int num_ranks = 1; num_ranks <= MAX_RANKS; num_ranks++) {
        for (int i = 0; i < NUM_PACKS; i++) {
            const pack_t pack = random_pack(&random, num_ranks, 1);
            placement_t placement = place_at_random(&random, &pack);
            gdncp_layout_t *const layout = create_from_positions(&pack, &placement);

            check_layout(layout, GDNCP_LAYOUT_FROM_POSITIONS, &pack, &placement);
            gdncp_layout_destroy(layout);
            free_placement(&placement);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(named_kinds_place_every_token),
        cmocka_unit_test(any_permutation_is_a_layout),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
