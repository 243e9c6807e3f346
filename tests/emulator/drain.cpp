/* Runs what streams have queued, in any order that streams and events allow. */
#include "stream_state.h"

#include "device_memory.h"
#include "sanitizers.h"
#include "schedule.h"
#include "stop.h"

namespace gdncp_emulated
{

namespace
{

constexpr std::chrono::microseconds FLAG_POLL(50);

thread_local bool in_host_call;

bool can_run(const stream_state &stream)
{
    if (stream.running || stream.queue.empty()) {
        return false;
    }
    const work &head = *stream.queue.front();

    switch (head.kind) {
    case work_kind::WAIT:
        return head.record->where == nullptr;
    case work_kind::WAIT_FLAG:
        return __atomic_load_n(head.flag, __ATOMIC_ACQUIRE) != 0;
    default:
        return true;
    }
}

bool waits_for_flag(const stream_state &stream)
{
    return !stream.running && !stream.queue.empty() &&
           stream.queue.front()->kind == work_kind::WAIT_FLAG;
}

/* A stream, and those whose records it waits for, and so on. */
std::vector<stream_state *> needed_by(stream_state *target)
{
    std::vector<stream_state *> needed = {target};

    for (size_t i = 0; i < needed.size(); i++) {
        if (needed[i]->running || needed[i]->queue.empty()) {
            continue;
        }
        const work &head = *needed[i]->queue.front();
        stream_state *const where = head.kind == work_kind::WAIT ? head.record->where : nullptr;
        bool is_new = where != nullptr;

        for (const stream_state *const known : needed) {
            is_new = is_new && known != where;
        }
        if (is_new) {
            needed.push_back(where);
        }
    }
    return needed;
}

bool may_wait(work_kind kind)
{
    return kind == work_kind::HOST_CALL || kind == work_kind::PEER_WORK;
}

/* What may run next on the way to the target. At random also what this thread has queued in other
 * streams, for it waits for nobody; but not what may. */
std::vector<stream_state *> candidates_for(stream_state *target)
{
    std::vector<stream_state *> found;

    for (stream_state *const stream : needed_by(target)) {
        if (can_run(*stream)) {
            found.push_back(stream);
        }
    }
    for (const auto &other : device_of_process().streams) {
        bool is_new = schedule_is_random() && other->owner == std::this_thread::get_id() &&
                      can_run(*other) && !may_wait(other->queue.front()->kind);

        for (const stream_state *const known : found) {
            is_new = is_new && known != other.get();
        }
        if (is_new) {
            found.push_back(other.get());
        }
    }
    return found;
}

/* Wait until somebody else has gone on: a thread that runs work, or one that sets a flag. */
void wait_for_others(device_lock *locked, stream_state *target)
{
    bool somebody_runs = false;

    for (const stream_state *const stream : needed_by(target)) {
        if (waits_for_flag(*stream)) {
            locked->unlock();
            std::this_thread::sleep_for(FLAG_POLL);
            locked->lock();
            return;
        }
        somebody_runs = somebody_runs || stream->running;
    }
    if (!somebody_runs) {
        stop("a stream waits for a record that is in no stream");
    }
    device_of_process().changed.wait(*locked);
}

bool touches_memory(work_kind kind)
{
    return kind == work_kind::KERNEL || kind == work_kind::COPY || kind == work_kind::CLEAR ||
           kind == work_kind::PEER_WORK;
}

/* Keeps the device's memory open from one piece of work that touches it to the next. */
struct open_memory {
    bool is_open = false;

    void set(bool open)
    {
        if (open != is_open) {
            is_open = open;
            open ? device_open() : device_close();
        }
    }

    ~open_memory()
    {
        set(false);
    }
};

/* The stream's current work, which is gone afterwards. */
void perform(stream_state *stream, open_memory *memory)
{
    const work_kind kind = stream->current->kind;
    const char *const name = stream->current->name;
    fibre host;

    if (touches_memory(kind) || kind == work_kind::HOST_CALL) {
        memory->set(kind != work_kind::HOST_CALL);
    }
    in_host_call = kind == work_kind::HOST_CALL;
    fibre_adopt_thread(&host);
    stream->home = &host;
    fibre_switch(&host, &stream->service);
    in_host_call = false;
    if (touches_memory(kind)) {
        device_check(name);
    }
}

void run_head(device_lock *locked, stream_state *stream, open_memory *memory)
{
    device_state &device = device_of_process();
    const work_kind kind = stream->queue.front()->kind;
    const std::shared_ptr<record_state> record = stream->queue.front()->record;

    stream->current = std::move(stream->queue.front());
    stream->queue.pop_front();
    stream->running = true;
    locked->unlock();
    explain_faults();
    perform(stream, memory);
    locked->lock();
    stream->running = false;
    stream->num_done++;
    if (kind == work_kind::RECORD) {
        record->when = std::chrono::steady_clock::now();
        record->where = nullptr;
    }
    device.changed.notify_all();
}

} /* namespace */

void run_until(device_lock *locked, stream_state *stream, uint64_t count)
{
    open_memory memory;

    while (stream->num_done < count) {
        const std::vector<stream_state *> candidates = candidates_for(stream);

        if (!candidates.empty()) {
            stream_state *const next = candidates[choose(candidates.size())];

            run_head(locked, next, &memory);
            if (next != stream) {
                forget_if_over(next);
            }
        } else {
            memory.set(false);
            wait_for_others(locked, stream);
        }
    }
}

bool stream_is_in_host_call()
{
    return in_host_call;
}

} /* namespace gdncp_emulated */
