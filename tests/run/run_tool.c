#define _GNU_SOURCE /* memfd_create */
#include "run_tool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#define TIMEOUT_SECONDS 100.0
#define MAX_NAMES 1024

extern char **environ;

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void sleep_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

void run_adopt_orphans(void)
{
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
}

run_started_t run_start_program(const char *program, const char *const *arguments,
                                const char *const *environment)
{
    run_started_t started = {.out = memfd_create("stdout", 0), .err = memfd_create("stderr", 0)};
    char *argv[RUN_MAX_ARGUMENTS + 2] = {(char *)program};
    char *env[512];
    posix_spawn_file_actions_t actions;
    int count = 0;

    for (int i = 0; arguments[i] != NULL; i++) {
        assert_true(i < RUN_MAX_ARGUMENTS);
        argv[i + 1] = (char *)arguments[i];
    }
    for (int i = 0; environment != NULL && environment[i] != NULL; i++) {
        env[count++] = (char *)environment[i];
    }
    for (int i = 0; environ[i] != NULL && count < 511; i++) {
        env[count++] = environ[i];
    }
    env[count] = NULL;
    assert_true(started.out >= 0 && started.err >= 0);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, started.out, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, started.err, STDERR_FILENO);
    assert_int_equal(posix_spawn(&started.pid, program, &actions, NULL, argv, env), 0);
    posix_spawn_file_actions_destroy(&actions);
    return started;
}

run_started_t run_start(const char *const *arguments, const char *const *environment)
{
    return run_start_program(GDNCP_RUN, arguments, environment);
}

static char *read_all(int file)
{
    const off_t size = lseek(file, 0, SEEK_END);
    char *const text = malloc((size_t)size + 1);

    assert_non_null(text);
    assert_int_equal(pread(file, text, (size_t)size, 0), size);
    text[size] = '\0';
    close(file);
    return text;
}

/* What the kernel kills with its parent is gone a moment later. */
void run_check_no_process(void)
{
    const double end = now() + 2.0;
    pid_t pid;

    while ((pid = waitpid(-1, NULL, WNOHANG)) >= 0) {
        if (pid == 0 && now() > end) {
            fail_msg("the tool has left a process behind");
        }
        sleep_ms(pid == 0 ? 5 : 0);
    }
    assert_int_equal(errno, ECHILD);
}

run_ended_t run_wait(run_started_t started)
{
    const double begin = now();
    run_ended_t ended = {0};
    int status = 0;

    while (waitpid(started.pid, &status, WNOHANG) == 0) {
        if (now() - begin > TIMEOUT_SECONDS) {
            kill(started.pid, SIGKILL);
            waitpid(started.pid, &status, 0);
            fail_msg("the tool ran longer than %.0f s", TIMEOUT_SECONDS);
        }
        sleep_ms(2);
    }
    ended.seconds = now() - begin;
    ended.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    ended.out = read_all(started.out);
    ended.err = read_all(started.err);
    return ended;
}

run_ended_t run_tool(const char *const *arguments)
{
    const run_ended_t ended = run_wait(run_start(arguments, NULL));

    run_check_no_process();
    return ended;
}

void run_release(run_ended_t *ended)
{
    free(ended->out);
    free(ended->err);
    *ended = (run_ended_t){0};
}

void run_check_error(const run_ended_t *ended, const char *what, const char *const *parts)
{
    if (ended->status != 1 || ended->out[0] != '\0') {
        fail_msg("%s: status %d, stdout '%s', stderr '%s'", what, ended->status, ended->out,
                 ended->err);
    }
    for (int i = 0; parts[i] != NULL; i++) {
        if (strstr(ended->err, parts[i]) == NULL) {
            fail_msg("%s: expected '%s' in '%s'", what, parts[i], ended->err);
        }
    }
}

json_t *run_json(const run_ended_t *ended, const char *what)
{
    json_error_t error;
    json_t *const object = json_loads(ended->out, JSON_REJECT_DUPLICATES, &error);

    if (!json_is_object(object)) {
        fail_msg("%s: expected one JSON object, got %s: '%s', stderr '%s'", what, error.text,
                 ended->out, ended->err);
    }
    return object;
}

int run_children(pid_t parent, pid_t *pids, int capacity)
{
    char path[64];
    int count = 0;

    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)parent, (int)parent);
    FILE *const file = fopen(path, "r");
    if (file == NULL) {
        return 0;
    }
    while (count < capacity && fscanf(file, "%d", &pids[count]) == 1) {
        count++;
    }
    fclose(file);
    return count;
}

static char remembered[MAX_NAMES][256];
static int num_remembered;

/* Names in /dev/shm. Returns their number. */
static int list_shared_files(char (*names)[256])
{
    DIR *const folder = opendir("/dev/shm");
    int count = 0;

    if (folder == NULL) {
        return 0;
    }
    for (struct dirent *entry; (entry = readdir(folder)) != NULL && count < MAX_NAMES;) {
        snprintf(names[count++], 256, "%s", entry->d_name);
    }
    closedir(folder);
    return count;
}

void run_remember_shared_memory(void)
{
    num_remembered = list_shared_files(remembered);
}

static bool has_new_shared_file(char *name)
{
    static char names[MAX_NAMES][256];
    const int count = list_shared_files(names);

    for (int i = 0; i < count; i++) {
        bool known = false;

        for (int j = 0; j < num_remembered && !known; j++) {
            known = strcmp(names[i], remembered[j]) == 0;
        }
        if (!known) {
            memcpy(name, names[i], sizeof names[i]);
            return true;
        }
    }
    return false;
}

/* A System V segment that nobody has attached and whose maker is gone. */
static bool has_lost_segment(char *name)
{
    FILE *const file = fopen("/proc/sysvipc/shm", "r");
    char line[512];
    bool found = false;

    if (file == NULL) {
        return false;
    }
    while (!found && fgets(line, sizeof line, file) != NULL) {
        long id;
        long maker;
        long attached;

        if (sscanf(line, "%*s %ld %*s %*s %ld %*s %ld", &id, &maker, &attached) == 3 &&
            attached == 0 && kill((pid_t)maker, 0) != 0 && errno == ESRCH) {
            snprintf(name, 256, "segment %ld", id);
            found = true;
        }
    }
    fclose(file);
    return found;
}

void run_check_shared_memory(void)
{
    const double end = now() + 5.0;
    char name[256];

    /* Other tests that run beside this one have some for a while. */
    while (has_new_shared_file(name) || has_lost_segment(name)) {
        if (now() > end) {
            fail_msg("shared memory is left behind: %s", name);
        }
        sleep_ms(50);
    }
}

int run_set_up(void **state)
{
    (void)state;
    run_adopt_orphans();
    run_remember_shared_memory();
    return 0;
}

int run_tear_down(void **state)
{
    (void)state;
    run_check_shared_memory();
    return 0;
}

const char *run_golden(const char *name)
{
    static char path[512];

    snprintf(path, sizeof path, "%s/%s.safetensors", GDNCP_TEST_DATA, name);
    return path;
}
