/* Ending the program where a kernel, or the host, does what it may not. */
#ifndef GDNCP_EMULATOR_STOP_H
#define GDNCP_EMULATOR_STOP_H

namespace gdncp_emulated
{

/* Says what, in which thread of which kernel if any, and with which seed. */
[[noreturn]] void stop(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* From now on an access to memory that is not there, or not the host's, ends so too. */
void explain_faults();

} /* namespace gdncp_emulated */

#endif
