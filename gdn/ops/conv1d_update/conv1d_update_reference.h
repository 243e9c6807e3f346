/* The update of the convolution in float64: what tests compare with. Arrays are contiguous. */
#ifndef GDNCP_CONV1D_UPDATE_REFERENCE_H
#define GDNCP_CONV1D_UPDATE_REFERENCE_H

#include <stdint.h>

#include "conv1d_reference.h"
#include "gdncp/status.h"

/* As gdncp_conv1d_update_t. Arguments are not checked. */
typedef struct gdncp_conv1d_update_reference {
    gdncp_conv1d_reference_t conv;   /* the tokens; window is not read */
    double *states;                  /* [num_slots, S, C], read and written */
    int64_t slot_rows;               /* S */
    const int64_t *slots;            /* [N] */
    const int8_t *has_initial_state; /* [N]; NULL: 1 */
    const int64_t *num_accepted;     /* [N]; NULL: absent */
} gdncp_conv1d_update_reference_t;

/* y [T, C]. GDNCP_ERR_OUT_OF_MEMORY or GDNCP_OK. */
gdncp_status_t gdncp_conv1d_update_reference(const gdncp_conv1d_update_reference_t *update,
                                             double *y);

#endif
