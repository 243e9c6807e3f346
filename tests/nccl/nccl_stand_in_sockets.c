/* Messages of the stand-in between processes of one machine: through sockets, one for each pair of
 * ranks and direction, that are connected when they are first used. */
#define _GNU_SOURCE /* accept4 */
#include "nccl_stand_in_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

typedef struct links {
    pthread_mutex_t turn; /* of batches: messages between two ranks match in order */
    int listener;
    int *to;   /* [size] -1: not connected yet */
    int *from; /* [size] */
} links_t;

static struct sockaddr_un address_of(const world_t *world, int rank, socklen_t *bytes_p)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    /* The empty first byte: a name that is no file. */
    const int length = snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "gdncp %.64s %d",
                                world->id, rank);

    *bytes_p = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
    return address;
}

/* The others need not have come: who connects to them tries until they have. */
void stand_in_join(comm_t *comm)
{
    links_t *const links = calloc(1, sizeof *links);
    socklen_t bytes = 0;
    const struct sockaddr_un address = address_of(comm->world, comm->rank, &bytes);

    pthread_mutex_init(&links->turn, NULL);
    links->to = malloc((size_t)comm->world->size * sizeof *links->to);
    links->from = malloc((size_t)comm->world->size * sizeof *links->from);
    for (int peer = 0; peer < comm->world->size; peer++) {
        links->to[peer] = links->from[peer] = -1;
    }
    links->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (bind(links->listener, (const struct sockaddr *)&address, bytes) != 0 ||
        listen(links->listener, comm->world->size) != 0) {
        comm->async_error = GDNCP_NCCL_SYSTEM_ERROR;
    }
    comm->links = links;
    comm->world->num_joined = comm->world->size;
}

static void connect_to(const comm_t *comm, int peer)
{
    links_t *const links = comm->links;
    socklen_t bytes = 0;
    const struct sockaddr_un address = address_of(comm->world, peer, &bytes);
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (connect(fd, (const struct sockaddr *)&address, bytes) == 0 &&
        send(fd, &comm->rank, sizeof comm->rank, MSG_NOSIGNAL) == (ssize_t)sizeof comm->rank) {
        fcntl(fd, F_SETFL, O_NONBLOCK);
        links->to[peer] = fd;
    } else {
        close(fd);
    }
}

/* Who connects says at once who it is. */
static void accept_all(const comm_t *comm)
{
    links_t *const links = comm->links;
    int fd;

    while ((fd = accept4(links->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        int peer = -1;

        if (recv(fd, &peer, sizeof peer, MSG_WAITALL) == (ssize_t)sizeof peer && peer >= 0 &&
            peer < comm->world->size) {
            fcntl(fd, F_SETFL, O_NONBLOCK);
            links->from[peer] = fd;
        } else {
            close(fd);
        }
    }
}

static int find_socket(const comm_t *comm, const operation_t *operation)
{
    const links_t *const links = comm->links;
    const int *const fd =
        operation->is_send ? &links->to[operation->peer] : &links->from[operation->peer];

    if (*fd < 0 && operation->is_send) {
        connect_to(comm, operation->peer);
    } else if (*fd < 0) {
        accept_all(comm);
    }
    return *fd;
}

/* As much as can be moved now: a message's length, and the message. False where it will never be
 * complete. */
static bool move(int fd, operation_t *operation)
{
    const size_t head = sizeof operation->length;

    while (operation->moved < head + operation->bytes) {
        const bool in_head = operation->moved < head;
        char *const at = in_head ? (char *)&operation->length + operation->moved
                                 : (char *)operation->buffer + operation->moved - head;
        const size_t rest = (in_head ? head : head + operation->bytes) - operation->moved;
        const ssize_t moved =
            operation->is_send ? send(fd, at, rest, MSG_NOSIGNAL) : recv(fd, at, rest, 0);

        if (moved < 0 && (errno == EAGAIN || errno == EINTR)) {
            return true;
        }
        if (moved <= 0) {
            return false;
        }
        operation->moved += (size_t)moved;
        if (operation->moved == head && operation->length != operation->bytes) {
            stand_in_control.num_mismatched++;
            return false;
        }
    }
    operation->is_done = true;
    return true;
}

/* Do what can be done; false where something never will be. */
static bool advance(batch_t *batch, bool *is_complete_p)
{
    *is_complete_p = true;
    for (int i = 0; i < batch->num_operations; i++) {
        operation_t *const operation = &batch->operations[i];

        if (operation->is_done) {
            continue;
        }
        const int fd = stand_in_must_wait(batch, i) ? -1 : find_socket(batch->comm, operation);

        if (fd >= 0 && !move(fd, operation)) {
            return false;
        }
        *is_complete_p = *is_complete_p && operation->is_done;
    }
    return true;
}

static bool is_stopped(const comm_t *comm)
{
    pthread_mutex_lock(&stand_in_lock);
    const bool stopped = comm->is_stopped;

    pthread_mutex_unlock(&stand_in_lock);
    return stopped;
}

/* In the stream. */
void stand_in_run_batch(void *context)
{
    batch_t *const batch = context;
    links_t *const links = batch->comm->links;
    bool is_complete = false;
    bool is_possible = true;

    pthread_mutex_lock(&links->turn);
    for (int i = 0; i < batch->num_operations; i++) {
        operation_t *const operation = &batch->operations[i];

        operation->is_done = false;
        operation->moved = 0;
        operation->length = operation->is_send ? operation->bytes : 0;
    }
    while (!is_complete && is_possible && !is_stopped(batch->comm)) {
        is_possible = advance(batch, &is_complete);
        if (!is_complete) {
            nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
        }
    }
    if (!is_possible) {
        pthread_mutex_lock(&stand_in_lock);
        batch->comm->async_error = GDNCP_NCCL_REMOTE_ERROR;
        pthread_mutex_unlock(&stand_in_lock);
    }
    pthread_mutex_unlock(&links->turn);
}
