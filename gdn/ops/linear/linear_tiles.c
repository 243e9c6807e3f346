/* Large matrix products by tiles of the small kernels. */
#include "linear_tiles.h"

#include <assert.h>
#include <string.h>

#include "linear_amx.h"
#include "op_parallel.h"
#include "op_scratch.h"
#include "small_gemm.h"
#include "vector_clones.h"

/*
 * A work item is ROW_BLOCK rows of COLUMN_TILE columns of the result. Its tile of B [DEPTH_TILE,
 * COLUMN_TILE] stays in the second cache while tiles of A [ROW_TILE, DEPTH_TILE] pass by.
 */
#define ROW_TILE 64
#define ROW_BLOCK 512
#define COLUMN_TILE 256
#define DEPTH_TILE 256

static_assert(DEPTH_TILE == GDNCP_AMX_DEPTH, "tiles of the depth are packed whole");
static_assert(COLUMN_TILE % GDNCP_AMX_BLOCK == 0 && ROW_TILE % GDNCP_AMX_BLOCK == 0,
              "packed blocks fill tiles, and have room in their scratch");

typedef struct product_scratch {
    float *a;      /* [ROW_TILE, DEPTH_TILE], or [DEPTH_TILE, ROW_TILE] of a transposed A */
    float *b;      /* [DEPTH_TILE, COLUMN_TILE] */
    float *b_rows; /* [COLUMN_TILE, DEPTH_TILE] of a transposed B */
    float *sum;    /* [ROW_BLOCK, COLUMN_TILE] where the result is not float32 */
    float *tile;   /* [ROW_TILE, COLUMN_TILE] product of one tile of the depth */
} product_scratch_t;

typedef struct product_run {
    const gdncp_product_t *product;
    int64_t column_tiles;
    bool has_amx; /* both operands are bf16, and multiplied as such */
    gdncp_scratch_t scratch;
} product_run_t;

static product_scratch_t take_scratch(gdncp_arena_t *arena)
{
    product_scratch_t scratch;

    scratch.a = gdncp_arena_floats(arena, ROW_TILE * DEPTH_TILE);
    scratch.b = gdncp_arena_floats(arena, DEPTH_TILE * COLUMN_TILE);
    scratch.b_rows = gdncp_arena_floats(arena, COLUMN_TILE * DEPTH_TILE);
    scratch.sum = gdncp_arena_floats(arena, ROW_BLOCK * COLUMN_TILE);
    scratch.tile = gdncp_arena_floats(arena, ROW_TILE * COLUMN_TILE);
    return scratch;
}

static char *element(const gdncp_matrix_t *matrix, int64_t row, int64_t column)
{
    return (char *)matrix->data +
           (size_t)(row * matrix->ld + column) * gdncp_dtype_size(matrix->dtype);
}

/* tile [rows, columns], packed: rows of a large matrix often lie a power of two apart, and so
 * share the few places that a cache has for them. dtypes were checked; this cannot fail. */
static void load_tile(const gdncp_matrix_t *matrix, int64_t row, int64_t column, int64_t rows,
                      int64_t columns, float *tile)
{
    for (int64_t i = 0; i < rows; i++) {
        gdncp_convert_to_f32(matrix->dtype, element(matrix, row + i, column), columns,
                             tile + i * columns);
    }
}

/* scratch->b [depths, columns] */
static void load_b(const gdncp_product_t *product, int64_t depth, int64_t column, int64_t depths,
                   int64_t columns, const product_scratch_t *scratch)
{
    if (product->b_is_transposed) {
        load_tile(&product->b, column, depth, columns, depths, scratch->b_rows);
        gdncp_transpose(columns, depths, scratch->b_rows, depths, scratch->b, columns);
    } else {
        load_tile(&product->b, depth, column, depths, columns, scratch->b);
    }
}

GDNCP_VECTOR_CLONES
static void add_tile(int64_t rows, int64_t columns, const float *tile, int64_t ld, float *sum,
                     int64_t sum_ld)
{
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < columns; j++) {
            sum[i * sum_ld + j] += tile[i * ld + j];
        }
    }
}

static int64_t smaller(int64_t x, int64_t y)
{
    return x < y ? x : y;
}

/* sum [rows, columns] = the part of A B from the tile of B at hand, or += with accumulate. */
static void multiply_tile(const gdncp_product_t *product, int64_t row, int64_t rows, int64_t depth,
                          int64_t depths, int64_t columns, bool accumulate,
                          const product_scratch_t *scratch, float *sum, int64_t sum_ld)
{
    float *const target = accumulate ? scratch->tile : sum;
    const int64_t target_ld = accumulate ? columns : sum_ld;

    if (product->a_is_transposed) {
        load_tile(&product->a, depth, row, depths, rows, scratch->a);
        gdncp_gemm_tn(rows, columns, depths, scratch->a, rows, scratch->b, columns, false, target,
                      target_ld);
    } else {
        load_tile(&product->a, row, depth, rows, depths, scratch->a);
        gdncp_gemm(rows, columns, depths, scratch->a, depths, scratch->b, columns, false, target,
                   target_ld);
    }
    if (accumulate) {
        add_tile(rows, columns, scratch->tile, columns, sum, sum_ld);
    }
}

/* The tile of B at hand, packed: a block each GDNCP_AMX_BLOCK columns. */
static void pack_b(const gdncp_product_t *product, int64_t depth, int64_t column, int64_t depths,
                   int64_t columns, const product_scratch_t *scratch)
{
    for (int64_t j = 0; j < columns; j += GDNCP_AMX_BLOCK) {
        gdncp_amx_pack_b(&product->b, product->b_is_transposed, column + j,
                         smaller(GDNCP_AMX_BLOCK, columns - j), depth, depths,
                         scratch->b + j / GDNCP_AMX_BLOCK * GDNCP_AMX_PACKED, scratch->b_rows);
    }
}

static void copy_tile(int64_t rows, int64_t columns, const float *tile, int64_t ld, float *sum,
                      int64_t sum_ld)
{
    for (int64_t i = 0; i < rows; i++) {
        memcpy(sum + i * sum_ld, tile + i * ld, (size_t)columns * sizeof(float));
    }
}

/* As multiply_tile(), of GDNCP_AMX_BLOCK rows at most, with the tile of B that is packed. */
static void multiply_packed(const gdncp_product_t *product, int64_t row, int64_t rows,
                            int64_t depth, int64_t depths, int64_t columns, bool accumulate,
                            const product_scratch_t *scratch, float *sum, int64_t sum_ld)
{
    gdncp_amx_pack_a(&product->a, !product->a_is_transposed, row, rows, depth, depths, scratch->a,
                     scratch->b_rows);
    for (int64_t j = 0; j < columns; j += GDNCP_AMX_BLOCK) {
        const int64_t width = smaller(GDNCP_AMX_BLOCK, columns - j);

        gdncp_amx_multiply(depths, scratch->a, scratch->b + j / GDNCP_AMX_BLOCK * GDNCP_AMX_PACKED,
                           scratch->tile);
        (accumulate ? add_tile : copy_tile)(rows, width, scratch->tile, GDNCP_AMX_BLOCK, sum + j,
                                            sum_ld);
    }
}

static void product_item(void *context, int64_t item, int thread)
{
    const product_run_t *const run = context;
    const gdncp_product_t *const product = run->product;
    const gdncp_matrix_t *const out = &product->out;
    const int64_t row_begin = item / run->column_tiles * ROW_BLOCK;
    const int64_t row_end = smaller(row_begin + ROW_BLOCK, product->rows);
    const int64_t column = item % run->column_tiles * COLUMN_TILE;
    const int64_t columns = smaller(COLUMN_TILE, product->columns - column);
    gdncp_arena_t arena = gdncp_scratch_arena(&run->scratch, thread);
    const product_scratch_t scratch = take_scratch(&arena);
    const bool in_place = out->dtype == GDNCP_F32;
    float *const sum = in_place ? (float *)(void *)element(out, row_begin, column) : scratch.sum;
    const int64_t sum_ld = in_place ? out->ld : columns;
    const int64_t step = run->has_amx ? GDNCP_AMX_BLOCK : ROW_TILE;
    int64_t depth = 0;

    if (run->has_amx) {
        gdncp_amx_begin();
    }
    if (product->accumulate && !in_place) {
        load_tile(out, row_begin, column, row_end - row_begin, columns, sum);
    }
    /* Once at least: an empty sum is zero. */
    do {
        const int64_t depths = smaller(DEPTH_TILE, product->depth - depth);

        (run->has_amx ? pack_b : load_b)(product, depth, column, depths, columns, &scratch);
        for (int64_t row = row_begin; row < row_end; row += step) {
            (run->has_amx ? multiply_packed
                          : multiply_tile)(product, row, smaller(step, row_end - row), depth,
                                           depths, columns, depth > 0 || product->accumulate,
                                           &scratch, sum + (row - row_begin) * sum_ld, sum_ld);
        }
        depth += depths;
    } while (depth < product->depth);
    if (run->has_amx) {
        gdncp_amx_end();
    }
    for (int64_t row = row_begin; !in_place && row < row_end; row++) {
        gdncp_convert_from_f32(sum + (row - row_begin) * sum_ld, columns, out->dtype,
                               element(out, row, column));
    }
}

static int64_t tiles_of(int64_t length, int64_t tile)
{
    return (length + tile - 1) / tile;
}

gdncp_status_t gdncp_product_run(const gdncp_product_t *product, gdncp_workspace_t *workspace)
{
    product_run_t run = {.product = product,
                         .column_tiles = tiles_of(product->columns, COLUMN_TILE)};
    const int64_t num_items = tiles_of(product->rows, ROW_BLOCK) * run.column_tiles;
    gdncp_arena_t measure = {.block = NULL};

    bool wants_amx;
    const gdncp_status_t status = gdncp_amx_is_wanted(&wants_amx);

    if (status != GDNCP_OK || num_items == 0) {
        return status;
    }
    run.has_amx = wants_amx && product->a.dtype == GDNCP_BF16 && product->b.dtype == GDNCP_BF16;
    take_scratch(&measure);
    return gdncp_scratch_parallel_for(workspace, num_items, measure.used, &run.scratch,
                                      product_item, &run);
}
