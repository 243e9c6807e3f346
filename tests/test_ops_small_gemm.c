/* Small matrix products, from libxsmm's kernels and from the plain loops beside them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "compare.h"
#include "op_case.h"
#include "small_gemm.h"
#include "tolerances.h"

/* More than a kernel can be given; good where there is but one row. */
#define HUGE_LD (INT64_C(1) << 40)

typedef struct gemm_case {
    int64_t m;
    int64_t n;
    int64_t k;
    int64_t gap; /* elements between a row's end and the next row */
    bool a_is_transposed;
    bool accumulate;
    bool is_plain; /* hand over row strides that no kernel takes; one row of each then */
} gemm_case_t;

static void check_gemm(test_random_t *random, const gemm_case_t *c)
{
    const int64_t a_rows = c->a_is_transposed ? c->k : c->m;
    const int64_t a_columns = c->a_is_transposed ? c->m : c->k;
    const int64_t lda = a_columns + c->gap;
    const int64_t ldb = c->n + c->gap;
    const int64_t ldc = c->n + c->gap;
    test_arena_t arena = {0};
    float *const a = test_floats(&arena, a_rows * lda);
    float *const b = test_floats(&arena, c->k * ldb);
    float *const sum = test_floats(&arena, c->m * ldc);
    float *const packed = test_floats(&arena, c->m * c->n);
    double *const expected = test_doubles(&arena, c->m * c->n);

    test_random_fill(random, a, a_rows * lda);
    test_random_fill(random, b, c->k * ldb);
    for (int64_t i = 0; i < c->m; i++) {
        for (int64_t j = 0; j < c->n; j++) {
            double total = 0.0;

            if (c->accumulate) {
                sum[i * ldc + j] = (float)test_random_normal(random);
                total = sum[i * ldc + j];
            }
            for (int64_t l = 0; l < c->k; l++) {
                total +=
                    (double)(c->a_is_transposed ? a[l * lda + i] : a[i * lda + l]) * b[l * ldb + j];
            }
            expected[i * c->n + j] = total;
        }
    }
    (c->a_is_transposed ? gdncp_gemm_tn : gdncp_gemm)(
        c->m, c->n, c->k, a, c->is_plain ? HUGE_LD : lda, b, ldb, c->accumulate, sum, ldc);
    for (int64_t i = 0; i < c->m; i++) {
        for (int64_t j = 0; j < c->n; j++) {
            packed[i * c->n + j] = sum[i * ldc + j];
        }
        for (int64_t j = c->n; j < ldc; j++) {
            assert_true(sum[i * ldc + j] != sum[i * ldc + j]); /* the gap still holds NaN */
        }
    }
    assert_rms_ratio("product", packed, expected, c->m * c->n, GDNCP_TOLERANCE_F32);
    test_arena_free(&arena);
}

static void products_match_float64(void **state)
{
    static const int64_t sizes[][3] = {{1, 1, 1},    {16, 16, 16},   {64, 128, 64}, {61, 100, 60},
                                       {128, 1, 33}, {3, 257, 2},    {64, 64, 256}, {0, 5, 5},
                                       {5, 0, 5},    {256, 256, 64}, {7, 9, 0}};
    test_random_t random = test_random_start(__func__, 71);

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (int variant = 0; variant < 8; variant++) {
            const gemm_case_t c = {.m = sizes[i][0],
                                   .n = sizes[i][1],
                                   .k = sizes[i][2],
                                   .gap = variant & 1 ? 5 : 0,
                                   .a_is_transposed = (variant & 2) != 0,
                                   .accumulate = (variant & 4) != 0};

            check_gemm(&random, &c);
        }
    }
}

static void plain_loops_match_float64(void **state)
{
    test_random_t random = test_random_start(__func__, 72);

    (void)state;
    for (int variant = 0; variant < 8; variant++) {
        const bool transposed = (variant & 2) != 0;
        const gemm_case_t c = {.m = transposed ? 13 : 1,
                               .n = 37,
                               .k = transposed ? 1 : 29,
                               .gap = variant & 1 ? 5 : 0,
                               .a_is_transposed = transposed,
                               .accumulate = (variant & 4) != 0,
                               .is_plain = true};

        check_gemm(&random, &c);
    }
}

/* Element (i, j) of a triangle: what is above the blocks on its diagonal is NaN, as nothing may
 * read it. */
static float triangle_value(test_random_t *random, int64_t i, int64_t j)
{
    if (j / GDNCP_TRIANGLE_BLOCK > i / GDNCP_TRIANGLE_BLOCK) {
        return NAN;
    }
    return j <= i ? (float)test_random_normal(random) : 0.0f;
}

static void check_triangle(test_random_t *random, int64_t m, int64_t n, bool transposed,
                           bool accumulate)
{
    test_arena_t arena = {0};
    float *const a = test_floats(&arena, m * m);
    float *const b = test_floats(&arena, m * n);
    float *const sum = test_floats(&arena, m * n);
    double *const expected = test_doubles(&arena, m * n);

    test_random_fill(random, b, m * n);
    for (int64_t i = 0; i < m * m; i++) {
        a[i] = triangle_value(random, i / m, i % m);
    }
    for (int64_t i = 0; i < m * n; i++) {
        double total = 0.0;

        if (accumulate) {
            sum[i] = (float)test_random_normal(random);
            total = sum[i];
        }
        for (int64_t l = transposed ? i / n : 0; l < (transposed ? m : i / n + 1); l++) {
            total += (double)(transposed ? a[l * m + i / n] : a[i / n * m + l]) * b[l * n + i % n];
        }
        expected[i] = total;
    }
    (transposed ? gdncp_gemm_lower_tn : gdncp_gemm_lower)(m, n, a, m, b, n, accumulate, sum, n);
    assert_rms_ratio("triangle", sum, expected, m * n, GDNCP_TOLERANCE_F32);
    test_arena_free(&arena);
}

static void triangles_match_float64(void **state)
{
    static const int64_t sizes[][2] = {{16, 128}, {32, 64}, {48, 100}, {64, 128}};
    test_random_t random = test_random_start(__func__, 74);

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (int variant = 0; variant < 4; variant++) {
            check_triangle(&random, sizes[i][0], sizes[i][1], (variant & 1) != 0,
                           (variant & 2) != 0);
        }
    }
}

static void pairs_match_float64(void **state)
{
    const int64_t m = 64;
    const int64_t k = 128;
    test_random_t random = test_random_start(__func__, 75);
    test_arena_t arena = {0};
    float *const a = test_floats(&arena, m * k);
    float *const b = test_floats(&arena, k * m);
    float *const pairs = test_floats(&arena, m * m);

    (void)state;
    test_random_fill(&random, a, m * k);
    test_random_fill(&random, b, k * m);
    gdncp_gemm_pairs(m, k, a, k, b, m, pairs, m);
    for (int64_t i = 0; i < m; i++) {
        const int64_t end = (i / GDNCP_TRIANGLE_BLOCK + 1) * GDNCP_TRIANGLE_BLOCK;
        double expected[64] = {0.0};

        for (int64_t j = 0; j < end; j++) {
            for (int64_t l = 0; l < k; l++) {
                expected[j] += (double)a[i * k + l] * b[l * m + j];
            }
        }
        assert_rms_ratio("pairs", pairs + i * m, expected, end, GDNCP_TOLERANCE_F32);
        for (int64_t j = end; j < m; j++) {
            assert_true(pairs[i * m + j] != pairs[i * m + j]); /* not set */
        }
    }
    test_arena_free(&arena);
}

/* More shapes than a thread keeps kernels of, twice in turn. */
static void many_shapes_keep_apart(void **state)
{
    test_random_t random = test_random_start(__func__, 76);

    (void)state;
    for (int round = 0; round < 2; round++) {
        for (int64_t shape = 0; shape < 600; shape++) {
            const gemm_case_t c = {.m = 1 + shape % 10,
                                   .n = 1 + shape / 10 % 10,
                                   .k = 1 + shape / 100,
                                   .a_is_transposed = shape % 3 == 0,
                                   .accumulate = shape % 2 == 0};

            check_gemm(&random, &c);
        }
    }
}

static void transposes(void **state)
{
    static const int64_t sizes[][2] = {{1, 1}, {16, 16}, {17, 15}, {64, 128}, {100, 60}, {3, 40}};
    test_random_t random = test_random_start(__func__, 73);

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const int64_t rows = sizes[i][0];
        const int64_t columns = sizes[i][1];
        test_arena_t arena = {0};
        float *const src = test_floats(&arena, rows * (columns + 3));
        float *const dst = test_floats(&arena, columns * (rows + 2));

        test_random_fill(&random, src, rows * (columns + 3));
        gdncp_transpose(rows, columns, src, columns + 3, dst, rows + 2);
        for (int64_t row = 0; row < rows; row++) {
            for (int64_t column = 0; column < columns; column++) {
                assert_true(dst[column * (rows + 2) + row] == src[row * (columns + 3) + column]);
            }
        }
        test_arena_free(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_match_float64),  cmocka_unit_test(plain_loops_match_float64),
        cmocka_unit_test(triangles_match_float64), cmocka_unit_test(pairs_match_float64),
        cmocka_unit_test(many_shapes_keep_apart),  cmocka_unit_test(transposes),
    };

    return cmocka_run_group_tests_name("small_gemm", tests, NULL, NULL);
}
