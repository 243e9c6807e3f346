/* Starting gdncp-run and seeing how it ends and what it leaves behind. */
#ifndef GDNCP_TEST_RUN_TOOL_H
#define GDNCP_TEST_RUN_TOOL_H

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#define RUN_MAX_ARGUMENTS 32

typedef struct run_started {
    pid_t pid;
    int out; /* files in memory */
    int err;
} run_started_t;

/* How a run ended: what it printed, and its exit status (128 + n after signal n). */
typedef struct run_ended {
    int status;
    char *out;
    char *err;
    double seconds;
} run_ended_t;

/* To be called once: orphans of the tool become children of the test, which then sees them. */
void run_adopt_orphans(void);

/* Start the tool with arguments up to NULL. environment: "NAME=value" up to NULL, in addition to
 * the test's; NULL: none. */
run_started_t run_start(const char *const *arguments, const char *const *environment);

/* Likewise of another program, such as one that starts the tool. */
run_started_t run_start_program(const char *program, const char *const *arguments,
                                const char *const *environment);

/* Wait for it, at most 100 s. */
run_ended_t run_wait(run_started_t started);

/* Fail unless all that was started has been waited for and has left no process behind. */
void run_check_no_process(void);

/* Start it, wait for it and see that it has left no process behind. */
run_ended_t run_tool(const char *const *arguments);
void run_release(run_ended_t *ended);

/* Fail unless the run ended with 1, printed nothing on stdout and all parts on stderr. */
void run_check_error(const run_ended_t *ended, const char *what, const char *const *parts);

/* The JSON object it printed and nothing else; the test fails where there is none. */
json_t *run_json(const run_ended_t *ended, const char *what);

/* Direct children of a process. Returns their number. pids [capacity] */
int run_children(pid_t parent, pid_t *pids, int capacity);

/* Fail if there is shared memory that was not there when it was remembered, and whose maker is
 * gone. */
void run_remember_shared_memory(void);
void run_check_shared_memory(void);

/* Of a group of tests that leave neither processes nor shared memory behind. */
int run_set_up(void **state);
int run_tear_down(void **state);

/* Path of a golden file, valid until the next call. */
const char *run_golden(const char *name);

#endif
