/* A library with NCCL's calls for tests without a GPU: see nccl_stand_in.h. */
#include "nccl_stand_in_internal.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

pthread_mutex_t stand_in_lock = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t stand_in_changed = PTHREAD_COND_INITIALIZER;
nccl_stand_in_t stand_in_control;
static world_t *worlds;
static batch_t *batches;
static int num_ids;

static _Thread_local int depth;
static _Thread_local batch_t *open_batch;
static _Thread_local bool spoilt;

EXPORT nccl_stand_in_t *nccl_stand_in_control(void);
EXPORT nccl_stand_in_t *nccl_stand_in_control(void)
{
    stand_in_control.lock = &stand_in_lock;
    return &stand_in_control;
}

static void record(const char *call, const comm_t *comm, const operation_t *operation, void *stream)
{
    if (stand_in_control.num_records < STAND_IN_MAX_RECORDS) {
        stand_in_control.records[stand_in_control.num_records++] = (nccl_record_t){
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
    const bool is_meant = stand_in_control.fault_call != NULL &&
                          strcmp(call, stand_in_control.fault_call) == 0 &&
                          (stand_in_control.fault_rank < 0 ||
                           (comm != NULL && comm->rank == stand_in_control.fault_rank));

    return is_meant && stand_in_control.fault_count > 0 && --stand_in_control.fault_count == 0
               ? stand_in_control.fault_result
               : GDNCP_NCCL_SUCCESS;
}

/* Without the lock: the stream's own comes before ours. */
static int queue_batch(batch_t *batch)
{
    return batch->num_operations == 0 || stand_in_control.queue(batch->stream, "NCCL's kernel",
                                                                stand_in_run_batch, batch) == 0
               ? GDNCP_NCCL_SUCCESS
               : GDNCP_NCCL_UNHANDLED_CUDA_ERROR;
}

static bool is_stuck(const char *call)
{
    return stand_in_control.stuck_call != NULL && strcmp(call, stand_in_control.stuck_call) == 0;
}

/* Begin something on a non-blocking communicator. */
static int begin(const char *call, comm_t *comm, batch_t *pending)
{
    comm->polls_left = is_stuck(call) ? INT_MAX : stand_in_control.num_polls;
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
    pthread_mutex_lock(&stand_in_lock);
    const int result = fault("ncclGetUniqueId", NULL);

    memset(id, 0, sizeof *id);
    snprintf(id->internal, sizeof id->internal, "stand-in %d %d", (int)getpid(), ++num_ids);
    pthread_mutex_unlock(&stand_in_lock);
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

    pthread_mutex_lock(&stand_in_lock);
    *comm = (comm_t){
        .rank = rank, .is_blocking = config == NULL || config->blocking != 0, .is_joining = true};
    const int result = fault("ncclCommInitRankConfig", comm);

    if (result != GDNCP_NCCL_SUCCESS) {
        pthread_mutex_unlock(&stand_in_lock);
        free(comm);
        return result;
    }
    comm->world = find_world(&id, size);
    comm->is_connected = calloc(2 * (size_t)size, sizeof *comm->is_connected);
    stand_in_join(comm);
    stand_in_control.num_comms++;
    pthread_cond_broadcast(&stand_in_changed);
    while (comm->is_blocking && comm->world->num_joined < size) {
        pthread_cond_wait(&stand_in_changed, &stand_in_lock);
    }
    *comm_p = comm;
    const int begun =
        comm->is_blocking ? GDNCP_NCCL_SUCCESS : begin("ncclCommInitRankConfig", comm, NULL);

    pthread_mutex_unlock(&stand_in_lock);
    return begun;
}

EXPORT int ncclCommGetAsyncError(comm_t *comm, int *state);
EXPORT int ncclCommGetAsyncError(comm_t *comm, int *state)
{
    batch_t *ready = NULL;

    pthread_mutex_lock(&stand_in_lock);
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
    pthread_mutex_unlock(&stand_in_lock);
    if (ready != NULL) {
        *state = queue_batch(ready);
    }
    return GDNCP_NCCL_SUCCESS;
}

EXPORT int ncclCommFinalize(comm_t *comm);
EXPORT int ncclCommFinalize(comm_t *comm)
{
    pthread_mutex_lock(&stand_in_lock);
    const int result = fault("ncclCommFinalize", comm);
    const int begun =
        comm->is_blocking ? GDNCP_NCCL_SUCCESS : begin("ncclCommFinalize", comm, NULL);

    pthread_mutex_unlock(&stand_in_lock);
    return result != GDNCP_NCCL_SUCCESS ? result : begun;
}

/* The communicator stays, as graphs may still hold what was queued over it. */
static void stop(comm_t *comm)
{
    comm->is_stopped = true;
    comm->pending = NULL;
    pthread_cond_broadcast(&stand_in_changed);
}

EXPORT int ncclCommDestroy(comm_t *comm);
EXPORT int ncclCommDestroy(comm_t *comm)
{
    pthread_mutex_lock(&stand_in_lock);
    stop(comm);
    stand_in_control.num_comms--;
    pthread_mutex_unlock(&stand_in_lock);
    return GDNCP_NCCL_SUCCESS;
}

static void tell_others(const comm_t *comm)
{
    for (int rank = 0; rank < comm->world->size; rank++) {
        comm_t *const other = comm->world->comms[rank];

        if (stand_in_control.abort_is_remote && other != NULL && other != comm) {
            other->async_error = GDNCP_NCCL_REMOTE_ERROR;
        }
    }
}

EXPORT int ncclCommAbort(comm_t *comm);
EXPORT int ncclCommAbort(comm_t *comm)
{
    pthread_mutex_lock(&stand_in_lock);
    stop(comm);
    tell_others(comm);
    stand_in_control.num_comms--;
    stand_in_control.num_aborted++;
    pthread_mutex_unlock(&stand_in_lock);
    return GDNCP_NCCL_SUCCESS;
}

EXPORT int ncclCommRevoke(comm_t *comm, int flags);
EXPORT int ncclCommRevoke(comm_t *comm, int flags)
{
    pthread_mutex_lock(&stand_in_lock);
    stop(comm);
    tell_others(comm);
    stand_in_control.num_revoked++;
    pthread_mutex_unlock(&stand_in_lock);
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
    pthread_mutex_lock(&stand_in_lock);
    const int result = fault("ncclGroupStart", NULL);

    if (result == GDNCP_NCCL_SUCCESS) {
        depth++;
        stand_in_control.num_open_groups++;
        record("ncclGroupStart", NULL, NULL, NULL);
    }
    pthread_mutex_unlock(&stand_in_lock);
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

/* NCCL connects when it is first asked for a direction, and allocates for it. */
static void note_direction(comm_t *comm, const operation_t *operation)
{
    bool *const is_connected =
        &comm->is_connected[operation->peer + (operation->is_send ? 0 : comm->world->size)];

    stand_in_control.num_unconnected += !*is_connected && operation->bytes > 1;
    *is_connected = true;
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

bool stand_in_must_wait(const batch_t *batch, int index)
{
    const operation_t *const operation = &batch->operations[index];

    for (int i = 0; i < index; i++) {
        const operation_t *const earlier = &batch->operations[i];

        if (!earlier->is_done && earlier->is_send == operation->is_send &&
            earlier->peer == operation->peer) {
            return true;
        }
    }
    return false;
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
    if (batch->comm->is_blocking || stand_in_control.num_polls == 0) {
        pthread_mutex_unlock(&stand_in_lock);
        const int result = queue_batch(batch);

        pthread_mutex_lock(&stand_in_lock);
        return result;
    }
    return begin("ncclGroupEnd", batch->comm, batch);
}

EXPORT int ncclGroupEnd(void);
EXPORT int ncclGroupEnd(void)
{
    pthread_mutex_lock(&stand_in_lock);
    int result = depth > 0 ? fault("ncclGroupEnd", open_batch != NULL ? open_batch->comm : NULL)
                           : GDNCP_NCCL_INVALID_USAGE;

    record("ncclGroupEnd", open_batch != NULL ? open_batch->comm : NULL, NULL, NULL);
    spoilt = spoilt || result != GDNCP_NCCL_SUCCESS;
    stand_in_control.num_open_groups -= depth > 0;
    depth -= depth > 0;
    if (depth == 0) {
        const int launched = launch();

        result = result != GDNCP_NCCL_SUCCESS ? result : launched;
    }
    pthread_mutex_unlock(&stand_in_lock);
    return result;
}

EXPORT int ncclSend(const void *buffer, size_t count, int type, int peer, comm_t *comm,
                    void *stream);
EXPORT int ncclSend(const void *buffer, size_t count, int type, int peer, comm_t *comm,
                    void *stream)
{
    const operation_t operation = {
        .is_send = true, .peer = peer, .buffer = (void *)buffer, .bytes = count};

    pthread_mutex_lock(&stand_in_lock);
    stand_in_control.num_sends++;
    note_direction(comm, &operation);
    const int result = type == GDNCP_NCCL_INT8 && depth > 0
                           ? add("ncclSend", operation, comm, stream)
                           : GDNCP_NCCL_INVALID_USAGE;

    pthread_mutex_unlock(&stand_in_lock);
    return result;
}

EXPORT int ncclRecv(void *buffer, size_t count, int type, int peer, comm_t *comm, void *stream);
EXPORT int ncclRecv(void *buffer, size_t count, int type, int peer, comm_t *comm, void *stream)
{
    const operation_t operation = {.peer = peer, .buffer = buffer, .bytes = count};

    pthread_mutex_lock(&stand_in_lock);
    stand_in_control.num_recvs++;
    note_direction(comm, &operation);
    const int result = type == GDNCP_NCCL_INT8 && depth > 0
                           ? add("ncclRecv", operation, comm, stream)
                           : GDNCP_NCCL_INVALID_USAGE;

    pthread_mutex_unlock(&stand_in_lock);
    return result;
}

EXPORT int ncclAllGather(const void *in, void *out, size_t count, int type, comm_t *comm,
                         void *stream);
EXPORT int ncclAllGather(const void *in, void *out, size_t count, int type, comm_t *comm,
                         void *stream)
{
    pthread_mutex_lock(&stand_in_lock);
    stand_in_control.num_gathers++;
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

    pthread_mutex_unlock(&stand_in_lock);
    return result != GDNCP_NCCL_SUCCESS ? result : launched;
}
