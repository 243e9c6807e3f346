/* What tests can ask of the emulator besides running kernels. */
#ifndef GDNCP_EMULATOR_CONTROL_H
#define GDNCP_EMULATOR_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The order of threads, blocks and streams from now on, in all threads of the host: 0 is by number,
 * each other seed another one. Overrides the environment variable GDNCP_EMULATOR_SEED. */
void emulator_set_schedule(uint64_t seed);

/* What one block may have of shared memory from now on, as on a smaller device; 0: as much as the
 * largest has. */
void emulator_set_shared_bytes(size_t bytes);

/* Whether the calling thread may not allocate or free memory of the device or pinned memory, nor
 * wait for the device. What is forbidden fails with GDNCP_ERR_DEVICE, and where it cannot fail ends
 * the program. */
void emulator_forbid(bool forbidden);

/* Queue function(context) in a stream, as a kernel of a library of communication: it may use the
 * device's memory, and wait for what other threads make their streams do, but use no call of the
 * backend. It may run again where the stream was captured. 0 on success. */
int emulator_queue_peer_work(void *stream, const char *name, void (*function)(void *context),
                             void *context);

/* Of all threads since the last emulator_reset_counts(). Work is counted as it is queued. */
typedef struct emulator_work {
    int64_t kernels;
    int64_t copies;
    int64_t clears;
    int64_t host_calls;
    int64_t peer_work;   /* by emulator_queue_peer_work() */
    int64_t allocations; /* of device and pinned memory */
    int64_t waits;       /* of the host: for a stream, for a pageable copy, in a free */
} emulator_work_t;

emulator_work_t emulator_counts(void);
void emulator_reset_counts(void);

#ifdef __cplusplus
}
#endif

#endif
