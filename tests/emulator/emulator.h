/* What the emulator gives to the kernels it runs. */
#ifndef GDNCP_EMULATOR_H
#define GDNCP_EMULATOR_H

#include <cstddef>
#include <cstdint>
#include <functional>

namespace gdncp_emulated
{

constexpr size_t MAX_SHARED_BYTES = 227 * 1024; /* of one block, on the largest device */

struct kernel_shape {
    const char *name;
    gdncp_grid grid;
    int threads;
    size_t shared_bytes;
};

/* Queue a kernel in a stream; body is run once by every thread of every block. */
gdncp_status_t queue_kernel(const kernel_shape &shape, gdncp_stream_t stream,
                            std::function<void()> body);

/* Of the thread that asks. */
int thread_index();
int num_threads();
int64_t block_x();
int block_y();
int block_z();
char *shared_memory();

/* All threads of the block meet. */
void sync_block();

/* All lanes of the warp meet, and order memory among them. */
void sync_warp();

/* All lanes of the warp meet in the same operation `name`; the last to come performs it on the
 * operands of all, in order of lanes. Orders no memory. */
void meet_warp(const char *name, void *operand, void (*perform)(void *const *operands));

/* Stops the program where an address is not `bytes` of this block's shared memory, aligned. */
void check_shared(const char *name, const void *address, size_t bytes, size_t alignment);

/* Copy `bytes` of device memory to a place of 4, 8 or 16 bytes in shared memory, of which the rest
 * becomes zero; both are aligned to the place's size. */
void copy_async(const char *name, void *shared, const void *global, int place_bytes, int bytes);

/* Close the group of this thread's copies; wait until at most so many groups are under way. */
void commit_copies();
void wait_copies(int groups_under_way);

} /* namespace gdncp_emulated */

#endif
