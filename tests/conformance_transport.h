/*
 * What every transport must do, run by each rank on a communicator of its own.
 *
 * Ranks are threads or processes, so that a check records its failure and goes on; whoever runs
 * the cases looks at the failures afterwards.
 */
#ifndef GDNCP_CONFORMANCE_TRANSPORT_H
#define GDNCP_CONFORMANCE_TRANSPORT_H

#include "conformance_control.h"
#include "conformance_derive.h"
#include "conformance_failures.h"
#include "conformance_messages.h"

typedef struct conformance_case {
    const char *name;
    void (*run)(conformance_t *c);
    int64_t timeout_ms; /* 0: the communicator's default */
} conformance_case_t;

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
    {"splits_follow_color_and_key", splits_follow_color_and_key, 0},
    {"arguments_of_splits_are_checked", arguments_of_splits_are_checked, 0},
    {"communicators_are_independent", communicators_are_independent, 0},
    {"aborts_stay_in_their_communicator", aborts_stay_in_their_communicator, 0},
    {"shrinking_leaves_the_others", shrinking_leaves_the_others, 0},
    {"late_ranks_are_left_out", late_ranks_are_left_out, 500},
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
