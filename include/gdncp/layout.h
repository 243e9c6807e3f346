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
 * Layouts are pure index arithmetic: immutable once made, safe to share among
 * threads, and the same on every rank that makes them from the same arguments.
 */
#ifndef GDNCP_LAYOUT_H
#define GDNCP_LAYOUT_H

#include <stdint.h>

#include "export.h"
#include "status.h"

GDNCP_BEGIN_DECLS

/** A run of consecutive tokens of one sequence, all held by one rank, as long as it can be. */
typedef struct gdncp_segment {
    int64_t sequence;     /**< 0 <= sequence < number of sequences */
    int64_t begin;        /**< first token, counted inside the sequence */
    int64_t length;       /**< tokens, > 0 */
    int64_t local_offset; /**< index of the first token in the rank's token buffer */
    int rank;
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
     * that take positions or lengths. */
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

/** Free a layout; NULL does nothing. Plans and layers made from it keep what they need. */
GDNCP_API void gdncp_layout_destroy(gdncp_layout_t *layout);

GDNCP_API gdncp_layout_kind_t gdncp_layout_kind(const gdncp_layout_t *layout);
GDNCP_API int gdncp_layout_num_ranks(const gdncp_layout_t *layout);
GDNCP_API int64_t gdncp_layout_num_sequences(const gdncp_layout_t *layout);
GDNCP_API int64_t gdncp_layout_num_tokens(const gdncp_layout_t *layout);
GDNCP_API int64_t gdncp_layout_num_segments(const gdncp_layout_t *layout);

/** [num_sequences + 1]; owned by the layout. */
GDNCP_API const int64_t *gdncp_layout_cu_seqlens(const gdncp_layout_t *layout);

/** Tokens that @p rank holds. 0 for a rank outside the layout. */
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
 * chain[i] ends; the neighbours of a segment are beside it.
 * @param count_p  set to their number (0 for a zero-length sequence)
 * @return indices into gdncp_layout_segments(), owned by the layout; NULL for a bad sequence.
 */
GDNCP_API const int64_t *gdncp_layout_sequence_chain(const gdncp_layout_t *layout, int64_t sequence,
                                                     int64_t *count_p);

/**
 * Who holds one token, and where.
 * @param position       counted inside @p sequence
 * @param rank_p         set to the holder
 * @param local_index_p  set to the token's index in the holder's buffer
 */
GDNCP_API gdncp_status_t gdncp_layout_find(const gdncp_layout_t *layout, int64_t sequence,
                                           int64_t position, int *rank_p, int64_t *local_index_p);

/**
 * The pack position of every token of a rank, in the order of its buffer.
 * @param positions  [gdncp_layout_rank_tokens()] written in full
 */
GDNCP_API gdncp_status_t gdncp_layout_rank_positions(const gdncp_layout_t *layout, int rank,
                                                     int64_t *positions);

/**
 * A hash of the number of ranks, cu_seqlens and segments. Layouts that put the same tokens in the
 * same places have equal hashes, on any machine and whatever kind made them.
 */
GDNCP_API uint64_t gdncp_layout_hash(const gdncp_layout_t *layout);

/** "contiguous", "dual_chunk_swap_flat", …; "?" for a value outside the enum. */
GDNCP_API const char *gdncp_layout_kind_name(gdncp_layout_kind_t kind);

/** The kind with that name. The error lists the names there are. */
GDNCP_API gdncp_status_t gdncp_layout_kind_from_name(const char *name, gdncp_layout_kind_t *kind_p);

GDNCP_END_DECLS

#endif
