/* Runs the blocks of a kernel: threads are fibres that wait for each other in meetings. */
#include "kernel.h"

#include <boost/context/fiber.hpp>
#include <boost/context/fixedsize_stack.hpp>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "scheduler.h"

namespace gdncp_emulated
{

namespace
{

constexpr size_t STACK_BYTES = 128 * 1024;

struct block_state;

/* Who waits for each other. */
struct meeting {
    const char *name;
    int arrived;
    uint64_t round;
    void *operands[32];
};

struct async_copy {
    char *to;
    char data[16];
};

struct thread_state {
    int index;
    bool done;
    block_state *block;
    boost::context::fiber fiber;
    boost::context::fiber back;
    const meeting *waits_for;
    uint64_t round;
    std::vector<std::vector<async_copy>> groups; /* the last one is still open */
};

struct block_state {
    const kernel_shape *shape;
    int64_t x;
    int y;
    int z;
    char *shared;
    int num_running;
    meeting all;
    std::vector<meeting> warps;
    std::vector<thread_state> threads;
};

thread_local thread_state *current;

[[noreturn]] void stop(const char *what)
{
    fprintf(stderr, "emulator: %s, thread %d of block (%lld, %d, %d): %s\n",
            current->block->shape->name, current->index, (long long)current->block->x,
            current->block->y, current->block->z, what);
    abort();
}

void yield_until(const meeting *place, uint64_t round)
{
    current->waits_for = place;
    current->round = round;
    current->back = std::move(current->back).resume();
}

bool can_run(const thread_state &thread)
{
    return !thread.done && (thread.waits_for == nullptr || thread.waits_for->round > thread.round);
}

void land(const std::vector<async_copy> &group)
{
    for (const async_copy &copy : group) {
        memcpy(copy.to, copy.data, sizeof copy.data);
    }
}

void run_block(block_state &block, const std::function<void()> &body)
{
    for (thread_state &thread : block.threads) {
        thread_state *const self = &thread;

        thread.groups.assign(1, {});
        thread.done = false;
        thread.waits_for = nullptr;
        thread.fiber =
            boost::context::fiber(std::allocator_arg, boost::context::fixedsize_stack(STACK_BYTES),
                                  [self, &body](boost::context::fiber &&back) {
                                      self->back = std::move(back);
                                      body();
                                      wait_copies(0);
                                      self->done = true;
                                      return std::move(self->back);
                                  });
    }
    int left = (int)block.threads.size();

    while (left > 0) {
        bool progress = false;

        for (thread_state &thread : block.threads) {
            if (!can_run(thread)) {
                continue;
            }
            progress = true;
            thread.waits_for = nullptr;
            current = &thread;
            thread.fiber = std::move(thread.fiber).resume();
            left -= thread.done;
        }
        if (!progress) {
            for (thread_state &thread : block.threads) {
                if (!thread.done) {
                    current = &thread;
                    stop("waits for threads that do not come");
                }
            }
        }
    }
    current = nullptr;
}

} /* namespace */

void run_kernel(const kernel_shape &shape, const std::function<void()> &body)
{
    block_state block = {};

    block.shape = &shape;
    block.shared = static_cast<char *>(aligned_alloc(128, (shape.shared_bytes + 127) / 128 * 128));
    block.threads.resize((size_t)shape.threads);
    block.warps.resize((size_t)shape.threads / 32);
    for (int i = 0; i < shape.threads; i++) {
        block.threads[(size_t)i].index = i;
        block.threads[(size_t)i].block = &block;
    }
    for (block.z = 0; block.z < shape.grid.z; block.z++) {
        for (block.y = 0; block.y < shape.grid.y; block.y++) {
            for (block.x = 0; block.x < shape.grid.x; block.x++) {
                memset(block.shared, 0xff, shape.shared_bytes);
                run_block(block, body);
            }
        }
    }
    free(block.shared);
}

int thread_index()
{
    return current->index;
}

int num_threads()
{
    return current->block->shape->threads;
}

int64_t block_x()
{
    return current->block->x;
}

int block_y()
{
    return current->block->y;
}

int block_z()
{
    return current->block->z;
}

char *shared_memory()
{
    return current->block->shared;
}

void sync_block()
{
    meeting &place = current->block->all;

    if (++place.arrived == current->block->shape->threads) {
        place.arrived = 0;
        place.round++;
    } else {
        yield_until(&place, place.round);
    }
}

void meet_warp(const char *name, void *operand, void (*perform)(void *const *operands))
{
    meeting &place = current->block->warps[(size_t)current->index / 32];

    if (place.arrived > 0 && strcmp(place.name, name) != 0) {
        stop("lanes of a warp meet in different operations");
    }
    place.name = name;
    place.operands[current->index % 32] = operand;
    if (++place.arrived == 32) {
        place.arrived = 0;
        if (perform != nullptr) {
            perform(place.operands);
        }
        place.round++;
    } else {
        yield_until(&place, place.round);
    }
}

void sync_warp()
{
    meet_warp("sync_warp", nullptr, nullptr);
}

void check_shared(const char *name, const void *address, size_t bytes, size_t alignment)
{
    const char *const begin = current->block->shared;
    const char *const at = static_cast<const char *>(address);

    if (at < begin || at + bytes > begin + current->block->shape->shared_bytes) {
        stop("address outside of shared memory");
    }
    if ((uintptr_t)address % alignment != 0) {
        stop("address not aligned");
    }
    (void)name;
}

void copy_later(void *shared, const char *data)
{
    async_copy copy;

    copy.to = static_cast<char *>(shared);
    memcpy(copy.data, data, sizeof copy.data);
    current->groups.back().push_back(copy);
}

void commit_copies()
{
    current->groups.emplace_back();
}

void wait_copies(int groups_under_way)
{
    /* The open group is not waited for. */
    while ((int)current->groups.size() - 1 > groups_under_way) {
        land(current->groups.front());
        current->groups.erase(current->groups.begin());
    }
}

void set_schedule(uint64_t seed)
{
    (void)seed;
}

} /* namespace gdncp_emulated */
