/* The gated delta rule, with initial and final states. */
#include "operation.h"

#include <stdlib.h>

#include "fail.h"
#include "problem.h"

typedef struct instance {
    gdncp_cp_rule_t *rule;
    gdncp_cp_rule_saved_t *saved;
} instance_t;

static void destroy(void *opaque)
{
    instance_t *const instance = opaque;

    gdncp_cp_rule_saved_destroy(instance->saved);
    gdncp_cp_rule_destroy(instance->rule);
    free(instance);
}

static gdncp_status_t create(const run_problem_t *problem, const run_mode_t *mode,
                             gdncp_comm_t *comm, const gdncp_layout_t *layout, void **instance_p)
{
    gdncp_cp_rule_config_t config = problem->rule;
    instance_t *const instance = run_alloc(1, sizeof *instance, "a rule");

    if (instance == NULL) {
        return GDNCP_ERR_OUT_OF_MEMORY;
    }
    config.dtype = mode->dtype;
    config.strategy = mode->strategy;
    config.device = mode->device;
    config.stream = mode->stream;
    gdncp_status_t status = gdncp_cp_rule_create(comm, layout, &config, &instance->rule);
    if (status == GDNCP_OK) {
        status = gdncp_cp_rule_saved_create(instance->rule, &instance->saved);
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
    return gdncp_cp_rule_check(((const instance_t *)instance)->rule);
}

static int initial_state_rank(const void *instance, int64_t sequence, int64_t value_head)
{
    return gdncp_cp_rule_initial_state_rank(((const instance_t *)instance)->rule, sequence,
                                            value_head);
}

static int final_state_rank(const void *instance, int64_t sequence, int64_t value_head)
{
    return gdncp_cp_rule_final_state_rank(((const instance_t *)instance)->rule, sequence,
                                          value_head);
}

static gdncp_cp_rule_inputs_t rule_inputs(const gdncp_tensor_t *inputs)
{
    return (gdncp_cp_rule_inputs_t){
        .q = inputs[RUN_RULE_Q],
        .k = inputs[RUN_RULE_K],
        .v = inputs[RUN_RULE_V],
        .g = inputs[RUN_RULE_G],
        .beta = inputs[RUN_RULE_BETA],
        .initial_state = inputs[RUN_RULE_INITIAL_STATE],
    };
}

static gdncp_status_t forward(void *opaque, const gdncp_tensor_t *inputs,
                              const gdncp_tensor_t *outputs)
{
    instance_t *const instance = opaque;
    const gdncp_cp_rule_inputs_t rule = rule_inputs(inputs);

    return gdncp_cp_rule_forward(instance->rule, &rule, instance->saved, &outputs[RUN_RULE_O],
                                 &outputs[RUN_RULE_FINAL_STATE]);
}

static gdncp_status_t backward(void *opaque, const gdncp_tensor_t *inputs,
                               const gdncp_tensor_t *outputs)
{
    instance_t *const instance = opaque;
    const gdncp_cp_rule_inputs_t rule = rule_inputs(inputs);
    const gdncp_cp_rule_grads_t grads = {
        .q = outputs[RUN_RULE_GRAD_Q],
        .k = outputs[RUN_RULE_GRAD_K],
        .v = outputs[RUN_RULE_GRAD_V],
        .g = outputs[RUN_RULE_GRAD_G],
        .beta = outputs[RUN_RULE_GRAD_BETA],
        .initial_state = outputs[RUN_RULE_GRAD_INITIAL_STATE],
    };

    return gdncp_cp_rule_backward(instance->rule, &rule, instance->saved, &inputs[RUN_RULE_GRAD_O],
                                  &inputs[RUN_RULE_GRAD_FINAL_STATE], &grads);
}

const run_operation_t run_rule_operation = {
    .create = create,
    .destroy = destroy,
    .check = check,
    .initial_state_rank = initial_state_rank,
    .final_state_rank = final_state_rank,
    .forward = forward,
    .backward = backward,
};
