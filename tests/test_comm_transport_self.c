#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "conformance_transport.h"

static void conforms(void **state)
{
    const test_random_t random = test_random_start("transport_self", 20261);

    (void)state;
    for (int i = 0; i < NUM_CONFORMANCE_CASES; i++) {
        const conformance_case_t *const test = &conformance_cases[i];
        gdncp_comm_t *comm = NULL;

        assert_int_equal(gdncp_comm_create_self(&comm), GDNCP_OK);
        if (test->timeout_ms > 0) {
            comm->timeout_ms = test->timeout_ms;
        }
        assert_int_equal(run_conformance_case(test, comm, random.state), 0);
        gdncp_comm_destroy(comm);
    }
}

static void is_one_rank(void **state)
{
    gdncp_comm_t *comm = NULL;

    (void)state;
    unsetenv("GDNCP_TIMEOUT");
    assert_int_equal(gdncp_comm_create_self(&comm), GDNCP_OK);
    assert_int_equal(gdncp_comm_rank(comm), 0);
    assert_int_equal(gdncp_comm_size(comm), 1);
    assert_int_equal(gdncp_comm_transport(comm), GDNCP_TRANSPORT_SELF);
    assert_int_equal(comm->timeout_ms, 60000);
    gdncp_comm_destroy(comm);
    gdncp_comm_destroy(NULL);
}

static void timeout_comes_from_the_environment(void **state)
{
    gdncp_comm_t *comm = NULL;

    (void)state;
    setenv("GDNCP_TIMEOUT", "1234", 1);
    assert_int_equal(gdncp_comm_create_self(&comm), GDNCP_OK);
    assert_int_equal(comm->timeout_ms, 1234);
    gdncp_comm_destroy(comm);
    comm = NULL;
    setenv("GDNCP_TIMEOUT", "soon", 1);
    assert_int_equal(gdncp_comm_create_self(&comm), GDNCP_ERR_INVALID_ARGUMENT);
    assert_non_null(strstr(gdncp_last_error(), "GDNCP_TIMEOUT"));
    assert_null(comm);
    unsetenv("GDNCP_TIMEOUT");
}

static void transports_have_names(void **state)
{
    (void)state;
    assert_string_equal(gdncp_transport_name(GDNCP_TRANSPORT_UCX), "ucx");
    assert_string_equal(gdncp_transport_name(GDNCP_TRANSPORT_THREADS), "threads");
    assert_string_equal(gdncp_transport_name(GDNCP_TRANSPORT_SELF), "self");
    assert_string_equal(gdncp_transport_name(GDNCP_TRANSPORT_NCCL), "nccl");
    assert_string_equal(gdncp_transport_name((gdncp_transport_kind_t)77), "?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conforms),
        cmocka_unit_test(is_one_rank),
        cmocka_unit_test(timeout_comes_from_the_environment),
        cmocka_unit_test(transports_have_names),
    };

    return cmocka_run_group_tests_name("transport_self", tests, NULL, NULL);
}
