/*
 * Which chunks a block walks over: the part of one sequence that lies in a window, or a piece of
 * that.
 *
 * Pieces are what borders, `length` slots apart from the window's start, cut sequences into. Where
 * f_i is the slot, in the window, that its sequence i starts with, that has the pieces from number
 * f_i / length + i on: like slots, pieces are numbered with gaps and found without a table. What is
 * kept of pieces is kept by borders, each of which cuts at most one sequence.
 */
#ifndef GDNCP_DELTA_RULE_SPANS_CUDA_H
#define GDNCP_DELTA_RULE_SPANS_CUDA_H

#include "delta_rule_cuda.h"

namespace GDNCP_KERNELS
{

/* A window, the sequences that may have chunks in it, and how long pieces are. */
struct window_pieces {
    int64_t first; /* slot */
    int64_t count; /* of slots */
    int64_t first_sequence;
    int64_t num_sequences;
    int64_t length; /* slots of a piece, > 0; no less than count: sequences are not cut */
};

/* Borders inside a window; with the sequences that is how many pieces it may have. */
inline int64_t num_borders(const window_pieces &pieces)
{
    return (pieces.count - 1) / pieces.length;
}

struct walk_span {
    int64_t sequence;
    int64_t index;       /* of the border that ends the piece; of the sequence among selected */
    int64_t first_token; /* of the sequence */
    int64_t end_token;
    int64_t first_slot; /* of the sequence, in the pack */
    int64_t begin;      /* slots to walk over; none: the block has nothing to do */
    int64_t end;
    bool is_first; /* the window has no piece of the sequence before this one */
    bool is_last;
    bool begins; /* the sequence, in this window */
    bool ends;
};

GDNCP_FN rule_chunk chunk_at(const walk_span &span, int64_t slot)
{
    const int64_t index = slot - span.first_slot;
    const int64_t begin = span.first_token + index * CHUNK;
    const int64_t left = span.end_token - begin;

    return {span.sequence, index, begin, (int)(left < CHUNK ? left : CHUNK)};
}

/* All of a sequence that lies in the window. */
GDNCP_FN walk_span span_of_sequence(const rule_pack &pack, int64_t first, int64_t count,
                                    int64_t sequence, int64_t index)
{
    const int64_t first_token = pack.cu_seqlens[sequence];
    const int64_t end_token = pack.cu_seqlens[sequence + 1];
    const int64_t length = end_token - first_token;
    walk_span span;

    span.sequence = sequence;
    span.index = index;
    span.first_token = first_token;
    span.end_token = end_token;
    span.first_slot = first_slot(pack, sequence);
    /* An empty sequence passes its state on in the window that its slot is in. */
    const int64_t end_slot = span.first_slot + (length > CHUNK ? (length + CHUNK - 1) / CHUNK : 1);

    span.begins = span.first_slot >= first;
    span.ends = end_slot <= first + count;
    span.begin = span.begins ? span.first_slot : first;
    span.end = span.ends ? end_slot : first + count;
    span.is_first = true;
    span.is_last = true;
    return span;
}

/* The number of the first piece of the window's sequence i. */
GDNCP_FN int64_t first_piece(const rule_pack &pack, const window_pieces &pieces, int64_t i)
{
    const int64_t slot = first_slot(pack, pieces.first_sequence + i) - pieces.first;

    return (slot < 0 ? 0 : slot) / pieces.length + i;
}

GDNCP_FN walk_span span_of_piece(const rule_pack &pack, const window_pieces &pieces, int64_t piece)
{
    int64_t low = 0; /* the last sequence whose first piece is not beyond this */
    int64_t high = pieces.num_sequences;

    while (high - low > 1) {
        const int64_t middle = (low + high) / 2;

        if (first_piece(pack, pieces, middle) <= piece) {
            low = middle;
        } else {
            high = middle;
        }
    }
    const int64_t border =
        piece - low; /* that the piece ends at, if it is not its sequence's last */
    const int64_t begin = pieces.first + border * pieces.length;
    const int64_t end = begin + pieces.length;
    walk_span span =
        span_of_sequence(pack, pieces.first, pieces.count, pieces.first_sequence + low, border);

    span.is_first = span.begin >= begin;
    span.is_last = span.end <= end;
    span.begin = span.is_first ? span.begin : begin;
    span.end = span.is_last ? span.end : end;
    return span;
}

/* The states that pieces start from, [.., Hv, dk, dv]. */
struct state_starts {
    const float *initial;  /* of sequences; NULL: zeros */
    const float *borders;  /* at borders */
    const float *carry_in; /* of the sequence that began before the window, [Hv, dk, dv] */
    int64_t num_heads;
    int64_t size; /* dk dv */
    bool across;  /* those that the caller gives or gets are [.., Hv, dv, dk] */

    GDNCP_FN const float *of(const walk_span &span, int head) const
    {
        if (!span.is_first) {
            return borders + ((span.index - 1) * num_heads + head) * size;
        }
        if (!span.begins) {
            return carry_in + head * size;
        }
        return initial != nullptr ? initial + (span.sequence * num_heads + head) * size : nullptr;
    }

    GDNCP_FN bool is_across(const walk_span &span) const
    {
        return across && span.is_first && span.begins;
    }
};

} /* namespace GDNCP_KERNELS */

#endif
