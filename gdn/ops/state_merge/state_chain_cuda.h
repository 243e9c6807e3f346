/*
 * Steps along a chain of states, S <- M S + U or S <- M' S + U, by one block of threads: all rows
 * of some columns, which meet no others.
 *
 * A warp has 16 rows of the next state in registers. The state before is in shared memory, where
 * every warp reads all of it, and so are the next parts of M, which arrive while others are worked
 * on: a chain takes one barrier a part, and waits for memory at its start only.
 */
#ifndef GDNCP_STATE_CHAIN_CUDA_H
#define GDNCP_STATE_CHAIN_CUDA_H

#include "copy_rows_cuda.h"

namespace GDNCP_KERNELS
{

struct state_chain {
    const float *transitions;   /* [.., dk, dk] */
    const float *contributions; /* [.., dk, dv] */
    const float *in;            /* [dk, dv]; NULL: the first step has no M */
    float *states;              /* [.., dk, dv] */
    int64_t row;                /* of contributions and states, for step 0 */
    int64_t transition;         /* of transitions, likewise, even if step 0 has none */
    int64_t stride;             /* from one step's rows to the next one's */
    int64_t count;              /* of steps, > 0 */
    int dk;
    int dv;
    bool in_across; /* in is [dv, dk] */
};

constexpr int CHAIN_TILES = 2; /* of columns, a block */
constexpr int CHAIN_COLUMNS = CHAIN_TILES * TILE;
constexpr int CHAIN_STATE_LD = CHAIN_COLUMNS + 4;

/* A block's shape and its shared memory: parts of M, then two states. Row lengths are such that
 * neither way of reading meets a bank twice: see tile_mma.h. */
template <int DK, bool transposed> struct chain_layout {
    static constexpr int threads = DK / TILE * WARP;
    static constexpr int depth = DK <= 128 ? 64 : 32; /* of a part */
    static constexpr int parts = DK / depth;
    static constexpr int stages = DK <= 128 ? 3 : 2;
    static constexpr int ld = transposed ? DK + 4 : depth + 8;
    static constexpr int part_floats = (transposed ? depth : DK) * ld;
    static constexpr int state_floats = DK * CHAIN_STATE_LD;
    static constexpr size_t bytes = (stages * part_floats + 2 * state_floats) * sizeof(float);
};

/* Two floats of global memory, of which the second may be missing, or both. */
GDNCP_FN float_pair load_floats(const float *place, int count, bool aligned)
{
    if (count >= 2 && aligned) {
        return *reinterpret_cast<const float_pair *>(place);
    }
    return {{count >= 1 ? place[0] : 0.0f, count >= 2 ? place[1] : 0.0f}};
}

GDNCP_FN void store_floats(float *place, float_pair pair, int count, bool aligned)
{
    if (count >= 2 && aligned) {
        *reinterpret_cast<float_pair *>(place) = pair;
        return;
    }
    if (count >= 1) {
        place[0] = pair.x[0];
    }
    if (count >= 2) {
        place[1] = pair.x[1];
    }
}

/* A warp's tiles of a matrix [dk, dv] in global memory: rows from `row` on, columns from `column`;
 * pairs are aligned to their size where `aligned`. */
struct chain_block {
    int row;
    int column;
    int dk;
    int dv;
    bool aligned;

    GDNCP_FN int64_t place(int t, int i) const
    {
        return (int64_t)(row + tile_row(i % 2)) * dv + column + t * TILE + tile_column(i / 2);
    }

    /* Of elements 2i and 2i + 1 of tile t, those that there are. */
    GDNCP_FN int count(int t, int i) const
    {
        return row + tile_row(i % 2) < dk ? dv - column - t * TILE - tile_column(i / 2) : 0;
    }

    GDNCP_FN void load(tile *tiles, const float *matrix) const
    {
        GDNCP_UNROLL
        for (int t = 0; t < CHAIN_TILES; t++) {
            GDNCP_UNROLL
            for (int i = 0; i < 4; i++) {
                const float_pair pair = load_floats(matrix + place(t, i), count(t, i), aligned);

                tiles[t].x[i / 2][i % 2 * 2] = pair.x[0];
                tiles[t].x[i / 2][i % 2 * 2 + 1] = pair.x[1];
            }
        }
    }

    GDNCP_FN void store(const tile *tiles, float *matrix) const
    {
        GDNCP_UNROLL
        for (int t = 0; t < CHAIN_TILES; t++) {
            GDNCP_UNROLL
            for (int i = 0; i < 4; i++) {
                store_floats(matrix + place(t, i),
                             {{tiles[t].x[i / 2][i % 2 * 2], tiles[t].x[i / 2][i % 2 * 2 + 1]}},
                             count(t, i), aligned);
            }
        }
    }
};

/* shared [DK, CHAIN_STATE_LD] at a warp's rows = tiles. */
GDNCP_FN void share_state(const tile *tiles, int row, float *shared)
{
    GDNCP_UNROLL
    for (int t = 0; t < CHAIN_TILES; t++) {
        store_pieces(tiles[t], shared + row * CHAIN_STATE_LD + t * TILE, CHAIN_STATE_LD, 0);
    }
}

/* shared [DK, CHAIN_STATE_LD] = columns of a first state [dv, dk], by all threads of the block. */
template <int DK> GDNCP_FN void share_across(const state_chain &chain, int column, float *shared)
{
    GDNCP_ROLLED
    for (int i = thread_index(); i < DK * CHAIN_COLUMNS; i += num_threads()) {
        const int row = i % DK;
        const int from = column + i / DK;

        shared[row * CHAIN_STATE_LD + i / DK] =
            row < chain.dk && from < chain.dv ? chain.in[(int64_t)from * chain.dk + row] : 0.0f;
    }
}

/* Columns of M from part * depth on, all rows; of M', rows instead, all columns. */
template <int DK, bool transposed>
GDNCP_FN void load_part(const state_chain &chain, int64_t step, int part, bool aligned,
                        float *shared)
{
    using layout = chain_layout<DK, transposed>;
    const int64_t dk = chain.dk;
    const float *const matrix =
        chain.transitions + (chain.transition + step * chain.stride) * dk * dk;
    const int first = part * layout::depth;

    if constexpr (transposed) {
        copy_rows<layout::depth>(shared, layout::ld, DK, matrix + first * dk, dk, 0, chain.dk,
                                 chain.dk - first, aligned);
    } else {
        copy_rows<DK>(shared, layout::ld, layout::depth, matrix, dk, first, chain.dk, chain.dk,
                      aligned);
    }
}

/* next += rows of M, or M', times the state, for a part of the depth. */
template <int DK, bool transposed>
GDNCP_FN void multiply_part(const float *part, const float *state, int row, tile *next)
{
    using layout = chain_layout<DK, transposed>;

    GDNCP_ROLLED
    for (int n = 0; n < layout::depth / TILE; n++) {
        operand_a<float, 2> left;

        if constexpr (transposed) {
            load_a_across(left, part + n * TILE * layout::ld + row, layout::ld);
        } else {
            load_a(left, part + row * layout::ld + n * TILE, layout::ld);
        }
        GDNCP_UNROLL
        for (int t = 0; t < CHAIN_TILES; t++) {
            operand_b<float, 2> right;

            load_b(right, state + n * TILE * CHAIN_STATE_LD + t * TILE, CHAIN_STATE_LD);
            mma(next[t], left, right);
        }
    }
}

/* The columns from `column` on, of all states along a chain. */
template <int DK, bool transposed> GDNCP_FN void walk_chain(const state_chain &chain, int column)
{
    using layout = chain_layout<DK, transposed>;
    constexpr int ahead = layout::stages - 1;
    const int64_t size = (int64_t)chain.dk * chain.dv;
    const int row = warp() * TILE;
    const bool m_aligned =
        chain.dk % 4 == 0 && reinterpret_cast<uintptr_t>(chain.transitions) % 16 == 0;
    const chain_block block = {row, column, chain.dk, chain.dv,
                               chain.dv % 2 == 0 &&
                                   (reinterpret_cast<uintptr_t>(chain.contributions) |
                                    reinterpret_cast<uintptr_t>(chain.states) |
                                    reinterpret_cast<uintptr_t>(chain.in)) %
                                           8 ==
                                       0};
    float *const parts = reinterpret_cast<float *>(shared_memory());
    float *const states = parts + layout::stages * layout::part_floats;
    const int first_step = chain.in == nullptr ? 1 : 0;
    const int64_t end = (chain.count - first_step) * layout::parts;
    const auto row_of = [&chain, size](int64_t step) {
        return (chain.row + step * chain.stride) * size;
    };
    const auto load_ahead = [&chain, parts, first_step, end, m_aligned](int64_t index) {
        if (index < end) {
            load_part<DK, transposed>(chain, first_step + index / layout::parts,
                                      (int)(index % layout::parts), m_aligned,
                                      parts + index % layout::stages * layout::part_floats);
        }
        cp_async_commit();
    };
    tile next[CHAIN_TILES];
    tile contribution[CHAIN_TILES]; /* of the next step that begins */

    for (int i = 0; i < ahead; i++) {
        load_ahead(i);
    }
    if (first_step == 0 && chain.in_across) {
        share_across<DK>(chain, column, states);
    } else {
        block.load(next, first_step == 0 ? chain.in : chain.contributions + row_of(0));
        share_state(next, row, states);
    }
    if (first_step == 1) {
        block.store(next, chain.states + row_of(0));
    }
    if (first_step < chain.count) {
        block.load(contribution, chain.contributions + row_of(first_step));
    }
    GDNCP_ROLLED
    for (int64_t index = 0; index < end; index++) {
        const int part = (int)(index % layout::parts);
        const int64_t done = index / layout::parts;
        const int64_t step = first_step + done;
        const float *const before = states + done % 2 * layout::state_floats;

        if (part == 0) {
            GDNCP_UNROLL
            for (int t = 0; t < CHAIN_TILES; t++) {
                next[t] = contribution[t];
            }
            if (step + 1 < chain.count) {
                block.load(contribution, chain.contributions + row_of(step + 1));
            }
        }
        cp_async_wait<ahead - 1>();
        /* The part and the state are there, and the part before has been read. */
        sync_block();
        load_ahead(index + ahead);
        multiply_part<DK, transposed>(parts + index % layout::stages * layout::part_floats,
                                      before + part * layout::depth * CHAIN_STATE_LD, row, next);
        if (part == layout::parts - 1) {
            block.store(next, chain.states + row_of(step));
            share_state(next, row, states + (done + 1) % 2 * layout::state_floats);
        }
    }
}

/* The grid of so many chains whose states have dv columns: block_y() is the tile pair. */
inline gdncp_grid chain_grid(int64_t num_chains, int64_t dv)
{
    return {num_chains, (int)((dv + CHAIN_COLUMNS - 1) / CHAIN_COLUMNS), 1};
}

} /* namespace GDNCP_KERNELS */

#endif
