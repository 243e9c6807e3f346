/* What is run across ranks: a layer, or the gated delta rule. */
#ifndef GDNCP_RUN_OPERATION_H
#define GDNCP_RUN_OPERATION_H

#include <stdint.h>

#include "gdncp/comm.h"
#include "gdncp/layer.h"
#include "gdncp/layout.h"
#include "gdncp/status.h"
#include "gdncp/tensor.h"

struct run_problem;

/* How it is run. */
typedef struct run_mode {
    gdncp_dtype_t dtype;
    gdncp_dtype_t rule_dtype; /* F32 or dtype; of a layer alone */
    gdncp_strategy_t strategy;
    gdncp_device_kind_t device;
    gdncp_stream_t stream;
} run_mode_t;

/* One rank's calls. The tensors are its parts of the problem's inputs and outputs, in their order;
 * forward and backward each write some of the outputs. All slots are there in every operation. */
typedef struct run_operation {
    /* Collective. instance_p: set on success, to be destroyed before the communicator. */
    gdncp_status_t (*create)(const struct run_problem *problem, const run_mode_t *mode,
                             gdncp_comm_t *comm, const gdncp_layout_t *layout, void **instance_p);
    void (*destroy)(void *instance);
    /* What has gone wrong in calls that are done. */
    gdncp_status_t (*check)(const void *instance);
    /* Where a state enters and leaves. An operation without states is not asked. */
    int (*initial_state_rank)(const void *instance, int64_t sequence, int64_t value_head);
    int (*final_state_rank)(const void *instance, int64_t sequence, int64_t value_head);
    gdncp_status_t (*forward)(void *instance, const gdncp_tensor_t *inputs,
                              const gdncp_tensor_t *outputs);
    gdncp_status_t (*backward)(void *instance, const gdncp_tensor_t *inputs,
                               const gdncp_tensor_t *outputs);
} run_operation_t;

extern const run_operation_t run_layer_operation;
extern const run_operation_t run_rule_operation;

/* Order of the tensors. */
typedef enum run_layer_input {
    RUN_LAYER_HIDDEN = 0,
    RUN_LAYER_GRAD_OUTPUT,
    RUN_LAYER_FIRST_PARAMETER /* GDNCP_NUM_PARAMETERS of them */
} run_layer_input_t;

typedef enum run_layer_output {
    RUN_LAYER_OUTPUT = 0,
    RUN_LAYER_GRAD_HIDDEN,
    RUN_LAYER_FIRST_PARAMETER_GRAD
} run_layer_output_t;

typedef enum run_rule_input {
    RUN_RULE_Q = 0,
    RUN_RULE_K,
    RUN_RULE_V,
    RUN_RULE_G,
    RUN_RULE_BETA,
    RUN_RULE_INITIAL_STATE,
    RUN_RULE_GRAD_O,
    RUN_RULE_GRAD_FINAL_STATE,
    RUN_RULE_NUM_INPUTS
} run_rule_input_t;

typedef enum run_rule_output {
    RUN_RULE_O = 0,
    RUN_RULE_FINAL_STATE,
    RUN_RULE_GRAD_Q,
    RUN_RULE_GRAD_K,
    RUN_RULE_GRAD_V,
    RUN_RULE_GRAD_G,
    RUN_RULE_GRAD_BETA,
    RUN_RULE_GRAD_INITIAL_STATE,
    RUN_RULE_NUM_OUTPUTS
} run_rule_output_t;

#endif
