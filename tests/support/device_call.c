#include "device_call.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "gdncp/device.h"
#include "on_device.h"
#include "test_block.h"
#ifdef GDNCP_HAVE_EMULATOR
#include "emulator_control.h"
#endif

/* As the renamed functions are called. */
void on_device_memory_track(gdncp_memory_usage_t *usage);
gdncp_status_t on_device_workspace_create(gdncp_workspace_t **workspace_p);

enum { SMALL_CALL_BYTES = 32 * 1024 };

static gdncp_memory_usage_t *tracked; /* by the test */
static uint64_t schedule;

/* Before any call of the library, which settles at the first one what the device is. */
__attribute__((constructor)) static void choose_device(void)
{
    setenv("GDNCP_CUDA", "emulated", 0);
}

static uint64_t number_from_environment(const char *name, uint64_t fallback)
{
    const char *const text = getenv(name);

    return text != NULL ? strtoull(text, NULL, 10) : fallback;
}

static void run_schedule(uint64_t seed)
{
#ifdef GDNCP_HAVE_EMULATOR
    emulator_set_schedule(seed);
#else
    (void)seed;
#endif
}

static void forbid_waiting(bool forbidden)
{
#ifdef GDNCP_HAVE_EMULATOR
    emulator_forbid(forbidden);
#else
    (void)forbidden;
#endif
}

void on_device_set_schedule(uint64_t seed)
{
    schedule = seed;
    run_schedule(seed);
}

void on_device_memory_track(gdncp_memory_usage_t *usage)
{
    tracked = usage;
    gdncp_memory_track(usage);
}

gdncp_status_t on_device_workspace_create(gdncp_workspace_t **workspace_p)
{
    return gdncp_workspace_create_on(GDNCP_DEVICE_CUDA, NULL, workspace_p);
}

void device_call_begin(device_call_t *call, gdncp_workspace_t *workspace)
{
    *call = (device_call_t){.workspace = workspace};
    gdncp_memory_track(NULL);
    if (workspace == NULL) {
        assert_int_equal(on_device_workspace_create(&call->owned), GDNCP_OK);
        call->workspace = call->owned;
    }
}

/* Bytes from the first element to the last; of a tensor that is spoilt, those that it can have. */
static size_t span_of(const gdncp_tensor_t *tensor)
{
    int64_t last = 0;

    for (int i = 0; i < tensor->ndim && i < GDNCP_MAX_DIMS; i++) {
        if (tensor->shape[i] <= 0) {
            return test_block_bytes(tensor->data, 0);
        }
        last += (tensor->shape[i] - 1) * tensor->strides[i];
    }
    return test_block_bytes(tensor->data, (size_t)(last + 1) * gdncp_dtype_size(tensor->dtype));
}

static void mirror_tensor(device_call_t *call, gdncp_tensor_t *tensor, bool is_output)
{
    if (tensor->device == GDNCP_DEVICE_CUDA) {
        tensor->device = GDNCP_DEVICE_CPU;
        return;
    }
    tensor->device = GDNCP_DEVICE_CUDA;
    if (tensor->data != NULL) {
        device_mirror_add(&call->mirror, &tensor->data, span_of(tensor),
                          gdncp_dtype_size(tensor->dtype), is_output);
    }
}

void device_call_input(device_call_t *call, gdncp_tensor_t *tensor)
{
    mirror_tensor(call, tensor, false);
}

void device_call_output(device_call_t *call, gdncp_tensor_t *tensor)
{
    mirror_tensor(call, tensor, true);
}

static const gdncp_tensor_t *mirror_argument(device_call_t *call, const gdncp_tensor_t *tensor,
                                             bool is_output)
{
    if (tensor == NULL) {
        return NULL;
    }
    gdncp_tensor_t *const copy = &call->tensors[call->num_tensors++];

    *copy = *tensor;
    mirror_tensor(call, copy, is_output);
    return copy;
}

const gdncp_tensor_t *device_call_input_argument(device_call_t *call, const gdncp_tensor_t *tensor)
{
    return mirror_argument(call, tensor, false);
}

const gdncp_tensor_t *device_call_output_argument(device_call_t *call, const gdncp_tensor_t *tensor)
{
    return mirror_argument(call, tensor, true);
}

void device_call_list(device_call_t *call, const int64_t *list, int64_t count, const int64_t **copy)
{
    *copy = count >= 0 ? list : NULL;
    if (*copy != NULL) {
        device_mirror_add(&call->mirror, (void **)(uintptr_t)copy, (size_t)count * sizeof *list,
                          sizeof *list, false);
    }
}

/* The memory that the first run found as NaN is NaN again. */
static void poison_owned(const device_call_t *call)
{
    const size_t bytes = (size_t)call->of_owned.current_bytes;
    void *memory;
    void *const poison = malloc(bytes + 1);

    assert_non_null(poison);
    memset(poison, 0xff, bytes);
    assert_int_equal(gdncp_workspace_reserve(call->workspace, bytes, &memory), GDNCP_OK);
    assert_int_equal(gdncp_device_copy(GDNCP_DEVICE_CUDA, memory, poison, bytes, NULL), GDNCP_OK);
    free(poison);
}

static void end_run(device_call_t *call)
{
    forbid_waiting(false);
    gdncp_memory_track(NULL);
    assert_int_equal(gdncp_stream_synchronize(GDNCP_DEVICE_CUDA, NULL), GDNCP_OK);
    device_mirror_check_untouched(&call->mirror, call->status != GDNCP_OK);
    if (call->status == GDNCP_OK) {
        device_mirror_take_outputs(&call->mirror);
    }
}

/* Large calls run twice at most: their many blocks meet many orders of threads as it is. */
static int64_t runs_wanted(const device_call_t *call)
{
    const int64_t wanted = (int64_t)number_from_environment("GDNCP_TEST_SCHEDULES", 1);

    return device_mirror_bytes(&call->mirror) <= SMALL_CALL_BYTES || wanted < 2 ? wanted : 2;
}

bool device_call_next(device_call_t *call)
{
    if (call->num_runs == 0) {
        device_mirror_open(&call->mirror, number_from_environment("GDNCP_TEST_DEVICE_OFFSET", 0));
    } else {
        end_run(call);
        if (call->status != GDNCP_OK || call->num_runs >= runs_wanted(call)) {
            return false;
        }
        run_schedule(schedule + (uint64_t)call->num_runs);
        if (call->owned != NULL) {
            poison_owned(call);
        }
    }
    device_mirror_upload(&call->mirror);
    gdncp_memory_track(call->owned != NULL ? &call->of_owned : tracked);
    forbid_waiting(call->num_runs > 0);
    call->num_runs++;
    return true;
}

gdncp_status_t device_call_end(device_call_t *call)
{
    if (call->num_runs > 1) {
        run_schedule(schedule);
    }
    device_mirror_close(&call->mirror);
    gdncp_workspace_destroy(call->owned);
    gdncp_memory_track(tracked);
    return call->status;
}
