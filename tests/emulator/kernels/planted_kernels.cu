/* See planted_kernels.h. */
#include "planted_kernels.h"

#include "kernel.h"

namespace GDNCP_KERNELS
{

namespace
{

constexpr int THREADS = PLANTED_THREADS;

GDNCP_FN float *shared_floats()
{
    return reinterpret_cast<float *>(shared_memory());
}

GDNCP_KERNEL(THREADS, 1) void barrier(bool mended, const float *in, float *out)
{
    const int t = thread_index();

    shared_floats()[t] = in[t];
    if (mended) {
        sync_block();
    }
    out[t] = shared_floats()[(t + 32) % THREADS];
}

GDNCP_KERNEL(THREADS, 1) void second_barrier(bool mended, const float *in, float *out)
{
    const int t = thread_index();
    float sum = 0.0f;

    for (int i = 0; i < THREADS; i++) {
        if (t == i) {
            shared_floats()[0] = in[t];
        }
        sync_block();
        sum += shared_floats()[0];
        if (mended) {
            sync_block();
        }
    }
    out[t] = sum;
}

GDNCP_KERNEL(THREADS, 1) void warp_barrier(bool mended, const float *in, float *out)
{
    const int t = thread_index();
    const int other = (t + 32) % THREADS;

    shared_floats()[t ^ 1] = in[t ^ 1];
    if (mended) {
        sync_warp();
    } else {
        shuffle_xor(in[t], 1); /* orders no memory */
    }
    const float value = shared_floats()[t];

    sync_block();
    shared_floats()[t] = value;
    sync_block();
    out[t] = shared_floats()[other];
}

GDNCP_KERNEL(THREADS, 1) void early_return(bool mended, const float *in, float *out)
{
    const int t = thread_index();

    shared_floats()[t] = in[t];
    if (!mended && t >= THREADS / 2) {
        return;
    }
    sync_block();
    out[t] = shared_floats()[(t + 32) % THREADS];
}

GDNCP_KERNEL(THREADS, 1)
void shared_write(bool mended, const float *in, float *out, int64_t beyond)
{
    const int t = thread_index();

    shared_floats()[t] = in[t];
    if (!mended && t == THREADS - 1) {
        shared_floats()[t + beyond] = in[t];
    }
    sync_block();
    out[t] = shared_floats()[(t + 32) % THREADS];
}

GDNCP_KERNEL(THREADS, 1)
void global_write(bool mended, const float *in, float *out, int64_t beyond)
{
    const int t = thread_index();

    out[t] = in[t];
    if (!mended && t == THREADS - 1) {
        out[THREADS - 1 + beyond] = in[t];
    }
}

GDNCP_KERNEL(THREADS, 1)
void global_read(bool mended, const float *in, float *out, int64_t beyond)
{
    const int t = thread_index();

    out[t] = in[!mended && t == THREADS - 1 ? t + beyond : t];
}

GDNCP_KERNEL(THREADS, 1) void missing_lane(bool mended, const float *in, float *out)
{
    const int t = thread_index();

    if (mended || t != 5) {
        out[t] = shuffle(in[t], lane() + 1);
    }
}

GDNCP_KERNEL(THREADS, 1) void divergence(bool mended, const float *in, float *out)
{
    const int t = thread_index();

    if (mended || lane() < 16) {
        out[t] = shuffle(in[t], lane() + 1);
    } else {
        sync_warp();
    }
}

GDNCP_KERNEL(THREADS, 1) void copy_wait(bool mended, const float *in, float *out)
{
    const int t = thread_index();

    cp_async_16(shared_floats() + 4 * t, in + t / 4 * 4, 16);
    cp_async_commit();
    if (mended) {
        cp_async_wait<0>();
    } else {
        cp_async_wait<1>();
    }
    out[t] = shared_floats()[4 * t + t % 4];
}

GDNCP_KERNEL(THREADS, 1) void copy_barrier(bool mended, const float *in, float *out)
{
    const int t = thread_index();

    if (t < THREADS / 4) {
        cp_async_16(shared_floats() + 4 * t, in + 4 * t, 16);
    }
    cp_async_commit();
    cp_async_wait<0>();
    if (mended) {
        sync_block();
    }
    out[t] = shared_floats()[t];
}

GDNCP_KERNEL(THREADS, 1) void copy_over(bool mended, const float *in, float *out)
{
    const int t = thread_index();
    const int other = (t + 32) % THREADS;
    float value = 0.0f;

    shared_floats()[4 * t] = in[t];
    sync_block();
    if (mended) {
        value = shared_floats()[4 * other];
    }
    sync_block();
    cp_async_16(shared_floats() + 4 * t, in + t / 4 * 4, 16);
    cp_async_commit();
    sync_block();
    if (!mended) {
        value = shared_floats()[4 * other];
    }
    cp_async_wait<0>();
    out[t] = value;
}

GDNCP_KERNEL(THREADS, 1) void copy_source(bool mended, float *in, float *out)
{
    const int t = thread_index();

    cp_async_16(shared_floats() + 4 * t, in + t / 4 * 4, 16);
    cp_async_commit();
    if (mended) {
        cp_async_wait<0>();
    }
    sync_block();
    if (t == 0) {
        in[THREADS - 1] = -1.0f;
    }
    sync_block();
    cp_async_wait<0>();
    out[t] = shared_floats()[4 * t + t % 4];
}

GDNCP_KERNEL(THREADS, 1) void copy_address(const float *in, float *out, int64_t offset)
{
    const int t = thread_index();

    cp_async_16(shared_floats() + 4 * t, in + t / 4 * 4 + offset, 16);
    cp_async_commit();
    cp_async_wait<0>();
    out[t] = shared_floats()[4 * t + t % 4];
}

GDNCP_KERNEL(THREADS, 1) void copy_count(int64_t count, int bytes, const float *in, float *out)
{
    const int t = thread_index();

    cp_async_16(shared_floats() + 4 * t, in + t / 4 * 4, bytes);
    for (int64_t i = 1; i < count && t == 0; i++) {
        cp_async_16(shared_floats() + 4 * (THREADS + i), in, 16);
    }
    cp_async_commit();
    cp_async_wait<0>();
    out[t] = shared_floats()[4 * t + t % 4];
}

GDNCP_KERNEL(THREADS, 1) void copy_place(bool mended, const float *in, float *out)
{
    const int t = thread_index();

    cp_async_16(shared_floats() + 4 * t, in + t / 4 * 4, 16);
    cp_async_commit();
    if (mended) {
        cp_async_wait<0>();
    }
    shared_floats()[4 * t + t % 4] = in[t];
    cp_async_wait<0>();
    out[t] = shared_floats()[4 * t + t % 4];
}

GDNCP_KERNEL(THREADS, 1) void row_address(const float *in, float *out, int64_t offset)
{
    const int t = thread_index();
    uint32_t r[4];

    shared_floats()[t] = in[t];
    sync_block();
    ldmatrix_x4(r, shared_memory() + offset + 16 * lane());
    out[t] = bits_float(r[t / 32]);
}

GDNCP_KERNEL(32, 1) void blocks(bool mended, const float *in, float *out)
{
    if (thread_index() == 0) {
        out[mended ? block_x() : 0] = in[block_x()];
    }
}

/* 0, in a way that no compiler makes a loop of. */
int zero_by_calls(int depth)
{
    volatile char frame[256];

    frame[depth % 256] = 0;
    return depth == 0 ? 0 : zero_by_calls(depth - 1) + frame[depth % 256];
}

GDNCP_KERNEL(THREADS, 1) void recursion(int depth, const float *in, float *out)
{
    out[thread_index()] = in[thread_index() + zero_by_calls(depth)];
}

GDNCP_KERNEL(THREADS, 1) void copy(const float *in, float *out)
{
    out[thread_index()] = in[thread_index()];
}

/* All threads, blocks and kernels that share a log may run at the same time. */
GDNCP_KERNEL(1024, 1) void log_order(int number, int *log)
{
    const int place = __atomic_add_fetch(log, 1, __ATOMIC_RELAXED);

    __atomic_store_n(log + place, number + 100 * (int)block_x() + 10 * warp(), __ATOMIC_RELAXED);
}

GDNCP_KERNEL(1024, 1) void nothing()
{
}

} /* namespace */

} /* namespace GDNCP_KERNELS */

using namespace GDNCP_KERNELS;

constexpr size_t FLOATS = sizeof(float) * THREADS;

gdncp_status_t planted_barrier(bool mended, const float *in, float *out, gdncp_stream_t stream)
{
    return launch("barrier", barrier, {1, 1, 1}, THREADS, FLOATS, stream, mended, in, out);
}

gdncp_status_t planted_second_barrier(bool mended, const float *in, float *out,
                                      gdncp_stream_t stream)
{
    return launch("second_barrier", second_barrier, {1, 1, 1}, THREADS, FLOATS, stream, mended, in,
                  out);
}

gdncp_status_t planted_warp_barrier(bool mended, const float *in, float *out, gdncp_stream_t stream)
{
    return launch("warp_barrier", warp_barrier, {1, 1, 1}, THREADS, FLOATS, stream, mended, in,
                  out);
}

gdncp_status_t planted_early_return(bool mended, const float *in, float *out, gdncp_stream_t stream)
{
    return launch("early_return", early_return, {1, 1, 1}, THREADS, FLOATS, stream, mended, in,
                  out);
}

/* With one element more than is used, the end is not where pages end. */
gdncp_status_t planted_shared_write(bool mended, const float *in, float *out, int64_t beyond,
                                    gdncp_stream_t stream)
{
    return launch("shared_write", shared_write, {1, 1, 1}, THREADS, FLOATS + sizeof(float), stream,
                  mended, in, out, beyond);
}

/* Each call needs some 300 bytes of stack. */
gdncp_status_t planted_recursion(bool mended, const float *in, float *out, gdncp_stream_t stream)
{
    return launch("recursion", recursion, {1, 1, 1}, THREADS, 0, stream, mended ? 10 : 1 << 20, in,
                  out);
}

gdncp_status_t planted_global_write(bool mended, const float *in, float *out, int64_t beyond,
                                    gdncp_stream_t stream)
{
    return launch("global_write", global_write, {1, 1, 1}, THREADS, 0, stream, mended, in, out,
                  beyond);
}

gdncp_status_t planted_global_read(bool mended, const float *in, float *out, int64_t beyond,
                                   gdncp_stream_t stream)
{
    return launch("global_read", global_read, {1, 1, 1}, THREADS, 0, stream, mended, in, out,
                  beyond);
}

gdncp_status_t planted_missing_lane(bool mended, const float *in, float *out, gdncp_stream_t stream)
{
    return launch("missing_lane", missing_lane, {1, 1, 1}, THREADS, 0, stream, mended, in, out);
}

gdncp_status_t planted_divergence(bool mended, const float *in, float *out, gdncp_stream_t stream)
{
    return launch("divergence", divergence, {1, 1, 1}, THREADS, 0, stream, mended, in, out);
}

gdncp_status_t planted_copy_wait(bool mended, const float *in, float *out, gdncp_stream_t stream)
{
    return launch("copy_wait", copy_wait, {1, 1, 1}, THREADS, 4 * FLOATS, stream, mended, in, out);
}

gdncp_status_t planted_copy_barrier(bool mended, const float *in, float *out, gdncp_stream_t stream)
{
    return launch("copy_barrier", copy_barrier, {1, 1, 1}, THREADS, FLOATS, stream, mended, in,
                  out);
}

gdncp_status_t planted_copy_over(bool mended, const float *in, float *out, gdncp_stream_t stream)
{
    return launch("copy_over", copy_over, {1, 1, 1}, THREADS, 4 * FLOATS, stream, mended, in, out);
}

gdncp_status_t planted_copy_source(bool mended, float *in, float *out, gdncp_stream_t stream)
{
    return launch("copy_source", copy_source, {1, 1, 1}, THREADS, 4 * FLOATS, stream, mended, in,
                  out);
}

gdncp_status_t planted_copy_address(const float *in, float *out, int64_t offset,
                                    gdncp_stream_t stream)
{
    return launch("copy_address", copy_address, {1, 1, 1}, THREADS, 4 * FLOATS, stream, in, out,
                  offset);
}

gdncp_status_t planted_copy_count(int64_t count, int bytes, const float *in, float *out,
                                  gdncp_stream_t stream)
{
    return launch("copy_count", copy_count, {1, 1, 1}, THREADS, 16 * (THREADS + (size_t)count),
                  stream, count, bytes, in, out);
}

gdncp_status_t planted_copy_place(bool mended, const float *in, float *out, gdncp_stream_t stream)
{
    return launch("copy_place", copy_place, {1, 1, 1}, THREADS, 4 * FLOATS, stream, mended, in,
                  out);
}

gdncp_status_t planted_row_address(const float *in, float *out, int64_t offset,
                                   gdncp_stream_t stream)
{
    return launch("row_address", row_address, {1, 1, 1}, THREADS, FLOATS + 16, stream, in, out,
                  offset);
}

gdncp_status_t planted_blocks(bool mended, const float *in, float *out, gdncp_stream_t stream)
{
    return launch("blocks", blocks, {8, 1, 1}, 32, 0, stream, mended, in, out);
}

gdncp_status_t planted_copy(const float *in, float *out, gdncp_stream_t stream)
{
    return launch("copy", GDNCP_KERNELS::copy, {1, 1, 1}, THREADS, 0, stream, in, out);
}

gdncp_status_t planted_log(int number, int blocks, int warps, int *log, gdncp_stream_t stream)
{
    return launch("log_order", log_order, {blocks, 1, 1}, 32 * warps, 0, stream, number, log);
}

gdncp_status_t planted_launch(int64_t x, int y, int z, int threads, int64_t shared_bytes,
                              gdncp_stream_t stream)
{
    return launch("nothing", nothing, {x, y, z}, threads, (size_t)shared_bytes, stream);
}
