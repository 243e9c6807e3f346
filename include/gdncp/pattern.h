/**
 * @file
 * Patterns of layers: which layers of a model have linear attention and experts, and which layers a
 * pipeline stage has. Layers are counted from 0.
 *
 * The meaning is Megatron-LM's (linear_attention_freq, moe_layer_freq, num_layers_in_first and
 * _last_pipeline_stage, account_for_embedding and _loss_in_pipeline_split), and so is what is
 * refused; besides, what would divide by zero there or be taken for something else.
 *
 * Plain arithmetic; every function is safe to call from any thread.
 */
#ifndef GDNCP_PATTERN_H
#define GDNCP_PATTERN_H

#include <stdbool.h>
#include <stdint.h>

#include "export.h"
#include "status.h"

GDNCP_BEGIN_DECLS

typedef enum gdncp_attention_kind {
    GDNCP_ATTENTION_FULL = 0,
    GDNCP_ATTENTION_LINEAR
} gdncp_attention_kind_t;

typedef enum gdncp_mlp_kind { GDNCP_MLP_DENSE = 0, GDNCP_MLP_EXPERTS } gdncp_mlp_kind_t;

/** How often a kind of layer comes: by a number, or by a list of all layers. */
typedef struct gdncp_frequency {
    int64_t every;       /**< N > 0; 0 with a list */
    const int64_t *list; /**< [list_length] of 0 and 1, or NULL */
    int64_t list_length; /**< as many as there are layers; 0 without a list */
} gdncp_frequency_t;

/**
 * The attention of every layer: with a number N layer i is full where (i + 1) % N == 0, so that N =
 * 4 is three linear layers to one full; with a list layer i is linear where list[i] is 1.
 *
 * @param num_layers  > 0
 * @param kinds       [num_layers], written in full
 */
GDNCP_API gdncp_status_t gdncp_attention_pattern(int64_t num_layers,
                                                 const gdncp_frequency_t *frequency,
                                                 gdncp_attention_kind_t *kinds);

/**
 * The MLP of every layer: with a number N layer i has experts where i % N == 0; with a list where
 * list[i] is 1.
 *
 * @param num_layers  > 0
 * @param kinds       [num_layers], written in full
 */
GDNCP_API gdncp_status_t gdncp_mlp_pattern(int64_t num_layers, const gdncp_frequency_t *frequency,
                                           gdncp_mlp_kind_t *kinds);

/**
 * How layers are dealt out over pipeline ranks.
 *
 * Each rank has num_virtual_stages stages. A model passes stage 0 of all ranks in order, then stage
 * 1 of all, and so on. Layers are dealt out evenly over ranks, but for the number given to the
 * first or the last; each rank's are dealt out evenly over its stages. Or the embedding, the loss
 * or both are dealt out like layers, and the first stage of the first rank, or the last stage of
 * the last, has one layer less than the others.
 */
typedef struct gdncp_pipeline {
    int64_t num_layers;        /**< > 0 */
    int num_ranks;             /**< > 0 */
    int num_virtual_stages;    /**< > 0; more than 1 only with more than one rank */
    int64_t first_rank_layers; /**< of rank 0; 0: as many as others */
    int64_t last_rank_layers;  /**< of the last rank; 0: as many as others */
    bool embedding_is_layer;   /**< not with first_rank_layers or last_rank_layers */
    bool loss_is_layer;        /**< likewise */
} gdncp_pipeline_t;

typedef struct gdncp_layer_range {
    int64_t first;
    int64_t count; /**< 0 where the embedding or the loss is all that the stage has, or the first
                      and the last rank have all layers */
} gdncp_layer_range_t;

/**
 * The layers of one stage of a rank.
 *
 * @param rank           0 <= rank < num_ranks
 * @param virtual_stage  0 <= virtual_stage < num_virtual_stages
 * @return GDNCP_OK, or GDNCP_ERR_INVALID_ARGUMENT, also where layers do not divide by ranks or a
 * rank's layers by its stages.
 */
GDNCP_API gdncp_status_t gdncp_pipeline_layers(const gdncp_pipeline_t *pipeline, int rank,
                                               int virtual_stage, gdncp_layer_range_t *range_p);

/** A layer of a stage. */
typedef struct gdncp_stage_layer {
    int64_t layer; /**< in the model */
    gdncp_attention_kind_t attention;
    gdncp_mlp_kind_t mlp;
} gdncp_stage_layer_t;

/**
 * What each layer of one stage is.
 *
 * @param attention  as for gdncp_attention_pattern(); NULL: all full
 * @param mlp        as for gdncp_mlp_pattern(); NULL: all dense
 * @param capacity   entries that @p layers has room for; pipeline->num_layers is always enough
 * @param layers     [capacity], the first gdncp_pipeline_layers() count of them written
 */
GDNCP_API gdncp_status_t gdncp_pipeline_stage(const gdncp_pipeline_t *pipeline, int rank,
                                              int virtual_stage, const gdncp_frequency_t *attention,
                                              const gdncp_frequency_t *mlp, int64_t capacity,
                                              gdncp_stage_layer_t *layers);

GDNCP_END_DECLS

#endif
