/* Layouts of given lengths, of rows' positions and of stripes, token after token, and their errors.
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
#include "support/random.h"
#include "refused.h"
#include "test_layouts_oracle.h"

enum { MAX_RANKS = 64, MAX_ROWS = 5 };

/* The tokens of all ranks, and that segments are as long as they can be: then the hash is that of a
 * layout made from the oracle's lists. */
static void check_placement(const gdncp_layout_t *layout, const pack_t *pack,
                            const placement_t *placement)
{
    int64_t *const redo = calloc((size_t)placement->num_tokens, sizeof *redo);
    gdncp_layout_t *same = NULL;

    assert_non_null(redo);
    assert_int_equal(gdncp_layout_redo(layout, redo), GDNCP_OK);
    assert_memory_equal(redo, placement->positions, (size_t)placement->num_tokens * sizeof *redo);
    for (int rank = 0; rank < pack->num_ranks; rank++) {
        assert_int_equal(gdncp_layout_rank_tokens(layout, rank), placement->rank_tokens[rank]);
    }
    assert_int_equal(gdncp_layout_from_positions(pack->slots, pack->num_sequences, pack->num_ranks,
                                                 placement->positions, placement->rank_tokens,
                                                 &same),
                     GDNCP_OK);
    assert_true(gdncp_layout_hash(layout) == gdncp_layout_hash(same));
    gdncp_layout_destroy(same);
    free(redo);
}

/* Random lengths with a sum; many are zero. */
static void random_lengths(test_random_t *random, int num_ranks, int64_t sum, int64_t *lengths)
{
    for (int rank = 0; rank < num_ranks; rank++) {
        lengths[rank] = test_random_int(random, 0, 2) == 0 ? 0 : test_random_int(random, 0, sum);
        sum -= lengths[rank];
    }
    lengths[test_random_int(random, 0, num_ranks - 1)] += sum;
}

static void shards_of_given_lengths(void **state)
{
    test_random_t random = test_random_start("lengths", 20261201);
    int64_t lengths[MAX_SEQUENCES * MAX_RANKS];

    (void)state;
    for (int num_ranks = 1; num_ranks <= MAX_RANKS; num_ranks++) {
        for (int i = 0; i < 10; i++) {
            const bool flat = i % 2 == 0;
            const pack_t pack = random_pack(&random, num_ranks, 1);
            const int64_t num_ranges = flat ? 1 : pack.num_sequences;
            placement_t placement = start_placement(&pack);
            gdncp_layout_t *layout = NULL;
            int64_t token = 0;

            for (int64_t range = 0; range < num_ranges; range++) {
                int64_t *const row = lengths + range * num_ranks;
                const int64_t end = flat ? num_tokens(&pack) : pack.slots[range + 1];

                random_lengths(&random, num_ranks, end - token, row);
                for (int rank = 0; rank < num_ranks; rank++) {
                    for (int64_t t = 0; t < row[rank]; t++) {
                        placement.ranks[token++] = rank;
                    }
                }
            }
            place_in_pack_order(&placement, num_ranks);
            if (gdncp_layout_from_lengths(
                    flat ? GDNCP_LAYOUT_CONTIGUOUS_FLAT : GDNCP_LAYOUT_CONTIGUOUS, pack.slots,
                    pack.num_sequences, num_ranks, lengths, &layout) != GDNCP_OK) {
                fail_msg("%s", gdncp_last_error());
            }
            assert_int_equal(gdncp_layout_kind(layout), GDNCP_LAYOUT_FROM_POSITIONS);
            check_placement(layout, &pack, &placement);
            gdncp_layout_destroy(layout);
            free_placement(&placement);
        }
    }
}

/* A batch of rows of a random pack: its sequences are the pack's, repeated, or the rows, or one. */
static pack_t random_batch(test_random_t *random, const pack_t *row, int64_t batch)
{
    const int64_t tokens = num_tokens(row);
    const int64_t choice = test_random_int(random, 0, 2);
    pack_t pack = {.num_ranks = row->num_ranks};

    if (choice == 0 && batch * row->num_sequences <= MAX_SEQUENCES) {
        for (int64_t i = 0; i < batch * row->num_sequences; i++) {
            pack.slots[i + 1] =
                i / row->num_sequences * tokens + row->slots[i % row->num_sequences + 1];
        }
        pack.num_sequences = batch * row->num_sequences;
        return pack;
    }
    pack.num_sequences = choice == 1 ? batch : 1;
    for (int64_t i = 0; i < pack.num_sequences; i++) {
        pack.slots[i + 1] = batch * tokens / pack.num_sequences * (i + 1);
    }
    return pack;
}

/* The batch's oracle from those of its rows: rank after rank, row after row. */
static placement_t place_rows(const pack_t *pack, const placement_t *rows, int64_t num_rows,
                              int64_t batch)
{
    placement_t placement = start_placement(pack);
    int64_t first = 0; /* of a rank in a row's list */
    int64_t i = 0;

    for (int rank = 0; rank < pack->num_ranks; rank++) {
        for (int64_t b = 0; b < batch; b++) {
            const placement_t *const row = &rows[num_rows == 1 ? 0 : b];

            for (int64_t t = 0; t < row->rank_tokens[rank]; t++) {
                placement.positions[i++] = b * row->num_tokens + row->positions[first + t];
            }
        }
        placement.rank_tokens[rank] = batch * rows[0].rank_tokens[rank];
        first += rows[0].rank_tokens[rank];
    }
    return placement;
}

/* Give a row an order of its own. */
static void shuffle_positions(test_random_t *random, placement_t *to)
{
    for (int64_t i = to->num_tokens - 1; i > 0; i--) {
        const int64_t j = test_random_int(random, 0, i);
        const int64_t position = to->positions[i];

        to->positions[i] = to->positions[j];
        to->positions[j] = position;
    }
}

static void rows_of_a_batch(void **state)
{
    test_random_t random = test_random_start("rows", 20261202);

    (void)state;
    for (int num_ranks = 1; num_ranks <= MAX_RANKS; num_ranks++) {
        for (int i = 0; i < 8; i++) {
            const int64_t batch = test_random_int(&random, 1, MAX_ROWS);
            const int64_t num_rows = i % 2 == 0 ? 1 : batch;
            const bool equal = i % 4 < 2;
            const pack_t row = random_pack(&random, num_ranks, equal ? 2 * num_ranks : 1);
            const pack_t pack = random_batch(&random, &row, batch);
            const int64_t tokens = num_tokens(&row);
            int64_t *const positions = calloc((size_t)(num_rows * tokens), sizeof *positions);
            placement_t rows[MAX_ROWS];
            gdncp_layout_t *layout = NULL;

            assert_non_null(positions);
            for (int64_t r = 0; r < num_rows; r++) {
                rows[r] = equal ? place_by_kind(&row, GDNCP_LAYOUT_DUAL_CHUNK_SWAP)
                                : place_at_random(&random, &row);
                if (r > 0) {
                    shuffle_positions(&random, &rows[r]);
                    memcpy(rows[r].rank_tokens, rows[0].rank_tokens,
                           (size_t)num_ranks * sizeof *rows[r].rank_tokens);
                }
                memcpy(positions + r * tokens, rows[r].positions,
                       (size_t)tokens * sizeof *positions);
            }
            placement_t placement = place_rows(&pack, rows, num_rows, batch);

            if (gdncp_layout_from_rows(pack.slots, pack.num_sequences, num_ranks, batch, positions,
                                       num_rows, equal ? NULL : rows[0].rank_tokens,
                                       &layout) != GDNCP_OK) {
                fail_msg("%s", gdncp_last_error());
            }
            assert_int_equal(gdncp_layout_kind(layout), GDNCP_LAYOUT_FROM_POSITIONS);
            check_placement(layout, &pack, &placement);
            gdncp_layout_destroy(layout);
            free_placement(&placement);
            for (int64_t r = 0; r < num_rows; r++) {
                free_placement(&rows[r]);
            }
            free(positions);
        }
    }
}

/* NeMo Automodel's batch of 2 rows of 32 on 2 ranks, each rank's seq_index DualChunkSwap of the
 * row: the layout that dual_chunk_swap makes of a pack of 2 sequences. */
static void seq_index_of_a_batch_of_two(void **state)
{
    const int64_t cu_seqlens[] = {0, 32, 64};
    int64_t seq_index[32];
    gdncp_layout_t *named = NULL;
    gdncp_layout_t *rows = NULL;

    (void)state;
    for (int t = 0; t < 8; t++) {
        seq_index[t] = t;
        seq_index[8 + t] = 24 + t;
        seq_index[16 + t] = 8 + t;
        seq_index[24 + t] = 16 + t;
    }
    assert_int_equal(gdncp_layout_create(GDNCP_LAYOUT_DUAL_CHUNK_SWAP, cu_seqlens, 2, 2, &named),
                     GDNCP_OK);
    assert_int_equal(gdncp_layout_from_rows(cu_seqlens, 2, 2, 2, seq_index, 1, NULL, &rows),
                     GDNCP_OK);
    assert_true(gdncp_layout_hash(named) == gdncp_layout_hash(rows));
    gdncp_layout_destroy(rows);
    gdncp_layout_destroy(named);
}

static void one_rank_needs_no_stripes(void **state)
{
    const int64_t cu_seqlens[] = {0, 5, (int64_t)1 << 62};
    gdncp_layout_t *layout = NULL;

    (void)state;
    for (int k = GDNCP_LAYOUT_STRIPED; k <= GDNCP_LAYOUT_STRIPED_FLAT; k++) {
        assert_int_equal(gdncp_layout_create((gdncp_layout_kind_t)k, cu_seqlens, 2, 1, &layout),
                         GDNCP_OK);
        assert_int_equal(gdncp_layout_num_segments(layout), 2);
        gdncp_layout_destroy(layout);
        assert_int_equal(
            gdncp_layout_striped((gdncp_layout_kind_t)k, cu_seqlens, 2, 2, INT64_MAX, &layout),
            GDNCP_OK);
        assert_int_equal(gdncp_layout_rank_tokens(layout, 1), 0);
        gdncp_layout_destroy(layout);
    }
}

static void stripes_are_checked(void **state)
{
    const int64_t cu_seqlens[] = {0, 4, 8};
    gdncp_layout_t *layout = NULL;

    (void)state;
    check_refused(gdncp_layout_striped(GDNCP_LAYOUT_STRIPED, cu_seqlens, 2, 2, 0, &layout),
                  "stripe:", "got 0", NULL);
    check_refused(gdncp_layout_striped(GDNCP_LAYOUT_STRIPED_FLAT, cu_seqlens, 2, 2, -7, &layout),
                  "stripe:", "got -7", NULL);
    check_refused(gdncp_layout_striped(GDNCP_LAYOUT_CONTIGUOUS, cu_seqlens, 2, 2, 1, &layout),
                  "kind:", "striped or striped_flat", "(contiguous)", NULL);
    check_refused(gdncp_layout_striped((gdncp_layout_kind_t)-1, cu_seqlens, 2, 2, 1, &layout),
                  "kind:", "got -1", NULL);
    check_refused(gdncp_layout_striped(GDNCP_LAYOUT_STRIPED, NULL, 2, 2, 1, &layout),
                  "cu_seqlens:", "NULL", NULL);
    check_refused(gdncp_layout_striped(GDNCP_LAYOUT_STRIPED, cu_seqlens, 2, 9, 1, &layout),
                  "num_ranks:", "8 tokens", NULL);
    check_refused(gdncp_layout_striped(GDNCP_LAYOUT_STRIPED, cu_seqlens, 2, 2, 1, NULL),
                  "layout_p:", "NULL", NULL);
    assert_null(layout);
}

static void lengths_are_checked(void **state)
{
    const int64_t cu_seqlens[] = {0, 4, 4, 10};
    const int64_t flat[] = {7, 3};
    const int64_t short_flat[] = {7, 2};
    const int64_t negative[] = {11, -1};
    const int64_t overflow[] = {INT64_MAX, 1};
    const int64_t long_third[] = {4, 0, 0, 0, 3, 4};
    const int64_t shifted[] = {4, 1, 0, 0, 3, 2};
    const int64_t negative_third[] = {4, 0, 0, 0, 7, -1};
    gdncp_layout_t *layout = NULL;

    (void)state;
    check_refused(
        gdncp_layout_from_lengths(GDNCP_LAYOUT_DUAL_CHUNK_SWAP, cu_seqlens, 3, 2, flat, &layout),
        "kind:", "contiguous or contiguous_flat", "(dual_chunk_swap)", NULL);
    check_refused(
        gdncp_layout_from_lengths(GDNCP_LAYOUT_CONTIGUOUS_FLAT, cu_seqlens, 3, 2, NULL, &layout),
        "lengths:", "NULL", NULL);
    check_refused(
        gdncp_layout_from_lengths(GDNCP_LAYOUT_CONTIGUOUS_FLAT, cu_seqlens, 3, 2, flat, NULL),
        "layout_p:", "NULL", NULL);
    check_refused(
        gdncp_layout_from_lengths(GDNCP_LAYOUT_CONTIGUOUS_FLAT, NULL, 3, 2, flat, &layout),
        "cu_seqlens:", "NULL", NULL);
    check_refused(
        gdncp_layout_from_lengths(GDNCP_LAYOUT_CONTIGUOUS_FLAT, cu_seqlens, 3, 11, flat, &layout),
        "num_ranks:", "10 tokens", NULL);
    check_refused(gdncp_layout_from_lengths(GDNCP_LAYOUT_CONTIGUOUS_FLAT, cu_seqlens, 3, 2,
                                            short_flat, &layout),
                  "lengths:", "sum of 10", "got 9", NULL);
    check_refused(gdncp_layout_from_lengths(GDNCP_LAYOUT_CONTIGUOUS_FLAT, cu_seqlens, 3, 2,
                                            negative, &layout),
                  "lengths[1]:", "got -1", NULL);
    check_refused(gdncp_layout_from_lengths(GDNCP_LAYOUT_CONTIGUOUS_FLAT, cu_seqlens, 3, 2,
                                            overflow, &layout),
                  "lengths[1]:", "got 1", NULL);
    check_refused(
        gdncp_layout_from_lengths(GDNCP_LAYOUT_CONTIGUOUS, cu_seqlens, 3, 2, long_third, &layout),
        "lengths:", "sequence 2", "sum, 6", "got 7", NULL);
    check_refused(
        gdncp_layout_from_lengths(GDNCP_LAYOUT_CONTIGUOUS, cu_seqlens, 3, 2, shifted, &layout),
        "lengths:", "sequence 0", "sum, 4", "got 5", NULL);
    check_refused(gdncp_layout_from_lengths(GDNCP_LAYOUT_CONTIGUOUS, cu_seqlens, 3, 2,
                                            negative_third, &layout),
                  "lengths[5]:", "got -1", NULL);
    assert_null(layout);
}

static gdncp_status_t from_rows(int64_t batch, const int64_t *positions, int64_t position_rows,
                                const int64_t *rank_tokens)
{
    const int64_t cu_seqlens[] = {0, 4, 8};
    gdncp_layout_t *layout = NULL;
    const gdncp_status_t status = gdncp_layout_from_rows(cu_seqlens, 2, 2, batch, positions,
                                                         position_rows, rank_tokens, &layout);

    if (status == GDNCP_OK) {
        gdncp_layout_destroy(layout);
    } else {
        assert_null(layout);
    }
    return status;
}

static void rows_are_checked(void **state)
{
    const int64_t good[] = {0, 3, 1, 2, 3, 2, 1, 0};
    const int64_t doubled_late[] = {0, 3, 1, 2, 0, 2, 3, 2};
    const int64_t doubled_both[] = {0, 3, 0, 2};
    const int64_t outside[] = {0, 3, 1, 2, 3, 4, 1, 0};
    const int64_t wraps[] = {0, 1, 2, INT64_MAX};
    const int64_t wrapped[] = {INT64_MAX, INT64_MIN, 2, 3};
    const int64_t runs_out[] = {0, 2, 3, 4};
    const int64_t all_to_first[] = {4, 0};
    const int64_t too_few[] = {2, 1};
    const int64_t none[] = {0, 0};
    const int64_t negative[] = {5, -1};
    const int64_t cu_seqlens[] = {0, 4, 8};
    gdncp_layout_t *layout = NULL;

    (void)state;
    assert_int_equal(from_rows(2, good, 2, NULL), GDNCP_OK);
    assert_int_equal(from_rows(2, good, 1, NULL), GDNCP_OK);
    assert_int_equal(from_rows(2, good, 2, all_to_first), GDNCP_OK);
    check_refused(from_rows(0, good, 1, NULL), "batch:", "8 tokens", "got 0", NULL);
    check_refused(from_rows(3, good, 1, NULL), "batch:", "8 tokens", "got 3", NULL);
    check_refused(from_rows(2, good, 0, NULL), "position_rows:", "1 or the batch, 2", "got 0",
                  NULL);
    check_refused(from_rows(2, good, 3, NULL), "position_rows:", "got 3", NULL);
    check_refused(from_rows(2, NULL, 1, NULL), "positions:", "NULL", NULL);
    check_refused(from_rows(8, good, 1, NULL), "rank_tokens:", "1 tokens of a row", "2 ranks",
                  "NULL", NULL);
    check_refused(from_rows(2, good, 1, negative), "rank_tokens[1]:", "got -1", NULL);
    check_refused(from_rows(2, good, 1, too_few), "positions:", "in row 0", "none that is 2",
                  "add up to 3", NULL);
    check_refused(from_rows(2, good, 1, none), "positions:", "in row 0", "none that is 0", NULL);
    check_refused(from_rows(2, doubled_late, 2, NULL), "positions:", "in row 1", "none that is 1",
                  NULL);
    check_refused(from_rows(2, doubled_both, 1, NULL), "positions:", "in row 0", "got 0 doubled",
                  "[0] and [2]", NULL);
    check_refused(from_rows(2, outside, 2, NULL), "positions[5]:", "0..3", "got 4", NULL);
    check_refused(from_rows(2, wraps, 1, NULL), "positions[3]:", "got 9223372036854775807", NULL);
    check_refused(from_rows(2, wrapped, 1, NULL), "positions[0]:", "got 9223372036854775807", NULL);
    check_refused(from_rows(2, runs_out, 1, NULL), "positions[3]:", "0..3", "got 4", NULL);
    check_refused(gdncp_layout_from_rows(cu_seqlens, 2, 2, 2, good, 1, NULL, NULL),
                  "layout_p:", "NULL", NULL);
    check_refused(gdncp_layout_from_rows(NULL, 2, 2, 2, good, 1, NULL, &layout),
                  "cu_seqlens:", "NULL", NULL);
    check_refused(gdncp_layout_from_rows(cu_seqlens, 2, 0, 2, good, 1, NULL, &layout),
                  "num_ranks:", "got 0", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shards_of_given_lengths),
        cmocka_unit_test(rows_of_a_batch),
        cmocka_unit_test(seq_index_of_a_batch_of_two),
        cmocka_unit_test(one_rank_needs_no_stripes),
        cmocka_unit_test(stripes_are_checked),
        cmocka_unit_test(lengths_are_checked),
        cmocka_unit_test(rows_are_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
