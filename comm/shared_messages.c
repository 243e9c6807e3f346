#include "shared_messages.h"

#include <string.h>
#include <unistd.h>

#include "comm_internal.h"
#include "environment.h"
#include "error.h"
#include "gdncp/memory.h"
#include "shared_rings.h"
#include "row_copy.h"

/* A ring holds so many pieces, so that one side writes while the other reads. */
enum { PIECES = 8 };

/* What precedes a message in its ring; it takes a line. */
typedef struct frame {
    int64_t bytes; /* RESTART: no message, the next frame is at the ring's begin */
} frame_t;

enum { RESTART = -1 };

typedef struct queue {
    gdncp_shared_message_t *first;
    gdncp_shared_message_t *last;
} queue_t;

/* Another rank that has rings. */
typedef struct neighbour {
    int rank;
    queue_t sends;
    queue_t recvs;
} neighbour_t;

struct gdncp_shared {
    gdncp_shared_rings_t rings;
    neighbour_t *neighbours; /* [num_neighbours] */
    int num_neighbours;
    queue_t copies;
    gdncp_shared_retired_t *retired;
    int64_t num_queued;
    bool is_crowded;
    int64_t num_moves;
    int64_t piece_bytes;
};

bool gdncp_shared_reaches(const gdncp_shared_t *shared, int rank)
{
    return shared != NULL && shared->rings.peers[rank].segment != NULL;
}

bool gdncp_shared_is_crowded(const gdncp_shared_t *shared)
{
    return shared != NULL && shared->is_crowded;
}

static void list_neighbours(gdncp_shared_t *shared)
{
    for (int rank = 0; rank < shared->rings.size; rank++) {
        if (gdncp_shared_reaches(shared, rank)) {
            shared->neighbours[shared->num_neighbours++] = (neighbour_t){.rank = rank};
            shared->piece_bytes = shared->rings.peers[rank].out_capacity / PIECES /
                                  GDNCP_LINE_BYTES * GDNCP_LINE_BYTES;
        }
    }
}

static gdncp_status_t make_shared(const gdncp_comm_t *comm, gdncp_shared_t **shared_p)
{
    gdncp_shared_t *const shared = gdncp_memory_alloc(sizeof *shared);

    if (shared == NULL) {
        return gdncp_fail_memory("what ranks of a machine share");
    }
    *shared = (gdncp_shared_t){0};
    shared->neighbours = gdncp_memory_alloc((size_t)comm->size * sizeof *shared->neighbours);
    if (shared->neighbours == NULL) {
        gdncp_memory_free(shared);
        return gdncp_fail_memory("what ranks of a machine share");
    }
    *shared_p = shared;
    return GDNCP_OK;
}

gdncp_status_t gdncp_shared_create(gdncp_comm_t *comm, gdncp_shared_t **shared_p)
{
    gdncp_shared_t *shared = NULL;
    int64_t wanted = 0;

    if (gdncp_comm_transport(comm) != GDNCP_TRANSPORT_UCX) {
        return GDNCP_OK;
    }
    gdncp_status_t status =
        gdncp_environment_integer(GDNCP_VARIABLE_SHARED_MEMORY, 0, 1, 1, &wanted);

    if (status == GDNCP_OK) {
        status = make_shared(comm, &shared);
    }
    status = gdncp_comm_agree(comm, status);
    if (status == GDNCP_OK) {
        status = gdncp_shared_rings_open(comm, wanted == 1, &shared->rings);
    }
    if (status == GDNCP_OK) {
        list_neighbours(shared);
        shared->is_crowded = shared->num_neighbours + 1 > sysconf(_SC_NPROCESSORS_ONLN);
    }
    if (status != GDNCP_OK || shared->num_neighbours == 0) {
        gdncp_shared_destroy(shared);
        return status;
    }
    *shared_p = shared;
    return GDNCP_OK;
}

void gdncp_shared_destroy(gdncp_shared_t *shared)
{
    if (shared != NULL) {
        while (shared->retired != NULL) {
            gdncp_shared_retired_t *const retired = shared->retired;

            shared->retired = retired->next;
            gdncp_memory_free(retired);
        }
        gdncp_shared_rings_close(&shared->rings);
        gdncp_memory_free(shared->neighbours);
        gdncp_memory_free(shared);
    }
}

static void push(gdncp_shared_t *shared, queue_t *queue, gdncp_shared_message_t *message)
{
    message->next = NULL;
    message->rest = message->bytes;
    message->sender_bytes = 0;
    message->begun = false;
    message->done = false;
    if (queue->first == NULL) {
        queue->first = message;
    } else {
        queue->last->next = message;
    }
    queue->last = message;
    shared->num_queued++;
}

static void pop(gdncp_shared_t *shared, queue_t *queue)
{
    gdncp_shared_message_t *const message = queue->first;

    queue->first = message->next;
    shared->num_queued--;
    message->done = true;
}

static neighbour_t *find_neighbour(gdncp_shared_t *shared, int rank)
{
    neighbour_t *neighbour = shared->neighbours;

    while (neighbour->rank != rank) {
        neighbour++;
    }
    return neighbour;
}

void gdncp_shared_send(gdncp_shared_t *shared, int rank, gdncp_shared_message_t *message)
{
    push(shared, &find_neighbour(shared, rank)->sends, message);
}

void gdncp_shared_recv(gdncp_shared_t *shared, int rank, gdncp_shared_message_t *message)
{
    push(shared, &find_neighbour(shared, rank)->recvs, message);
}

void gdncp_shared_copy(gdncp_shared_t *shared, gdncp_shared_message_t *message)
{
    push(shared, &shared->copies, message);
}

void gdncp_shared_retire(gdncp_shared_t *shared, gdncp_shared_retired_t *retired)
{
    retired->next = shared->retired;
    shared->retired = retired;
}

int64_t gdncp_shared_num_moves(const gdncp_shared_t *shared)
{
    return shared != NULL ? shared->num_moves : 0;
}

static int64_t min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t round_up(int64_t bytes)
{
    return (bytes + GDNCP_LINE_BYTES - 1) / GDNCP_LINE_BYTES * GDNCP_LINE_BYTES;
}

/* The first byte after those that are left of this turn round the ring. */
static int64_t next_turn(int64_t position, int64_t capacity)
{
    return (position / capacity + 1) * capacity;
}

static void write_frame(const gdncp_ring_peer_t *peer, int64_t written, int64_t bytes)
{
    const frame_t frame = {.bytes = bytes};

    memcpy(peer->out->bytes + written % peer->out_capacity, &frame, sizeof frame);
}

static frame_t read_frame(const gdncp_ring_peer_t *peer, int64_t read)
{
    frame_t frame;

    memcpy(&frame, peer->in->bytes + read % peer->in_capacity, sizeof frame);
    return frame;
}

/* Write the next piece of the first message, which begins with its frame and ends with what is
 * left of its line; false where there is no room. */
static bool send_piece(gdncp_shared_t *shared, neighbour_t *neighbour)
{
    const gdncp_ring_peer_t *const peer = &shared->rings.peers[neighbour->rank];
    gdncp_shared_message_t *const message = neighbour->sends.first;
    const int64_t begin = atomic_load_explicit(&peer->out->written, memory_order_relaxed);
    const int64_t read = atomic_load_explicit(&peer->out->read, memory_order_acquire);
    int64_t written = begin;

    /* Small messages use the same small part of an empty ring again, which is in the cache. */
    if (!message->begun && written == read &&
        written % peer->out_capacity >= 2 * shared->piece_bytes) {
        write_frame(peer, written, RESTART);
        written = next_turn(written, peer->out_capacity);
    }
    if (!message->begun && written - read < peer->out_capacity) {
        write_frame(peer, written, message->bytes);
        message->begun = true;
        written += GDNCP_LINE_BYTES;
    }
    int64_t room = peer->out_capacity - (written - read);

    /* At most two moves: up to the end of the ring, and from its begin on. */
    room = min_i64(min_i64(room, shared->piece_bytes), message->rest);
    while (room > 0) {
        const int64_t place = written % peer->out_capacity;
        const int64_t bytes = min_i64(room, peer->out_capacity - place);

        if (!message->abandoned) {
            gdncp_message_pack(&message->cursor, message->in, peer->out->bytes + place,
                               (size_t)bytes);
        }
        written += bytes;
        room -= bytes;
        message->rest -= bytes;
    }
    if (written == begin) {
        return false;
    }
    atomic_store_explicit(&peer->out->written, round_up(written), memory_order_release);
    if (message->rest == 0) {
        pop(shared, &neighbour->sends);
    }
    return true;
}

/* Read the next piece for the first message; false where none has come. A message of another
 * length is read to its end, so that those after it are found. */
static bool recv_piece(gdncp_shared_t *shared, neighbour_t *neighbour)
{
    const gdncp_ring_peer_t *const peer = &shared->rings.peers[neighbour->rank];
    gdncp_shared_message_t *const message = neighbour->recvs.first;
    const int64_t written = atomic_load_explicit(&peer->in->written, memory_order_acquire);
    const int64_t begin = atomic_load_explicit(&peer->in->read, memory_order_relaxed);
    int64_t read = begin;

    if (read == written) {
        return false;
    }
    if (!message->begun) {
        frame_t frame = read_frame(peer, read);

        if (frame.bytes == RESTART) {
            read = next_turn(read, peer->in_capacity);
            frame = read_frame(peer, read); /* is written together with the one before */
        }
        message->begun = true;
        message->sender_bytes = frame.bytes;
        message->rest = frame.bytes;
        message->abandoned = message->abandoned || frame.bytes != message->bytes;
        read += GDNCP_LINE_BYTES;
    }
    int64_t there = min_i64(min_i64(written - read, shared->piece_bytes), message->rest);

    while (there > 0) {
        const int64_t place = read % peer->in_capacity;
        const int64_t bytes = min_i64(there, peer->in_capacity - place);

        if (!message->abandoned) {
            gdncp_message_unpack(&message->cursor, peer->in->bytes + place, (size_t)bytes,
                                 &message->target);
        }
        read += bytes;
        there -= bytes;
        message->rest -= bytes;
    }
    if (message->target.streams) {
        gdncp_copy_fence();
    }
    atomic_store_explicit(&peer->in->read, round_up(read), memory_order_release);
    if (message->rest == 0) {
        pop(shared, &neighbour->recvs);
    }
    return true;
}

static void copy_piece(gdncp_shared_t *shared)
{
    gdncp_shared_message_t *const message = shared->copies.first;
    const bool goes_on =
        !message->abandoned &&
        gdncp_local_copy_next(&message->local, (size_t)shared->piece_bytes, message->in,
                              message->target.out, message->target.streams);

    if (message->target.streams) {
        gdncp_copy_fence();
    }
    if (!goes_on) {
        pop(shared, &shared->copies);
    }
}

/* Pieces that are sent, received and copied take turns, which keeps the memory busy: each alone
 * leaves it idle in its own way. */
bool gdncp_shared_progress(gdncp_shared_t *shared)
{
    bool moved = false;

    if (shared == NULL || shared->num_queued == 0) {
        return false;
    }
    for (int n = 0; n < shared->num_neighbours; n++) {
        neighbour_t *const neighbour = &shared->neighbours[n];

        if (neighbour->sends.first != NULL) {
            moved = send_piece(shared, neighbour) || moved;
        }
        if (neighbour->recvs.first != NULL) {
            moved = recv_piece(shared, neighbour) || moved;
        }
    }
    if (shared->copies.first != NULL) {
        copy_piece(shared);
        moved = true;
    }
    shared->num_moves += moved;
    return moved;
}
