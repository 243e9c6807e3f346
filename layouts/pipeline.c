/* Which layers a pipeline stage has, and what they are. */
#include <inttypes.h>
#include <stddef.h>

#include "error.h"
#include "frequency.h"

/* What a stage has of what counts as layers; one rank is the first. */
typedef struct stage_sizes {
    int64_t first; /* of the first rank */
    int64_t middle;
    int64_t last;
    int64_t all; /* of all ranks together */
} stage_sizes_t;

static gdncp_status_t check_pipeline(const gdncp_pipeline_t *pipeline)
{
    if (pipeline == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "pipeline: expected a pipeline, got NULL");
    }

    const struct {
        const char *name;
        int64_t value;
        int64_t least;
    } members[] = {
        {"num_layers", pipeline->num_layers, 1},
        {"num_ranks", pipeline->num_ranks, 1},
        {"num_virtual_stages", pipeline->num_virtual_stages, 1},
        {"first_rank_layers", pipeline->first_rank_layers, 0},
        {"last_rank_layers", pipeline->last_rank_layers, 0},
    };

    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        if (members[i].value < members[i].least) {
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                              "pipeline.%s: expected at least %" PRId64 ", got %" PRId64,
                              members[i].name, members[i].least, members[i].value);
        }
    }
    if (pipeline->num_virtual_stages > 1 && pipeline->num_ranks == 1) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "pipeline.num_virtual_stages: expected 1 with one rank, got %d",
                          pipeline->num_virtual_stages);
    }
    if ((pipeline->first_rank_layers > 0 || pipeline->last_rank_layers > 0) &&
        (pipeline->embedding_is_layer || pipeline->loss_is_layer)) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "pipeline.%s: expected false beside a number of layers of the first or "
                          "last rank, got true",
                          pipeline->embedding_is_layer ? "embedding_is_layer" : "loss_is_layer");
    }
    return GDNCP_OK;
}

/* The layers of one of a rank's stages. */
static gdncp_status_t divide_by_stages(const gdncp_pipeline_t *pipeline, const char *which,
                                       int64_t rank_layers, int64_t *stage_layers_p)
{
    if (rank_layers % pipeline->num_virtual_stages != 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "pipeline.num_virtual_stages: expected a divisor of the %" PRId64
                          " layers of %s, got %d",
                          rank_layers, which, pipeline->num_virtual_stages);
    }
    *stage_layers_p = rank_layers / pipeline->num_virtual_stages;
    return GDNCP_OK;
}

/* Layers that are dealt out evenly, over `ranks` ranks. */
static gdncp_status_t divide_by_ranks(const gdncp_pipeline_t *pipeline, int64_t layers, int ranks,
                                      int64_t *stage_layers_p)
{
    if (ranks == 0 ? layers != 0 : layers % ranks != 0) {
        return gdncp_fail(
            GDNCP_ERR_INVALID_ARGUMENT,
            "pipeline.num_layers: expected a number of which %d ranks get equally many, "
            "got %" PRId64 ", which makes %" PRId64 " to deal out to them",
            ranks, pipeline->num_layers, layers);
    }
    return divide_by_stages(pipeline, "each rank", ranks > 0 ? layers / ranks : 0, stage_layers_p);
}

/* Stages of equal sizes, of what counts as layers. */
static gdncp_status_t find_even_sizes(const gdncp_pipeline_t *pipeline, stage_sizes_t *sizes)
{
    const int64_t extra = (int64_t)pipeline->embedding_is_layer + pipeline->loss_is_layer;
    int64_t layers;

    if (__builtin_add_overflow(pipeline->num_layers, extra, &layers)) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "pipeline.num_layers: expected less than 2^63 with embedding and loss, "
                          "got %" PRId64,
                          pipeline->num_layers);
    }

    const gdncp_status_t status =
        divide_by_ranks(pipeline, layers, pipeline->num_ranks, &sizes->middle);

    sizes->first = sizes->middle;
    sizes->last = sizes->middle;
    sizes->all = layers / pipeline->num_virtual_stages;
    return status;
}

static gdncp_status_t find_uneven_sizes(const gdncp_pipeline_t *pipeline, stage_sizes_t *sizes)
{
    const int num_given = (pipeline->first_rank_layers > 0) + (pipeline->last_rank_layers > 0);
    gdncp_status_t status;

    if (num_given > pipeline->num_ranks) {
        return gdncp_fail(
            GDNCP_ERR_INVALID_ARGUMENT,
            "pipeline.last_rank_layers: expected 0 where one rank is the first and the "
            "last, got %" PRId64,
            pipeline->last_rank_layers);
    }
    if (pipeline->first_rank_layers > pipeline->num_layers ||
        pipeline->last_rank_layers > pipeline->num_layers - pipeline->first_rank_layers) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "pipeline.num_layers: expected at least the first rank's %" PRId64
                          " and the last rank's %" PRId64 ", got %" PRId64,
                          pipeline->first_rank_layers, pipeline->last_rank_layers,
                          pipeline->num_layers);
    }
    status = divide_by_ranks(
        pipeline, pipeline->num_layers - pipeline->first_rank_layers - pipeline->last_rank_layers,
        pipeline->num_ranks - num_given, &sizes->middle);
    sizes->first = sizes->middle;
    sizes->last = sizes->middle;
    if (status == GDNCP_OK && pipeline->first_rank_layers > 0) {
        status = divide_by_stages(pipeline, "the first rank", pipeline->first_rank_layers,
                                  &sizes->first);
    }
    if (status == GDNCP_OK && pipeline->last_rank_layers > 0) {
        status =
            divide_by_stages(pipeline, "the last rank", pipeline->last_rank_layers, &sizes->last);
    }
    if (pipeline->num_ranks == 1 && pipeline->last_rank_layers > 0) {
        sizes->first = sizes->last;
    }
    sizes->all = pipeline->num_layers / pipeline->num_virtual_stages;
    return status;
}

/* The layers of a stage. What comes before it is a layer too many where the embedding is one. */
static gdncp_layer_range_t find_range(const gdncp_pipeline_t *pipeline, const stage_sizes_t *sizes,
                                      int rank, int virtual_stage)
{
    const bool is_first = rank == 0 && virtual_stage == 0;
    const bool is_last =
        rank == pipeline->num_ranks - 1 && virtual_stage == pipeline->num_virtual_stages - 1;
    const int64_t before = rank > 0 ? sizes->first + (rank - 1) * sizes->middle : 0;
    gdncp_layer_range_t range = {
        .first = virtual_stage * sizes->all + before,
        .count = rank == 0                         ? sizes->first
                 : rank == pipeline->num_ranks - 1 ? sizes->last
                                                   : sizes->middle,
    };

    if (pipeline->embedding_is_layer) {
        range.first -= !is_first;
        range.count -= is_first;
    }
    if (pipeline->loss_is_layer) {
        range.count -= is_last;
    }
    return range;
}

gdncp_status_t gdncp_pipeline_layers(const gdncp_pipeline_t *pipeline, int rank, int virtual_stage,
                                     gdncp_layer_range_t *range_p)
{
    gdncp_status_t status = check_pipeline(pipeline);
    stage_sizes_t sizes = {0};

    if (status == GDNCP_OK) {
        status = pipeline->first_rank_layers > 0 || pipeline->last_rank_layers > 0
                     ? find_uneven_sizes(pipeline, &sizes)
                     : find_even_sizes(pipeline, &sizes);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    if (rank < 0 || rank >= pipeline->num_ranks) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "rank: expected 0..%d, got %d",
                          pipeline->num_ranks - 1, rank);
    }
    if (virtual_stage < 0 || virtual_stage >= pipeline->num_virtual_stages) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "virtual_stage: expected 0..%d, got %d",
                          pipeline->num_virtual_stages - 1, virtual_stage);
    }
    if (range_p == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "range_p: expected a place for the range, got NULL");
    }
    *range_p = find_range(pipeline, &sizes, rank, virtual_stage);
    return GDNCP_OK;
}

gdncp_status_t gdncp_pipeline_stage(const gdncp_pipeline_t *pipeline, int rank, int virtual_stage,
                                    const gdncp_frequency_t *attention,
                                    const gdncp_frequency_t *mlp, int64_t capacity,
                                    gdncp_stage_layer_t *layers)
{
    gdncp_layer_range_t range;
    gdncp_status_t status = gdncp_pipeline_layers(pipeline, rank, virtual_stage, &range);

    if (status == GDNCP_OK && attention != NULL) {
        status = gdncp_frequency_check(attention, "attention", pipeline->num_layers);
    }
    if (status == GDNCP_OK && mlp != NULL) {
        status = gdncp_frequency_check(mlp, "mlp", pipeline->num_layers);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    if (capacity < range.count) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "capacity: expected at least the stage's %" PRId64
                          " layers, got %" PRId64,
                          range.count, capacity);
    }
    if (layers == NULL && range.count > 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "layers: expected a place for %" PRId64 " layers, got NULL", range.count);
    }
    for (int64_t i = 0; i < range.count; i++) {
        const int64_t layer = range.first + i;

        layers[i] = (gdncp_stage_layer_t){
            .layer = layer,
            .attention =
                attention != NULL ? gdncp_attention_of(attention, layer) : GDNCP_ATTENTION_FULL,
            .mlp = mlp != NULL ? gdncp_mlp_of(mlp, layer) : GDNCP_MLP_DENSE,
        };
    }
    return GDNCP_OK;
}
