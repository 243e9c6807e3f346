/* Index maps, as arrays and computed on the fly, against an oracle that places token after token.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "gdncp/index_maps.h"
#include "gdncp/layout_from.h"
#include "gdncp/layout_inline.h"
#include "support/random.h"
#include "refused.h"
#include "test_layouts_oracle.h"

enum { MAX_RANKS = 64, GUARD = 8 };

/* An array with a guard behind it, all of it poisoned. */
static int64_t *poisoned(int64_t count)
{
    int64_t *const array = malloc((size_t)(count + GUARD) * sizeof *array);

    assert_non_null(array);
    memset(array, 0xa5, (size_t)(count + GUARD) * sizeof *array);
    return array;
}

static void check_guard_and_free(int64_t *array, int64_t count)
{
    for (int64_t i = count; i < count + GUARD; i++) {
        assert_true(array[i] == (int64_t)UINT64_C(0xa5a5a5a5a5a5a5a5));
    }
    free(array);
}

/* Index among all ranks' buffers laid end to end. */
static int64_t end_to_end(const placement_t *placement, int64_t token)
{
    int64_t index = placement->local_indices[token];

    for (int rank = 0; rank < placement->ranks[token]; rank++) {
        index += placement->rank_tokens[rank];
    }
    return index;
}

static void check_redo_and_undo(const gdncp_layout_t *layout, const placement_t *placement)
{
    const int64_t tokens = placement->num_tokens;
    int64_t *const redo = poisoned(tokens);
    int64_t *const undo = poisoned(tokens);

    assert_int_equal(gdncp_layout_redo(layout, redo), GDNCP_OK);
    assert_int_equal(gdncp_layout_undo(layout, undo), GDNCP_OK);
    assert_memory_equal(redo, placement->positions, (size_t)tokens * sizeof *redo);
    for (int64_t t = 0; t < tokens; t++) {
        assert_int_equal(undo[t], end_to_end(placement, t));
        assert_int_equal(redo[undo[t]], t);
        assert_int_equal(undo[redo[t]], t);
    }
    check_guard_and_free(redo, tokens);
    check_guard_and_free(undo, tokens);
}

static void check_locations(const gdncp_layout_t *layout, const placement_t *placement)
{
    const int64_t tokens = placement->num_tokens;
    const int num_ranks = gdncp_layout_num_ranks(layout);
    int64_t *const ranks = poisoned(tokens);
    int64_t *const indices = poisoned(tokens);
    int64_t *const offsets = poisoned(num_ranks + 1);

    assert_int_equal(gdncp_layout_locate(layout, ranks, indices), GDNCP_OK);
    assert_int_equal(gdncp_layout_rank_offsets(layout, offsets), GDNCP_OK);
    assert_int_equal(offsets[0], 0);
    for (int rank = 0; rank < num_ranks; rank++) {
        assert_int_equal(offsets[rank + 1] - offsets[rank], placement->rank_tokens[rank]);
    }
    for (int64_t t = 0; t < tokens; t++) {
        assert_int_equal(ranks[t], placement->ranks[t]);
        assert_int_equal(indices[t], placement->local_indices[t]);
    }
    check_guard_and_free(ranks, tokens);
    check_guard_and_free(indices, tokens);
    check_guard_and_free(offsets, num_ranks + 1);
}

/* Shards as long as the longest, or somewhat longer. */
static void check_gathered(const gdncp_layout_t *layout, const placement_t *placement,
                           int64_t more_tokens)
{
    const int num_ranks = gdncp_layout_num_ranks(layout);
    int64_t shard = more_tokens;

    for (int rank = 0; rank < num_ranks; rank++) {
        if (placement->rank_tokens[rank] + more_tokens > shard) {
            shard = placement->rank_tokens[rank] + more_tokens;
        }
    }
    int64_t *const gathered = poisoned(placement->num_tokens);
    int64_t *const positions = poisoned(num_ranks * shard);
    int64_t num_padding = 0;

    assert_int_equal(gdncp_layout_gathered_index(layout, shard, gathered), GDNCP_OK);
    assert_int_equal(gdncp_layout_gathered_positions(layout, shard, positions), GDNCP_OK);
    for (int64_t t = 0; t < placement->num_tokens; t++) {
        assert_int_equal(gathered[t], placement->ranks[t] * shard + placement->local_indices[t]);
        assert_int_equal(positions[gathered[t]], t);
    }
    for (int64_t i = 0; i < num_ranks * shard; i++) {
        num_padding += positions[i] == -1;
    }
    assert_int_equal(num_padding, num_ranks * shard - placement->num_tokens);
    check_guard_and_free(gathered, placement->num_tokens);
    check_guard_and_free(positions, num_ranks * shard);
}

static void check_maps(const gdncp_layout_t *layout, const placement_t *placement)
{
    check_redo_and_undo(layout, placement);
    check_locations(layout, placement);
    check_gathered(layout, placement, 0);
    check_gathered(layout, placement, 3);
}

static void check_on_the_fly(gdncp_layout_kind_t kind, const pack_t *pack,
                             const placement_t *placement)
{
    const gdncp_cut_t cut =
        gdncp_cut_of(kind, pack->slots, pack->num_sequences, pack->num_ranks, pack->stripe);

    for (int rank = 0; rank < pack->num_ranks; rank++) {
        assert_int_equal(gdncp_cut_rank_tokens(&cut, rank), placement->rank_tokens[rank]);
    }
    for (int64_t t = 0; t < placement->num_tokens; t++) {
        int rank = -1;
        int64_t index = -1;

        gdncp_cut_locate(&cut, t, &rank, &index);
        assert_int_equal(rank, placement->ranks[t]);
        assert_int_equal(index, placement->local_indices[t]);
        assert_int_equal(gdncp_cut_position(&cut, rank, index), t);
    }
}

static void check_partitioned(const pack_t *pack, const placement_t *placement)
{
    const int64_t local = placement->num_tokens / pack->num_ranks;

    for (int rank = 0; rank < pack->num_ranks; rank++) {
        int64_t *const indices = poisoned(local);

        assert_int_equal(gdncp_partitioned_indices(pack->slots, pack->num_sequences,
                                                   pack->num_ranks, rank, indices),
                         GDNCP_OK);
        assert_memory_equal(indices, placement->positions + rank * local,
                            (size_t)local * sizeof *indices);
        check_guard_and_free(indices, local);
    }
}

/* Of the pack with its padding, where stripes of that length can be had so. */
static gdncp_layout_t *make(gdncp_layout_kind_t kind, const pack_t *pack)
{
    const bool striped = kind == GDNCP_LAYOUT_STRIPED || kind == GDNCP_LAYOUT_STRIPED_FLAT;
    gdncp_layout_t *layout = NULL;
    const gdncp_status_t status =
        striped && pack->stripe > 1
            ? gdncp_layout_striped(kind, pack->slots, pack->num_sequences, pack->num_ranks,
                                   pack->stripe, &layout)
            : gdncp_layout_create_padded(kind, pack->cu_seqlens, pack->slots, pack->num_sequences,
                                         pack->num_ranks, &layout);

    if (status != GDNCP_OK) {
        fail_msg("%s", gdncp_last_error());
    }
    return layout;
}

/* A layout of a kind and everything that is derived from it. */
static void check_kind(gdncp_layout_kind_t kind, const pack_t *pack)
{
    placement_t placement = place_by_kind(pack, kind);
    gdncp_layout_t *const layout = make(kind, pack);

    assert_int_equal(gdncp_layout_kind(layout), kind);
    check_maps(layout, &placement);
    check_on_the_fly(kind, pack, &placement);
    if (kind == GDNCP_LAYOUT_DUAL_CHUNK_SWAP) {
        check_partitioned(pack, &placement);
    }
    gdncp_layout_destroy(layout);
    free_placement(&placement);
}

static void maps_of_all_kinds_follow_every_token(void **state)
{
    test_random_t random = test_random_start("maps_of_kinds", 20261128);

    (void)state;
    for (int num_ranks = 1; num_ranks <= MAX_RANKS; num_ranks++) {
        for (int i = 0; i < 2 * NUM_NAMED_KINDS; i++) {
            const gdncp_layout_kind_t kind = named_kinds[i % NUM_NAMED_KINDS];
            const bool even = kind == GDNCP_LAYOUT_DUAL_CHUNK_SWAP || i < NUM_NAMED_KINDS;
            const int64_t stripe = test_random_int(&random, 1, 5);
            pack_t pack = random_pack(&random, num_ranks, even ? 2 * num_ranks * stripe : 1);

            pack.stripe = stripe;
            check_kind(kind, &pack);
        }
    }
}

static void maps_of_any_permutation_follow_every_token(void **state)
{
    test_random_t random = test_random_start("maps_of_permutations", 20261129);

    (void)state;
    for (int num_ranks = 1; num_ranks <= MAX_RANKS; num_ranks++) {
        for (int i = 0; i < 8; i++) {
            const pack_t pack = random_pack(&random, num_ranks, 1);
            placement_t placement = place_at_random(&random, &pack);
            gdncp_layout_t *layout = NULL;

            assert_int_equal(gdncp_layout_from_positions_padded(
                                 pack.cu_seqlens, pack.slots, pack.num_sequences, num_ranks,
                                 placement.positions, placement.rank_tokens, &layout),
                             GDNCP_OK);
            check_maps(layout, &placement);
            gdncp_layout_destroy(layout);
            free_placement(&placement);
        }
    }
}

/* Packs that Megatron-LM and NeMo Automodel test with. */
static void peers_packs_on_their_ranks(void **state)
{
    static const pack_t packs[] = {
        {.slots = {0, 32, 64}, .num_sequences = 2},
        {.slots = {0, 32, 64, 96, 128}, .num_sequences = 4},
        {.slots = {0, 16, 48, 80}, .num_sequences = 3},
        {.slots = {0, 32, 64}, .num_sequences = 2},    /* a batch of 2 rows of 32 */
        {.slots = {0, 7, 18, 32}, .num_sequences = 3}, /* does not divide */
    };

    (void)state;
    for (size_t p = 0; p < sizeof packs / sizeof packs[0]; p++) {
        for (int num_ranks = 1; num_ranks <= 8; num_ranks *= 2) {
            for (int k = 0; k < NUM_NAMED_KINDS; k++) {
                pack_t pack = packs[p];

                memcpy(pack.cu_seqlens, pack.slots, sizeof pack.slots);
                pack.num_ranks = num_ranks;
                pack.stripe = 1;
                if (named_kinds[k] != GDNCP_LAYOUT_DUAL_CHUNK_SWAP || p != 4) {
                    check_kind(named_kinds[k], &pack);
                }
            }
        }
    }
}

/* What thd_get_partitioned_indices() gives for {0, 16, 48, 80} and two ranks. */
static void partitioned_indices_of_a_known_pack(void **state)
{
    const int64_t cu_seqlens[] = {0, 16, 48, 80};
    const int64_t chunk_begins[2][6] = {{0, 12, 16, 40, 48, 72}, {4, 8, 24, 32, 56, 64}};
    const int64_t chunk_tokens[6] = {4, 4, 8, 8, 8, 8};

    (void)state;
    for (int rank = 0; rank < 2; rank++) {
        int64_t indices[40];
        int64_t i = 0;

        assert_int_equal(gdncp_partitioned_indices(cu_seqlens, 3, 2, rank, indices), GDNCP_OK);
        for (int c = 0; c < 6; c++) {
            for (int64_t t = 0; t < chunk_tokens[c]; t++) {
                assert_int_equal(indices[i++], chunk_begins[rank][c] + t);
            }
        }
        assert_int_equal(i, 40);
    }
}

/* Where products of positions and parts do not fit 64 bits. */
static void long_packs_on_the_fly(void **state)
{
    test_random_t random = test_random_start("long_packs", 20261130);
    static const gdncp_layout_kind_t flat[] = {GDNCP_LAYOUT_CONTIGUOUS_FLAT,
                                               GDNCP_LAYOUT_DUAL_CHUNK_SWAP_FLAT};

    (void)state;
    for (int i = 0; i < 2000; i++) {
        const int num_ranks = (int)test_random_int(&random, 1, 1 << (i % 21));
        const int64_t tokens = INT64_MAX - test_random_int(&random, 0, 1 << 20);
        const int64_t cu_seqlens[] = {0, tokens};
        const gdncp_cut_t cut = gdncp_cut_of(flat[i % 2], cu_seqlens, 1, num_ranks, 1);
        const int64_t num_parts = num_ranks * (1 + i % 2);
        const int64_t part = test_random_int(&random, 0, num_parts - 1);
        const int64_t border = (int64_t)((__int128)part * tokens / num_parts);

        for (int64_t t = border > 0 ? border - 1 : 0; t <= border; t++) {
            const int64_t holder = t < border ? part - 1 : part;
            int rank = -1;
            int64_t index = -1;

            gdncp_cut_locate(&cut, t, &rank, &index);
            assert_int_equal(rank, holder < num_ranks ? holder : num_parts - 1 - holder);
            assert_int_equal(gdncp_cut_position(&cut, rank, index), t);
        }
    }
}

static void maps_check_their_arguments(void **state)
{
    const int64_t cu_seqlens[] = {0, 8, 11};
    int64_t map[22];
    gdncp_layout_t *layout = NULL;

    (void)state;
    assert_int_equal(gdncp_layout_create(GDNCP_LAYOUT_CONTIGUOUS, cu_seqlens, 2, 2, &layout),
                     GDNCP_OK);
    check_refused(gdncp_layout_redo(NULL, map), "layout:", "NULL", NULL);
    check_refused(gdncp_layout_redo(layout, NULL), "redo:", "NULL", NULL);
    check_refused(gdncp_layout_undo(NULL, map), "layout:", "NULL", NULL);
    check_refused(gdncp_layout_undo(layout, NULL), "undo:", "NULL", NULL);
    check_refused(gdncp_layout_rank_offsets(NULL, map), "layout:", "NULL", NULL);
    check_refused(gdncp_layout_rank_offsets(layout, NULL), "offsets:", "NULL", NULL);
    check_refused(gdncp_layout_locate(NULL, map, map + 11), "layout:", "NULL", NULL);
    check_refused(gdncp_layout_locate(layout, NULL, map), "ranks:", "NULL", NULL);
    check_refused(gdncp_layout_locate(layout, map, NULL), "indices:", "NULL", NULL);
    check_refused(gdncp_layout_gathered_index(NULL, 6, map), "layout:", "NULL", NULL);
    check_refused(gdncp_layout_gathered_index(layout, 6, NULL), "gathered:", "NULL", NULL);
    /* Ranks hold 4 + 1 and 4 + 2 tokens. */
    check_refused(gdncp_layout_gathered_index(layout, 5, map), "shard_tokens:", "at least 6",
                  "rank 1", "got 5", NULL);
    check_refused(gdncp_layout_gathered_index(layout, INT64_MAX, map), "shard_tokens:", "2 ranks",
                  NULL);
    check_refused(gdncp_layout_gathered_positions(NULL, 6, map), "layout:", "NULL", NULL);
    check_refused(gdncp_layout_gathered_positions(layout, 6, NULL), "positions:", "NULL", NULL);
    check_refused(gdncp_layout_gathered_positions(layout, -1, map), "shard_tokens:", "got -1",
                  NULL);
    gdncp_layout_destroy(layout);
}

static void partitioned_indices_check_their_arguments(void **state)
{
    const int64_t cu_seqlens[] = {0, 8, 16};
    const int64_t six_and_six[] = {0, 6, 12};
    const int64_t falling[] = {0, 8, 4};
    const int64_t empty[] = {0, 0};
    int64_t indices[8] = {99};

    (void)state;
    check_refused(gdncp_partitioned_indices(NULL, 2, 2, 0, indices), "cu_seqlens:", "NULL", NULL);
    check_refused(gdncp_partitioned_indices(cu_seqlens, 0, 2, 0, indices),
                  "num_sequences:", "got 0", NULL);
    check_refused(gdncp_partitioned_indices(falling, 2, 2, 0, indices), "cu_seqlens[2]:", NULL);
    check_refused(gdncp_partitioned_indices(cu_seqlens, 2, 0, 0, indices), "num_ranks:", NULL);
    check_refused(gdncp_partitioned_indices(empty, 1, 1, 0, indices), "num_ranks:", NULL);
    check_refused(gdncp_partitioned_indices(cu_seqlens, 2, 2, -1, indices), "rank:", "got -1",
                  NULL);
    check_refused(gdncp_partitioned_indices(cu_seqlens, 2, 2, 2, indices), "rank:", "0..1", "got 2",
                  NULL);
    check_refused(gdncp_partitioned_indices(cu_seqlens, 2, 2, 0, NULL), "indices:", "8 tokens",
                  NULL);
    check_refused(gdncp_partitioned_indices(six_and_six, 2, 2, 0, indices),
                  "cu_seqlens:", "sequence 0", "2N = 4", "got 6", "a multiple of N is not enough",
                  NULL);
    assert_int_equal(indices[0], 99);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps_of_all_kinds_follow_every_token),
        cmocka_unit_test(maps_of_any_permutation_follow_every_token),
        cmocka_unit_test(peers_packs_on_their_ranks),
        cmocka_unit_test(partitioned_indices_of_a_known_pack),
        cmocka_unit_test(long_packs_on_the_fly),
        cmocka_unit_test(maps_check_their_arguments),
        cmocka_unit_test(partitioned_indices_check_their_arguments),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
