/*
 * The walk back with the gradient of the state. A warp holds 16 columns of v of it, transposed, in
 * registers through all chunks of a window; columns are independent of each other, so warps share
 * what they read and exchange nothing.
 */
#include "delta_rule_grad_walk_cuda.h"
#include "delta_rule_spans_cuda.h"
#include "delta_rule_walk_cuda.h"

namespace GDNCP_KERNELS
{

namespace
{

constexpr int WARPS = RECORD_GRAIN / TILE;
constexpr int THREADS = WARPS * WARP;
constexpr size_t SPAN_BYTES = (sizeof(walk_span) + 15) / 16 * 16;

template <typename T> struct grad_walk_arguments {
    device_rule<T> rule;
    token_rows<const T> grad_o;
    bool grad_aligned;
    chunk_records<T> chunks;
    walk_records<T> walk;
    grad_walk_sequences sequences;
    int slices; /* of v's columns */
    int stages; /* chunks that shared memory has room for: 1 or 2 */
};

/* A chunk in shared memory. Leading dimensions as tile_mma.h advises. */
template <typename T, int DK> struct grad_walk_shared {
    using element = mma_element<T>;
    static constexpr int planes = chunk_records<T>::planes;
    static constexpr int odd = sizeof(element) == 2 ? 8 : 4;
    static constexpr int key_ld = DK + 8;
    static constexpr int pair_ld = CHUNK + odd;
    static constexpr int grad_ld = RECORD_GRAIN + odd;

    element k[CHUNK * key_ld];
    element q[CHUNK * key_ld];
    element inverse[planes * CHUNK * pair_ld];
    element attention[planes * CHUNK * pair_ld];
    element grad_o[CHUNK * grad_ld];
    float gates[GATE_FLOATS];
};

template <typename T, int DK>
GDNCP_FN void load_grad_chunk(const grad_walk_arguments<T> &in, const walk_span &span, int64_t slot,
                              int head, int column, grad_walk_shared<T, DK> &shared)
{
    using layout = grad_walk_shared<T, DK>;
    const device_rule<T> &rule = in.rule;
    const rule_chunk chunk = chunk_at(span, slot);
    const int64_t key_offset = (int64_t)rule.key_head(head) * rule.dk;
    const float *const gates = in.chunks.gates_of(slot, head);

    copy_rows(shared.k, layout::key_ld, DK, rule.k.row(chunk.begin) + key_offset, rule.k.stride, 0,
              rule.dk, chunk.count, rule.k_aligned);
    copy_rows(shared.q, layout::key_ld, DK, rule.q.row(chunk.begin) + key_offset, rule.q.stride, 0,
              rule.dk, chunk.count, rule.k_aligned);
    copy_rows(shared.grad_o, layout::grad_ld, RECORD_GRAIN,
              in.grad_o.row(chunk.begin) + (int64_t)head * rule.dv, in.grad_o.stride, column,
              rule.dv, chunk.count, in.grad_aligned);
    GDNCP_UNROLL
    for (int i = 0; i < layout::planes; i++) {
        copy_pairs(shared.inverse + i * CHUNK * layout::pair_ld, layout::pair_ld,
                   in.chunks.inverse_of(slot, head) + i * PAIR_ELEMENTS);
        copy_pairs(shared.attention + i * CHUNK * layout::pair_ld, layout::pair_ld,
                   in.chunks.attention_of(slot, head) + i * PAIR_ELEMENTS);
    }
    for (int i = thread_index(); i < GATE_FLOATS / 4; i += THREADS) {
        cp_async_16(shared.gates + 4 * i, gates + 4 * i, 16);
    }
    cp_async_commit();
}

/* Columns times factors of the tokens that they stand for. */
GDNCP_FN void scale_columns(tile &t, const float *factors)
{
    GDNCP_UNROLL
    for (int i = 0; i < 8; i++) {
        t.x[i / 4][i % 4] *= factors[tile_column(i / 4, i % 2)];
    }
}

/* grad_r' = dU' T with dU' = (dS' K') diag(e^(G_C - G)) + dO' P. */
template <typename T, int DK>
GDNCP_FN void grad_values(const grad_walk_shared<T, DK> &shared, const tile state[DK / TILE],
                          tile grad_r[CHUNK_TILES])
{
    using layout = grad_walk_shared<T, DK>;
    constexpr int exact = mma_format<T>::exact;
    constexpr int pair_ld = layout::pair_ld;
    tile grad_u[CHUNK_TILES];

    GDNCP_UNROLL
    for (int j = 0; j < CHUNK_TILES; j++) {
        clear(grad_u[j]);
        clear(grad_r[j]);
    }
    GDNCP_UNROLL
    for (int k = 0; k < DK / TILE; k++) {
        operand_a<T, 2> a;

        set_operand(a, state[k]);
        GDNCP_UNROLL
        for (int j = 0; j < CHUNK_TILES; j++) {
            operand_b<T, exact> b;

            load_b_across(b, shared.k + j * TILE * layout::key_ld + k * TILE, layout::key_ld);
            mma(grad_u[j], a, b);
        }
    }
    GDNCP_UNROLL
    for (int j = 0; j < CHUNK_TILES; j++) {
        scale_columns(grad_u[j], shared.gates + TO_END * CHUNK + j * TILE);
    }
    GDNCP_UNROLL
    for (int i = 0; i < CHUNK_TILES; i++) {
        operand_a<T, exact> a;

        load_a_across(a, shared.grad_o + i * TILE * layout::grad_ld + warp() * TILE,
                      layout::grad_ld);
        GDNCP_UNROLL
        for (int j = 0; j <= i; j++) {
            operand_b<T, 2> b;

            load_b(b, shared.attention + i * TILE * pair_ld + j * TILE, pair_ld, CHUNK * pair_ld);
            mma(grad_u[j], a, b);
        }
    }
    GDNCP_UNROLL
    for (int i = 0; i < CHUNK_TILES; i++) {
        operand_a<T, 2> a;

        set_operand(a, grad_u[i]);
        GDNCP_UNROLL
        for (int j = 0; j <= i; j++) {
            operand_b<T, 2> b;

            load_b(b, shared.inverse + i * TILE * pair_ld + j * TILE, pair_ld, CHUNK * pair_ld);
            mma(grad_r[j], a, b);
        }
    }
}

/* dS' = e^(G_C) dS' + dO' diag(s e^G) Q - dR' diag(e^G beta) K. */
template <typename T, int DK>
GDNCP_FN void grad_state(const grad_walk_shared<T, DK> &shared, const tile grad_r[CHUNK_TILES],
                         tile state[DK / TILE])
{
    using layout = grad_walk_shared<T, DK>;
    constexpr int exact = mma_format<T>::exact;
    const float *const gates = shared.gates;
    const float total = gates[GATE_TOTAL];

    GDNCP_UNROLL
    for (int n = 0; n < DK / TILE; n++) {
        GDNCP_UNROLL
        for (int i = 0; i < 8; i++) {
            state[n].x[i / 4][i % 4] *= total;
        }
    }
    GDNCP_UNROLL
    for (int i = 0; i < CHUNK_TILES; i++) {
        const int row = i * TILE * layout::key_ld;
        operand_a<T, 2> of_q;
        operand_a<T, 2> of_k;
        tile part;

        load_tile_across(part, shared.grad_o + i * TILE * layout::grad_ld + warp() * TILE,
                         layout::grad_ld);
        scale_columns(part, gates + OUT * CHUNK + i * TILE);
        set_operand(of_q, part);
        GDNCP_UNROLL
        for (int j = 0; j < 8; j++) {
            const int token = i * TILE + tile_column(j / 4, j % 2);

            part.x[j / 4][j % 4] = -gates[FROM_START * CHUNK + token] *
                                   gates[BETA * CHUNK + token] * grad_r[i].x[j / 4][j % 4];
        }
        set_operand(of_k, part);
        GDNCP_UNROLL
        for (int n = 0; n < DK / TILE; n++) {
            operand_b<T, exact> b;

            load_b(b, shared.q + row + n * TILE, layout::key_ld);
            mma(state[n], of_q, b);
            load_b(b, shared.k + row + n * TILE, layout::key_ld);
            mma(state[n], of_k, b);
        }
    }
}

/* What the walk leaves of a chunk: the gradient of the state after it, and of R. */
template <typename T, int DK>
GDNCP_FN void store_grads(const walk_records<T> &walk, int64_t slot, int head, int first,
                          const tile *state, const tile *grad_r)
{
    const walk_record<T> record = walk.at(slot, head);

    GDNCP_UNROLL
    for (int n = 0; n < DK / TILE; n++) {
        store_pieces(state[n], record.grad_state + first * DK + n * TILE, DK, walk.state_plane());
    }
    GDNCP_UNROLL
    for (int j = 0; j < CHUNK_TILES; j++) {
        store_pieces(grad_r[j], record.grad_r + first * CHUNK + j * TILE, CHUNK,
                     walk.token_plane());
    }
}

/* Where a block's part of the gradients of states comes from and goes to. */
template <typename T>
GDNCP_FN state_columns find_columns(const grad_walk_arguments<T> &in, const walk_span &span,
                                    int head, int first)
{
    const grad_walk_sequences &sequences = in.sequences;
    const int64_t of_head = (int64_t)in.rule.dk * in.rule.dv;
    const int64_t offset = (span.index * in.rule.num_value_heads + head) * of_head;
    const int64_t carry = span.index * sequences.carry_stride + head * of_head;
    state_columns columns = {};

    columns.width = in.rule.dv;
    columns.first = first;
    if (!span.ends) {
        columns.source = sequences.carry_in + carry;
    } else if (sequences.grad_final != nullptr) {
        columns.source = sequences.grad_final + offset;
    }
    if (!span.begins) {
        columns.target = sequences.carry_out + carry;
    } else if (sequences.grad_initial != nullptr) {
        columns.target = sequences.grad_initial + offset;
    }
    return columns;
}

template <typename T> GDNCP_FN walk_span find_span(const grad_walk_arguments<T> &in)
{
    const int64_t *const selected = in.sequences.selected;
    const int64_t number = block_x() / in.slices / in.rule.num_value_heads;
    const int64_t sequence = selected != nullptr ? selected[number] : in.sequences.first + number;

    return span_of_sequence(in.rule.pack, in.chunks.first, in.chunks.num_slots, sequence,
                            selected != nullptr ? number : sequence);
}

template <typename T, int DK>
GDNCP_KERNEL(THREADS, 1)
void grad_walk_kernel(grad_walk_arguments<T> in)
{
    /* Where the block walks is kept out of registers, which are for sums. */
    walk_span &span = *reinterpret_cast<walk_span *>(shared_memory());
    grad_walk_shared<T, DK> *const shared =
        reinterpret_cast<grad_walk_shared<T, DK> *>(shared_memory() + SPAN_BYTES);
    const int head = (int)(block_x() / in.slices % in.rule.num_value_heads);
    const int column = (int)(block_x() % in.slices) * RECORD_GRAIN;
    tile state[DK / TILE];
    tile grad_r[CHUNK_TILES];

    if (thread_index() == 0) {
        span = find_span(in);
    }
    sync_block();
    if (span.begin >= span.end) {
        return;
    }
    const state_columns columns = find_columns(in, span, head, column + warp() * TILE);
    /* An empty sequence has a slot but no chunk. */
    const int64_t last = span.first_token < span.end_token ? span.end - 1 : span.begin - 1;

    load_state<DK>(state, columns, in.rule.dk);
    if (in.stages == 2 && last >= span.begin) {
        load_grad_chunk(in, span, last, head, column, shared[last % 2]);
    }
    for (int64_t slot = last; slot >= span.begin; slot--) {
        const grad_walk_shared<T, DK> &chunk = shared[in.stages == 2 ? slot % 2 : 0];

        if (in.stages == 1) {
            load_grad_chunk(in, span, slot, head, column, shared[0]);
        }
        cp_async_wait<0>();
        sync_block();
        if (in.stages == 2 && slot > span.begin) {
            load_grad_chunk(in, span, slot - 1, head, column, shared[(slot - 1) % 2]);
        }
        grad_values(chunk, state, grad_r);
        if (in.walk.data != nullptr) {
            store_grads<T, DK>(in.walk, slot - in.chunks.first, head, columns.first, state, grad_r);
        }
        grad_state(chunk, grad_r, state);
        if (in.stages == 1) {
            sync_block();
        }
    }
    const state_columns result = find_columns(in, span, head, column + warp() * TILE);

    if (result.target != nullptr) {
        store_state<DK>(state, result, in.rule.dk);
    }
}

template <typename T, int DK>
gdncp_status_t launch_grad_walk(const gdncp_rule_problem_t &problem, const chunk_records<T> &chunks,
                                const walk_records<T> &walk, const gdncp_tensor_t &grad_o,
                                const grad_walk_sequences &sequences, gdncp_stream_t stream)
{
    const int slices = (int)((problem.dv + RECORD_GRAIN - 1) / RECORD_GRAIN);
    const size_t bytes = sizeof(grad_walk_shared<T, DK>);
    gdncp_device_info_t device;
    const gdncp_status_t status = gdncp_device_describe(GDNCP_DEVICE_CUDA, &device);

    if (status != GDNCP_OK) {
        return status;
    }
    const int stages = SPAN_BYTES + 2 * bytes <= device.shared_bytes ? 2 : 1;
    const size_t all = SPAN_BYTES + (size_t)stages * bytes;

    if (all > device.shared_bytes) {
        return fail_shared(problem, all, device);
    }
    const grad_walk_arguments<T> arguments = {device_rule_of<T>(problem, true),
                                              rows_of<const T>(grad_o),
                                              rows_aligned(grad_o),
                                              chunks,
                                              walk,
                                              sequences,
                                              slices,
                                              stages};

    return launch("delta_rule_grad_walk", grad_walk_kernel<T, DK>,
                  {sequences.count * problem.num_value_heads * slices, 1, 1}, THREADS, all, stream,
                  arguments);
}

} /* namespace */

template <typename T>
gdncp_status_t grad_walk(const gdncp_rule_problem_t &problem, const chunk_records<T> &chunks,
                         const walk_records<T> &walk, const gdncp_tensor_t &grad_o,
                         const grad_walk_sequences &sequences, gdncp_stream_t stream)
{
    return with_key_dim(problem.dk, [&](auto padded) {
        return launch_grad_walk<T, decltype(padded)::value>(problem, chunks, walk, grad_o,
                                                            sequences, stream);
    });
}

template gdncp_status_t grad_walk(const gdncp_rule_problem_t &, const chunk_records<float> &,
                                  const walk_records<float> &, const gdncp_tensor_t &,
                                  const grad_walk_sequences &, gdncp_stream_t);
template gdncp_status_t grad_walk(const gdncp_rule_problem_t &, const chunk_records<bf16> &,
                                  const walk_records<bf16> &, const gdncp_tensor_t &,
                                  const grad_walk_sequences &, gdncp_stream_t);
template gdncp_status_t grad_walk(const gdncp_rule_problem_t &, const chunk_records<f16> &,
                                  const walk_records<f16> &, const gdncp_tensor_t &,
                                  const grad_walk_sequences &, gdncp_stream_t);

} /* namespace GDNCP_KERNELS */
