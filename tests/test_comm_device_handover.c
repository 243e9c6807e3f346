/* Handovers of a state, on the CPU and in streams of the emulated device: a state is there when it
 * was waited for, and kept until it has been sent. */
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
#include "gdncp/device.h"
#include "handover.h"
#include "rank_threads.h"
#include "stream_group.h"

enum { NUM_ROUNDS = 4, WORDS = 300 };

/* Rank 0 sends, rank 1 comes late for each state. */
typedef struct side {
    gdncp_device_kind_t device;
    gdncp_stream_t stream;
    gdncp_handover_t *handover;
    void *state; /* [WORDS] of the device */

    const gdncp_backend_t *backend;
    uint32_t (*rounds)[WORDS]; /* [NUM_ROUNDS] pinned: what is sent or was received */
} side_t;

static void sleep_long(void *context)
{
    (void)context;
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
}

static gdncp_status_t come_late(const side_t *side)
{
    if (side->device == GDNCP_DEVICE_CUDA) {
        return side->backend->call_host(side->stream, sleep_long, NULL);
    }
    sleep_long(NULL);
    return GDNCP_OK;
}

static gdncp_status_t copy_round(const side_t *side, void *to, const void *from)
{
    return gdncp_device_copy(side->device, to, from, sizeof *side->rounds, side->stream);
}

/* The state is changed as soon as it has been waited for. */
static gdncp_status_t run_rounds(const side_t *side, bool sends)
{
    gdncp_status_t status = GDNCP_OK;

    for (int round = 0; round < NUM_ROUNDS && status == GDNCP_OK; round++) {
        status = sends ? copy_round(side, side->state, side->rounds[round]) : come_late(side);
        if (status == GDNCP_OK) {
            status = gdncp_handover_start(side->handover, side->state);
        }
        if (status == GDNCP_OK) {
            status = gdncp_handover_wait(side->handover);
        }
        if (status == GDNCP_OK && !sends) {
            status = copy_round(side, side->rounds[round], side->state);
        }
    }
    return status;
}

static void fill_rounds(const side_t *side, bool sends)
{
    for (int i = 0; i < NUM_ROUNDS * WORDS; i++) {
        side->rounds[i / WORDS][i % WORDS] = sends ? (uint32_t)i : 0xffffffff;
    }
}

static gdncp_status_t open_side(side_t *side, gdncp_comm_t *comm)
{
    const int rank = gdncp_comm_rank(comm);
    const gdncp_handover_options_t options = {.device = side->device,
                                              .stream = side->stream,
                                              .peer = 1 - rank,
                                              .is_send = rank == 0,
                                              .bytes = sizeof *side->rounds};
    void *pinned = NULL;
    gdncp_status_t status = gdncp_backend_find(&side->backend);

    if (status == GDNCP_OK) {
        status = side->backend->alloc_pinned(NUM_ROUNDS * sizeof *side->rounds, &pinned);
    }
    if (status == GDNCP_OK) {
        side->rounds = pinned;
        fill_rounds(side, rank == 0);
        status = gdncp_device_alloc(side->device, sizeof *side->rounds, &side->state);
    }
    /* As a relay does. */
    if (status == GDNCP_OK && side->device == GDNCP_DEVICE_CUDA) {
        status = gdncp_stream_group_connect(
            comm, &(gdncp_stream_message_t){.peer = 1 - rank, .is_send = rank == 0}, 1);
    }
    return status == GDNCP_OK ? gdncp_handover_create(comm, &options, &side->handover) : status;
}

static void close_side(side_t *side)
{
    gdncp_handover_destroy(side->handover);
    gdncp_device_free(side->device, side->state);
    side->backend->free_pinned(side->rounds);
    gdncp_stream_destroy(side->device, side->stream);
}

static void run_rank(void *context, gdncp_comm_t *comm, char *problem, size_t size)
{
    const bool sends = gdncp_comm_rank(comm) == 0;
    side_t side = {.device = *(const gdncp_device_kind_t *)context};
    gdncp_status_t status = gdncp_stream_create(side.device, &side.stream);

    if (status == GDNCP_OK) {
        status = open_side(&side, comm);
    }
    if (status == GDNCP_OK) {
        status = run_rounds(&side, sends);
    }
    if (status == GDNCP_OK) {
        status = gdncp_stream_synchronize(side.device, side.stream);
    }
    if (status == GDNCP_OK) {
        status = gdncp_handover_check(side.handover);
    }
    if (status != GDNCP_OK) {
        snprintf(problem, size, "%s", gdncp_last_error());
    }
    for (int i = 0; i < NUM_ROUNDS * WORDS && problem[0] == '\0'; i++) {
        if (side.rounds[i / WORDS][i % WORDS] != (uint32_t)i) {
            snprintf(problem, size, "round %d: expected %d, got %u", i / WORDS, i,
                     side.rounds[i / WORDS][i % WORDS]);
        }
    }
    close_side(&side);
}

static void states_arrive_on_the_cpu(void **state)
{
    (void)state;
    test_run_ranks("cpu", 2, run_rank, &(gdncp_device_kind_t){GDNCP_DEVICE_CPU});
}

static void states_arrive_on_a_device(void **state)
{
    (void)state;
    test_run_ranks("cuda", 2, run_rank, &(gdncp_device_kind_t){GDNCP_DEVICE_CUDA});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(states_arrive_on_the_cpu),
        cmocka_unit_test(states_arrive_on_a_device),
    };

    setenv("GDNCP_CUDA", "emulated", 1);
    return cmocka_run_group_tests_name("handovers", tests, NULL, NULL);
}
