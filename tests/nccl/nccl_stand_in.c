/* A library with NCCL's calls for tests without a GPU: see nccl_stand_in.h. */
#include "nccl_stand_in.h"

#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nccl_api.h"

#define EXPORT __attribute__((visibility("default")))

typedef struct message {
    struct message *next; /* in the queue from one rank to another */
    const void *buffer;
    size_t bytes;
    bool is_taken;
} message_t;

/* The ranks of one id. */
typedef struct world {
    struct world *next;
    char id[sizeof(gdncp_nccl_id_t)];
    int size;
    int num_joined;
    struct comm **comms; /* [size] */
    message_t **firsts;  /* [from, to] */
} world_t;

typedef struct comm {
    world_t *world;
    int rank;
    bool is_blocking;
    bool is_joining;
    bool is_stopped;
    int async_error;
    int polls_left; /* until what was asked for is done */
    pthread_t asked_by;
    struct batch *pending;
} comm_t;

typedef struct operation {
    bool is_send;
    int peer;
    void *buffer;
    size_t bytes;
    bool is_done;
    message_t message;
} operation_t;

/* What one group queues. */
typedef struct batch {
    struct batch *next; /* of all there ever were: a graph may launch one at any time */
    comm_t *comm;
    void *stream;
    operation_t *operations;
    int num_operations;
} batch_t;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static nccl_stand_in_t control;
static world_t *worlds;
static batch_t *batches;
static int num_ids;

static _Thread_local int depth;
static _Thread_local batch_t *open_batch;
static _Thread_local bool spoilt;

EXPORT nccl_stand_in_t *nccl_stand_in_control(void);
EXPORT nccl_stand_in_t *nccl_stand_in_control(void)
{
    control.lock = &lock;
    return &control;
}

static void record(const char *call, const comm_t *comm, const operation_t *operation, void *stream)
{
    if (control.num_records < STAND_IN_MAX_RECORDS) {
        control.records[control.num_records++] = (nccl_record_t){
            .call = call,
            .rank = comm != NULL ? comm->rank : -1,
            .depth = depth,
            .peer = operation != NULL ? operation->peer : -1,
            .bytes = operation != NULL ? operation->bytes : 0,
            .buffer = operation != NULL ? operation->buffer : NULL,
            .stream = stream,
        };
    }
}

/* The fault that was asked for, or success. */
static int fault(const char *call, const comm_t *comm)
{
    const bool is_meant =
        control.fault_call != NULL && strcmp(call, control.fault_call) == 0 &&
        (control.fault_rank < 0 || (comm != NULL && comm->rank == control.fault_rank));

    return is_meant && control.fault_count > 0 && --control.fault_count == 0 ? control.fault_result
                                                                             : GDNCP_NCCL_SUCCESS;
}

static message_t **queue_of(const world_t *world, int from, int to)
{
    return &world->firsts[from * world->size + to];
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
        control.num_mismatched++;
    }
    *first = message->next;
    message->is_taken = true;
    operation->is_done = true;
    pthread_cond_broadcast(&changed);
    return true;
}

/* Whether an earlier receive of the batch from that rank is still open. */
static bool must_wait(const batch_t *batch, int index)
{
    for (int i = 0; i < index; i++) {
        const operation_t *const earlier = &batch->operations[i];

        if (!earlier->is_send && !earlier->is_done &&
            earlier->peer == batch->operations[index].peer) {
            return true;
        }
    }
    return false;
}

/* Do what can be done; whether all is. */
static bool advance(batch_t *batch)
{
    bool is_complete = true;

    for (int i = 0; i < batch->num_operations; i++) {
        operation_t *const operation = &batch->operations[i];

        if (operation->is_send) {
            operation->is_done = operation->message.is_taken;
        } else if (!operation->is_done && !must_wait(batch, i)) {
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
        control.num_unsent++;
    }
}

/* In the stream. */
static void run_batch(void *context)
{
    batch_t *const batch = context;

    pthread_mutex_lock(&lock);
    if (batch->comm->is_stopped) {
        pthread_mutex_unlock(&lock);
        return;
    }
    for (int i = 0; i < batch->num_operations; i++) {
        batch->operations[i].is_done = false;
        if (batch->operations[i].is_send) {
            post(batch->comm, &batch->operations[i]);
        }
    }
    pthread_cond_broadcast(&changed);
    while (!advance(batch)) {
        if (batch->comm->is_stopped) {
            withdraw(batch);
            break;
        }
        pthread_cond_wait(&changed, &lock);
    }
    pthread_mutex_unlock(&lock);
}

/* Without the lock: the stream's own comes before ours. */
static int queue_batch(batch_t *batch)
{
    return batch->num_operations == 0 ||
                   control.queue(batch->stream, "NCCL's kernel", run_batch, batch) == 0
               ? GDNCP_NCCL_SUCCESS
               : GDNCP_NCCL_UNHANDLED_CUDA_ERROR;
}

static bool is_stuck(const char *call)
{
    return control.stuck_call != NULL && strcmp(call, control.stuck_call) == 0;
}

/* Begin something on a non-blocking communicator. */
static int begin(const char *call, comm_t *comm, batch_t *pending)
{
    comm->polls_left = is_stuck(call) ? INT_MAX : control.num_polls;
    comm->asked_by = pthread_self();
    comm->pending = pending;
    return GDNCP_NCCL_IN_PROGRESS;
}

static world_t *find_world(const gdncp_nccl_id_t *id, int size)
{
    world_t *world = worlds;

    while (world != NULL && memcmp(world->id, id->internal, sizeof world->id) != 0) {
        world = world->next;
    }
    if (world == NULL) {
        world = calloc(1, sizeof *world);
        memcpy(world->id, id->internal, sizeof world->id);
        world->size = size;
        world->comms = calloc((size_t)size, sizeof(comm_t *));
        world->firsts = calloc((size_t)size * (size_t)size, sizeof(message_t *));
        world->next = worlds;
        worlds = world;
    }
    return world;
}

EXPORT int ncclGetVersion(int *version);
EXPORT int ncclGetVersion(int *version)
{
    *version = 22809;
    return GDNCP_NCCL_SUCCESS;
}

EXPORT int ncclGetUniqueId(gdncp_nccl_id_t *id);
EXPORT int ncclGetUniqueId(gdncp_nccl_id_t *id)
{
    pthread_mutex_lock(&lock);
    const int result = fault("ncclGetUniqueId", NULL);

    memset(id, 0, sizeof *id);
    snprintf(id->internal, sizeof id->internal, "stand-in %d", ++num_ids);
    pthread_mutex_unlock(&lock);
    return result;
}

EXPORT const char *ncclGetErrorString(int result);
EXPORT const char *ncclGetErrorString(int result)
{
    return result == GDNCP_NCCL_REMOTE_ERROR ? "remote process exited" : "an error of the stand-in";
}

EXPORT const char *ncclGetLastError(comm_t *comm);
EXPORT const char *ncclGetLastError(comm_t *comm)
{
    (void)comm;
    return "as the test wanted";
}

EXPORT int ncclCommInitRankConfig(comm_t **comm_p, int size, gdncp_nccl_id_t id, int rank,
                                  const gdncp_nccl_config_t *config);
EXPORT int ncclCommInitRankConfig(comm_t **comm_p, int size, gdncp_nccl_id_t id, int rank,
                                  const gdncp_nccl_config_t *config)
{
    if (config != NULL && (config->magic != GDNCP_NCCL_CONFIG_MAGIC ||
                           config->size < sizeof *config || config->version < 21400)) {
        return GDNCP_NCCL_INVALID_ARGUMENT;
    }
    comm_t *const comm = calloc(1, sizeof *comm);

    pthread_mutex_lock(&lock);
    *comm = (comm_t){
        .rank = rank, .is_blocking = config == NULL || config->blocking != 0, .is_joining = true};
    const int result = fault("ncclCommInitRankConfig", comm);

    if (result != GDNCP_NCCL_SUCCESS) {
        pthread_mutex_unlock(&lock);
        free(comm);
        return result;
    }
    comm->world = find_world(&id, size);
    comm->world->comms[rank] = comm;
    comm->world->num_joined++;
    control.num_comms++;
    pthread_cond_broadcast(&changed);
    while (comm->is_blocking && comm->world->num_joined < size) {
        pthread_cond_wait(&changed, &lock);
    }
    *comm_p = comm;
    const int begun =
        comm->is_blocking ? GDNCP_NCCL_SUCCESS : begin("ncclCommInitRankConfig", comm, NULL);

    pthread_mutex_unlock(&lock);
    return begun;
}

EXPORT int ncclCommGetAsyncError(comm_t *comm, int *state);
EXPORT int ncclCommGetAsyncError(comm_t *comm, int *state)
{
    batch_t *ready = NULL;

    pthread_mutex_lock(&lock);
    const int result = fault("ncclCommGetAsyncError", comm);

    comm->async_error = result != GDNCP_NCCL_SUCCESS ? result : comm->async_error;
    comm->is_joining = comm->is_joining && comm->world->num_joined < comm->world->size;
    if (comm->polls_left > 0 && comm->polls_left < INT_MAX &&
        pthread_equal(comm->asked_by, pthread_self()) && !comm->is_joining) {
        comm->polls_left--;
    }
    if (comm->polls_left == 0 && comm->pending != NULL) {
        ready = comm->pending;
        comm->pending = NULL;
    }
    *state = comm->async_error;
    if (comm->async_error == GDNCP_NCCL_SUCCESS && (comm->is_joining || comm->polls_left > 0)) {
        *state = GDNCP_NCCL_IN_PROGRESS;
    }
    pthread_mutex_unlock(&lock);
    if (ready != NULL) {
        *state = queue_batch(ready);
    }
    return GDNCP_NCCL_SUCCESS;
}

EXPORT int ncclCommFinalize(comm_t *comm);
EXPORT int ncclCommFinalize(comm_t *comm)
{
    pthread_mutex_lock(&lock);
    const int result = fault("ncclCommFinalize", comm);
    const int begun =
        comm->is_blocking ? GDNCP_NCCL_SUCCESS : begin("ncclCommFinalize", comm, NULL);

    pthread_mutex_unlock(&lock);
    return result != GDNCP_NCCL_SUCCESS ? result : begun;
}

/* The communicator stays, as graphs may still hold what was queued over it. */
static void stop(comm_t *comm)
{
    comm->is_stopped = true;
    comm->pending = NULL;
    pthread_cond_broadcast(&changed);
}

EXPORT int ncclCommDestroy(comm_t *comm);
EXPORT int ncclCommDestroy(comm_t *comm)
{
    pthread_mutex_lock(&lock);
    stop(comm);
    control.num_comms--;
    pthread_mutex_unlock(&lock);
    return GDNCP_NCCL_SUCCESS;
}

static void tell_others(const comm_t *comm)
{
    for (int rank = 0; rank < comm->world->size; rank++) {
        comm_t *const other = comm->world->comms[rank];

        if (control.abort_is_remote && other != NULL && other != comm) {
            other->async_error = GDNCP_NCCL_REMOTE_ERROR;
        }
    }
}

EXPORT int ncclCommAbort(comm_t *comm);
EXPORT int ncclCommAbort(comm_t *comm)
{
    pthread_mutex_lock(&lock);
    stop(comm);
    tell_others(comm);
    control.num_comms--;
    control.num_aborted++;
    pthread_mutex_unlock(&lock);
    return GDNCP_NCCL_SUCCESS;
}

EXPORT int ncclCommRevoke(comm_t *comm, int flags);
EXPORT int ncclCommRevoke(comm_t *comm, int flags)
{
    pthread_mutex_lock(&lock);
    stop(comm);
    tell_others(comm);
    control.num_revoked++;
    pthread_mutex_unlock(&lock);
    return flags == 0 ? GDNCP_NCCL_SUCCESS : GDNCP_NCCL_INVALID_ARGUMENT;
}

EXPORT int ncclCommCount(const comm_t *comm, int *count);
EXPORT int ncclCommCount(const comm_t *comm, int *count)
{
    *count = comm->world->size;
    return fault("ncclCommCount", comm);
}

EXPORT int ncclCommUserRank(const comm_t *comm, int *rank);
EXPORT int ncclCommUserRank(const comm_t *comm, int *rank)
{
    *rank = comm->rank;
    return fault("ncclCommUserRank", comm);
}

EXPORT int ncclGroupStart(void);
EXPORT int ncclGroupStart(void)
{
    pthread_mutex_lock(&lock);
    const int result = fault("ncclGroupStart", NULL);

    if (result == GDNCP_NCCL_SUCCESS) {
        depth++;
        record("ncclGroupStart", NULL, NULL, NULL);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

/* The group's batch, which is of one communicator and one stream. */
static batch_t *find_batch(comm_t *comm, void *stream)
{
    if (open_batch == NULL) {
        open_batch = calloc(1, sizeof *open_batch);
        open_batch->comm = comm;
        open_batch->stream = stream;
        open_batch->next = batches;
        batches = open_batch;
    }
    return open_batch->comm == comm && open_batch->stream == stream ? open_batch : NULL;
}

static int add(const char *call, operation_t operation, comm_t *comm, void *stream)
{
    const int result = fault(call, comm);
    batch_t *const batch = find_batch(comm, stream);

    record(call, comm, &operation, stream);
    if (result != GDNCP_NCCL_SUCCESS || batch == NULL || operation.peer < 0 ||
        operation.peer >= comm->world->size || comm->polls_left > 0) {
        spoilt = true;
        return result != GDNCP_NCCL_SUCCESS ? result : GDNCP_NCCL_INVALID_USAGE;
    }
    batch->operations =
        realloc(batch->operations, (size_t)(batch->num_operations + 1) * sizeof *batch->operations);
    batch->operations[batch->num_operations++] = operation;
    return GDNCP_NCCL_SUCCESS;
}

/* Outside of all groups: what there is begins. */
static int launch(void)
{
    batch_t *const batch = open_batch;
    const bool is_spoilt = spoilt;

    open_batch = NULL;
    spoilt = false;
    if (batch == NULL || is_spoilt) {
        return GDNCP_NCCL_SUCCESS;
    }
    if (batch->comm->is_blocking || control.num_polls == 0) {
        pthread_mutex_unlock(&lock);
        const int result = queue_batch(batch);

        pthread_mutex_lock(&lock);
        return result;
    }
    return begin("ncclGroupEnd", batch->comm, batch);
}

EXPORT int ncclGroupEnd(void);
EXPORT int ncclGroupEnd(void)
{
    pthread_mutex_lock(&lock);
    int result = depth > 0 ? fault("ncclGroupEnd", open_batch != NULL ? open_batch->comm : NULL)
                           : GDNCP_NCCL_INVALID_USAGE;

    record("ncclGroupEnd", open_batch != NULL ? open_batch->comm : NULL, NULL, NULL);
    spoilt = spoilt || result != GDNCP_NCCL_SUCCESS;
    depth -= depth > 0;
    if (depth == 0) {
        const int launched = launch();

        result = result != GDNCP_NCCL_SUCCESS ? result : launched;
    }
    pthread_mutex_unlock(&lock);
    return result;
}

EXPORT int ncclSend(const void *buffer, size_t count, int type, int peer, comm_t *comm,
                    void *stream);
EXPORT int ncclSend(const void *buffer, size_t count, int type, int peer, comm_t *comm,
                    void *stream)
{
    const operation_t operation = {
        .is_send = true, .peer = peer, .buffer = (void *)buffer, .bytes = count};

    pthread_mutex_lock(&lock);
    control.num_sends++;
    const int result = type == GDNCP_NCCL_INT8 && depth > 0
                           ? add("ncclSend", operation, comm, stream)
                           : GDNCP_NCCL_INVALID_USAGE;

    pthread_mutex_unlock(&lock);
    return result;
}

EXPORT int ncclRecv(void *buffer, size_t count, int type, int peer, comm_t *comm, void *stream);
EXPORT int ncclRecv(void *buffer, size_t count, int type, int peer, comm_t *comm, void *stream)
{
    const operation_t operation = {.peer = peer, .buffer = buffer, .bytes = count};

    pthread_mutex_lock(&lock);
    control.num_recvs++;
    const int result = type == GDNCP_NCCL_INT8 && depth > 0
                           ? add("ncclRecv", operation, comm, stream)
                           : GDNCP_NCCL_INVALID_USAGE;

    pthread_mutex_unlock(&lock);
    return result;
}

EXPORT int ncclAllGather(const void *in, void *out, size_t count, int type, comm_t *comm,
                         void *stream);
EXPORT int ncclAllGather(const void *in, void *out, size_t count, int type, comm_t *comm,
                         void *stream)
{
    pthread_mutex_lock(&lock);
    control.num_gathers++;
    int result = fault("ncclAllGather", comm);

    if (type != GDNCP_NCCL_INT8 || depth > 0) {
        result = GDNCP_NCCL_INVALID_USAGE;
    }
    for (int peer = 0; peer < comm->world->size && result == GDNCP_NCCL_SUCCESS; peer++) {
        const operation_t send = {
            .is_send = true, .peer = peer, .buffer = (void *)in, .bytes = count};
        const operation_t recv = {
            .peer = peer, .buffer = (char *)out + (size_t)peer * count, .bytes = count};

        result = add("ncclAllGather", send, comm, stream);
        if (result == GDNCP_NCCL_SUCCESS) {
            result = add("ncclAllGather", recv, comm, stream);
        }
    }
    const int launched = launch();

    pthread_mutex_unlock(&lock);
    return result != GDNCP_NCCL_SUCCESS ? result : launched;
}
