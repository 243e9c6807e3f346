/**
 * @file
 * Operators of a Gated DeltaNet layer on one rank's tokens.
 *
 * Operators know nothing of ranks. Tokens are packed: a token dimension holds
 * sequences end to end, sequence i from cu_seqlens[i] to cu_seqlens[i+1]-1.
 * What is called a sequence here may be a segment of a longer one; its initial
 * state, or window, then comes from the tokens before it.
 *
 * Conventions for all of them:
 * - q, k, v, x, z, a, b and their gradients are F32, BF16 or F16, one dtype a call;
 *   g, beta, states, A_log, dt_bias and parameter gradients are F32.
 * - The innermost dimension is contiguous and the token stride is free, unless said
 *   otherwise. Sums run in float32 or wider and in fixed order: the same input gives the same
 *   bits, whatever the number of threads, but where long sequences are cut: gdncp_delta_rule_t.
 * - A tensor with data == NULL is absent; "optional" says where that is allowed.
 * - Outputs are written in full, never added to.
 * - Arguments are checked before anything is written. The error names the tensor.
 * - A call runs where its workspace is, and its tensors must lie there; NULL is the CPU, with
 *   scratch allocated for the call. Calls on different workspaces may run in parallel.
 * - On the CPU a call returns when it is done; OpenMP threads as the caller has set. On CUDA it
 *   queues its work in the workspace's stream and neither waits nor allocates, but for growing the
 *   workspace: a call of the same shapes after a first one can be captured in a CUDA graph.
 * - Offsets and lists (cu_seqlens, sequences) are read on the host; where tensors are on a CUDA
 *   device, the same numbers are needed in its memory too, at the argument named *_cuda. Numbers
 *   there that differ from those on the host give undefined results.
 * - Errors: GDNCP_ERR_INVALID_ARGUMENT, GDNCP_ERR_OUT_OF_MEMORY, GDNCP_ERR_NOT_SUPPORTED.
 *
 * T = tokens, N = sequences, Hk and Hv = key and value heads, dk and dv = head
 * dims, C = channels, W = conv width. The maths and its sources are in gdn/ops/<op>/README.md.
 */
#ifndef GDNCP_OPS_H
#define GDNCP_OPS_H

#include <stdbool.h>
#include <stdint.h>

#include "export.h"
#include "memory.h"
#include "status.h"
#include "tensor.h"

GDNCP_BEGIN_DECLS

/* ------------------------------------------------------------------ gate */

/**
 * g = -exp(A_log) softplus(a + dt_bias), or g = a where both parameters are absent: then `a` is the
 * log-gate itself. beta = sigmoid(b), twice that with allow_neg_eigval.
 *
 * With chunk_size > 0 g is summed inside chunks of so many tokens, as gdncp_chunk_cumsum() does;
 * without, cu_seqlens is not read.
 */
typedef struct gdncp_gate {
    gdncp_tensor_t a;       /**< [T, Hv] */
    gdncp_tensor_t b;       /**< [T, Hv] */
    gdncp_tensor_t A_log;   /**< [Hv]; optional, together with dt_bias */
    gdncp_tensor_t dt_bias; /**< [Hv]; optional, together with A_log */
    bool allow_neg_eigval;
    int64_t chunk_size;             /**< tokens, any number; 0: no sums */
    const int64_t *cu_seqlens;      /**< [N + 1]; with chunk_size */
    const int64_t *cu_seqlens_cuda; /**< [N + 1] in device memory; NULL on the CPU */
    int64_t num_sequences;
} gdncp_gate_t;

/** @param g, beta  [T, Hv] F32, written in full; with chunk_size g is the sum inside its chunk */
GDNCP_API gdncp_status_t gdncp_gate_forward(const gdncp_gate_t *gate, const gdncp_tensor_t *g,
                                            const gdncp_tensor_t *beta,
                                            gdncp_workspace_t *workspace);

/** Gradients of the gate; all written in full. */
typedef struct gdncp_gate_grads {
    gdncp_tensor_t a;       /**< [T, Hv], dtype of a */
    gdncp_tensor_t b;       /**< [T, Hv], dtype of b */
    gdncp_tensor_t A_log;   /**< [Hv] F32, summed over T in float64; absent where A_log is */
    gdncp_tensor_t dt_bias; /**< [Hv] F32, summed over T in float64; absent where dt_bias is */
} gdncp_gate_grads_t;

/** @param grad_g, grad_beta  [T, Hv] F32; grad_g of what the forward wrote to g, sums or not */
GDNCP_API gdncp_status_t gdncp_gate_backward(const gdncp_gate_t *gate, const gdncp_tensor_t *grad_g,
                                             const gdncp_tensor_t *grad_beta,
                                             const gdncp_gate_grads_t *grads,
                                             gdncp_workspace_t *workspace);

/**
 * Cumulative sum of g inside chunks: out[t] = g[first token of t's chunk] + … + g[t].
 * Chunks start anew at each sequence.
 * @param g, out      [T, Hv] F32; out may be g
 * @param chunk_size  tokens, > 0
 */
GDNCP_API gdncp_status_t gdncp_chunk_cumsum(const gdncp_tensor_t *g, const int64_t *cu_seqlens,
                                            const int64_t *cu_seqlens_cuda, int64_t num_sequences,
                                            int64_t chunk_size, const gdncp_tensor_t *out,
                                            gdncp_workspace_t *workspace);

/* ---------------------------------------------------------------- l2norm */

/** y = x (sum x^2 + eps)^-1/2 over the last dimension. @param x, y  [T, H, d]; y may be x. */
GDNCP_API gdncp_status_t gdncp_l2norm_forward(const gdncp_tensor_t *x, float eps,
                                              const gdncp_tensor_t *y,
                                              gdncp_workspace_t *workspace);

/** Gradient of gdncp_l2norm_forward(), from its input. @param x, grad_y, grad_x  [T, H, d] */
GDNCP_API gdncp_status_t gdncp_l2norm_backward(const gdncp_tensor_t *x, float eps,
                                               const gdncp_tensor_t *grad_y,
                                               const gdncp_tensor_t *grad_x,
                                               gdncp_workspace_t *workspace);

/* ---------------------------------------------------------------- conv1d */

typedef enum gdncp_activation {
    GDNCP_ACTIVATION_NONE = 0,
    GDNCP_ACTIVATION_SILU
} gdncp_activation_t;

/** Depthwise causal convolution: y[t] = act(bias + sum_i weight[:, i] x[t-W+1+i]). */
typedef struct gdncp_conv1d {
    gdncp_tensor_t x;               /**< [T, C], token stride free */
    gdncp_tensor_t weight;          /**< [C, W] F32, 1 <= W <= 8 */
    gdncp_tensor_t bias;            /**< [C] F32, optional */
    gdncp_tensor_t window;          /**< [N, W-1, C] dtype of x, contiguous: the tokens before each
                                         sequence; optional: zeros */
    const int64_t *cu_seqlens;      /**< [N + 1] */
    const int64_t *cu_seqlens_cuda; /**< [N + 1] in device memory; NULL on the CPU */
    int64_t num_sequences;
    gdncp_activation_t activation;
} gdncp_conv1d_t;

/**
 * @param y             [T, C], dtype of x or F32, token stride free
 * @param final_window  [N, W-1, C], dtype of x, contiguous, optional (data == NULL or NULL): the
 * last W-1 tokens of each sequence, from its window where it is shorter
 */
GDNCP_API gdncp_status_t gdncp_conv1d_forward(const gdncp_conv1d_t *conv, const gdncp_tensor_t *y,
                                              const gdncp_tensor_t *final_window,
                                              gdncp_workspace_t *workspace);

typedef struct gdncp_conv1d_grads {
    gdncp_tensor_t x;      /**< [T, C] dtype of x, token stride free */
    gdncp_tensor_t weight; /**< [C, W] F32 */
    gdncp_tensor_t bias;   /**< [C] F32; absent where bias is */
    gdncp_tensor_t window; /**< [N, W-1, C] dtype of x; optional */
} gdncp_conv1d_grads_t;

/** @param grad_y  [T, C], dtype of x or F32, token stride free */
GDNCP_API gdncp_status_t gdncp_conv1d_backward(const gdncp_conv1d_t *conv,
                                               const gdncp_tensor_t *grad_y,
                                               const gdncp_conv1d_grads_t *grads,
                                               gdncp_workspace_t *workspace);

/* ------------------------------------------------------ gated delta rule */

/** How the states of a delta rule lie in memory. */
typedef enum gdncp_state_layout {
    GDNCP_STATE_DK_DV = 0, /**< [.., dk, dv]: keys are rows */
    GDNCP_STATE_DV_DK      /**< [.., dv, dk] */
} gdncp_state_layout_t;

/** Tokens of a sequence from one saved state to the next. */
#define GDNCP_SAVED_STATE_TOKENS 512

/**
 * The gated delta rule, per value head with state S [dk, dv]:
 *
 *     S <- exp(g) S;  u = beta (v - S'k);  S <- S + k u';  o = scale S'q
 *
 * Value head j reads key head floor((j + group_phase) / group_size); a caller that holds
 * all heads leaves both 0 and gets group_size = Hv / Hk.
 *
 * On a CUDA device dk is 256 at most, else GDNCP_ERR_NOT_SUPPORTED; dv is free.
 *
 * On a CPU with matrix tiles (AMX) a rule whose q, k, v are BF16 multiplies on them, its float32
 * operands as sums of two bf16, unless GDNCP_AMX is 0; a value of it that is neither 0 nor 1 is
 * GDNCP_ERR_INVALID_ARGUMENT.
 *
 * Forward and backward may cut sequences much longer than what each of the threads, or
 * multiprocessors, would have to do into pieces that are walked over at once. Where they are cut
 * depends on lengths, heads, dims and the number of threads, or the device, alone: the same bits on
 * every run, but in the last places other bits than without cuts. One thread cuts nothing.
 */
typedef struct gdncp_delta_rule {
    gdncp_tensor_t q;             /**< [T, Hk, dk] */
    gdncp_tensor_t k;             /**< [T, Hk, dk] */
    gdncp_tensor_t v;             /**< [T, Hv, dv] */
    gdncp_tensor_t g;             /**< [T, Hv] F32, contiguous, <= 0 as a rule */
    gdncp_tensor_t beta;          /**< [T, Hv] F32, contiguous */
    gdncp_tensor_t initial_state; /**< [N, Hv, dk, dv] F32, contiguous; optional: zeros */
    /**
     * Optional: gdncp_delta_rule_forward() computes g and beta from it first, and writes them to
     * the two tensors above for the backward; other calls read them there. Its chunk_size is 0.
     */
    const gdncp_gate_t *gate;
    /**
     * [T / GDNCP_SAVED_STATE_TOKENS, Hv, dk, dv] F32, contiguous, optional:
     * gdncp_delta_rule_forward() writes states here that gdncp_delta_rule_backward() then reads
     * instead of walking forward for them; 128 bytes a token and value head at 128 x 128, a quarter
     * of what its v takes in F32. Only what a sequence of more than GDNCP_SAVED_STATE_TOKENS tokens
     * needs is written. Must be absent on a CUDA device, else GDNCP_ERR_NOT_SUPPORTED.
     */
    gdncp_tensor_t saved_states;
    /**
     * Of initial and final states and their gradients in gdncp_delta_rule_forward() and
     * gdncp_delta_rule_backward(); the shapes given for them here are those of GDNCP_STATE_DK_DV.
     * Summaries take no other one: GDNCP_ERR_NOT_SUPPORTED.
     */
    gdncp_state_layout_t state_layout;
    const int64_t *cu_seqlens;      /**< [N + 1] */
    const int64_t *cu_seqlens_cuda; /**< [N + 1] in device memory; NULL on the CPU */
    int64_t num_sequences;
    int64_t group_size;  /**< value heads a key head serves; 0: Hv / Hk, which must divide */
    int64_t group_phase; /**< value heads of the first key head's group that are not here */
    float scale;         /**< of q; 0: dk^-1/2 */
    bool qk_l2norm;      /**< normalise q and k per head first, eps 1e-6 */
} gdncp_delta_rule_t;

/**
 * @param o            [T, Hv, dv], dtype of v
 * @param final_state  [N, Hv, dk, dv] F32, contiguous; optional (NULL or data == NULL). A
 * zero-length sequence passes its initial state on.
 */
GDNCP_API gdncp_status_t gdncp_delta_rule_forward(const gdncp_delta_rule_t *rule,
                                                  const gdncp_tensor_t *o,
                                                  const gdncp_tensor_t *final_state,
                                                  gdncp_workspace_t *workspace);

typedef struct gdncp_delta_rule_grads {
    gdncp_tensor_t q;               /**< [T, Hk, dk] dtype of q; summed over a group in float32 */
    gdncp_tensor_t k;               /**< [T, Hk, dk] */
    gdncp_tensor_t v;               /**< [T, Hv, dv] */
    gdncp_tensor_t g;               /**< [T, Hv] F32 */
    gdncp_tensor_t beta;            /**< [T, Hv] F32 */
    gdncp_tensor_t initial_state;   /**< [N, Hv, dk, dv] F32; optional; may be grad_final_state */
    const gdncp_gate_grads_t *gate; /**< where the rule has a gate, else NULL; from g and beta */
} gdncp_delta_rule_grads_t;

/**
 * Gradients, recomputing the states from initial_state, and from saved_states where those are given
 * as the forward of the same rule left them. Without them, sequences of more than 4096 tokens cost
 * one more walk over their tokens, about a third of a forward, and the bits are the same unless
 * sequences are cut into pieces.
 * @param grad_o            [T, Hv, dv]
 * @param grad_final_state  [N, Hv, dk, dv] F32, contiguous; optional: zeros
 */
GDNCP_API gdncp_status_t gdncp_delta_rule_backward(const gdncp_delta_rule_t *rule,
                                                   const gdncp_tensor_t *grad_o,
                                                   const gdncp_tensor_t *grad_final_state,
                                                   const gdncp_delta_rule_grads_t *grads,
                                                   gdncp_workspace_t *workspace);

/**
 * The affine map of each sequence: final state = M initial state + U, per value head.
 *
 * rule->q is not read and may be absent; neither is rule->initial_state where M is wanted.
 *
 * @param sequences      [num_selected] which sequences; NULL: all, in order
 * @param transition     M [num_selected, Hv, dk, dk] F32, contiguous; optional (NULL or data ==
 *                       NULL): then contribution becomes the final state that rule->initial_state
 *                       leads to
 * @param contribution   U [num_selected, Hv, dk, dv] F32, contiguous
 */
GDNCP_API gdncp_status_t gdncp_delta_rule_summary(
    const gdncp_delta_rule_t *rule, const int64_t *sequences, const int64_t *sequences_cuda,
    int64_t num_selected, const gdncp_tensor_t *transition, const gdncp_tensor_t *contribution,
    gdncp_workspace_t *workspace);

/**
 * The gradient of each sequence's initial state through its own tokens:
 * grad initial state = M' grad final state + D; this gives D plus, where grad_final_state
 * is given, M' grad_final_state. Needs no states: rule->initial_state is not read.
 *
 * @param sequences         [num_selected] which sequences; NULL: all, in order
 * @param grad_o            [T, Hv, dv]
 * @param grad_final_state  [num_selected, Hv, dk, dv] F32; optional: zeros
 * @param grad_initial      [num_selected, Hv, dk, dv] F32, contiguous; may be grad_final_state
 */
GDNCP_API gdncp_status_t gdncp_delta_rule_grad_summary(
    const gdncp_delta_rule_t *rule, const int64_t *sequences, const int64_t *sequences_cuda,
    int64_t num_selected, const gdncp_tensor_t *grad_o, const gdncp_tensor_t *grad_final_state,
    const gdncp_tensor_t *grad_initial, gdncp_workspace_t *workspace);

/* ----------------------------------------------------------- state merge */

/**
 * Steps that follow each other along a chain of segments: S_j = M_j S_(j-1) + U_j, or with
 * `backward` S_j = M_j' S_(j-1) + U_j.
 *
 * Step j = 0 .. count - 1 has row first + j of contribution and of the states, with `backward` row
 * first - j. The first step that has an M has row `transition` of them, later ones the rows behind
 * it, with `backward` before it.
 */
typedef struct gdncp_state_chain {
    int64_t first;
    int64_t transition; /**< not read where no step has an M */
    int64_t count;      /**< > 0 */
    int64_t continues;  /**< 1: step 0 goes on from `in`; 0: it has no M, its state is U_0 */
} gdncp_state_chain_t;

/** Chains that do not depend on each other: no two write the same row. */
typedef struct gdncp_state_chains {
    gdncp_tensor_t transition;              /**< M [m, dk, dk] F32, contiguous; optional where no
                                                 step has one */
    gdncp_tensor_t contribution;            /**< U [n, dk, dv] F32, contiguous */
    gdncp_tensor_t in;                      /**< [dk, dv] F32, contiguous; optional where no chain
                                                 continues */
    const gdncp_state_chain_t *chains;      /**< [num_chains] */
    const gdncp_state_chain_t *chains_cuda; /**< [num_chains] in device memory; NULL on the CPU */
    int64_t num_chains;
    bool backward;
} gdncp_state_chains_t;

/**
 * Walk along chains of segments, all at once: one launch on a CUDA device, OpenMP threads on the
 * CPU. dk is at most 256 on a CUDA device.
 *
 * @param states  S [n, dk, dv] F32, contiguous, memory of its own; the rows of the chains' steps
 *                are written in full, others are left alone
 */
GDNCP_API gdncp_status_t gdncp_state_merge(const gdncp_state_chains_t *merge,
                                           const gdncp_tensor_t *states,
                                           gdncp_workspace_t *workspace);

/* --------------------------------------------------------- gated RMSNorm */

/**
 * y = norm(x) (weight + weight_offset) SiLU(z), or with gate_first
 * y = norm(x SiLU(z)) (weight + weight_offset), where norm(u) = u (mean u^2 + eps)^-1/2 over the
 * last dimension.
 */
typedef struct gdncp_gated_rmsnorm {
    gdncp_tensor_t x;      /**< [T, H, d] */
    gdncp_tensor_t z;      /**< [T, H, d]; its dtype may differ from that of x */
    gdncp_tensor_t weight; /**< [d] F32 */
    float eps;
    float weight_offset; /**< finite; 1 for models that keep their weight around zero */
    bool gate_first;     /**< gate before the norm (Mamba-2), not after it */
} gdncp_gated_rmsnorm_t;

/** @param y  [T, H, d], of any dtype */
GDNCP_API gdncp_status_t gdncp_gated_rmsnorm_forward(const gdncp_gated_rmsnorm_t *norm,
                                                     const gdncp_tensor_t *y,
                                                     gdncp_workspace_t *workspace);

typedef struct gdncp_gated_rmsnorm_grads {
    gdncp_tensor_t x;      /**< [T, H, d], dtype of x */
    gdncp_tensor_t z;      /**< [T, H, d], dtype of z */
    gdncp_tensor_t weight; /**< [d] F32, summed in fixed order, wider than float32 */
} gdncp_gated_rmsnorm_grads_t;

/** @param grad_y  [T, H, d], of any dtype */
GDNCP_API gdncp_status_t gdncp_gated_rmsnorm_backward(const gdncp_gated_rmsnorm_t *norm,
                                                      const gdncp_tensor_t *grad_y,
                                                      const gdncp_gated_rmsnorm_grads_t *grads,
                                                      gdncp_workspace_t *workspace);

/* ------------------------------------------------------------ projection */

/*
 * In projections every tensor of tokens has the dtype of the weight or F32, each by itself; in
 * gdncp_linear_backward_weight() x and grad_y have one dtype, or one of them is F32. On the CPU two
 * bf16 operands are multiplied on matrix tiles where it has them, unless GDNCP_AMX is 0; a value
 * that is neither 0 nor 1 is GDNCP_ERR_INVALID_ARGUMENT.
 */

/** y = x weight'. @param x [T, I], @param weight [O, I], @param y [T, O] */
GDNCP_API gdncp_status_t gdncp_linear_forward(const gdncp_tensor_t *x, const gdncp_tensor_t *weight,
                                              const gdncp_tensor_t *y,
                                              gdncp_workspace_t *workspace);

/**
 * grad_x = grad_y weight, or grad_x += with @p accumulate (in float32, then cast).
 * @param grad_y [T, O], @param weight [O, I], @param grad_x [T, I]
 */
GDNCP_API gdncp_status_t gdncp_linear_backward_data(const gdncp_tensor_t *grad_y,
                                                    const gdncp_tensor_t *weight, bool accumulate,
                                                    const gdncp_tensor_t *grad_x,
                                                    gdncp_workspace_t *workspace);

/** grad_weight = grad_y' x. @param grad_y [T, O], @param x [T, I], @param grad_weight [O, I] F32 */
GDNCP_API gdncp_status_t gdncp_linear_backward_weight(const gdncp_tensor_t *grad_y,
                                                      const gdncp_tensor_t *x,
                                                      const gdncp_tensor_t *grad_weight,
                                                      gdncp_workspace_t *workspace);

GDNCP_END_DECLS

#endif
