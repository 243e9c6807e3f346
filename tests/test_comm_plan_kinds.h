/* One plan of each kind, for tests that run exchanges. */
#ifndef GDNCP_TEST_COMM_PLAN_KINDS_H
#define GDNCP_TEST_COMM_PLAN_KINDS_H

#include "test_comm_plan_random.h"

#include "gdncp/plan.h"

enum { NUM_PLAN_KINDS = 4 };

/* For runs in place: a relayout of messages that are runs, one of a batch with its rows
 * outermost, cp2hp of such rows with gaps, or hp2cp that leaves channels to be cleared; with
 * direction 1 its transpose. num_ranks divides 8. */
static inline gdncp_plan_t *batch_plan(int kind, const gdncp_layout_t *a, const gdncp_layout_t *b,
                                       int rank, gdncp_dtype_t dtype, int direction)
{
    static const gdncp_section_t sections[] = {{GDNCP_VALUE_HEADS, 2, 1}, {GDNCP_KEY_HEADS, 1, 17}};
    const int num_ranks = gdncp_layout_num_ranks(a);
    const gdncp_rows_t batch = gdncp_rows_batch_major(2, gdncp_layout_rank_tokens(a, rank), 3);
    const gdncp_rows_t other = gdncp_rows_batch_major(2, gdncp_layout_rank_tokens(b, rank), 3);
    const int64_t width = 24 / num_ranks + 1;
    const gdncp_rows_t mine = {2, 28, 28 * gdncp_layout_rank_tokens(a, rank) + 1};
    const gdncp_rows_t all = {2, width, width * gdncp_layout_num_tokens(a) + 1};
    const gdncp_head_split_t split = {8, 8, sections, 2, 26, GDNCP_TOKENS_IN_PACK_ORDER};
    gdncp_plan_t *plan = NULL;
    gdncp_plan_t *transpose = NULL;

    if (kind == 0) {
        gdncp_plan_relayout(a, b, rank, dtype, 5, &plan);
    } else if (kind == 1) {
        gdncp_plan_relayout_rows(a, b, rank, dtype, 3, &batch, &other, &plan);
    } else if (kind == 2) {
        gdncp_plan_cp2hp_rows(a, rank, dtype, &split, &mine, &all, &plan);
    } else {
        gdncp_plan_hp2cp_rows(a, rank, dtype, &split, &all, &mine, &plan);
    }
    assert_non_null(plan);
    if (direction == 0) {
        return plan;
    }
    assert_int_equal(gdncp_plan_transpose(plan, GDNCP_PLAN_ASSIGN, &transpose), GDNCP_OK);
    gdncp_plan_destroy(plan);
    return transpose;
}

/* random_plan() or batch_plan(). */
typedef gdncp_plan_t *plan_of_t(int kind, const gdncp_layout_t *a, const gdncp_layout_t *b,
                                int rank, gdncp_dtype_t dtype, int direction);

/* cp2hp with shared key heads, a relayout, a halo or an all-gather; with direction 1 its transpose,
 * with direction 2 its transpose that adds. */
static inline gdncp_plan_t *random_plan(int kind, const gdncp_layout_t *a, const gdncp_layout_t *b,
                                        int rank, gdncp_dtype_t dtype, int direction)
{
    static const gdncp_section_t sections[] = {
        {GDNCP_KEY_HEADS, 3, 1}, {GDNCP_VALUE_HEADS, 2, 7}, {GDNCP_VALUE_HEADS, 1, 19}};
    static const int64_t lengths[MAX_RANKS] = {2, 1, 0, 3, 1, 1, 2, 4};
    gdncp_plan_t *plan = NULL;
    gdncp_plan_t *transpose = NULL;

    if (kind == 0) {
        gdncp_plan_cp2hp(a, rank, dtype, 2, 6, sections, 3, 26, &plan);
    } else if (kind == 1) {
        gdncp_plan_relayout(a, b, rank, dtype, 5, &plan);
    } else if (kind == 2) {
        gdncp_plan_conv_halo(a, rank, dtype, 4, 5, 6, &plan);
    } else {
        gdncp_plan_all_gather_concat(gdncp_layout_num_ranks(a), rank, dtype, 1, lengths, 7, &plan);
    }
    assert_non_null(plan);
    if (direction == 0) {
        return plan;
    }
    assert_int_equal(
        gdncp_plan_transpose(plan, direction == 1 ? GDNCP_PLAN_ASSIGN : GDNCP_PLAN_ADD, &transpose),
        GDNCP_OK);
    gdncp_plan_destroy(plan);
    return transpose;
}

#endif
