/* Time that is the machine's: ready to run, but without a core. */
#ifndef GDNCP_QUEUED_TIME_H
#define GDNCP_QUEUED_TIME_H

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* By now, of the process or thread whose /proc/.../schedstat is the path; of a process it is that
 * of its first thread, until it is reaped. 0 where the kernel does not count. Safe in a signal
 * handler. */
static inline int64_t read_queued_ms(const char *path)
{
    char text[80] = "";
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    const ssize_t length = file < 0 ? 0 : read(file, text, sizeof text - 1);

    if (file >= 0) {
        close(file);
    }
    /* ns on a core, ns without one, turns */
    return length <= 0 ? 0 : strtoll(text + strcspn(text, " "), NULL, 10) / 1000000;
}

static inline int64_t own_queued_ms(void)
{
    return read_queued_ms("/proc/thread-self/schedstat");
}

#endif
