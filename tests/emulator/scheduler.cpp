/* Runs the blocks of a kernel: threads are fibres that wait for each other in meetings. */
#include "scheduler.h"

#include <cstring>
#include <memory>
#include <sys/mman.h>
#include <utility>
#include <vector>

#include "async_copies.h"
#include "block.h"
#include "guarded.h"
#include "ready_threads.h"
#include "sanitizers.h"
#include "schedule.h"

namespace gdncp_emulated
{

thread_local thread_state *current_thread;
thread_local block_state *current_block;

namespace
{

constexpr size_t STACK_BYTES = 256 * 1024;
/* Tops of stacks that lay a power of two apart would share the same few lines of the caches. */
constexpr size_t STAGGER = 9 * 64;
constexpr size_t SHARED_PAGE_BYTES = (MAX_SHARED_BYTES + PAGE - 1) / PAGE * PAGE;

/* Blocks take turns with these, so that to the thread sanitizer a block's threads are others than
 * those of the block before, whose accesses would seem to be ordered. */
constexpr unsigned NUM_TEAMS = THREAD_SANITIZER ? 3 : 1;

/* Threads that run a block, used again for others. */
struct team {
    char *stacks;
    async_copies *copies;
    int num_threads;
    thread_state threads[MAX_THREADS];

    void grow(int count)
    {
        if (stacks == nullptr) {
            stacks = map_stacks(MAX_THREADS, STACK_BYTES);
            copies = async_copies_map(MAX_THREADS);
        }
        for (; num_threads < count; num_threads++) {
            thread_state *const thread = &threads[num_threads];

            thread->index = num_threads;
            thread->copies = async_copies_of(copies, num_threads);
            fibre_create(&thread->own, stacks + (size_t)num_threads * STACK_BYTES,
                         STACK_BYTES - (size_t)(num_threads % 32) * STAGGER);
        }
    }

    ~team()
    {
        for (int i = 0; i < num_threads; i++) {
            fibre_destroy(&threads[i].own);
        }
        if (stacks != nullptr) {
            async_copies_unmap(copies, MAX_THREADS);
            unmap_stacks(stacks, MAX_THREADS, STACK_BYTES);
        }
    }
};

/* Tokens of one block, never used for another: they would order the two. */
struct block_order {
    char begun;
    char barrier[2]; /* of even and odd rounds: who comes early to the next may not count */
    char warps[MAX_THREADS / 32][2];
};

/* What a thread of the host runs kernels with. */
struct engine {
    team teams[NUM_TEAMS];
    unsigned last_team;
    uint32_t noise;           /* settles who is next */
    char *shared_region;      /* a guard page, pages, a guard page */
    size_t shared_page_bytes; /* of the region's last pages, which can be used */
    ready_threads ready;
    block_state block;
    block_order *order;
    char *finished; /* token: of all threads of the kernel */
    fibre *home;
    const std::function<void()> *body;

    engine() : teams(), last_team(0), noise(0), shared_page_bytes(0)
    {
        void *const region = mmap(nullptr, SHARED_PAGE_BYTES + 2 * PAGE, PROT_NONE,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        if (region == MAP_FAILED) {
            abort();
        }
        shared_region = static_cast<char *>(region);
    }

    ~engine()
    {
        munmap(shared_region, SHARED_PAGE_BYTES + 2 * PAGE);
    }
};

thread_local engine *running;

engine *own_engine()
{
    thread_local const std::unique_ptr<engine> own(new engine());

    return own.get();
}

/* Says who does not come. */
[[noreturn]] void stop_waiting(const block_state &block)
{
    const thread_state *waiting = nullptr;
    int same = 0;
    int returned = 0;
    const char *elsewhere = nullptr;

    for (int i = 0; i < block.shape->threads; i++) {
        const thread_state *const thread = &block.threads[i];

        waiting = waiting == nullptr && !thread->done ? thread : waiting;
    }
    for (int i = 0; i < block.shape->threads; i++) {
        const thread_state *const thread = &block.threads[i];

        if (thread->done) {
            returned++;
        } else if (strcmp(thread->waits_in, waiting->waits_in) == 0) {
            same++;
        } else {
            elsewhere = thread->waits_in;
        }
    }
    current_thread = const_cast<thread_state *>(waiting);
    stop("waits in %s for threads that do not come: of %d threads %d wait there, %d have returned, "
         "%d wait elsewhere%s%s",
         waiting->waits_in, block.shape->threads, same, returned,
         block.shape->threads - same - returned, elsewhere != nullptr ? " as in " : "",
         elsewhere != nullptr ? elsewhere : "");
}

/* Give way to the next thread that is ready. Returns when it is this one's turn. */
void run_next(thread_state *self)
{
    thread_state *const next = running->ready.take();

    if (next == nullptr) {
        stop_waiting(running->block);
    }
    if (next != self) {
        current_thread = next;
        fibre_switch(&self->own, &next->own);
    }
}

void run_thread(void *argument)
{
    thread_state *const self = static_cast<thread_state *>(argument);

    order_after(&running->order->begun);
    (*running->body)();
    async_copies_drop(self->copies);
    order_before(running->finished);
    self->done = true;
    if (--running->block.num_running > 0) {
        run_next(self);
    } else {
        fibre_switch(&self->own, running->home);
    }
}

char *shared_pages(const engine *machine)
{
    return machine->shared_region + PAGE + SHARED_PAGE_BYTES - machine->shared_page_bytes;
}

void open_shared_memory(engine *machine, size_t page_bytes)
{
    if (page_bytes != machine->shared_page_bytes) {
        mprotect(shared_pages(machine), machine->shared_page_bytes, PROT_NONE);
        machine->shared_page_bytes = page_bytes;
        mprotect(shared_pages(machine), page_bytes, PROT_READ | PROT_WRITE);
    }
}

/* A block's memory as new: what the thread sanitizer knows of it is of another block. */
guarded fresh_shared_memory(const engine *machine, size_t bytes)
{
    const size_t page_bytes = machine->shared_page_bytes;
    char *const pages = shared_pages(machine);

    if (THREAD_SANITIZER && page_bytes > 0) {
        mmap(pages, page_bytes, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    }
    return guarded_lend(pages, page_bytes, bytes, 128);
}

/* Member by member: the thread sanitizer would see a memset() and take it for that of a thread. */
void reset(meeting *place)
{
    place->name = nullptr;
    place->arrived = 0;
    place->round = 0;
}

void run_block(engine *machine, team *workers)
{
    block_state &block = machine->block;
    const int num_threads = block.shape->threads;
    const guarded shared = fresh_shared_memory(machine, block.shape->shared_bytes);
    const std::unique_ptr<block_order> order(new block_order());

    machine->order = order.get();
    block.shared = shared.begin;
    block.num_running = num_threads;
    block.threads = workers->threads;
    reset(&block.all);
    for (int warp = 0; warp < num_threads / 32; warp++) {
        reset(&block.warps[warp]);
    }
    machine->ready.clear(num_threads);
    for (int i = 0; i < num_threads; i++) {
        thread_state *const thread = &workers->threads[i];

        thread->done = false;
        fibre_start(&thread->own, run_thread, thread);
        machine->ready.add(thread);
    }
    order_before(&order->begun);
    current_block = &block;
    current_thread = machine->ready.take();
    fibre_switch(machine->home, &current_thread->own);
    if (!guarded_is_intact(shared)) {
        stop("has written outside of its %zu bytes of shared memory", shared.bytes);
    }
    guarded_take_back(shared);
    current_thread = nullptr;
    current_block = nullptr;
}

/* Not that of the last block, and no pattern: kernels with the same blocks would fall in with it.
 */
team *next_team(engine *machine)
{
    if (NUM_TEAMS > 1) {
        machine->noise = machine->noise * 1664525 + 1013904223;
        machine->last_team = (machine->last_team + 1 + (machine->noise >> 31)) % NUM_TEAMS;
    }
    return &machine->teams[machine->last_team];
}

std::vector<int64_t> order_of_blocks(int64_t count)
{
    std::vector<int64_t> order((size_t)count);

    for (size_t i = 0; i < order.size(); i++) {
        order[i] = (int64_t)i;
    }
    for (size_t i = order.size(); schedule_is_random() && i > 1; i--) {
        std::swap(order[i - 1], order[choose(i)]);
    }
    return order;
}

/* Wait until `expected` threads have come; the last one performs what they came for. */
void meet(meeting *place, int expected, thread_state *members,
          void (*perform)(void *const *operands))
{
    thread_state *const self = current_thread;
    ready_threads &ready = running->ready;

    if (++place->arrived < expected) {
        self->waits_in = place->name;
        run_next(self);
        return;
    }
    place->arrived = 0;
    place->round++;
    if (perform != nullptr) {
        perform(place->operands);
    }
    for (int i = 0; i < expected; i++) {
        if (&members[i] != self) {
            ready.add(&members[i]);
        }
    }
}

} /* namespace */

void run_kernel(const kernel_shape &shape, const std::function<void()> &body, fibre *home)
{
    engine *const machine = own_engine();
    const std::unique_ptr<char> finished(new char());
    const int64_t plane = shape.grid.x * shape.grid.y;

    running = machine;
    machine->home = home;
    machine->body = &body;
    machine->finished = finished.get();
    machine->block.shape = &shape;
    open_shared_memory(machine, (shape.shared_bytes + PAGE - 1) / PAGE * PAGE);
    for (const int64_t block : order_of_blocks(plane * shape.grid.z)) {
        team *const workers = next_team(machine);

        machine->block.x = block % shape.grid.x;
        machine->block.y = (int)(block / shape.grid.x % shape.grid.y);
        machine->block.z = (int)(block / plane);
        workers->grow(shape.threads);
        run_block(machine, workers);
    }
    order_after(machine->finished);
}

int thread_index()
{
    return current_thread->index;
}

int num_threads()
{
    return current_block->shape->threads;
}

int64_t block_x()
{
    return current_block->x;
}

int block_y()
{
    return current_block->y;
}

int block_z()
{
    return current_block->z;
}

char *shared_memory()
{
    return current_block->shared;
}

void sync_block()
{
    block_state *const block = current_block;
    char *const token = &running->order->barrier[block->all.round % 2];

    block->all.name = "sync_block";
    order_before(token);
    meet(&block->all, block->shape->threads, block->threads, nullptr);
    order_after(token);
}

void meet_warp(const char *name, void *operand, void (*perform)(void *const *operands))
{
    thread_state *const self = current_thread;
    block_state *const block = current_block;
    const int warp = self->index / 32;
    meeting *const place = &block->warps[warp];

    if (place->arrived > 0 && place->name != name && strcmp(place->name, name) != 0) {
        stop("comes to %s while lanes of its warp wait in %s", name, place->name);
    }
    place->name = name;
    place->operands[self->index % 32] = operand;
    meet(place, 32, block->threads + 32 * warp, perform);
}

void sync_warp()
{
    const int warp = current_thread->index / 32;
    char *const token = &running->order->warps[warp][current_block->warps[warp].round % 2];

    order_before(token);
    meet_warp("sync_warp", nullptr, nullptr);
    order_after(token);
}

void check_shared(const char *name, const void *address, size_t bytes, size_t alignment)
{
    const char *const begin = current_block->shared;
    const char *const at = static_cast<const char *>(address);

    if (at < begin || at + bytes > begin + current_block->shape->shared_bytes) {
        stop("%s: %zu bytes at offset %td lie outside of its %zu bytes of shared memory", name,
             bytes, at - begin, current_block->shape->shared_bytes);
    }
    if ((uintptr_t)address % alignment != 0) {
        stop("%s: the address at offset %td of shared memory is not aligned to %zu bytes", name,
             at - begin, alignment);
    }
}

} /* namespace gdncp_emulated */
