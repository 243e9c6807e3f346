/*
 * What a block that makes gradients of inputs has in shared memory: where slices, panels of K and Q
 * and matrices over pairs lie, and how they come there.
 */
#ifndef GDNCP_DELTA_RULE_GRAD_STAGES_CUDA_H
#define GDNCP_DELTA_RULE_GRAD_STAGES_CUDA_H

#include "delta_rule_grad_pairs_cuda.h"

namespace GDNCP_KERNELS
{

constexpr size_t PREFIX_BYTES = CHUNK * PREFIX_LD * sizeof(float);

/* After the block's own shared memory two slices and prefix, or one slice in whose place prefix is
 * too. By panels prefix alone. */
template <typename T, int DK, bool by_panels> constexpr size_t inputs_bytes(int stages)
{
    using slice = slice_shared<T, DK, by_panels>;

    if (by_panels) {
        return sizeof(inputs_shared<T, DK, by_panels>) + PREFIX_BYTES;
    }
    return sizeof(inputs_shared<T, DK, by_panels>) + (size_t)stages * sizeof(slice) +
           (stages == 2 ? PREFIX_BYTES : 0);
}

/* Where a head's slice is; by panels it is where K, Q and P will be. */
template <typename T, int DK, bool by_panels>
GDNCP_FN slice_shared<T, DK, by_panels> &slice_at(const inputs_arguments<T> &in, int head,
                                                  int column,
                                                  inputs_shared<T, DK, by_panels> &shared)
{
    using slice = slice_shared<T, DK, by_panels>;
    const int slices = (in.rule.dv + SLICE - 1) / SLICE;

    if constexpr (by_panels) {
        static_assert(sizeof(slice) <= sizeof shared.k + sizeof shared.q + sizeof shared.grad_qk,
                      "in their place");
        return *reinterpret_cast<slice *>(shared.k);
    } else {
        static_assert(sizeof(slice) >= PREFIX_BYTES, "of one slice");
        return reinterpret_cast<slice *>(
            &shared + 1)[in.stages == 2 ? (head * slices + column / SLICE) % 2 : 0];
    }
}

template <typename T, int DK, bool by_panels>
GDNCP_FN float *prefix_of(const inputs_arguments<T> &in, inputs_shared<T, DK, by_panels> &shared)
{
    const int slices = !by_panels && in.stages == 2 ? 2 : 0;

    return reinterpret_cast<float *>(
        reinterpret_cast<slice_shared<T, DK, by_panels> *>(&shared + 1) + slices);
}

/* A panel of K and Q. */
template <typename T, int DK, bool by_panels>
GDNCP_FN void copy_keys(const inputs_arguments<T> &in, const inputs_item &item, int panel,
                        inputs_shared<T, DK, by_panels> &shared)
{
    constexpr int ld = inputs_shared<T, DK, by_panels>::key_ld;
    constexpr int tiles = key_panel<DK, by_panels>::tiles;
    const device_rule<T> &rule = in.rule;
    const T *const k = rule.k.row(item.chunk.begin) + (int64_t)item.key_head * rule.dk;
    const T *const q = rule.q.row(item.chunk.begin) + (int64_t)item.key_head * rule.dk;

    for (int part = 0; part < (by_panels ? grad_share<DK>::parts : 1); part++) {
        const int columns = by_panels ? TILE : DK;
        const int first = (part * grad_share<DK>::key_tiles + panel) * TILE;

        copy_rows(shared.k + part * tiles * TILE, ld, columns, k, rule.k.stride, first, rule.dk,
                  item.chunk.count, rule.k_aligned);
        copy_rows(shared.q + part * tiles * TILE, ld, columns, q, rule.q.stride, first, rule.dk,
                  item.chunk.count, rule.k_aligned);
    }
}

/* That panel is where all warps read it; without panels it has been all the time. */
template <typename T, int DK, bool by_panels>
GDNCP_FN void load_panel(const inputs_arguments<T> &in, const inputs_item &item, int panel,
                         inputs_shared<T, DK, by_panels> &shared)
{
    if constexpr (by_panels) {
        sync_block();
        copy_keys(in, item, panel, shared);
        finish_loading();
    }
}

/* A slice of v's columns, and with a head's first one its gates. */
template <typename T, int DK, bool by_panels>
GDNCP_FN void copy_stage(const inputs_arguments<T> &in, const inputs_item &item, int head,
                         int column, int pass, inputs_shared<T, DK, by_panels> &shared)
{
    copy_slice(in, item.chunk, item.slot, head, column, pass, slice_at(in, head, column, shared));
    if (column == 0 && pass == 0) {
        gates_shared &gates = shared.gates[head % 2];
        const float *const rows = in.chunks.gates_of(item.slot, head);
        const double *const sums = in.chunks.sums_of(item.slot, head);

        for (int i = thread_index(); i < GATE_FLOATS / 4; i += num_threads()) {
            cp_async_16(gates.rows + 4 * i, rows + 4 * i, 16);
        }
        for (int i = thread_index(); i < CHUNK / 2; i += num_threads()) {
            cp_async_16(gates.sums + 2 * i, sums + 2 * i, 16);
        }
    }
    cp_async_commit();
}

/* P and A, to where grad_pairs() reads them. */
template <typename T, int DK, bool by_panels>
GDNCP_FN void copy_pair_matrices(const inputs_arguments<T> &in, int64_t slot, int head,
                                 inputs_shared<T, DK, by_panels> &shared, float *prefix)
{
    using layout = inputs_shared<T, DK, by_panels>;

    GDNCP_UNROLL
    for (int i = 0; i < chunk_records<T>::planes; i++) {
        copy_pairs(shared.grad_qk + i * layout::pair_plane, layout::pair_ld,
                   in.chunks.attention_of(slot, head) + i * PAIR_ELEMENTS);
    }
    copy_pairs(prefix, PREFIX_LD, in.chunks.products_of(slot, head));
    cp_async_commit();
}

} /* namespace GDNCP_KERNELS */

#endif
