/* A small layer on the emulated device: its tensors there, and one step of it. */
#ifndef GDNCP_TEST_CUDA_LAYER_STEP_H
#define GDNCP_TEST_CUDA_LAYER_STEP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "gdncp/device.h"
#include "gdncp/layer.h"
#include "random.h"
#include "rank_threads.h"

enum { STEP_TOKENS = 24, STEP_SEQUENCES = 3 };

/* The gradients follow the tensors that they belong to. */
enum {
    STEP_HIDDEN,
    STEP_IN_PROJ,
    STEP_OUT_PROJ,
    STEP_CONV_WEIGHT,
    STEP_A_LOG,
    STEP_DT_BIAS,
    STEP_NORM_WEIGHT,
    STEP_UPSTREAM, /* of the output */
    STEP_NUM_TENSORS
};

static const int64_t step_cu_seqlens[] = {0, 9, 9, STEP_TOKENS};

static const gdncp_layer_config_t step_config = {
    .shape = {.hidden_size = 12,
              .num_key_heads = 1,
              .num_value_heads = 2,
              .key_head_dim = 16,
              .value_head_dim = 8,
              .conv_kernel_dim = 4},
    .norm_eps = 1e-6f,
    .device = GDNCP_DEVICE_CUDA,
};

typedef struct step {
    gdncp_layer_config_t config;
    int64_t tokens; /* local */
    gdncp_layer_t *layer;
    gdncp_layer_saved_t *saved;
    gdncp_tensor_t in[STEP_NUM_TENSORS];
    gdncp_tensor_t out[STEP_NUM_TENSORS]; /* gradients; the output at STEP_UPSTREAM */
} step_t;

/* What a step writes, on the host. */
typedef struct step_results {
    float *values[STEP_NUM_TENSORS];
} step_results_t;

static inline gdncp_layout_t *step_layout(int ranks)
{
    gdncp_layout_t *layout = NULL;

    assert_int_equal(gdncp_layout_create(GDNCP_LAYOUT_DUAL_CHUNK_SWAP_FLAT, step_cu_seqlens,
                                         STEP_SEQUENCES, ranks, &layout),
                     GDNCP_OK);
    return layout;
}

static inline size_t step_bytes(const gdncp_tensor_t *tensor)
{
    return (size_t)gdncp_tensor_num_elements(tensor) * sizeof(float);
}

static inline gdncp_status_t step_tensor(gdncp_device_kind_t device, int64_t rows, int64_t columns,
                                         gdncp_tensor_t *tensor)
{
    const int64_t shape[] = {rows, columns};

    *tensor = gdncp_tensor_contiguous(NULL, GDNCP_F32, columns > 0 ? 2 : 1, shape);
    tensor->device = device;
    return gdncp_device_alloc(device, step_bytes(tensor), &tensor->data);
}

/* Tensors shaped like those of the step. */
static inline gdncp_status_t step_tensors(const step_t *step, gdncp_tensor_t *tensors)
{
    const gdncp_layer_shape_t *const shape = &step->config.shape;
    const int64_t heads = shape->num_value_heads;
    const int64_t values = heads * shape->value_head_dim;
    const int64_t conv = 2 * shape->num_key_heads * shape->key_head_dim + values;
    const int64_t sizes[STEP_NUM_TENSORS][2] = {
        [STEP_HIDDEN] = {step->tokens, shape->hidden_size},
        [STEP_IN_PROJ] = {conv + values + 2 * heads, shape->hidden_size},
        [STEP_OUT_PROJ] = {shape->hidden_size, values},
        [STEP_CONV_WEIGHT] = {conv, shape->conv_kernel_dim},
        [STEP_A_LOG] = {heads, 0},
        [STEP_DT_BIAS] = {heads, 0},
        [STEP_NORM_WEIGHT] = {shape->value_head_dim, 0},
        [STEP_UPSTREAM] = {step->tokens, shape->hidden_size},
    };
    gdncp_status_t status = GDNCP_OK;

    for (int i = 0; i < STEP_NUM_TENSORS && status == GDNCP_OK; i++) {
        status = step_tensor(step->config.device, sizes[i][0], sizes[i][1], &tensors[i]);
    }
    return status;
}

/* A layer and its tensors, in a stream of their own. Closed by step_close(), after errors too. */
static inline gdncp_status_t step_open_config(gdncp_comm_t *comm, const gdncp_layout_t *layout,
                                              const gdncp_layer_config_t *config, step_t *step)
{
    gdncp_status_t status;

    *step = (step_t){.config = *config,
                     .tokens = gdncp_layout_rank_tokens(layout, gdncp_comm_rank(comm))};
    status = gdncp_stream_create(step->config.device, &step->config.stream);
    if (status == GDNCP_OK) {
        status = step_tensors(step, step->in);
    }
    if (status == GDNCP_OK) {
        status = step_tensors(step, step->out);
    }
    if (status == GDNCP_OK) {
        status = gdncp_layer_create(comm, layout, &step->config, &step->layer);
    }
    return status == GDNCP_OK ? gdncp_layer_saved_create(step->layer, &step->saved) : status;
}

static inline gdncp_status_t step_open(gdncp_comm_t *comm, const gdncp_layout_t *layout,
                                       gdncp_strategy_t strategy, step_t *step)
{
    gdncp_layer_config_t config = step_config;

    config.strategy = strategy;
    return step_open_config(comm, layout, &config, step);
}

static inline void step_close(step_t *step)
{
    gdncp_layer_saved_destroy(step->saved);
    gdncp_layer_destroy(step->layer);
    for (int i = 0; i < STEP_NUM_TENSORS; i++) {
        gdncp_device_free(step->config.device, step->in[i].data);
        gdncp_device_free(step->config.device, step->out[i].data);
    }
    gdncp_stream_destroy(step->config.device, step->config.stream);
}

static inline gdncp_status_t step_synchronize(const step_t *step)
{
    return gdncp_stream_synchronize(step->config.device, step->config.stream);
}

/* Random inputs, weights the same on all ranks; NaN in what is to be written. */
static inline gdncp_status_t step_fill(const step_t *step, uint64_t seed)
{
    gdncp_status_t status = GDNCP_OK;

    for (int i = 0; i < STEP_NUM_TENSORS && status == GDNCP_OK; i++) {
        const int64_t count = gdncp_tensor_num_elements(&step->in[i]);
        float *const values = malloc((size_t)(count + 1) * sizeof *values);
        test_random_t random = {.state = 1000 * seed + (uint64_t)i};

        test_random_fill(&random, values, count);
        status = gdncp_device_copy(step->config.device, step->in[i].data, values,
                                   step_bytes(&step->in[i]), step->config.stream);
        memset(values, 0xff, step_bytes(&step->out[i]));
        if (status == GDNCP_OK) {
            status = gdncp_device_copy(step->config.device, step->out[i].data, values,
                                       step_bytes(&step->out[i]), step->config.stream);
        }
        if (status == GDNCP_OK) {
            status = step_synchronize(step);
        }
        free(values);
    }
    return status;
}

static inline gdncp_layer_params_t step_params(const gdncp_tensor_t *tensors)
{
    return (gdncp_layer_params_t){
        .in_proj_weight = tensors[STEP_IN_PROJ],
        .out_proj_weight = tensors[STEP_OUT_PROJ],
        .core = {.conv_weight = tensors[STEP_CONV_WEIGHT],
                 .A_log = tensors[STEP_A_LOG],
                 .dt_bias = tensors[STEP_DT_BIAS],
                 .norm_weight = tensors[STEP_NORM_WEIGHT]},
    };
}

static inline gdncp_status_t step_queue_forward(const step_t *step)
{
    const gdncp_layer_params_t params = step_params(step->in);

    return gdncp_layer_forward(step->layer, &params, &step->in[STEP_HIDDEN], step->saved,
                               &step->out[STEP_UPSTREAM]);
}

static inline gdncp_status_t step_queue_backward(const step_t *step)
{
    const gdncp_layer_params_t params = step_params(step->in);
    const gdncp_layer_params_t grads = step_params(step->out);

    return gdncp_layer_backward(step->layer, &params, &step->in[STEP_HIDDEN], step->saved,
                                &step->in[STEP_UPSTREAM], &step->out[STEP_HIDDEN], &grads);
}

static inline gdncp_status_t step_queue(const step_t *step)
{
    const gdncp_status_t status = step_queue_forward(step);

    return status == GDNCP_OK ? step_queue_backward(step) : status;
}

/* What the step wrote, once it is done. Free with step_free(). */
static inline gdncp_status_t step_take(const step_t *step, step_results_t *results)
{
    gdncp_status_t status = step_synchronize(step);

    *results = (step_results_t){{NULL}};
    for (int i = 0; i < STEP_NUM_TENSORS && status == GDNCP_OK; i++) {
        results->values[i] = malloc(step_bytes(&step->out[i]) + 1);
        status = gdncp_device_copy(step->config.device, results->values[i], step->out[i].data,
                                   step_bytes(&step->out[i]), step->config.stream);
    }
    return status == GDNCP_OK ? step_synchronize(step) : status;
}

static inline void step_free(step_results_t *results)
{
    for (int i = 0; i < STEP_NUM_TENSORS; i++) {
        free(results->values[i]);
    }
}

/* The first tensor whose bits differ; -1: none. */
static inline int step_compare(const step_t *step, const step_results_t *a, const step_results_t *b)
{
    for (int i = 0; i < STEP_NUM_TENSORS; i++) {
        if (memcmp(a->values[i], b->values[i], step_bytes(&step->out[i])) != 0) {
            return i;
        }
    }
    return -1;
}

#endif
