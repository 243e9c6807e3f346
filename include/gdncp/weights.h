/**
 * @file
 * Weights: a layer's parameters as gdncp holds them, and as model families store them.
 *
 * With Kd = Hk*dk and Vd = Hv*dv the parameters of a layer are
 *
 *     in_proj_weight   [2*Kd + 2*Vd + 2*Hv, hidden]  rows: query Kd, key Kd, value Vd, z Vd,
 *                                                    beta Hv, alpha Hv; by head within each
 *     conv_weight      [2*Kd + Vd, W]                rows: query, key, value
 *     A_log, dt_bias   [Hv]
 *     norm_weight      [dv]
 *     out_proj_weight  [hidden, Vd]
 *
 * which is Megatron-LM's flat order. Families differ from it in the input projection and in
 * names, never inside a row: each of their tensors is a list of row blocks of a parameter. With
 * r = Hv/Hk, value heads g*r .. g*r+r-1 read key head g and make up group g of it:
 *
 *     qwen3_next   in_proj_qkvz.weight  group after group: query dk, key dk, value r*dv, z r*dv
 *                  in_proj_ba.weight    group after group: beta r, alpha r
 *     qwen3_5      in_proj_qkv.weight   query, key, value
 *                  in_proj_z.weight     z
 *                  in_proj_b.weight     beta
 *                  in_proj_a.weight     alpha
 *     olmo_hybrid  q_proj.weight, k_proj.weight, v_proj.weight, g_proj.weight (z),
 *                  b_proj.weight (beta), a_proj.weight (alpha)
 *
 * In all three conv1d.weight is [2*Kd + Vd, 1, W] with rows query, key, value. The output side is
 * norm.weight and out_proj.weight; in olmo_hybrid o_norm.weight and o_proj.weight.
 *
 * Index arithmetic and plain memory; every function is safe to call from any thread.
 */
#ifndef GDNCP_WEIGHTS_H
#define GDNCP_WEIGHTS_H

#include <stddef.h>
#include <stdint.h>

#include "export.h"
#include "sections.h"
#include "status.h"
#include "tensor.h"

GDNCP_BEGIN_DECLS

/** The sizes that fix the shape of every parameter. */
typedef struct gdncp_layer_shape {
    int64_t hidden_size;     /**< > 0 */
    int64_t num_key_heads;   /**< Hk > 0, divides num_value_heads */
    int64_t num_value_heads; /**< Hv > 0 */
    int64_t key_head_dim;    /**< dk > 0 */
    int64_t value_head_dim;  /**< dv > 0 */
    int64_t conv_kernel_dim; /**< W > 0 */
} gdncp_layer_shape_t;

/** The parameters of a layer; the values index arrays of them. */
typedef enum gdncp_parameter {
    GDNCP_PARAMETER_IN_PROJ_WEIGHT = 0,
    GDNCP_PARAMETER_CONV_WEIGHT,
    GDNCP_PARAMETER_A_LOG,
    GDNCP_PARAMETER_DT_BIAS,
    GDNCP_PARAMETER_NORM_WEIGHT,
    GDNCP_PARAMETER_OUT_PROJ_WEIGHT
} gdncp_parameter_t;

#define GDNCP_NUM_PARAMETERS 6

/** Model families, named for their modules in Hugging Face transformers. */
typedef enum gdncp_family {
    GDNCP_FAMILY_QWEN3_NEXT = 0,
    GDNCP_FAMILY_QWEN3_5,
    GDNCP_FAMILY_OLMO_HYBRID
} gdncp_family_t;

/** A tensor as a family stores it. */
typedef struct gdncp_family_tensor {
    const char *name; /**< without the layer's prefix: "in_proj_qkvz.weight"; static storage */
    int ndim;
    int64_t shape[GDNCP_MAX_DIMS]; /**< [ndim]; dimensions from ndim on are 0 */
    int64_t num_blocks;            /**< row blocks, > 0 */
} gdncp_family_tensor_t;

/**
 * Rows of a family's tensor that are rows of a parameter, in the same order.
 * A row is everything after the first dimension, and equally long on both sides.
 */
typedef struct gdncp_row_block {
    gdncp_parameter_t parameter;
    int64_t canonical_row; /**< first row in the parameter */
    int64_t tensor_row;    /**< first row in the family's tensor */
    int64_t rows;          /**< > 0 */
} gdncp_row_block_t;

/**
 * Check a shape: every size > 0, Hk divides Hv, and no parameter of 8-byte elements is larger
 * than an int64_t can count. The error names the member.
 */
GDNCP_API gdncp_status_t gdncp_layer_shape_check(const gdncp_layer_shape_t *shape);

/** "in_proj_weight", "A_log", …; "?" for a value outside the enum. */
GDNCP_API const char *gdncp_parameter_name(gdncp_parameter_t parameter);

/**
 * The shape of a parameter.
 * @param ndim_p  set to 1 or 2
 * @param dims    [2], the first *ndim_p written
 */
GDNCP_API gdncp_status_t gdncp_parameter_shape(const gdncp_layer_shape_t *shape,
                                               gdncp_parameter_t parameter, int *ndim_p,
                                               int64_t *dims);

/** Most sections that a parameter has. */
#define GDNCP_MAX_SECTIONS 6

/**
 * How a parameter is split over ranks, for gdncp_split_gather() and its like: by rows, each section
 * by itself, but out_proj_weight by columns. norm_weight is whole on every rank.
 *
 * @param parameter  not GDNCP_PARAMETER_NORM_WEIGHT
 * @param sections   [GDNCP_MAX_SECTIONS] written as far as the parameter has sections: of
 *                   in_proj_weight query, key, value, z, beta, alpha, of conv_weight query, key,
 *                   value, of others one
 * @param split_p    set; points to @p sections
 * @param outer_p    set to what comes before the rows that are split: hidden of out_proj_weight,
 *                   else 1
 * @param inner_p    set to the elements of a row: hidden of in_proj_weight, W of conv_weight,
 *                   else 1
 */
GDNCP_API gdncp_status_t gdncp_parameter_split(const gdncp_layer_shape_t *shape,
                                               gdncp_parameter_t parameter,
                                               gdncp_section_t *sections,
                                               gdncp_parameter_split_t *split_p, int64_t *outer_p,
                                               int64_t *inner_p);

/**
 * The shape of what a place holds of a parameter. A dimension is 0 where it holds no head.
 * @param ndim_p  set to 1 or 2
 * @param dims    [2], the first *ndim_p written
 */
GDNCP_API gdncp_status_t gdncp_parameter_local_shape(const gdncp_layer_shape_t *shape,
                                                     const gdncp_place_t *place,
                                                     gdncp_parameter_t parameter, int *ndim_p,
                                                     int64_t *dims);

/** "qwen3_next", "qwen3_5", "olmo_hybrid"; "?" for a value outside the enum. */
GDNCP_API const char *gdncp_family_name(gdncp_family_t family);

/** The family with that name. The error lists the names there are. */
GDNCP_API gdncp_status_t gdncp_family_from_name(const char *name, gdncp_family_t *family_p);

/** Number of tensors a layer of the family has; 0 for a value outside the enum. */
GDNCP_API int64_t gdncp_family_num_tensors(gdncp_family_t family);

/**
 * Name and shape of one tensor of a family.
 * @param tensor  0 <= tensor < gdncp_family_num_tensors()
 */
GDNCP_API gdncp_status_t gdncp_family_tensor(gdncp_family_t family,
                                             const gdncp_layer_shape_t *shape, int64_t tensor,
                                             gdncp_family_tensor_t *tensor_p);

/**
 * One row block of a tensor. In order of @p block the blocks tile the tensor's rows; over all
 * tensors of a family they cover each row of each parameter once.
 *
 * Group g of in_proj_qkvz.weight is blocks 4*g .. 4*g+3, of in_proj_ba.weight 2*g and 2*g+1; every
 * other tensor is one block.
 *
 * @param block  0 <= block < num_blocks of gdncp_family_tensor()
 */
GDNCP_API gdncp_status_t gdncp_family_row_block(gdncp_family_t family,
                                                const gdncp_layer_shape_t *shape, int64_t tensor,
                                                int64_t block, gdncp_row_block_t *block_p);

/**
 * Copy a family's tensor into the parameters: row canonical_row + i of the parameter becomes row
 * tensor_row + i of the tensor, block by block. The rows of other tensors are left as they are,
 * so the parameters are complete after all tensors of the family.
 *
 * @param element_size  bytes of an element on both sides, 1..8
 * @param data          the tensor, contiguous, of the shape gdncp_family_tensor() gives
 * @param parameters    [GDNCP_NUM_PARAMETERS] contiguous memory of each parameter, written where
 *                      the tensor's blocks say; NULL for those it has no block of. May not overlap
 *                      @p data.
 */
GDNCP_API gdncp_status_t gdncp_family_gather(gdncp_family_t family,
                                             const gdncp_layer_shape_t *shape, int64_t tensor,
                                             size_t element_size, const void *data,
                                             void *const *parameters);

/**
 * The way back, for weights and for their gradients: row tensor_row + i of the tensor becomes row
 * canonical_row + i of the parameter.
 *
 * @param parameters  as for gdncp_family_gather(), read
 * @param data        the tensor, written in full
 */
GDNCP_API gdncp_status_t gdncp_family_scatter(gdncp_family_t family,
                                              const gdncp_layer_shape_t *shape, int64_t tensor,
                                              size_t element_size, const void *const *parameters,
                                              void *data);

/**
 * gdncp_family_gather() of what a place of a grid holds: the tensor's rows that are its rows, in
 * the order of its own parameters. norm_weight comes whole.
 *
 * Where tensor parallelism divides the number of key heads, its rank's part of a family's tensor is
 * itself in that family's order: a tensor of a layer of Hk/T and Hv/T heads, which
 * gdncp_family_gather() reads with that shape.
 *
 * @param data        the whole tensor, contiguous
 * @param parameters  [GDNCP_NUM_PARAMETERS] contiguous memory of the place's part of each
 *                    parameter, of gdncp_parameter_local_shape(); otherwise as for
 *                    gdncp_family_gather()
 */
GDNCP_API gdncp_status_t gdncp_family_gather_local(gdncp_family_t family,
                                                   const gdncp_layer_shape_t *shape,
                                                   const gdncp_place_t *place, int64_t tensor,
                                                   size_t element_size, const void *data,
                                                   void *const *parameters);

/**
 * The way back. Rows that the place does not hold are left as they are, so that the tensor is
 * complete after all places.
 *
 * @param parameters  as for gdncp_family_gather_local(), read
 * @param data        the whole tensor, the place's rows written
 */
GDNCP_API gdncp_status_t gdncp_family_scatter_local(gdncp_family_t family,
                                                    const gdncp_layer_shape_t *shape,
                                                    const gdncp_place_t *place, int64_t tensor,
                                                    size_t element_size,
                                                    const void *const *parameters, void *data);

GDNCP_END_DECLS

#endif
