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

/* Kuhn's algorithm: give the piece a rank that holds one of its segments, moving pieces that have
 * one already. The depth of the recursion is at most the number of ranks. */
static bool find_augmenting_path(matching_t *matching, int piece)
{
    const gdncp_relay_owners_t *const owners = matching->owners;
    const int64_t end = piece_start(owners, piece + 1);

    for (int64_t border = piece_start(owners, piece); border < end; border++) {
        const int64_t sequence = sequence_of_border(owners, border);
        const int64_t borders = chain_length(owners->layout, sequence) - 1;
        const int rank =
            holder(owners->layout, sequence, (border - owners->first_border[sequence]) % borders);

        if (matching->visited[rank]) {
            continue;
        }
        matching->visited[rank] = true;
        if (matching->piece_of_rank[rank] < 0 ||
            find_augmenting_path(matching, matching->piece_of_rank[rank])) {
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
    };
    if (owners->first_border == NULL || owners->rank_of_piece == NULL) {
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
