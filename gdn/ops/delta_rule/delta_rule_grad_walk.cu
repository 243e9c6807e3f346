/*
 * The walk back with the gradient of the state. A warp holds 16 columns of v of it, transposed, in
 * registers through all chunks of a window; columns are independent of each other, so warps share
 * what they read and exchange nothing. Where shared memory has no room for a chunk's matrices, they
 * take turns there.
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
constexpr int HALF = CHUNK / 2; /* rows of K, and of Q, that take K's place together */
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

/* Leading dimensions in shared memory, as tile_mma.h advises. */
template <typename T, int DK> struct grad_walk_layout {
    using element = mma_element<T>;
    static constexpr int planes = chunk_records<T>::planes;
    static constexpr int odd = sizeof(element) == 2 ? 8 : 4;
    static constexpr int key_ld = DK + 8;
    static constexpr int pair_ld = CHUNK + odd;
    static constexpr int pair_plane = CHUNK * pair_ld;
    static constexpr int grad_ld = RECORD_GRAIN + odd;
};

/* A chunk in shared memory. */
template <typename T, int DK> struct grad_walk_shared {
    using layout = grad_walk_layout<T, DK>;

    mma_element<T> k[CHUNK * layout::key_ld];
    mma_element<T> q[CHUNK * layout::key_ld];
    mma_element<T> inverse[layout::planes * layout::pair_plane];
    mma_element<T> attention[layout::planes * layout::pair_plane];
    mma_element<T> grad_o[CHUNK * layout::grad_ld];
    float gates[GATE_FLOATS];
};

/* Where its matrices take turns: first K and P; then T, and the first half of K's rows with that of
 * Q's; then the other halves. */
template <typename T, int DK> struct grad_walk_turns {
    using layout = grad_walk_layout<T, DK>;

    mma_element<T> keys[CHUNK * layout::key_ld];
    mma_element<T> pairs[layout::planes * layout::pair_plane];
    mma_element<T> grad_o[CHUNK * layout::grad_ld];
    float gates[GATE_FLOATS];
};

/* T or P of a value head. */
template <typename T, int DK>
GDNCP_FN void load_pairs(const mma_element<T> *record, mma_element<T> *place)
{
    using layout = grad_walk_layout<T, DK>;

    GDNCP_UNROLL
    for (int i = 0; i < layout::planes; i++) {
        copy_pairs(place + i * layout::pair_plane, layout::pair_ld, record + i * PAIR_ELEMENTS);
    }
}

/* The block's columns of dO, and the gates. */
template <typename T, int DK, typename Shared>
GDNCP_FN void load_grads(const grad_walk_arguments<T> &in, const rule_chunk &chunk, int64_t slot,
                         int head, int column, Shared &shared)
{
    const float *const gates = in.chunks.gates_of(slot, head);

    copy_rows(shared.grad_o, grad_walk_layout<T, DK>::grad_ld, RECORD_GRAIN,
              in.grad_o.row(chunk.begin) + (int64_t)head * in.rule.dv, in.grad_o.stride, column,
              in.rule.dv, chunk.count, in.grad_aligned);
    for (int i = thread_index(); i < GATE_FLOATS / 4; i += THREADS) {
        cp_async_16(shared.gates + 4 * i, gates + 4 * i, 16);
    }
}

template <typename T, int DK>
GDNCP_FN void load_grad_chunk(const grad_walk_arguments<T> &in, const walk_span &span, int64_t slot,
                              int head, int column, grad_walk_shared<T, DK> &shared)
{
    const rule_chunk chunk = chunk_at(span, slot);

    load_keys<T, DK>(in.rule, in.rule.k, chunk, 0, head, shared.k);
    load_keys<T, DK>(in.rule, in.rule.q, chunk, 0, head, shared.q);
    load_pairs<T, DK>(in.chunks.inverse_of(slot, head), shared.inverse);
    load_pairs<T, DK>(in.chunks.attention_of(slot, head), shared.attention);
    load_grads<T, DK>(in, chunk, slot, head, column, shared);
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

/* dU' = (dS' K') diag(e^(G_C - G)) + dO' P. */
template <typename T, int DK>
GDNCP_FN void grad_values(const mma_element<T> *keys, const mma_element<T> *attention,
                          const mma_element<T> *grad_o, const float *gates,
                          const tile state[DK / TILE], tile grad_u[CHUNK_TILES])
{
    using layout = grad_walk_layout<T, DK>;
    constexpr int exact = mma_format<T>::exact;
    constexpr int pair_ld = layout::pair_ld;

    GDNCP_UNROLL
    for (int j = 0; j < CHUNK_TILES; j++) {
        clear(grad_u[j]);
    }
    GDNCP_UNROLL
    for (int k = 0; k < DK / TILE; k++) {
        operand_a<T, 2> a;

        set_operand(a, state[k]);
        GDNCP_UNROLL
        for (int j = 0; j < CHUNK_TILES; j++) {
            operand_b<T, exact> b;

            load_b_across(b, keys + j * TILE * layout::key_ld + k * TILE, layout::key_ld);
            mma(grad_u[j], a, b);
        }
    }
    GDNCP_UNROLL
    for (int j = 0; j < CHUNK_TILES; j++) {
        scale_columns(grad_u[j], gates + TO_END * CHUNK + j * TILE);
    }
    GDNCP_UNROLL
    for (int i = 0; i < CHUNK_TILES; i++) {
        operand_a<T, exact> a;

        load_a_across(a, grad_o + i * TILE * layout::grad_ld + warp() * TILE, layout::grad_ld);
        GDNCP_UNROLL
        for (int j = 0; j <= i; j++) {
            operand_b<T, 2> b;

            load_b(b, attention + i * TILE * pair_ld + j * TILE, pair_ld, layout::pair_plane);
            mma(grad_u[j], a, b);
        }
    }
}

/* dR' = dU' T. */
template <typename T, int DK>
GDNCP_FN void grad_residuals(const mma_element<T> *inverse, const tile grad_u[CHUNK_TILES],
                             tile grad_r[CHUNK_TILES])
{
    using layout = grad_walk_layout<T, DK>;
    constexpr int pair_ld = layout::pair_ld;

    GDNCP_UNROLL
    for (int j = 0; j < CHUNK_TILES; j++) {
        clear(grad_r[j]);
    }
    GDNCP_UNROLL
    for (int i = 0; i < CHUNK_TILES; i++) {
        operand_a<T, 2> a;

        set_operand(a, grad_u[i]);
        GDNCP_UNROLL
        for (int j = 0; j <= i; j++) {
            operand_b<T, 2> b;

            load_b(b, inverse + i * TILE * pair_ld + j * TILE, pair_ld, layout::pair_plane);
            mma(grad_r[j], a, b);
        }
    }
}

/* dS' *= e^(G_C). */
template <int DK> GDNCP_FN void decay_state(float total, tile state[DK / TILE])
{
    GDNCP_UNROLL
    for (int n = 0; n < DK / TILE; n++) {
        GDNCP_UNROLL
        for (int i = 0; i < 8; i++) {
            state[n].x[i / 4][i % 4] *= total;
        }
    }
}

/* dS' += dO' diag(s e^G) Q - dR' diag(e^G beta) K, for the tokens of tiles first .. end - 1, with
 * which the rows of keys and queries begin. */
template <typename T, int DK, int first, int end>
GDNCP_FN void grad_state(const mma_element<T> *keys, const mma_element<T> *queries,
                         const mma_element<T> *grad_o, const float *gates,
                         const tile grad_r[CHUNK_TILES], tile state[DK / TILE])
{
    using layout = grad_walk_layout<T, DK>;
    constexpr int exact = mma_format<T>::exact;

    GDNCP_UNROLL
    for (int i = first; i < end; i++) {
        const int row = (i - first) * TILE * layout::key_ld;
        operand_a<T, 2> of_q;
        operand_a<T, 2> of_k;
        tile part;

        load_tile_across(part, grad_o + i * TILE * layout::grad_ld + warp() * TILE,
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

            load_b(b, queries + row + n * TILE, layout::key_ld);
            mma(state[n], of_q, b);
            load_b(b, keys + row + n * TILE, layout::key_ld);
            mma(state[n], of_k, b);
        }
    }
}

/* What the walk leaves of a chunk: the gradient of the state after it, and of R. */
template <typename T, int DK>
GDNCP_FN void store_grads(const walk_records<T> &walk, int64_t slot, int head, int first,
                          const tile *state, const tile *grad_r)
{
    if (walk.data == nullptr) {
        return;
    }
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

/* One chunk, of which all is in shared memory. */
template <typename T, int DK>
GDNCP_FN void walk_chunk(const grad_walk_arguments<T> &in, int64_t slot, int head, int first,
                         const grad_walk_shared<T, DK> &shared, tile state[DK / TILE])
{
    tile grad_u[CHUNK_TILES];
    tile grad_r[CHUNK_TILES];

    grad_values<T, DK>(shared.k, shared.attention, shared.grad_o, shared.gates, state, grad_u);
    grad_residuals<T, DK>(shared.inverse, grad_u, grad_r);
    store_grads<T, DK>(in.walk, slot - in.chunks.first, head, first, state, grad_r);
    decay_state<DK>(shared.gates[GATE_TOTAL], state);
    grad_state<T, DK, 0, CHUNK_TILES>(shared.k, shared.q, shared.grad_o, shared.gates, grad_r,
                                      state);
}

/* The same bits, where its matrices take turns. */
template <typename T, int DK>
GDNCP_FN void walk_chunk_in_turn(const grad_walk_arguments<T> &in, const walk_span &span,
                                 int64_t slot, int head, int column, grad_walk_turns<T, DK> &shared,
                                 tile state[DK / TILE])
{
    constexpr int half_tiles = HALF / TILE;
    const rule_chunk chunk = chunk_at(span, slot);
    mma_element<T> *const queries = shared.keys + HALF * grad_walk_layout<T, DK>::key_ld;
    tile grad_u[CHUNK_TILES];
    tile grad_r[CHUNK_TILES];

    load_keys<T, DK>(in.rule, in.rule.k, chunk, 0, head, shared.keys);
    load_pairs<T, DK>(in.chunks.attention_of(slot, head), shared.pairs);
    load_grads<T, DK>(in, chunk, slot, head, column, shared);
    finish_loading();
    grad_values<T, DK>(shared.keys, shared.pairs, shared.grad_o, shared.gates, state, grad_u);
    sync_block();
    load_pairs<T, DK>(in.chunks.inverse_of(slot, head), shared.pairs);
    load_keys<T, DK, HALF>(in.rule, in.rule.k, chunk, 0, head, shared.keys);
    load_keys<T, DK, HALF>(in.rule, in.rule.q, chunk, 0, head, queries);
    finish_loading();
    grad_residuals<T, DK>(shared.pairs, grad_u, grad_r);
    store_grads<T, DK>(in.walk, slot - in.chunks.first, head, column + warp() * TILE, state,
                       grad_r);
    decay_state<DK>(shared.gates[GATE_TOTAL], state);
    grad_state<T, DK, 0, half_tiles>(shared.keys, queries, shared.grad_o, shared.gates, grad_r,
                                     state);
    sync_block();
    load_keys<T, DK, HALF>(in.rule, in.rule.k, chunk, HALF, head, shared.keys);
    load_keys<T, DK, HALF>(in.rule, in.rule.q, chunk, HALF, head, queries);
    finish_loading();
    grad_state<T, DK, half_tiles, CHUNK_TILES>(shared.keys, queries, shared.grad_o, shared.gates,
                                               grad_r, state);
    sync_block();
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

/* The chunks of a span from the last on, of which two are in shared memory, or one. */
template <typename T, int DK>
GDNCP_FN void walk_chunks(const grad_walk_arguments<T> &in, const walk_span &span, int64_t last,
                          int head, int column, grad_walk_shared<T, DK> *shared,
                          tile state[DK / TILE])
{
    if (in.stages == 2 && last >= span.begin) {
        load_grad_chunk(in, span, last, head, column, shared[last % 2]);
    }
    for (int64_t slot = last; slot >= span.begin; slot--) {
        if (in.stages == 1) {
            load_grad_chunk(in, span, slot, head, column, shared[0]);
        }
        cp_async_wait<0>();
        sync_block();
        if (in.stages == 2 && slot > span.begin) {
            load_grad_chunk(in, span, slot - 1, head, column, shared[(slot - 1) % 2]);
        }
        walk_chunk(in, slot, head, column + warp() * TILE, shared[in.stages == 2 ? slot % 2 : 0],
                   state);
        if (in.stages == 1) {
            sync_block();
        }
    }
}

template <typename T, int DK, bool in_turn>
GDNCP_KERNEL(THREADS, 1)
void grad_walk_kernel(grad_walk_arguments<T> in)
{
    /* Where the block walks is kept out of registers, which are for sums. */
    walk_span &span = *reinterpret_cast<walk_span *>(shared_memory());
    char *const chunks = shared_memory() + SPAN_BYTES;
    const int head = (int)(block_x() / in.slices % in.rule.num_value_heads);
    const int column = (int)(block_x() % in.slices) * RECORD_GRAIN;
    tile state[DK / TILE];

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

    load_state<DK>(state, columns, in.rule.dk, in.sequences.across && span.ends);
    if constexpr (in_turn) {
        for (int64_t slot = last; slot >= span.begin; slot--) {
            walk_chunk_in_turn(in, span, slot, head, column,
                               *reinterpret_cast<grad_walk_turns<T, DK> *>(chunks), state);
        }
    } else {
        walk_chunks(in, span, last, head, column,
                    reinterpret_cast<grad_walk_shared<T, DK> *>(chunks), state);
    }
    const state_columns result = find_columns(in, span, head, column + warp() * TILE);

    if (result.target != nullptr) {
        store_state<DK>(state, result, in.rule.dk, in.sequences.across && span.begins);
    }
}

template <typename T, int DK>
gdncp_status_t launch_grad_walk(const gdncp_rule_problem_t &problem, const chunk_records<T> &chunks,
                                const walk_records<T> &walk, const gdncp_tensor_t &grad_o,
                                const grad_walk_sequences &sequences, gdncp_stream_t stream)
{
    const int slices = (int)((problem.dv + RECORD_GRAIN - 1) / RECORD_GRAIN);
    constexpr size_t bytes = sizeof(grad_walk_shared<T, DK>);
    constexpr size_t in_turn = SPAN_BYTES + sizeof(grad_walk_turns<T, DK>);
    gdncp_device_info_t device;
    const gdncp_status_t status = gdncp_device_describe(GDNCP_DEVICE_CUDA, &device);

    if (status != GDNCP_OK) {
        return status;
    }
    const int stages = SPAN_BYTES + 2 * bytes <= device.shared_bytes ? 2 : 1;
    const grad_walk_arguments<T> arguments = {device_rule_of<T>(problem, true),
                                              rows_of<const T>(grad_o),
                                              rows_aligned(grad_o),
                                              chunks,
                                              walk,
                                              sequences,
                                              slices,
                                              stages};

    const gdncp_grid grid = {sequences.count * problem.num_value_heads * slices, 1, 1};

    if constexpr (SPAN_BYTES + bytes > SMALLEST_SHARED) {
        static_assert(in_turn <= SMALLEST_SHARED, "of a chunk, on every device");
        if (SPAN_BYTES + bytes > device.shared_bytes) {
            return launch("delta_rule_grad_walk", grad_walk_kernel<T, DK, true>, grid, THREADS,
                          in_turn, stream, arguments);
        }
    }
    return launch("delta_rule_grad_walk", grad_walk_kernel<T, DK, false>, grid, THREADS,
                  SPAN_BYTES + (size_t)stages * bytes, stream, arguments);
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
