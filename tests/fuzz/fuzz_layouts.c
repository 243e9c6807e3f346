/* Constructors of layouts: whatever they are given, they refuse it with a sentence, or make a
 * layout whose maps agree with each other and with what was given. */
#include "fuzz_input.h"

#include "gdncp/index_maps.h"
#include "gdncp/layout_from.h"
#include "gdncp/layout_inline.h"

enum { MAX_RANKS = 64, MAX_SEQUENCES = 12, MAX_MAPPED_TOKENS = 4096 };

typedef struct pack {
    int64_t *cu_seqlens; /* [num_sequences + 1], at least 1 */
    int64_t num_sequences;
    int num_ranks;
} pack_t;

/* Now and then a number of sequences or of ranks that is none. Offsets ascend where the input does
 * not say otherwise. */
static pack_t read_pack(fuzz_input_t *input)
{
    pack_t pack = {.num_ranks = fuzz_int(input, -1, MAX_RANKS),
                   .num_sequences = fuzz_int(input, -1, MAX_SEQUENCES)};
    const int64_t count = pack.num_sequences < 0 ? 1 : pack.num_sequences + 1;
    const bool ascends = fuzz_byte(input) % 4 != 0;

    pack.cu_seqlens = fuzz_numbers(count);
    pack.cu_seqlens[0] = ascends ? 0 : fuzz_number(input);
    for (int64_t i = 1; i < count; i++) {
        const int64_t number = fuzz_number(input);
        const int64_t before = pack.cu_seqlens[i - 1];

        pack.cu_seqlens[i] = ascends && before >= 0 && number >= 0 && number <= INT64_MAX - before
                                 ? before + number
                                 : number;
    }
    return pack;
}

/* Every token is in one place, which all maps name. */
static void check_maps(const gdncp_layout_t *layout)
{
    const int64_t tokens = gdncp_layout_num_tokens(layout);
    const int num_ranks = gdncp_layout_num_ranks(layout);
    int64_t *const redo = fuzz_numbers(tokens);
    int64_t *const undo = fuzz_numbers(tokens);
    int64_t *const ranks = fuzz_numbers(tokens);
    int64_t *const indices = fuzz_numbers(tokens);
    int64_t *const offsets = fuzz_numbers(num_ranks + 1);

    FUZZ_CHECK(gdncp_layout_redo(layout, redo) == GDNCP_OK);
    FUZZ_CHECK(gdncp_layout_undo(layout, undo) == GDNCP_OK);
    FUZZ_CHECK(gdncp_layout_locate(layout, ranks, indices) == GDNCP_OK);
    FUZZ_CHECK(gdncp_layout_rank_offsets(layout, offsets) == GDNCP_OK);
    FUZZ_CHECK(offsets[num_ranks] == tokens);
    for (int64_t t = 0; t < tokens; t++) {
        FUZZ_CHECK(undo[t] >= 0 && undo[t] < tokens && redo[undo[t]] == t);
        FUZZ_CHECK(ranks[t] >= 0 && ranks[t] < num_ranks);
        FUZZ_CHECK(offsets[ranks[t]] + indices[t] == undo[t]);
        FUZZ_CHECK(undo[t] < offsets[ranks[t] + 1]);
    }
    free(redo);
    free(undo);
    free(ranks);
    free(indices);
    free(offsets);
}

/* What was computed for single tokens is what the layout has. */
static void check_cut(const gdncp_layout_t *layout, const pack_t *pack, int64_t stripe)
{
    const gdncp_cut_t cut = gdncp_cut_of(gdncp_layout_kind(layout), pack->cu_seqlens,
                                         pack->num_sequences, pack->num_ranks, stripe);
    const gdncp_segment_t *const segments = gdncp_layout_segments(layout);

    for (int64_t s = 0; s < gdncp_layout_num_segments(layout); s++) {
        const int64_t first = pack->cu_seqlens[segments[s].sequence] + segments[s].begin;
        const int64_t steps[] = {0, segments[s].length / 2, segments[s].length - 1};

        for (int i = 0; i < 3; i++) {
            int rank = -1;
            int64_t index = -1;

            gdncp_cut_locate(&cut, first + steps[i], &rank, &index);
            FUZZ_CHECK(rank == segments[s].rank);
            FUZZ_CHECK(index == segments[s].local_offset + steps[i]);
            FUZZ_CHECK(gdncp_cut_position(&cut, rank, index) == first + steps[i]);
        }
    }
    for (int rank = 0; rank < pack->num_ranks; rank++) {
        FUZZ_CHECK(gdncp_cut_rank_tokens(&cut, rank) == gdncp_layout_rank_tokens(layout, rank));
    }
}

/* Chains tile the sequences, and ranks' segments their buffers. */
static void check_segments(const gdncp_layout_t *layout)
{
    const gdncp_segment_t *const segments = gdncp_layout_segments(layout);
    const int64_t *const cu_seqlens = gdncp_layout_cu_seqlens(layout);
    int64_t in_chains = 0;

    for (int64_t i = 0; i < gdncp_layout_num_sequences(layout); i++) {
        int64_t count = 0;
        const int64_t *const chain = gdncp_layout_sequence_chain(layout, i, &count);
        int64_t end = 0;

        for (int64_t c = 0; c < count; c++) {
            FUZZ_CHECK(segments[chain[c]].sequence == i && segments[chain[c]].begin == end);
            FUZZ_CHECK(segments[chain[c]].length > 0);
            end += segments[chain[c]].length;
        }
        FUZZ_CHECK(end == cu_seqlens[i + 1] - cu_seqlens[i]);
        in_chains += count;
    }
    FUZZ_CHECK(in_chains == gdncp_layout_num_segments(layout));
    for (int rank = 0; rank < gdncp_layout_num_ranks(layout); rank++) {
        int64_t count = 0;
        const gdncp_segment_t *const mine = gdncp_layout_rank_segments(layout, rank, &count);
        int64_t end = 0;

        for (int64_t s = 0; s < count; s++) {
            FUZZ_CHECK(mine[s].rank == rank && mine[s].local_offset == end);
            end += mine[s].length;
        }
    }
}

static bool check_made(gdncp_status_t status, const gdncp_layout_t *layout)
{
    if (status != GDNCP_OK) {
        FUZZ_CHECK(layout == NULL && strlen(gdncp_last_error()) > 0);
        return false;
    }
    check_segments(layout);
    if (gdncp_layout_num_tokens(layout) <= MAX_MAPPED_TOKENS) {
        check_maps(layout);
    }
    return true;
}

/* Tokens that a striped layout would need segments for; offsets may be anything. */
static bool has_few_tokens(const pack_t *pack)
{
    for (int64_t i = 0; i <= pack->num_sequences; i++) {
        if (pack->cu_seqlens[i] > MAX_MAPPED_TOKENS) {
            return false;
        }
    }
    return true;
}

static void make_named(fuzz_input_t *input, const pack_t *pack)
{
    const gdncp_layout_kind_t kind = (gdncp_layout_kind_t)fuzz_int(input, -1, 7);
    const bool has_stripes = kind == GDNCP_LAYOUT_STRIPED || kind == GDNCP_LAYOUT_STRIPED_FLAT;
    const int64_t stripe = has_stripes ? fuzz_number(input) : 1;
    gdncp_layout_t *layout = NULL;

    if (has_stripes && !has_few_tokens(pack)) {
        return;
    }
    const gdncp_status_t status =
        has_stripes ? gdncp_layout_striped(kind, pack->cu_seqlens, pack->num_sequences,
                                           pack->num_ranks, stripe, &layout)
                    : gdncp_layout_create(kind, pack->cu_seqlens, pack->num_sequences,
                                          pack->num_ranks, &layout);

    if (check_made(status, layout)) {
        check_cut(layout, pack, stripe);
        gdncp_layout_destroy(layout);
    }
}

static void make_from_lengths(fuzz_input_t *input, const pack_t *pack)
{
    const bool flat = fuzz_byte(input) % 2 == 0;
    const int64_t num_ranges = flat ? 1 : pack->num_sequences;
    const int64_t count = num_ranges > 0 && pack->num_ranks > 0 ? num_ranges * pack->num_ranks : 1;
    int64_t *const lengths = fuzz_numbers(count);
    gdncp_layout_t *layout = NULL;

    for (int64_t i = 0; i < count; i++) {
        lengths[i] = fuzz_number(input);
    }
    const gdncp_status_t status = gdncp_layout_from_lengths(
        flat ? GDNCP_LAYOUT_CONTIGUOUS_FLAT : GDNCP_LAYOUT_CONTIGUOUS, pack->cu_seqlens,
        pack->num_sequences, pack->num_ranks, lengths, &layout);

    if (check_made(status, layout)) {
        gdncp_layout_destroy(layout);
    }
    free(lengths);
}

/* The lists of all ranks of a row are as long as rank_tokens say. Positions ascend where the input
 * does not say otherwise. */
static void make_from_rows(fuzz_input_t *input, const pack_t *pack)
{
    const int64_t batch = fuzz_int(input, 0, 4);
    const int64_t position_rows = fuzz_byte(input) % 8 != 0 ? batch : 1;
    int64_t rank_tokens[MAX_RANKS];
    int64_t length = 0;

    for (int rank = 0; rank < pack->num_ranks; rank++) {
        rank_tokens[rank] = fuzz_int(input, -1, 40);
        length += rank_tokens[rank] > 0 ? rank_tokens[rank] : 0;
    }
    const int64_t count = length * (position_rows > 0 ? position_rows : 1);
    int64_t *const positions = fuzz_numbers(count > 0 ? count : 1);
    gdncp_layout_t *layout = NULL;

    for (int64_t i = 0; i < count; i++) {
        const bool goes_on = i % length > 0 && fuzz_byte(input) % 4 != 0;

        positions[i] = goes_on ? (int64_t)((uint64_t)positions[i - 1] + 1) : fuzz_number(input);
    }
    const gdncp_status_t status =
        gdncp_layout_from_rows(pack->cu_seqlens, pack->num_sequences, pack->num_ranks, batch,
                               positions, position_rows, rank_tokens, &layout);

    if (check_made(status, layout)) {
        int64_t *const redo = fuzz_numbers(gdncp_layout_num_tokens(layout));

        FUZZ_CHECK(gdncp_layout_redo(layout, redo) == GDNCP_OK);
        FUZZ_CHECK(batch > 1 || memcmp(redo, positions, (size_t)length * sizeof *redo) == 0);
        free(redo);
        gdncp_layout_destroy(layout);
    }
    free(positions);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input_t input = {.next = data, .end = data + size};
    const int constructor = fuzz_int(&input, 0, 2);
    const pack_t pack = read_pack(&input);

    if (constructor == 0) {
        make_named(&input, &pack);
    } else if (constructor == 1) {
        make_from_lengths(&input, &pack);
    } else {
        make_from_rows(&input, &pack);
    }
    free(pack.cu_seqlens);
    return 0;
}
