/* What tests ask of the emulator, and ask for: see emulator_control.h. */
#ifndef GDNCP_EMULATOR_COUNTS_H
#define GDNCP_EMULATOR_COUNTS_H

#include "streams.h"

namespace gdncp_emulated
{

void count_work(work_kind kind);
void count_allocation();
void count_wait();

/* Whether this thread may neither allocate nor wait. */
bool is_forbidden();

/* Of shared memory that one block may have. */
size_t shared_bytes_of_block();

} /* namespace gdncp_emulated */

#endif
