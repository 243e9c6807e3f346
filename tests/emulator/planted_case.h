/* Runs what is planted, and what is mended, in processes of their own. */
#ifndef GDNCP_TEST_PLANTED_CASE_H
#define GDNCP_TEST_PLANTED_CASE_H

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

typedef struct variant {
    const planted_t *planted;
    bool mended;
} variant_t;

static float same(int t)
{
    return (float)(t + 1);
}

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

/* Fails the test unless each mistake that this build can find is found. */
static void check_mistakes_are_found(const planted_t *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const variant_t variant = {&cases[i], false};

        if (can_be_found(variant.planted)) {
            const child_outcome_t outcome = run_child(run_variant, &variant);

            if (!is_found(variant.planted, &outcome)) {
                fail_msg("%s: not found: signal %d, exit code %d, \"%s\"", variant.planted->name,
                         outcome.signal, outcome.exit_code, outcome.text);
            }
        }
    }
}

/* Fails the test unless results are right, and nothing is said, where it is mended. */
static void check_mended_is_right(const planted_t *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const variant_t variant = {&cases[i], true};
        const child_outcome_t outcome = run_child(run_variant, &variant);

        if (outcome.signal != 0 || outcome.exit_code != RIGHT || outcome.text[0] != '\0') {
            fail_msg("%s: signal %d, exit code %d, \"%s\"", variant.planted->name, outcome.signal,
                     outcome.exit_code, outcome.text);
        }
    }
}

#endif
