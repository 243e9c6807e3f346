/* Captures, and the graphs that they become. */
#include "stream_state.h"

extern "C" {
#include "error.h"
}
#include "sanitizers.h"

namespace gdncp_emulated
{

namespace
{

struct graph_state {
    std::vector<work_ref> nodes;
};

} /* namespace */

gdncp_status_t spoil(capture_state *capture, const char *what)
{
    capture->spoilt_by = capture->spoilt_by != nullptr ? capture->spoilt_by : what;
    return gdncp_fail(GDNCP_ERR_DEVICE, "capture: expected work that can be captured, got %s",
                      what);
}

gdncp_status_t stream_refuse_in_capture(const char *what)
{
    const device_lock locked(device_of_process().lock);

    for (const auto &stream : device_of_process().streams) {
        if (stream->capture != nullptr && stream->capture->by == std::this_thread::get_id()) {
            return spoil(stream->capture.get(), what);
        }
    }
    return GDNCP_OK;
}

gdncp_status_t stream_capture_begin(gdncp_stream_t handle)
{
    const device_lock locked(device_of_process().lock);
    stream_state *const stream = find_stream(handle);

    if (stream == nullptr) {
        return GDNCP_ERR_DEVICE;
    }
    if (stream->capture != nullptr) {
        return spoil(stream->capture.get(), "a capture inside of it");
    }
    stream->capture = std::make_shared<capture_state>();
    stream->capture->by = std::this_thread::get_id();
    stream->capture->origin = stream;
    stream->num_captured = 0;
    stream->apart = false;
    return GDNCP_OK;
}

gdncp_status_t stream_capture_end(gdncp_stream_t handle, void **graph_p)
{
    const device_lock locked(device_of_process().lock);
    stream_state *const stream = find_stream(handle);

    if (stream == nullptr) {
        return GDNCP_ERR_DEVICE;
    }
    const std::shared_ptr<capture_state> ended = stream->capture;

    if (ended == nullptr || ended->origin != stream) {
        return gdncp_fail(GDNCP_ERR_DEVICE,
                          "capture: expected a stream in which one has begun, got another");
    }
    for (const auto &member : device_of_process().streams) {
        if (member->capture == ended) {
            if (member->apart) {
                ended->spoilt_by = "a stream that was left apart: its events are not waited for";
            }
            member->capture = nullptr;
        }
    }
    ended->has_ended = true;
    if (ended->spoilt_by != nullptr) {
        return gdncp_fail(GDNCP_ERR_DEVICE, "capture: expected work that can be captured, got %s",
                          ended->spoilt_by);
    }
    *graph_p = new graph_state{std::move(ended->nodes)};
    return GDNCP_OK;
}

gdncp_status_t stream_launch(gdncp_stream_t handle, void *graph)
{
    const device_lock locked(device_of_process().lock);
    stream_state *const stream = find_stream(handle);

    if (stream == nullptr) {
        return GDNCP_ERR_DEVICE;
    }
    for (const work_ref &node : static_cast<const graph_state *>(graph)->nodes) {
        append(stream, node);
    }
    return GDNCP_OK;
}

void graph_delete(void *graph)
{
    const graph_state *const deleted = static_cast<const graph_state *>(graph);

    for (const work_ref &node : deleted->nodes) {
        order_after(&node->done);
    }
    delete deleted;
}

} /* namespace gdncp_emulated */
