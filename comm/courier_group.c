/* Messages moved by jobs of a courier, which a stream posts and waits for. */
#include "courier_group.h"

#include <stdatomic.h>
#include <stdio.h>

#include "backend.h"
#include "comm_internal.h"
#include "error.h"
#include "gdncp/device.h"
#include "gdncp/memory.h"
#include "log.h"
#include "memory_count.h"

struct gdncp_courier_group {
    gdncp_comm_t *comm;
    const gdncp_backend_t *backend;
    const gdncp_stream_message_t *messages;
    int64_t num_messages;
    gdncp_group_t *group;
    gdncp_device_kind_t memory; /* that its messages lie in */
    int device;                 /* its number, where it is a device's memory */
    bool is_lent;               /* device memory is in the transport's hands */

    bool has_courier;
    gdncp_courier_job_t start;
    gdncp_courier_job_t wait;
    gdncp_courier_job_t run;
    uint32_t *is_done; /* pinned: the last wait's job has ended */

    void *room;   /* of the device, for messages that are not moved where they lie */
    void *pinned; /* for them if they are staged; and behind them is_done */
    int64_t pinned_bytes;
    gdncp_memory_usage_t *usage; /* who is credited for pinned */

    char sentence[512]; /* written once, before failure */
    _Atomic gdncp_status_t failure;
    void *places[]; /* [num_messages]: where each is moved from or to */
};

/* The first group of a communicator says which way device buffers take. */
static void choose_memory(gdncp_courier_group_t *group)
{
    gdncp_comm_t *const comm = group->comm;
    const gdncp_transport_t *const transport = comm->transport;
    const bool takes_devices = transport->ops->check_device_memory(transport) == GDNCP_OK;

    group->memory = takes_devices ? GDNCP_DEVICE_CUDA : GDNCP_DEVICE_CPU;
    if (comm->said_way) {
        return;
    }
    comm->said_way = true;
    if (takes_devices) {
        gdncp_log(GDNCP_LOG_INFO, comm->rank, "device buffers go straight to transport %s",
                  gdncp_transport_name(transport->ops->kind));
    } else {
        gdncp_log(GDNCP_LOG_INFO, comm->rank, "device buffers are staged through pinned memory: %s",
                  gdncp_last_error());
    }
}

static gdncp_status_t join_courier(gdncp_comm_t *comm)
{
    gdncp_status_t status = GDNCP_OK;

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

static bool is_moved_in_place(const gdncp_courier_group_t *group, int64_t m)
{
    return group->memory == GDNCP_DEVICE_CUDA && group->messages[m].is_fixed;
}

/* Bytes of all that are copied, each at the next multiple of the alignment. */
static size_t copied_bytes(const gdncp_courier_group_t *group)
{
    size_t bytes = 0;

    for (int64_t m = 0; m < group->num_messages; m++) {
        bytes +=
            is_moved_in_place(group, m) ? 0 : gdncp_stream_message_room(group->messages[m].bytes);
    }
    return bytes;
}

static gdncp_status_t alloc_pinned(gdncp_courier_group_t *group, size_t message_bytes)
{
    const size_t bytes = message_bytes + sizeof *group->is_done;
    const gdncp_status_t status = group->backend->alloc_pinned(bytes, &group->pinned);

    if (status == GDNCP_OK) {
        group->pinned_bytes = (int64_t)bytes;
        group->usage = gdncp_memory_count_alloc(group->pinned_bytes);
        group->is_done = (void *)((char *)group->pinned + message_bytes);
    }
    return status;
}

static void find_places(gdncp_courier_group_t *group, char *copied)
{
    for (int64_t m = 0; m < group->num_messages; m++) {
        if (is_moved_in_place(group, m)) {
            group->places[m] = group->messages[m].buffer;
        } else {
            group->places[m] = copied;
            copied += gdncp_stream_message_room(group->messages[m].bytes);
        }
    }
}

/* Buffers that may be others in the next run are not lent: a group that timed out still receives
 * when its caller has freed them, and those of an allocator's pool not every transport can map. */
static gdncp_status_t make_places(gdncp_courier_group_t *group)
{
    const size_t bytes = copied_bytes(group);
    const bool is_staged = group->memory == GDNCP_DEVICE_CPU;
    gdncp_status_t status = alloc_pinned(group, is_staged ? bytes : 0);

    if (status == GDNCP_OK && !is_staged && bytes > 0) {
        status = gdncp_device_alloc(GDNCP_DEVICE_CUDA, bytes, &group->room);
    }
    if (status == GDNCP_OK && !is_staged) {
        status = group->backend->current(&group->device);
    }
    if (status == GDNCP_OK) {
        find_places(group, is_staged ? group->pinned : group->room);
    }
    return status;
}

/* The sentence is this thread's last error. */
static void keep_failure(gdncp_courier_group_t *group, gdncp_status_t status)
{
    gdncp_comm_t *const comm = group->comm;

    snprintf(group->sentence, sizeof group->sentence, "%s", gdncp_last_error());
    atomic_store_explicit(&group->failure, status, memory_order_release);
    if (comm->stream_failure == GDNCP_OK) {
        comm->stream_failure = status;
        snprintf(comm->stream_sentence, sizeof comm->stream_sentence, "%s", group->sentence);
    }
}

static gdncp_status_t add_messages(const gdncp_courier_group_t *group, bool sends)
{
    gdncp_status_t status = GDNCP_OK;

    for (int64_t m = 0; m < group->num_messages && status == GDNCP_OK; m++) {
        const gdncp_stream_message_t *const message = &group->messages[m];

        if (message->is_send == sends) {
            status = sends ? gdncp_comm_send(group->comm, group->group, group->places[m],
                                             message->bytes, message->peer)
                           : gdncp_comm_recv(group->comm, group->group, group->places[m],
                                             message->bytes, message->peer);
        }
    }
    return status;
}

static gdncp_status_t lend(gdncp_courier_group_t *group)
{
    const gdncp_status_t status =
        group->memory == GDNCP_DEVICE_CUDA ? group->backend->lend(group->device) : GDNCP_OK;

    group->is_lent = status == GDNCP_OK && group->memory == GDNCP_DEVICE_CUDA;
    return status;
}

/* The messages are done, or never will be. */
static gdncp_status_t take_back(gdncp_courier_group_t *group)
{
    const bool was_lent = group->is_lent;

    group->is_lent = false;
    return was_lent ? group->backend->take_back(group->device) : GDNCP_OK;
}

static gdncp_status_t start_messages(gdncp_courier_group_t *group)
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
    if (status == GDNCP_OK) {
        status = lend(group);
    }
    return status == GDNCP_OK ? gdncp_comm_group_end(comm, group->group, NULL) : status;
}

static bool has_failed(const gdncp_courier_group_t *group)
{
    return atomic_load_explicit(&group->failure, memory_order_acquire) != GDNCP_OK;
}

static void start_job(void *context)
{
    gdncp_courier_group_t *const group = context;
    const gdncp_status_t status = has_failed(group) ? GDNCP_OK : start_messages(group);

    if (status != GDNCP_OK) {
        keep_failure(group, status);
    }
}

static void wait_job(void *context)
{
    gdncp_courier_group_t *const group = context;
    gdncp_status_t status =
        has_failed(group) ? GDNCP_OK : gdncp_comm_group_wait(group->comm, group->group);

    /* After a failure messages may still be under way. */
    if (status == GDNCP_OK && !has_failed(group)) {
        status = take_back(group);
    }
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

gdncp_status_t gdncp_courier_group_create(gdncp_comm_t *comm,
                                          const gdncp_stream_message_t *messages,
                                          int64_t num_messages, gdncp_courier_group_t **group_p)
{
    gdncp_courier_group_t *const group =
        gdncp_memory_alloc(sizeof *group + (size_t)num_messages * sizeof *group->places);

    if (group == NULL) {
        return gdncp_fail_memory("messages of a stream");
    }
    *group = (gdncp_courier_group_t){.comm = comm,
                                     .messages = messages,
                                     .num_messages = num_messages,
                                     .start = {.run = start_job, .context = group},
                                     .wait = {.run = wait_job, .context = group},
                                     .run = {.run = run_job, .context = group}};
    gdncp_status_t status = gdncp_backend_find(&group->backend);

    if (status == GDNCP_OK) {
        choose_memory(group);
        status = make_places(group);
    }
    if (status == GDNCP_OK) {
        status = gdncp_comm_group_create_on(comm, group->memory, num_messages, &group->group);
    }
    if (status == GDNCP_OK) {
        status = join_courier(comm);
        group->has_courier = status == GDNCP_OK;
    }
    if (status != GDNCP_OK) {
        gdncp_courier_group_destroy(group);
        return status;
    }
    *group_p = group;
    return GDNCP_OK;
}

void gdncp_courier_group_destroy(gdncp_courier_group_t *group)
{
    if (group == NULL) {
        return;
    }
    if (group->has_courier) {
        leave_courier(group->comm);
    }
    gdncp_comm_group_destroy(group->comm, group->group);
    take_back(group);
    gdncp_device_free(GDNCP_DEVICE_CUDA, group->room);
    if (group->pinned != NULL) {
        group->backend->free_pinned(group->pinned);
        gdncp_memory_count_free(group->usage, group->pinned_bytes);
    }
    gdncp_memory_free(group);
}

static void post_start(void *context)
{
    gdncp_courier_group_t *const group = context;

    gdncp_courier_post(group->comm->courier, &group->start);
}

static void post_wait(void *context)
{
    gdncp_courier_group_t *const group = context;

    __atomic_store_n(group->is_done, 0, __ATOMIC_RELAXED);
    gdncp_courier_post(group->comm->courier, &group->wait);
}

static void post_run(void *context)
{
    gdncp_courier_group_t *const group = context;

    __atomic_store_n(group->is_done, 0, __ATOMIC_RELAXED);
    gdncp_courier_post(group->comm->courier, &group->run);
}

/* Messages from `first` on that lie one behind the other, their buffers as their places: bytes from
 * the begin of the first to the end of the last. */
static int64_t count_adjacent(const gdncp_courier_group_t *group, int64_t first, size_t *bytes_p)
{
    const gdncp_stream_message_t *const messages = group->messages;
    const char *const buffer = messages[first].buffer;
    const char *const place = group->places[first];
    size_t room = gdncp_stream_message_room(messages[first].bytes); /* before the next one */
    int64_t next = first + 1;

    *bytes_p = messages[first].bytes;
    while (next < group->num_messages && messages[next].is_send == messages[first].is_send &&
           (const char *)messages[next].buffer == buffer + room &&
           (const char *)group->places[next] == place + room) {
        *bytes_p = room + messages[next].bytes;
        room += gdncp_stream_message_room(messages[next].bytes);
        next++;
    }
    return next - first;
}

/* Between buffers and places, in as few copies as they lie in pieces. */
static gdncp_status_t copy_messages(const gdncp_courier_group_t *group, bool sends,
                                    gdncp_stream_t stream)
{
    gdncp_status_t status = GDNCP_OK;
    int64_t m = 0;

    while (m < group->num_messages && status == GDNCP_OK) {
        const gdncp_stream_message_t *const message = &group->messages[m];
        void *const place = group->places[m];
        size_t bytes;
        const int64_t count = count_adjacent(group, m, &bytes);

        if (message->is_send == sends && place != message->buffer) {
            status = gdncp_device_copy(GDNCP_DEVICE_CUDA, sends ? place : message->buffer,
                                       sends ? message->buffer : place, bytes, stream);
        }
        m += count;
    }
    return status;
}

/* The stream posts something to the courier, waits until that is done, and takes what came. */
static gdncp_status_t post_and_wait(gdncp_courier_group_t *group, void (*post)(void *context),
                                    gdncp_stream_t stream)
{
    gdncp_status_t status = group->backend->call_host(stream, post, group);

    if (status == GDNCP_OK) {
        status = group->backend->wait_flag(stream, group->is_done);
    }
    return status == GDNCP_OK ? copy_messages(group, false, stream) : status;
}

gdncp_status_t gdncp_courier_group_start(gdncp_courier_group_t *group, gdncp_stream_t stream)
{
    const gdncp_status_t status = copy_messages(group, true, stream);

    return status == GDNCP_OK ? group->backend->call_host(stream, post_start, group) : status;
}

gdncp_status_t gdncp_courier_group_wait(gdncp_courier_group_t *group, gdncp_stream_t stream)
{
    return post_and_wait(group, post_wait, stream);
}

gdncp_status_t gdncp_courier_group_run(gdncp_courier_group_t *group, gdncp_stream_t stream)
{
    const gdncp_status_t status = copy_messages(group, true, stream);

    return status == GDNCP_OK ? post_and_wait(group, post_run, stream) : status;
}

gdncp_status_t gdncp_courier_group_check(const gdncp_courier_group_t *group)
{
    const gdncp_status_t failure = atomic_load_explicit(&group->failure, memory_order_acquire);

    return failure == GDNCP_OK ? GDNCP_OK : gdncp_fail(failure, "%s", group->sentence);
}
