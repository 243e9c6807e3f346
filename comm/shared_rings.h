/*
 * Rings of bytes between the ranks that are processes of one machine.
 *
 * Each rank owns a segment of memory with one ring to each such rank. The segment is an anonymous
 * file that the others open through /proc, so it has no name that could be left behind, and goes
 * with the last process that maps it.
 */
#ifndef GDNCP_SHARED_RINGS_H
#define GDNCP_SHARED_RINGS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gdncp/comm.h"

enum { GDNCP_LINE_BYTES = 64 };

/* Bytes from one rank to another: [read, written) are in the ring, at their number modulo the
 * capacity. The counts never go back, and each is written by one side. */
typedef struct gdncp_ring {
    _Alignas(GDNCP_LINE_BYTES) _Atomic int64_t written; /* by the sender */
    _Alignas(GDNCP_LINE_BYTES) _Atomic int64_t read;    /* by the receiver */
    _Alignas(GDNCP_LINE_BYTES) char bytes[];            /* [capacity] */
} gdncp_ring_t;

/* What begins a segment. */
typedef struct gdncp_segment_head {
    uint64_t nonce[2]; /* of the owner's communicator */
    int64_t capacity;  /* of each ring; a multiple of GDNCP_LINE_BYTES */
    int32_t ring_of[]; /* [size] which ring leads to a rank; < 0: none */
} gdncp_segment_head_t;

/* A rank of this machine as another sees it. */
typedef struct gdncp_ring_peer {
    gdncp_segment_head_t *segment; /* its own, mapped; NULL: it shares nothing with this rank */
    int64_t segment_bytes;
    gdncp_ring_t *out; /* from this rank, in this rank's segment */
    int64_t out_capacity;
    gdncp_ring_t *in; /* to this rank, in the other's segment */
    int64_t in_capacity;
} gdncp_ring_peer_t;

typedef struct gdncp_shared_rings {
    int size;
    gdncp_segment_head_t *segment; /* this rank's own; NULL: none */
    int64_t segment_bytes;
    gdncp_ring_peer_t *peers; /* [size] */
} gdncp_shared_rings_t;

/*
 * Make rings between this rank and each other that lives on this machine and can map memory of its.
 * Collective. That there are none is no error: a pair has rings on both sides, or on neither.
 * Freed by gdncp_shared_rings_close(), also after a failure, as is an all-zero one.
 */
gdncp_status_t gdncp_shared_rings_open(gdncp_comm_t *comm, bool wanted,
                                       gdncp_shared_rings_t *rings);
void gdncp_shared_rings_close(gdncp_shared_rings_t *rings);

#endif
