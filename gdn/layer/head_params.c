/* Slices of parameters by heads. */
#include "head_params.h"

#include <string.h>

#include "error.h"
#include "gdncp/memory.h"
#include "op_checks.h"

static int64_t my_channels(const gdncp_head_params_t *params)
{
    return 2 * params->keys.count * params->shape.key_head_dim +
           params->values.count * params->shape.value_head_dim;
}

gdncp_status_t gdncp_head_params_create(const gdncp_layer_shape_t *shape, gdncp_head_range_t keys,
                                        gdncp_head_range_t values, gdncp_head_params_t **params_p)
{
    gdncp_head_params_t *const params = gdncp_memory_alloc(sizeof *params);

    if (params == NULL) {
        return gdncp_fail_memory("parameters of some heads");
    }
    *params = (gdncp_head_params_t){.shape = *shape, .keys = keys, .values = values};

    const size_t bias_bytes = (size_t)my_channels(params) * sizeof(float);
    const size_t weight_bytes = bias_bytes * (size_t)shape->conv_kernel_dim;

    params->conv_weight = gdncp_memory_alloc(weight_bytes);
    params->conv_bias = gdncp_memory_alloc(bias_bytes);
    params->grad_conv_weight = gdncp_memory_alloc(weight_bytes);
    params->grad_conv_bias = gdncp_memory_alloc(bias_bytes);
    if (params->conv_weight == NULL || params->conv_bias == NULL ||
        params->grad_conv_weight == NULL || params->grad_conv_bias == NULL) {
        gdncp_head_params_destroy(params);
        return gdncp_fail_memory("parameters of some heads");
    }
    *params_p = params;
    return GDNCP_OK;
}

void gdncp_head_params_destroy(gdncp_head_params_t *params)
{
    if (params != NULL) {
        gdncp_memory_free(params->conv_weight);
        gdncp_memory_free(params->conv_bias);
        gdncp_memory_free(params->grad_conv_weight);
        gdncp_memory_free(params->grad_conv_bias);
        gdncp_memory_free(params);
    }
}

/* Copy my rows, `width` wide, between a parameter over all conv channels and one over mine. Going
 * back, the other rows become zero. */
static void copy_my_rows(const gdncp_head_params_t *params, float *all, float *mine, int64_t width,
                         bool to_mine)
{
    const gdncp_layer_shape_t *const shape = &params->shape;
    const int64_t key_channels = shape->num_key_heads * shape->key_head_dim;
    const int64_t channels = 2 * key_channels + shape->num_value_heads * shape->value_head_dim;
    const int64_t my_keys = params->keys.count * shape->key_head_dim;
    const int64_t first_key = params->keys.first * shape->key_head_dim;
    const struct {
        int64_t first;
        int64_t count;
    } sections[] = {
        {first_key, my_keys},
        {key_channels + first_key, my_keys},
        {2 * key_channels + params->values.first * shape->value_head_dim,
         params->values.count * shape->value_head_dim},
    };

    if (!to_mine) {
        memset(all, 0, (size_t)(channels * width) * sizeof *all);
    }
    for (int i = 0; i < 3; i++) {
        float *const rows = all + sections[i].first * width;
        const int64_t count = sections[i].count * width;

        memcpy(to_mine ? mine : rows, to_mine ? rows : mine, (size_t)count * sizeof *mine);
        mine += count;
    }
}

void gdncp_head_params_gather(gdncp_head_params_t *params, const gdncp_cp_core_params_t *all)
{
    copy_my_rows(params, all->conv_weight.data, params->conv_weight, params->shape.conv_kernel_dim,
                 true);
    if (!gdncp_op_is_absent(&all->conv_bias)) {
        copy_my_rows(params, all->conv_bias.data, params->conv_bias, 1, true);
    }
}

void gdncp_head_params_scatter(const gdncp_head_params_t *params, const gdncp_cp_core_params_t *all)
{
    const int64_t first = params->values.first;
    const int64_t end = params->values.first + params->values.count;
    float *const per_head[] = {all->A_log.data, all->dt_bias.data};

    copy_my_rows(params, all->conv_weight.data, params->grad_conv_weight,
                 params->shape.conv_kernel_dim, false);
    if (!gdncp_op_is_absent(&all->conv_bias)) {
        copy_my_rows(params, all->conv_bias.data, params->grad_conv_bias, 1, false);
    }
    for (int i = 0; i < 2; i++) {
        memset(per_head[i], 0, (size_t)first * sizeof(float));
        memset(per_head[i] + end, 0, (size_t)(params->shape.num_value_heads - end) * sizeof(float));
    }
}
