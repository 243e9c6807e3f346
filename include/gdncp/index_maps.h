/**
 * @file
 * Index maps of a layout as arrays of int64: where every token goes, and where it came from.
 *
 * A layout is such a map already, as segments: gdncp_layout_segments() is redo in runs,
 * gdncp_layout_sequence_chain() is undo in runs. These functions write it out token by token, for
 * who gathers or scatters with an index tensor. layout_inline.h computes single entries.
 *
 * Below, position is one of the pack, and the buffers of all ranks laid end to end, in order of
 * rank, hold at index i the token that redo[i] names. For all-gather see
 * gdncp_layout_gathered_index().
 *
 * Of a padded pack, positions are those of its slots, and padding is a token like any other.
 *
 * Arrays are the caller's and are written in full, at about the speed of memory; nothing is
 * allocated. Functions return GDNCP_OK or GDNCP_ERR_INVALID_ARGUMENT. A layout may be asked by
 * several threads at once.
 */
#ifndef GDNCP_INDEX_MAPS_H
#define GDNCP_INDEX_MAPS_H

#include <stdint.h>

#include "layout.h"

GDNCP_BEGIN_DECLS

/**
 * Where each rank's buffer begins among all of them laid end to end.
 * @param offsets  [num_ranks + 1]; the last is the number of tokens
 */
GDNCP_API gdncp_status_t gdncp_layout_rank_offsets(const gdncp_layout_t *layout, int64_t *offsets);

/**
 * Which position is at each index of the ranks' buffers laid end to end: the lists of
 * gdncp_layout_rank_positions() one after the other. pack[redo] is in the order of the ranks.
 * @param redo  [tokens]
 */
GDNCP_API gdncp_status_t gdncp_layout_redo(const gdncp_layout_t *layout, int64_t *redo);

/**
 * The inverse of redo: at which index of the ranks' buffers laid end to end each position is.
 * buffers[undo] is in the order of the pack.
 * @param undo  [tokens]
 */
GDNCP_API gdncp_status_t gdncp_layout_undo(const gdncp_layout_t *layout, int64_t *undo);

/**
 * Who holds each position, and at which index of its buffer.
 * @param ranks    [tokens]
 * @param indices  [tokens]
 */
GDNCP_API gdncp_status_t gdncp_layout_locate(const gdncp_layout_t *layout, int64_t *ranks,
                                             int64_t *indices);

/**
 * Where each position is after an all-gather, which lays equal shards end to end:
 * rank*shard_tokens + index in that rank's buffer.
 *
 * Where all ranks hold as many tokens this is undo.
 *
 * @param shard_tokens  what each rank gathers, its tokens and then padding: at least the most
 *                      tokens that a rank holds
 * @param gathered      [tokens]
 */
GDNCP_API gdncp_status_t gdncp_layout_gathered_index(const gdncp_layout_t *layout,
                                                     int64_t shard_tokens, int64_t *gathered);

/**
 * Which position each token of such an all-gather is; -1 for padding.
 * @param positions  [num_ranks, shard_tokens]
 */
GDNCP_API gdncp_status_t gdncp_layout_gathered_positions(const gdncp_layout_t *layout,
                                                         int64_t shard_tokens, int64_t *positions);

/**
 * The positions that a rank holds with dual_chunk_swap, sequence by sequence, without a layout:
 * what Transformer Engine's thd_get_partitioned_indices(cu_seqlens, tokens, size, rank) gives.
 *
 * Equal to gdncp_layout_rank_positions() of a layout of GDNCP_LAYOUT_DUAL_CHUNK_SWAP.
 *
 * @param cu_seqlens  [num_sequences + 1], as gdncp_layout_create() takes it: lengths, with their
 *                    padding, are multiples of 2 * num_ranks
 * @param num_ranks   > 0
 * @param rank        0 <= rank < num_ranks
 * @param indices     [cu_seqlens[num_sequences] / num_ranks]
 *
 * @return The error names the first sequence whose length is no multiple of 2 * num_ranks; indices
 * are then not written.
 */
GDNCP_API gdncp_status_t gdncp_partitioned_indices(const int64_t *cu_seqlens, int64_t num_sequences,
                                                   int num_ranks, int rank, int64_t *indices);

GDNCP_END_DECLS

#endif
