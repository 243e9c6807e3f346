/* Copies of rows that lie far apart in large buffers. */
#ifndef GDNCP_ROW_COPY_H
#define GDNCP_ROW_COPY_H

#include <stdbool.h>
#include <stddef.h>

/*
 * memcpy() that reads ahead: processors fetch ahead by themselves, but not across the borders of
 * pages, and a row is a few pages long.
 *
 * next: where the next row to be copied begins; NULL: not known. It is not read, and need not be
 * memory.
 * streams: the target is too large to stay in a cache, and is written past them without being read
 * first. Such stores are in order with others only after gdncp_copy_fence().
 */
void gdncp_copy_row(void *to, const void *from, size_t bytes, const void *next, bool streams);
void gdncp_copy_fence(void);

#endif
