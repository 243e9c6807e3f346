#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "conformance_transport.h"
#include "forked_ranks.h"
#include "leftovers.h"
#include "standard_streams.h"
#include "ucx_internal.h"

static int conformance_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    int num_failures = 0;

    for (int i = 0; i < NUM_CONFORMANCE_CASES; i++) {
        const conformance_case_t *const test = &conformance_cases[i];
        gdncp_comm_t *const comm = create_or_exit(bootstrap, 0);

        if (test->timeout_ms > 0) {
            comm->timeout_ms = test->timeout_ms;
        }
        num_failures += run_conformance_case(test, comm, *(const uint64_t *)context);
        gdncp_comm_destroy(comm);
    }
    return num_failures > 0;
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
    gdncp_comm_t *const comm = create_or_exit(bootstrap, 0);
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

    gdncp_comm_t *const comm = create_or_exit(bootstrap, 0);
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

/* A small message that rank 1 never asks for. */
static int unread_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    gdncp_comm_t *const comm = create_or_exit(bootstrap, 5000);
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

static int many_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    gdncp_comm_destroy(create_or_exit(bootstrap, 0));
    const int num_before = count_files("/proc/self/fd");

    (void)context;
    for (int i = 0; i < 200; i++) {
        gdncp_comm_t *const comm = create_or_exit(bootstrap, 0);

        if (i % 20 == 0 && gdncp_comm_barrier(comm) != GDNCP_OK) {
            printf("%s\n", gdncp_last_error());
            return 1;
        }
        gdncp_comm_destroy(comm);
    }
    gdncp_comm_t *parent = create_or_exit(bootstrap, 0);
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
        cmocka_unit_test(unread_messages_are_dropped),
        cmocka_unit_test(descriptors_do_not_grow),
        cmocka_unit_test(arguments_of_creation_are_checked),
        cmocka_unit_test(lanes_are_read_from_the_description),
    };

    return cmocka_run_group_tests_name("transport_ucx", tests, NULL, NULL);
}
