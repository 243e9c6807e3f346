/* Slots of a pool of states, as decoding operators are given them: lists of numbers in tensors. */
#ifndef GDNCP_POOL_SLOTS_H
#define GDNCP_POOL_SLOTS_H

#include <stdint.h>

#include "gdncp/memory.h"
#include "gdncp/status.h"
#include "gdncp/tensor.h"
#include "op_scratch.h"

/* A contiguous tensor [N] or, where max_ndim is 2, [N, any]; I32 or I64. */
gdncp_status_t gdncp_op_check_slots(const gdncp_tensor_t *slots, gdncp_device_kind_t device,
                                    int max_ndim, int64_t num_sequences);

/* Absent, or [N] of the dtype of slots. */
gdncp_status_t gdncp_op_check_num_accepted(const gdncp_tensor_t *num_accepted,
                                           const gdncp_tensor_t *slots);

/* A number of a list that was checked. */
static inline int64_t gdncp_index_at(const gdncp_tensor_t *list, int64_t i)
{
    return list->dtype == GDNCP_I32 ? ((const int32_t *)list->data)[i]
                                    : ((const int64_t *)list->data)[i];
}

/* Which sequence writes each slot of a pool on the CPU. */
typedef struct gdncp_slot_writers {
    int64_t *sequence; /* [num_slots]; -1: none */
    int64_t num_slots;
    gdncp_scratch_t scratch;
} gdncp_slot_writers_t;

/* No slot has a writer yet. Close before the workspace's scratch is used for anything else. */
gdncp_status_t gdncp_slot_writers_open(gdncp_workspace_t *workspace, int64_t num_slots,
                                       gdncp_slot_writers_t *writers);

void gdncp_slot_writers_close(gdncp_slot_writers_t *writers);

/* The sequence writes this slot, which is below num_slots and no other sequence's. A negative one
 * is a pad and always good. */
gdncp_status_t gdncp_slot_writers_add(gdncp_slot_writers_t *writers, int64_t sequence,
                                      int64_t slot);

/* The sequence reads this slot, which is below num_slots and not written by another. */
gdncp_status_t gdncp_slot_writers_check_read(const gdncp_slot_writers_t *writers, int64_t sequence,
                                             int64_t slot);

#endif
