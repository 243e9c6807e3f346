#define _GNU_SOURCE /* memfd_create() */
#include "shared_rings.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"
#include "gdncp/memory.h"

/* Of all rings out of a rank. Larger ones leave the caches; smaller ones make ranks that take turns
 * on a core do so more often. */
#define MOST_BYTES (INT64_C(4) << 20)
#define LEAST_BYTES (INT64_C(1) << 16) /* of one ring */
#define NAME_BYTES 64

/* What a rank tells all others of its segment, before it is filled. */
typedef struct card {
    uint64_t nonce[2];
    uint64_t network; /* namespace: hosts that are made of these are hosts of their own */
    int32_t process;
    int32_t file; /* < 0: it shares nothing */
} card_t;

static uint64_t network_namespace(void)
{
    struct stat name_space;

    return stat("/proc/self/ns/net", &name_space) == 0 ? (uint64_t)name_space.st_ino : 0;
}

static void write_name(const card_t *card, char *name)
{
    snprintf(name, NAME_BYTES, "gdncp-%016" PRIx64 "%016" PRIx64, card->nonce[0], card->nonce[1]);
}

/* The file is still empty. */
static card_t open_own(bool wanted)
{
    card_t card = {.network = network_namespace(), .process = (int32_t)getpid(), .file = -1};
    char name[NAME_BYTES];

    if (wanted && getrandom(card.nonce, sizeof card.nonce, GRND_NONBLOCK) == sizeof card.nonce) {
        write_name(&card, name);
        card.file = memfd_create(name, MFD_CLOEXEC);
    }
    return card;
}

/* A descriptor of another rank's file, or -1. The link names what it leads to, so that nothing is
 * opened that is not the file of that card: on another machine or in another container the same
 * numbers belong to somebody else. */
static int open_theirs(const card_t *own, const card_t *card)
{
    char path[NAME_BYTES];
    char expected[2 * NAME_BYTES];
    char link[2 * NAME_BYTES];
    char name[NAME_BYTES];

    if (own->file < 0 || card->file < 0 || card->network != own->network) {
        return -1;
    }
    write_name(card, name);
    snprintf(path, sizeof path, "/proc/%" PRId32 "/fd/%" PRId32, card->process, card->file);
    snprintf(expected, sizeof expected, "/memfd:%s (deleted)", name);
    const ssize_t length = readlink(path, link, sizeof link);

    if (length != (ssize_t)strlen(expected) || memcmp(link, expected, (size_t)length) != 0) {
        return -1;
    }
    return open(path, O_RDWR | O_CLOEXEC);
}

static int64_t round_to_lines(int64_t bytes)
{
    return (bytes + GDNCP_LINE_BYTES - 1) / GDNCP_LINE_BYTES * GDNCP_LINE_BYTES;
}

static int64_t head_bytes(int size)
{
    return round_to_lines((int64_t)sizeof(gdncp_segment_head_t) + size * (int64_t)sizeof(int32_t));
}

static gdncp_ring_t *find_ring(gdncp_segment_head_t *segment, int size, int rank)
{
    const int64_t stride = (int64_t)sizeof(gdncp_ring_t) + segment->capacity;

    return (gdncp_ring_t *)((char *)segment + head_bytes(size) + segment->ring_of[rank] * stride);
}

static void *map(int file, int64_t bytes)
{
    void *const memory = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);

    return memory == MAP_FAILED ? NULL : memory;
}

/* files [size]: of those who may get a ring. Memory is reserved here: later the lack of it would
 * be a signal. */
static void fill_own(gdncp_shared_rings_t *rings, const card_t *own, const int *files)
{
    int64_t num_rings = 0;

    for (int rank = 0; rank < rings->size; rank++) {
        num_rings += files[rank] >= 0;
    }
    if (num_rings == 0) {
        return;
    }
    const int64_t share = MOST_BYTES / num_rings / GDNCP_LINE_BYTES * GDNCP_LINE_BYTES;
    const int64_t capacity = share > LEAST_BYTES ? share : LEAST_BYTES;
    const int64_t bytes =
        head_bytes(rings->size) + num_rings * ((int64_t)sizeof(gdncp_ring_t) + capacity);

    if (posix_fallocate(own->file, 0, bytes) != 0) {
        return;
    }
    rings->segment = map(own->file, bytes);
    if (rings->segment == NULL) {
        return;
    }
    int32_t next = 0;

    rings->segment_bytes = bytes;
    rings->segment->capacity = capacity;
    memcpy(rings->segment->nonce, own->nonce, sizeof own->nonce);
    for (int rank = 0; rank < rings->size; rank++) {
        rings->segment->ring_of[rank] = files[rank] >= 0 ? next++ : -1;
    }
}

static void unmap_peer(gdncp_ring_peer_t *peer)
{
    if (peer->segment != NULL) {
        munmap(peer->segment, (size_t)peer->segment_bytes);
    }
    *peer = (gdncp_ring_peer_t){0};
}

/* bytes: of its segment; 0: it has none. */
static void map_peer(gdncp_shared_rings_t *rings, int own_rank, int rank, int file,
                     const card_t *card, int64_t bytes)
{
    gdncp_ring_peer_t *const peer = &rings->peers[rank];
    struct stat about;

    if (rings->segment == NULL || file < 0 || bytes == 0 || fstat(file, &about) != 0 ||
        about.st_size != bytes) {
        return;
    }
    peer->segment = map(file, bytes);
    peer->segment_bytes = bytes;
    if (peer->segment == NULL || peer->segment->ring_of[own_rank] < 0 ||
        memcmp(peer->segment->nonce, card->nonce, sizeof card->nonce) != 0) {
        unmap_peer(peer);
        return;
    }
    peer->out = find_ring(rings->segment, rings->size, rank);
    peer->out_capacity = rings->segment->capacity;
    peer->in = find_ring(peer->segment, rings->size, own_rank);
    peer->in_capacity = peer->segment->capacity;
}

/* What is needed while rings are opened. */
typedef struct opening {
    card_t own;
    card_t *cards;       /* [size] */
    int64_t *bytes;      /* [size] of the ranks' segments */
    int *files;          /* [size] descriptors of the others' files, or -1 */
    unsigned char *sets; /* [size + 1, set_bytes()] which ranks each has mapped; then the own set */
} opening_t;

static size_t set_bytes(int size)
{
    return ((size_t)size + CHAR_BIT - 1) / CHAR_BIT;
}

static void free_opening(opening_t *opening)
{
    gdncp_memory_free(opening->cards);
    gdncp_memory_free(opening->bytes);
    gdncp_memory_free(opening->files);
    gdncp_memory_free(opening->sets);
}

static gdncp_status_t allocate(gdncp_shared_rings_t *rings, opening_t *opening)
{
    const size_t size = (size_t)rings->size;

    *opening = (opening_t){
        .cards = gdncp_memory_alloc(size * sizeof *opening->cards),
        .bytes = gdncp_memory_alloc(size * sizeof *opening->bytes),
        .files = gdncp_memory_alloc(size * sizeof *opening->files),
        .sets = gdncp_memory_alloc((size + 1) * set_bytes(rings->size)),
    };
    rings->peers = gdncp_memory_alloc(size * sizeof *rings->peers);
    if (opening->cards == NULL || opening->bytes == NULL || opening->files == NULL ||
        opening->sets == NULL || rings->peers == NULL) {
        gdncp_memory_free(rings->peers);
        rings->peers = NULL;
        return gdncp_fail_memory("rings between ranks");
    }
    for (size_t rank = 0; rank < size; rank++) {
        opening->files[rank] = -1;
        rings->peers[rank] = (gdncp_ring_peer_t){0};
    }
    return GDNCP_OK;
}

/* Keep the pairs of which both sides have mapped the other. */
static gdncp_status_t agree_on_pairs(gdncp_comm_t *comm, gdncp_shared_rings_t *rings,
                                     unsigned char *sets)
{
    const size_t stride = set_bytes(rings->size);
    const int bit = gdncp_comm_rank(comm);
    unsigned char *const own = sets + (size_t)rings->size * stride;

    memset(own, 0, stride);
    for (int rank = 0; rank < rings->size; rank++) {
        if (rings->peers[rank].segment != NULL) {
            own[rank / CHAR_BIT] |= (unsigned char)(1 << rank % CHAR_BIT);
        }
    }
    const gdncp_status_t status = gdncp_comm_all_gather(comm, own, sets, stride);

    for (int rank = 0; rank < rings->size && status == GDNCP_OK; rank++) {
        const unsigned char *const theirs = sets + (size_t)rank * stride;

        if ((theirs[bit / CHAR_BIT] >> bit % CHAR_BIT & 1) == 0) {
            unmap_peer(&rings->peers[rank]);
        }
    }
    return status;
}

static gdncp_status_t open_in_steps(gdncp_comm_t *comm, gdncp_shared_rings_t *rings,
                                    opening_t *opening)
{
    const int own_rank = gdncp_comm_rank(comm);
    gdncp_status_t status =
        gdncp_comm_all_gather(comm, &opening->own, opening->cards, sizeof opening->own);

    if (status != GDNCP_OK) {
        return status;
    }
    for (int rank = 0; rank < rings->size; rank++) {
        opening->files[rank] =
            rank != own_rank ? open_theirs(&opening->own, &opening->cards[rank]) : -1;
    }
    fill_own(rings, &opening->own, opening->files);
    status = gdncp_comm_all_gather(comm, &rings->segment_bytes, opening->bytes,
                                   sizeof rings->segment_bytes);
    if (status != GDNCP_OK) {
        return status;
    }
    for (int rank = 0; rank < rings->size; rank++) {
        map_peer(rings, own_rank, rank, opening->files[rank], &opening->cards[rank],
                 opening->bytes[rank]);
    }
    return agree_on_pairs(comm, rings, opening->sets);
}

gdncp_status_t gdncp_shared_rings_open(gdncp_comm_t *comm, bool wanted, gdncp_shared_rings_t *rings)
{
    opening_t opening;

    *rings = (gdncp_shared_rings_t){.size = gdncp_comm_size(comm)};
    gdncp_status_t status = gdncp_comm_agree(comm, allocate(rings, &opening));

    if (status != GDNCP_OK) {
        goto free_opening;
    }
    opening.own = open_own(wanted);
    status = open_in_steps(comm, rings, &opening);
    for (int rank = 0; rank < rings->size; rank++) {
        if (opening.files[rank] >= 0) {
            close(opening.files[rank]);
        }
    }
    if (opening.own.file >= 0) {
        close(opening.own.file);
    }

free_opening:
    free_opening(&opening);
    return status;
}

void gdncp_shared_rings_close(gdncp_shared_rings_t *rings)
{
    if (rings->segment != NULL) {
        munmap(rings->segment, (size_t)rings->segment_bytes);
    }
    for (int rank = 0; rings->peers != NULL && rank < rings->size; rank++) {
        unmap_peer(&rings->peers[rank]);
    }
    gdncp_memory_free(rings->peers);
    *rings = (gdncp_shared_rings_t){0};
}
