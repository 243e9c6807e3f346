/* Running a kernel to its end. */
#ifndef GDNCP_EMULATOR_SCHEDULER_H
#define GDNCP_EMULATOR_SCHEDULER_H

namespace gdncp_emulated
{

void run_kernel(const kernel_shape &shape, const std::function<void()> &body);

} /* namespace gdncp_emulated */

#endif
