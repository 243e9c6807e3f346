/* The recurrent step in float64: what every faster version is held against. */
#ifndef GDNCP_RECURRENT_STEP_REFERENCE_H
#define GDNCP_RECURRENT_STEP_REFERENCE_H

#include <stdint.h>

#include "delta_rule_reference.h"

/* As gdncp_recurrent_step_t, in contiguous float64 and int64. Arguments are not checked. */
typedef struct gdncp_recurrent_step_reference {
    gdncp_delta_rule_reference_t rule; /* the tokens; initial_state is not read */
    double *states;                    /* [num_slots, Hv, dk, dv], read and written */
    const int64_t *slots;              /* [N], or [N, M] */
    const int64_t *num_accepted;       /* [N]; NULL: 1 */
    int64_t row_length;                /* M; 0 where slots is [N] */
} gdncp_recurrent_step_reference_t;

/* o [T, Hv, dv]. GDNCP_ERR_OUT_OF_MEMORY or GDNCP_OK. */
gdncp_status_t gdncp_recurrent_step_reference(const gdncp_recurrent_step_reference_t *step,
                                              double *o);

#endif
