/**
 * @file
 * Checkpoints: a layer's parameters as named tensors, and the part of each that a rank saves or
 * loads.
 *
 * As Megatron-LM's sharded_state_dict() and torch.distributed.checkpoint have it: the input
 * projection and the convolution are saved section by section, so that a tensor is cut along one
 * dimension only and can be loaded on any other number of tensor-parallel ranks. With Kd = Hk*dk,
 * Vd = Hv*dv:
 *
 *     in_proj.weight.query, .key    [Kd, hidden]       conv1d.weight.query, .key   [Kd, 1, W]
 *     in_proj.weight.value, .z      [Vd, hidden]       conv1d.weight.value         [Vd, 1, W]
 *     in_proj.weight.beta, .alpha   [Hv, hidden]       A_log, dt_bias              [Hv]
 *     out_norm.weight               [dv]               out_proj.weight             [hidden, Vd]
 *
 * all cut along rows but out_proj.weight, along columns, and out_norm.weight, which every rank has.
 *
 * A shard is a piece of such a tensor that lies on one or more ranks. Parameters are replicated
 * over context-parallel ranks, which take their parts only when they run: each is a replica of its
 * tensor-parallel rank's shards. Where tp_size does not divide the number of key heads, one may be
 * on several tensor-parallel ranks; it is then a shard of its own, the same on each of them. Of all
 * replicas that have tp_replica 0 and cp_replica 0 each element of each tensor is in one; these are
 * what is saved.
 *
 * Index arithmetic and plain memory; every function is safe to call from any thread.
 */
#ifndef GDNCP_CHECKPOINT_H
#define GDNCP_CHECKPOINT_H

#include <stddef.h>
#include <stdint.h>

#include "export.h"
#include "sections.h"
#include "status.h"
#include "tensor.h"
#include "weights.h"

GDNCP_BEGIN_DECLS

/** Most shards that a rank has of a layer. */
#define GDNCP_MAX_SHARDS 21

/** A piece of a tensor, contiguous in the memory of the rank's parameter. */
typedef struct gdncp_shard {
    const char *name;            /**< without the layer's prefix: "in_proj.weight.query" */
    gdncp_parameter_t parameter; /**< what it is a piece of */
    int ndim;                    /**< of the tensor; what follows has ndim entries, then zeros */
    int64_t global_shape[GDNCP_MAX_DIMS];
    int64_t global_offset[GDNCP_MAX_DIMS]; /**< of the piece's first element */
    int64_t shape[GDNCP_MAX_DIMS];         /**< of the piece; every entry > 0 */
    int64_t local_offset; /**< of the piece's first element in the parameter as the tensor-parallel
                               rank holds it, in elements */
    int tp_replica; /**< which of the tensor-parallel ranks that have this piece; 0 the first */
    int cp_replica; /**< the context-parallel rank */
} gdncp_shard_t;

/**
 * The shards of a rank, in the order of the parameters and of their rows.
 *
 * With tp_size 1 they are the whole tensors.
 *
 * @param shards        [GDNCP_MAX_SHARDS], the first *num_shards_p written; names are static
 * @param num_shards_p  set; a tensor-parallel rank without heads has out_norm.weight only
 */
GDNCP_API gdncp_status_t gdncp_checkpoint_shards(const gdncp_layer_shape_t *shape,
                                                 const gdncp_place_t *place, gdncp_shard_t *shards,
                                                 int64_t *num_shards_p);

/**
 * The shards of the bias of a convolution that has one: conv1d.bias.query, .key [Kd] and .value
 * [Vd], cut as its weight. Their parameter is GDNCP_PARAMETER_CONV_WEIGHT, but local_offset counts
 * in the bias.
 *
 * @param shards        [GDNCP_MAX_SHARDS], the first *num_shards_p written; names are static
 * @param num_shards_p  set; 0 for a tensor-parallel rank without heads
 */
GDNCP_API gdncp_status_t gdncp_checkpoint_conv_bias(const gdncp_layer_shape_t *shape,
                                                    const gdncp_place_t *place,
                                                    gdncp_shard_t *shards, int64_t *num_shards_p);

/**
 * Load what a saved piece has of a wanted one. After all saved pieces of a tensor, whatever grid
 * saved them, the wanted one is complete.
 *
 * @param wanted          of gdncp_checkpoint_shards() for the rank that loads
 * @param saved           a piece of the tensor of the same name; its local_offset, tp_replica and
 *                        cp_replica are not read
 * @param element_size    bytes of an element on both sides, 1..8
 * @param data            the saved piece, contiguous, of saved->shape
 * @param parameter       memory of wanted->parameter as the tensor-parallel rank holds it; written
 *                        where both pieces lie. May not overlap @p data.
 * @param num_elements_p  set to the number of elements that were written; may be 0
 * @return GDNCP_OK, or GDNCP_ERR_INVALID_ARGUMENT, also where the names or the tensors' shapes
 * differ.
 */
GDNCP_API gdncp_status_t gdncp_shard_load(const gdncp_shard_t *wanted, const gdncp_shard_t *saved,
                                          size_t element_size, const void *data, void *parameter,
                                          int64_t *num_elements_p);

GDNCP_END_DECLS

#endif
