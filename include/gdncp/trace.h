/**
 * @file
 * A timeline of what a rank does: operators, exchanges, waits.
 *
 * Off until started, and then one clock read an event. Events belong to the
 * thread that recorded them, so ranks that are threads have a timeline each.
 */
#ifndef GDNCP_TRACE_H
#define GDNCP_TRACE_H

#include <stdint.h>

#include "export.h"
#include "status.h"

GDNCP_BEGIN_DECLS

/** Something that took time. */
typedef struct gdncp_trace_event {
    const char *name; /**< static storage */
    int64_t begin_ns; /**< CLOCK_MONOTONIC: comparable among processes of one machine */
    int64_t duration_ns;
    int64_t bytes; /**< moved by it; 0 where that makes no sense */
} gdncp_trace_event_t;

/**
 * Record the calling thread's events, up to @p capacity; what comes after is counted as dropped.
 * Starting again empties the record.
 */
GDNCP_API gdncp_status_t gdncp_trace_start(int64_t capacity);

/** Stop recording on the calling thread and free its record. */
GDNCP_API void gdncp_trace_stop(void);

/** The calling thread's events in order of their end. Valid until the next gdncp call. */
GDNCP_API const gdncp_trace_event_t *gdncp_trace_events(int64_t *count_p, int64_t *dropped_p);

GDNCP_END_DECLS

#endif
