/* Taking padding out and putting it back, against loops over single tokens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "gdncp/unpad.h"
#include "support/random.h"
#include "refused.h"

enum { NUM_MASKS = 600, MAX_BATCH = 6, MAX_TOKENS = 700 };

/* Rows padded on the right, on the left, or anywhere, some of them wholly; bytes that are kept are
 * 1, or anything but 0. */
static void random_row(test_random_t *random, int64_t tokens, uint8_t *row)
{
    const int64_t kind = test_random_int(random, 0, 4);
    const int64_t border = test_random_int(random, 0, tokens);
    const bool ones = test_random_int(random, 0, 1) == 1;

    for (int64_t t = 0; t < tokens; t++) {
        const bool kept = kind == 0   ? t < border
                          : kind == 1 ? t >= border
                          : kind == 2 ? test_random_int(random, 0, 1) == 1
                          : kind == 3 ? t % 97 != 5
                                      : false;

        row[t] = (uint8_t)(!kept ? 0 : ones ? 1 : test_random_int(random, 1, 255));
    }
}

static void check_mask(const uint8_t *mask, int64_t batch, int64_t tokens)
{
    int64_t cu_seqlens[MAX_BATCH + 1];
    int64_t max_length = -1;
    int64_t expected_max = 0;
    int64_t kept = 0;
    int64_t *const indices = malloc((size_t)(batch * tokens + 1) * sizeof *indices);
    int64_t *const scatter = malloc((size_t)(batch * tokens + 1) * sizeof *scatter);

    assert_non_null(indices);
    assert_non_null(scatter);
    memset(indices, 0xa5, (size_t)(batch * tokens + 1) * sizeof *indices);
    memset(scatter, 0xa5, (size_t)(batch * tokens + 1) * sizeof *scatter);
    assert_int_equal(gdncp_unpad_lengths(mask, batch, tokens, cu_seqlens, &max_length), GDNCP_OK);
    assert_int_equal(gdncp_unpad_indices(mask, batch, tokens, cu_seqlens[batch], indices),
                     GDNCP_OK);
    assert_int_equal(gdncp_repad_scatter(indices, cu_seqlens[batch], batch * tokens, scatter),
                     GDNCP_OK);
    for (int64_t b = 0; b < batch; b++) {
        const int64_t first = kept;

        assert_int_equal(cu_seqlens[b], first);
        for (int64_t p = b * tokens; p < (b + 1) * tokens; p++) {
            assert_int_equal(scatter[p], mask[p] != 0 ? kept : -1);
            if (mask[p] != 0) {
                assert_int_equal(indices[kept], p);
                kept++;
            }
        }
        expected_max = kept - first > expected_max ? kept - first : expected_max;
    }
    assert_int_equal(cu_seqlens[batch], kept);
    assert_int_equal(max_length, expected_max);
    assert_true(indices[kept] == (int64_t)UINT64_C(0xa5a5a5a5a5a5a5a5));
    assert_true(scatter[batch * tokens] == (int64_t)UINT64_C(0xa5a5a5a5a5a5a5a5));
    if (kept > 0) {
        const int64_t room = kept - 1;
        char got[32];

        snprintf(got, sizeof got, "got %lld", (long long)room);
        indices[room] = -7;
        check_refused(gdncp_unpad_indices(mask, batch, tokens, room, indices), "num_indices:", got,
                      "mask keeps", NULL);
        assert_int_equal(indices[room], -7);
    }
    free(indices);
    free(scatter);
}

static void random_masks(void **state)
{
    test_random_t random = test_random_start("masks", 20261203);
    uint8_t mask[MAX_BATCH * MAX_TOKENS];

    (void)state;
    for (int i = 0; i < NUM_MASKS; i++) {
        const int64_t batch = test_random_int(&random, 1, MAX_BATCH);
        const int64_t tokens = test_random_int(&random, 0, i % 3 == 0 ? 20 : MAX_TOKENS);

        for (int64_t b = 0; b < batch; b++) {
            random_row(&random, tokens, mask + b * tokens);
        }
        check_mask(mask, batch, tokens);
    }
}

/* A batch of 3 rows of 4, padded on the right, wholly, and on the left. */
static void known_mask(void **state)
{
    const uint8_t mask[] = {1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1};
    const int64_t expected_cu_seqlens[] = {0, 3, 3, 5};
    const int64_t expected_indices[] = {0, 1, 2, 10, 11};
    const int64_t expected_scatter[] = {0, 1, 2, -1, -1, -1, -1, -1, -1, -1, 3, 4};
    int64_t cu_seqlens[4];
    int64_t indices[5];
    int64_t scatter[12];
    int64_t max_length = 0;

    (void)state;
    assert_int_equal(gdncp_unpad_lengths(mask, 3, 4, cu_seqlens, &max_length), GDNCP_OK);
    assert_memory_equal(cu_seqlens, expected_cu_seqlens, sizeof cu_seqlens);
    assert_int_equal(max_length, 3);
    assert_int_equal(gdncp_unpad_indices(mask, 3, 4, 5, indices), GDNCP_OK);
    assert_memory_equal(indices, expected_indices, sizeof indices);
    assert_int_equal(gdncp_repad_scatter(indices, 5, 12, scatter), GDNCP_OK);
    assert_memory_equal(scatter, expected_scatter, sizeof scatter);
}

static void nothing_needs_no_memory(void **state)
{
    int64_t cu_seqlens[3] = {7, 7, 7};
    int64_t max_length = 7;

    (void)state;
    assert_int_equal(gdncp_unpad_lengths(NULL, 2, 0, cu_seqlens, &max_length), GDNCP_OK);
    assert_int_equal(cu_seqlens[2], 0);
    assert_int_equal(max_length, 0);
    assert_int_equal(gdncp_unpad_indices(NULL, 2, 0, 0, NULL), GDNCP_OK);
    assert_int_equal(gdncp_repad_scatter(NULL, 0, 0, NULL), GDNCP_OK);
}

static void arguments_are_checked(void **state)
{
    const uint8_t mask[4] = {1, 0, 1, 1};
    const int64_t outside[] = {0, 4};
    const int64_t below[] = {0, -1};
    const int64_t doubled[] = {2, 0, 2};
    int64_t numbers[5] = {0};
    int64_t max_length = 0;

    (void)state;
    check_refused(gdncp_unpad_lengths(mask, 0, 4, numbers, &max_length), "batch:", "got 0", NULL);
    check_refused(gdncp_unpad_lengths(mask, 1, -4, numbers, &max_length), "tokens:", "got -4",
                  NULL);
    check_refused(gdncp_unpad_lengths(mask, 4, INT64_MAX / 2, numbers, &max_length),
                  "tokens:", "batch of 4", NULL);
    check_refused(gdncp_unpad_lengths(NULL, 1, 4, numbers, &max_length), "mask:", "NULL", NULL);
    check_refused(gdncp_unpad_lengths(mask, 1, 4, NULL, &max_length), "cu_seqlens:", "NULL", NULL);
    check_refused(gdncp_unpad_lengths(mask, 1, 4, numbers, NULL), "max_length_p:", "NULL", NULL);
    check_refused(gdncp_unpad_indices(mask, -1, 4, 3, numbers), "batch:", "got -1", NULL);
    check_refused(gdncp_unpad_indices(NULL, 1, 4, 3, numbers), "mask:", "NULL", NULL);
    check_refused(gdncp_unpad_indices(mask, 1, 4, -1, numbers), "num_indices:", "got -1", NULL);
    check_refused(gdncp_unpad_indices(mask, 1, 4, 3, NULL), "indices:", "3 indices", "NULL", NULL);
    check_refused(gdncp_unpad_indices(mask, 1, 4, 2, numbers), "num_indices:", "the 3 tokens",
                  "got 2", NULL);
    check_refused(gdncp_repad_scatter(outside, 2, 4, numbers), "indices[1]:", "0..3", "got 4",
                  NULL);
    check_refused(gdncp_repad_scatter(below, 2, 4, numbers), "indices[1]:", "got -1", NULL);
    check_refused(gdncp_repad_scatter(doubled, 3, 4, numbers), "indices[2]:", "got 2", "at [0]",
                  NULL);
    check_refused(gdncp_repad_scatter(doubled, 5, 4, numbers), "num_indices:", "0..4", "got 5",
                  NULL);
    check_refused(gdncp_repad_scatter(doubled, -1, 4, numbers), "num_indices:", "got -1", NULL);
    check_refused(gdncp_repad_scatter(doubled, 0, -4, numbers), "num_tokens:", "got -4", NULL);
    check_refused(gdncp_repad_scatter(NULL, 2, 4, numbers), "indices:", "NULL", NULL);
    check_refused(gdncp_repad_scatter(doubled, 2, 4, NULL), "scatter:", "NULL", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_masks),
        cmocka_unit_test(known_mask),
        cmocka_unit_test(nothing_needs_no_memory),
        cmocka_unit_test(arguments_are_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
