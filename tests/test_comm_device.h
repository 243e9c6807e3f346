/* Buffers on the emulated device for the tests of exchanges: a rank's stream, input and output. */
#ifndef GDNCP_TEST_COMM_DEVICE_H
#define GDNCP_TEST_COMM_DEVICE_H

#include "test_comm_plan_check.h"
#include "test_comm_plan_kinds.h"

#include <stdio.h>

#include "gdncp/comm.h"
#include "gdncp/device.h"
#include "gdncp/exchange.h"

/* One rank's exchange of one plan. Nothing here asserts: ranks are threads or processes. */
typedef struct device_run {
    const gdncp_plan_t *plan;
    const void *in; /* in the host's memory, as all that tests look at */
    void *out;      /* what the output holds before, then after */
    bool in_place;  /* the output's buffer holds the input */
    int64_t skew;   /* elements between the begin of a device's block and the buffer in it */

    gdncp_stream_t stream;
    gdncp_exchange_t *exchange;
    void *in_block;
    void *out_block;
} device_run_t;

static inline size_t run_bytes(const device_run_t *run, int64_t elements)
{
    return (size_t)elements * gdncp_dtype_size(run->plan->dtype);
}

static inline void *device_in(const device_run_t *run)
{
    return (char *)run->in_block + run_bytes(run, run->skew);
}

static inline void *device_out(const device_run_t *run)
{
    return (char *)run->out_block + run_bytes(run, run->skew);
}

static inline int64_t most_elements(const gdncp_plan_t *plan)
{
    return plan->input_elements > plan->output_elements ? plan->input_elements
                                                        : plan->output_elements;
}

/* Copy the host's buffers to the device's, and wait. */
static inline gdncp_status_t upload_run(const device_run_t *run)
{
    gdncp_status_t status =
        gdncp_device_copy(GDNCP_DEVICE_CUDA, device_in(run), run->in,
                          run_bytes(run, run->plan->input_elements), run->stream);

    if (status == GDNCP_OK) {
        const int64_t held = run->in_place ? most_elements(run->plan) : run->plan->output_elements;

        status = gdncp_device_copy(GDNCP_DEVICE_CUDA, device_out(run), run->out,
                                   run_bytes(run, held), run->stream);
    }
    return status == GDNCP_OK ? gdncp_stream_synchronize(GDNCP_DEVICE_CUDA, run->stream) : status;
}

static inline gdncp_status_t download_run(const device_run_t *run)
{
    gdncp_status_t status =
        gdncp_device_copy(GDNCP_DEVICE_CUDA, run->out, device_out(run),
                          run_bytes(run, run->plan->output_elements), run->stream);

    return status == GDNCP_OK ? gdncp_stream_synchronize(GDNCP_DEVICE_CUDA, run->stream) : status;
}

/* Make buffers in a stream and the exchange. Collective. */
static inline gdncp_status_t open_run(device_run_t *run, gdncp_comm_t *comm, gdncp_stream_t stream)
{
    const size_t bytes = run_bytes(run, run->skew + most_elements(run->plan));
    gdncp_status_t status = gdncp_device_alloc(GDNCP_DEVICE_CUDA, bytes, &run->in_block);

    run->stream = stream;
    if (status == GDNCP_OK) {
        status = gdncp_device_alloc(GDNCP_DEVICE_CUDA, bytes, &run->out_block);
    }
    if (status == GDNCP_OK) {
        status = upload_run(run);
    }
    status = gdncp_comm_agree(comm, status);
    if (status != GDNCP_OK) {
        return status;
    }
    return (run->in_place ? gdncp_exchange_create_in_place : gdncp_exchange_create_on)(
        comm, run->plan, GDNCP_DEVICE_CUDA, &run->exchange);
}

static inline gdncp_status_t start_run(const device_run_t *run)
{
    return gdncp_exchange_start(run->exchange, run->in_place ? device_out(run) : device_in(run),
                                device_out(run), run->stream);
}

/* After the stream is done. */
static inline void close_run(device_run_t *run)
{
    gdncp_exchange_destroy(run->exchange);
    gdncp_device_free(GDNCP_DEVICE_CUDA, run->in_block);
    gdncp_device_free(GDNCP_DEVICE_CUDA, run->out_block);
}

/* The plans of all ranks, random inputs, outputs poisoned or to be added to, and what the same
 * plans give on the CPU without a communicator. */
typedef struct device_case {
    int num_ranks;
    gdncp_plan_t *plans[MAX_RANKS];
    device_run_t runs[MAX_RANKS];
    void *ins[MAX_RANKS];
    void *expected[MAX_RANKS];
} device_case_t;

/* Of one of the plans that plan_of makes. */
static inline device_case_t make_device_case_of(test_random_t *random, plan_of_t *plan_of,
                                                bool in_place, int kind, int num_ranks,
                                                gdncp_dtype_t dtype, int direction)
{
    const test_pack_t pack = random_pack(random, num_ranks);
    gdncp_layout_t *const a = random_layout(random, &pack, num_ranks);
    gdncp_layout_t *const b = random_layout(random, &pack, num_ranks);
    const int64_t skew = test_random_int(random, 0, 1) * test_random_int(random, 0, 9);
    const size_t size = gdncp_dtype_size(dtype);
    device_case_t result = {.num_ranks = num_ranks};

    for (int rank = 0; rank < num_ranks; rank++) {
        gdncp_plan_t *const plan = plan_of(kind, a, b, rank, dtype, direction);
        void *const out = test_alloc(plan->input_elements + plan->output_elements, size);

        result.plans[rank] = plan;
        result.ins[rank] = test_alloc(plan->input_elements, size);
        fill_values(random, dtype, plan->input_elements, result.ins[rank]);
        memset(out, 0xff, (size_t)plan->output_elements * size);
        if (plan->write == GDNCP_PLAN_ADD) {
            fill_values(random, dtype, plan->output_elements, out);
        }
        if (in_place) {
            memcpy(out, result.ins[rank], (size_t)plan->input_elements * size);
        }
        result.expected[rank] = test_alloc(plan->output_elements, size);
        memcpy(result.expected[rank], out, (size_t)plan->output_elements * size);
        result.runs[rank] = (device_run_t){
            .plan = plan, .in = result.ins[rank], .out = out, .in_place = in_place, .skew = skew};
    }
    for (int rank = 0; rank < num_ranks; rank++) {
        run_rank(result.plans, rank, result.ins, result.expected[rank]);
    }
    gdncp_layout_destroy(a);
    gdncp_layout_destroy(b);
    return result;
}

static inline device_case_t make_device_case(test_random_t *random, int kind, int num_ranks,
                                             gdncp_dtype_t dtype, int direction)
{
    return make_device_case_of(random, random_plan, false, kind, num_ranks, dtype, direction);
}

static inline bool is_expected(const device_case_t *test, int rank)
{
    const device_run_t *const run = &test->runs[rank];

    return memcmp(run->out, test->expected[rank], run_bytes(run, run->plan->output_elements)) == 0;
}

static inline void end_device_case(device_case_t *test)
{
    for (int rank = 0; rank < test->num_ranks; rank++) {
        gdncp_plan_destroy(test->plans[rank]);
        free(test->ins[rank]);
        free(test->expected[rank]);
        free(test->runs[rank].out);
    }
}

#endif
