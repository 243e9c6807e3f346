/**
 * @file
 * More ways to make a layout: stripes, given lengths, and positions given for the rows of a batch.
 *
 * All of them return as gdncp_layout_create() does, and check cu_seqlens, num_sequences and
 * num_ranks as it does. Sequences may be of length zero.
 */
#ifndef GDNCP_LAYOUT_FROM_H
#define GDNCP_LAYOUT_FROM_H

#include <stdint.h>

#include "layout.h"

GDNCP_BEGIN_DECLS

/**
 * Lay a pack out in stripes of @p stripe tokens: stripe i is held by rank i mod N.
 *
 * Rank r holds, in order, of every sequence (striped) or of the pack (striped_flat) the positions
 * (i*N + r)*stripe + [0, stripe) for i = 0, 1, …; the last stripe may be shorter. Every stripe is a
 * segment, so a layout of short stripes takes memory for each of them.
 *
 * @param kind    GDNCP_LAYOUT_STRIPED or GDNCP_LAYOUT_STRIPED_FLAT; gdncp_layout_create() of these
 *                kinds has stripes of one token
 * @param stripe  > 0
 */
GDNCP_API gdncp_status_t gdncp_layout_striped(gdncp_layout_kind_t kind, const int64_t *cu_seqlens,
                                              int64_t num_sequences, int num_ranks, int64_t stripe,
                                              gdncp_layout_t **layout_p);

/**
 * Lay a pack out contiguously in shards of given lengths.
 *
 * contiguous_flat: rank r holds positions lengths[0] + … + lengths[r-1] + [0, lengths[r]) of the
 * pack. contiguous: rank r holds of sequence i its positions lengths[i][0] + … + lengths[i][r-1] +
 * [0, lengths[i][r]), sequence after sequence.
 *
 * @param kind     GDNCP_LAYOUT_CONTIGUOUS or GDNCP_LAYOUT_CONTIGUOUS_FLAT
 * @param lengths  [num_ranks], or [num_sequences, num_ranks] for contiguous; >= 0, and their sum is
 *                 the length of what is cut
 *
 * The layout is one of GDNCP_LAYOUT_FROM_POSITIONS. The error names the first sequence whose
 * lengths have another sum.
 */
GDNCP_API gdncp_status_t gdncp_layout_from_lengths(gdncp_layout_kind_t kind,
                                                   const int64_t *cu_seqlens, int64_t num_sequences,
                                                   int num_ranks, const int64_t *lengths,
                                                   gdncp_layout_t **layout_p);

/**
 * Lay a batch out by the positions that each rank holds of a row (NeMo Automodel's seq_index).
 *
 * The pack is @p batch rows of equal length laid end to end: token t of row b is pack position
 * b*tokens + t with tokens = cu_seqlens[num_sequences] / batch. A rank holds its tokens of row 0,
 * then those of row 1, …: its buffer is [batch, tokens of the rank]. With batch = 1 this is
 * gdncp_layout_from_positions().
 *
 * @param cu_seqlens     of the whole pack; sequences usually are rows or parts of rows
 * @param batch          > 0, divides the pack's tokens
 * @param positions      [position_rows, tokens]: in each row all ranks' lists laid end to end, a
 *                       permutation of 0 .. tokens-1 (positions count inside the row)
 * @param position_rows  1: all rows of the batch are laid out alike; batch: each by its own
 * @param rank_tokens    [num_ranks] length of each rank's list, >= 0, the same in all rows; NULL:
 *                       equal, tokens / num_ranks
 *
 * @return as gdncp_layout_from_positions(); what is no permutation is an error that names the row,
 * too.
 */
GDNCP_API gdncp_status_t gdncp_layout_from_rows(const int64_t *cu_seqlens, int64_t num_sequences,
                                                int num_ranks, int64_t batch,
                                                const int64_t *positions, int64_t position_rows,
                                                const int64_t *rank_tokens,
                                                gdncp_layout_t **layout_p);

GDNCP_END_DECLS

#endif
