/* In which order streams run, and what waits in them for other threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "backend.h"
#include "emulator_control.h"
#include "planted_kernels.h"
#include "unseen.h"

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
    return 0;
}

static gdncp_stream_t new_stream(void)
{
    gdncp_stream_t stream = NULL;

    assert_int_equal(backend->stream_create(&stream), GDNCP_OK);
    return stream;
}

/* A few zeros. */
static float *pinned_zeros(void)
{
    enum { BYTES = 64 };
    void *memory = NULL;

    assert_int_equal(backend->alloc_pinned(BYTES, &memory), GDNCP_OK);
    memset(memory, 0, BYTES);
    return memory;
}

static void add_one(void *context)
{
    *(float *)context += 1.0f;
}

enum { NUM_STREAMS = 4, NUM_WARPS = 2, NUM_LOGGED = NUM_STREAMS * NUM_STREAMS * NUM_WARPS * 32 };

/* What streams log that one other waits for. */
static void log_streams(uint64_t seed, int log[NUM_LOGGED + 1])
{
    gdncp_stream_t streams[NUM_STREAMS];
    gdncp_stream_t last = new_stream();
    gdncp_event_t event = NULL;
    void *memory = NULL;

    assert_int_equal(backend->alloc((NUM_LOGGED + 1) * sizeof *log, &memory), GDNCP_OK);
    assert_int_equal(backend->clear(memory, sizeof *log, NULL), GDNCP_OK);
    assert_int_equal(backend->stream_synchronize(NULL), GDNCP_OK);
    assert_int_equal(backend->event_create(&event), GDNCP_OK);
    emulator_set_schedule(seed);
    for (int i = 0; i < NUM_STREAMS; i++) {
        streams[i] = new_stream();
        assert_int_equal(planted_log(i, NUM_STREAMS, NUM_WARPS, memory, streams[i]), GDNCP_OK);
        assert_int_equal(backend->event_record(event, streams[i]), GDNCP_OK);
        assert_int_equal(backend->stream_wait_event(last, event), GDNCP_OK);
    }
    assert_int_equal(backend->copy(log, memory, (NUM_LOGGED + 1) * sizeof *log, last), GDNCP_OK);
    assert_int_equal(log[0], NUM_LOGGED);
    for (int i = 0; i < NUM_STREAMS; i++) {
        backend->stream_destroy(streams[i]);
    }
    backend->event_destroy(event);
    backend->stream_destroy(last);
    backend->free(memory);
}

/* Which stream, block or warp it was, in order, without repetitions. */
static void list_changes(const int *log, int divisor, char *text)
{
    int last = -1;

    for (int i = 1; i <= NUM_LOGGED; i++) {
        const int now = log[i] / divisor % 10;

        if (now != last) {
            *text++ = (char)('0' + now);
        }
        last = now;
    }
    *text = '\0';
}

static void seeds_settle_the_order(void **state)
{
    static const int divisors[] = {1, 100, 10};
    static const char *const in_order[] = {"0123", "0123012301230123",
                                           "01010101010101010101010101010101"};
    static int logs[21][NUM_LOGGED + 1];
    int again[NUM_LOGGED + 1];

    (void)state;
    for (int seed = 0; seed <= 20; seed++) {
        log_streams((uint64_t)seed, logs[seed]);
        log_streams((uint64_t)seed, again);
        assert_memory_equal(logs[seed], again, sizeof again);
        for (int other = 0; other < seed; other++) {
            assert_memory_not_equal(logs[other], again, sizeof again);
        }
    }
    for (int kind = 0; kind < 3; kind++) {
        char first[NUM_LOGGED + 1];
        int num_others = 0;
        int num_mixed = 0;

        list_changes(logs[0], divisors[kind], first);
        assert_string_equal(first, in_order[kind]);
        for (int seed = 1; seed <= 20; seed++) {
            char other[NUM_LOGGED + 1];

            list_changes(logs[seed], divisors[kind], other);
            num_others += strcmp(first, other) != 0;
            num_mixed += strlen(other) > 2 * strlen(first);
        }
        assert_true(num_others >= 10);
        /* Threads of two warps take turns with some seeds. */
        assert_true(kind == 2 ? num_mixed >= 3 : num_mixed == 0);
    }
}

/* Two ranks whose host calls wait for each other: each thread drives its own stream. */
typedef struct rank {
    pthread_t thread;
    atomic_int *own;
    atomic_int *others;
    uint32_t *flag; /* of the other rank */
    gdncp_status_t status;
} rank_t;

static void meet_other(void *context)
{
    const rank_t *const rank = context;

    atomic_store(rank->own, 1);
    while (atomic_load(rank->others) == 0) {
        sched_yield();
    }
    __atomic_store_n(rank->flag, 1, __ATOMIC_RELEASE);
}

static void *run_rank(void *context)
{
    rank_t *const rank = context;

    rank->status = backend->call_host(NULL, meet_other, rank);
    if (rank->status == GDNCP_OK) {
        rank->status = backend->stream_synchronize(NULL);
    }
    return NULL;
}

static void host_calls_of_threads_may_wait_for_each_other(void **state)
{
    atomic_int come[2] = {0, 0};
    uint32_t *const flags = (uint32_t *)pinned_zeros();
    rank_t ranks[2];

    (void)state;
    for (int i = 0; i < 2; i++) {
        ranks[i] = (rank_t){.own = &come[i],
                            .others = &come[1 - i],
                            .flag = &flags[i],
                            .status = GDNCP_ERR_INTERNAL};
        assert_int_equal(pthread_create(&ranks[i].thread, NULL, run_rank, &ranks[i]), 0);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(ranks[i].thread, NULL);
        assert_int_equal(ranks[i].status, GDNCP_OK);
    }
    backend->free_pinned(flags);
}

static void set_flag(void *flag)
{
    __atomic_store_n((uint32_t *)flag, 1, __ATOMIC_RELEASE);
}

static void *set_flag_soon(void *flag)
{
    const struct timespec delay = {.tv_nsec = 2000000};

    nanosleep(&delay, NULL);
    set_flag(flag);
    return NULL;
}

/* The flag is set by another thread, or by another stream that this thread drives too. */
static void streams_wait_for_flags(void **state)
{
    gdncp_stream_t first = new_stream();
    gdncp_stream_t second = new_stream();
    gdncp_event_t event = NULL;
    float *const pinned = pinned_zeros();
    uint32_t *const flag = (uint32_t *)pinned;
    pthread_t thread;

    (void)state;
    assert_int_equal(backend->event_create(&event), GDNCP_OK);
    assert_int_equal(backend->wait_flag(first, flag), GDNCP_OK);
    assert_int_equal(backend->call_host(first, add_one, &pinned[1]), GDNCP_OK);
    assert_int_equal(backend->stream_synchronize(second), GDNCP_OK);
    assert_true(look_at(&pinned[1]) == 0.0f);
    assert_int_equal(pthread_create(&thread, NULL, set_flag_soon, flag), 0);
    assert_int_equal(backend->stream_synchronize(first), GDNCP_OK);
    assert_int_equal(__atomic_load_n(flag, __ATOMIC_ACQUIRE), 1);
    pthread_join(thread, NULL);
    assert_true(pinned[1] == 1.0f);

    assert_int_equal(backend->call_host(second, set_flag, flag + 2), GDNCP_OK);
    assert_int_equal(backend->event_record(event, second), GDNCP_OK);
    assert_int_equal(backend->stream_wait_event(first, event), GDNCP_OK);
    assert_int_equal(backend->wait_flag(first, flag + 2), GDNCP_OK);
    assert_int_equal(backend->call_host(first, add_one, &pinned[1]), GDNCP_OK);
    assert_int_equal(backend->stream_synchronize(first), GDNCP_OK);
    assert_true(pinned[1] == 2.0f);
    backend->event_destroy(event);
    backend->free_pinned(pinned);
    backend->stream_destroy(first);
    backend->stream_destroy(second);
}

/* What a thread leaves in its default stream still runs. */
static void *queue_and_end(void *pinned)
{
    return backend->call_host(NULL, add_one, pinned) == GDNCP_OK ? pinned : NULL;
}

static void default_streams_belong_to_threads(void **state)
{
    float *const pinned = pinned_zeros();
    void *a = NULL;
    pthread_t thread;
    void *result = NULL;

    (void)state;
    assert_int_equal(backend->alloc(4, &a), GDNCP_OK);
    assert_int_equal(pthread_create(&thread, NULL, queue_and_end, pinned), 0);
    pthread_join(thread, &result);
    assert_ptr_equal(result, pinned);
    assert_int_equal(backend->stream_synchronize(NULL), GDNCP_OK);
    assert_true(look_at(&pinned[0]) == 0.0f);
    backend->free(a);
    assert_true(pinned[0] == 1.0f);
    backend->free_pinned(pinned);
}

typedef struct queued_call {
    gdncp_stream_t stream;
    float *pinned;
    bool is_done; /* when the thread has freed memory */
} queued_call_t;

static void *queue_and_free(void *context)
{
    queued_call_t *const call = context;
    void *memory = NULL;

    if (backend->alloc(4, &memory) == GDNCP_OK &&
        backend->call_host(call->stream, add_one, call->pinned) == GDNCP_OK) {
        backend->free(memory);
        call->is_done = call->pinned[0] == 1.0f;
    }
    return NULL;
}

/* A free waits for what its thread has queued, in whoever's stream, and for nobody else's work. */
static void a_free_waits_for_its_thread(void **state)
{
    gdncp_stream_t idle = new_stream();
    queued_call_t call = {.stream = new_stream(), .pinned = pinned_zeros()};
    pthread_t thread;

    (void)state;
    assert_int_equal(backend->call_host(idle, add_one, &call.pinned[1]), GDNCP_OK);
    assert_int_equal(pthread_create(&thread, NULL, queue_and_free, &call), 0);
    pthread_join(thread, NULL);
    assert_true(call.is_done);
    assert_true(look_at(&call.pinned[1]) == 0.0f);
    assert_int_equal(backend->stream_synchronize(idle), GDNCP_OK);
    backend->free_pinned(call.pinned);
    backend->stream_destroy(idle);
    backend->stream_destroy(call.stream);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(seeds_settle_the_order, reset),
        cmocka_unit_test_setup(host_calls_of_threads_may_wait_for_each_other, reset),
        cmocka_unit_test_setup(streams_wait_for_flags, reset),
        cmocka_unit_test_setup(a_free_waits_for_its_thread, reset),
        cmocka_unit_test_setup(default_streams_belong_to_threads, reset),
    };

    return cmocka_run_group_tests_name("order in the emulator", tests, find_backend, NULL);
}
