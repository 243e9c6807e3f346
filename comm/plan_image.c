/* A plan's blocks as lists of tiles in a device's memory. */
#include "plan_image.h"

#include <assert.h>
#include <string.h>

#include "error.h"
#include "gdncp/device.h"
#include "gdncp/memory.h"

typedef struct move_list {
    gdncp_move_tile_t *tiles; /* NULL: only count */
    int64_t count;
} move_list_t;

typedef struct sum_list {
    gdncp_sum_tile_t *tiles; /* NULL: only count */
    int64_t count;
} sum_list_t;

/* In the host's memory, or in the device's. */
typedef struct lists {
    move_list_t clear; /* from zeros */
    move_list_t pack;
    move_list_t local;
    move_list_t unpack;
    sum_list_t sums;
    gdncp_sum_term_t *terms; /* as plan->terms */
    int64_t num_terms;
} lists_t;

struct gdncp_plan_image {
    const gdncp_plan_t *plan;
    const gdncp_plan_kernels_t *kernels;
    lists_t lists;
    void *memory; /* what they point into; begins with a tile of zeros */
};

/* One block's rows in two buffers, in bytes. */
typedef struct row_move {
    int64_t from;
    int64_t to;
    int64_t from_stride;
    int64_t to_stride;
    int64_t rows;
    int64_t row_bytes;
} row_move_t;

static int64_t min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* The largest power of two, at most 16, that divides both. */
static int32_t common_alignment(int64_t a, int64_t b)
{
    const int64_t bits = a | b | 16;

    return (int32_t)(bits & -bits);
}

static void push_tile(move_list_t *list, const row_move_t *move, int64_t row, int64_t rows,
                      int64_t column, int64_t row_bytes)
{
    gdncp_move_tile_t tile = {.from = move->from + row * move->from_stride + column,
                              .to = move->to + row * move->to_stride + column,
                              .from_stride = move->from_stride,
                              .to_stride = move->to_stride,
                              .rows = (int32_t)rows,
                              .row_bytes = (int32_t)row_bytes};

    tile.alignment = common_alignment(tile.from | tile.to, row_bytes);
    if (rows > 1) {
        tile.alignment = common_alignment(tile.alignment, tile.from_stride | tile.to_stride);
    }
    if (list->tiles != NULL) {
        list->tiles[list->count] = tile;
    }
    list->count++;
}

/* Cut into tiles: of whole rows, or, where a row is longer than a tile, of parts of one row. */
static void push_move(move_list_t *list, row_move_t move)
{
    if (move.from_stride == move.row_bytes && move.to_stride == move.row_bytes) {
        move.row_bytes *= move.rows;
        move.rows = 1;
    }
    const int64_t columns = min_i64(move.row_bytes, GDNCP_TILE_BYTES);
    const int64_t rows = GDNCP_TILE_BYTES / columns;

    for (int64_t row = 0; row < move.rows; row += rows) {
        for (int64_t column = 0; column < move.row_bytes; column += columns) {
            push_tile(list, &move, row, min_i64(rows, move.rows - row), column,
                      min_i64(columns, move.row_bytes - column));
        }
    }
}

/* The blocks of a message that lies at `place` of the staging buffer: packed, or unpacked but for
 * those that belong to sums. */
static void list_message(const gdncp_block_list_t *blocks, int64_t place, int64_t size,
                         bool is_send, move_list_t *list)
{
    for (int64_t first = 0; first < blocks->count; first += blocks->blocks[first].num_joined) {
        const gdncp_block_t *const group = &blocks->blocks[first];
        int64_t group_row = 0; /* elements of one row of the whole group */
        int64_t column = 0;

        for (int64_t b = 0; b < group->num_joined; b++) {
            group_row += group[b].row_elements;
        }
        for (int64_t b = 0; b < group->num_joined; b++) {
            const int64_t in_user = group[b].offset * size;
            const int64_t in_message = place + column * size;
            row_move_t move = {.from = is_send ? in_user : in_message,
                               .to = is_send ? in_message : in_user,
                               .from_stride = (is_send ? group[b].stride : group_row) * size,
                               .to_stride = (is_send ? group_row : group[b].stride) * size,
                               .rows = group[b].rows,
                               .row_bytes = group[b].row_elements * size};

            if (is_send || !group[b].shared) {
                push_move(list, move);
            }
            column += group[b].row_elements;
        }
        place += group->rows * group_row * size;
    }
}

static void list_local(const gdncp_plan_t *plan, int64_t size, move_list_t *list)
{
    const gdncp_block_list_t *const sources = &plan->sends[plan->rank];
    const gdncp_block_list_t *const targets = &plan->recvs[plan->rank];

    for (int64_t b = 0; b < targets->count; b++) {
        const gdncp_block_t *const from = &sources->blocks[b];
        const gdncp_block_t *const to = &targets->blocks[b];

        if (!to->shared) {
            push_move(list, (row_move_t){.from = from->offset * size,
                                         .to = to->offset * size,
                                         .from_stride = from->stride * size,
                                         .to_stride = to->stride * size,
                                         .rows = to->rows,
                                         .row_bytes = to->row_elements * size});
        }
    }
}

/* Rows between which there are gaps that are not ours. Every tile is read from the same zeros. */
static void list_clear(const gdncp_plan_t *plan, int64_t size, move_list_t *list)
{
    const gdncp_rows_t *const rows = &plan->output.rows;
    const int64_t row_bytes = plan->output.row_elements * size;

    for (int64_t b = 0; b < rows->batch && plan->output.tokens > 0; b++) {
        for (int64_t column = 0; column < row_bytes; column += GDNCP_TILE_BYTES) {
            push_move(list,
                      (row_move_t){.to = b * rows->batch_stride * size + column,
                                   .to_stride = rows->token_stride * size,
                                   .rows = plan->output.tokens,
                                   .row_bytes = min_i64(row_bytes - column, GDNCP_TILE_BYTES)});
        }
    }
}

/* A message's place counts bytes, and is a multiple of 64; terms count elements. */
static gdncp_sum_term_t term_of(const gdncp_plan_t *plan, const gdncp_plan_places_t *places,
                                const gdncp_term_t *term)
{
    const bool is_received = term->peer != plan->rank;
    const int64_t size = (int64_t)gdncp_dtype_size(plan->dtype);
    const int64_t message = is_received ? places->recvs[term->peer] / size : 0;

    assert(message >= 0);
    return (gdncp_sum_term_t){
        .offset = message + term->offset, .stride = term->stride, .is_received = is_received};
}

static bool is_wide(const gdncp_plan_t *plan, const gdncp_plan_places_t *places,
                    const gdncp_sum_t *sum)
{
    const gdncp_block_t *const target = &sum->target;
    int64_t bits = target->offset | target->row_elements | (target->rows > 1 ? target->stride : 0);

    for (int64_t t = 0; t < sum->num_terms; t++) {
        const gdncp_sum_term_t term = term_of(plan, places, &plan->terms[sum->first_term + t]);

        bits |= term.offset | (target->rows > 1 ? term.stride : 0);
    }
    return bits * (int64_t)gdncp_dtype_size(plan->dtype) % 16 == 0;
}

static void list_sum(const gdncp_plan_t *plan, const gdncp_plan_places_t *places,
                     const gdncp_sum_t *sum, sum_list_t *list)
{
    const gdncp_block_t *const target = &sum->target;
    const int64_t most = GDNCP_TILE_BYTES / (int64_t)gdncp_dtype_size(plan->dtype);
    const int64_t columns = min_i64(target->row_elements, most);
    const int64_t rows = most / columns;
    const bool wide = is_wide(plan, places, sum);

    for (int64_t row = 0; row < target->rows; row += rows) {
        for (int64_t column = 0; column < target->row_elements; column += columns) {
            if (list->tiles != NULL) {
                list->tiles[list->count] = (gdncp_sum_tile_t){
                    .target = target->offset + row * target->stride + column,
                    .stride = target->stride,
                    .row = row,
                    .column = column,
                    .first_term = sum->first_term,
                    .num_terms = sum->num_terms,
                    .rows = (int32_t)min_i64(rows, target->rows - row),
                    .row_elements = (int32_t)min_i64(columns, target->row_elements - column),
                    .is_wide = wide};
            }
            list->count++;
        }
    }
}

/* Fill the lists from their beginnings, or count what they will hold. */
static void fill_lists(const gdncp_plan_t *plan, const gdncp_plan_places_t *places, lists_t *lists)
{
    const int64_t size = (int64_t)gdncp_dtype_size(plan->dtype);

    lists->clear.count = 0;
    lists->pack.count = 0;
    lists->local.count = 0;
    lists->unpack.count = 0;
    lists->sums.count = 0;
    lists->num_terms = 0;
    if (gdncp_plan_must_clear_rows(plan)) {
        list_clear(plan, size, &lists->clear);
    }
    for (int peer = 0; peer < plan->num_ranks; peer++) {
        if (places->sends[peer] >= 0) {
            list_message(&plan->sends[peer], places->sends[peer], size, true, &lists->pack);
        }
        if (places->recvs[peer] >= 0 && plan->write == GDNCP_PLAN_ASSIGN) {
            list_message(&plan->recvs[peer], places->recvs[peer], size, false, &lists->unpack);
        }
    }
    if (plan->write == GDNCP_PLAN_ASSIGN) {
        list_local(plan, size, &lists->local);
    }
    for (int64_t s = 0; s < plan->num_sums; s++) {
        list_sum(plan, places, &plan->sums[s], &lists->sums);
        for (int64_t t = 0; t < plan->sums[s].num_terms; t++, lists->num_terms++) {
            if (lists->terms != NULL) {
                lists->terms[lists->num_terms] =
                    term_of(plan, places, &plan->terms[lists->num_terms]);
            }
        }
    }
}

static size_t lists_bytes(const lists_t *counted)
{
    const int64_t moves =
        counted->clear.count + counted->pack.count + counted->local.count + counted->unpack.count;

    return GDNCP_TILE_BYTES + (size_t)moves * sizeof(gdncp_move_tile_t) +
           (size_t)counted->sums.count * sizeof(gdncp_sum_tile_t) +
           (size_t)counted->num_terms * sizeof(gdncp_sum_term_t);
}

/* Lists of the counted lengths, one behind the other in a block, after the zeros. */
static lists_t place_lists(const lists_t *counted, void *block)
{
    lists_t lists = *counted;

    lists.clear.tiles = (void *)((char *)block + GDNCP_TILE_BYTES);
    lists.pack.tiles = lists.clear.tiles + counted->clear.count;
    lists.local.tiles = lists.pack.tiles + counted->pack.count;
    lists.unpack.tiles = lists.local.tiles + counted->local.count;
    lists.sums.tiles = (void *)(lists.unpack.tiles + counted->unpack.count);
    lists.terms = (void *)(lists.sums.tiles + counted->sums.count);
    return lists;
}

/* Through the default stream, which is waited for: the image is for any stream. */
static gdncp_status_t upload(void *to, const void *from, size_t bytes)
{
    const gdncp_status_t status = gdncp_device_copy(GDNCP_DEVICE_CUDA, to, from, bytes, NULL);

    return status == GDNCP_OK ? gdncp_stream_synchronize(GDNCP_DEVICE_CUDA, NULL) : status;
}

static gdncp_status_t make_lists(gdncp_plan_image_t *image, const gdncp_plan_places_t *places)
{
    lists_t counted = {.num_terms = 0};

    fill_lists(image->plan, places, &counted);
    const size_t bytes = lists_bytes(&counted);
    void *const block = gdncp_memory_alloc(bytes);

    if (block == NULL) {
        return gdncp_fail(GDNCP_ERR_OUT_OF_MEMORY, "out of memory: %zu bytes of blocks of %s",
                          bytes, image->plan->name);
    }
    gdncp_status_t status = gdncp_device_alloc(GDNCP_DEVICE_CUDA, bytes, &image->memory);

    if (status != GDNCP_OK) {
        goto free_block;
    }
    lists_t lists = place_lists(&counted, block);

    memset(block, 0, bytes); /* the zeros, and the gaps in structs */
    fill_lists(image->plan, places, &lists);
    image->lists = place_lists(&lists, image->memory);
    status = upload(image->memory, block, bytes);

free_block:
    gdncp_memory_free(block);
    return status;
}

gdncp_status_t gdncp_plan_image_create(const gdncp_plan_t *plan, const gdncp_plan_places_t *places,
                                       const gdncp_plan_kernels_t *kernels,
                                       gdncp_plan_image_t **image_p)
{
    gdncp_plan_image_t *const image = gdncp_memory_alloc(sizeof *image);

    if (image == NULL) {
        return gdncp_fail_memory("a plan's image");
    }
    *image = (gdncp_plan_image_t){.plan = plan, .kernels = kernels};
    const gdncp_status_t status = make_lists(image, places);

    if (status != GDNCP_OK) {
        gdncp_plan_image_destroy(image);
        return status;
    }
    *image_p = image;
    return GDNCP_OK;
}

void gdncp_plan_image_destroy(gdncp_plan_image_t *image)
{
    if (image != NULL) {
        gdncp_device_free(GDNCP_DEVICE_CUDA, image->memory);
        gdncp_memory_free(image);
    }
}

static gdncp_status_t move(const gdncp_plan_image_t *image, const move_list_t *list,
                           const void *from, void *to, gdncp_stream_t stream)
{
    return list->count > 0 ? image->kernels->move(list->tiles, list->count, from, to, stream)
                           : GDNCP_OK;
}

gdncp_status_t gdncp_plan_image_pack(const gdncp_plan_image_t *image, const void *in, void *staging,
                                     gdncp_stream_t stream)
{
    return move(image, &image->lists.pack, in, staging, stream);
}

gdncp_status_t gdncp_plan_image_copy_local(const gdncp_plan_image_t *image, const void *in,
                                           void *out, gdncp_stream_t stream)
{
    const gdncp_status_t status = move(image, &image->lists.clear, image->memory, out, stream);

    return status == GDNCP_OK ? move(image, &image->lists.local, in, out, stream) : status;
}

gdncp_status_t gdncp_plan_image_deliver(const gdncp_plan_image_t *image, const void *in,
                                        const void *staging, void *out, gdncp_stream_t stream)
{
    const sum_list_t *const sums = &image->lists.sums;
    const gdncp_sum_list_t list = {.tiles = sums->tiles,
                                   .num_tiles = sums->count,
                                   .terms = image->lists.terms,
                                   .dtype = image->plan->dtype,
                                   .adds = image->plan->write == GDNCP_PLAN_ADD};
    const gdncp_status_t status = move(image, &image->lists.unpack, staging, out, stream);

    return status == GDNCP_OK && sums->count > 0
               ? image->kernels->add(&list, in, staging, out, stream)
               : status;
}
