/* The backend of the emulator: its calls, checked as a GPU's runtime would. */
#include "kernel.h"

#include <atomic>
#include <cstring>

extern "C" {
#include "backend.h"
}
#include "counts.h"
#include "device_memory.h"
#include "emulator_control.h"
#include "pinned_memory.h"
#include "schedule.h"
#include "scheduler.h"
#include "stop.h"
#include "streams.h"

namespace gdncp_emulated
{

namespace
{

/* Every call that queues or asks: none may be made by a function that the device calls. */
void enter(const char *call)
{
    if (stream_is_in_host_call()) {
        stop("%s: a function queued with call_host() may use no call of the backend", call);
    }
}

/* Every call that allocates, frees or waits. */
gdncp_status_t enter_slow(const char *call)
{
    enter(call);
    if (is_forbidden()) {
        return gdncp_fail(GDNCP_ERR_DEVICE,
                          "%s: expected no allocation and no wait here: emulator_forbid()", call);
    }
    return GDNCP_OK;
}

gdncp_status_t check()
{
    return schedule_check();
}

gdncp_status_t info(gdncp_device_info_t *result)
{
    *result = {};
    strcpy(result->name, "emulated");
    result->num_multiprocessors = 4;
    result->compute_capability = 90;
    result->shared_bytes = shared_bytes_of_block();
    result->memory_bytes = DEVICE_BYTES;
    return GDNCP_OK;
}

gdncp_status_t current(int *device_p)
{
    *device_p = 0;
    return GDNCP_OK;
}

gdncp_status_t allocate(const char *call, gdncp_status_t (*allocator)(size_t, void **),
                        size_t bytes, void **memory_p)
{
    gdncp_status_t status = enter_slow(call);

    if (status == GDNCP_OK) {
        status = stream_refuse_in_capture("an allocation");
    }
    if (status == GDNCP_OK) {
        status = allocator(bytes, memory_p);
    }
    if (status == GDNCP_OK) {
        count_allocation();
    }
    return status;
}

gdncp_status_t alloc(size_t bytes, void **memory_p)
{
    return allocate("alloc", device_alloc, bytes, memory_p);
}

gdncp_status_t alloc_pinned(size_t bytes, void **memory_p)
{
    return allocate("alloc_pinned", pinned_alloc, bytes, memory_p);
}

/* In a capture the capture is spoilt and the memory stays, as CUDA does it. */
void release(void *memory)
{
    if (enter_slow("free") != GDNCP_OK) {
        stop("free: memory of the device is freed where emulator_forbid() forbids it");
    }
    if (stream_wait_for_own() == GDNCP_OK) {
        count_wait();
        device_free(memory);
    }
}

void release_pinned(void *memory)
{
    if (enter_slow("free_pinned") != GDNCP_OK) {
        stop("free_pinned: pinned memory is freed where emulator_forbid() forbids it");
    }
    if (stream_refuse_in_capture("a free") == GDNCP_OK) {
        pinned_free(memory);
    }
}

/* Sides of a copy. */
enum class side { DEVICE, PINNED, PAGEABLE };

gdncp_status_t find_side(const char *name, const void *memory, size_t bytes, side *side_p)
{
    *side_p = side::DEVICE;
    if (is_device_memory(memory)) {
        if (device_holds(memory, bytes)) {
            return GDNCP_OK;
        }
        char text[128];

        return gdncp_fail(GDNCP_ERR_DEVICE,
                          "%s: expected %zu bytes of one block of device memory, got %p, %s", name,
                          bytes, memory, describe_address(memory, text, sizeof text));
    }
    *side_p = pinned_holds(memory, bytes) ? side::PINNED : side::PAGEABLE;
    return GDNCP_OK;
}

gdncp_status_t copy(void *dst, const void *src, size_t bytes, gdncp_stream_t stream)
{
    side to;
    side from;
    work added = {};

    enter("copy");
    gdncp_status_t status = find_side("dst", dst, bytes, &to);

    if (status == GDNCP_OK) {
        status = find_side("src", src, bytes, &from);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    added.kind = work_kind::COPY;
    added.name = "copy";
    added.run = [=](fibre *) { memcpy(dst, src, bytes); };
    if (to != side::PAGEABLE && from != side::PAGEABLE) {
        added.host = static_cast<const char *>(to == side::PINNED ? dst : src);
        added.host_bytes = to == side::PINNED || from == side::PINNED ? bytes : 0;
        return stream_queue(stream, std::move(added));
    }
    status = enter_slow("copy");
    if (status == GDNCP_OK) {
        count_wait();
        status = stream_queue_and_wait(stream, std::move(added));
    }
    return status;
}

gdncp_status_t clear(void *memory, size_t bytes, gdncp_stream_t stream)
{
    side where;
    work added = {};

    enter("clear");
    const gdncp_status_t status = find_side("memory", memory, bytes, &where);

    if (status != GDNCP_OK) {
        return status;
    }
    if (where != side::DEVICE) {
        return gdncp_fail(GDNCP_ERR_DEVICE, "memory: expected the device's, got %p of the host",
                          memory);
    }
    added.kind = work_kind::CLEAR;
    added.name = "clear";
    added.run = [=](fibre *) { memset(memory, 0, bytes); };
    return stream_queue(stream, std::move(added));
}

gdncp_status_t call_host(gdncp_stream_t stream, void (*function)(void *), void *context)
{
    work added = {};

    enter("call_host");
    added.kind = work_kind::HOST_CALL;
    added.name = "call_host";
    added.run = [=](fibre *) { function(context); };
    return stream_queue(stream, std::move(added));
}

gdncp_status_t wait_flag(gdncp_stream_t stream, const uint32_t *flag)
{
    work added = {};

    enter("wait_flag");
    if (!pinned_holds(flag, sizeof *flag)) {
        return gdncp_fail(GDNCP_ERR_DEVICE, "flag: expected pinned memory, got %p",
                          static_cast<const void *>(flag));
    }
    added.kind = work_kind::WAIT_FLAG;
    added.name = "wait_flag";
    added.flag = flag;
    return stream_queue(stream, std::move(added));
}

gdncp_status_t write_flag(gdncp_stream_t stream, uint32_t *flag, uint32_t value)
{
    work added = {};

    enter("write_flag");
    if (!pinned_holds(flag, sizeof *flag)) {
        return gdncp_fail(GDNCP_ERR_DEVICE, "flag: expected pinned memory, got %p",
                          static_cast<void *>(flag));
    }
    added.kind = work_kind::WRITE_FLAG;
    added.name = "write_flag";
    added.run = [=](fibre *) { __atomic_store_n(flag, value, __ATOMIC_RELEASE); };
    return stream_queue(stream, std::move(added));
}

gdncp_status_t check_device(const char *call, int device)
{
    enter(call);
    return device == 0 ? GDNCP_OK
                       : gdncp_fail(GDNCP_ERR_DEVICE, "device: expected 0, got %d", device);
}

std::atomic<int> num_loans;

gdncp_status_t lend(int device)
{
    const gdncp_status_t status = check_device("lend", device);

    if (status == GDNCP_OK) {
        num_loans++;
        device_open();
    }
    return status;
}

gdncp_status_t take_back(int device)
{
    const gdncp_status_t status = check_device("take_back", device);

    if (status == GDNCP_OK) {
        if (num_loans-- <= 0) {
            stop("take_back: device memory is taken back that was not lent");
        }
        device_close();
    }
    return status;
}

gdncp_status_t stream_create(gdncp_stream_t *stream_p)
{
    enter("stream_create");
    *stream_p = stream_new();
    return GDNCP_OK;
}

void stream_destroy(gdncp_stream_t stream)
{
    enter("stream_destroy");
    stream_delete(stream);
}

gdncp_status_t stream_synchronize(gdncp_stream_t stream)
{
    const gdncp_status_t status = enter_slow("stream_synchronize");

    if (status != GDNCP_OK) {
        return status;
    }
    count_wait();
    return stream_wait(stream);
}

gdncp_status_t event_create(gdncp_event_t *event_p)
{
    enter("event_create");
    *event_p = event_new();
    return GDNCP_OK;
}

void event_destroy(gdncp_event_t event)
{
    enter("event_destroy");
    event_delete(event);
}

gdncp_status_t event_record(gdncp_event_t event, gdncp_stream_t stream)
{
    enter("event_record");
    return event_record_in(event, stream);
}

gdncp_status_t stream_wait_event(gdncp_stream_t stream, gdncp_event_t event)
{
    enter("stream_wait_event");
    return stream_wait_for(stream, event);
}

gdncp_status_t event_elapsed(gdncp_event_t begin, gdncp_event_t end, float *ms_p)
{
    enter("event_elapsed");
    return event_time_between(begin, end, ms_p);
}

gdncp_status_t capture_begin(gdncp_stream_t stream)
{
    enter("capture_begin");
    return stream_capture_begin(stream);
}

gdncp_status_t capture_end(gdncp_stream_t stream, void **graph_p)
{
    enter("capture_end");
    return stream_capture_end(stream, graph_p);
}

gdncp_status_t graph_launch(void *graph, gdncp_stream_t stream)
{
    enter("graph_launch");
    return stream_launch(stream, graph);
}

void graph_destroy(void *graph)
{
    enter("graph_destroy");
    graph_delete(graph);
}

/* What a GPU refuses to launch. */
gdncp_status_t check_shape(const kernel_shape &shape)
{
    constexpr int64_t MAX_X = INT32_MAX;
    constexpr int MAX_YZ = 65535;
    const size_t shared_bytes = shared_bytes_of_block();

    if (shape.threads < 1 || shape.threads > 1024 || shape.threads % 32 != 0) {
        return gdncp_fail(GDNCP_ERR_DEVICE,
                          "%s: expected a launch with whole warps and at most 1024 threads a "
                          "block, got %d threads",
                          shape.name, shape.threads);
    }
    if (shape.grid.x < 1 || shape.grid.x > MAX_X || shape.grid.y < 1 || shape.grid.y > MAX_YZ ||
        shape.grid.z < 1 || shape.grid.z > MAX_YZ) {
        return gdncp_fail(GDNCP_ERR_DEVICE,
                          "%s: expected a launch of at most (%lld, %d, %d) blocks, got (%lld, %d, "
                          "%d)",
                          shape.name, (long long)MAX_X, MAX_YZ, MAX_YZ, (long long)shape.grid.x,
                          shape.grid.y, shape.grid.z);
    }
    if (shape.shared_bytes > shared_bytes) {
        return gdncp_fail(GDNCP_ERR_DEVICE,
                          "%s: expected a launch with at most %zu bytes of shared memory a block, "
                          "got %zu",
                          shape.name, shared_bytes, shape.shared_bytes);
    }
    return GDNCP_OK;
}

} /* namespace */

gdncp_status_t queue_kernel(const kernel_shape &shape, gdncp_stream_t stream,
                            std::function<void()> body)
{
    const gdncp_status_t status = check_shape(shape);
    work added = {};

    enter(shape.name);
    if (status != GDNCP_OK) {
        return status;
    }
    added.kind = work_kind::KERNEL;
    added.name = shape.name;
    added.run = [shape, body = std::move(body)](fibre *home) { run_kernel(shape, body, home); };
    return stream_queue(stream, std::move(added));
}

} /* namespace gdncp_emulated */

using namespace gdncp_emulated;

int emulator_queue_peer_work(void *stream, const char *name, void (*function)(void *),
                             void *context)
{
    work added = {};

    enter(name);
    added.kind = work_kind::PEER_WORK;
    added.name = name;
    added.run = [=](fibre *) { function(context); };
    return stream_queue(stream, std::move(added)) == GDNCP_OK ? 0 : -1;
}

extern "C" const gdncp_backend_t gdncp_backend_emulated = {
    check,         true, /* is_host_memory */
    info,          current,        alloc,          release,
    alloc_pinned,  release_pinned, copy,           clear,
    call_host,     wait_flag,      write_flag,     lend,
    take_back,     stream_create,  stream_destroy, stream_synchronize,
    event_create,  event_destroy,  event_record,   stream_wait_event,
    event_elapsed, capture_begin,  capture_end,    graph_launch,
    graph_destroy,
};
