/* A block that runs: its threads, and where they wait for each other. */
#ifndef GDNCP_EMULATOR_BLOCK_H
#define GDNCP_EMULATOR_BLOCK_H

#include "kernel.h"

#include "fibre.h"
#include "stop.h"

namespace gdncp_emulated
{

constexpr int MAX_THREADS = 1024;

struct async_copies;

struct thread_state {
    fibre own;
    int index;
    bool done;
    const char *waits_in; /* where it waited last, and waits now if nobody is ready */
    async_copies *copies; /* its own, under way */
};

/* Threads that come together. */
struct meeting {
    const char *name;
    int arrived;
    uint64_t round;
    void *operands[32];
};

struct block_state {
    const kernel_shape *shape;
    int64_t x;
    int y;
    int z;
    char *shared;
    int num_running;
    meeting all;
    meeting warps[MAX_THREADS / 32];
    thread_state *threads; /* [shape->threads] */
};

/* The thread and the block that run on this thread of the host; NULL outside of kernels. */
extern thread_local thread_state *current_thread;
extern thread_local block_state *current_block;

} /* namespace gdncp_emulated */

#endif
