/* What tests of bootstraps have in common. */
#ifndef GDNCP_TEST_BOOTSTRAP_CHECKS_H
#define GDNCP_TEST_BOOTSTRAP_CHECKS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "forked_ranks.h"

static inline void sleep_ms(int64_t ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

static inline bool is_error(int status, gdncp_status_t expected, const char *word)
{
    if (status == (int)expected && strstr(gdncp_last_error(), word) != NULL) {
        return true;
    }
    printf("expected %s naming \"%s\", got %s: %s\n", gdncp_status_string(expected), word,
           gdncp_status_string((gdncp_status_t)status), gdncp_last_error());
    return false;
}

/* A port that is free now, and a socket that listens there where fd_p is given. */
static inline int free_port(int *fd_p)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof address;
    const int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &bytes), 0);
    if (fd_p != NULL) {
        assert_int_equal(listen(fd, 10), 0);
        *fd_p = fd;
    } else {
        close(fd);
    }
    return ntohs(address.sin_port);
}

#endif
