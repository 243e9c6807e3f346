/* Captures of streams, and the graphs that they become. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <string.h>

#include "backend.h"
#include "emulator_control.h"
#include "planted_kernels.h"
#include "unseen.h"

enum { COUNT = PLANTED_THREADS, ARRAY_BYTES = COUNT * sizeof(float) };

static const gdncp_backend_t *backend;

/* What every test uses. */
static gdncp_stream_t stream;
static gdncp_stream_t other;
static gdncp_event_t event;
static float *a;      /* on the device */
static float *b;      /* on the device */
static float *pinned; /* on the host */

static int create(void **state)
{
    void *memory[3] = {NULL, NULL, NULL};

    (void)state;
    emulator_set_schedule(0);
    emulator_reset_counts();
    if (gdncp_backend_find(&backend) != GDNCP_OK || backend->stream_create(&stream) != GDNCP_OK ||
        backend->stream_create(&other) != GDNCP_OK || backend->event_create(&event) != GDNCP_OK ||
        backend->alloc(ARRAY_BYTES, &memory[0]) != GDNCP_OK ||
        backend->alloc(ARRAY_BYTES, &memory[1]) != GDNCP_OK ||
        backend->alloc_pinned(ARRAY_BYTES, &memory[2]) != GDNCP_OK) {
        return 1;
    }
    a = memory[0];
    b = memory[1];
    pinned = memory[2];
    memset(pinned, 0, ARRAY_BYTES);
    return 0;
}

static int destroy(void **state)
{
    (void)state;
    backend->free(a);
    backend->free(b);
    backend->free_pinned(pinned);
    backend->event_destroy(event);
    backend->stream_destroy(stream);
    backend->stream_destroy(other);
    return 0;
}

static void *end_capture(void)
{
    void *graph = NULL;

    assert_int_equal(backend->capture_end(stream, &graph), GDNCP_OK);
    assert_non_null(graph);
    return graph;
}

static void check_failure(gdncp_status_t status, const char *sentence)
{
    assert_int_equal(status, GDNCP_ERR_DEVICE);
    if (strstr(gdncp_last_error(), sentence) == NULL) {
        fail_msg("expected \"%s\", got \"%s\"", sentence, gdncp_last_error());
    }
}

static void check_end_fails(const char *sentence)
{
    void *graph = NULL;

    check_failure(backend->capture_end(stream, &graph), sentence);
    assert_null(graph);
}

static void add_one(void *context)
{
    *(float *)context += 1.0f;
}

/* pinned[0] += 1, then all of pinned to a to b, and b[1] to pinned[2]. */
static void queue_work(void)
{
    assert_int_equal(backend->call_host(stream, add_one, pinned), GDNCP_OK);
    assert_int_equal(backend->copy(a, pinned, ARRAY_BYTES, stream), GDNCP_OK);
    assert_int_equal(planted_copy(a, b, stream), GDNCP_OK);
    assert_int_equal(backend->copy(&pinned[2], &b[1], sizeof(float), stream), GDNCP_OK);
    assert_int_equal(backend->copy(&pinned[3], &b[0], sizeof(float), stream), GDNCP_OK);
}

static void a_graph_runs_as_often_as_it_is_launched(void **state)
{
    (void)state;
    assert_int_equal(backend->capture_begin(stream), GDNCP_OK);
    queue_work();
    void *const graph = end_capture();

    assert_int_equal(backend->stream_synchronize(stream), GDNCP_OK);
    assert_true(pinned[0] == 0.0f);
    for (int i = 1; i <= 3; i++) {
        pinned[1] = 10.0f * (float)i;
        assert_int_equal(backend->graph_launch(graph, i == 2 ? other : stream), GDNCP_OK);
        assert_true(look_at(&pinned[0]) == (float)(i - 1));
        assert_int_equal(backend->stream_synchronize(i == 2 ? other : stream), GDNCP_OK);
        assert_true(pinned[0] == (float)i);
        assert_true(pinned[2] == 10.0f * (float)i);
        assert_true(pinned[3] == (float)i);
    }
    assert_int_equal(backend->graph_launch(graph, stream), GDNCP_OK);
    assert_int_equal(backend->graph_launch(graph, stream), GDNCP_OK);
    backend->graph_destroy(graph);
    assert_int_equal(backend->stream_synchronize(stream), GDNCP_OK);
    assert_true(pinned[3] == 5.0f);
    assert_int_equal(emulator_counts().kernels, 5);
    assert_int_equal(emulator_counts().host_calls, 5);
}

static gdncp_status_t try_alloc(void)
{
    void *memory = NULL;

    return backend->alloc(4, &memory);
}

static gdncp_status_t try_alloc_pinned(void)
{
    void *memory = NULL;

    return backend->alloc_pinned(4, &memory);
}

static gdncp_status_t try_wait(void)
{
    return backend->stream_synchronize(stream);
}

static gdncp_status_t try_wait_for_other(void)
{
    return backend->stream_synchronize(other);
}

static gdncp_status_t try_pageable_copy(void)
{
    float value = 0.0f;

    return backend->copy(&value, a, sizeof value, stream);
}

static gdncp_status_t try_elapsed(void)
{
    float ms;

    return backend->event_elapsed(event, event, &ms);
}

static gdncp_status_t try_capture(void)
{
    return backend->capture_begin(stream);
}

/* Of work that another stream did before the capture. */
static gdncp_status_t try_wait_for_outside(void)
{
    return backend->stream_wait_event(stream, event);
}

static void what_cannot_be_captured_spoils_the_capture(void **state)
{
    static const struct {
        gdncp_status_t (*try)(void);
        const char *sentence;
    } cases[] = {
        {try_alloc, "capture: expected work that can be captured, got an allocation"},
        {try_alloc_pinned, "got an allocation"},
        {try_wait, "got a wait for a stream"},
        {try_wait_for_other, "got a wait for a stream"},
        {try_pageable_copy, "got a copy to or from pageable memory"},
        {try_elapsed, "got a question for an event's time"},
        {try_capture, "got a capture inside of it"},
        {try_wait_for_outside, "got a wait for an event of outside"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(backend->event_record(event, other), GDNCP_OK);
        assert_int_equal(backend->capture_begin(stream), GDNCP_OK);
        queue_work();
        check_failure(cases[i].try(), cases[i].sentence);
        queue_work();
        check_end_fails(cases[i].sentence);
    }
    assert_int_equal(backend->stream_synchronize(stream), GDNCP_OK);
    assert_true(pinned[0] == 0.0f);
    queue_work();
    assert_int_equal(backend->stream_synchronize(stream), GDNCP_OK);
    assert_true(pinned[3] == 1.0f);
}

static void *wait_from_outside(void *status)
{
    *(gdncp_status_t *)status = backend->stream_synchronize(stream);
    return NULL;
}

static void other_threads_cannot_wait_for_a_capture(void **state)
{
    gdncp_status_t status = GDNCP_OK;
    pthread_t thread;

    (void)state;
    assert_int_equal(backend->capture_begin(stream), GDNCP_OK);
    assert_int_equal(pthread_create(&thread, NULL, wait_from_outside, &status), 0);
    pthread_join(thread, NULL);
    assert_int_equal(status, GDNCP_ERR_DEVICE);
    check_end_fails("got a wait for a stream");
}

/* Frees cannot fail: the capture does, and the memory stays. */
static void frees_spoil_the_capture(void **state)
{
    void *memory = NULL;
    void *host = NULL;

    (void)state;
    assert_int_equal(backend->alloc(ARRAY_BYTES, &memory), GDNCP_OK);
    assert_int_equal(backend->alloc_pinned(ARRAY_BYTES, &host), GDNCP_OK);
    assert_int_equal(backend->capture_begin(stream), GDNCP_OK);
    backend->free(memory);
    check_end_fails("got a free");
    assert_int_equal(backend->capture_begin(stream), GDNCP_OK);
    backend->free_pinned(host);
    check_end_fails("got a free");
    assert_int_equal(backend->clear(memory, ARRAY_BYTES, stream), GDNCP_OK);
    assert_int_equal(backend->copy(host, memory, ARRAY_BYTES, stream), GDNCP_OK);
    backend->free(memory);
    assert_true(*(float *)host == 0.0f);
    backend->free_pinned(host);
}

static void only_a_begun_capture_ends(void **state)
{
    void *graph = NULL;

    (void)state;
    check_failure(backend->capture_end(stream, &graph), "expected a stream in which one has begun");
    assert_int_equal(backend->capture_begin(stream), GDNCP_OK);
    check_failure(backend->capture_end(other, &graph), "expected a stream in which one has begun");
    assert_null(graph);
    backend->graph_destroy(end_capture());
}

/* The other stream takes part in the capture between an event that it waits for, and one of its own
 * that the first waits for. */
static void streams_join_a_capture_by_events(void **state)
{
    (void)state;
    assert_int_equal(backend->capture_begin(stream), GDNCP_OK);
    assert_int_equal(backend->call_host(stream, add_one, pinned), GDNCP_OK);
    assert_int_equal(backend->event_record(event, stream), GDNCP_OK);
    assert_int_equal(backend->stream_wait_event(other, event), GDNCP_OK);
    assert_int_equal(backend->call_host(other, add_one, pinned), GDNCP_OK);
    assert_int_equal(backend->event_record(event, other), GDNCP_OK);
    assert_int_equal(backend->stream_wait_event(stream, event), GDNCP_OK);
    check_failure(backend->capture_end(other, &(void *){NULL}), "in which one has begun");
    assert_int_equal(backend->call_host(stream, add_one, pinned), GDNCP_OK);
    void *const graph = end_capture();

    assert_int_equal(backend->call_host(other, add_one, &pinned[1]), GDNCP_OK);
    assert_int_equal(backend->stream_synchronize(other), GDNCP_OK);
    assert_true(pinned[0] == 0.0f);
    assert_true(pinned[1] == 1.0f);
    assert_int_equal(backend->graph_launch(graph, stream), GDNCP_OK);
    assert_int_equal(backend->stream_synchronize(stream), GDNCP_OK);
    assert_true(pinned[0] == 3.0f);
    backend->graph_destroy(graph);
    check_failure(backend->stream_wait_event(other, event), "got one that was captured");
    assert_int_equal(backend->event_record(event, stream), GDNCP_OK);
    assert_int_equal(backend->stream_wait_event(other, event), GDNCP_OK);
}

static void captures_do_not_mix(void **state)
{
    gdncp_event_t own = NULL;
    void *graph = NULL;

    (void)state;
    assert_int_equal(backend->event_create(&own), GDNCP_OK);
    assert_int_equal(backend->capture_begin(stream), GDNCP_OK);
    assert_int_equal(backend->capture_begin(other), GDNCP_OK);
    assert_int_equal(backend->event_record(own, other), GDNCP_OK);
    check_failure(backend->stream_wait_event(stream, own), "got a wait for an event of another");
    check_end_fails("got a wait for an event of another");
    assert_int_equal(backend->capture_end(other, &graph), GDNCP_OK);
    backend->graph_destroy(graph);
    assert_int_equal(backend->capture_begin(stream), GDNCP_OK);
    check_failure(backend->stream_wait_event(stream, own), "got a wait for an event of outside");
    check_end_fails("got a wait for an event of outside");
    backend->event_destroy(own);
}

static void a_stream_that_is_left_apart_spoils_the_capture(void **state)
{
    (void)state;
    for (int waits = 0; waits < 2; waits++) {
        assert_int_equal(backend->capture_begin(stream), GDNCP_OK);
        assert_int_equal(backend->event_record(event, stream), GDNCP_OK);
        assert_int_equal(backend->stream_wait_event(other, event), GDNCP_OK);
        assert_int_equal(backend->event_record(event, other), GDNCP_OK);
        assert_int_equal(backend->call_host(other, add_one, pinned), GDNCP_OK);
        if (waits > 0) { /* but not for the last of its work */
            assert_int_equal(backend->stream_wait_event(stream, event), GDNCP_OK);
        }
        check_end_fails("got a stream that was left apart");
    }
    assert_int_equal(backend->stream_synchronize(other), GDNCP_OK);
    assert_true(pinned[0] == 0.0f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_graph_runs_as_often_as_it_is_launched, create, destroy),
        cmocka_unit_test_setup_teardown(what_cannot_be_captured_spoils_the_capture, create,
                                        destroy),
        cmocka_unit_test_setup_teardown(other_threads_cannot_wait_for_a_capture, create, destroy),
        cmocka_unit_test_setup_teardown(frees_spoil_the_capture, create, destroy),
        cmocka_unit_test_setup_teardown(only_a_begun_capture_ends, create, destroy),
        cmocka_unit_test_setup_teardown(streams_join_a_capture_by_events, create, destroy),
        cmocka_unit_test_setup_teardown(captures_do_not_mix, create, destroy),
        cmocka_unit_test_setup_teardown(a_stream_that_is_left_apart_spoils_the_capture, create,
                                        destroy),
    };

    return cmocka_run_group_tests_name("captures of the emulator", tests, NULL, NULL);
}
