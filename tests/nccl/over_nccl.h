/*
 * Runs tests of exchanges, relays and layers over NCCL, which a stand-in plays.
 *
 * A program tests/test_<subject>.c is compiled a second time as test_nccl_<subject>, with this
 * header included first: ranks that it makes by test_run_ranks() then use NCCL for devices' memory.
 */
#ifndef GDNCP_TEST_OVER_NCCL_H
#define GDNCP_TEST_OVER_NCCL_H

#include "nccl_stand_in.h"
#include "rank_threads.h"

#ifdef GDNCP_TEST_OVER_NCCL
#define test_run_ranks test_run_ranks_over_nccl
#endif

/* As test_run_ranks(). Also that all that was sent was received, in the right lengths and over
 * connections that were made before, and that no communicator of NCCL is left. */
void test_run_ranks_over_nccl(const char *what, int ranks, test_rank_body_t body, void *context);

/* The stand-in, without faults or counts, and open for gdncp. It says twice that it is in progress,
 * and tells an abort to all ranks. */
nccl_stand_in_t *test_nccl_stand_in(void);

#endif
