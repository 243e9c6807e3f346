/* Parameters made for tests, whole or for a place. Include cmocka.h before. */
#ifndef GDNCP_TEST_LAYOUTS_INIT_PART_H
#define GDNCP_TEST_LAYOUTS_INIT_PART_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "gdncp/init.h"

static const gdncp_place_t whole = {.tp_size = 1, .cp_size = 1};

static inline int64_t size_of(const gdncp_layer_shape_t *shape, const gdncp_place_t *place,
                              gdncp_parameter_t parameter)
{
    int64_t dims[2] = {0, 1};
    int ndim;

    assert_int_equal(gdncp_parameter_local_shape(shape, place, parameter, &ndim, dims), GDNCP_OK);
    return dims[0] * dims[1];
}

/* A place's part of a parameter, with one more element that must stay NaN. Free with free(). */
static inline float *make_part(const gdncp_init_t *init, const gdncp_layer_shape_t *shape,
                               const gdncp_place_t *place, gdncp_parameter_t parameter)
{
    const int64_t size = size_of(shape, place, parameter);
    float *const data = malloc((size_t)(size + 1) * sizeof *data);

    assert_non_null(data);
    for (int64_t i = 0; i <= size; i++) {
        data[i] = NAN;
    }
    assert_int_equal(gdncp_init_parameter(init, shape, place, parameter, data), GDNCP_OK);
    for (int64_t i = 0; i < size; i++) {
        assert_true(isfinite(data[i]));
    }
    assert_true(isnan(data[size]));
    return data;
}

#endif
