/* New parameters: published answers of the generator, and the same bits on any grid of ranks. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "support/refused.h"
#include "test_layouts_init_part.h"
#include "tolerances.h"

/* The vectors that come with Random123. */
static void philox_gives_the_published_answers(void **state)
{
    const struct {
        uint32_t counter[4];
        uint32_t key[2];
        uint32_t expected[4];
    } vectors[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        uint32_t words[4];

        assert_int_equal(gdncp_philox_4x32(vectors[i].counter, vectors[i].key, words), GDNCP_OK);
        assert_memory_equal(words, vectors[i].expected, sizeof words);
        memcpy(words, vectors[i].counter, sizeof words);
        assert_int_equal(gdncp_philox_4x32(words, vectors[i].key, words), GDNCP_OK);
        assert_memory_equal(words, vectors[i].expected, sizeof words);
    }
}

/* The counter and key that the header promises, for an element of each parameter that is random. */
static void elements_have_their_own_counters(void **state)
{
    const gdncp_layer_shape_t shape = {7, 2, 6, 3, 4, 5};
    gdncp_init_t init = gdncp_init_default(0x0123456789abcdefU, 41);

    (void)state;
    init.A_min = 0.0;
    init.A_max = 1.0;
    init.conv_bound = 0.5;
    for (int p = 0; p < GDNCP_NUM_PARAMETERS; p++) {
        float *const data = make_part(&init, &shape, &whole, (gdncp_parameter_t)p);
        const int64_t size = size_of(&shape, &whole, (gdncp_parameter_t)p);

        for (int64_t i = 0; i < size; i++) {
            const uint32_t counter[] = {(uint32_t)i, 0, (uint32_t)p, 41};
            const uint32_t key[] = {0x89abcdef, 0x01234567};
            uint32_t words[4];
            double u;
            double expected;

            assert_int_equal(gdncp_philox_4x32(counter, key, words), GDNCP_OK);
            u = (words[0] + (words[1] / 4096 + 0.5) * 0x1p-20) * 0x1p-32;
            switch ((gdncp_parameter_t)p) {
            case GDNCP_PARAMETER_A_LOG:
                expected = log(u);
                break;
            case GDNCP_PARAMETER_CONV_WEIGHT:
                expected = u - 0.5;
                break;
            case GDNCP_PARAMETER_DT_BIAS:
            case GDNCP_PARAMETER_NORM_WEIGHT:
                expected = 1.0;
                break;
            default:
                expected = 0.02 * sqrt(-2.0 * log(u)) *
                           cos(2.0 * acos(-1.0) * (words[2] + (words[3] / 4096 + 0.5) * 0x1p-20) *
                               0x1p-32);
            }
            assert_true(fabs(data[i] - expected) <= 4 * GDNCP_ROUNDOFF_F32 * fabs(expected));
        }
        free(data);
    }
}

/* A bias has a place's rows of the weight, and PyTorch's bound whatever the weight's. */
static void a_bias_has_its_own_elements(void **state)
{
    const gdncp_layer_shape_t shape = {7, 2, 6, 3, 4, 5};
    const uint32_t key[] = {9, 0};
    gdncp_init_t init = gdncp_init_default(9, 41);
    gdncp_section_t sections[GDNCP_MAX_SECTIONS];
    gdncp_held_rows_t blocks[GDNCP_MAX_SECTIONS];
    gdncp_parameter_split_t split;
    int64_t outer;
    int64_t inner;

    (void)state;
    init.conv_bound = 0.001;
    assert_int_equal(gdncp_parameter_split(&shape, GDNCP_PARAMETER_CONV_WEIGHT, sections, &split,
                                           &outer, &inner),
                     GDNCP_OK);
    for (int rank = 0; rank < 8; rank++) {
        gdncp_place_t place;
        float data[64];

        for (int i = 0; i < 64; i++) {
            data[i] = NAN;
        }
        assert_int_equal(gdncp_place_of_rank(2, 4, rank, &place), GDNCP_OK);
        assert_int_equal(gdncp_split_blocks(&split, GDNCP_EXTENT_WHOLE, &place, blocks), GDNCP_OK);
        assert_int_equal(gdncp_init_conv_bias(&init, &shape, &place, data), GDNCP_OK);
        for (int64_t b = 0; b < split.num_sections; b++) {
            for (int64_t i = 0; i < blocks[b].rows; i++) {
                const uint32_t counter[] = {(uint32_t)(blocks[b].full_row + i), 0,
                                            GDNCP_NUM_PARAMETERS, 41};
                uint32_t words[4];
                double expected;

                assert_int_equal(gdncp_philox_4x32(counter, key, words), GDNCP_OK);
                expected = (2.0 * words[0] * 0x1p-32 - 1.0) / sqrt(5.0);
                assert_true(fabs(data[blocks[b].local_row + i] - expected) <= GDNCP_TOLERANCE_F32);
            }
        }
        assert_true(isnan(data[blocks[2].local_row + blocks[2].rows]));
    }
}

/* Element 2^32 is another than element 0: in a column of a parameter that nobody has whole. */
static void large_parameters_do_not_repeat(void **state)
{
    const int64_t hidden = 1 << 20;
    const int heads = 1 << 13;
    const gdncp_layer_shape_t shape = {hidden, 1, heads, 1, 1, 1};
    const gdncp_place_t place = {.tp_size = heads, .tp_rank = 3, .cp_size = 1};
    const uint32_t counter[] = {5 * (1 << 13) + 3, 1, GDNCP_PARAMETER_OUT_PROJ_WEIGHT, 2};
    const uint32_t key[] = {1, 0};
    gdncp_init_t init = gdncp_init_default(1, 2);
    uint32_t words[4];
    float *data;
    double u;

    (void)state;
    init.out_proj_std = 1.0;
    data = make_part(&init, &shape, &place, GDNCP_PARAMETER_OUT_PROJ_WEIGHT);
    assert_int_equal(gdncp_philox_4x32(counter, key, words), GDNCP_OK);
    u = (words[0] + 0.5) * 0x1p-32;
    /* To the few digits that the words' upper half gives. */
    assert_true(fabs(data[hidden / 2 + 5] -
                     sqrt(-2.0 * log(u)) * cos(2.0 * acos(-1.0) * words[2] * 0x1p-32)) <=
                GDNCP_TOLERANCE_F32);
    assert_true(data[hidden / 2 + 5] != data[5]);
    free(data);
}

/* The elements of two random parameters, which should have nothing to do with each other. */
static void check_differ(const gdncp_init_t *a, gdncp_parameter_t of_a, const gdncp_init_t *b,
                         gdncp_parameter_t of_b)
{
    const gdncp_layer_shape_t shape = {8, 16, 16, 1, 1, 1};
    float *const x = make_part(a, &shape, &whole, of_a);
    float *const y = make_part(b, &shape, &whole, of_b);

    for (int i = 0; i < 16; i++) {
        assert_true(x[i] != y[i]);
    }
    free(x);
    free(y);
}

static void seeds_layers_and_parameters_differ(void **state)
{
    const gdncp_init_t init = gdncp_init_default(5, 3);
    const gdncp_init_t seed = gdncp_init_default(6, 3);
    const gdncp_init_t high_seed = gdncp_init_default(5 + ((uint64_t)1 << 32), 3);
    const gdncp_init_t layer = gdncp_init_default(5, 4);
    const gdncp_parameter_t in_proj = GDNCP_PARAMETER_IN_PROJ_WEIGHT;

    (void)state;
    check_differ(&init, in_proj, &seed, in_proj);
    check_differ(&init, in_proj, &high_seed, in_proj);
    check_differ(&init, in_proj, &layer, in_proj);
    check_differ(&init, in_proj, &init, GDNCP_PARAMETER_OUT_PROJ_WEIGHT);
}

/* A place's part is what sections.h takes out of the whole parameter, bit for bit. */
static void check_place(const gdncp_init_t *init, const gdncp_layer_shape_t *shape,
                        const gdncp_place_t *place, gdncp_parameter_t parameter)
{
    const int64_t size = size_of(shape, place, parameter);
    float *const all = make_part(init, shape, &whole, parameter);
    float *const part = make_part(init, shape, place, parameter);
    float *const expected = malloc((size_t)(size + 1) * sizeof *expected);

    assert_non_null(expected);
    if (parameter == GDNCP_PARAMETER_NORM_WEIGHT) {
        memcpy(expected, all, (size_t)size * sizeof *expected);
    } else {
        gdncp_section_t sections[GDNCP_MAX_SECTIONS];
        gdncp_parameter_split_t split;
        int64_t outer;
        int64_t inner;

        assert_int_equal(gdncp_parameter_split(shape, parameter, sections, &split, &outer, &inner),
                         GDNCP_OK);
        assert_int_equal(gdncp_split_gather(&split, GDNCP_EXTENT_WHOLE, place, outer,
                                            (size_t)inner * sizeof *all, all, expected),
                         GDNCP_OK);
    }
    assert_memory_equal(part, expected, (size_t)size * sizeof *part);
    free(all);
    free(part);
    free(expected);
}

static void every_grid_has_the_same_layer(void **state)
{
    const gdncp_layer_shape_t shapes[] = {
        {5, 4, 8, 3, 2, 4}, {3, 3, 3, 2, 5, 2}, {4, 1, 3, 2, 1, 3}};
    const int grids[][2] = {{1, 1}, {2, 1}, {2, 4}, {4, 2}, {3, 1}, {1, 8}, {5, 3}};
    gdncp_init_t init = gdncp_init_default(99, 12);

    (void)state;
    init.dt = GDNCP_DT_LOG_UNIFORM;
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        for (size_t g = 0; g < sizeof grids / sizeof grids[0]; g++) {
            for (int rank = 0; rank < grids[g][0] * grids[g][1]; rank++) {
                gdncp_place_t place;

                assert_int_equal(gdncp_place_of_rank(grids[g][0], grids[g][1], rank, &place),
                                 GDNCP_OK);
                for (int p = 0; p < GDNCP_NUM_PARAMETERS; p++) {
                    check_place(&init, &shapes[s], &place, (gdncp_parameter_t)p);
                }
            }
        }
    }
}

static void check_init_refused(gdncp_init_t init, const char *argument, const char *got)
{
    const gdncp_layer_shape_t shape = {5, 4, 8, 3, 2, 4};
    float data[8] = {-7.0F};

    check_refused(gdncp_init_parameter(&init, &shape, &whole, GDNCP_PARAMETER_A_LOG, data),
                  argument, got);
    assert_true(data[0] == -7.0F);
}

static void numbers_are_checked(void **state)
{
    const gdncp_init_t good = gdncp_init_default(1, 2);
    gdncp_init_t bad = good;

    (void)state;
    bad.dt = (gdncp_dt_init_t)2;
    check_init_refused(bad, "init.dt:", "got 2");
    bad = good;
    bad.A_min = -1.0;
    check_init_refused(bad, "init.A_min:", "of at least 0, got -1");
    bad.A_min = NAN;
    check_init_refused(bad, "init.A_min:", "nan");
    bad.A_min = 17.0;
    check_init_refused(bad, "init.A_max:", "of at least 17, got 16");
    bad.A_min = bad.A_max = 0.0;
    check_init_refused(bad, "init.A_max:", "above 0, got 0");
    bad = good;
    bad.A_max = INFINITY;
    check_init_refused(bad, "init.A_max:", "got inf");
    bad = good;
    bad.conv_bound = -0.5;
    check_init_refused(bad, "init.conv_bound:", "of at least 0, got -0.5");
    bad = good;
    bad.in_proj_std = -0.02;
    check_init_refused(bad, "init.in_proj_std:", "got -0.02");
    bad = good;
    bad.out_proj_std = NAN;
    check_init_refused(bad, "init.out_proj_std:", "nan");
    bad = good;
    bad.dt = GDNCP_DT_LOG_UNIFORM;
    bad.dt_min = 0.0;
    check_init_refused(bad, "init.dt_min:", "above 0, got 0");
    bad.dt_min = 0.2;
    check_init_refused(bad, "init.dt_max:", "of at least 0.2, got 0.1");
    bad.dt_min = 0.1;
    bad.dt_floor = -1.0;
    check_init_refused(bad, "init.dt_floor:", "of at least 0, got -1");
}

static void arguments_are_checked(void **state)
{
    const gdncp_layer_shape_t shape = {5, 4, 8, 3, 2, 4};
    const gdncp_layer_shape_t bad = {0};
    const gdncp_place_t outside = {2, 2, 1, 0};
    const gdncp_place_t without_heads = {16, 0, 1, 0};
    const gdncp_parameter_t norm = GDNCP_PARAMETER_NORM_WEIGHT;
    const gdncp_init_t init = gdncp_init_default(1, 2);
    const gdncp_init_t unused = {.A_max = 1.0, .dt_min = -1.0, .dt_max = NAN};
    const uint32_t words[4] = {0};
    uint32_t out[4] = {77};
    float data[8] = {-7.0F};

    (void)state;
    check_refused(gdncp_init_parameter(NULL, &shape, &whole, norm, data), "init:", "NULL");
    check_refused(gdncp_init_parameter(&init, NULL, &whole, norm, data), "shape:", "NULL");
    check_refused(gdncp_init_parameter(&init, &bad, &whole, norm, data),
                  "shape.hidden_size:", "got 0");
    check_refused(gdncp_init_parameter(&init, &shape, NULL, norm, data), "place:", "NULL");
    check_refused(gdncp_init_parameter(&init, &shape, &outside, norm, data),
                  "place.tp_rank:", "got 2");
    check_refused(gdncp_init_parameter(&init, &shape, &whole, (gdncp_parameter_t)6, data),
                  "parameter:", "got 6");
    check_refused(gdncp_init_parameter(&init, &shape, &whole, norm, NULL),
                  "data:", "2 elements of norm_weight, got NULL");
    check_refused(
        gdncp_init_parameter(&init, &shape, &whole, GDNCP_PARAMETER_OUT_PROJ_WEIGHT, NULL),
        "data:", "80 elements of out_proj_weight, got NULL");
    assert_true(data[0] == -7.0F);
    assert_int_equal(
        gdncp_init_parameter(&init, &shape, &without_heads, GDNCP_PARAMETER_A_LOG, NULL), GDNCP_OK);
    assert_int_equal(gdncp_init_parameter(&unused, &shape, &whole, GDNCP_PARAMETER_DT_BIAS, data),
                     GDNCP_OK);

    check_refused(gdncp_init_conv_bias(NULL, &shape, &whole, data), "init:", "NULL");
    check_refused(gdncp_init_conv_bias(&init, NULL, &whole, data), "shape:", "NULL");
    check_refused(gdncp_init_conv_bias(&init, &shape, &outside, data), "place.tp_rank:", "got 2");
    check_refused(gdncp_init_conv_bias(&init, &shape, &whole, NULL),
                  "data:", "40 elements of the convolution's bias, got NULL");
    check_refused(gdncp_philox_4x32(NULL, words, out), "counter:", "NULL");
    check_refused(gdncp_philox_4x32(words, NULL, out), "key:", "NULL");
    check_refused(gdncp_philox_4x32(words, words, NULL), "out:", "NULL");
    assert_int_equal(out[0], 77);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_gives_the_published_answers),
        cmocka_unit_test(elements_have_their_own_counters),
        cmocka_unit_test(a_bias_has_its_own_elements),
        cmocka_unit_test(large_parameters_do_not_repeat),
        cmocka_unit_test(seeds_layers_and_parameters_differ),
        cmocka_unit_test(every_grid_has_the_same_layer),
        cmocka_unit_test(numbers_are_checked),
        cmocka_unit_test(arguments_are_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
