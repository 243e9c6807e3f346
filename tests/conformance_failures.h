/* What goes wrong: lengths, time-outs, aborts and arguments. */
#ifndef GDNCP_CONFORMANCE_FAILURES_H
#define GDNCP_CONFORMANCE_FAILURES_H

#include "conformance_rank.h"
#include "deadline.h"

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

    /* Nobody aborts before all have made the communicator; some may before all have left here. */
    if (gdncp_comm_barrier(c->comm) != GDNCP_OK) {
        expect(c, strstr(gdncp_last_error(), "aborted the communicator") != NULL,
               "a barrier that an abort ends");
        return;
    }
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
    expect_error(c, c->comm->transport->ops->check_peer(c->comm->transport, 0), GDNCP_ERR_PEER_LOST,
                 "abort", "a rank after an abort");
    expect_ok(c, gdncp_comm_group_begin(c->comm, group), "begin after an abort");
    expect_error(c, gdncp_comm_group_end(c->comm, group, NULL), GDNCP_ERR_PEER_LOST, "abort",
                 "a group after an abort");
    expect(c, c->size == 1 || gdncp_comm_barrier(c->comm) == GDNCP_ERR_PEER_LOST,
           "a barrier after an abort");
    expect(c, gdncp_now_ms() - begin < 2000, "an abort ends waits at once");
    gdncp_comm_group_destroy(c->comm, group);
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
    expect_ok(c, c->comm->transport->ops->check_peer(c->comm->transport, c->rank), "a rank here");
    for (int peer = 0; peer < c->size; peer++) {
        text[0] = '\0';
        expect_ok(c, gdncp_comm_describe_lanes(c->comm, peer, text, sizeof text), "lanes");
        expect(c, text[0] != '\0', "lanes are told");
    }
    text[2] = 'x';
    expect_ok(c, gdncp_comm_describe_lanes(c->comm, 0, text, 2), "lanes in a short text");
    expect(c, text[1] == '\0' && text[2] == 'x', "a short text is not overrun");
}

#endif
