/* How model families store the parameters of a layer. */
#include "gdncp/weights.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "error.h"

/* Sections of the input projection in canonical order. */
typedef enum section {
    SECTION_QUERY = 0,
    SECTION_KEY,
    SECTION_VALUE,
    SECTION_Z,
    SECTION_BETA,
    SECTION_ALPHA
} section_t;

/* A tensor of a family. Those of the input projection hold some sections that follow each other
 * in canonical order, one after the other or interleaved by group; the others are a parameter. */
typedef struct entry {
    const char *name;
    gdncp_parameter_t parameter;
    section_t first_section;
    int num_sections;
    bool by_group;
} entry_t;

static const entry_t qwen3_next[] = {
    {"in_proj_qkvz.weight", GDNCP_PARAMETER_IN_PROJ_WEIGHT, SECTION_QUERY, 4, true},
    {"in_proj_ba.weight", GDNCP_PARAMETER_IN_PROJ_WEIGHT, SECTION_BETA, 2, true},
    {.name = "conv1d.weight", .parameter = GDNCP_PARAMETER_CONV_WEIGHT},
    {.name = "A_log", .parameter = GDNCP_PARAMETER_A_LOG},
    {.name = "dt_bias", .parameter = GDNCP_PARAMETER_DT_BIAS},
    {.name = "norm.weight", .parameter = GDNCP_PARAMETER_NORM_WEIGHT},
    {.name = "out_proj.weight", .parameter = GDNCP_PARAMETER_OUT_PROJ_WEIGHT},
};

static const entry_t qwen3_5[] = {
    {"in_proj_qkv.weight", GDNCP_PARAMETER_IN_PROJ_WEIGHT, SECTION_QUERY, 3, false},
    {"in_proj_z.weight", GDNCP_PARAMETER_IN_PROJ_WEIGHT, SECTION_Z, 1, false},
    {"in_proj_b.weight", GDNCP_PARAMETER_IN_PROJ_WEIGHT, SECTION_BETA, 1, false},
    {"in_proj_a.weight", GDNCP_PARAMETER_IN_PROJ_WEIGHT, SECTION_ALPHA, 1, false},
    {.name = "conv1d.weight", .parameter = GDNCP_PARAMETER_CONV_WEIGHT},
    {.name = "A_log", .parameter = GDNCP_PARAMETER_A_LOG},
    {.name = "dt_bias", .parameter = GDNCP_PARAMETER_DT_BIAS},
    {.name = "norm.weight", .parameter = GDNCP_PARAMETER_NORM_WEIGHT},
    {.name = "out_proj.weight", .parameter = GDNCP_PARAMETER_OUT_PROJ_WEIGHT},
};

static const entry_t olmo_hybrid[] = {
    {"q_proj.weight", GDNCP_PARAMETER_IN_PROJ_WEIGHT, SECTION_QUERY, 1, false},
    {"k_proj.weight", GDNCP_PARAMETER_IN_PROJ_WEIGHT, SECTION_KEY, 1, false},
    {"v_proj.weight", GDNCP_PARAMETER_IN_PROJ_WEIGHT, SECTION_VALUE, 1, false},
    {"g_proj.weight", GDNCP_PARAMETER_IN_PROJ_WEIGHT, SECTION_Z, 1, false},
    {"b_proj.weight", GDNCP_PARAMETER_IN_PROJ_WEIGHT, SECTION_BETA, 1, false},
    {"a_proj.weight", GDNCP_PARAMETER_IN_PROJ_WEIGHT, SECTION_ALPHA, 1, false},
    {.name = "conv1d.weight", .parameter = GDNCP_PARAMETER_CONV_WEIGHT},
    {.name = "A_log", .parameter = GDNCP_PARAMETER_A_LOG},
    {.name = "dt_bias", .parameter = GDNCP_PARAMETER_DT_BIAS},
    {.name = "o_norm.weight", .parameter = GDNCP_PARAMETER_NORM_WEIGHT},
    {.name = "o_proj.weight", .parameter = GDNCP_PARAMETER_OUT_PROJ_WEIGHT},
};

static const struct {
    const char *name;
    const entry_t *entries;
    int64_t num_entries;
} families[] = {
    [GDNCP_FAMILY_QWEN3_NEXT] = {"qwen3_next", qwen3_next,
                                 sizeof qwen3_next / sizeof qwen3_next[0]},
    [GDNCP_FAMILY_QWEN3_5] = {"qwen3_5", qwen3_5, sizeof qwen3_5 / sizeof qwen3_5[0]},
    [GDNCP_FAMILY_OLMO_HYBRID] = {"olmo_hybrid", olmo_hybrid,
                                  sizeof olmo_hybrid / sizeof olmo_hybrid[0]},
};
static const char all_names[] = "qwen3_next, qwen3_5, olmo_hybrid";

enum { num_families = sizeof families / sizeof families[0] };

const char *gdncp_family_name(gdncp_family_t family)
{
    return (unsigned)family < num_families ? families[family].name : "?";
}

gdncp_status_t gdncp_family_from_name(const char *name, gdncp_family_t *family_p)
{
    if (name == NULL || family_p == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "%s: expected %s, got NULL",
                          name == NULL ? "name" : "family_p",
                          name == NULL ? all_names : "a place for the family");
    }
    for (int i = 0; i < num_families; i++) {
        if (strcmp(name, families[i].name) == 0) {
            *family_p = (gdncp_family_t)i;
            return GDNCP_OK;
        }
    }
    return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "name: expected one of %s, got \"%s\"", all_names,
                      name);
}

int64_t gdncp_family_num_tensors(gdncp_family_t family)
{
    return (unsigned)family < num_families ? families[family].num_entries : 0;
}

static gdncp_status_t find_entry(gdncp_family_t family, const gdncp_layer_shape_t *shape,
                                 int64_t tensor, const entry_t **entry_p)
{
    gdncp_status_t status;

    if ((unsigned)family >= num_families) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "family: expected 0..%d, got %d",
                          num_families - 1, (int)family);
    }
    status = gdncp_layer_shape_check(shape);
    if (status != GDNCP_OK) {
        return status;
    }
    if (tensor < 0 || tensor >= families[family].num_entries) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "tensor: expected 0..%" PRId64 " for %s, got %" PRId64,
                          families[family].num_entries - 1, families[family].name, tensor);
    }
    *entry_p = &families[family].entries[tensor];
    return GDNCP_OK;
}

/* Rows of one group of a section; the section has num_key_heads times as many. */
static int64_t group_rows(const gdncp_layer_shape_t *shape, section_t section)
{
    const int64_t value_heads = shape->num_value_heads / shape->num_key_heads;

    switch (section) {
    case SECTION_QUERY:
    case SECTION_KEY:
        return shape->key_head_dim;
    case SECTION_VALUE:
    case SECTION_Z:
        return value_heads * shape->value_head_dim;
    case SECTION_BETA:
    case SECTION_ALPHA:
        break;
    }
    return value_heads;
}

/* Rows of one group of the sections first .. end-1 together. */
static int64_t sum_group_rows(const gdncp_layer_shape_t *shape, int first, int end)
{
    int64_t rows = 0;

    for (int section = first; section < end; section++) {
        rows += group_rows(shape, (section_t)section);
    }
    return rows;
}

static int64_t num_blocks(const gdncp_layer_shape_t *shape, const entry_t *entry)
{
    return entry->by_group ? shape->num_key_heads * entry->num_sections : 1;
}

static gdncp_family_tensor_t describe(const gdncp_layer_shape_t *shape, const entry_t *entry)
{
    gdncp_family_tensor_t tensor = {.name = entry->name, .num_blocks = num_blocks(shape, entry)};

    gdncp_parameter_shape(shape, entry->parameter, &tensor.ndim, tensor.shape);
    if (entry->parameter == GDNCP_PARAMETER_IN_PROJ_WEIGHT) {
        tensor.shape[0] =
            shape->num_key_heads * sum_group_rows(shape, (int)entry->first_section,
                                                  (int)entry->first_section + entry->num_sections);
    }
    if (entry->parameter == GDNCP_PARAMETER_CONV_WEIGHT) {
        /* A depthwise convolution has one input channel per group. */
        tensor.ndim = 3;
        tensor.shape[2] = tensor.shape[1];
        tensor.shape[1] = 1;
    }
    return tensor;
}

gdncp_status_t gdncp_family_tensor(gdncp_family_t family, const gdncp_layer_shape_t *shape,
                                   int64_t tensor, gdncp_family_tensor_t *tensor_p)
{
    const entry_t *entry = NULL;
    const gdncp_status_t status = find_entry(family, shape, tensor, &entry);

    if (status != GDNCP_OK) {
        return status;
    }
    if (tensor_p == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "tensor_p: expected a place for the tensor, got NULL");
    }
    *tensor_p = describe(shape, entry);
    return GDNCP_OK;
}

static gdncp_row_block_t make_block(const gdncp_layer_shape_t *shape, const entry_t *entry,
                                    int64_t block)
{
    const int first = (int)entry->first_section;
    const int64_t section_begin = shape->num_key_heads * sum_group_rows(shape, 0, first);

    if (!entry->by_group) {
        return (gdncp_row_block_t){
            .parameter = entry->parameter,
            .canonical_row = section_begin,
            .tensor_row = 0,
            .rows = describe(shape, entry).shape[0],
        };
    }

    const int64_t group = block / entry->num_sections;
    const int section = first + (int)(block % entry->num_sections);
    const int64_t rows = group_rows(shape, (section_t)section);

    return (gdncp_row_block_t){
        .parameter = entry->parameter,
        .canonical_row = shape->num_key_heads * sum_group_rows(shape, 0, section) + group * rows,
        .tensor_row = group * sum_group_rows(shape, first, first + entry->num_sections) +
                      sum_group_rows(shape, first, section),
        .rows = rows,
    };
}

gdncp_status_t gdncp_family_row_block(gdncp_family_t family, const gdncp_layer_shape_t *shape,
                                      int64_t tensor, int64_t block, gdncp_row_block_t *block_p)
{
    const entry_t *entry = NULL;
    const gdncp_status_t status = find_entry(family, shape, tensor, &entry);

    if (status != GDNCP_OK) {
        return status;
    }
    if (block < 0 || block >= num_blocks(shape, entry)) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "block: expected 0..%" PRId64 " for %s, got %" PRId64,
                          num_blocks(shape, entry) - 1, entry->name, block);
    }
    if (block_p == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "block_p: expected a place for the block, got NULL");
    }
    *block_p = make_block(shape, entry, block);
    return GDNCP_OK;
}

static gdncp_status_t check_copy(const entry_t *entry, size_t element_size, const void *data,
                                 const void *parameters, const void *parameter)
{
    if (element_size < 1 || element_size > sizeof(int64_t)) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "element_size: expected 1..8, got %zu",
                          element_size);
    }
    if (data == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "data: expected the memory of %s, got NULL",
                          entry->name);
    }
    if (parameters == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "parameters: expected %d pointers, got NULL",
                          GDNCP_NUM_PARAMETERS);
    }
    if (parameter == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "parameters[%d]: expected the memory of %s, which has rows of %s, got "
                          "NULL",
                          (int)entry->parameter, gdncp_parameter_name(entry->parameter),
                          entry->name);
    }
    return GDNCP_OK;
}

static size_t row_bytes(const gdncp_layer_shape_t *shape, const entry_t *entry, size_t element_size)
{
    int ndim;
    int64_t dims[2];

    gdncp_parameter_shape(shape, entry->parameter, &ndim, dims);
    return ndim == 2 ? (size_t)dims[1] * element_size : element_size;
}

gdncp_status_t gdncp_family_gather(gdncp_family_t family, const gdncp_layer_shape_t *shape,
                                   int64_t tensor, size_t element_size, const void *data,
                                   void *const *parameters)
{
    const entry_t *entry = NULL;
    gdncp_status_t status = find_entry(family, shape, tensor, &entry);
    size_t row;
    char *parameter;

    if (status != GDNCP_OK) {
        return status;
    }
    parameter = parameters != NULL ? parameters[entry->parameter] : NULL;
    status = check_copy(entry, element_size, data, parameters, parameter);
    if (status != GDNCP_OK) {
        return status;
    }
    row = row_bytes(shape, entry, element_size);
    for (int64_t i = 0; i < num_blocks(shape, entry); i++) {
        const gdncp_row_block_t block = make_block(shape, entry, i);

        memcpy(parameter + (size_t)block.canonical_row * row,
               (const char *)data + (size_t)block.tensor_row * row, (size_t)block.rows * row);
    }
    return GDNCP_OK;
}

gdncp_status_t gdncp_family_scatter(gdncp_family_t family, const gdncp_layer_shape_t *shape,
                                    int64_t tensor, size_t element_size,
                                    const void *const *parameters, void *data)
{
    const entry_t *entry = NULL;
    gdncp_status_t status = find_entry(family, shape, tensor, &entry);
    size_t row;
    const char *parameter;

    if (status != GDNCP_OK) {
        return status;
    }
    parameter = parameters != NULL ? parameters[entry->parameter] : NULL;
    status = check_copy(entry, element_size, data, parameters, parameter);
    if (status != GDNCP_OK) {
        return status;
    }
    row = row_bytes(shape, entry, element_size);
    for (int64_t i = 0; i < num_blocks(shape, entry); i++) {
        const gdncp_row_block_t block = make_block(shape, entry, i);

        memcpy((char *)data + (size_t)block.tensor_row * row,
               parameter + (size_t)block.canonical_row * row, (size_t)block.rows * row);
    }
    return GDNCP_OK;
}
