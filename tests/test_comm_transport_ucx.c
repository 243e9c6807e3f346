#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>

#include "conformance_transport.h"
#include "forked_ranks.h"
#include "leftovers.h"
#include "ucx_internal.h"

static gdncp_comm_t *create(const gdncp_bootstrap_t *bootstrap, int64_t timeout_ms)
{
    const gdncp_comm_options_t options = {.timeout_ms = timeout_ms};
    gdncp_comm_t *comm = NULL;

    if (gdncp_comm_create(bootstrap, &options, &comm) != GDNCP_OK) {
        printf("rank %d: %s\n", bootstrap->rank, gdncp_last_error());
        fflush(stdout);
        _exit(98);
    }
    return comm;
}

static int conformance_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    int num_failures = 0;

    for (int i = 0; i < NUM_CONFORMANCE_CASES; i++) {
        const conformance_case_t *const test = &conformance_cases[i];
        gdncp_comm_t *const comm = create(bootstrap, 0);

        if (test->timeout_ms > 0) {
            comm->timeout_ms = test->timeout_ms;
        }
        num_failures += run_conformance_case(test, comm, *(const uint64_t *)context);
        gdncp_comm_destroy(comm);
    }
    return num_failures > 0;
}

/* What the two standard streams were. */
typedef struct streams {
    int out;
    int err;
} streams_t;

/* UCX writes its warnings to stdout. */
static streams_t redirect_streams(int fd)
{
    fflush(NULL);
    const streams_t saved = {.out = dup(STDOUT_FILENO), .err = dup(STDERR_FILENO)};

    dup2(fd, STDOUT_FILENO);
    dup2(fd, STDERR_FILENO);
    return saved;
}

static void restore_streams(streams_t saved)
{
    fflush(NULL);
    dup2(saved.out, STDOUT_FILENO);
    dup2(saved.err, STDERR_FILENO);
    close(saved.out);
    close(saved.err);
}

/* For what makes UCX complain. */
static streams_t silence_streams(void)
{
    const int nothing = open("/dev/null", O_WRONLY);
    const streams_t saved = redirect_streams(nothing);

    close(nothing);
    return saved;
}

/* Run with what is said captured; the number of bytes, which are then shown. No process may leave
 * shared memory behind. */
static long run_captured(int size, forked_body_t *body, void *context, int *num_failed)
{
    FILE *const captured = tmpfile();
    forked_ranks_t ranks;

    assert_non_null(captured);
    const streams_t saved = redirect_streams(fileno(captured));
    start_forked(&ranks, size, body, context);
    *num_failed = finish_forked(&ranks) + count_segments(ranks.pids, ranks.size);
    restore_streams(saved);
    const long num_said = lseek(fileno(captured), 0, SEEK_END);
    rewind(captured);
    for (int byte = fgetc(captured); byte != EOF; byte = fgetc(captured)) {
        putchar(byte);
    }
    fclose(captured);
    return num_said;
}

/* Also: UCX says nothing and leaves no shared memory behind. */
static void conforms(void **state)
{
    test_random_t random = test_random_start("transport_ucx", 20263);
    const int num_posix = count_files("/dev/shm");

    (void)state;
    for (int size = 1; size <= 4; size++) {
        int num_failed = -1;

        assert_int_equal(run_captured(size, conformance_body, &random.state, &num_failed), 0);
        assert_int_equal(num_failed, 0);
    }
    assert_true(shrinks_to("/dev/shm", num_posix));
}

static bool is_shared_memory(const char *lanes)
{
    return strstr(lanes, "posix/") != NULL || strstr(lanes, "sysv/") != NULL ||
           strstr(lanes, "xpmem/") != NULL || strstr(lanes, "cma/") != NULL;
}

static int lanes_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    gdncp_comm_t *const comm = create(bootstrap, 0);
    char lanes[256] = "";

    (void)context;
    const bool told =
        gdncp_comm_describe_lanes(comm, 1 - bootstrap->rank, lanes, sizeof lanes) == GDNCP_OK;
    const bool is_ucx = gdncp_comm_transport(comm) == GDNCP_TRANSPORT_UCX;
    gdncp_comm_destroy(comm);
    printf("lanes: %s\n", lanes);
    return !(told && is_ucx && is_shared_memory(lanes) && strstr(lanes, "tcp") == NULL);
}

static void processes_of_one_machine_share_memory(void **state)
{
    (void)state;
    assert_int_equal(run_forked(2, lanes_body, NULL), 0);
}

static int tcp_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    char lanes[256] = "";

    gdncp_comm_t *const comm = create(bootstrap, 0);
    const bool told =
        gdncp_comm_describe_lanes(comm, 1 - bootstrap->rank, lanes, sizeof lanes) == GDNCP_OK;
    gdncp_comm_destroy(comm);
    if (!told || strstr(lanes, "tcp/") == NULL || is_shared_memory(lanes)) {
        printf("lanes: %s\n", lanes);
        return 1;
    }
    return conformance_body(bootstrap, context);
}

static void conforms_over_tcp(void **state)
{
    test_random_t random = test_random_start("transport_ucx over tcp", 20264);
    int num_failed = -1;

    (void)state;
    setenv("UCX_TLS", "tcp,self", 1);
    const long num_said = run_captured(2, tcp_body, &random.state, &num_failed);
    unsetenv("UCX_TLS");
    assert_int_equal(num_said, 0);
    assert_int_equal(num_failed, 0);
}

/* Rank 2 dies while the others wait for it; rank 1 with a send that is not yet taken. */
static int killed_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    enum { BYTES = 4 << 20 };
    gdncp_comm_t *const comm = create(bootstrap, 30000);
    conformance_t c = {.comm = comm, .rank = bootstrap->rank, .size = bootstrap->size};
    unsigned char *const bytes = poisoned(BYTES);
    gdncp_group_t *group = NULL;

    (void)context;
    expect_ok(&c, gdncp_comm_barrier(comm), "barrier");
    if (c.rank == 2) {
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
        raise(SIGKILL);
    }
    const int64_t begin = gdncp_now_ms();
    expect_ok(&c, gdncp_comm_group_create(comm, 1, &group), "create");
    expect_ok(&c, gdncp_comm_group_begin(comm, group), "begin");
    if (c.rank == 0) {
        expect_ok(&c, gdncp_comm_recv(comm, group, bytes, BYTES, 2), "recv");
    } else {
        expect_ok(&c, gdncp_comm_send(comm, group, bytes, BYTES, 2), "send");
    }
    expect_ok(&c, gdncp_comm_group_end(comm, group, NULL), "end");
    expect_error(&c, gdncp_comm_group_wait(comm, group), GDNCP_ERR_PEER_LOST, "rank 2",
                 "a wait for a dead rank");
    expect(&c, gdncp_now_ms() - begin < 3000, "a death is noticed soon");
    gdncp_comm_group_destroy(comm, group);
    free(bytes);
    gdncp_comm_destroy(comm);
    expect(&c, gdncp_now_ms() - begin < 5000, "destroying is quick though a peer is dead");
    if (c.num_failures > 0) {
        printf("rank %d: %s\n", c.rank, c.first_failure);
    }
    return c.num_failures > 0;
}

static void death_of_a_peer_is_told(void **state)
{
    forked_ranks_t ranks;

    (void)state;
    start_forked(&ranks, 3, killed_body, NULL);
    assert_int_equal(finish_forked(&ranks), 1);
    assert_true(WIFSIGNALED(ranks.statuses[2]));
}

/* Rank 1 sends and is gone before rank 0 looks; where a context is given, without a good-bye. */
static int leaving_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    enum { NUM = 3 };
    static const size_t sizes[NUM] = {8, 3000, 6000};
    gdncp_comm_t *const comm = create(bootstrap, 5000);
    conformance_t c = {.comm = comm, .rank = bootstrap->rank, .size = bootstrap->size};
    unsigned char *messages[NUM];
    gdncp_group_t *group = NULL;

    /* Both have made their communicator. */
    expect_ok(&c, gdncp_comm_barrier(comm), "barrier");
    expect_ok(&c, gdncp_comm_group_create(comm, NUM, &group), "create");
    expect_ok(&c, gdncp_comm_group_begin(comm, group), "begin");
    for (int i = 0; i < NUM; i++) {
        messages[i] = poisoned(sizes[i]);
        if (c.rank == 0) {
            expect_ok(&c, gdncp_comm_recv(comm, group, messages[i], sizes[i], 1), "recv");
        } else {
            fill_message(&c, messages[i], sizes[i], 1, 0, i);
            expect_ok(&c, gdncp_comm_send(comm, group, messages[i], sizes[i], 0), "send");
        }
    }
    if (c.rank == 0) {
        nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
    }
    expect_ok(&c, gdncp_comm_group_end(comm, group, NULL), "end");
    expect_ok(&c, gdncp_comm_group_wait(comm, group), "wait");
    if (context != NULL && c.rank == 1) {
        raise(SIGKILL);
    }
    for (int i = 0; i < NUM; i++) {
        expect(&c, is_message(&c, messages[i], sizes[i], 1, 0, i), "last words");
        free(messages[i]);
    }
    expect(&c, c.rank == 1 || gdncp_comm_barrier(comm) == GDNCP_ERR_PEER_LOST, "no more words");
    gdncp_comm_group_destroy(comm, group);
    gdncp_comm_destroy(comm);
    if (c.num_failures > 0) {
        printf("leaving, rank %d: %s\n", c.rank, c.first_failure);
    }
    return c.num_failures > 0;
}

static void last_words_arrive(void **state)
{
    (void)state;
    assert_int_equal(run_forked(2, leaving_body, NULL), 0);
    assert_int_equal(run_forked(2, leaving_body, "dies"), 1);
    setenv("UCX_TLS", "tcp,self", 1);
    assert_int_equal(run_forked(2, leaving_body, NULL), 0);
    assert_int_equal(run_forked(2, leaving_body, "dies"), 1);
    unsetenv("UCX_TLS");
}

/* A small message that rank 1 never asks for. */
static int unread_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    gdncp_comm_t *const comm = create(bootstrap, 5000);
    char message[100] = {0};
    char all[2];
    gdncp_group_t *group = NULL;
    int num_failed = 0;

    (void)context;
    if (bootstrap->rank == 0) {
        num_failed += gdncp_comm_group_create(comm, 1, &group) != GDNCP_OK;
        num_failed += gdncp_comm_group_begin(comm, group) != GDNCP_OK;
        num_failed += gdncp_comm_send(comm, group, message, sizeof message, 1) != GDNCP_OK;
        num_failed += gdncp_comm_group_end(comm, group, NULL) != GDNCP_OK;
        num_failed += gdncp_comm_group_wait(comm, group) != GDNCP_OK;
        gdncp_comm_group_destroy(comm, group);
    }
    num_failed += bootstrap->all_gather(bootstrap->context, message, all, 1) != 0;
    gdncp_comm_destroy(comm);
    return num_failed;
}

static void unread_messages_are_dropped(void **state)
{
    int num_failed = -1;

    (void)state;
    assert_int_equal(run_captured(2, unread_body, NULL, &num_failed), 0);
    assert_int_equal(num_failed, 0);
}

/* Rank 1 hangs while rank 0 has a large message for it. */
static int hanging_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    enum { BYTES = 4 << 20 };
    gdncp_comm_t *const comm = create(bootstrap, 0);
    conformance_t c = {.comm = comm, .rank = bootstrap->rank, .size = bootstrap->size};

    (void)context;
    comm->timeout_ms = 300;
    if (c.rank == 1) {
        raise(SIGSTOP);
        return 0;
    }
    unsigned char *const bytes = poisoned(BYTES);
    gdncp_group_t *group = NULL;
    const int64_t begin = gdncp_now_ms();
    expect_ok(&c, gdncp_comm_group_create(comm, 2, &group), "create");
    expect_ok(&c, gdncp_comm_group_begin(comm, group), "begin");
    expect_ok(&c, gdncp_comm_send(comm, group, bytes, BYTES, 1), "send");
    expect_ok(&c, gdncp_comm_recv(comm, group, bytes, 1, 1), "recv");
    expect_ok(&c, gdncp_comm_group_end(comm, group, NULL), "end");
    expect_error(&c, gdncp_comm_group_wait(comm, group), GDNCP_ERR_TIMEOUT, "rank 1", "wait");
    expect_error(&c, gdncp_comm_barrier(comm), GDNCP_ERR_TIMEOUT, "rank 1", "barrier");
    expect_error(&c, gdncp_comm_barrier(comm), GDNCP_ERR_TIMEOUT, "shrunk or destroyed",
                 "a barrier after one that timed out");
    gdncp_comm_group_destroy(comm, group);
    free(bytes);
    gdncp_comm_destroy(comm);
    expect(&c, gdncp_now_ms() - begin < 8000, "nothing waits for a rank that hangs");
    if (c.num_failures > 0) {
        printf("hanging: %s\n", c.first_failure);
    }
    return c.num_failures > 0;
}

static void hanging_peer_holds_nobody(void **state)
{
    forked_ranks_t ranks;
    int status = 0;

    (void)state;
    start_forked(&ranks, 2, hanging_body, NULL);
    assert_int_equal(waitpid(ranks.pids[0], &status, 0), ranks.pids[0]);
    kill(ranks.pids[1], SIGCONT);
    waitpid(ranks.pids[1], NULL, 0);
    assert_int_equal(status, 0);
}

static int many_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    gdncp_comm_destroy(create(bootstrap, 0));
    const int num_before = count_files("/proc/self/fd");

    (void)context;
    for (int i = 0; i < 200; i++) {
        gdncp_comm_t *const comm = create(bootstrap, 0);

        if (i % 20 == 0 && gdncp_comm_barrier(comm) != GDNCP_OK) {
            printf("%s\n", gdncp_last_error());
            return 1;
        }
        gdncp_comm_destroy(comm);
    }
    gdncp_comm_t *parent = create(bootstrap, 0);
    for (int i = 0; i < 20; i++) {
        gdncp_comm_t *made = NULL;
        const gdncp_status_t status =
            i % 2 == 0 ? gdncp_comm_split(parent, 0, 0, &made) : gdncp_comm_shrink(parent, &made);

        if (status != GDNCP_OK) {
            printf("%s\n", gdncp_last_error());
            return 1;
        }
        gdncp_comm_destroy(i % 2 == 0 ? made : parent);
        parent = i % 2 == 0 ? parent : made;
    }
    gdncp_comm_destroy(parent);
    const int num_after = count_files("/proc/self/fd");
    if (num_after != num_before) {
        printf("%d descriptors, %d after 220 communicators\n", num_before, num_after);
    }
    return num_after != num_before;
}

static void descriptors_do_not_grow(void **state)
{
    (void)state;
    assert_int_equal(run_forked(2, many_body, NULL), 0);
}

/* Rank 1 dies at the n-th all-gather of the bootstrap, or after all of them. */
typedef struct mortal {
    const gdncp_bootstrap_t *inner;
    int num_left; /* all-gathers before it dies */
} mortal_t;

static int mortal_all_gather(void *context, const void *in, void *out, size_t bytes)
{
    mortal_t *const mortal = context;

    if (mortal->num_left == 0) {
        raise(SIGKILL);
    }
    mortal->num_left--;
    const int result = mortal->inner->all_gather(mortal->inner->context, in, out, bytes);
    if (mortal->num_left == 0) {
        raise(SIGKILL);
    }
    return result;
}

static int dying_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    const gdncp_comm_options_t options = {.timeout_ms = 700};
    const int64_t begin = gdncp_now_ms();
    mortal_t mortal = {.inner = bootstrap, .num_left = *(const int *)context};
    gdncp_comm_t *comm = NULL;

    const streams_t saved = silence_streams();
    if (bootstrap->rank == 1) {
        const gdncp_bootstrap_t dying = {.rank = 1,
                                         .size = bootstrap->size,
                                         .all_gather = mortal_all_gather,
                                         .context = &mortal};
        gdncp_comm_create(&dying, &options, &comm);
        return 1;
    }
    const gdncp_status_t status = gdncp_comm_create(bootstrap, &options, &comm);
    restore_streams(saved);
    const int64_t took = gdncp_now_ms() - begin;
    const bool is_told = (status == GDNCP_ERR_PEER_LOST || status == GDNCP_ERR_TIMEOUT) &&
                         strstr(gdncp_last_error(), "rank ") != NULL && comm == NULL;
    if (!is_told || took > 5000) {
        printf("rank %d: %s after %lld ms: %s\n", bootstrap->rank, gdncp_status_string(status),
               (long long)took, gdncp_last_error());
    }
    return !is_told || took > 5000;
}

static void death_while_connecting_is_told(void **state)
{
    (void)state;
    for (int num_all_gathers = 0; num_all_gathers <= 2; num_all_gathers++) {
        forked_ranks_t ranks;

        start_forked(&ranks, 3, dying_body, &num_all_gathers);
        assert_int_equal(finish_forked(&ranks), 1);
        assert_true(WIFSIGNALED(ranks.statuses[1]));
    }
}

/* Rank 1 cannot open UCX; it says so, and nobody waits for it. */
static int unable_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    const int64_t begin = gdncp_now_ms();
    gdncp_comm_t *comm = NULL;

    (void)context;
    const streams_t saved = silence_streams();
    if (bootstrap->rank == 1) {
        setenv("UCX_TLS", "no_such_transport", 1);
    }
    const gdncp_status_t status = gdncp_comm_create(bootstrap, NULL, &comm);
    restore_streams(saved);
    const bool told =
        bootstrap->rank == 1
            ? status == GDNCP_ERR_TRANSPORT && strstr(gdncp_last_error(), "opening UCX") != NULL
            : status == GDNCP_ERR_PEER_LOST &&
                  strstr(gdncp_last_error(), "rank 1 could not open") != NULL;
    if (!told) {
        printf("rank %d: %s\n", bootstrap->rank, gdncp_last_error());
    }
    return !(told && comm == NULL && gdncp_now_ms() - begin < 5000);
}

static void rank_without_ucx_is_told(void **state)
{
    (void)state;
    assert_int_equal(run_forked(3, unable_body, NULL), 0);
}

static int failing_all_gather(void *context, const void *in, void *out, size_t bytes)
{
    (void)context;
    (void)in;
    (void)out;
    (void)bytes;
    return 7;
}

static void arguments_of_creation_are_checked(void **state)
{
    gdncp_bootstrap_t bootstrap = {.rank = 0, .size = 2, .all_gather = failing_all_gather};
    gdncp_comm_t *comm = NULL;

    (void)state;
    assert_int_equal(gdncp_comm_create(NULL, NULL, &comm), GDNCP_ERR_INVALID_ARGUMENT);
    assert_non_null(strstr(gdncp_last_error(), "bootstrap:"));
    assert_int_equal(gdncp_comm_create(&bootstrap, NULL, &comm), GDNCP_ERR_TRANSPORT);
    assert_non_null(strstr(gdncp_last_error(), "bootstrap->all_gather: expected 0, got 7"));
    bootstrap.rank = 2;
    assert_int_equal(gdncp_comm_create(&bootstrap, NULL, &comm), GDNCP_ERR_INVALID_ARGUMENT);
    assert_non_null(strstr(gdncp_last_error(), "bootstrap->rank"));
    bootstrap.size = 0;
    assert_int_equal(gdncp_comm_create(&bootstrap, NULL, &comm), GDNCP_ERR_INVALID_ARGUMENT);
    assert_non_null(strstr(gdncp_last_error(), "bootstrap->size"));
    bootstrap.all_gather = NULL;
    assert_int_equal(gdncp_comm_create(&bootstrap, NULL, &comm), GDNCP_ERR_INVALID_ARGUMENT);
    assert_non_null(strstr(gdncp_last_error(), "all_gather"));
    assert_null(comm);
}

static void lanes_are_read_from_the_description(void **state)
{
    char info[] =
        "#\n# UCP endpoint \n#\n#               peer: x\n"
        "#                 lane[0]:  2:sysv/memory.0 md[2]            -> md[2]/sysv/s am\n"
        "#                 lane[1]:  4:cma/memory.0 md[3]             -> md[3]/cma/s rma\n"
        "#                 lane[2]:  4:cma/memory.1 md[3]             -> md[3]/cma/s rma\n"
        "#                 lane[3]:  0:tcp/eth0.100.0 md[1]           -> md[1]/tcp/s\n"
        "#\n#                tag_send: 0..<egr/short>..100..(inf)\n";
    char text[64];
    char none[] = "nothing of that kind\n";

    (void)state;
    gdncp_ucx_lanes_text(info, text, sizeof text);
    assert_string_equal(text, "sysv/memory cma/memory tcp/eth0.100");
    gdncp_ucx_lanes_text(none, text, sizeof text);
    assert_string_equal(text, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conforms),
        cmocka_unit_test(processes_of_one_machine_share_memory),
        cmocka_unit_test(conforms_over_tcp),
        cmocka_unit_test(death_of_a_peer_is_told),
        cmocka_unit_test(last_words_arrive),
        cmocka_unit_test(unread_messages_are_dropped),
        cmocka_unit_test(hanging_peer_holds_nobody),
        cmocka_unit_test(death_while_connecting_is_told),
        cmocka_unit_test(rank_without_ucx_is_told),
        cmocka_unit_test(descriptors_do_not_grow),
        cmocka_unit_test(arguments_of_creation_are_checked),
        cmocka_unit_test(lanes_are_read_from_the_description),
    };

    return cmocka_run_group_tests_name("transport_ucx", tests, NULL, NULL);
}
