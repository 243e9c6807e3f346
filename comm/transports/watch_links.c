/* The sockets of a watch: they connect, greet, and carry frames. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "deadline.h"
#include "gdncp/memory.h"
#include "log.h"
#include "watch_internal.h"

#define GREETING_MAGIC 0x67646e6377617463u
#define FRAME_MAGIC 0x67647761u
#define TRY_MS 1000 /* to connect to one address */
#define REST_MS 50  /* before the next try */
#define READ_BYTES 4096

static void free_bytes(gdncp_bytes_t *bytes)
{
    gdncp_memory_free(bytes->data);
    *bytes = (gdncp_bytes_t){0};
}

/* Room for more bytes at the end; false where there is no memory. */
static bool reserve(gdncp_bytes_t *bytes, size_t more)
{
    const size_t used = bytes->end - bytes->begin;

    if (bytes->capacity - bytes->end >= more) {
        return true;
    }
    if (bytes->capacity - used < more) {
        const size_t capacity = 2 * (used + more);
        char *const data = gdncp_memory_alloc(capacity);

        if (data == NULL) {
            return false;
        }
        if (used > 0) {
            memcpy(data, bytes->data + bytes->begin, used);
        }
        gdncp_memory_free(bytes->data);
        *bytes = (gdncp_bytes_t){.data = data, .end = used, .capacity = capacity};
        return true;
    }
    memmove(bytes->data, bytes->data + bytes->begin, used);
    bytes->begin = 0;
    bytes->end = used;
    return true;
}

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

static void close_link(gdncp_link_t *link)
{
    close_fd(&link->fd);
    link->state = GDNCP_LINK_CLOSED;
    free_bytes(&link->in);
    free_bytes(&link->out);
}

/* The peer's end, unless it has said good-bye. */
static void break_link(gdncp_watch_t *watch, gdncp_link_t *link, const char *text)
{
    close_link(link);
    gdncp_watch_lose(watch, link->peer, watch->rank, text);
}

static const char *describe_error(int error)
{
    switch (error) {
    case ETIMEDOUT:
    case EHOSTUNREACH:
    case ENETUNREACH:
        return "its machine does not answer any more";
    default:
        return "its connection closed";
    }
}

static void send_pending(gdncp_link_t *link)
{
    while (link->state == GDNCP_LINK_UP && link->out.begin < link->out.end) {
        const ssize_t n = send(link->fd, link->out.data + link->out.begin,
                               link->out.end - link->out.begin, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n > 0) {
            link->out.begin += (size_t)n;
        } else if (errno == EAGAIN) {
            return;
        } else if (errno != EINTR) {
            /* What the peer said before is still to be read, and then the end. */
            link->out.begin = link->out.end;
        }
    }
}

void gdncp_links_flood(gdncp_watch_t *watch, gdncp_news_t news, int rank, int seen_by,
                       const void *data, size_t bytes)
{
    const gdncp_watch_frame_t frame = {.magic = FRAME_MAGIC,
                                       .news = (uint32_t)news,
                                       .rank = rank,
                                       .seen_by = seen_by,
                                       .bytes = bytes};

    for (int i = 0; i < watch->num_links; i++) {
        gdncp_link_t *const link = &watch->links[i];

        if (link->state == GDNCP_LINK_CLOSED) {
            continue;
        }
        if (!reserve(&link->out, sizeof frame + bytes)) {
            gdncp_log(GDNCP_LOG_ERROR, watch->rank, "no memory to tell rank %d of rank %d",
                      link->peer, rank);
            continue;
        }
        memcpy(link->out.data + link->out.end, &frame, sizeof frame);
        if (bytes > 0) {
            memcpy(link->out.data + link->out.end + sizeof frame, data, bytes);
        }
        link->out.end += sizeof frame + bytes;
        send_pending(link);
    }
}

bool gdncp_links_are_flushed(const gdncp_watch_t *watch)
{
    for (int i = 0; i < watch->num_links; i++) {
        if (watch->links[i].state == GDNCP_LINK_UP &&
            watch->links[i].out.begin < watch->links[i].out.end) {
            return false;
        }
    }
    return true;
}

/* Send the greeting on a socket that is new, and so takes it at once. */
static bool greet(const gdncp_watch_t *watch, int fd, uint64_t token)
{
    const gdncp_watch_greeting_t greeting = {
        .magic = GREETING_MAGIC, .token = token, .rank = watch->rank};

    return send(fd, &greeting, sizeof greeting, MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof greeting;
}

static bool is_greeting(const gdncp_watch_greeting_t *greeting, uint64_t token)
{
    return greeting->magic == GREETING_MAGIC && greeting->token == token;
}

bool gdncp_link_adopt(gdncp_watch_t *watch, const gdncp_watch_greeting_t *greeting, int fd)
{
    for (int i = 0; i < watch->num_links; i++) {
        gdncp_link_t *const link = &watch->links[i];

        if (link->state == GDNCP_LINK_AWAITED && link->peer == greeting->rank &&
            is_greeting(greeting, watch->address.token)) {
            gdncp_watch_tune_socket(watch, fd);
            /* Room for its news now, so that runs need no memory for them. */
            if (!reserve(&link->in, READ_BYTES) || !greet(watch, fd, watch->address.token)) {
                return false;
            }
            link->fd = fd;
            link->state = GDNCP_LINK_UP;
            send_pending(link);
            return true;
        }
    }
    return false;
}

/* This candidate was of no use: the next one, or all again a little later. */
static void try_next(gdncp_watch_t *watch, gdncp_link_t *link, bool refused)
{
    const bool is_near = gdncp_watch_is_near(&watch->address, &watch->peers[link->peer]);
    struct sockaddr_storage address;
    socklen_t bytes = 0;

    close_fd(&link->fd);
    link->in.begin = link->in.end = 0;
    link->num_refused += refused;
    link->candidate++;
    link->state = GDNCP_LINK_RESTING;
    link->next_ms = gdncp_now_ms();
    if (gdncp_watch_candidate(watch, &watch->peers[link->peer], link->candidate, &address,
                              &bytes)) {
        return;
    }
    /* Where its machine answers at every address that nobody listens, the process has ended. */
    if (link->num_refused == link->candidate && link->num_refused > 0) {
        break_link(watch, link, "nobody listens where it did");
        return;
    }
    if (!is_near && link->next_ms - watch->connect_ms >= watch->timeout_ms) {
        gdncp_log(GDNCP_LOG_WARN, watch->rank, "rank %d is not watched: no address of it answers",
                  link->peer);
        close_link(link);
        return;
    }
    link->candidate = 0;
    link->num_refused = 0;
    link->next_ms += REST_MS;
}

static void begin_greeting(gdncp_watch_t *watch, gdncp_link_t *link)
{
    gdncp_watch_tune_socket(watch, link->fd);
    if (!greet(watch, link->fd, watch->peers[link->peer].token)) {
        try_next(watch, link, true);
        return;
    }
    link->state = GDNCP_LINK_GREETING;
}

static void begin_connecting(gdncp_watch_t *watch, gdncp_link_t *link, int64_t now_ms)
{
    struct sockaddr_storage address;
    socklen_t bytes = 0;

    if (now_ms < link->next_ms) {
        return;
    }
    if (!gdncp_watch_candidate(watch, &watch->peers[link->peer], link->candidate, &address,
                               &bytes)) {
        close_link(link); /* a peer without addresses */
        return;
    }
    link->next_ms = now_ms + TRY_MS;
    link->fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (link->fd < 0) {
        try_next(watch, link, false);
    } else if (connect(link->fd, (const struct sockaddr *)&address, bytes) == 0) {
        begin_greeting(watch, link);
    } else if (errno == EINPROGRESS) {
        link->state = GDNCP_LINK_CONNECTING;
    } else {
        try_next(watch, link, errno == ECONNREFUSED);
    }
}

static void finish_connecting(gdncp_watch_t *watch, gdncp_link_t *link)
{
    int error = 0;
    socklen_t bytes = sizeof error;

    getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &error, &bytes);
    if (error == 0) {
        begin_greeting(watch, link);
    } else {
        try_next(watch, link, error == ECONNREFUSED);
    }
}

/* Take frames and, first of all, the greeting from what has arrived; false where it is neither. */
static bool take_frames(gdncp_watch_t *watch, gdncp_link_t *link)
{
    for (;;) {
        const char *const data = link->in.data + link->in.begin;
        const size_t bytes = link->in.end - link->in.begin;
        gdncp_watch_frame_t frame;

        if (link->state == GDNCP_LINK_GREETING) {
            gdncp_watch_greeting_t greeting;

            if (bytes < sizeof greeting) {
                return true;
            }
            memcpy(&greeting, data, sizeof greeting);
            if (!is_greeting(&greeting, watch->peers[link->peer].token) ||
                greeting.rank != link->peer) {
                return false;
            }
            link->in.begin += sizeof greeting;
            link->state = GDNCP_LINK_UP;
            send_pending(link);
            continue;
        }
        if (bytes < sizeof frame) {
            return true;
        }
        memcpy(&frame, data, sizeof frame);
        if (frame.magic != FRAME_MAGIC || frame.rank < 0 || frame.rank >= watch->size ||
            frame.bytes > GDNCP_WATCH_MAX_RECORD) {
            return false;
        }
        if (bytes - sizeof frame < frame.bytes) {
            return true;
        }
        link->in.begin += sizeof frame + frame.bytes;
        gdncp_watch_hear(watch, &frame, data + sizeof frame);
        if (link->state == GDNCP_LINK_CLOSED) {
            return true;
        }
    }
}

static void read_link(gdncp_watch_t *watch, gdncp_link_t *link)
{
    while (link->state == GDNCP_LINK_GREETING || link->state == GDNCP_LINK_UP) {
        if (!reserve(&link->in, READ_BYTES)) {
            return;
        }
        const ssize_t n = recv(link->fd, link->in.data + link->in.end,
                               link->in.capacity - link->in.end, MSG_DONTWAIT);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno == EAGAIN) {
            return;
        }
        if (n <= 0) {
            if (link->state == GDNCP_LINK_GREETING) {
                try_next(watch, link, true);
            } else {
                break_link(watch, link, describe_error(n == 0 ? 0 : errno));
            }
            return;
        }
        link->in.end += (size_t)n;
        if (!take_frames(watch, link)) {
            if (link->state == GDNCP_LINK_GREETING) {
                try_next(watch, link, false); /* somebody else listens there */
            } else {
                break_link(watch, link, "it sent something else than news of ranks");
            }
            return;
        }
    }
}

void gdncp_links_forget(gdncp_watch_t *watch, int peer)
{
    for (int i = 0; i < watch->num_links; i++) {
        gdncp_link_t *const link = &watch->links[i];

        if (link->peer == peer && link->state < GDNCP_LINK_GREETING) {
            close_link(link);
        }
    }
}

void gdncp_links_close(gdncp_watch_t *watch)
{
    for (int i = 0; i < watch->num_links; i++) {
        if (watch->links[i].fd >= 0) {
            /* Also where a child of this process has the socket too. */
            shutdown(watch->links[i].fd, SHUT_RDWR);
        }
        close_link(&watch->links[i]);
    }
    gdncp_visitors_close(watch);
}

static bool awaits_anybody(const gdncp_watch_t *watch)
{
    for (int i = 0; i < watch->num_links; i++) {
        const gdncp_link_t *const link = &watch->links[i];

        if (link->state == GDNCP_LINK_AWAITED &&
            watch->watched[link->peer].fate == GDNCP_FATE_ALIVE) {
            return true;
        }
    }
    return false;
}

static void serve_link(gdncp_watch_t *watch, gdncp_link_t *link, short ready, int64_t now_ms)
{
    switch (link->state) {
    case GDNCP_LINK_RESTING:
        begin_connecting(watch, link, now_ms);
        return;
    case GDNCP_LINK_CONNECTING:
        if (ready != 0) {
            finish_connecting(watch, link);
        } else if (now_ms >= link->next_ms) {
            try_next(watch, link, false);
        }
        return;
    case GDNCP_LINK_GREETING:
    case GDNCP_LINK_UP:
        if ((ready & POLLOUT) != 0) {
            send_pending(link);
        }
        if ((ready & ~POLLOUT) != 0) {
            read_link(watch, link);
        }
        return;
    default:
        return;
    }
}

static short awaited_events(const gdncp_link_t *link)
{
    if (link->state == GDNCP_LINK_CONNECTING) {
        return POLLOUT;
    }
    return link->state == GDNCP_LINK_UP && link->out.begin < link->out.end ? POLLIN | POLLOUT
                                                                           : POLLIN;
}

void gdncp_links_serve(gdncp_watch_t *watch, int wait_ms)
{
    const int num_polled = watch->num_links + 2 + GDNCP_WATCH_MAX_VISITORS;
    struct pollfd *const of_listeners = watch->polled + watch->num_links;
    struct pollfd *const of_visitors = of_listeners + 2;

    for (int i = 0; i < watch->num_links; i++) {
        watch->polled[i] =
            (struct pollfd){.fd = watch->links[i].fd, .events = awaited_events(&watch->links[i])};
    }
    for (int i = 0; i < 2; i++) {
        of_listeners[i] = (struct pollfd){.fd = watch->listeners[i], .events = POLLIN};
    }
    for (int i = 0; i < GDNCP_WATCH_MAX_VISITORS; i++) {
        of_visitors[i] = (struct pollfd){.fd = watch->visitors[i].fd, .events = POLLIN};
    }
    poll(watch->polled, (nfds_t)num_polled, wait_ms);

    const int64_t now_ms = gdncp_now_ms();

    for (int i = 0; i < watch->num_links; i++) {
        serve_link(watch, &watch->links[i], watch->polled[i].revents, now_ms);
    }
    gdncp_visitors_serve(watch, of_visitors, of_listeners, now_ms);
    if (watch->listeners[0] >= 0 && !awaits_anybody(watch)) {
        gdncp_visitors_close(watch);
    }
}
