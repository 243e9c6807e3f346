/* Ranks that are child processes, and their supervision. */
#define _GNU_SOURCE /* memfd_create */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "cores.h"
#include "device.h"
#include "launch.h"
#include "summary.h"

/* What the others get, after a rank has failed, to see it and say so. */
#define GRACE_NS INT64_C(2000000000)

typedef struct family {
    const run_setup_t *setup;
    gdncp_fork_group_t *group;
    run_outcome_t *outcomes;   /* [ranks], shared with the children */
    int report;                /* a file in memory that rank 0 writes */
    sigset_t handled;          /* signals the parent waits for */
    sigset_t before;           /* the mask the children get back */
    pid_t pids[RUN_MAX_RANKS]; /* 0: ended, or never started */
    bool failed;
    int64_t kill_ns;          /* when the rest is killed, once a rank has failed */
    bool late[RUN_MAX_RANKS]; /* killed then */
} family_t;

static void tell(run_outcome_t *outcome, gdncp_status_t status, const char *sentence)
{
    outcome->status = status;
    snprintf(outcome->sentence, sizeof outcome->sentence, "%s", sentence);
}

static _Noreturn void run_child(family_t *family, int index, pid_t parent)
{
    run_rank_t rank = {.setup = family->setup};
    run_outcome_t *const outcome = &family->outcomes[index];
    gdncp_bootstrap_t bootstrap;

    /* No rank outlives the parent, even one that is killed before the call. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(1);
    }
    sigprocmask(SIG_SETMASK, &family->before, NULL);
    run_device_choose(family->setup->options->device, index);
    rank.report = fdopen(family->report, "w");

    gdncp_status_t status = rank.report != NULL ? run_bind_process(index, family->setup->ranks)
                                                : GDNCP_ERR_OUT_OF_MEMORY;
    if (status == GDNCP_OK) {
        status = gdncp_fork_group_join(family->group, index, &bootstrap);
    }
    if (status == GDNCP_OK) {
        status = gdncp_comm_create(&bootstrap, NULL, &rank.comm);
    }
    if (status == GDNCP_OK) {
        run_launch_rank(&rank, outcome);
    } else {
        tell(outcome, status, run_last_error());
    }
    gdncp_fork_group_destroy(family->group);
    if (rank.report != NULL && fclose(rank.report) != 0 && outcome->status == GDNCP_OK) {
        tell(outcome, GDNCP_ERR_IO, "the report could not be written");
    }
    exit(outcome->status == GDNCP_OK ? 0 : 1);
}

static void kill_all(const family_t *family)
{
    for (int r = 0; r < family->setup->ranks; r++) {
        if (family->pids[r] > 0) {
            kill(family->pids[r], SIGKILL);
        }
    }
}

static void note_end(family_t *family, int r, int wait_status)
{
    run_outcome_t *const outcome = &family->outcomes[r];

    family->pids[r] = 0;
    if (WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0) {
        return;
    }
    if (!family->failed) {
        family->failed = true;
        family->kill_ns = run_clock_ns() + GRACE_NS;
    }
    if (outcome->sentence[0] != '\0') {
        return;
    }
    outcome->status = GDNCP_ERR_PEER_LOST;
    if (family->late[r]) {
        snprintf(outcome->sentence, sizeof outcome->sentence,
                 "stopped, as another rank had failed");
    } else if (WIFSIGNALED(wait_status)) {
        snprintf(outcome->sentence, sizeof outcome->sentence, "died of signal %d (%s)",
                 WTERMSIG(wait_status), strsignal(WTERMSIG(wait_status)));
    } else {
        snprintf(outcome->sentence, sizeof outcome->sentence, "ended with status %d",
                 WEXITSTATUS(wait_status));
    }
}

/* Take note of the children that have ended. Returns the number of those that have not. */
static int reap(family_t *family)
{
    int left = 0;

    for (int r = 0; r < family->setup->ranks; r++) {
        int wait_status;

        if (family->pids[r] <= 0) {
            continue;
        }
        if (waitpid(family->pids[r], &wait_status, WNOHANG) == family->pids[r]) {
            note_end(family, r, wait_status);
        } else {
            left++;
        }
    }
    return left;
}

/* Sleep until a child ends, a signal comes or it is time to kill. Returns the signal, or 0. */
static int wait_for_signal(const family_t *family)
{
    struct timespec timeout = {.tv_sec = 3600};

    if (family->failed) {
        const int64_t left = family->kill_ns - run_clock_ns();
        const int64_t ns = left > 0 ? left : 0;

        timeout = (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    }
    const int signal = sigtimedwait(&family->handled, NULL, &timeout);
    return signal > 0 ? signal : 0;
}

/* End as a process that did not handle the signal would, once all children are gone. */
static _Noreturn void die_of(family_t *family, int signal_number)
{
    kill_all(family);
    for (int r = 0; r < family->setup->ranks; r++) {
        if (family->pids[r] > 0) {
            waitpid(family->pids[r], NULL, 0);
        }
    }
    sigprocmask(SIG_SETMASK, &family->before, NULL);
    signal(signal_number, SIG_DFL);
    raise(signal_number);
    _exit(1);
}

static void supervise(family_t *family)
{
    while (reap(family) > 0) {
        const int signal = wait_for_signal(family);

        if (signal != 0 && signal != SIGCHLD) {
            die_of(family, signal);
        }
        if (family->failed && run_clock_ns() >= family->kill_ns) {
            for (int r = 0; r < family->setup->ranks; r++) {
                family->late[r] = family->pids[r] > 0;
            }
            kill_all(family);
            /* The killed ones are gone in a moment. */
            family->kill_ns = run_clock_ns() + GRACE_NS;
        }
    }
}

static void start(family_t *family)
{
    const pid_t parent = getpid();

    for (int r = 0; r < family->setup->ranks && !family->failed; r++) {
        const pid_t pid = fork();

        if (pid == 0) {
            run_child(family, r, parent);
        }
        if (pid < 0) {
            char sentence[128];

            snprintf(sentence, sizeof sentence, "no process could be started: %s", strerror(errno));
            tell(&family->outcomes[r], GDNCP_ERR_OUT_OF_MEMORY, sentence);
            family->failed = true;
            family->kill_ns = run_clock_ns();
        } else {
            family->pids[r] = pid;
        }
    }
}

static gdncp_status_t copy_report(int report)
{
    char buffer[65536];
    off_t offset = 0;
    ssize_t count;

    while ((count = pread(report, buffer, sizeof buffer, offset)) > 0) {
        fwrite(buffer, 1, (size_t)count, stdout);
        offset += count;
    }
    if (count < 0 || fflush(stdout) != 0) {
        return run_fail(GDNCP_ERR_IO, "the report could not be printed");
    }
    return GDNCP_OK;
}

static gdncp_status_t prepare(family_t *family)
{
    const size_t bytes = (size_t)family->setup->ranks * sizeof *family->outcomes;

    family->report = memfd_create("gdncp-run report", MFD_CLOEXEC);
    if (family->report < 0) {
        return run_fail(GDNCP_ERR_OUT_OF_MEMORY, "no memory file could be made: %s",
                        strerror(errno));
    }
    void *const shared =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        close(family->report);
        return run_fail(GDNCP_ERR_OUT_OF_MEMORY, "out of memory: ranks");
    }
    family->outcomes = shared;
    const gdncp_status_t status = gdncp_fork_group_create(family->setup->ranks, &family->group);
    if (status != GDNCP_OK) {
        munmap(shared, bytes);
        close(family->report);
    }
    return status;
}

static void block_signals(family_t *family)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};

    /* Ignored, it would take the children's status away. */
    signal(SIGCHLD, SIG_DFL);
    sigemptyset(&family->handled);
    sigaddset(&family->handled, SIGCHLD);
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        struct sigaction action;

        /* nohup and a shell's background jobs ignore some: that stands. */
        if (sigaction(signals[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN) {
            sigaddset(&family->handled, signals[i]);
        }
    }
    sigprocmask(SIG_BLOCK, &family->handled, &family->before);
}

int run_launch_processes(const run_setup_t *setup)
{
    family_t family = {.setup = setup};
    int exit_status = 1;
    gdncp_status_t status = prepare(&family);

    if (status != GDNCP_OK) {
        run_print_error(-1, status, run_last_error());
        return 1;
    }
    block_signals(&family);
    start(&family);
    gdncp_fork_group_destroy(family.group);
    supervise(&family);
    sigprocmask(SIG_SETMASK, &family.before, NULL);
    if (family.failed) {
        run_print_failures(setup, family.outcomes);
    } else if (copy_report(family.report) == GDNCP_OK) {
        exit_status = family.outcomes[0].ok ? 0 : 1;
    } else {
        run_print_error(-1, GDNCP_ERR_IO, run_last_error());
    }
    munmap(family.outcomes, (size_t)setup->ranks * sizeof *family.outcomes);
    close(family.report);
    return exit_status;
}
