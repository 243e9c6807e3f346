/* Head ranges: Megatron's split where counts divide, every head and no other where they do not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "gdncp/heads.h"
#include "support/refused.h"

static gdncp_head_range_t range_of(gdncp_head_kind_t kind, int64_t num_key_heads,
                                   int64_t num_value_heads, int num_ranks, int rank)
{
    gdncp_head_range_t range = {-1, -1};

    assert_int_equal(
        gdncp_head_range(kind, num_key_heads, num_value_heads, num_ranks, rank, &range), GDNCP_OK);
    return range;
}

/* split_sections cuts every section into N equal pieces of channels; rank r takes piece r. */
static void even_counts_split_like_megatron(void **state)
{
    const int64_t shapes[][2] = {{16, 32}, {16, 64}, {16, 48}, {30, 30}, {8, 16}};

    (void)state;
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        const int64_t counts[] = {shapes[s][0], shapes[s][1]};

        for (int num_ranks = 1; num_ranks <= 16; num_ranks++) {
            if (counts[0] % num_ranks != 0) {
                continue;
            }
            for (int rank = 0; rank < num_ranks; rank++) {
                for (int kind = GDNCP_KEY_HEADS; kind <= GDNCP_VALUE_HEADS; kind++) {
                    const int64_t head_dim = kind == GDNCP_KEY_HEADS ? 96 : 192;
                    const int64_t piece = counts[kind] * head_dim / num_ranks;
                    const gdncp_head_range_t range =
                        range_of((gdncp_head_kind_t)kind, counts[0], counts[1], num_ranks, rank);

                    assert_int_equal(range.first * head_dim, rank * piece);
                    assert_int_equal(range.count * head_dim, piece);
                }
            }
        }
    }
}

/* Each value head on one rank; a rank's key heads are those its value heads read, and no others. */
static void check_cover(int64_t num_key_heads, int64_t num_value_heads, int num_ranks)
{
    int64_t next_value_head = 0;

    for (int rank = 0; rank < num_ranks; rank++) {
        const gdncp_head_range_t keys =
            range_of(GDNCP_KEY_HEADS, num_key_heads, num_value_heads, num_ranks, rank);
        const gdncp_head_range_t values =
            range_of(GDNCP_VALUE_HEADS, num_key_heads, num_value_heads, num_ranks, rank);
        bool needed[64] = {false};
        int64_t num_needed = 0;

        assert_int_equal(values.first, next_value_head);
        assert_int_equal(values.first, rank * num_value_heads / num_ranks);
        next_value_head += values.count;
        for (int64_t j = values.first; j < values.first + values.count; j++) {
            const int64_t key_head = j * num_key_heads / num_value_heads;

            assert_in_range(key_head, keys.first, keys.first + keys.count - 1);
            num_needed += !needed[key_head];
            needed[key_head] = true;
        }
        assert_int_equal(keys.count, num_needed);
        assert_in_range(keys.first, 0, num_key_heads - 1);
    }
    assert_int_equal(next_value_head, num_value_heads);
}

static void uneven_counts_cover_every_head(void **state)
{
    (void)state;
    for (int64_t num_key_heads = 1; num_key_heads <= 32; num_key_heads++) {
        for (int64_t ratio = 1; ratio <= 4; ratio++) {
            for (int num_ranks = 1; num_ranks <= 80; num_ranks++) {
                check_cover(num_key_heads, num_key_heads * ratio, num_ranks);
            }
        }
    }
}

/* What Megatron refuses. */
static void thirty_heads_on_eight_ranks(void **state)
{
    const int64_t firsts[] = {0, 3, 7, 11, 15, 18, 22, 26, 30};

    (void)state;
    for (int rank = 0; rank < 8; rank++) {
        const gdncp_head_range_t range = range_of(GDNCP_KEY_HEADS, 30, 30, 8, rank);

        assert_int_equal(range.first, firsts[rank]);
        assert_int_equal(range.count, firsts[rank + 1] - firsts[rank]);
    }
    /* 16 key heads on 64 ranks: four ranks share each. */
    for (int rank = 0; rank < 64; rank++) {
        const gdncp_head_range_t range = range_of(GDNCP_KEY_HEADS, 16, 64, 64, rank);

        assert_int_equal(range.first, rank / 4);
        assert_int_equal(range.count, 1);
    }
}

static void huge_counts_do_not_wrap(void **state)
{
    const int64_t heads = ((int64_t)1 << 62) + 999;
    const gdncp_head_range_t last = range_of(GDNCP_VALUE_HEADS, heads, heads, 1000, 999);

    (void)state;
    assert_true(last.first + last.count == heads);
    assert_true(last.count >= heads / 1000 && last.count <= heads / 1000 + 1);
}

static void arguments_are_checked(void **state)
{
    gdncp_head_range_t range = {-7, -7};

    (void)state;
    check_refused(gdncp_head_range((gdncp_head_kind_t)2, 4, 8, 2, 0, &range), "kind:", "got 2");
    check_refused(gdncp_head_range((gdncp_head_kind_t)-1, 4, 8, 2, 0, &range), "kind:", "got -1");
    check_refused(gdncp_head_range(GDNCP_KEY_HEADS, 0, 8, 2, 0, &range), "num_key_heads:", "got 0");
    check_refused(gdncp_head_range(GDNCP_KEY_HEADS, -4, 8, 2, 0, &range),
                  "num_key_heads:", "got -4");
    check_refused(gdncp_head_range(GDNCP_KEY_HEADS, 3, 8, 2, 0, &range), "num_key_heads:", "got 3");
    check_refused(gdncp_head_range(GDNCP_KEY_HEADS, 16, 8, 2, 0, &range),
                  "num_key_heads:", "got 16");
    check_refused(gdncp_head_range(GDNCP_KEY_HEADS, 4, 0, 2, 0, &range),
                  "num_value_heads:", "got 0");
    check_refused(gdncp_head_range(GDNCP_KEY_HEADS, 4, -8, 2, 0, &range),
                  "num_value_heads:", "got -8");
    check_refused(gdncp_head_range(GDNCP_KEY_HEADS, 4, 8, 0, 0, &range), "num_ranks:", "got 0");
    check_refused(gdncp_head_range(GDNCP_KEY_HEADS, 4, 8, 2, -1, &range), "rank:", "got -1");
    check_refused(gdncp_head_range(GDNCP_KEY_HEADS, 4, 8, 2, 2, &range), "rank:", "got 2");
    check_refused(gdncp_head_range(GDNCP_KEY_HEADS, 4, 8, 2, 0, NULL), "range_p:", "got NULL");
    assert_int_equal(range.first, -7);
    assert_int_equal(range.count, -7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(even_counts_split_like_megatron),
        cmocka_unit_test(uneven_counts_cover_every_head),
        cmocka_unit_test(thirty_heads_on_eight_ranks),
        cmocka_unit_test(huge_counts_do_not_wrap),
        cmocka_unit_test(arguments_are_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
