/*
 * Messages of a rank to itself, for transports used by one thread at a time.
 *
 * The n-th send is copied to the n-th receive as soon as both are posted.
 */
#ifndef GDNCP_LOOPBACK_H
#define GDNCP_LOOPBACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Lies in its owner's memory from posting until it is no longer pending. */
typedef struct gdncp_loopback_message {
    struct gdncp_loopback_message *next;
    const void *source; /* of a send */
    void *target;       /* of a receive */
    size_t bytes;
    size_t partner_bytes; /* set with pending = false; nothing was copied where it is not bytes */
    uint64_t sequence;
    bool pending;
} gdncp_loopback_message_t;

/* All zero: empty. */
typedef struct gdncp_loopback {
    gdncp_loopback_message_t *sends; /* without a receive yet */
    gdncp_loopback_message_t *recvs; /* without a send yet */
    uint64_t num_sends;
    uint64_t num_recvs;
} gdncp_loopback_t;

void gdncp_loopback_send(gdncp_loopback_t *loopback, gdncp_loopback_message_t *message,
                         const void *source, size_t bytes);
void gdncp_loopback_recv(gdncp_loopback_t *loopback, gdncp_loopback_message_t *message,
                         void *target, size_t bytes);

/* Forget a pending message; its partner then stays pending. */
void gdncp_loopback_cancel(gdncp_loopback_t *loopback, gdncp_loopback_message_t *message);

#endif
