/* Messages of the stand-in: from buffer to buffer, when both streams are there. */
#include "nccl_stand_in_internal.h"

#include <string.h>

static message_t **queue_of(const world_t *world, int from, int to)
{
    return &world->firsts[from * world->size + to];
}

void stand_in_join(comm_t *comm)
{
    comm->world->comms[comm->rank] = comm;
    comm->world->num_joined++;
}

static void post(const comm_t *comm, operation_t *operation)
{
    message_t **link = queue_of(comm->world, comm->rank, operation->peer);

    while (*link != NULL) {
        link = &(*link)->next;
    }
    operation->message = (message_t){.buffer = operation->buffer, .bytes = operation->bytes};
    *link = &operation->message;
}

/* Take the first message of the queue for a receive, if there is one. */
static bool take(const comm_t *comm, operation_t *operation)
{
    message_t **const first = queue_of(comm->world, operation->peer, comm->rank);
    message_t *const message = *first;

    if (message == NULL) {
        return false;
    }
    if (message->bytes == operation->bytes) {
        memcpy(operation->buffer, message->buffer, message->bytes);
    } else {
        stand_in_control.num_mismatched++;
    }
    *first = message->next;
    message->is_taken = true;
    operation->is_done = true;
    pthread_cond_broadcast(&stand_in_changed);
    return true;
}

/* Do what can be done; whether all is. */
static bool advance(batch_t *batch)
{
    bool is_complete = true;

    for (int i = 0; i < batch->num_operations; i++) {
        operation_t *const operation = &batch->operations[i];

        if (operation->is_send) {
            operation->is_done = operation->message.is_taken;
        } else if (!operation->is_done && !stand_in_must_wait(batch, i)) {
            take(batch->comm, operation);
        }
        is_complete = is_complete && operation->is_done;
    }
    return is_complete;
}

/* What a stopped communicator has not sent is not to be found by anybody. */
static void withdraw(const batch_t *batch)
{
    for (int i = 0; i < batch->num_operations; i++) {
        const operation_t *const operation = &batch->operations[i];

        if (!operation->is_send || operation->message.is_taken) {
            continue;
        }
        message_t **link = queue_of(batch->comm->world, batch->comm->rank, operation->peer);

        while (*link != &operation->message) {
            link = &(*link)->next;
        }
        *link = operation->message.next;
        stand_in_control.num_unsent++;
    }
}

/* In the stream. */
void stand_in_run_batch(void *context)
{
    batch_t *const batch = context;

    pthread_mutex_lock(&stand_in_lock);
    if (batch->comm->is_stopped) {
        pthread_mutex_unlock(&stand_in_lock);
        return;
    }
    for (int i = 0; i < batch->num_operations; i++) {
        batch->operations[i].is_done = false;
        if (batch->operations[i].is_send) {
            post(batch->comm, &batch->operations[i]);
        }
    }
    pthread_cond_broadcast(&stand_in_changed);
    while (!advance(batch)) {
        if (batch->comm->is_stopped) {
            withdraw(batch);
            break;
        }
        pthread_cond_wait(&stand_in_changed, &stand_in_lock);
    }
    pthread_mutex_unlock(&stand_in_lock);
}
