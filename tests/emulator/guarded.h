/* Pages with inaccessible ones around them, of which the end is lent: what is touched outside of
 * the lent bytes faults, is told by the address sanitizer, or is found by check(). */
#ifndef GDNCP_EMULATOR_GUARDED_H
#define GDNCP_EMULATOR_GUARDED_H

#include <cstddef>

namespace gdncp_emulated
{

constexpr size_t PAGE = 4096;

struct guarded {
    char *pages;
    size_t page_bytes;
    char *begin; /* of the lent bytes */
    size_t bytes;
};

/* Lend the last `bytes` of pages that are readable and writable, but for what the alignment of
 * their begin leaves; every byte is 0xff, but for those behind the first 64 MiB. */
guarded guarded_lend(char *pages, size_t page_bytes, size_t bytes, size_t alignment);

/* Whether nobody has written around them. */
bool guarded_is_intact(const guarded &lent);

/* The whole pages are memory like other memory again. */
void guarded_take_back(const guarded &lent);

} /* namespace gdncp_emulated */

#endif
