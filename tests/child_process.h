/* A function in a process of its own, which may end it: what it printed and how it ended. */
#ifndef GDNCP_CHILD_PROCESS_H
#define GDNCP_CHILD_PROCESS_H

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct child_outcome {
    int signal;       /* that ended it, or 0 */
    int exit_code;    /* where none did */
    char text[16384]; /* the begin of what it wrote to stderr */
} child_outcome_t;

static void read_all(int file, char *text, size_t size)
{
    size_t used = 0;
    char rest[4096];

    for (;;) {
        const bool is_full = used + 1 == size;
        const ssize_t got =
            read(file, is_full ? rest : text + used, is_full ? sizeof rest : size - 1 - used);

        if (got > 0) {
            used += is_full ? 0 : (size_t)got;
        } else if (got == 0 || errno != EINTR) {
            break;
        }
    }
    text[used] = '\0';
}

/* Runs body(context) in a forked process, which exits with what it returns. */
static child_outcome_t run_child(int (*body)(const void *context), const void *context)
{
    static const int of_test_runners[] = {SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGSYS};
    child_outcome_t outcome = {0};
    int ends[2];
    int status = 0;

    fflush(NULL);
    if (pipe(ends) != 0) {
        abort();
    }
    const pid_t pid = fork();

    if (pid < 0) {
        abort();
    }
    if (pid == 0) {
        for (size_t i = 0; i < sizeof of_test_runners / sizeof of_test_runners[0]; i++) {
            signal(of_test_runners[i], SIG_DFL);
        }
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        exit(body(context)); /* not _exit(): the thread sanitizer's verdict comes with exit() */
    }
    close(ends[1]);
    read_all(ends[0], outcome.text, sizeof outcome.text);
    close(ends[0]);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    outcome.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    outcome.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
    return outcome;
}

#endif
