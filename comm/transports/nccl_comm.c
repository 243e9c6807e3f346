/* Making, taking and ending a communicator of NCCL, and what its calls tell. */
#include "nccl_comm.h"

#include <stdio.h>
#include <string.h>

#include "deadline.h"
#include "error.h"
#include "gdncp/device.h"
#include "gdncp/memory.h"
#include "nccl_internal.h"

#define CLOSE_MS 1000

static gdncp_status_t status_of(gdncp_nccl_result_t result)
{
    switch (result) {
    case GDNCP_NCCL_UNHANDLED_CUDA_ERROR:
        return GDNCP_ERR_DEVICE;
    case GDNCP_NCCL_REMOTE_ERROR:
        return GDNCP_ERR_PEER_LOST;
    default:
        return GDNCP_ERR_TRANSPORT;
    }
}

/* "2.28.9" */
static void name_version(const gdncp_nccl_t *nccl, char *text, size_t size)
{
    const int version = nccl->api->version;

    snprintf(text, size, "%d.%d.%d", version / 10000, version % 10000 / 100, version % 100);
}

gdncp_status_t gdncp_nccl_result(gdncp_nccl_t *nccl, const char *what, gdncp_nccl_result_t result)
{
    if (result == GDNCP_NCCL_SUCCESS || result == GDNCP_NCCL_IN_PROGRESS) {
        return GDNCP_OK;
    }
    const char *const last = nccl->api->GetLastError(nccl->comm);
    char version[32];

    name_version(nccl, version, sizeof version);
    return gdncp_fail(status_of(result), "rank %d of %d: %s: NCCL %s says: %s; %s", nccl->rank,
                      nccl->size, what, version, nccl->api->GetErrorString(result),
                      last != NULL && last[0] != '\0' ? last : "nothing more");
}

gdncp_status_t gdncp_nccl_kept_failure(const gdncp_nccl_t *nccl)
{
    return nccl->failure == GDNCP_OK ? GDNCP_OK : gdncp_fail(nccl->failure, "%s", nccl->sentence);
}

gdncp_status_t gdncp_nccl_keep_failure(gdncp_nccl_t *nccl, gdncp_status_t status)
{
    if (nccl->failure == GDNCP_OK) {
        snprintf(nccl->sentence, sizeof nccl->sentence, "%s", gdncp_last_error());
        nccl->failure = status;
        pthread_cond_signal(&nccl->woken);
    }
    return status;
}

/* What NCCL has come to with what was begun. */
static gdncp_nccl_result_t ask(const gdncp_nccl_t *nccl)
{
    gdncp_nccl_result_t state = GDNCP_NCCL_SUCCESS;
    const gdncp_nccl_result_t result = nccl->api->CommGetAsyncError(nccl->comm, &state);

    return result == GDNCP_NCCL_SUCCESS ? state : result;
}

gdncp_status_t gdncp_nccl_finish(gdncp_nccl_t *nccl, const char *what, gdncp_nccl_result_t result)
{
    const int64_t deadline = gdncp_deadline_after(nccl->limit_ms);

    for (int64_t num_polls = 0; result == GDNCP_NCCL_IN_PROGRESS; num_polls++) {
        if (gdncp_now_ms() >= deadline) {
            return gdncp_nccl_keep_failure(
                nccl,
                gdncp_fail(GDNCP_ERR_TIMEOUT, "rank %d of %d: %s: waited %.3g s in vain for NCCL",
                           nccl->rank, nccl->size, what, (double)nccl->limit_ms * 1e-3));
        }
        pthread_mutex_unlock(&nccl->lock);
        gdncp_pause_between_polls(num_polls);
        pthread_mutex_lock(&nccl->lock);
        if (nccl->failure != GDNCP_OK) {
            return gdncp_nccl_kept_failure(nccl);
        }
        result = ask(nccl);
    }
    const gdncp_status_t status = gdncp_nccl_result(nccl, what, result);

    return status == GDNCP_OK ? GDNCP_OK : gdncp_nccl_keep_failure(nccl, status);
}

/* Memory, pinned and of the device, and a stream. */
static gdncp_status_t make_parts(gdncp_nccl_t *nccl)
{
    const size_t num_directions = 2 * (size_t)nccl->size;
    void *memory;
    gdncp_status_t status = gdncp_backend_find(&nccl->backend);

    if (status == GDNCP_OK) {
        status = nccl->backend->alloc_pinned(sizeof *nccl->flag, &memory);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    nccl->flag = memory;
    *nccl->flag = 0;
    status = gdncp_device_alloc(GDNCP_DEVICE_CUDA, num_directions, &memory);
    if (status != GDNCP_OK) {
        return status;
    }
    nccl->scratch = memory;
    nccl->is_connected = gdncp_memory_alloc(num_directions * sizeof *nccl->is_connected);
    if (nccl->is_connected == NULL) {
        return gdncp_fail_memory("a communicator over NCCL");
    }
    memset(nccl->is_connected, 0, num_directions * sizeof *nccl->is_connected);
    status = gdncp_liveness_init(&nccl->liveness, nccl->size);
    return status == GDNCP_OK ? gdncp_stream_create(GDNCP_DEVICE_CUDA, &nccl->stream) : status;
}

/* Timed waits do not jump where the machine's clock is set. */
static void init_monotonic(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

gdncp_status_t gdncp_nccl_create(const gdncp_nccl_options_t *options, gdncp_nccl_t **nccl_p)
{
    gdncp_nccl_t *const nccl = gdncp_memory_alloc(sizeof *nccl);

    if (nccl == NULL) {
        return gdncp_fail_memory("a communicator over NCCL");
    }
    *nccl = (gdncp_nccl_t){
        .api = options->api,
        .rank = options->rank,
        .size = options->size,
        .timeout_ms = options->timeout_ms,
        .limit_ms = options->timeout_ms / 2,
    };
    pthread_mutex_init(&nccl->lock, NULL);
    init_monotonic(&nccl->woken);
    const gdncp_status_t status = make_parts(nccl);

    if (status != GDNCP_OK) {
        gdncp_nccl_destroy(nccl);
        return status;
    }
    *nccl_p = nccl;
    return GDNCP_OK;
}

gdncp_status_t gdncp_nccl_make_id(gdncp_nccl_t *nccl, gdncp_nccl_id_t *id)
{
    return gdncp_nccl_result(nccl, "ncclGetUniqueId", nccl->api->GetUniqueId(id));
}

gdncp_status_t gdncp_nccl_join(gdncp_nccl_t *nccl, const gdncp_nccl_id_t *id)
{
    gdncp_nccl_config_t config = {
        .size = sizeof config,
        .magic = GDNCP_NCCL_CONFIG_MAGIC,
        .version = GDNCP_NCCL_CONFIG_VERSION,
        .blocking = 0,
    };

    pthread_mutex_lock(&nccl->lock);
    const gdncp_nccl_result_t result =
        nccl->api->CommInitRankConfig(&nccl->comm, nccl->size, *id, nccl->rank, &config);

    nccl->is_own = nccl->comm != NULL;
    const gdncp_status_t status = gdncp_nccl_finish(nccl, "ncclCommInitRankConfig", result);

    pthread_mutex_unlock(&nccl->lock);
    return status;
}

gdncp_status_t gdncp_nccl_adopt(gdncp_nccl_t *nccl, gdncp_nccl_comm_t comm)
{
    int rank = -1;
    int size = -1;
    gdncp_status_t status;

    pthread_mutex_lock(&nccl->lock);
    nccl->comm = comm;
    status = gdncp_nccl_result(nccl, "ncclCommUserRank", nccl->api->CommUserRank(comm, &rank));
    if (status == GDNCP_OK) {
        status = gdncp_nccl_result(nccl, "ncclCommCount", nccl->api->CommCount(comm, &size));
    }
    if (status == GDNCP_OK && (rank != nccl->rank || size != nccl->size)) {
        status = gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                            "nccl_comm: expected rank %d of %d, as bootstrap has it, got rank %d "
                            "of %d",
                            nccl->rank, nccl->size, rank, size);
    }
    pthread_mutex_unlock(&nccl->lock);
    return status;
}

/* Flush, and free. A rank that is gone or does not come is not waited for. */
static void close_own(gdncp_nccl_t *nccl)
{
    const int64_t deadline = gdncp_deadline_after(CLOSE_MS);
    gdncp_nccl_result_t result = nccl->api->CommFinalize(nccl->comm);

    for (int64_t num_polls = 0; result == GDNCP_NCCL_IN_PROGRESS; num_polls++) {
        if (gdncp_now_ms() >= deadline) {
            break;
        }
        gdncp_pause_between_polls(num_polls);
        result = ask(nccl);
    }
    if (result == GDNCP_NCCL_SUCCESS) {
        nccl->api->CommDestroy(nccl->comm);
    } else {
        nccl->api->CommAbort(nccl->comm);
    }
}

void gdncp_nccl_destroy(gdncp_nccl_t *nccl)
{
    if (nccl == NULL) {
        return;
    }
    gdncp_nccl_stop_watching(nccl);
    if (nccl->comm != NULL && nccl->is_own) {
        if (nccl->failure == GDNCP_OK) {
            close_own(nccl);
        } else {
            nccl->api->CommAbort(nccl->comm);
        }
    }
    gdncp_stream_destroy(GDNCP_DEVICE_CUDA, nccl->stream);
    gdncp_device_free(GDNCP_DEVICE_CUDA, nccl->scratch);
    if (nccl->flag != NULL) {
        nccl->backend->free_pinned(nccl->flag);
    }
    gdncp_liveness_destroy(&nccl->liveness);
    gdncp_memory_free(nccl->is_connected);
    pthread_cond_destroy(&nccl->woken);
    pthread_mutex_destroy(&nccl->lock);
    gdncp_memory_free(nccl);
}

size_t gdncp_nccl_describe(const gdncp_nccl_t *nccl, char *text, size_t size)
{
    char version[32];

    name_version(nccl, version, sizeof version);
    snprintf(text, size, "nccl %s for devices, ", version);
    return strlen(text);
}

void gdncp_nccl_abort(gdncp_nccl_t *nccl)
{
    pthread_mutex_lock(&nccl->lock);
    gdncp_nccl_keep_failure(nccl, gdncp_fail(GDNCP_ERR_PEER_LOST,
                                             "rank %d: rank %d aborted the communicator",
                                             nccl->rank, nccl->rank));
    pthread_mutex_unlock(&nccl->lock);
}

gdncp_status_t gdncp_nccl_check(gdncp_nccl_t *nccl)
{
    pthread_mutex_lock(&nccl->lock);
    const gdncp_status_t status = gdncp_nccl_kept_failure(nccl);

    pthread_mutex_unlock(&nccl->lock);
    return status;
}
