/* The number of threads that operators use; on the device, another order of its threads. */
#ifndef GDNCP_TEST_THREADS_H
#define GDNCP_TEST_THREADS_H

#ifdef GDNCP_TEST_ON_DEVICE
#include "on_device.h"
#elif defined(_OPENMP)
#include <omp.h>
#endif

/* Nothing on the CPU without OpenMP. */
static inline void test_set_num_threads(int num_threads)
{
#if defined(GDNCP_TEST_ON_DEVICE)
    on_device_set_schedule((uint64_t)num_threads);
#elif defined(_OPENMP)
    omp_set_num_threads(num_threads);
#else
    (void)num_threads;
#endif
}

#endif
