/* Padded packs for tests. */
#include "padded_layout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

static int64_t random_slot(test_random_t *random, int64_t length, int64_t multiple, bool must_pad)
{
    const int64_t least = (length + multiple - 1) / multiple * multiple;

    switch (test_random_int(random, must_pad ? 1 : 0, 2)) {
    case 0:
        return least;
    case 1:
        return least + multiple * test_random_int(random, 1, 3);
    default:
        return 2 * least + multiple;
    }
}

gdncp_layout_t *test_dealt_layout(test_random_t *random, const int64_t *cu_seqlens,
                                  const int64_t *slots, int64_t num_sequences, int ranks)
{
    const int64_t tokens = slots[num_sequences];
    int64_t *const positions = malloc((size_t)tokens * sizeof *positions);
    int64_t *const rank_tokens = calloc((size_t)ranks, sizeof *rank_tokens);
    int *const rank_of = malloc((size_t)tokens * sizeof *rank_of);
    gdncp_layout_t *layout = NULL;
    int64_t filled = 0;

    for (int64_t t = 0; t < tokens;) {
        const int64_t end = t + test_random_int(random, 1, 9);
        const int rank = (int)test_random_int(random, 0, ranks - 1);

        for (; t < end && t < tokens; t++) {
            rank_of[t] = rank;
            rank_tokens[rank]++;
        }
    }
    for (int rank = 0; rank < ranks; rank++) {
        for (int64_t t = 0; t < tokens; t++) {
            if (rank_of[t] == rank) {
                positions[filled++] = t;
            }
        }
    }
    assert_int_equal(gdncp_layout_from_positions_padded(cu_seqlens, slots, num_sequences, ranks,
                                                        positions, rank_tokens, &layout),
                     GDNCP_OK);
    free(positions);
    free(rank_tokens);
    free(rank_of);
    return layout;
}

gdncp_layout_t *test_padded_layout(test_random_t *random, gdncp_layout_kind_t kind,
                                   const int64_t *cu_seqlens, int64_t num_sequences, int ranks)
{
    int64_t *const slots = calloc((size_t)num_sequences + 1, sizeof *slots);
    const int64_t padded = test_random_int(random, 0, num_sequences - 1);
    gdncp_layout_t *layout = NULL;

    for (int64_t i = 0; i < num_sequences; i++) {
        slots[i + 1] = slots[i] + random_slot(random, cu_seqlens[i + 1] - cu_seqlens[i], 2 * ranks,
                                              i == padded);
    }
    if (kind == GDNCP_LAYOUT_FROM_POSITIONS) {
        layout = test_dealt_layout(random, cu_seqlens, slots, num_sequences, ranks);
    } else {
        assert_int_equal(
            gdncp_layout_create_padded(kind, cu_seqlens, slots, num_sequences, ranks, &layout),
            GDNCP_OK);
    }
    free(slots);
    return layout;
}

void test_own_positions(const gdncp_layout_t *layout, int rank, int64_t *positions)
{
    const int64_t *const cu_seqlens = gdncp_layout_cu_seqlens(layout);
    int64_t count;
    const gdncp_segment_t *const segments = gdncp_layout_rank_segments(layout, rank, &count);

    for (int64_t s = 0; s < count; s++) {
        for (int64_t t = 0; t < segments[s].length; t++) {
            positions[segments[s].local_offset + t] =
                segments[s].is_padding ? -1
                                       : cu_seqlens[segments[s].sequence] + segments[s].begin + t;
        }
    }
}

bool test_padding_is_zero(const int64_t *positions, int64_t tokens, int64_t width,
                          const float *rows)
{
    bool is_zero = true;

    for (int64_t i = 0; i < tokens * width; i++) {
        is_zero &= positions[i / width] >= 0 || rows[i] == 0.0f;
    }
    return is_zero;
}
