/* One rank of a state relay, run on the CPU and between buffers of the emulated device: the same
 * bits. */
#ifndef GDNCP_TEST_COMM_DEVICE_RELAY_H
#define GDNCP_TEST_COMM_DEVICE_RELAY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <time.h>

#include "backend.h"
#include "gdncp/comm.h"
#include "gdncp/device.h"
#include "gdncp/layout.h"
#include "random.h"
#include "relay.h"
#include "test_comm_relay_steps.h"

enum { NUM_REPEATS = 3, WIDTH = 2, MAX_STEPS = 4096 };

/* states [2], transitions [2, 2]: small whole numbers, so that any order of sums is exact. */
static inline gdncp_status_t combine_on_cpu(void *context, const float *transition,
                                            const float *contribution, const float *in,
                                            bool transposed, float *out)
{
    (void)context;
    for (int i = 0; i < WIDTH; i++) {
        out[i] = contribution[i];
        for (int j = 0; transition != NULL && j < WIDTH; j++) {
            out[i] += transition[transposed ? WIDTH * j + i : WIDTH * i + j] * in[j];
        }
    }
    return GDNCP_OK;
}

/* A step that is queued: operands come to pinned memory, the host computes, the result goes back.
 * What is kept here is read when the stream gets there. */
typedef struct step {
    bool is_slow; /* so that ranks get out of step */
    bool has_transition;
    bool transposed;
    struct {
        float transition[WIDTH * WIDTH];
        float contribution[WIDTH];
        float in[WIDTH];
        float out[WIDTH];
    } * pinned;
} step_t;

typedef struct steps {
    const gdncp_backend_t *backend;
    gdncp_stream_t stream;
    int rank;
    void *pinned;
    int count;
    step_t all[MAX_STEPS];
} steps_t;

static inline void compute_step(void *context)
{
    const step_t *const step = context;

    if (step->is_slow) {
        nanosleep(&(struct timespec){.tv_nsec = 3000000}, NULL);
    }
    combine_on_cpu(NULL, step->has_transition ? step->pinned->transition : NULL,
                   step->pinned->contribution, step->pinned->in, step->transposed,
                   step->pinned->out);
}

static inline gdncp_status_t combine_on_device(void *context, const float *transition,
                                               const float *contribution, const float *in,
                                               bool transposed, float *out)
{
    steps_t *const steps = context;
    step_t *const step = &steps->all[steps->count];
    gdncp_status_t status = GDNCP_OK;

    if (steps->count == MAX_STEPS) {
        return GDNCP_ERR_INTERNAL;
    }
    *step = (step_t){.is_slow = steps->count % (3 + 4 * steps->rank) == 0,
                     .has_transition = transition != NULL,
                     .transposed = transposed};
    step->pinned = (void *)((char *)steps->pinned + (size_t)steps->count * sizeof *step->pinned);
    steps->count++;
    if (transition != NULL) {
        status = steps->backend->copy(step->pinned->transition, transition,
                                      sizeof step->pinned->transition, steps->stream);
        if (status == GDNCP_OK) {
            status =
                steps->backend->copy(step->pinned->in, in, sizeof step->pinned->in, steps->stream);
        }
    }
    if (status == GDNCP_OK) {
        status = steps->backend->copy(step->pinned->contribution, contribution,
                                      sizeof step->pinned->contribution, steps->stream);
    }
    if (status == GDNCP_OK) {
        status = steps->backend->call_host(steps->stream, compute_step, step);
    }
    return status == GDNCP_OK ? steps->backend->copy(out, step->pinned->out,
                                                     sizeof step->pinned->out, steps->stream)
                              : status;
}

typedef struct relay_case {
    const gdncp_layout_t *layout;
    gdncp_relay_form_t form;
    int64_t heads;
    uint64_t seed;
} relay_case_t;

/* One rank's buffers, on either device. */
typedef struct relay_buffers {
    gdncp_device_kind_t device;
    gdncp_stream_t stream;
    float *outgoing;
    float *kept;
    float *incoming;
} relay_buffers_t;

static inline float *alloc_floats(gdncp_device_kind_t device, int64_t count)
{
    void *memory = NULL;

    gdncp_device_alloc(device, (size_t)(count + 1) * sizeof(float), &memory);
    return memory;
}

/* Run both directions several times on random whole numbers; results [2][rows] of the last time. */
static inline gdncp_status_t run_relay(const relay_case_t *test, gdncp_comm_t *comm,
                                       const gdncp_relay_schedule_t *schedule,
                                       relay_buffers_t *buffers, steps_t *steps,
                                       float *const results[2])
{
    const bool on_device = buffers->device == GDNCP_DEVICE_CUDA;
    const int64_t incoming = gdncp_relay_incoming_elements(schedule);
    relay_steps_t combine = {.schedule = schedule,
                             .step = on_device ? combine_on_device : combine_on_cpu,
                             .context = steps};
    gdncp_relay_t *relay = NULL;
    gdncp_status_t status = gdncp_relay_create(comm, schedule, buffers->device, buffers->stream,
                                               relay_steps_combine, &combine, &relay);
    test_random_t random = {test->seed + (uint64_t)gdncp_comm_rank(comm)};

    for (int repeat = 0; repeat < NUM_REPEATS; repeat++) {
        for (int backward = 0; backward < 2; backward++) {
            const int64_t outgoing = gdncp_relay_outgoing_elements(schedule, backward);
            float *const values = malloc((size_t)(outgoing + 1) * sizeof *values);

            for (int64_t i = 0; i < outgoing; i++) {
                values[i] = (float)test_random_int(&random, -1, 1);
            }
            if (status == GDNCP_OK) {
                status = gdncp_device_copy(buffers->device, buffers->outgoing, values,
                                           (size_t)outgoing * sizeof *values, buffers->stream);
            }
            if (status == GDNCP_OK) {
                status = backward ? gdncp_relay_backward(relay, buffers->outgoing, buffers->kept,
                                                         buffers->incoming)
                                  : gdncp_relay_forward(relay, buffers->outgoing, buffers->kept,
                                                        buffers->incoming);
            }
            if (status == GDNCP_OK) {
                status = gdncp_device_copy(buffers->device, results[backward], buffers->incoming,
                                           (size_t)incoming * sizeof(float), buffers->stream);
            }
            free(values);
        }
    }
    if (status == GDNCP_OK) {
        status = gdncp_stream_synchronize(buffers->device, buffers->stream);
    }
    if (status == GDNCP_OK) {
        status = gdncp_relay_check(relay);
    }
    gdncp_relay_destroy(relay);
    return status;
}

static inline gdncp_status_t run_on(gdncp_device_kind_t device, const relay_case_t *test,
                                    gdncp_comm_t *comm, const gdncp_relay_schedule_t *schedule,
                                    float *const results[2])
{
    const int64_t outgoing = gdncp_relay_outgoing_elements(schedule, false) +
                             gdncp_relay_outgoing_elements(schedule, true);
    relay_buffers_t buffers = {.device = device,
                               .outgoing = alloc_floats(device, outgoing),
                               .kept = alloc_floats(device, gdncp_relay_kept_elements(schedule)),
                               .incoming =
                                   alloc_floats(device, gdncp_relay_incoming_elements(schedule))};
    steps_t *const steps = calloc(1, sizeof *steps);
    gdncp_status_t status = gdncp_stream_create(device, &buffers.stream);

    if (device == GDNCP_DEVICE_CUDA && status == GDNCP_OK) {
        steps->stream = buffers.stream;
        steps->rank = gdncp_comm_rank(comm);
        status = gdncp_backend_find(&steps->backend);
        if (status == GDNCP_OK) {
            status = steps->backend->alloc_pinned(MAX_STEPS * sizeof *steps->all[0].pinned,
                                                  &steps->pinned);
        }
    }
    status = gdncp_comm_agree(comm, status);
    if (status == GDNCP_OK) {
        status = run_relay(test, comm, schedule, &buffers, steps, results);
    }
    if (steps->pinned != NULL) {
        steps->backend->free_pinned(steps->pinned);
    }
    gdncp_stream_destroy(device, buffers.stream);
    gdncp_device_free(device, buffers.outgoing);
    gdncp_device_free(device, buffers.kept);
    gdncp_device_free(device, buffers.incoming);
    free(steps);
    return status;
}

static inline void run_relay_rank(void *context, gdncp_comm_t *comm, char *problem, size_t size)
{
    const relay_case_t *const test = context;
    gdncp_relay_schedule_t *schedule = NULL;
    float *results[2][2] = {{NULL}};
    gdncp_status_t status = gdncp_comm_agree(
        comm, gdncp_relay_schedule_create(test->layout, gdncp_comm_rank(comm), test->form,
                                          test->heads, WIDTH * WIDTH, WIDTH, &schedule));

    if (status != GDNCP_OK) {
        snprintf(problem, size, "%s", gdncp_last_error());
        return;
    }
    const size_t bytes = (size_t)gdncp_relay_incoming_elements(schedule) * sizeof(float);

    for (int device = 0; device < 2 && status == GDNCP_OK; device++) {
        for (int backward = 0; backward < 2; backward++) {
            results[device][backward] = malloc(bytes + 1);
            memset(results[device][backward], 0xff - device, bytes);
        }
        status = run_on(device == 0 ? GDNCP_DEVICE_CPU : GDNCP_DEVICE_CUDA, test, comm, schedule,
                        results[device]);
    }
    if (status != GDNCP_OK) {
        snprintf(problem, size, "%s", gdncp_last_error());
    } else if (memcmp(results[0][0], results[1][0], bytes) != 0) {
        snprintf(problem, size, "other states than on the CPU");
    } else if (memcmp(results[0][1], results[1][1], bytes) != 0) {
        snprintf(problem, size, "other gradients than on the CPU");
    }
    for (int i = 0; i < 4; i++) {
        free(results[i / 2][i % 2]);
    }
    gdncp_relay_schedule_destroy(schedule);
}

#endif
