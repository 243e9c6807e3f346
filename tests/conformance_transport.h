/*
 * What every transport must do, run by each rank on a communicator of its own.
 *
 * Ranks are threads or processes, so that a check records its failure and goes on; whoever runs
 * the cases looks at the failures afterwards.
 */
#ifndef GDNCP_CONFORMANCE_TRANSPORT_H
#define GDNCP_CONFORMANCE_TRANSPORT_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm_internal.h"
#include "deadline.h"
#include "random.h"

typedef struct conformance {
    gdncp_comm_t *comm;
    int rank;
    int size;
    uint64_t seed; /* equal on all ranks */
    int num_failures;
    char first_failure[400];
} conformance_t;

typedef struct conformance_case {
    const char *name;
    void (*run)(conformance_t *c);
    int64_t timeout_ms; /* 0: the communicator's default */
} conformance_case_t;

static bool expect(conformance_t *c, bool holds, const char *what)
{
    if (!holds && c->num_failures++ == 0) {
        snprintf(c->first_failure, sizeof c->first_failure, "%s (last error: %s)", what,
                 gdncp_last_error());
    }
    return holds;
}

static bool expect_ok(conformance_t *c, gdncp_status_t status, const char *what)
{
    return expect(c, status == GDNCP_OK, what);
}

static void expect_error(conformance_t *c, gdncp_status_t status, gdncp_status_t expected,
                         const char *word, const char *what)
{
    char sentence[300];

    snprintf(sentence, sizeof sentence, "%s: expected %s naming \"%s\", got %s", what,
             gdncp_status_string(expected), word, gdncp_status_string(status));
    expect(c, status == expected && strstr(gdncp_last_error(), word) != NULL, sentence);
}

/* The bytes of the n-th message from one rank to another. */
static void fill_message(const conformance_t *c, unsigned char *bytes, size_t count, int from,
                         int to, int number)
{
    test_random_t random = {.state = c->seed ^ ((uint64_t)from << 48) ^ ((uint64_t)to << 32) ^
                                     ((uint64_t)number << 8)};

    for (size_t i = 0; i < count; i += 8) {
        const uint64_t word = test_random_u64(&random);

        memcpy(bytes + i, &word, count - i < 8 ? count - i : 8);
    }
}

static bool is_message(const conformance_t *c, const unsigned char *bytes, size_t count, int from,
                       int to, int number)
{
    unsigned char *const expected = malloc(count);

    fill_message(c, expected, count, from, to, number);
    const bool equal = memcmp(bytes, expected, count) == 0;
    free(expected);
    return equal;
}

static unsigned char *poisoned(size_t count)
{
    unsigned char *const bytes = malloc(count);

    memset(bytes, 0xa5, count);
    return bytes;
}

/* A number that all ranks know without asking. */
static size_t message_bytes(const conformance_t *c, int from, int to, int number)
{
    test_random_t random = {.state = c->seed + (uint64_t)(from * 1009 + to * 101 + number)};

    return (size_t)test_random_int(&random, 1, 20000);
}

/* Groups in flight together, waited for in the opposite order: what matters is the order in which
 * they were ended. */
static void messages_match_in_order(conformance_t *c)
{
    enum { GROUPS = 5, PER_PEER = 4 };
    const int count = GROUPS * PER_PEER * c->size;
    unsigned char **const in = malloc((size_t)count * sizeof *in);
    unsigned char **const out = malloc((size_t)count * sizeof *out);
    gdncp_group_t *groups[GROUPS];

    for (int g = 0; g < GROUPS; g++) {
        expect_ok(c, gdncp_comm_group_create(c->comm, 2 * PER_PEER * c->size, &groups[g]),
                  "create");
        expect_ok(c, gdncp_comm_group_begin(c->comm, groups[g]), "begin");
        for (int i = 0; i < PER_PEER * c->size; i++) {
            const int peer = i % c->size;
            const int number = g * PER_PEER + i / c->size;
            const int slot = g * PER_PEER * c->size + i;
            const size_t send_bytes = message_bytes(c, c->rank, peer, number);
            const size_t recv_bytes = message_bytes(c, peer, c->rank, number);

            out[slot] = poisoned(send_bytes);
            in[slot] = poisoned(recv_bytes);
            fill_message(c, out[slot], send_bytes, c->rank, peer, number);
            expect_ok(c, gdncp_comm_send(c->comm, groups[g], out[slot], send_bytes, peer), "send");
            expect_ok(c, gdncp_comm_recv(c->comm, groups[g], in[slot], recv_bytes, peer), "recv");
        }
        expect_ok(c, gdncp_comm_group_end(c->comm, groups[g], NULL), "end");
    }
    for (int g = GROUPS - 1; g >= 0; g--) {
        expect_ok(c, gdncp_comm_group_wait(c->comm, groups[g]), "wait");
    }
    for (int slot = 0; slot < count; slot++) {
        const int peer = slot % c->size;
        const int number = slot / c->size;

        expect(
            c,
            is_message(c, in[slot], message_bytes(c, peer, c->rank, number), peer, c->rank, number),
            "a message arrived whole and in its place");
        free(in[slot]);
        free(out[slot]);
    }
    for (int g = 0; g < GROUPS; g++) {
        gdncp_comm_group_destroy(c->comm, groups[g]);
    }
    free(in);
    free(out);
}

/* One message to the next rank and one from the one before. */
static void pass_on(conformance_t *c, gdncp_group_t *group, const void *out, void *in, size_t bytes)
{
    const int next = (c->rank + 1) % c->size;
    const int before = (c->rank + c->size - 1) % c->size;

    expect_ok(c, gdncp_comm_group_begin(c->comm, group), "begin");
    expect_ok(c, gdncp_comm_send(c->comm, group, out, bytes, next), "send");
    expect_ok(c, gdncp_comm_recv(c->comm, group, in, bytes, before), "recv");
    expect_ok(c, gdncp_comm_group_end(c->comm, group, NULL), "end");
    expect_ok(c, gdncp_comm_group_wait(c->comm, group), "wait");
}

static void messages_of_all_sizes(conformance_t *c)
{
    static const size_t sizes[] = {1,    2,    7,    8,     63,    64,     65,      1000,
                                   8191, 8192, 8193, 32768, 65537, 262144, 1000003, 8 << 20};
    const int before = (c->rank + c->size - 1) % c->size;
    gdncp_group_t *group = NULL;

    expect_ok(c, gdncp_comm_group_create(c->comm, 2, &group), "create");
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        unsigned char *const out = poisoned(sizes[i]);
        unsigned char *const in = poisoned(sizes[i] + 1);

        fill_message(c, out, sizes[i], c->rank, 0, (int)i);
        pass_on(c, group, out, in, sizes[i]);
        expect(c, is_message(c, in, sizes[i], before, 0, (int)i), "a message of any size");
        expect(c, in[sizes[i]] == 0xa5, "nothing is written behind a message");
        free(out);
        free(in);
    }
    gdncp_comm_group_destroy(c->comm, group);
}

static void groups_without_messages(conformance_t *c)
{
    gdncp_group_t *group = NULL;
    bool done = false;

    expect_ok(c, gdncp_comm_group_create(c->comm, 0, &group), "create");
    expect_ok(c, gdncp_comm_group_begin(c->comm, group), "begin");
    expect_ok(c, gdncp_comm_group_end(c->comm, group, NULL), "end");
    expect_ok(c, gdncp_comm_group_test(c->comm, group, &done), "test");
    expect(c, done, "a group without messages is done");
    expect_ok(c, gdncp_comm_group_wait(c->comm, group), "wait");
    gdncp_comm_group_destroy(c->comm, group);
    gdncp_comm_group_destroy(c->comm, NULL);
}

/* A receive that was posted long before its send, and the other way round. */
static void messages_to_oneself(conformance_t *c)
{
    gdncp_group_t *groups[2];
    unsigned char out[2][100];
    unsigned char in[2][100];
    bool done = true;

    memset(in, 0xa5, sizeof in);
    for (int i = 0; i < 2; i++) {
        fill_message(c, out[i], sizeof out[i], c->rank, c->rank, i);
        expect_ok(c, gdncp_comm_group_create(c->comm, 2, &groups[i]), "create");
        expect_ok(c, gdncp_comm_group_begin(c->comm, groups[i]), "begin");
    }
    expect_ok(c, gdncp_comm_recv(c->comm, groups[0], in[0], sizeof in[0], c->rank), "recv");
    expect_ok(c, gdncp_comm_send(c->comm, groups[1], out[0], sizeof out[0], c->rank), "send");
    expect_ok(c, gdncp_comm_send(c->comm, groups[1], out[1], sizeof out[1], c->rank), "send");
    expect_ok(c, gdncp_comm_recv(c->comm, groups[0], in[1], sizeof in[1], c->rank), "recv");
    expect_ok(c, gdncp_comm_group_end(c->comm, groups[0], NULL), "end");
    expect_ok(c, gdncp_comm_group_test(c->comm, groups[0], &done), "test");
    expect(c, !done, "a receive waits for its send");
    expect_ok(c, gdncp_comm_group_end(c->comm, groups[1], NULL), "end");
    for (int i = 0; i < 2; i++) {
        expect_ok(c, gdncp_comm_group_wait(c->comm, groups[i]), "wait");
        expect(c, is_message(c, in[i], sizeof in[i], c->rank, c->rank, i), "a message to oneself");
    }
    gdncp_comm_group_destroy(c->comm, groups[0]);
    gdncp_comm_group_destroy(c->comm, groups[1]);
}

/* From the last rank to rank 0, which expects another length. */
static void send_wrong_length(conformance_t *c, size_t sent, size_t expected)
{
    const int last = c->size - 1;
    unsigned char *const out = poisoned(sent);
    unsigned char *const in = poisoned(expected);
    gdncp_group_t *group = NULL;
    char word[64];

    expect_ok(c, gdncp_comm_group_create(c->comm, 2, &group), "create");
    expect_ok(c, gdncp_comm_group_begin(c->comm, group), "begin");
    if (c->rank == last) {
        expect_ok(c, gdncp_comm_send(c->comm, group, out, sent, 0), "send");
    }
    if (c->rank == 0) {
        expect_ok(c, gdncp_comm_recv(c->comm, group, in, expected, last), "recv");
    }
    expect_ok(c, gdncp_comm_group_end(c->comm, group, NULL), "end");
    const gdncp_status_t status = gdncp_comm_group_wait(c->comm, group);
    if (c->rank == 0) {
        snprintf(word, sizeof word, "of %zu bytes from rank %d, got %zu", expected, last, sent);
        expect_error(c, status, GDNCP_ERR_MISMATCH, word, "a wrong length");
    } else {
        expect_ok(c, status, "sending a wrong length");
    }
    gdncp_comm_group_destroy(c->comm, group);
    expect_ok(c, gdncp_comm_barrier(c->comm), "barrier");
    free(out);
    free(in);
}

static void wrong_lengths_are_told(conformance_t *c)
{
    send_wrong_length(c, 100, 64);
    send_wrong_length(c, 64, 100);
    send_wrong_length(c, 2 << 20, 1 << 20);
    send_wrong_length(c, 1 << 20, 2 << 20);
}

static void groups_can_be_reused(conformance_t *c)
{
    const int before = (c->rank + c->size - 1) % c->size;
    gdncp_group_t *group = NULL;

    expect_ok(c, gdncp_comm_group_create(c->comm, 2, &group), "create");
    for (int64_t i = 0; i < 1000 && c->num_failures == 0; i++) {
        const int64_t out = i * 1000 + c->rank;
        int64_t in = -1;

        pass_on(c, group, &out, &in, sizeof out);
        expect(c, in == i * 1000 + before, "the message of this round");
    }
    gdncp_comm_group_destroy(c->comm, group);
}

/* Waits as long as it takes, up to ten seconds, whatever the communicator's time-out. */
static gdncp_status_t wait_long(conformance_t *c, gdncp_group_t *group)
{
    const int64_t deadline = gdncp_deadline_after(10000);
    gdncp_status_t status = GDNCP_OK;
    bool done = false;

    while (!done && status == GDNCP_OK && gdncp_now_ms() < deadline) {
        status = gdncp_comm_group_test(c->comm, group, &done);
        gdncp_pause_between_polls(1000);
    }
    return done ? status : GDNCP_ERR_TIMEOUT;
}

/* Rank 0 waits for a message that nobody sends; after the time-out the others still hear of it. */
static void waits_end_at_the_timeout(conformance_t *c)
{
    const int last = c->size - 1;
    const int64_t begin = gdncp_now_ms();
    char unsent[16];
    char word[64];
    char news = 'n';
    gdncp_group_t *group = NULL;

    expect_ok(c, gdncp_comm_group_create(c->comm, c->size, &group), "create");
    expect_ok(c, gdncp_comm_group_begin(c->comm, group), "begin");
    if (c->rank == 0) {
        expect_ok(c, gdncp_comm_recv(c->comm, group, unsent, sizeof unsent, last), "recv");
        expect_ok(c, gdncp_comm_group_end(c->comm, group, NULL), "end");
        snprintf(word, sizeof word, "rank %d", last);
        expect_error(c, gdncp_comm_group_wait(c->comm, group), GDNCP_ERR_TIMEOUT, word, "wait");
        expect(c, strstr(gdncp_last_error(), "rank 0 of") != NULL, "a time-out names its rank");
        expect(c, strstr(gdncp_last_error(), "0.2 s") != NULL, "a time-out names its seconds");
        const int64_t waited = gdncp_now_ms() - begin;
        expect(c, waited >= 200 && waited < 5000, "a wait ends soon after its time-out");
        gdncp_comm_group_destroy(c->comm, group);
        expect_ok(c, gdncp_comm_group_create(c->comm, c->size, &group), "create");
        expect_ok(c, gdncp_comm_group_begin(c->comm, group), "begin");
        for (int peer = 1; peer < c->size; peer++) {
            expect_ok(c, gdncp_comm_send(c->comm, group, &news, 1, peer), "send");
        }
    } else {
        expect_ok(c, gdncp_comm_recv(c->comm, group, &news, 1, 0), "recv");
    }
    expect_ok(c, gdncp_comm_group_end(c->comm, group, NULL), "end");
    expect_ok(c, wait_long(c, group), "the group after a time-out");
    gdncp_comm_group_destroy(c->comm, group);
}

/* Ends with a communicator that can only be destroyed. */
static void abort_ends_waits(conformance_t *c)
{
    char unsent = 0;
    gdncp_group_t *group = NULL;

    expect_ok(c, gdncp_comm_group_create(c->comm, 1, &group), "create");
    expect_ok(c, gdncp_comm_group_begin(c->comm, group), "begin");
    expect_ok(c, gdncp_comm_recv(c->comm, group, &unsent, 1, (c->rank + 1) % c->size), "recv");
    const gdncp_status_t status = gdncp_comm_group_end(c->comm, group, NULL);
    const int64_t begin = gdncp_now_ms();
    gdncp_comm_abort(c->comm);
    if (status != GDNCP_OK) {
        /* Another rank was faster, and this transport could tell. */
        expect(c, status == GDNCP_ERR_PEER_LOST, "a group after an abort");
        gdncp_comm_group_destroy(c->comm, group);
        return;
    }
    expect_error(c, gdncp_comm_group_wait(c->comm, group), GDNCP_ERR_PEER_LOST, "abort",
                 "a wait after an abort");
    expect_ok(c, gdncp_comm_group_begin(c->comm, group), "begin after an abort");
    expect_error(c, gdncp_comm_group_end(c->comm, group, NULL), GDNCP_ERR_PEER_LOST, "abort",
                 "a group after an abort");
    expect(c, c->size == 1 || gdncp_comm_barrier(c->comm) == GDNCP_ERR_PEER_LOST,
           "a barrier after an abort");
    expect(c, gdncp_now_ms() - begin < 2000, "an abort ends waits at once");
    gdncp_comm_group_destroy(c->comm, group);
}

static void counters_count_messages_to_others(conformance_t *c)
{
    char out[1000] = {0};
    char in[3][1000];
    const int64_t num_others = c->size > 1 ? 1 : 0;
    gdncp_comm_counters_t counters;
    gdncp_group_t *group = NULL;

    expect_ok(c, gdncp_comm_group_create(c->comm, 6, &group), "create");
    gdncp_comm_reset_counters(c->comm);
    for (int round = 1; round <= 3; round++) {
        expect_ok(c, gdncp_comm_barrier(c->comm), "barrier");
        pass_on(c, group, out, in[0], 700);
        gdncp_comm_counters(c->comm, &counters);
        expect(c, counters.messages_sent == round * num_others, "messages sent");
        expect(c, counters.messages_received == round * num_others, "messages received");
        expect(c, counters.bytes_sent == 700 * round * num_others, "bytes sent");
        expect(c, counters.bytes_received == 700 * round * num_others, "bytes received");
    }
    gdncp_comm_reset_counters(c->comm);
    expect_ok(c, gdncp_comm_group_begin(c->comm, group), "begin");
    expect_ok(c, gdncp_comm_send(c->comm, group, out, 10, c->rank), "send");
    expect_ok(c, gdncp_comm_recv(c->comm, group, in[1], 10, c->rank), "recv");
    expect_ok(c, gdncp_comm_group_end(c->comm, group, NULL), "end");
    expect_ok(c, gdncp_comm_group_wait(c->comm, group), "wait");
    gdncp_comm_counters(c->comm, &counters);
    expect(c, counters.messages_sent == 0 && counters.bytes_received == 0, "nothing to oneself");
    gdncp_comm_group_destroy(c->comm, group);
}

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

/* A cancelled receive counts: the message that was meant for it goes to no other. */
static void destroyed_groups_receive_nothing(conformance_t *c)
{
    char in = 'i';
    char out = 'o';
    gdncp_group_t *groups[2];
    bool done = true;

    for (int i = 0; i < 2; i++) {
        expect_ok(c, gdncp_comm_group_create(c->comm, 1, &groups[i]), "create");
        expect_ok(c, gdncp_comm_group_begin(c->comm, groups[i]), "begin");
    }
    expect_ok(c, gdncp_comm_recv(c->comm, groups[0], &in, 1, c->rank), "recv");
    expect_ok(c, gdncp_comm_group_end(c->comm, groups[0], NULL), "end");
    gdncp_comm_group_destroy(c->comm, groups[0]);
    expect_ok(c, gdncp_comm_send(c->comm, groups[1], &out, 1, c->rank), "send");
    expect_ok(c, gdncp_comm_group_end(c->comm, groups[1], NULL), "end");
    expect_ok(c, gdncp_comm_group_test(c->comm, groups[1], &done), "test");
    expect(c, !done, "nobody takes a message to a group that is gone");
    expect(c, in == 'i', "a group that is gone receives nothing");
    gdncp_comm_group_destroy(c->comm, groups[1]);
    expect_ok(c, gdncp_comm_barrier(c->comm), "barrier");
}

static void arguments_are_checked(conformance_t *c)
{
    char byte = 0;
    char text[64];
    gdncp_group_t *group = NULL;

    expect_error(c, gdncp_comm_group_create(c->comm, -1, &group), GDNCP_ERR_INVALID_ARGUMENT,
                 "max_messages", "a group of fewer than no messages");
    expect_error(c, gdncp_comm_group_create(c->comm, INT64_MAX, &group), GDNCP_ERR_INVALID_ARGUMENT,
                 "max_messages", "a group of too many messages");
    expect(c, group == NULL, "outputs are set on success only");
    expect_ok(c, gdncp_comm_group_create(c->comm, 1, &group), "create");
    expect_ok(c, gdncp_comm_group_begin(c->comm, group), "begin");
    expect_error(c, gdncp_comm_send(c->comm, group, &byte, 1, c->size), GDNCP_ERR_INVALID_ARGUMENT,
                 "peer", "a peer above all ranks");
    expect_error(c, gdncp_comm_recv(c->comm, group, &byte, 1, -1), GDNCP_ERR_INVALID_ARGUMENT,
                 "peer", "a peer below all ranks");
    expect_error(c, gdncp_comm_send(c->comm, group, &byte, 0, 0), GDNCP_ERR_INVALID_ARGUMENT,
                 "bytes", "a message without bytes");
    expect_error(c, gdncp_comm_recv(c->comm, group, NULL, 1, 0), GDNCP_ERR_INVALID_ARGUMENT,
                 "buffer", "a message to nowhere");
    expect_ok(c, gdncp_comm_recv(c->comm, group, &byte, 1, c->rank), "recv");
    expect_error(c, gdncp_comm_send(c->comm, group, &byte, 1, c->rank), GDNCP_ERR_INVALID_ARGUMENT,
                 "max_messages", "one message more than there is room for");
    expect_ok(c, gdncp_comm_group_end(c->comm, group, NULL), "end");
    expect_error(c, gdncp_comm_group_begin(c->comm, group), GDNCP_ERR_INVALID_ARGUMENT, "in flight",
                 "to begin a group in flight");
    expect_error(c, gdncp_comm_send(c->comm, group, &byte, 1, c->rank), GDNCP_ERR_INVALID_ARGUMENT,
                 "in flight", "to add to a group in flight");
    gdncp_comm_group_destroy(c->comm, group);
    expect_error(c, gdncp_comm_describe_lanes(c->comm, c->size, text, sizeof text),
                 GDNCP_ERR_INVALID_ARGUMENT, "peer", "lanes to nobody");
    expect_error(c, gdncp_comm_describe_lanes(c->comm, 0, text, 0), GDNCP_ERR_INVALID_ARGUMENT,
                 "text", "lanes to nowhere");
    for (int peer = 0; peer < c->size; peer++) {
        text[0] = '\0';
        expect_ok(c, gdncp_comm_describe_lanes(c->comm, peer, text, sizeof text), "lanes");
        expect(c, text[0] != '\0', "lanes are told");
    }
    text[2] = 'x';
    expect_ok(c, gdncp_comm_describe_lanes(c->comm, 0, text, 2), "lanes in a short text");
    expect(c, text[1] == '\0' && text[2] == 'x', "a short text is not overrun");
}

static const conformance_case_t conformance_cases[] = {
    {"messages_match_in_order", messages_match_in_order, 0},
    {"messages_of_all_sizes", messages_of_all_sizes, 0},
    {"groups_without_messages", groups_without_messages, 0},
    {"messages_to_oneself", messages_to_oneself, 0},
    {"wrong_lengths_are_told", wrong_lengths_are_told, 0},
    {"groups_can_be_reused", groups_can_be_reused, 0},
    {"waits_end_at_the_timeout", waits_end_at_the_timeout, 200},
    {"abort_ends_waits", abort_ends_waits, 0},
    {"counters_count_messages_to_others", counters_count_messages_to_others, 0},
    {"all_gather_gathers", all_gather_gathers, 0},
    {"ranks_agree", ranks_agree, 0},
    {"barriers_hold_everyone", barriers_hold_everyone, 0},
    {"different_control_calls_are_told", different_control_calls_are_told, 0},
    {"destroyed_groups_receive_nothing", destroyed_groups_receive_nothing, 0},
    {"arguments_are_checked", arguments_are_checked, 0},
};

enum { NUM_CONFORMANCE_CASES = sizeof conformance_cases / sizeof conformance_cases[0] };

/* Run one case on one rank; the number of its failures, of which the first is printed. */
static int run_conformance_case(const conformance_case_t *test, gdncp_comm_t *comm, uint64_t seed)
{
    conformance_t c = {
        .comm = comm, .rank = gdncp_comm_rank(comm), .size = gdncp_comm_size(comm), .seed = seed};

    test->run(&c);
    if (c.num_failures > 0) {
        printf("%s, rank %d of %d: %d failures, first: %s\n", test->name, c.rank, c.size,
               c.num_failures, c.first_failure);
        fflush(stdout);
    }
    return c.num_failures;
}

#endif
