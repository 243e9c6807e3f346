/* Asynchronous copies land when they are waited for. A GPU may have made them at any time before,
 * so until then their place in shared memory holds neither what was there nor what comes, but NaN.
 */
#include "async_copies.h"

#include <cstring>
#include <new>
#include <sys/mman.h>

#include "block.h"
#include "device_memory.h"
#include "sanitizers.h"

namespace gdncp_emulated
{

namespace
{

constexpr unsigned char UNDER_WAY = 0xff;
constexpr int MAX_COPIES = 2048; /* of one thread; 227 KB by a single warp are 454 */

struct async_copy {
    char *to;
    const char *from;
    int bytes; /* that are read; the rest of the place is zero */
    int place_bytes;
    int64_t group;
    char data[16]; /* as it was when the copy was made */
};

} /* namespace */

struct async_copies {
    int count;
    int64_t open_group;
    async_copy list[MAX_COPIES]; /* in the order in which they were made */
};

/* Not from the heap: to the thread sanitizer it would belong to one thread. */
async_copies *async_copies_map(int num_threads)
{
    void *const memory =
        mmap(nullptr, (size_t)num_threads * sizeof(async_copies), PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (memory == MAP_FAILED) {
        throw std::bad_alloc();
    }
    return static_cast<async_copies *>(memory);
}

void async_copies_unmap(async_copies *first, int num_threads)
{
    munmap(first, (size_t)num_threads * sizeof *first);
}

async_copies *async_copies_of(async_copies *first, int thread)
{
    return first + thread;
}

void async_copies_drop(async_copies *copies)
{
    copies->count = 0;
    copies->open_group = 0;
}

namespace
{

bool is_untouched(const char *place, int bytes)
{
    for (int i = 0; i < bytes; i++) {
        if ((unsigned char)place[i] != UNDER_WAY) {
            return false;
        }
    }
    return true;
}

void land(const async_copy &copy)
{
    note_read(copy.from, (size_t)copy.bytes);
    note_write(copy.to, (size_t)copy.place_bytes);
    if (!is_untouched(copy.to, copy.place_bytes)) {
        stop("cp_async: its place was written before the copy was waited for");
    }
    if (memcmp(copy.from, copy.data, (size_t)copy.bytes) != 0) {
        stop("cp_async: the source has changed before the copy was waited for");
    }
    memcpy(copy.to, copy.data, (size_t)copy.place_bytes);
}

} /* namespace */

void copy_async(const char *name, void *shared, const void *global, int place_bytes, int bytes)
{
    async_copies *const own = current_thread->copies;

    check_shared(name, shared, (size_t)place_bytes, (size_t)place_bytes);
    if (bytes < 0 || bytes > place_bytes) {
        stop("%s: expected 0..%d bytes, got %d", name, place_bytes, bytes);
    }
    if ((uintptr_t)global % (size_t)place_bytes != 0) {
        stop("%s: the address %p in global memory is not aligned to %d bytes", name, global,
             place_bytes);
    }
    if (bytes > 0 && !kernel_may_read(global, (size_t)bytes)) {
        stop("%s: %d bytes at %p lie outside of device memory", name, bytes, global);
    }
    if (own->count == MAX_COPIES) {
        stop("%s: more than %d copies of one thread under way", name, MAX_COPIES);
    }
    async_copy *const copy = &own->list[own->count++];

    *copy = {};
    copy->to = static_cast<char *>(shared);
    copy->from = static_cast<const char *>(global);
    copy->bytes = bytes;
    copy->place_bytes = place_bytes;
    copy->group = own->open_group;
    note_read(global, (size_t)bytes);
    memcpy(copy->data, global, (size_t)bytes);
    note_write(shared, (size_t)place_bytes);
    memset(shared, UNDER_WAY, (size_t)place_bytes);
}

void commit_copies()
{
    current_thread->copies->open_group++;
}

void wait_copies(int groups_under_way)
{
    async_copies *const own = current_thread->copies;
    const int64_t first_left = own->open_group - groups_under_way;
    int num_landed = 0;

    while (num_landed < own->count && own->list[num_landed].group < first_left) {
        land(own->list[num_landed++]);
    }
    own->count -= num_landed;
    memmove(own->list, own->list + num_landed, (size_t)own->count * sizeof own->list[0]);
}

} /* namespace gdncp_emulated */
