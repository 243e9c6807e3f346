/* One line on a terminal that says how far a long run is. */
#ifndef GDNCP_RUN_PROGRESS_H
#define GDNCP_RUN_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct run_progress {
    bool active;     /* stderr is a terminal */
    int64_t next_ns; /* when the line is next written: short runs show nothing */
    bool shown;
} run_progress_t;

run_progress_t run_progress_start(bool active);

/* Rewrite the line if it is time to. */
void run_progress_show(run_progress_t *progress, const char *strategy, int iteration,
                       int iterations);

/* Take the line away. */
void run_progress_clear(run_progress_t *progress);

#endif
