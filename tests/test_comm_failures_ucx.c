/* Every operation, with one rank that dies, stops or aborts in every phase of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>

#include "comm_operations.h"
#include "deadline.h"
#include "failure_case.h"
#include "forked_ranks.h"
#include "leftovers.h"
#include "queued_time.h"
#include "random.h"
#include "rank_output.h"

#define SIZE 3

static shared_t *shared_of_victim; /* for its signal handler */

static void commit_fault(shared_t *shared)
{
    shared->queued_ms = -own_queued_ms(); /* finish_case() adds what it is at the end */
    shared->fault_ms = gdncp_now_ms();
    raise(shared->test.fault == FAULT_KILL ? SIGKILL : SIGSTOP);
}

static void on_alarm(int number)
{
    (void)number;
    commit_fault(shared_of_victim);
}

/* An abort is no call for a signal handler; it may come from any thread. */
typedef struct aborting {
    pthread_t thread;
    shared_t *shared;
    gdncp_comm_t *comm;
    int64_t delay_us;
} aborting_t;

static void commit_abort(shared_t *shared, gdncp_comm_t *comm)
{
    const int64_t queued_ms = own_queued_ms();

    shared->fault_ms = gdncp_now_ms();
    gdncp_comm_abort(comm);
    shared->queued_ms = own_queued_ms() - queued_ms;
}

static void *abort_later(void *context)
{
    const aborting_t *const aborting = context;

    nanosleep(&(struct timespec){.tv_nsec = aborting->delay_us * 1000}, NULL);
    commit_abort(aborting->shared, aborting->comm);
    return NULL;
}

static void set_alarm(int64_t delay_us)
{
    const struct itimerval timer = {.it_value = {.tv_usec = delay_us}};

    signal(SIGALRM, on_alarm);
    setitimer(ITIMER_REAL, &timer, NULL);
}

static void fail_later(shared_t *shared, gdncp_comm_t *comm, int64_t delay_us, aborting_t *aborting)
{
    if (shared->test.fault == FAULT_ABORT) {
        *aborting = (aborting_t){.shared = shared, .comm = comm, .delay_us = delay_us};
        pthread_create(&aborting->thread, NULL, abort_later, aborting);
    } else {
        set_alarm(delay_us);
    }
}

static void fail_now(shared_t *shared, gdncp_comm_t *comm)
{
    if (shared->test.fault == FAULT_ABORT) {
        commit_abort(shared, comm);
    } else {
        commit_fault(shared);
    }
}

/* Run the operation until it fails, as it must: once well, then with the fault. */
static gdncp_status_t run_until_failure(shared_t *shared, outcome_t *outcome,
                                        operation_t *operation)
{
    const failure_case_t *const test = &shared->test;
    const int rank = gdncp_comm_rank(operation->comm);
    const bool is_victim = rank == test->victim;
    test_random_t random = {.state = test->seed};
    const int64_t middle_us = test_random_int(&random, 1, 4000);
    gdncp_status_t status = GDNCP_OK;
    aborting_t aborting = {0};

    for (int round = 0; status == GDNCP_OK; round++) {
        shared->num_ready += round == 1;
        while (round == 1 && is_victim && shared->num_ready < test->size) {
            sched_yield(); /* all have done it once */
        }
        if (round == 1 && is_victim) {
            if (test->phase == PHASE_BEFORE) {
                fail_now(shared, operation->comm);
            } else if (test->phase != PHASE_BETWEEN) {
                fail_later(shared, operation->comm, test->phase == PHASE_MIDDLE ? middle_us : 5000,
                           &aborting);
            }
        }
        if (round == 1 && test->phase == PHASE_WAIT && rank == (test->victim + 1) % test->size) {
            nanosleep(&(struct timespec){.tv_nsec = 15000000}, NULL);
        }
        if (round <= 1) {
            outcome->queued_ms = -own_queued_ms(); /* keep_outcome() adds what it is then */
        }
        status = start_operation(operation);
        if (round == 1 && is_victim && test->phase == PHASE_BETWEEN && status == GDNCP_OK) {
            fail_now(shared, operation->comm);
        }
        if (status == GDNCP_OK) {
            status = wait_operation(operation);
        }
    }
    if (aborting.shared != NULL) {
        pthread_join(aborting.thread, NULL);
    }
    return status;
}

static void keep_outcome(shared_t *shared, outcome_t *outcome, gdncp_status_t status)
{
    outcome->status = status;
    outcome->told_after_ms = gdncp_now_ms() - shared->fault_ms;
    outcome->queued_ms += own_queued_ms();
    outcome->has_told = true;
    snprintf(outcome->sentence, sizeof outcome->sentence, "%s", gdncp_last_error());
}

static void note(outcome_t *outcome, const char *what)
{
    if (outcome->problem[0] == '\0') {
        snprintf(outcome->problem, sizeof outcome->problem, "%s: %s", what, gdncp_last_error());
    }
}

/* Go on with those that are left, until no more than size of them are. */
static void shrink_and_go_on(outcome_t *outcome, gdncp_comm_t *comm, int size)
{
    for (;;) {
        gdncp_comm_t *survivors = NULL;
        gdncp_status_t status;

        if (gdncp_comm_shrink(comm, &survivors) != GDNCP_OK) {
            note(outcome, "shrink");
            gdncp_comm_destroy(comm);
            return;
        }
        gdncp_comm_destroy(comm);
        comm = survivors;
        do {
            status = move_tokens(comm, &outcome->tokens_are_right);
        } while (status == GDNCP_OK && gdncp_comm_size(comm) > size);
        if (status == GDNCP_OK) {
            break;
        }
    }
    outcome->new_size = gdncp_comm_size(comm);
    if (gdncp_comm_barrier(comm) != GDNCP_OK) {
        note(outcome, "barrier of the survivors");
    }
    gdncp_comm_destroy(comm);
}

static void play_operation(shared_t *shared, gdncp_comm_t *comm, outcome_t *outcome)
{
    const failure_case_t *const test = &shared->test;
    operation_t operation;

    if (make_operation(&operation, comm, test->kind, test->transposed,
                       test->phase == PHASE_MIDDLE) != GDNCP_OK) {
        note(outcome, "making the operation");
    } else {
        keep_outcome(shared, outcome, run_until_failure(shared, outcome, &operation));
    }
    free_operation(&operation);
    shrink_and_go_on(outcome, comm, test->size - num_dead(test));
}

/* The last rank but the victim is dead when the others shrink; the victim dies meanwhile. */
static void play_shrink(shared_t *shared, gdncp_comm_t *comm, outcome_t *outcome)
{
    const int first = shared->test.victim == shared->test.size - 1 ? 0 : shared->test.size - 1;
    const int rank = gdncp_comm_rank(comm);
    test_random_t random = {.state = shared->test.seed};
    /* The first dies as soon as it is through, which others may hear of in this very barrier. */
    gdncp_status_t status = gdncp_comm_barrier(comm);

    if (rank == first) {
        raise(SIGKILL);
    }
    while (status == GDNCP_OK) {
        status = gdncp_comm_barrier(comm);
    }
    if (rank == shared->test.victim) {
        shared_of_victim = shared;
        set_alarm(test_random_int(&random, 1, 30000));
    }
    shrink_and_go_on(outcome, comm, shared->test.size - num_dead(&shared->test));
}

static int play(const gdncp_bootstrap_t *bootstrap, void *context)
{
    shared_t *const shared = context;
    outcome_t *const outcome = &shared->outcomes[bootstrap->rank];
    const gdncp_comm_options_t options = {.timeout_ms =
                                              shared->test.fault == FAULT_STOP ? STOP_MS : LONG_MS};
    gdncp_comm_t *comm = NULL;

    if (shared->test.scene != SCENE_OPERATION || shared->test.kind == OPERATION_SPLIT) {
        /* A kill may leave shared memory that UCX is just making: of this kind find_segments() can
         * tell whose it is. */
        setenv("UCX_TLS", shared->test.over_tcp ? "tcp,self" : "sysv,cma,self", 1);
    }
    /* UCX complains of connections that break. */
    write_to_rank_output(shared->outputs[bootstrap->rank]);
    shared_of_victim = shared;
    if (shared->test.scene == SCENE_CREATE && bootstrap->rank == shared->test.victim) {
        test_random_t random = {.state = shared->test.seed};

        set_alarm(test_random_int(&random, 1, 30000));
    }
    outcome->queued_ms = -own_queued_ms();
    gdncp_status_t status = gdncp_comm_create(bootstrap, &options, &comm);
    if (shared->test.scene == SCENE_CREATE) {
        /* The victim may have been quicker. */
        while (status == GDNCP_OK) {
            status = gdncp_comm_barrier(comm);
        }
        keep_outcome(shared, outcome, status);
        gdncp_comm_destroy(comm);
    } else if (status != GDNCP_OK) {
        note(outcome, "creation");
    } else if (shared->test.scene == SCENE_SHRINK) {
        play_shrink(shared, comm, outcome);
    } else {
        play_operation(shared, comm, outcome);
    }
    outcome->is_done = true;
    return 0;
}

typedef struct running {
    forked_ranks_t ranks;
    shared_t *shared;
} running_t;

static void start_case(running_t *running, const failure_case_t *test)
{
    running->shared = mmap(NULL, sizeof *running->shared, PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(running->shared != MAP_FAILED);
    running->shared->test = *test;
    for (int rank = 0; rank < test->size; rank++) {
        running->shared->outputs[rank] = open_rank_output();
    }
    start_forked(&running->ranks, test->size, play, running->shared);
}

typedef struct tally {
    int num_cases;
    int num_wrong;
    int num_segments;
    int num_of_killed; /* segments too */
    int num_spoilt;    /* cases */
    int64_t longest_ms[NUM_FAULTS];
} tally_t;

/* UCX ends a process over TCP by an assertion of its own, once in some thousand deaths of others:
 * docs/debugging.md. What is left to see is then another case. */
static bool is_spoilt(const running_t *running)
{
    for (int rank = 0; rank < running->shared->test.size; rank++) {
        const int status = running->ranks.statuses[rank];

        if (running->shared->test.over_tcp && WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT) {
            const char *const text = read_rank_output(running->shared->outputs[rank]);

            printf("%s: rank %d was ended by UCX: %s\n", describe_case(&running->shared->test),
                   rank, text);
            return strstr(text, "Assertion") != NULL;
        }
    }
    return false;
}

/* What every survivor tells. */
static void judge_case(const running_t *running, tally_t *tally)
{
    const failure_case_t *const test = &running->shared->test;
    const int also_dead = test->scene != SCENE_SHRINK      ? -1
                          : test->victim == test->size - 1 ? 0
                                                           : test->size - 1;

    for (int rank = 0; rank < test->size; rank++) {
        const outcome_t *const outcome = &running->shared->outcomes[rank];

        if ((rank == test->victim && test->fault != FAULT_ABORT) || rank == also_dead) {
            continue;
        }
        const char *const wrong = judge(running->shared, outcome);

        if (wrong != NULL) {
            tally->num_wrong++;
            printf("%s: rank %d: %s: %s after %lld ms, %lld and %lld without a core: \"%s\", "
                   "new size %d; exit 0x%x; %s\n%s",
                   describe_case(test), rank, wrong, gdncp_status_string(outcome->status),
                   (long long)outcome->told_after_ms, (long long)outcome->queued_ms,
                   (long long)running->shared->queued_ms, outcome->sentence, outcome->new_size,
                   (unsigned)running->ranks.statuses[rank], outcome->problem,
                   read_rank_output(running->shared->outputs[rank]));
        }
        if (outcome->has_told && outcome->told_after_ms > tally->longest_ms[test->fault]) {
            tally->longest_ms[test->fault] = outcome->told_after_ms;
        }
    }
}

static void finish_case(running_t *running, tally_t *tally)
{
    const failure_case_t *const test = &running->shared->test;

    if (test->fault != FAULT_ABORT) {
        char path[64];

        waitid(P_PID, (id_t)running->ranks.pids[test->victim], &(siginfo_t){0},
               WEXITED | WSTOPPED | WNOWAIT);
        snprintf(path, sizeof path, "/proc/%d/schedstat", (int)running->ranks.pids[test->victim]);
        running->shared->queued_ms += read_queued_ms(path);
    }
    for (int rank = 0; rank < test->size; rank++) {
        if (test->fault != FAULT_STOP || rank != test->victim) {
            waitpid(running->ranks.pids[rank], &running->ranks.statuses[rank], 0);
        }
    }
    if (test->fault == FAULT_STOP) {
        kill(running->ranks.pids[test->victim], SIGKILL);
        waitpid(running->ranks.pids[test->victim], NULL, 0);
    }
    tally->num_cases++;
    for (int rank = 0; rank < test->size; rank++) {
        /* Also in the midst of an operation UCX makes shared memory and marks it a moment later as
         * to go with its last user; what a kill between the two leaves is nobody's to remove. */
        const bool is_killed = rank == test->victim && test->fault != FAULT_ABORT;
        const int num_left = find_segments(&running->ranks.pids[rank], 1, true);

        tally->num_segments += is_killed ? 0 : num_left;
        tally->num_of_killed += is_killed ? num_left : 0;
    }
    if (is_spoilt(running)) {
        tally->num_spoilt++;
    } else {
        judge_case(running, tally);
    }
    for (int rank = 0; rank < test->size; rank++) {
        fclose(running->shared->outputs[rank]);
    }
    munmap(running->shared, sizeof *running->shared);
}

/* Several at a time: most of a case is waiting. */
static void run_cases(const failure_case_t *tests, int count, int at_a_time)
{
    const int num_posix = count_files("/dev/shm");
    const int64_t begin_ms = gdncp_now_ms();
    running_t running[8];
    tally_t tally = {0};

    for (int first = 0; first < count; first += at_a_time) {
        const int num = count - first < at_a_time ? count - first : at_a_time;

        for (int i = 0; i < num; i++) {
            start_case(&running[i], &tests[first + i]);
        }
        for (int i = 0; i < num; i++) {
            finish_case(&running[i], &tally);
        }
    }
    printf("%d cases in %.1f s; told after at most: a kill %lld ms, an abort %lld ms, "
           "a stop %lld ms\n",
           tally.num_cases, (double)(gdncp_now_ms() - begin_ms) * 1e-3,
           (long long)tally.longest_ms[FAULT_KILL], (long long)tally.longest_ms[FAULT_ABORT],
           (long long)tally.longest_ms[FAULT_STOP]);
    if (tally.num_of_killed > 0) {
        printf("%d segments were left by kills while UCX made them\n", tally.num_of_killed);
    }
    assert_int_equal(tally.num_wrong, 0);
    assert_true(tally.num_spoilt <= 1);
    assert_int_equal(tally.num_segments, 0);
    assert_true(tally.num_of_killed <= 2 + tally.num_cases / 20);
    assert_true(shrinks_to("/dev/shm", num_posix));
}

/* All operations and phases of one fault, each with one victim, or with all three. */
static int list_operations(failure_case_t *tests, fault_t fault, bool all_victims,
                           test_random_t *random)
{
    int count = 0;

    for (int kind = 0; kind < NUM_OPERATIONS; kind++) {
        for (int transposed = 0; transposed < (kind < NUM_PLAN_OPERATIONS ? 2 : 1); transposed++) {
            for (int phase = 0; phase < NUM_PHASES; phase++) {
                if (phase == PHASE_BETWEEN && kind >= NUM_PLAN_OPERATIONS) {
                    continue;
                }
                for (int victim = 0; victim < SIZE; victim++) {
                    if (!all_victims && (kind + transposed + phase) % SIZE != victim) {
                        continue;
                    }
                    tests[count++] = (failure_case_t){.kind = (operation_kind_t)kind,
                                                      .transposed = transposed == 1,
                                                      .phase = (phase_t)phase,
                                                      .fault = fault,
                                                      .victim = victim,
                                                      .size = SIZE,
                                                      .seed = test_random_u64(random)};
                }
            }
        }
    }
    return count;
}

/* Sanitizers make a case slow, and look for other faults. */
#if defined(__SANITIZE_ADDRESS__)
enum { MAX_CASES = 256, ALL_VICTIMS = false, EACH_STOP = 8 };
#else
enum { MAX_CASES = 256, ALL_VICTIMS = true, EACH_STOP = 4 };
#endif

static void kills_are_survived(void **state)
{
    test_random_t random = test_random_start("kills_are_survived", 20268);
    failure_case_t tests[MAX_CASES];

    (void)state;
    run_cases(tests, list_operations(tests, FAULT_KILL, ALL_VICTIMS, &random), 3);
}

static void aborts_are_survived(void **state)
{
    test_random_t random = test_random_start("aborts_are_survived", 20269);
    failure_case_t tests[MAX_CASES];

    (void)state;
    run_cases(tests, list_operations(tests, FAULT_ABORT, false, &random), 3);
}

static void stops_are_survived(void **state)
{
    test_random_t random = test_random_start("stops_are_survived", 20270);
    failure_case_t tests[MAX_CASES];
    const int count = list_operations(tests, FAULT_STOP, false, &random);

    (void)state;
    for (int i = 0; i < count / EACH_STOP; i++) {
        tests[i] = tests[EACH_STOP * i + i % EACH_STOP];
    }
    run_cases(tests, count / EACH_STOP, 7);
}

static void deaths_in_creation_and_shrinking_are_survived(void **state)
{
    test_random_t random = test_random_start("deaths_in_creation_and_shrinking", 20271);
    failure_case_t tests[MAX_CASES];
    int count = 0;

    (void)state;
    for (int repeat = 0; repeat < 8; repeat++) {
        for (int i = 0; i < 6; i++) {
            const scene_t scene = i % 2 == 0 ? SCENE_CREATE : SCENE_SHRINK;

            tests[count++] = (failure_case_t){.scene = scene,
                                              .size = scene == SCENE_SHRINK ? MAX_SIZE : SIZE,
                                              .victim = i < 2                   ? 0
                                                        : i < 4                 ? 1
                                                        : scene == SCENE_SHRINK ? MAX_SIZE - 1
                                                                                : SIZE - 1,
                                              .over_tcp = repeat % 2 == 1,
                                              .seed = test_random_u64(&random)};
        }
    }
    run_cases(tests, count, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kills_are_survived),
        cmocka_unit_test(aborts_are_survived),
        cmocka_unit_test(stops_are_survived),
        cmocka_unit_test(deaths_in_creation_and_shrinking_are_survived),
    };

    return cmocka_run_group_tests_name("failures_ucx", tests, NULL, NULL);
}
