/* Opening UCX, connecting to all ranks, and closing again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "deadline.h"
#include "error.h"
#include "gdncp/memory.h"
#include "ucx_internal.h"

#define MAGIC 0x67646e63702d3032u /* of this version of what ranks tell each other */
#define DROP_MS 500
#define CLOSE_MS 1000

gdncp_status_t gdncp_ucx_fail(const gdncp_ucx_t *ucx, int peer, ucs_status_t ucs_status,
                              const char *what)
{
    gdncp_status_t status = GDNCP_ERR_TRANSPORT;

    switch (ucs_status) {
    case UCS_ERR_CONNECTION_RESET:
    case UCS_ERR_ENDPOINT_TIMEOUT:
    case UCS_ERR_NOT_CONNECTED:
    case UCS_ERR_UNREACHABLE:
    case UCS_ERR_REJECTED:
    case UCS_ERR_SHMEM_SEGMENT: /* went with the process that owned it */
    case UCS_ERR_CANCELED:
        status = GDNCP_ERR_PEER_LOST;
        break;
    case UCS_ERR_NO_MEMORY:
        status = GDNCP_ERR_OUT_OF_MEMORY;
        break;
    default:
        break;
    }
    if (peer < 0) {
        return gdncp_fail(status, "rank %d: %s: UCX says: %s", ucx->base.rank, what,
                          ucs_status_string(ucs_status));
    }
    return gdncp_fail(ucx->peers[peer].lost ? GDNCP_ERR_PEER_LOST : status,
                      "rank %d: %s rank %d: UCX says: %s", ucx->base.rank, what, peer,
                      ucs_status_string(ucs_status));
}

static ucs_status_t init_context(gdncp_ucx_t *ucx, ucp_config_t *config)
{
    const ucp_params_t params = {
        .field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_ESTIMATED_NUM_EPS,
        .features = UCP_FEATURE_TAG,
        .estimated_num_eps = (size_t)ucx->base.size,
    };

    return ucp_init(&params, config, &ucx->context);
}

/* Before 1.17 the settings of a transport were known without its name in front. */
static const char *name_of_setting(const char *name)
{
    unsigned major = 0, minor = 0, release = 0;

    ucp_get_version(&major, &minor, &release);
    return major == 1 && minor < 17 && strncmp(name, "TCP_", 4) == 0 ? name + 4 : name;
}

/* What ranks need that UCX leaves off, where it would use such a transport: it warns of settings
 * that nothing uses. */
static const struct {
    const char *transport; /* as ucp_context_print_info() has it */
    const char *name;
} settings[] = {
    /* UCX gives up shared memory for endpoints that are to report a peer's death. */
    {"posix/", "MM_ERROR_HANDLING"},
    {"sysv/", "MM_ERROR_HANDLING"},
    {"xpmem/", "MM_ERROR_HANDLING"},
    /* A connect() that blocks has no deadline; and where the peer dies between it and the first
     * message, UCX destroys a connection that it goes on to use, and aborts. */
    {"tcp/", "TCP_CONN_NB"},
};

/* Whether the context wants other settings than it was made with. */
static bool choose_settings(ucp_context_h context, ucp_config_t *config)
{
    char *info = NULL;
    size_t info_bytes = 0;
    bool any = false;
    FILE *const stream = open_memstream(&info, &info_bytes);

    if (stream == NULL) {
        return false;
    }
    ucp_context_print_info(context, stream);
    fclose(stream);
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        if (strstr(info, settings[i].transport) != NULL) {
            ucp_config_modify(config, name_of_setting(settings[i].name), "y");
            any = true;
        }
    }
    free(info);
    return any;
}

/* Left alone, UCX looks for dead peers only every 20 seconds. */
static ucs_status_t open_context(gdncp_ucx_t *ucx)
{
    ucp_config_t *config = NULL;

    ucs_status_t status = ucp_config_read(NULL, NULL, &config);
    if (status != UCS_OK) {
        return status;
    }
    ucp_config_modify(config, "KEEPALIVE_INTERVAL", "500ms");
    status = init_context(ucx, config);
    if (status == UCS_OK && choose_settings(ucx->context, config)) {
        ucp_cleanup(ucx->context);
        ucx->context = NULL;
        status = init_context(ucx, config);
    }
    ucp_config_release(config);
    return status;
}

static ucs_status_t open_worker(gdncp_ucx_t *ucx)
{
    /* One thread at a time, but not always the same: a courier runs the groups of streams. */
    const ucp_worker_params_t params = {
        .field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE,
        .thread_mode = UCS_THREAD_MODE_SERIALIZED,
    };
    const ucs_status_t status = open_context(ucx);

    return status == UCS_OK ? ucp_worker_create(ucx->context, &params, &ucx->worker) : status;
}

/* The sentence is empty before, so that it can be told whether the callback left one. */
static gdncp_status_t gather(const gdncp_bootstrap_t *bootstrap, const void *in, void *out,
                             size_t bytes)
{
    gdncp_fail(GDNCP_ERR_TRANSPORT, "%s", "");
    const int result = bootstrap->all_gather(bootstrap->context, in, out, bytes);
    const bool has_sentence = gdncp_last_error()[0] != '\0';

    if (result == 0) {
        return GDNCP_OK;
    }
    return gdncp_fail(has_sentence && result > 0 && result <= GDNCP_ERR_INTERNAL
                          ? (gdncp_status_t)result
                          : GDNCP_ERR_TRANSPORT,
                      "bootstrap->all_gather: expected 0, got %d%s%s", result,
                      has_sentence ? ": " : "", gdncp_last_error());
}

/* introductions [size]: written on success. A rank that could not open UCX says so here, so that
 * nobody waits for it. */
static gdncp_status_t introduce(const gdncp_ucx_t *ucx, const gdncp_bootstrap_t *bootstrap,
                                gdncp_status_t own_status, gdncp_ucx_introduction_t *introductions,
                                gdncp_ucx_introduction_t *own_p)
{
    gdncp_ucx_introduction_t own = *own_p;

    own.status = (int32_t)own_status;
    if (own_status != GDNCP_OK) {
        snprintf(own.sentence, sizeof own.sentence, "%s", gdncp_last_error());
    }
    const gdncp_status_t status = gather(bootstrap, &own, introductions, sizeof own);
    if (own_status != GDNCP_OK) {
        return gdncp_fail(own_status, "%s", own.sentence);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    for (int rank = 0; rank < ucx->base.size; rank++) {
        const gdncp_ucx_introduction_t *const other = &introductions[rank];

        if (other->magic != MAGIC) {
            return gdncp_fail(GDNCP_ERR_MISMATCH,
                              "bootstrap->all_gather: expected the address of rank %d, "
                              "got other data (another version of gdncp?)",
                              rank);
        }
        if (other->status != GDNCP_OK) {
            return gdncp_fail(GDNCP_ERR_PEER_LOST, "rank %d could not open its transport: %.*s",
                              rank, (int)sizeof other->sentence - 1, other->sentence);
        }
    }
    return GDNCP_OK;
}

void gdncp_ucx_lose_peer(gdncp_ucx_peer_t *peer, ucs_status_t reason)
{
    if (!peer->lost) {
        peer->lost = true;
        peer->reason = reason;
        peer->lost_ms = gdncp_now_ms();
    }
}

static void on_endpoint_error(void *context, ucp_ep_h endpoint, ucs_status_t status)
{
    (void)endpoint;
    gdncp_ucx_lose_peer(context, status);
}

static gdncp_status_t create_endpoints(gdncp_ucx_t *ucx, const char *addresses, size_t stride)
{
    for (int rank = 0; rank < ucx->base.size; rank++) {
        if (rank == ucx->base.rank) {
            continue;
        }
        const ucp_ep_params_t params = {
            .field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE |
                          UCP_EP_PARAM_FIELD_ERR_HANDLER,
            .address = (const ucp_address_t *)(addresses + (size_t)rank * stride),
            .err_mode = UCP_ERR_HANDLING_MODE_PEER,
            .err_handler = {.cb = on_endpoint_error, .arg = &ucx->peers[rank]},
        };
        const ucs_status_t status = ucp_ep_create(ucx->worker, &params, &ucx->peers[rank].endpoint);
        if (status != UCS_OK) {
            ucx->peers[rank].endpoint = NULL;
            if (gdncp_ucx_fail(ucx, rank, status, "connecting to") != GDNCP_ERR_PEER_LOST) {
                return gdncp_ucx_fail(ucx, rank, status, "connecting to");
            }
            /* It may have died just now, which the first message to it tells. */
            gdncp_ucx_lose_peer(&ucx->peers[rank], status);
        }
    }
    return GDNCP_OK;
}

/* addresses [size, stride]: written on success. */
static gdncp_status_t gather_addresses(const gdncp_bootstrap_t *bootstrap, const ucp_address_t *own,
                                       size_t own_bytes, size_t stride, char *addresses)
{
    char *const padded = gdncp_memory_alloc(stride);

    if (padded == NULL) {
        return gdncp_fail_memory("the addresses of ranks");
    }
    memset(padded, 0, stride);
    memcpy(padded, own, own_bytes);
    const gdncp_status_t status = gather(bootstrap, padded, addresses, stride);
    gdncp_memory_free(padded);
    return status;
}

gdncp_status_t gdncp_ucx_open(gdncp_ucx_t *ucx, gdncp_ucx_introduction_t *introduction,
                              ucp_address_t **address_p)
{
    size_t address_bytes = 0;

    *introduction = (gdncp_ucx_introduction_t){.magic = MAGIC};
    gdncp_status_t status = gdncp_ucx_read_settings(ucx);
    if (status == GDNCP_OK) {
        status = gdncp_watch_open(&ucx->watch);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    ucs_status_t opened = open_worker(ucx);
    if (opened == UCS_OK) {
        opened = gdncp_ucx_ask_memory_types(ucx);
    }
    if (opened == UCS_OK) {
        opened = ucp_worker_get_address(ucx->worker, address_p, &address_bytes);
    }
    if (opened != UCS_OK) {
        return gdncp_ucx_fail(ucx, -1, opened, "opening UCX");
    }
    introduction->address_bytes = address_bytes;
    introduction->watch = *gdncp_watch_address(ucx->watch);
    return GDNCP_OK;
}

gdncp_status_t gdncp_ucx_attach(gdncp_ucx_t *ucx, const gdncp_ucx_introduction_t *introductions,
                                const char *addresses, size_t stride, int64_t timeout_ms)
{
    const gdncp_status_t status =
        gdncp_watch_connect(ucx->watch, ucx->base.rank, ucx->base.size, &introductions[0].watch,
                            sizeof introductions[0], timeout_ms);

    return status == GDNCP_OK ? create_endpoints(ucx, addresses, stride) : status;
}

gdncp_status_t gdncp_ucx_connect(gdncp_ucx_t *ucx, const gdncp_bootstrap_t *bootstrap,
                                 int64_t timeout_ms)
{
    const size_t size = (size_t)ucx->base.size;
    gdncp_ucx_introduction_t own;
    ucp_address_t *address = NULL;
    size_t stride = 0;
    char *addresses = NULL;

    gdncp_ucx_introduction_t *const introductions =
        gdncp_memory_alloc(size * sizeof *introductions);
    if (introductions == NULL) {
        return gdncp_fail_memory("the addresses of ranks");
    }
    gdncp_status_t status = gdncp_ucx_open(ucx, &own, &address);
    status = introduce(ucx, bootstrap, status, introductions, &own);
    if (status != GDNCP_OK) {
        goto release_address;
    }
    for (size_t rank = 0; rank < size; rank++) {
        if (introductions[rank].address_bytes > stride) {
            stride = introductions[rank].address_bytes;
        }
    }
    addresses = gdncp_memory_alloc(size * stride);
    if (addresses == NULL) {
        status = gdncp_fail_memory("the addresses of ranks");
        goto release_address;
    }
    status = gather_addresses(bootstrap, address, own.address_bytes, stride, addresses);
    if (status == GDNCP_OK) {
        status = gdncp_ucx_attach(ucx, introductions, addresses, stride, timeout_ms);
    }
    gdncp_memory_free(addresses);

release_address:
    if (address != NULL) {
        ucp_worker_release_address(ucx->worker, address);
    }
    gdncp_memory_free(introductions);
    return status;
}

/* Whether the request is done; it is freed then, and *request_p NULL. */
static bool finish_request(ucs_status_ptr_t *request_p)
{
    if (*request_p != NULL && !UCS_PTR_IS_ERR(*request_p)) {
        if (ucp_request_check_status(*request_p) == UCS_INPROGRESS) {
            return false;
        }
        ucp_request_free(*request_p);
    }
    *request_p = NULL;
    return true;
}

/* Progress until all requests are done; false where the deadline came first. */
static bool finish_requests(gdncp_ucx_t *ucx, ucs_status_ptr_t *requests, int count,
                            int64_t deadline)
{
    for (int64_t num_polls = 0;; num_polls++) {
        bool all_done = true;

        ucp_worker_progress(ucx->worker);
        for (int i = 0; i < count; i++) {
            all_done = finish_request(&requests[i]) && all_done;
        }
        if (all_done || gdncp_now_ms() >= deadline) {
            return all_done;
        }
        gdncp_pause_between_polls(num_polls);
    }
}

static ucs_status_ptr_t close_endpoint(gdncp_ucx_peer_t *peer, bool force)
{
    const ucp_request_param_t params = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS,
        .flags = force ? UCP_EP_CLOSE_FLAG_FORCE : 0,
    };
    const ucp_ep_h endpoint = peer->endpoint;

    peer->endpoint = NULL;
    return ucp_ep_close_nbx(endpoint, &params);
}

void gdncp_ucx_drop_peer(gdncp_ucx_t *ucx, int rank)
{
    gdncp_ucx_peer_t *const peer = &ucx->peers[rank];

    gdncp_ucx_lose_peer(peer, UCS_ERR_CANCELED);
    if (peer->endpoint != NULL) {
        ucs_status_ptr_t request = close_endpoint(peer, true);

        finish_requests(ucx, &request, 1, gdncp_deadline_after(DROP_MS));
    }
}

/* What a peer sent and nobody received would make UCX warn. */
static void discard_unexpected(gdncp_ucx_t *ucx)
{
    const ucp_request_param_t params = {0};
    ucp_tag_message_h message;
    ucp_tag_recv_info_t info;
    char nothing = 0;

    ucp_worker_progress(ucx->worker);
    while ((message = ucp_tag_probe_nb(ucx->worker, 0, 0, 1, &info)) != NULL) {
        ucs_status_ptr_t request = ucp_tag_msg_recv_nbx(ucx->worker, &nothing, 0, message, &params);

        finish_requests(ucx, &request, 1, gdncp_deadline_after(DROP_MS));
    }
}

/* Let what was sent leave, then close; endpoints that will not are closed by force. */
static void close_endpoints(gdncp_ucx_t *ucx)
{
    const ucp_request_param_t params = {0};
    const int64_t deadline = gdncp_deadline_after(CLOSE_MS);
    const int size = ucx->base.size;
    ucs_status_ptr_t *const requests = gdncp_memory_alloc((size_t)size * sizeof *requests);

    if (requests == NULL) {
        return; /* the worker closes them its way */
    }
    for (int rank = 0; rank < size; rank++) {
        gdncp_ucx_peer_t *const peer = &ucx->peers[rank];

        requests[rank] = peer->endpoint != NULL && !peer->lost
                             ? ucp_ep_flush_nbx(peer->endpoint, &params)
                             : NULL;
    }
    const bool flushed = finish_requests(ucx, requests, size, deadline);
    /* After what was sent, and before connections break that others may wait on. */
    gdncp_watch_leave(ucx->watch, gdncp_transport_cause(&ucx->base));
    ucs_status_ptr_t *const closing = gdncp_memory_alloc((size_t)size * sizeof *closing);
    for (int rank = 0; closing != NULL && rank < size; rank++) {
        gdncp_ucx_peer_t *const peer = &ucx->peers[rank];

        closing[rank] = peer->endpoint != NULL
                            ? close_endpoint(peer, peer->lost || requests[rank] != NULL)
                            : NULL;
    }
    if (closing != NULL) {
        finish_requests(ucx, closing, size, gdncp_deadline_after(CLOSE_MS));
    }
    if (!flushed) {
        finish_requests(ucx, requests, size, gdncp_deadline_after(DROP_MS));
    }
    gdncp_memory_free(closing);
    gdncp_memory_free(requests);
}

void gdncp_ucx_disconnect(gdncp_ucx_t *ucx)
{
    if (ucx->worker != NULL) {
        close_endpoints(ucx);
        discard_unexpected(ucx);
        ucp_worker_destroy(ucx->worker);
        ucx->worker = NULL;
    }
    if (ucx->context != NULL) {
        ucp_cleanup(ucx->context);
        ucx->context = NULL;
    }
}
