/*
 * Ranks that know an address and a port meet over TCP.
 */
#ifndef GDNCP_RENDEZVOUS_H
#define GDNCP_RENDEZVOUS_H

#include <stdbool.h>
#include <stdint.h>

#include "gdncp/status.h"
#include "star.h"

#define GDNCP_RENDEZVOUS_PORTS 8 /* that a job tries, unless it is told one */

/* Where ranks meet; equal on all of them. */
typedef struct gdncp_rendezvous {
    const char *address; /* of rank 0's machine: a name or a number */
    int first_port;      /* rank 0 listens at the first that is free of */
    int num_ports;       /* these; others look for it there */
    uint64_t job;        /* another job's ranks that come by are turned away */
} gdncp_rendezvous_t;

/*
 * Connect all ranks to rank 0. Collective.
 *
 * A connection that is not of this job, of another size or of a rank that is there already is
 * refused with a sentence, and rank 0 goes on waiting for the others until the time-out.
 *
 * star: made by gdncp_star_init() with rank, size and time-out; has its sockets on success.
 */
gdncp_status_t gdncp_rendezvous(const gdncp_rendezvous_t *place, gdncp_star_t *star);

/* The first of GDNCP_RENDEZVOUS_PORTS ports for a job, none of them MASTER_PORT; 10000 to 29999 lie
 * below those that systems hand out by themselves. master_port: 0 where there is none. */
int gdncp_rendezvous_port(uint64_t job, int master_port);

#endif
