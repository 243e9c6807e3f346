/*
 * A channel beside the data that tells the end of any rank to all others.
 *
 * Every rank keeps stream sockets, UNIX ones on one machine and TCP else: of up to 32 ranks to all
 * others, else to the ranks 1, 2, 4, ... places before and behind it. That is 2 log2(size)
 * descriptors a rank, no rank that others hang on, and no two survivors without a way between them
 * until as many ranks are gone as one has sockets, or among up to 32 ever. Whoever learns something
 * new passes it on over all of its sockets, so that it is everywhere after log2(size) steps. The
 * end of a process closes its sockets; ranks of one machine see it by its process descriptor too,
 * which also holds where a child of the process keeps the sockets open.
 *
 * There is no thread: sockets are served by gdncp_watch_look(), which every wait of a transport
 * calls. What a rank sends over the watch before it ends reaches its neighbours before its end
 * does, as both come in order over the same socket.
 */
#ifndef GDNCP_WATCH_H
#define GDNCP_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gdncp/status.h"
#include "ucx_liveness.h"

enum { GDNCP_WATCH_MAX_HOSTS = 4 };

/* Where a rank's watch is reached. Sent to other ranks as it is. */
typedef struct gdncp_watch_address {
    gdncp_process_t process;
    uint64_t net_namespace; /* 0: unknown */
    uint64_t token;         /* random; begins every greeting, and names the UNIX socket */
    uint32_t port;          /* of all hosts; 0: UNIX sockets only */
    uint32_t num_hosts;
    struct {
        uint32_t family;   /* 4 or 6 */
        uint8_t bytes[16]; /* in network order */
    } hosts[GDNCP_WATCH_MAX_HOSTS];
} gdncp_watch_address_t;

typedef struct gdncp_watch gdncp_watch_t;

/* Listen; nobody is watched yet. Freed by gdncp_watch_destroy(). */
gdncp_status_t gdncp_watch_open(gdncp_watch_t **watch_p);
void gdncp_watch_destroy(gdncp_watch_t *watch); /* NULL does nothing */

const gdncp_watch_address_t *gdncp_watch_address(const gdncp_watch_t *watch);

/* Begin to connect; does not wait. addresses [size], with a distance of stride bytes from one to
 * the next. A TCP connection that has not come about, or that nothing was heard of, for timeout_ms
 * is given up. */
gdncp_status_t gdncp_watch_connect(gdncp_watch_t *watch, int rank, int size,
                                   const gdncp_watch_address_t *addresses, size_t stride,
                                   int64_t timeout_ms);

/* Whether all connections have come about, or never will. */
bool gdncp_watch_is_settled(const gdncp_watch_t *watch);

/* Serve the sockets. Does so every few milliseconds, and returns at once in between unless forced.
 * Whether there is news of any rank since the last call that said so. */
bool gdncp_watch_look(gdncp_watch_t *watch, int64_t now_ms, bool forced);

/* Whether a rank's process ended, or its communicator was destroyed. */
bool gdncp_watch_is_gone(gdncp_watch_t *watch, int rank);

/* Why a wait of this rank may not go on, as a status and the last error: a rank aborted, a rank was
 * lost, or this rank was given up by the others; else GDNCP_OK. A loss counts once what was sent
 * before it has had time to arrive: see gdncp_watch_waited_enough(). */
gdncp_status_t gdncp_watch_verdict(gdncp_watch_t *watch, bool idle, int64_t since_ms,
                                   int64_t now_ms);

/* Whether all that a rank sent before its end has arrived by now, if it ever will. idle: nothing
 * has arrived just now, from whomever. since_ms: when its end was known and its messages were
 * being waited for. */
bool gdncp_watch_waited_enough(bool idle, int64_t since_ms, int64_t now_ms);

/* As a status and the last error: GDNCP_ERR_PEER_LOST where a rank was lost or left, with what is
 * known of it; the first that was lost comes before the peer. GDNCP_OK where nothing is known. */
gdncp_status_t gdncp_watch_explain(gdncp_watch_t *watch, int peer);

/* Tell all ranks to stop. From any thread. cause: a sentence, or "". */
void gdncp_watch_abort(gdncp_watch_t *watch, const char *cause);

/* Say good-bye: this rank's end is no death from here on. cause: what failed here before, or "".
 * Closes the sockets. */
void gdncp_watch_leave(gdncp_watch_t *watch, const char *cause);

/*
 * Agree with the ranks that are left on who they are. All that are left must call it, once.
 *
 * Each rank gives a record of bytes bytes, <= GDNCP_WATCH_MAX_RECORD. On success *lost_p [size] is
 * the same on all ranks for which it succeeds, and the records of all others are here; both live as
 * long as the watch. Ranks that do not come within timeout_ms are given up: should they come later,
 * they get GDNCP_ERR_PEER_LOST. Ranks that ended after the agreement are not in lost_p.
 *
 * A set of lost ranks is agreed upon when all others have announced just that set. Sets only grow,
 * and who has agreed announces no more but passes the agreement on before it returns; so no other
 * set can be agreed upon by ranks of whom one has heard of this one.
 */
enum { GDNCP_WATCH_MAX_RECORD = 65536 };
gdncp_status_t gdncp_watch_agree(gdncp_watch_t *watch, const void *record, size_t bytes,
                                 int64_t timeout_ms, const bool **lost_p);
const void *gdncp_watch_record(const gdncp_watch_t *watch, int rank, size_t *bytes_p);

#endif
