/* Going on without the ranks that are gone: a new transport between those that are left. */
#include <string.h>

#include "error.h"
#include "gdncp/memory.h"
#include "ucx_internal.h"

/* What a rank gives to the others: its introduction, and the address of its new worker behind. */
static gdncp_status_t make_record(const gdncp_ucx_introduction_t *introduction,
                                  const ucp_address_t *address, char **record_p, size_t *bytes_p)
{
    const size_t bytes = sizeof *introduction + introduction->address_bytes;
    char *const record = gdncp_memory_alloc(bytes);

    if (bytes > GDNCP_WATCH_MAX_RECORD) {
        gdncp_memory_free(record);
        return gdncp_fail(GDNCP_ERR_INTERNAL,
                          "the address of a worker: expected <= %d bytes, got %zu",
                          GDNCP_WATCH_MAX_RECORD - (int)sizeof *introduction,
                          (size_t)introduction->address_bytes);
    }
    if (record == NULL) {
        return gdncp_fail_memory("the address of a worker");
    }
    memcpy(record, introduction, sizeof *introduction);
    memcpy(record + sizeof *introduction, address, introduction->address_bytes);
    *record_p = record;
    *bytes_p = bytes;
    return GDNCP_OK;
}

/* Connect the new transport, whose rank and size are among those not lost. */
static gdncp_status_t attach_survivors(gdncp_ucx_t *ucx, const gdncp_watch_t *watch,
                                       const bool *lost, int old_size, int64_t timeout_ms)
{
    const size_t size = (size_t)ucx->base.size;
    size_t stride = 0;
    size_t bytes = 0;
    int next = 0;

    for (int rank = 0; rank < old_size; rank++) {
        gdncp_watch_record(watch, rank, &bytes);
        stride = !lost[rank] && bytes > stride ? bytes : stride;
    }
    gdncp_ucx_introduction_t *const introductions =
        gdncp_memory_alloc(size * sizeof *introductions);
    char *const addresses = gdncp_memory_alloc(size * stride);
    gdncp_status_t status = GDNCP_OK;

    if (introductions == NULL || addresses == NULL) {
        status = gdncp_fail_memory("the addresses of ranks");
    }
    for (int rank = 0; rank < old_size && status == GDNCP_OK; rank++) {
        const char *const record = gdncp_watch_record(watch, rank, &bytes);

        if (lost[rank]) {
            continue;
        }
        memcpy(&introductions[next], record, sizeof *introductions);
        memcpy(addresses + (size_t)next * stride, record + sizeof *introductions,
               bytes - sizeof *introductions);
        next++;
    }
    if (status == GDNCP_OK) {
        status = gdncp_ucx_attach(ucx, introductions, addresses, stride, timeout_ms);
    }
    gdncp_memory_free(addresses);
    gdncp_memory_free(introductions);
    return status;
}

static gdncp_status_t connect_survivors(gdncp_ucx_t *ucx, const gdncp_watch_t *watch,
                                        const bool *lost, int64_t timeout_ms)
{
    const int old_rank = ucx->base.rank;
    const int old_size = ucx->base.size;

    ucx->base.rank = 0;
    ucx->base.size = 0;
    for (int rank = 0; rank < old_size; rank++) {
        ucx->base.rank += !lost[rank] && rank < old_rank;
        ucx->base.size += !lost[rank];
    }
    gdncp_status_t status = attach_survivors(ucx, watch, lost, old_size, timeout_ms);

    if (status == GDNCP_OK) {
        status = gdncp_ucx_say_hello(ucx, timeout_ms);
        /* The others may be through already, so this rank must come along: whoever ended since the
         * agreement is found by the next operation, on all ranks alike. */
        status = status == GDNCP_ERR_PEER_LOST || status == GDNCP_ERR_TIMEOUT ? GDNCP_OK : status;
    }
    return status;
}

gdncp_status_t gdncp_ucx_shrink(gdncp_transport_t *transport, int64_t timeout_ms,
                                gdncp_transport_t **survivors_p)
{
    const gdncp_ucx_t *const old = (const gdncp_ucx_t *)transport;
    gdncp_ucx_introduction_t introduction;
    ucp_address_t *address = NULL;
    gdncp_ucx_t *ucx = NULL;
    char *record = NULL;
    size_t bytes = 0;
    const bool *lost = NULL;

    gdncp_status_t status = gdncp_ucx_alloc(transport->rank, transport->size, &ucx);
    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_ucx_open(ucx, &introduction, &address);
    if (status == GDNCP_OK) {
        status = make_record(&introduction, address, &record, &bytes);
    }
    if (status == GDNCP_OK) {
        status = gdncp_watch_agree(old->watch, record, bytes, timeout_ms, &lost);
    }
    if (status == GDNCP_OK) {
        status = connect_survivors(ucx, old->watch, lost, timeout_ms);
    }
    if (address != NULL) {
        ucp_worker_release_address(ucx->worker, address);
    }
    gdncp_memory_free(record);
    if (status != GDNCP_OK) {
        gdncp_transport_keep_cause(&ucx->base);
        /* Nobody is to wait for this rank, before the agreement or after. */
        gdncp_watch_leave(old->watch, gdncp_transport_cause(&ucx->base));
        ucx->base.ops->destroy(&ucx->base);
        return status;
    }
    *survivors_p = &ucx->base;
    return GDNCP_OK;
}
