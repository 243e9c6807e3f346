/* The number of threads that operators use. */
#ifndef GDNCP_TEST_THREADS_H
#define GDNCP_TEST_THREADS_H

#ifdef _OPENMP
#include <omp.h>
#endif

/* Nothing without OpenMP. */
static inline void test_set_num_threads(int num_threads)
{
#ifdef _OPENMP
    omp_set_num_threads(num_threads);
#else
    (void)num_threads;
#endif
}

#endif
