#include "progress.h"

#include <stdio.h>
#include <unistd.h>

#include "clock.h"

#define FIRST_NS INT64_C(1000000000)
#define INTERVAL_NS INT64_C(100000000)

run_progress_t run_progress_start(bool active)
{
    return (run_progress_t){
        .active = active && isatty(STDERR_FILENO),
        .next_ns = run_clock_ns() + FIRST_NS,
    };
}

void run_progress_show(run_progress_t *progress, const char *strategy, int iteration,
                       int iterations)
{
    if (!progress->active || run_clock_ns() < progress->next_ns) {
        return;
    }
    fprintf(stderr, "\r\033[K%s: iteration %d of %d", strategy, iteration, iterations);
    fflush(stderr);
    progress->shown = true;
    progress->next_ns = run_clock_ns() + INTERVAL_NS;
}

void run_progress_clear(run_progress_t *progress)
{
    if (progress->shown) {
        fprintf(stderr, "\r\033[K");
        fflush(stderr);
        progress->shown = false;
    }
}
