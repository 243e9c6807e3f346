/* Copies from device to shared memory that a thread has under way. */
#ifndef GDNCP_EMULATOR_ASYNC_COPIES_H
#define GDNCP_EMULATOR_ASYNC_COPIES_H

namespace gdncp_emulated
{

struct async_copies;

async_copies *async_copies_create();
void async_copies_destroy(async_copies *copies);

/* Forget those that nobody waited for. */
void async_copies_drop(async_copies *copies);

} /* namespace gdncp_emulated */

#endif
