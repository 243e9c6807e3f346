/*
 * All-gather over stream sockets between rank 0 and every other rank, for bootstraps.
 */
#ifndef GDNCP_STAR_H
#define GDNCP_STAR_H

#include <stddef.h>
#include <stdint.h>

#include "gdncp/status.h"

typedef struct gdncp_star {
    int rank;
    int size;
    int64_t timeout_ms; /* of one all-gather */
    /* [size] on rank 0: the socket to each rank; else [0] is the one to rank 0. -1: none. */
    int *sockets;
    gdncp_status_t failure; /* of an earlier all-gather, after which the streams are out of step */
} gdncp_star_t;

/* A star without sockets; sockets are memory of the star. */
gdncp_status_t gdncp_star_init(gdncp_star_t *star, int rank, int size, int64_t timeout_ms);

/* Close the sockets and free the memory. An all-zero star is left as it is. */
void gdncp_star_close(gdncp_star_t *star);

/* As gdncp_bootstrap_t.all_gather, with a star as its context. A rank whose socket closes, or that
 * says nothing until the time-out, is an error on all ranks that rank 0 can still reach. */
int gdncp_star_all_gather(void *star, const void *in, void *out, size_t bytes);

/* Move all bytes before the deadline (gdncp_now_ms() in milliseconds). PEER_LOST where the socket
 * was closed at the other end, TIMEOUT, or TRANSPORT. peer: in words, for the sentence. */
gdncp_status_t gdncp_socket_write(int fd, const void *data, size_t bytes, int64_t deadline,
                                  const char *peer);
gdncp_status_t gdncp_socket_read(int fd, void *data, size_t bytes, int64_t deadline,
                                 const char *peer);

#endif
