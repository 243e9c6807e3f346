/* Streams, events and memory of the emulated device. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "backend.h"
#include "emulator_control.h"
#include "planted_kernels.h"
#include "unseen.h"

enum { COUNT = PLANTED_THREADS, ARRAY_BYTES = COUNT * sizeof(float) };

static const gdncp_backend_t *backend;

static int find_backend(void **state)
{
    (void)state;
    return gdncp_backend_find(&backend) == GDNCP_OK ? 0 : 1;
}

static int reset(void **state)
{
    (void)state;
    emulator_set_schedule(0);
    emulator_forbid(false);
    emulator_set_shared_bytes(0);
    emulator_reset_counts();
    return 0;
}

static float *device_array(void)
{
    void *memory = NULL;

    assert_int_equal(backend->alloc(ARRAY_BYTES, &memory), GDNCP_OK);
    return memory;
}

static float *pinned_array(float value)
{
    void *memory = NULL;

    assert_int_equal(backend->alloc_pinned(ARRAY_BYTES, &memory), GDNCP_OK);
    for (int t = 0; t < COUNT; t++) {
        ((float *)memory)[t] = value;
    }
    return memory;
}

static gdncp_stream_t new_stream(void)
{
    gdncp_stream_t stream = NULL;

    assert_int_equal(backend->stream_create(&stream), GDNCP_OK);
    return stream;
}

static void check_failure(gdncp_status_t status, const char *sentence)
{
    assert_int_equal(status, GDNCP_ERR_DEVICE);
    if (strstr(gdncp_last_error(), sentence) == NULL) {
        fail_msg("expected \"%s\", got \"%s\"", sentence, gdncp_last_error());
    }
}

static void memory_is_aligned_and_not_initialised(void **state)
{
    void *memory[20];

    (void)state;
    for (int i = 0; i < 20; i++) {
        float value = 0.0f;

        assert_int_equal(backend->alloc((size_t)(4 + 1000 * i), &memory[i]), GDNCP_OK);
        assert_int_equal((uintptr_t)memory[i] % 256, 0);
        assert_int_equal(backend->copy(&value, (char *)memory[i] + 1000 * i, sizeof value, NULL),
                         GDNCP_OK);
        assert_true(isnan(value));
    }
    for (int i = 0; i < 20; i++) {
        backend->free(memory[i]);
    }
    memory[0] = NULL;
    assert_int_equal(backend->alloc((size_t)1 << 40, &memory[0]), GDNCP_ERR_OUT_OF_MEMORY);
    assert_int_equal(backend->alloc(SIZE_MAX, &memory[0]), GDNCP_ERR_OUT_OF_MEMORY);
    assert_int_equal(backend->alloc_pinned(SIZE_MAX, &memory[0]), GDNCP_ERR_OUT_OF_MEMORY);
    assert_null(memory[0]);
}

/* More than the device has, but not at the same time. */
static void freed_memory_is_used_again(void **state)
{
    (void)state;
    for (int i = 0; i < 12; i++) {
        void *memory = NULL;

        assert_int_equal(backend->alloc((size_t)1 << 29, &memory), GDNCP_OK);
        backend->free(memory);
    }
}

static void nothing_runs_before_somebody_waits(void **state)
{
    gdncp_stream_t stream = new_stream();
    float *const a = device_array();
    float *const b = device_array();
    float *const pinned = pinned_array(7.0f);
    float value = 0.0f;

    (void)state;
    assert_int_equal(backend->copy(a, pinned, ARRAY_BYTES, stream), GDNCP_OK);
    assert_int_equal(planted_copy(a, b, stream), GDNCP_OK);
    assert_int_equal(backend->copy(pinned, b, ARRAY_BYTES, stream), GDNCP_OK);
    change(&pinned[5], 8.0f); /* before the first copy is made */
    assert_true(look_at(&pinned[4]) == 7.0f);
    assert_int_equal(backend->clear(a, ARRAY_BYTES / 2, stream), GDNCP_OK);
    assert_int_equal(backend->copy(pinned + 1, a, sizeof(float), stream), GDNCP_OK);
    change(&pinned[1], 9.0f);
    assert_int_equal(backend->stream_synchronize(stream), GDNCP_OK);
    assert_true(pinned[1] == 0.0f);
    assert_true(pinned[5] == 8.0f);
    assert_int_equal(backend->copy(&value, b + 5, sizeof value, stream), GDNCP_OK);
    assert_true(value == 8.0f);

    const emulator_work_t work = emulator_counts();

    assert_int_equal(work.kernels, 1);
    assert_int_equal(work.copies, 4);
    assert_int_equal(work.clears, 1);
    assert_int_equal(work.host_calls, 0);
    assert_int_equal(work.allocations, 3);
    assert_int_equal(work.waits, 2);
    backend->free(a);
    backend->free(b);
    backend->free_pinned(pinned);
    backend->stream_destroy(stream);
}

static void add_one(void *context)
{
    *(float *)context += 1.0f;
}

static void what_is_forbidden_fails(void **state)
{
    gdncp_stream_t stream = new_stream();
    gdncp_event_t event = NULL;
    float *const a = device_array();
    float *const pinned = pinned_array(7.0f);
    float value = 0.0f;
    void *memory = NULL;

    (void)state;
    assert_int_equal(backend->event_create(&event), GDNCP_OK);
    emulator_forbid(true);
    check_failure(backend->alloc(4, &memory), "alloc: expected no allocation and no wait here");
    check_failure(backend->alloc_pinned(4, &memory), "alloc_pinned: expected no allocation");
    check_failure(backend->stream_synchronize(stream), "stream_synchronize: expected no");
    check_failure(backend->copy(a, &value, sizeof value, stream), "copy: expected no");
    assert_null(memory);
    assert_int_equal(backend->copy(a, pinned, ARRAY_BYTES, stream), GDNCP_OK);
    assert_int_equal(backend->clear(a, 4, stream), GDNCP_OK);
    assert_int_equal(planted_copy(a, a, stream), GDNCP_OK);
    assert_int_equal(backend->event_record(event, stream), GDNCP_OK);
    assert_int_equal(backend->stream_wait_event(stream, event), GDNCP_OK);
    assert_int_equal(backend->copy(pinned, a, ARRAY_BYTES, stream), GDNCP_OK);
    assert_int_equal(backend->call_host(stream, add_one, pinned), GDNCP_OK);
    emulator_forbid(false);
    assert_int_equal(backend->stream_synchronize(stream), GDNCP_OK);
    assert_true(pinned[0] == 1.0f);
    assert_true(pinned[1] == 7.0f);
    backend->event_destroy(event);
    backend->free(a);
    backend->free_pinned(pinned);
    backend->stream_destroy(stream);
}

static void launches_have_limits(void **state)
{
    static const struct {
        int64_t x;
        int y;
        int z;
        int threads;
        int64_t shared_bytes;
        const char *sentence;
    } cases[] = {
        {1, 1, 1, 1056, 0, "nothing: expected a launch with whole warps and at most 1024 threads"},
        {1, 1, 1, 100, 0, "got 100 threads"},
        {1, 1, 1, 0, 0, "got 0 threads"},
        {(int64_t)1 << 31, 1, 1, 32, 0, "got (2147483648, 1, 1)"},
        {1, 65536, 1, 32, 0, "got (1, 65536, 1)"},
        {1, 1, 65536, 32, 0, "got (1, 1, 65536)"},
        {-1, 1, 1, 32, 0, "got (-1, 1, 1)"},
        {1, 1, 1, 32, 227 * 1024 + 1, "expected a launch with at most 232448 bytes"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        check_failure(planted_launch(cases[i].x, cases[i].y, cases[i].z, cases[i].threads,
                                     cases[i].shared_bytes, NULL),
                      cases[i].sentence);
    }
    assert_int_equal(planted_launch(2, 1, 1, 1024, 227 * 1024, NULL), GDNCP_OK);
    assert_int_equal(planted_launch(0, 1, 1, 1024, 0, NULL), GDNCP_OK);
    assert_int_equal(backend->stream_synchronize(NULL), GDNCP_OK);
    assert_int_equal(emulator_counts().kernels, 1);
}

/* A smaller device says so, and refuses what it has no room for. */
static void shared_memory_can_be_smaller(void **state)
{
    static const size_t sizes[] = {99 * 1024, 163 * 1024, 0, 1024 * 1024};
    static const size_t limits[] = {99 * 1024, 163 * 1024, 227 * 1024, 227 * 1024};

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const int64_t limit = (int64_t)limits[i];
        gdncp_device_info_t info;

        emulator_set_shared_bytes(sizes[i]);
        assert_int_equal(backend->info(&info), GDNCP_OK);
        assert_int_equal(info.shared_bytes, limit);
        assert_int_equal(planted_launch(1, 1, 1, 32, limit, NULL), GDNCP_OK);
        check_failure(planted_launch(1, 1, 1, 32, limit + 1, NULL), "bytes of shared memory a");
    }
    assert_int_equal(backend->stream_synchronize(NULL), GDNCP_OK);
}

static void copies_stay_inside_of_memory(void **state)
{
    float *const a = device_array();
    float host[COUNT + 1] = {0};

    (void)state;
    check_failure(backend->copy(a, host, ARRAY_BYTES + 4, NULL),
                  "dst: expected 516 bytes of one block of device memory");
    check_failure(backend->copy(host, a + 1, ARRAY_BYTES, NULL), "src: expected 512 bytes");
    check_failure(backend->clear(a - 1, 4, NULL), "memory: expected 4 bytes");
    check_failure(backend->clear(host, 4, NULL), "memory: expected the device's");
    check_failure(backend->wait_flag(NULL, (const uint32_t *)host), "flag: expected pinned");
    backend->free(a);
}

static void what_does_not_exist_is_refused(void **state)
{
    gdncp_stream_t stream = new_stream();
    gdncp_event_t event = NULL;
    int nothing = 0;

    (void)state;
    assert_int_equal(backend->event_create(&event), GDNCP_OK);
    check_failure(planted_launch(1, 1, 1, 32, 0, &nothing), "stream: expected one that exists");
    check_failure(backend->stream_synchronize(&nothing), "stream: expected");
    check_failure(backend->event_record(&nothing, stream), "event: expected one that exists");
    check_failure(backend->event_record(event, &nothing), "stream: expected");
    check_failure(backend->stream_wait_event(stream, &nothing), "event: expected");
    check_failure(backend->stream_wait_event(&nothing, event), "stream: expected");
    backend->event_destroy(event);
    backend->stream_destroy(stream);
    check_failure(backend->stream_synchronize(stream), "stream: expected");
}

static void events_have_times(void **state)
{
    gdncp_stream_t stream = new_stream();
    gdncp_event_t begin = NULL;
    gdncp_event_t end = NULL;
    float ms = -1.0f;

    (void)state;
    assert_int_equal(backend->event_create(&begin), GDNCP_OK);
    assert_int_equal(backend->event_create(&end), GDNCP_OK);
    check_failure(backend->event_elapsed(begin, end, &ms), "got one that was never recorded");
    assert_int_equal(backend->event_record(begin, stream), GDNCP_OK);
    assert_int_equal(planted_launch(4, 1, 1, 256, 0, stream), GDNCP_OK);
    assert_int_equal(backend->event_record(end, stream), GDNCP_OK);
    check_failure(backend->event_elapsed(begin, end, &ms), "got one that is under way");
    assert_true(ms == -1.0f);
    assert_int_equal(backend->stream_synchronize(stream), GDNCP_OK);
    assert_int_equal(backend->event_elapsed(begin, end, &ms), GDNCP_OK);
    assert_true(ms > 0.0f && ms < 1e5f);
    assert_int_equal(backend->event_elapsed(end, begin, &ms), GDNCP_OK);
    assert_true(ms < 0.0f);
    backend->event_destroy(begin);
    backend->event_destroy(end);
    backend->stream_destroy(stream);
}

/* A wait is for the last record before it, not for later ones; without one it is nothing. */
static void waits_are_for_the_record_before(void **state)
{
    gdncp_stream_t first = new_stream();
    gdncp_stream_t second = new_stream();
    gdncp_event_t event = NULL;
    float *const pinned = pinned_array(0.0f);

    (void)state;
    assert_int_equal(backend->event_create(&event), GDNCP_OK);
    assert_int_equal(backend->stream_wait_event(second, event), GDNCP_OK);
    assert_int_equal(backend->stream_synchronize(second), GDNCP_OK);
    assert_int_equal(backend->call_host(first, add_one, &pinned[0]), GDNCP_OK);
    assert_int_equal(backend->event_record(event, first), GDNCP_OK);
    assert_int_equal(backend->stream_wait_event(second, event), GDNCP_OK);
    assert_int_equal(backend->call_host(first, add_one, &pinned[1]), GDNCP_OK);
    assert_int_equal(backend->event_record(event, first), GDNCP_OK);
    backend->event_destroy(event); /* what was queued knows it still */
    assert_int_equal(backend->stream_synchronize(second), GDNCP_OK);
    assert_true(pinned[0] == 1.0f);
    assert_true(look_at(&pinned[1]) == 0.0f);
    assert_int_equal(backend->stream_synchronize(first), GDNCP_OK);
    assert_true(pinned[1] == 1.0f);
    backend->free_pinned(pinned);
    backend->stream_destroy(first);
    backend->stream_destroy(second);
}

static void a_destroyed_stream_does_its_work(void **state)
{
    gdncp_stream_t first = new_stream();
    gdncp_stream_t second = new_stream();
    gdncp_event_t event = NULL;
    float *const pinned = pinned_array(0.0f);
    float *const a = device_array();

    (void)state;
    assert_int_equal(backend->event_create(&event), GDNCP_OK);
    assert_int_equal(backend->call_host(first, add_one, &pinned[0]), GDNCP_OK);
    assert_int_equal(backend->event_record(event, first), GDNCP_OK);
    assert_int_equal(backend->call_host(first, add_one, &pinned[1]), GDNCP_OK);
    backend->stream_destroy(first);
    assert_int_equal(backend->stream_wait_event(second, event), GDNCP_OK);
    assert_int_equal(backend->stream_synchronize(second), GDNCP_OK);
    assert_true(pinned[0] == 1.0f);
    assert_true(look_at(&pinned[1]) == 0.0f);
    backend->free(a); /* waits for all */
    assert_true(pinned[1] == 1.0f);
    backend->event_destroy(event);
    backend->free_pinned(pinned);
    backend->stream_destroy(second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(memory_is_aligned_and_not_initialised, reset),
        cmocka_unit_test_setup(freed_memory_is_used_again, reset),
        cmocka_unit_test_setup(nothing_runs_before_somebody_waits, reset),
        cmocka_unit_test_setup(what_is_forbidden_fails, reset),
        cmocka_unit_test_setup(launches_have_limits, reset),
        cmocka_unit_test_setup(shared_memory_can_be_smaller, reset),
        cmocka_unit_test_setup(copies_stay_inside_of_memory, reset),
        cmocka_unit_test_setup(what_does_not_exist_is_refused, reset),
        cmocka_unit_test_setup(events_have_times, reset),
        cmocka_unit_test_setup(waits_are_for_the_record_before, reset),
        cmocka_unit_test_setup(a_destroyed_stream_does_its_work, reset),
    };

    return cmocka_run_group_tests_name("streams of the emulator", tests, find_backend, NULL);
}
