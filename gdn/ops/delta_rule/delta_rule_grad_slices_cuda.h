/*
 * Products over the columns of v, which gradients of the delta rule's inputs begin with: of one
 * chunk and value head, by one block, slice by slice.
 *
 * Warp (i, part) has rows 16 i of the chunk's tokens, and the part's share of k's columns and of
 * the columns of matrices over pairs of tokens. Where registers or shared memory have no room for
 * all columns of k, they come in panels of one tile of each part, with all slices for each panel.
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
    static constexpr int parts = 2; /* warps that have the same rows */
    static constexpr int warps = CHUNK_TILES * parts;
    static constexpr int threads = warps * WARP;
    static constexpr int token_threads =
        threads / CHUNK; /* where threads are dealt out to tokens */
    static constexpr int key_tiles = DK / TILE / parts;
    static constexpr int pair_tiles = CHUNK_TILES / parts;
};

/* The columns of k that are worked on at once: all, or panel `number` of key_tiles. Products over
 * pairs of tokens are made in the same pass over the slices of v, or in one of their own. */
template <int DK, bool by_panels> struct key_panel {
    static constexpr int count = by_panels ? grad_share<DK>::key_tiles : 1;
    static constexpr int pairs_pass = by_panels ? count : 0;
    static constexpr int passes = pairs_pass + 1;
    static constexpr int tiles = grad_share<DK>::key_tiles / count; /* of a part */
    static constexpr int columns = grad_share<DK>::parts * tiles * TILE;

    GDNCP_FN static bool has(int number, int column)
    {
        return count == 1 || column / TILE % count == number;
    }

    /* Where a column that it has lies in shared memory. */
    GDNCP_FN static int place(int column)
    {
        return count == 1 ? column : column / (count * TILE) * TILE + column % TILE;
    }
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
    int stages; /* slices that shared memory has room for: 1 or 2; by panels 1 */
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
template <typename T, int DK, bool by_panels> struct slice_shared {
    using element = mma_element<T>;
    static constexpr int planes = chunk_records<T>::planes;
    static constexpr int odd = sizeof(element) == 2 ? 8 : 4;
    static constexpr int grad_ld = SLICE + 8;
    static constexpr int token_ld = CHUNK + odd;
    static constexpr int token_plane = SLICE * token_ld;
    static constexpr int state_ld = key_panel<DK, by_panels>::columns + odd;
    static constexpr int state_plane = SLICE * state_ld;

    element grad_o[CHUNK * grad_ld];
    element u[planes * token_plane];
    element grad_r[planes * token_plane];
    element state[planes * state_plane];
    element grad_state[planes * state_plane];
};

/* A warp's sums over all columns of v; of products with states those of one panel. */
template <int DK, bool by_panels> struct slice_sums {
    tile dots_u[grad_share<DK>::pair_tiles];      /* dO U' */
    tile dots_ru[grad_share<DK>::pair_tiles];     /* dR U' */
    tile from_o[key_panel<DK, by_panels>::tiles]; /* dO S0' */
    tile from_r[key_panel<DK, by_panels>::tiles]; /* dR S0' */
    tile from_u[key_panel<DK, by_panels>::tiles]; /* U dS' */
    float values;                                 /* part of a row of V times dR */
    float states;                                 /* part of <dS, S0> */
};

/* What a pass adds to. */
template <int DK, bool by_panels> GDNCP_FN void clear(slice_sums<DK, by_panels> &sums, int pass)
{
    using keys = key_panel<DK, by_panels>;

    GDNCP_UNROLL
    for (int n = 0; n < grad_share<DK>::pair_tiles && pass == keys::pairs_pass; n++) {
        clear(sums.dots_u[n]);
        clear(sums.dots_ru[n]);
    }
    GDNCP_UNROLL
    for (int n = 0; n < keys::tiles && pass < keys::count; n++) {
        clear(sums.from_o[n]);
        clear(sums.from_r[n]);
        clear(sums.from_u[n]);
    }
    if (pass == 0) {
        sums.states = 0.0f;
    }
    if (pass == keys::pairs_pass) {
        sums.values = 0.0f;
    }
}

/* shared [SLICE, ld] = the panel's columns of as many rows of a record's matrix, which has
 * `columns`. */
template <typename Panel, int threads, typename Element>
GDNCP_FN void copy_record(Element *shared, int ld, const Element *record, int columns, int panel)
{
    constexpr int piece = 16 / (int)sizeof(Element);
    const int pieces = columns / piece;

    GDNCP_ROLLED
    for (int i = thread_index(); i < SLICE * pieces; i += threads) {
        const int column = i % pieces * piece;

        if (Panel::has(panel, column)) {
            cp_async_16(shared + i / pieces * ld + Panel::place(column), record + i * piece, 16);
        }
    }
}

/* Not done before a cp_async_commit(), cp_async_wait() and sync_block(). */
template <typename T, int DK, bool by_panels>
GDNCP_FN void copy_slice(const inputs_arguments<T> &in, const rule_chunk &chunk, int64_t slot,
                         int head, int column, int pass, slice_shared<T, DK, by_panels> &slice)
{
    using layout = slice_shared<T, DK, by_panels>;
    using keys = key_panel<DK, by_panels>;
    using all = key_panel<DK, false>;
    constexpr int threads = grad_share<DK>::threads;
    const walk_record<T> record = in.walk.at(slot - in.chunks.first, head);

    copy_rows(slice.grad_o, layout::grad_ld, SLICE,
              in.grad_o.row(chunk.begin) + (int64_t)head * in.rule.dv, in.grad_o.stride, column,
              in.rule.dv, chunk.count, in.grad_aligned);
    GDNCP_UNROLL
    for (int i = 0; i < layout::planes; i++) {
        const int64_t tokens = (int64_t)i * in.walk.token_plane() + column * CHUNK;
        const int64_t states = (int64_t)i * in.walk.state_plane() + column * DK;

        copy_record<all, threads>(slice.u + i * layout::token_plane, layout::token_ld,
                                  record.u + tokens, CHUNK, 0);
        copy_record<all, threads>(slice.grad_r + i * layout::token_plane, layout::token_ld,
                                  record.grad_r + tokens, CHUNK, 0);
        copy_record<keys, threads>(slice.state + i * layout::state_plane, layout::state_ld,
                                   record.state + states, DK, pass);
        copy_record<keys, threads>(slice.grad_state + i * layout::state_plane, layout::state_ld,
                                   record.grad_state + states, DK, pass);
    }
}

template <typename T, int DK, bool by_panels>
GDNCP_FN void multiply_slice(const slice_shared<T, DK, by_panels> &slice, int pass,
                             slice_sums<DK, by_panels> &sums)
{
    using layout = slice_shared<T, DK, by_panels>;
    using share = grad_share<DK>;
    using keys = key_panel<DK, by_panels>;
    constexpr int tiles = keys::tiles;
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

        if (column <= row && pass == keys::pairs_pass) {
            load_b(b, slice.u + column * TILE, layout::token_ld, layout::token_plane);
            mma(sums.dots_u[n], grad_o, b);
            mma(sums.dots_ru[n], a, b);
        }
    }
    if (pass == keys::count) {
        return;
    }
    GDNCP_UNROLL
    for (int n = 0; n < tiles; n++) {
        load_b(b, slice.state + (part * tiles + n) * TILE, layout::state_ld, layout::state_plane);
        mma(sums.from_o[n], grad_o, b);
        mma(sums.from_r[n], a, b);
    }
    load_a_across(a, slice.u + row * TILE, layout::token_ld, layout::token_plane);
    GDNCP_UNROLL
    for (int n = 0; n < tiles; n++) {
        load_b(b, slice.grad_state + (part * tiles + n) * TILE, layout::state_ld,
               layout::state_plane);
        mma(sums.from_u[n], a, b);
    }
}

/* dV = diag(beta) dR of the slice's columns, with products over pairs, and the two sums that take
 * single elements. */
template <typename T, int DK, bool by_panels>
GDNCP_FN void finish_slice(const inputs_arguments<T> &in, const rule_chunk &chunk, int head,
                           int first_column, int pass, const slice_shared<T, DK, by_panels> &slice,
                           const float *beta, slice_sums<DK, by_panels> &sums)
{
    using layout = slice_shared<T, DK, by_panels>;
    using keys = key_panel<DK, by_panels>;
    constexpr int token_threads = grad_share<DK>::token_threads;
    constexpr int width = SLICE / token_threads;
    const int token = thread_index() / token_threads;
    const int64_t offset = (int64_t)head * in.rule.dv;

    for (int i = 0; i < width; i++) {
        const int row = thread_index() % token_threads * width + i;
        const int column = first_column + row;

        if (token < chunk.count && column < in.rule.dv && pass == keys::pairs_pass) {
            const float grad_r =
                record_value(slice.grad_r + row * layout::token_ld + token, layout::token_plane);
            const float v = to_float(in.rule.v.row(chunk.begin + token)[offset + column]);

            in.grad_v.row(chunk.begin + token)[offset + column] =
                from_float<T>(beta[token] * grad_r);
            sums.values = fmaf(grad_r, v, sums.values);
        }
    }
    /* A thread has one column: the order of its sum is the same by panels. */
    static_assert(grad_share<DK>::threads % DK == 0, "whole rows at a time");
    GDNCP_ROLLED
    for (int i = thread_index(); i < SLICE * DK; i += grad_share<DK>::threads) {
        const int place = i / DK * layout::state_ld + keys::place(i % DK);

        if (keys::has(pass, i % DK)) {
            sums.states =
                fmaf(record_value(slice.state + place, layout::state_plane),
                     record_value(slice.grad_state + place, layout::state_plane), sums.states);
        }
    }
}

} /* namespace GDNCP_KERNELS */

#endif
