/* Slices of parameters by heads. */
#include "head_params.h"

#include "error.h"
#include "gdncp/device.h"
#include "gdncp/memory.h"
#include "op_checks.h"

static int64_t my_channels(const gdncp_head_params_t *params)
{
    return 2 * params->keys.count * params->shape.key_head_dim +
           params->values.count * params->shape.value_head_dim;
}

static gdncp_status_t allocate(gdncp_head_params_t *params)
{
    const size_t bias_bytes = (size_t)my_channels(params) * sizeof(float);
    const size_t weight_bytes = bias_bytes * (size_t)params->shape.conv_kernel_dim;
    float **const buffers[] = {&params->conv_weight, &params->grad_conv_weight, &params->conv_bias,
                               &params->grad_conv_bias};

    for (int i = 0; i < 4; i++) {
        void *memory = NULL;
        const gdncp_status_t status =
            gdncp_device_alloc(params->device, i < 2 ? weight_bytes : bias_bytes, &memory);

        if (status != GDNCP_OK) {
            return status;
        }
        *buffers[i] = memory;
    }
    return GDNCP_OK;
}

gdncp_status_t gdncp_head_params_create(const gdncp_layer_config_t *config, gdncp_head_range_t keys,
                                        gdncp_head_range_t values, gdncp_head_params_t **params_p)
{
    gdncp_head_params_t *const params = gdncp_memory_alloc(sizeof *params);

    if (params == NULL) {
        return gdncp_fail_memory("parameters of some heads");
    }
    *params = (gdncp_head_params_t){.shape = config->shape,
                                    .keys = keys,
                                    .values = values,
                                    .device = config->device,
                                    .stream = config->stream};
    const gdncp_status_t status = allocate(params);

    if (status != GDNCP_OK) {
        gdncp_head_params_destroy(params);
        return status;
    }
    *params_p = params;
    return GDNCP_OK;
}

void gdncp_head_params_destroy(gdncp_head_params_t *params)
{
    if (params != NULL) {
        gdncp_device_free(params->device, params->conv_weight);
        gdncp_device_free(params->device, params->conv_bias);
        gdncp_device_free(params->device, params->grad_conv_weight);
        gdncp_device_free(params->device, params->grad_conv_bias);
        gdncp_memory_free(params);
    }
}

static gdncp_status_t clear(const gdncp_head_params_t *params, float *values, int64_t count)
{
    return gdncp_device_clear(params->device, values, (size_t)count * sizeof *values,
                              params->stream);
}

/* Copy my rows, `width` wide, between a parameter over all conv channels and one over mine. Going
 * back, the other rows become zero. */
static gdncp_status_t copy_my_rows(const gdncp_head_params_t *params, float *all, float *mine,
                                   int64_t width, bool to_mine)
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
    gdncp_status_t status = to_mine ? GDNCP_OK : clear(params, all, channels * width);

    for (int i = 0; i < 3 && status == GDNCP_OK; i++) {
        float *const rows = all + sections[i].first * width;
        const int64_t count = sections[i].count * width;

        status = gdncp_device_copy(params->device, to_mine ? mine : rows, to_mine ? rows : mine,
                                   (size_t)count * sizeof *mine, params->stream);
        mine += count;
    }
    return status;
}

gdncp_status_t gdncp_head_params_gather(const gdncp_head_params_t *params,
                                        const gdncp_cp_core_params_t *all)
{
    const gdncp_status_t status = copy_my_rows(params, all->conv_weight.data, params->conv_weight,
                                               params->shape.conv_kernel_dim, true);

    return status != GDNCP_OK || gdncp_op_is_absent(&all->conv_bias)
               ? status
               : copy_my_rows(params, all->conv_bias.data, params->conv_bias, 1, true);
}

gdncp_status_t gdncp_head_params_scatter(const gdncp_head_params_t *params,
                                         const gdncp_cp_core_params_t *all)
{
    const int64_t first = params->values.first;
    const int64_t end = params->values.first + params->values.count;
    float *const per_head[] = {all->A_log.data, all->dt_bias.data};
    gdncp_status_t status = copy_my_rows(params, all->conv_weight.data, params->grad_conv_weight,
                                         params->shape.conv_kernel_dim, false);

    if (status == GDNCP_OK && !gdncp_op_is_absent(&all->conv_bias)) {
        status = copy_my_rows(params, all->conv_bias.data, params->grad_conv_bias, 1, false);
    }
    for (int i = 0; i < 2 && status == GDNCP_OK; i++) {
        status = clear(params, per_head[i], first);
        if (status == GDNCP_OK) {
            status = clear(params, per_head[i] + end, params->shape.num_value_heads - end);
        }
    }
    return status;
}
