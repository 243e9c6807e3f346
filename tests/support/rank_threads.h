/* Ranks that are threads of the test, and tensors of dumps as references. */
#ifndef GDNCP_TEST_RANK_THREADS_H
#define GDNCP_TEST_RANK_THREADS_H

#include <stddef.h>

#include "gdncp/comm.h"
#include "gdncp/tensor.h"

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TEST_HAS_THREAD_SANITIZER
#endif
#endif

/* Ranks that run kernels in the emulator at once: the thread sanitizer maps memory for every
 * emulated thread, and a process has only so many mappings. */
#ifdef TEST_HAS_THREAD_SANITIZER
enum { TEST_MOST_DEVICE_RANKS = 4 };
#else
enum { TEST_MOST_DEVICE_RANKS = 8 };
#endif

/* What one rank does. It writes a sentence to `problem` (of `size` bytes) if something is wrong. */
typedef void (*test_rank_body_t)(void *context, gdncp_comm_t *comm, char *problem, size_t size);

/* Run body on every rank of a communicator over threads, and fail the test, naming `what` and the
 * rank, if one has a problem. */
void test_run_ranks(const char *what, int ranks, test_rank_body_t body, void *context);

/* As assert_rms_ratio(), with a float32 tensor as the reference. */
void test_check_tensor(const char *what, const float *result, const gdncp_tensor_t *expected,
                       double tolerance);

#endif
