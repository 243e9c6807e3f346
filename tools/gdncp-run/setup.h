/* What all ranks of a run are given. */
#ifndef GDNCP_RUN_SETUP_H
#define GDNCP_RUN_SETUP_H

#include <stdio.h>

#include "options.h"
#include "problem.h"

typedef struct run_setup {
    const run_options_t *options;
    const run_problem_t *problem;
    int ranks;
    FILE *trace; /* where rank 0 writes the timeline; NULL: no trace */
} run_setup_t;

#endif
