/* The sizes of a layer and the shapes of its parameters. */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>

#include "error.h"
#include "gdncp/weights.h"

static const char *const parameter_names[GDNCP_NUM_PARAMETERS] = {
    [GDNCP_PARAMETER_IN_PROJ_WEIGHT] = "in_proj_weight",
    [GDNCP_PARAMETER_CONV_WEIGHT] = "conv_weight",
    [GDNCP_PARAMETER_A_LOG] = "A_log",
    [GDNCP_PARAMETER_DT_BIAS] = "dt_bias",
    [GDNCP_PARAMETER_NORM_WEIGHT] = "norm_weight",
    [GDNCP_PARAMETER_OUT_PROJ_WEIGHT] = "out_proj_weight",
};

const char *gdncp_parameter_name(gdncp_parameter_t parameter)
{
    return (unsigned)parameter < GDNCP_NUM_PARAMETERS ? parameter_names[parameter] : "?";
}

/* Whether 2*Hk*dk + 2*Hv*dv + 2*Hv rows, which are more than any other parameter has, times the
 * longest row are countable in 8-byte elements. */
static bool is_countable(const gdncp_layer_shape_t *shape)
{
    int64_t keys;
    int64_t values;
    int64_t width = shape->hidden_size;
    int64_t elements;

    if (width < shape->conv_kernel_dim) {
        width = shape->conv_kernel_dim;
    }
    return !__builtin_mul_overflow(shape->num_key_heads, shape->key_head_dim, &keys) &&
           !__builtin_add_overflow(shape->value_head_dim, 1, &values) &&
           !__builtin_mul_overflow(shape->num_value_heads, values, &values) &&
           !__builtin_add_overflow(keys, values, &elements) &&
           !__builtin_mul_overflow(elements, width, &elements) &&
           elements <= INT64_MAX / (2 * (int64_t)sizeof(int64_t));
}

gdncp_status_t gdncp_layer_shape_check(const gdncp_layer_shape_t *shape)
{
    if (shape == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "shape: expected a layer's shape, got NULL");
    }

    const struct {
        const char *name;
        int64_t value;
    } members[] = {
        {"hidden_size", shape->hidden_size},         {"num_key_heads", shape->num_key_heads},
        {"num_value_heads", shape->num_value_heads}, {"key_head_dim", shape->key_head_dim},
        {"value_head_dim", shape->value_head_dim},   {"conv_kernel_dim", shape->conv_kernel_dim},
    };

    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        if (members[i].value <= 0) {
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                              "shape.%s: expected at least 1, got %" PRId64, members[i].name,
                              members[i].value);
        }
    }
    if (shape->num_value_heads % shape->num_key_heads != 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "shape.num_key_heads: expected a divisor of num_value_heads = %" PRId64
                          ", got %" PRId64,
                          shape->num_value_heads, shape->num_key_heads);
    }
    if (!is_countable(shape)) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "shape: expected less than 2^63 bytes of in_proj_weight, got hidden_size "
                          "%" PRId64 ", key heads %" PRId64 " x %" PRId64 ", value heads %" PRId64
                          " x %" PRId64 ", conv_kernel_dim %" PRId64,
                          shape->hidden_size, shape->num_key_heads, shape->key_head_dim,
                          shape->num_value_heads, shape->value_head_dim, shape->conv_kernel_dim);
    }
    return GDNCP_OK;
}

gdncp_status_t gdncp_parameter_shape(const gdncp_layer_shape_t *shape, gdncp_parameter_t parameter,
                                     int *ndim_p, int64_t *dims)
{
    const gdncp_status_t status = gdncp_layer_shape_check(shape);
    int64_t keys;
    int64_t values;

    if (status != GDNCP_OK) {
        return status;
    }
    if ((unsigned)parameter >= GDNCP_NUM_PARAMETERS) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "parameter: expected 0..%d, got %d",
                          GDNCP_NUM_PARAMETERS - 1, (int)parameter);
    }
    if (ndim_p == NULL || dims == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "%s, got NULL",
                          ndim_p == NULL ? "ndim_p: expected a place for the number of dimensions"
                                         : "dims: expected a place for 2 dimensions");
    }
    keys = shape->num_key_heads * shape->key_head_dim;
    values = shape->num_value_heads * shape->value_head_dim;
    switch (parameter) {
    case GDNCP_PARAMETER_IN_PROJ_WEIGHT:
        *ndim_p = 2;
        dims[0] = 2 * keys + 2 * values + 2 * shape->num_value_heads;
        dims[1] = shape->hidden_size;
        break;
    case GDNCP_PARAMETER_CONV_WEIGHT:
        *ndim_p = 2;
        dims[0] = 2 * keys + values;
        dims[1] = shape->conv_kernel_dim;
        break;
    case GDNCP_PARAMETER_A_LOG:
    case GDNCP_PARAMETER_DT_BIAS:
        *ndim_p = 1;
        dims[0] = shape->num_value_heads;
        break;
    case GDNCP_PARAMETER_NORM_WEIGHT:
        *ndim_p = 1;
        dims[0] = shape->value_head_dim;
        break;
    case GDNCP_PARAMETER_OUT_PROJ_WEIGHT:
        *ndim_p = 2;
        dims[0] = shape->hidden_size;
        dims[1] = values;
        break;
    }
    return GDNCP_OK;
}
