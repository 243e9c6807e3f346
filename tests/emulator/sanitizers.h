/* What the emulator tells the sanitizer of this build; nothing where there is none. Its sources are
 * compiled without sanitizers, so kernels' memory that they touch must be told by hand. */
#ifndef GDNCP_EMULATOR_SANITIZERS_H
#define GDNCP_EMULATOR_SANITIZERS_H

#include <cstddef>

#ifdef GDNCP_EMULATOR_ADDRESS
#include <sanitizer/asan_interface.h>
#endif
#ifdef GDNCP_EMULATOR_THREAD
#include <sanitizer/tsan_interface.h>

extern "C" void __tsan_read_range(void *address, unsigned long bytes);
extern "C" void __tsan_write_range(void *address, unsigned long bytes);
#endif

namespace gdncp_emulated
{

#ifdef GDNCP_EMULATOR_ADDRESS
constexpr bool ADDRESS_SANITIZER = true;
#else
constexpr bool ADDRESS_SANITIZER = false;
#endif
#ifdef GDNCP_EMULATOR_THREAD
constexpr bool THREAD_SANITIZER = true;
#else
constexpr bool THREAD_SANITIZER = false;
#endif

/* What came before an order_before(token) came before what comes after order_after(token). */
inline void order_before(void *token)
{
#ifdef GDNCP_EMULATOR_THREAD
    __tsan_release(token);
#endif
    (void)token;
}

inline void order_after(void *token)
{
#ifdef GDNCP_EMULATOR_THREAD
    __tsan_acquire(token);
#endif
    (void)token;
}

/* The thread that runs now reads or writes. */
inline void note_read(const void *memory, size_t bytes)
{
#ifdef GDNCP_EMULATOR_THREAD
    __tsan_read_range(const_cast<void *>(memory), bytes);
#endif
    (void)memory;
    (void)bytes;
}

inline void note_write(void *memory, size_t bytes)
{
#ifdef GDNCP_EMULATOR_THREAD
    __tsan_write_range(memory, bytes);
#endif
    (void)memory;
    (void)bytes;
}

/* From now on nobody may touch it, or everybody may. */
inline void forbid_access(const volatile void *memory, size_t bytes)
{
#ifdef GDNCP_EMULATOR_ADDRESS
    __asan_poison_memory_region(memory, bytes);
#endif
    (void)memory;
    (void)bytes;
}

inline void allow_access(const volatile void *memory, size_t bytes)
{
#ifdef GDNCP_EMULATOR_ADDRESS
    __asan_unpoison_memory_region(memory, bytes);
#endif
    (void)memory;
    (void)bytes;
}

} /* namespace gdncp_emulated */

#endif
