/* Loops over independent work items: the one place that knows OpenMP. */
#include "op_parallel.h"

#ifdef _OPENMP
#include <omp.h>

int gdncp_parallel_num_threads(int64_t num_items)
{
    const int most = omp_in_parallel() ? 1 : omp_get_max_threads();

    return num_items < most ? (num_items > 1 ? (int)num_items : 1) : most;
}

void gdncp_parallel_for(int64_t num_items, int num_threads, gdncp_parallel_body_t body,
                        void *context)
{
#pragma omp parallel for num_threads(num_threads) schedule(dynamic, 1) if (num_threads > 1)
    for (int64_t item = 0; item < num_items; item++) {
        body(context, item, omp_get_thread_num());
    }
}

#else

int gdncp_parallel_num_threads(int64_t num_items)
{
    (void)num_items;
    return 1;
}

void gdncp_parallel_for(int64_t num_items, int num_threads, gdncp_parallel_body_t body,
                        void *context)
{
    (void)num_threads;
    for (int64_t item = 0; item < num_items; item++) {
        body(context, item, 0);
    }
}

#endif
