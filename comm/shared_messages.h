/*
 * Messages through rings, from where they lie in the sender's buffer to where they belong in the
 * receiver's: packed into a ring and unpacked from it piece by piece while it is in the cache, by
 * both sides at once.
 *
 * Messages between two ranks match in the order in which they are queued, as those of a transport
 * do, but apart from those. All that is queued makes progress together, whichever of it is waited
 * for.
 */
#ifndef GDNCP_SHARED_MESSAGES_H
#define GDNCP_SHARED_MESSAGES_H

#include <stdbool.h>
#include <stdint.h>

#include "gdncp/comm.h"
#include "message_cursor.h"

typedef struct gdncp_shared gdncp_shared_t;

/* A send, a receive, or a plan's local copies. Made by the user, who sets the first part; the
 * second is for these functions. It is the queue's until it is done. */
typedef struct gdncp_shared_message {
    gdncp_message_cursor_t cursor; /* at the message's begin */
    gdncp_local_cursor_t local;    /* of local copies, instead */
    const void *in;                /* of sends and local copies */
    gdncp_message_target_t target; /* of receives, and of local copies */
    int64_t bytes;
    bool abandoned; /* touch none of the buffers any more, but keep in step with the other side */

    struct gdncp_shared_message *next;
    int64_t rest;         /* bytes that are not moved yet */
    int64_t sender_bytes; /* of a receive that has begun: what it is sent, which is rest if right */
    bool begun;
    bool done;
} gdncp_shared_message_t;

/* Memory that queued messages lie in and that nobody else needs any more. */
typedef struct gdncp_shared_retired {
    struct gdncp_shared_retired *next;
} gdncp_shared_retired_t;

/* Collective. *shared_p is left alone where ranks are no processes, no two of them share memory, or
 * GDNCP_SHARED_MEMORY is 0. */
gdncp_status_t gdncp_shared_create(gdncp_comm_t *comm, gdncp_shared_t **shared_p);
void gdncp_shared_destroy(gdncp_shared_t *shared);

/* Whether there are rings to and from a rank. shared may be NULL. */
bool gdncp_shared_reaches(const gdncp_shared_t *shared, int rank);

/* Whether this machine has fewer cores than ranks that share memory. shared may be NULL. */
bool gdncp_shared_is_crowded(const gdncp_shared_t *shared);

/* Queue a message; nothing moves before the next progress. */
void gdncp_shared_send(gdncp_shared_t *shared, int rank, gdncp_shared_message_t *message);
void gdncp_shared_recv(gdncp_shared_t *shared, int rank, gdncp_shared_message_t *message);
void gdncp_shared_copy(gdncp_shared_t *shared, gdncp_shared_message_t *message);

/* Keep memory until the end; it is freed by gdncp_memory_free(). All messages in it are abandoned.
 */
void gdncp_shared_retire(gdncp_shared_t *shared, gdncp_shared_retired_t *retired);

/* Move a piece of each message that can move; whether any did. Never blocks. shared may be NULL. */
bool gdncp_shared_progress(gdncp_shared_t *shared);

/* How often progress has moved something. */
int64_t gdncp_shared_num_moves(const gdncp_shared_t *shared);

#endif
