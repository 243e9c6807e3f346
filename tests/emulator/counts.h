/* What tests ask of the emulator: see emulator_control.h. */
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

} /* namespace gdncp_emulated */

#endif
