/* cp2hp and hp2cp against maps written from their formulas, over even and uneven heads. */
#include "test_comm_plan_check.h"

enum { NUM_CASES = 500, MAX_SECTIONS = 6 };

typedef struct head_case {
    gdncp_layout_t *layout;
    int num_ranks;
    gdncp_dtype_t dtype;
    int64_t num_key_heads;
    int64_t num_value_heads;
    gdncp_section_t sections[MAX_SECTIONS];
    int64_t num_sections;
    int64_t row_channels;
} head_case_t;

/* Sections in any order of offset, now and then with channels between that belong to none. */
static head_case_t random_case(test_random_t *random)
{
    static const int64_t heads[][2] = {{1, 4}, {2, 6}, {3, 3}, {2, 4}, {16, 32}, {1, 1}, {5, 10}};
    const int64_t *const pair = heads[test_random_int(random, 0, 6)];
    const bool has_gaps = test_random_int(random, 0, 1) == 1;
    const int num_ranks = (int)test_random_int(random, 1, MAX_RANKS);
    const test_pack_t pack = random_pack(random, num_ranks);
    head_case_t head_case = {
        .layout = random_layout(random, &pack, num_ranks),
        .num_ranks = num_ranks,
        .dtype = random_dtype(random),
        .num_key_heads = pair[0],
        .num_value_heads = pair[1],
        .num_sections = test_random_int(random, 1, MAX_SECTIONS),
    };

    for (int64_t s = 0; s < head_case.num_sections; s++) {
        gdncp_section_t *const section = &head_case.sections[s];

        section->kind = test_random_int(random, 0, 1) == 1 ? GDNCP_KEY_HEADS : GDNCP_VALUE_HEADS;
        section->head_dim = test_random_int(random, 1, 3);
        head_case.row_channels += has_gaps ? test_random_int(random, 0, 2) : 0;
        section->offset = head_case.row_channels;
        head_case.row_channels +=
            section->head_dim * (section->kind == GDNCP_KEY_HEADS ? pair[0] : pair[1]);
    }
    for (int64_t s = head_case.num_sections - 1; s > 0; s--) {
        const int64_t other = test_random_int(random, 0, s);
        const gdncp_section_t section = head_case.sections[s];

        head_case.sections[s] = head_case.sections[other];
        head_case.sections[other] = section;
    }
    return head_case;
}

static gdncp_head_range_t heads_of(const head_case_t *head_case, gdncp_head_kind_t kind, int rank)
{
    gdncp_head_range_t range;

    assert_int_equal(gdncp_head_range(kind, head_case->num_key_heads, head_case->num_value_heads,
                                      head_case->num_ranks, rank, &range),
                     GDNCP_OK);
    return range;
}

/* The channel of a row of all channels that each channel of a rank's heads is; returns how many. */
static int64_t channels_of(const head_case_t *head_case, int rank, int64_t *channels)
{
    int64_t count = 0;

    for (int64_t s = 0; s < head_case->num_sections; s++) {
        const gdncp_section_t *const section = &head_case->sections[s];
        const gdncp_head_range_t mine = heads_of(head_case, section->kind, rank);

        for (int64_t c = 0; c < mine.count * section->head_dim; c++) {
            channels[count++] = section->offset + mine.first * section->head_dim + c;
        }
    }
    return count;
}

/* local_channels [row_channels]: where the rank keeps each channel, or -1. */
static void invert_channels(const head_case_t *head_case, const int64_t *channels, int64_t count,
                            int64_t *local_channels)
{
    for (int64_t c = 0; c < head_case->row_channels; c++) {
        local_channels[c] = -1;
    }
    for (int64_t c = 0; c < count; c++) {
        local_channels[channels[c]] = c;
    }
}

static void find_token(const gdncp_layout_t *layout, int64_t token, int *rank_p, int64_t *index_p)
{
    const int64_t *const cu_seqlens = gdncp_layout_cu_seqlens(layout);
    int64_t sequence = 0;

    while (token >= cu_seqlens[sequence + 1]) {
        sequence++;
    }
    assert_int_equal(
        gdncp_layout_find(layout, sequence, token - cu_seqlens[sequence], rank_p, index_p),
        GDNCP_OK);
}

static index_map_t map_cp2hp(const head_case_t *head_case)
{
    const int64_t tokens = gdncp_layout_num_tokens(head_case->layout);
    int64_t *const channels = test_alloc(head_case->row_channels, sizeof *channels);
    index_map_t map = {.num_ranks = head_case->num_ranks};

    for (int rank = 0; rank < map.num_ranks; rank++) {
        const int64_t count = channels_of(head_case, rank, channels);

        map_start_rank(&map, rank,
                       gdncp_layout_rank_tokens(head_case->layout, rank) * head_case->row_channels,
                       tokens * count);
        for (int64_t i = 0; i < tokens * count; i++) {
            int64_t index;

            find_token(head_case->layout, i / count, &map.from_rank[rank][i], &index);
            map.from_index[rank][i] = index * head_case->row_channels + channels[i % count];
        }
    }
    free(channels);
    return map;
}

static index_map_t map_hp2cp(const head_case_t *head_case)
{
    const int64_t tokens = gdncp_layout_num_tokens(head_case->layout);
    int64_t *const channels = test_alloc(head_case->row_channels, sizeof *channels);
    int64_t *local_channels[MAX_RANKS];
    int64_t counts[MAX_RANKS];
    index_map_t map = {.num_ranks = head_case->num_ranks};

    for (int rank = 0; rank < map.num_ranks; rank++) {
        local_channels[rank] = test_alloc(head_case->row_channels, sizeof **local_channels);
        counts[rank] = channels_of(head_case, rank, channels);
        invert_channels(head_case, channels, counts[rank], local_channels[rank]);
    }
    for (int rank = 0; rank < map.num_ranks; rank++) {
        const int64_t out_elements =
            gdncp_layout_rank_tokens(head_case->layout, rank) * head_case->row_channels;
        int64_t *const positions =
            test_alloc(gdncp_layout_rank_tokens(head_case->layout, rank), sizeof *positions);

        assert_int_equal(gdncp_layout_rank_positions(head_case->layout, rank, positions), GDNCP_OK);
        map_start_rank(&map, rank, tokens * counts[rank], out_elements);
        for (int64_t i = 0; i < out_elements; i++) {
            const int64_t channel = i % head_case->row_channels;

            for (int holder = map.num_ranks - 1; holder >= 0; holder--) {
                if (local_channels[holder][channel] >= 0) {
                    map.from_rank[rank][i] = holder;
                    map.from_index[rank][i] =
                        positions[i / head_case->row_channels] * counts[holder] +
                        local_channels[holder][channel];
                }
            }
        }
        free(positions);
    }
    for (int rank = 0; rank < map.num_ranks; rank++) {
        free(local_channels[rank]);
    }
    free(channels);
    return map;
}

static void check_cases(const char *name, uint64_t seed, bool to_heads)
{
    test_random_t random = test_random_start(name, seed);

    for (int c = 0; c < NUM_CASES; c++) {
        const head_case_t head_case = random_case(&random);
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
