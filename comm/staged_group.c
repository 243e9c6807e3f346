/* Messages staged through pinned memory: jobs of a courier that a stream posts and waits for. */
#include "staged_group.h"

#include <stdatomic.h>
#include <stdio.h>

#include "backend.h"
#include "comm_internal.h"
#include "error.h"
#include "gdncp/device.h"
#include "gdncp/memory.h"
#include "log.h"
#include "memory_count.h"

struct gdncp_staged_group {
    gdncp_comm_t *comm;
    const gdncp_backend_t *backend;
    const gdncp_stream_message_t *messages;
    int64_t num_messages;
    gdncp_group_t *group;

    bool has_courier;
    gdncp_courier_job_t start;
    gdncp_courier_job_t wait;
    gdncp_courier_job_t run;
    uint32_t *is_done; /* pinned, behind the messages: the last wait's job has ended */

    void *pinned; /* the messages, each at the next multiple of the alignment */
    int64_t pinned_bytes;
    gdncp_memory_usage_t *usage; /* who is credited for pinned */

    char sentence[512]; /* written once, before failure */
    _Atomic gdncp_status_t failure;
};

static size_t total_bytes(const gdncp_stream_message_t *messages, int64_t num_messages)
{
    size_t bytes = 0;

    for (int64_t m = 0; m < num_messages; m++) {
        bytes += gdncp_stream_message_room(messages[m].bytes);
    }
    return bytes;
}

static gdncp_status_t join_courier(gdncp_comm_t *comm)
{
    gdncp_status_t status = GDNCP_OK;

    if (!comm->said_staged) {
        comm->said_staged = true;
        gdncp_log(GDNCP_LOG_INFO, comm->rank,
                  "device buffers are staged through pinned memory: transport %s moves the host's",
                  gdncp_transport_name(gdncp_comm_transport(comm)));
    }
    if (comm->courier == NULL) {
        status = gdncp_courier_create(&comm->courier);
    }
    comm->num_stream_groups += status == GDNCP_OK;
    return status;
}

static void leave_courier(gdncp_comm_t *comm)
{
    comm->num_stream_groups--;
    if (comm->num_stream_groups == 0) {
        gdncp_courier_destroy(comm->courier);
        comm->courier = NULL;
    }
}

static gdncp_status_t alloc_pinned(gdncp_staged_group_t *group)
{
    const size_t message_bytes = total_bytes(group->messages, group->num_messages);
    const size_t bytes = message_bytes + sizeof *group->is_done;
    const gdncp_status_t status = group->backend->alloc_pinned(bytes, &group->pinned);

    if (status == GDNCP_OK) {
        group->pinned_bytes = (int64_t)bytes;
        group->usage = gdncp_memory_count_alloc(group->pinned_bytes);
        group->is_done = (void *)((char *)group->pinned + message_bytes);
    }
    return status;
}

/* The sentence is this thread's last error. */
static void keep_failure(gdncp_staged_group_t *group, gdncp_status_t status)
{
    gdncp_comm_t *const comm = group->comm;

    snprintf(group->sentence, sizeof group->sentence, "%s", gdncp_last_error());
    atomic_store_explicit(&group->failure, status, memory_order_release);
    if (comm->stream_failure == GDNCP_OK) {
        comm->stream_failure = status;
        snprintf(comm->stream_sentence, sizeof comm->stream_sentence, "%s", group->sentence);
    }
}

static gdncp_status_t add_messages(const gdncp_staged_group_t *group, bool sends)
{
    gdncp_status_t status = GDNCP_OK;
    char *pinned = group->pinned;

    for (int64_t m = 0; m < group->num_messages && status == GDNCP_OK; m++) {
        const gdncp_stream_message_t *const message = &group->messages[m];

        if (message->is_send == sends) {
            status = sends ? gdncp_comm_send(group->comm, group->group, pinned, message->bytes,
                                             message->peer)
                           : gdncp_comm_recv(group->comm, group->group, pinned, message->bytes,
                                             message->peer);
        }
        pinned += gdncp_stream_message_room(message->bytes);
    }
    return status;
}

static gdncp_status_t start_messages(const gdncp_staged_group_t *group)
{
    gdncp_comm_t *const comm = group->comm;

    if (comm->stream_failure != GDNCP_OK) {
        return gdncp_fail(comm->stream_failure, "%s", comm->stream_sentence);
    }
    gdncp_status_t status = gdncp_comm_group_begin(comm, group->group);

    if (status == GDNCP_OK) {
        status = add_messages(group, false);
    }
    if (status == GDNCP_OK) {
        status = add_messages(group, true);
    }
    return status == GDNCP_OK ? gdncp_comm_group_end(comm, group->group, NULL) : status;
}

static bool has_failed(const gdncp_staged_group_t *group)
{
    return atomic_load_explicit(&group->failure, memory_order_acquire) != GDNCP_OK;
}

static void start_job(void *context)
{
    gdncp_staged_group_t *const group = context;
    const gdncp_status_t status = has_failed(group) ? GDNCP_OK : start_messages(group);

    if (status != GDNCP_OK) {
        keep_failure(group, status);
    }
}

static void wait_job(void *context)
{
    gdncp_staged_group_t *const group = context;
    const gdncp_status_t status =
        has_failed(group) ? GDNCP_OK : gdncp_comm_group_wait(group->comm, group->group);

    if (status != GDNCP_OK) {
        keep_failure(group, status);
    }
    __atomic_store_n(group->is_done, 1, __ATOMIC_RELEASE);
}

static void run_job(void *context)
{
    start_job(context);
    wait_job(context);
}

gdncp_status_t gdncp_staged_group_create(gdncp_comm_t *comm, const gdncp_stream_message_t *messages,
                                         int64_t num_messages, gdncp_staged_group_t **group_p)
{
    gdncp_staged_group_t *const group = gdncp_memory_alloc(sizeof *group);

    if (group == NULL) {
        return gdncp_fail_memory("messages of a stream");
    }
    *group = (gdncp_staged_group_t){.comm = comm,
                                    .messages = messages,
                                    .num_messages = num_messages,
                                    .start = {.run = start_job, .context = group},
                                    .wait = {.run = wait_job, .context = group},
                                    .run = {.run = run_job, .context = group}};
    gdncp_status_t status = gdncp_backend_find(&group->backend);

    if (status == GDNCP_OK) {
        status = alloc_pinned(group);
    }
    if (status == GDNCP_OK) {
        status = gdncp_comm_group_create(comm, num_messages, &group->group);
    }
    if (status == GDNCP_OK) {
        status = join_courier(comm);
        group->has_courier = status == GDNCP_OK;
    }
    if (status != GDNCP_OK) {
        gdncp_staged_group_destroy(group);
        return status;
    }
    *group_p = group;
    return GDNCP_OK;
}

void gdncp_staged_group_destroy(gdncp_staged_group_t *group)
{
    if (group == NULL) {
        return;
    }
    if (group->has_courier) {
        leave_courier(group->comm);
    }
    gdncp_comm_group_destroy(group->comm, group->group);
    if (group->pinned != NULL) {
        group->backend->free_pinned(group->pinned);
        gdncp_memory_count_free(group->usage, group->pinned_bytes);
    }
    gdncp_memory_free(group);
}

static void post_start(void *context)
{
    gdncp_staged_group_t *const group = context;

    gdncp_courier_post(group->comm->courier, &group->start);
}

static void post_wait(void *context)
{
    gdncp_staged_group_t *const group = context;

    __atomic_store_n(group->is_done, 0, __ATOMIC_RELAXED);
    gdncp_courier_post(group->comm->courier, &group->wait);
}

static void post_run(void *context)
{
    gdncp_staged_group_t *const group = context;

    __atomic_store_n(group->is_done, 0, __ATOMIC_RELAXED);
    gdncp_courier_post(group->comm->courier, &group->run);
}

/* Messages from `first` on that lie one behind the other in the device's memory as they do in
 * pinned memory: bytes from the begin of the first to the end of the last. */
static int64_t count_adjacent(const gdncp_staged_group_t *group, int64_t first, size_t *bytes_p)
{
    const gdncp_stream_message_t *const messages = group->messages;
    const char *const begin = messages[first].buffer;
    size_t place = gdncp_stream_message_room(messages[first].bytes); /* of the next one */
    int64_t next = first + 1;

    *bytes_p = messages[first].bytes;
    while (next < group->num_messages && messages[next].is_send == messages[first].is_send &&
           (const char *)messages[next].buffer == begin + place) {
        *bytes_p = place + messages[next].bytes;
        place += gdncp_stream_message_room(messages[next].bytes);
        next++;
    }
    return next - first;
}

/* Between the device's memory and pinned memory, in as few copies as they lie in pieces. */
static gdncp_status_t copy_messages(const gdncp_staged_group_t *group, bool sends,
                                    gdncp_stream_t stream)
{
    gdncp_status_t status = GDNCP_OK;
    char *pinned = group->pinned;
    int64_t m = 0;

    while (m < group->num_messages && status == GDNCP_OK) {
        const gdncp_stream_message_t *const message = &group->messages[m];
        size_t bytes;
        const int64_t count = count_adjacent(group, m, &bytes);

        if (message->is_send == sends) {
            status = gdncp_device_copy(GDNCP_DEVICE_CUDA, sends ? pinned : message->buffer,
                                       sends ? message->buffer : pinned, bytes, stream);
        }
        pinned += total_bytes(message, count);
        m += count;
    }
    return status;
}

/* The stream posts something to the courier, waits until that is done, and takes what came. */
static gdncp_status_t post_and_wait(gdncp_staged_group_t *group, void (*post)(void *context),
                                    gdncp_stream_t stream)
{
    gdncp_status_t status = group->backend->call_host(stream, post, group);

    if (status == GDNCP_OK) {
        status = group->backend->wait_flag(stream, group->is_done);
    }
    return status == GDNCP_OK ? copy_messages(group, false, stream) : status;
}

gdncp_status_t gdncp_staged_group_start(gdncp_staged_group_t *group, gdncp_stream_t stream)
{
    const gdncp_status_t status = copy_messages(group, true, stream);

    return status == GDNCP_OK ? group->backend->call_host(stream, post_start, group) : status;
}

gdncp_status_t gdncp_staged_group_wait(gdncp_staged_group_t *group, gdncp_stream_t stream)
{
    return post_and_wait(group, post_wait, stream);
}

gdncp_status_t gdncp_staged_group_run(gdncp_staged_group_t *group, gdncp_stream_t stream)
{
    const gdncp_status_t status = copy_messages(group, true, stream);

    return status == GDNCP_OK ? post_and_wait(group, post_run, stream) : status;
}

gdncp_status_t gdncp_staged_group_check(const gdncp_staged_group_t *group)
{
    const gdncp_status_t failure = atomic_load_explicit(&group->failure, memory_order_acquire);

    return failure == GDNCP_OK ? GDNCP_OK : gdncp_fail(failure, "%s", group->sentence);
}
