/* Messages and groups: what arrives, in which order, and how it is counted. */
#ifndef GDNCP_CONFORMANCE_MESSAGES_H
#define GDNCP_CONFORMANCE_MESSAGES_H

#include "conformance_rank.h"

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

#endif
