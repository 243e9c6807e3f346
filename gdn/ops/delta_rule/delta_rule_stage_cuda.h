/*
 * What a walk is about, and what it has of a chunk in shared memory.
 */
#ifndef GDNCP_DELTA_RULE_STAGE_CUDA_H
#define GDNCP_DELTA_RULE_STAGE_CUDA_H

#include "delta_rule_records_cuda.h"
#include "delta_rule_spans_cuda.h"

namespace GDNCP_KERNELS
{

constexpr int LEAST_WALK_WARPS = 2;

enum class walk_mode { outputs, outputs_in_turn, summary, records };

template <typename T> struct rule_walk {
    device_rule<T> rule;
    chunk_records<T> chunks;
    window_pieces pieces; /* what to walk over, a block each */
    int warps;            /* of a block */
    int stages;           /* chunks that shared memory has room for: 1 or 2 */
    token_rows<T> o;      /* outputs */
    bool o_aligned;       /* rows of o begin and end at 16 bytes */
    float *final_state;   /* [N, Hv, dk, dv] of sequences that end here; NULL: not wanted */
    state_starts starts;
    float *carry_out;       /* [Hv, dk, dv] of the sequence that goes on after the window */
    walk_records<T> stored; /* records; data is NULL where none are wanted */

    /* Of a summary alone, which is of sequences, or of all pieces that end at borders. */
    bool by_piece;
    const int64_t *sequences; /* [selected], NULL: all */
    int m_tiles;              /* the first tiles of columns belong to M, the others to U */
    float *transition;        /* M [selected or borders, Hv, dk, dk] */
    float *contribution;      /* U [selected or borders, Hv, dk, dv] */
};

/* Of a chunk, in shared memory. In turn q is where k is, and attention where inverse is. */
template <typename T> struct walk_stage {
    float *gates;
    mma_element<T> *k;         /* [64, DK] */
    mma_element<T> *v;         /* [64, 16 warps] */
    mma_element<T> *inverse;   /* [planes, 64, 64] */
    mma_element<T> *q;         /* [64, DK] */
    mma_element<T> *attention; /* [planes, 64, 64] */
};

constexpr int PAIR_LD = CHUNK + 8;

/* Rows have 8 elements more than they need, see tile_mma.h. */
template <typename T> constexpr size_t stage_bytes(int dk, int warps, walk_mode mode)
{
    const int pairs = chunk_records<T>::planes * CHUNK * PAIR_LD;
    const int inputs = CHUNK * (dk + 8) + CHUNK * (TILE * warps + 8) + pairs;
    const int outputs = mode == walk_mode::outputs ? CHUNK * (dk + 8) + pairs : 0;

    return GATE_FLOATS * sizeof(float) + (size_t)(inputs + outputs) * sizeof(mma_element<T>);
}

template <typename T, int DK, walk_mode mode> GDNCP_FN walk_stage<T> stage_at(int index, int warps)
{
    char *const place = shared_memory() + (size_t)index * stage_bytes<T>(DK, warps, mode);
    walk_stage<T> stage;

    stage.gates = reinterpret_cast<float *>(place);
    stage.k = reinterpret_cast<mma_element<T> *>(stage.gates + GATE_FLOATS);
    stage.v = stage.k + CHUNK * (DK + 8);
    stage.inverse = stage.v + CHUNK * (TILE * warps + 8);
    stage.q = stage.k;
    stage.attention = stage.inverse;
    if constexpr (mode == walk_mode::outputs) {
        stage.q = stage.inverse + chunk_records<T>::planes * CHUNK * PAIR_LD;
        stage.attention = stage.q + CHUNK * (DK + 8);
    }
    return stage;
}

/* What the block's threads copy to shared memory: rows of K or Q from the chunk's token `first`, */
template <typename T, int DK, int rows = CHUNK>
GDNCP_FN void load_keys(const device_rule<T> &rule, const token_rows<const T> &source,
                        const rule_chunk &chunk, int first, int head, mma_element<T> *place)
{
    const int64_t offset = (int64_t)rule.key_head(head) * rule.dk;
    const int64_t token = chunk.begin + (first < chunk.count ? first : 0);

    copy_rows<rows>(place, DK + 8, DK, source.row(token) + offset, source.stride, 0, rule.dk,
                    chunk.count - first, rule.k_aligned);
}

/* Q and P, */
template <typename T, int DK>
GDNCP_FN void load_queries(const rule_walk<T> &walk, const rule_chunk &chunk, int64_t slot,
                           int head, const walk_stage<T> &stage)
{
    for (int plane = 0; plane < chunk_records<T>::planes; plane++) {
        copy_pairs(stage.attention + plane * CHUNK * PAIR_LD, PAIR_LD,
                   walk.chunks.attention_of(slot, head) + plane * PAIR_ELEMENTS);
    }
    load_keys<T, DK>(walk.rule, walk.rule.q, chunk, 0, head, stage.q);
}

/* or all of it that there is room for. */
template <typename T, int DK, walk_mode mode>
GDNCP_FN void load_chunk(const rule_walk<T> &walk, const rule_chunk &chunk, int64_t slot, int head,
                         const walk_stage<T> &stage)
{
    const device_rule<T> &rule = walk.rule;
    const int first_column = (block_y() * walk.warps - walk.m_tiles) * TILE;
    const mma_element<T> *const inverse = walk.chunks.inverse_of(slot, head);
    const float *const gates = walk.chunks.gates_of(slot, head);

    for (int i = thread_index(); i < GATE_FLOATS / 4; i += num_threads()) {
        cp_async_16(stage.gates + 4 * i, gates + 4 * i, 16);
    }
    load_keys<T, DK>(rule, rule.k, chunk, 0, head, stage.k);
    copy_rows(stage.v, TILE * walk.warps + 8, TILE * walk.warps,
              rule.v.row(chunk.begin) + (int64_t)head * rule.dv, rule.v.stride, first_column,
              rule.dv, chunk.count, rule.v_aligned);
    for (int plane = 0; plane < chunk_records<T>::planes; plane++) {
        copy_pairs(stage.inverse + plane * CHUNK * PAIR_LD, PAIR_LD,
                   inverse + plane * PAIR_ELEMENTS);
    }
    if constexpr (mode == walk_mode::outputs) {
        load_queries<T, DK>(walk, chunk, slot, head, stage);
    }
}

} /* namespace GDNCP_KERNELS */

#endif
