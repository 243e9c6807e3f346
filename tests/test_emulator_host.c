/* Mistakes of the host are found: in the use of streams, of memory, and of what is not there. */
#include "planted_case.h"

/* Two streams: one writes out, the other reads it, and waits for an event or does not. */
static gdncp_status_t missing_wait(bool mended, const arrays_t *a)
{
    const gdncp_backend_t *backend;
    gdncp_stream_t other = NULL;
    gdncp_event_t event = NULL;
    void *between = NULL;
    gdncp_status_t status = gdncp_backend_find(&backend);

    if (status == GDNCP_OK) {
        status = backend->alloc(COUNT * sizeof(float), &between);
    }
    if (status == GDNCP_OK) {
        status = backend->stream_create(&other);
    }
    if (status == GDNCP_OK) {
        status = backend->event_create(&event);
    }
    if (status == GDNCP_OK) {
        status = planted_copy(a->in, between, other);
    }
    if (status == GDNCP_OK) {
        status = backend->event_record(event, other);
    }
    if (status == GDNCP_OK && mended) {
        status = backend->stream_wait_event(a->stream, event);
    }
    if (status == GDNCP_OK) {
        status = planted_copy(between, a->out, a->stream);
    }
    if (status == GDNCP_OK) {
        status = backend->stream_synchronize(a->stream);
    }
    if (status == GDNCP_OK) {
        status = backend->stream_synchronize(other);
    }
    backend->event_destroy(event);
    backend->stream_destroy(other);
    backend->free(between);
    return status;
}

static gdncp_status_t use_after_free(bool mended, const arrays_t *a)
{
    void *freed = NULL;
    gdncp_status_t status = gdncp_device_alloc(GDNCP_DEVICE_CUDA, COUNT * sizeof(float), &freed);

    if (status == GDNCP_OK) {
        status =
            gdncp_device_copy(GDNCP_DEVICE_CUDA, freed, a->in, COUNT * sizeof(float), a->stream);
    }
    if (status == GDNCP_OK && !mended) {
        gdncp_device_free(GDNCP_DEVICE_CUDA, freed);
    }
    if (status == GDNCP_OK) {
        status = planted_copy(freed, a->out, a->stream);
    }
    if (status == GDNCP_OK && mended) {
        gdncp_device_free(GDNCP_DEVICE_CUDA, freed);
    }
    return status;
}

static gdncp_status_t host_reads(bool mended, const arrays_t *a)
{
    gdncp_status_t status = planted_copy(a->in, a->out, a->stream);

    if (status == GDNCP_OK) {
        status = gdncp_stream_synchronize(GDNCP_DEVICE_CUDA, a->stream);
    }
    if (status == GDNCP_OK && !mended && *(volatile const float *)a->out != 1.0f) {
        status = GDNCP_ERR_INTERNAL;
    }
    return status;
}

static gdncp_status_t host_reads_new_memory(bool mended, const arrays_t *a)
{
    void *memory = NULL;
    gdncp_status_t status = gdncp_device_alloc(GDNCP_DEVICE_CUDA, 4, &memory);

    if (status == GDNCP_OK && !mended && *(volatile const float *)memory == 0.0f) {
        status = GDNCP_ERR_INTERNAL;
    }
    gdncp_device_free(GDNCP_DEVICE_CUDA, memory);
    return status == GDNCP_OK ? planted_copy(a->in, a->out, a->stream) : status;
}

/* The host may touch what is lent to it, and no longer. */
static gdncp_status_t host_reads_after_loan(bool mended, const arrays_t *a)
{
    const gdncp_backend_t *backend;
    int device = -1;
    gdncp_status_t status = planted_copy(a->in, a->out, a->stream);

    if (status == GDNCP_OK) {
        status = gdncp_stream_synchronize(GDNCP_DEVICE_CUDA, a->stream);
    }
    if (status == GDNCP_OK) {
        status = gdncp_backend_find(&backend);
    }
    if (status == GDNCP_OK) {
        status = backend->current(&device);
    }
    if (status == GDNCP_OK) {
        status = backend->lend(device);
    }
    if (status == GDNCP_OK && !mended) {
        status = backend->take_back(device);
    }
    if (status == GDNCP_OK && *(volatile const float *)a->out != 1.0f) {
        status = GDNCP_ERR_INTERNAL;
    }
    return status == GDNCP_OK ? backend->take_back(device) : status;
}

static gdncp_status_t taken_back_twice(bool mended, const arrays_t *a)
{
    const gdncp_backend_t *backend;
    gdncp_status_t status = gdncp_backend_find(&backend);

    if (status == GDNCP_OK) {
        status = backend->lend(0);
    }
    if (status == GDNCP_OK) {
        status = backend->take_back(0);
    }
    if (status == GDNCP_OK && !mended) {
        status = backend->take_back(0);
    }
    return status == GDNCP_OK ? planted_copy(a->in, a->out, a->stream) : status;
}

/* A host call that uses the device. */
static void synchronize(void *stream)
{
    (void)gdncp_stream_synchronize(GDNCP_DEVICE_CUDA, stream);
}

static void do_nothing(void *stream)
{
    (void)stream;
}

static gdncp_status_t host_call(bool mended, const arrays_t *a)
{
    const gdncp_backend_t *backend;
    gdncp_status_t status = gdncp_backend_find(&backend);

    if (status == GDNCP_OK) {
        status = backend->call_host(a->stream, mended ? do_nothing : synchronize, a->stream);
    }
    return status == GDNCP_OK ? planted_copy(a->in, a->out, a->stream) : status;
}

/* A copy from pinned memory that is freed before it is made. */
static gdncp_status_t pinned_freed(bool mended, const arrays_t *a)
{
    const gdncp_backend_t *backend;
    void *pinned = NULL;
    gdncp_status_t status = gdncp_backend_find(&backend);

    if (status == GDNCP_OK) {
        status = backend->alloc_pinned(COUNT * sizeof(float), &pinned);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    for (int t = 0; t < COUNT; t++) {
        ((float *)pinned)[t] = same(t);
    }
    status = backend->copy(a->out, pinned, COUNT * sizeof(float), a->stream);
    if (status == GDNCP_OK && mended) {
        status = backend->stream_synchronize(a->stream);
    }
    backend->free_pinned(pinned);
    return status;
}

/* What is not there, or not allowed, where a call cannot fail. */
static gdncp_status_t free_inside(bool mended, const arrays_t *a)
{
    void *memory = NULL;
    gdncp_status_t status = planted_copy(a->in, a->out, a->stream);
    const gdncp_backend_t *backend;

    if (status == GDNCP_OK) {
        status = gdncp_backend_find(&backend);
    }
    if (status == GDNCP_OK) {
        status = backend->alloc(1024, &memory);
    }
    if (status == GDNCP_OK) {
        backend->free((char *)memory + (mended ? 0 : 256));
    }
    return status;
}

static gdncp_status_t free_pinned_inside(bool mended, const arrays_t *a)
{
    void *memory = NULL;
    gdncp_status_t status = planted_copy(a->in, a->out, a->stream);
    const gdncp_backend_t *backend;

    if (status == GDNCP_OK) {
        status = gdncp_backend_find(&backend);
    }
    if (status == GDNCP_OK) {
        status = backend->alloc_pinned(1024, &memory);
    }
    if (status == GDNCP_OK) {
        backend->free_pinned((char *)memory + (mended ? 0 : 256));
    }
    return status;
}

static gdncp_status_t free_forbidden(bool mended, const arrays_t *a)
{
    void *memory = NULL;
    gdncp_status_t status = gdncp_device_alloc(GDNCP_DEVICE_CUDA, 4, &memory);

    if (status == GDNCP_OK) {
        emulator_forbid(!mended);
        gdncp_device_free(GDNCP_DEVICE_CUDA, memory);
        emulator_forbid(false);
        status = planted_copy(a->in, a->out, a->stream);
    }
    return status;
}

static gdncp_status_t free_pinned_forbidden(bool mended, const arrays_t *a)
{
    const gdncp_backend_t *backend;
    void *memory = NULL;
    gdncp_status_t status = gdncp_backend_find(&backend);

    if (status == GDNCP_OK) {
        status = backend->alloc_pinned(4, &memory);
    }
    if (status == GDNCP_OK) {
        emulator_forbid(!mended);
        backend->free_pinned(memory);
        emulator_forbid(false);
        status = planted_copy(a->in, a->out, a->stream);
    }
    return status;
}

static gdncp_status_t destroyed_twice(bool mended, const arrays_t *a)
{
    gdncp_stream_t stream = NULL;
    const gdncp_status_t status = gdncp_stream_create(GDNCP_DEVICE_CUDA, &stream);

    gdncp_stream_destroy(GDNCP_DEVICE_CUDA, stream);
    if (!mended) {
        gdncp_stream_destroy(GDNCP_DEVICE_CUDA, stream);
    }
    return status == GDNCP_OK ? planted_copy(a->in, a->out, a->stream) : status;
}

static gdncp_status_t event_destroyed_twice(bool mended, const arrays_t *a)
{
    const gdncp_backend_t *backend;
    gdncp_event_t event = NULL;
    gdncp_status_t status = gdncp_backend_find(&backend);

    if (status == GDNCP_OK) {
        status = backend->event_create(&event);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    backend->event_destroy(event);
    if (!mended) {
        backend->event_destroy(event);
    }
    return planted_copy(a->in, a->out, a->stream);
}

static const planted_t all_planted[] = {
    {"missing wait", missing_wait, same, SEEDS | THREAD, NULL},
    {"use after free", use_after_free, same, STOPS, "where device memory is freed"},
    {"host reads", host_reads, same, STOPS, "the host touches device memory"},
    {"host reads new memory", host_reads_new_memory, same, STOPS, "the host touches device memory"},
    {"host reads after loan", host_reads_after_loan, same, STOPS, "the host touches device memory"},
    {"taken back twice", taken_back_twice, same, STOPS,
     "take_back: device memory is taken back that was not lent"},
    {"host call", host_call, same, STOPS,
     "stream_synchronize: a function queued with call_host() may use no call of the backend"},
    {"pinned freed", pinned_freed, same, STOPS,
     "pinned memory is freed while a copy of it is queued"},
    {"free inside", free_inside, same, STOPS, "free: expected a block of device memory"},
    {"free pinned inside", free_pinned_inside, same, STOPS,
     "free_pinned: expected a block of pinned memory"},
    {"free forbidden", free_forbidden, same, STOPS,
     "free: memory of the device is freed where emulator_forbid() forbids it"},
    {"free pinned forbidden", free_pinned_forbidden, same, STOPS,
     "free_pinned: pinned memory is freed where emulator_forbid() forbids it"},
    {"destroyed twice", destroyed_twice, same, STOPS, "a stream is destroyed that does not exist"},
    {"event destroyed twice", event_destroyed_twice, same, STOPS,
     "an event is destroyed that does not exist"},
};

static void mistakes_are_found(void **state)
{
    (void)state;
    check_mistakes_are_found(all_planted, sizeof all_planted / sizeof all_planted[0]);
}

static void what_is_mended_is_right(void **state)
{
    (void)state;
    check_mended_is_right(all_planted, sizeof all_planted / sizeof all_planted[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mistakes_are_found),
        cmocka_unit_test(what_is_mended_is_right),
    };

    return cmocka_run_group_tests_name("mistakes of the host", tests, NULL, NULL);
}
