/*
 * What the delta rule's kernels share: the problem as they see it, chunks and their numbers, and
 * the records of a chunk that delta_rule_prepare leaves for those who walk.
 *
 * Chunk c of sequence i has the slot cu_seqlens[i] / 64 + i + c in the pack. Slots are in order of
 * sequences and chunks, with gaps, and a slot's chunk is found without a table. A window is a range
 * of slots: scratch is for the chunks of a window, and at most one sequence crosses its end.
 */
#ifndef GDNCP_DELTA_RULE_CUDA_H
#define GDNCP_DELTA_RULE_CUDA_H

#include "copy_rows_cuda.h"
#include "key_dims_cuda.h"
#include "op_kernels_cuda.h"

extern "C" {
#include "delta_rule_problem.h"
#include "op_scratch.h"
}

namespace GDNCP_KERNELS
{

constexpr int CHUNK = GDNCP_CHUNK;
constexpr int CHUNK_TILES = CHUNK / TILE;

/* What a block may have of shared memory on every device from sm_80 on; no kernel needs more, for
 * any dtype and dimension, though some are faster with more. */
constexpr size_t SMALLEST_SHARED = 99 * 1024;

/* Of matrices over pairs of a chunk's tokens only the blocks on and below the diagonal are kept,
 * [10, 16, 16]: block (i, j) is number i (i + 1) / 2 + j. */
constexpr int PAIR_BLOCKS = CHUNK_TILES * (CHUNK_TILES + 1) / 2;
constexpr int PAIR_ELEMENTS = PAIR_BLOCKS * TILE * TILE;

GDNCP_FN constexpr int pair_block(int i, int j)
{
    return (i * (i + 1) / 2 + j) * TILE * TILE;
}

/* Rows of a chunk's gates, [GATE_ROWS, 64] float, then e^(G_C) and three that are not used; r_k,
 * r_q are the factors that normalise rows of k and q. */
enum gate_row { FROM_START, OUT, TO_END, BETA, GATE_ROWS };

constexpr int GATE_TOTAL = GATE_ROWS * CHUNK;
constexpr int GATE_FLOATS = GATE_TOTAL + 4;

struct rule_pack {
    const int64_t *cu_seqlens;
    int64_t num_sequences;
};

struct rule_chunk {
    int64_t sequence;
    int64_t index; /* in its sequence */
    int64_t begin; /* in the pack */
    int count;     /* of tokens; 0: the slot has no chunk */
};

/* The slot of a sequence's first chunk. */
GDNCP_FN int64_t first_slot(const rule_pack &pack, int64_t sequence)
{
    return pack.cu_seqlens[sequence] / CHUNK + sequence;
}

/* Slots of a pack. */
inline int64_t num_slots(const gdncp_rule_problem_t &problem)
{
    return problem.num_tokens / CHUNK + problem.rule->num_sequences;
}

GDNCP_FN rule_chunk find_chunk(const rule_pack &pack, int64_t slot)
{
    int64_t low = 0; /* the last sequence whose first slot is not beyond this */
    int64_t high = pack.num_sequences;

    while (high - low > 1) {
        const int64_t middle = (low + high) / 2;

        if (first_slot(pack, middle) <= slot) {
            low = middle;
        } else {
            high = middle;
        }
    }
    rule_chunk chunk;

    chunk.sequence = low;
    chunk.index = slot - first_slot(pack, low);
    chunk.begin = pack.cu_seqlens[low] + chunk.index * CHUNK;
    const int64_t left = pack.cu_seqlens[low + 1] - chunk.begin;

    chunk.count = (int)(left < 0 ? 0 : left < CHUNK ? left : CHUNK);
    return chunk;
}

/* A checked problem on the device. */
template <typename T> struct device_rule {
    token_rows<const T> q; /* data is NULL where the caller has none */
    token_rows<const T> k;
    token_rows<const T> v;
    const float *g;
    const float *beta;
    const float *initial_state; /* NULL: zeros */
    rule_pack pack;
    int num_key_heads;
    int num_value_heads;
    int group_size;
    int group_phase;
    int dk;
    int dv;
    float scale;
    bool l2norm;
    bool k_aligned; /* rows of k and q begin and end at 16 bytes */
    bool v_aligned;

    GDNCP_FN int key_head(int value_head) const
    {
        return (value_head + group_phase) / group_size;
    }
};

/* Whether each head's row of each token begins and ends at a multiple of 16 bytes. */
inline bool rows_aligned(const gdncp_tensor_t &tensor)
{
    const size_t size = gdncp_dtype_size(tensor.dtype);

    return reinterpret_cast<uintptr_t>(tensor.data) % 16 == 0 &&
           (size_t)tensor.strides[0] * size % 16 == 0 && (size_t)tensor.shape[2] * size % 16 == 0;
}

template <typename T>
device_rule<T> device_rule_of(const gdncp_rule_problem_t &problem, bool with_q)
{
    const gdncp_delta_rule_t &rule = *problem.rule;
    device_rule<T> result = {};

    if (with_q) {
        result.q = rows_of<const T>(rule.q);
    }
    result.k = rows_of<const T>(rule.k);
    result.v = rows_of<const T>(rule.v);
    result.g = static_cast<const float *>(rule.g.data);
    result.beta = static_cast<const float *>(rule.beta.data);
    result.initial_state = static_cast<const float *>(rule.initial_state.data);
    result.pack = {rule.cu_seqlens_cuda, rule.num_sequences};
    result.num_key_heads = (int)problem.num_key_heads;
    result.num_value_heads = (int)problem.num_value_heads;
    result.group_size = (int)problem.group_size;
    result.group_phase = (int)rule.group_phase;
    result.dk = (int)problem.dk;
    result.dv = (int)problem.dv;
    result.scale = problem.scale;
    result.l2norm = rule.qk_l2norm;
    result.k_aligned = rows_aligned(rule.k) && (!with_q || rows_aligned(rule.q));
    result.v_aligned = rows_aligned(rule.v);
    return result;
}

/* Records of the chunks of a window, in scratch memory; slots count from the window's first. */
template <typename T> struct chunk_records {
    using element = mma_element<T>;

    /* T and P as the two pieces that products read: two planes of bf16, or floats. One piece of
     * them is not enough for outputs either, which cancel where keys are alike. */
    static constexpr int planes = sizeof(element) == 2 ? 2 : 1;

    int64_t first; /* slot of the pack */
    int64_t num_slots;
    int num_key_heads;
    int num_value_heads;
    element *inverse;   /* [slots, Hv, planes, PAIR_ELEMENTS] T */
    element *attention; /* [slots, Hv, planes, PAIR_ELEMENTS] P; NULL: not wanted */
    float *gates;       /* [slots, Hv, GATE_FLOATS] */
    float *products;    /* [slots, Hv, PAIR_ELEMENTS] A; NULL: not wanted */
    double *sums;       /* [slots, Hv, 64] G; NULL: not wanted */
    float *factors;     /* [slots, Hk, 2, 64] r_k, r_q; NULL: not wanted */

    /* [num_selected] sequences whose chunks alone are wanted; NULL: all */
    const int64_t *sequences;
    int64_t num_selected;

    GDNCP_FN int64_t of_head(int64_t slot, int value_head) const
    {
        return (slot - first) * num_value_heads + value_head;
    }

    GDNCP_FN element *inverse_of(int64_t slot, int value_head) const
    {
        return inverse + of_head(slot, value_head) * (planes * PAIR_ELEMENTS);
    }

    GDNCP_FN element *attention_of(int64_t slot, int value_head) const
    {
        return attention + of_head(slot, value_head) * (planes * PAIR_ELEMENTS);
    }

    GDNCP_FN float *gates_of(int64_t slot, int value_head) const
    {
        return gates + of_head(slot, value_head) * GATE_FLOATS;
    }

    GDNCP_FN float *products_of(int64_t slot, int value_head) const
    {
        return products + of_head(slot, value_head) * PAIR_ELEMENTS;
    }

    GDNCP_FN double *sums_of(int64_t slot, int value_head) const
    {
        return sums + of_head(slot, value_head) * CHUNK;
    }

    GDNCP_FN float *factors_of(int64_t slot, int key_head) const
    {
        return factors + ((slot - first) * num_key_heads + key_head) * (2 * CHUNK);
    }
};

/* Who reads the records: a walk without outputs, one with, or a backward. */
enum class records_for { states, outputs, gradients };

template <typename T>
chunk_records<T> records_take(gdncp_arena_t *arena, const gdncp_rule_problem_t &problem,
                              int64_t slots, records_for use)
{
    using element = mma_element<T>;
    const int64_t heads = slots * problem.num_value_heads;
    const auto take = [arena](int64_t count, size_t size) {
        const int64_t floats = (int64_t)(((size_t)count * size + 3) / 4);

        return static_cast<void *>(gdncp_arena_floats(arena, floats));
    };
    chunk_records<T> records = {};

    records.num_slots = slots;
    records.num_key_heads = (int)problem.num_key_heads;
    records.num_value_heads = (int)problem.num_value_heads;
    records.inverse = static_cast<element *>(
        take(heads * chunk_records<T>::planes * PAIR_ELEMENTS, sizeof(element)));
    records.gates = gdncp_arena_floats(arena, heads * GATE_FLOATS);
    if (use != records_for::states) {
        records.attention = static_cast<element *>(
            take(heads * chunk_records<T>::planes * PAIR_ELEMENTS, sizeof(element)));
    }
    if (use == records_for::gradients) {
        records.products = gdncp_arena_floats(arena, heads * PAIR_ELEMENTS);
        records.sums = static_cast<double *>(take(heads * CHUNK, sizeof(double)));
        records.factors = gdncp_arena_floats(arena, slots * problem.num_key_heads * 2 * CHUNK);
    }
    return records;
}

/* Fill the records of a window; delta_rule_prepare.cu has it for float, bf16, f16. q is read where
 * records.attention is wanted. */
template <typename T>
gdncp_status_t prepare_chunks(const gdncp_rule_problem_t &problem, const chunk_records<T> &records,
                              gdncp_stream_t stream);

/* shared [64, ld] = the lower blocks of a record; those above the diagonal are left as they are. */
template <typename Element> GDNCP_FN void copy_pairs(Element *shared, int ld, const Element *record)
{
    constexpr int piece = 16 / (int)sizeof(Element);
    constexpr int row_pieces = TILE / piece;

    for (int i = thread_index(); i < PAIR_ELEMENTS / piece; i += num_threads()) {
        const int block = i / (TILE * row_pieces);
        const int block_row = block >= 6 ? 3 : block >= 3 ? 2 : block >= 1 ? 1 : 0;
        const int block_column = block - block_row * (block_row + 1) / 2;
        const int row = block_row * TILE + i / row_pieces % TILE;
        const int column = block_column * TILE + i % row_pieces * piece;

        cp_async_16(shared + row * ld + column, record + i * piece, 16);
    }
}

/* The copies that the block's threads have begun are done, and all of them may read. */
GDNCP_FN void finish_loading()
{
    cp_async_commit();
    cp_async_wait<0>();
    sync_block();
}

} /* namespace GDNCP_KERNELS */

#endif
