/* Every argument that sharding refuses, and what the error says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "gdncp/sections.h"
#include "gdncp/weights.h"
#include "support/refused.h"

static const gdncp_section_t sections[] = {{GDNCP_KEY_HEADS, 2, 0}, {GDNCP_VALUE_HEADS, 3, 4}};
static const gdncp_parameter_split_t valid = {sections, 2, 2, 4, 16};
static const gdncp_parameter_split_t plain = {.rows = 16};
static const gdncp_place_t place = {2, 1, 2, 1};

static const gdncp_layer_shape_t shape = {.hidden_size = 5,
                                          .num_key_heads = 2,
                                          .num_value_heads = 6,
                                          .key_head_dim = 3,
                                          .value_head_dim = 2,
                                          .conv_kernel_dim = 4};

static void places_are_checked(void **state)
{
    const struct {
        gdncp_place_t place;
        const char *argument;
        const char *got;
    } cases[] = {
        {{0, 0, 2, 1}, "place.tp_size:", "at least 1, got 0"},
        {{-2, 0, 2, 1}, "place.tp_size:", "got -2"},
        {{2, 2, 2, 1}, "place.tp_rank:", "0..1, got 2"},
        {{2, -1, 2, 1}, "place.tp_rank:", "got -1"},
        {{2, 1, 0, 0}, "place.cp_size:", "got 0"},
        {{2, 1, 3, 3}, "place.cp_rank:", "0..2, got 3"},
        {{2, 1, 3, -1}, "place.cp_rank:", "got -1"},
    };
    gdncp_head_range_t range = {-7, -7};
    gdncp_place_t made = {-7, -7, -7, -7};
    int64_t rows = -7;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        check_refused(gdncp_place_heads(GDNCP_KEY_HEADS, 2, 4, &cases[i].place, &range),
                      cases[i].argument, cases[i].got);
        check_refused(gdncp_split_rows(&valid, &cases[i].place, &rows), cases[i].argument,
                      cases[i].got);
    }
    check_refused(gdncp_place_heads(GDNCP_KEY_HEADS, 2, 4, NULL, &range), "place:", "NULL");
    check_refused(gdncp_split_rows(&plain, NULL, &rows), "place:", "NULL");
    assert_int_equal(rows, -7);

    check_refused(gdncp_place_heads((gdncp_head_kind_t)2, 2, 4, &place, &range), "kind:", "got 2");
    check_refused(gdncp_place_heads(GDNCP_KEY_HEADS, 3, 4, &place, &range),
                  "num_key_heads:", "divisor of the 4 value heads, got 3");
    check_refused(gdncp_place_heads(GDNCP_KEY_HEADS, 2, 0, &place, &range),
                  "num_value_heads:", "got 0");
    check_refused(gdncp_place_heads(GDNCP_KEY_HEADS, 2, 4, &place, NULL), "range_p:", "NULL");
    assert_int_equal(range.count, -7);

    check_refused(gdncp_place_of_rank(0, 2, 0, &made), "tp_size:", "at least 1, got 0");
    check_refused(gdncp_place_of_rank(2, -1, 0, &made), "cp_size:", "at least 1, got -1");
    check_refused(gdncp_place_of_rank(2, 3, 6, &made), "rank:", "0..5 in a grid of 2 x 3, got 6");
    check_refused(gdncp_place_of_rank(2, 3, -1, &made), "rank:", "got -1");
    check_refused(gdncp_place_of_rank(2, 3, 0, NULL), "place_p:", "NULL");
    assert_int_equal(made.tp_size, -7);
}

static void check_split_refused(gdncp_parameter_split_t split, const char *argument,
                                const char *got)
{
    gdncp_held_rows_t blocks[2] = {{-7, -7, -7}};
    const float full[16] = {0};
    float local[16] = {-7};
    int64_t rows = -7;

    check_refused(gdncp_split_rows(&split, &place, &rows), argument, got);
    check_refused(gdncp_split_blocks(&split, GDNCP_EXTENT_WHOLE, &place, blocks), argument, got);
    check_refused(gdncp_split_gather(&split, GDNCP_EXTENT_WHOLE, &place, 1, 4, full, local),
                  argument, got);
    check_refused(gdncp_split_scatter(&split, GDNCP_EXTENT_WHOLE, &place, 1, 4, full, local),
                  argument, got);
    check_refused(gdncp_split_add(&split, GDNCP_EXTENT_WHOLE, &place, 1, 1, full, local), argument,
                  got);
    assert_int_equal(rows, -7);
    assert_int_equal(blocks[0].rows, -7);
    assert_true(local[0] == -7.0F);
}

static void splits_are_checked(void **state)
{
    const int64_t large = (int64_t)1 << 62;
    const gdncp_section_t bad_kind[] = {{GDNCP_KEY_HEADS, 2, 0}, {(gdncp_head_kind_t)2, 3, 4}};
    const gdncp_section_t bad_dim[] = {{GDNCP_KEY_HEADS, 0, 0}, {GDNCP_VALUE_HEADS, 3, 0}};
    const gdncp_section_t gap[] = {{GDNCP_KEY_HEADS, 2, 0}, {GDNCP_VALUE_HEADS, 3, 5}};
    const gdncp_section_t late[] = {{GDNCP_KEY_HEADS, 2, 1}, {GDNCP_VALUE_HEADS, 3, 5}};
    const gdncp_section_t wide[] = {{GDNCP_KEY_HEADS, 2, 0}, {GDNCP_VALUE_HEADS, large, 4}};
    const gdncp_section_t sum[] = {{GDNCP_VALUE_HEADS, large / 4, 0},
                                   {GDNCP_KEY_HEADS, large / 2, large}};

    (void)state;
    check_split_refused((gdncp_parameter_split_t){sections, 2, 2, 4, 17},
                        "split.sections:", "17 rows, as the parameter has, got 16");
    check_split_refused((gdncp_parameter_split_t){sections, 1, 2, 4, 16},
                        "split.sections:", "16 rows, as the parameter has, got 4");
    check_split_refused((gdncp_parameter_split_t){sections, 0, 2, 4, 16},
                        "split.num_sections:", "at least 1, got 0");
    check_split_refused((gdncp_parameter_split_t){NULL, 2, 2, 4, 16},
                        "split.num_sections:", "0 without sections, got 2");
    check_split_refused((gdncp_parameter_split_t){sections, 2, 2, 4, 0},
                        "split.rows:", "at least 1, got 0");
    check_split_refused((gdncp_parameter_split_t){NULL, 0, 0, 0, -1}, "split.rows:", "got -1");
    check_split_refused((gdncp_parameter_split_t){sections, 2, 3, 4, 16},
                        "num_key_heads:", "got 3");
    check_split_refused((gdncp_parameter_split_t){sections, 2, 2, 0, 16},
                        "num_value_heads:", "got 0");
    check_split_refused((gdncp_parameter_split_t){bad_kind, 2, 2, 4, 16},
                        "split.sections[1].kind:", "got 2");
    check_split_refused((gdncp_parameter_split_t){bad_dim, 2, 2, 4, 16},
                        "split.sections[0].head_dim:", "got 0");
    check_split_refused((gdncp_parameter_split_t){gap, 2, 2, 4, 16}, "split.sections[1].offset:",
                        "expected 4, where the section before ends, got 5");
    check_split_refused((gdncp_parameter_split_t){late, 2, 2, 4, 16},
                        "split.sections[0].offset:", "expected 0");
    check_split_refused((gdncp_parameter_split_t){wide, 2, 2, 4, 16},
                        "split.sections[1].head_dim:", "got 4611686018427387904");
    check_split_refused((gdncp_parameter_split_t){sum, 2, 2, 4, INT64_MAX},
                        "split.sections[1].head_dim:", "got 2305843009213693952");
}

static void copies_are_checked(void **state)
{
    const gdncp_extent_t bad = (gdncp_extent_t)2;
    const float full[16] = {0};
    float local[16] = {-7};
    gdncp_held_rows_t blocks[2];
    int64_t rows;

    (void)state;
    check_refused(gdncp_split_rows(NULL, &place, &rows), "split:", "NULL");
    check_refused(gdncp_split_rows(&valid, &place, NULL), "rows_p:", "NULL");
    check_refused(gdncp_split_blocks(NULL, GDNCP_EXTENT_WHOLE, &place, blocks), "split:", "NULL");
    check_refused(gdncp_split_blocks(&valid, bad, &place, blocks), "extent:", "got 2");
    check_refused(gdncp_split_blocks(&valid, GDNCP_EXTENT_WHOLE, &place, NULL),
                  "blocks:", "2 blocks, got NULL");
    check_refused(gdncp_split_blocks(&plain, GDNCP_EXTENT_WHOLE, &place, NULL),
                  "blocks:", "1 blocks, got NULL");
    check_refused(gdncp_split_gather(&valid, bad, &place, 1, 4, full, local), "extent:", "got 2");
    check_refused(gdncp_split_gather(&valid, GDNCP_EXTENT_WHOLE, &place, 0, 4, full, local),
                  "outer:", "got 0");
    check_refused(gdncp_split_gather(&valid, GDNCP_EXTENT_WHOLE, &place, 1, 0, full, local),
                  "row_bytes:", "got 0");
    check_refused(gdncp_split_gather(&valid, GDNCP_EXTENT_WHOLE, &place, 1, 4, NULL, local),
                  "full:", "16 rows, got NULL");
    check_refused(gdncp_split_gather(&valid, GDNCP_EXTENT_TP_RANK, &place, 1, 4, NULL, local),
                  "full:", "8 rows, got NULL");
    check_refused(gdncp_split_gather(&valid, GDNCP_EXTENT_WHOLE, &place, 1, 4, full, NULL),
                  "local:", "5 rows, got NULL");
    check_refused(gdncp_split_scatter(&valid, GDNCP_EXTENT_WHOLE, &place, -1, 4, full, local),
                  "outer:", "got -1");
    check_refused(gdncp_split_scatter(&valid, GDNCP_EXTENT_WHOLE, &place, 1, 4, NULL, local),
                  "local:", "NULL");
    check_refused(gdncp_split_scatter(&valid, GDNCP_EXTENT_WHOLE, &place, 1, 4, full, NULL),
                  "full:", "NULL");
    check_refused(gdncp_split_add(&valid, GDNCP_EXTENT_WHOLE, &place, 1, 0, full, local),
                  "inner:", "got 0");
    check_refused(gdncp_split_add(&valid, GDNCP_EXTENT_WHOLE, &place, 0, 1, full, local),
                  "outer:", "got 0");
    check_refused(gdncp_split_add(&valid, bad, &place, 1, 1, full, local), "extent:", "got 2");
    assert_true(local[0] == -7.0F);
}

static void parameters_are_checked(void **state)
{
    gdncp_section_t made[GDNCP_MAX_SECTIONS] = {{.head_dim = -7}};
    gdncp_parameter_split_t split = {.rows = -7};
    const gdncp_parameter_t A_log = GDNCP_PARAMETER_A_LOG;
    int64_t dims[2] = {-7, -7};
    int64_t outer = -7;
    int64_t inner = -7;
    int ndim = -7;

    (void)state;
    check_refused(gdncp_parameter_split(NULL, A_log, made, &split, &outer, &inner),
                  "shape:", "NULL");
    check_refused(gdncp_parameter_split(&shape, (gdncp_parameter_t)6, made, &split, &outer, &inner),
                  "parameter:", "got 6");
    check_refused(
        gdncp_parameter_split(&shape, GDNCP_PARAMETER_NORM_WEIGHT, made, &split, &outer, &inner),
        "parameter:", "split over ranks, got norm_weight");
    check_refused(gdncp_parameter_split(&shape, A_log, NULL, &split, &outer, &inner),
                  "sections:", "NULL");
    check_refused(gdncp_parameter_split(&shape, A_log, made, NULL, &outer, &inner),
                  "split_p:", "NULL");
    check_refused(gdncp_parameter_split(&shape, A_log, made, &split, NULL, &inner),
                  "outer_p:", "NULL");
    check_refused(gdncp_parameter_split(&shape, A_log, made, &split, &outer, NULL),
                  "inner_p:", "NULL");
    assert_true(made[0].head_dim == -7 && split.rows == -7 && outer == -7 && inner == -7);

    check_refused(gdncp_parameter_local_shape(NULL, &place, A_log, &ndim, dims), "shape:", "NULL");
    check_refused(gdncp_parameter_local_shape(&shape, NULL, A_log, &ndim, dims), "place:", "NULL");
    check_refused(gdncp_parameter_local_shape(&shape, &place, (gdncp_parameter_t)-1, &ndim, dims),
                  "parameter:", "got -1");
    check_refused(gdncp_parameter_local_shape(&shape, &place, A_log, NULL, dims),
                  "ndim_p:", "NULL");
    check_refused(gdncp_parameter_local_shape(&shape, &place, A_log, &ndim, NULL), "dims:", "NULL");
    assert_true(ndim == -7 && dims[0] == -7);
}

static void local_weights_are_checked(void **state)
{
    const gdncp_place_t outside = {2, 2, 1, 0};
    char data[1] = {77};
    char parameter[1] = {77};
    void *parameters[GDNCP_NUM_PARAMETERS] = {parameter};
    const void *sources[GDNCP_NUM_PARAMETERS] = {parameter};
    const gdncp_family_t family = GDNCP_FAMILY_QWEN3_5;

    (void)state;
    check_refused(gdncp_family_gather_local(family, &shape, NULL, 0, 4, data, parameters),
                  "place:", "NULL");
    check_refused(gdncp_family_gather_local(family, &shape, &outside, 0, 4, data, parameters),
                  "place.tp_rank:", "got 2");
    check_refused(gdncp_family_gather_local(family, &shape, &place, 9, 4, data, parameters),
                  "tensor:", "got 9");
    check_refused(gdncp_family_gather_local(family, &shape, &place, 4, 4, data, parameters),
                  "parameters[1]:", "NULL");
    check_refused(gdncp_family_scatter_local(family, &shape, NULL, 0, 4, sources, data),
                  "place:", "NULL");
    check_refused(gdncp_family_scatter_local(family, &shape, &place, 0, 9, sources, data),
                  "element_size:", "got 9");
    check_refused(gdncp_family_scatter_local(family, &shape, &place, 0, 4, sources, NULL),
                  "data:", "NULL");
    assert_int_equal(data[0], 77);
    assert_int_equal(parameter[0], 77);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(places_are_checked),        cmocka_unit_test(splits_are_checked),
        cmocka_unit_test(copies_are_checked),        cmocka_unit_test(parameters_are_checked),
        cmocka_unit_test(local_weights_are_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
