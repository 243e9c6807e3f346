/* Padded packs of given sequences, and where the tokens that are no padding belong. */
#ifndef GDNCP_TEST_PADDED_LAYOUT_H
#define GDNCP_TEST_PADDED_LAYOUT_H

#include <stdbool.h>
#include <stdint.h>

#include "gdncp/layout.h"
#include "random.h"

/* Runs of 1 to 9 tokens of the slots, each on a rank drawn by lot: segments shorter than a halo,
 * and neighbours anywhere. slots may be cu_seqlens. */
gdncp_layout_t *test_dealt_layout(test_random_t *random, const int64_t *cu_seqlens,
                                  const int64_t *slots, int64_t num_sequences, int ranks);

/* A layout of any kind. Slots are multiples of 2N; there is padding in at least one of them, often
 * more than a chunk. From positions: test_dealt_layout(). */
gdncp_layout_t *test_padded_layout(test_random_t *random, gdncp_layout_kind_t kind,
                                   const int64_t *cu_seqlens, int64_t num_sequences, int ranks);

/* Of each token of a rank its position in the pack without padding; -1: it is padding.
 * [gdncp_layout_rank_tokens()] */
void test_own_positions(const gdncp_layout_t *layout, int rank, int64_t *positions);

/* Whether rows [tokens, width] are zeros where positions are -1. */
bool test_padding_is_zero(const int64_t *positions, int64_t tokens, int64_t width,
                          const float *rows);

#endif
