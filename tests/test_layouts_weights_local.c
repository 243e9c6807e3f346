/* What a place of a grid holds of a family's tensors: the rows its own parameters have, both ways.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "gdncp/weights.h"

enum { NUM_FAMILIES = 3, POISON = -7 };

static const gdncp_layer_shape_t shapes[] = {
    {.hidden_size = 5,
     .num_key_heads = 4,
     .num_value_heads = 12,
     .key_head_dim = 3,
     .value_head_dim = 2,
     .conv_kernel_dim = 4},
    {.hidden_size = 3,
     .num_key_heads = 3,
     .num_value_heads = 3,
     .key_head_dim = 2,
     .value_head_dim = 5,
     .conv_kernel_dim = 2},
};

static const int grids[][2] = {{1, 1}, {2, 2}, {4, 3}, {1, 4}, {3, 1}, {5, 4}};

static int64_t size_of(const gdncp_layer_shape_t *shape, const gdncp_place_t *place, int parameter)
{
    int64_t dims[2] = {-1, 1};
    int ndim = -1;

    assert_int_equal(
        gdncp_parameter_local_shape(shape, place, (gdncp_parameter_t)parameter, &ndim, dims),
        GDNCP_OK);
    return dims[0] * dims[1];
}

static int32_t *new_array(int64_t count)
{
    int32_t *const array = malloc(((size_t)count + 1) * sizeof *array);

    assert_non_null(array);
    for (int64_t i = 0; i <= count; i++) {
        array[i] = POISON;
    }
    return array;
}

/* A layer whose elements are all different, or what a place holds of it. */
typedef struct parameters {
    int64_t sizes[GDNCP_NUM_PARAMETERS];
    int32_t *data[GDNCP_NUM_PARAMETERS];
} parameters_t;

static void make_parameters(const gdncp_layer_shape_t *shape, const gdncp_place_t *place,
                            parameters_t *parameters)
{
    for (int p = 0; p < GDNCP_NUM_PARAMETERS; p++) {
        parameters->sizes[p] = size_of(shape, place, p);
        parameters->data[p] = new_array(parameters->sizes[p]);
    }
}

static void free_parameters(parameters_t *parameters)
{
    for (int p = 0; p < GDNCP_NUM_PARAMETERS; p++) {
        assert_int_equal(parameters->data[p][parameters->sizes[p]], POISON);
        free(parameters->data[p]);
    }
}

static const gdncp_place_t whole = {.tp_size = 1, .cp_size = 1};

static void make_layer(const gdncp_layer_shape_t *shape, parameters_t *layer)
{
    int32_t next = 0;

    make_parameters(shape, &whole, layer);
    for (int p = 0; p < GDNCP_NUM_PARAMETERS; p++) {
        for (int64_t i = 0; i < layer->sizes[p]; i++) {
            layer->data[p][i] = next++;
        }
    }
}

/* The place's part as sections.h takes it out. */
static void take_part(const gdncp_layer_shape_t *shape, const gdncp_place_t *place,
                      const parameters_t *layer, parameters_t *part)
{
    gdncp_section_t sections[GDNCP_MAX_SECTIONS];
    gdncp_parameter_split_t split;
    int64_t outer;
    int64_t inner;

    make_parameters(shape, place, part);
    for (int p = 0; p < GDNCP_NUM_PARAMETERS; p++) {
        if (p == GDNCP_PARAMETER_NORM_WEIGHT) {
            memcpy(part->data[p], layer->data[p], (size_t)part->sizes[p] * sizeof(int32_t));
            continue;
        }
        assert_int_equal(
            gdncp_parameter_split(shape, (gdncp_parameter_t)p, sections, &split, &outer, &inner),
            GDNCP_OK);
        assert_int_equal(outer * split.rows * inner, layer->sizes[p]);
        assert_int_equal(gdncp_split_gather(&split, GDNCP_EXTENT_WHOLE, place, outer,
                                            (size_t)inner * sizeof(int32_t), layer->data[p],
                                            part->data[p]),
                         GDNCP_OK);
    }
}

static int64_t tensor_size(gdncp_family_t family, const gdncp_layer_shape_t *shape, int64_t tensor)
{
    gdncp_family_tensor_t described;
    int64_t size = 1;

    assert_int_equal(gdncp_family_tensor(family, shape, tensor, &described), GDNCP_OK);
    for (int i = 0; i < described.ndim; i++) {
        size *= described.shape[i];
    }
    return size;
}

static void check_place(gdncp_family_t family, const gdncp_layer_shape_t *shape,
                        const gdncp_place_t *place, const parameters_t *layer, int32_t **tensors,
                        int32_t **back)
{
    parameters_t part;
    parameters_t gathered;

    take_part(shape, place, layer, &part);
    make_parameters(shape, place, &gathered);
    for (int64_t t = 0; t < gdncp_family_num_tensors(family); t++) {
        assert_int_equal(gdncp_family_gather_local(family, shape, place, t, sizeof(int32_t),
                                                   tensors[t], (void *const *)gathered.data),
                         GDNCP_OK);
        assert_int_equal(gdncp_family_scatter_local(family, shape, place, t, sizeof(int32_t),
                                                    (const void *const *)part.data, back[t]),
                         GDNCP_OK);
    }
    for (int p = 0; p < GDNCP_NUM_PARAMETERS; p++) {
        assert_memory_equal(gathered.data[p], part.data[p],
                            (size_t)part.sizes[p] * sizeof(int32_t));
    }
    free_parameters(&part);
    free_parameters(&gathered);
}

static void check_family(gdncp_family_t family, const gdncp_layer_shape_t *shape, int tp_size,
                         int cp_size)
{
    const int64_t num_tensors = gdncp_family_num_tensors(family);
    int32_t *tensors[16];
    int32_t *back[16];
    parameters_t layer;

    make_layer(shape, &layer);
    for (int64_t t = 0; t < num_tensors; t++) {
        tensors[t] = new_array(tensor_size(family, shape, t));
        back[t] = new_array(tensor_size(family, shape, t));
        assert_int_equal(gdncp_family_scatter(family, shape, t, sizeof(int32_t),
                                              (const void *const *)layer.data, tensors[t]),
                         GDNCP_OK);
    }
    for (int rank = 0; rank < tp_size * cp_size; rank++) {
        gdncp_place_t place;

        assert_int_equal(gdncp_place_of_rank(tp_size, cp_size, rank, &place), GDNCP_OK);
        check_place(family, shape, &place, &layer, tensors, back);
    }
    for (int64_t t = 0; t < num_tensors; t++) {
        assert_memory_equal(back[t], tensors[t],
                            ((size_t)tensor_size(family, shape, t) + 1) * sizeof(int32_t));
        free(tensors[t]);
        free(back[t]);
    }
    free_parameters(&layer);
}

static void every_place_has_its_rows_of_every_family(void **state)
{
    (void)state;
    for (int family = 0; family < NUM_FAMILIES; family++) {
        for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
            for (size_t g = 0; g < sizeof grids / sizeof grids[0]; g++) {
                check_family((gdncp_family_t)family, &shapes[s], grids[g][0], grids[g][1]);
            }
        }
    }
}

/* Groups of Qwen3-Next's projections that follow each other are a smaller layer's. */
static void a_tp_ranks_groups_are_a_smaller_layer(void **state)
{
    const gdncp_layer_shape_t *const shape = &shapes[0];
    const gdncp_family_t family = GDNCP_FAMILY_QWEN3_NEXT;
    const int tp_size = 2;
    gdncp_layer_shape_t smaller = *shape;
    parameters_t layer;

    (void)state;
    smaller.num_key_heads /= tp_size;
    smaller.num_value_heads /= tp_size;
    make_layer(shape, &layer);
    for (int rank = 0; rank < tp_size; rank++) {
        const gdncp_place_t place = {.tp_size = tp_size, .tp_rank = rank, .cp_size = 1};
        parameters_t of_slice;
        parameters_t of_whole;

        make_parameters(&smaller, &whole, &of_slice);
        make_parameters(shape, &place, &of_whole);
        for (int64_t t = 0; t < 2; t++) {
            const int64_t size = tensor_size(family, shape, t);
            int32_t *const tensor = new_array(size);

            assert_int_equal(gdncp_family_scatter(family, shape, t, sizeof *tensor,
                                                  (const void *const *)layer.data, tensor),
                             GDNCP_OK);
            assert_int_equal(gdncp_family_gather(family, &smaller, t, sizeof *tensor,
                                                 tensor + rank * size / tp_size,
                                                 (void *const *)of_slice.data),
                             GDNCP_OK);
            assert_int_equal(gdncp_family_gather_local(family, shape, &place, t, sizeof *tensor,
                                                       tensor, (void *const *)of_whole.data),
                             GDNCP_OK);
            free(tensor);
        }
        assert_int_equal(of_slice.sizes[0], of_whole.sizes[0]);
        assert_memory_equal(of_slice.data[0], of_whole.data[0],
                            (size_t)of_whole.sizes[0] * sizeof(int32_t));
        free_parameters(&of_slice);
        free_parameters(&of_whole);
    }
    free_parameters(&layer);
}

static void local_shapes_are_of_local_heads(void **state)
{
    const gdncp_layer_shape_t shape = {4096, 16, 64, 128, 96, 4};
    const gdncp_place_t place = {.tp_size = 2, .tp_rank = 1, .cp_size = 4, .cp_rank = 3};
    /* 2 key heads, 8 value heads */
    const int64_t expected[GDNCP_NUM_PARAMETERS][2] = {
        {2 * 256 + 2 * 768 + 16, 4096}, {2 * 256 + 768, 4}, {8, -1}, {8, -1}, {96, -1}, {4096, 768},
    };

    (void)state;
    for (int p = 0; p < GDNCP_NUM_PARAMETERS; p++) {
        int64_t dims[2] = {-1, -1};
        int ndim = 0;

        assert_int_equal(
            gdncp_parameter_local_shape(&shape, &place, (gdncp_parameter_t)p, &ndim, dims),
            GDNCP_OK);
        assert_int_equal(ndim, expected[p][1] < 0 ? 1 : 2);
        assert_memory_equal(dims, expected[p], sizeof dims);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_place_has_its_rows_of_every_family),
        cmocka_unit_test(a_tp_ranks_groups_are_a_smaller_layer),
        cmocka_unit_test(local_shapes_are_of_local_heads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
