/* Host memory that the device may use in stream order. */
#ifndef GDNCP_EMULATOR_PINNED_MEMORY_H
#define GDNCP_EMULATOR_PINNED_MEMORY_H

#include <cstddef>

#include "gdncp/status.h"

namespace gdncp_emulated
{

gdncp_status_t pinned_alloc(size_t bytes, void **memory_p);

/* Ends the program unless pinned_alloc() gave it and no copy of it is queued. */
void pinned_free(void *memory);

/* Whether all bytes lie in one block of it. */
bool pinned_holds(const void *memory, size_t bytes);

} /* namespace gdncp_emulated */

#endif
