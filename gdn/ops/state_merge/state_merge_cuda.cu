/* One step along a chain of segments on a CUDA device. */
#include "op_kernels_cuda.h"

namespace GDNCP_KERNELS
{

namespace
{

constexpr int SIDE = 16; /* of the block of `out` that a block of threads computes, one a thread */
constexpr int THREADS = SIDE * SIDE;

struct merge {
    const float *transition;   /* [dk, dk] */
    const float *contribution; /* [dk, dv] */
    const float *in;           /* [dk, dv] */
    float *out;                /* [dk, dv] */
    int64_t dk;
    int64_t dv;
    bool transposed;
};

/* A block of M is read along its rows, whichever way it is used. */
GDNCP_KERNEL(THREADS, 4)
void merge_kernel(merge m)
{
    float *const left = reinterpret_cast<float *>(shared_memory()); /* [SIDE, SIDE + 1] */
    float *const right = left + SIDE * (SIDE + 1);                  /* [SIDE, SIDE + 1] */
    const int x = thread_index() % SIDE;
    const int y = thread_index() / SIDE;
    const int64_t row = block_x() * SIDE + y;
    const int64_t column = (int64_t)block_y() * SIDE + x;
    const bool inside = row < m.dk && column < m.dv;
    float sum = inside ? m.contribution[row * m.dv + column] : 0.0f;

    for (int64_t first = 0; first < m.dk; first += SIDE) {
        const int64_t m_row = m.transposed ? first + y : row;
        const int64_t m_column = m.transposed ? block_x() * SIDE + x : first + x;
        const bool in_m = m_row < m.dk && m_column < m.dk;
        const bool in_state = first + y < m.dk && column < m.dv;

        left[m.transposed ? x * (SIDE + 1) + y : y * (SIDE + 1) + x] =
            in_m ? m.transition[m_row * m.dk + m_column] : 0.0f;
        right[y * (SIDE + 1) + x] = in_state ? m.in[(first + y) * m.dv + column] : 0.0f;
        sync_block();
        GDNCP_UNROLL
        for (int i = 0; i < SIDE; i++) {
            sum = fmaf(left[y * (SIDE + 1) + i], right[i * (SIDE + 1) + x], sum);
        }
        sync_block();
    }
    if (inside) {
        m.out[row * m.dv + column] = sum;
    }
}

} /* namespace */

gdncp_status_t state_merge(const gdncp_tensor_t *transition, const gdncp_tensor_t *contribution,
                           const gdncp_tensor_t *in, bool transposed, const gdncp_tensor_t *out,
                           gdncp_workspace_t *workspace)
{
    const int64_t dk = in->shape[0];
    const int64_t dv = in->shape[1];
    const merge arguments = {static_cast<const float *>(transition->data),
                             static_cast<const float *>(contribution->data),
                             static_cast<const float *>(in->data),
                             static_cast<float *>(out->data),
                             dk,
                             dv,
                             transposed};

    return launch("state_merge", merge_kernel,
                  {(dk + SIDE - 1) / SIDE, (int)((dv + SIDE - 1) / SIDE), 1}, THREADS,
                  2 * SIDE * (SIDE + 1) * sizeof(float), gdncp_workspace_stream(workspace),
                  arguments);
}

} /* namespace GDNCP_KERNELS */
