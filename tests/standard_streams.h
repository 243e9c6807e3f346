/* Where a process's two standard streams go while UCX has something to say. */
#ifndef GDNCP_TEST_STANDARD_STREAMS_H
#define GDNCP_TEST_STANDARD_STREAMS_H

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

/* What the two standard streams were. */
typedef struct streams {
    int out;
    int err;
} streams_t;

/* UCX writes its warnings to stdout. */
static inline streams_t redirect_streams(int fd)
{
    fflush(NULL);
    const streams_t saved = {.out = dup(STDOUT_FILENO), .err = dup(STDERR_FILENO)};

    dup2(fd, STDOUT_FILENO);
    dup2(fd, STDERR_FILENO);
    return saved;
}

static inline void restore_streams(streams_t saved)
{
    fflush(NULL);
    dup2(saved.out, STDOUT_FILENO);
    dup2(saved.err, STDERR_FILENO);
    close(saved.out);
    close(saved.err);
}

/* For what makes UCX complain. */
static inline streams_t silence_streams(void)
{
    const int nothing = open("/dev/null", O_WRONLY);
    const streams_t saved = redirect_streams(nothing);

    close(nothing);
    return saved;
}

#endif
