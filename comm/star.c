#include "star.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "deadline.h"
#include "error.h"
#include "gdncp/memory.h"

#define MAGIC 0x67646e6373746172u
#define NAME_BYTES 32

/* Goes before the data, both ways. */
typedef struct frame {
    uint64_t magic;
    uint64_t bytes;
    int32_t status; /* of rank 0: an error is followed by no data */
    char sentence[212];
} frame_t;

gdncp_status_t gdncp_star_init(gdncp_star_t *star, int rank, int size, int64_t timeout_ms)
{
    int *const sockets = gdncp_memory_alloc((size_t)size * sizeof *sockets);

    if (sockets == NULL) {
        return gdncp_fail_memory("a bootstrap");
    }
    for (int i = 0; i < size; i++) {
        sockets[i] = -1;
    }
    *star =
        (gdncp_star_t){.rank = rank, .size = size, .timeout_ms = timeout_ms, .sockets = sockets};
    return GDNCP_OK;
}

void gdncp_star_close(gdncp_star_t *star)
{
    for (int i = 0; star->sockets != NULL && i < star->size; i++) {
        if (star->sockets[i] >= 0) {
            close(star->sockets[i]);
        }
    }
    gdncp_memory_free(star->sockets);
    *star = (gdncp_star_t){0};
}

/* Until the socket is ready, or the deadline: false. */
static bool wait_ready(int fd, short events, int64_t deadline)
{
    for (;;) {
        struct pollfd entry = {.fd = fd, .events = events};
        const int64_t left = deadline - gdncp_now_ms();

        if (left <= 0) {
            return false;
        }
        if (poll(&entry, 1, left < INT_MAX ? (int)left : INT_MAX) > 0) {
            return true;
        }
    }
}

/* What to make of a call on a socket that moved nothing. */
static gdncp_status_t wait_or_fail(int fd, short events, int error, int64_t deadline,
                                   const char *peer)
{
    switch (error) {
    case EINTR:
        return GDNCP_OK;
    case EAGAIN:
        return wait_ready(fd, events, deadline)
                   ? GDNCP_OK
                   : gdncp_fail(GDNCP_ERR_TIMEOUT, "%s did not answer in time", peer);
    case EPIPE:
    case ECONNRESET:
        return gdncp_fail(GDNCP_ERR_PEER_LOST, "%s closed its connection", peer);
    default:
        return gdncp_fail(GDNCP_ERR_TRANSPORT, "socket to %s: %s", peer, strerror(error));
    }
}

gdncp_status_t gdncp_socket_write(int fd, const void *data, size_t bytes, int64_t deadline,
                                  const char *peer)
{
    const char *const source = data;
    size_t moved = 0;

    while (moved < bytes) {
        const ssize_t n = send(fd, source + moved, bytes - moved, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n > 0) {
            moved += (size_t)n;
            continue;
        }
        const gdncp_status_t status = wait_or_fail(fd, POLLOUT, errno, deadline, peer);
        if (status != GDNCP_OK) {
            return status;
        }
    }
    return GDNCP_OK;
}

gdncp_status_t gdncp_socket_read(int fd, void *data, size_t bytes, int64_t deadline,
                                 const char *peer)
{
    char *const target = data;
    size_t moved = 0;

    while (moved < bytes) {
        const ssize_t n = recv(fd, target + moved, bytes - moved, MSG_DONTWAIT);

        if (n > 0) {
            moved += (size_t)n;
            continue;
        }
        const gdncp_status_t status =
            wait_or_fail(fd, POLLIN, n == 0 ? ECONNRESET : errno, deadline, peer);
        if (status != GDNCP_OK) {
            return status;
        }
    }
    return GDNCP_OK;
}

static const char *name_rank(char name[NAME_BYTES], int rank)
{
    snprintf(name, NAME_BYTES, "rank %d", rank);
    return name;
}

static gdncp_status_t collect(const gdncp_star_t *star, char *out, size_t bytes, int64_t deadline)
{
    for (int rank = 1; rank < star->size; rank++) {
        char name[NAME_BYTES];
        frame_t frame;

        gdncp_status_t status = gdncp_socket_read(star->sockets[rank], &frame, sizeof frame,
                                                  deadline, name_rank(name, rank));
        if (status != GDNCP_OK) {
            return status;
        }
        if (frame.magic != MAGIC || frame.bytes != bytes) {
            return gdncp_fail(GDNCP_ERR_MISMATCH,
                              "bytes: rank 0 gathers %zu from each rank, rank %d gives %llu", bytes,
                              rank, (unsigned long long)frame.bytes);
        }
        status = gdncp_socket_read(star->sockets[rank], out + (size_t)rank * bytes, bytes, deadline,
                                   name);
        if (status != GDNCP_OK) {
            return status;
        }
    }
    return GDNCP_OK;
}

/* Tell everyone how it went, and if it went well the data [size, bytes]. The first rank that
 * cannot be told is an error here, after all others have been told; it is not told more, as its
 * stream is out of step. */
static gdncp_status_t distribute(gdncp_star_t *star, const frame_t *frame, const char *data,
                                 size_t bytes, int64_t deadline)
{
    gdncp_status_t result = GDNCP_OK;

    for (int rank = 1; rank < star->size; rank++) {
        char name[NAME_BYTES];

        if (star->sockets[rank] < 0) {
            continue;
        }
        gdncp_status_t status = gdncp_socket_write(star->sockets[rank], frame, sizeof *frame,
                                                   deadline, name_rank(name, rank));
        if (status == GDNCP_OK && frame->status == GDNCP_OK) {
            status = gdncp_socket_write(star->sockets[rank], data, bytes * (size_t)star->size,
                                        deadline, name);
        }
        if (status != GDNCP_OK) {
            close(star->sockets[rank]);
            star->sockets[rank] = -1;
        }
        if (result == GDNCP_OK) {
            result = status;
        }
    }
    return result;
}

static gdncp_status_t gather_as_centre(gdncp_star_t *star, const void *in, char *out, size_t bytes)
{
    frame_t frame = {.magic = MAGIC, .bytes = bytes};

    memmove(out, in, bytes);
    gdncp_status_t status = collect(star, out, bytes, gdncp_deadline_after(star->timeout_ms));
    if (status == GDNCP_OK) {
        status = distribute(star, &frame, out, bytes, gdncp_deadline_after(star->timeout_ms));
    }
    if (status == GDNCP_OK) {
        return GDNCP_OK;
    }
    /* Those for whom it went well find this in their next all-gather. */
    frame.status = (int32_t)status;
    snprintf(frame.sentence, sizeof frame.sentence, "%s", gdncp_last_error());
    /* A second, not the time-out: that one may just have passed. */
    distribute(star, &frame, NULL, 0, gdncp_deadline_after(1000));
    return gdncp_fail(status, "%s", frame.sentence);
}

static gdncp_status_t gather_as_leaf(const gdncp_star_t *star, const void *in, char *out,
                                     size_t bytes)
{
    /* Later than rank 0 gives up, so that its sentence about who is missing arrives. */
    const int64_t deadline = gdncp_deadline_after(2 * star->timeout_ms);
    const int fd = star->sockets[0];
    frame_t frame = {.magic = MAGIC, .bytes = bytes};

    gdncp_status_t status = gdncp_socket_write(fd, &frame, sizeof frame, deadline, "rank 0");
    if (status == GDNCP_OK) {
        status = gdncp_socket_write(fd, in, bytes, deadline, "rank 0");
    }
    /* A rank 0 that is gone may have left word of why. */
    if (status == GDNCP_OK || status == GDNCP_ERR_PEER_LOST) {
        status = gdncp_socket_read(fd, &frame, sizeof frame, deadline, "rank 0");
    }
    if (status != GDNCP_OK) {
        return status;
    }
    if (frame.magic != MAGIC) {
        return gdncp_fail(GDNCP_ERR_MISMATCH, "rank 0 sent something else than an all-gather");
    }
    if (frame.status != GDNCP_OK) {
        return gdncp_fail((gdncp_status_t)frame.status, "%.*s", (int)sizeof frame.sentence - 1,
                          frame.sentence);
    }
    return gdncp_socket_read(fd, out, bytes * (size_t)star->size, deadline, "rank 0");
}

int gdncp_star_all_gather(void *context, const void *in, void *out, size_t bytes)
{
    gdncp_star_t *const star = context;

    if (star->failure != GDNCP_OK) {
        return (int)gdncp_fail(star->failure, "bootstrap: an earlier all-gather ended with %s",
                               gdncp_status_string(star->failure));
    }
    star->failure = star->rank == 0 ? gather_as_centre(star, in, out, bytes)
                                    : gather_as_leaf(star, in, out, bytes);
    return (int)star->failure;
}
