/* Control calls: all-gathers, agreements and barriers. */
#ifndef GDNCP_CONFORMANCE_CONTROL_H
#define GDNCP_CONFORMANCE_CONTROL_H

#include <time.h>

#include "conformance_rank.h"
#include "deadline.h"

static void all_gather_gathers(conformance_t *c)
{
    static const size_t sizes[] = {0, 1, 3, 8, 4096, 100000};

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const size_t bytes = sizes[i];
        unsigned char *const in = poisoned(bytes + 1);
        unsigned char *const out = poisoned(bytes * (size_t)c->size + 1);

        fill_message(c, in, bytes, c->rank, 0, (int)i);
        expect_ok(c, gdncp_comm_all_gather(c->comm, in, out, bytes), "all-gather");
        for (int rank = 0; rank < c->size; rank++) {
            expect(c, is_message(c, out + (size_t)rank * bytes, bytes, rank, 0, (int)i),
                   "a rank's block of an all-gather");
        }
        free(in);
        free(out);
    }
    expect_error(c, gdncp_comm_all_gather(c->comm, NULL, &(char){0}, 1), GDNCP_ERR_INVALID_ARGUMENT,
                 "in:", "an all-gather of nothing");
    expect_error(c, gdncp_comm_all_gather(c->comm, &(char){0}, NULL, 1), GDNCP_ERR_INVALID_ARGUMENT,
                 "out:", "an all-gather to nowhere");
}

/* Ranks in [first, end) failed. */
static void agree_on(conformance_t *c, int first, int end)
{
    const bool failed = c->rank >= first && c->rank < end;
    char own[64];
    char told[96];
    gdncp_status_t status = GDNCP_OK;

    snprintf(own, sizeof own, "widget %d of rank %d is broken", first, c->rank);
    snprintf(told, sizeof told, "widget %d of rank %d is broken", first, first);
    if (failed) {
        gdncp_comm_group_create(c->comm, -1, NULL);
        status = gdncp_comm_all_gather(c->comm, NULL, own, 1); /* leaves some sentence */
        expect(c, status == GDNCP_ERR_INVALID_ARGUMENT, "a failing call");
    }
    const gdncp_status_t agreed = gdncp_comm_agree(c->comm, status);
    if (first == end) {
        expect_ok(c, agreed, "agreement on success");
        return;
    }
    expect(c, agreed == GDNCP_ERR_INVALID_ARGUMENT, "all ranks get the failed rank's status");
    snprintf(told, sizeof told, "rank %d, seen by rank %d: in: expected", first, c->rank);
    expect(c, strstr(gdncp_last_error(), failed ? "in: expected" : told) != NULL,
           "all ranks get the lowest failed rank's sentence");
    expect(c, !failed || strstr(gdncp_last_error(), "seen by") == NULL,
           "a failed rank keeps its own sentence");
}

static void ranks_agree(conformance_t *c)
{
    agree_on(c, 0, 0);
    for (int first = 0; first < c->size; first++) {
        agree_on(c, first, first + 1);
        agree_on(c, first, c->size);
    }
    agree_on(c, 0, 0);
}

static void barriers_hold_everyone(conformance_t *c)
{
    for (int late = 0; late < c->size; late++) {
        int64_t times[2] = {0};
        int64_t *const all = malloc((size_t)c->size * sizeof times);
        int64_t last_entry = 0;

        if (c->rank == late) {
            nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
        }
        times[0] = gdncp_now_ms();
        expect_ok(c, gdncp_comm_barrier(c->comm), "barrier");
        times[1] = gdncp_now_ms();
        expect_ok(c, gdncp_comm_all_gather(c->comm, times, all, sizeof times), "all-gather");
        for (int rank = 0; rank < c->size; rank++) {
            last_entry = all[2 * rank] > last_entry ? all[2 * rank] : last_entry;
        }
        expect(c, times[1] >= last_entry, "nobody leaves a barrier before all are there");
        free(all);
    }
}

/* Every rank hears of it, and the communicator can be used on. */
static void different_control_calls_are_told(conformance_t *c)
{
    char in[64] = {0};
    char *const out = malloc(sizeof in * (size_t)c->size);

    if (c->size > 1) {
        for (int odd = 0; odd < c->size; odd++) {
            expect_error(c,
                         c->rank == odd ? gdncp_comm_barrier(c->comm)
                                        : gdncp_comm_all_gather(c->comm, in, out, 16),
                         GDNCP_ERR_MISMATCH, "barrier", "a barrier meets an all-gather");
            expect_error(c, gdncp_comm_all_gather(c->comm, in, out, c->rank == odd ? 24 : 16),
                         GDNCP_ERR_MISMATCH, "24 bytes", "all-gathers of different sizes");
            expect_error(c,
                         c->rank == odd ? gdncp_comm_agree(c->comm, GDNCP_OK)
                                        : gdncp_comm_barrier(c->comm),
                         GDNCP_ERR_MISMATCH, "agree", "an agreement meets a barrier");
            c->comm->num_control_calls += c->rank == odd ? 5 : 0; /* as if it had made others */
            expect_error(c, gdncp_comm_barrier(c->comm), GDNCP_ERR_MISMATCH, "made call",
                         "a rank that made other calls before");
        }
    }
    expect_ok(c, gdncp_comm_barrier(c->comm), "a barrier after mismatches");
    free(out);
}

#endif
