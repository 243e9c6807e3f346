/* The recurrent step on the CPU, for arguments that have been checked. */
#ifndef GDNCP_RECURRENT_STEP_CPU_H
#define GDNCP_RECURRENT_STEP_CPU_H

#include "recurrent_step_problem.h"

gdncp_status_t gdncp_recurrent_step_cpu(const gdncp_step_problem_t *problem,
                                        const gdncp_tensor_t *o, gdncp_workspace_t *workspace);

#endif
