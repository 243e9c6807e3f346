#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "gdncp/memory.h"
#include "gdncp/trace.h"
#include "trace_internal.h"

static int64_t clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void off_until_started(void **state)
{
    int64_t count = -1;
    int64_t dropped = -1;

    (void)state;
    assert_int_equal(gdncp_trace_begin(), 0);
    gdncp_trace_end("none", 0, 1);
    gdncp_trace_end("none", 5, 1);
    assert_null(gdncp_trace_events(&count, &dropped));
    assert_int_equal(count, 0);
    assert_int_equal(dropped, 0);
    gdncp_trace_stop();
}

static void events_come_in_order_of_their_end(void **state)
{
    const int64_t before = clock_ns();
    int64_t count = -1;
    int64_t dropped = -1;

    (void)state;
    assert_int_equal(gdncp_trace_start(4), GDNCP_OK);
    const int64_t outer = gdncp_trace_begin();
    const int64_t inner = gdncp_trace_begin();
    gdncp_trace_end("inner", inner, 10);
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    gdncp_trace_end("outer", outer, 0);
    const gdncp_trace_event_t *const events = gdncp_trace_events(&count, &dropped);
    assert_int_equal(count, 2);
    assert_int_equal(dropped, 0);
    assert_string_equal(events[0].name, "inner");
    assert_int_equal(events[0].bytes, 10);
    assert_string_equal(events[1].name, "outer");
    assert_int_equal(events[1].bytes, 0);
    assert_true(before <= events[1].begin_ns && events[1].begin_ns <= events[0].begin_ns);
    assert_true(events[0].duration_ns >= 0);
    assert_true(events[1].duration_ns >= 2000000);
    assert_true(events[1].begin_ns + events[1].duration_ns <= clock_ns());
    gdncp_trace_stop();
}

static void overflow_is_counted(void **state)
{
    int64_t count = -1;
    int64_t dropped = -1;

    (void)state;
    assert_int_equal(gdncp_trace_start(2), GDNCP_OK);
    for (int64_t i = 0; i < 5; i++) {
        gdncp_trace_end("event", gdncp_trace_begin(), i);
    }
    const gdncp_trace_event_t *const events = gdncp_trace_events(&count, &dropped);
    assert_int_equal(count, 2);
    assert_int_equal(dropped, 3);
    assert_int_equal(events[1].bytes, 1);
    assert_int_equal(gdncp_trace_start(3), GDNCP_OK);
    gdncp_trace_events(&count, &dropped);
    assert_int_equal(count, 0);
    assert_int_equal(dropped, 0);
    gdncp_trace_stop();
}

static void recording_allocates_at_start_only(void **state)
{
    gdncp_memory_usage_t usage = {0};

    (void)state;
    gdncp_memory_track(&usage);
    assert_int_equal(gdncp_trace_start(100), GDNCP_OK);
    for (int i = 0; i < 200; i++) {
        gdncp_trace_end("event", gdncp_trace_begin(), 0);
    }
    assert_int_equal(gdncp_trace_start(100), GDNCP_OK);
    assert_int_equal(usage.num_allocations, 2);
    gdncp_trace_stop();
    gdncp_memory_track(NULL);
    assert_int_equal(usage.current_bytes, 0);
}

static void bad_capacity_is_refused(void **state)
{
    static const int64_t capacities[] = {0, -1, INT64_MAX};
    int64_t count = -1;
    int64_t dropped = -1;

    (void)state;
    assert_int_equal(gdncp_trace_start(2), GDNCP_OK);
    gdncp_trace_end("kept", gdncp_trace_begin(), 0);
    for (size_t i = 0; i < sizeof capacities / sizeof capacities[0]; i++) {
        assert_int_equal(gdncp_trace_start(capacities[i]), GDNCP_ERR_INVALID_ARGUMENT);
        assert_non_null(strstr(gdncp_last_error(), "capacity"));
    }
    assert_int_equal(gdncp_trace_start(INT64_MAX / 64), GDNCP_ERR_OUT_OF_MEMORY);
    assert_non_null(strstr(gdncp_last_error(), "trace events"));
    assert_string_equal(gdncp_trace_events(&count, &dropped)[0].name, "kept");
    assert_int_equal(count, 1);
    gdncp_trace_stop();
}

static void *record_three(void *argument)
{
    int64_t *const seen = argument;
    int64_t dropped = -1;

    if (gdncp_trace_begin() != 0 || gdncp_trace_start(8) != GDNCP_OK) {
        return NULL;
    }
    for (int i = 0; i < 3; i++) {
        gdncp_trace_end("thread", gdncp_trace_begin(), 0);
    }
    gdncp_trace_events(seen, &dropped);
    gdncp_trace_stop();
    return NULL;
}

static void threads_have_a_record_each(void **state)
{
    pthread_t thread;
    int64_t seen = -1;
    int64_t count = -1;
    int64_t dropped = -1;

    (void)state;
    assert_int_equal(gdncp_trace_start(8), GDNCP_OK);
    gdncp_trace_end("main", gdncp_trace_begin(), 0);
    assert_int_equal(pthread_create(&thread, NULL, record_three, &seen), 0);
    pthread_join(thread, NULL);
    assert_int_equal(seen, 3);
    gdncp_trace_events(&count, &dropped);
    assert_int_equal(count, 1);
    gdncp_trace_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(off_until_started),
        cmocka_unit_test(events_come_in_order_of_their_end),
        cmocka_unit_test(overflow_is_counted),
        cmocka_unit_test(recording_allocates_at_start_only),
        cmocka_unit_test(bad_capacity_is_refused),
        cmocka_unit_test(threads_have_a_record_each),
    };

    return cmocka_run_group_tests_name("trace", tests, NULL, NULL);
}
