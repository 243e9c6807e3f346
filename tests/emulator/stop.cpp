/* Ending the program where a kernel, or the host, does what it may not. */
#include "stop.h"

#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "block.h"
#include "device_memory.h"
#include "guarded.h"
#include "schedule.h"

namespace gdncp_emulated
{

namespace
{

struct sigaction previous_segv;
struct sigaction previous_bus;

/* An address that a kernel's thread touches, where no memory is. */
[[noreturn]] void stop_at(const char *address)
{
    const char *const stack = static_cast<const char *>(current_thread->own.stack);
    const char *const shared = current_block->shared;
    const ptrdiff_t shared_bytes = (ptrdiff_t)current_block->shape->shared_bytes;
    char place[128];

    if (address >= stack && address < stack + PAGE) {
        stop("needs more than %zu bytes of stack", current_thread->own.stack_bytes - PAGE);
    }
    if (address - shared >= -(ptrdiff_t)PAGE && address - shared < shared_bytes + (ptrdiff_t)PAGE) {
        stop("touches offset %td of its %td bytes of shared memory", address - shared,
             shared_bytes);
    }
    stop("touches the address %p, %s", static_cast<const void *>(address),
         describe_address(address, place, sizeof place));
}

/* An access that the pages do not allow. */
void explain_fault(int number, siginfo_t *information, void *context)
{
    char place[128];

    (void)context;
    if (current_thread != nullptr) {
        stop_at(static_cast<const char *>(information->si_addr));
    }
    if (is_device_memory(information->si_addr)) {
        stop("the host touches device memory: the address %p, %s", information->si_addr,
             describe_address(information->si_addr, place, sizeof place));
    }
    /* Not ours: it happens again, and whoever was there before is asked. */
    sigaction(number, number == SIGSEGV ? &previous_segv : &previous_bus, nullptr);
}

bool is_installed(int number, struct sigaction *present)
{
    return sigaction(number, nullptr, present) != 0 || present->sa_sigaction == explain_fault;
}

/* Ranks that are threads come here at once. Seldom locked, as a lock orders their memory too. */
void install(int number, struct sigaction *previous)
{
    static std::mutex installing;
    struct sigaction present;
    struct sigaction own = {};

    if (is_installed(number, &present)) {
        return;
    }
    const std::lock_guard<std::mutex> locked(installing);

    if (!is_installed(number, &present)) {
        *previous = present;
        own.sa_sigaction = explain_fault;
        own.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
        sigaction(number, &own, nullptr);
    }
}

/* A thread that has used up its stack cannot be asked on it. */
void use_signal_stack()
{
    static thread_local char memory[16384];
    stack_t present;
    stack_t own = {};

    if (sigaltstack(nullptr, &present) == 0 && (present.ss_flags & SS_DISABLE) != 0) {
        own.ss_sp = memory;
        own.ss_size = sizeof memory;
        sigaltstack(&own, nullptr);
    }
}

} /* namespace */

void stop(const char *format, ...)
{
    va_list arguments;

    fprintf(stderr, "emulator: ");
    if (current_thread != nullptr) {
        const block_state *const block = current_block;

        fprintf(stderr, "kernel %s, block (%lld, %d, %d), thread %d: ", block->shape->name,
                (long long)block->x, block->y, block->z, current_thread->index);
    }
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, " (GDNCP_EMULATOR_SEED=%llu)\n", (unsigned long long)schedule_seed());
    abort();
}

void explain_faults()
{
    use_signal_stack();
    install(SIGSEGV, &previous_segv);
    install(SIGBUS, &previous_bus);
}

} /* namespace gdncp_emulated */
