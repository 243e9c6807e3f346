/*
 * The walk over chunks that advances states: for outputs, for summaries, and for a backward's
 * records.
 *
 * A warp has 16 columns of a state, transposed, in registers, as the columns of a state never
 * meet: S' [16, DK] in tiles. So are Y' and U' [16, 64], and each product takes one side from
 * registers and the other from the chunk's K, Q, T, P in shared memory, which the warps of a block
 * share. A block goes through the chunks of one piece and one value head; the next chunk's
 * matrices arrive while it works on this one's, where there is room for both. Where there is not
 * room for one chunk's, Q takes K's place and P that of T while they are needed.
 */
#ifndef GDNCP_DELTA_RULE_WALK_CUDA_H
#define GDNCP_DELTA_RULE_WALK_CUDA_H

#include "delta_rule_columns_cuda.h"
#include "delta_rule_stage_cuda.h"

namespace GDNCP_KERNELS
{

/* y = S' K' and o = Q S, or one of them: the state enters both in two pieces. */
template <typename T, int DK, bool with_y, bool with_o>
GDNCP_FN void multiply_state(const tile *state, const walk_stage<T> &stage, tile *y, tile *o)
{
    constexpr int exact = mma_format<T>::exact;
    constexpr int ld = DK + 8;

    GDNCP_UNROLL
    for (int n = 0; n < DK / TILE; n++) {
        operand_a<T, 2> left;
        operand_b<T, 2> right;

        if constexpr (with_y) {
            set_operand(left, state[n]);
        }
        if constexpr (with_o) {
            set_operand(right, state[n]);
        }
        GDNCP_UNROLL
        for (int t = 0; t < CHUNK_TILES; t++) {
            if constexpr (with_y) {
                operand_b<T, exact> k;

                load_b_across(k, stage.k + t * TILE * ld + n * TILE, ld);
                mma(y[t], left, k);
            }
            if constexpr (with_o) {
                operand_a<T, exact> q;

                load_a(q, stage.q + t * TILE * ld + n * TILE, ld);
                mma(o[t], q, right);
            }
        }
    }
}

/* u = (diag(beta) Y)' T', where y is S' K' on entry and Y' is V' - S' K' diag(from_start). */
template <typename T>
GDNCP_FN void solve_values(const walk_stage<T> &stage, int warps, tile *y, tile *u)
{
    const int v_ld = TILE * warps + 8;

    GDNCP_UNROLL
    for (int j = 0; j < CHUNK_TILES; j++) {
        operand_a<T, 2> left;
        tile v;

        load_tile_across(v, stage.v + j * TILE * v_ld + warp() * TILE, v_ld);
        GDNCP_UNROLL
        for (int i = 0; i < 8; i++) {
            const int token = j * TILE + tile_column(i / 4, i % 2);
            const float decayed = stage.gates[FROM_START * CHUNK + token] * y[j].x[i / 4][i % 4];

            y[j].x[i / 4][i % 4] =
                stage.gates[BETA * CHUNK + token] * (v.x[i / 4][i % 4] - decayed);
        }
        set_operand(left, y[j]);
        GDNCP_UNROLL
        for (int i = j; i < CHUNK_TILES; i++) {
            operand_b<T, 2> inverse;

            load_b_across(inverse, stage.inverse + (i * PAIR_LD + j) * TILE, PAIR_LD,
                          CHUNK * PAIR_LD);
            mma(u[i], left, inverse);
        }
    }
}

/* Two elements, or the first of them; in one go where pairs are aligned. */
template <typename T>
GDNCP_FN void store_pair(T *place, float x0, float x1, bool both, bool aligned)
{
    if (aligned) {
        *reinterpret_cast<uint32_t *>(place) = pack_floats<T>(x0, x1);
        return;
    }
    place[0] = from_float<T>(x0);
    if (both) {
        place[1] = from_float<T>(x1);
    }
}

GDNCP_FN void store_pair(float *place, float x0, float x1, bool both, bool aligned)
{
    if (aligned) {
        *reinterpret_cast<float_pair *>(place) = {{x0, x1}};
        return;
    }
    place[0] = x0;
    if (both) {
        place[1] = x1;
    }
}

/* o = diag(out) o + P U, to memory. */
template <typename T>
GDNCP_FN void write_outputs(const rule_walk<T> &walk, const rule_chunk &chunk, int head, int first,
                            const walk_stage<T> &stage, const tile *u, tile *o)
{
    const int dv = walk.rule.dv;

    GDNCP_UNROLL
    for (int t = 0; t < CHUNK_TILES; t++) {
        GDNCP_UNROLL
        for (int i = 0; i < 8; i++) {
            o[t].x[i / 4][i % 4] *= stage.gates[OUT * CHUNK + t * TILE + tile_row(i / 2 % 2)];
        }
    }
    GDNCP_UNROLL
    for (int j = 0; j < CHUNK_TILES; j++) {
        operand_b<T, 2> right;

        set_operand(right, u[j]);
        GDNCP_UNROLL
        for (int t = j; t < CHUNK_TILES; t++) {
            operand_a<T, 2> left;

            load_a(left, stage.attention + (t * PAIR_LD + j) * TILE, PAIR_LD, CHUNK * PAIR_LD);
            mma(o[t], left, right);
        }
    }
    T *const corner =
        walk.o.row(chunk.begin + tile_row(0)) + (int64_t)head * dv + first + tile_column(0);

    GDNCP_UNROLL
    for (int t = 0; t < CHUNK_TILES; t++) {
        GDNCP_UNROLL
        for (int i = 0; i < 4; i++) {
            const int row = t * TILE + i % 2 * 8;
            const int column = first + tile_column(i / 2);

            if (tile_row(0) + row < chunk.count && column < dv) {
                store_pair(corner + row * walk.o.stride + i / 2 * 8, o[t].x[i / 2][i % 2 * 2],
                           o[t].x[i / 2][i % 2 * 2 + 1], column + 1 < dv, walk.o_aligned);
            }
        }
    }
}

/* S' = e^(G_C) S' + (U' diag(to_end)) K. */
template <typename T, int DK>
GDNCP_FN void advance_state(const walk_stage<T> &stage, const tile *u, tile *state)
{
    constexpr int ld = DK + 8;
    const float total = stage.gates[GATE_TOTAL];

    GDNCP_UNROLL
    for (int n = 0; n < DK / TILE; n++) {
        GDNCP_UNROLL
        for (int i = 0; i < 8; i++) {
            state[n].x[i / 4][i % 4] *= total;
        }
    }
    GDNCP_UNROLL
    for (int j = 0; j < CHUNK_TILES; j++) {
        operand_a<T, 2> left;
        tile decayed;

        GDNCP_UNROLL
        for (int i = 0; i < 8; i++) {
            decayed.x[i / 4][i % 4] =
                u[j].x[i / 4][i % 4] *
                stage.gates[TO_END * CHUNK + j * TILE + tile_column(i / 4, i % 2)];
        }
        set_operand(left, decayed);
        GDNCP_UNROLL
        for (int n = 0; n < DK / TILE; n++) {
            operand_b<T, mma_format<T>::exact> k;

            load_b(k, stage.k + j * TILE * ld + n * TILE, ld);
            mma(state[n], left, k);
        }
    }
}

template <typename T, int DK>
GDNCP_FN void store_walk_record(const rule_walk<T> &walk, int64_t slot, int head, int first,
                                const tile *state, const tile *u)
{
    if (walk.stored.data == nullptr || first >= walk.stored.rows) {
        return;
    }
    const walk_record<T> record = walk.stored.at(slot - walk.chunks.first, head);

    GDNCP_UNROLL
    for (int n = 0; n < DK / TILE; n++) {
        store_pieces(state[n], record.state + first * DK + n * TILE, DK, walk.stored.state_plane());
    }
    GDNCP_UNROLL
    for (int t = 0; t < CHUNK_TILES; t++) {
        store_pieces(u[t], record.u + first * CHUNK + t * TILE, CHUNK, walk.stored.token_plane());
    }
}

/* o, where Q and P take the places of K and T, and K its own again. */
template <typename T, int DK>
GDNCP_FN void write_outputs_in_turn(const rule_walk<T> &walk, const rule_chunk &chunk, int64_t slot,
                                    int head, int first, const walk_stage<T> &stage,
                                    const tile *state, const tile *u, tile *o)
{
    sync_block();
    load_queries<T, DK>(walk, chunk, slot, head, stage);
    finish_loading();
    multiply_state<T, DK, false, true>(state, stage, nullptr, o);
    write_outputs(walk, chunk, head, first, stage, u, o);
    sync_block();
    load_keys<T, DK>(walk.rule, walk.rule.k, chunk, 0, head, stage.k);
    finish_loading();
}

/* One chunk, by one warp: `first` is the warp's first column of o, or of what a record has. */
template <typename T, int DK, walk_mode mode>
GDNCP_FN void advance_chunk(const rule_walk<T> &walk, const rule_chunk &chunk, int64_t slot,
                            int head, int first, const walk_stage<T> &stage, tile *state)
{
    constexpr bool with_o = mode == walk_mode::outputs;
    tile y[CHUNK_TILES];
    tile u[CHUNK_TILES];
    tile o[CHUNK_TILES];

    GDNCP_UNROLL
    for (int t = 0; t < CHUNK_TILES; t++) {
        clear(y[t]);
        clear(u[t]);
        clear(o[t]);
    }
    multiply_state<T, DK, true, with_o>(state, stage, y, o);
    solve_values(stage, walk.warps, y, u);
    if constexpr (with_o) {
        write_outputs(walk, chunk, head, first, stage, u, o);
    }
    if constexpr (mode == walk_mode::outputs_in_turn) {
        write_outputs_in_turn<T, DK>(walk, chunk, slot, head, first, stage, state, u, o);
    }
    if constexpr (mode == walk_mode::records) {
        store_walk_record<T, DK>(walk, slot, head, first, state, u);
    }
    advance_state<T, DK>(stage, u, state);
}

template <typename T, walk_mode mode> GDNCP_FN walk_span find_span(const rule_walk<T> &walk)
{
    const int64_t index = block_x() / walk.rule.num_value_heads;

    if (mode != walk_mode::summary || walk.by_piece) {
        return span_of_piece(walk.rule.pack, walk.pieces, index);
    }
    return span_of_sequence(walk.rule.pack, walk.pieces.first, walk.pieces.count,
                            walk.sequences != nullptr ? walk.sequences[index] : index, index);
}

/* A summary goes from the identity, zeros or an initial state to M and U. */
template <typename T>
GDNCP_FN state_columns summary_columns(const rule_walk<T> &walk, const walk_span &span, int head)
{
    const device_rule<T> &rule = walk.rule;
    const int tile_index = block_y() * walk.warps + warp();
    const int64_t item = span.index * rule.num_value_heads + head;
    const bool begins = walk.by_piece || span.begins;
    state_columns columns = {};

    columns.width = rule.dv;
    columns.first = (tile_index - walk.m_tiles) * TILE;
    columns.target = walk.contribution + item * rule.dk * rule.dv;
    if (tile_index < walk.m_tiles) {
        columns.target = walk.transition + item * rule.dk * rule.dk;
        columns.width = rule.dk;
        columns.first = tile_index * TILE;
        columns.is_identity = true;
    }
    /* What a window leaves unfinished is where it will be finished. */
    columns.source = begins ? nullptr : columns.target;
    if (begins && walk.m_tiles == 0) {
        columns.source = walk.starts.of(span, head);
    }
    return columns;
}

template <typename T>
GDNCP_FN state_columns walk_columns(const rule_walk<T> &walk, const walk_span &span, int head)
{
    const device_rule<T> &rule = walk.rule;
    state_columns columns = {};

    columns.width = rule.dv;
    columns.first = (block_y() * walk.warps + warp()) * TILE;
    columns.source = walk.starts.of(span, head);
    if (span.is_last && !span.ends) {
        columns.target = walk.carry_out + head * walk.starts.size;
    } else if (span.is_last && walk.final_state != nullptr) {
        columns.target =
            walk.final_state + (span.sequence * rule.num_value_heads + head) * walk.starts.size;
    }
    return columns;
}

template <typename T, int DK>
GDNCP_FN summary_watch watch_summary(const rule_walk<T> &walk, const walk_span &span,
                                     const state_columns &columns)
{
    const int first_tile = block_y() * walk.warps;
    char *const end =
        shared_memory() + (size_t)walk.stages * stage_bytes<T>(DK, walk.warps, walk_mode::summary);

    return {first_tile < walk.m_tiles, first_tile + warp() < walk.m_tiles,
            columns.first < columns.width, walk.by_piece || span.begins ? 1.0f : 0.0f,
            reinterpret_cast<int *>(end)};
}

template <typename T, int DK, walk_mode mode>
GDNCP_KERNEL(WALK_WARPS *WARP, 1)
void walk_kernel(rule_walk<T> walk)
{
    const int head = (int)(block_x() % walk.rule.num_value_heads);
    const walk_span span = find_span<T, mode>(walk);
    state_columns columns;

    if (span.begin >= span.end || (walk.by_piece && span.is_last)) {
        return;
    }
    if constexpr (mode == walk_mode::summary) {
        columns = summary_columns(walk, span, head);
    } else {
        columns = walk_columns(walk, span, head);
    }
    constexpr bool gives_final_states =
        mode == walk_mode::outputs || mode == walk_mode::outputs_in_turn;
    const int ahead = walk.stages - 1;
    summary_watch watch = {};
    tile state[DK / TILE];

    if constexpr (mode == walk_mode::summary) {
        watch = watch_summary<T, DK>(walk, span, columns);
    }
    load_state<DK>(state, columns, walk.rule.dk,
                   mode != walk_mode::summary && walk.starts.is_across(span));
    for (int64_t next = span.begin - ahead; next < span.end; next++) {
        const int64_t slot = next;
        const int64_t loading = next + ahead;

        if (loading < span.end) {
            const rule_chunk chunk = chunk_at(span, loading);

            if (chunk.count > 0) {
                load_chunk<T, DK, mode>(
                    walk, chunk, loading, head,
                    stage_at<T, DK, mode>((int)(loading % walk.stages), walk.warps));
            }
        }
        cp_async_commit();
        if (slot < span.begin) {
            continue;
        }
        if (ahead == 1) {
            cp_async_wait<1>();
        } else {
            cp_async_wait<0>();
        }
        sync_block();

        const rule_chunk chunk = chunk_at(span, slot);
        const walk_stage<T> stage = stage_at<T, DK, mode>((int)(slot % walk.stages), walk.warps);

        if (chunk.count > 0 && (mode != walk_mode::summary || watch.alive)) {
            advance_chunk<T, DK, mode>(walk, chunk, slot, head, columns.first, stage, state);
        }
        if constexpr (mode == walk_mode::summary) {
            if (chunk.count > 0) {
                watch.look<DK>(state, stage.gates[GATE_TOTAL]);
            }
        }
        sync_block();
        if constexpr (mode == walk_mode::summary) {
            if (watch.block_is_done(walk.warps)) {
                cp_async_wait<0>();
                break;
            }
        }
    }
    if (columns.target != nullptr) {
        store_state<DK>(state, columns, walk.rule.dk,
                        gives_final_states && walk.starts.across && span.ends);
    }
}

} /* namespace GDNCP_KERNELS */

#endif
