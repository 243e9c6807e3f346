/* The calls on streams and events. */
#include "stream_state.h"

#include <algorithm>

extern "C" {
#include "error.h"
}
#include "counts.h"
#include "sanitizers.h"
#include "stop.h"

namespace gdncp_emulated
{

namespace
{

/* Made before there are threads: the thread sanitizer does not see the lock of a local static here.
 * Never destroyed: threads may outlive main(). */
device_state &device = *new device_state();

constexpr size_t SERVICE_STACK_BYTES = (size_t)1 << 20;

/* What a stream does whenever it is switched to. */
void serve(void *argument)
{
    stream_state *const stream = static_cast<stream_state *>(argument);

    for (;;) {
        const work &now = *stream->current;

        order_after(&now.queued);
        if (now.kind == work_kind::RECORD) {
            order_before(&now.record->order);
        } else if (now.kind == work_kind::WAIT) {
            order_after(&now.record->order);
        } else if (now.kind == work_kind::WAIT_FLAG) {
            order_after(const_cast<uint32_t *>(now.flag));
        } else {
            now.run(&stream->service);
        }
        order_before(&now.done);
        stream->current = nullptr;
        order_before(&stream->done);
        fibre_switch(&stream->service, stream->home);
    }
}

void destroy_stream(stream_state *stream)
{
    fibre_destroy(&stream->service);
    unmap_stacks(stream->stack, 1, SERVICE_STACK_BYTES);
    delete stream;
}

std::shared_ptr<stream_state> create_stream()
{
    const std::shared_ptr<stream_state> stream(new stream_state(), destroy_stream);

    stream->stack = map_stacks(1, SERVICE_STACK_BYTES);
    fibre_create(&stream->service, stream->stack, SERVICE_STACK_BYTES);
    fibre_start(&stream->service, serve, stream.get());
    stream->owner = std::this_thread::get_id();
    return stream;
}

void remove_stream(stream_state *stream)
{
    const device_lock locked(device_of_process().lock);

    stream->deleted = true;
    forget_if_over(stream);
}

/* This thread's default stream, which ends with the thread. */
struct default_stream {
    stream_state *stream;

    ~default_stream()
    {
        if (stream != nullptr) {
            remove_stream(stream);
        }
    }
};

thread_local default_stream own_default;

} /* namespace */

device_state &device_of_process()
{
    return device;
}

void forget_if_over(stream_state *stream)
{
    auto &streams = device_of_process().streams;

    if (!stream->deleted || stream->running || !stream->queue.empty()) {
        return;
    }
    streams.erase(std::find_if(streams.begin(), streams.end(),
                               [=](const auto &entry) { return entry.get() == stream; }));
}

stream_state *find_stream(gdncp_stream_t handle)
{
    if (handle == nullptr) {
        if (own_default.stream == nullptr) {
            device_of_process().streams.push_back(create_stream());
            own_default.stream = device_of_process().streams.back().get();
        }
        return own_default.stream;
    }
    for (const auto &stream : device_of_process().streams) {
        if (stream.get() == handle && !stream->deleted) {
            return stream.get();
        }
    }
    gdncp_fail(GDNCP_ERR_DEVICE, "stream: expected one that exists, got %p", handle);
    return nullptr;
}

event_state *find_event(gdncp_event_t handle)
{
    for (const auto &event : device_of_process().events) {
        if (event.get() == handle) {
            return event.get();
        }
    }
    gdncp_fail(GDNCP_ERR_DEVICE, "event: expected one that exists, got %p", handle);
    return nullptr;
}

void append(stream_state *stream, const work_ref &added)
{
    order_before(&added->queued);
    if (stream->capture != nullptr) {
        stream->capture->nodes.push_back(added);
        stream->num_captured++;
        stream->apart = stream != stream->capture->origin;
        return;
    }
    count_work(added->kind);
    stream->queue.push_back(added);
    stream->num_queued++;
    stream->owner = std::this_thread::get_id();
}

gdncp_stream_t stream_new()
{
    const device_lock locked(device_of_process().lock);

    device_of_process().streams.push_back(create_stream());
    return device_of_process().streams.back().get();
}

void stream_delete(gdncp_stream_t handle)
{
    device_lock locked(device_of_process().lock);
    stream_state *const stream = find_stream(handle);

    if (stream == nullptr || handle == nullptr) {
        stop("a stream is destroyed that does not exist");
    }
    locked.unlock();
    remove_stream(stream);
}

gdncp_status_t stream_queue(gdncp_stream_t handle, work added)
{
    const device_lock locked(device_of_process().lock);
    stream_state *const stream = find_stream(handle);

    if (stream == nullptr) {
        return GDNCP_ERR_DEVICE;
    }
    append(stream, std::make_shared<const work>(std::move(added)));
    return GDNCP_OK;
}

namespace
{

/* What a thread that waited knows of what the stream did. */
void wait_until(device_lock *locked, stream_state *stream, uint64_t count)
{
    run_until(locked, stream, count);
    order_after(&stream->done);
}

gdncp_status_t wait_for(gdncp_stream_t handle, const char *what, const work_ref &added)
{
    const gdncp_status_t status = stream_refuse_in_capture(what);

    if (status != GDNCP_OK) {
        return status;
    }
    device_lock locked(device_of_process().lock);
    stream_state *const stream = find_stream(handle);

    if (stream == nullptr) {
        return GDNCP_ERR_DEVICE;
    }
    if (stream->capture != nullptr) {
        return spoil(stream->capture.get(), what);
    }
    if (added != nullptr) {
        append(stream, added);
    }
    wait_until(&locked, stream, stream->num_queued);
    return GDNCP_OK;
}

} /* namespace */

gdncp_status_t stream_wait(gdncp_stream_t stream)
{
    return wait_for(stream, "a wait for a stream", nullptr);
}

gdncp_status_t stream_queue_and_wait(gdncp_stream_t stream, work added)
{
    return wait_for(stream, "a copy to or from pageable memory",
                    std::make_shared<const work>(std::move(added)));
}

gdncp_status_t stream_wait_for_own()
{
    const gdncp_status_t status = stream_refuse_in_capture("a free");

    if (status != GDNCP_OK) {
        return status;
    }
    device_lock locked(device_of_process().lock);
    const std::vector<std::shared_ptr<stream_state>> streams = device_of_process().streams;

    for (const auto &stream : streams) {
        const bool is_mine = stream->deleted || stream->owner == std::this_thread::get_id();

        if (is_mine && stream->num_done < stream->num_queued) {
            wait_until(&locked, stream.get(), stream->num_queued);
            forget_if_over(stream.get());
        }
    }
    return GDNCP_OK;
}

gdncp_event_t event_new()
{
    const device_lock locked(device_of_process().lock);

    device_of_process().events.push_back(std::make_shared<event_state>());
    return device_of_process().events.back().get();
}

void event_delete(gdncp_event_t handle)
{
    const device_lock locked(device_of_process().lock);
    auto &events = device_of_process().events;
    const auto found = std::find_if(events.begin(), events.end(),
                                    [=](const auto &entry) { return entry.get() == handle; });

    if (found == events.end()) {
        stop("an event is destroyed that does not exist");
    }
    events.erase(found);
}

gdncp_status_t event_record_in(gdncp_event_t event_handle, gdncp_stream_t stream_handle)
{
    const device_lock locked(device_of_process().lock);
    stream_state *const stream = find_stream(stream_handle);
    event_state *const event = find_event(event_handle);

    if (stream == nullptr || event == nullptr) {
        return GDNCP_ERR_DEVICE;
    }
    event->capture = stream->capture;
    event->captured_stream = stream;
    event->captured_position = stream->num_captured;
    if (stream->capture != nullptr) {
        return GDNCP_OK;
    }
    work record = {};

    record.kind = work_kind::RECORD;
    record.name = "event_record";
    record.record = std::make_shared<record_state>();
    record.record->where = stream;
    event->last = record.record;
    append(stream, std::make_shared<const work>(std::move(record)));
    return GDNCP_OK;
}

namespace
{

/* A stream that waits for what is captured joins the capture; the origin that waits for a stream
 * that joined knows that stream's work. */
gdncp_status_t wait_in_capture(stream_state *stream, const event_state &event)
{
    if (event.capture == nullptr || (stream->capture != nullptr && event.capture->has_ended)) {
        return spoil(stream->capture.get(), "a wait for an event of outside");
    }
    if (event.capture->has_ended) {
        return gdncp_fail(GDNCP_ERR_DEVICE,
                          "event: expected one that was recorded outside of captures, got one that "
                          "was captured");
    }
    if (stream->capture == nullptr) {
        stream->capture = event.capture;
        stream->num_captured = 0;
        stream->apart = true;
        return GDNCP_OK;
    }
    if (stream->capture != event.capture) {
        return spoil(stream->capture.get(), "a wait for an event of another capture");
    }
    if (event.captured_position == event.captured_stream->num_captured) {
        event.captured_stream->apart = false;
    }
    return GDNCP_OK;
}

} /* namespace */

gdncp_status_t stream_wait_for(gdncp_stream_t stream_handle, gdncp_event_t event_handle)
{
    const device_lock locked(device_of_process().lock);
    stream_state *const stream = find_stream(stream_handle);
    const event_state *const event = find_event(event_handle);

    if (stream == nullptr || event == nullptr) {
        return GDNCP_ERR_DEVICE;
    }
    if (stream->capture != nullptr || event->capture != nullptr) {
        return wait_in_capture(stream, *event);
    }
    if (event->last != nullptr) {
        work wait = {};

        wait.kind = work_kind::WAIT;
        wait.name = "stream_wait_event";
        wait.record = event->last;
        append(stream, std::make_shared<const work>(std::move(wait)));
    }
    return GDNCP_OK;
}

gdncp_status_t event_time_between(gdncp_event_t begin_handle, gdncp_event_t end_handle, float *ms_p)
{
    const gdncp_status_t status = stream_refuse_in_capture("a question for an event's time");

    if (status != GDNCP_OK) {
        return status;
    }
    const device_lock locked(device_of_process().lock);
    const event_state *const begin = find_event(begin_handle);
    const event_state *const end = find_event(end_handle);

    if (begin == nullptr || end == nullptr) {
        return GDNCP_ERR_DEVICE;
    }
    for (const event_state *const event : {begin, end}) {
        if (event->last == nullptr || event->last->where != nullptr) {
            return gdncp_fail(GDNCP_ERR_DEVICE,
                              "event: expected one whose record is done, got one that %s",
                              event->last == nullptr ? "was never recorded" : "is under way");
        }
    }
    *ms_p = std::chrono::duration<float, std::milli>(end->last->when - begin->last->when).count();
    return GDNCP_OK;
}

bool stream_uses(const char *host, size_t bytes)
{
    const device_lock locked(device_of_process().lock);

    for (const auto &stream : device_of_process().streams) {
        for (const work_ref &queued : stream->queue) {
            if (queued->host != nullptr && queued->host < host + bytes &&
                host < queued->host + queued->host_bytes) {
                return true;
            }
        }
    }
    return false;
}

} /* namespace gdncp_emulated */
