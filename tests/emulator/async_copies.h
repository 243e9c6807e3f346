/* Copies from device to shared memory that a thread has under way. */
#ifndef GDNCP_EMULATOR_ASYNC_COPIES_H
#define GDNCP_EMULATOR_ASYNC_COPIES_H

namespace gdncp_emulated
{

struct async_copies;

/* Room for those of so many threads, in one piece: each piece costs the sanitizers some of the
 * areas of memory that a process may have. */
async_copies *async_copies_map(int num_threads);
void async_copies_unmap(async_copies *first, int num_threads);

/* Those of one of the threads. */
async_copies *async_copies_of(async_copies *first, int thread);

/* Forget those that nobody waited for. */
void async_copies_drop(async_copies *copies);

} /* namespace gdncp_emulated */

#endif
