/* How a layer's parameters are split over ranks. */
#include <stdbool.h>
#include <stddef.h>

#include "error.h"
#include "gdncp/weights.h"
#include "in_proj_sections.h"
#include "place.h"

static gdncp_status_t check_outputs(const gdncp_section_t *sections,
                                    const gdncp_parameter_split_t *split_p, const int64_t *outer_p,
                                    const int64_t *inner_p)
{
    const struct {
        const char *expected;
        const void *pointer;
    } outputs[] = {
        {"sections: expected a place for 6 sections", sections},
        {"split_p: expected a place for the split", split_p},
        {"outer_p: expected a place for a number", outer_p},
        {"inner_p: expected a place for a number", inner_p},
    };

    for (size_t i = 0; i < sizeof outputs / sizeof outputs[0]; i++) {
        if (outputs[i].pointer == NULL) {
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "%s, got NULL", outputs[i].expected);
        }
    }
    return GDNCP_OK;
}

gdncp_status_t gdncp_parameter_split(const gdncp_layer_shape_t *shape, gdncp_parameter_t parameter,
                                     gdncp_section_t *sections, gdncp_parameter_split_t *split_p,
                                     int64_t *outer_p, int64_t *inner_p)
{
    int64_t dims[2] = {0, 1};
    int64_t num_sections = 1;
    int ndim;
    gdncp_status_t status = gdncp_parameter_shape(shape, parameter, &ndim, dims);

    if (status == GDNCP_OK && parameter == GDNCP_PARAMETER_NORM_WEIGHT) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "parameter: expected one that is split over ranks, got norm_weight");
    }
    if (status == GDNCP_OK) {
        status = check_outputs(sections, split_p, outer_p, inner_p);
    }
    if (status != GDNCP_OK) {
        return status;
    }

    const bool by_columns = parameter == GDNCP_PARAMETER_OUT_PROJ_WEIGHT;

    if (parameter == GDNCP_PARAMETER_IN_PROJ_WEIGHT || parameter == GDNCP_PARAMETER_CONV_WEIGHT) {
        gdncp_section_t all[GDNCP_MAX_SECTIONS];

        num_sections = parameter == GDNCP_PARAMETER_IN_PROJ_WEIGHT ? SECTION_ALPHA + 1 : SECTION_Z;
        gdncp_in_proj_sections(shape, all);
        for (int64_t i = 0; i < num_sections; i++) {
            sections[i] = all[i];
        }
    } else {
        sections[0] =
            (gdncp_section_t){GDNCP_VALUE_HEADS, by_columns ? shape->value_head_dim : 1, 0};
    }
    *split_p = (gdncp_parameter_split_t){
        .sections = sections,
        .num_sections = num_sections,
        .num_key_heads = shape->num_key_heads,
        .num_value_heads = shape->num_value_heads,
        .rows = dims[by_columns ? 1 : 0],
    };
    *outer_p = by_columns ? dims[0] : 1;
    *inner_p = by_columns ? 1 : dims[1];
    return GDNCP_OK;
}

gdncp_status_t gdncp_parameter_local_shape(const gdncp_layer_shape_t *shape,
                                           const gdncp_place_t *place, gdncp_parameter_t parameter,
                                           int *ndim_p, int64_t *dims)
{
    gdncp_section_t sections[GDNCP_MAX_SECTIONS];
    gdncp_parameter_split_t split;
    int64_t whole[2];
    int64_t rows = 0;
    int64_t outer;
    int64_t inner;
    int ndim;
    gdncp_status_t status =
        gdncp_parameter_shape(shape, parameter, ndim_p != NULL ? &ndim : NULL, dims ? whole : NULL);

    if (status == GDNCP_OK) {
        status = gdncp_place_check(place);
    }
    if (status == GDNCP_OK && parameter != GDNCP_PARAMETER_NORM_WEIGHT) {
        status = gdncp_parameter_split(shape, parameter, sections, &split, &outer, &inner);
        if (status == GDNCP_OK) {
            status = gdncp_split_rows(&split, place, &rows);
        }
        whole[parameter == GDNCP_PARAMETER_OUT_PROJ_WEIGHT ? 1 : 0] = rows;
    }
    if (status != GDNCP_OK) {
        return status;
    }
    *ndim_p = ndim;
    for (int i = 0; i < ndim; i++) {
        dims[i] = whole[i];
    }
    return GDNCP_OK;
}
