/* Making a problem from each kind of dump. They leave what they made in the problem on an error, to
 * be released with it. */
#ifndef GDNCP_RUN_PROBLEM_KINDS_H
#define GDNCP_RUN_PROBLEM_KINDS_H

#include "dump.h"
#include "problem.h"

gdncp_status_t run_problem_load_layer(const run_dump_t *dump, run_problem_t *problem);
gdncp_status_t run_problem_load_rule(const run_dump_t *dump, run_problem_t *problem);

/* Read a tensor as the next input. spec->name is what it is called in the dump. */
gdncp_status_t run_problem_read_input(const run_dump_t *dump, const run_spec_t *spec,
                                      run_problem_t *problem);

/* Add an output that is reported as `name`, and read what is expected of it. */
gdncp_status_t run_problem_add_output(const run_dump_t *dump, const run_spec_t *spec,
                                      const char *name, run_problem_t *problem);

#endif
