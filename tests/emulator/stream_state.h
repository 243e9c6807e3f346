/* What streams, events and captures are inside. */
#ifndef GDNCP_EMULATOR_STREAM_STATE_H
#define GDNCP_EMULATOR_STREAM_STATE_H

#include "streams.h"

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

namespace gdncp_emulated
{

using work_ref = std::shared_ptr<const work>;

struct stream_state;
struct capture_state;

struct record_state {
    stream_state *where; /* NULL once it is done */
    std::chrono::steady_clock::time_point when;
    char order; /* token */
};

struct event_state {
    std::shared_ptr<record_state> last; /* NULL: never recorded */
    /* Where the last record was captured. */
    std::shared_ptr<capture_state> capture;
    stream_state *captured_stream;
    uint64_t captured_position; /* the stream's num_captured then */
};

/* Of a stream, and of streams that joined it by waiting for its events. */
struct capture_state {
    std::thread::id by;
    stream_state *origin;
    std::vector<work_ref> nodes;
    const char *spoilt_by; /* NULL: nothing */
    bool has_ended;
};

struct stream_state {
    std::deque<work_ref> queue;
    uint64_t num_queued;
    uint64_t num_done;
    bool running;
    bool deleted;
    std::thread::id owner; /* who queued last */
    std::shared_ptr<capture_state> capture;
    uint64_t num_captured; /* of its own, in this capture */
    bool apart;            /* joined a capture, and the origin does not wait for its last node */

    /* Its work runs on its own stack: to the thread sanitizer it is a thread of its own. */
    fibre service;
    char *stack;
    fibre *home;      /* of who makes it run */
    work_ref current; /* what it is to do */
    char done;        /* token */
};

struct device_state {
    std::mutex lock;
    std::condition_variable changed;
    std::vector<std::shared_ptr<stream_state>> streams;
    std::vector<std::shared_ptr<event_state>> events;
};

using device_lock = std::unique_lock<std::mutex>;

device_state &device_of_process();

/* The functions below are called with the device locked. */

/* NULL, with the error recorded, where there is none. */
stream_state *find_stream(gdncp_stream_t stream);
event_state *find_event(gdncp_event_t event);

/* Into the stream's queue, or into its capture. */
void append(stream_state *stream, const work_ref &added);

/* Remember why the capture will fail; the error. */
gdncp_status_t spoil(capture_state *capture, const char *what);

/* Run work, unlocked meanwhile, until the stream has done `count` of what was queued in it. */
void run_until(device_lock *locked, stream_state *stream, uint64_t count);

/* A stream that was deleted goes when it has nothing left to do. */
void forget_if_over(stream_state *stream);

} /* namespace gdncp_emulated */

#endif
