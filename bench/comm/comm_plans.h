/* Kinds of plans: how one is made, and the formula of where its outputs come from. */
#ifndef GDNCP_COMM_PLANS_H
#define GDNCP_COMM_PLANS_H

#include "comm_bench.h"

typedef struct comm_kind {
    gdncp_status_t (*plan)(const comm_case_t *c, gdncp_plan_t **plan_p);
    /* The output of any rank as a list of runs, some of which may be empty. */
    int64_t (*num_runs)(const comm_case_t *c, int rank);
    comm_run_t (*run)(const comm_case_t *c, int rank, int64_t index);
} comm_kind_t;

extern const comm_kind_t comm_kind_cp2hp;

gdncp_status_t comm_plan_cp2hp(const comm_case_t *c, gdncp_plan_t **plan_p);

/* Buffers of a plan, and the bytes that it moves. */
void comm_make_plan_buffers(comm_case_t *c, const gdncp_plan_t *plan);

/* Wrong elements of this rank's output; with received_only those alone that other ranks sent. */
int64_t comm_check_runs(const comm_case_t *c, const comm_kind_t *kind, bool received_only);

#endif
