/* Sums of what several ranks contribute on a CUDA device: a warp a tile, a thread an element or the
 * elements of 16 bytes, terms in order. */
#include "plan_kernels_cuda.h"

namespace GDNCP_KERNELS
{

namespace
{

/* What a kernel adds: float for all but double. */
template <typename T> struct adder {
    using type = float;

    static GDNCP_FN float load(T x)
    {
        return to_float(x);
    }

    static GDNCP_FN T store(float x)
    {
        return from_float<T>(x);
    }
};

template <> struct adder<double> {
    using type = double;

    static GDNCP_FN double load(double x)
    {
        return x;
    }

    static GDNCP_FN double store(double x)
    {
        return x;
    }
};

template <typename T, int n> struct alignas(n * sizeof(T)) elements {
    T values[n];
};

template <typename T> struct buffers {
    const T *in;
    const T *received;
    T *out;
};

template <typename T, int n>
GDNCP_FN elements<T, n> load_term(const gdncp_sum_term_t &term, const gdncp_sum_tile_t &tile,
                                  const buffers<T> &data, int row, int column)
{
    const int64_t offset =
        term.offset + (tile.row + row) * term.stride + tile.column + (int64_t)column;

    return *reinterpret_cast<const elements<T, n> *>((term.is_received ? data.received : data.in) +
                                                     offset);
}

template <typename T, int n>
GDNCP_FN void sum_rows(const gdncp_sum_tile_t &tile, const gdncp_sum_term_t *terms, bool adds,
                       const buffers<T> &data)
{
    const int row_parts = tile.row_elements / n;
    const int num_parts = tile.rows * row_parts;

    for (int i = lane(); i < num_parts; i += WARP) {
        const int row = i / row_parts;
        const int column = i % row_parts * n;
        elements<T, n> *const target =
            reinterpret_cast<elements<T, n> *>(data.out + tile.target + row * tile.stride + column);
        elements<T, n> part = adds ? *target : load_term<T, n>(terms[0], tile, data, row, column);
        typename adder<T>::type total[n];

        GDNCP_UNROLL
        for (int e = 0; e < n; e++) {
            total[e] = adder<T>::load(part.values[e]);
        }
        for (int64_t t = adds ? 0 : 1; t < tile.num_terms; t++) {
            part = load_term<T, n>(terms[t], tile, data, row, column);
            GDNCP_UNROLL
            for (int e = 0; e < n; e++) {
                total[e] += adder<T>::load(part.values[e]);
            }
        }
        GDNCP_UNROLL
        for (int e = 0; e < n; e++) {
            part.values[e] = adder<T>::store(total[e]);
        }
        *target = part;
    }
}

template <typename T>
GDNCP_KERNEL(PLAN_WARPS *WARP, 2)
void sum_kernel(gdncp_sum_list_t sums, buffers<T> data, bool is_aligned)
{
    if (plan_tile() >= sums.num_tiles) {
        return;
    }
    const gdncp_sum_tile_t tile = sums.tiles[plan_tile()];
    const gdncp_sum_term_t *const terms = sums.terms + tile.first_term;

    if (tile.is_wide && is_aligned) {
        sum_rows<T, 16 / (int)sizeof(T)>(tile, terms, sums.adds, data);
    } else {
        sum_rows<T, 1>(tile, terms, sums.adds, data);
    }
}

template <typename T>
gdncp_status_t launch_sums(const gdncp_sum_list_t *sums, const void *in, const void *received,
                           void *out, gdncp_stream_t stream)
{
    const buffers<T> data = {static_cast<const T *>(in), static_cast<const T *>(received),
                             static_cast<T *>(out)};

    return launch("plan_add", sum_kernel<T>, plan_grid(sums->num_tiles),
                  plan_threads(sums->num_tiles), 0, stream, *sums, data,
                  plan_aligned(16, in, received, out));
}

} /* namespace */

gdncp_status_t plan_add(const gdncp_sum_list_t *sums, const void *in, const void *received,
                        void *out, gdncp_stream_t stream)
{
    if (sums->dtype == GDNCP_F64) {
        return launch_sums<double>(sums, in, received, out, stream);
    }
    return with_dtype(sums->dtype, [&](auto element) {
        return launch_sums<decltype(element)>(sums, in, received, out, stream);
    });
}

} /* namespace GDNCP_KERNELS */
