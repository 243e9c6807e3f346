/*
 * Cutting the borders of all chains into equal pieces, one a rank.
 *
 * A chain of n segments has n - 1 borders; that between segments c and c+1 is computed by
 * the owner of segment c, and segment n-1 goes with segment n-2. The borders of all
 * (sequence, head) chains in order form one list of B; piece p of N holds the borders j with
 * floor(jN/B) = p. Chains of two segments need no product of states: the state goes straight
 * from the first segment's holder to the second's, so that holder owns both.
 *
 * Pieces are given to ranks by a matching in which, wherever possible, each rank holds a segment
 * of its own piece: that segment's (M, U) then is not sent.
 */
#include "relay_owners.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"

struct gdncp_relay_owners {
    const gdncp_layout_t *layout;
    int64_t heads;
    int64_t num_borders;   /* B */
    int64_t *first_border; /* [sequences + 1] of its head 0; equal to the next where n < 3 */
    int *rank_of_piece;    /* [ranks] */
    int *piece_of_rank;    /* [ranks] the inverse */
};

/* What one call of find_augmenting_path() needs. */
typedef struct matching {
    const gdncp_relay_owners_t *owners;
    int *piece_of_rank; /* -1: free */
    bool *visited;      /* [ranks] */
} matching_t;

static int64_t min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t chain_length(const gdncp_layout_t *layout, int64_t sequence)
{
    int64_t length = 0;

    gdncp_layout_sequence_chain(layout, sequence, &length);
    return length;
}

static int holder(const gdncp_layout_t *layout, int64_t sequence, int64_t segment)
{
    int64_t length = 0;
    const int64_t *const chain = gdncp_layout_sequence_chain(layout, sequence, &length);

    return gdncp_layout_segments(layout)[chain[segment]].rank;
}

static int64_t piece_of_border(const gdncp_relay_owners_t *owners, int64_t border)
{
    return border * gdncp_layout_num_ranks(owners->layout) / owners->num_borders;
}

/* First border of piece p, and of piece p + 1 for its end: the smallest j with floor(jN/B) >= p. */
static int64_t piece_start(const gdncp_relay_owners_t *owners, int64_t piece)
{
    const int64_t ranks = gdncp_layout_num_ranks(owners->layout);

    return (piece * owners->num_borders + ranks - 1) / ranks;
}

/* The sequence that a border belongs to, by bisection. */
static int64_t sequence_of_border(const gdncp_relay_owners_t *owners, int64_t border)
{
    int64_t low = 0;
    int64_t high = gdncp_layout_num_sequences(owners->layout);

    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;

        if (owners->first_border[middle] <= border) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

/* The holders of the segments of a piece. Heads of a sequence have the same ones, so as many
 * borders of it as one head has are enough. */
typedef struct holders {
    const gdncp_relay_owners_t *owners;
    int64_t border; /* the next */
    int64_t end;
    const gdncp_segment_t *segments;
    const int64_t *chain; /* of the border's sequence */
    int64_t borders;      /* of one head of it */
    int64_t segment;
    int64_t left; /* borders of the sequence still to come */
} holders_t;

static holders_t holders_of_piece(const gdncp_relay_owners_t *owners, int piece)
{
    return (holders_t){.owners = owners,
                       .border = piece_start(owners, piece),
                       .end = piece_start(owners, piece + 1),
                       .segments = gdncp_layout_segments(owners->layout)};
}

/* The next holder, of which there may be several borders; -1 after the last. */
static int next_holder(holders_t *holders)
{
    const gdncp_relay_owners_t *const owners = holders->owners;

    if (holders->border >= holders->end) {
        return -1;
    }
    if (holders->left == 0) {
        const int64_t sequence = sequence_of_border(owners, holders->border);
        const int64_t end = min_i64(owners->first_border[sequence + 1], holders->end);
        int64_t length = 0;

        holders->chain = gdncp_layout_sequence_chain(owners->layout, sequence, &length);
        holders->borders = length - 1;
        holders->segment = (holders->border - owners->first_border[sequence]) % holders->borders;
        holders->left = min_i64(holders->borders, end - holders->border);
        /* The next sequence's first, from here on. */
        holders->border = end - holders->left;
    }
    const int rank = holders->segments[holders->chain[holders->segment]].rank;

    holders->segment = holders->segment + 1 < holders->borders ? holders->segment + 1 : 0;
    holders->border++;
    holders->left--;
    return rank;
}

/* Kuhn's algorithm: give the piece a rank that holds one of its segments: a free one, or one whose
 * piece can have another. The depth of the recursion is at most the number of ranks. */
static bool find_augmenting_path(matching_t *matching, int piece)
{
    holders_t holders = holders_of_piece(matching->owners, piece);
    int rank;

    while ((rank = next_holder(&holders)) >= 0) {
        if (matching->piece_of_rank[rank] < 0) {
            matching->piece_of_rank[rank] = piece;
            return true;
        }
    }
    holders = holders_of_piece(matching->owners, piece);
    while ((rank = next_holder(&holders)) >= 0) {
        if (matching->visited[rank]) {
            continue;
        }
        matching->visited[rank] = true;
        if (find_augmenting_path(matching, matching->piece_of_rank[rank])) {
            matching->piece_of_rank[rank] = piece;
            return true;
        }
    }
    return false;
}

static gdncp_status_t match_pieces_to_ranks(gdncp_relay_owners_t *owners)
{
    const int ranks = gdncp_layout_num_ranks(owners->layout);
    matching_t matching = {
        .owners = owners,
        .piece_of_rank = malloc((size_t)ranks * sizeof(int)),
        .visited = malloc((size_t)ranks * sizeof(bool)),
    };
    gdncp_status_t status = GDNCP_OK;

    if (matching.piece_of_rank == NULL || matching.visited == NULL) {
        status = gdncp_fail_memory("owners of the state relay");
        goto free_matching;
    }
    for (int i = 0; i < ranks; i++) {
        matching.piece_of_rank[i] = -1;
        owners->rank_of_piece[i] = -1;
    }
    for (int piece = 0; piece < ranks; piece++) {
        memset(matching.visited, 0, (size_t)ranks * sizeof(bool));
        find_augmenting_path(&matching, piece);
    }
    for (int rank = 0; rank < ranks; rank++) {
        if (matching.piece_of_rank[rank] >= 0) {
            owners->rank_of_piece[matching.piece_of_rank[rank]] = rank;
        }
    }
    int free_rank = 0;
    for (int piece = 0; piece < ranks; piece++) {
        if (owners->rank_of_piece[piece] >= 0) {
            continue;
        }
        while (matching.piece_of_rank[free_rank] >= 0) {
            free_rank++;
        }
        matching.piece_of_rank[free_rank] = piece;
        owners->rank_of_piece[piece] = free_rank;
    }
    memcpy(owners->piece_of_rank, matching.piece_of_rank, (size_t)ranks * sizeof(int));

free_matching:
    free(matching.piece_of_rank);
    free(matching.visited);
    return status;
}

gdncp_status_t gdncp_relay_owners_create(const gdncp_layout_t *layout, int64_t heads,
                                         gdncp_relay_owners_t **owners_p)
{
    const int64_t sequences = gdncp_layout_num_sequences(layout);
    gdncp_relay_owners_t *const owners = calloc(1, sizeof *owners);
    gdncp_status_t status;

    if (owners == NULL) {
        return gdncp_fail_memory("owners of the state relay");
    }
    *owners = (gdncp_relay_owners_t){
        .layout = layout,
        .heads = heads,
        .first_border = malloc((size_t)(sequences + 1) * sizeof(int64_t)),
        .rank_of_piece = malloc((size_t)gdncp_layout_num_ranks(layout) * sizeof(int)),
        .piece_of_rank = malloc((size_t)gdncp_layout_num_ranks(layout) * sizeof(int)),
    };
    if (owners->first_border == NULL || owners->rank_of_piece == NULL ||
        owners->piece_of_rank == NULL) {
        status = gdncp_fail_memory("owners of the state relay");
        goto destroy_owners;
    }
    for (int64_t i = 0; i < sequences; i++) {
        const int64_t length = chain_length(layout, i);

        owners->first_border[i] = owners->num_borders;
        owners->num_borders += length >= 3 ? heads * (length - 1) : 0;
    }
    owners->first_border[sequences] = owners->num_borders;
    status = match_pieces_to_ranks(owners);
    if (status != GDNCP_OK) {
        goto destroy_owners;
    }
    *owners_p = owners;
    return GDNCP_OK;

destroy_owners:
    gdncp_relay_owners_destroy(owners);
    return status;
}

void gdncp_relay_owners_destroy(gdncp_relay_owners_t *owners)
{
    if (owners != NULL) {
        free(owners->first_border);
        free(owners->rank_of_piece);
        free(owners->piece_of_rank);
        free(owners);
    }
}

int gdncp_relay_owner(const gdncp_relay_owners_t *owners, int64_t sequence, int64_t head,
                      int64_t segment)
{
    const int64_t borders = chain_length(owners->layout, sequence) - 1;

    if (borders < 2) {
        return holder(owners->layout, sequence, 0);
    }
    const int64_t border =
        owners->first_border[sequence] + head * borders + min_i64(segment, borders - 1);

    return owners->rank_of_piece[piece_of_border(owners, border)];
}

void gdncp_relay_owned(const gdncp_relay_owners_t *owners, int64_t sequence, int64_t head, int rank,
                       int64_t *first_p, int64_t *end_p)
{
    const int64_t borders = chain_length(owners->layout, sequence) - 1;
    const int64_t piece = owners->piece_of_rank[rank];
    const int64_t base = owners->first_border[sequence] + head * borders;
    int64_t first;
    int64_t end;

    if (borders < 2) {
        *first_p = 0;
        *end_p = holder(owners->layout, sequence, 0) == rank ? borders + 1 : 0;
        return;
    }
    first = piece_start(owners, piece) - base;
    end = piece_start(owners, piece + 1) - base;
    *first_p = min_i64(first > 0 ? first : 0, borders);
    *end_p = min_i64(end > *first_p ? end : *first_p, borders);
    /* The last segment goes with the one before it. */
    *end_p += *end_p == borders && *first_p < *end_p;
}
