#include "emulator_control.h"

#include <atomic>

#include "kernel.h"

#include "counts.h"
#include "schedule.h"

namespace gdncp_emulated
{

namespace
{

std::atomic<int64_t> of_kind[(int)work_kind::WAIT + 1];
std::atomic<int64_t> allocations;
std::atomic<int64_t> waits;
std::atomic<size_t> shared_limit{MAX_SHARED_BYTES};
thread_local bool forbidden_here;

} /* namespace */

void count_work(work_kind kind)
{
    of_kind[(int)kind]++;
}

void count_allocation()
{
    allocations++;
}

void count_wait()
{
    waits++;
}

bool is_forbidden()
{
    return forbidden_here;
}

size_t shared_bytes_of_block()
{
    return shared_limit;
}

} /* namespace gdncp_emulated */

using namespace gdncp_emulated;

void emulator_set_schedule(uint64_t seed)
{
    set_schedule(seed);
}

void emulator_set_shared_bytes(size_t bytes)
{
    shared_limit = bytes == 0 || bytes > MAX_SHARED_BYTES ? MAX_SHARED_BYTES : bytes;
}

void emulator_forbid(bool forbidden)
{
    forbidden_here = forbidden;
}

emulator_work_t emulator_counts(void)
{
    emulator_work_t counts = {};

    counts.kernels = of_kind[(int)work_kind::KERNEL];
    counts.copies = of_kind[(int)work_kind::COPY];
    counts.clears = of_kind[(int)work_kind::CLEAR];
    counts.host_calls = of_kind[(int)work_kind::HOST_CALL];
    counts.peer_work = of_kind[(int)work_kind::PEER_WORK];
    counts.allocations = allocations;
    counts.waits = waits;
    return counts;
}

void emulator_reset_counts(void)
{
    for (std::atomic<int64_t> &count : of_kind) {
        count = 0;
    }
    allocations = 0;
    waits = 0;
}
