/*
 * A first program: two ranks, as threads of one process, exchange one pack of tokens.
 *
 * Each rank starts with its tokens of a dual_chunk_swap layout and all heads, and ends with all
 * tokens, in sequence order, of its own heads (context parallel to head parallel).
 *
 *     cc -pthread minimal.c $(pkg-config --cflags --libs gdncp) -o minimal
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include <gdncp/gdncp.h>

enum { cp_size = 2, num_tokens = 16, num_heads = 4, head_dim = 2, channels = num_heads * head_dim };

typedef struct rank_task {
    gdncp_comm_t *comm;
    const gdncp_layout_t *layout;
    gdncp_status_t status;
} rank_task_t;

/* Makes a token's position and channel visible in its value. */
static float value_of(int64_t position, int64_t channel)
{
    return (float)(100 * position + channel);
}

/* out is [num_tokens, channels of this rank's heads]. */
static gdncp_status_t check_output(int rank, const float *out)
{
    gdncp_head_range_t heads;
    gdncp_status_t status =
        gdncp_head_range(GDNCP_VALUE_HEADS, num_heads, num_heads, cp_size, rank, &heads);

    for (int64_t t = 0; status == GDNCP_OK && t < num_tokens; t++) {
        for (int64_t c = 0; c < heads.count * head_dim; c++) {
            if (out[t * heads.count * head_dim + c] != value_of(t, heads.first * head_dim + c)) {
                return GDNCP_ERR_INTERNAL;
            }
        }
    }
    return status;
}

static gdncp_status_t exchange_tokens(gdncp_comm_t *comm, const gdncp_layout_t *layout)
{
    const gdncp_section_t section = {GDNCP_VALUE_HEADS, head_dim, 0};
    const int rank = gdncp_comm_rank(comm);
    gdncp_plan_t *plan = NULL;
    gdncp_exchange_t *exchange = NULL;
    int64_t positions[num_tokens];
    float *in = NULL;
    float *out = NULL;
    gdncp_status_t status;

    status = gdncp_plan_cp2hp(layout, rank, GDNCP_F32, num_heads, num_heads, &section, 1, channels,
                              &plan);
    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_exchange_create(comm, plan, &exchange);
    if (status != GDNCP_OK) {
        goto destroy_plan;
    }
    in = malloc((size_t)gdncp_plan_input_elements(plan) * sizeof *in);
    out = malloc((size_t)gdncp_plan_output_elements(plan) * sizeof *out);
    if (in == NULL || out == NULL) {
        status = GDNCP_ERR_OUT_OF_MEMORY;
        goto free_buffers;
    }

    status = gdncp_layout_rank_positions(layout, rank, positions);
    for (int64_t t = 0; status == GDNCP_OK && t < gdncp_layout_rank_tokens(layout, rank); t++) {
        for (int64_t c = 0; c < channels; c++) {
            in[t * channels + c] = value_of(positions[t], c);
        }
    }
    if (status == GDNCP_OK) {
        status = gdncp_exchange_run(exchange, in, out, NULL);
    }
    if (status == GDNCP_OK) {
        status = check_output(rank, out);
    }

free_buffers:
    free(in);
    free(out);
    gdncp_exchange_destroy(exchange);
destroy_plan:
    gdncp_plan_destroy(plan);
    return status;
}

static void *run_rank(void *argument)
{
    rank_task_t *const task = argument;

    task->status = exchange_tokens(task->comm, task->layout);
    if (task->status != GDNCP_OK) {
        /* The sentence is this thread's own: it is gone when the thread ends. */
        fprintf(stderr, "rank %d: %s: %s\n", gdncp_comm_rank(task->comm),
                gdncp_status_string(task->status), gdncp_last_error());
        gdncp_comm_abort(task->comm);
    }
    return NULL;
}

int main(void)
{
    const int64_t cu_seqlens[] = {0, num_tokens};
    gdncp_layout_t *layout = NULL;
    gdncp_comm_t *comms[cp_size];
    rank_task_t tasks[cp_size];
    pthread_t threads[cp_size];
    int num_failed = 0;

    if (gdncp_layout_create(GDNCP_LAYOUT_DUAL_CHUNK_SWAP, cu_seqlens, 1, cp_size, &layout) !=
            GDNCP_OK ||
        gdncp_comm_create_threads(cp_size, NULL, comms) != GDNCP_OK) {
        fprintf(stderr, "%s\n", gdncp_last_error());
        gdncp_layout_destroy(layout);
        return EXIT_FAILURE;
    }
    for (int rank = 0; rank < cp_size; rank++) {
        tasks[rank] = (rank_task_t){comms[rank], layout, GDNCP_ERR_INTERNAL};
        if (pthread_create(&threads[rank], NULL, run_rank, &tasks[rank]) != 0) {
            fprintf(stderr, "rank %d: no thread\n", rank);
            exit(EXIT_FAILURE);
        }
    }
    for (int rank = 0; rank < cp_size; rank++) {
        pthread_join(threads[rank], NULL);
        num_failed += tasks[rank].status != GDNCP_OK;
        gdncp_comm_destroy(comms[rank]);
    }
    gdncp_layout_destroy(layout);
    if (num_failed == 0) {
        printf("gdncp %s: %d tokens of %d heads went from %d ranks by tokens to %d by heads\n",
               gdncp_version(), (int)num_tokens, (int)num_heads, (int)cp_size, (int)cp_size);
    }
    return num_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
