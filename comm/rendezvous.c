/* Every rank but 0 of a rendezvous: looks for rank 0 until it answers. */
#include "rendezvous.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <time.h>
#include <unistd.h>

#include "deadline.h"
#include "error.h"
#include "rendezvous_internal.h"

#define CONNECT_MS 2000
#define REPLY_MS 5000
#define RETRY_MS 50

gdncp_status_t gdncp_rendezvous_resolve(const char *address, int port, struct addrinfo **found_p)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC,
                                   .ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_NUMERICSERV | (address == NULL ? AI_PASSIVE : 0)};
    char service[16];

    snprintf(service, sizeof service, "%d", port);
    const int error = getaddrinfo(address, service, &hints, found_p);
    if (error != 0) {
        return gdncp_fail(GDNCP_ERR_TRANSPORT, "MASTER_ADDR: cannot resolve \"%s\": %s",
                          address != NULL ? address : "", gai_strerror(error));
    }
    return GDNCP_OK;
}

/* A connected socket, or -1 with errno. */
static int connect_to(const struct addrinfo *address)
{
    const int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int error = 0;
    socklen_t error_bytes = sizeof error;

    if (fd < 0) {
        return -1;
    }
    if (connect(fd, address->ai_addr, address->ai_addrlen) == 0) {
        return fd;
    }
    struct pollfd entry = {.fd = fd, .events = POLLOUT};
    if (errno != EINPROGRESS) {
        error = errno;
    } else if (poll(&entry, 1, CONNECT_MS) != 1) {
        error = ETIMEDOUT;
    } else {
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_bytes);
    }
    if (error == 0) {
        return fd;
    }
    close(fd);
    errno = error;
    return -1;
}

/* A port without a listener can be the very one that connect() chose to come from; the socket is
 * then connected to itself. */
static bool is_own_reflection(int fd)
{
    struct sockaddr_storage here = {0};
    struct sockaddr_storage there = {0};
    socklen_t here_bytes = sizeof here;
    socklen_t there_bytes = sizeof there;

    return getsockname(fd, (struct sockaddr *)&here, &here_bytes) == 0 &&
           getpeername(fd, (struct sockaddr *)&there, &there_bytes) == 0 &&
           here_bytes == there_bytes && memcmp(&here, &there, here_bytes) == 0;
}

/* Ask to be let in. *refused_p: this job's rank 0 said no, so that it is of no use to go on. */
static gdncp_status_t introduce(const gdncp_rendezvous_t *place, const gdncp_star_t *star, int fd,
                                bool *refused_p)
{
    const int64_t deadline = gdncp_deadline_after(REPLY_MS);
    const gdncp_rendezvous_request_t request = {
        .magic = GDNCP_RENDEZVOUS_MAGIC, .job = place->job, .size = star->size, .rank = star->rank};
    gdncp_rendezvous_reply_t reply;

    gdncp_status_t status =
        gdncp_socket_write(fd, &request, sizeof request, deadline, "what may be rank 0");
    if (status == GDNCP_OK) {
        status = gdncp_socket_read(fd, &reply, sizeof reply, deadline, "what may be rank 0");
    }
    if (status != GDNCP_OK) {
        return status;
    }
    if (reply.magic != GDNCP_RENDEZVOUS_MAGIC) {
        return gdncp_fail(GDNCP_ERR_MISMATCH, "what answers at %s is not rank 0", place->address);
    }
    if (reply.status != GDNCP_OK) {
        *refused_p = reply.status == GDNCP_ERR_MISMATCH;
        return gdncp_fail((gdncp_status_t)reply.status, "rank 0 refused this rank: %.*s",
                          (int)sizeof reply.sentence - 1, reply.sentence);
    }
    return GDNCP_OK;
}

/* One try at one port. */
static gdncp_status_t visit(const gdncp_rendezvous_t *place, int port, gdncp_star_t *star,
                            bool *refused_p)
{
    struct addrinfo *found = NULL;
    int fd = -1;

    gdncp_status_t status = gdncp_rendezvous_resolve(place->address, port, &found);
    if (status != GDNCP_OK) {
        return status;
    }
    for (const struct addrinfo *a = found; a != NULL && fd < 0; a = a->ai_next) {
        fd = connect_to(a);
    }
    const int error = errno;
    freeaddrinfo(found);
    if (fd < 0) {
        return gdncp_fail(GDNCP_ERR_TRANSPORT, "%s port %d: %s", place->address, port,
                          strerror(error));
    }
    if (is_own_reflection(fd)) {
        close(fd);
        return gdncp_fail(GDNCP_ERR_TRANSPORT, "%s port %d: nobody listens", place->address, port);
    }
    status = introduce(place, star, fd, refused_p);
    if (status != GDNCP_OK) {
        close(fd);
        return status;
    }
    star->sockets[0] = fd;
    return GDNCP_OK;
}

static gdncp_status_t look_for_centre(const gdncp_rendezvous_t *place, gdncp_star_t *star)
{
    const int64_t deadline = gdncp_deadline_after(star->timeout_ms);

    for (int64_t attempt = 0;; attempt++) {
        const int port = place->first_port + (int)(attempt % place->num_ports);
        bool refused = false;
        const gdncp_status_t status = visit(place, port, star, &refused);

        if (status == GDNCP_OK) {
            return GDNCP_OK;
        }
        if (refused) {
            return status;
        }
        if (gdncp_now_ms() >= deadline) {
            return gdncp_fail(
                GDNCP_ERR_TIMEOUT,
                "rank %d of %d: looked %.3g s in vain for rank 0 at %s, ports %d..%d; "
                "last: %s",
                star->rank, star->size, (double)star->timeout_ms * 1e-3, place->address,
                place->first_port, place->first_port + place->num_ports - 1, gdncp_last_error());
        }
        nanosleep(&(struct timespec){.tv_nsec = RETRY_MS * 1000000 / place->num_ports}, NULL);
    }
}

gdncp_status_t gdncp_rendezvous(const gdncp_rendezvous_t *place, gdncp_star_t *star)
{
    const int one = 1;
    const gdncp_status_t status =
        star->rank == 0 ? gdncp_rendezvous_listen(place, star) : look_for_centre(place, star);

    for (int i = 0; i < star->size && status == GDNCP_OK; i++) {
        if (star->sockets[i] >= 0) {
            setsockopt(star->sockets[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        }
    }
    return status;
}
