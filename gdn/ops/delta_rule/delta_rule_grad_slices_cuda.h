/*
 * Products over the columns of v, which gradients of the delta rule's inputs begin with: of one
 * chunk and value head, by one block, slice by slice.
 *
 * Warp (i, part) has rows 16 i of the chunk's tokens, and the part's share of k's columns and of
 * the columns of matrices over pairs of tokens.
 */
#ifndef GDNCP_DELTA_RULE_GRAD_SLICES_CUDA_H
#define GDNCP_DELTA_RULE_GRAD_SLICES_CUDA_H

#include "delta_rule_records_cuda.h"

namespace GDNCP_KERNELS
{

/* Columns of v in a slice. */
constexpr int SLICE = TILE;

/* How the work is dealt out where dk is padded to DK. */
template <int DK> struct grad_share {
    static constexpr int parts = DK <= 128 ? 2 : 4; /* warps that have the same rows */
    static constexpr int warps = CHUNK_TILES * parts;
    static constexpr int threads = warps * WARP;
    static constexpr int token_threads =
        threads / CHUNK; /* where threads are dealt out to tokens */
    static constexpr int key_tiles = DK / TILE / parts;
    static constexpr int pair_tiles = CHUNK_TILES / parts;
};

template <typename T> struct inputs_arguments {
    device_rule<T> rule;
    token_rows<const T> grad_o;
    bool grad_aligned;
    chunk_records<T> chunks;
    walk_records<T> walk;
    token_rows<T> grad_q;
    token_rows<T> grad_k;
    token_rows<T> grad_v;
    float *grad_g;
    float *grad_beta;
    int stages; /* slices that shared memory has room for: 1 or 2 */
};

/* The work of a block. In shared memory, for it would take registers that sums need. */
struct inputs_item {
    int64_t slot;
    rule_chunk chunk;
    int key_head;
    int first_head; /* of the value heads that read the key head */
    int end_head;
};

/* A slice in shared memory. Leading dimensions as tile_mma.h advises. */
template <typename T, int DK> struct slice_shared {
    using element = mma_element<T>;
    static constexpr int planes = chunk_records<T>::planes;
    static constexpr int odd = sizeof(element) == 2 ? 8 : 4;
    static constexpr int grad_ld = SLICE + 8;
    static constexpr int token_ld = CHUNK + odd;
    static constexpr int token_plane = SLICE * token_ld;
    static constexpr int state_ld = DK + odd;
    static constexpr int state_plane = SLICE * state_ld;

    element grad_o[CHUNK * grad_ld];
    element u[planes * token_plane];
    element grad_r[planes * token_plane];
    element state[planes * state_plane];
    element grad_state[planes * state_plane];
};

/* A warp's sums over all columns of v. */
template <int DK> struct slice_sums {
    tile dots_u[grad_share<DK>::pair_tiles];  /* dO U' */
    tile dots_ru[grad_share<DK>::pair_tiles]; /* dR U' */
    tile from_o[grad_share<DK>::key_tiles];   /* dO S0' */
    tile from_r[grad_share<DK>::key_tiles];   /* dR S0' */
    tile from_u[grad_share<DK>::key_tiles];   /* U dS' */
    float values;                             /* part of a row of V times dR */
    float states;                             /* part of <dS, S0> */
};

template <int DK> GDNCP_FN void clear(slice_sums<DK> &sums)
{
    GDNCP_UNROLL
    for (int n = 0; n < grad_share<DK>::pair_tiles; n++) {
        clear(sums.dots_u[n]);
        clear(sums.dots_ru[n]);
    }
    GDNCP_UNROLL
    for (int n = 0; n < grad_share<DK>::key_tiles; n++) {
        clear(sums.from_o[n]);
        clear(sums.from_r[n]);
        clear(sums.from_u[n]);
    }
    sums.values = 0.0f;
    sums.states = 0.0f;
}

/* shared [SLICE, ld] = as many rows of a record's matrix, which has `columns`. */
template <int threads, typename Element>
GDNCP_FN void copy_record(Element *shared, int ld, const Element *record, int columns)
{
    constexpr int piece = 16 / (int)sizeof(Element);
    const int pieces = columns / piece;

    GDNCP_ROLLED
    for (int i = thread_index(); i < SLICE * pieces; i += threads) {
        cp_async_16(shared + i / pieces * ld + i % pieces * piece, record + i * piece, 16);
    }
}

/* Not done before a cp_async_commit(), cp_async_wait() and sync_block(). */
template <typename T, int DK>
GDNCP_FN void copy_slice(const inputs_arguments<T> &in, const rule_chunk &chunk, int64_t slot,
                         int head, int column, slice_shared<T, DK> &slice)
{
    using layout = slice_shared<T, DK>;
    constexpr int threads = grad_share<DK>::threads;
    const walk_record<T> record = in.walk.at(slot - in.chunks.first, head);

    copy_rows(slice.grad_o, layout::grad_ld, SLICE,
              in.grad_o.row(chunk.begin) + (int64_t)head * in.rule.dv, in.grad_o.stride, column,
              in.rule.dv, chunk.count, in.grad_aligned);
    GDNCP_UNROLL
    for (int i = 0; i < layout::planes; i++) {
        const int64_t tokens = (int64_t)i * in.walk.token_plane() + column * CHUNK;
        const int64_t states = (int64_t)i * in.walk.state_plane() + column * DK;

        copy_record<threads>(slice.u + i * layout::token_plane, layout::token_ld, record.u + tokens,
                             CHUNK);
        copy_record<threads>(slice.grad_r + i * layout::token_plane, layout::token_ld,
                             record.grad_r + tokens, CHUNK);
        copy_record<threads>(slice.state + i * layout::state_plane, layout::state_ld,
                             record.state + states, DK);
        copy_record<threads>(slice.grad_state + i * layout::state_plane, layout::state_ld,
                             record.grad_state + states, DK);
    }
}

template <typename T, int DK>
GDNCP_FN void multiply_slice(const slice_shared<T, DK> &slice, slice_sums<DK> &sums)
{
    using layout = slice_shared<T, DK>;
    using share = grad_share<DK>;
    const int row = warp() / share::parts;
    const int part = warp() % share::parts;
    operand_a<T, mma_format<T>::exact> grad_o;
    operand_a<T, 2> a;
    operand_b<T, 2> b;

    load_a(grad_o, slice.grad_o + row * TILE * layout::grad_ld, layout::grad_ld);
    load_a_across(a, slice.grad_r + row * TILE, layout::token_ld, layout::token_plane);
    GDNCP_UNROLL
    for (int n = 0; n < share::pair_tiles; n++) {
        const int column = part * share::pair_tiles + n;

        if (column <= row) {
            load_b(b, slice.u + column * TILE, layout::token_ld, layout::token_plane);
            mma(sums.dots_u[n], grad_o, b);
            mma(sums.dots_ru[n], a, b);
        }
    }
    GDNCP_UNROLL
    for (int n = 0; n < share::key_tiles; n++) {
        load_b(b, slice.state + (part * share::key_tiles + n) * TILE, layout::state_ld,
               layout::state_plane);
        mma(sums.from_o[n], grad_o, b);
        mma(sums.from_r[n], a, b);
    }
    load_a_across(a, slice.u + row * TILE, layout::token_ld, layout::token_plane);
    GDNCP_UNROLL
    for (int n = 0; n < share::key_tiles; n++) {
        load_b(b, slice.grad_state + (part * share::key_tiles + n) * TILE, layout::state_ld,
               layout::state_plane);
        mma(sums.from_u[n], a, b);
    }
}

/* dV = diag(beta) dR of the slice's columns, and the two sums that take single elements. */
template <typename T, int DK>
GDNCP_FN void finish_slice(const inputs_arguments<T> &in, const rule_chunk &chunk, int head,
                           int first_column, const slice_shared<T, DK> &slice, const float *beta,
                           slice_sums<DK> &sums)
{
    using layout = slice_shared<T, DK>;
    constexpr int token_threads = grad_share<DK>::token_threads;
    constexpr int width = SLICE / token_threads;
    const int token = thread_index() / token_threads;
    const int64_t offset = (int64_t)head * in.rule.dv;

    for (int i = 0; i < width; i++) {
        const int row = thread_index() % token_threads * width + i;
        const int column = first_column + row;

        if (token < chunk.count && column < in.rule.dv) {
            const float grad_r =
                record_value(slice.grad_r + row * layout::token_ld + token, layout::token_plane);
            const float v = to_float(in.rule.v.row(chunk.begin + token)[offset + column]);

            in.grad_v.row(chunk.begin + token)[offset + column] =
                from_float<T>(beta[token] * grad_r);
            sums.values = fmaf(grad_r, v, sums.values);
        }
    }
    GDNCP_ROLLED
    for (int i = thread_index(); i < SLICE * DK; i += grad_share<DK>::threads) {
        const int place = i / DK * layout::state_ld + i % DK;

        sums.states =
            fmaf(record_value(slice.state + place, layout::state_plane),
                 record_value(slice.grad_state + place, layout::state_plane), sums.states);
    }
}

} /* namespace GDNCP_KERNELS */

#endif
