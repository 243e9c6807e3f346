/* Sharding of parameters: Megatron's split where counts divide, every row where they do not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <math.h>
#include <cmocka.h>

#include "gdncp/sections.h"
#include "support/random.h"

enum { MAX_ROWS = 4096, MAX_SPLIT_SECTIONS = 6 };

/* A split that owns its sections. */
typedef struct split_case {
    gdncp_section_t sections[MAX_SPLIT_SECTIONS];
    gdncp_parameter_split_t split;
} split_case_t;

/* dims > 0 are of key heads, < 0 of value heads, 0 ends them. */
static void make_case(split_case_t *test, int64_t num_key_heads, int64_t num_value_heads,
                      const int64_t *dims)
{
    *test = (split_case_t){.split = {.sections = test->sections,
                                     .num_key_heads = num_key_heads,
                                     .num_value_heads = num_value_heads}};
    for (int i = 0; i < MAX_SPLIT_SECTIONS && dims[i] != 0; i++) {
        const gdncp_head_kind_t kind = dims[i] > 0 ? GDNCP_KEY_HEADS : GDNCP_VALUE_HEADS;
        const int64_t heads = dims[i] > 0 ? num_key_heads : num_value_heads;

        test->sections[i] = (gdncp_section_t){kind, llabs(dims[i]), test->split.rows};
        test->split.rows += heads * llabs(dims[i]);
        test->split.num_sections++;
    }
    assert_true(test->split.rows <= MAX_ROWS);
}

static gdncp_place_t place_of(int tp_size, int cp_size, int rank)
{
    gdncp_place_t place = {-1, -1, -1, -1};

    assert_int_equal(gdncp_place_of_rank(tp_size, cp_size, rank, &place), GDNCP_OK);
    return place;
}

static int64_t rows_of(const gdncp_parameter_split_t *split, const gdncp_place_t *place)
{
    int64_t rows = -1;

    assert_int_equal(gdncp_split_rows(split, place, &rows), GDNCP_OK);
    return rows;
}

/* The rows that a place holds, by their numbers in the whole parameter or its tp rank's part. */
static int64_t list_rows(const gdncp_parameter_split_t *split, gdncp_extent_t extent,
                         const gdncp_place_t *place, int32_t *rows)
{
    static int32_t numbers[MAX_ROWS];
    const int64_t count = rows_of(split, place);

    for (int i = 0; i < MAX_ROWS; i++) {
        numbers[i] = i;
        rows[i] = -1;
    }
    assert_int_equal(gdncp_split_gather(split, extent, place, 1, sizeof *rows, numbers, rows),
                     GDNCP_OK);
    for (int64_t i = 0; i < MAX_ROWS; i++) {
        assert_true((i < count) == (rows[i] >= 0));
    }
    return count;
}

/* A slice [rank * size / N, (rank + 1) * size / N) of each section of channels, one after the
 * other: what get_parameter_local_cp() takes. */
static void check_slices(const gdncp_parameter_split_t *split, int num_ranks)
{
    const int64_t num_sections = split->sections != NULL ? split->num_sections : 1;
    int32_t rows[MAX_ROWS];

    for (int rank = 0; rank < num_ranks; rank++) {
        const gdncp_place_t place = place_of(1, num_ranks, rank);
        const int64_t count = list_rows(split, GDNCP_EXTENT_WHOLE, &place, rows);
        int64_t next = 0;

        for (int64_t s = 0; s < num_sections; s++) {
            const int64_t begin = split->sections != NULL ? split->sections[s].offset : 0;
            const int64_t end = s + 1 < num_sections ? split->sections[s + 1].offset : split->rows;
            const int64_t size = end - begin;

            for (int64_t i = rank * size / num_ranks; i < (rank + 1) * size / num_ranks; i++) {
                assert_int_equal(rows[next], begin + i);
                next++;
            }
        }
        assert_int_equal(next, count);
    }
}

static void dividing_counts_are_megatrons_slices(void **state)
{
    /* Sections of 8, 8, 4, 16, 32 and 4 channels, over four heads of either kind. */
    const int64_t dims[] = {2, 2, 1, -4, -8, -1};
    const int64_t in_proj[] = {8, 8, -4, -4, -1, -1};
    const int64_t conv[] = {8, 8, -4, 0};
    const int64_t sizes[] = {8, 8, 4, 16, 32, 4};
    split_case_t test;

    (void)state;
    make_case(&test, 4, 4, dims);
    for (int s = 0; s < 6; s++) {
        const int64_t end = s < 5 ? test.sections[s + 1].offset : test.split.rows;

        assert_int_equal(end - test.sections[s].offset, sizes[s]);
    }
    for (int ranks = 1; ranks <= 4; ranks *= 2) {
        check_slices(&test.split, ranks);
    }
    for (int ranks = 1; ranks <= 16; ranks *= 2) {
        make_case(&test, 16, 48, in_proj);
        check_slices(&test.split, ranks);
        make_case(&test, 16, 32, conv);
        check_slices(&test.split, ranks);
    }
}

/* A_log and dt_bias, which Megatron-LM cuts without sections, and any number of ranks. */
static void without_sections_rows_are_cut_alike(void **state)
{
    (void)state;
    for (int64_t rows = 1; rows < 70; rows++) {
        const gdncp_parameter_split_t plain = {.rows = rows};

        for (int ranks = 1; ranks <= 80; ranks += 3) {
            check_slices(&plain, ranks);
        }
    }
}

/* Row r of a section belongs to its head: which heads a place has, in which order. */
static void check_heads(const split_case_t *test, const gdncp_place_t *place)
{
    const gdncp_parameter_split_t *const split = &test->split;
    const int64_t ratio = split->num_value_heads / split->num_key_heads;
    const int64_t tp_begin = place->tp_rank * split->num_value_heads / place->tp_size;
    const int64_t tp_end = (place->tp_rank + 1) * split->num_value_heads / place->tp_size;
    const int64_t begin = tp_begin + place->cp_rank * (tp_end - tp_begin) / place->cp_size;
    const int64_t end = tp_begin + (place->cp_rank + 1) * (tp_end - tp_begin) / place->cp_size;
    int32_t rows[MAX_ROWS];
    const int64_t count = list_rows(split, GDNCP_EXTENT_WHOLE, place, rows);
    int64_t next = 0;

    for (int64_t s = 0; s < split->num_sections; s++) {
        const gdncp_section_t *const section = &split->sections[s];
        const int64_t heads =
            section->kind == GDNCP_KEY_HEADS ? split->num_key_heads : split->num_value_heads;

        for (int64_t head = 0; head < heads; head++) {
            int is_mine = 0;

            for (int64_t j = begin; j < end; j++) {
                is_mine |= (section->kind == GDNCP_KEY_HEADS ? j / ratio : j) == head;
            }
            for (int64_t d = 0; d < section->head_dim && is_mine; d++) {
                assert_int_equal(rows[next], section->offset + head * section->head_dim + d);
                next++;
            }
        }
    }
    assert_int_equal(next, count);
}

typedef struct grid_case {
    int64_t num_key_heads;
    int64_t num_value_heads;
    int tp_size;
    int cp_size;
} grid_case_t;

/* With what Megatron-LM refuses: OLMo's 30 heads on 4 and 8 ranks, 16 key heads on 64, and tensor
 * parallelism that divides neither number of heads. */
static const grid_case_t grids[] = {
    {4, 4, 1, 2},    {4, 4, 1, 4},   {16, 32, 2, 4}, {30, 30, 1, 4}, {30, 30, 1, 8},
    {16, 64, 1, 64}, {30, 30, 4, 2}, {30, 30, 2, 8}, {16, 32, 3, 5}, {2, 6, 4, 3},
    {1, 4, 3, 1},    {3, 6, 8, 2},   {2, 4, 5, 5},   {16, 64, 8, 8}, {5, 35, 3, 4},
};

enum { NUM_GRIDS = sizeof grids / sizeof grids[0] };

static const int64_t in_proj_dims[] = {3, 3, -2, -2, -1, -1};

static void any_grid_has_heads_with_their_key_heads(void **state)
{
    (void)state;
    for (int g = 0; g < NUM_GRIDS; g++) {
        const grid_case_t grid = grids[g];
        split_case_t test;

        make_case(&test, grid.num_key_heads, grid.num_value_heads, in_proj_dims);
        for (int rank = 0; rank < grid.tp_size * grid.cp_size; rank++) {
            const gdncp_place_t place = place_of(grid.tp_size, grid.cp_size, rank);
            gdncp_head_range_t keys;
            gdncp_head_range_t values;

            check_heads(&test, &place);
            assert_int_equal(gdncp_place_heads(GDNCP_KEY_HEADS, grid.num_key_heads,
                                               grid.num_value_heads, &place, &keys),
                             GDNCP_OK);
            assert_int_equal(gdncp_place_heads(GDNCP_VALUE_HEADS, grid.num_key_heads,
                                               grid.num_value_heads, &place, &values),
                             GDNCP_OK);
            assert_int_equal(rows_of(&test.split, &place), 6 * keys.count + 6 * values.count);
        }
    }
}

/* Of what a tensor-parallel rank holds, its context-parallel ranks take what they would of all. */
static void parts_of_a_tp_rank_are_parts_of_the_whole(void **state)
{
    int32_t of_whole[MAX_ROWS];
    int32_t of_tp[MAX_ROWS];
    int32_t tp_rows[MAX_ROWS];

    (void)state;
    for (int g = 0; g < NUM_GRIDS; g++) {
        const grid_case_t grid = grids[g];
        const gdncp_parameter_split_t plain = {.rows = grid.num_value_heads};
        split_case_t test;

        make_case(&test, grid.num_key_heads, grid.num_value_heads, in_proj_dims);
        for (int i = 0; i < 2 * grid.tp_size * grid.cp_size; i++) {
            const gdncp_parameter_split_t *const split = i % 2 ? &plain : &test.split;
            const gdncp_place_t place = place_of(grid.tp_size, grid.cp_size, i / 2);
            const gdncp_place_t tp_rank = {place.tp_size, place.tp_rank, 1, 0};
            const int64_t count = list_rows(split, GDNCP_EXTENT_WHOLE, &place, of_whole);

            list_rows(split, GDNCP_EXTENT_WHOLE, &tp_rank, tp_rows);
            assert_int_equal(list_rows(split, GDNCP_EXTENT_TP_RANK, &place, of_tp), count);
            for (int64_t row = 0; row < count; row++) {
                assert_int_equal(tp_rows[of_tp[row]], of_whole[row]);
            }
        }
    }
}

static void ranks_of_a_grid_are_tp_first(void **state)
{
    const gdncp_place_t place = place_of(4, 3, 9);

    (void)state;
    assert_int_equal(place.tp_size, 4);
    assert_int_equal(place.tp_rank, 1);
    assert_int_equal(place.cp_size, 3);
    assert_int_equal(place.cp_rank, 2);
}

static void blocks_are_one_a_section(void **state)
{
    const int64_t dims[] = {2, -3, 0};
    const gdncp_place_t place = {.tp_size = 2, .tp_rank = 1, .cp_size = 2, .cp_rank = 1};
    const gdncp_held_rows_t expected[2][2] = {{{6, 0, 2}, {8 + 18, 2, 6}},
                                              {{2, 0, 2}, {4 + 6, 2, 6}}};
    gdncp_held_rows_t blocks[3] = {{-1, -1, -1}, {-1, -1, -1}, {-1, -1, -1}};
    split_case_t test;

    (void)state;
    make_case(&test, 4, 8, dims);
    for (int extent = 0; extent < 2; extent++) {
        assert_int_equal(gdncp_split_blocks(&test.split, (gdncp_extent_t)extent, &place, blocks),
                         GDNCP_OK);
        assert_memory_equal(blocks, expected[extent], sizeof expected[extent]);
        assert_int_equal(blocks[2].rows, -1);
    }
}

/* Gathered from and scattered to [outer, rows, inner], and gradients added in order of rank. */
static void check_copies(const gdncp_parameter_split_t *split, int tp_size, int cp_size,
                         int64_t outer, int64_t inner, test_random_t *random)
{
    const int64_t elements = outer * split->rows * inner;
    float *const full = malloc((size_t)elements * sizeof *full);
    float *const back = malloc((size_t)elements * sizeof *back);
    float *const sums = calloc((size_t)elements, sizeof *sums);
    float *const expected = calloc((size_t)elements, sizeof *expected);
    float *const local = malloc((size_t)elements * sizeof *local);
    static int32_t rows[MAX_ROWS];

    assert_true(full && back && sums && expected && local);
    test_random_fill(random, full, elements);
    for (int64_t i = 0; i < elements; i++) {
        back[i] = NAN;
    }
    for (int rank = 0; rank < tp_size * cp_size; rank++) {
        const gdncp_place_t place = place_of(tp_size, cp_size, rank);
        const int64_t count = list_rows(split, GDNCP_EXTENT_WHOLE, &place, rows);

        for (int64_t i = 0; i < elements; i++) {
            local[i] = NAN;
        }
        assert_int_equal(gdncp_split_gather(split, GDNCP_EXTENT_WHOLE, &place, outer,
                                            (size_t)inner * sizeof *full, full, local),
                         GDNCP_OK);
        for (int64_t i = 0; i < outer * count * inner; i++) {
            const int64_t row = rows[i / inner % count];

            assert_true(local[i] ==
                        full[(i / inner / count * split->rows + row) * inner + i % inner]);
        }
        assert_int_equal(gdncp_split_scatter(split, GDNCP_EXTENT_WHOLE, &place, outer,
                                             (size_t)inner * sizeof *full, local, back),
                         GDNCP_OK);
        test_random_fill(random, local, outer * count * inner);
        assert_int_equal(
            gdncp_split_add(split, GDNCP_EXTENT_WHOLE, &place, outer, inner, local, sums),
            GDNCP_OK);
        for (int64_t i = 0; i < outer * count * inner; i++) {
            const int64_t row = rows[i / inner % count];

            expected[(i / inner / count * split->rows + row) * inner + i % inner] += local[i];
        }
    }
    assert_memory_equal(back, full, (size_t)elements * sizeof *full);
    assert_memory_equal(sums, expected, (size_t)elements * sizeof *sums);
    free(full);
    free(back);
    free(sums);
    free(expected);
    free(local);
}

static void copies_go_there_and_back(void **state)
{
    test_random_t random = test_random_start("copies_go_there_and_back", 5);

    (void)state;
    for (int g = 0; g < NUM_GRIDS; g++) {
        const grid_case_t grid = grids[g];
        const gdncp_parameter_split_t plain = {.rows = grid.num_value_heads};
        split_case_t test;

        make_case(&test, grid.num_key_heads, grid.num_value_heads, in_proj_dims);
        check_copies(&test.split, grid.tp_size, grid.cp_size, 1, 3, &random);
        check_copies(&test.split, grid.tp_size, grid.cp_size, 4, 1, &random);
        check_copies(&plain, grid.tp_size, grid.cp_size, 2, 2, &random);
    }
}

/* Two ranks hold the one key head: its gradient is the sum, the value heads' are their own. */
static void a_shared_key_heads_gradients_are_added(void **state)
{
    const int64_t dims[] = {2, -1, 0};
    const float local[2][3] = {{1.0F, 2.0F, 5.0F}, {10.0F, 20.0F, 7.0F}};
    const float expected[] = {11.0F, 22.0F, 5.0F, 7.0F};
    float full[4] = {0};
    split_case_t test;

    (void)state;
    make_case(&test, 1, 2, dims);
    for (int rank = 0; rank < 2; rank++) {
        const gdncp_place_t place = place_of(1, 2, rank);

        assert_int_equal(
            gdncp_split_add(&test.split, GDNCP_EXTENT_WHOLE, &place, 1, 1, local[rank], full),
            GDNCP_OK);
    }
    assert_memory_equal(full, expected, sizeof full);
}

static void who_has_no_head_needs_no_memory(void **state)
{
    const int64_t dims[] = {2, -1, 0};
    const gdncp_place_t place = {.tp_size = 1, .cp_size = 3, .cp_rank = 0};
    const float full[] = {1.0F, 2.0F, 3.0F, 4.0F};
    split_case_t test;

    (void)state;
    make_case(&test, 1, 2, dims);
    assert_int_equal(rows_of(&test.split, &place), 0);
    assert_int_equal(
        gdncp_split_gather(&test.split, GDNCP_EXTENT_WHOLE, &place, 1, sizeof *full, full, NULL),
        GDNCP_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dividing_counts_are_megatrons_slices),
        cmocka_unit_test(without_sections_rows_are_cut_alike),
        cmocka_unit_test(any_grid_has_heads_with_their_key_heads),
        cmocka_unit_test(parts_of_a_tp_rank_are_parts_of_the_whole),
        cmocka_unit_test(ranks_of_a_grid_are_tp_first),
        cmocka_unit_test(blocks_are_one_a_section),
        cmocka_unit_test(copies_go_there_and_back),
        cmocka_unit_test(a_shared_key_heads_gradients_are_added),
        cmocka_unit_test(who_has_no_head_needs_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
