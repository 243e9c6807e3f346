/* Slices of parameters by heads. */
#include "head_params.h"

#include "error.h"
#include "gdncp/device.h"
#include "gdncp/memory.h"
#include "op_checks.h"

/* Which channels of the convolution are mine. */
static gdncp_status_t find_channels(gdncp_head_params_t *params, const gdncp_place_t *place)
{
    gdncp_layer_shape_t shape = params->shape;
    gdncp_section_t sections[GDNCP_MAX_SECTIONS];
    gdncp_parameter_split_t split;
    int64_t outer;
    int64_t inner;

    shape.hidden_size = 1; /* a core is not told, and a convolution does not ask */
    gdncp_status_t status = gdncp_parameter_split(&shape, GDNCP_PARAMETER_CONV_WEIGHT, sections,
                                                  &split, &outer, &inner);

    if (status == GDNCP_OK) {
        status = gdncp_split_blocks(&split, GDNCP_EXTENT_WHOLE, place, params->sections);
    }
    if (status == GDNCP_OK) {
        status = gdncp_split_rows(&split, place, &params->my_channels);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    params->num_sections = split.num_sections;
    params->channels = split.rows;
    return gdncp_place_heads(GDNCP_VALUE_HEADS, params->shape.num_key_heads,
                             params->shape.num_value_heads, place, &params->values);
}

static gdncp_status_t allocate(gdncp_head_params_t *params)
{
    const size_t bias_bytes = (size_t)params->my_channels * sizeof(float);
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

gdncp_status_t gdncp_head_params_create(const gdncp_layer_config_t *config, int num_ranks, int rank,
                                        gdncp_head_params_t **params_p)
{
    const gdncp_place_t place = {.tp_size = 1, .cp_size = num_ranks, .cp_rank = rank};
    gdncp_head_params_t *const params = gdncp_memory_alloc(sizeof *params);

    if (params == NULL) {
        return gdncp_fail_memory("parameters of some heads");
    }
    *params = (gdncp_head_params_t){
        .shape = config->shape, .device = config->device, .stream = config->stream};
    gdncp_status_t status = find_channels(params, &place);

    if (status == GDNCP_OK) {
        status = allocate(params);
    }
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
    gdncp_status_t status = to_mine ? GDNCP_OK : clear(params, all, params->channels * width);

    for (int64_t i = 0; i < params->num_sections && status == GDNCP_OK; i++) {
        const gdncp_held_rows_t *const section = &params->sections[i];
        float *const in_all = all + section->full_row * width;
        float *const in_mine = mine + section->local_row * width;

        status = gdncp_device_copy(params->device, to_mine ? in_mine : in_all,
                                   to_mine ? in_all : in_mine,
                                   (size_t)(section->rows * width) * sizeof *mine, params->stream);
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
