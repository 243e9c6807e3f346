/* Sums that blocks of a kernel have made of their tokens, added up in fixed order. */
#ifndef GDNCP_PARTIAL_SUMS_H
#define GDNCP_PARTIAL_SUMS_H

#include "kernel_math.h"

namespace GDNCP_KERNELS
{

/* Where a set of sums goes: column c to data[c * stride]. */
struct sum_target {
    float *data; /* nullptr: not wanted */
    int64_t stride;
};

constexpr int MAX_SUM_SETS = 9;

struct sum_targets {
    sum_target sets[MAX_SUM_SETS];
    int num_sets;
    int64_t width; /* columns of each */
};

constexpr int SUM_ROWS = 8;
constexpr int SUM_THREADS = SUM_ROWS * WARP;

/* partials [num_blocks, num_sets, width]. A warp adds every SUM_ROWS-th row, then one adds those.
 */
template <typename Partial>
GDNCP_KERNEL(SUM_THREADS, 1)
void sum_partials_kernel(const Partial *partials, int64_t num_blocks, sum_targets targets)
{
    double *const rows = reinterpret_cast<double *>(shared_memory());
    const int64_t num_columns = targets.num_sets * targets.width;
    const int64_t column = block_x() * WARP + lane();
    double sum = 0.0;

    if (column < num_columns) {
        for (int64_t row = warp(); row < num_blocks; row += SUM_ROWS) {
            sum += (double)partials[row * num_columns + column];
        }
    }
    rows[thread_index()] = sum;
    sync_block();
    if (warp() == 0 && column < num_columns) {
        for (int row = 1; row < SUM_ROWS; row++) {
            sum += rows[row * WARP + lane()];
        }
        const sum_target target = targets.sets[column / targets.width];

        if (target.data != nullptr) {
            target.data[column % targets.width * target.stride] = (float)sum;
        }
    }
}

template <typename Partial>
gdncp_status_t sum_partials(const char *name, const Partial *partials, int64_t num_blocks,
                            const sum_targets &targets, gdncp_stream_t stream)
{
    return launch(name, sum_partials_kernel<Partial>,
                  {ceil_div(targets.num_sets * targets.width, WARP), 1, 1}, SUM_THREADS,
                  SUM_THREADS * sizeof(double), stream, partials, num_blocks, targets);
}

} /* namespace GDNCP_KERNELS */

#endif
