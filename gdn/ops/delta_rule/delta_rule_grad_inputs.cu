/*
 * Gradients of q, k, v, g and beta of one chunk and key head, by one block. Value heads of the key
 * head's group come one after the other, so that gradients of q and k are summed in their order.
 * What the next slice of v's columns needs arrives while this one's products are made, beyond the
 * end of a head too, where shared memory has room for two slices. By panels, it has room for a
 * slice or for a panel of K and Q.
 */
#include "delta_rule_grad_inputs_cuda.h"
#include "delta_rule_grad_stages_cuda.h"

namespace GDNCP_KERNELS
{

namespace
{

/* Gradients of q and k as given, but for the projection that normalising asks for. */
template <int DK> struct key_sums {
    tile q[grad_share<DK>::key_tiles];
    tile k[grad_share<DK>::key_tiles];
};

/* Columns of k whose sums fit into registers together; of more they are made by panels. */
constexpr int MOST_AT_ONCE = 128;

/* Products over v's columns, for one head, of one pass. */
template <typename T, int DK, bool by_panels>
GDNCP_FN void sum_slices(const inputs_arguments<T> &in, const inputs_item &item, int head, int pass,
                         inputs_shared<T, DK, by_panels> &shared, float *prefix,
                         slice_sums<DK, by_panels> &sums)
{
    const float *const beta = shared.gates[head % 2].rows + BETA * CHUNK;
    const bool ahead = !by_panels && in.stages == 2;

    for (int column = 0; column < in.rule.dv; column += SLICE) {
        const slice_shared<T, DK, by_panels> &slice = slice_at(in, head, column, shared);

        if (!ahead) {
            sync_block();
            copy_stage(in, item, head, column, pass, shared);
        }
        cp_async_wait<0>();
        sync_block();
        if (ahead && column == 0) {
            copy_pair_matrices(in, item.slot, head, shared, prefix);
        }
        if (ahead && column + SLICE < in.rule.dv) {
            copy_stage(in, item, head, column + SLICE, 0, shared);
        } else if (ahead && head + 1 < item.end_head) {
            copy_stage(in, item, head + 1, 0, 0, shared);
        }
        multiply_slice(slice, pass, sums);
        finish_slice(in, item.chunk, head, column, pass, slice, beta, sums);
    }
    if (!ahead && pass == key_panel<DK, by_panels>::pairs_pass) {
        sync_block();
        copy_pair_matrices(in, item.slot, head, shared, prefix);
    }
    cp_async_wait<0>();
    sync_block();
}

/* The products with states, scaled: what a panel's columns of q and k receive. */
template <int DK, bool by_panels>
GDNCP_FN void add_state_terms(const gates_shared &gates, const slice_sums<DK, by_panels> &sums,
                              tile *grad_q, tile *grad_k)
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
    for (int n = 0; n < key_panel<DK, by_panels>::tiles; n++) {
        GDNCP_UNROLL
        for (int x = 0; x < 8; x++) {
            const int h = x / 2 % 2;
            float &q = grad_q[n].x[x / 4][x % 4];
            float &k = grad_k[n].x[x / 4][x % 4];

            q = fmaf(of_o[h], sums.from_o[n].x[x / 4][x % 4], q);
            k = fmaf(of_r[h], sums.from_r[n].x[x / 4][x % 4], k);
            k = fmaf(of_u[h], sums.from_u[n].x[x / 4][x % 4], k);
        }
    }
}

/* What one value head adds to the gradients of q and k, and all of its own. */
template <typename T, int DK, bool by_panels>
GDNCP_FN void add_head(const inputs_arguments<T> &in, const inputs_item &item, int head,
                       inputs_shared<T, DK, by_panels> &shared, key_sums<DK> &grads)
{
    using layout = inputs_shared<T, DK, by_panels>;
    using share = grad_share<DK>;
    using keys = key_panel<DK, by_panels>;
    float *const prefix = prefix_of(in, shared);
    float dot_q[2] = {0.0f, 0.0f};
    float dot_k[2] = {0.0f, 0.0f};
    float dot_end[2] = {0.0f, 0.0f};
    slice_sums<DK, by_panels> sums;

    GDNCP_UNROLL
    for (int pass = 0; pass < keys::passes; pass++) {
        clear(sums, pass);
        sum_slices(in, item, head, pass, shared, prefix, sums);
        if (by_panels && pass < keys::count) {
            load_panel(in, item, pass, shared);
            add_row_dots<keys::tiles>(shared.q + layout::own_place(), layout::key_ld, sums.from_o,
                                      dot_q);
            add_row_dots<keys::tiles>(shared.k + layout::own_place(), layout::key_ld, sums.from_r,
                                      dot_k);
            add_row_dots<keys::tiles>(shared.k + layout::own_place(), layout::key_ld, sums.from_u,
                                      dot_end);
            add_state_terms(shared.gates[head % 2], sums, grads.q + pass, grads.k + pass);
        }
    }
    const gates_shared &gates = shared.gates[head % 2];
    const int row = warp() / share::parts * TILE;
    const int part = warp() % share::parts;
    const int place = layout::own_place();
    const int token = thread_index() / share::token_threads;
    const bool is_first = thread_index() % share::token_threads == 0;
    const int64_t gate = (item.chunk.begin + token) * in.rule.num_value_heads + head;

    grad_pairs(in.rule.scale, gates, sums, shared, prefix);
    if constexpr (!by_panels) {
        add_row_dots<keys::tiles>(shared.q + place, layout::key_ld, sums.from_o, dot_q);
    }
    write_row_dots(dot_q, shared.dots_q[part] + row);
    if constexpr (!by_panels) {
        add_row_dots<keys::tiles>(shared.k + place, layout::key_ld, sums.from_r, dot_k);
    }
    write_row_dots(dot_k, shared.dots_k[part] + row);
    if constexpr (!by_panels) {
        add_row_dots<keys::tiles>(shared.k + place, layout::key_ld, sums.from_u, dot_end);
    }
    write_row_dots(dot_end, shared.dots_end[part] + row);
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
    if constexpr (!by_panels) {
        add_state_terms(gates, sums, grads.q, grads.k);
    }
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
    GDNCP_UNROLL
    for (int panel = 0; panel < keys::count; panel++) {
        load_panel(in, item, panel, shared);
        add_pair_terms(shared, grads.q + panel * keys::tiles, grads.k + panel * keys::tiles);
    }
    sync_block();

    const float grad_g = grad_of_gate(gates, shared, prefix);

    if (is_first && token < item.chunk.count) {
        in.grad_g[gate] = grad_g;
    }
}

/* From h = r dy, with y = r x and r the factor that normalises x: dx = h - r^2 x (x . h). The
 * panel's rows of x in shared memory become their gradients. */
template <typename T, int DK, bool by_panels>
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
    for (int n = 0; n < key_panel<DK, by_panels>::tiles; n++) {
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

template <typename Panel, typename T>
GDNCP_FN void write_rows(const mma_element<T> *rows, int ld, const inputs_item &item, int panel,
                         int dk, const token_rows<T> &target)
{
    for (int i = thread_index(); i < item.chunk.count * dk; i += num_threads()) {
        if (Panel::has(panel, i % dk)) {
            target.row(item.chunk.begin + i / dk)[(int64_t)item.key_head * dk + i % dk] =
                from_float<T>(to_float(rows[i / dk * ld + Panel::place(i % dk)]));
        }
    }
}

/* dots = the warp's columns of rows of x, which is K or Q, times their gradients. */
template <typename T, int DK, bool by_panels>
GDNCP_FN void sum_key_dots(const inputs_arguments<T> &in, const inputs_item &item,
                           inputs_shared<T, DK, by_panels> &shared, const mma_element<T> *x,
                           const tile *grad, float (*dots)[CHUNK])
{
    using layout = inputs_shared<T, DK, by_panels>;
    using keys = key_panel<DK, by_panels>;
    float dot[2] = {0.0f, 0.0f};

    GDNCP_UNROLL
    for (int panel = 0; panel < keys::count; panel++) {
        load_panel(in, item, panel, shared);
        add_row_dots<keys::tiles>(x + layout::own_place(), layout::key_ld,
                                  grad + panel * keys::tiles, dot);
    }
    write_row_dots(dot, dots[warp() % layout::parts] + warp() / layout::parts * TILE);
}

template <typename T, int DK, bool by_panels>
GDNCP_FN void write_key_grads(const inputs_arguments<T> &in, const inputs_item &item,
                              inputs_shared<T, DK, by_panels> &shared, const key_sums<DK> &grads)
{
    using layout = inputs_shared<T, DK, by_panels>;
    using keys = key_panel<DK, by_panels>;
    const int place = layout::own_place();

    sum_key_dots(in, item, shared, shared.q, grads.q, shared.dots_q);
    sum_key_dots(in, item, shared, shared.k, grads.k, shared.dots_k);
    sync_block();
    GDNCP_UNROLL
    for (int panel = 0; panel < keys::count; panel++) {
        load_panel(in, item, panel, shared);
        normalise_backward<T, DK, by_panels>(grads.q + panel * keys::tiles, shared.factors + CHUNK,
                                             in.rule.l2norm, shared.dots_q, shared.q + place,
                                             layout::key_ld);
        normalise_backward<T, DK, by_panels>(grads.k + panel * keys::tiles, shared.factors,
                                             in.rule.l2norm, shared.dots_k, shared.k + place,
                                             layout::key_ld);
        sync_block();
        write_rows<keys>(shared.q, layout::key_ld, item, panel, in.rule.dk, in.grad_q);
        write_rows<keys>(shared.k, layout::key_ld, item, panel, in.rule.dk, in.grad_k);
    }
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

template <typename T, int DK, bool by_panels>
GDNCP_KERNEL(grad_share<DK>::threads, 1)
void grad_inputs_kernel(inputs_arguments<T> in)
{
    using layout = inputs_shared<T, DK, by_panels>;
    layout &shared = *reinterpret_cast<layout *>(shared_memory());
    inputs_item &item = shared.item;
    key_sums<DK> grads;

    if (thread_index() == 0) {
        item = find_item(in);
    }
    sync_block();
    if (item.chunk.count == 0) {
        return;
    }
    if constexpr (!by_panels) {
        copy_keys(in, item, 0, shared);
        cp_async_commit();
    }
    for (int i = thread_index(); i < 2 * CHUNK; i += num_threads()) {
        shared.factors[i] = in.chunks.factors_of(item.slot, item.key_head)[i];
    }
    if (!by_panels && in.stages == 2 && item.first_head < item.end_head) {
        copy_stage(in, item, item.first_head, 0, 0, shared);
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
                                     1};
    const gdncp_status_t status = gdncp_device_describe(GDNCP_DEVICE_CUDA, &device);

    if (status != GDNCP_OK) {
        return status;
    }
    const auto launch_as = [&](auto by_panels, int stages) {
        constexpr bool panels = decltype(by_panels)::value;

        arguments.stages = stages;
        return launch("delta_rule_grad_inputs", grad_inputs_kernel<T, DK, panels>,
                      {chunks.num_slots * problem.num_key_heads, 1, 1}, grad_share<DK>::threads,
                      inputs_bytes<T, DK, panels>(stages), stream, arguments);
    };

    static_assert(inputs_bytes<T, DK, true>(1) <= SMALLEST_SHARED, "on every device");
    if constexpr (DK > MOST_AT_ONCE) {
        return launch_as(std::true_type(), 1);
    } else {
        constexpr size_t bytes = inputs_bytes<T, DK, false>(1);

        if constexpr (bytes > SMALLEST_SHARED) {
            if (bytes > device.shared_bytes) {
                return launch_as(std::true_type(), 1);
            }
        }
        return launch_as(std::false_type(),
                         inputs_bytes<T, DK, false>(2) <= device.shared_bytes ? 2 : 1);
    }
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
