/* How model families store the parameters of a layer. */
#include "gdncp/weights.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "error.h"
#include "in_proj_sections.h"
#include "place.h"

/* A tensor of a family. Those of the input projection hold some sections that follow each other
 * in canonical order, one after the other or interleaved by group; the others are a parameter. */
typedef struct entry {
    const char *name;
    gdncp_parameter_t parameter;
    in_proj_section_t first_section;
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
static int64_t group_rows(const gdncp_layer_shape_t *shape, int section)
{
    gdncp_section_t sections[GDNCP_MAX_SECTIONS];

    gdncp_in_proj_sections(shape, sections);
    return sections[section].head_dim * (sections[section].kind == GDNCP_KEY_HEADS
                                             ? 1
                                             : shape->num_value_heads / shape->num_key_heads);
}

/* Rows of one group of the sections first .. end-1 together. */
static int64_t sum_group_rows(const gdncp_layer_shape_t *shape, int first, int end)
{
    int64_t rows = 0;

    for (int section = first; section < end; section++) {
        rows += group_rows(shape, section);
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
    const int64_t rows = group_rows(shape, section);

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

/* Rows of a family's tensor and rows of the same length of a place's parameter. */
typedef struct row_copy {
    char *tensor;
    char *parameter;
    size_t row_bytes;
    bool to_parameter;
} row_copy_t;

/* Copy what a block of the tensor has of some rows that the place holds. */
static void copy_common_rows(const row_copy_t *copy, const gdncp_row_block_t *block,
                             const gdncp_held_rows_t *held)
{
    const int64_t block_end = block->canonical_row + block->rows;
    const int64_t held_end = held->full_row + held->rows;
    const int64_t begin =
        block->canonical_row > held->full_row ? block->canonical_row : held->full_row;
    const int64_t end = block_end < held_end ? block_end : held_end;

    if (begin < end) {
        char *const in_tensor =
            copy->tensor +
            (size_t)(block->tensor_row + begin - block->canonical_row) * copy->row_bytes;
        char *const in_parameter =
            copy->parameter + (size_t)(held->local_row + begin - held->full_row) * copy->row_bytes;
        const size_t bytes = (size_t)(end - begin) * copy->row_bytes;

        memcpy(copy->to_parameter ? in_parameter : in_tensor,
               copy->to_parameter ? in_tensor : in_parameter, bytes);
    }
}

/* The input projection, whose rows families store in orders of their own. */
static gdncp_status_t copy_in_proj(const gdncp_layer_shape_t *shape, const entry_t *entry,
                                   const gdncp_place_t *place, const row_copy_t *copy)
{
    gdncp_section_t sections[GDNCP_MAX_SECTIONS];
    gdncp_held_rows_t held[GDNCP_MAX_SECTIONS];
    gdncp_parameter_split_t split;
    int64_t outer;
    int64_t inner;
    gdncp_status_t status =
        gdncp_parameter_split(shape, entry->parameter, sections, &split, &outer, &inner);

    if (status == GDNCP_OK) {
        status = gdncp_split_blocks(&split, GDNCP_EXTENT_WHOLE, place, held);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    for (int64_t i = 0; i < num_blocks(shape, entry); i++) {
        const gdncp_row_block_t block = make_block(shape, entry, i);

        for (int64_t s = 0; s < split.num_sections; s++) {
            copy_common_rows(copy, &block, &held[s]);
        }
    }
    return GDNCP_OK;
}

/* A tensor that is a whole parameter, in the parameter's order. */
static gdncp_status_t copy_parameter(const gdncp_layer_shape_t *shape, gdncp_parameter_t parameter,
                                     const gdncp_place_t *place, size_t element_size,
                                     const row_copy_t *copy)
{
    gdncp_section_t sections[GDNCP_MAX_SECTIONS];
    gdncp_parameter_split_t split;
    int64_t outer;
    int64_t inner;
    gdncp_status_t status;

    if (parameter == GDNCP_PARAMETER_NORM_WEIGHT) {
        const size_t bytes = (size_t)shape->value_head_dim * element_size;

        memcpy(copy->to_parameter ? copy->parameter : copy->tensor,
               copy->to_parameter ? copy->tensor : copy->parameter, bytes);
        return GDNCP_OK;
    }
    status = gdncp_parameter_split(shape, parameter, sections, &split, &outer, &inner);
    if (status != GDNCP_OK) {
        return status;
    }
    return copy->to_parameter
               ? gdncp_split_gather(&split, GDNCP_EXTENT_WHOLE, place, outer,
                                    (size_t)inner * element_size, copy->tensor, copy->parameter)
               : gdncp_split_scatter(&split, GDNCP_EXTENT_WHOLE, place, outer,
                                     (size_t)inner * element_size, copy->parameter, copy->tensor);
}

static gdncp_status_t copy_tensor(gdncp_family_t family, const gdncp_layer_shape_t *shape,
                                  const gdncp_place_t *place, int64_t tensor, size_t element_size,
                                  const void *data, const void *const *parameters,
                                  bool to_parameter)
{
    const entry_t *entry = NULL;
    gdncp_status_t status = find_entry(family, shape, tensor, &entry);

    if (status == GDNCP_OK) {
        status = gdncp_place_check(place);
    }
    if (status != GDNCP_OK) {
        return status;
    }

    const void *const parameter = parameters != NULL ? parameters[entry->parameter] : NULL;
    /* Only the side that its caller may write to is written to. */
    const row_copy_t copy = {
        .tensor = (char *)data,
        .parameter = (char *)parameter,
        .row_bytes = (size_t)shape->hidden_size * element_size, /* of the input projection */
        .to_parameter = to_parameter,
    };

    status = check_copy(entry, element_size, data, parameters, parameter);
    if (status != GDNCP_OK) {
        return status;
    }
    return entry->parameter == GDNCP_PARAMETER_IN_PROJ_WEIGHT
               ? copy_in_proj(shape, entry, place, &copy)
               : copy_parameter(shape, entry->parameter, place, element_size, &copy);
}

static const gdncp_place_t only_place = {.tp_size = 1, .cp_size = 1};

gdncp_status_t gdncp_family_gather(gdncp_family_t family, const gdncp_layer_shape_t *shape,
                                   int64_t tensor, size_t element_size, const void *data,
                                   void *const *parameters)
{
    return gdncp_family_gather_local(family, shape, &only_place, tensor, element_size, data,
                                     parameters);
}

gdncp_status_t gdncp_family_scatter(gdncp_family_t family, const gdncp_layer_shape_t *shape,
                                    int64_t tensor, size_t element_size,
                                    const void *const *parameters, void *data)
{
    return gdncp_family_scatter_local(family, shape, &only_place, tensor, element_size, parameters,
                                      data);
}

gdncp_status_t gdncp_family_gather_local(gdncp_family_t family, const gdncp_layer_shape_t *shape,
                                         const gdncp_place_t *place, int64_t tensor,
                                         size_t element_size, const void *data,
                                         void *const *parameters)
{
    return copy_tensor(family, shape, place, tensor, element_size, data,
                       (const void *const *)parameters, true);
}

gdncp_status_t gdncp_family_scatter_local(gdncp_family_t family, const gdncp_layer_shape_t *shape,
                                          const gdncp_place_t *place, int64_t tensor,
                                          size_t element_size, const void *const *parameters,
                                          void *data)
{
    return copy_tensor(family, shape, place, tensor, element_size, data, parameters, false);
}
