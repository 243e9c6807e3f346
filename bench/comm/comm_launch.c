#define _GNU_SOURCE /* CPU_COUNT */
#include "comm_launch.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "error.h"
#include "gdncp/topology.h"

int comm_say(int rank, gdncp_status_t status, int64_t wrong)
{
    /* What is collective fails on all ranks, and rank 0 knows who began. */
    if (status != GDNCP_OK && rank <= 0) {
        fprintf(stderr, "gdncp-bench-comm: %s: %s\n", gdncp_status_string(status),
                gdncp_last_error());
    } else if (wrong > 0 && rank <= 0) {
        fprintf(stderr, "gdncp-bench-comm: %" PRId64 " elements are wrong\n", wrong);
    }
    return status == GDNCP_OK && wrong == 0 ? 0 : 1;
}

/* That this process may use. */
static int count_cores(void)
{
    cpu_set_t cores;

    return sched_getaffinity(0, sizeof cores, &cores) == 0 ? CPU_COUNT(&cores) : 1;
}

static int run_rank(const comm_program_t *program, gdncp_comm_t *comm, int num_cores)
{
    const int rank = gdncp_comm_rank(comm);
    int64_t wrong = 0;
    const gdncp_status_t status = comm_run_all(program, comm, num_cores, &wrong);
    const int result = comm_say(rank, status, wrong);

    gdncp_comm_destroy(comm);
    return result;
}

/* ------------------------------------------------------------------ of a launcher */

static int run_launched(const comm_program_t *program, int rank)
{
    gdncp_comm_t *comm = NULL;
    const gdncp_status_t status = gdncp_comm_create_from_environment(NULL, &comm);

    return status == GDNCP_OK ? run_rank(program, comm, (int)sysconf(_SC_NPROCESSORS_ONLN))
                              : comm_say(rank, status, 0);
}

/* ------------------------------------------------------------------ processes */

static _Noreturn void run_child(const comm_program_t *program, gdncp_fork_group_t *group, int rank,
                                int num_cores)
{
    gdncp_core_share_t share;
    gdncp_bootstrap_t bootstrap;
    gdncp_comm_t *comm = NULL;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    gdncp_status_t status = gdncp_topology_bind(rank, program->options.ranks, &share);

    if (status == GDNCP_OK) {
        status = gdncp_fork_group_join(group, rank, &bootstrap);
    }
    if (status == GDNCP_OK) {
        status = gdncp_comm_create(&bootstrap, NULL, &comm);
    }
    const int result =
        status == GDNCP_OK ? run_rank(program, comm, num_cores) : comm_say(rank, status, 0);

    gdncp_fork_group_destroy(group);
    exit(result);
}

/* 0 where all of so many children ended well. */
static int wait_for_children(int count)
{
    int result = 0;

    while (count > 0) {
        int status = 0;
        const pid_t pid = wait(&status);

        if (pid < 0 && errno != EINTR) {
            return 1;
        }
        if (pid > 0 && WIFSIGNALED(status)) {
            fprintf(stderr, "gdncp-bench-comm: a rank died of signal %d\n", WTERMSIG(status));
        }
        result = result != 0 || (pid > 0 && status != 0);
        count -= pid > 0;
    }
    return result;
}

static int run_processes(const comm_program_t *program)
{
    const int ranks = program->options.ranks;
    const int num_cores = count_cores();
    gdncp_fork_group_t *group = NULL;
    int started = 0;
    gdncp_status_t status = gdncp_fork_group_create(ranks, &group);

    fflush(NULL);
    while (started < ranks && status == GDNCP_OK) {
        const pid_t pid = fork();

        if (pid == 0) {
            run_child(program, group, started, num_cores);
        }
        if (pid < 0) {
            status = gdncp_fail(GDNCP_ERR_IO, "--ranks: rank %d of %d could not be started: %s",
                                started, ranks, strerror(errno));
        }
        started += pid > 0;
    }
    gdncp_fork_group_destroy(group);
    const int result = wait_for_children(started);

    return status == GDNCP_OK ? result : comm_say(-1, status, 0);
}

/* ------------------------------------------------------------------ threads */

typedef struct rank_thread {
    const comm_program_t *program;
    gdncp_comm_t *comm;
    int num_cores;
    int result;
    pthread_t thread;
} rank_thread_t;

static void *run_thread(void *opaque)
{
    rank_thread_t *const self = opaque;

    self->result = run_rank(self->program, self->comm, self->num_cores);
    return NULL;
}

static int run_threads(const comm_program_t *program)
{
    const int ranks = program->options.ranks;
    gdncp_comm_t *comms[COMM_MAX_RANKS];
    rank_thread_t threads[COMM_MAX_RANKS];
    int started = 0;
    int result = 0;
    const gdncp_status_t status = gdncp_comm_create_threads(ranks, NULL, comms);

    if (status != GDNCP_OK) {
        return comm_say(-1, status, 0);
    }
    for (; started < ranks; started++) {
        threads[started] =
            (rank_thread_t){.program = program, .comm = comms[started], .num_cores = count_cores()};
        if (pthread_create(&threads[started].thread, NULL, run_thread, &threads[started]) != 0) {
            break;
        }
    }
    for (int rank = started; rank < ranks; rank++) {
        gdncp_comm_abort(comms[rank]); /* those that were started wait for it */
        gdncp_comm_destroy(comms[rank]);
    }
    for (int rank = 0; rank < started; rank++) {
        pthread_join(threads[rank].thread, NULL);
        result = result != 0 || threads[rank].result != 0;
    }
    return started == ranks ? result : 1;
}

int comm_launch(const comm_program_t *program)
{
    int rank = 0;
    int size = 1;
    const gdncp_status_t status = gdncp_environment_rank(&rank, &size);

    if (status != GDNCP_OK) {
        return comm_say(-1, status, 0);
    }
    if (size > 1) {
        return run_launched(program, rank);
    }
    return program->options.threads ? run_threads(program) : run_processes(program);
}
