/* kernel.h without a GPU: every thread of a block is a fibre, what warps do together is a meeting.
 */
#ifndef GDNCP_KERNEL_EMULATED_H
#define GDNCP_KERNEL_EMULATED_H

#include <cmath>
#include <cstring>
#include <math.h>

#include "emulator.h"

#define GDNCP_KERNELS gdncp_emulated
#define GDNCP_KERNEL(threads, blocks) static
#define GDNCP_FN inline
#define GDNCP_UNROLL
#define GDNCP_ROLLED

namespace GDNCP_KERNELS
{

struct bf16 {
    uint16_t bits;
};

struct f16 {
    uint16_t bits;
};

inline float rsqrtf(float x)
{
    return 1.0f / std::sqrt(x);
}

inline uint32_t float_bits(float x)
{
    uint32_t bits;

    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}

inline float bits_float(uint32_t bits)
{
    float x;

    std::memcpy(&x, &bits, sizeof x);
    return x;
}

inline float to_float(float x)
{
    return x;
}

inline float to_float(bf16 x)
{
    return bits_float((uint32_t)x.bits << 16);
}

/* The exponent moves to where a float has it: exact, subnormals too. */
inline float to_float(f16 x)
{
    const uint32_t size = (uint32_t)(x.bits & 0x7fff) << 13;
    const uint32_t sign = (uint32_t)(x.bits & 0x8000) << 16;

    if (size >= 0x0f800000u) { /* infinite or NaN */
        return bits_float(sign | 0x70000000u | size);
    }
    return bits_float(sign | float_bits(bits_float(size) * 0x1p112f));
}

template <typename T> T from_float(float x);

template <> inline float from_float<float>(float x)
{
    return x;
}

template <> inline bf16 from_float<bf16>(float x)
{
    const uint32_t bits = float_bits(x);

    if (std::isnan(x)) {
        return {0x7fff};
    }
    return {(uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

template <> f16 from_float<f16>(float x);

inline uint32_t to_tf32(float x)
{
    return std::isnan(x) ? 0x7fffffffu : (float_bits(x) + 0x1000) & 0xffffe000u;
}

struct shuffle_operand {
    uint32_t value;
    uint32_t result;
    int source; /* a lane */
};

void shuffle_lanes(void *const *operands);

/* Lanes that would read beyond the warp's ends keep their own value, as on a GPU. */
template <typename T> T shuffle_from(const char *name, T value, int source)
{
    shuffle_operand operand = {0, 0, source >= 0 && source < 32 ? source : thread_index() % 32};
    T result;

    static_assert(sizeof(T) == 4, "shuffles move 4 bytes");
    std::memcpy(&operand.value, &value, sizeof value);
    meet_warp(name, &operand, shuffle_lanes);
    std::memcpy(&result, &operand.result, sizeof result);
    return result;
}

/* The lane's number counts modulo 32. */
template <typename T> T shuffle(T value, int lane)
{
    return shuffle_from("shuffle", value, lane & 31);
}

template <typename T> T shuffle_xor(T value, int mask)
{
    return shuffle_from("shuffle_xor", value, thread_index() % 32 ^ mask);
}

template <typename T> T shuffle_up(T value, int count)
{
    return shuffle_from("shuffle_up", value, thread_index() % 32 - count);
}

template <typename T> T shuffle_down(T value, int count)
{
    return shuffle_from("shuffle_down", value, thread_index() % 32 + count);
}

/* Of one lane: others see nothing else of it. */
struct ldmatrix_operand {
    uint16_t row[8]; /* what this lane's address holds */
    uint32_t r[4];
};

void ldmatrix_lanes(void *const *operands);
void ldmatrix_trans_lanes(void *const *operands);

/* The load is made here, by the lane whose address it is, where sanitizers see it. */
inline void ldmatrix_load(const char *name, uint32_t r[4], const void *row,
                          void (*perform)(void *const *))
{
    ldmatrix_operand operand;

    check_shared(name, row, 16, 16);
    std::memcpy(operand.row, row, 16);
    meet_warp(name, &operand, perform);
    std::memcpy(r, operand.r, sizeof operand.r);
}

inline void ldmatrix_x4(uint32_t r[4], const void *row)
{
    ldmatrix_load("ldmatrix_x4", r, row, ldmatrix_lanes);
}

inline void ldmatrix_x4_trans(uint32_t r[4], const void *row)
{
    ldmatrix_load("ldmatrix_x4_trans", r, row, ldmatrix_trans_lanes);
}

struct mma_operand {
    float d[4];
    uint32_t a[4];
    uint32_t b[2];
};

void mma_bf16_lanes(void *const *operands);
void mma_f16_lanes(void *const *operands);
void mma_tf32_lanes(void *const *operands);

inline void mma_of_warp(const char *name, float d[4], const uint32_t a[4], const uint32_t b[2],
                        void (*perform)(void *const *))
{
    mma_operand operand = {{d[0], d[1], d[2], d[3]}, {a[0], a[1], a[2], a[3]}, {b[0], b[1]}};

    meet_warp(name, &operand, perform);
    std::memcpy(d, operand.d, sizeof operand.d);
}

inline void mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    mma_of_warp("mma_bf16", d, a, b, mma_bf16_lanes);
}

inline void mma_f16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    mma_of_warp("mma_f16", d, a, b, mma_f16_lanes);
}

inline void mma_tf32(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    mma_of_warp("mma_tf32", d, a, b, mma_tf32_lanes);
}

inline void cp_async_16(void *shared, const void *global, int bytes)
{
    copy_async("cp_async_16", shared, global, 16, bytes);
}

inline void cp_async_commit()
{
    commit_copies();
}

template <int n> void cp_async_wait()
{
    wait_copies(n);
}

template <typename... Params, typename... Args>
gdncp_status_t launch(const char *name, void (*kernel)(Params...), gdncp_grid grid, int threads,
                      size_t shared_bytes, gdncp_stream_t stream, Args... args)
{
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) {
        return GDNCP_OK;
    }
    return queue_kernel({name, grid, threads, shared_bytes}, stream,
                        [=] { kernel(static_cast<Params>(args)...); });
}

} /* namespace GDNCP_KERNELS */

#endif
