/* Whether all ranks are about to bind the same plan. */
#include "exchange_compare.h"

#include <inttypes.h>
#include <stdio.h>

#include "comm_internal.h"
#include "error.h"
#include "gdncp/device.h"
#include "gdncp/memory.h"
#include "plan_internal.h"

/* What the ranks tell each other about their plans. */
typedef struct verdict_record {
    gdncp_status_t status;
    int32_t device; /* of the buffers */
    uint64_t fingerprint;
    char name[64];
    char text[512]; /* the plan's description, or what is wrong */
} verdict_record_t;

static void describe_plan(const gdncp_plan_t *plan, verdict_record_t *record)
{
    snprintf(record->name, sizeof record->name, "%s", plan->name);
    snprintf(record->text, sizeof record->text, "%s, %s", plan->text,
             plan->write == GDNCP_PLAN_ADD ? "add" : "assign");
    record->fingerprint = gdncp_plan_fingerprint(plan);
}

static void judge_arguments(const gdncp_comm_t *comm, const gdncp_plan_t *plan,
                            gdncp_exchange_t **exchange_p, verdict_record_t *record)
{
    record->status = GDNCP_ERR_INVALID_ARGUMENT;
    if (exchange_p == NULL) {
        snprintf(record->text, sizeof record->text, "exchange_p: expected an address, got NULL");
    } else if (plan == NULL) {
        const char *const reason = gdncp_last_error();

        snprintf(record->text, sizeof record->text, "plan: expected a plan, got NULL%s%s",
                 reason[0] != '\0' ? "; the last error there: " : "", reason);
    } else if (plan->rank != comm->rank || plan->num_ranks != comm->size) {
        snprintf(record->text, sizeof record->text,
                 "plan: expected one for rank %d of %d, got %s for rank %d of %d", comm->rank,
                 comm->size, plan->name, plan->rank, plan->num_ranks);
    } else {
        record->status = GDNCP_OK;
        describe_plan(plan, record);
    }
}

/* The same for all ranks: the lowest one in the wrong, else the lowest that differs from rank 0. */
static gdncp_status_t judge_records(const verdict_record_t *records, int num_ranks)
{
    for (int rank = 0; rank < num_ranks; rank++) {
        if (records[rank].status != GDNCP_OK) {
            return gdncp_fail(records[rank].status, "rank %d: %s", rank, records[rank].text);
        }
    }
    for (int rank = 1; rank < num_ranks; rank++) {
        if (records[rank].fingerprint != records[0].fingerprint) {
            return gdncp_fail(
                GDNCP_ERR_MISMATCH,
                "plan: expected the same on all ranks, got %s of %s (fingerprint "
                "%016" PRIx64 ") on rank 0 and %s of %s (fingerprint %016" PRIx64 ") on rank %d",
                records[0].name, records[0].text, records[0].fingerprint, records[rank].name,
                records[rank].text, records[rank].fingerprint, rank);
        }
    }
    return GDNCP_OK;
}

/* NCCL moves from device to device only. The same for all ranks. */
static gdncp_status_t judge_devices(const verdict_record_t *records, int num_ranks)
{
    for (int rank = 1; rank < num_ranks; rank++) {
        if (records[rank].device != records[0].device) {
            return gdncp_fail(GDNCP_ERR_MISMATCH,
                              "device: expected the same on all ranks over nccl, got %s on rank 0 "
                              "and %s on rank %d",
                              gdncp_device_name((gdncp_device_kind_t)records[0].device),
                              gdncp_device_name((gdncp_device_kind_t)records[rank].device), rank);
        }
    }
    return GDNCP_OK;
}

gdncp_status_t gdncp_exchange_compare(gdncp_comm_t *comm, const gdncp_plan_t *plan,
                                      gdncp_device_kind_t device, gdncp_exchange_t **exchange_p)
{
    verdict_record_t mine = {.device = (int32_t)device};
    verdict_record_t *const all = gdncp_memory_alloc((size_t)comm->size * sizeof *all);

    if (all == NULL) {
        return gdncp_fail_memory("what the ranks say of their plans");
    }
    judge_arguments(comm, plan, exchange_p, &mine);
    gdncp_status_t status = gdncp_comm_all_gather(comm, &mine, all, sizeof mine);

    if (status == GDNCP_OK) {
        status = judge_records(all, comm->size);
    }
    if (status == GDNCP_OK && comm->nccl != NULL) {
        status = judge_devices(all, comm->size);
    }
    gdncp_memory_free(all);
    return status;
}
