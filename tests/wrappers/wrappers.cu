/* One kernel a wrapper. A new wrapper of kernel.h gets a kernel here, and a row in wrappers.c. */
#include "wrappers.h"

#include "kernel.h"

namespace GDNCP_KERNELS
{

namespace
{

struct words {
    const uint32_t *in; /* of this lane */
    uint32_t *out;
};

GDNCP_FN words words_of_lane(const uint32_t *in, int num_in, uint32_t *out, int num_out)
{
    const int64_t lane_number = block_x() * WARP + lane();

    return {in + lane_number * num_in, out + lane_number * num_out};
}

GDNCP_FN bf16 low_bf16(uint32_t word)
{
    return {(uint16_t)word};
}

GDNCP_FN bf16 high_bf16(uint32_t word)
{
    return {(uint16_t)(word >> 16)};
}

GDNCP_FN f16 low_f16(uint32_t word)
{
    return {(uint16_t)word};
}

GDNCP_FN f16 high_f16(uint32_t word)
{
    return {(uint16_t)(word >> 16)};
}

GDNCP_KERNEL(WARP, 1)
void shuffle_kernel(const uint32_t *in, uint32_t *out)
{
    const words w = words_of_lane(in, 2, out, 1);

    w.out[0] = shuffle(w.in[0], (int)(w.in[1] % WARP));
}

GDNCP_KERNEL(WARP, 1)
void shuffle_xor_kernel(const uint32_t *in, uint32_t *out)
{
    const words w = words_of_lane(in, 1, out, 5);

    for (int i = 0; i < 5; i++) {
        w.out[i] = shuffle_xor(w.in[0], 1 << i);
    }
}

GDNCP_KERNEL(WARP, 1)
void shuffle_up_kernel(const uint32_t *in, uint32_t *out)
{
    const words w = words_of_lane(in, 1, out, 5);

    for (int i = 0; i < 5; i++) {
        w.out[i] = shuffle_up(w.in[0], 1 << i);
    }
}

GDNCP_KERNEL(WARP, 1)
void shuffle_down_kernel(const uint32_t *in, uint32_t *out)
{
    const words w = words_of_lane(in, 1, out, 5);

    for (int i = 0; i < 5; i++) {
        w.out[i] = shuffle_down(w.in[0], 1 << i);
    }
}

GDNCP_KERNEL(WARP, 1)
void bf16_to_float_kernel(const uint32_t *in, uint32_t *out)
{
    const words w = words_of_lane(in, 1, out, 2);

    w.out[0] = float_bits(to_float(low_bf16(w.in[0])));
    w.out[1] = float_bits(to_float(high_bf16(w.in[0])));
}

GDNCP_KERNEL(WARP, 1)
void f16_to_float_kernel(const uint32_t *in, uint32_t *out)
{
    const words w = words_of_lane(in, 1, out, 2);

    w.out[0] = float_bits(to_float(low_f16(w.in[0])));
    w.out[1] = float_bits(to_float(high_f16(w.in[0])));
}

/* Widened again: what bits a NaN has is not promised. */
GDNCP_KERNEL(WARP, 1)
void float_to_bf16_kernel(const uint32_t *in, uint32_t *out)
{
    const words w = words_of_lane(in, 2, out, 2);
    const uint32_t packed = pack_floats<bf16>(bits_float(w.in[0]), bits_float(w.in[1]));

    w.out[0] = float_bits(to_float(low_bf16(packed)));
    w.out[1] = float_bits(to_float(high_bf16(packed)));
}

GDNCP_KERNEL(WARP, 1)
void float_to_f16_kernel(const uint32_t *in, uint32_t *out)
{
    const words w = words_of_lane(in, 2, out, 2);
    const uint32_t packed = pack_floats<f16>(bits_float(w.in[0]), bits_float(w.in[1]));

    w.out[0] = float_bits(to_float(low_f16(packed)));
    w.out[1] = float_bits(to_float(high_f16(packed)));
}

GDNCP_KERNEL(WARP, 1)
void to_tf32_kernel(const uint32_t *in, uint32_t *out)
{
    const words w = words_of_lane(in, 1, out, 1);

    w.out[0] = to_tf32(bits_float(w.in[0]));
}

/* The four matrices lie in shared memory as they come, a row a lane. */
GDNCP_FN uint32_t *row_in_shared(const uint32_t *row)
{
    uint32_t *const shared = reinterpret_cast<uint32_t *>(shared_memory()) + 4 * lane();

    for (int i = 0; i < 4; i++) {
        shared[i] = row[i];
    }
    sync_block();
    return shared;
}

GDNCP_KERNEL(WARP, 1)
void ldmatrix_x4_kernel(const uint32_t *in, uint32_t *out)
{
    const words w = words_of_lane(in, 4, out, 4);
    uint32_t r[4];

    ldmatrix_x4(r, row_in_shared(w.in));
    for (int i = 0; i < 4; i++) {
        w.out[i] = r[i];
    }
}

GDNCP_KERNEL(WARP, 1)
void ldmatrix_x4_trans_kernel(const uint32_t *in, uint32_t *out)
{
    const words w = words_of_lane(in, 4, out, 4);
    uint32_t r[4];

    ldmatrix_x4_trans(r, row_in_shared(w.in));
    for (int i = 0; i < 4; i++) {
        w.out[i] = r[i];
    }
}

/* a [4], b [2], d [4] */
template <typename Mma> GDNCP_FN void multiply(const words &w, Mma mma)
{
    float d[4];

    GDNCP_UNROLL
    for (int i = 0; i < 4; i++) {
        d[i] = bits_float(w.in[6 + i]);
    }
    mma(d, w.in, w.in + 4);
    GDNCP_UNROLL
    for (int i = 0; i < 4; i++) {
        w.out[i] = float_bits(d[i]);
    }
}

GDNCP_KERNEL(WARP, 1)
void mma_bf16_kernel(const uint32_t *in, uint32_t *out)
{
    multiply(words_of_lane(in, 10, out, 4), mma_bf16);
}

GDNCP_KERNEL(WARP, 1)
void mma_f16_kernel(const uint32_t *in, uint32_t *out)
{
    multiply(words_of_lane(in, 10, out, 4), mma_f16);
}

GDNCP_KERNEL(WARP, 1)
void mma_tf32_kernel(const uint32_t *in, uint32_t *out)
{
    multiply(words_of_lane(in, 10, out, 4), mma_tf32);
}

/* The last words say how many bytes are read. */
GDNCP_KERNEL(WARP, 1)
void cp_async_16_kernel(const uint32_t *in, uint32_t *out)
{
    const words w = words_of_lane(in, 8, out, 4);
    uint32_t *const shared = reinterpret_cast<uint32_t *>(shared_memory()) + 4 * lane();

    cp_async_16(shared, w.in, (int)(w.in[4] % 17));
    cp_async_commit();
    cp_async_wait<0>();
    sync_block();
    for (int i = 0; i < 4; i++) {
        w.out[i] = shared[i];
    }
}

GDNCP_KERNEL(WARP, 1)
void functions_kernel(const uint32_t *in, uint32_t *out)
{
    const words w = words_of_lane(in, 1, out, 5);
    const float x = bits_float(w.in[0]);

    w.out[0] = float_bits(expf(x));
    w.out[1] = float_bits(exp2f(x));
    w.out[2] = float_bits(log1pf(fabsf(x)));
    w.out[3] = float_bits(sqrtf(fabsf(x)));
    w.out[4] = float_bits(rsqrtf(fabsf(x) + 1e-6f));
}

typedef void (*kernel_t)(const uint32_t *in, uint32_t *out);

/* In the order of wrappers.c. */
const kernel_t kernels[] = {
    shuffle_kernel,       shuffle_xor_kernel,  shuffle_up_kernel,        shuffle_down_kernel,
    bf16_to_float_kernel, f16_to_float_kernel, float_to_bf16_kernel,     float_to_f16_kernel,
    to_tf32_kernel,       ldmatrix_x4_kernel,  ldmatrix_x4_trans_kernel, mma_bf16_kernel,
    mma_f16_kernel,       mma_tf32_kernel,     cp_async_16_kernel,       functions_kernel,
};

gdncp_status_t launch_number(int number, int64_t blocks, const uint32_t *in, uint32_t *out,
                             gdncp_stream_t stream)
{
    return launch("wrapper", kernels[number], {blocks, 1, 1}, WARP, 16 * WARP, stream, in, out);
}

} /* namespace */

} /* namespace GDNCP_KERNELS */

#if defined(__CUDACC__)
gdncp_status_t wrapper_launch_cuda(int number, int64_t blocks, const uint32_t *in, uint32_t *out,
                                   gdncp_stream_t stream)
#else
gdncp_status_t wrapper_launch_emulated(int number, int64_t blocks, const uint32_t *in,
                                       uint32_t *out, gdncp_stream_t stream)
#endif
{
    return GDNCP_KERNELS::launch_number(number, blocks, in, out, stream);
}
