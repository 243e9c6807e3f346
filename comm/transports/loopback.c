#include "loopback.h"

#include <string.h>

/* Unlink and return the message of that sequence number; NULL where there is none. */
static gdncp_loopback_message_t *take(gdncp_loopback_message_t **list, uint64_t sequence)
{
    for (gdncp_loopback_message_t **link = list; *link != NULL; link = &(*link)->next) {
        if ((*link)->sequence == sequence) {
            gdncp_loopback_message_t *const message = *link;

            *link = message->next;
            return message;
        }
    }
    return NULL;
}

static void push(gdncp_loopback_message_t **list, gdncp_loopback_message_t *message)
{
    message->next = *list;
    *list = message;
}

static void deliver(gdncp_loopback_message_t *send, gdncp_loopback_message_t *recv)
{
    if (send->bytes == recv->bytes) {
        memcpy(recv->target, send->source, send->bytes);
    }
    send->partner_bytes = recv->bytes;
    recv->partner_bytes = send->bytes;
    send->pending = false;
    recv->pending = false;
}

void gdncp_loopback_send(gdncp_loopback_t *loopback, gdncp_loopback_message_t *message,
                         const void *source, size_t bytes)
{
    *message = (gdncp_loopback_message_t){
        .source = source, .bytes = bytes, .sequence = loopback->num_sends++, .pending = true};
    gdncp_loopback_message_t *const recv = take(&loopback->recvs, message->sequence);
    if (recv != NULL) {
        deliver(message, recv);
    } else {
        push(&loopback->sends, message);
    }
}

void gdncp_loopback_recv(gdncp_loopback_t *loopback, gdncp_loopback_message_t *message,
                         void *target, size_t bytes)
{
    *message = (gdncp_loopback_message_t){
        .target = target, .bytes = bytes, .sequence = loopback->num_recvs++, .pending = true};
    gdncp_loopback_message_t *const send = take(&loopback->sends, message->sequence);
    if (send != NULL) {
        deliver(send, message);
    } else {
        push(&loopback->recvs, message);
    }
}

void gdncp_loopback_cancel(gdncp_loopback_t *loopback, gdncp_loopback_message_t *message)
{
    if (message->pending) {
        take(message->source != NULL ? &loopback->sends : &loopback->recvs, message->sequence);
        message->pending = false;
    }
}
