/* Streams as queues: nothing runs until some thread of the host waits for it. */
#ifndef GDNCP_EMULATOR_STREAMS_H
#define GDNCP_EMULATOR_STREAMS_H

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

extern "C" {
#include "backend.h"
}
#include "fibre.h"

namespace gdncp_emulated
{

/* PEER_WORK uses the device's memory and may wait for that of another rank in the process. */
enum class work_kind {
    KERNEL,
    COPY,
    CLEAR,
    HOST_CALL,
    PEER_WORK,
    WAIT_FLAG,
    WRITE_FLAG,
    RECORD,
    WAIT
};

/* One record of an event. */
struct record_state;

/* What a stream does, once or, in a graph, several times. */
struct work {
    work_kind kind;
    const char *name;
    std::function<void(fibre *home)> run;
    std::shared_ptr<record_state> record; /* RECORD and WAIT: which */
    const char *host;                     /* COPY: the host's side, pinned, or NULL */
    size_t host_bytes;
    const uint32_t *flag; /* WAIT_FLAG */
    /* tokens: of who queued it, and of it when it was done */
    mutable char queued;
    mutable char done;
};

/* All of these may be called by any thread. A NULL stream is the calling thread's own default
 * stream. What does not exist, or what a capture under way does not allow, is GDNCP_ERR_DEVICE. */

gdncp_status_t stream_queue(gdncp_stream_t stream, work added);
/* Queue, and wait until it is done. */
gdncp_status_t stream_queue_and_wait(gdncp_stream_t stream, work added);
gdncp_status_t stream_wait(gdncp_stream_t stream);
/* Wait for all that this thread has queued in any stream, and for streams that were deleted. */
gdncp_status_t stream_wait_for_own();

gdncp_stream_t stream_new();
/* What is queued still runs, when somebody waits for it or frees memory. */
void stream_delete(gdncp_stream_t stream);

gdncp_event_t event_new();
void event_delete(gdncp_event_t event);
gdncp_status_t event_record_in(gdncp_event_t event, gdncp_stream_t stream);
gdncp_status_t stream_wait_for(gdncp_stream_t stream, gdncp_event_t event);
gdncp_status_t event_time_between(gdncp_event_t begin, gdncp_event_t end, float *ms_p);

gdncp_status_t stream_capture_begin(gdncp_stream_t stream);
gdncp_status_t stream_capture_end(gdncp_stream_t stream, void **graph_p);
gdncp_status_t stream_launch(gdncp_stream_t stream, void *graph);
void graph_delete(void *graph);
/* Where the calling thread captures, `what` is an error and spoils the capture. */
gdncp_status_t stream_refuse_in_capture(const char *what);

/* Whether a copy to or from this host memory is queued. */
bool stream_uses(const char *host, size_t bytes);

/* Whether this thread runs a host call now. */
bool stream_is_in_host_call();

} /* namespace gdncp_emulated */

#endif
