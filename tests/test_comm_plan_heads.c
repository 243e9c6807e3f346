/* cp2hp and hp2cp against maps written from their formulas, over even and uneven heads. */
#include "test_comm_plan_maps.h"

enum { NUM_CASES = 500 };

static void check_cases(const char *name, uint64_t seed, bool to_heads)
{
    test_random_t random = test_random_start(name, seed);

    for (int c = 0; c < NUM_CASES; c++) {
        const head_case_t head_case =
            random_head_case(&random, (int)test_random_int(&random, 1, MAX_RANKS));
        index_map_t map = to_heads ? map_cp2hp(&head_case) : map_hp2cp(&head_case);
        gdncp_plan_t *plans[MAX_RANKS];

        for (int rank = 0; rank < head_case.num_ranks; rank++) {
            assert_int_equal((to_heads ? gdncp_plan_cp2hp : gdncp_plan_hp2cp)(
                                 head_case.layout, rank, head_case.dtype, head_case.num_key_heads,
                                 head_case.num_value_heads, head_case.sections,
                                 head_case.num_sections, head_case.row_channels, &plans[rank]),
                             GDNCP_OK);
            assert_string_equal(gdncp_plan_name(plans[rank]), name);
        }
        check_plans(&random, plans, &map);
        gdncp_layout_destroy(head_case.layout);
    }
}

static void cp2hp_is_its_formula(void **state)
{
    (void)state;
    check_cases("cp2hp", 21, true);
}

static void hp2cp_is_its_formula(void **state)
{
    (void)state;
    check_cases("hp2cp", 22, false);
}

/* What lies side by side on both ends moves as one block, however many sections there are. */
static void blocks_do_not_grow_with_tokens(void **state)
{
    static const gdncp_section_t sections[] = {
        {GDNCP_KEY_HEADS, 4, 0}, {GDNCP_KEY_HEADS, 4, 16}, {GDNCP_VALUE_HEADS, 4, 32}};
    const int64_t cu_seqlens[] = {0, 8000};
    gdncp_layout_t *layout = NULL;
    gdncp_plan_t *plan = NULL;

    (void)state;
    assert_int_equal(gdncp_layout_create(GDNCP_LAYOUT_DUAL_CHUNK_SWAP, cu_seqlens, 1, 4, &layout),
                     GDNCP_OK);
    assert_int_equal(gdncp_plan_cp2hp(layout, 1, GDNCP_BF16, 4, 8, sections, 3, 64, &plan),
                     GDNCP_OK);
    for (int peer = 0; peer < 4; peer++) {
        assert_in_range(plan->sends[peer].count, 1, 6);
        assert_in_range(plan->recvs[peer].count, 1, 6);
    }
    /* Rank 3's two segments touch, and a row of the message is a row of the output. */
    assert_true(gdncp_block_list_is_run(&plan->recvs[3]));
    gdncp_plan_destroy(plan);
    gdncp_layout_destroy(layout);
}

static void arguments_are_checked(void **state)
{
    const int64_t cu_seqlens[] = {0, 8};
    const gdncp_section_t good = {GDNCP_VALUE_HEADS, 2, 0};
    gdncp_section_t sections[2] = {good, {GDNCP_KEY_HEADS, 2, 7}};
    gdncp_layout_t *layout = NULL;
    gdncp_plan_t *plan = NULL;

    (void)state;
    assert_int_equal(gdncp_layout_create(GDNCP_LAYOUT_CONTIGUOUS, cu_seqlens, 1, 2, &layout),
                     GDNCP_OK);
    check_refused(gdncp_plan_cp2hp(NULL, 0, GDNCP_F32, 2, 4, &good, 1, 8, &plan), "layout:");
    check_refused(gdncp_plan_hp2cp(NULL, 0, GDNCP_F32, 2, 4, &good, 1, 8, &plan), "layout:");
    check_refused(gdncp_plan_cp2hp(layout, 2, GDNCP_F32, 2, 4, &good, 1, 8, &plan), "rank:");
    check_refused(gdncp_plan_cp2hp(layout, -1, GDNCP_F32, 2, 4, &good, 1, 8, &plan), "rank:");
    check_refused(gdncp_plan_cp2hp(layout, 0, (gdncp_dtype_t)99, 2, 4, &good, 1, 8, &plan),
                  "dtype:");
    check_refused(gdncp_plan_cp2hp(layout, 0, GDNCP_F32, 0, 4, &good, 1, 8, &plan),
                  "num_key_heads:");
    check_refused(gdncp_plan_cp2hp(layout, 0, GDNCP_F32, 3, 4, &good, 1, 8, &plan),
                  "num_key_heads:");
    check_refused(gdncp_plan_cp2hp(layout, 0, GDNCP_F32, 2, 0, &good, 1, 8, &plan),
                  "num_value_heads:");
    check_refused(gdncp_plan_cp2hp(layout, 0, GDNCP_F32, 2, 4, NULL, 1, 8, &plan), "sections:");
    check_refused(gdncp_plan_cp2hp(layout, 0, GDNCP_F32, 2, 4, &good, 0, 8, &plan), "sections:");
    check_refused(gdncp_plan_cp2hp(layout, 0, GDNCP_F32, 2, 4, &good, 1, 0, &plan),
                  "row_channels:");
    check_refused(gdncp_plan_cp2hp(layout, 0, GDNCP_F32, 2, 4, &good, 1, INT64_MAX / 2, &plan),
                  "row_channels:");
    check_refused(gdncp_plan_cp2hp(layout, 0, GDNCP_F32, 2, 4, &good, 1, 7, &plan), "sections[0]:");
    check_refused(gdncp_plan_cp2hp(layout, 0, GDNCP_F32, 2, 4, sections, 2, 16, &plan),
                  "sections[1]:");
    sections[1].offset = -1;
    check_refused(gdncp_plan_cp2hp(layout, 0, GDNCP_F32, 2, 4, sections, 2, 16, &plan),
                  "sections[1]:");
    sections[1] = (gdncp_section_t){GDNCP_KEY_HEADS, 0, 8};
    check_refused(gdncp_plan_cp2hp(layout, 0, GDNCP_F32, 2, 4, sections, 2, 16, &plan),
                  "sections[1].head_dim:");
    sections[1].head_dim = INT64_MAX;
    check_refused(gdncp_plan_cp2hp(layout, 0, GDNCP_F32, 2, 4, sections, 2, 16, &plan),
                  "sections[1]:");
    sections[1] = (gdncp_section_t){(gdncp_head_kind_t)7, 2, 8};
    check_refused(gdncp_plan_cp2hp(layout, 0, GDNCP_F32, 2, 4, sections, 2, 16, &plan),
                  "sections[1].kind:");
    check_refused(gdncp_plan_cp2hp(layout, 0, GDNCP_F32, 2, 4, &good, 1, 8, NULL), "plan_p:");
    assert_null(plan);
    gdncp_layout_destroy(layout);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cp2hp_is_its_formula),
        cmocka_unit_test(hp2cp_is_its_formula),
        cmocka_unit_test(blocks_do_not_grow_with_tokens),
        cmocka_unit_test(arguments_are_checked),
    };

    return cmocka_run_group_tests_name("plan heads", tests, NULL, NULL);
}
