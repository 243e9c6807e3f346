/* Checkpoints in files: what one grid saves, another loads, and it is the same layer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "gdncp/checkpoint.h"
#include "gdncp/safetensors.h"

enum { MAX_RANKS = 16, POISON = -7 };

static const gdncp_layer_shape_t shape = {.hidden_size = 5,
                                          .num_key_heads = 3,
                                          .num_value_heads = 6,
                                          .key_head_dim = 2,
                                          .value_head_dim = 3,
                                          .conv_kernel_dim = 4};

static char folder[256];

static int make_folder(void **state)
{
    const char *const parent = getenv("TMPDIR");

    (void)state;
    snprintf(folder, sizeof folder, "%s/gdncp-XXXXXX", parent != NULL ? parent : "/tmp");
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

static const char *path_of(int rank)
{
    static char path[300];

    snprintf(path, sizeof path, "%s/%d", folder, rank);
    return path;
}

/* A name that pieces of a tensor do not share. */
static const char *piece_name(const gdncp_shard_t *shard)
{
    static char piece_names[GDNCP_MAX_SHARDS][64];
    static int next;
    char *const name = piece_names[next++ % GDNCP_MAX_SHARDS];

    snprintf(name, sizeof piece_names[0], "%s/%lld,%lld", shard->name,
             (long long)shard->global_offset[0], (long long)shard->global_offset[1]);
    return name;
}

/* The parameters of a tensor-parallel rank; poison where nothing is loaded. */
typedef struct parameters {
    int64_t sizes[GDNCP_NUM_PARAMETERS];
    int32_t *data[GDNCP_NUM_PARAMETERS];
} parameters_t;

static void make_parameters(int tp_size, int tp_rank, parameters_t *parameters)
{
    const gdncp_place_t place = {tp_size, tp_rank, 1, 0};

    for (int p = 0; p < GDNCP_NUM_PARAMETERS; p++) {
        int64_t dims[2] = {0, 1};
        int ndim;

        assert_int_equal(
            gdncp_parameter_local_shape(&shape, &place, (gdncp_parameter_t)p, &ndim, dims),
            GDNCP_OK);
        parameters->sizes[p] = dims[0] * dims[1];
        parameters->data[p] = malloc((size_t)(parameters->sizes[p] + 1) * sizeof(int32_t));
        assert_non_null(parameters->data[p]);
        for (int64_t i = 0; i <= parameters->sizes[p]; i++) {
            parameters->data[p][i] = POISON;
        }
    }
}

static void free_parameters(parameters_t *parameters)
{
    for (int p = 0; p < GDNCP_NUM_PARAMETERS; p++) {
        assert_int_equal(parameters->data[p][parameters->sizes[p]], POISON);
        free(parameters->data[p]);
    }
}

/* A tensor-parallel rank's part of a layer whose elements are all different. */
static void make_part(int tp_size, int tp_rank, parameters_t *part)
{
    const gdncp_place_t place = {tp_size, tp_rank, 1, 0};
    parameters_t layer;
    int32_t next = 0;

    make_parameters(1, 0, &layer);
    make_parameters(tp_size, tp_rank, part);
    for (int p = 0; p < GDNCP_NUM_PARAMETERS; p++) {
        gdncp_section_t sections[GDNCP_MAX_SECTIONS];
        gdncp_parameter_split_t split;
        int64_t outer;
        int64_t inner;

        for (int64_t i = 0; i < layer.sizes[p]; i++) {
            layer.data[p][i] = next++;
        }
        if (p == GDNCP_PARAMETER_NORM_WEIGHT) {
            memcpy(part->data[p], layer.data[p], (size_t)layer.sizes[p] * sizeof(int32_t));
            continue;
        }
        assert_int_equal(
            gdncp_parameter_split(&shape, (gdncp_parameter_t)p, sections, &split, &outer, &inner),
            GDNCP_OK);
        assert_int_equal(gdncp_split_gather(&split, GDNCP_EXTENT_WHOLE, &place, outer,
                                            (size_t)inner * sizeof(int32_t), layer.data[p],
                                            part->data[p]),
                         GDNCP_OK);
    }
    free_parameters(&layer);
}

static int64_t list_shards(int tp_size, int cp_size, int rank, gdncp_shard_t *shards)
{
    gdncp_place_t place;
    int64_t count;

    assert_int_equal(gdncp_place_of_rank(tp_size, cp_size, rank, &place), GDNCP_OK);
    assert_int_equal(gdncp_checkpoint_shards(&shape, &place, shards, &count), GDNCP_OK);
    return count;
}

/* Each rank writes a file of the pieces that no rank before it has. */
static void save(int tp_size, int cp_size)
{
    for (int rank = 0; rank < tp_size * cp_size; rank++) {
        gdncp_shard_t shards[GDNCP_MAX_SHARDS];
        gdncp_named_tensor_t tensors[GDNCP_MAX_SHARDS];
        const int64_t count = list_shards(tp_size, cp_size, rank, shards);
        int64_t num_saved = 0;
        parameters_t part;

        make_part(tp_size, rank % tp_size, &part);
        for (int64_t i = 0; i < count; i++) {
            if (shards[i].tp_replica == 0 && shards[i].cp_replica == 0) {
                tensors[num_saved].name = piece_name(&shards[i]);
                tensors[num_saved++].tensor =
                    gdncp_tensor_contiguous(part.data[shards[i].parameter] + shards[i].local_offset,
                                            GDNCP_I32, shards[i].ndim, shards[i].shape);
            }
        }
        assert_int_equal(gdncp_safetensors_write(path_of(rank), tensors, num_saved, NULL, 0),
                         GDNCP_OK);
        free_parameters(&part);
    }
}

/* Load what the file of a rank of the grid that saved has of a rank's parameters. */
static void load_file(int tp_size, int cp_size, int rank, const gdncp_shard_t *wanted,
                      int64_t num_wanted, parameters_t *part, int64_t *num_loaded)
{
    gdncp_shard_t saved[GDNCP_MAX_SHARDS];
    const int64_t num_saved = list_shards(tp_size, cp_size, rank, saved);
    gdncp_safetensors_t *file;

    assert_int_equal(gdncp_safetensors_open(path_of(rank), &file), GDNCP_OK);
    for (int64_t s = 0; s < num_saved; s++) {
        gdncp_tensor_t tensor;

        if (saved[s].tp_replica != 0 || saved[s].cp_replica != 0) {
            continue;
        }
        assert_int_equal(gdncp_safetensors_get(file, piece_name(&saved[s]), &tensor), GDNCP_OK);
        for (int64_t w = 0; w < num_wanted; w++) {
            int64_t count = -1;

            if (strcmp(saved[s].name, wanted[w].name) == 0) {
                assert_int_equal(gdncp_shard_load(&wanted[w], &saved[s], sizeof(int32_t),
                                                  tensor.data, part->data[wanted[w].parameter],
                                                  &count),
                                 GDNCP_OK);
                assert_true(count >= 0);
                *num_loaded += count;
            }
        }
    }
    gdncp_safetensors_close(file);
}

static void load_and_compare(int saved_tp, int saved_cp, int tp_size)
{
    for (int tp_rank = 0; tp_rank < tp_size; tp_rank++) {
        gdncp_shard_t wanted[GDNCP_MAX_SHARDS];
        const int64_t num_wanted = list_shards(tp_size, 1, tp_rank, wanted);
        int64_t num_loaded = 0;
        int64_t size = 0;
        parameters_t loaded;
        parameters_t expected;

        make_parameters(tp_size, tp_rank, &loaded);
        make_part(tp_size, tp_rank, &expected);
        for (int rank = 0; rank < saved_tp * saved_cp; rank++) {
            load_file(saved_tp, saved_cp, rank, wanted, num_wanted, &loaded, &num_loaded);
        }
        for (int p = 0; p < GDNCP_NUM_PARAMETERS; p++) {
            size += expected.sizes[p];
            assert_memory_equal(loaded.data[p], expected.data[p],
                                (size_t)expected.sizes[p] * sizeof(int32_t));
        }
        assert_int_equal(num_loaded, size);
        free_parameters(&loaded);
        free_parameters(&expected);
    }
}

static void any_grid_loads_what_any_grid_saved(void **state)
{
    const int grids[][2] = {{1, 1}, {2, 2}, {3, 2}, {4, 1}, {6, 1}, {8, 2}};

    (void)state;
    for (size_t g = 0; g < sizeof grids / sizeof grids[0]; g++) {
        const int num_ranks = grids[g][0] * grids[g][1];

        assert_true(num_ranks <= MAX_RANKS);
        save(grids[g][0], grids[g][1]);
        for (int tp_size = 1; tp_size <= 8; tp_size++) {
            load_and_compare(grids[g][0], grids[g][1], tp_size);
        }
        for (int rank = 0; rank < num_ranks; rank++) {
            assert_int_equal(unlink(path_of(rank)), 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_grid_loads_what_any_grid_saved),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
