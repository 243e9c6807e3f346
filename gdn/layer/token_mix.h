/*
 * From a layer's projected channels to the delta rule's inputs, on tokens that are all here: the
 * convolution and the gate of some heads, forward and backward.
 */
#ifndef GDNCP_TOKEN_MIX_H
#define GDNCP_TOKEN_MIX_H

#include <stdbool.h>
#include <stdint.h>

#include "device_list.h"
#include "gdncp/layer.h"
#include "gdncp/ops.h"
#include "op_scratch.h"

typedef struct gdncp_token_mix {
    int64_t tokens;
    int64_t key_heads;
    int64_t value_heads;
    int64_t key_head_dim;
    int64_t value_head_dim;
    int64_t conv_kernel_dim;
    gdncp_dtype_t dtype;      /* of what the mix is made from */
    gdncp_dtype_t rule_dtype; /* of q, k, v */
    bool allow_neg_eigval;
    const gdncp_device_list_t *cu_seqlens; /* [num_sequences + 1] */
    int64_t num_sequences;
    gdncp_device_kind_t device;
} gdncp_token_mix_t;

/* Channels of the convolution: query, key, value. */
int64_t gdncp_token_mix_channels(const gdncp_token_mix_t *mix);

/* What the mix is made from; gradients have the same form. */
typedef struct gdncp_token_mix_tensors {
    gdncp_tensor_t qkv;         /* [tokens, channels] */
    gdncp_tensor_t a;           /* [tokens, value_heads] */
    gdncp_tensor_t b;           /* [tokens, value_heads] */
    gdncp_tensor_t window;      /* [num_sequences, W-1, channels]; optional */
    gdncp_tensor_t conv_weight; /* [channels, W] F32 */
    gdncp_tensor_t conv_bias;   /* [channels] F32, optional */
    gdncp_tensor_t A_log;       /* [value_heads] F32 */
    gdncp_tensor_t dt_bias;     /* [value_heads] F32 */
} gdncp_token_mix_tensors_t;

/*
 * The rule's inputs, or their gradients: q, k, v side by side in one buffer. They may be float32 in
 * a 16-bit layer: rounding them is most of its error, and they never leave the rank.
 */
typedef struct gdncp_mixed {
    void *qkv;   /* [tokens, channels] in rule_dtype */
    float *g;    /* [tokens, value_heads] */
    float *beta; /* [tokens, value_heads] */
} gdncp_mixed_t;

gdncp_mixed_t gdncp_mixed_take(const gdncp_token_mix_t *mix, gdncp_arena_t *arena);

/* q, k, v, g, beta as views; no initial state. */
gdncp_cp_rule_inputs_t gdncp_mixed_inputs(const gdncp_token_mix_t *mix, const gdncp_mixed_t *mixed);

/* The gate: g and beta of mixed. Reads a, b, A_log and dt_bias only. */
gdncp_status_t gdncp_token_mix_gate(const gdncp_token_mix_t *mix,
                                    const gdncp_token_mix_tensors_t *tensors,
                                    const gdncp_mixed_t *mixed, gdncp_workspace_t *workspace);

/* The convolution: qkv of mixed. Reads the other tensors only. */
gdncp_status_t gdncp_token_mix_conv(const gdncp_token_mix_t *mix,
                                    const gdncp_token_mix_tensors_t *tensors,
                                    const gdncp_mixed_t *mixed, gdncp_workspace_t *workspace);

/* Both of them backward; workspace for sums. */
gdncp_status_t gdncp_token_mix_backward(const gdncp_token_mix_t *mix,
                                        const gdncp_token_mix_tensors_t *tensors,
                                        const gdncp_mixed_t *grad_mixed,
                                        const gdncp_token_mix_tensors_t *grads,
                                        gdncp_workspace_t *workspace);

#endif
