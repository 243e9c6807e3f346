#include "guarded.h"

#include <cstring>

#include "sanitizers.h"

namespace gdncp_emulated
{

namespace
{

constexpr unsigned char AROUND = 0xa5;

/* A write that goes wrong is looked for this far before the begin. */
constexpr size_t CHECKED_BEFORE = 512;

/* More would cost memory that nobody touches. */
constexpr size_t MAX_FILLED = (size_t)64 << 20;

struct margins {
    char *before;
    size_t bytes_before;
    char *after;
    size_t bytes_after;
};

margins margins_of(const guarded &lent)
{
    const size_t head = (size_t)(lent.begin - lent.pages);
    const size_t checked = head < CHECKED_BEFORE ? head : CHECKED_BEFORE;

    return {lent.begin - checked, checked, lent.begin + lent.bytes,
            lent.page_bytes - head - lent.bytes};
}

bool all_are(const char *memory, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if ((unsigned char)memory[i] != AROUND) {
            return false;
        }
    }
    return true;
}

} /* namespace */

guarded guarded_lend(char *pages, size_t page_bytes, size_t bytes, size_t alignment)
{
    const size_t lent_bytes = (bytes + alignment - 1) / alignment * alignment;
    const guarded lent = {pages, page_bytes, pages + page_bytes - lent_bytes, bytes};
    const margins around = margins_of(lent);

    allow_access(pages, page_bytes);
    memset(lent.begin, 0xff, bytes < MAX_FILLED ? bytes : MAX_FILLED);
    memset(around.before, AROUND, around.bytes_before);
    memset(around.after, AROUND, around.bytes_after);
    forbid_access(pages, (size_t)(lent.begin - pages));
    forbid_access(around.after, around.bytes_after);
    return lent;
}

bool guarded_is_intact(const guarded &lent)
{
    const margins around = margins_of(lent);

    return ADDRESS_SANITIZER || (all_are(around.before, around.bytes_before) &&
                                 all_are(around.after, around.bytes_after));
}

void guarded_take_back(const guarded &lent)
{
    allow_access(lent.pages, lent.page_bytes);
}

} /* namespace gdncp_emulated */
