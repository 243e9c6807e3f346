#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "add_terms.h"
#include "half_reference.h"
#include "plan_internal.h"
#include "random.h"

static const gdncp_dtype_t dtypes[] = {GDNCP_F32, GDNCP_BF16, GDNCP_F16, GDNCP_F64};

#define NUM_DTYPES (sizeof dtypes / sizeof dtypes[0])

enum { MOST_TERMS = 5, GUARD = 9 };

/* Numbers of every kind; half of them such that sums round, cancel and overflow. */
static void fill(test_random_t *random, gdncp_dtype_t dtype, void *elements, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        const uint64_t bits = test_random_u64(random);
        float value = (float)test_random_normal(random);

        if (bits >> 63 != 0) {
            const uint16_t half = (uint16_t)bits;

            value = half_to_f32(dtype == GDNCP_BF16 ? GDNCP_BF16 : GDNCP_F16, half);
        }
        if (dtype == GDNCP_F64) {
            ((double *)elements)[i] = value;
        } else if (dtype == GDNCP_F32) {
            ((float *)elements)[i] = value;
        } else {
            ((uint16_t *)elements)[i] = half_from_f32(dtype, value);
        }
    }
}

/* One after the other, each addition in float32 but for f64, and rounded once. Whether got is it;
 * some NaN for NaN. */
static bool is_sum(gdncp_dtype_t dtype, const void *const *terms, int num_terms, int64_t i,
                   const void *got)
{
    double f64 = 0.0;
    float f32 = 0.0f;

    for (int t = 0; t < num_terms; t++) {
        if (dtype == GDNCP_F64) {
            const double term = ((const double *)terms[t])[i];

            f64 = t == 0 ? term : f64 + term;
        } else {
            const float term = dtype == GDNCP_F32
                                   ? ((const float *)terms[t])[i]
                                   : half_to_f32(dtype, ((const uint16_t *)terms[t])[i]);

            f32 = t == 0 ? term : f32 + term;
        }
    }
    if (dtype == GDNCP_F64) {
        const double value = ((const double *)got)[i];

        return isnan(f64) ? isnan(value) : memcmp(&value, &f64, sizeof f64) == 0;
    }
    if (dtype == GDNCP_F32) {
        const float value = ((const float *)got)[i];

        return isnan(f32) ? isnan(value) : memcmp(&value, &f32, sizeof f32) == 0;
    }
    const uint16_t expected = half_from_f32(dtype, f32);
    const uint16_t value = ((const uint16_t *)got)[i];

    return half_is_nan(dtype, expected) ? half_is_nan(dtype, value) : value == expected;
}

/* Terms that begin at any element. */
static void check_total(test_random_t *random, gdncp_dtype_t dtype, int num_terms, int64_t count)
{
    const size_t size = gdncp_dtype_size(dtype);
    char *const memory = malloc((size_t)(count + GUARD) * MOST_TERMS * size);
    const void *terms[MOST_TERMS];
    gdncp_total_t total;

    assert_non_null(memory);
    for (int t = 0; t < num_terms; t++) {
        char *const term =
            memory + (size_t)((count + GUARD) * t + test_random_int(random, 0, GUARD - 1)) * size;

        fill(random, dtype, term, count);
        terms[t] = term;
    }
    memset(&total, 0xff, sizeof total);
    if (num_terms == 1) {
        gdncp_total_begin(&total, dtype, terms[0], count);
    } else {
        gdncp_total_begin_pair(&total, dtype, terms[0], terms[1], count);
    }
    for (int t = 2; t < num_terms; t++) {
        gdncp_total_add(&total, dtype, terms[t], count);
    }
    const void *const sums = gdncp_total_round(&total, dtype, count);

    for (int64_t i = 0; i < count; i++) {
        assert_true(is_sum(dtype, terms, num_terms, i, sums));
    }
    free(memory);
}

static void totals_are_added_in_order_and_rounded_once(void **state)
{
    static const int64_t counts[] = {1, 2, 7, 8, 15, 17, 31, 33, 63, 65, 100};
    test_random_t random = test_random_start("totals_are_added_in_order_and_rounded_once", 31);

    (void)state;
    for (size_t d = 0; d < NUM_DTYPES; d++) {
        for (int num_terms = 1; num_terms <= MOST_TERMS; num_terms++) {
            for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
                check_total(&random, dtypes[d], num_terms, counts[c]);
            }
            check_total(&random, dtypes[d], num_terms, GDNCP_TOTAL_ELEMENTS - 1);
            check_total(&random, dtypes[d], num_terms, GDNCP_TOTAL_ELEMENTS);
        }
    }
}

/* Rank 1's sums of three ranks' rows; each rank's share of a row is `width`. */
static void check_plan(test_random_t *random, gdncp_dtype_t dtype, gdncp_plan_write_t write,
                       int64_t rows, int64_t width)
{
    enum { ranks = 3, rank = 1 };
    const int64_t lengths[ranks] = {width, width, width};
    const int64_t count = rows * width;
    const size_t bytes = (size_t)count * gdncp_dtype_size(dtype);
    gdncp_plan_t *plan = NULL;
    gdncp_plan_t *back = NULL;
    char *const in = malloc(bytes * ranks);
    char *const out = malloc(bytes);
    void *before = malloc(bytes);
    void *mine = malloc(bytes);
    void *received[ranks] = {malloc(bytes), NULL, malloc(bytes)};

    assert_true(in != NULL && out != NULL && before != NULL && mine != NULL);
    assert_true(received[0] != NULL && received[2] != NULL);
    assert_int_equal(gdncp_plan_all_gather_concat(ranks, rank, dtype, rows, lengths, 1, &plan),
                     GDNCP_OK);
    assert_int_equal(gdncp_plan_transpose(plan, write, &back), GDNCP_OK);
    fill(random, dtype, in, count * ranks);
    fill(random, dtype, out, count);
    fill(random, dtype, received[0], count);
    fill(random, dtype, received[2], count);
    memcpy(before, out, bytes);
    for (int64_t r = 0; r < rows; r++) {
        memcpy((char *)mine + (size_t)r * bytes / (size_t)rows,
               in + (size_t)(r * ranks + rank) * bytes / (size_t)rows, bytes / (size_t)rows);
    }
    if (write == GDNCP_PLAN_ASSIGN) {
        memset(out, 0xff, bytes);
    }
    gdncp_plan_add_sums(back, in, (const void *const *)received, out);

    const void *const terms[] = {before, received[0], mine, received[2]};
    const int skipped = write == GDNCP_PLAN_ASSIGN ? 1 : 0;

    for (int64_t i = 0; i < count; i++) {
        assert_true(is_sum(dtype, terms + skipped, ranks + 1 - skipped, i, out));
    }
    free(received[0]);
    free(received[2]);
    free(mine);
    free(before);
    free(out);
    free(in);
    gdncp_plan_destroy(back);
    gdncp_plan_destroy(plan);
}

static void plans_sums_cover_rows_of_any_length(void **state)
{
    static const struct {
        int64_t rows;
        int64_t width;
    } cases[] = {{1, 1},
                 {3, 37},
                 {2, GDNCP_TOTAL_ELEMENTS},
                 {2, GDNCP_TOTAL_ELEMENTS + 1},
                 {1, 3 * GDNCP_TOTAL_ELEMENTS + 77}};
    test_random_t random = test_random_start("plans_sums_cover_rows_of_any_length", 32);

    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        for (size_t d = 0; d < NUM_DTYPES; d++) {
            check_plan(&random, dtypes[d], GDNCP_PLAN_ASSIGN, cases[c].rows, cases[c].width);
            check_plan(&random, dtypes[d], GDNCP_PLAN_ADD, cases[c].rows, cases[c].width);
        }
    }
}

/* More than 4 MiB are written past the caches. */
static void plans_sums_of_large_outputs(void **state)
{
    test_random_t random = test_random_start("plans_sums_of_large_outputs", 33);

    (void)state;
    check_plan(&random, GDNCP_BF16, GDNCP_PLAN_ASSIGN, 67, 33333);
    check_plan(&random, GDNCP_F32, GDNCP_PLAN_ADD, 33, 33333);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(totals_are_added_in_order_and_rounded_once),
        cmocka_unit_test(plans_sums_cover_rows_of_any_length),
        cmocka_unit_test(plans_sums_of_large_outputs),
    };

    return cmocka_run_group_tests_name("plan_sums", tests, NULL, NULL);
}
