/* Matrix products on a CUDA device, of operands in any activation dtype and either order. */
#include "op_kernels_cuda.h"
#include "tile_mma.h"

extern "C" {
#include "linear_tiles.h"
}
#if defined(__CUDACC__)
#include "linear_cublaslt.h"
#endif

namespace GDNCP_KERNELS
{

namespace
{

/* A block computes SIDE x SIDE elements of the result, a warp 16 rows of them; operands pass by in
 * steps of DEPTH. Every SPAN of the depth is summed by itself and added to the total, so that long
 * sums lose few digits. */
constexpr int SIDE = 64;
constexpr int WARPS = SIDE / TILE;
constexpr int THREADS = WARPS * WARP;
constexpr int DEPTH = 32;
constexpr int SPAN = 256;

/* Rows of an operand's part in shared memory: along the depth or across it. */
constexpr int LD_ALONG = DEPTH + 8;
constexpr int LD_ACROSS = SIDE + 4;
constexpr int PART_FLOATS = SIDE * LD_ALONG;
constexpr int PER_THREAD = SIDE * DEPTH / THREADS;

/* One operand: element (side, depth), where side is a row of the result for the left operand and a
 * column for the right one. */
struct side_matrix {
    const void *data;
    gdncp_dtype_t dtype;
    int64_t ld;
    int64_t num_sides;
    bool along_depth; /* elements of one side lie next to each other; else those of one depth */
};

struct product_problem {
    side_matrix a;
    side_matrix b;
    int64_t depth;
    void *out;
    gdncp_dtype_t out_dtype;
    int64_t out_ld;
    bool accumulate;
    int64_t column_tiles;
};

/* Where element i of the calling thread is in a part of SIDE x DEPTH: threads follow each other
 * along the matrix's rows. */
GDNCP_FN int part_side(bool along_depth, int i)
{
    return along_depth ? thread_index() / DEPTH + i * (THREADS / DEPTH) : thread_index() % SIDE;
}

GDNCP_FN int part_depth(bool along_depth, int i)
{
    return along_depth ? thread_index() % DEPTH : thread_index() / SIDE + i * (THREADS / SIDE);
}

template <typename T>
GDNCP_FN void fetch_as(float values[PER_THREAD], const side_matrix &matrix, int64_t first_side,
                       int64_t first_depth, int64_t depth_end)
{
    const T *const data = static_cast<const T *>(matrix.data);

    GDNCP_UNROLL
    for (int i = 0; i < PER_THREAD; i++) {
        const int64_t side = first_side + part_side(matrix.along_depth, i);
        const int64_t depth = first_depth + part_depth(matrix.along_depth, i);
        const bool is_inside = side < matrix.num_sides && depth < depth_end;

        values[i] = !is_inside ? 0.0f
                               : to_float(matrix.along_depth ? data[side * matrix.ld + depth]
                                                             : data[depth * matrix.ld + side]);
    }
}

/* This thread's elements of the part that begins there, zero beyond the matrix. */
GDNCP_FN void fetch(float values[PER_THREAD], const side_matrix &matrix, int64_t first_side,
                    int64_t first_depth, int64_t depth_end)
{
    if (matrix.dtype == GDNCP_BF16) {
        fetch_as<bf16>(values, matrix, first_side, first_depth, depth_end);
    } else if (matrix.dtype == GDNCP_F16) {
        fetch_as<f16>(values, matrix, first_side, first_depth, depth_end);
    } else {
        fetch_as<float>(values, matrix, first_side, first_depth, depth_end);
    }
}

GDNCP_FN void store_part(float *part, const float values[PER_THREAD], bool along_depth)
{
    GDNCP_UNROLL
    for (int i = 0; i < PER_THREAD; i++) {
        const int side = part_side(along_depth, i);
        const int depth = part_depth(along_depth, i);

        part[along_depth ? side * LD_ALONG + depth : depth * LD_ACROSS + side] = values[i];
    }
}

/* sums [n] += the warp's 16 rows of part a times 16 columns n of part b. */
template <typename T, int pieces>
GDNCP_FN void multiply_parts(tile sums[WARPS], const float *a, bool a_along, const float *b,
                             bool b_along, int num_tiles)
{
    GDNCP_UNROLL
    for (int depth = 0; depth < DEPTH; depth += TILE) {
        operand_a<T, pieces> left;

        if (a_along) {
            load_a(left, a + warp() * TILE * LD_ALONG + depth, LD_ALONG);
        } else {
            load_a_across(left, a + depth * LD_ACROSS + warp() * TILE, LD_ACROSS);
        }
        GDNCP_UNROLL
        for (int n = 0; n < WARPS; n++) {
            operand_b<T, pieces> right;

            if (n >= num_tiles) {
                break;
            }
            if (b_along) {
                load_b_across(right, b + n * TILE * LD_ALONG + depth, LD_ALONG);
            } else {
                load_b(right, b + depth * LD_ACROSS + n * TILE, LD_ACROSS);
            }
            mma(sums[n], left, right);
        }
    }
}

template <typename T>
GDNCP_FN void store_sums(const product_problem &p, const tile totals[WARPS], int64_t first_row,
                         int64_t first_column)
{
    T *const out = static_cast<T *>(p.out);

    GDNCP_UNROLL
    for (int n = 0; n < WARPS; n++) {
        GDNCP_UNROLL
        for (int i = 0; i < 8; i++) {
            const int64_t row = first_row + tile_row(i / 2 % 2);
            const int64_t column = first_column + n * TILE + tile_column(i / 4, i % 2);
            const float total = totals[n].x[i / 4][i % 4];

            if (row < p.a.num_sides && column < p.b.num_sides) {
                T *const place = out + row * p.out_ld + column;

                *place = from_float<T>(p.accumulate ? to_float(*place) + total : total);
            }
        }
    }
}

/* The 16x16 tiles of a block of SIDE columns, or rows, that the result reaches. */
GDNCP_FN int tiles_inside(int64_t first, int64_t num_sides)
{
    const int64_t tiles = (num_sides - first + TILE - 1) / TILE;

    return tiles < WARPS ? (int)tiles : WARPS;
}

template <typename T, int pieces> GDNCP_KERNEL(THREADS, 2) void product_kernel(product_problem p)
{
    const int64_t first_row = block_x() / p.column_tiles * SIDE;
    const int64_t first_column = block_x() % p.column_tiles * SIDE;
    const int column_tiles = tiles_inside(first_column, p.b.num_sides);
    const bool has_rows = warp() < tiles_inside(first_row, p.a.num_sides);
    float *const a = reinterpret_cast<float *>(shared_memory());
    float *const b = a + PART_FLOATS;
    float next_a[PER_THREAD];
    float next_b[PER_THREAD];
    tile sums[WARPS];
    tile totals[WARPS];

    for (int n = 0; n < WARPS; n++) {
        clear(sums[n]);
        clear(totals[n]);
    }
    fetch(next_a, p.a, first_row, 0, p.depth);
    fetch(next_b, p.b, first_column, 0, p.depth);
    for (int64_t depth = 0; depth < p.depth; depth += DEPTH) {
        sync_block();
        store_part(a, next_a, p.a.along_depth);
        store_part(b, next_b, p.b.along_depth);
        sync_block();
        fetch(next_a, p.a, first_row, depth + DEPTH, p.depth);
        fetch(next_b, p.b, first_column, depth + DEPTH, p.depth);
        if (has_rows) {
            multiply_parts<T, pieces>(sums, a, p.a.along_depth, b, p.b.along_depth, column_tiles);
        }
        if ((depth + DEPTH) % SPAN == 0 || depth + DEPTH >= p.depth) {
            GDNCP_UNROLL
            for (int n = 0; n < WARPS; n++) {
                GDNCP_UNROLL
                for (int i = 0; i < 8; i++) {
                    totals[n].x[i / 4][i % 4] += sums[n].x[i / 4][i % 4];
                }
                clear(sums[n]);
            }
        }
    }
    if (p.out_dtype == GDNCP_BF16) {
        store_sums<bf16>(p, totals, first_row + warp() * TILE, first_column);
    } else if (p.out_dtype == GDNCP_F16) {
        store_sums<f16>(p, totals, first_row + warp() * TILE, first_column);
    } else {
        store_sums<float>(p, totals, first_row + warp() * TILE, first_column);
    }
}

side_matrix side_of(const gdncp_matrix_t &matrix, int64_t num_sides, bool along_depth)
{
    return {matrix.data, matrix.dtype, matrix.ld, num_sides, along_depth};
}

int64_t tiles_of(int64_t length)
{
    return (length + SIDE - 1) / SIDE;
}

template <typename T, int pieces>
gdncp_status_t launch_product(const product_problem &problem, gdncp_workspace_t *workspace)
{
    const int64_t num_blocks = tiles_of(problem.a.num_sides) * problem.column_tiles;

    return launch("linear", product_kernel<T, pieces>, {num_blocks, 1, 1}, THREADS,
                  2 * PART_FLOATS * sizeof(float), gdncp_workspace_stream(workspace), problem);
}

gdncp_status_t run_product(const gdncp_product_t *product, gdncp_workspace_t *workspace)
{
    const product_problem problem = {
        side_of(product->a, product->rows, !product->a_is_transposed),
        side_of(product->b, product->columns, product->b_is_transposed),
        product->depth,
        product->out.data,
        product->out.dtype,
        product->out.ld,
        product->accumulate,
        tiles_of(product->columns)};

    if (product->a.dtype == GDNCP_BF16 && product->b.dtype == GDNCP_BF16) {
        return launch_product<bf16, 1>(problem, workspace);
    }
    /* tf32 holds numbers of 16 bits exactly, and floats in two pieces. */
    return product->a.dtype == GDNCP_F32 || product->b.dtype == GDNCP_F32
               ? launch_product<float, 2>(problem, workspace)
               : launch_product<float, 1>(problem, workspace);
}

} /* namespace */

gdncp_status_t linear(const gdncp_product_t *product, gdncp_workspace_t *workspace)
{
#if defined(__CUDACC__)
    bool done = false;
    const gdncp_status_t status = gdncp_cublaslt_product(product, workspace, &done);

    if (status != GDNCP_OK || done) {
        return status;
    }
#endif
    return run_product(product, workspace);
}

} /* namespace GDNCP_KERNELS */
