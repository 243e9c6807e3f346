/* Messages over NCCL, in stream order. */
#include "deadline.h"
#include "error.h"
#include "gdncp/device.h"
#include "gdncp/memory.h"
#include "nccl_internal.h"

/* Known to the watching thread from now on. */
static void enter_group(gdncp_nccl_t *nccl, gdncp_nccl_group_t *group)
{
    pthread_mutex_lock(&nccl->lock);
    nccl->last_id = nccl->last_id % (GDNCP_NCCL_SEEN - 1) + 1;
    group->id = nccl->last_id;
    group->next = nccl->groups;
    nccl->groups = group;
    pthread_mutex_unlock(&nccl->lock);
}

static void leave_group(gdncp_nccl_t *nccl, const gdncp_nccl_group_t *group)
{
    pthread_mutex_lock(&nccl->lock);
    gdncp_nccl_group_t **link = &nccl->groups;

    while (*link != group) {
        link = &(*link)->next;
    }
    *link = group->next;
    pthread_mutex_unlock(&nccl->lock);
}

gdncp_status_t gdncp_nccl_group_create(gdncp_nccl_t *nccl, const gdncp_stream_message_t *messages,
                                       int64_t num_messages, gdncp_nccl_group_t **group_p)
{
    gdncp_nccl_group_t *const group = gdncp_memory_alloc(sizeof *group);

    if (group == NULL) {
        return gdncp_fail_memory("messages over NCCL");
    }
    *group = (gdncp_nccl_group_t){.nccl = nccl, .messages = messages, .num_messages = num_messages};
    enter_group(nccl, group);
    *group_p = group;
    return GDNCP_OK;
}

void gdncp_nccl_group_destroy(gdncp_nccl_group_t *group)
{
    if (group != NULL) {
        leave_group(group->nccl, group);
        gdncp_memory_free(group);
    }
}

static gdncp_nccl_result_t
call_message(const gdncp_nccl_t *nccl, const gdncp_stream_message_t *message, gdncp_stream_t stream)
{
    return message->is_send ? nccl->api->Send(message->buffer, message->bytes, GDNCP_NCCL_INT8,
                                              message->peer, nccl->comm, stream)
                            : nccl->api->Recv(message->buffer, message->bytes, GDNCP_NCCL_INT8,
                                              message->peer, nccl->comm, stream);
}

/* A group that was begun is ended, whatever happens in it. The first error is told. */
static gdncp_status_t call_messages(gdncp_nccl_group_t *group, gdncp_stream_t stream)
{
    gdncp_nccl_t *const nccl = group->nccl;
    gdncp_nccl_result_t result = nccl->api->GroupStart();
    const char *what = "ncclGroupStart";

    if (result != GDNCP_NCCL_SUCCESS) {
        return gdncp_nccl_finish(nccl, what, result);
    }
    for (int64_t m = 0; m < group->num_messages; m++) {
        result = call_message(nccl, &group->messages[m], stream);
        if (result != GDNCP_NCCL_SUCCESS && result != GDNCP_NCCL_IN_PROGRESS) {
            what = group->messages[m].is_send ? "ncclSend" : "ncclRecv";
            break;
        }
        result = GDNCP_NCCL_SUCCESS;
    }
    const gdncp_status_t status = gdncp_nccl_result(nccl, what, result);
    const gdncp_nccl_result_t ended = nccl->api->GroupEnd();

    return status == GDNCP_OK ? gdncp_nccl_finish(nccl, "ncclGroupEnd", ended)
                              : gdncp_nccl_keep_failure(nccl, status);
}

/* What NCCL is to queue between the two writes of the flag. */
typedef struct gathering {
    const void *in; /* NULL: the group's messages */
    void *out;
    size_t bytes;
} gathering_t;

static gdncp_status_t queue_in_nccl(gdncp_nccl_group_t *group, const gathering_t *gathering,
                                    gdncp_stream_t stream)
{
    gdncp_nccl_t *const nccl = group->nccl;

    return gathering->in == NULL
               ? call_messages(group, stream)
               : gdncp_nccl_finish(nccl, "ncclAllGather",
                                   nccl->api->AllGather(gathering->in, gathering->out,
                                                        gathering->bytes, GDNCP_NCCL_INT8,
                                                        nccl->comm, stream));
}

/* NCCL may queue from a thread of its own: nothing else may follow in the stream until it says that
 * it has. */
static gdncp_status_t run(gdncp_nccl_group_t *group, const gathering_t *gathering,
                          gdncp_stream_t stream)
{
    gdncp_nccl_t *const nccl = group->nccl;

    pthread_mutex_lock(&nccl->lock);
    gdncp_status_t status = gdncp_nccl_kept_failure(nccl);

    if (status != GDNCP_OK) {
        goto unlock;
    }
    status = nccl->backend->write_flag(stream, nccl->flag, group->id);
    if (status != GDNCP_OK) {
        goto unlock;
    }
    status = queue_in_nccl(group, gathering, stream);
    const gdncp_status_t ended = nccl->backend->write_flag(stream, nccl->flag, 0);

    status = status == GDNCP_OK ? ended : gdncp_nccl_kept_failure(nccl);

unlock:
    pthread_mutex_unlock(&nccl->lock);
    return status;
}

gdncp_status_t gdncp_nccl_group_run(gdncp_nccl_group_t *group, gdncp_stream_t stream)
{
    return run(group, &(gathering_t){.in = NULL}, stream);
}

gdncp_status_t gdncp_nccl_group_all_gather(gdncp_nccl_group_t *group, const void *in, void *out,
                                           size_t bytes, gdncp_stream_t stream)
{
    return run(group, &(gathering_t){.in = in, .out = out, .bytes = bytes}, stream);
}

/* One byte for each direction that has none yet; both ends know the same of it. */
static int64_t list_new_directions(const gdncp_nccl_t *nccl, const gdncp_stream_message_t *messages,
                                   int64_t num_messages, gdncp_stream_message_t *news)
{
    int64_t count = 0;

    for (int64_t m = 0; m < num_messages; m++) {
        const int direction = messages[m].peer + (messages[m].is_send ? 0 : nccl->size);

        if (!nccl->is_connected[direction]) {
            nccl->is_connected[direction] = true;
            news[count] = messages[m];
            news[count].bytes = 1;
            news[count++].buffer = nccl->scratch + direction;
        }
    }
    return count;
}

static void set_limit(gdncp_nccl_t *nccl, int64_t limit_ms)
{
    pthread_mutex_lock(&nccl->lock);
    nccl->limit_ms = limit_ms;
    pthread_mutex_unlock(&nccl->lock);
}

/* Run in a stream of our own, and wait for it: no longer than until the watching thread has it
 * aborted. */
static gdncp_status_t run_and_wait(gdncp_nccl_t *nccl, const gdncp_stream_message_t *messages,
                                   int64_t num_messages, const gathering_t *gathering)
{
    gdncp_nccl_group_t *group = NULL;
    gdncp_status_t status = gdncp_nccl_group_create(nccl, messages, num_messages, &group);

    if (status != GDNCP_OK) {
        return status;
    }
    set_limit(nccl, nccl->timeout_ms / 2);
    status = run(group, gathering, nccl->stream);
    if (status == GDNCP_OK) {
        status = gdncp_stream_synchronize(GDNCP_DEVICE_CUDA, nccl->stream);
    }
    set_limit(nccl, nccl->timeout_ms);
    gdncp_nccl_group_destroy(group);
    return status == GDNCP_OK ? gdncp_nccl_check(nccl) : status;
}

gdncp_status_t gdncp_nccl_connect(gdncp_nccl_t *nccl, const gdncp_stream_message_t *messages,
                                  int64_t num_messages)
{
    gdncp_stream_message_t *const news =
        gdncp_memory_alloc((size_t)(num_messages + 1) * sizeof *news);

    if (news == NULL) {
        return gdncp_fail_memory("messages that connect");
    }
    const int64_t count = list_new_directions(nccl, messages, num_messages, news);
    const gdncp_status_t status =
        count > 0 ? run_and_wait(nccl, news, count, &(gathering_t){.in = NULL}) : GDNCP_OK;

    gdncp_memory_free(news);
    return status;
}

gdncp_status_t gdncp_nccl_connect_all_gather(gdncp_nccl_t *nccl,
                                             const gdncp_stream_message_t *messages,
                                             int64_t num_messages, size_t bytes)
{
    const size_t most = (size_t)1 << 20;
    const size_t shard = bytes < most ? bytes : most;
    void *memory;
    gdncp_status_t status =
        gdncp_device_alloc(GDNCP_DEVICE_CUDA, shard * ((size_t)nccl->size + 1), &memory);

    if (status != GDNCP_OK) {
        return status;
    }
    status =
        run_and_wait(nccl, messages, num_messages,
                     &(gathering_t){.in = memory, .out = (char *)memory + shard, .bytes = shard});
    gdncp_device_free(GDNCP_DEVICE_CUDA, memory);
    return status;
}
