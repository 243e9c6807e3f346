/* Rank 0 of a rendezvous: listens until every rank has come. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "deadline.h"
#include "error.h"
#include "gdncp/memory.h"
#include "rendezvous_internal.h"

#define REPLY_MS 1000
#define POLL_MS 100

/* A connection that has not yet said who it is. */
typedef struct visitor {
    int fd; /* -1: none */
    size_t num_received;
    gdncp_rendezvous_request_t request;
} visitor_t;

typedef struct door {
    const gdncp_rendezvous_t *place;
    gdncp_star_t *star;
    int listener;
    int num_missing; /* ranks */
    int max_visitors;
    visitor_t *visitors;   /* [max_visitors] */
    struct pollfd *polled; /* [max_visitors + 1], the last one is the listener */
    char last_refusal[160];
} door_t;

static int listen_at(const struct addrinfo *address)
{
    const int one = 1;
    const int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        return -1;
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, address->ai_addr, address->ai_addrlen) != 0 || listen(fd, SOMAXCONN) != 0) {
        const int error = errno;

        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

/* At the address that the others look for; at any where no interface of this machine has it, as
 * behind a translated address. */
static int listen_at_port(const char *address, int port, gdncp_status_t *status_p)
{
    struct addrinfo *found = NULL;
    int fd = -1;
    int error = 0;

    *status_p = gdncp_rendezvous_resolve(address, port, &found);
    if (*status_p != GDNCP_OK) {
        return -1;
    }
    for (const struct addrinfo *a = found; a != NULL && fd < 0; a = a->ai_next) {
        fd = listen_at(a);
        error = errno;
    }
    freeaddrinfo(found);
    if (fd < 0 && error == EADDRNOTAVAIL &&
        gdncp_rendezvous_resolve(NULL, port, &found) == GDNCP_OK) {
        for (const struct addrinfo *a = found; a != NULL && fd < 0; a = a->ai_next) {
            fd = listen_at(a);
            error = errno;
        }
        freeaddrinfo(found);
    }
    if (fd < 0) {
        *status_p = gdncp_fail(GDNCP_ERR_TRANSPORT, "rank 0 cannot listen at %s port %d: %s",
                               address, port, strerror(error));
    }
    return fd;
}

static void refuse(door_t *door, int fd, gdncp_status_t status, const char *sentence)
{
    gdncp_rendezvous_reply_t reply = {.magic = GDNCP_RENDEZVOUS_MAGIC, .status = (int32_t)status};

    snprintf(reply.sentence, sizeof reply.sentence, "%s", sentence);
    snprintf(door->last_refusal, sizeof door->last_refusal, "; last refused: %s", sentence);
    /* Best effort: whoever was refused may be gone. */
    (void)gdncp_socket_write(fd, &reply, sizeof reply, gdncp_deadline_after(REPLY_MS), "a visitor");
    close(fd);
}

static bool is_connected(int fd)
{
    char byte;

    if (fd < 0) {
        return false;
    }
    const ssize_t n = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

/* Let in or turn away a visitor that has said who it is. */
static void receive_visitor(door_t *door, int fd, const gdncp_rendezvous_request_t *request)
{
    gdncp_star_t *const star = door->star;
    const gdncp_rendezvous_reply_t welcome = {.magic = GDNCP_RENDEZVOUS_MAGIC};
    char sentence[128];

    if (request->magic != GDNCP_RENDEZVOUS_MAGIC || request->job != door->place->job) {
        refuse(door, fd, GDNCP_ERR_TRANSPORT, "a connection that is not of this job");
        return;
    }
    if (request->size != star->size) {
        snprintf(sentence, sizeof sentence, "rank %d has size %d where rank 0 has %d",
                 request->rank, request->size, star->size);
        refuse(door, fd, GDNCP_ERR_MISMATCH, sentence);
        return;
    }
    if (request->rank < 1 || request->rank >= star->size) {
        snprintf(sentence, sizeof sentence, "rank: expected 1..%d, got %d", star->size - 1,
                 request->rank);
        refuse(door, fd, GDNCP_ERR_MISMATCH, sentence);
        return;
    }
    int *const slot = &star->sockets[request->rank];
    if (is_connected(*slot)) {
        snprintf(sentence, sizeof sentence, "rank %d came twice", request->rank);
        refuse(door, fd, GDNCP_ERR_MISMATCH, sentence);
        return;
    }
    if (gdncp_socket_write(fd, &welcome, sizeof welcome, gdncp_deadline_after(REPLY_MS),
                           "a visitor") != GDNCP_OK) {
        close(fd);
        return;
    }
    if (*slot >= 0) {
        close(*slot); /* it came, lost patience, and came again */
    } else {
        door->num_missing--;
    }
    *slot = fd;
}

/* Never waits: a visitor that says nothing keeps nobody else out. */
static void listen_to(door_t *door, visitor_t *visitor)
{
    char *const bytes = (char *)&visitor->request;
    const ssize_t n = recv(visitor->fd, bytes + visitor->num_received,
                           sizeof visitor->request - visitor->num_received, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n <= 0) {
        close(visitor->fd);
        visitor->fd = -1;
        return;
    }
    visitor->num_received += (size_t)n;
    if (visitor->num_received == sizeof visitor->request) {
        const int fd = visitor->fd;

        visitor->fd = -1;
        receive_visitor(door, fd, &visitor->request);
    }
}

static void accept_visitor(door_t *door)
{
    const int fd = accept(door->listener, NULL, NULL);

    if (fd < 0) {
        return;
    }
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    for (int i = 0; i < door->max_visitors; i++) {
        if (door->visitors[i].fd < 0) {
            door->visitors[i] = (visitor_t){.fd = fd};
            return;
        }
    }
    close(fd); /* a crowd of silent strangers; a rank of ours comes again */
}

static void attend(door_t *door)
{
    for (int i = 0; i < door->max_visitors; i++) {
        door->polled[i] = (struct pollfd){.fd = door->visitors[i].fd, .events = POLLIN};
    }
    door->polled[door->max_visitors] = (struct pollfd){.fd = door->listener, .events = POLLIN};
    if (poll(door->polled, (nfds_t)door->max_visitors + 1, POLL_MS) <= 0) {
        return;
    }
    for (int i = 0; i < door->max_visitors; i++) {
        if (door->polled[i].revents != 0) {
            listen_to(door, &door->visitors[i]);
        }
    }
    if (door->polled[door->max_visitors].revents != 0) {
        accept_visitor(door);
    }
}

static gdncp_status_t fail_missing(const door_t *door)
{
    int missing = 1;

    while (door->star->sockets[missing] >= 0) {
        missing++;
    }
    return gdncp_fail(GDNCP_ERR_TIMEOUT,
                      "rank 0 of %d: waited %.3g s at %s in vain for rank %d and %d more%s",
                      door->star->size, (double)door->star->timeout_ms * 1e-3, door->place->address,
                      missing, door->num_missing - 1, door->last_refusal);
}

static gdncp_status_t open_door(door_t *door)
{
    gdncp_status_t status = GDNCP_OK;

    for (int i = 0; i < door->place->num_ports && door->listener < 0; i++) {
        door->listener = listen_at_port(door->place->address, door->place->first_port + i, &status);
    }
    return status;
}

gdncp_status_t gdncp_rendezvous_listen(const gdncp_rendezvous_t *place, gdncp_star_t *star)
{
    const int64_t deadline = gdncp_deadline_after(star->timeout_ms);
    door_t door = {.place = place,
                   .star = star,
                   .listener = -1,
                   .num_missing = star->size - 1,
                   .max_visitors = star->size + 16};

    door.visitors = gdncp_memory_alloc((size_t)door.max_visitors * sizeof *door.visitors);
    door.polled = gdncp_memory_alloc(((size_t)door.max_visitors + 1) * sizeof *door.polled);
    gdncp_status_t status = GDNCP_OK;
    if (door.visitors == NULL || door.polled == NULL) {
        status = gdncp_fail_memory("a rendezvous");
        goto free_memory;
    }
    for (int i = 0; i < door.max_visitors; i++) {
        door.visitors[i].fd = -1;
    }
    status = open_door(&door);
    if (status != GDNCP_OK) {
        goto free_memory;
    }
    while (door.num_missing > 0 && status == GDNCP_OK) {
        attend(&door);
        if (door.num_missing > 0 && gdncp_now_ms() >= deadline) {
            status = fail_missing(&door);
        }
    }
    for (int i = 0; i < door.max_visitors; i++) {
        if (door.visitors[i].fd >= 0) {
            close(door.visitors[i].fd);
        }
    }
    close(door.listener);

free_memory:
    gdncp_memory_free(door.polled);
    gdncp_memory_free(door.visitors);
    return status;
}
