#define _GNU_SOURCE /* sched_setaffinity */
#include "comm_raw.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "error.h"
#include "gdncp/topology.h"

#define LATENCY_BYTES (INT64_C(128) << 10) /* and less: latency counts */

enum { DEADLINE_MS = 30000, RETRY_MS = 50, TRIES = 60, OUTPUT_BYTES = 4096 };

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

const char *comm_raw_test(int64_t bytes)
{
    return bytes <= LATENCY_BYTES ? "tag_lat" : "tag_bw";
}

/* One that nobody listens on. */
static int find_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool found = fd >= 0 && bind(fd, (const struct sockaddr *)&address, length) == 0 &&
                       getsockname(fd, (struct sockaddr *)&address, &length) == 0;

    if (fd >= 0) {
        close(fd);
    }
    return found ? ntohs(address.sin_port) : -1;
}

/* side 0, 1: which half of the machine it runs on. */
static pid_t start(char *const *arguments, int side, int output)
{
    const pid_t pid = fork();

    if (pid == 0) {
        const int nowhere = open("/dev/null", O_RDWR);
        gdncp_core_share_t share;
        cpu_set_t all;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        memset(&all, 0xff, sizeof all);
        (void)sched_setaffinity(0, sizeof all, &all);
        (void)gdncp_topology_bind(side, 2, &share);
        dup2(nowhere, STDIN_FILENO);
        dup2(output >= 0 ? output : nowhere, STDOUT_FILENO);
        dup2(nowhere, STDERR_FILENO);
        execvp(arguments[0], arguments);
        _exit(127);
    }
    return pid;
}

static int end(pid_t pid)
{
    int status = -1;

    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return status;
}

/* All that is written to a pipe, until its end or the deadline, when false is returned. */
static bool read_output(int fd, int64_t deadline, char *text)
{
    size_t length = 0;
    struct pollfd entry = {.fd = fd, .events = POLLIN};

    for (;;) {
        const int64_t left = deadline - now_ms();

        if (left <= 0 || length == OUTPUT_BYTES - 1 ||
            (poll(&entry, 1, (int)left) < 0 && errno != EINTR)) {
            return false;
        }
        const ssize_t got =
            entry.revents != 0 ? read(fd, text + length, OUTPUT_BYTES - 1 - length) : 0;

        if (entry.revents != 0 && got <= 0) {
            text[length] = '\0';
            return got == 0;
        }
        length += (size_t)got;
    }
}

/* A number of a line of comma-separated values, below the column that ends so. Microseconds. */
static bool find_number(const char *text, const char *ending, double *value_p)
{
    const char *const values = strchr(text, '\n');
    const char *column = strstr(text, ending);
    const char *value = values != NULL ? values + 1 : NULL;

    if (values == NULL || column == NULL || column > values) {
        return false;
    }
    for (; value != NULL && column > text; column--) {
        if (column[-1] == ',') {
            value = strchr(value, ',');
            value = value != NULL ? value + 1 : NULL;
        }
    }
    char *number_end = NULL;

    *value_p = value != NULL ? strtod(value, &number_end) : 0.0;
    return *value_p > 0.0 && number_end != value;
}

/* The other side may not listen yet: then this one ends at once, and is started again. */
static bool run_client(char *const *arguments, int64_t deadline, char *text)
{
    bool done = false;

    for (int i = 0; i < TRIES && !done && now_ms() < deadline; i++) {
        int fds[2];

        if (pipe2(fds, O_CLOEXEC) != 0) {
            return false;
        }
        const pid_t pid = start(arguments, 1, fds[1]);

        close(fds[1]);
        done = pid > 0 && read_output(fds[0], deadline, text);
        close(fds[0]);
        if (!done && pid > 0) {
            kill(pid, SIGKILL);
        }
        const int status = end(pid);

        if (WIFEXITED(status) && WEXITSTATUS(status) == 127) {
            return false; /* there is no such program */
        }
        done = done && status == 0;
        if (!done) {
            usleep(RETRY_MS * 1000);
        }
    }
    return done;
}

gdncp_status_t comm_raw_measure(const char *program, int64_t bytes, double *ms_p)
{
    const bool is_latency = bytes <= LATENCY_BYTES;
    const int64_t messages = is_latency ? 20000 : 10 + (INT64_C(1) << 30) / bytes;
    char port[16];
    char size[32];
    char iterations[32];
    char warm_up[32];
    char text[OUTPUT_BYTES];
    double us = 0.0;
    char *const server[] = {(char *)(uintptr_t)program, "-p", port, NULL};
    char *const client[] = {(char *)(uintptr_t)program,
                            "127.0.0.1",
                            "-p",
                            port,
                            "-t",
                            (char *)(uintptr_t)comm_raw_test(bytes),
                            "-s",
                            size,
                            "-n",
                            iterations,
                            "-w",
                            warm_up,
                            "-f",
                            "-v",
                            NULL};

    snprintf(port, sizeof port, "%d", find_port());
    snprintf(size, sizeof size, "%" PRId64, bytes);
    snprintf(iterations, sizeof iterations, "%" PRId64, messages);
    snprintf(warm_up, sizeof warm_up, "%" PRId64, 1 + messages / 10);
    const pid_t pid = start(server, 0, -1);
    const bool done = pid > 0 && run_client(client, now_ms() + DEADLINE_MS, text);

    if (pid > 0) {
        kill(pid, SIGKILL);
        end(pid);
    }
    if (!done || !find_number(text, is_latency ? "percentile_lat" : "overall_lat", &us)) {
        return gdncp_fail(GDNCP_ERR_IO,
                          "--raw: expected ucx_perftest, '%s' gave no time for %s of %" PRId64
                          " bytes",
                          program, comm_raw_test(bytes), bytes);
    }
    *ms_p = 1e-3 * us;
    return GDNCP_OK;
}
