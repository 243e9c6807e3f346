/*
 * Ranks that are processes, over UCX: shared memory, TCP, InfiniBand.
 *
 * One worker a communicator, and tag matching with a tag of the sender's rank and the number of
 * the message between the two, so that messages match in the order of the calls whichever lane
 * each of them takes.
 */
#include "deadline.h"
#include "error.h"
#include "gdncp/memory.h"
#include "ucx_internal.h"

#define HELLO 0x68656c6c6f206370u
#define SETTLE_MS 5000

static gdncp_status_t wait_for_hellos(gdncp_ucx_t *ucx, gdncp_group_t *group, int64_t timeout_ms)
{
    const int64_t deadline = gdncp_deadline_after(timeout_ms);

    for (int64_t num_polls = 0;; num_polls++) {
        bool done = false;
        const gdncp_status_t status = ucx->base.ops->group_test(group, &done);

        if (status != GDNCP_OK || done) {
            return status;
        }
        if (gdncp_now_ms() >= deadline) {
            break;
        }
        gdncp_pause_between_polls(num_polls);
    }
    int missing = 0;
    while (!ucx->base.ops->group_waits_for(group, missing)) {
        missing++;
    }
    return gdncp_fail(GDNCP_ERR_TIMEOUT, "rank %d of %d: waited %.3g s in vain to hear of rank %d",
                      ucx->base.rank, ucx->base.size, (double)timeout_ms * 1e-3, missing);
}

/* A watch that is late, as where a firewall keeps it out, is no reason to fail. */
static gdncp_status_t wait_for_watch(gdncp_ucx_t *ucx, int64_t timeout_ms)
{
    const int64_t deadline = gdncp_deadline_after(timeout_ms < SETTLE_MS ? timeout_ms : SETTLE_MS);

    for (int64_t num_polls = 0; !gdncp_watch_is_settled(ucx->watch); num_polls++) {
        const int64_t now_ms = gdncp_now_ms();

        if (now_ms >= deadline) {
            break;
        }
        gdncp_watch_look(ucx->watch, now_ms, true);
        ucp_worker_progress(ucx->worker);
        gdncp_pause_between_polls(num_polls);
    }
    return gdncp_watch_verdict(ucx->watch, false, 0, INT64_MAX);
}

gdncp_status_t gdncp_ucx_say_hello(gdncp_ucx_t *ucx, int64_t timeout_ms)
{
    const gdncp_transport_ops_t *const ops = ucx->base.ops;
    const int size = ucx->base.size;
    const uint64_t hello = HELLO;
    gdncp_group_t *group = NULL;
    uint64_t *const hellos = gdncp_memory_alloc((size_t)size * sizeof *hellos);

    if (hellos == NULL) {
        return gdncp_fail_memory("a handshake");
    }
    gdncp_status_t status =
        ops->group_create(&ucx->base, GDNCP_DEVICE_CPU, 2 * (int64_t)size, &group);
    if (status != GDNCP_OK) {
        goto free_hellos;
    }
    status = ops->group_begin(group);
    for (int peer = 0; peer < size && status == GDNCP_OK; peer++) {
        status = ops->recv(group, &hellos[peer], sizeof hello, peer);
        if (status == GDNCP_OK) {
            status = ops->send(group, &hello, sizeof hello, peer);
        }
    }
    if (status == GDNCP_OK) {
        status = ops->group_end(group, NULL);
    }
    if (status == GDNCP_OK) {
        status = wait_for_hellos(ucx, group, timeout_ms);
    }
    for (int peer = 0; peer < size && status == GDNCP_OK; peer++) {
        if (hellos[peer] != HELLO) {
            status = gdncp_fail(GDNCP_ERR_MISMATCH, "rank %d: rank %d is not one of gdncp",
                                ucx->base.rank, peer);
        }
    }
    ops->group_destroy(group);

free_hellos:
    gdncp_memory_free(hellos);
    return status == GDNCP_OK ? wait_for_watch(ucx, timeout_ms) : status;
}

gdncp_status_t gdncp_ucx_alloc(int rank, int size, gdncp_ucx_t **ucx_p)
{
    gdncp_ucx_t *const ucx = gdncp_memory_alloc(sizeof *ucx);
    gdncp_ucx_peer_t *const peers = gdncp_memory_alloc((size_t)size * sizeof *peers);

    if (ucx == NULL || peers == NULL) {
        gdncp_memory_free(peers);
        gdncp_memory_free(ucx);
        return gdncp_fail_memory("a communicator over UCX");
    }
    for (int peer = 0; peer < size; peer++) {
        peers[peer] = (gdncp_ucx_peer_t){0};
    }
    *ucx = (gdncp_ucx_t){
        .base = {.ops = &gdncp_ucx_ops, .rank = rank, .size = size},
        .peers = peers,
    };
    *ucx_p = ucx;
    return GDNCP_OK;
}

gdncp_status_t gdncp_transport_ucx_create(const gdncp_bootstrap_t *bootstrap, int64_t timeout_ms,
                                          gdncp_transport_t **transport_p)
{
    gdncp_ucx_t *ucx = NULL;

    gdncp_status_t status = gdncp_ucx_alloc(bootstrap->rank, bootstrap->size, &ucx);
    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_ucx_connect(ucx, bootstrap, timeout_ms);
    if (status == GDNCP_OK) {
        status = gdncp_ucx_say_hello(ucx, timeout_ms);
    }
    if (status != GDNCP_OK) {
        gdncp_transport_keep_cause(&ucx->base);
        ucx->base.ops->destroy(&ucx->base);
        return status;
    }
    *transport_p = &ucx->base;
    return GDNCP_OK;
}
