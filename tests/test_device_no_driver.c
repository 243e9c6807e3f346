/* A machine without a usable GPU: whatever touches CUDA says why it cannot, and sets nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "gdncp/device.h"
#include "gdncp/memory.h"

/* What a sentence may say: the reason depends on the build and on the machine. */
static const char *const reasons[] = {
#ifdef GDNCP_HAVE_CUDA
    "cuda: expected an NVIDIA driver for CUDA ",
    "cuda: expected a GPU, got none",
#else
    "cuda: this gdncp was built without CUDA kernels (GDNCP_CUDA=ON)",
#endif
};

static void check_refused(gdncp_status_t status)
{
    assert_int_equal(status, GDNCP_ERR_NOT_SUPPORTED);
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++) {
        if (strncmp(gdncp_last_error(), reasons[i], strlen(reasons[i])) == 0) {
            return;
        }
    }
    fail_msg("this gives no reason: '%s'", gdncp_last_error());
}

static void the_device_is_refused(void **state)
{
    gdncp_device_info_t info = {.compute_capability = -1};

    (void)state;
    check_refused(gdncp_device_check(GDNCP_DEVICE_CUDA));
    check_refused(gdncp_device_describe(GDNCP_DEVICE_CUDA, &info));
    assert_int_equal(info.compute_capability, -1);
    assert_int_equal(gdncp_device_check(GDNCP_DEVICE_CPU), GDNCP_OK);
}

static void memory_is_refused(void **state)
{
    char bytes[4] = "abc";
    void *memory = NULL;

    (void)state;
    check_refused(gdncp_device_alloc(GDNCP_DEVICE_CUDA, 16, &memory));
    assert_null(memory);
    check_refused(gdncp_device_copy(GDNCP_DEVICE_CUDA, bytes, "xyz", sizeof bytes, NULL));
    check_refused(gdncp_device_clear(GDNCP_DEVICE_CUDA, bytes, sizeof bytes, NULL));
    assert_string_equal(bytes, "abc");
    gdncp_device_free(GDNCP_DEVICE_CUDA, bytes);
}

static void streams_and_workspaces_are_refused(void **state)
{
    gdncp_stream_t stream = NULL;
    gdncp_workspace_t *workspace = NULL;

    (void)state;
    check_refused(gdncp_stream_create(GDNCP_DEVICE_CUDA, &stream));
    assert_null(stream);
    check_refused(gdncp_stream_synchronize(GDNCP_DEVICE_CUDA, NULL));
    gdncp_stream_destroy(GDNCP_DEVICE_CUDA, NULL);
    check_refused(gdncp_workspace_create_on(GDNCP_DEVICE_CUDA, NULL, &workspace));
    assert_null(workspace);
}

static void devices_have_names(void **state)
{
    (void)state;
    assert_string_equal(gdncp_device_name(GDNCP_DEVICE_CPU), "cpu");
    assert_string_equal(gdncp_device_name(GDNCP_DEVICE_CUDA), "cuda");
    assert_string_equal(gdncp_device_name((gdncp_device_kind_t)7), "?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(devices_have_names),
        cmocka_unit_test(the_device_is_refused),
        cmocka_unit_test(memory_is_refused),
        cmocka_unit_test(streams_and_workspaces_are_refused),
    };

    /* The same on a machine that has a GPU. */
    if (setenv("GDNCP_CUDA", "gpu", 1) != 0 || setenv("CUDA_VISIBLE_DEVICES", "", 1) != 0) {
        return 1;
    }
    return cmocka_run_group_tests_name("no driver", tests, NULL, NULL);
}
