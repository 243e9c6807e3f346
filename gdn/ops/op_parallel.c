/* Loops over independent work items: the one place that knows OpenMP. */
#include "op_parallel.h"

#ifdef __SSE__
#include <xmmintrin.h>

/* Subnormal results and arguments count as zero. */
#define FLUSH_SUBNORMALS 0x8040u

static unsigned flush_subnormals(void)
{
    const unsigned before = _mm_getcsr();

    _mm_setcsr(before | FLUSH_SUBNORMALS);
    return before;
}

static void restore_subnormals(unsigned before)
{
    _mm_setcsr(before);
}

#else

static unsigned flush_subnormals(void)
{
    return 0;
}

static void restore_subnormals(unsigned before)
{
    (void)before;
}

#endif

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
#pragma omp parallel num_threads(num_threads) if (num_threads > 1)
    {
        const unsigned before = flush_subnormals();

#pragma omp for schedule(dynamic, 1)
        for (int64_t item = 0; item < num_items; item++) {
            body(context, item, omp_get_thread_num());
        }
        restore_subnormals(before);
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
    const unsigned before = flush_subnormals();

    (void)num_threads;
    for (int64_t item = 0; item < num_items; item++) {
        body(context, item, 0);
    }
    restore_subnormals(before);
}

#endif
