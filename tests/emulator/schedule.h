/* Seeds, and the choices that a seed makes. */
#ifndef GDNCP_EMULATOR_SCHEDULE_H
#define GDNCP_EMULATOR_SCHEDULE_H

#include <cstdint>

#include "gdncp/status.h"

namespace gdncp_emulated
{

/* From now on, in all threads of the host. 0: everything in order of number, as late as it may. */
void set_schedule(uint64_t seed);

/* The seed in use: the last set, else GDNCP_EMULATOR_SEED, else 0. */
uint64_t schedule_seed();

/* Whether GDNCP_EMULATOR_SEED is a seed. */
gdncp_status_t schedule_check();

bool schedule_is_random();

/* Uniform in [0, count), count > 0; with seed 0 always 0. Of this thread's own sequence. */
uint64_t choose(uint64_t count);

} /* namespace gdncp_emulated */

#endif
