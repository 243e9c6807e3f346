/* Sections of the input projection. */
#ifndef GDNCP_IN_PROJ_SECTIONS_H
#define GDNCP_IN_PROJ_SECTIONS_H

#include "gdncp/weights.h"

/* In canonical order; those of the convolution are the first three. */
typedef enum in_proj_section {
    SECTION_QUERY = 0,
    SECTION_KEY,
    SECTION_VALUE,
    SECTION_Z,
    SECTION_BETA,
    SECTION_ALPHA
} in_proj_section_t;

/* sections [GDNCP_MAX_SECTIONS], of a shape that was checked. */
static inline void gdncp_in_proj_sections(const gdncp_layer_shape_t *shape,
                                          gdncp_section_t *sections)
{
    const int64_t keys = shape->num_key_heads * shape->key_head_dim;
    const int64_t values = shape->num_value_heads * shape->value_head_dim;
    const int64_t gates = 2 * (keys + values);

    sections[SECTION_QUERY] = (gdncp_section_t){GDNCP_KEY_HEADS, shape->key_head_dim, 0};
    sections[SECTION_KEY] = (gdncp_section_t){GDNCP_KEY_HEADS, shape->key_head_dim, keys};
    sections[SECTION_VALUE] = (gdncp_section_t){GDNCP_VALUE_HEADS, shape->value_head_dim, 2 * keys};
    sections[SECTION_Z] =
        (gdncp_section_t){GDNCP_VALUE_HEADS, shape->value_head_dim, 2 * keys + values};
    sections[SECTION_BETA] = (gdncp_section_t){GDNCP_VALUE_HEADS, 1, gates};
    sections[SECTION_ALPHA] =
        (gdncp_section_t){GDNCP_VALUE_HEADS, 1, gates + shape->num_value_heads};
}

#endif
