/* The layer, with its parameters in canonical form. */
#include "operation.h"

#include <stdlib.h>

#include "fail.h"
#include "gdncp/weights.h"
#include "problem.h"

typedef struct instance {
    gdncp_layer_t *layer;
    gdncp_layer_saved_t *saved;
} instance_t;

static void destroy(void *opaque)
{
    instance_t *const instance = opaque;

    gdncp_layer_saved_destroy(instance->saved);
    gdncp_layer_destroy(instance->layer);
    free(instance);
}

static gdncp_status_t create(const run_problem_t *problem, const run_mode_t *mode,
                             gdncp_comm_t *comm, const gdncp_layout_t *layout, void **instance_p)
{
    gdncp_layer_config_t config = problem->layer;
    instance_t *const instance = run_alloc(1, sizeof *instance, "a layer");

    if (instance == NULL) {
        return GDNCP_ERR_OUT_OF_MEMORY;
    }
    config.dtype = mode->dtype;
    config.rule_dtype = mode->rule_dtype;
    config.strategy = mode->strategy;
    config.device = mode->device;
    config.stream = mode->stream;
    gdncp_status_t status = gdncp_layer_create(comm, layout, &config, &instance->layer);
    if (status == GDNCP_OK) {
        status = gdncp_layer_saved_create(instance->layer, &instance->saved);
    }
    if (status != GDNCP_OK) {
        destroy(instance);
        return status;
    }
    *instance_p = instance;
    return GDNCP_OK;
}

static gdncp_status_t check(const void *instance)
{
    return gdncp_layer_check(((const instance_t *)instance)->layer);
}

static int no_state_rank(const void *instance, int64_t sequence, int64_t value_head)
{
    (void)instance;
    (void)sequence;
    (void)value_head;
    return 0;
}

/* tensors [GDNCP_NUM_PARAMETERS]; the families have no bias in the convolution. */
static gdncp_layer_params_t layer_params(const gdncp_tensor_t *tensors)
{
    return (gdncp_layer_params_t){
        .in_proj_weight = tensors[GDNCP_PARAMETER_IN_PROJ_WEIGHT],
        .out_proj_weight = tensors[GDNCP_PARAMETER_OUT_PROJ_WEIGHT],
        .core = {.conv_weight = tensors[GDNCP_PARAMETER_CONV_WEIGHT],
                 .A_log = tensors[GDNCP_PARAMETER_A_LOG],
                 .dt_bias = tensors[GDNCP_PARAMETER_DT_BIAS],
                 .norm_weight = tensors[GDNCP_PARAMETER_NORM_WEIGHT]},
    };
}

static gdncp_status_t forward(void *opaque, const gdncp_tensor_t *inputs,
                              const gdncp_tensor_t *outputs)
{
    instance_t *const instance = opaque;
    const gdncp_layer_params_t params = layer_params(&inputs[RUN_LAYER_FIRST_PARAMETER]);

    return gdncp_layer_forward(instance->layer, &params, &inputs[RUN_LAYER_HIDDEN], instance->saved,
                               &outputs[RUN_LAYER_OUTPUT]);
}

static gdncp_status_t backward(void *opaque, const gdncp_tensor_t *inputs,
                               const gdncp_tensor_t *outputs)
{
    instance_t *const instance = opaque;
    const gdncp_layer_params_t params = layer_params(&inputs[RUN_LAYER_FIRST_PARAMETER]);
    const gdncp_layer_params_t grads = layer_params(&outputs[RUN_LAYER_FIRST_PARAMETER_GRAD]);

    return gdncp_layer_backward(instance->layer, &params, &inputs[RUN_LAYER_HIDDEN],
                                instance->saved, &inputs[RUN_LAYER_GRAD_OUTPUT],
                                &outputs[RUN_LAYER_GRAD_HIDDEN], &grads);
}

const run_operation_t run_layer_operation = {
    .create = create,
    .destroy = destroy,
    .check = check,
    .initial_state_rank = no_state_rank,
    .final_state_rank = no_state_rank,
    .forward = forward,
    .backward = backward,
};
