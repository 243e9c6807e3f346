/**
 * @file
 * Gated DeltaNet layers across ranks.
 *
 * Three levels, each usable by itself:
 * - gdncp_cp_rule_t: the gated delta rule;
 * - gdncp_cp_core_t: from the projections' outputs (qkv, z, b, a) to the gated, normed output, for
 *   trainers with their own projections;
 * - gdncp_layer_t: the whole layer, hidden states in, hidden states out.
 *
 * Each is made once for a communicator, a layout and a shape. Making one is collective and
 * compares what the ranks ask for; running one allocates nothing. All tensors hold this rank's
 * tokens in the order of its layout buffer. For a batch, lay the rows end to end as sequences
 * of one pack.
 *
 * Of a padded pack (see layout.h) the tensors hold the padding too. What is read may be anything
 * there, NaN too; outputs and gradients of inputs are zeros there. No state, halo or parameter's
 * gradient is made of it: all else has the bits that it has with gdncp_layout_without_padding(). On
 * ranks that hold padding, tokens are copied without it on the way in and out, to memory that is
 * allocated for that when the object is made.
 *
 * Strategies say how sequences that lie on several ranks are put together. The result is the
 * same; the traffic is not:
 * - states: tokens stay where they are. Each rank sends the affine maps (M, U) of its segments
 *   and gets the states before them, and the convolution's halo. Bytes do not grow
 *   with tokens or ranks.
 * - heads: all tokens of a rank's heads come together on that rank, and the output goes back.
 *
 * The tensors of all calls lie on the config's device. On GDNCP_DEVICE_CUDA forward and backward
 * queue their work in the config's stream, which must outlive the object, and return at once. They
 * read no tensor on the host, wait for nothing and allocate nothing, but that scratch grows in the
 * first of each; after one forward and one backward they can be captured in a CUDA graph, which all
 * ranks launch alike and as long as the object lives. Ranks that are threads of one process need a
 * stream each. While runs are queued the communicator is asked for nothing else.
 *
 * Everything here is collective, but for handles, sizes and checks: all ranks, same order. Errors:
 * what the operators, plans and the communicator give. After an error during a run the communicator
 * can only be shrunk or destroyed.
 *
 * T = local tokens, with padding, S = sequences of the pack, Hk and Hv = key and value heads, dk
 * and dv = head dims, C = 2 Hk dk + Hv dv = conv channels, W = conv width, D = hidden size.
 */
#ifndef GDNCP_LAYER_H
#define GDNCP_LAYER_H

#include <stdbool.h>
#include <stdint.h>

#include "comm.h"
#include "export.h"
#include "layout.h"
#include "status.h"
#include "tensor.h"
#include "weights.h"

GDNCP_BEGIN_DECLS

typedef enum gdncp_strategy { GDNCP_STRATEGY_STATES = 0, GDNCP_STRATEGY_HEADS } gdncp_strategy_t;

/** "states", "heads"; "?" for a value outside the enum. */
GDNCP_API const char *gdncp_strategy_name(gdncp_strategy_t strategy);

/** The strategy with that name. The error lists the names there are. */
GDNCP_API gdncp_status_t gdncp_strategy_from_name(const char *name, gdncp_strategy_t *strategy_p);

/* ------------------------------------------------------------------ rule */

typedef struct gdncp_cp_rule gdncp_cp_rule_t;

typedef struct gdncp_cp_rule_config {
    int64_t num_key_heads;   /**< Hk, divides Hv */
    int64_t num_value_heads; /**< Hv */
    int64_t key_head_dim;    /**< dk */
    int64_t value_head_dim;  /**< dv */
    gdncp_dtype_t dtype;     /**< of q, k, v, o: F32, BF16 or F16 */
    gdncp_strategy_t strategy;
    bool qk_l2norm;             /**< normalise q and k per head first */
    float scale;                /**< of q; 0: dk^-1/2 */
    gdncp_device_kind_t device; /**< where all tensors of a call lie */
    gdncp_stream_t stream;      /**< of that device, in which all calls run; NULL on the CPU */
} gdncp_cp_rule_config_t;

/**
 * @param layout  who holds which token; same on all ranks. Copied as needed.
 * @param rule_p  set on success; free with gdncp_cp_rule_destroy() before the communicator
 */
GDNCP_API gdncp_status_t gdncp_cp_rule_create(gdncp_comm_t *comm, const gdncp_layout_t *layout,
                                              const gdncp_cp_rule_config_t *config,
                                              gdncp_cp_rule_t **rule_p);
GDNCP_API void gdncp_cp_rule_destroy(gdncp_cp_rule_t *rule);

/**
 * GDNCP_OK, or what has gone wrong between the ranks in earlier runs, after which there is no
 * other.
 *
 * On the CPU every run says so itself. On a CUDA device a lost peer is found while the stream runs:
 * results are good where this is GDNCP_OK after gdncp_stream_synchronize().
 */
GDNCP_API gdncp_status_t gdncp_cp_rule_check(const gdncp_cp_rule_t *rule);

/** What backward needs from forward. One for every forward whose backward is still to come. */
typedef struct gdncp_cp_rule_saved gdncp_cp_rule_saved_t;
GDNCP_API gdncp_status_t gdncp_cp_rule_saved_create(const gdncp_cp_rule_t *rule,
                                                    gdncp_cp_rule_saved_t **saved_p);
GDNCP_API void gdncp_cp_rule_saved_destroy(gdncp_cp_rule_saved_t *saved);

/** Bytes of one saved handle. */
GDNCP_API int64_t gdncp_cp_rule_saved_bytes(const gdncp_cp_rule_t *rule);

/**
 * The rank at which the initial state of one sequence and value head enters, and the rank at which
 * its final state leaves. With states: the holders of the sequence's first and last token, padding
 * aside; with heads: the rank that works on the head. Rank 0 for a zero-length sequence under
 * states.
 */
GDNCP_API int gdncp_cp_rule_initial_state_rank(const gdncp_cp_rule_t *rule, int64_t sequence,
                                               int64_t value_head);
GDNCP_API int gdncp_cp_rule_final_state_rank(const gdncp_cp_rule_t *rule, int64_t sequence,
                                             int64_t value_head);

/** Inputs of the rule; backward must be given the same again. */
typedef struct gdncp_cp_rule_inputs {
    gdncp_tensor_t q;    /**< [T, Hk, dk], contiguous */
    gdncp_tensor_t k;    /**< [T, Hk, dk], contiguous */
    gdncp_tensor_t v;    /**< [T, Hv, dv], contiguous */
    gdncp_tensor_t g;    /**< [T, Hv] F32, contiguous */
    gdncp_tensor_t beta; /**< [T, Hv] F32, contiguous */
    /** [S, Hv, dk, dv] F32, contiguous; only what enters here is read. Optional: zeros. Given on
     * all ranks or on none. */
    gdncp_tensor_t initial_state;
} gdncp_cp_rule_inputs_t;

/**
 * @param o            [T, Hv, dv], dtype of v, contiguous
 * @param final_state  [S, Hv, dk, dv] F32, contiguous; only what leaves here is written. Optional.
 */
GDNCP_API gdncp_status_t gdncp_cp_rule_forward(gdncp_cp_rule_t *rule,
                                               const gdncp_cp_rule_inputs_t *inputs,
                                               gdncp_cp_rule_saved_t *saved,
                                               const gdncp_tensor_t *o,
                                               const gdncp_tensor_t *final_state);

/** Gradients of gdncp_cp_rule_inputs_t: same shapes; q, k, v in the rule's dtype, others F32. */
typedef struct gdncp_cp_rule_grads {
    gdncp_tensor_t q;
    gdncp_tensor_t k;
    gdncp_tensor_t v;
    gdncp_tensor_t g;
    gdncp_tensor_t beta;
    gdncp_tensor_t initial_state; /**< optional; only what entered here is written */
} gdncp_cp_rule_grads_t;

/**
 * @param grad_o            [T, Hv, dv]
 * @param grad_final_state  [S, Hv, dk, dv] F32, contiguous; only what left here is read. Optional:
 *                          zeros. Given on all ranks or on none.
 */
GDNCP_API gdncp_status_t gdncp_cp_rule_backward(gdncp_cp_rule_t *rule,
                                                const gdncp_cp_rule_inputs_t *inputs,
                                                const gdncp_cp_rule_saved_t *saved,
                                                const gdncp_tensor_t *grad_o,
                                                const gdncp_tensor_t *grad_final_state,
                                                const gdncp_cp_rule_grads_t *grads);

/* ------------------------------------------------------------------ core */

typedef struct gdncp_layer_config {
    gdncp_layer_shape_t shape;
    gdncp_dtype_t dtype; /**< of hidden states, projections and their weights: F32, BF16, F16 */
    /**
     * Of q, k, v and o between the convolution and the norm: F32 (the default), or dtype. Of a
     * 16-bit layer F32 keeps the errors of outputs below 5e-3, at twice the memory; dtype lets the
     * rule use the matrix instructions of that dtype, as other libraries do, at errors up to 6e-3.
     */
    gdncp_dtype_t rule_dtype;
    gdncp_strategy_t strategy;
    float norm_eps;
    bool allow_neg_eigval;
    gdncp_device_kind_t device; /**< where all tensors of a call lie */
    gdncp_stream_t stream;      /**< of that device, in which all calls run; NULL on the CPU */
} gdncp_layer_config_t;

typedef struct gdncp_cp_core gdncp_cp_core_t;
typedef struct gdncp_cp_core_saved gdncp_cp_core_saved_t;

/** As gdncp_cp_rule_create(). shape.hidden_size is not used. */
GDNCP_API gdncp_status_t gdncp_cp_core_create(gdncp_comm_t *comm, const gdncp_layout_t *layout,
                                              const gdncp_layer_config_t *config,
                                              gdncp_cp_core_t **core_p);
GDNCP_API void gdncp_cp_core_destroy(gdncp_cp_core_t *core);
/** As gdncp_cp_rule_check(). */
GDNCP_API gdncp_status_t gdncp_cp_core_check(const gdncp_cp_core_t *core);
GDNCP_API gdncp_status_t gdncp_cp_core_saved_create(const gdncp_cp_core_t *core,
                                                    gdncp_cp_core_saved_t **saved_p);
GDNCP_API void gdncp_cp_core_saved_destroy(gdncp_cp_core_saved_t *saved);
GDNCP_API int64_t gdncp_cp_core_saved_bytes(const gdncp_cp_core_t *core);

/** Inputs of the core, in its dtype or F32 where it says so; backward must be given the same again.
 * qkv is contiguous, the token stride of the others is free. */
typedef struct gdncp_cp_core_inputs {
    gdncp_tensor_t qkv; /**< [T, C]: query, key, value channels, before the convolution */
    gdncp_tensor_t z;   /**< [T, Hv dv]: the output gate; may be F32 */
    gdncp_tensor_t b;   /**< [T, Hv]: beta before its sigmoid; may be F32 */
    gdncp_tensor_t a;   /**< [T, Hv]: alpha, of which the decay is made; dtype of b */
} gdncp_cp_core_inputs_t;

/** Parameters of the core, F32, the same on all ranks. */
typedef struct gdncp_cp_core_params {
    gdncp_tensor_t conv_weight; /**< [C, W] */
    gdncp_tensor_t conv_bias;   /**< [C], optional */
    gdncp_tensor_t A_log;       /**< [Hv] */
    gdncp_tensor_t dt_bias;     /**< [Hv] */
    gdncp_tensor_t norm_weight; /**< [dv] */
} gdncp_cp_core_params_t;

/** @param y  [T, Hv dv], dtype of the core or F32, contiguous */
GDNCP_API gdncp_status_t gdncp_cp_core_forward(gdncp_cp_core_t *core,
                                               const gdncp_cp_core_params_t *params,
                                               const gdncp_cp_core_inputs_t *inputs,
                                               gdncp_cp_core_saved_t *saved,
                                               const gdncp_tensor_t *y);

/**
 * Gradients of the core. Those of the parameters are this rank's contribution in F32: their
 * sum over the ranks is the gradient.
 */
typedef struct gdncp_cp_core_grads {
    gdncp_cp_core_inputs_t inputs; /**< dtypes of the inputs */
    gdncp_cp_core_params_t params; /**< conv_bias absent where the parameter is */
} gdncp_cp_core_grads_t;

/** @param grad_y  [T, Hv dv], dtype of the core or F32, contiguous */
GDNCP_API gdncp_status_t gdncp_cp_core_backward(gdncp_cp_core_t *core,
                                                const gdncp_cp_core_params_t *params,
                                                const gdncp_cp_core_inputs_t *inputs,
                                                gdncp_cp_core_saved_t *saved,
                                                const gdncp_tensor_t *grad_y,
                                                const gdncp_cp_core_grads_t *grads);

/* ----------------------------------------------------------- whole layer */

typedef struct gdncp_layer gdncp_layer_t;
typedef struct gdncp_layer_saved gdncp_layer_saved_t;

/** As gdncp_cp_rule_create(). */
GDNCP_API gdncp_status_t gdncp_layer_create(gdncp_comm_t *comm, const gdncp_layout_t *layout,
                                            const gdncp_layer_config_t *config,
                                            gdncp_layer_t **layer_p);
GDNCP_API void gdncp_layer_destroy(gdncp_layer_t *layer);
/** As gdncp_cp_rule_check(). */
GDNCP_API gdncp_status_t gdncp_layer_check(const gdncp_layer_t *layer);
GDNCP_API gdncp_status_t gdncp_layer_saved_create(const gdncp_layer_t *layer,
                                                  gdncp_layer_saved_t **saved_p);
GDNCP_API void gdncp_layer_saved_destroy(gdncp_layer_saved_t *saved);
GDNCP_API int64_t gdncp_layer_saved_bytes(const gdncp_layer_t *layer);

/** Parameters in gdncp's canonical form (see weights.h), the same on all ranks. Contiguous. */
typedef struct gdncp_layer_params {
    gdncp_tensor_t in_proj_weight;  /**< [C + Hv dv + 2 Hv, D], dtype of the layer */
    gdncp_tensor_t out_proj_weight; /**< [D, Hv dv], dtype of the layer */
    gdncp_cp_core_params_t core;
} gdncp_layer_params_t;

/** @param hidden, output  [T, D], dtype of the layer, contiguous */
GDNCP_API gdncp_status_t gdncp_layer_forward(gdncp_layer_t *layer,
                                             const gdncp_layer_params_t *params,
                                             const gdncp_tensor_t *hidden,
                                             gdncp_layer_saved_t *saved,
                                             const gdncp_tensor_t *output);

/**
 * @param hidden       as given to forward
 * @param grad_output  [T, D], dtype of the layer
 * @param grad_hidden  [T, D], dtype of the layer
 * @param grads        all F32; this rank's contribution, whose sum over the ranks is the gradient
 */
GDNCP_API gdncp_status_t gdncp_layer_backward(
    gdncp_layer_t *layer, const gdncp_layer_params_t *params, const gdncp_tensor_t *hidden,
    gdncp_layer_saved_t *saved, const gdncp_tensor_t *grad_output,
    const gdncp_tensor_t *grad_hidden, const gdncp_layer_params_t *grads);

GDNCP_END_DECLS

#endif
