/* Where a watch listens, and where those of others are looked for. */
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"
#include "watch_internal.h"

/* An abstract name: of this network name space, and gone with the socket. */
static socklen_t name_socket(uint64_t token, struct sockaddr_un *address)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    const int length = snprintf(address->sun_path + 1, sizeof address->sun_path - 1,
                                "gdncp-watch-%016llx", (unsigned long long)token);

    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
}

static socklen_t name_host(const gdncp_watch_address_t *peer, int host,
                           struct sockaddr_storage *address)
{
    *address = (struct sockaddr_storage){0};
    if (peer->hosts[host].family == 4) {
        struct sockaddr_in *const v4 = (struct sockaddr_in *)address;

        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)peer->port);
        memcpy(&v4->sin_addr, peer->hosts[host].bytes, sizeof v4->sin_addr);
        return sizeof *v4;
    }
    struct sockaddr_in6 *const v6 = (struct sockaddr_in6 *)address;

    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons((uint16_t)peer->port);
    memcpy(&v6->sin6_addr, peer->hosts[host].bytes, sizeof v6->sin6_addr);
    return sizeof *v6;
}

/* The address of an interface that other machines may reach. */
static bool add_host(gdncp_watch_address_t *own, const struct ifaddrs *interface)
{
    const struct sockaddr *const address = interface->ifa_addr;

    if (address == NULL || (interface->ifa_flags & IFF_UP) == 0 ||
        (interface->ifa_flags & IFF_LOOPBACK) != 0 || own->num_hosts == GDNCP_WATCH_MAX_HOSTS) {
        return false;
    }
    if (address->sa_family == AF_INET) {
        own->hosts[own->num_hosts].family = 4;
        memcpy(own->hosts[own->num_hosts].bytes, &((const struct sockaddr_in *)address)->sin_addr,
               4);
    } else if (address->sa_family == AF_INET6 &&
               !IN6_IS_ADDR_LINKLOCAL(&((const struct sockaddr_in6 *)address)->sin6_addr)) {
        own->hosts[own->num_hosts].family = 6;
        memcpy(own->hosts[own->num_hosts].bytes, &((const struct sockaddr_in6 *)address)->sin6_addr,
               16);
    } else {
        return false;
    }
    own->num_hosts++;
    return true;
}

static void find_hosts(gdncp_watch_address_t *own)
{
    struct ifaddrs *interfaces = NULL;

    if (getifaddrs(&interfaces) == 0) {
        for (const struct ifaddrs *i = interfaces; i != NULL; i = i->ifa_next) {
            add_host(own, i);
        }
        freeifaddrs(interfaces);
    }
}

static int listen_at(const struct sockaddr *address, socklen_t bytes)
{
    const int zero = 0;
    const int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0) {
        return -1;
    }
    if (address->sa_family == AF_INET6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
    }
    if (bind(fd, address, bytes) != 0 || listen(fd, SOMAXCONN) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Of both families where the machine has both. */
static int listen_anywhere(void)
{
    const struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    const struct sockaddr_in v4 = {.sin_family = AF_INET};
    const int fd = listen_at((const struct sockaddr *)&v6, sizeof v6);

    return fd >= 0 ? fd : listen_at((const struct sockaddr *)&v4, sizeof v4);
}

static uint32_t port_of(int fd)
{
    struct sockaddr_storage address = {0};
    socklen_t bytes = sizeof address;

    if (getsockname(fd, (struct sockaddr *)&address, &bytes) != 0) {
        return 0;
    }
    return ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
                                               : ((struct sockaddr_in *)&address)->sin_port);
}

gdncp_status_t gdncp_watch_listen(gdncp_watch_t *watch)
{
    gdncp_watch_address_t *const own = &watch->address;
    struct sockaddr_un name;
    struct stat name_space;

    if (getrandom(&own->token, sizeof own->token, 0) != sizeof own->token) {
        return gdncp_fail(GDNCP_ERR_TRANSPORT, "no random number for the name of a socket: %s",
                          strerror(errno));
    }
    if (stat("/proc/self/ns/net", &name_space) == 0) {
        own->net_namespace = (uint64_t)name_space.st_ino;
    }
    const socklen_t name_bytes = name_socket(own->token, &name);

    watch->listeners[0] = listen_at((const struct sockaddr *)&name, name_bytes);
    if (watch->listeners[0] < 0) {
        return gdncp_fail(GDNCP_ERR_TRANSPORT, "no socket to listen for other ranks: %s",
                          strerror(errno));
    }
    watch->listeners[1] = listen_anywhere();
    if (watch->listeners[1] >= 0) {
        own->port = port_of(watch->listeners[1]);
        find_hosts(own);
    }
    return GDNCP_OK;
}

bool gdncp_watch_is_near(const gdncp_watch_address_t *a, const gdncp_watch_address_t *b)
{
    return a->net_namespace != 0 && a->net_namespace == b->net_namespace &&
           memcmp(a->process.boot, b->process.boot, sizeof a->process.boot) == 0;
}

/* Bridges of containers have the same address on every machine. */
static bool is_own_host(const gdncp_watch_address_t *own, const gdncp_watch_address_t *peer,
                        int host)
{
    for (uint32_t i = 0; i < own->num_hosts; i++) {
        if (memcmp(&own->hosts[i], &peer->hosts[host], sizeof own->hosts[i]) == 0) {
            return true;
        }
    }
    return false;
}

bool gdncp_watch_candidate(const gdncp_watch_t *watch, const gdncp_watch_address_t *peer, int n,
                           struct sockaddr_storage *address, socklen_t *bytes_p)
{
    if (gdncp_watch_is_near(&watch->address, peer)) {
        struct sockaddr_un name;

        *bytes_p = name_socket(peer->token, &name);
        *address = (struct sockaddr_storage){0};
        memcpy(address, &name, sizeof name);
        return n == 0;
    }
    for (uint32_t host = 0; host < peer->num_hosts && host < GDNCP_WATCH_MAX_HOSTS; host++) {
        if (!is_own_host(&watch->address, peer, (int)host) && n-- == 0) {
            *bytes_p = name_host(peer, (int)host, address);
            return true;
        }
    }
    return false;
}

void gdncp_watch_tune_socket(const gdncp_watch_t *watch, int fd)
{
    /* A machine that is gone, or a cable, answers nothing: found in half the time-out, so that
     * waits end by saying who is lost. */
    const int64_t step_s = watch->timeout_ms / 8000;
    const int step = step_s < 1 ? 1 : step_s > 3600 ? 3600 : (int)step_s;
    const unsigned unanswered_ms = (unsigned)step * 4000;
    const int tries = 3;
    const int one = 1;

    /* None of these is known to a UNIX socket, and none is needed there. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &step, sizeof step);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &step, sizeof step);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &tries, sizeof tries);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unanswered_ms, sizeof unanswered_ms);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
}
