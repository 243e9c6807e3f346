/* What the two sides of a rendezvous say to each other. */
#ifndef GDNCP_RENDEZVOUS_INTERNAL_H
#define GDNCP_RENDEZVOUS_INTERNAL_H

#include <netdb.h>

#include "rendezvous.h"

#define GDNCP_RENDEZVOUS_MAGIC 0x67646e6370746370u

typedef struct gdncp_rendezvous_request {
    uint64_t magic;
    uint64_t job;
    int32_t size;
    int32_t rank;
} gdncp_rendezvous_request_t;

typedef struct gdncp_rendezvous_reply {
    uint64_t magic;
    int32_t status;     /* MISMATCH: refused for good; TRANSPORT: this is another job's rank 0 */
    char sentence[116]; /* where status is an error */
} gdncp_rendezvous_reply_t;

/* The addresses that a name stands for; free with freeaddrinfo(). */
gdncp_status_t gdncp_rendezvous_resolve(const char *address, int port, struct addrinfo **found_p);

/* Rank 0's side. */
gdncp_status_t gdncp_rendezvous_listen(const gdncp_rendezvous_t *place, gdncp_star_t *star);

#endif
