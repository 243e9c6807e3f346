/*
 * Gradients of q, k, v, g and beta of one chunk and key head, by one block. Value heads of the key
 * head's group come one after the other, so that gradients of q and k are summed in their order.
 * What the next slice of v's columns needs arrives while this one's products are made, beyond the
 * end of a head too, where shared memory has room for two slices.
 */
#include "delta_rule_grad_inputs_cuda.h"
#include "delta_rule_grad_pairs_cuda.h"

namespace GDNCP_KERNELS
{

namespace
{

/* Gradients of q and k as given, but for the projection that normalising asks for. */
template <int DK> struct key_sums {
    tile q[grad_share<DK>::key_tiles];
    tile k[grad_share<DK>::key_tiles];
};

/* After the block's own shared memory two slices and prefix, or one slice in whose place prefix is
 * too. */
template <typename T, int DK> constexpr size_t inputs_bytes(int stages)
{
    static_assert(sizeof(slice_shared<T, DK>) >= CHUNK * PREFIX_LD * sizeof(float), "of one slice");
    return sizeof(inputs_shared<T, DK>) + (size_t)stages * sizeof(slice_shared<T, DK>) +
           (stages == 2 ? CHUNK * PREFIX_LD * sizeof(float) : 0);
}

template <typename T, int DK> GDNCP_FN slice_shared<T, DK> *slices_of(inputs_shared<T, DK> &shared)
{
    return reinterpret_cast<slice_shared<T, DK> *>(&shared + 1);
}

template <typename T> GDNCP_FN int stage_of(const inputs_arguments<T> &in, int head, int column)
{
    const int slices = (in.rule.dv + SLICE - 1) / SLICE;

    return in.stages == 2 ? (head * slices + column / SLICE) % 2 : 0;
}

/* A slice of v's columns, and with a head's first one its gates. */
template <typename T, int DK>
GDNCP_FN void copy_stage(const inputs_arguments<T> &in, const inputs_item &item, int head,
                         int column, inputs_shared<T, DK> &shared)
{
    copy_slice(in, item.chunk, item.slot, head, column,
               slices_of(shared)[stage_of(in, head, column)]);
    if (column == 0) {
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
template <typename T, int DK>
GDNCP_FN void copy_pair_matrices(const inputs_arguments<T> &in, int64_t slot, int head,
                                 inputs_shared<T, DK> &shared, float *prefix)
{
    using layout = inputs_shared<T, DK>;

    GDNCP_UNROLL
    for (int i = 0; i < chunk_records<T>::planes; i++) {
        copy_pairs(shared.grad_qk + i * layout::pair_plane, layout::pair_ld,
                   in.chunks.attention_of(slot, head) + i * PAIR_ELEMENTS);
    }
    copy_pairs(prefix, PREFIX_LD, in.chunks.products_of(slot, head));
    cp_async_commit();
}

/* Products over v's columns, for one head. */
template <typename T, int DK>
GDNCP_FN void sum_slices(const inputs_arguments<T> &in, const inputs_item &item, int head,
                         inputs_shared<T, DK> &shared, float *prefix, slice_sums<DK> &sums)
{
    const float *const beta = shared.gates[head % 2].rows + BETA * CHUNK;
    const bool ahead = in.stages == 2;

    for (int column = 0; column < in.rule.dv; column += SLICE) {
        const slice_shared<T, DK> &slice = slices_of(shared)[stage_of(in, head, column)];

        if (!ahead) {
            sync_block();
            copy_stage(in, item, head, column, shared);
        }
        cp_async_wait<0>();
        sync_block();
        if (ahead && column == 0) {
            copy_pair_matrices(in, item.slot, head, shared, prefix);
        }
        if (ahead && column + SLICE < in.rule.dv) {
            copy_stage(in, item, head, column + SLICE, shared);
        } else if (ahead && head + 1 < item.end_head) {
            copy_stage(in, item, head + 1, 0, shared);
        }
        multiply_slice(slice, sums);
        finish_slice(in, item.chunk, head, column, slice, beta, sums);
    }
    if (!ahead) {
        sync_block();
        copy_pair_matrices(in, item.slot, head, shared, prefix);
    }
    cp_async_wait<0>();
    sync_block();
}

/* The products with states, scaled. */
template <int DK>
GDNCP_FN void add_state_terms(const gates_shared &gates, const slice_sums<DK> &sums,
                              key_sums<DK> &grads)
{
    const int first_row = warp() / grad_share<DK>::parts * TILE;
    float of_o[2];
    float of_r[2];
    float of_u[2];

    GDNCP_UNROLL
    for (int h = 0; h < 2; h++) {
        const int i = first_row + tile_row(h);

        of_o[h] = gates.rows[OUT * CHUNK + i];
        of_r[h] = -gates.rows[FROM_START * CHUNK + i] * gates.rows[BETA * CHUNK + i];
        of_u[h] = gates.rows[TO_END * CHUNK + i];
    }
    GDNCP_UNROLL
    for (int n = 0; n < grad_share<DK>::key_tiles; n++) {
        GDNCP_UNROLL
        for (int x = 0; x < 8; x++) {
            const int h = x / 2 % 2;
            float &q = grads.q[n].x[x / 4][x % 4];
            float &k = grads.k[n].x[x / 4][x % 4];

            q = fmaf(of_o[h], sums.from_o[n].x[x / 4][x % 4], q);
            k = fmaf(of_r[h], sums.from_r[n].x[x / 4][x % 4], k);
            k = fmaf(of_u[h], sums.from_u[n].x[x / 4][x % 4], k);
        }
    }
}

/* What one value head adds to the gradients of q and k, and all of its own. */
template <typename T, int DK>
GDNCP_FN void add_head(const inputs_arguments<T> &in, const inputs_item &item, int head,
                       inputs_shared<T, DK> &shared, key_sums<DK> &grads)
{
    using layout = inputs_shared<T, DK>;
    using share = grad_share<DK>;
    float *const prefix = reinterpret_cast<float *>(slices_of(shared) + (in.stages == 2 ? 2 : 0));
    slice_sums<DK> sums;

    clear(sums);
    sum_slices(in, item, head, shared, prefix, sums);

    const gates_shared &gates = shared.gates[head % 2];
    const int row = warp() / share::parts * TILE;
    const int part = warp() % share::parts;
    const int place = row * layout::key_ld + part * share::key_tiles * TILE;
    const int token = thread_index() / share::token_threads;
    const bool is_first = thread_index() % share::token_threads == 0;
    const int64_t gate = (item.chunk.begin + token) * in.rule.num_value_heads + head;

    grad_pairs(in.rule.scale, gates, sums, shared, prefix);
    row_dots<share::key_tiles>(shared.q + place, layout::key_ld, sums.from_o,
                               shared.dots_q[part] + row);
    row_dots<share::key_tiles>(shared.k + place, layout::key_ld, sums.from_r,
                               shared.dots_k[part] + row);
    row_dots<share::key_tiles>(shared.k + place, layout::key_ld, sums.from_u,
                               shared.dots_end[part] + row);
    GDNCP_UNROLL
    for (int mask = 1; mask < share::token_threads; mask *= 2) {
        sums.values += shuffle_xor(sums.values, mask);
    }
    if (is_first) {
        shared.dots_values[token] = sums.values;
    }
    sums.states = warp_sum(sums.states);
    if (lane() == 0) {
        shared.of_states[warp()] = sums.states;
    }
    add_state_terms(gates, sums, grads);
    sync_block();

    if (is_first) {
        const float grad_beta = finish_token(gates, token, shared);

        if (token < item.chunk.count) {
            in.grad_beta[gate] = grad_beta;
        }
    }
    for (int i = warp(); i < CHUNK; i += share::warps) {
        sum_along_row(prefix + i * PREFIX_LD);
    }
    add_pair_terms(shared, grads.q, grads.k);
    sync_block();

    const float grad_g = grad_of_gate(gates, shared, prefix);

    if (is_first && token < item.chunk.count) {
        in.grad_g[gate] = grad_g;
    }
}

/* From h = r dy, with y = r x and r the factor that normalises x: dx = h - r^2 x (x . h). The rows
 * of x in shared memory become their gradients. */
template <typename T, int DK>
GDNCP_FN void normalise_backward(const tile *grad, const float *factors, bool l2norm,
                                 const float (*dots)[CHUNK], mma_element<T> *x, int ld)
{
    using share = grad_share<DK>;
    const int first_row = warp() / share::parts * TILE;
    float along[2] = {0.0f, 0.0f};

    for (int h = 0; h < 2 && l2norm; h++) {
        const int i = first_row + tile_row(h);

        for (int part = 0; part < share::parts; part++) {
            along[h] += dots[part][i];
        }
        along[h] *= factors[i] * factors[i];
    }
    GDNCP_UNROLL
    for (int n = 0; n < share::key_tiles; n++) {
        tile t;

        load_tile(t, x + n * TILE, ld);
        GDNCP_UNROLL
        for (int i = 0; i < 8; i++) {
            t.x[i / 4][i % 4] = fmaf(-along[i / 2 % 2], t.x[i / 4][i % 4], grad[n].x[i / 4][i % 4]);
        }
        sync_warp();
        store_tile(t, x + n * TILE, ld);
    }
}

template <typename T>
GDNCP_FN void write_rows(const mma_element<T> *rows, int ld, const inputs_item &item, int dk,
                         const token_rows<T> &target)
{
    for (int i = thread_index(); i < item.chunk.count * dk; i += num_threads()) {
        target.row(item.chunk.begin + i / dk)[(int64_t)item.key_head * dk + i % dk] =
            from_float<T>(to_float(rows[i / dk * ld + i % dk]));
    }
}

template <typename T, int DK>
GDNCP_FN void write_key_grads(const inputs_arguments<T> &in, const inputs_item &item,
                              inputs_shared<T, DK> &shared, const key_sums<DK> &grads)
{
    using layout = inputs_shared<T, DK>;
    using share = grad_share<DK>;
    const int row = warp() / share::parts * TILE;
    const int part = warp() % share::parts;
    const int place = row * layout::key_ld + part * share::key_tiles * TILE;

    row_dots<share::key_tiles>(shared.q + place, layout::key_ld, grads.q,
                               shared.dots_q[part] + row);
    row_dots<share::key_tiles>(shared.k + place, layout::key_ld, grads.k,
                               shared.dots_k[part] + row);
    sync_block();
    normalise_backward<T, DK>(grads.q, shared.factors + CHUNK, in.rule.l2norm, shared.dots_q,
                              shared.q + place, layout::key_ld);
    normalise_backward<T, DK>(grads.k, shared.factors, in.rule.l2norm, shared.dots_k,
                              shared.k + place, layout::key_ld);
    sync_block();
    write_rows(shared.q, layout::key_ld, item, in.rule.dk, in.grad_q);
    write_rows(shared.k, layout::key_ld, item, in.rule.dk, in.grad_k);
}

template <typename T> GDNCP_FN inputs_item find_item(const inputs_arguments<T> &in)
{
    const device_rule<T> &rule = in.rule;
    inputs_item item;

    item.slot = in.chunks.first + block_x() / rule.num_key_heads;
    item.chunk = find_chunk(rule.pack, item.slot);
    item.key_head = (int)(block_x() % rule.num_key_heads);
    const int first = item.key_head * rule.group_size - rule.group_phase;
    const int end = first + rule.group_size;

    item.first_head = first < 0 ? 0 : first;
    item.end_head = end < rule.num_value_heads ? end : rule.num_value_heads;
    return item;
}

template <typename T, int DK>
GDNCP_KERNEL(grad_share<DK>::threads, 1)
void grad_inputs_kernel(inputs_arguments<T> in)
{
    using layout = inputs_shared<T, DK>;
    layout &shared = *reinterpret_cast<layout *>(shared_memory());
    const device_rule<T> &rule = in.rule;
    inputs_item &item = shared.item;
    key_sums<DK> grads;

    if (thread_index() == 0) {
        item = find_item(in);
    }
    sync_block();
    if (item.chunk.count == 0) {
        return;
    }
    const int64_t offset = (int64_t)item.key_head * rule.dk;

    copy_rows(shared.k, layout::key_ld, DK, rule.k.row(item.chunk.begin) + offset, rule.k.stride, 0,
              rule.dk, item.chunk.count, rule.k_aligned);
    copy_rows(shared.q, layout::key_ld, DK, rule.q.row(item.chunk.begin) + offset, rule.q.stride, 0,
              rule.dk, item.chunk.count, rule.k_aligned);
    cp_async_commit();
    for (int i = thread_index(); i < 2 * CHUNK; i += num_threads()) {
        shared.factors[i] = in.chunks.factors_of(item.slot, item.key_head)[i];
    }
    if (in.stages == 2 && item.first_head < item.end_head) {
        copy_stage(in, item, item.first_head, 0, shared);
    }
    GDNCP_UNROLL
    for (int n = 0; n < grad_share<DK>::key_tiles; n++) {
        clear(grads.q[n]);
        clear(grads.k[n]);
    }
    for (int head = item.first_head; head < item.end_head; head++) {
        add_head(in, item, head, shared, grads);
    }
    cp_async_wait<0>();
    sync_block();
    write_key_grads(in, item, shared, grads);
}

template <typename T, int DK>
gdncp_status_t launch_inputs(const gdncp_rule_problem_t &problem, const chunk_records<T> &chunks,
                             const walk_records<T> &walk, const gdncp_tensor_t &grad_o,
                             const gdncp_delta_rule_grads_t &grads, gdncp_stream_t stream)
{
    gdncp_device_info_t device;
    inputs_arguments<T> arguments = {device_rule_of<T>(problem, true),
                                     rows_of<const T>(grad_o),
                                     rows_aligned(grad_o),
                                     chunks,
                                     walk,
                                     rows_of<T>(grads.q),
                                     rows_of<T>(grads.k),
                                     rows_of<T>(grads.v),
                                     static_cast<float *>(grads.g.data),
                                     static_cast<float *>(grads.beta.data),
                                     2};
    const gdncp_status_t status = gdncp_device_describe(GDNCP_DEVICE_CUDA, &device);

    if (status != GDNCP_OK) {
        return status;
    }
    if (inputs_bytes<T, DK>(2) > device.shared_bytes) {
        arguments.stages = 1;
    }
    const size_t bytes = inputs_bytes<T, DK>(arguments.stages);

    if (bytes > device.shared_bytes) {
        return fail_shared(problem, bytes, device);
    }
    return launch("delta_rule_grad_inputs", grad_inputs_kernel<T, DK>,
                  {chunks.num_slots * problem.num_key_heads, 1, 1}, grad_share<DK>::threads, bytes,
                  stream, arguments);
}

} /* namespace */

template <typename T>
gdncp_status_t grad_inputs(const gdncp_rule_problem_t &problem, const chunk_records<T> &chunks,
                           const walk_records<T> &walk, const gdncp_tensor_t &grad_o,
                           const gdncp_delta_rule_grads_t &grads, gdncp_stream_t stream)
{
    return with_key_dim(problem.dk, [&](auto padded) {
        return launch_inputs<T, decltype(padded)::value>(problem, chunks, walk, grad_o, grads,
                                                         stream);
    });
}

template gdncp_status_t grad_inputs(const gdncp_rule_problem_t &, const chunk_records<float> &,
                                    const walk_records<float> &, const gdncp_tensor_t &,
                                    const gdncp_delta_rule_grads_t &, gdncp_stream_t);
template gdncp_status_t grad_inputs(const gdncp_rule_problem_t &, const chunk_records<bf16> &,
                                    const walk_records<bf16> &, const gdncp_tensor_t &,
                                    const gdncp_delta_rule_grads_t &, gdncp_stream_t);
template gdncp_status_t grad_inputs(const gdncp_rule_problem_t &, const chunk_records<f16> &,
                                    const walk_records<f16> &, const gdncp_tensor_t &,
                                    const gdncp_delta_rule_grads_t &, gdncp_stream_t);

} /* namespace GDNCP_KERNELS */
