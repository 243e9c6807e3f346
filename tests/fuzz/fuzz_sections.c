/* Sharding: whatever grid and sections are given, they are refused with a sentence, or every row is
 * held by someone, comes back to where it was, and is saved once. */
#include "fuzz_input.h"

#include "gdncp/checkpoint.h"
#include "gdncp/pattern.h"

enum { MAX_RANKS = 12, MAX_ROWS = 4096, MAX_FUZZ_SECTIONS = 4 };

typedef struct split {
    gdncp_section_t sections[MAX_FUZZ_SECTIONS];
    gdncp_parameter_split_t split;
} split_t;

/* Sections mostly follow each other and make up the rows, so that many splits are accepted. */
static void read_split(fuzz_input_t *input, split_t *made)
{
    const int num_sections = fuzz_int(input, 0, MAX_FUZZ_SECTIONS);
    const int64_t num_key_heads = fuzz_number(input);
    const int64_t ratio = fuzz_int(input, -1, 8);
    int64_t rows = 0;

    *made = (split_t){.split = {.sections = num_sections > 0 ? made->sections : NULL,
                                .num_sections = num_sections,
                                .num_key_heads = num_key_heads}};
    if (__builtin_mul_overflow(num_key_heads, ratio, &made->split.num_value_heads)) {
        made->split.num_value_heads = num_key_heads;
    }
    for (int i = 0; i < num_sections; i++) {
        gdncp_section_t *const section = &made->sections[i];
        int64_t size;

        section->kind = (gdncp_head_kind_t)(fuzz_byte(input) % 9);
        section->kind = section->kind == 8 ? section->kind : section->kind % 2;
        section->head_dim = fuzz_number(input);
        section->offset = fuzz_byte(input) % 32 == 31 ? fuzz_number(input) : rows;
        if (__builtin_mul_overflow(section->kind == GDNCP_KEY_HEADS ? num_key_heads
                                                                    : made->split.num_value_heads,
                                   section->head_dim, &size) ||
            __builtin_add_overflow(rows, size, &rows)) {
            rows = INT64_MAX;
        }
    }
    made->split.rows = num_sections == 0 || fuzz_byte(input) % 32 == 31 ? fuzz_number(input) : rows;
}

static void check_place(const gdncp_parameter_split_t *split, const gdncp_place_t *place,
                        const int64_t *numbers, int64_t *back)
{
    gdncp_held_rows_t blocks[MAX_FUZZ_SECTIONS];
    int64_t rows = -1;
    int64_t next = 0;

    FUZZ_CHECK(gdncp_split_rows(split, place, &rows) == GDNCP_OK && rows >= 0);
    FUZZ_CHECK(gdncp_split_blocks(split, GDNCP_EXTENT_WHOLE, place, blocks) == GDNCP_OK);

    int64_t *const mine = fuzz_numbers(rows);

    FUZZ_CHECK(gdncp_split_gather(split, GDNCP_EXTENT_WHOLE, place, 1, sizeof *mine, numbers,
                                  mine) == GDNCP_OK);
    for (int b = 0; b == 0 || b < split->num_sections; b++) {
        FUZZ_CHECK(blocks[b].local_row == next && blocks[b].rows >= 0);
        for (int64_t i = 0; i < blocks[b].rows; i++) {
            FUZZ_CHECK(mine[next + i] == blocks[b].full_row + i);
        }
        next += blocks[b].rows;
    }
    FUZZ_CHECK(next == rows);
    FUZZ_CHECK(gdncp_split_scatter(split, GDNCP_EXTENT_WHOLE, place, 1, sizeof *mine, mine, back) ==
               GDNCP_OK);
    free(mine);
}

static void check_grid(const gdncp_parameter_split_t *split, int tp_size, int cp_size)
{
    int64_t *const numbers = fuzz_numbers(split->rows);
    int64_t *const back = fuzz_numbers(split->rows);

    for (int64_t i = 0; i < split->rows; i++) {
        numbers[i] = i;
        back[i] = -1;
    }
    for (int rank = 0; rank < tp_size * cp_size; rank++) {
        gdncp_place_t place;

        FUZZ_CHECK(gdncp_place_of_rank(tp_size, cp_size, rank, &place) == GDNCP_OK);
        check_place(split, &place, numbers, back);
    }
    FUZZ_CHECK(memcmp(back, numbers, (size_t)split->rows * sizeof *back) == 0);
    free(numbers);
    free(back);
}

static void shard(fuzz_input_t *input)
{
    const int tp_size = fuzz_int(input, -1, MAX_RANKS);
    const int cp_size = fuzz_int(input, -1, MAX_RANKS);
    const gdncp_place_t first = {.tp_size = tp_size, .cp_size = cp_size};
    split_t made;
    int64_t rows = -1;

    read_split(input, &made);
    if (gdncp_split_rows(&made.split, &first, &rows) != GDNCP_OK) {
        FUZZ_CHECK(rows == -1 && strlen(gdncp_last_error()) > 0);
    } else if (made.split.rows <= MAX_ROWS) {
        check_grid(&made.split, tp_size, cp_size);
    }
}

static int64_t num_elements(const gdncp_shard_t *piece)
{
    int64_t elements = 1;

    for (int d = 0; d < piece->ndim; d++) {
        FUZZ_CHECK(piece->shape[d] > 0 && piece->global_offset[d] >= 0);
        FUZZ_CHECK(piece->shape[d] <= piece->global_shape[d] - piece->global_offset[d]);
        elements *= piece->shape[d];
    }
    return elements;
}

/* First replicas have as many elements as the layer. */
static void save(fuzz_input_t *input)
{
    const int tp_size = fuzz_int(input, 1, MAX_RANKS);
    const int64_t key_heads = fuzz_number(input);
    const int64_t ratio = fuzz_int(input, 0, 8);
    gdncp_layer_shape_t shape = {fuzz_number(input), key_heads,          key_heads % 256 * ratio,
                                 fuzz_number(input), fuzz_number(input), fuzz_number(input)};
    gdncp_shard_t pieces[GDNCP_MAX_SHARDS];
    int64_t elements = 0;
    int64_t expected = 0;

    if (gdncp_layer_shape_check(&shape) != GDNCP_OK) {
        return;
    }
    for (int tp_rank = 0; tp_rank < tp_size; tp_rank++) {
        const gdncp_place_t place = {.tp_size = tp_size, .tp_rank = tp_rank, .cp_size = 1};
        int64_t count = -1;

        FUZZ_CHECK(gdncp_checkpoint_shards(&shape, &place, pieces, &count) == GDNCP_OK);
        FUZZ_CHECK(count >= 1 && count <= GDNCP_MAX_SHARDS);
        for (int64_t i = 0; i < count; i++) {
            elements += pieces[i].tp_replica == 0 ? num_elements(&pieces[i]) : 0;
        }
    }
    for (int p = 0; p < GDNCP_NUM_PARAMETERS; p++) {
        int64_t dims[2] = {0, 1};
        int ndim;

        FUZZ_CHECK(gdncp_parameter_shape(&shape, (gdncp_parameter_t)p, &ndim, dims) == GDNCP_OK);
        expected += dims[0] * dims[1];
    }
    FUZZ_CHECK(elements == expected);
}

/* Stages that are accepted have all layers in order. */
static void deal_out(fuzz_input_t *input)
{
    const gdncp_pipeline_t pipeline = {
        .num_layers = fuzz_number(input),
        .num_ranks = fuzz_int(input, -1, MAX_RANKS),
        .num_virtual_stages = fuzz_int(input, -1, 6),
        .first_rank_layers = fuzz_byte(input) % 2 == 0 ? 0 : fuzz_number(input),
        .last_rank_layers = fuzz_byte(input) % 2 == 0 ? 0 : fuzz_number(input),
        .embedding_is_layer = fuzz_byte(input) % 2 == 1,
        .loss_is_layer = fuzz_byte(input) % 2 == 1,
    };
    gdncp_layer_range_t range = {-1, -1};
    int64_t next = 0;

    if (gdncp_pipeline_layers(&pipeline, 0, 0, &range) != GDNCP_OK) {
        FUZZ_CHECK(range.first == -1 && strlen(gdncp_last_error()) > 0);
        return;
    }
    for (int stage = 0; stage < pipeline.num_virtual_stages; stage++) {
        for (int rank = 0; rank < pipeline.num_ranks; rank++) {
            FUZZ_CHECK(gdncp_pipeline_layers(&pipeline, rank, stage, &range) == GDNCP_OK);
            FUZZ_CHECK(range.first == next && range.count >= 0);
            next += range.count;
        }
    }
    FUZZ_CHECK(next == pipeline.num_layers);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input_t input = {data, data + size};

    switch (fuzz_byte(&input) % 3) {
    case 0:
        shard(&input);
        break;
    case 1:
        save(&input);
        break;
    default:
        deal_out(&input);
        break;
    }
    return 0;
}
