/**
 * @file
 * Layouts: which rank holds which tokens.
 *
 * A pack is one or more sequences (documents, or the rows of a batch) laid end
 * to end; sequence i is tokens cu_seqlens[i] .. cu_seqlens[i+1]-1 of the pack.
 * A layout gives every token of a pack to exactly one rank. It is a list of
 * segments; permutations, neighbours, halo sources and the order of the state
 * relay are all derived from that list.
 *
 * A padded pack has two lists. Sequence i has a slot, tokens cu_seqlens_padded[i] ..
 * cu_seqlens_padded[i+1]-1 of the pack, of which the first cu_seqlens[i+1]-cu_seqlens[i] are its
 * own and the rest is padding: what Megatron-LM and Transformer Engine call cu_seqlens and
 * cu_seqlens_padded. Slots are cut over the ranks like sequences without padding. Padding has
 * segments of its own, so that a rank's segments tile its buffer, but belongs to no chain: it is
 * held, and moved with the rest, and no halo, state or parameter's gradient is made of it.
 *
 * Layouts are pure index arithmetic: immutable once made, safe to share among
 * threads, and the same on every rank that makes them from the same arguments.
 */
#ifndef GDNCP_LAYOUT_H
#define GDNCP_LAYOUT_H

#include <stdbool.h>
#include <stdint.h>

#include "export.h"
#include "status.h"

GDNCP_BEGIN_DECLS

/** A run of consecutive tokens of one sequence, or of its padding, all held by one rank, as long as
 * it can be. */
typedef struct gdncp_segment {
    int64_t sequence;     /**< 0 <= sequence < number of sequences */
    int64_t begin;        /**< first token, counted inside the sequence's slot */
    int64_t length;       /**< tokens, > 0 */
    int64_t local_offset; /**< index of the first token in the rank's token buffer */
    int rank;
    bool is_padding; /**< begin is at or after the end of the sequence */
} gdncp_segment_t;

typedef enum gdncp_layout_kind {
    /** Each sequence in N parts; rank r holds part r of each. Part borders at floor(r*L/N). */
    GDNCP_LAYOUT_CONTIGUOUS = 0,
    /** The whole pack in N parts, blind to sequence borders. Borders at floor(r*T/N). */
    GDNCP_LAYOUT_CONTIGUOUS_FLAT,
    /** Each sequence in 2N equal parts; rank r holds parts r and 2N-1-r. Needs L % 2N == 0. */
    GDNCP_LAYOUT_DUAL_CHUNK_SWAP,
    /** The whole pack in 2N parts; rank r holds parts r and 2N-1-r. Borders at floor(p*T/2N). */
    GDNCP_LAYOUT_DUAL_CHUNK_SWAP_FLAT,
    /** Token i of each sequence on rank i mod N; stripes of k tokens: gdncp_layout_striped(). */
    GDNCP_LAYOUT_STRIPED,
    /** Token i of the whole pack on rank i mod N. */
    GDNCP_LAYOUT_STRIPED_FLAT,
    /** Given by the caller: gdncp_layout_from_positions(), and the constructors of layout_from.h
     * that take positions or lengths; or what is left of another without its padding. */
    GDNCP_LAYOUT_FROM_POSITIONS
} gdncp_layout_kind_t;

typedef struct gdncp_layout gdncp_layout_t;

/**
 * Lay a pack out over ranks by one of the named kinds.
 *
 * A rank holds its tokens in sequence order of the pack: for per-sequence kinds
 * sequence by sequence, and within a sequence by position. With dual_chunk_swap,
 * n_i = L_i/2N and c_i = cu_seqlens[i], rank r holds of sequence i the positions
 * r*n_i + [0, n_i) and then (2N-1-r)*n_i + [0, n_i), from local index c_i/N on.
 *
 * @param cu_seqlens     [num_sequences + 1], starts at 0, never decreases; zero-length
 *                       sequences are allowed. Copied.
 * @param num_ranks      > 0 and not more than the number of tokens
 * @param layout_p       set on success; free with gdncp_layout_destroy()
 *
 * @return GDNCP_OK, GDNCP_ERR_INVALID_ARGUMENT, GDNCP_ERR_OUT_OF_MEMORY. For dual_chunk_swap
 * the error names the first sequence whose length is no multiple of 2N.
 */
GDNCP_API gdncp_status_t gdncp_layout_create(gdncp_layout_kind_t kind, const int64_t *cu_seqlens,
                                             int64_t num_sequences, int num_ranks,
                                             gdncp_layout_t **layout_p);

/**
 * gdncp_layout_create() of a padded pack: the slots are cut, L_i and c_i are their lengths and
 * starts, and tokens are counted with their padding.
 *
 * @param cu_seqlens         [num_sequences + 1] of the sequences themselves. Copied.
 * @param cu_seqlens_padded  [num_sequences + 1] of the slots, likewise; no slot is shorter than its
 *                           sequence. Copied. NULL, or equal to cu_seqlens: no padding, and the
 *                           layout is the one that gdncp_layout_create() makes.
 * @return as gdncp_layout_create(); what is wrong with a slot names cu_seqlens_padded.
 */
GDNCP_API gdncp_status_t gdncp_layout_create_padded(gdncp_layout_kind_t kind,
                                                    const int64_t *cu_seqlens,
                                                    const int64_t *cu_seqlens_padded,
                                                    int64_t num_sequences, int num_ranks,
                                                    gdncp_layout_t **layout_p);

/**
 * Lay a pack out by giving, for each rank, the pack positions it holds in order.
 *
 * @param positions    all ranks' lists laid end to end: a permutation of
 *                     0 .. tokens-1 (positions count over the whole pack)
 * @param rank_tokens  [num_ranks] length of each rank's list, >= 0
 *
 * @return as gdncp_layout_create(). What is no permutation is an error that names the
 * lowest missing or doubled position, or the first entry that is no position.
 */
GDNCP_API gdncp_status_t gdncp_layout_from_positions(const int64_t *cu_seqlens,
                                                     int64_t num_sequences, int num_ranks,
                                                     const int64_t *positions,
                                                     const int64_t *rank_tokens,
                                                     gdncp_layout_t **layout_p);

/**
 * gdncp_layout_from_positions() of a padded pack: every position of a slot is held by one rank,
 * those of padding too.
 *
 * @param cu_seqlens_padded  as gdncp_layout_create_padded() takes it
 */
GDNCP_API gdncp_status_t gdncp_layout_from_positions_padded(
    const int64_t *cu_seqlens, const int64_t *cu_seqlens_padded, int64_t num_sequences,
    int num_ranks, const int64_t *positions, const int64_t *rank_tokens, gdncp_layout_t **layout_p);

/**
 * The layout of the same sequences on the same ranks that is left where padding is taken out of the
 * pack and out of every rank's buffer. Ranks may be left without tokens, and a pack too.
 *
 * @param bare_p  set on success; free with gdncp_layout_destroy()
 */
GDNCP_API gdncp_status_t gdncp_layout_without_padding(const gdncp_layout_t *layout,
                                                      gdncp_layout_t **bare_p);

/** Free a layout; NULL does nothing. Plans and layers made from it keep what they need. */
GDNCP_API void gdncp_layout_destroy(gdncp_layout_t *layout);

GDNCP_API gdncp_layout_kind_t gdncp_layout_kind(const gdncp_layout_t *layout);
GDNCP_API int gdncp_layout_num_ranks(const gdncp_layout_t *layout);
GDNCP_API int64_t gdncp_layout_num_sequences(const gdncp_layout_t *layout);
/** With padding. */
GDNCP_API int64_t gdncp_layout_num_tokens(const gdncp_layout_t *layout);
/** With those of padding. */
GDNCP_API int64_t gdncp_layout_num_segments(const gdncp_layout_t *layout);

/** [num_sequences + 1] of the sequences without padding; owned by the layout. */
GDNCP_API const int64_t *gdncp_layout_cu_seqlens(const gdncp_layout_t *layout);

/** [num_sequences + 1] of their slots in the pack: equal to cu_seqlens where there is no padding.
 * Owned by the layout. */
GDNCP_API const int64_t *gdncp_layout_cu_seqlens_padded(const gdncp_layout_t *layout);

/** Whether any token of the pack is padding. */
GDNCP_API bool gdncp_layout_has_padding(const gdncp_layout_t *layout);

/** Tokens that @p rank holds, with padding. 0 for a rank outside the layout. */
GDNCP_API int64_t gdncp_layout_rank_tokens(const gdncp_layout_t *layout, int rank);

/**
 * All segments, ordered by rank, then by local_offset. Owned by the layout.
 * A rank's segments tile its token buffer without gaps.
 */
GDNCP_API const gdncp_segment_t *gdncp_layout_segments(const gdncp_layout_t *layout);

/**
 * The segments of one rank, in the order of its token buffer.
 * @param count_p  set to their number
 * @return a pointer into gdncp_layout_segments(); NULL with *count_p = 0 for a bad rank.
 */
GDNCP_API const gdncp_segment_t *gdncp_layout_rank_segments(const gdncp_layout_t *layout, int rank,
                                                            int64_t *count_p);

/**
 * The segments of one sequence in sequence order: a chain. Segment chain[i+1] begins where
 * chain[i] ends; the neighbours of a segment are beside it. Its padding is not in it.
 * @param count_p  set to their number (0 for a zero-length sequence)
 * @return indices into gdncp_layout_segments(), owned by the layout; NULL for a bad sequence.
 */
GDNCP_API const int64_t *gdncp_layout_sequence_chain(const gdncp_layout_t *layout, int64_t sequence,
                                                     int64_t *count_p);

/**
 * The segments of one sequence's slot in its order: those of gdncp_layout_sequence_chain(), then
 * those of its padding.
 * @param count_p  set to their number
 * @return as gdncp_layout_sequence_chain()
 */
GDNCP_API const int64_t *gdncp_layout_slot_chain(const gdncp_layout_t *layout, int64_t sequence,
                                                 int64_t *count_p);

/**
 * Who holds one token, and where.
 * @param position       counted inside the slot of @p sequence, of whose padding it may be
 * @param rank_p         set to the holder
 * @param local_index_p  set to the token's index in the holder's buffer
 */
GDNCP_API gdncp_status_t gdncp_layout_find(const gdncp_layout_t *layout, int64_t sequence,
                                           int64_t position, int *rank_p, int64_t *local_index_p);

/**
 * The pack position of every token of a rank, padding or not, in the order of its buffer.
 * @param positions  [gdncp_layout_rank_tokens()] written in full
 */
GDNCP_API gdncp_status_t gdncp_layout_rank_positions(const gdncp_layout_t *layout, int rank,
                                                     int64_t *positions);

/**
 * A hash of the number of ranks, both lists and the segments. Layouts that put the same tokens in
 * the same places have equal hashes, on any machine and whatever kind made them.
 */
GDNCP_API uint64_t gdncp_layout_hash(const gdncp_layout_t *layout);

/** "contiguous", "dual_chunk_swap_flat", …; "?" for a value outside the enum. */
GDNCP_API const char *gdncp_layout_kind_name(gdncp_layout_kind_t kind);

/** The kind with that name. The error lists the names there are. */
GDNCP_API gdncp_status_t gdncp_layout_kind_from_name(const char *name, gdncp_layout_kind_t *kind_p);

GDNCP_END_DECLS

#endif
