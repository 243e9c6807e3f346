/* What the UCX transport asks of UCX, and which UCX that is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <ucp/api/ucp.h>

#include "forked_ranks.h"

static _Atomic int num_connects;
static _Atomic int num_blocking;

/* In the place of the C library's, for UCX too, which connects over TCP. */
__attribute__((visibility("default"))) int connect(int fd, const struct sockaddr *address,
                                                   socklen_t bytes)
{
    num_connects++;
    num_blocking += (fcntl(fd, F_GETFL) & O_NONBLOCK) == 0 && address->sa_family == AF_INET;
    return (int)syscall(SYS_connect, fd, address, bytes);
}

static int connecting_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    gdncp_comm_t *comm = NULL;

    (void)context;
    num_connects = 0;
    num_blocking = 0;
    if (gdncp_comm_create(bootstrap, NULL, &comm) != GDNCP_OK) {
        printf("rank %d: %s\n", bootstrap->rank, gdncp_last_error());
        return 1;
    }
    gdncp_comm_destroy(comm);
    printf("rank %d: %d connections made, %d of them blocked\n", bootstrap->rank, num_connects,
           num_blocking);
    return !(num_connects > 0 && num_blocking == 0);
}

static void connections_do_not_block(void **state)
{
    (void)state;
    setenv("UCX_TLS", "tcp,self", 1);
    const int num_failed = run_forked(2, connecting_body, NULL);
    unsetenv("UCX_TLS");
    assert_int_equal(num_failed, 0);
}

/* Where tests are run with another UCX than they were built with: is it that one? */
static void version_is_the_expected(void **state)
{
    const char *const expected = getenv("GDNCP_TEST_UCX_VERSION");
    const char *const version = ucp_get_version_string();

    (void)state;
    printf("UCX %s\n", version);
    if (expected != NULL && strncmp(version, expected, strlen(expected)) != 0) {
        fail_msg("expected UCX %s, got %s", expected, version);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connections_do_not_block),
        cmocka_unit_test(version_is_the_expected),
    };

    return cmocka_run_group_tests_name("settings_ucx", tests, NULL, NULL);
}
