/* kernel.h under nvcc: intrinsics and inline PTX. */
#ifndef GDNCP_KERNEL_CUDA_H
#define GDNCP_KERNEL_CUDA_H

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define GDNCP_KERNELS gdncp_cuda
#define GDNCP_KERNEL(threads, blocks) static __global__ __launch_bounds__(threads, blocks)
#define GDNCP_FN __device__ __forceinline__
#define GDNCP_UNROLL _Pragma("unroll")
#define GDNCP_ROLLED _Pragma("unroll 1")

namespace GDNCP_KERNELS
{

struct bf16 {
    uint16_t bits;
};

struct f16 {
    uint16_t bits;
};

GDNCP_FN int thread_index()
{
    return (int)threadIdx.x;
}

GDNCP_FN int64_t block_x()
{
    return blockIdx.x;
}

GDNCP_FN int block_y()
{
    return (int)blockIdx.y;
}

GDNCP_FN int block_z()
{
    return (int)blockIdx.z;
}

GDNCP_FN int num_threads()
{
    return (int)blockDim.x;
}

GDNCP_FN char *shared_memory()
{
    extern __shared__ __align__(128) char gdncp_shared[];

    return gdncp_shared;
}

GDNCP_FN void sync_block()
{
    __syncthreads();
}

GDNCP_FN void sync_warp()
{
    __syncwarp();
}

template <typename T> GDNCP_FN T shuffle(T value, int lane)
{
    return __shfl_sync(0xffffffffu, value, lane);
}

template <typename T> GDNCP_FN T shuffle_xor(T value, int mask)
{
    return __shfl_xor_sync(0xffffffffu, value, mask);
}

template <typename T> GDNCP_FN T shuffle_up(T value, int count)
{
    return __shfl_up_sync(0xffffffffu, value, (unsigned)count);
}

template <typename T> GDNCP_FN T shuffle_down(T value, int count)
{
    return __shfl_down_sync(0xffffffffu, value, (unsigned)count);
}

GDNCP_FN float to_float(float x)
{
    return x;
}

GDNCP_FN float to_float(bf16 x)
{
    return __uint_as_float((uint32_t)x.bits << 16);
}

GDNCP_FN float to_float(f16 x)
{
    return __half2float(__ushort_as_half(x.bits));
}

template <typename T> GDNCP_FN T from_float(float x);

template <> GDNCP_FN float from_float<float>(float x)
{
    return x;
}

template <> GDNCP_FN bf16 from_float<bf16>(float x)
{
    return {__bfloat16_as_ushort(__float2bfloat16_rn(x))};
}

template <> GDNCP_FN f16 from_float<f16>(float x)
{
    return {__half_as_ushort(__float2half_rn(x))};
}

GDNCP_FN uint32_t float_bits(float x)
{
    return __float_as_uint(x);
}

GDNCP_FN float bits_float(uint32_t bits)
{
    return __uint_as_float(bits);
}

GDNCP_FN uint32_t to_tf32(float x)
{
    uint32_t bits;

    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return bits;
}

GDNCP_FN uint32_t shared_address(const void *pointer)
{
    return (uint32_t)__cvta_generic_to_shared(pointer);
}

GDNCP_FN void ldmatrix_x4(uint32_t r[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

GDNCP_FN void ldmatrix_x4_trans(uint32_t r[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

GDNCP_FN void mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

GDNCP_FN void mma_f16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

GDNCP_FN void mma_tf32(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

GDNCP_FN void cp_async_16(void *shared, const void *global, int bytes)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"(shared_address(shared)), "l"(global), "r"(bytes)
                 : "memory");
}

GDNCP_FN void cp_async_commit()
{
    asm volatile("cp.async.commit_group;" : : : "memory");
}

template <int n> GDNCP_FN void cp_async_wait()
{
    asm volatile("cp.async.wait_group %0;" : : "n"(n) : "memory");
}

/* Queue a kernel. A block may use more shared memory than the default limit only if asked for. */
template <typename... Params, typename... Args>
gdncp_status_t launch(const char *name, void (*kernel)(Params...), gdncp_grid grid, int threads,
                      size_t shared_bytes, gdncp_stream_t stream, Args... args)
{
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) {
        return GDNCP_OK;
    }
    cudaError_t error = cudaSuccess;

    if (shared_bytes > 48 * 1024) {
        error =
            cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel),
                                 cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_bytes);
    }
    if (error == cudaSuccess) {
        kernel<<<dim3((unsigned)grid.x, (unsigned)grid.y, (unsigned)grid.z), (unsigned)threads,
                 shared_bytes, static_cast<cudaStream_t>(stream)>>>(args...);
        error = cudaGetLastError();
    }
    if (error != cudaSuccess) {
        return gdncp_fail(GDNCP_ERR_DEVICE, "%s: expected to be launched, got %s", name,
                          cudaGetErrorString(error));
    }
    return GDNCP_OK;
}

} /* namespace GDNCP_KERNELS */

#endif
