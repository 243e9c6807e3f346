#include "pinned_memory.h"

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

extern "C" {
#include "error.h"
}
#include "stop.h"
#include "streams.h"

namespace gdncp_emulated
{

namespace
{

struct pinned_memory {
    std::mutex lock;
    std::map<const char *, size_t> blocks;
};

/* Made before there are threads, and never destroyed. */
pinned_memory &pinned = *new pinned_memory();

} /* namespace */

gdncp_status_t pinned_alloc(size_t bytes, void **memory_p)
{
    void *const memory = bytes < SIZE_MAX / 2 ? malloc(bytes > 0 ? bytes : 1) : nullptr;

    if (memory == nullptr) {
        return gdncp_fail(GDNCP_ERR_OUT_OF_MEMORY, "out of memory: %zu bytes, pinned", bytes);
    }
    memset(memory, 0xff, bytes);
    const std::lock_guard<std::mutex> locked(pinned.lock);

    pinned.blocks[static_cast<const char *>(memory)] = bytes;
    *memory_p = memory;
    return GDNCP_OK;
}

void pinned_free(void *memory)
{
    std::unique_lock<std::mutex> locked(pinned.lock);
    const auto found = pinned.blocks.find(static_cast<const char *>(memory));

    if (found == pinned.blocks.end()) {
        stop("free_pinned: expected a block of pinned memory, got %p", memory);
    }
    const size_t bytes = found->second;

    pinned.blocks.erase(found);
    locked.unlock();
    if (stream_uses(static_cast<const char *>(memory), bytes)) {
        stop("pinned memory is freed while a copy of it is queued");
    }
    /* Host calls and kernels that still use it shall not find what was there. */
    memset(memory, 0xff, bytes);
    free(memory);
}

bool pinned_holds(const void *memory, size_t bytes)
{
    const char *const at = static_cast<const char *>(memory);
    const std::lock_guard<std::mutex> locked(pinned.lock);
    auto after = pinned.blocks.upper_bound(at);

    if (after == pinned.blocks.begin()) {
        return false;
    }
    after--;
    return at + bytes <= after->first + after->second;
}

} /* namespace gdncp_emulated */
