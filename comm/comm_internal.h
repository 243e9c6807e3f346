/* A communicator as the rest of comm/ sees it. */
#ifndef GDNCP_COMM_INTERNAL_H
#define GDNCP_COMM_INTERNAL_H

#include "courier.h"
#include "flight_recorder.h"
#include "gdncp/comm.h"
#include "nccl_comm.h"
#include "shared_messages.h"
#include "transport.h"

struct gdncp_comm {
    gdncp_transport_t *transport; /* of the host's memory, and of control calls */
    gdncp_nccl_t *nccl;           /* of devices' memory; NULL: the transport moves that, too */
    int rank;
    int size;
    int64_t timeout_ms;
    gdncp_comm_counters_t counters;
    uint64_t num_control_calls;     /* equal on all ranks, or the next control call is a mismatch */
    gdncp_status_t control_failure; /* of a control call that did not end on all ranks */
    bool is_shrunk;
    gdncp_flight_recorder_t *recorder;
    gdncp_shared_t *shared;   /* with ranks of this machine; NULL: none */
    gdncp_courier_t *courier; /* for groups of streams, while there are any */
    int64_t num_stream_groups;
    bool said_way;                 /* that device buffers take: staged, or where they lie */
    gdncp_status_t stream_failure; /* of the first group that failed there; the courier's own */
    char stream_sentence[512];
};

/* The time-out that the options ask for, else GDNCP_TIMEOUT, else the default. */
gdncp_status_t gdncp_comm_timeout(const gdncp_comm_options_t *options, int64_t *timeout_ms_p);

/* A communicator over a transport, which it owns; on an error the transport is destroyed. number:
 * of gdncp_flight_next_number(). begin_ns: when its making began. */
gdncp_status_t gdncp_comm_wrap(gdncp_transport_t *transport, int64_t timeout_ms, int64_t number,
                               int64_t begin_ns, gdncp_comm_t **comm_p);

/* Give a new communicator its rings. Collective over it; on an error it is destroyed. */
gdncp_status_t gdncp_comm_share(gdncp_comm_t *comm);

/* All-gather of in [bytes] to out [count, bytes] between members [count] of the ranks, of which
 * this rank is number own. Unlike gdncp_comm_all_gather() it does not check what the others do. */
gdncp_status_t gdncp_comm_gather_among(gdncp_comm_t *comm, const int *members, int count, int own,
                                       const void *in, void *out, size_t bytes);

/* Groups of messages that count what they move. Contracts as in transport.h; buffers that a
 * rank sends to itself are moved but not counted. */
gdncp_status_t gdncp_comm_group_create(gdncp_comm_t *comm, int64_t max_messages,
                                       gdncp_group_t **group_p);
gdncp_status_t gdncp_comm_group_create_on(gdncp_comm_t *comm, gdncp_device_kind_t memory,
                                          int64_t max_messages, gdncp_group_t **group_p);
gdncp_status_t gdncp_comm_group_begin(gdncp_comm_t *comm, gdncp_group_t *group);
gdncp_status_t gdncp_comm_send(gdncp_comm_t *comm, gdncp_group_t *group, const void *buffer,
                               size_t bytes, int peer);
gdncp_status_t gdncp_comm_recv(gdncp_comm_t *comm, gdncp_group_t *group, void *buffer, size_t bytes,
                               int peer);
gdncp_status_t gdncp_comm_group_end(gdncp_comm_t *comm, gdncp_group_t *group,
                                    gdncp_stream_t stream);
gdncp_status_t gdncp_comm_group_test(gdncp_comm_t *comm, gdncp_group_t *group, bool *done_p);
/* The same for who has made progress with the rings of shared memory already. */
gdncp_status_t gdncp_comm_group_look(gdncp_comm_t *comm, gdncp_group_t *group, bool *done_p);
/* Wait with the communicator's time-out: spins for some polls, then yields the core. On a
 * time-out the message names the rank, how long it waited and for whom; the group stays in flight,
 * to be waited for again or destroyed. */
gdncp_status_t gdncp_comm_group_wait(gdncp_comm_t *comm, gdncp_group_t *group);
void gdncp_comm_group_destroy(gdncp_comm_t *comm, gdncp_group_t *group);

/* What gdncp_comm_wait() waits for; contracts as those of a transport's groups. */
typedef struct gdncp_comm_waiter {
    gdncp_status_t (*test)(void *context, bool *done_p);
    bool (*waits_for)(const void *context, int peer);
    void *context;
} gdncp_comm_waiter_t;

/* Wait as gdncp_comm_group_wait() does. */
gdncp_status_t gdncp_comm_wait(gdncp_comm_t *comm, const gdncp_comm_waiter_t *waiter);

#endif
