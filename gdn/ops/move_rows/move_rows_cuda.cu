/* Moving rows on a CUDA device: one thread an element, or four where all rows are aligned. */
#include "move_rows.h"
#include "op_kernels_cuda.h"

namespace GDNCP_KERNELS
{

namespace
{

constexpr int THREADS = 256;

/* Neighbouring elements of a row that one thread moves at once. */
template <typename T, int N> struct alignas(N * sizeof(T)) run {
    T values[N];
};

template <typename T> struct listed_rows {
    token_rows<T> rows;
    const int64_t *list; /* nullptr: row i */
    bool absent;

    /* -1: zeros */
    GDNCP_FN int64_t index(int64_t i) const
    {
        return absent ? -1 : list != nullptr ? list[i] : i;
    }
};

template <typename S, typename D, int N>
GDNCP_KERNEL(THREADS, 1)
void move_kernel(listed_rows<const S> src, listed_rows<D> dst, int64_t count, int64_t runs)
{
    const int64_t item = block_x() * THREADS + thread_index();

    if (item >= count * runs) {
        return;
    }
    const int64_t column = item % runs * N;
    const int64_t from = src.index(item / runs);
    run<S, N> in = {};
    run<D, N> out;

    if (from >= 0) {
        in = *reinterpret_cast<const run<S, N> *>(src.rows.row(from) + column);
    }
    GDNCP_UNROLL
    for (int i = 0; i < N; i++) {
        out.values[i] = from_float<D>(to_float(in.values[i]));
    }
    *reinterpret_cast<run<D, N> *>(dst.rows.row(dst.index(item / runs)) + column) = out;
}

template <typename T>
listed_rows<T> listed(const gdncp_tensor_t &matrix, const gdncp_device_list_t *list)
{
    return {rows_of<T>(matrix), list != nullptr ? list->cuda : nullptr, matrix.data == nullptr};
}

template <typename S, typename D, int N>
gdncp_status_t launch_move(const gdncp_row_moves_t *moves, gdncp_stream_t stream)
{
    const int64_t runs = moves->dst.shape[1] / N;
    const int64_t num_blocks = (moves->count * runs + THREADS - 1) / THREADS;

    return launch("move_rows", move_kernel<S, D, N>, {num_blocks, 1, 1}, THREADS, 0, stream,
                  listed<const S>(moves->src, moves->from), listed<D>(moves->dst, moves->to),
                  moves->count, runs);
}

/* Whether all rows can be cut into aligned runs of n elements. */
bool is_aligned(const gdncp_tensor_t &matrix, int64_t n)
{
    const size_t bytes = (size_t)n * gdncp_dtype_size(matrix.dtype);

    return matrix.data == nullptr ||
           (matrix.strides[0] % n == 0 && reinterpret_cast<uintptr_t>(matrix.data) % bytes == 0);
}

template <typename S, typename D>
gdncp_status_t move(const gdncp_row_moves_t *moves, gdncp_stream_t stream)
{
    constexpr int RUN = 4;

    return moves->dst.shape[1] % RUN == 0 && is_aligned(moves->src, RUN) &&
                   is_aligned(moves->dst, RUN)
               ? launch_move<S, D, RUN>(moves, stream)
               : launch_move<S, D, 1>(moves, stream);
}

} /* namespace */

gdncp_status_t move_rows(const struct gdncp_row_moves *moves, gdncp_workspace_t *workspace)
{
    const gdncp_stream_t stream = gdncp_workspace_stream(workspace);

    if (moves->dst.dtype == GDNCP_F32) {
        return with_dtype(moves->src.dtype, [&](auto element) {
            return move<decltype(element), float>(moves, stream);
        });
    }
    return with_dtype(moves->dst.dtype, [&](auto element) {
        using D = decltype(element);

        return moves->src.dtype == moves->dst.dtype ? move<D, D>(moves, stream)
                                                    : move<float, D>(moves, stream);
    });
}

} /* namespace GDNCP_KERNELS */
