/* The named tensors of a layer's checkpoint, and each rank's pieces of them. */
#include "gdncp/checkpoint.h"

#include <stdbool.h>

#include "error.h"
#include "in_proj_sections.h"
#include "place.h"

/* Names of a parameter's sections; of one without, its own. */
static const char *const names[GDNCP_NUM_PARAMETERS][GDNCP_MAX_SECTIONS] = {
    [GDNCP_PARAMETER_IN_PROJ_WEIGHT] = {"in_proj.weight.query", "in_proj.weight.key",
                                        "in_proj.weight.value", "in_proj.weight.z",
                                        "in_proj.weight.beta", "in_proj.weight.alpha"},
    [GDNCP_PARAMETER_CONV_WEIGHT] = {"conv1d.weight.query", "conv1d.weight.key",
                                     "conv1d.weight.value"},
    [GDNCP_PARAMETER_A_LOG] = {"A_log"},
    [GDNCP_PARAMETER_DT_BIAS] = {"dt_bias"},
    [GDNCP_PARAMETER_NORM_WEIGHT] = {"out_norm.weight"},
    [GDNCP_PARAMETER_OUT_PROJ_WEIGHT] = {"out_proj.weight"},
};

static const char *const bias_names[] = {"conv1d.bias.query", "conv1d.bias.key",
                                         "conv1d.bias.value"};

/* Shards that are being listed. */
typedef struct list {
    const gdncp_layer_shape_t *shape;
    const gdncp_place_t *place;
    gdncp_shard_t *shards;
    int64_t count;
    bool is_bias; /* of the parameter: its rows, one element each */
} list_t;

static gdncp_place_t tp_rank_of(const list_t *list, int tp_rank)
{
    return (gdncp_place_t){.tp_size = list->place->tp_size, .tp_rank = tp_rank, .cp_size = 1};
}

static gdncp_head_range_t heads_of(const list_t *list, gdncp_head_kind_t kind, int tp_rank)
{
    const gdncp_place_t place = tp_rank_of(list, tp_rank);

    return gdncp_heads_of_place(kind, list->shape->num_key_heads, list->shape->num_value_heads,
                                &place);
}

/* How many tensor-parallel ranks below `end` have a head. Ranks without heads lie between them. */
static int count_owners(const list_t *list, gdncp_head_kind_t kind, int64_t head, int end)
{
    int owners = 0;

    for (int tp_rank = 0; tp_rank < end; tp_rank++) {
        const gdncp_head_range_t heads = heads_of(list, kind, tp_rank);

        owners += heads.first <= head && head < heads.first + heads.count;
    }
    return owners;
}

/* Append rows [begin, begin + count) of a section, or columns, which begin at local_row in the
 * tensor-parallel rank's parameter. */
static void append(list_t *list, gdncp_parameter_t parameter, int section, int64_t section_rows,
                   int64_t begin, int64_t count, int64_t local_row, int tp_replica)
{
    const bool is_conv = parameter == GDNCP_PARAMETER_CONV_WEIGHT;
    const int split_dim = parameter == GDNCP_PARAMETER_OUT_PROJ_WEIGHT;
    gdncp_shard_t *const shard = &list->shards[list->count++];

    *shard = (gdncp_shard_t){
        .name = list->is_bias ? bias_names[section] : names[parameter][section],
        .parameter = parameter,
        .tp_replica = tp_replica,
        .cp_replica = list->place->cp_rank,
    };
    /* Cannot fail: the shape was checked, and the parameter is ours. */
    gdncp_parameter_shape(list->shape, parameter, &shard->ndim, shard->global_shape);
    if (list->is_bias) {
        shard->ndim = 1;
        shard->global_shape[1] = 0;
    } else if (is_conv) {
        /* A depthwise convolution has one input channel per group. */
        shard->ndim = 3;
        shard->global_shape[2] = shard->global_shape[1];
        shard->global_shape[1] = 1;
    }
    shard->global_shape[split_dim] = section_rows;
    for (int d = 0; d < shard->ndim; d++) {
        shard->shape[d] = shard->global_shape[d];
    }
    shard->shape[split_dim] = count;
    shard->global_offset[split_dim] = begin;
    /* Columns are never cut again: the piece is then the whole parameter. */
    shard->local_offset = local_row;
    for (int d = 1; d < shard->ndim; d++) {
        shard->local_offset *= shard->shape[d];
    }
}

/* The pieces of a section: one for all heads that no other rank has, one for each that is shared.
 */
static void append_section(list_t *list, gdncp_parameter_t parameter, int index,
                           const gdncp_section_t *section, int64_t num_heads, int64_t local_row)
{
    const int tp_rank = list->place->tp_rank;
    const int tp_size = list->place->tp_size;
    const gdncp_head_range_t heads = heads_of(list, section->kind, tp_rank);
    const int64_t end = heads.first + heads.count;
    int64_t head = heads.first;

    while (head < end) {
        const int replica = count_owners(list, section->kind, head, tp_rank);
        const int64_t first = head;

        if (count_owners(list, section->kind, head, tp_size) == 1) {
            while (head < end && count_owners(list, section->kind, head, tp_size) == 1) {
                head++;
            }
        } else {
            head++;
        }
        append(list, parameter, index, num_heads * section->head_dim, first * section->head_dim,
               (head - first) * section->head_dim,
               local_row + (first - heads.first) * section->head_dim, replica);
    }
}

static gdncp_status_t append_parameter(list_t *list, gdncp_parameter_t parameter)
{
    const gdncp_place_t place = tp_rank_of(list, list->place->tp_rank);
    gdncp_section_t sections[GDNCP_MAX_SECTIONS];
    gdncp_held_rows_t blocks[GDNCP_MAX_SECTIONS];
    gdncp_parameter_split_t split;
    int64_t outer;
    int64_t inner;
    gdncp_status_t status;

    if (parameter == GDNCP_PARAMETER_NORM_WEIGHT) {
        append(list, parameter, 0, list->shape->value_head_dim, 0, list->shape->value_head_dim, 0,
               list->place->tp_rank);
        return GDNCP_OK;
    }
    status = gdncp_parameter_split(list->shape, parameter, sections, &split, &outer, &inner);
    if (status == GDNCP_OK) {
        status = gdncp_split_blocks(&split, GDNCP_EXTENT_WHOLE, &place, blocks);
    }
    for (int i = 0; status == GDNCP_OK && i < split.num_sections; i++) {
        append_section(list, parameter, i, &sections[i],
                       sections[i].kind == GDNCP_KEY_HEADS ? split.num_key_heads
                                                           : split.num_value_heads,
                       blocks[i].local_row);
    }
    return status;
}

static gdncp_status_t check_list(const list_t *list, const int64_t *num_shards_p)
{
    gdncp_status_t status = gdncp_layer_shape_check(list->shape);

    if (status == GDNCP_OK) {
        status = gdncp_place_check(list->place);
    }
    if (status == GDNCP_OK && (list->shards == NULL || num_shards_p == NULL)) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "%s, got NULL",
                          list->shards == NULL ? "shards: expected a place for 21 shards"
                                               : "num_shards_p: expected a place for their number");
    }
    return status;
}

gdncp_status_t gdncp_checkpoint_shards(const gdncp_layer_shape_t *shape, const gdncp_place_t *place,
                                       gdncp_shard_t *shards, int64_t *num_shards_p)
{
    list_t list = {.shape = shape, .place = place, .shards = shards};
    gdncp_status_t status = check_list(&list, num_shards_p);

    for (int p = 0; p < GDNCP_NUM_PARAMETERS && status == GDNCP_OK; p++) {
        status = append_parameter(&list, (gdncp_parameter_t)p);
    }
    if (status == GDNCP_OK) {
        *num_shards_p = list.count;
    }
    return status;
}

gdncp_status_t gdncp_checkpoint_conv_bias(const gdncp_layer_shape_t *shape,
                                          const gdncp_place_t *place, gdncp_shard_t *shards,
                                          int64_t *num_shards_p)
{
    list_t list = {.shape = shape, .place = place, .shards = shards, .is_bias = true};
    gdncp_status_t status = check_list(&list, num_shards_p);

    if (status == GDNCP_OK) {
        status = append_parameter(&list, GDNCP_PARAMETER_CONV_WEIGHT);
    }
    if (status == GDNCP_OK) {
        *num_shards_p = list.count;
    }
    return status;
}
