/* Points in time that a wait may not pass. */
#ifndef GDNCP_DEADLINE_H
#define GDNCP_DEADLINE_H

#include <sched.h>
#include <stdint.h>
#include <time.h>

static inline int64_t gdncp_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline int64_t gdncp_now_ms(void)
{
    return gdncp_now_ns() / 1000000;
}

static inline int64_t gdncp_deadline_after(int64_t timeout_ms)
{
    const int64_t now = gdncp_now_ms();

    return timeout_ms < INT64_MAX - now ? now + timeout_ms : INT64_MAX;
}

enum { GDNCP_POLLS_SPUN = 100 }; /* before the core is given up */

/* Let others run between two polls: at first not at all, then by giving up the core, at last by
 * sleeping, so that more ranks than cores make progress. num_polls counts from 0. */
static inline void gdncp_pause_between_polls(int64_t num_polls)
{
    enum { YIELDS = 10000 };

    if (num_polls < GDNCP_POLLS_SPUN) {
        return;
    }
    if (num_polls < YIELDS) {
        sched_yield();
        return;
    }
    nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
}

#endif
