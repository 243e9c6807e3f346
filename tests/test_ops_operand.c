/* Products of operands: float32, and in tiles on processors with matrix tiles. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "compare.h"
#include "half.h"
#include "op_case.h"
#include "operand.h"
#include "small_gemm.h"
#include "tolerances.h"

typedef struct product_case {
    gdncp_product_shape_t shape;
    int64_t m;
    int64_t n;
    int64_t depth;
    int64_t gap; /* elements between a row's end and the next row */
    bool left_is_transposed;
    bool right_is_transposed;
    bool has_factors;
    bool accumulate;
    bool is_bf16; /* the numbers, which then have no factors */
} product_case_t;

static bool has_tiles(void)
{
    bool in_tiles = false;

    assert_int_equal(gdncp_operand_choose(GDNCP_BF16, &in_tiles), GDNCP_OK);
    if (!in_tiles) {
        print_message("no matrix tiles: float32 alone\n");
    }
    return in_tiles;
}

static double tolerance_of(bool in_tiles)
{
    return in_tiles ? GDNCP_TOLERANCE_TILES : GDNCP_TOLERANCE_F32;
}

static float *room_of(test_arena_t *arena, bool in_tiles, int64_t rows, int64_t depth)
{
    gdncp_arena_t room = {.block = NULL};

    gdncp_operand_room(&room, in_tiles, rows, depth);
    room.block = (char *)test_floats(arena, (int64_t)(room.used / sizeof(float)) + 16);
    room.block += -(uintptr_t)room.block % 64;
    room.used = 0;
    return gdncp_operand_room(&room, in_tiles, rows, depth);
}

static void round_to_bf16(float *values, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        values[i] = gdncp_bf16_to_f32(gdncp_f32_to_bf16(values[i]));
    }
}

/* Rows [count, width] with NaN in the gaps and, in a triangle, beyond the blocks on its diagonal.
 */
static float *fill_rows(test_arena_t *arena, test_random_t *random, int64_t count, int64_t width,
                        int64_t gap, bool is_lower)
{
    float *const rows = test_floats(arena, count * (width + gap));

    for (int64_t i = 0; i < count; i++) {
        for (int64_t j = 0; j < width; j++) {
            const bool is_beyond = is_lower && j / GDNCP_TRIANGLE_BLOCK > i / GDNCP_TRIANGLE_BLOCK;
            const float value = (float)test_random_normal(random);

            rows[i * (width + gap) + j] = is_beyond ? NAN : is_lower && j > i ? 0.0f : value;
        }
    }
    return rows;
}

static double element(const float *rows, int64_t ld, bool is_transposed, int64_t i, int64_t j)
{
    return (double)(is_transposed ? rows[j * ld + i] : rows[i * ld + j]);
}

static void check_product(test_random_t *random, const product_case_t *c, bool in_tiles)
{
    const bool is_lower = c->shape == GDNCP_PRODUCT_LOWER || c->shape == GDNCP_PRODUCT_LOWER_T;
    const int64_t left_rows = c->left_is_transposed ? c->depth : c->m;
    const int64_t left_width = c->left_is_transposed ? c->m : c->depth;
    const int64_t right_rows = c->right_is_transposed ? c->n : c->depth;
    const int64_t right_width = c->right_is_transposed ? c->depth : c->n;
    const int64_t ldc = c->n + c->gap;
    test_arena_t arena = {0};
    float *const factors = test_floats(&arena, c->depth + c->m);
    float *const sum = test_floats(&arena, c->m * ldc);
    float *const packed = test_floats(&arena, c->m * c->n);
    double *const expected = test_doubles(&arena, c->m * c->n);
    const bool scale_right = c->has_factors && !c->right_is_transposed;
    float *const left_data = fill_rows(&arena, random, left_rows, left_width, c->gap, is_lower);
    float *const right_data = fill_rows(&arena, random, right_rows, right_width, c->gap, false);
    const gdncp_operand_rows_t a = {.data = left_data,
                                    .ld = left_width + c->gap,
                                    .factors = c->has_factors ? factors : NULL,
                                    .is_bf16 = c->is_bf16};
    const gdncp_operand_rows_t b = {.data = right_data,
                                    .ld = right_width + c->gap,
                                    .factors = scale_right ? factors : NULL,
                                    .is_bf16 = c->is_bf16};
    int64_t count = 0;

    test_random_fill(random, factors, c->depth + c->m);
    if (c->is_bf16) {
        round_to_bf16(left_data, left_rows * a.ld);
        round_to_bf16(right_data, right_rows * b.ld);
    }
    const gdncp_operand_t left = (c->left_is_transposed ? gdncp_left_transposed : gdncp_left)(
        in_tiles, c->shape, c->m, c->depth, &a, room_of(&arena, in_tiles, c->m, c->depth));
    const gdncp_operand_t right = (c->right_is_transposed ? gdncp_right_transposed : gdncp_right)(
        in_tiles, c->depth, c->n, &b, room_of(&arena, in_tiles, c->depth, c->n));

    for (int64_t i = 0; i < c->m; i++) {
        for (int64_t j = 0; j < c->n; j++) {
            if (c->accumulate) {
                sum[i * ldc + j] = (float)test_random_normal(random);
            }
        }
    }
    for (int64_t i = 0; i < c->m; i++) {
        for (int64_t j = 0; j < c->n; j++) {
            const int64_t begin = c->shape == GDNCP_PRODUCT_LOWER_T ? i : 0;
            const int64_t end = c->shape == GDNCP_PRODUCT_LOWER ? i + 1 : c->depth;
            double total = c->accumulate ? (double)sum[i * ldc + j] : 0.0;

            for (int64_t l = begin; l < end; l++) {
                const double left_factor =
                    c->has_factors ? (double)factors[c->left_is_transposed ? l : i] : 1.0;
                const double right_factor = scale_right ? (double)factors[l] : 1.0;

                total += left_factor * element(a.data, a.ld, c->left_is_transposed, i, l) *
                         right_factor * element(b.data, b.ld, c->right_is_transposed, l, j);
            }
            if (c->shape != GDNCP_PRODUCT_PAIRS || j <= i) {
                expected[count++] = total;
            }
        }
    }
    gdncp_operand_begin(in_tiles);
    gdncp_multiply(c->shape, c->m, c->n, c->depth, &left, &right, c->accumulate, sum, ldc);
    gdncp_operand_end(in_tiles);

    count = 0;
    for (int64_t i = 0; i < c->m; i++) {
        for (int64_t j = 0; j < c->n; j++) {
            if (c->shape != GDNCP_PRODUCT_PAIRS || j <= i) {
                packed[count++] = sum[i * ldc + j];
            }
        }
        for (int64_t j = c->n; j < ldc; j++) {
            assert_true(isnan(sum[i * ldc + j])); /* the gap is as it was */
        }
    }
    assert_rms_ratio(in_tiles ? "product in tiles" : "product", packed, expected, count,
                     tolerance_of(in_tiles && !c->is_bf16));
    test_arena_free(&arena);
}

static void products_match_float64(void **state)
{
    static const int64_t sizes[][3] = {{1, 1, 1},    {16, 16, 16}, {64, 128, 64}, {61, 100, 60},
                                       {128, 1, 33}, {3, 257, 2},  {48, 80, 256}, {0, 5, 5},
                                       {5, 0, 5},    {7, 9, 0},    {17, 47, 31}};
    test_random_t random = test_random_start(__func__, 91);

    (void)state;
    for (int tiles = 0; tiles <= (has_tiles() ? 1 : 0); tiles++) {
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            for (int variant = 0; variant < 40; variant++) {
                const product_case_t c = {.shape = GDNCP_PRODUCT_FULL,
                                          .m = sizes[i][0],
                                          .n = sizes[i][1],
                                          .depth = sizes[i][2],
                                          .gap = variant & 1 ? 5 : 0,
                                          .left_is_transposed = (variant & 2) != 0,
                                          .right_is_transposed = (variant & 4) != 0,
                                          .has_factors = variant < 32 && (variant & 8) != 0,
                                          .accumulate = (variant & 16) != 0,
                                          .is_bf16 = variant >= 32};

                check_product(&random, &c, tiles == 1);
            }
        }
    }
}

/* Chunks have rows by 16: a triangle's last blocks then end within a block of 32. */
static void triangles_match_float64(void **state)
{
    static const int64_t columns[] = {1, 16, 33, 100, 128};
    test_random_t random = test_random_start(__func__, 92);

    (void)state;
    for (int tiles = 0; tiles <= (has_tiles() ? 1 : 0); tiles++) {
        for (int64_t m = 16; m <= 64; m += 16) {
            for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) {
                for (int variant = 0; variant < 8; variant++) {
                    const bool is_transposed = (variant & 1) != 0;
                    const product_case_t c = {.shape = is_transposed ? GDNCP_PRODUCT_LOWER_T
                                                                     : GDNCP_PRODUCT_LOWER,
                                              .m = m,
                                              .n = columns[i],
                                              .depth = m,
                                              .gap = 3,
                                              .left_is_transposed = is_transposed,
                                              .has_factors = (variant & 2) != 0,
                                              .accumulate = (variant & 4) != 0};
                    const product_case_t of_pairs = {.shape = GDNCP_PRODUCT_PAIRS,
                                                     .m = m,
                                                     .n = m,
                                                     .depth = columns[i],
                                                     .right_is_transposed = is_transposed};

                    check_product(&random, &c, tiles == 1);
                    check_product(&random, &of_pairs, tiles == 1);
                }
            }
        }
    }
}

/* The lower half of the rows of an operand; and columns alone have the bits that they have among
 * others. */
static void parts_have_the_bits_of_the_whole(void **state)
{
    enum { M = 64, N = 128, DEPTH = 100, FIRST = 32, COLUMNS = 64 };
    test_random_t random = test_random_start(__func__, 93);

    (void)state;
    for (int tiles = 0; tiles <= (has_tiles() ? 1 : 0); tiles++) {
        const bool in_tiles = tiles == 1;
        test_arena_t arena = {0};
        const gdncp_operand_rows_t a = {.data = fill_rows(&arena, &random, M, DEPTH, 0, false),
                                        .ld = DEPTH};
        const gdncp_operand_rows_t b = {.data = fill_rows(&arena, &random, DEPTH, N, 0, false),
                                        .ld = N};
        const gdncp_operand_rows_t b_part = {.data = b.data + N - COLUMNS, .ld = N};
        const gdncp_operand_t left = gdncp_left(in_tiles, GDNCP_PRODUCT_FULL, M, DEPTH, &a,
                                                room_of(&arena, in_tiles, M, DEPTH));
        const gdncp_operand_t lower = gdncp_left_from(&left, FIRST);
        const gdncp_operand_t right =
            gdncp_right(in_tiles, DEPTH, N, &b, room_of(&arena, in_tiles, DEPTH, N));
        const gdncp_operand_t right_part = gdncp_right(in_tiles, DEPTH, COLUMNS, &b_part,
                                                       room_of(&arena, in_tiles, DEPTH, COLUMNS));
        float *const whole = test_floats(&arena, M * N);
        float *const part = test_floats(&arena, M * N);

        gdncp_operand_begin(in_tiles);
        gdncp_multiply(GDNCP_PRODUCT_FULL, M, N, DEPTH, &left, &right, false, whole, N);
        gdncp_multiply(GDNCP_PRODUCT_FULL, M - FIRST, COLUMNS, DEPTH, &lower, &right_part, false,
                       part, N);
        gdncp_operand_end(in_tiles);
        for (int64_t i = 0; i < M - FIRST; i++) {
            assert_memory_equal(part + i * N, whole + (i + FIRST) * N + N - COLUMNS,
                                COLUMNS * sizeof(float));
        }
        test_arena_free(&arena);
    }
}

/* product [m, n] of packed rows [m, depth] and columns [depth, n]. */
static void multiply_packed(test_arena_t *arena, bool in_tiles, int64_t m, int64_t n, int64_t depth,
                            const float *rows, const float *columns, float *product)
{
    const gdncp_operand_t left = gdncp_left(in_tiles, GDNCP_PRODUCT_FULL, m, depth,
                                            &(gdncp_operand_rows_t){.data = rows, .ld = depth},
                                            room_of(arena, in_tiles, m, depth));
    const gdncp_operand_t right =
        gdncp_right(in_tiles, depth, n, &(gdncp_operand_rows_t){.data = columns, .ld = n},
                    room_of(arena, in_tiles, depth, n));

    gdncp_operand_begin(in_tiles);
    gdncp_multiply(GDNCP_PRODUCT_FULL, m, n, depth, &left, &right, false, product, n);
    gdncp_operand_end(in_tiles);
}

/* Sums of positive products, where all that is cut off would add up if it had one sign. */
static void what_is_cut_off_has_no_sign(void **state)
{
    enum { M = 32, N = 32, DEPTH = 256 };
    const bool in_tiles = has_tiles();
    test_random_t random = test_random_start(__func__, 95);
    test_arena_t arena = {0};
    float *const rows = fill_rows(&arena, &random, M, DEPTH, 0, false);
    float *const columns = fill_rows(&arena, &random, DEPTH, N, 0, false);
    float *const product = test_floats(&arena, M * N);
    double error = 0.0;
    double total = 0.0;

    (void)state;
    for (int64_t i = 0; i < M * DEPTH; i++) {
        rows[i] = fabsf(rows[i]);
        columns[i] = fabsf(columns[i]);
    }
    multiply_packed(&arena, in_tiles, M, N, DEPTH, rows, columns, product);
    for (int64_t i = 0; i < M; i++) {
        for (int64_t j = 0; j < N; j++) {
            double expected = 0.0;

            for (int64_t l = 0; l < DEPTH; l++) {
                expected += (double)rows[i * DEPTH + l] * (double)columns[l * N + j];
            }
            error += (double)product[i * N + j] - expected;
            total += expected;
        }
    }
    print_message("bias %.1e\n", error / total);
    assert_true(fabs(error / total) <= GDNCP_TOLERANCE_TILES_BIAS);
    test_arena_free(&arena);
}

/* NaN of any bits, infinite and large numbers reach the elements that they have to do with, and no
 * others. */
static void what_is_not_finite_stays_in_its_row(void **state)
{
    enum { M = 32, N = 20, DEPTH = 40, ROW = 13, COLUMN = 7 };
    static const uint32_t bits[] = {0xffffffff, 0x7fffffff, 0x7f800001, 0x7fc00000, 0x7f800000};
    test_random_t random = test_random_start(__func__, 94);

    (void)state;
    for (int tiles = 0; tiles <= (has_tiles() ? 1 : 0); tiles++) {
        const bool in_tiles = tiles == 1;

        for (size_t k = 0; k < sizeof bits / sizeof bits[0]; k++) {
            test_arena_t arena = {0};
            float *const rows = fill_rows(&arena, &random, M, DEPTH, 0, false);
            float *const columns = fill_rows(&arena, &random, DEPTH, N, 0, false);
            float *const product = test_floats(&arena, M * N);

            memcpy(rows + ROW * DEPTH + 21, &bits[k], sizeof bits[k]);
            memcpy(columns + 22 * N + COLUMN, &bits[k], sizeof bits[k]);

            multiply_packed(&arena, in_tiles, M, N, DEPTH, rows, columns, product);
            for (int64_t i = 0; i < M; i++) {
                for (int64_t j = 0; j < N; j++) {
                    assert_int_equal(!isfinite(product[i * N + j]), i == ROW || j == COLUMN);
                }
            }
            test_arena_free(&arena);
        }
    }
}

static void only_bf16_is_in_tiles(void **state)
{
    bool in_tiles = true;

    (void)state;
    assert_int_equal(gdncp_operand_choose(GDNCP_F32, &in_tiles), GDNCP_OK);
    assert_false(in_tiles);
    in_tiles = true;
    assert_int_equal(gdncp_operand_choose(GDNCP_F16, &in_tiles), GDNCP_OK);
    assert_false(in_tiles);
    setenv("GDNCP_AMX", "0", 1);
    in_tiles = true;
    assert_int_equal(gdncp_operand_choose(GDNCP_BF16, &in_tiles), GDNCP_OK);
    assert_false(in_tiles);
    unsetenv("GDNCP_AMX");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_match_float64),
        cmocka_unit_test(triangles_match_float64),
        cmocka_unit_test(parts_have_the_bits_of_the_whole),
        cmocka_unit_test(what_is_cut_off_has_no_sign),
        cmocka_unit_test(what_is_not_finite_stays_in_its_row),
        cmocka_unit_test(only_bf16_is_in_tiles),
    };

    return cmocka_run_group_tests_name("operand", tests, NULL, NULL);
}
