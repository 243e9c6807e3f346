/* One record of events a thread, allocated whole when recording starts. */
#include "gdncp/trace.h"

#include <inttypes.h>
#include <stddef.h>
#include <time.h>

#include "error.h"
#include "gdncp/memory.h"
#include "trace_internal.h"

typedef struct trace_record {
    gdncp_trace_event_t *events; /* [capacity]; NULL while the thread does not record */
    int64_t capacity;
    int64_t count;
    int64_t dropped;
} trace_record_t;

static _Thread_local trace_record_t record;

gdncp_status_t gdncp_trace_start(int64_t capacity)
{
    const int64_t most = INT64_MAX / (int64_t)sizeof *record.events;

    if (capacity <= 0 || capacity > most) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "capacity: expected 1..%" PRId64 ", got %" PRId64, most, capacity);
    }
    gdncp_trace_event_t *const events = gdncp_memory_alloc((size_t)capacity * sizeof *events);

    if (events == NULL) {
        return gdncp_fail(GDNCP_ERR_OUT_OF_MEMORY, "out of memory: %" PRId64 " trace events",
                          capacity);
    }
    gdncp_memory_free(record.events);
    record = (trace_record_t){.events = events, .capacity = capacity};
    return GDNCP_OK;
}

void gdncp_trace_stop(void)
{
    gdncp_memory_free(record.events);
    record = (trace_record_t){0};
}

const gdncp_trace_event_t *gdncp_trace_events(int64_t *count_p, int64_t *dropped_p)
{
    *count_p = record.count;
    *dropped_p = record.dropped;
    return record.events;
}

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t gdncp_trace_begin(void)
{
    return record.events != NULL ? now_ns() : 0;
}

void gdncp_trace_end(const char *name, int64_t begin_ns, int64_t bytes)
{
    if (begin_ns == 0 || record.events == NULL) {
        return;
    }
    if (record.count == record.capacity) {
        record.dropped++;
        return;
    }
    record.events[record.count++] = (gdncp_trace_event_t){
        .name = name,
        .begin_ns = begin_ns,
        .duration_ns = now_ns() - begin_ns,
        .bytes = bytes,
    };
}
