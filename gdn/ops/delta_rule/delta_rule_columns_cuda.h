/* Columns of a state that a warp has in registers: where they come from and go to, and whether
 * there is anything left of them. */
#ifndef GDNCP_DELTA_RULE_COLUMNS_CUDA_H
#define GDNCP_DELTA_RULE_COLUMNS_CUDA_H

#include "delta_rule_cuda.h"

namespace GDNCP_KERNELS
{

constexpr int WALK_WARPS = 8; /* of a block, at most */

/* Where the columns of a state that a warp has come from and go to. */
struct state_columns {
    const float *source; /* [dk, width]; NULL: zeros, or the identity */
    float *target;       /* [dk, width]; NULL: nowhere */
    int width;
    int first;
    bool is_identity; /* starts as one, where there is no source */
};

/* across: the source is [width, dk]. */
template <int DK>
GDNCP_FN void load_state(tile *state, const state_columns &columns, int dk, bool across)
{
    if (across && columns.source != nullptr) {
        GDNCP_UNROLL
        for (int i = 0; i < DK / TILE * 8; i++) {
            const int row = i / 8 * TILE + tile_column(i / 4 % 2, i % 2);
            const int column = columns.first + tile_row(i / 2 % 2);
            const bool inside = row < dk && column < columns.width;

            state[i / 8].x[i / 4 % 2][i % 4] =
                inside ? columns.source[(int64_t)column * dk + row] : 0.0f;
        }
        return;
    }
    GDNCP_UNROLL
    for (int n = 0; n < DK / TILE; n++) {
        GDNCP_UNROLL
        for (int i = 0; i < 8; i++) {
            const int row = n * TILE + tile_column(i / 4, i % 2);
            const int column = columns.first + tile_row(i / 2 % 2);
            const bool inside = row < dk && column < columns.width;
            float value = columns.is_identity && row == column ? 1.0f : 0.0f;

            if (columns.source != nullptr) {
                value = inside ? columns.source[(int64_t)row * columns.width + column] : 0.0f;
            }
            state[n].x[i / 4][i % 4] = inside ? value : 0.0f;
        }
    }
}

/* across: the target is [width, dk]. Loops of their own, as places that depend on it at run time
 * would take registers from the state. */
template <int DK>
GDNCP_FN void store_state(const tile *state, const state_columns &columns, int dk, bool across)
{
    if (across) {
        GDNCP_UNROLL
        for (int i = 0; i < DK / TILE * 8; i++) {
            const int row = i / 8 * TILE + tile_column(i / 4 % 2, i % 2);
            const int column = columns.first + tile_row(i / 2 % 2);

            if (row < dk && column < columns.width) {
                columns.target[(int64_t)column * dk + row] = state[i / 8].x[i / 4 % 2][i % 4];
            }
        }
        return;
    }
    GDNCP_UNROLL
    for (int n = 0; n < DK / TILE; n++) {
        GDNCP_UNROLL
        for (int i = 0; i < 8; i++) {
            const int row = n * TILE + tile_column(i / 4, i % 2);
            const int column = columns.first + tile_row(i / 2 % 2);

            if (row < dk && column < columns.width) {
                columns.target[(int64_t)row * columns.width + column] = state[n].x[i / 4][i % 4];
            }
        }
    }
}

/* Whether each bit is 0, so that no sign of a zero is lost. All lanes know. */
template <int DK> GDNCP_FN bool is_all_zero(const tile *state)
{
    uint32_t bits = 0;

    GDNCP_UNROLL
    for (int i = 0; i < DK / TILE * 8; i++) {
        bits |= float_bits(state[i / 8].x[i / 4 % 2][i % 4]);
    }
    GDNCP_UNROLL
    for (int mask = WARP / 2; mask > 0; mask /= 2) {
        bits |= shuffle_xor(bits, mask);
    }
    return bits == 0;
}

/*
 * Which warps of a summary's block have something left to do. Gates let M decay until it is zero in
 * float32, to the last bit; without values it stays so. Whether it is, is looked at only once the
 * product of all gates so far is zero.
 */
struct summary_watch {
    bool has_m; /* some warp of the block has columns of M */
    bool is_m;  /* this one has */
    bool alive; /* this one has something to do */
    float decay;
    int *flags; /* [WALK_WARPS] in shared memory: those that are alive */

    GDNCP_FN bool looks() const
    {
        return has_m && decay == 0.0f;
    }

    /* Before a barrier. */
    template <int DK> GDNCP_FN void look(const tile *state, float gates)
    {
        decay *= gates;
        if (!looks()) {
            return;
        }
        if (alive && is_m) {
            alive = !is_all_zero<DK>(state);
        }
        if (lane() == 0) {
            flags[warp()] = alive;
        }
    }

    /* After it. */
    GDNCP_FN bool block_is_done(int warps) const
    {
        bool done = looks();

        for (int i = 0; done && i < warps; i++) {
            done = flags[i] == 0;
        }
        return done;
    }
};

} /* namespace GDNCP_KERNELS */

#endif
