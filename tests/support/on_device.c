#include "on_device.h"

#include "device_call.h"
#include "gdncp/ops.h"
#include "gdncp/ops_decode.h"

/* As the renamed functions are called. */
__typeof__(gdncp_gate_forward) on_device_gate_forward;
__typeof__(gdncp_gate_backward) on_device_gate_backward;
__typeof__(gdncp_chunk_cumsum) on_device_chunk_cumsum;
__typeof__(gdncp_l2norm_forward) on_device_l2norm_forward;
__typeof__(gdncp_l2norm_backward) on_device_l2norm_backward;
__typeof__(gdncp_conv1d_forward) on_device_conv1d_forward;
__typeof__(gdncp_conv1d_backward) on_device_conv1d_backward;
__typeof__(gdncp_delta_rule_forward) on_device_delta_rule_forward;
__typeof__(gdncp_delta_rule_backward) on_device_delta_rule_backward;
__typeof__(gdncp_delta_rule_summary) on_device_delta_rule_summary;
__typeof__(gdncp_delta_rule_grad_summary) on_device_delta_rule_grad_summary;
__typeof__(gdncp_state_merge) on_device_state_merge;
__typeof__(gdncp_gated_rmsnorm_forward) on_device_gated_rmsnorm_forward;
__typeof__(gdncp_gated_rmsnorm_backward) on_device_gated_rmsnorm_backward;
__typeof__(gdncp_linear_forward) on_device_linear_forward;
__typeof__(gdncp_linear_backward_data) on_device_linear_backward_data;
__typeof__(gdncp_linear_backward_weight) on_device_linear_backward_weight;
__typeof__(gdncp_recurrent_step) on_device_recurrent_step;
__typeof__(gdncp_conv1d_update) on_device_conv1d_update;

/* A struct of arguments, as it is on the device: *held is its copy; NULL stays NULL. */
static const gdncp_gate_t *mirror_gate(device_call_t *call, const gdncp_gate_t *gate,
                                       gdncp_gate_t *held)
{
    if (gate == NULL) {
        return NULL;
    }
    *held = *gate;
    device_call_input(call, &held->a);
    device_call_input(call, &held->b);
    device_call_input(call, &held->A_log);
    device_call_input(call, &held->dt_bias);
    device_call_list(call, held->cu_seqlens, held->num_sequences + 1, &held->cu_seqlens_cuda);
    return held;
}

static const gdncp_gate_grads_t *
mirror_gate_grads(device_call_t *call, const gdncp_gate_grads_t *grads, gdncp_gate_grads_t *held)
{
    if (grads == NULL) {
        return NULL;
    }
    *held = *grads;
    device_call_output(call, &held->a);
    device_call_output(call, &held->b);
    device_call_output(call, &held->A_log);
    device_call_output(call, &held->dt_bias);
    return held;
}

gdncp_status_t on_device_gate_forward(const gdncp_gate_t *gate, const gdncp_tensor_t *g,
                                      const gdncp_tensor_t *beta, gdncp_workspace_t *workspace)
{
    device_call_t call;
    gdncp_gate_t held;

    device_call_begin(&call, workspace);
    gate = mirror_gate(&call, gate, &held);
    g = device_call_output_argument(&call, g);
    beta = device_call_output_argument(&call, beta);
    while (device_call_next(&call)) {
        call.status = gdncp_gate_forward(gate, g, beta, call.workspace);
    }
    return device_call_end(&call);
}

gdncp_status_t on_device_gate_backward(const gdncp_gate_t *gate, const gdncp_tensor_t *grad_g,
                                       const gdncp_tensor_t *grad_beta,
                                       const gdncp_gate_grads_t *grads,
                                       gdncp_workspace_t *workspace)
{
    device_call_t call;
    gdncp_gate_t held;
    gdncp_gate_grads_t held_grads;

    device_call_begin(&call, workspace);
    gate = mirror_gate(&call, gate, &held);
    grad_g = device_call_input_argument(&call, grad_g);
    grad_beta = device_call_input_argument(&call, grad_beta);
    grads = mirror_gate_grads(&call, grads, &held_grads);
    while (device_call_next(&call)) {
        call.status = gdncp_gate_backward(gate, grad_g, grad_beta, grads, call.workspace);
    }
    return device_call_end(&call);
}

gdncp_status_t on_device_chunk_cumsum(const gdncp_tensor_t *g, const int64_t *cu_seqlens,
                                      const int64_t *cu_seqlens_cuda, int64_t num_sequences,
                                      int64_t chunk_size, const gdncp_tensor_t *out,
                                      gdncp_workspace_t *workspace)
{
    device_call_t call;

    device_call_begin(&call, workspace);
    g = device_call_input_argument(&call, g);
    out = device_call_output_argument(&call, out);
    device_call_list(&call, cu_seqlens, num_sequences + 1, &cu_seqlens_cuda);
    while (device_call_next(&call)) {
        call.status = gdncp_chunk_cumsum(g, cu_seqlens, cu_seqlens_cuda, num_sequences, chunk_size,
                                         out, call.workspace);
    }
    return device_call_end(&call);
}

gdncp_status_t on_device_l2norm_forward(const gdncp_tensor_t *x, float eps, const gdncp_tensor_t *y,
                                        gdncp_workspace_t *workspace)
{
    device_call_t call;

    device_call_begin(&call, workspace);
    x = device_call_input_argument(&call, x);
    y = device_call_output_argument(&call, y);
    while (device_call_next(&call)) {
        call.status = gdncp_l2norm_forward(x, eps, y, call.workspace);
    }
    return device_call_end(&call);
}

gdncp_status_t on_device_l2norm_backward(const gdncp_tensor_t *x, float eps,
                                         const gdncp_tensor_t *grad_y, const gdncp_tensor_t *grad_x,
                                         gdncp_workspace_t *workspace)
{
    device_call_t call;

    device_call_begin(&call, workspace);
    x = device_call_input_argument(&call, x);
    grad_y = device_call_input_argument(&call, grad_y);
    grad_x = device_call_output_argument(&call, grad_x);
    while (device_call_next(&call)) {
        call.status = gdncp_l2norm_backward(x, eps, grad_y, grad_x, call.workspace);
    }
    return device_call_end(&call);
}

static const gdncp_conv1d_t *mirror_conv1d(device_call_t *call, const gdncp_conv1d_t *conv,
                                           gdncp_conv1d_t *held)
{
    if (conv == NULL) {
        return NULL;
    }
    *held = *conv;
    device_call_input(call, &held->x);
    device_call_input(call, &held->weight);
    device_call_input(call, &held->bias);
    device_call_input(call, &held->window);
    device_call_list(call, held->cu_seqlens, held->num_sequences + 1, &held->cu_seqlens_cuda);
    return held;
}

gdncp_status_t on_device_conv1d_forward(const gdncp_conv1d_t *conv, const gdncp_tensor_t *y,
                                        const gdncp_tensor_t *final_window,
                                        gdncp_workspace_t *workspace)
{
    device_call_t call;
    gdncp_conv1d_t held;

    device_call_begin(&call, workspace);
    conv = mirror_conv1d(&call, conv, &held);
    y = device_call_output_argument(&call, y);
    final_window = device_call_output_argument(&call, final_window);
    while (device_call_next(&call)) {
        call.status = gdncp_conv1d_forward(conv, y, final_window, call.workspace);
    }
    return device_call_end(&call);
}

gdncp_status_t on_device_conv1d_backward(const gdncp_conv1d_t *conv, const gdncp_tensor_t *grad_y,
                                         const gdncp_conv1d_grads_t *grads,
                                         gdncp_workspace_t *workspace)
{
    device_call_t call;
    gdncp_conv1d_t held;
    gdncp_conv1d_grads_t held_grads;

    device_call_begin(&call, workspace);
    conv = mirror_conv1d(&call, conv, &held);
    grad_y = device_call_input_argument(&call, grad_y);
    if (grads != NULL) {
        held_grads = *grads;
        grads = &held_grads;
        device_call_output(&call, &held_grads.x);
        device_call_output(&call, &held_grads.weight);
        device_call_output(&call, &held_grads.bias);
        device_call_output(&call, &held_grads.window);
    }
    while (device_call_next(&call)) {
        call.status = gdncp_conv1d_backward(conv, grad_y, grads, call.workspace);
    }
    return device_call_end(&call);
}

typedef struct held_rule {
    gdncp_delta_rule_t rule;
    gdncp_gate_t gate;
} held_rule_t;

/* With writes_gates, g and beta are outputs where the rule has a gate. */
static const gdncp_delta_rule_t *mirror_rule(device_call_t *call, const gdncp_delta_rule_t *rule,
                                             bool writes_gates, held_rule_t *held)
{
    gdncp_delta_rule_t *const mirrored = &held->rule;

    if (rule == NULL) {
        return NULL;
    }
    *mirrored = *rule;
    mirrored->gate = mirror_gate(call, rule->gate, &held->gate);
    device_call_input(call, &mirrored->q);
    device_call_input(call, &mirrored->k);
    device_call_input(call, &mirrored->v);
    if (writes_gates && mirrored->gate != NULL) {
        device_call_output(call, &mirrored->g);
        device_call_output(call, &mirrored->beta);
    } else {
        device_call_input(call, &mirrored->g);
        device_call_input(call, &mirrored->beta);
    }
    device_call_input(call, &mirrored->initial_state);
    device_call_list(call, mirrored->cu_seqlens, mirrored->num_sequences + 1,
                     &mirrored->cu_seqlens_cuda);
    return mirrored;
}

gdncp_status_t on_device_delta_rule_forward(const gdncp_delta_rule_t *rule, const gdncp_tensor_t *o,
                                            const gdncp_tensor_t *final_state,
                                            gdncp_workspace_t *workspace)
{
    device_call_t call;
    held_rule_t held;

    device_call_begin(&call, workspace);
    rule = mirror_rule(&call, rule, true, &held);
    o = device_call_output_argument(&call, o);
    final_state = device_call_output_argument(&call, final_state);
    while (device_call_next(&call)) {
        call.status = gdncp_delta_rule_forward(rule, o, final_state, call.workspace);
    }
    return device_call_end(&call);
}

gdncp_status_t on_device_delta_rule_backward(const gdncp_delta_rule_t *rule,
                                             const gdncp_tensor_t *grad_o,
                                             const gdncp_tensor_t *grad_final_state,
                                             const gdncp_delta_rule_grads_t *grads,
                                             gdncp_workspace_t *workspace)
{
    device_call_t call;
    held_rule_t held;
    gdncp_delta_rule_grads_t held_grads;
    gdncp_gate_grads_t held_gate_grads;

    device_call_begin(&call, workspace);
    rule = mirror_rule(&call, rule, false, &held);
    grad_o = device_call_input_argument(&call, grad_o);
    grad_final_state = device_call_input_argument(&call, grad_final_state);
    if (grads != NULL) {
        held_grads = *grads;
        device_call_output(&call, &held_grads.q);
        device_call_output(&call, &held_grads.k);
        device_call_output(&call, &held_grads.v);
        device_call_output(&call, &held_grads.g);
        device_call_output(&call, &held_grads.beta);
        device_call_output(&call, &held_grads.initial_state);
        held_grads.gate = mirror_gate_grads(&call, grads->gate, &held_gate_grads);
        grads = &held_grads;
    }
    while (device_call_next(&call)) {
        call.status =
            gdncp_delta_rule_backward(rule, grad_o, grad_final_state, grads, call.workspace);
    }
    return device_call_end(&call);
}

gdncp_status_t on_device_delta_rule_summary(const gdncp_delta_rule_t *rule,
                                            const int64_t *sequences, const int64_t *sequences_cuda,
                                            int64_t num_selected, const gdncp_tensor_t *transition,
                                            const gdncp_tensor_t *contribution,
                                            gdncp_workspace_t *workspace)
{
    device_call_t call;
    held_rule_t held;

    device_call_begin(&call, workspace);
    rule = mirror_rule(&call, rule, false, &held);
    device_call_list(&call, sequences, num_selected, &sequences_cuda);
    transition = device_call_output_argument(&call, transition);
    contribution = device_call_output_argument(&call, contribution);
    while (device_call_next(&call)) {
        call.status = gdncp_delta_rule_summary(rule, sequences, sequences_cuda, num_selected,
                                               transition, contribution, call.workspace);
    }
    return device_call_end(&call);
}

gdncp_status_t on_device_delta_rule_grad_summary(
    const gdncp_delta_rule_t *rule, const int64_t *sequences, const int64_t *sequences_cuda,
    int64_t num_selected, const gdncp_tensor_t *grad_o, const gdncp_tensor_t *grad_final_state,
    const gdncp_tensor_t *grad_initial, gdncp_workspace_t *workspace)
{
    device_call_t call;
    held_rule_t held;

    device_call_begin(&call, workspace);
    rule = mirror_rule(&call, rule, false, &held);
    device_call_list(&call, sequences, num_selected, &sequences_cuda);
    grad_o = device_call_input_argument(&call, grad_o);
    grad_final_state = device_call_input_argument(&call, grad_final_state);
    grad_initial = device_call_output_argument(&call, grad_initial);
    while (device_call_next(&call)) {
        call.status =
            gdncp_delta_rule_grad_summary(rule, sequences, sequences_cuda, num_selected, grad_o,
                                          grad_final_state, grad_initial, call.workspace);
    }
    return device_call_end(&call);
}

/* A chain is four numbers. */
static const gdncp_state_chains_t *
mirror_merge(device_call_t *call, const gdncp_state_chains_t *merge, gdncp_state_chains_t *held)
{
    if (merge == NULL) {
        return NULL;
    }
    *held = *merge;
    device_call_input(call, &held->transition);
    device_call_input(call, &held->contribution);
    device_call_input(call, &held->in);
    device_call_list(call, (const int64_t *)merge->chains,
                     merge->chains != NULL && merge->num_chains > 0 ? 4 * merge->num_chains : 0,
                     (const int64_t **)&held->chains_cuda);
    return held;
}

gdncp_status_t on_device_state_merge(const gdncp_state_chains_t *merge,
                                     const gdncp_tensor_t *states, gdncp_workspace_t *workspace)
{
    device_call_t call;
    gdncp_state_chains_t held;

    device_call_begin(&call, workspace);
    merge = mirror_merge(&call, merge, &held);
    states = device_call_output_argument(&call, states);
    while (device_call_next(&call)) {
        call.status = gdncp_state_merge(merge, states, call.workspace);
    }
    return device_call_end(&call);
}

static const gdncp_gated_rmsnorm_t *
mirror_norm(device_call_t *call, const gdncp_gated_rmsnorm_t *norm, gdncp_gated_rmsnorm_t *held)
{
    if (norm == NULL) {
        return NULL;
    }
    *held = *norm;
    device_call_input(call, &held->x);
    device_call_input(call, &held->z);
    device_call_input(call, &held->weight);
    return held;
}

gdncp_status_t on_device_gated_rmsnorm_forward(const gdncp_gated_rmsnorm_t *norm,
                                               const gdncp_tensor_t *y,
                                               gdncp_workspace_t *workspace)
{
    device_call_t call;
    gdncp_gated_rmsnorm_t held;

    device_call_begin(&call, workspace);
    norm = mirror_norm(&call, norm, &held);
    y = device_call_output_argument(&call, y);
    while (device_call_next(&call)) {
        call.status = gdncp_gated_rmsnorm_forward(norm, y, call.workspace);
    }
    return device_call_end(&call);
}

gdncp_status_t on_device_gated_rmsnorm_backward(const gdncp_gated_rmsnorm_t *norm,
                                                const gdncp_tensor_t *grad_y,
                                                const gdncp_gated_rmsnorm_grads_t *grads,
                                                gdncp_workspace_t *workspace)
{
    device_call_t call;
    gdncp_gated_rmsnorm_t held;
    gdncp_gated_rmsnorm_grads_t held_grads;

    device_call_begin(&call, workspace);
    norm = mirror_norm(&call, norm, &held);
    grad_y = device_call_input_argument(&call, grad_y);
    if (grads != NULL) {
        held_grads = *grads;
        grads = &held_grads;
        device_call_output(&call, &held_grads.x);
        device_call_output(&call, &held_grads.z);
        device_call_output(&call, &held_grads.weight);
    }
    while (device_call_next(&call)) {
        call.status = gdncp_gated_rmsnorm_backward(norm, grad_y, grads, call.workspace);
    }
    return device_call_end(&call);
}

gdncp_status_t on_device_linear_forward(const gdncp_tensor_t *x, const gdncp_tensor_t *weight,
                                        const gdncp_tensor_t *y, gdncp_workspace_t *workspace)
{
    device_call_t call;

    device_call_begin(&call, workspace);
    x = device_call_input_argument(&call, x);
    weight = device_call_input_argument(&call, weight);
    y = device_call_output_argument(&call, y);
    while (device_call_next(&call)) {
        call.status = gdncp_linear_forward(x, weight, y, call.workspace);
    }
    return device_call_end(&call);
}

gdncp_status_t on_device_linear_backward_data(const gdncp_tensor_t *grad_y,
                                              const gdncp_tensor_t *weight, bool accumulate,
                                              const gdncp_tensor_t *grad_x,
                                              gdncp_workspace_t *workspace)
{
    device_call_t call;

    device_call_begin(&call, workspace);
    grad_y = device_call_input_argument(&call, grad_y);
    weight = device_call_input_argument(&call, weight);
    grad_x = device_call_output_argument(&call, grad_x);
    while (device_call_next(&call)) {
        call.status =
            gdncp_linear_backward_data(grad_y, weight, accumulate, grad_x, call.workspace);
    }
    return device_call_end(&call);
}

gdncp_status_t on_device_linear_backward_weight(const gdncp_tensor_t *grad_y,
                                                const gdncp_tensor_t *x,
                                                const gdncp_tensor_t *grad_weight,
                                                gdncp_workspace_t *workspace)
{
    device_call_t call;

    device_call_begin(&call, workspace);
    grad_y = device_call_input_argument(&call, grad_y);
    x = device_call_input_argument(&call, x);
    grad_weight = device_call_output_argument(&call, grad_weight);
    while (device_call_next(&call)) {
        call.status = gdncp_linear_backward_weight(grad_y, x, grad_weight, call.workspace);
    }
    return device_call_end(&call);
}

gdncp_status_t on_device_recurrent_step(const gdncp_recurrent_step_t *step, const gdncp_tensor_t *o,
                                        gdncp_workspace_t *workspace)
{
    device_call_t call;
    gdncp_recurrent_step_t held;

    device_call_begin(&call, workspace);
    if (step != NULL) {
        held = *step;
        step = &held;
        device_call_input(&call, &held.q);
        device_call_input(&call, &held.k);
        device_call_input(&call, &held.v);
        device_call_input(&call, &held.g);
        device_call_input(&call, &held.beta);
        device_call_output(&call, &held.states);
        device_call_input(&call, &held.slots);
        device_call_input(&call, &held.num_accepted);
        device_call_list(&call, held.cu_seqlens, held.num_sequences + 1, &held.cu_seqlens_cuda);
    }
    o = device_call_output_argument(&call, o);
    while (device_call_next(&call)) {
        call.status = gdncp_recurrent_step(step, o, call.workspace);
    }
    return device_call_end(&call);
}

gdncp_status_t on_device_conv1d_update(const gdncp_conv1d_update_t *update, const gdncp_tensor_t *y,
                                       gdncp_workspace_t *workspace)
{
    device_call_t call;
    gdncp_conv1d_update_t held;

    device_call_begin(&call, workspace);
    if (update != NULL) {
        held = *update;
        update = &held;
        device_call_input(&call, &held.x);
        device_call_input(&call, &held.weight);
        device_call_input(&call, &held.bias);
        device_call_output(&call, &held.states);
        device_call_input(&call, &held.slots);
        device_call_input(&call, &held.has_initial_state);
        device_call_input(&call, &held.num_accepted);
        device_call_list(&call, held.cu_seqlens, held.num_sequences + 1, &held.cu_seqlens_cuda);
    }
    y = device_call_output_argument(&call, y);
    while (device_call_next(&call)) {
        call.status = gdncp_conv1d_update(update, y, call.workspace);
    }
    return device_call_end(&call);
}
