/* Convolution and gate of some heads. */
#include "token_mix.h"

#include "layer_views.h"
#include "trace_internal.h"

int64_t gdncp_token_mix_channels(const gdncp_token_mix_t *mix)
{
    return 2 * mix->key_heads * mix->key_head_dim + mix->value_heads * mix->value_head_dim;
}

gdncp_mixed_t gdncp_mixed_take(const gdncp_token_mix_t *mix, gdncp_arena_t *arena)
{
    gdncp_mixed_t mixed;

    mixed.qkv =
        gdncp_arena_elements(arena, mix->rule_dtype, mix->tokens * gdncp_token_mix_channels(mix));
    mixed.g = gdncp_arena_floats(arena, mix->tokens * mix->value_heads);
    mixed.beta = gdncp_arena_floats(arena, mix->tokens * mix->value_heads);
    return mixed;
}

gdncp_cp_rule_inputs_t gdncp_mixed_inputs(const gdncp_token_mix_t *mix, const gdncp_mixed_t *mixed)
{
    const int64_t channels = gdncp_token_mix_channels(mix);
    const int64_t key_channels = mix->key_heads * mix->key_head_dim;
    const gdncp_dtype_t dtype = mix->rule_dtype;
    void *const k = gdncp_view_at(mixed->qkv, dtype, key_channels);
    void *const v = gdncp_view_at(mixed->qkv, dtype, 2 * key_channels);

    return (gdncp_cp_rule_inputs_t){
        .q = gdncp_view_heads(mix->device, mixed->qkv, dtype, mix->tokens, mix->key_heads,
                              mix->key_head_dim, channels),
        .k = gdncp_view_heads(mix->device, k, dtype, mix->tokens, mix->key_heads, mix->key_head_dim,
                              channels),
        .v = gdncp_view_heads(mix->device, v, dtype, mix->tokens, mix->value_heads,
                              mix->value_head_dim, channels),
        .g = gdncp_view_channels(mix->device, mixed->g, GDNCP_F32, mix->tokens, mix->value_heads,
                                 mix->value_heads),
        .beta = gdncp_view_channels(mix->device, mixed->beta, GDNCP_F32, mix->tokens,
                                    mix->value_heads, mix->value_heads),
    };
}

static gdncp_conv1d_t conv_of(const gdncp_token_mix_t *mix,
                              const gdncp_token_mix_tensors_t *tensors)
{
    return (gdncp_conv1d_t){
        .x = tensors->qkv,
        .weight = tensors->conv_weight,
        .bias = tensors->conv_bias,
        .window = tensors->window,
        .cu_seqlens = mix->cu_seqlens->host,
        .cu_seqlens_cuda = mix->cu_seqlens->cuda,
        .num_sequences = mix->num_sequences,
        .activation = GDNCP_ACTIVATION_SILU,
    };
}

static gdncp_gate_t gate_of(const gdncp_token_mix_t *mix, const gdncp_token_mix_tensors_t *tensors)
{
    return (gdncp_gate_t){
        .a = tensors->a,
        .b = tensors->b,
        .A_log = tensors->A_log,
        .dt_bias = tensors->dt_bias,
        .allow_neg_eigval = mix->allow_neg_eigval,
    };
}

static gdncp_tensor_t view_qkv(const gdncp_token_mix_t *mix, const gdncp_mixed_t *mixed)
{
    const int64_t channels = gdncp_token_mix_channels(mix);

    return gdncp_view_channels(mix->device, mixed->qkv, mix->rule_dtype, mix->tokens, channels,
                               channels);
}

gdncp_status_t gdncp_token_mix_gate(const gdncp_token_mix_t *mix,
                                    const gdncp_token_mix_tensors_t *tensors,
                                    const gdncp_mixed_t *mixed, gdncp_workspace_t *workspace)
{
    const gdncp_gate_t gate = gate_of(mix, tensors);
    const gdncp_cp_rule_inputs_t inputs = gdncp_mixed_inputs(mix, mixed);
    const int64_t start = gdncp_trace_begin();
    const gdncp_status_t status = gdncp_gate_forward(&gate, &inputs.g, &inputs.beta, workspace);

    gdncp_trace_end("gate", start, 0);
    return status;
}

gdncp_status_t gdncp_token_mix_conv(const gdncp_token_mix_t *mix,
                                    const gdncp_token_mix_tensors_t *tensors,
                                    const gdncp_mixed_t *mixed, gdncp_workspace_t *workspace)
{
    const gdncp_conv1d_t conv = conv_of(mix, tensors);
    const gdncp_tensor_t y = view_qkv(mix, mixed);
    const int64_t start = gdncp_trace_begin();
    const gdncp_status_t status = gdncp_conv1d_forward(&conv, &y, NULL, workspace);

    gdncp_trace_end("conv1d", start, 0);
    return status;
}

gdncp_status_t gdncp_token_mix_backward(const gdncp_token_mix_t *mix,
                                        const gdncp_token_mix_tensors_t *tensors,
                                        const gdncp_mixed_t *grad_mixed,
                                        const gdncp_token_mix_tensors_t *grads,
                                        gdncp_workspace_t *workspace)
{
    const gdncp_conv1d_t conv = conv_of(mix, tensors);
    const gdncp_gate_t gate = gate_of(mix, tensors);
    const gdncp_cp_rule_inputs_t grad_inputs = gdncp_mixed_inputs(mix, grad_mixed);
    const gdncp_tensor_t grad_y = view_qkv(mix, grad_mixed);
    const gdncp_conv1d_grads_t conv_grads = {
        .x = grads->qkv,
        .weight = grads->conv_weight,
        .bias = grads->conv_bias,
        .window = grads->window,
    };
    const gdncp_gate_grads_t gate_grads = {
        .a = grads->a, .b = grads->b, .A_log = grads->A_log, .dt_bias = grads->dt_bias};
    int64_t start = gdncp_trace_begin();
    gdncp_status_t status =
        gdncp_gate_backward(&gate, &grad_inputs.g, &grad_inputs.beta, &gate_grads, workspace);

    if (status != GDNCP_OK) {
        return status;
    }
    gdncp_trace_end("gate backward", start, 0);
    start = gdncp_trace_begin();
    status = gdncp_conv1d_backward(&conv, &grad_y, &conv_grads, workspace);
    gdncp_trace_end("conv1d backward", start, 0);
    return status;
}
