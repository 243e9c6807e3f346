/* Rows of a matrix, copied from global to shared memory by all threads of a block. */
#ifndef GDNCP_COPY_ROWS_CUDA_H
#define GDNCP_COPY_ROWS_CUDA_H

#include "tile_mma.h"

namespace GDNCP_KERNELS
{

/*
 * shared [rows, columns], rows ld apart = columns first .. first + columns of `count` rows of a
 * matrix of `width` columns, and zeros where there are none; source is the first of these rows.
 * Rows of shared memory begin at 16 bytes; first and columns are multiples of 16 elements, and a
 * row of columns has no more than 16 bytes a thread. Those of source begin and end there too where
 * `aligned`. Not done before a cp_async_commit(), cp_async_wait() and sync_block().
 */
template <int rows = 64, typename T>
GDNCP_FN void copy_rows(mma_element<T> *shared, int ld, int columns, const T *source,
                        int64_t stride, int first, int width, int count, bool aligned)
{
    constexpr bool same = sizeof(T) == sizeof(mma_element<T>);
    constexpr int piece = 16 / (int)sizeof(T);

    if (same && aligned) {
        /* A thread has one column, and every so many rows. */
        const int pieces = columns / piece;
        const int step = num_threads() / pieces;
        const int column = thread_index() % pieces * piece;
        const int from = first + column;
        const bool inside = from >= 0 && from < width;

        for (int row = thread_index() / pieces; row < rows && step * pieces > thread_index();
             row += step) {
            const bool exists = inside && row < count;

            cp_async_16(shared + row * ld + column, exists ? source + row * stride + from : source,
                        exists ? 16 : 0);
        }
        return;
    }
    for (int i = thread_index(); i < rows * columns; i += num_threads()) {
        const int row = i / columns;
        const int column = i % columns;
        const int from = first + column;
        const bool inside = row < count && from >= 0 && from < width;

        shared[row * ld + column] =
            from_float<mma_element<T>>(inside ? to_float(source[row * stride + from]) : 0.0f);
    }
}

} /* namespace GDNCP_KERNELS */

#endif
