/* A rank that fails while others work with it: when and how, and what these must see of it. */
#ifndef GDNCP_FAILURE_CASE_H
#define GDNCP_FAILURE_CASE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "comm_operations.h"

#define MAX_SIZE 4
#define LONG_MS 30000 /* of waits that must not come to it */
#define STOP_MS 1000  /* of waits for a rank that is stopped */
#define TOLD_MS 1000  /* a death must be told by then */
#define AWAKE_MS 300  /* or, where cores are short, with no more than this but for queueing */

typedef enum fault { FAULT_KILL, FAULT_ABORT, FAULT_STOP, NUM_FAULTS } fault_t;
typedef enum phase { PHASE_BEFORE, PHASE_BETWEEN, PHASE_MIDDLE, PHASE_WAIT, NUM_PHASES } phase_t;

typedef enum scene { SCENE_OPERATION, SCENE_CREATE, SCENE_SHRINK } scene_t;

typedef struct failure_case {
    scene_t scene;
    operation_kind_t kind;
    bool transposed;
    phase_t phase;
    fault_t fault;
    int victim;
    int size;
    bool over_tcp; /* of scenes other than operations */
    uint64_t seed;
} failure_case_t;

/* What a rank tells the parent. */
typedef struct outcome {
    gdncp_status_t status;
    int64_t told_after_ms; /* since the fault */
    int64_t queued_ms; /* until then, from just before the fault, ready to run but without a core */
    bool has_told;
    int new_size;
    bool tokens_are_right;
    bool is_done;
    char sentence[400];
    char problem[400];
} outcome_t;

/* Between the parent and the ranks of one case. */
typedef struct shared {
    failure_case_t test;
    _Atomic int64_t fault_ms;
    int64_t queued_ms; /* the victim, ready to run but without a core, from the fault to its end */
    _Atomic int num_ready;
    outcome_t outcomes[MAX_SIZE];
    FILE *outputs[MAX_SIZE]; /* of the parent, and copied by forks */
} shared_t;

static inline int num_dead(const failure_case_t *test)
{
    return test->scene == SCENE_SHRINK ? 2 : test->fault == FAULT_ABORT ? 0 : 1;
}

static inline const char *describe_case(const failure_case_t *test)
{
    static const char *const phases[] = {"before", "between start and wait", "in a large message",
                                         "in wait"};
    static const char *const faults[] = {"killed", "aborting", "stopped"};
    static char text[200];

    snprintf(text, sizeof text, "%s%s, %s, rank %d of %d %s, seed %llu",
             test->scene == SCENE_CREATE   ? "create"
             : test->scene == SCENE_SHRINK ? "shrink"
                                           : operation_name_of(test->kind, test->transposed),
             test->over_tcp ? " over TCP" : "", phases[test->phase], test->victim, test->size,
             faults[test->fault], (unsigned long long)test->seed);
    return text;
}

/* What a survivor spent in the queue for a core meanwhile, and the victim until it was dead, is
 * none of gdncp's. But who polls is in that queue too, so that it excuses no more than it must. */
static inline bool is_late(const shared_t *shared, const outcome_t *outcome)
{
    const int64_t stop_ms = shared->test.fault == FAULT_STOP ? STOP_MS : 0;
    const int64_t awake_ms = outcome->told_after_ms - outcome->queued_ms - shared->queued_ms;

    return outcome->told_after_ms > stop_ms + TOLD_MS && awake_ms > stop_ms + AWAKE_MS;
}

/* What is wrong with what a survivor saw, or NULL. */
static inline const char *judge(const shared_t *shared, const outcome_t *outcome)
{
    const failure_case_t *const test = &shared->test;
    char name[32];

    snprintf(name, sizeof name, "rank %d", test->victim);
    if (!outcome->is_done || outcome->problem[0] != '\0') {
        return "it did not come to its end";
    }
    if (test->scene != SCENE_CREATE &&
        (outcome->new_size != test->size - num_dead(test) || !outcome->tokens_are_right)) {
        return "the survivors are others, or their tokens are wrong";
    }
    if (test->scene == SCENE_SHRINK) {
        return NULL;
    }
    if (outcome->status != GDNCP_ERR_PEER_LOST &&
        !(outcome->status == GDNCP_ERR_TIMEOUT && test->fault == FAULT_STOP)) {
        return "wrong status";
    }
    /* Who waits for a rank that waits for a stopped one can name but the former; and so can who has
     * yet to connect to one that gave up creation, as it had heard of the death before. */
    if (strstr(outcome->sentence, name) == NULL &&
        !(test->fault == FAULT_STOP && strstr(outcome->sentence, "messages to or from rank ")) &&
        !(test->scene == SCENE_CREATE && strstr(outcome->sentence, "rank "))) {
        return "wrong rank";
    }
    return is_late(shared, outcome) ? "it heard of it late" : NULL;
}

#endif
