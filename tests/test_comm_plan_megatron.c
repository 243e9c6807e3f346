/*
 * cp2hp and hp2cp against what Megatron-LM's tensor_a2a_cp2hp() and tensor_a2a_hp2cp() are defined
 * to do, for tensors [tokens, batch, channels] of packs under DualChunkSwap:
 *
 * - each split section is sent by itself: rank d gets from every rank s part d of N of its
 * channels, of all its tokens; what came is put one behind the other, by rank;
 * - sections are joined again in their order;
 * - undoing the load balancing brings chunks 0, 1, …, 2N-1 of every sequence into that order;
 * redoing it is the way back.
 *
 * The oracle follows these steps with indices, and knows nothing of layouts or heads.
 */
#include "test_comm_plan_check.h"

#include "gdncp/heads.h"

enum { NUM_SECTIONS = 6, NUM_CHANNELS = 72, NUM_HEADS = 4, BATCH = 3, MAX_TOKENS = 128 };

static const int64_t split_sections[NUM_SECTIONS] = {8, 8, 4, 16, 32, 4};

typedef struct megatron_case {
    int num_ranks;
    int64_t num_sequences;
    int64_t cu_seqlens[5];
} megatron_case_t;

static const megatron_case_t cases[] = {
    {2, 2, {0, 32, 64}}, {2, 4, {0, 32, 64, 96, 128}}, {2, 3, {0, 16, 48, 80}},
    {4, 2, {0, 32, 64}}, {4, 4, {0, 32, 64, 96, 128}}, {4, 3, {0, 16, 48, 80}},
    {4, 1, {0, 64}},
};

/* by_rank [tokens]: the token of the pack at each place when all ranks' tokens lie one rank behind
 * the other. */
static void balance(const megatron_case_t *test, int64_t *by_rank)
{
    int64_t count = 0;

    for (int rank = 0; rank < test->num_ranks; rank++) {
        for (int64_t s = 0; s < test->num_sequences; s++) {
            const int64_t length = test->cu_seqlens[s + 1] - test->cu_seqlens[s];
            const int64_t chunk = length / (2 * test->num_ranks);

            for (int64_t i = 0; i < 2 * chunk; i++) {
                const int64_t part = i < chunk ? rank : 2 * test->num_ranks - 1 - rank;

                by_rank[count++] = test->cu_seqlens[s] + part * chunk + i % chunk;
            }
        }
    }
}

/* Which (rank, element of [local tokens, BATCH, NUM_CHANNELS]) is element i of what a rank has
 * after cp2hp, of [tokens, BATCH, NUM_CHANNELS/N]. */
static void trace_element(const megatron_case_t *test, bool undo, int rank, int64_t i,
                          int *from_rank_p, int64_t *from_index_p)
{
    const int64_t tokens = test->cu_seqlens[test->num_sequences];
    const int64_t local_tokens = tokens / test->num_ranks;
    const int64_t width = NUM_CHANNELS / test->num_ranks;
    const int64_t b = i / width % BATCH;
    int64_t column = i % width; /* in the joined sections of this rank */
    int64_t place = i / width / BATCH;
    int64_t offset = 0; /* of the section in a row of all channels */
    int64_t by_rank[MAX_TOKENS];
    int section = 0;

    if (undo) {
        const int64_t token = place;

        balance(test, by_rank);
        for (place = 0; by_rank[place] != token; place++) {
        }
    }
    while (column >= split_sections[section] / test->num_ranks) {
        column -= split_sections[section] / test->num_ranks;
        offset += split_sections[section++];
    }
    *from_rank_p = (int)(place / local_tokens);
    *from_index_p = (place % local_tokens * BATCH + b) * NUM_CHANNELS + offset +
                    rank * (split_sections[section] / test->num_ranks) + column;
}

static index_map_t map_cp2hp(const megatron_case_t *test, bool undo)
{
    const int64_t elements =
        test->cu_seqlens[test->num_sequences] / test->num_ranks * BATCH * NUM_CHANNELS;
    index_map_t map = {.num_ranks = test->num_ranks};

    for (int rank = 0; rank < test->num_ranks; rank++) {
        map_start_rank(&map, rank, elements, elements);
        for (int64_t i = 0; i < elements; i++) {
            trace_element(test, undo, rank, i, &map.from_rank[rank][i], &map.from_index[rank][i]);
        }
    }
    return map;
}

/* Every element is somewhere once, so that the way back is the inverse. */
static index_map_t invert(const index_map_t *map)
{
    index_map_t inverse = {.num_ranks = map->num_ranks};

    for (int rank = 0; rank < map->num_ranks; rank++) {
        map_start_rank(&inverse, rank, map->out_elements[rank], map->in_elements[rank]);
    }
    for (int rank = 0; rank < map->num_ranks; rank++) {
        for (int64_t i = 0; i < map->out_elements[rank]; i++) {
            inverse.from_rank[map->from_rank[rank][i]][map->from_index[rank][i]] = rank;
            inverse.from_index[map->from_rank[rank][i]][map->from_index[rank][i]] = i;
        }
    }
    return inverse;
}

static gdncp_head_split_t make_split(gdncp_section_t *sections, bool undo)
{
    int64_t offset = 0;

    for (int s = 0; s < NUM_SECTIONS; s++) {
        sections[s] = (gdncp_section_t){GDNCP_VALUE_HEADS, split_sections[s] / NUM_HEADS, offset};
        offset += split_sections[s];
    }
    return (gdncp_head_split_t){
        NUM_HEADS,    NUM_HEADS,    sections,
        NUM_SECTIONS, NUM_CHANNELS, undo ? GDNCP_TOKENS_IN_PACK_ORDER : GDNCP_TOKENS_BY_RANK};
}

static void check_case(test_random_t *random, const megatron_case_t *test, gdncp_dtype_t dtype,
                       bool undo)
{
    const gdncp_rows_t mine = gdncp_rows_token_major(BATCH, NUM_CHANNELS);
    const gdncp_rows_t all = gdncp_rows_token_major(BATCH, NUM_CHANNELS / test->num_ranks);
    gdncp_section_t sections[NUM_SECTIONS];
    const gdncp_head_split_t split = make_split(sections, undo);
    index_map_t map = map_cp2hp(test, undo);
    index_map_t back_map = invert(&map);
    gdncp_layout_t *layout = NULL;
    gdncp_plan_t *plans[MAX_RANKS];
    gdncp_plan_t *back[MAX_RANKS];

    assert_int_equal(gdncp_layout_create(GDNCP_LAYOUT_DUAL_CHUNK_SWAP, test->cu_seqlens,
                                         test->num_sequences, test->num_ranks, &layout),
                     GDNCP_OK);
    for (int rank = 0; rank < test->num_ranks; rank++) {
        assert_int_equal(
            gdncp_plan_cp2hp_rows(layout, rank, dtype, &split, &mine, &all, &plans[rank]),
            GDNCP_OK);
        assert_int_equal(
            gdncp_plan_hp2cp_rows(layout, rank, dtype, &split, &all, &mine, &back[rank]), GDNCP_OK);
    }
    check_plans(random, plans, &map);
    check_plans(random, back, &back_map);
    gdncp_layout_destroy(layout);
}

static void check_all(const char *name, bool undo)
{
    static const gdncp_dtype_t dtypes[] = {GDNCP_BF16, GDNCP_F32, GDNCP_F64, GDNCP_U8};
    test_random_t random = test_random_start(name, 23);

    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        for (size_t d = 0; d < sizeof dtypes / sizeof dtypes[0]; d++) {
            check_case(&random, &cases[c], dtypes[d], undo);
        }
    }
}

static void undone_load_balancing_gives_pack_order(void **state)
{
    (void)state;
    check_all("megatron, undone", true);
}

static void kept_load_balancing_leaves_tokens_by_rank(void **state)
{
    (void)state;
    check_all("megatron, kept", false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(undone_load_balancing_gives_pack_order),
        cmocka_unit_test(kept_load_balancing_leaves_tokens_by_rank),
    };

    return cmocka_run_group_tests_name("plans as Megatron-LM's", tests, NULL, NULL);
}
