/**
 * @file
 * Where a token is, computed on the fly: the index maps of the kinds that cut by themselves, as
 * inline functions for hosts and, where nvcc compiles them, for devices.
 *
 * They allocate nothing, check nothing and need no layout, only the offsets of the pack. For every
 * token they answer what gdncp_layout_find() and gdncp_layout_rank_positions() do for a layout made
 * by gdncp_layout_create() or gdncp_layout_striped() from the same arguments.
 *
 * A lookup is a binary search among the pack's sequences and a few divisions; kinds that end in
 * _flat need no search. It is linear in the number of sequences only where lengths do not divide
 * by the ranks (gdncp_cut_t::divides).
 */
#ifndef GDNCP_LAYOUT_INLINE_H
#define GDNCP_LAYOUT_INLINE_H

#include <stdbool.h>
#include <stdint.h>

#include "layout.h"

/** What the functions of this header are declared with. */
#if defined(__CUDACC__)
#define GDNCP_INLINE static inline __host__ __device__
#else
#define GDNCP_INLINE static inline
#endif

/* ------------------------------------------------------------- a range in parts */

/** floor(part * length / num_parts): where a part begins. 0 <= part <= num_parts < 2^32. */
GDNCP_INLINE int64_t gdncp_part_border(int64_t length, int64_t num_parts, int64_t part)
{
    /* The plain product may be too long for 64 bits; remainder times part is not. */
    const uint64_t remainder = (uint64_t)(length % num_parts);

    return length / num_parts * part + (int64_t)(remainder * (uint64_t)part / (uint64_t)num_parts);
}

/** The part that holds a position, 0 <= position < length: it begins there or before, and ends
 * after it. Where there are fewer positions than parts, some hold none. */
GDNCP_INLINE int64_t gdncp_part_of_position(int64_t length, int64_t num_parts, int64_t position)
{
    const uint64_t parts = (uint64_t)num_parts;
    int64_t low = 0;
    int64_t high = num_parts;

    if ((uint64_t)position < UINT64_MAX / parts) {
        return (int64_t)((((uint64_t)position + 1) * parts - 1) / (uint64_t)length);
    }
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;

        if (gdncp_part_border(length, num_parts, middle) <= position) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

/** The sequence that holds a position of the pack: the last one that starts at it or before. */
GDNCP_INLINE int64_t gdncp_sequence_of_position(const int64_t *cu_seqlens, int64_t num_sequences,
                                                int64_t position)
{
    int64_t low = 0;
    int64_t high = num_sequences;

    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;

        if (cu_seqlens[middle] <= position) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

/* ------------------------------------------------------------- a pack */

/** How a pack is cut. Make it with gdncp_cut_of(); a copy with a device's cu_seqlens serves there.
 */
typedef struct gdncp_cut {
    gdncp_layout_kind_t kind;  /**< any but from_positions */
    bool divides;              /**< local tokens of sequence i begin at cu_seqlens[i] / num_ranks */
    int num_ranks;             /**< > 0 */
    int64_t num_sequences;     /**< > 0 */
    int64_t stripe;            /**< tokens of a stripe, > 0; of no meaning for other kinds */
    const int64_t *cu_seqlens; /**< [num_sequences + 1], where the functions run; not copied */
} gdncp_cut_t;

/**
 * Describe a pack's cut, on the host.
 *
 * The arguments are those of gdncp_layout_create(), which checks them: lengths must be multiples of
 * 2 * num_ranks for dual_chunk_swap, too.
 *
 * @param cu_seqlens  [num_sequences + 1] in host memory; read here, and by the functions below
 * @param stripe      tokens of a stripe, > 0; 1 for kinds without stripes
 */
static inline gdncp_cut_t gdncp_cut_of(gdncp_layout_kind_t kind, const int64_t *cu_seqlens,
                                       int64_t num_sequences, int num_ranks, int64_t stripe)
{
    gdncp_cut_t cut;

    cut.kind = kind;
    cut.divides = true;
    cut.num_ranks = num_ranks;
    cut.num_sequences = num_sequences;
    cut.stripe = stripe;
    cut.cu_seqlens = cu_seqlens;
    for (int64_t i = 1; i <= num_sequences && cut.divides; i++) {
        /* Whole stripes, and as many on each rank. */
        cut.divides = kind == GDNCP_LAYOUT_STRIPED
                          ? cu_seqlens[i] % stripe == 0 && cu_seqlens[i] / stripe % num_ranks == 0
                          : cu_seqlens[i] % num_ranks == 0;
    }
    return cut;
}

/** Whether the pack is cut, and not each sequence by itself. */
GDNCP_INLINE bool gdncp_cut_is_flat(const gdncp_cut_t *cut)
{
    return cut->kind == GDNCP_LAYOUT_CONTIGUOUS_FLAT ||
           cut->kind == GDNCP_LAYOUT_DUAL_CHUNK_SWAP_FLAT || cut->kind == GDNCP_LAYOUT_STRIPED_FLAT;
}

GDNCP_INLINE bool gdncp_cut_has_stripes(const gdncp_cut_t *cut)
{
    return cut->kind == GDNCP_LAYOUT_STRIPED || cut->kind == GDNCP_LAYOUT_STRIPED_FLAT;
}

GDNCP_INLINE bool gdncp_cut_has_dual_chunks(const gdncp_cut_t *cut)
{
    return cut->kind == GDNCP_LAYOUT_DUAL_CHUNK_SWAP ||
           cut->kind == GDNCP_LAYOUT_DUAL_CHUNK_SWAP_FLAT;
}

/* What is cut, a sequence or the pack, is a range of length tokens. */

/** Tokens of a part of a range. */
GDNCP_INLINE int64_t gdncp_part_tokens(int64_t length, int64_t num_parts, int64_t part)
{
    return gdncp_part_border(length, num_parts, part + 1) -
           gdncp_part_border(length, num_parts, part);
}

/** Tokens that a rank holds of a range. */
GDNCP_INLINE int64_t gdncp_cut_range_tokens(const gdncp_cut_t *cut, int64_t length, int rank)
{
    const int64_t n = cut->num_ranks;

    if (gdncp_cut_has_stripes(cut)) {
        const int64_t stripes = length / cut->stripe;
        const int64_t left = stripes % n;

        return stripes / n * cut->stripe +
               (rank < left ? cut->stripe : (rank == left ? length % cut->stripe : 0));
    }
    if (gdncp_cut_has_dual_chunks(cut)) {
        return gdncp_part_tokens(length, 2 * n, rank) +
               gdncp_part_tokens(length, 2 * n, 2 * n - 1 - rank);
    }
    return gdncp_part_tokens(length, n, rank);
}

/** Who holds a position of a range, and as which of its tokens of that range. */
GDNCP_INLINE void gdncp_cut_locate_in_range(const gdncp_cut_t *cut, int64_t length,
                                            int64_t position, int *rank_p, int64_t *local_p)
{
    const int64_t n = cut->num_ranks;
    int64_t part;

    if (gdncp_cut_has_stripes(cut)) {
        const int64_t number = position / cut->stripe;

        *rank_p = (int)(number % n);
        *local_p = number / n * cut->stripe + position % cut->stripe;
    } else if (gdncp_cut_has_dual_chunks(cut)) {
        part = gdncp_part_of_position(length, 2 * n, position);
        *rank_p = (int)(part < n ? part : 2 * n - 1 - part);
        *local_p = position - gdncp_part_border(length, 2 * n, part) +
                   (part < n ? 0 : gdncp_part_tokens(length, 2 * n, *rank_p));
    } else {
        part = gdncp_part_of_position(length, n, position);
        *rank_p = (int)part;
        *local_p = position - gdncp_part_border(length, n, part);
    }
}

/** The position in a range of one of the tokens that a rank holds of it. */
GDNCP_INLINE int64_t gdncp_cut_position_in_range(const gdncp_cut_t *cut, int64_t length, int rank,
                                                 int64_t local)
{
    const int64_t n = cut->num_ranks;

    if (gdncp_cut_has_stripes(cut)) {
        return (local / cut->stripe * n + rank) * cut->stripe + local % cut->stripe;
    }
    if (gdncp_cut_has_dual_chunks(cut)) {
        const int64_t first = gdncp_part_tokens(length, 2 * n, rank);

        return local < first ? gdncp_part_border(length, 2 * n, rank) + local
                             : gdncp_part_border(length, 2 * n, 2 * n - 1 - rank) + (local - first);
    }
    return gdncp_part_border(length, n, rank) + local;
}

/** Where a rank's tokens of a sequence begin in its buffer; not for kinds that end in _flat. */
GDNCP_INLINE int64_t gdncp_cut_local_start(const gdncp_cut_t *cut, int64_t sequence, int rank)
{
    int64_t start = 0;

    if (cut->divides) {
        return cut->cu_seqlens[sequence] / cut->num_ranks;
    }
    for (int64_t i = 0; i < sequence; i++) {
        start += gdncp_cut_range_tokens(cut, cut->cu_seqlens[i + 1] - cut->cu_seqlens[i], rank);
    }
    return start;
}

/** Tokens that a rank holds of the pack. */
GDNCP_INLINE int64_t gdncp_cut_rank_tokens(const gdncp_cut_t *cut, int rank)
{
    return gdncp_cut_is_flat(cut)
               ? gdncp_cut_range_tokens(cut, cut->cu_seqlens[cut->num_sequences], rank)
               : gdncp_cut_local_start(cut, cut->num_sequences, rank);
}

/**
 * Who holds a position of the pack, and where.
 * @param position  0 <= position < tokens of the pack
 * @param rank_p    set to the holder
 * @param local_p   set to the token's index in the holder's buffer
 */
GDNCP_INLINE void gdncp_cut_locate(const gdncp_cut_t *cut, int64_t position, int *rank_p,
                                   int64_t *local_p)
{
    const int64_t *const cu_seqlens = cut->cu_seqlens;
    int64_t sequence;

    if (gdncp_cut_is_flat(cut)) {
        gdncp_cut_locate_in_range(cut, cu_seqlens[cut->num_sequences], position, rank_p, local_p);
        return;
    }
    sequence = gdncp_sequence_of_position(cu_seqlens, cut->num_sequences, position);
    gdncp_cut_locate_in_range(cut, cu_seqlens[sequence + 1] - cu_seqlens[sequence],
                              position - cu_seqlens[sequence], rank_p, local_p);
    *local_p += gdncp_cut_local_start(cut, sequence, *rank_p);
}

/**
 * The pack position of a token of a rank: the inverse of gdncp_cut_locate().
 * @param local  0 <= local < gdncp_cut_rank_tokens(cut, rank)
 */
GDNCP_INLINE int64_t gdncp_cut_position(const gdncp_cut_t *cut, int rank, int64_t local)
{
    const int64_t *const cu_seqlens = cut->cu_seqlens;
    int64_t sequence = 0;
    int64_t length;

    if (gdncp_cut_is_flat(cut)) {
        return gdncp_cut_position_in_range(cut, cu_seqlens[cut->num_sequences], rank, local);
    }
    if (cut->divides) {
        sequence =
            gdncp_sequence_of_position(cu_seqlens, cut->num_sequences, local * cut->num_ranks);
        local -= cu_seqlens[sequence] / cut->num_ranks;
        length = cu_seqlens[sequence + 1] - cu_seqlens[sequence];
    } else {
        for (;;) {
            int64_t tokens;

            length = cu_seqlens[sequence + 1] - cu_seqlens[sequence];
            tokens = gdncp_cut_range_tokens(cut, length, rank);
            if (local < tokens) {
                break;
            }
            local -= tokens;
            sequence++;
        }
    }
    return cu_seqlens[sequence] + gdncp_cut_position_in_range(cut, length, rank, local);
}

#endif
