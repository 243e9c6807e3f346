/* The backend of the emulator: memory of the host, streams that run what is queued. */
#include "kernel.h"

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#include "backend.h"
#include "scheduler.h"

namespace gdncp_emulated
{

namespace
{

struct stream_state {
    std::vector<std::function<void()>> *recording; /* inside a capture */
};

struct graph_state {
    std::vector<std::function<void()>> work;
};

thread_local stream_state default_stream;

stream_state *state_of(gdncp_stream_t stream)
{
    return stream != nullptr ? static_cast<stream_state *>(stream) : &default_stream;
}

gdncp_status_t queue(gdncp_stream_t stream, std::function<void()> work)
{
    stream_state *const state = state_of(stream);

    if (state->recording != nullptr) {
        state->recording->push_back(std::move(work));
    } else {
        work();
    }
    return GDNCP_OK;
}

gdncp_status_t check()
{
    return GDNCP_OK;
}

gdncp_status_t info(gdncp_device_info_t *result)
{
    *result = {};
    strcpy(result->name, "emulated");
    result->num_multiprocessors = 4;
    result->compute_capability = 90;
    result->shared_bytes = 227 * 1024;
    return GDNCP_OK;
}

gdncp_status_t alloc(size_t bytes, void **memory_p)
{
    void *const memory =
        bytes < SIZE_MAX / 2 ? aligned_alloc(256, (bytes + 256) / 256 * 256) : nullptr;

    if (memory == nullptr) {
        return gdncp_fail(GDNCP_ERR_OUT_OF_MEMORY, "out of memory: %zu bytes of the device", bytes);
    }
    memset(memory, 0xff, bytes);
    *memory_p = memory;
    return GDNCP_OK;
}

gdncp_status_t copy(void *dst, const void *src, size_t bytes, gdncp_stream_t stream)
{
    return queue(stream, [=] { memcpy(dst, src, bytes); });
}

gdncp_status_t clear(void *memory, size_t bytes, gdncp_stream_t stream)
{
    return queue(stream, [=] { memset(memory, 0, bytes); });
}

gdncp_status_t call_host(gdncp_stream_t stream, void (*function)(void *), void *context)
{
    return queue(stream, [=] { function(context); });
}

gdncp_status_t stream_create(gdncp_stream_t *stream_p)
{
    *stream_p = new stream_state();
    return GDNCP_OK;
}

void stream_destroy(gdncp_stream_t stream)
{
    delete static_cast<stream_state *>(stream);
}

gdncp_status_t stream_synchronize(gdncp_stream_t stream)
{
    (void)stream;
    return GDNCP_OK;
}

using instant = std::chrono::steady_clock::time_point;

gdncp_status_t event_create(gdncp_event_t *event_p)
{
    *event_p = new instant();
    return GDNCP_OK;
}

void event_destroy(gdncp_event_t event)
{
    delete static_cast<instant *>(event);
}

gdncp_status_t event_record(gdncp_event_t event, gdncp_stream_t stream)
{
    return queue(stream,
                 [=] { *static_cast<instant *>(event) = std::chrono::steady_clock::now(); });
}

gdncp_status_t stream_wait_event(gdncp_stream_t stream, gdncp_event_t event)
{
    (void)stream;
    (void)event;
    return GDNCP_OK;
}

gdncp_status_t event_elapsed(gdncp_event_t begin, gdncp_event_t end, float *ms_p)
{
    *ms_p = std::chrono::duration<float, std::milli>(*static_cast<instant *>(end) -
                                                     *static_cast<instant *>(begin))
                .count();
    return GDNCP_OK;
}

gdncp_status_t capture_begin(gdncp_stream_t stream)
{
    state_of(stream)->recording = new std::vector<std::function<void()>>();
    return GDNCP_OK;
}

gdncp_status_t capture_end(gdncp_stream_t stream, void **graph_p)
{
    stream_state *const state = state_of(stream);

    *graph_p = new graph_state{std::move(*state->recording)};
    delete state->recording;
    state->recording = nullptr;
    return GDNCP_OK;
}

gdncp_status_t graph_launch(void *graph, gdncp_stream_t stream)
{
    for (const std::function<void()> &work : static_cast<graph_state *>(graph)->work) {
        queue(stream, work);
    }
    return GDNCP_OK;
}

void graph_destroy(void *graph)
{
    delete static_cast<graph_state *>(graph);
}

} /* namespace */

gdncp_status_t queue_kernel(const kernel_shape &shape, gdncp_stream_t stream,
                            std::function<void()> body)
{
    return queue(stream, [=] { run_kernel(shape, body); });
}

} /* namespace gdncp_emulated */

using namespace gdncp_emulated;

extern "C" const gdncp_backend_t gdncp_backend_emulated = {
    check,         info,          alloc,          free,
    alloc,         free,          copy,           clear,
    call_host,     stream_create, stream_destroy, stream_synchronize,
    event_create,  event_destroy, event_record,   stream_wait_event,
    event_elapsed, capture_begin, capture_end,    graph_launch,
    graph_destroy,
};
