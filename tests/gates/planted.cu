/* Kernels that the gates must tell apart: one without faults, and one for each fault. */
#include "kernel.h"

namespace GDNCP_KERNELS
{

GDNCP_KERNEL(32, 1)
void fast(const char *in, float *out)
{
    char *const shared = shared_memory();
    uint32_t a[4];
    float d[4] = {0.0f, 0.0f, 0.0f, 0.0f};

    cp_async_16(shared + 16 * lane(), in + 16 * lane(), 16);
    cp_async_commit();
    cp_async_wait<0>();
    sync_block();
    ldmatrix_x4(a, shared + 16 * lane());
    mma_bf16(d, a, a);
    out[lane()] = d[0] + d[1] + d[2] + d[3];
}

/* More values at a time than 32 registers hold. */
GDNCP_KERNEL(1024, 2)
void spilled(const float *in, float *out)
{
    float values[96];

    GDNCP_UNROLL
    for (int i = 0; i < 96; i++) {
        values[i] = in[i * 1024 + thread_index()];
    }
    sync_block();
    GDNCP_UNROLL
    for (int i = 0; i < 96; i++) {
        out[i * 1024 + thread_index()] = values[i] * values[95 - i];
    }
}

/* An array that registers cannot hold, as its index is not known before. */
GDNCP_KERNEL(32, 1)
void indexed(const int *in, float *out)
{
    float values[16];

    for (int i = 0; i < 16; i++) {
        values[in[i]] = out[i];
    }
    out[lane()] = values[in[lane() + 16]];
}

/* Kernels that nobody names are not compiled. */
const void *kernel_number(int i)
{
    const void *const kernels[] = {reinterpret_cast<const void *>(fast),
                                   reinterpret_cast<const void *>(spilled),
                                   reinterpret_cast<const void *>(indexed)};

    return kernels[i];
}

} /* namespace GDNCP_KERNELS */
