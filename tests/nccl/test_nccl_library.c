/* Libraries that are not the NCCL that gdncp wants, and NCCL itself where there is no driver. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <dlfcn.h>
#include <unistd.h>

#include "gdncp/nccl.h"
#include "nccl_api.h"

static void assert_says(gdncp_status_t status, gdncp_status_t expected, const char *words)
{
    assert_int_equal(status, expected);
    if (strstr(gdncp_last_error(), words) == NULL) {
        fail_msg("expected \"%s\" in \"%s\"", words, gdncp_last_error());
    }
}

/* Of a communicator that is what it was afterwards. */
static void check_refused(const char *library, const char *words)
{
    gdncp_comm_t *comm = NULL;

    assert_int_equal(gdncp_comm_create_self(&comm), GDNCP_OK);
    setenv("GDNCP_NCCL_LIBRARY", library, 1);
    assert_says(gdncp_comm_use_nccl(comm), GDNCP_ERR_NOT_SUPPORTED, words);
    assert_int_equal(gdncp_comm_transport(comm), GDNCP_TRANSPORT_SELF);
    assert_int_equal(gdncp_comm_barrier(comm), GDNCP_OK);
    gdncp_comm_destroy(comm);
}

static void a_library_that_is_not_there(void **state)
{
    (void)state;
    check_refused("/nowhere/libnccl.so.2", "/nowhere/libnccl.so.2");
    assert_non_null(strstr(gdncp_last_error(), "GDNCP_NCCL_LIBRARY"));
}

static void a_library_of_something_else(void **state)
{
    (void)state;
    check_refused("libm.so.6",
                  "expected libm.so.6 to be NCCL, got a library without ncclGetVersion");
}

static void an_old_library(void **state)
{
    (void)state;
    check_refused(GDNCP_NCCL_OLD, "to be 2.28 or newer, got 2.27.7");
}

static void a_library_that_lacks_a_call(void **state)
{
    (void)state;
    check_refused(GDNCP_NCCL_LACKING, "to have ncclGetUniqueId, got a library without it");
}

/* The last test of this program, as what was opened stays so. */
static void nccl_without_a_driver(void **state)
{
    const gdncp_nccl_api_t *api = NULL;
    const gdncp_nccl_api_t *again = NULL;
    gdncp_comm_t *comm = NULL;
    void *const nccl = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);

    (void)state;
    if (nccl == NULL || access("/dev/nvidiactl", F_OK) == 0) {
        skip();
    }
    unsetenv("GDNCP_NCCL_LIBRARY");
    assert_int_equal(gdncp_nccl_open(&api), GDNCP_OK);
    assert_true(api->version >= GDNCP_NCCL_OLDEST);
    assert_int_equal(gdncp_nccl_open(&again), GDNCP_OK);
    assert_ptr_equal(again, api);
    assert_int_equal(gdncp_comm_create_self(&comm), GDNCP_OK);
    assert_says(gdncp_comm_use_nccl(comm), GDNCP_ERR_DEVICE,
                "rank 0 of 1: ncclCommInitRankConfig: NCCL 2.");
    assert_non_null(strstr(gdncp_last_error(), "unhandled cuda error"));
    assert_non_null(strstr(gdncp_last_error(), "CUDA driver version is insufficient"));
    assert_int_equal(gdncp_comm_transport(comm), GDNCP_TRANSPORT_SELF);
    gdncp_comm_destroy(comm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_library_that_is_not_there),
        cmocka_unit_test(a_library_of_something_else),
        cmocka_unit_test(an_old_library),
        cmocka_unit_test(a_library_that_lacks_a_call),
        cmocka_unit_test(nccl_without_a_driver),
    };

    setenv("GDNCP_CUDA", "emulated", 1);
    return cmocka_run_group_tests_name("libraries of NCCL", tests, NULL, NULL);
}
