/* Memory of the emulated device: the host may not touch it, and around every block of it is memory
 * that nobody may touch. */
#ifndef GDNCP_EMULATOR_DEVICE_MEMORY_H
#define GDNCP_EMULATOR_DEVICE_MEMORY_H

#include <cstddef>

#include "gdncp/status.h"

namespace gdncp_emulated
{

constexpr size_t DEVICE_BYTES = (size_t)4 << 30;

/* 256-byte aligned, filled with 0xff. */
gdncp_status_t device_alloc(size_t bytes, void **memory_p);

/* Ends the program unless device_alloc() gave it. */
void device_free(void *memory);

/* Whether an address is one of the device, of a block or not. */
bool is_device_memory(const void *address);

/* Whether all bytes lie in one block. */
bool device_holds(const void *memory, size_t bytes);

/* Between these two, work of the device may touch its memory. Several threads may be there. */
void device_open();
void device_close();

/* Ends the program where somebody has written beside a block; `culprit` has run last. */
void device_check(const char *culprit);

/* As device_holds(), for kernels: the blocks are those of this thread's last device_open(). */
bool kernel_may_read(const void *memory, size_t bytes);

/* What an address is, in words. */
const char *describe_address(const void *address, char *text, size_t size);

} /* namespace gdncp_emulated */

#endif
