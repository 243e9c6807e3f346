/* Slots of a pool of states: checks of the lists, and of the numbers in them. */
#include "pool_slots.h"

#include <inttypes.h>

#include "error.h"
#include "op_checks.h"

gdncp_status_t gdncp_op_check_slots(const gdncp_tensor_t *slots, gdncp_device_kind_t device,
                                    int max_ndim, int64_t num_sequences)
{
    const int ndim = slots->ndim == max_ndim ? max_ndim : 1;
    const gdncp_status_t status = gdncp_op_check_ndim("slots", slots, ndim);

    if (status != GDNCP_OK) {
        return status;
    }
    if (slots->dtype != GDNCP_I32 && slots->dtype != GDNCP_I64) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "slots: expected i32 or i64, got %s",
                          gdncp_dtype_name(slots->dtype));
    }
    const int64_t shape[] = {num_sequences, slots->shape[1]};

    return gdncp_op_check_tensor("slots", slots, device, slots->dtype, GDNCP_OP_CONTIGUOUS, ndim,
                                 shape);
}

gdncp_status_t gdncp_op_check_num_accepted(const gdncp_tensor_t *num_accepted,
                                           const gdncp_tensor_t *slots)
{
    return gdncp_op_check_optional("num_accepted", num_accepted, slots->device, slots->dtype,
                                   GDNCP_OP_CONTIGUOUS, 1, slots->shape);
}

gdncp_status_t gdncp_slot_writers_open(gdncp_workspace_t *workspace, int64_t num_slots,
                                       gdncp_slot_writers_t *writers)
{
    const gdncp_status_t status = gdncp_scratch_open(
        workspace, 1, (size_t)num_slots * sizeof *writers->sequence, &writers->scratch);

    if (status != GDNCP_OK) {
        return status;
    }
    writers->sequence = (int64_t *)(void *)writers->scratch.memory;
    writers->num_slots = num_slots;
    for (int64_t i = 0; i < num_slots; i++) {
        writers->sequence[i] = -1;
    }
    return GDNCP_OK;
}

void gdncp_slot_writers_close(gdncp_slot_writers_t *writers)
{
    gdncp_scratch_close(&writers->scratch);
}

gdncp_status_t gdncp_slot_writers_check_read(const gdncp_slot_writers_t *writers, int64_t sequence,
                                             int64_t slot)
{
    if (slot >= writers->num_slots) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "slots: expected < %" PRId64 " at sequence %" PRId64 ", got %" PRId64,
                          writers->num_slots, sequence, slot);
    }
    if (slot >= 0 && writers->sequence[slot] >= 0 && writers->sequence[slot] != sequence) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "slots: expected one at sequence %" PRId64
                          " that no other writes, got %" PRId64 ", which sequence %" PRId64
                          " writes",
                          sequence, slot, writers->sequence[slot]);
    }
    return GDNCP_OK;
}

gdncp_status_t gdncp_slot_writers_add(gdncp_slot_writers_t *writers, int64_t sequence, int64_t slot)
{
    const gdncp_status_t status = gdncp_slot_writers_check_read(writers, sequence, slot);

    if (status == GDNCP_OK && slot >= 0) {
        writers->sequence[slot] = sequence;
    }
    return status;
}
