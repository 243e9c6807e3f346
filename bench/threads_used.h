/* How many threads operators use on the CPU. */
#ifndef GDNCP_BENCH_THREADS_USED_H
#define GDNCP_BENCH_THREADS_USED_H

#ifdef _OPENMP
#include <omp.h>
#endif

static inline int bench_num_threads(void)
{
#ifdef _OPENMP
    return omp_get_max_threads();
#else
    return 1;
#endif
}

#endif
