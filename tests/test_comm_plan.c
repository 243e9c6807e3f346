/* What plans tell about themselves, schedules as text, fingerprints, and refused arguments. */
#include "test_comm_plan_check.h"

#include <stdio.h>

#include "gdncp/memory.h"

static const int64_t cu_seqlens[] = {0, 16, 24};

static gdncp_layout_t *make_layout(gdncp_layout_kind_t kind, const int64_t *borders,
                                   int64_t num_sequences, int num_ranks)
{
    gdncp_layout_t *layout = NULL;

    assert_int_equal(gdncp_layout_create(kind, borders, num_sequences, num_ranks, &layout),
                     GDNCP_OK);
    return layout;
}

static gdncp_layout_t *swapped(int num_ranks)
{
    return make_layout(GDNCP_LAYOUT_DUAL_CHUNK_SWAP, cu_seqlens, 2, num_ranks);
}

/* "plan": first a line on the whole plan, then one a message. */
static void schedule_is_json_lines(void **state)
{
    gdncp_layout_t *const layout = swapped(2);
    gdncp_plan_t *plan = NULL;
    gdncp_plan_t *transpose = NULL;
    char *text = NULL;
    size_t size = 0;
    char expected[1024];

    (void)state;
    assert_int_equal(gdncp_plan_conv_halo(layout, 1, GDNCP_BF16, 5, 6, 3, &plan), GDNCP_OK);
    assert_int_equal(gdncp_plan_transpose(plan, GDNCP_PLAN_ADD, &transpose), GDNCP_OK);
    FILE *const stream = open_memstream(&text, &size);

    assert_non_null(stream);
    assert_int_equal(gdncp_plan_write_schedule(plan, stream), GDNCP_OK);
    assert_int_equal(gdncp_plan_write_schedule(transpose, stream), GDNCP_OK);
    fclose(stream);
    /* Rank 1 holds the middle of both sequences: chunks 1 and 2 of 4, which touch. So it reads
     * 3 tokens (of the first sequence) and 2 (of the second), and rank 0 reads 3 of each. */
    snprintf(expected, sizeof expected,
             "{\"plan\": \"conv_halo\", \"rank\": 1, \"num_ranks\": 2, \"dtype\": \"bf16\", "
             "\"write\": \"assign\", \"input_elements\": 72, \"output_elements\": 30, "
             "\"bytes_sent\": 60, \"fingerprint\": \"%016llx\"}\n"
             "{\"plan\": \"conv_halo\", \"rank\": 1, \"peer\": 0, \"send_bytes\": 60, "
             "\"recv_bytes\": 50}\n"
             "{\"plan\": \"transpose of conv_halo\", \"rank\": 1, \"num_ranks\": 2, \"dtype\": "
             "\"bf16\", \"write\": \"add\", \"input_elements\": 30, \"output_elements\": 72, "
             "\"bytes_sent\": 50, \"fingerprint\": \"%016llx\"}\n"
             "{\"plan\": \"transpose of conv_halo\", \"rank\": 1, \"peer\": 0, \"send_bytes\": "
             "50, \"recv_bytes\": 60}\n",
             (unsigned long long)gdncp_plan_fingerprint(plan),
             (unsigned long long)gdncp_plan_fingerprint(transpose));
    assert_string_equal(text, expected);
    free(text);
    gdncp_plan_destroy(transpose);
    gdncp_plan_destroy(plan);
    gdncp_layout_destroy(layout);
}

static void unwritable_stream_is_an_io_error(void **state)
{
    const int64_t lengths[] = {1, 1};
    gdncp_plan_t *plan = NULL;
    FILE *const full = fopen("/dev/full", "w");

    (void)state;
    assert_non_null(full);
    assert_int_equal(gdncp_plan_all_gather_concat(2, 0, GDNCP_I8, 1, lengths, 1, &plan), GDNCP_OK);
    assert_int_equal(gdncp_plan_write_schedule(plan, full), GDNCP_ERR_IO);
    assert_non_null(strstr(gdncp_last_error(), "stream"));
    check_refused(gdncp_plan_write_schedule(plan, NULL), "stream:");
    check_refused(gdncp_plan_write_schedule(NULL, full), "plan:");
    fclose(full);
    gdncp_plan_destroy(plan);
}

/* Rank and strides do not matter, everything else does. */
static void fingerprints_tell_plans_apart(void **state)
{
    enum { NUM_PLANS = 18 };
    static const gdncp_section_t keys_first[] = {{GDNCP_KEY_HEADS, 2, 0},
                                                 {GDNCP_VALUE_HEADS, 2, 8}};
    static const gdncp_section_t wider[] = {{GDNCP_KEY_HEADS, 1, 0}, {GDNCP_VALUE_HEADS, 2, 8}};
    static const int64_t lengths[] = {2, 3};
    static const int64_t swapped_lengths[] = {3, 2};
    gdncp_layout_t *const a = swapped(2);
    gdncp_layout_t *const b = make_layout(GDNCP_LAYOUT_CONTIGUOUS, cu_seqlens, 2, 2);
    const gdncp_head_split_t by_rank = {4, 4, keys_first, 2, 16, GDNCP_TOKENS_BY_RANK};
    gdncp_plan_t *plans[2][NUM_PLANS] = {{NULL}};

    (void)state;
    for (int rank = 0; rank < 2; rank++) {
        const gdncp_rows_t one = gdncp_rows_token_major(1, 16 + rank);
        const gdncp_rows_t two =
            rank == 0 ? gdncp_rows_token_major(2, 16) : gdncp_rows_batch_major(2, 12, 16);
        const gdncp_rows_t all = gdncp_rows_token_major(2, 8 + rank);
        gdncp_plan_t **const p = plans[rank];

        gdncp_plan_cp2hp(a, rank, GDNCP_F32, 4, 4, keys_first, 2, 16, &p[0]);
        gdncp_plan_cp2hp(a, rank, GDNCP_BF16, 4, 4, keys_first, 2, 16, &p[1]);
        gdncp_plan_cp2hp(b, rank, GDNCP_F32, 4, 4, keys_first, 2, 16, &p[2]);
        gdncp_plan_cp2hp(a, rank, GDNCP_F32, 4, 4, wider, 2, 16, &p[3]);
        gdncp_plan_cp2hp(a, rank, GDNCP_F32, 4, 4, keys_first, 2, 17, &p[4]);
        gdncp_plan_cp2hp(a, rank, GDNCP_F32, 2, 4, keys_first, 2, 16, &p[5]);
        gdncp_plan_hp2cp(a, rank, GDNCP_F32, 4, 4, keys_first, 2, 16, &p[6]);
        gdncp_plan_relayout(a, b, rank, GDNCP_F32, 16, &p[7]);
        gdncp_plan_relayout(b, a, rank, GDNCP_F32, 16, &p[8]);
        gdncp_plan_conv_halo(a, rank, GDNCP_F32, 16, 16, 3, &p[9]);
        gdncp_plan_all_gather_concat(2, rank, GDNCP_F32, 1, lengths, 16, &p[10]);
        gdncp_plan_all_gather_concat(2, rank, GDNCP_F32, 1, swapped_lengths, 16, &p[11]);
        gdncp_plan_transpose(p[0], GDNCP_PLAN_ASSIGN, &p[12]);
        gdncp_plan_transpose(p[0], GDNCP_PLAN_ADD, &p[13]);
        gdncp_plan_cp2hp_rows(a, rank, GDNCP_F32, &by_rank, &one, &one, &p[14]);
        gdncp_plan_cp2hp_rows(a, rank, GDNCP_F32, &by_rank, &two, &all, &p[15]);
        gdncp_plan_relayout_rows(a, b, rank, GDNCP_F32, 16, &two, &two, &p[16]);
        gdncp_plan_conv_halo_rows(a, rank, GDNCP_F32, 16, 3, &two, &two, &p[17]);
    }
    for (int i = 0; i < NUM_PLANS; i++) {
        assert_non_null(plans[0][i]);
        assert_int_equal(gdncp_plan_fingerprint(plans[0][i]), gdncp_plan_fingerprint(plans[1][i]));
        for (int j = 0; j < i; j++) {
            assert_true(gdncp_plan_fingerprint(plans[0][i]) != gdncp_plan_fingerprint(plans[0][j]));
        }
    }
    for (int i = 0; i < NUM_PLANS; i++) {
        gdncp_plan_destroy(plans[0][i]);
        gdncp_plan_destroy(plans[1][i]);
    }
    gdncp_layout_destroy(a);
    gdncp_layout_destroy(b);
}

/* A plan of a thousand ranks is a few blocks a peer, and gives all its memory back. */
static void large_schedules_are_cheap(void **state)
{
    enum { NUM_RANKS = 1024 };
    static const gdncp_section_t sections[] = {
        {GDNCP_KEY_HEADS, 128, 0}, {GDNCP_KEY_HEADS, 128, 2048}, {GDNCP_VALUE_HEADS, 128, 4096}};
    const int64_t borders[] = {0, 1 << 20};
    gdncp_layout_t *const layout = make_layout(GDNCP_LAYOUT_DUAL_CHUNK_SWAP, borders, 1, NUM_RANKS);
    gdncp_memory_usage_t usage = {0};
    gdncp_plan_t *plan = NULL;

    (void)state;
    gdncp_memory_track(&usage);
    assert_int_equal(gdncp_plan_cp2hp(layout, 1023, GDNCP_BF16, 16, 64, sections, 3, 12288, &plan),
                     GDNCP_OK);
    assert_in_range(usage.peak_bytes, 1, 8 << 20);
    gdncp_plan_destroy(plan);
    assert_int_equal(gdncp_plan_conv_halo(layout, 512, GDNCP_BF16, 12288, 12288, 3, &plan),
                     GDNCP_OK);
    /* Chunks 512 and 1535 of 2048: two halos of three tokens come, and two go. */
    assert_int_equal(gdncp_plan_bytes_sent(plan), 2 * 3 * 12288 * 2);
    gdncp_plan_destroy(plan);
    gdncp_plan_destroy(NULL);
    gdncp_memory_track(NULL);
    assert_int_equal(usage.current_bytes, 0);
    gdncp_layout_destroy(layout);
}

static void transpose_arguments_are_checked(void **state)
{
    const int64_t lengths[] = {1, 2};
    gdncp_plan_t *plan = NULL;
    gdncp_plan_t *once = NULL;
    gdncp_plan_t *transpose = NULL;

    (void)state;
    assert_int_equal(gdncp_plan_all_gather_concat(2, 0, GDNCP_I32, 1, lengths, 1, &plan), GDNCP_OK);
    assert_int_equal(gdncp_plan_all_gather_concat(1, 0, GDNCP_I32, 1, lengths, 1, &once), GDNCP_OK);
    check_refused(gdncp_plan_transpose(NULL, GDNCP_PLAN_ADD, &transpose), "plan:");
    check_refused(gdncp_plan_transpose(once, GDNCP_PLAN_ASSIGN, NULL), "transpose_p:");
    check_refused(gdncp_plan_transpose(once, (gdncp_plan_write_t)2, &transpose), "write:");
    check_refused(gdncp_plan_transpose(once, GDNCP_PLAN_ADD, &transpose), "write:");
    check_refused(gdncp_plan_transpose(plan, GDNCP_PLAN_ASSIGN, &transpose), "plan:");
    assert_non_null(strstr(gdncp_last_error(), "i32"));
    assert_null(transpose);
    gdncp_plan_destroy(plan);
    gdncp_plan_destroy(once);
}

static void relayout_arguments_are_checked(void **state)
{
    static const int64_t other_borders[] = {0, 12, 24};
    const int64_t longer_slots[] = {0, cu_seqlens[1], cu_seqlens[2] + 4};
    gdncp_layout_t *const from = swapped(2);
    gdncp_layout_t *const other_ranks = swapped(4);
    gdncp_layout_t *const other_pack = make_layout(GDNCP_LAYOUT_CONTIGUOUS, other_borders, 2, 2);
    gdncp_layout_t *const shorter_pack = make_layout(GDNCP_LAYOUT_CONTIGUOUS, cu_seqlens, 1, 2);
    gdncp_layout_t *padded = NULL;
    gdncp_plan_t *plan = NULL;

    (void)state;
    assert_int_equal(gdncp_layout_create_padded(GDNCP_LAYOUT_CONTIGUOUS, cu_seqlens, longer_slots,
                                                2, 2, &padded),
                     GDNCP_OK);
    check_refused(gdncp_plan_relayout(from, padded, 0, GDNCP_F32, 1, &plan), "to:");
    assert_non_null(strstr(gdncp_last_error(), "cu_seqlens_padded[2] ="));
    gdncp_layout_destroy(padded);
    check_refused(gdncp_plan_relayout(NULL, from, 0, GDNCP_F32, 1, &plan), "from:");
    check_refused(gdncp_plan_relayout(from, NULL, 0, GDNCP_F32, 1, &plan), "to:");
    check_refused(gdncp_plan_relayout(from, other_ranks, 0, GDNCP_F32, 1, &plan), "to:");
    check_refused(gdncp_plan_relayout(from, other_pack, 0, GDNCP_F32, 1, &plan), "to:");
    check_refused(gdncp_plan_relayout(from, shorter_pack, 0, GDNCP_F32, 1, &plan), "to:");
    check_refused(gdncp_plan_relayout(from, from, 2, GDNCP_F32, 1, &plan), "rank:");
    check_refused(gdncp_plan_relayout(from, from, 0, (gdncp_dtype_t)-1, 1, &plan), "dtype:");
    check_refused(gdncp_plan_relayout(from, from, 0, GDNCP_F32, 0, &plan), "channels:");
    check_refused(gdncp_plan_relayout(from, from, 0, GDNCP_F32, INT64_MAX / 24, &plan),
                  "channels:");
    check_refused(gdncp_plan_relayout(from, from, 0, GDNCP_F32, 1, NULL), "plan_p:");
    assert_null(plan);
    gdncp_layout_destroy(from);
    gdncp_layout_destroy(other_ranks);
    gdncp_layout_destroy(other_pack);
    gdncp_layout_destroy(shorter_pack);
}

static void all_gather_arguments_are_checked(void **state)
{
    const int64_t lengths[] = {1, 2};
    const int64_t negative[] = {1, -2};
    const int64_t too_long[] = {INT64_MAX, 1};
    gdncp_plan_t *plan = NULL;

    (void)state;
    check_refused(gdncp_plan_all_gather_concat(0, 0, GDNCP_F32, 1, lengths, 1, &plan),
                  "num_ranks:");
    check_refused(gdncp_plan_all_gather_concat(2, 2, GDNCP_F32, 1, lengths, 1, &plan), "rank:");
    check_refused(gdncp_plan_all_gather_concat(2, 0, (gdncp_dtype_t)11, 1, lengths, 1, &plan),
                  "dtype:");
    check_refused(gdncp_plan_all_gather_concat(2, 0, GDNCP_F32, -1, lengths, 1, &plan), "outer:");
    check_refused(gdncp_plan_all_gather_concat(2, 0, GDNCP_F32, 1, lengths, -1, &plan), "inner:");
    check_refused(gdncp_plan_all_gather_concat(2, 0, GDNCP_F32, 1, NULL, 1, &plan), "lengths:");
    check_refused(gdncp_plan_all_gather_concat(2, 0, GDNCP_F32, 1, negative, 1, &plan),
                  "lengths[1]:");
    check_refused(gdncp_plan_all_gather_concat(2, 0, GDNCP_F32, 1, too_long, 1, &plan),
                  "lengths[1]:");
    check_refused(gdncp_plan_all_gather_concat(2, 0, GDNCP_F32, INT64_MAX / 4, lengths, 1, &plan),
                  "lengths:");
    check_refused(gdncp_plan_all_gather_concat(2, 0, GDNCP_F32, 1, lengths, 1, NULL), "plan_p:");
    assert_null(plan);
}

static void conv_halo_arguments_are_checked(void **state)
{
    gdncp_layout_t *const layout = swapped(2);
    gdncp_plan_t *plan = NULL;

    (void)state;
    check_refused(gdncp_plan_conv_halo(NULL, 0, GDNCP_F32, 1, 1, 3, &plan), "layout:");
    check_refused(gdncp_plan_conv_halo(layout, 2, GDNCP_F32, 1, 1, 3, &plan), "rank:");
    check_refused(gdncp_plan_conv_halo(layout, 0, (gdncp_dtype_t)11, 1, 1, 3, &plan), "dtype:");
    check_refused(gdncp_plan_conv_halo(layout, 0, GDNCP_F32, 0, 1, 3, &plan), "channels:");
    check_refused(gdncp_plan_conv_halo(layout, 0, GDNCP_F32, 2, 1, 3, &plan), "row_stride:");
    check_refused(gdncp_plan_conv_halo(layout, 0, GDNCP_F32, 2, INT64_MAX / 4, 3, &plan),
                  "row_stride:");
    check_refused(gdncp_plan_conv_halo(layout, 0, GDNCP_F32, 1, 1, -1, &plan), "width:");
    check_refused(gdncp_plan_conv_halo(layout, 0, GDNCP_F32, 1, 1, INT64_MAX, &plan), "width:");
    check_refused(gdncp_plan_conv_halo(layout, 0, GDNCP_F32, 1, 1, 3, NULL), "plan_p:");
    assert_null(plan);
    gdncp_layout_destroy(layout);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(schedule_is_json_lines),
        cmocka_unit_test(unwritable_stream_is_an_io_error),
        cmocka_unit_test(fingerprints_tell_plans_apart),
        cmocka_unit_test(large_schedules_are_cheap),
        cmocka_unit_test(transpose_arguments_are_checked),
        cmocka_unit_test(relayout_arguments_are_checked),
        cmocka_unit_test(all_gather_arguments_are_checked),
        cmocka_unit_test(conv_halo_arguments_are_checked),
    };

    return cmocka_run_group_tests_name("plans", tests, NULL, NULL);
}
