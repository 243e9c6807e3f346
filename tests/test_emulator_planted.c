/* Mistakes planted in kernels are found, by what each build has; without the mistake nothing is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "backend.h"
#include "child_process.h"
#include "emulator_control.h"
#include "planted_kernels.h"

enum {
    COUNT = PLANTED_THREADS,
    NUM_SEEDS = 8,
    /* exit codes of children; sanitizers have 1 and 66 */
    RIGHT = 0,
    WRONG = 42,
    BROKEN = 43
};

#ifdef SANITIZES_ADDRESS
static const bool has_address_sanitizer = true;
#else
static const bool has_address_sanitizer = false;
#endif
#ifdef SANITIZES_THREAD
static const bool has_thread_sanitizer = true;
#else
static const bool has_thread_sanitizer = false;
#endif

typedef enum finder {
    STOPS = 1,   /* the emulator ends the program, with a sentence, in every build */
    SEEDS = 2,   /* results are wrong with one of the seeds, in every build */
    ADDRESS = 4, /* the address sanitizer */
    THREAD = 8   /* the thread sanitizer */
} finder_t;

/* The arrays of a case, [COUNT + 1], on the device. */
typedef struct arrays {
    float *in;
    float *out;
    gdncp_stream_t stream;
} arrays_t;

typedef struct planted {
    const char *name;
    gdncp_status_t (*run)(bool mended, const arrays_t *arrays);
    float (*expected)(int t); /* of out, where in[t] is t + 1 */
    int finders;              /* those that find it; a sanitizer before the others */
    const char *sentence;     /* of STOPS */
} planted_t;

static float same(int t)
{
    return (float)(t + 1);
}

static float rotated(int t)
{
    return (float)((t + 32) % COUNT + 1);
}

static float next_lane(int t)
{
    return (float)(t / 32 * 32 + (t + 1) % 32 + 1);
}

static float sum_of_all(int t)
{
    (void)t;
    return COUNT * (COUNT + 1) / 2.0f;
}

static gdncp_status_t barrier(bool mended, const arrays_t *a)
{
    return planted_barrier(mended, a->in, a->out, a->stream);
}

static gdncp_status_t second_barrier(bool mended, const arrays_t *a)
{
    return planted_second_barrier(mended, a->in, a->out, a->stream);
}

static gdncp_status_t warp_barrier(bool mended, const arrays_t *a)
{
    return planted_warp_barrier(mended, a->in, a->out, a->stream);
}

static gdncp_status_t early_return(bool mended, const arrays_t *a)
{
    return planted_early_return(mended, a->in, a->out, a->stream);
}

static gdncp_status_t shared_beside(bool mended, const arrays_t *a)
{
    return planted_shared_write(mended, a->in, a->out, 2, a->stream);
}

static gdncp_status_t shared_before(bool mended, const arrays_t *a)
{
    return planted_shared_write(mended, a->in, a->out, -COUNT, a->stream);
}

static gdncp_status_t shared_far(bool mended, const arrays_t *a)
{
    return planted_shared_write(mended, a->in, a->out, 200, a->stream);
}

static gdncp_status_t recursion(bool mended, const arrays_t *a)
{
    return planted_recursion(mended, a->in, a->out, a->stream);
}

static gdncp_status_t write_beside(bool mended, const arrays_t *a)
{
    return planted_global_write(mended, a->in, a->out, 2, a->stream);
}

static gdncp_status_t write_before(bool mended, const arrays_t *a)
{
    return planted_global_write(mended, a->in, a->out, -COUNT, a->stream);
}

static gdncp_status_t write_far(bool mended, const arrays_t *a)
{
    return planted_global_write(mended, a->in, a->out, 1000, a->stream);
}

static gdncp_status_t read_beside(bool mended, const arrays_t *a)
{
    return planted_global_read(mended, a->in, a->out, 2, a->stream);
}

static gdncp_status_t read_far(bool mended, const arrays_t *a)
{
    return planted_global_read(mended, a->in, a->out, 1000, a->stream);
}

static gdncp_status_t missing_lane(bool mended, const arrays_t *a)
{
    return planted_missing_lane(mended, a->in, a->out, a->stream);
}

static gdncp_status_t divergence(bool mended, const arrays_t *a)
{
    return planted_divergence(mended, a->in, a->out, a->stream);
}

static gdncp_status_t copy_wait(bool mended, const arrays_t *a)
{
    return planted_copy_wait(mended, a->in, a->out, a->stream);
}

static gdncp_status_t copy_barrier(bool mended, const arrays_t *a)
{
    return planted_copy_barrier(mended, a->in, a->out, a->stream);
}

static gdncp_status_t copy_source(bool mended, const arrays_t *a)
{
    return planted_copy_source(mended, a->in, a->out, a->stream);
}

static gdncp_status_t copy_unaligned(bool mended, const arrays_t *a)
{
    return planted_copy_address(a->in, a->out, mended ? 0 : 1, a->stream);
}

static gdncp_status_t copy_beside(bool mended, const arrays_t *a)
{
    return planted_copy_address(a->in, a->out, mended ? 0 : 4, a->stream);
}

static gdncp_status_t row_unaligned(bool mended, const arrays_t *a)
{
    return planted_row_address(a->in, a->out, mended ? 0 : 8, a->stream);
}

static gdncp_status_t row_beside(bool mended, const arrays_t *a)
{
    return planted_row_address(a->in, a->out, mended ? 0 : 32, a->stream);
}

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

/* Blocks of one kernel write the same element: only in which order is seen. */
static gdncp_status_t blocks(bool mended, const arrays_t *a)
{
    gdncp_status_t status = planted_copy(a->in, a->out, a->stream);

    if (status == GDNCP_OK && !mended) {
        status = planted_blocks(false, a->in, a->out, a->stream);
    }
    return status == GDNCP_OK && mended ? planted_blocks(true, a->in, a->out, a->stream) : status;
}

static const planted_t all_planted[] = {
    {"barrier", barrier, rotated, SEEDS | THREAD, NULL},
    {"second barrier", second_barrier, sum_of_all, SEEDS | THREAD, NULL},
    {"warp barrier", warp_barrier, rotated, THREAD, NULL},
    {"early return", early_return, rotated, STOPS,
     "waits in sync_block for threads that do not come: of 128 threads 64 wait there, 64 have "
     "returned, 0 wait elsewhere"},
    {"shared beside", shared_beside, rotated, STOPS | ADDRESS,
     "has written outside of its 516 bytes of shared memory"},
    {"shared before", shared_before, rotated, STOPS | ADDRESS,
     "has written outside of its 516 bytes of shared memory"},
    {"shared far", shared_far, rotated, STOPS,
     "touches offset 1308 of its 516 bytes of shared memory"},
    {"recursion", recursion, same, STOPS, "bytes of stack"},
    {"write beside", write_beside, same, STOPS | ADDRESS,
     "global_write has written outside of a block of 516 bytes of device memory"},
    {"write before", write_before, same, STOPS | ADDRESS,
     "global_write has written outside of a block of 516 bytes of device memory"},
    {"write far", write_far, same, STOPS, "at offset 4508 of a block of 516 bytes"},
    {"read beside", read_beside, same, SEEDS | ADDRESS, NULL},
    {"read far", read_far, same, STOPS, "of a block of 516 bytes of device memory"},
    {"missing lane", missing_lane, next_lane, STOPS,
     "waits in shuffle for threads that do not come"},
    {"divergence", divergence, next_lane, STOPS,
     "comes to sync_warp while lanes of its warp wait in shuffle"},
    {"copy wait", copy_wait, same, SEEDS, NULL},
    {"copy barrier", copy_barrier, same, SEEDS | THREAD, NULL},
    {"copy source", copy_source, same, STOPS,
     "the source has changed before the copy was waited for"},
    {"copy unaligned", copy_unaligned, same, STOPS, "is not aligned to 16 bytes"},
    {"copy beside", copy_beside, same, STOPS, "lie outside of device memory"},
    {"row unaligned", row_unaligned, same, STOPS, "of shared memory is not aligned to 16 bytes"},
    {"row beside", row_beside, same, STOPS,
     "ldmatrix_x4: 16 bytes at offset 528 lie outside of its 528 bytes of shared memory"},
    {"missing wait", missing_wait, same, SEEDS | THREAD, NULL},
    {"use after free", use_after_free, same, STOPS, "where device memory is freed"},
    {"host reads", host_reads, same, STOPS, "the host touches device memory"},
    {"host call", host_call, same, STOPS,
     "stream_synchronize: a function queued with call_host() may use no call of the backend"},
    {"pinned freed", pinned_freed, same, STOPS,
     "pinned memory is freed while a copy of it is queued"},
    {"blocks", blocks, same, SEEDS | THREAD, NULL},
};

typedef struct variant {
    const planted_t *planted;
    bool mended;
} variant_t;

static const size_t ARRAY_BYTES = (COUNT + 1) * sizeof(float);

/* RIGHT, WRONG or BROKEN, with one seed. */
static int run_once(const variant_t *variant, const arrays_t *arrays)
{
    float in[COUNT + 1];
    float out[COUNT + 1];

    for (int t = 0; t <= COUNT; t++) {
        in[t] = same(t);
        out[t] = -1.0f;
    }
    if (gdncp_device_copy(GDNCP_DEVICE_CUDA, arrays->in, in, ARRAY_BYTES, arrays->stream) !=
            GDNCP_OK ||
        gdncp_device_copy(GDNCP_DEVICE_CUDA, arrays->out, out, ARRAY_BYTES, arrays->stream) !=
            GDNCP_OK ||
        variant->planted->run(variant->mended, arrays) != GDNCP_OK ||
        gdncp_device_copy(GDNCP_DEVICE_CUDA, out, arrays->out, ARRAY_BYTES, arrays->stream) !=
            GDNCP_OK) {
        fprintf(stderr, "%s\n", gdncp_last_error());
        return BROKEN;
    }
    for (int t = 0; t < COUNT; t++) {
        if (!(out[t] == variant->planted->expected(t))) {
            return WRONG;
        }
    }
    return RIGHT;
}

/* The process of a child: until something is wrong with one of the seeds. */
static int run_variant(const void *context)
{
    const variant_t *const variant = context;
    arrays_t arrays = {NULL, NULL, NULL};
    int result = BROKEN;

    if (gdncp_stream_create(GDNCP_DEVICE_CUDA, &arrays.stream) == GDNCP_OK &&
        gdncp_device_alloc(GDNCP_DEVICE_CUDA, ARRAY_BYTES, (void **)&arrays.in) == GDNCP_OK &&
        gdncp_device_alloc(GDNCP_DEVICE_CUDA, ARRAY_BYTES, (void **)&arrays.out) == GDNCP_OK) {
        result = RIGHT;
        for (uint64_t seed = 0; seed < NUM_SEEDS && result == RIGHT; seed++) {
            emulator_set_schedule(seed);
            result = run_once(variant, &arrays);
        }
    }
    gdncp_device_free(GDNCP_DEVICE_CUDA, arrays.in);
    gdncp_device_free(GDNCP_DEVICE_CUDA, arrays.out);
    gdncp_stream_destroy(GDNCP_DEVICE_CUDA, arrays.stream);
    return result;
}

/* Whether it was found by what was to find it in this build. */
static bool is_found(const planted_t *planted, const child_outcome_t *outcome)
{
    if (has_address_sanitizer && (planted->finders & ADDRESS) != 0) {
        return strstr(outcome->text, "ERROR: AddressSanitizer") != NULL;
    }
    if (has_thread_sanitizer && (planted->finders & THREAD) != 0) {
        return strstr(outcome->text, "ThreadSanitizer: data race") != NULL;
    }
    if ((planted->finders & STOPS) != 0) {
        return outcome->signal == SIGABRT && strstr(outcome->text, "emulator: ") != NULL &&
               strstr(outcome->text, "GDNCP_EMULATOR_SEED=") != NULL &&
               strstr(outcome->text, planted->sentence) != NULL;
    }
    return outcome->signal == 0 && outcome->exit_code == WRONG;
}

static bool can_be_found(const planted_t *planted)
{
    return (planted->finders & (STOPS | SEEDS)) != 0 ||
           (has_address_sanitizer && (planted->finders & ADDRESS) != 0) ||
           (has_thread_sanitizer && (planted->finders & THREAD) != 0);
}

static void mistakes_are_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof all_planted / sizeof all_planted[0]; i++) {
        const variant_t variant = {&all_planted[i], false};

        if (can_be_found(variant.planted)) {
            const child_outcome_t outcome = run_child(run_variant, &variant);

            if (!is_found(variant.planted, &outcome)) {
                fail_msg("%s: not found: signal %d, exit code %d, \"%s\"", variant.planted->name,
                         outcome.signal, outcome.exit_code, outcome.text);
            }
        }
    }
}

static void what_is_mended_is_right(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof all_planted / sizeof all_planted[0]; i++) {
        const variant_t variant = {&all_planted[i], true};
        const child_outcome_t outcome = run_child(run_variant, &variant);

        if (outcome.signal != 0 || outcome.exit_code != RIGHT || outcome.text[0] != '\0') {
            fail_msg("%s: signal %d, exit code %d, \"%s\"", variant.planted->name, outcome.signal,
                     outcome.exit_code, outcome.text);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mistakes_are_found),
        cmocka_unit_test(what_is_mended_is_right),
    };

    return cmocka_run_group_tests_name("planted mistakes", tests, NULL, NULL);
}
