/*
 * A communicator from an all-gather that the caller has, here MPI's.
 *
 * gdncp needs it once, to exchange addresses: data then goes over gdncp's own transport. The same
 * five lines wrap torch.distributed, Gloo or a file system.
 *
 *     mpicc mpi_all_gather.c $(pkg-config --cflags --libs gdncp) -o mpi_all_gather
 *     mpirun -n 4 ./mpi_all_gather
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include <gdncp/gdncp.h>
#include <mpi.h>

static int all_gather(void *context, const void *in, void *out, size_t bytes)
{
    if (bytes > INT_MAX) {
        return 1;
    }
    return MPI_Allgather(in, (int)bytes, MPI_BYTE, out, (int)bytes, MPI_BYTE, *(MPI_Comm *)context);
}

/* Every rank gives a number and gets all of them, which tell whether MPI's ranks are gdncp's. */
static gdncp_status_t gather_numbers(gdncp_comm_t *comm, int64_t *all)
{
    const int rank = gdncp_comm_rank(comm);
    const int size = gdncp_comm_size(comm);
    const int64_t number = 100 + rank;
    gdncp_plan_t *plan = NULL;
    gdncp_exchange_t *exchange = NULL;

    for (int i = 0; i < size; i++) {
        all[i] = 1; /* first the lengths of all shards */
    }
    gdncp_plan_all_gather_concat(size, rank, GDNCP_I64, 1, all, 1, &plan);
    /* A rank without a plan gives NULL: then all get an error, with its reason, and none waits. */
    gdncp_status_t status = gdncp_exchange_create(comm, plan, &exchange);

    if (status == GDNCP_OK) {
        status = gdncp_exchange_run(exchange, &number, all, NULL);
    }
    for (int i = 0; i < size && status == GDNCP_OK; i++) {
        status = all[i] == 100 + i ? GDNCP_OK : GDNCP_ERR_INTERNAL;
    }
    gdncp_exchange_destroy(exchange);
    gdncp_plan_destroy(plan);
    return status;
}

int main(int argc, char **argv)
{
    MPI_Comm ranks = MPI_COMM_WORLD;
    gdncp_bootstrap_t bootstrap = {.all_gather = all_gather, .context = &ranks};
    gdncp_comm_t *comm = NULL;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(ranks, &bootstrap.rank);
    MPI_Comm_size(ranks, &bootstrap.size);

    gdncp_status_t status = gdncp_comm_create(&bootstrap, NULL, &comm);

    if (status == GDNCP_OK) {
        int64_t *const all = malloc((size_t)bootstrap.size * sizeof *all);

        status = all != NULL ? gather_numbers(comm, all) : GDNCP_ERR_OUT_OF_MEMORY;
        free(all);
    }
    if (status != GDNCP_OK) {
        fprintf(stderr, "rank %d: %s\n", bootstrap.rank, gdncp_last_error());
    } else if (bootstrap.rank == 0) {
        printf("%d ranks of MPI are as many of gdncp\n", bootstrap.size);
    }
    gdncp_comm_destroy(comm);
    MPI_Finalize();
    return status == GDNCP_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
