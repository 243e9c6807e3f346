/* The option --device: what it takes, what it says where there is no such device, and the report.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "gdncp/device.h"
#include "run_tool.h"

/* How the library says that there is none. */
#ifdef GDNCP_HAVE_CUDA
#define NO_GPU "cuda: expected "
#else
#define NO_GPU "cuda: this gdncp was built without CUDA kernels"
#endif

/* Every rank finds out for itself; the reason is said once. */
static void check_refused(const char *device, const char *transport, const char *sentence)
{
    const char *const arguments[] = {
        run_golden("rule_d60"), "--ranks", "3", "--layout", "contiguous", "--device", device,
        "--transport",          transport, NULL};
    const char *const parts[] = {"gdncp-run: cuda: ", sentence, NULL};
    run_ended_t ended = run_tool(arguments);

    run_check_error(&ended, device, parts);
    assert_ptr_equal(strstr(strchr(ended.err, '\n') + 1, "cuda: "), NULL);
    run_release(&ended);
}

static void a_device_that_is_not_there_is_refused(void **state)
{
    (void)state;
    if (gdncp_device_check(GDNCP_DEVICE_CUDA) == GDNCP_OK) {
        skip();
    }
    check_refused("cuda", "ucx", NO_GPU);
    check_refused("cuda", "threads", NO_GPU);
}

static void a_refusal_is_json_too(void **state)
{
    const char *const arguments[] = {
        run_golden("rule_d60"), "--layout", "contiguous", "--device", "cuda", "--json", NULL};

    (void)state;
    if (gdncp_device_check(GDNCP_DEVICE_CUDA) == GDNCP_OK) {
        skip();
    }
    run_ended_t ended = run_tool(arguments);
    json_t *const object = run_json(&ended, "--device cuda --json");

    assert_int_equal(ended.status, 1);
    assert_string_equal(json_string_value(json_object_get(object, "device")), "cuda");
    assert_non_null(strstr(json_string_value(json_object_get(object, "error")), NO_GPU));
    json_decref(object);
    run_release(&ended);
}

/* A build for tests has a device; what there is no NCCL for is said once. */
static void a_missing_nccl_is_said(void **state)
{
#ifdef GDNCP_HAVE_EMULATOR
    static const char *const environment[] = {"GDNCP_NCCL_LIBRARY=/nowhere/libnccl.so.2", NULL};
    static const char *const parts[] = {"gdncp-run: nccl: expected a library that opens "
                                        "(GDNCP_NCCL_LIBRARY names another one), got: "
                                        "/nowhere/libnccl.so.2",
                                        NULL};
    const char *const arguments[] = {
        run_golden("rule_d60"), "--layout", "contiguous", "--device", "emulated", "--ranks", "2",
        "--transport",          "nccl",     NULL};
    run_ended_t ended = run_wait(run_start(arguments, environment));

    run_check_error(&ended, "--transport nccl", parts);
    run_check_no_process();
    run_release(&ended);
#endif
    (void)state;
}

static void check_table(const char *device)
{
    const char *const arguments[] = {
        run_golden("rule_d60"), "--ranks", "1", "--layout", "contiguous", "--device", device,
        "--strategy",           "heads",   NULL};
    char line[64] = "\ndevice     ";
    run_ended_t ended = run_tool(arguments);

    strcat(strcat(line, device), "\n");
    assert_int_equal(ended.status, 0);
    assert_non_null(strstr(ended.out, line));
    run_release(&ended);
}

static void the_table_says_the_device(void **state)
{
    (void)state;
    check_table("cpu");
#ifdef GDNCP_HAVE_EMULATOR
    check_table("emulated");
#else
    check_refused("emulated", "threads", "cuda: this gdncp was built without the emulator");
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_device_that_is_not_there_is_refused),
        cmocka_unit_test(a_refusal_is_json_too),
        cmocka_unit_test(a_missing_nccl_is_said),
        cmocka_unit_test(the_table_says_the_device),
    };

    return cmocka_run_group_tests(tests, run_set_up, run_tear_down);
}
