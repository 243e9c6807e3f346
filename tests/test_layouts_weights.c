/* Weights: names and shapes as the families have them, and every row where it belongs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "gdncp/weights.h"
#include "support/random.h"

enum { NUM_FAMILIES = 3 };

static const gdncp_layer_shape_t shapes[] = {
    {.hidden_size = 5,
     .num_key_heads = 2,
     .num_value_heads = 6,
     .key_head_dim = 3,
     .value_head_dim = 2,
     .conv_kernel_dim = 4},
    {.hidden_size = 3,
     .num_key_heads = 3,
     .num_value_heads = 3,
     .key_head_dim = 2,
     .value_head_dim = 5,
     .conv_kernel_dim = 2},
    {.hidden_size = 4,
     .num_key_heads = 1,
     .num_value_heads = 4,
     .key_head_dim = 1,
     .value_head_dim = 1,
     .conv_kernel_dim = 1},
    {.hidden_size = 1,
     .num_key_heads = 16,
     .num_value_heads = 48,
     .key_head_dim = 8,
     .value_head_dim = 4,
     .conv_kernel_dim = 4},
};

enum { NUM_SHAPES = sizeof shapes / sizeof shapes[0] };

static gdncp_family_tensor_t tensor_of(gdncp_family_t family, const gdncp_layer_shape_t *shape,
                                       int64_t index)
{
    gdncp_family_tensor_t tensor = {0};

    assert_int_equal(gdncp_family_tensor(family, shape, index, &tensor), GDNCP_OK);
    return tensor;
}

static gdncp_row_block_t block_of(gdncp_family_t family, const gdncp_layer_shape_t *shape,
                                  int64_t tensor, int64_t index)
{
    gdncp_row_block_t block = {0};

    assert_int_equal(gdncp_family_row_block(family, shape, tensor, index, &block), GDNCP_OK);
    return block;
}

static int64_t find_tensor(gdncp_family_t family, const gdncp_layer_shape_t *shape,
                           const char *name)
{
    for (int64_t i = 0; i < gdncp_family_num_tensors(family); i++) {
        if (strcmp(tensor_of(family, shape, i).name, name) == 0) {
            return i;
        }
    }
    fail_msg("no tensor %s", name);
    return -1;
}

static int64_t num_elements(const int64_t *dims, int ndim)
{
    int64_t count = 1;

    for (int i = 0; i < ndim; i++) {
        count *= dims[i];
    }
    return count;
}

static int64_t parameter_rows(const gdncp_layer_shape_t *shape, gdncp_parameter_t parameter,
                              int64_t *width_p)
{
    int64_t dims[2] = {0, 1};
    int ndim = 0;

    assert_int_equal(gdncp_parameter_shape(shape, parameter, &ndim, dims), GDNCP_OK);
    assert_in_range(ndim, 1, 2);
    *width_p = dims[1];
    return dims[0];
}

/* Names and shapes of layers saved by transformers. */
typedef struct saved {
    const char *name;
    int ndim;
    int64_t shape[3];
} saved_t;

static void check_saved(gdncp_family_t family, const gdncp_layer_shape_t *shape,
                        const saved_t *saved, int64_t num_saved)
{
    assert_int_equal(gdncp_family_num_tensors(family), num_saved);
    for (int64_t i = 0; i < num_saved; i++) {
        const gdncp_family_tensor_t tensor =
            tensor_of(family, shape, find_tensor(family, shape, saved[i].name));

        assert_int_equal(tensor.ndim, saved[i].ndim);
        for (int d = 0; d < GDNCP_MAX_DIMS; d++) {
            assert_int_equal(tensor.shape[d], d < tensor.ndim ? saved[i].shape[d] : 0);
        }
    }
}

static void tensors_are_those_of_saved_layers(void **state)
{
    const gdncp_layer_shape_t next = {64, 2, 4, 32, 32, 4};
    const gdncp_layer_shape_t qwen = {64, 2, 6, 32, 32, 4};
    const gdncp_layer_shape_t olmo = {96, 3, 3, 24, 48, 4};
    const saved_t next_saved[] = {
        {"A_log", 1, {4}},
        {"conv1d.weight", 3, {256, 1, 4}},
        {"dt_bias", 1, {4}},
        {"in_proj_ba.weight", 2, {8, 64}},
        {"in_proj_qkvz.weight", 2, {384, 64}},
        {"norm.weight", 1, {32}},
        {"out_proj.weight", 2, {64, 128}},
    };
    const saved_t qwen_saved[] = {
        {"A_log", 1, {6}},
        {"conv1d.weight", 3, {320, 1, 4}},
        {"dt_bias", 1, {6}},
        {"in_proj_a.weight", 2, {6, 64}},
        {"in_proj_b.weight", 2, {6, 64}},
        {"in_proj_qkv.weight", 2, {320, 64}},
        {"in_proj_z.weight", 2, {192, 64}},
        {"norm.weight", 1, {32}},
        {"out_proj.weight", 2, {64, 192}},
    };
    const saved_t olmo_saved[] = {
        {"A_log", 1, {3}},
        {"a_proj.weight", 2, {3, 96}},
        {"b_proj.weight", 2, {3, 96}},
        {"conv1d.weight", 3, {288, 1, 4}},
        {"dt_bias", 1, {3}},
        {"g_proj.weight", 2, {144, 96}},
        {"k_proj.weight", 2, {72, 96}},
        {"o_norm.weight", 1, {48}},
        {"o_proj.weight", 2, {96, 144}},
        {"q_proj.weight", 2, {72, 96}},
        {"v_proj.weight", 2, {144, 96}},
    };

    (void)state;
    check_saved(GDNCP_FAMILY_QWEN3_NEXT, &next, next_saved, 7);
    check_saved(GDNCP_FAMILY_QWEN3_5, &qwen, qwen_saved, 9);
    check_saved(GDNCP_FAMILY_OLMO_HYBRID, &olmo, olmo_saved, 11);
}

static void parameters_have_canonical_shapes(void **state)
{
    const gdncp_layer_shape_t shape = {4096, 16, 64, 128, 96, 4};
    const int64_t expected[GDNCP_NUM_PARAMETERS][2] = {
        {2 * 2048 + 2 * 6144 + 128, 4096},
        {2 * 2048 + 6144, 4},
        {64, 1},
        {64, 1},
        {96, 1},
        {4096, 6144},
    };
    const char *const names[] = {"in_proj_weight", "conv_weight", "A_log",
                                 "dt_bias",        "norm_weight", "out_proj_weight"};

    (void)state;
    for (int i = 0; i < GDNCP_NUM_PARAMETERS; i++) {
        int64_t width = 0;

        assert_int_equal(parameter_rows(&shape, (gdncp_parameter_t)i, &width), expected[i][0]);
        assert_int_equal(width, expected[i][1]);
        assert_string_equal(gdncp_parameter_name((gdncp_parameter_t)i), names[i]);
    }
    assert_string_equal(gdncp_parameter_name((gdncp_parameter_t)-1), "?");
    assert_string_equal(gdncp_parameter_name((gdncp_parameter_t)GDNCP_NUM_PARAMETERS), "?");
}

/* Blocks tile every tensor in order; together they reach each row of each parameter once. */
static void check_cover(gdncp_family_t family, const gdncp_layer_shape_t *shape)
{
    int *times[GDNCP_NUM_PARAMETERS];
    int64_t rows[GDNCP_NUM_PARAMETERS];
    int64_t widths[GDNCP_NUM_PARAMETERS];

    for (int p = 0; p < GDNCP_NUM_PARAMETERS; p++) {
        rows[p] = parameter_rows(shape, (gdncp_parameter_t)p, &widths[p]);
        times[p] = calloc((size_t)rows[p], sizeof *times[p]);
        assert_non_null(times[p]);
    }
    for (int64_t i = 0; i < gdncp_family_num_tensors(family); i++) {
        const gdncp_family_tensor_t tensor = tensor_of(family, shape, i);
        int64_t next_row = 0;

        for (int64_t b = 0; b < tensor.num_blocks; b++) {
            const gdncp_row_block_t block = block_of(family, shape, i, b);

            assert_int_equal(block.tensor_row, next_row);
            assert_true(block.rows > 0);
            assert_true(block.canonical_row >= 0);
            assert_true(block.canonical_row + block.rows <= rows[block.parameter]);
            assert_int_equal(num_elements(tensor.shape + 1, tensor.ndim - 1),
                             widths[block.parameter]);
            for (int64_t r = 0; r < block.rows; r++) {
                times[block.parameter][block.canonical_row + r]++;
            }
            next_row += block.rows;
        }
        assert_int_equal(next_row, tensor.shape[0]);
    }
    for (int p = 0; p < GDNCP_NUM_PARAMETERS; p++) {
        for (int64_t r = 0; r < rows[p]; r++) {
            assert_int_equal(times[p][r], 1);
        }
        free(times[p]);
    }
}

static void blocks_cover_every_row_once(void **state)
{
    (void)state;
    for (int family = 0; family < NUM_FAMILIES; family++) {
        for (int s = 0; s < NUM_SHAPES; s++) {
            check_cover((gdncp_family_t)family, &shapes[s]);
        }
    }
}

/* Where one row of the input projection lies in a family: tensor and row. */
typedef struct place {
    const char *name;
    int64_t row;
} place_t;

typedef enum role { QUERY, KEY, VALUE, Z, BETA, ALPHA } role_t;

/* Channel d of a head, as each family's module takes its projections apart. */
static place_t place_of(gdncp_family_t family, const gdncp_layer_shape_t *shape, role_t role,
                        int64_t head, int64_t d)
{
    const int64_t dk = shape->key_head_dim;
    const int64_t dv = shape->value_head_dim;
    const int64_t r = shape->num_value_heads / shape->num_key_heads;
    const int64_t keys = shape->num_key_heads * dk;

    if (family == GDNCP_FAMILY_QWEN3_NEXT) {
        /* view(num_key_heads, 2*dk + 2*r*dv), split into dk, dk, r*dv, r*dv;
         * view(num_key_heads, 2*r), split into r, r. */
        const int64_t group_rows = 2 * dk + 2 * r * dv;

        switch (role) {
        case QUERY:
            return (place_t){"in_proj_qkvz.weight", head * group_rows + d};
        case KEY:
            return (place_t){"in_proj_qkvz.weight", head * group_rows + dk + d};
        case VALUE:
            return (place_t){"in_proj_qkvz.weight",
                             head / r * group_rows + 2 * dk + head % r * dv + d};
        case Z:
            return (place_t){"in_proj_qkvz.weight",
                             head / r * group_rows + 2 * dk + r * dv + head % r * dv + d};
        case BETA:
            return (place_t){"in_proj_ba.weight", head / r * 2 * r + head % r};
        case ALPHA:
            return (place_t){"in_proj_ba.weight", head / r * 2 * r + r + head % r};
        }
    }
    const bool is_qwen = family == GDNCP_FAMILY_QWEN3_5;

    switch (role) {
    case QUERY:
        return (place_t){is_qwen ? "in_proj_qkv.weight" : "q_proj.weight", head * dk + d};
    case KEY:
        return is_qwen ? (place_t){"in_proj_qkv.weight", keys + head * dk + d}
                       : (place_t){"k_proj.weight", head * dk + d};
    case VALUE:
        return is_qwen ? (place_t){"in_proj_qkv.weight", 2 * keys + head * dv + d}
                       : (place_t){"v_proj.weight", head * dv + d};
    case Z:
        return (place_t){is_qwen ? "in_proj_z.weight" : "g_proj.weight", head * dv + d};
    case BETA:
        return (place_t){is_qwen ? "in_proj_b.weight" : "b_proj.weight", head};
    case ALPHA:
        break;
    }
    return (place_t){is_qwen ? "in_proj_a.weight" : "a_proj.weight", head};
}

static int64_t canonical_row_of(gdncp_family_t family, const gdncp_layer_shape_t *shape,
                                place_t place)
{
    const int64_t index = find_tensor(family, shape, place.name);
    const gdncp_family_tensor_t tensor = tensor_of(family, shape, index);

    for (int64_t b = 0; b < tensor.num_blocks; b++) {
        const gdncp_row_block_t block = block_of(family, shape, index, b);

        if (place.row >= block.tensor_row && place.row < block.tensor_row + block.rows) {
            assert_int_equal(block.parameter, GDNCP_PARAMETER_IN_PROJ_WEIGHT);
            return block.canonical_row + place.row - block.tensor_row;
        }
    }
    fail_msg("row %lld of %s is in no block", (long long)place.row, place.name);
    return -1;
}

/* Canonical rows counted up one by one: sections in order, heads in order, channels in order. */
static void input_projections_are_taken_apart_right(void **state)
{
    (void)state;
    for (int family = 0; family < NUM_FAMILIES; family++) {
        for (int s = 0; s < NUM_SHAPES; s++) {
            const gdncp_layer_shape_t *const shape = &shapes[s];
            int64_t canonical_row = 0;

            for (int role = QUERY; role <= ALPHA; role++) {
                const bool by_key_head = role == QUERY || role == KEY;
                const int64_t heads = by_key_head ? shape->num_key_heads : shape->num_value_heads;
                const int64_t dim = by_key_head                  ? shape->key_head_dim
                                    : role == VALUE || role == Z ? shape->value_head_dim
                                                                 : 1;

                for (int64_t i = 0; i < heads * dim; i++) {
                    const place_t place =
                        place_of((gdncp_family_t)family, shape, (role_t)role, i / dim, i % dim);

                    assert_int_equal(canonical_row_of((gdncp_family_t)family, shape, place),
                                     canonical_row);
                    canonical_row++;
                }
            }
        }
    }
}

static void every_other_tensor_is_one_parameter(void **state)
{
    const char *const names[][5] = {
        {"conv1d.weight", "A_log", "dt_bias", "norm.weight", "out_proj.weight"},
        {"conv1d.weight", "A_log", "dt_bias", "norm.weight", "out_proj.weight"},
        {"conv1d.weight", "A_log", "dt_bias", "o_norm.weight", "o_proj.weight"},
    };

    (void)state;
    for (int f = 0; f < NUM_FAMILIES; f++) {
        const gdncp_family_t family = (gdncp_family_t)f;

        for (int p = GDNCP_PARAMETER_CONV_WEIGHT; p < GDNCP_NUM_PARAMETERS; p++) {
            const int64_t index = find_tensor(family, &shapes[0], names[f][p - 1]);
            const gdncp_row_block_t block = block_of(family, &shapes[0], index, 0);
            int64_t width;

            assert_int_equal(tensor_of(family, &shapes[0], index).num_blocks, 1);
            assert_int_equal(block.parameter, p);
            assert_int_equal(block.canonical_row, 0);
            assert_int_equal(block.tensor_row, 0);
            assert_int_equal(block.rows, parameter_rows(&shapes[0], (gdncp_parameter_t)p, &width));
        }
    }
}

/* The exact size is allocated, so that a sanitizer sees what lies outside it. */
static void *make_memory(size_t bytes, test_random_t *random)
{
    unsigned char *const memory = malloc(bytes);

    assert_non_null(memory);
    for (size_t i = 0; i < bytes; i++) {
        memory[i] = random != NULL ? (unsigned char)test_random_u64(random) : 0xa5;
    }
    return memory;
}

/* Scatter random parameters into a family's tensors and gather them into fresh memory; on the way
 * compare each row of each tensor with the parameter row that its block names. */
static void check_round_trip(gdncp_family_t family, const gdncp_layer_shape_t *shape,
                             size_t element_size, test_random_t *random)
{
    void *parameters[GDNCP_NUM_PARAMETERS];
    void *gathered[GDNCP_NUM_PARAMETERS];
    const void *sources[GDNCP_NUM_PARAMETERS];
    size_t row_bytes[GDNCP_NUM_PARAMETERS];
    size_t bytes[GDNCP_NUM_PARAMETERS];

    for (int p = 0; p < GDNCP_NUM_PARAMETERS; p++) {
        int64_t width;
        const int64_t rows = parameter_rows(shape, (gdncp_parameter_t)p, &width);

        row_bytes[p] = (size_t)width * element_size;
        bytes[p] = (size_t)rows * row_bytes[p];
        parameters[p] = make_memory(bytes[p], random);
        gathered[p] = make_memory(bytes[p], NULL);
        sources[p] = parameters[p];
    }
    for (int64_t i = 0; i < gdncp_family_num_tensors(family); i++) {
        const gdncp_family_tensor_t tensor = tensor_of(family, shape, i);
        char *const data =
            make_memory((size_t)num_elements(tensor.shape, tensor.ndim) * element_size, NULL);

        assert_int_equal(gdncp_family_scatter(family, shape, i, element_size, sources, data),
                         GDNCP_OK);
        for (int64_t b = 0; b < tensor.num_blocks; b++) {
            const gdncp_row_block_t block = block_of(family, shape, i, b);
            const size_t row = row_bytes[block.parameter];

            for (int64_t r = 0; r < block.rows; r++) {
                assert_memory_equal(data + (size_t)(block.tensor_row + r) * row,
                                    (const char *)sources[block.parameter] +
                                        (size_t)(block.canonical_row + r) * row,
                                    row);
            }
        }
        assert_int_equal(gdncp_family_gather(family, shape, i, element_size, data, gathered),
                         GDNCP_OK);
        free(data);
    }
    for (int p = 0; p < GDNCP_NUM_PARAMETERS; p++) {
        assert_memory_equal(gathered[p], parameters[p], bytes[p]);
        free(parameters[p]);
        free(gathered[p]);
    }
}

static void weights_survive_the_round_trip(void **state)
{
    test_random_t random = test_random_start("round_trip", 20261123);

    (void)state;
    for (int family = 0; family < NUM_FAMILIES; family++) {
        for (int s = 0; s < NUM_SHAPES; s++) {
            for (size_t element_size = 1; element_size <= 8; element_size *= 2) {
                check_round_trip((gdncp_family_t)family, &shapes[s], element_size, &random);
            }
        }
    }
}

static void families_have_names(void **state)
{
    (void)state;
    for (int i = 0; i < NUM_FAMILIES; i++) {
        gdncp_family_t family = (gdncp_family_t)99;

        assert_int_equal(gdncp_family_from_name(gdncp_family_name((gdncp_family_t)i), &family),
                         GDNCP_OK);
        assert_int_equal(family, i);
    }
    assert_string_equal(gdncp_family_name(GDNCP_FAMILY_QWEN3_NEXT), "qwen3_next");
    assert_string_equal(gdncp_family_name(GDNCP_FAMILY_QWEN3_5), "qwen3_5");
    assert_string_equal(gdncp_family_name(GDNCP_FAMILY_OLMO_HYBRID), "olmo_hybrid");
    assert_string_equal(gdncp_family_name((gdncp_family_t)NUM_FAMILIES), "?");
    assert_int_equal(gdncp_family_num_tensors((gdncp_family_t)NUM_FAMILIES), 0);
    assert_int_equal(gdncp_family_num_tensors((gdncp_family_t)-1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_are_those_of_saved_layers),
        cmocka_unit_test(parameters_have_canonical_shapes),
        cmocka_unit_test(blocks_cover_every_row_once),
        cmocka_unit_test(input_projections_are_taken_apart_right),
        cmocka_unit_test(every_other_tensor_is_one_parameter),
        cmocka_unit_test(weights_survive_the_round_trip),
        cmocka_unit_test(families_have_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
