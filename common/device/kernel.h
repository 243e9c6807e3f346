/*
 * What a CUDA kernel of gdncp may use: the same source compiles with nvcc, and with g++ or clang++
 * for the emulator. A kernel includes this header and nothing of CUDA.
 *
 * Both builds give, in namespace GDNCP_KERNELS (gdncp_cuda, gdncp_emulated):
 *
 * GDNCP_KERNEL(threads, blocks)  before "void name(...)": a kernel of at most that many threads a
 *                     block, at least so many blocks a multiprocessor
 * GDNCP_FN            before a function that kernels call
 * GDNCP_UNROLL, GDNCP_ROLLED  before a loop: unroll it, or leave it as it is
 * launch(name, kernel, grid, threads, shared_bytes, stream, args...)
 *                     on the host: queue a kernel; arguments are passed by value
 * thread_index(), block_x(), block_y(), block_z(), num_threads(): int; blocks have one dimension
 * lane(), warp()      of the thread; all blocks have whole warps
 * shared_memory()     the block's shared_bytes, 128-byte aligned, not initialised
 *
 * sync_block()        all threads of the block; orders shared and global memory among them
 * sync_warp()         all lanes; orders memory among them
 * shuffle(v, lane), shuffle_xor(v, mask), shuffle_up(v, n), shuffle_down(v, n): all 32 lanes take
 *                     part; v has 4 bytes. They order no memory.
 *
 * bf16, f16           2-byte structs; to_float(x), from_float<T>(float) rounds to nearest even
 * pack(low, high)     two bf16 or f16 as a 32-bit register, low half first
 * to_tf32(float)      the bits of the nearest tf32, ties away from zero
 *
 * ldmatrix_x4(r, row), ldmatrix_x4_trans(r, row): four 8x8 matrices of 16-bit elements from shared
 *                     memory; lanes 8i..8i+7 give the addresses of the rows of matrix i, each 16
 *                     bytes, 16-byte aligned. r[i] of lane l: row l/4, columns 2(l%4), 2(l%4)+1 of
 *                     matrix i; transposed: of its transpose.
 * mma_bf16(d, a, b), mma_f16(d, a, b): d[4] += a[4] b[2], m16n8k16, float32 sums
 * mma_tf32(d, a, b):  d[4] += a[4] b[2], m16n8k8. Fragments as in the PTX manual:
 *                     d: (l/4, 2(l%4)+{0,1}), (l/4+8, the same); 16-bit a: (l/4, 2(l%4)+{0,1}),
 *                     (l/4+8, ..), (l/4, ..+8), (l/4+8, ..+8); b: (2(l%4)+{0,1}, l/4), (..+8, l/4);
 *                     tf32 a: (l/4, l%4), (l/4+8, l%4), (l/4, l%4+4), (l/4+8, l%4+4);
 *                     b: (l%4, l/4), (l%4+4, l/4).
 *
 * cp_async_16(shared, global, bytes): 16 bytes to shared memory, of which the first `bytes` (0..16)
 *                     are read and the rest is zero; both addresses 16-byte aligned
 * cp_async_commit(), cp_async_wait<n>(): close a group; wait until at most n groups of this thread
 *                     are under way. Others see the data after a sync_block().
 *
 * expf, exp2f, log1pf, fmaf, fabsf, fmaxf, fminf, sqrtf, rsqrtf and their double forms as usual.
 */
#ifndef GDNCP_KERNEL_H
#define GDNCP_KERNEL_H

#include <cstddef>
#include <cstdint>

extern "C" {
#include "error.h"
#include "gdncp/status.h"
#include "gdncp/tensor.h"
}

/* Blocks of a launch. */
struct gdncp_grid {
    int64_t x;
    int y;
    int z;
};

/* Names of the functions and types below are in namespace GDNCP_KERNELS. */
#if defined(__CUDACC__)
#include "kernel_cuda.h"
#else
#include "kernel_emulated.h"
#endif

#include "kernel_shared.h"

#endif
