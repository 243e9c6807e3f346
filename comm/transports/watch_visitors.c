/* Who connects to a watch, until it has said who it is. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "watch_internal.h"

#define SILENT_MS 5000 /* of a visitor that does not say who it is */

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

static void read_visitor(gdncp_watch_t *watch, gdncp_visitor_t *visitor)
{
    const ssize_t n = recv(visitor->fd, (char *)&visitor->greeting + visitor->num_received,
                           sizeof visitor->greeting - visitor->num_received, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    visitor->num_received += n > 0 ? (size_t)n : 0;
    if (n > 0 && visitor->num_received < sizeof visitor->greeting) {
        return;
    }
    if (n > 0 && gdncp_link_adopt(watch, &visitor->greeting, visitor->fd)) {
        visitor->fd = -1;
    }
    close_fd(&visitor->fd);
}

/* Whoever finds no room waits in the listener's queue. */
static void accept_visitors(gdncp_watch_t *watch, int listener, int64_t now_ms)
{
    for (int i = 0; i < GDNCP_WATCH_MAX_VISITORS; i++) {
        gdncp_visitor_t *const visitor = &watch->visitors[i];

        if (visitor->fd >= 0 && now_ms - visitor->since_ms >= SILENT_MS) {
            close_fd(&visitor->fd);
        }
        if (visitor->fd >= 0) {
            continue;
        }
        const int fd = accept(listener, NULL, NULL);

        if (fd < 0) {
            return;
        }
        fcntl(fd, F_SETFD, FD_CLOEXEC);
        *visitor = (gdncp_visitor_t){.fd = fd, .since_ms = now_ms};
        read_visitor(watch, visitor);
    }
}

void gdncp_visitors_serve(gdncp_watch_t *watch, const struct pollfd *of_visitors,
                          const struct pollfd *of_listeners, int64_t now_ms)
{
    for (int i = 0; i < GDNCP_WATCH_MAX_VISITORS; i++) {
        if (of_visitors[i].revents != 0) {
            read_visitor(watch, &watch->visitors[i]);
        }
    }
    for (int i = 0; i < 2; i++) {
        if (of_listeners[i].revents != 0) {
            accept_visitors(watch, watch->listeners[i], now_ms);
        }
    }
}

void gdncp_visitors_close(gdncp_watch_t *watch)
{
    for (int i = 0; i < 2; i++) {
        close_fd(&watch->listeners[i]);
    }
    for (int i = 0; i < GDNCP_WATCH_MAX_VISITORS; i++) {
        close_fd(&watch->visitors[i].fd);
    }
}
