/* Ranks that are threads of the test, and tensors of dumps as references. */
#ifndef GDNCP_TEST_RANK_THREADS_H
#define GDNCP_TEST_RANK_THREADS_H

#include <stddef.h>

#include "gdncp/comm.h"
#include "gdncp/tensor.h"

/* What one rank does. It writes a sentence to `problem` (of `size` bytes) if something is wrong. */
typedef void (*test_rank_body_t)(void *context, gdncp_comm_t *comm, char *problem, size_t size);

/* Run body on every rank of a communicator over threads, and fail the test, naming `what` and the
 * rank, if one has a problem. */
void test_run_ranks(const char *what, int ranks, test_rank_body_t body, void *context);

/* As assert_rms_ratio(), with a float32 tensor as the reference. */
void test_check_tensor(const char *what, const float *result, const gdncp_tensor_t *expected,
                       double tolerance);

#endif
