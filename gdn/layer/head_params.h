/* A rank's share of the convolution's parameters under strategy "heads". */
#ifndef GDNCP_HEAD_PARAMS_H
#define GDNCP_HEAD_PARAMS_H

#include "gdncp/layer.h"
#include "gdncp/weights.h"

/* Query, key and value rows of my heads, one after the other, and room for their gradients. */
typedef struct gdncp_head_params {
    gdncp_layer_shape_t shape;
    gdncp_head_range_t values;
    gdncp_held_rows_t sections[GDNCP_MAX_SECTIONS]; /* of the convolution, in all channels */
    int64_t num_sections;
    int64_t channels; /* of all heads */
    int64_t my_channels;
    float *conv_weight; /* [my channels, W] */
    float *conv_bias;   /* [my channels] */
    float *grad_conv_weight;
    float *grad_conv_bias;
    gdncp_device_kind_t device;
    gdncp_stream_t stream;
} gdncp_head_params_t;

/* Of the shape, device and stream of a config. */
gdncp_status_t gdncp_head_params_create(const gdncp_layer_config_t *config, int num_ranks, int rank,
                                        gdncp_head_params_t **params_p);
void gdncp_head_params_destroy(gdncp_head_params_t *params);

/* Copy my rows of conv_weight and, where given, conv_bias. */
gdncp_status_t gdncp_head_params_gather(const gdncp_head_params_t *params,
                                        const gdncp_cp_core_params_t *all);

/*
 * Complete this rank's contribution to the gradients: my rows of conv_weight and conv_bias are put
 * in their place. A_log and dt_bias have been written at my heads. All else becomes zero.
 */
gdncp_status_t gdncp_head_params_scatter(const gdncp_head_params_t *params,
                                         const gdncp_cp_core_params_t *all);

#endif
