/* Running a kernel to its end. */
#ifndef GDNCP_EMULATOR_SCHEDULER_H
#define GDNCP_EMULATOR_SCHEDULER_H

#include "kernel.h"

#include "fibre.h"

namespace gdncp_emulated
{

/* Run all blocks, one after the other; called on the fibre `home`. */
void run_kernel(const kernel_shape &shape, const std::function<void()> &body, fibre *home);

} /* namespace gdncp_emulated */

#endif
