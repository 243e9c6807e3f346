/**
 * @file
 * Initialisation: the parameters of a new layer, on any grid of ranks.
 *
 * An element's value is a function of the seed, the layer, the parameter and the element's place in
 * the whole parameter, and of nothing else: a counter-based generator (Philox 4x32-10) is asked for
 * that element alone. So every rank makes its own part, and whatever the grid, equal elements have
 * equal bits, as far as the machines' exp, log and cos agree.
 *
 *     A_log            log A, A uniform in (A_min, A_max);
 *                      Megatron-LM has 1 and 16, Hugging Face 0 and 16
 *     dt_bias          1; or x with softplus(x) = dt, as Mamba and OLMo-Hybrid have it:
 *                      dt = max(exp u, dt_floor), u uniform between log dt_min and log dt_max
 *     conv_weight      uniform in (-bound, bound);
 *                      PyTorch's bound for a depthwise Conv1d of width W is 1/sqrt(W)
 *     norm_weight      1; or 0 for norms that multiply with 1 + weight
 *     in_proj_weight,  normal with mean 0 and a given standard deviation, each its own
 *     out_proj_weight
 *
 * Uniform numbers are (k + 1/2) / 2^52, k one of 2^52 integers, and so never 0 nor 1: where peers
 * draw from [0, 16) and may get log 0, no A_log here is infinite.
 *
 * Every function is safe to call from any thread.
 */
#ifndef GDNCP_INIT_H
#define GDNCP_INIT_H

#include <stdbool.h>
#include <stdint.h>

#include "export.h"
#include "sections.h"
#include "status.h"
#include "weights.h"

GDNCP_BEGIN_DECLS

/** What dt_bias is. */
typedef enum gdncp_dt_init {
    GDNCP_DT_ONES = 0,
    GDNCP_DT_LOG_UNIFORM /**< by dt_min, dt_max and dt_floor */
} gdncp_dt_init_t;

/** How a layer's parameters are made. All numbers are finite. */
typedef struct gdncp_init {
    uint64_t seed;
    uint32_t layer; /**< number of the layer in its model, so that layers differ */
    double A_min;   /**< >= 0 */
    double A_max;   /**< >= A_min, > 0 */
    gdncp_dt_init_t dt;
    double dt_min;       /**< > 0; this and the next two are of no meaning to GDNCP_DT_ONES */
    double dt_max;       /**< >= dt_min */
    double dt_floor;     /**< >= 0 */
    double conv_bound;   /**< > 0, or 0 for 1/sqrt(W) */
    bool norm_adds_one;  /**< norm_weight is 0 */
    double in_proj_std;  /**< >= 0 */
    double out_proj_std; /**< >= 0 */
} gdncp_init_t;

/**
 * Megatron-LM's initialisation: A in (1, 16), dt_bias 1, the convolution as PyTorch has it,
 * norm_weight 1, both standard deviations 0.02. dt_min, dt_max and dt_floor are 0.001, 0.1 and
 * 0.0001, should dt be set to GDNCP_DT_LOG_UNIFORM.
 */
GDNCP_API gdncp_init_t gdncp_init_default(uint64_t seed, uint32_t layer);

/**
 * Make a place's part of a parameter.
 *
 * @param place  with cp_size 1 for what a tensor-parallel rank holds, as trainers do
 * @param data   float32, of gdncp_parameter_local_shape(), contiguous; written in full. May be NULL
 *               where the place has no head.
 */
GDNCP_API gdncp_status_t gdncp_init_parameter(const gdncp_init_t *init,
                                              const gdncp_layer_shape_t *shape,
                                              const gdncp_place_t *place,
                                              gdncp_parameter_t parameter, float *data);

/**
 * Make a place's part of the bias of a convolution that has one: uniform in (-1/sqrt(W),
 * 1/sqrt(W)), as PyTorch's, whatever init->conv_bound. As parameter GDNCP_NUM_PARAMETERS to the
 * generator.
 *
 * @param data  float32, [the place's rows of conv_weight], written in full. May be NULL where the
 *              place has no head.
 */
GDNCP_API gdncp_status_t gdncp_init_conv_bias(const gdncp_init_t *init,
                                              const gdncp_layer_shape_t *shape,
                                              const gdncp_place_t *place, float *data);

/**
 * Philox 4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers, SC'11): a bijection of
 * counters for each key, whose outputs pass as random.
 *
 * Element i of a parameter uses counter {i, i >> 32, parameter, layer} and key {seed, seed >> 32},
 * low words.
 *
 * @param counter  [4]
 * @param key      [2]
 * @param out      [4], written; may be @p counter
 */
GDNCP_API gdncp_status_t gdncp_philox_4x32(const uint32_t *counter, const uint32_t *key,
                                           uint32_t *out);

GDNCP_END_DECLS

#endif
