/* Bringing the ranks' parts of an output together on rank 0. */
#ifndef GDNCP_RUN_GATHER_H
#define GDNCP_RUN_GATHER_H

#include "execute.h"

/* Collective. part: this rank's; whole: the tensor in float32, written in full on rank 0 and not
 * used elsewhere. */
gdncp_status_t run_gather(const run_job_t *job, const void *instance, const run_spec_t *spec,
                          const gdncp_tensor_t *part, float *whole);

#endif
