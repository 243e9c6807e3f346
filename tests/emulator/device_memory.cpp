#include "device_memory.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <map>
#include <mutex>
#include <sys/mman.h>
#include <vector>

extern "C" {
#include "error.h"
}
#include "guarded.h"
#include "sanitizers.h"
#include "stop.h"

namespace gdncp_emulated
{

namespace
{

constexpr size_t ALIGNMENT = 256;

struct range {
    const char *begin;
    const char *end;
};

/* Addresses that are reserved, blocks of pages in them, and at least one page between blocks. */
struct device_memory {
    std::mutex lock;
    char *arena;
    std::map<char *, guarded> blocks; /* by their first page */
    char *next;                       /* where to look for room: what is freed stays so for long */
    int num_open;
    uint64_t generation;
};

device_memory &reserve()
{
    device_memory *const made = new device_memory();
    void *const arena =
        mmap(nullptr, DEVICE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    made->arena = arena != MAP_FAILED ? static_cast<char *>(arena) : nullptr;
    made->next = made->arena;
    return *made;
}

/* Made before there are threads, and never destroyed. */
device_memory &memory = reserve();

/* What this thread's kernels may touch. */
struct view {
    uint64_t generation;
    std::vector<range> blocks; /* by address */
    size_t last;               /* the one that held the last address */
};

thread_local view seen;

/* The first gap of so many pages at or after `from`, or NULL. */
char *find_gap(char *from, size_t bytes)
{
    char *const end = memory.arena + DEVICE_BYTES;
    char *at = from;

    for (const auto &entry : memory.blocks) {
        const guarded &block = entry.second;

        if (block.pages + block.page_bytes <= at) {
            continue;
        }
        if (block.pages >= at + bytes) {
            break;
        }
        at = block.pages + block.page_bytes;
    }
    return bytes <= (size_t)(end - at) ? at : nullptr;
}

/* The block whose pages hold an address; NULL if none. */
const guarded *block_of(const void *address)
{
    char *const at = static_cast<char *>(const_cast<void *>(address));
    const auto after = memory.blocks.upper_bound(at);

    if (after == memory.blocks.begin()) {
        return nullptr;
    }
    const guarded &block = std::prev(after)->second;

    return at < block.pages + block.page_bytes ? &block : nullptr;
}

} /* namespace */

gdncp_status_t device_alloc(size_t bytes, void **memory_p)
{
    const std::lock_guard<std::mutex> locked(memory.lock);
    const size_t lent = bytes > 0 ? bytes : 1;
    char *gap = nullptr;

    if (memory.arena != nullptr && lent < DEVICE_BYTES) {
        const size_t room = (lent + ALIGNMENT + PAGE - 1) / PAGE * PAGE + 2 * PAGE;

        gap = find_gap(memory.next, room);
        if (gap == nullptr) {
            gap = find_gap(memory.arena, room);
        }
    }
    if (gap == nullptr) {
        return gdncp_fail(GDNCP_ERR_OUT_OF_MEMORY, "out of memory: %zu bytes of the device", bytes);
    }
    char *const pages = gap + PAGE;
    const size_t page_bytes =
        ((lent + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT + PAGE - 1) / PAGE * PAGE;

    if (mmap(pages, page_bytes, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED) {
        return gdncp_fail(GDNCP_ERR_OUT_OF_MEMORY, "out of memory: %zu bytes of the device", bytes);
    }
    /* Pages that differ from their neighbours in this stay an area of their own in the kernel's
     * list, so that opening and closing them is cheap. */
    madvise(pages, page_bytes, MADV_DONTDUMP);
    const guarded block = guarded_lend(pages, page_bytes, lent, ALIGNMENT);

    if (memory.num_open == 0) {
        mprotect(pages, page_bytes, PROT_NONE);
    }
    memory.blocks[pages] = block;
    memory.next = pages + page_bytes;
    memory.generation++;
    *memory_p = block.begin;
    return GDNCP_OK;
}

void device_free(void *freed)
{
    const std::lock_guard<std::mutex> locked(memory.lock);
    const guarded *const found = block_of(freed);

    if (found == nullptr || found->begin != freed) {
        stop("free: expected a block of device memory, got %p", freed);
    }
    const guarded block = *found;

    guarded_take_back(block);
    /* Its pages go back to the system; whoever still uses them is stopped. */
    mmap(block.pages, block.page_bytes, PROT_NONE,
         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    memory.blocks.erase(block.pages);
    memory.generation++;
}

bool is_device_memory(const void *address)
{
    const char *const arena = memory.arena;
    const char *const at = static_cast<const char *>(address);

    return arena != nullptr && at >= arena && at < arena + DEVICE_BYTES;
}

bool device_holds(const void *address, size_t bytes)
{
    const std::lock_guard<std::mutex> locked(memory.lock);
    const guarded *const block = block_of(address);
    const char *const at = static_cast<const char *>(address);

    return block != nullptr && at >= block->begin && at + bytes <= block->begin + block->bytes;
}

void device_open()
{
    const std::lock_guard<std::mutex> locked(memory.lock);

    if (memory.num_open++ == 0) {
        for (const auto &entry : memory.blocks) {
            mprotect(entry.second.pages, entry.second.page_bytes, PROT_READ | PROT_WRITE);
        }
    }
    if (seen.generation != memory.generation) {
        seen.generation = memory.generation;
        seen.last = 0;
        seen.blocks.clear();
        for (const auto &entry : memory.blocks) {
            const guarded &block = entry.second;

            seen.blocks.push_back({block.begin, block.begin + block.bytes});
        }
    }
}

void device_close()
{
    const std::lock_guard<std::mutex> locked(memory.lock);

    if (--memory.num_open == 0) {
        for (const auto &entry : memory.blocks) {
            mprotect(entry.second.pages, entry.second.page_bytes, PROT_NONE);
        }
    }
}

void device_check(const char *culprit)
{
    const std::lock_guard<std::mutex> locked(memory.lock);

    for (const auto &entry : memory.blocks) {
        if (!guarded_is_intact(entry.second)) {
            stop("%s has written outside of a block of %zu bytes of device memory", culprit,
                 entry.second.bytes);
        }
    }
}

bool kernel_may_read(const void *address, size_t bytes)
{
    const char *const at = static_cast<const char *>(address);

    if (seen.last >= seen.blocks.size() || at < seen.blocks[seen.last].begin ||
        at >= seen.blocks[seen.last].end) {
        const auto after =
            std::upper_bound(seen.blocks.begin(), seen.blocks.end(), at,
                             [](const char *a, const range &block) { return a < block.begin; });

        if (after == seen.blocks.begin()) {
            return false;
        }
        seen.last = (size_t)(after - seen.blocks.begin()) - 1;
    }
    return at + bytes <= seen.blocks[seen.last].end;
}

const char *describe_address(const void *address, char *text, size_t size)
{
    if (!is_device_memory(address)) {
        snprintf(text, size, "which is not device memory");
        return text;
    }
    const std::unique_lock<std::mutex> locked(memory.lock, std::try_to_lock);
    const char *const at = static_cast<const char *>(address);
    const guarded *nearest = nullptr;

    for (const auto &entry : memory.blocks) {
        const guarded &block = entry.second;

        if (at >= block.pages - PAGE && at < block.pages + block.page_bytes + PAGE) {
            nearest = &block;
        }
    }
    if (nearest != nullptr) {
        snprintf(text, size, "at offset %td of a block of %zu bytes of device memory",
                 at - nearest->begin, nearest->bytes);
    } else {
        snprintf(text, size, "where device memory is freed or was never allocated");
    }
    return text;
}

} /* namespace gdncp_emulated */
