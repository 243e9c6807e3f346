/*
 * One rank of a launcher's job: torchrun.sh, mpirun.sh and slurm.sh start it.
 *
 * Ranks find each other through what the launcher put into the environment. Each starts with the
 * tokens that it would read from a file, one stretch of the sequence, and ends with those that
 * attention wants it to have (DualChunkSwap).
 */
#include <stdio.h>
#include <stdlib.h>

#include <gdncp/gdncp.h>

enum { tokens_per_rank = 8, channels = 4 };

/* A token is its position, on all channels. */
static void fill(const int64_t *positions, float *rows)
{
    for (int i = 0; i < tokens_per_rank * channels; i++) {
        rows[i] = (float)positions[i / channels];
    }
}

static gdncp_status_t swap_chunks(gdncp_comm_t *comm, const gdncp_layout_t *read,
                                  const gdncp_layout_t *swapped)
{
    const int rank = gdncp_comm_rank(comm);
    int64_t positions[tokens_per_rank] = {0};
    float in[tokens_per_rank * channels];
    float out[tokens_per_rank * channels];
    float expected[tokens_per_rank * channels];
    gdncp_plan_t *plan = NULL;
    gdncp_exchange_t *exchange = NULL;

    gdncp_plan_relayout(read, swapped, rank, GDNCP_F32, channels, &plan);
    /* A rank without a plan gives NULL: then all get an error, with its reason, and none waits. */
    gdncp_status_t status = gdncp_exchange_create(comm, plan, &exchange);

    if (status != GDNCP_OK) {
        goto destroy_plan;
    }
    status = gdncp_layout_rank_positions(read, rank, positions);
    fill(positions, in);
    if (status == GDNCP_OK) {
        status = gdncp_exchange_run(exchange, in, out, NULL);
    }
    if (status == GDNCP_OK) {
        status = gdncp_layout_rank_positions(swapped, rank, positions);
    }
    fill(positions, expected);
    for (int i = 0; i < tokens_per_rank * channels && status == GDNCP_OK; i++) {
        status = out[i] == expected[i] ? GDNCP_OK : GDNCP_ERR_INTERNAL;
    }
    gdncp_exchange_destroy(exchange);
destroy_plan:
    gdncp_plan_destroy(plan);
    return status;
}

int main(void)
{
    gdncp_comm_t *comm = NULL;
    gdncp_layout_t *read = NULL;
    gdncp_layout_t *swapped = NULL;

    if (gdncp_comm_create_from_environment(NULL, &comm) != GDNCP_OK) {
        fprintf(stderr, "%s\n", gdncp_last_error());
        return EXIT_FAILURE;
    }
    const int rank = gdncp_comm_rank(comm);
    const int size = gdncp_comm_size(comm);
    const int64_t cu_seqlens[] = {0, (int64_t)size * tokens_per_rank};

    gdncp_status_t status =
        gdncp_layout_create(GDNCP_LAYOUT_CONTIGUOUS, cu_seqlens, 1, size, &read);

    if (status == GDNCP_OK) {
        status = gdncp_layout_create(GDNCP_LAYOUT_DUAL_CHUNK_SWAP, cu_seqlens, 1, size, &swapped);
    }
    if (status == GDNCP_OK) {
        status = swap_chunks(comm, read, swapped);
    }
    status = gdncp_comm_agree(comm, status);
    if (status != GDNCP_OK) {
        fprintf(stderr, "rank %d: %s\n", rank, gdncp_last_error());
    } else if (rank == 0) {
        printf("%d ranks, %d tokens each: read in order, swapped for attention\n", size,
               (int)tokens_per_rank);
    }
    gdncp_layout_destroy(read);
    gdncp_layout_destroy(swapped);
    gdncp_comm_destroy(comm);
    return status == GDNCP_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
