/*
 * What a chunk's tokens make of its keys, gates and queries before any state is known.
 *
 * A block has one chunk of one key head and goes through the value heads that read it. Warp w has
 * the row of 16x16 blocks w of all matrices over pairs of tokens.
 */
#include "delta_rule_cuda.h"

namespace GDNCP_KERNELS
{

namespace
{

constexpr int THREADS = CHUNK_TILES * WARP;
constexpr int LD = CHUNK + 8;   /* of matrices over pairs, in shared memory */
constexpr int SLICE = 128;      /* columns of K and Q in shared memory at once, */
constexpr int SMALL_SLICE = 64; /* where there is no room for more */
constexpr int DIAGONAL_LD = TILE + 1;
constexpr float L2NORM_EPS = 1e-6f;

/* Shared memory; K and Q, whose size depends on T and dk, come last. */
struct prepare_shared {
    double sums[CHUNK_TILES][CHUNK];                  /* each warp's own copy of G */
    double diagonal[CHUNK_TILES][TILE * DIAGONAL_LD]; /* of N, a block a warp */
    float n[CHUNK * LD];                              /* N = -diag(beta) A */
    float inverse[CHUNK * LD];                        /* (I - N)^-1 */
    float k_factors[CHUNK];
    float q_factors[CHUNK];
};

/* Products of a warp's row of blocks with the rows of K at and above the diagonal. */
struct row_products {
    tile kk[CHUNK_TILES];
    tile qk[CHUNK_TILES];
    float k_squares[2]; /* of rows tile_row(0), tile_row(1); of this lane's columns */
    float q_squares[2];
};

template <int slice> constexpr int columns_at_once(int dk)
{
    const int padded = (dk + TILE - 1) / TILE * TILE;

    return padded < slice ? padded : slice;
}

template <typename T, int slice> constexpr size_t prepare_bytes(int dk, bool with_q)
{
    return sizeof(prepare_shared) +
           (size_t)((with_q ? 2 : 1) * CHUNK * (columns_at_once<slice>(dk) + 8)) *
               sizeof(mma_element<T>);
}

/* Add the squares of this lane's columns of two rows of its warp. */
template <typename Element>
GDNCP_FN void add_squares(const Element *x, int ld, int columns, float squares[2])
{
    for (int h = 0; h < 2; h++) {
        const Element *const row = x + (warp() * TILE + tile_row(h)) * ld;

        for (int column = 2 * (lane() % 4); column < columns; column += 8) {
            const float x0 = to_float(row[column]);
            const float x1 = to_float(row[column + 1]);

            squares[h] = fmaf(x0, x0, fmaf(x1, x1, squares[h]));
        }
    }
}

template <typename T>
GDNCP_FN void multiply_slice(const mma_element<T> *k, const mma_element<T> *q, bool with_q, int ld,
                             int columns, row_products &products)
{
    constexpr int pieces = mma_format<T>::exact;

    for (int column = 0; column < columns; column += TILE) {
        operand_a<T, pieces> k_rows;
        operand_a<T, pieces> q_rows;

        load_a(k_rows, k + warp() * TILE * ld + column, ld);
        if (with_q) {
            load_a(q_rows, q + warp() * TILE * ld + column, ld);
        }
        GDNCP_UNROLL
        for (int j = 0; j < CHUNK_TILES; j++) {
            if (j <= warp()) {
                operand_b<T, pieces> columns_of_k;

                load_b_across(columns_of_k, k + j * TILE * ld + column, ld);
                mma(products.kk[j], k_rows, columns_of_k);
                if (with_q) {
                    mma(products.qk[j], q_rows, columns_of_k);
                }
            }
        }
    }
}

/* The factor that normalises a row, from the squares that four lanes have. */
GDNCP_FN float norm_factor(float squares, bool l2norm)
{
    squares += shuffle_xor(squares, 1);
    squares += shuffle_xor(squares, 2);
    return l2norm ? 1.0f / sqrtf(squares + L2NORM_EPS) : 1.0f;
}

/* KK', QK' and factors of the chunk. */
template <int slice, typename T>
GDNCP_FN void multiply_keys(const device_rule<T> &rule, const rule_chunk &chunk, int key_head,
                            bool with_q, prepare_shared *shared, row_products &products)
{
    using element = mma_element<T>;
    const int columns = columns_at_once<slice>(rule.dk);
    const int ld = columns + 8;
    element *const k = reinterpret_cast<element *>(shared + 1);
    element *const q = k + CHUNK * ld;
    const int64_t offset = (int64_t)key_head * rule.dk;

    GDNCP_UNROLL
    for (int j = 0; j < CHUNK_TILES; j++) {
        clear(products.kk[j]);
        clear(products.qk[j]);
    }
    for (int h = 0; h < 2; h++) {
        products.k_squares[h] = 0.0f;
        products.q_squares[h] = 0.0f;
    }
    for (int first = 0; first < rule.dk; first += columns) {
        sync_block();
        copy_rows(k, ld, columns, rule.k.row(chunk.begin) + offset, rule.k.stride, first, rule.dk,
                  chunk.count, rule.k_aligned);
        if (with_q) {
            copy_rows(q, ld, columns, rule.q.row(chunk.begin) + offset, rule.q.stride, first,
                      rule.dk, chunk.count, rule.k_aligned);
        }
        cp_async_commit();
        cp_async_wait<0>();
        sync_block();
        add_squares(k, ld, columns, products.k_squares);
        if (with_q) {
            add_squares(q, ld, columns, products.q_squares);
        }
        multiply_slice<T>(k, q, with_q, ld, columns, products);
    }
    for (int h = 0; h < 2; h++) {
        const float k_factor = norm_factor(products.k_squares[h], rule.l2norm);
        const float q_factor = norm_factor(products.q_squares[h], rule.l2norm);

        if (lane() % 4 == 0) {
            shared->k_factors[warp() * TILE + tile_row(h)] = k_factor;
            shared->q_factors[warp() * TILE + tile_row(h)] = q_factor;
        }
    }
    sync_block();
}

/* The lanes below have come before: what the lane `count` below has, zero in the first ones. */
GDNCP_FN double from_below(double value, int count)
{
    uint32_t half[2];

    memcpy(half, &value, sizeof half);
    half[0] = shuffle_up(half[0], count);
    half[1] = shuffle_up(half[1], count);
    memcpy(&value, half, sizeof half);
    return lane() >= count ? value : 0.0;
}

/* sums [64] = G, by one warp: a lane has two tokens. In double, for a difference of two long sums
 * keeps few of a float's digits. */
template <typename T>
GDNCP_FN void sum_gates(const device_rule<T> &rule, const rule_chunk &chunk, int head, double *sums)
{
    const int64_t heads = rule.num_value_heads;
    const float *const g = rule.g + chunk.begin * heads + head;
    const int token = 2 * lane();
    const double first = token < chunk.count ? (double)g[token * heads] : 0.0;
    const double second = token + 1 < chunk.count ? (double)g[(token + 1) * heads] : 0.0;
    double sum = first + second;

    GDNCP_UNROLL
    for (int distance = 1; distance < WARP; distance *= 2) {
        sum += from_below(sum, distance);
    }
    sums[token] = from_below(sum, 1) + first;
    sums[token + 1] = sum;
    sync_warp();
}

/* Rows of gates of one value head, a thread a token. */
template <typename T>
GDNCP_FN void write_gates(const device_rule<T> &rule, const rule_chunk &chunk, int head,
                          const prepare_shared *shared, float *gates)
{
    const double *const sums = shared->sums[warp()];

    for (int i = thread_index(); i < CHUNK; i += THREADS) {
        const float from_start = expf((float)sums[i]);

        gates[FROM_START * CHUNK + i] = from_start * shared->k_factors[i];
        gates[OUT * CHUNK + i] = rule.scale * from_start * shared->q_factors[i];
        gates[TO_END * CHUNK + i] = expf((float)(sums[CHUNK - 1] - sums[i])) * shared->k_factors[i];
        gates[BETA * CHUNK + i] =
            i < chunk.count ? rule.beta[(chunk.begin + i) * rule.num_value_heads + head] : 0.0f;
    }
    if (thread_index() < GATE_FLOATS - GATE_TOTAL) {
        gates[GATE_TOTAL + thread_index()] = expf((float)sums[CHUNK - 1]);
    }
}

/* Gates applied to the warp's blocks: A and P to the records, N to shared memory. */
template <typename T>
GDNCP_FN void apply_gates(const device_rule<T> &rule, const rule_chunk &chunk, int head,
                          const row_products &products, const chunk_records<T> &records,
                          int64_t slot, prepare_shared *shared)
{
    const double *const sums = shared->sums[warp()];
    const int first_row = warp() * TILE;
    float beta[2];

    for (int h = 0; h < 2; h++) {
        const int i = first_row + tile_row(h);

        beta[h] =
            i < chunk.count ? rule.beta[(chunk.begin + i) * rule.num_value_heads + head] : 0.0f;
    }
    GDNCP_UNROLL
    for (int j = 0; j < CHUNK_TILES; j++) {
        if (j > warp()) {
            continue;
        }
        tile a;
        tile p;
        tile n;

        GDNCP_UNROLL
        for (int x = 0; x < 8; x++) {
            const int s = x / 4;
            const int h = x / 2 % 2;
            const int row = first_row + tile_row(h);
            const int column = j * TILE + tile_column(s, x % 2);
            const float decay = expf((float)(sums[row] - sums[column])) * shared->k_factors[column];

            /* Selected, not multiplied by zero: above the diagonal a decay may be infinite. */
            a.x[s][x % 4] =
                row > column ? decay * shared->k_factors[row] * products.kk[j].x[s][x % 4] : 0.0f;
            p.x[s][x % 4] = row >= column ? rule.scale * decay * shared->q_factors[row] *
                                                products.qk[j].x[s][x % 4]
                                          : 0.0f;
            n.x[s][x % 4] = -beta[h] * a.x[s][x % 4];
        }
        store_tile(n, shared->n + first_row * LD + j * TILE, LD);
        if (records.attention != nullptr) {
            store_pieces(p, records.attention_of(slot, head) + pair_block(warp(), j), TILE,
                         PAIR_ELEMENTS);
        }
        if (records.products != nullptr) {
            store_tile(a, records.products_of(slot, head) + pair_block(warp(), j), TILE);
        }
    }
}

/* The inverse of the warp's block on the diagonal, by forward substitution in double; a lane has a
 * column, twice over. */
GDNCP_FN void invert_diagonal(prepare_shared *shared)
{
    const int corner = warp() * TILE * (LD + 1);
    double *const n = shared->diagonal[warp()];
    const int column = lane() % TILE;
    double x[TILE];

    for (int i = lane(); i < TILE * TILE; i += WARP) {
        n[i / TILE * DIAGONAL_LD + i % TILE] = (double)shared->n[corner + i / TILE * LD + i % TILE];
    }
    sync_warp();
    GDNCP_UNROLL
    for (int i = 0; i < TILE; i++) {
        double sum = i == column ? 1.0 : 0.0;

        GDNCP_UNROLL
        for (int l = 0; l < i; l++) {
            sum += n[i * DIAGONAL_LD + l] * x[l];
        }
        x[i] = sum;
        if (lane() < TILE) {
            shared->inverse[corner + i * LD + column] = (float)sum;
        }
    }
}

/* sum += block (i, m) of the inverse times block (m, l) of N, for all m of a run. */
GDNCP_FN void add_left(tile &sum, const prepare_shared *shared, int i, int l, int first_m)
{
    for (int m = first_m; m <= i; m++) {
        operand_a<float, 2> left;
        operand_b<float, 2> right;

        load_a(left, shared->inverse + (i * LD + m) * TILE, LD);
        load_b(right, shared->n + (m * LD + l) * TILE, LD);
        mma(sum, left, right);
    }
}

/*
 * Block (i, j) of the inverse from blocks that are known: those of rows first_m .. i among
 * themselves, and of rows j .. first_m - 1. With Z = T_(i, m) N_(m, l), T_(i, j) = Z T_(l, j).
 */
GDNCP_FN void merge_blocks(tile &t, const prepare_shared *shared, int i, int j, int first_m)
{
    clear(t);
    for (int l = j; l < first_m; l++) {
        operand_a<float, 2> left;
        operand_b<float, 2> right;
        tile z;

        clear(z);
        add_left(z, shared, i, l, first_m);
        set_operand(left, z);
        load_b(right, shared->inverse + (l * LD + j) * TILE, LD);
        mma(t, left, right);
    }
}

template <typename T>
GDNCP_FN void write_inverse(const tile &t, mma_element<T> *record, int i, int j)
{
    store_pieces(t, record + pair_block(i, j), TILE, PAIR_ELEMENTS);
}

/* T of one value head, from N in shared memory: diagonal blocks, then 16 -> 32 -> 64. Blocks on
 * the way are used by other warps, those of the last step only leave. */
template <typename T> GDNCP_FN void invert(prepare_shared *shared, mma_element<T> *record)
{
    tile t;

    sync_warp();
    invert_diagonal(shared);
    sync_block();
    load_tile(t, shared->inverse + warp() * TILE * (LD + 1), LD);
    write_inverse<T>(t, record, warp(), warp());
    if (warp() % 2 == 1) {
        merge_blocks(t, shared, warp(), warp() - 1, warp());
        write_inverse<T>(t, record, warp(), warp() - 1);
        store_tile(t, shared->inverse + (warp() * LD + warp() - 1) * TILE, LD);
    }
    sync_block();
    merge_blocks(t, shared, 2 + warp() / 2, warp() % 2, 2);
    write_inverse<T>(t, record, 2 + warp() / 2, warp() % 2);
    sync_block();
}

/* Whether records of a sequence are wanted; asked by whole warps. */
template <typename T> GDNCP_FN bool is_selected(const chunk_records<T> &records, int64_t sequence)
{
    float matches = 0.0f;

    if (records.sequences == nullptr) {
        return true;
    }
    for (int64_t i = lane(); i < records.num_selected; i += WARP) {
        matches += records.sequences[i] == sequence ? 1.0f : 0.0f;
    }
    return warp_sum(matches) > 0.0f;
}

template <typename T, int slice>
GDNCP_KERNEL(THREADS, 2)
void prepare_kernel(device_rule<T> rule, chunk_records<T> records)
{
    prepare_shared *const shared = reinterpret_cast<prepare_shared *>(shared_memory());
    const int64_t slot = records.first + block_x();
    const int key_head = block_y();
    const rule_chunk chunk = find_chunk(rule.pack, slot);
    const int first_head = key_head * rule.group_size - rule.group_phase;
    const int end_head = first_head + rule.group_size;
    row_products products;

    if (chunk.count == 0 || !is_selected(records, chunk.sequence)) {
        return;
    }
    multiply_keys<slice>(rule, chunk, key_head, records.attention != nullptr, shared, products);
    if (records.factors != nullptr) {
        float *const factors = records.factors_of(slot, key_head);

        for (int i = thread_index(); i < CHUNK; i += THREADS) {
            factors[i] = shared->k_factors[i];
            factors[CHUNK + i] = shared->q_factors[i];
        }
    }
    for (int head = first_head < 0 ? 0 : first_head; head < end_head && head < rule.num_value_heads;
         head++) {
        sum_gates(rule, chunk, head, shared->sums[warp()]);
        write_gates(rule, chunk, head, shared, records.gates_of(slot, head));
        if (records.sums != nullptr) {
            for (int i = thread_index(); i < CHUNK; i += THREADS) {
                records.sums_of(slot, head)[i] = shared->sums[warp()][i];
            }
        }
        apply_gates(rule, chunk, head, products, records, slot, shared);
        invert<T>(shared, records.inverse_of(slot, head));
    }
}

template <typename T, int slice>
gdncp_status_t launch_prepare(const gdncp_rule_problem_t &problem, const chunk_records<T> &records,
                              const gdncp_device_info_t &device, gdncp_stream_t stream)
{
    constexpr bool always_fits = prepare_bytes<T, slice>(slice, true) <= SMALLEST_SHARED;
    const bool with_q = records.attention != nullptr;
    const size_t bytes = prepare_bytes<T, slice>((int)problem.dk, with_q);

    static_assert(always_fits || slice > SMALL_SLICE, "on every device");
    if constexpr (!always_fits) {
        if (bytes > device.shared_bytes) {
            return launch_prepare<T, SMALL_SLICE>(problem, records, device, stream);
        }
    }
    return launch("delta_rule_prepare", prepare_kernel<T, slice>,
                  {records.num_slots, (int)problem.num_key_heads, 1}, THREADS, bytes, stream,
                  device_rule_of<T>(problem, with_q), records);
}

} /* namespace */

template <typename T>
gdncp_status_t prepare_chunks(const gdncp_rule_problem_t &problem, const chunk_records<T> &records,
                              gdncp_stream_t stream)
{
    gdncp_device_info_t device;
    const gdncp_status_t status = gdncp_device_describe(GDNCP_DEVICE_CUDA, &device);

    if (status != GDNCP_OK) {
        return status;
    }
    return launch_prepare<T, SLICE>(problem, records, device, stream);
}

template gdncp_status_t prepare_chunks<float>(const gdncp_rule_problem_t &,
                                              const chunk_records<float> &, gdncp_stream_t);
template gdncp_status_t prepare_chunks<bf16>(const gdncp_rule_problem_t &,
                                             const chunk_records<bf16> &, gdncp_stream_t);
template gdncp_status_t prepare_chunks<f16>(const gdncp_rule_problem_t &,
                                            const chunk_records<f16> &, gdncp_stream_t);

} /* namespace GDNCP_KERNELS */
