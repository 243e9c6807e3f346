/* Random packs, layouts and values for the tests of plans and exchanges. */
#ifndef GDNCP_TEST_COMM_PLAN_RANDOM_H
#define GDNCP_TEST_COMM_PLAN_RANDOM_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "gdncp/layout.h"
#include "gdncp/tensor.h"
#include "support/random.h"

enum { MAX_RANKS = 8, MAX_SEQUENCES = 5 };

static inline void *test_alloc(int64_t count, size_t size)
{
    void *const memory = malloc((size_t)count * size + 1);

    assert_non_null(memory);
    return memory;
}

typedef struct test_pack {
    int64_t cu_seqlens[MAX_SEQUENCES + 1];
    int64_t slots[MAX_SEQUENCES + 1]; /* cu_seqlens_padded */
    int64_t num_sequences;
    bool even; /* every slot is a multiple of 2N */
} test_pack_t;

static inline test_pack_t random_pack(test_random_t *random, int num_ranks)
{
    test_pack_t pack = {.num_sequences = test_random_int(random, 1, MAX_SEQUENCES),
                        .even = test_random_int(random, 0, 1) == 1};
    const bool is_padded = test_random_int(random, 0, 1) == 1;

    for (int64_t i = 0; i < pack.num_sequences; i++) {
        int64_t length = pack.even ? test_random_int(random, 0, 2) * 2 * num_ranks
                                   : test_random_int(random, 0, 14);

        if (i + 1 == pack.num_sequences && pack.slots[i] < num_ranks) {
            length += 2 * num_ranks;
        }
        pack.slots[i + 1] = pack.slots[i] + length;
        if (is_padded && test_random_int(random, 0, 3) > 0) {
            length = test_random_int(random, 0, length);
        }
        pack.cu_seqlens[i + 1] = pack.cu_seqlens[i] + length;
    }
    return pack;
}

/* Positions in shuffled runs of 1 to 5, dealt out unevenly. */
static inline gdncp_layout_t *layout_of_shuffled_runs(test_random_t *random,
                                                      const test_pack_t *pack, int num_ranks)
{
    const int64_t tokens = pack->slots[pack->num_sequences];
    int64_t *const begins = test_alloc(tokens + 1, sizeof *begins);
    int64_t *const lengths = test_alloc(tokens + 1, sizeof *lengths);
    int64_t *const positions = test_alloc(tokens, sizeof *positions);
    int64_t rank_tokens[MAX_RANKS] = {0};
    gdncp_layout_t *layout = NULL;
    int64_t num_runs = 0;
    int64_t count = 0;

    for (int64_t t = 0; t < tokens; t += lengths[num_runs - 1]) {
        const int64_t length = test_random_int(random, 1, 5);

        begins[num_runs] = t;
        lengths[num_runs++] = length < tokens - t ? length : tokens - t;
    }
    for (int64_t r = num_runs - 1; r > 0; r--) {
        const int64_t other = test_random_int(random, 0, r);
        const int64_t begin = begins[r];
        const int64_t length = lengths[r];

        begins[r] = begins[other];
        lengths[r] = lengths[other];
        begins[other] = begin;
        lengths[other] = length;
    }
    for (int64_t r = 0; r < num_runs; r++) {
        for (int64_t i = 0; i < lengths[r]; i++) {
            positions[count++] = begins[r] + i;
        }
    }
    for (int rank = 0; rank + 1 < num_ranks; rank++) {
        rank_tokens[rank] = test_random_int(random, 0, count / (num_ranks - rank));
        count -= rank_tokens[rank];
    }
    rank_tokens[num_ranks - 1] = count;
    assert_int_equal(gdncp_layout_from_positions_padded(pack->cu_seqlens, pack->slots,
                                                        pack->num_sequences, num_ranks, positions,
                                                        rank_tokens, &layout),
                     GDNCP_OK);
    free(begins);
    free(lengths);
    free(positions);
    return layout;
}

static inline gdncp_layout_t *random_layout(test_random_t *random, const test_pack_t *pack,
                                            int num_ranks)
{
    static const gdncp_layout_kind_t kinds[] = {
        GDNCP_LAYOUT_CONTIGUOUS, GDNCP_LAYOUT_CONTIGUOUS_FLAT, GDNCP_LAYOUT_DUAL_CHUNK_SWAP_FLAT,
        GDNCP_LAYOUT_FROM_POSITIONS, GDNCP_LAYOUT_DUAL_CHUNK_SWAP};
    const gdncp_layout_kind_t kind = kinds[test_random_int(random, 0, pack->even ? 4 : 3)];
    gdncp_layout_t *layout = NULL;

    if (kind == GDNCP_LAYOUT_FROM_POSITIONS) {
        return layout_of_shuffled_runs(random, pack, num_ranks);
    }
    assert_int_equal(gdncp_layout_create_padded(kind, pack->cu_seqlens, pack->slots,
                                                pack->num_sequences, num_ranks, &layout),
                     GDNCP_OK);
    return layout;
}

static inline gdncp_dtype_t random_dtype(test_random_t *random)
{
    return (gdncp_dtype_t)test_random_int(random, GDNCP_F32, GDNCP_F8_E5M2);
}

static inline bool dtype_adds(gdncp_dtype_t dtype)
{
    return dtype == GDNCP_F32 || dtype == GDNCP_F64 || dtype == GDNCP_BF16 || dtype == GDNCP_F16;
}

static inline void fill_values(test_random_t *random, gdncp_dtype_t dtype, int64_t count,
                               void *values)
{
    for (int64_t i = 0; i < count; i++) {
        const float value = (float)test_random_normal(random);
        const uint64_t bits = test_random_u64(random);

        if (dtype == GDNCP_F64) {
            ((double *)values)[i] = test_random_normal(random);
        } else if (dtype_adds(dtype)) {
            gdncp_convert_from_f32(&value, 1, dtype,
                                   (char *)values + (size_t)i * gdncp_dtype_size(dtype));
        } else {
            memcpy((char *)values + (size_t)i * gdncp_dtype_size(dtype), &bits,
                   gdncp_dtype_size(dtype));
        }
    }
}

#endif
