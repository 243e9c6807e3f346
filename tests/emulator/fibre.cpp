/* Fibres by Boost's context switch, which sanitizers are told of. */
#include "fibre.h"

#include <boost/context/detail/fcontext.hpp>
#include <cstdlib>
#include <sys/mman.h>

#include "sanitizers.h"

namespace gdncp_emulated
{

namespace
{

constexpr size_t GUARD_BYTES = 4096;

struct passage {
    fibre *from;
    fibre *to;
};

void leave(fibre *from, fibre *to)
{
#ifdef GDNCP_EMULATOR_ADDRESS
    __sanitizer_start_switch_fiber(&from->address_sanitizer, to->stack, to->stack_bytes);
#endif
#ifdef GDNCP_EMULATOR_THREAD
    __tsan_switch_to_fiber(to->thread_sanitizer, __tsan_switch_to_fiber_no_sync);
#endif
    (void)from;
    (void)to;
}

/* A thread's own stack learns its bounds here, before anybody switches back to it. */
void arrive(fibre *from, fibre *to)
{
#ifdef GDNCP_EMULATOR_ADDRESS
    __sanitizer_finish_switch_fiber(to->address_sanitizer, &from->stack, &from->stack_bytes);
#endif
    (void)from;
    (void)to;
}

void begin(boost::context::detail::transfer_t transfer)
{
    const passage way = *static_cast<const passage *>(transfer.data);

    way.from->context = transfer.fctx;
    arrive(way.from, way.to);
    way.to->entry(way.to->argument);
    abort();
}

} /* namespace */

char *map_stacks(size_t count, size_t stack_bytes)
{
    void *const stacks = mmap(nullptr, count * stack_bytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (stacks == MAP_FAILED) {
        abort();
    }
    return static_cast<char *>(stacks);
}

void unmap_stacks(char *stacks, size_t count, size_t stack_bytes)
{
    munmap(stacks, count * stack_bytes);
}

void fibre_create(fibre *made, char *stack, size_t stack_bytes)
{
    *made = {};
    mprotect(stack, GUARD_BYTES, PROT_NONE);
    made->stack = stack;
    made->stack_bytes = stack_bytes;
#ifdef GDNCP_EMULATOR_THREAD
    made->thread_sanitizer = __tsan_create_fiber(0);
#endif
}

void fibre_destroy(fibre *made)
{
#ifdef GDNCP_EMULATOR_THREAD
    __tsan_destroy_fiber(made->thread_sanitizer);
#endif
    (void)made;
}

void fibre_start(fibre *started, void (*entry)(void *argument), void *argument)
{
    char *const low = static_cast<char *>(const_cast<void *>(started->stack));

    started->entry = entry;
    started->argument = argument;
    started->context = boost::context::detail::make_fcontext(low + started->stack_bytes,
                                                             started->stack_bytes, begin);
}

void fibre_adopt_thread(fibre *adopted)
{
    *adopted = {};
#ifdef GDNCP_EMULATOR_THREAD
    adopted->thread_sanitizer = __tsan_get_current_fiber();
#endif
}

void fibre_switch(fibre *from, fibre *to)
{
    passage way = {from, to};

    leave(from, to);
    const boost::context::detail::transfer_t transfer =
        boost::context::detail::jump_fcontext(to->context, &way);
    const passage back = *static_cast<const passage *>(transfer.data);

    back.from->context = transfer.fctx;
    arrive(back.from, back.to);
}

} /* namespace gdncp_emulated */
