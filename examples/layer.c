/*
 * A Gated DeltaNet layer across ranks: one sequence, four ranks that are threads, forward and
 * backward without moving a token.
 *
 *     cc -pthread layer.c $(pkg-config --cflags --libs gdncp) -o layer
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include <gdncp/gdncp.h>

enum { cp_size = 4, num_tokens = 4096, hidden = 64 };

static const gdncp_layer_config_t config = {
    .shape = {.hidden_size = hidden,
              .num_key_heads = 2,
              .num_value_heads = 4,
              .key_head_dim = 32,
              .value_head_dim = 32,
              .conv_kernel_dim = 4},
    .dtype = GDNCP_F32,
    .strategy = GDNCP_STRATEGY_STATES,
    .norm_eps = 1e-6f,
};

/* Zeroed tensor of float32 values, filled with small numbers if scale is not 0. */
static gdncp_tensor_t tensor(int ndim, int64_t rows, int64_t columns, float scale)
{
    const int64_t shape[] = {rows, columns};
    const int64_t count = ndim == 2 ? rows * columns : rows;
    float *const data = calloc((size_t)count, sizeof *data);

    if (data == NULL) {
        abort();
    }
    for (int64_t i = 0; i < count; i++) {
        data[i] = scale * (float)(i * 2654435761 % 1000 - 500) / 500.0f;
    }
    return gdncp_tensor_contiguous(data, GDNCP_F32, ndim, shape);
}

/* Parameters in gdncp's order, or room for their gradients: see <gdncp/weights.h>. */
static gdncp_layer_params_t make_params(float scale)
{
    const int64_t conv_channels = 2 * 2 * 32 + 4 * 32;

    return (gdncp_layer_params_t){
        .in_proj_weight = tensor(2, conv_channels + 4 * 32 + 2 * 4, hidden, scale),
        .out_proj_weight = tensor(2, hidden, 4 * 32, scale),
        .core = {.conv_weight = tensor(2, conv_channels, 4, scale),
                 .A_log = tensor(1, 4, 0, scale),
                 .dt_bias = tensor(1, 4, 0, scale),
                 .norm_weight = tensor(1, 32, 0, scale)},
    };
}

static void free_params(gdncp_layer_params_t *params)
{
    free(params->in_proj_weight.data);
    free(params->out_proj_weight.data);
    free(params->core.conv_weight.data);
    free(params->core.A_log.data);
    free(params->core.dt_bias.data);
    free(params->core.norm_weight.data);
}

typedef struct rank_task {
    gdncp_comm_t *comm;
    const gdncp_layout_t *layout;
    gdncp_status_t status;
    long long bytes_sent;
} rank_task_t;

static gdncp_status_t train_step(rank_task_t *task)
{
    const int64_t tokens = gdncp_layout_rank_tokens(task->layout, gdncp_comm_rank(task->comm));
    gdncp_layer_params_t params = make_params(0.1f);
    gdncp_layer_params_t grads = make_params(0.0f);
    gdncp_tensor_t x = tensor(2, tokens, hidden, 1.0f);
    gdncp_tensor_t y = tensor(2, tokens, hidden, 0.0f);
    gdncp_tensor_t grad_x = tensor(2, tokens, hidden, 0.0f);
    gdncp_comm_counters_t counters = {0};
    gdncp_layer_t *layer = NULL;
    gdncp_layer_saved_t *saved = NULL;
    gdncp_status_t status = gdncp_layer_create(task->comm, task->layout, &config, &layer);

    if (status == GDNCP_OK) {
        status = gdncp_layer_saved_create(layer, &saved);
    }
    if (status == GDNCP_OK) {
        status = gdncp_layer_forward(layer, &params, &x, saved, &y);
    }
    if (status == GDNCP_OK) { /* the loss is |y|^2 / 2, so its gradient is y */
        status = gdncp_layer_backward(layer, &params, &x, saved, &y, &grad_x, &grads);
    }
    gdncp_comm_counters(task->comm, &counters);
    task->bytes_sent = (long long)counters.bytes_sent;

    gdncp_layer_saved_destroy(saved);
    gdncp_layer_destroy(layer);
    free_params(&params);
    free_params(&grads);
    free(x.data);
    free(y.data);
    free(grad_x.data);
    return status;
}

static void *run_rank(void *argument)
{
    rank_task_t *const task = argument;

    task->status = train_step(task);
    if (task->status != GDNCP_OK) {
        fprintf(stderr, "rank %d: %s\n", gdncp_comm_rank(task->comm), gdncp_last_error());
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
        tasks[rank] = (rank_task_t){.comm = comms[rank], .layout = layout};
        if (pthread_create(&threads[rank], NULL, run_rank, &tasks[rank]) != 0) {
            fprintf(stderr, "rank %d: no thread\n", rank);
            exit(EXIT_FAILURE);
        }
    }
    for (int rank = 0; rank < cp_size; rank++) {
        pthread_join(threads[rank], NULL);
        num_failed += tasks[rank].status != GDNCP_OK;
        printf("rank %d: %d of %d tokens, %lld bytes sent forward and backward\n", rank,
               (int)gdncp_layout_rank_tokens(layout, rank), (int)num_tokens,
               tasks[rank].bytes_sent);
        gdncp_comm_destroy(comms[rank]);
    }
    gdncp_layout_destroy(layout);
    return num_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
