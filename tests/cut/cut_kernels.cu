/* See cut_kernels.h. */
#include "cut_kernels.h"

#include "kernel.h"

namespace GDNCP_KERNELS
{

namespace
{

constexpr int THREADS = 128;

GDNCP_KERNEL(THREADS, 1)
void locate_all(gdncp_cut_t cut, int64_t num_tokens, int *ranks, int64_t *locals,
                int64_t *positions)
{
    const int64_t position = (int64_t)block_x() * THREADS + thread_index();

    if (position < num_tokens) {
        gdncp_cut_locate(&cut, position, &ranks[position], &locals[position]);
        positions[position] = gdncp_cut_position(&cut, ranks[position], locals[position]);
    }
}

} /* namespace */

} /* namespace GDNCP_KERNELS */

using namespace GDNCP_KERNELS;

gdncp_status_t cut_locate_all(const gdncp_cut_t *cut, int64_t num_tokens, int *ranks,
                              int64_t *locals, int64_t *positions, gdncp_stream_t stream)
{
    return launch("cut_locate_all", locate_all, {(num_tokens + THREADS - 1) / THREADS, 1, 1},
                  THREADS, 0, stream, *cut, num_tokens, ranks, locals, positions);
}
