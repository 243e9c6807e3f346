/* The UCX transport as its own files see it. */
#ifndef GDNCP_UCX_INTERNAL_H
#define GDNCP_UCX_INTERNAL_H

#include <stdbool.h>

#include <ucp/api/ucp.h>

#include "loopback.h"
#include "transport.h"
#include "watch.h"

/* Another rank. The two sides count alike, so the n-th send carries the n-th receive's tag. */
typedef struct gdncp_ucx_peer {
    ucp_ep_h endpoint; /* NULL: the rank itself, or not connected any more */
    bool lost;
    ucs_status_t reason; /* of lost */
    int64_t lost_ms;     /* when */
    uint64_t num_sends;
    uint64_t num_recvs;
} gdncp_ucx_peer_t;

typedef struct gdncp_ucx {
    gdncp_transport_t base;
    ucp_context_h context;
    ucp_worker_h worker;
    uint64_t memory_types;   /* a bit of each ucs_memory_type_t that UCX moves */
    bool may_use_devices;    /* GDNCP_UCX_CUDA */
    gdncp_ucx_peer_t *peers; /* [size] */
    gdncp_loopback_t loopback;
    gdncp_watch_t *watch;
} gdncp_ucx_t;

/* What a rank tells all others of itself. */
typedef struct gdncp_ucx_introduction {
    uint64_t magic;
    uint64_t address_bytes; /* of the worker */
    gdncp_watch_address_t watch;
    int32_t status;
    char sentence[236]; /* where status is an error */
} gdncp_ucx_introduction_t;

/* What a UCX transport does, all but making it. */
extern const gdncp_transport_ops_t gdncp_ucx_ops;

/* A transport that is not open. Freed by its destroy(). */
gdncp_status_t gdncp_ucx_alloc(int rank, int size, gdncp_ucx_t **ucx_p);

/* Open a worker and a watch. On success *address_p, of address_bytes of the introduction, is to be
 * released to the worker. */
gdncp_status_t gdncp_ucx_open(gdncp_ucx_t *ucx, gdncp_ucx_introduction_t *introduction,
                              ucp_address_t **address_p);

/* Begin to connect to all ranks; does not wait. introductions [size], addresses [size, stride]. */
gdncp_status_t gdncp_ucx_attach(gdncp_ucx_t *ucx, const gdncp_ucx_introduction_t *introductions,
                                const char *addresses, size_t stride, int64_t timeout_ms);

/* All of that, with the ranks of the bootstrap. */
gdncp_status_t gdncp_ucx_connect(gdncp_ucx_t *ucx, const gdncp_bootstrap_t *bootstrap,
                                 int64_t timeout_ms);

/* One message with every peer each way, and a watch that is connected: what comes later is not
 * slowed down by setting up. */
gdncp_status_t gdncp_ucx_say_hello(gdncp_ucx_t *ucx, int64_t timeout_ms);

gdncp_status_t gdncp_ucx_shrink(gdncp_transport_t *transport, int64_t timeout_ms,
                                gdncp_transport_t **survivors_p);

/* Close all that gdncp_ucx_connect() opened, as far as it got; within a second or two. */
void gdncp_ucx_disconnect(gdncp_ucx_t *ucx);

/* End all that is under way with a peer; its buffers are free again once this returns, within
 * half a second. The peer counts as lost from here on. */
void gdncp_ucx_drop_peer(gdncp_ucx_t *ucx, int peer);

/* From here on all that waits for the peer fails; what it sent before may still arrive. */
void gdncp_ucx_lose_peer(gdncp_ucx_peer_t *peer, ucs_status_t reason);

/* Record what UCX says: PEER_LOST where the peer or the connection is gone, else TRANSPORT. */
gdncp_status_t gdncp_ucx_fail(const gdncp_ucx_t *ucx, int peer, ucs_status_t status,
                              const char *what);

/* What is needed below: of the environment, before UCX is opened; and of UCX, once it is. */
gdncp_status_t gdncp_ucx_read_settings(gdncp_ucx_t *ucx);
ucs_status_t gdncp_ucx_ask_memory_types(gdncp_ucx_t *ucx);

/* Whether buffers of a CUDA device may be sent and received: see check_device_memory() of
 * transport.h. And what UCX calls the memory of a group's messages. */
gdncp_status_t gdncp_ucx_check_device_memory(const gdncp_transport_t *transport);
ucs_memory_type_t gdncp_ucx_memory_type(gdncp_device_kind_t memory);

/* The lanes in what ucp_ep_print_info() prints: "posix/memory cma/memory". */
void gdncp_ucx_lanes_text(char *info, char *text, size_t size);

#endif
