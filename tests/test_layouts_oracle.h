/* Where tokens belong, found by placing token after token. To be included after cmocka.h. */
#ifndef GDNCP_TEST_LAYOUTS_ORACLE_H
#define GDNCP_TEST_LAYOUTS_ORACLE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "gdncp/layout.h"
#include "support/random.h"

enum { MAX_SEQUENCES = 9 };

static const gdncp_layout_kind_t named_kinds[] = {
    GDNCP_LAYOUT_CONTIGUOUS,           GDNCP_LAYOUT_CONTIGUOUS_FLAT, GDNCP_LAYOUT_DUAL_CHUNK_SWAP,
    GDNCP_LAYOUT_DUAL_CHUNK_SWAP_FLAT, GDNCP_LAYOUT_STRIPED,         GDNCP_LAYOUT_STRIPED_FLAT,
};

enum { NUM_NAMED_KINDS = sizeof named_kinds / sizeof named_kinds[0] };

typedef struct pack {
    int64_t slots[MAX_SEQUENCES + 1];      /* where sequences lie with their padding */
    int64_t cu_seqlens[MAX_SEQUENCES + 1]; /* equal to slots where there is none */
    int64_t num_sequences;
    int num_ranks;
    int64_t stripe; /* of striped kinds; 0: 1 */
} pack_t;

/* Where every token should be, and the same as lists of positions. */
typedef struct placement {
    int64_t num_tokens;
    int *ranks;             /* [tokens] */
    int64_t *local_indices; /* [tokens] */
    int64_t *positions;     /* [tokens] rank after rank */
    int64_t *rank_tokens;   /* [num_ranks] */
} placement_t;

static inline int64_t num_tokens(const pack_t *pack)
{
    return pack->slots[pack->num_sequences];
}

static inline int64_t sequence_of(const pack_t *pack, int64_t token)
{
    int64_t sequence = 0;

    while (token >= pack->slots[sequence + 1]) {
        sequence++;
    }
    return sequence;
}

static inline int64_t sequence_length(const pack_t *pack, int64_t sequence)
{
    return pack->cu_seqlens[sequence + 1] - pack->cu_seqlens[sequence];
}

static inline bool is_padding(const pack_t *pack, int64_t token)
{
    const int64_t sequence = sequence_of(pack, token);

    return token - pack->slots[sequence] >= sequence_length(pack, sequence);
}

static inline bool has_padding(const pack_t *pack)
{
    return pack->cu_seqlens[pack->num_sequences] < num_tokens(pack);
}

/* In every other pack slots keep some of their tokens, or none, or all. */
static inline void pad(test_random_t *random, pack_t *pack)
{
    const bool keep_all = test_random_int(random, 0, 1) == 0;

    for (int64_t i = 0; i < pack->num_sequences; i++) {
        const int64_t slot = pack->slots[i + 1] - pack->slots[i];
        const int64_t choice = keep_all ? 0 : test_random_int(random, 0, 3);
        const int64_t length = choice == 0   ? slot
                               : choice == 1 ? 0
                                             : test_random_int(random, 0, slot);

        pack->cu_seqlens[i + 1] = pack->cu_seqlens[i] + length;
    }
}

/* Zero-length and one-token slots are frequent; multiple > 1 makes every length a multiple. */
static inline pack_t random_pack(test_random_t *random, int num_ranks, int64_t multiple)
{
    pack_t pack = {.num_ranks = num_ranks, .num_sequences = test_random_int(random, 1, 8)};

    for (int64_t i = 0; i < pack.num_sequences; i++) {
        const int64_t choice = test_random_int(random, 0, 4);
        const int64_t length = choice == 0 ? 0 : choice == 1 ? 1 : test_random_int(random, 1, 70);

        pack.slots[i + 1] = pack.slots[i] + length * multiple;
    }
    if (num_tokens(&pack) < num_ranks) {
        pack.num_sequences++;
        pack.slots[pack.num_sequences] = pack.slots[pack.num_sequences - 1] + num_ranks * multiple;
    }
    pad(random, &pack);
    return pack;
}

static inline placement_t start_placement(const pack_t *pack)
{
    const int64_t tokens = num_tokens(pack);
    placement_t placement = {.num_tokens = tokens};

    placement.ranks = calloc((size_t)tokens, sizeof *placement.ranks);
    placement.local_indices = calloc((size_t)tokens, sizeof *placement.local_indices);
    placement.positions = calloc((size_t)tokens, sizeof *placement.positions);
    placement.rank_tokens = calloc((size_t)pack->num_ranks, sizeof *placement.rank_tokens);
    assert_non_null(placement.ranks);
    assert_non_null(placement.local_indices);
    assert_non_null(placement.positions);
    assert_non_null(placement.rank_tokens);
    return placement;
}

static inline void free_placement(placement_t *placement)
{
    free(placement->ranks);
    free(placement->local_indices);
    free(placement->positions);
    free(placement->rank_tokens);
}

/* The part p with floor(p*length/num_parts) <= position < floor((p+1)*length/num_parts). */
static inline int64_t part_of(int64_t position, int64_t length, int64_t num_parts)
{
    int64_t part = 0;

    while ((part + 1) * length / num_parts <= position) {
        part++;
    }
    return part;
}

static inline int holder(const pack_t *pack, gdncp_layout_kind_t kind, int64_t token)
{
    const int64_t sequence = sequence_of(pack, token);
    const int64_t begin = pack->slots[sequence];
    const int64_t length = pack->slots[sequence + 1] - begin;
    const int64_t n = pack->num_ranks;
    const int64_t stripe = pack->stripe > 0 ? pack->stripe : 1;
    int64_t part = 0;

    switch (kind) {
    case GDNCP_LAYOUT_CONTIGUOUS:
        return (int)part_of(token - begin, length, n);
    case GDNCP_LAYOUT_CONTIGUOUS_FLAT:
        return (int)part_of(token, num_tokens(pack), n);
    case GDNCP_LAYOUT_DUAL_CHUNK_SWAP:
        part = (token - begin) / (length / (2 * n));
        break;
    case GDNCP_LAYOUT_DUAL_CHUNK_SWAP_FLAT:
        part = part_of(token, num_tokens(pack), 2 * n);
        break;
    case GDNCP_LAYOUT_STRIPED:
        return (int)((token - begin) / stripe % n);
    case GDNCP_LAYOUT_STRIPED_FLAT:
        return (int)(token / stripe % n);
    case GDNCP_LAYOUT_FROM_POSITIONS:
        fail();
    }
    return (int)(part < n ? part : 2 * n - 1 - part);
}

/* Ranks hold their tokens in the order of the pack; ranks[] is set. */
static inline void place_in_pack_order(placement_t *placement, int num_ranks)
{
    int64_t first = 0;

    for (int64_t t = 0; t < placement->num_tokens; t++) {
        placement->local_indices[t] = placement->rank_tokens[placement->ranks[t]]++;
    }
    for (int rank = 0; rank < num_ranks; rank++) {
        for (int64_t t = 0; t < placement->num_tokens; t++) {
            if (placement->ranks[t] == rank) {
                placement->positions[first + placement->local_indices[t]] = t;
            }
        }
        first += placement->rank_tokens[rank];
    }
}

static inline placement_t place_by_kind(const pack_t *pack, gdncp_layout_kind_t kind)
{
    placement_t placement = start_placement(pack);

    for (int64_t t = 0; t < placement.num_tokens; t++) {
        placement.ranks[t] = holder(pack, kind, t);
    }
    place_in_pack_order(&placement, pack->num_ranks);
    return placement;
}

/* Runs of random length in random order, dealt out to the ranks at random borders. */
static inline placement_t place_at_random(test_random_t *random, const pack_t *pack)
{
    placement_t placement = start_placement(pack);
    const int64_t tokens = placement.num_tokens;
    const int64_t longest_run = test_random_int(random, 1, tokens);
    int64_t *const starts = calloc((size_t)tokens + 1, sizeof *starts);
    int64_t num_runs = 0;
    int64_t filled = 0;
    int64_t index = 0;

    assert_non_null(starts);
    for (int64_t t = 0; t < tokens; t += test_random_int(random, 1, longest_run)) {
        starts[num_runs++] = t;
    }
    int64_t *const order = calloc((size_t)num_runs, sizeof *order);

    assert_non_null(order);
    starts[num_runs] = tokens;
    for (int64_t i = 0; i < num_runs; i++) {
        const int64_t j = test_random_int(random, 0, i);

        order[i] = order[j];
        order[j] = i;
    }
    for (int64_t i = 0; i < num_runs; i++) {
        for (int64_t t = starts[order[i]]; t < starts[order[i] + 1]; t++) {
            placement.positions[filled++] = t;
        }
    }
    for (int64_t i = 0; i < tokens; i++) {
        placement.rank_tokens[test_random_int(random, 0, pack->num_ranks - 1)]++;
    }
    for (int rank = 0; rank < pack->num_ranks; rank++) {
        for (int64_t i = 0; i < placement.rank_tokens[rank]; i++, index++) {
            placement.ranks[placement.positions[index]] = rank;
            placement.local_indices[placement.positions[index]] = i;
        }
    }
    free(order);
    free(starts);
    return placement;
}

#endif
