/* Communicators made from others: splits and shrinks. */
#ifndef GDNCP_CONFORMANCE_DERIVE_H
#define GDNCP_CONFORMANCE_DERIVE_H

#include <pthread.h>
#include <time.h>

#include "conformance_rank.h"

#define CONFORMANCE_MAX_RANKS 64

/* The ranks of a communicator are those of c->comm in members [size], in that order. */
static void expect_members(conformance_t *c, gdncp_comm_t *comm, const int *members, int size)
{
    int ranks[CONFORMANCE_MAX_RANKS];

    memset(ranks, 0xff, sizeof ranks);
    if (!expect(c, comm != NULL && gdncp_comm_size(comm) == size, "the size of a communicator")) {
        return;
    }
    expect(c, members[gdncp_comm_rank(comm)] == c->rank, "the rank in a communicator");
    expect(c, gdncp_comm_transport(comm) == gdncp_comm_transport(c->comm), "the transport");
    expect_ok(c, gdncp_comm_all_gather(comm, &c->rank, ranks, sizeof c->rank), "all-gather");
    expect(c, memcmp(ranks, members, (size_t)size * sizeof *ranks) == 0, "who the ranks are");
}

static void split_by(conformance_t *c, int num_colors, int64_t key_step)
{
    const int color = c->rank % num_colors;
    int members[CONFORMANCE_MAX_RANKS];
    int size = 0;
    gdncp_comm_t *sub = NULL;

    for (int i = 0; i < c->size; i++) {
        const int rank = key_step < 0 ? c->size - 1 - i : i;

        if (rank % num_colors == color) {
            members[size++] = rank;
        }
    }
    expect_ok(c, gdncp_comm_split(c->comm, color, key_step * c->rank, &sub), "split");
    expect_members(c, sub, members, size);
    gdncp_comm_destroy(sub);
}

static void splits_follow_color_and_key(conformance_t *c)
{
    gdncp_comm_t *sub = NULL;
    gdncp_comm_t *of_sub = NULL;

    split_by(c, 2, 0);
    split_by(c, 3, -5);
    /* All but rank 0, in reverse; and a part of that, which outlives it. */
    int members[CONFORMANCE_MAX_RANKS];

    for (int i = 0; i + 1 < c->size; i++) {
        members[i] = c->size - 1 - i;
    }
    expect_ok(c, gdncp_comm_split(c->comm, c->rank == 0 ? -3 : 7, -c->rank, &sub), "split");
    if (c->rank == 0) {
        expect(c, sub == NULL, "no communicator without a color");
        return;
    }
    expect_members(c, sub, members, c->size - 1);
    expect_ok(c, gdncp_comm_split(sub, 0, 0, &of_sub), "split of a split");
    gdncp_comm_destroy(sub);
    expect_members(c, of_sub, members, c->size - 1);
    gdncp_comm_destroy(of_sub);
}

static void arguments_of_splits_are_checked(conformance_t *c)
{
    const int last = c->size - 1;
    gdncp_comm_t *sub = NULL;
    char sentence[64];

    expect_error(c, gdncp_comm_split(NULL, 0, 0, &sub), GDNCP_ERR_INVALID_ARGUMENT,
                 "comm:", "a split of nothing");
    snprintf(sentence, sizeof sentence, "rank %d: sub_p: expected an address", last);
    expect_error(c, gdncp_comm_split(c->comm, 0, 0, c->rank == last ? NULL : &sub),
                 GDNCP_ERR_INVALID_ARGUMENT, sentence, "a split to nowhere on the last rank");
    expect(c, sub == NULL, "outputs are set on success only");
    expect_error(c, gdncp_comm_shrink(NULL, &sub), GDNCP_ERR_INVALID_ARGUMENT,
                 "comm:", "a shrink of nothing");
    expect_error(c, gdncp_comm_shrink(c->comm, NULL), GDNCP_ERR_INVALID_ARGUMENT,
                 "survivors_p:", "a shrink to nowhere");
    expect_ok(c, gdncp_comm_barrier(c->comm), "a barrier after wrong arguments");
}

typedef struct many_barriers {
    gdncp_comm_t *comm;
    gdncp_status_t status;
} many_barriers_t;

static void *run_many_barriers(void *context)
{
    many_barriers_t *const many = context;

    for (int i = 0; i < 200 && many->status == GDNCP_OK; i++) {
        many->status = gdncp_comm_barrier(many->comm);
    }
    return NULL;
}

/* Each has a thread of its own, on every rank. */
static void communicators_are_independent(conformance_t *c)
{
    enum { NUM = 4 };
    many_barriers_t many[NUM] = {{.comm = c->comm}};
    pthread_t threads[NUM];

    for (int i = 1; i < NUM; i++) {
        expect_ok(c,
                  gdncp_comm_split(c->comm, i == 3 ? c->rank % 2 : 0, i * c->rank, &many[i].comm),
                  "split");
        if (many[i].comm == NULL) {
            return;
        }
    }
    for (int i = 0; i < NUM; i++) {
        pthread_create(&threads[i], NULL, run_many_barriers, &many[i]);
    }
    for (int i = 0; i < NUM; i++) {
        pthread_join(threads[i], NULL);
        expect_ok(c, many[i].status, "barriers in a thread");
    }
    for (int i = 1; i < NUM; i++) {
        gdncp_comm_destroy(many[i].comm);
    }
}

/* An abort of one is none of another. */
static void aborts_stay_in_their_communicator(conformance_t *c)
{
    gdncp_comm_t *sub = NULL;

    expect_ok(c, gdncp_comm_split(c->comm, 0, 0, &sub), "split");
    if (sub == NULL) {
        return;
    }
    gdncp_comm_abort(sub);
    expect_ok(c, gdncp_comm_barrier(c->comm), "a barrier beside an abort");
    expect(c, c->size == 1 || gdncp_comm_barrier(sub) == GDNCP_ERR_PEER_LOST, "an abort");
    gdncp_comm_destroy(sub);
    expect_ok(c, gdncp_comm_barrier(c->comm), "a barrier after an abort");
}

/* Without a loss all are left; with one that destroyed its communicator, all others. */
static void shrinking_leaves_the_others(conformance_t *c)
{
    const int leaver = c->size > 2 ? 1 : c->size - 1;
    int members[CONFORMANCE_MAX_RANKS];
    gdncp_comm_t *all = NULL;
    gdncp_comm_t *others = NULL;
    int size = 0;

    for (int rank = 0; rank < c->size; rank++) {
        members[rank] = rank;
    }
    expect_ok(c, gdncp_comm_shrink(c->comm, &all), "shrink");
    expect_members(c, all, members, c->size);
    expect_error(c, gdncp_comm_shrink(c->comm, &others), GDNCP_ERR_INVALID_ARGUMENT,
                 "not shrunk before", "a second shrink");
    for (int rank = 0; rank < c->size; rank++) {
        if (rank != leaver || c->size == 1) {
            members[size++] = rank;
        }
    }
    if (all != NULL && (c->rank != leaver || c->size == 1)) {
        expect_ok(c, gdncp_comm_shrink(all, &others), "shrink without the one that left");
        expect_members(c, others, members, size);
    }
    gdncp_comm_destroy(all);
    gdncp_comm_destroy(others);
}

/* Rank 0 comes when the others have given it up. */
static void late_ranks_are_left_out(conformance_t *c)
{
    int members[CONFORMANCE_MAX_RANKS];
    gdncp_comm_t *others = NULL;

    expect_ok(c, gdncp_comm_barrier(c->comm), "barrier");
    if (c->size == 1 || c->size > 4) {
        return; /* it takes as long as the time-out */
    }
    if (c->rank == 0) {
        nanosleep(&(struct timespec){.tv_sec = 1, .tv_nsec = 500000000}, NULL);
        expect_error(c, gdncp_comm_shrink(c->comm, &others), GDNCP_ERR_PEER_LOST,
                     "given up by the others", "a shrink that comes too late");
        expect(c, others == NULL, "outputs are set on success only");
        return;
    }
    for (int rank = 1; rank < c->size; rank++) {
        members[rank - 1] = rank;
    }
    expect_ok(c, gdncp_comm_shrink(c->comm, &others), "shrink");
    expect_members(c, others, members, c->size - 1);
    gdncp_comm_destroy(others);
}

#endif
