/* All that is asked for, on one rank. */
#ifndef GDNCP_COMM_RUN_H
#define GDNCP_COMM_RUN_H

#include "comm_report.h"

typedef struct comm_program {
    comm_options_t options;
    int argc;
    char **argv;
} comm_program_t;

/* Collective. Rank 0 prints. *wrong_p: elements on all ranks. */
gdncp_status_t comm_run_all(const comm_program_t *program, gdncp_comm_t *comm, int num_cores,
                            int64_t *wrong_p);

/* One benchmark with one shape. Collective; the same result on all ranks. */
gdncp_status_t comm_run_one(const comm_options_t *options, gdncp_comm_t *comm,
                            comm_result_t *result);

#endif
