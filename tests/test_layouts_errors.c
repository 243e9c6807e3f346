/* Every argument that a layout refuses, and what the error says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "gdncp/layout.h"
#include "refused.h"

static gdncp_status_t create(gdncp_layout_kind_t kind, const int64_t *cu_seqlens,
                             int64_t num_sequences, int num_ranks)
{
    gdncp_layout_t *const untouched = (gdncp_layout_t *)(uintptr_t)0xa5a5;
    gdncp_layout_t *layout = untouched;
    const gdncp_status_t status =
        gdncp_layout_create(kind, cu_seqlens, num_sequences, num_ranks, &layout);

    assert_ptr_equal(layout, untouched);
    return status;
}

static gdncp_status_t from_positions(const int64_t *cu_seqlens, int64_t num_sequences,
                                     int num_ranks, const int64_t *positions,
                                     const int64_t *rank_tokens)
{
    gdncp_layout_t *const untouched = (gdncp_layout_t *)(uintptr_t)0xa5a5;
    gdncp_layout_t *layout = untouched;
    const gdncp_status_t status = gdncp_layout_from_positions(cu_seqlens, num_sequences, num_ranks,
                                                              positions, rank_tokens, &layout);

    assert_ptr_equal(layout, untouched);
    return status;
}

static void packs_are_checked(void **state)
{
    const int64_t good[] = {0, 4, 8};
    const int64_t late[] = {1, 4, 8};
    const int64_t falling[] = {0, 6, 4, 8};
    const int64_t negative[] = {0, -4};
    const int64_t nothing[] = {0, 0};

    (void)state;
    for (int i = 0; i < GDNCP_LAYOUT_FROM_POSITIONS; i++) {
        const gdncp_layout_kind_t kind = (gdncp_layout_kind_t)i;

        check_refused(create(kind, NULL, 2, 2), "cu_seqlens:", "NULL", NULL);
        check_refused(create(kind, good, 0, 2), "num_sequences:", "got 0", NULL);
        check_refused(create(kind, good, -3, 2), "num_sequences:", "got -3", NULL);
        check_refused(create(kind, good, INT64_MAX, 2), "num_sequences:", "got 9223372036854775807",
                      NULL);
        check_refused(create(kind, good, INT64_MAX / 8, 2), "num_sequences:", NULL);
        check_refused(create(kind, late, 2, 2), "cu_seqlens[0]:", "expected 0", "got 1", NULL);
        check_refused(create(kind, falling, 3, 2), "cu_seqlens[2]:", "6", "got 4", NULL);
        check_refused(create(kind, negative, 1, 2), "cu_seqlens[1]:", "got -4", NULL);
        check_refused(create(kind, good, 2, 0), "num_ranks:", "got 0", NULL);
        check_refused(create(kind, good, 2, -1), "num_ranks:", "got -1", NULL);
        check_refused(create(kind, good, 2, 9), "num_ranks:", "8 tokens", "got 9", NULL);
        check_refused(create(kind, good, 2, INT32_MAX), "num_ranks:", "got 2147483647", NULL);
        check_refused(create(kind, nothing, 1, 1), "num_ranks:", "0 tokens", "got 1", NULL);
        check_refused(gdncp_layout_create(kind, good, 2, 2, NULL), "layout_p:", "NULL", NULL);
    }
}

static void kinds_are_checked(void **state)
{
    const int64_t cu_seqlens[] = {0, 8};
    gdncp_layout_kind_t kind = GDNCP_LAYOUT_CONTIGUOUS_FLAT;

    (void)state;
    check_refused(create((gdncp_layout_kind_t)-1, cu_seqlens, 1, 2), "kind:", "got -1", NULL);
    check_refused(create((gdncp_layout_kind_t)7, cu_seqlens, 1, 2), "kind:", "got 7", NULL);
    check_refused(create(GDNCP_LAYOUT_FROM_POSITIONS, cu_seqlens, 1, 2), "kind:", "from_positions",
                  "dual_chunk_swap_flat", NULL);
    check_refused(gdncp_layout_kind_from_name("zigzag", &kind), "name:", "contiguous, ",
                  "contiguous_flat", "dual_chunk_swap, ", "dual_chunk_swap_flat", "from_positions",
                  "\"zigzag\"", NULL);
    check_refused(gdncp_layout_kind_from_name("", &kind), "name:", NULL);
    check_refused(gdncp_layout_kind_from_name(NULL, &kind), "name:", "NULL", NULL);
    assert_int_equal(kind, GDNCP_LAYOUT_CONTIGUOUS_FLAT);
    check_refused(gdncp_layout_kind_from_name("contiguous", NULL), "kind_p:", "NULL", NULL);
}

static void dual_chunk_swap_wants_multiples_of_2n(void **state)
{
    const int64_t six_and_six[] = {0, 6, 12};
    const int64_t second[] = {0, 8, 8, 17, 20};

    (void)state;
    check_refused(create(GDNCP_LAYOUT_DUAL_CHUNK_SWAP, six_and_six, 2, 2),
                  "cu_seqlens:", "sequence 0", "2N = 4", "N = 2", "got 6",
                  "a multiple of N is not enough", NULL);
    check_refused(create(GDNCP_LAYOUT_DUAL_CHUNK_SWAP, second, 4, 2), "cu_seqlens:", "sequence 2",
                  "2N = 4", "got 9;", NULL);
    check_refused(create(GDNCP_LAYOUT_DUAL_CHUNK_SWAP, second, 1, 3), "cu_seqlens:", "sequence 0",
                  "2N = 6", "got 8;", NULL);
}

static gdncp_status_t create_padded(gdncp_layout_kind_t kind, const int64_t *cu_seqlens,
                                    const int64_t *cu_seqlens_padded, int num_ranks)
{
    gdncp_layout_t *const untouched = (gdncp_layout_t *)(uintptr_t)0xa5a5;
    gdncp_layout_t *layout = untouched;
    const gdncp_status_t status =
        gdncp_layout_create_padded(kind, cu_seqlens, cu_seqlens_padded, 2, num_ranks, &layout);

    assert_ptr_equal(layout, untouched);
    return status;
}

static void slots_are_checked(void **state)
{
    const int64_t cu_seqlens[] = {0, 3, 5};
    const int64_t late[] = {1, 4, 8};
    const int64_t falling[] = {0, 4, 3};
    const int64_t short_slot[] = {0, 4, 5}; /* longer than all sequences, but not the second */
    const int64_t odd[] = {0, 4, 10};
    const int64_t good[] = {0, 4, 8};
    const int64_t real_only[] = {0, 1, 2, 4, 5};
    const int64_t rank_tokens[] = {3, 2};
    gdncp_layout_t *layout = NULL;

    (void)state;
    for (int i = 0; i < GDNCP_LAYOUT_FROM_POSITIONS; i++) {
        const gdncp_layout_kind_t kind = (gdncp_layout_kind_t)i;

        check_refused(create_padded(kind, NULL, good, 2), "cu_seqlens:", "NULL", NULL);
        check_refused(create_padded(kind, late, good, 2), "cu_seqlens[0]:", "got 1", NULL);
        check_refused(create_padded(kind, cu_seqlens, late, 2),
                      "cu_seqlens_padded[0]:", "expected 0", "got 1", NULL);
        check_refused(create_padded(kind, cu_seqlens, falling, 2),
                      "cu_seqlens_padded[2]:", "at least 4", "got 3", NULL);
        check_refused(create_padded(kind, cu_seqlens, short_slot, 2),
                      "cu_seqlens_padded[2]:", "2 tokens of sequence 1", "slot of 1", NULL);
        check_refused(create_padded(kind, cu_seqlens, good, 9), "num_ranks:", "8 tokens", "got 9",
                      NULL);
        check_refused(gdncp_layout_create_padded(kind, cu_seqlens, good, 2, 2, NULL),
                      "layout_p:", "NULL", NULL);
    }
    check_refused(create_padded(GDNCP_LAYOUT_DUAL_CHUNK_SWAP, cu_seqlens, odd, 2),
                  "cu_seqlens_padded:", "sequence 1", "2N = 4", "got 6", NULL);
    check_refused(gdncp_layout_from_positions_padded(cu_seqlens, short_slot, 2, 2, real_only,
                                                     rank_tokens, &layout),
                  "cu_seqlens_padded[2]:", NULL);
    check_refused(
        gdncp_layout_from_positions_padded(cu_seqlens, good, 2, 2, real_only, rank_tokens, &layout),
        "positions:", "0..7", "none that is 3", NULL);
    assert_int_equal(
        gdncp_layout_create_padded(GDNCP_LAYOUT_DUAL_CHUNK_SWAP, cu_seqlens, good, 2, 2, &layout),
        GDNCP_OK);
    check_refused(gdncp_layout_without_padding(NULL, &layout), "layout:", "NULL", NULL);
    check_refused(gdncp_layout_without_padding(layout, NULL), "bare_p:", "NULL", NULL);
    gdncp_layout_destroy(layout);
}

/* Also of ranks, of which the pack without padding may have more than tokens. */
static void a_pack_may_be_all_padding(void **state)
{
    const int64_t cu_seqlens[] = {0, 0, 0};
    const int64_t cu_seqlens_padded[] = {0, 8, 8};
    gdncp_layout_t *layout = NULL;
    gdncp_layout_t *bare = NULL;
    int64_t count = 99;

    (void)state;
    assert_int_equal(gdncp_layout_create_padded(GDNCP_LAYOUT_DUAL_CHUNK_SWAP, cu_seqlens,
                                                cu_seqlens_padded, 2, 2, &layout),
                     GDNCP_OK);
    assert_int_equal(gdncp_layout_num_tokens(layout), 8);
    gdncp_layout_sequence_chain(layout, 0, &count);
    assert_int_equal(count, 0);
    gdncp_layout_slot_chain(layout, 0, &count);
    assert_int_equal(count, 3);
    assert_int_equal(gdncp_layout_without_padding(layout, &bare), GDNCP_OK);
    assert_int_equal(gdncp_layout_num_segments(bare), 0);
    assert_int_equal(gdncp_layout_rank_tokens(bare, 1), 0);
    gdncp_layout_destroy(bare);
    gdncp_layout_destroy(layout);
}

static void positions_are_checked(void **state)
{
    const int64_t cu_seqlens[] = {0, 4, 6};
    const int64_t good[] = {0, 5, 1, 4, 2, 3};
    const int64_t doubled[] = {0, 5, 4, 4, 2, 3};
    const int64_t missing[] = {0, 5, 2, 4, 2, 3};
    const int64_t too_many[] = {0, 5, 1, 4, 2, 3, 3};
    const int64_t below[] = {0, 5, 1, -1, 2, 3};
    const int64_t above[] = {0, 5, 1, 4, 6, 3};
    const int64_t halves[] = {3, 3};
    const int64_t fewer[] = {3, 2};
    const int64_t more[] = {3, 4};
    const int64_t none[] = {0, 0};
    const int64_t negative[] = {7, -1};
    const int64_t overflow[] = {INT64_MAX, 1};
    gdncp_layout_t *layout = NULL;

    (void)state;
    check_refused(from_positions(NULL, 2, 2, good, halves), "cu_seqlens:", "NULL", NULL);
    check_refused(from_positions(cu_seqlens, 0, 2, good, halves), "num_sequences:", "got 0", NULL);
    check_refused(from_positions(cu_seqlens, 2, 0, good, halves), "num_ranks:", "got 0", NULL);
    check_refused(from_positions(cu_seqlens, 2, 7, good, halves), "num_ranks:", "6 tokens", "got 7",
                  NULL);
    check_refused(from_positions(cu_seqlens, 2, 2, NULL, halves), "positions:", "NULL", NULL);
    check_refused(from_positions(cu_seqlens, 2, 2, good, NULL), "rank_tokens:", "NULL", NULL);
    check_refused(gdncp_layout_from_positions(cu_seqlens, 2, 2, good, halves, NULL),
                  "layout_p:", "NULL", NULL);
    check_refused(from_positions(cu_seqlens, 2, 2, good, negative), "rank_tokens[1]:", "got -1",
                  NULL);
    check_refused(from_positions(cu_seqlens, 2, 2, good, overflow), "rank_tokens[1]:", "expected 0",
                  "got 1", NULL);
    /* 1 is missing and 4 doubled; 1 comes first. In the next, 1 is missing and 2 doubled. */
    check_refused(from_positions(cu_seqlens, 2, 2, doubled, halves), "positions:", "none that is 1",
                  NULL);
    check_refused(from_positions(cu_seqlens, 2, 2, missing, halves), "positions:", "none that is 1",
                  NULL);
    check_refused(from_positions(cu_seqlens, 2, 2, too_many, more), "positions:", "got 3 doubled",
                  "[5] and [6]", NULL);
    check_refused(from_positions(cu_seqlens, 2, 2, good, fewer), "positions:", "none that is 3",
                  "add up to 5", NULL);
    check_refused(from_positions(cu_seqlens, 2, 2, good, none), "positions:", "none that is 0",
                  "add up to 0", NULL);
    check_refused(from_positions(cu_seqlens, 2, 2, below, halves), "positions[3]:", "0..5",
                  "got -1", NULL);
    check_refused(from_positions(cu_seqlens, 2, 2, above, halves), "positions[4]:", "0..5", "got 6",
                  NULL);
    assert_int_equal(gdncp_layout_from_positions(cu_seqlens, 2, 2, good, halves, &layout),
                     GDNCP_OK);
    gdncp_layout_destroy(layout);
}

static void questions_are_checked(void **state)
{
    const int64_t cu_seqlens[] = {0, 1, 1, 9};
    gdncp_layout_t *layout = NULL;
    int64_t index = 99;
    int64_t positions[9] = {99};
    int rank = 99;

    (void)state;
    /* Sequence by sequence: rank 0 of 2 holds nothing of a one-token sequence. */
    assert_int_equal(gdncp_layout_create(GDNCP_LAYOUT_CONTIGUOUS, cu_seqlens, 3, 2, &layout),
                     GDNCP_OK);
    check_refused(gdncp_layout_find(NULL, 0, 0, &rank, &index), "layout:", "NULL", NULL);
    check_refused(gdncp_layout_find(layout, 0, 0, NULL, &index), "rank_p:", "NULL", NULL);
    check_refused(gdncp_layout_find(layout, 0, 0, &rank, NULL), "local_index_p:", "NULL", NULL);
    check_refused(gdncp_layout_find(layout, -1, 0, &rank, &index), "sequence:", "0..2", "got -1",
                  NULL);
    check_refused(gdncp_layout_find(layout, 3, 0, &rank, &index), "sequence:", "0..2", "got 3",
                  NULL);
    check_refused(gdncp_layout_find(layout, 0, -1, &rank, &index), "position:", "got -1", NULL);
    check_refused(gdncp_layout_find(layout, 2, 8, &rank, &index), "position:", "8 tokens",
                  "sequence 2", "got 8", NULL);
    check_refused(gdncp_layout_find(layout, 1, 0, &rank, &index), "position:", "0 tokens", NULL);
    assert_int_equal(rank, 99);
    assert_int_equal(index, 99);
    check_refused(gdncp_layout_rank_positions(NULL, 0, positions), "layout:", "NULL", NULL);
    check_refused(gdncp_layout_rank_positions(layout, -1, positions), "rank:", "0..1", "got -1",
                  NULL);
    check_refused(gdncp_layout_rank_positions(layout, 2, positions), "rank:", "0..1", "got 2",
                  NULL);
    check_refused(gdncp_layout_rank_positions(layout, 1, NULL), "positions:", "5 tokens", "NULL",
                  NULL);
    assert_int_equal(positions[0], 99);
    gdncp_layout_destroy(layout);
}

static void a_rank_without_tokens_needs_no_memory_for_them(void **state)
{
    const int64_t cu_seqlens[] = {0, 1, 2};
    gdncp_layout_t *layout = NULL;

    (void)state;
    assert_int_equal(gdncp_layout_create(GDNCP_LAYOUT_CONTIGUOUS, cu_seqlens, 2, 2, &layout),
                     GDNCP_OK);
    assert_int_equal(gdncp_layout_rank_tokens(layout, 0), 0);
    assert_int_equal(gdncp_layout_rank_positions(layout, 0, NULL), GDNCP_OK);
    gdncp_layout_destroy(layout);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packs_are_checked),
        cmocka_unit_test(kinds_are_checked),
        cmocka_unit_test(dual_chunk_swap_wants_multiples_of_2n),
        cmocka_unit_test(slots_are_checked),
        cmocka_unit_test(a_pack_may_be_all_padding),
        cmocka_unit_test(positions_are_checked),
        cmocka_unit_test(questions_are_checked),
        cmocka_unit_test(a_rank_without_tokens_needs_no_memory_for_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
