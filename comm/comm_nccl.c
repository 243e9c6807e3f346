/* Communicators whose device buffers are moved by NCCL. */
#include "comm_internal.h"
#include "error.h"
#include "gdncp/memory.h"
#include "gdncp/nccl.h"
#include "log.h"

/* What each rank tells the others: rank 0's id is NCCL's. */
typedef struct introduction {
    gdncp_nccl_id_t id;
    gdncp_process_t process;
} introduction_t;

static gdncp_status_t check_comm(const gdncp_comm_t *comm)
{
    if (comm->nccl != NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "comm: expected one that does not use NCCL yet, got one that does");
    }
    if (comm->num_stream_groups > 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "comm: expected one without exchanges on a device, got one with them");
    }
    return GDNCP_OK;
}

/* What can go wrong before anything is said to NCCL. */
static gdncp_status_t prepare(const gdncp_comm_t *comm, bool needs_id, introduction_t *mine,
                              gdncp_nccl_t **nccl_p)
{
    gdncp_nccl_options_t options = {
        .rank = comm->rank, .size = comm->size, .timeout_ms = comm->timeout_ms};
    gdncp_status_t status = check_comm(comm);

    if (status == GDNCP_OK) {
        status = gdncp_nccl_open(&options.api);
    }
    if (status == GDNCP_OK) {
        status = gdncp_nccl_create(&options, nccl_p);
    }
    if (status == GDNCP_OK && needs_id && comm->rank == 0) {
        status = gdncp_nccl_make_id(*nccl_p, &mine->id);
    }
    mine->process = gdncp_own_process();
    return status;
}

static gdncp_status_t introduce(gdncp_comm_t *comm, const introduction_t *mine, introduction_t *all,
                                gdncp_process_t *processes)
{
    if (all == NULL || processes == NULL) {
        return gdncp_fail_memory("what ranks tell each other of NCCL");
    }
    const gdncp_status_t status = gdncp_comm_all_gather(comm, mine, all, sizeof *mine);

    for (int rank = 0; rank < comm->size && status == GDNCP_OK; rank++) {
        processes[rank] = all[rank].process;
    }
    return status;
}

static gdncp_status_t add_nccl(gdncp_comm_t *comm, gdncp_nccl_comm_t adopted)
{
    char name[64];
    gdncp_nccl_t *nccl = NULL;
    introduction_t mine = {.id = {{0}}};
    introduction_t *const all = gdncp_memory_alloc((size_t)comm->size * sizeof *all);
    gdncp_process_t *const processes = gdncp_memory_alloc((size_t)comm->size * sizeof *processes);
    gdncp_status_t status = gdncp_comm_agree(comm, prepare(comm, adopted == NULL, &mine, &nccl));

    if (status == GDNCP_OK) {
        status = introduce(comm, &mine, all, processes);
    }
    if (status == GDNCP_OK) {
        status = gdncp_comm_agree(comm, adopted == NULL ? gdncp_nccl_join(nccl, &all[0].id)
                                                        : gdncp_nccl_adopt(nccl, adopted));
    }
    if (status == GDNCP_OK) {
        status = gdncp_comm_agree(comm, gdncp_nccl_watch(nccl, processes));
    }
    gdncp_memory_free(processes);
    gdncp_memory_free(all);
    if (status != GDNCP_OK) {
        gdncp_nccl_destroy(nccl);
        return status;
    }
    comm->nccl = nccl;
    gdncp_nccl_describe(nccl, name, sizeof name);
    gdncp_log(GDNCP_LOG_INFO, comm->rank, "%sall else over %s", name,
              gdncp_transport_name(comm->transport->ops->kind));
    return GDNCP_OK;
}

gdncp_status_t gdncp_comm_use_nccl(gdncp_comm_t *comm)
{
    return comm != NULL
               ? add_nccl(comm, NULL)
               : gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "comm: expected a communicator, got NULL");
}

static gdncp_status_t create(const gdncp_bootstrap_t *bootstrap,
                             const gdncp_comm_options_t *options, gdncp_nccl_comm_t adopted,
                             gdncp_comm_t **comm_p)
{
    gdncp_comm_t *comm = NULL;
    gdncp_status_t status = gdncp_comm_create(bootstrap, options, &comm);

    if (status != GDNCP_OK) {
        return status;
    }
    status = add_nccl(comm, adopted);
    if (status != GDNCP_OK) {
        gdncp_comm_destroy(comm);
        return status;
    }
    *comm_p = comm;
    return GDNCP_OK;
}

gdncp_status_t gdncp_comm_create_nccl(const gdncp_bootstrap_t *bootstrap,
                                      const gdncp_comm_options_t *options, gdncp_comm_t **comm_p)
{
    return create(bootstrap, options, NULL, comm_p);
}

gdncp_status_t gdncp_comm_adopt_nccl(void *nccl_comm, const gdncp_bootstrap_t *bootstrap,
                                     const gdncp_comm_options_t *options, gdncp_comm_t **comm_p)
{
    return nccl_comm != NULL ? create(bootstrap, options, nccl_comm, comm_p)
                             : gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                                          "nccl_comm: expected an ncclComm_t, got NULL");
}
