#include "layer_device_call.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "emulator_control.h"
#include "gdncp/device.h"

/* As the renamed function is called. */
void layer_on_device_memory_track(gdncp_memory_usage_t *usage);

static _Thread_local gdncp_memory_usage_t *tracked; /* by the test */
static _Thread_local layer_place_t *places;         /* of this rank */

/* Before any call of the library, which settles at the first one what the device is. */
__attribute__((constructor)) static void choose_device(void)
{
    setenv("GDNCP_CUDA", "emulated", 0);
}

static int number_from_environment(const char *name, int fallback)
{
    const char *const text = getenv(name);

    return text != NULL ? atoi(text) : fallback;
}

static int num_schedules(void)
{
    return number_from_environment("GDNCP_TEST_SCHEDULES", 1);
}

/* Where there is one run, GDNCP_EMULATOR_SEED holds. */
static void set_schedule(int seed)
{
    if (num_schedules() > 1) {
        emulator_set_schedule((uint64_t)seed);
    }
}

void layer_on_device_memory_track(gdncp_memory_usage_t *usage)
{
    tracked = usage;
    gdncp_memory_track(usage);
}

layer_place_t *layer_place_open(void)
{
    layer_place_t *const place = calloc(1, sizeof *place);

    assert_non_null(place);
    assert_int_equal(gdncp_stream_create(GDNCP_DEVICE_CUDA, &place->stream), GDNCP_OK);
    place->next = places;
    places = place;
    return place;
}

void layer_place_keep(layer_place_t *place, void *object)
{
    place->object = object;
    if (object == NULL) {
        layer_place_close(NULL);
    }
}

void layer_place_close(const void *object)
{
    for (layer_place_t **link = &places; *link != NULL; link = &(*link)->next) {
        layer_place_t *const place = *link;

        if (place->object == object) {
            gdncp_stream_destroy(GDNCP_DEVICE_CUDA, place->stream);
            *link = place->next;
            free(place);
            return;
        }
    }
}

static layer_place_t *find_place(const void *object)
{
    layer_place_t *place = places;

    while (place != NULL && place->object != object) {
        place = place->next;
    }
    assert_non_null(place);
    return place;
}

void layer_call_begin(layer_call_t *call, const void *object, int direction)
{
    *call = (layer_call_t){.place = find_place(object), .direction = direction};
    gdncp_memory_track(NULL);
}

static void mirror(layer_call_t *call, gdncp_tensor_t *tensors, int count, bool is_output)
{
    for (int i = 0; i < count; i++) {
        const size_t size = gdncp_dtype_size(tensors[i].dtype);

        tensors[i].device = GDNCP_DEVICE_CUDA;
        device_mirror_add(&call->mirror, &tensors[i].data,
                          (size_t)gdncp_tensor_num_elements(&tensors[i]) * size, size, is_output);
    }
}

void layer_call_inputs(layer_call_t *call, gdncp_tensor_t *tensors, int count)
{
    mirror(call, tensors, count, false);
}

void layer_call_outputs(layer_call_t *call, gdncp_tensor_t *tensors, int count)
{
    mirror(call, tensors, count, true);
}

static void end_run(layer_call_t *call)
{
    emulator_forbid(false);
    gdncp_memory_track(NULL);
    assert_int_equal(gdncp_stream_synchronize(GDNCP_DEVICE_CUDA, call->place->stream), GDNCP_OK);
    device_mirror_check_untouched(&call->mirror, call->status != GDNCP_OK);
    if (call->status == GDNCP_OK) {
        device_mirror_take_outputs(&call->mirror);
    }
}

bool layer_call_next(layer_call_t *call)
{
    int *const runs_of_object = &call->place->num_runs[call->direction];

    if (call->num_runs == 0) {
        device_mirror_open(&call->mirror,
                           (size_t)number_from_environment("GDNCP_TEST_DEVICE_OFFSET", 0));
    } else {
        end_run(call);
        if (call->status != GDNCP_OK || call->num_runs >= num_schedules()) {
            return false;
        }
    }
    set_schedule(call->num_runs);
    device_mirror_upload(&call->mirror);
    assert_int_equal(gdncp_stream_synchronize(GDNCP_DEVICE_CUDA, NULL), GDNCP_OK);
    gdncp_memory_track(tracked);
    emulator_forbid(*runs_of_object > 0);
    call->num_runs++;
    (*runs_of_object)++;
    return true;
}

gdncp_status_t layer_call_end(layer_call_t *call)
{
    set_schedule(0);
    device_mirror_close(&call->mirror);
    gdncp_memory_track(tracked);
    return call->status;
}
