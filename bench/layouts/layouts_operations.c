/* What is timed, and what must be true of it. */
#include <stdlib.h>
#include <string.h>

#include "layouts_bench.h"

enum { CHANNELS = 64, STRIPE = 64, HALO = 3, HEADS = 64, HEAD_ELEMENTS = 128 * 128 };

static gdncp_status_t make_dual(const layouts_pack_t *pack, layouts_made_t *made)
{
    return gdncp_layout_create(GDNCP_LAYOUT_DUAL_CHUNK_SWAP, pack->cu_seqlens, pack->num_sequences,
                               pack->num_ranks, &made->layout);
}

static gdncp_status_t make_contiguous(const layouts_pack_t *pack, layouts_made_t *made)
{
    return gdncp_layout_create(GDNCP_LAYOUT_CONTIGUOUS, pack->cu_seqlens, pack->num_sequences,
                               pack->num_ranks, &made->layout);
}

static gdncp_status_t make_striped(const layouts_pack_t *pack, layouts_made_t *made)
{
    return gdncp_layout_striped(GDNCP_LAYOUT_STRIPED, pack->cu_seqlens, pack->num_sequences,
                                pack->num_ranks, STRIPE, &made->layout);
}

static gdncp_status_t make_from_positions(const layouts_pack_t *pack, layouts_made_t *made)
{
    return gdncp_layout_from_positions(pack->cu_seqlens, pack->num_sequences, pack->num_ranks,
                                       pack->redo, pack->rank_tokens, &made->layout);
}

static bool has_all_tokens(const layouts_pack_t *pack, const layouts_made_t *made)
{
    int64_t tokens = 0;

    for (int rank = 0; rank < pack->num_ranks; rank++) {
        tokens += gdncp_layout_rank_tokens(made->layout, rank);
    }
    return tokens == pack->tokens;
}

static bool is_dual(const layouts_pack_t *pack, const layouts_made_t *made)
{
    return gdncp_layout_hash(made->layout) == gdncp_layout_hash(pack->layout);
}

static gdncp_status_t write_rank_positions(const layouts_pack_t *pack, layouts_made_t *made)
{
    (void)made;
    return gdncp_layout_rank_positions(pack->layout, 0, pack->map);
}

static gdncp_status_t write_partitioned(const layouts_pack_t *pack, layouts_made_t *made)
{
    (void)made;
    return gdncp_partitioned_indices(pack->cu_seqlens, pack->num_sequences, pack->num_ranks, 0,
                                     pack->map);
}

static int64_t rank_bytes(const layouts_pack_t *pack)
{
    return pack->rank_tokens[0] * (int64_t)sizeof *pack->map;
}

static bool is_of_first_rank(const layouts_pack_t *pack, const layouts_made_t *made)
{
    (void)made;
    return memcmp(pack->map, pack->redo, (size_t)rank_bytes(pack)) == 0;
}

static gdncp_status_t write_redo(const layouts_pack_t *pack, layouts_made_t *made)
{
    (void)made;
    return gdncp_layout_redo(pack->layout, pack->map);
}

static gdncp_status_t write_undo(const layouts_pack_t *pack, layouts_made_t *made)
{
    (void)made;
    return gdncp_layout_undo(pack->layout, pack->map);
}

static gdncp_status_t write_gathered(const layouts_pack_t *pack, layouts_made_t *made)
{
    (void)made;
    return gdncp_layout_gathered_index(pack->layout, pack->rank_tokens[0], pack->map);
}

static gdncp_status_t write_located(const layouts_pack_t *pack, layouts_made_t *made)
{
    (void)made;
    return gdncp_layout_locate(pack->layout, pack->map, pack->map_too);
}

static int64_t map_bytes(const layouts_pack_t *pack)
{
    return pack->tokens * (int64_t)sizeof *pack->map;
}

static int64_t two_map_bytes(const layouts_pack_t *pack)
{
    return 2 * map_bytes(pack);
}

static bool is_redo(const layouts_pack_t *pack, const layouts_made_t *made)
{
    (void)made;
    return memcmp(pack->map, pack->redo, (size_t)map_bytes(pack)) == 0;
}

static bool is_undo(const layouts_pack_t *pack, const layouts_made_t *made)
{
    (void)made;
    for (int64_t i = 0; i < pack->tokens; i++) {
        if (pack->map[pack->redo[i]] != i) {
            return false;
        }
    }
    return true;
}

/* All ranks of a pack hold as many tokens. */
static bool is_located(const layouts_pack_t *pack, const layouts_made_t *made)
{
    (void)made;
    for (int64_t i = 0; i < pack->tokens; i++) {
        const int64_t position = pack->redo[i];

        if (pack->map[position] * pack->rank_tokens[0] + pack->map_too[position] != i) {
            return false;
        }
    }
    return true;
}

static gdncp_status_t write_unpadded(const layouts_pack_t *pack, layouts_made_t *made)
{
    (void)made;
    return gdncp_unpad_indices(pack->mask, 1, pack->tokens, pack->tokens, pack->map);
}

static int64_t kept_tokens(const layouts_pack_t *pack)
{
    return pack->tokens - pack->tokens / 8;
}

static int64_t kept_bytes(const layouts_pack_t *pack)
{
    return kept_tokens(pack) * (int64_t)sizeof *pack->map;
}

static bool is_unpadded(const layouts_pack_t *pack, const layouts_made_t *made)
{
    (void)made;
    for (int64_t i = 0; i < kept_tokens(pack); i++) {
        if (pack->map[i] != i) {
            return false;
        }
    }
    return true;
}

static gdncp_status_t plan_relayout(const layouts_pack_t *pack, layouts_made_t *made)
{
    return gdncp_plan_relayout(pack->layout, pack->contiguous, 0, GDNCP_BF16, CHANNELS,
                               &made->plan);
}

static gdncp_status_t plan_conv_halo(const layouts_pack_t *pack, layouts_made_t *made)
{
    return gdncp_plan_conv_halo(pack->layout, 0, GDNCP_BF16, CHANNELS, CHANNELS, HALO, &made->plan);
}

static gdncp_status_t plan_cp2hp(const layouts_pack_t *pack, layouts_made_t *made)
{
    const gdncp_section_t section = {GDNCP_VALUE_HEADS, 1, 0};

    return gdncp_plan_cp2hp(pack->layout, 0, GDNCP_BF16, CHANNELS, CHANNELS, &section, 1, CHANNELS,
                            &made->plan);
}

static gdncp_status_t make_relay(const layouts_pack_t *pack, layouts_made_t *made)
{
    return gdncp_relay_schedule_create(pack->layout, 0, GDNCP_RELAY_OWNERS, HEADS, HEAD_ELEMENTS,
                                       HEAD_ELEMENTS, &made->relay);
}

static bool has_relay(const layouts_pack_t *pack, const layouts_made_t *made)
{
    int64_t segments = 0;

    gdncp_layout_rank_segments(pack->layout, 0, &segments);
    return made->relay->num_segments == segments;
}

static bool has_plan(const layouts_pack_t *pack, const layouts_made_t *made)
{
    return gdncp_plan_input_elements(made->plan) == pack->rank_tokens[0] * CHANNELS;
}

const layouts_operation_t layouts_operations[] = {
    {"dual_chunk_swap", make_dual, NULL, is_dual},
    {"contiguous", make_contiguous, NULL, has_all_tokens},
    {"striped by 64", make_striped, NULL, has_all_tokens},
    {"from_positions", make_from_positions, NULL, is_dual},
    {"rank_positions", write_rank_positions, rank_bytes, is_of_first_rank},
    {"partitioned", write_partitioned, rank_bytes, is_of_first_rank},
    {"redo", write_redo, map_bytes, is_redo},
    {"undo", write_undo, map_bytes, is_undo},
    {"gathered", write_gathered, map_bytes, is_undo},
    {"locate", write_located, two_map_bytes, is_located},
    {"unpad", write_unpadded, kept_bytes, is_unpadded},
    {"relayout plan", plan_relayout, NULL, has_plan},
    {"conv_halo plan", plan_conv_halo, NULL, has_plan},
    {"cp2hp plan", plan_cp2hp, NULL, has_plan},
    {"relay plans", make_relay, NULL, has_relay},
    {NULL, NULL, NULL, NULL},
};

void layouts_pack_free(layouts_pack_t *pack)
{
    gdncp_layout_destroy(pack->layout);
    gdncp_layout_destroy(pack->contiguous);
    free(pack->cu_seqlens);
    free(pack->redo);
    free(pack->rank_tokens);
    gdncp_memory_free(pack->map);
    gdncp_memory_free(pack->map_too);
    free(pack->mask);
}

static bool allocate(layouts_pack_t *pack)
{
    const size_t bytes = (size_t)map_bytes(pack);

    pack->cu_seqlens = calloc((size_t)pack->num_sequences + 1, sizeof *pack->cu_seqlens);
    pack->rank_tokens = calloc((size_t)pack->num_ranks, sizeof *pack->rank_tokens);
    pack->redo = malloc(bytes);
    pack->map = gdncp_memory_alloc(bytes);
    pack->map_too = gdncp_memory_alloc(bytes);
    pack->mask = calloc((size_t)pack->tokens, 1);
    return pack->cu_seqlens != NULL && pack->rank_tokens != NULL && pack->redo != NULL &&
           pack->map != NULL && pack->map_too != NULL && pack->mask != NULL;
}

gdncp_status_t layouts_pack_make(int64_t tokens, int num_ranks, int64_t num_sequences,
                                 layouts_pack_t *pack)
{
    gdncp_status_t status;

    *pack =
        (layouts_pack_t){.tokens = tokens, .num_ranks = num_ranks, .num_sequences = num_sequences};
    if (!allocate(pack)) {
        return GDNCP_ERR_OUT_OF_MEMORY;
    }
    for (int64_t i = 0; i < num_sequences; i++) {
        pack->cu_seqlens[i + 1] = tokens / num_sequences * (i + 1);
    }
    memset(pack->mask, 1, (size_t)kept_tokens(pack));
    memset(pack->map, 0xa5, (size_t)map_bytes(pack));
    memset(pack->map_too, 0xa5, (size_t)map_bytes(pack));
    status = gdncp_layout_create(GDNCP_LAYOUT_DUAL_CHUNK_SWAP, pack->cu_seqlens, num_sequences,
                                 num_ranks, &pack->layout);
    if (status == GDNCP_OK) {
        status = gdncp_layout_create(GDNCP_LAYOUT_CONTIGUOUS_FLAT, pack->cu_seqlens, num_sequences,
                                     num_ranks, &pack->contiguous);
    }
    if (status == GDNCP_OK) {
        status = gdncp_layout_redo(pack->layout, pack->redo);
    }
    for (int rank = 0; rank < num_ranks && status == GDNCP_OK; rank++) {
        pack->rank_tokens[rank] = gdncp_layout_rank_tokens(pack->layout, rank);
    }
    return status;
}
