/*
 * The gated RMSNorm on a CUDA device: a warp a row.
 *
 * Backward, a block has a slice of the columns, whose weight gradient its threads keep for all rows
 * of the block; slices of one row take their sums over the whole row each. Up to 256 columns are
 * one slice, so that nothing is read twice.
 */
#include "head_rows.h"
#include "op_kernels_cuda.h"
#include "partial_sums.h"

namespace GDNCP_KERNELS
{

namespace
{

struct norm_inputs {
    head_rows x;
    head_rows z;
    const float *weight;
    float weight_offset;
    float eps;
    bool gate_first;
};

norm_inputs inputs_of(const gdncp_gated_rmsnorm_t *norm)
{
    return {head_rows_of(norm->x),
            head_rows_of(norm->z),
            static_cast<const float *>(norm->weight.data),
            norm->weight_offset,
            norm->eps,
            norm->gate_first};
}

GDNCP_FN float_quad load_weight(const norm_inputs &in, int64_t first)
{
    float_quad weight = load_columns(in.weight, first, in.x.d);

    GDNCP_UNROLL
    for (int i = 0; i < QUAD; i++) {
        weight.x[i] += in.weight_offset;
    }
    return weight;
}

/* SiLU(z) is a factor of what is normalised, or of the result. */
struct gate_factors {
    float before;
    float after;
};

GDNCP_FN gate_factors place_gate(const norm_inputs &in, float gate)
{
    return {in.gate_first ? gate : 1.0f, in.gate_first ? 1.0f : gate};
}

struct forward_args {
    norm_inputs in;
    head_rows y;
};

GDNCP_FN float sum_of_squares(const norm_inputs &in, int64_t of_x, int64_t of_z)
{
    float squares = 0.0f;

    for (int64_t first = first_of_lane(); first < in.x.d; first += NEXT_OF_LANE) {
        float_quad x = load_row(in.x, of_x, first);

        if (in.gate_first) {
            const float_quad z = load_row(in.z, of_z, first);

            GDNCP_UNROLL
            for (int i = 0; i < QUAD; i++) {
                x.x[i] *= silu(z.x[i]);
            }
        }
        GDNCP_UNROLL
        for (int i = 0; i < QUAD; i++) {
            squares += x.x[i] * x.x[i];
        }
    }
    return warp_sum(squares);
}

GDNCP_FN void forward_row(const forward_args &args, const head_row &row)
{
    const norm_inputs &in = args.in;
    const int64_t of_x = row_offset(in.x, row);
    const int64_t of_z = row_offset(in.z, row);
    const int64_t of_y = row_offset(args.y, row);
    const float scale = rsqrtf(sum_of_squares(in, of_x, of_z) / (float)in.x.d + in.eps);

    for (int64_t first = first_of_lane(); first < in.x.d; first += NEXT_OF_LANE) {
        const raw_quad raw_x = load_raw(in.x, of_x, first);
        const raw_quad raw_z = load_raw(in.z, of_z, first);
        const float_quad weight = load_weight(in, first);
        const float_quad z = widen(in.z.dtype, raw_z);
        float_quad x = widen(in.x.dtype, raw_x);

        /* Wherever the gate is: it is a factor of each element. */
        GDNCP_UNROLL
        for (int i = 0; i < QUAD; i++) {
            x.x[i] = x.x[i] * scale * weight.x[i] * silu(z.x[i]);
        }
        store_row(args.y, of_y, first, x);
    }
}

GDNCP_KERNEL(ROW_THREADS, 4)
void forward_kernel(forward_args args, int64_t tokens_per_block)
{
    const block_rows rows = rows_of_block(args.in.x, tokens_per_block);

    for (int i = warp(); i < rows.count; i += ROW_WARPS) {
        forward_row(args, rows.at(i));
    }
}

/* Columns of a block whose lanes have so many quads each. */
constexpr int64_t slice_of(int quads)
{
    return quads * NEXT_OF_LANE;
}

constexpr int64_t MAX_BLOCKS = 512;

struct backward_args {
    norm_inputs in;
    head_rows grad_y;
    head_rows grad_x;
    head_rows grad_z;
    double *grad_weight; /* [blocks, d], parts of the sum */
};

/* Four columns of a row. */
struct row_inputs {
    float_quad x;
    float_quad z;
    float_quad grad_y;
};

GDNCP_FN row_inputs load_inputs(const backward_args &args, const head_row &row, int64_t first)
{
    const norm_inputs &in = args.in;
    const raw_quad x = load_raw(in.x, row_offset(in.x, row), first);
    const raw_quad z = load_raw(in.z, row_offset(in.z, row), first);
    const raw_quad grad_y = load_raw(args.grad_y, row_offset(args.grad_y, row), first);

    return {widen(in.x.dtype, x), widen(in.z.dtype, z), widen(args.grad_y.dtype, grad_y)};
}

/* Sums over a row. */
struct row_sums {
    float squares;  /* of what is normalised: u = x, or x SiLU(z) */
    float products; /* of u and the gradient of what multiplies it */
};

GDNCP_FN void add_to_sums(const backward_args &args, const row_inputs &row,
                          const float_quad &weight, row_sums *sums)
{
    GDNCP_UNROLL
    for (int i = 0; i < QUAD; i++) {
        const gate_factors gate = place_gate(args.in, silu(row.z.x[i]));
        const float u = row.x.x[i] * gate.before;

        sums->squares += u * u;
        sums->products += u * (row.grad_y.x[i] * weight.x[i] * gate.after);
    }
}

/* With n = u r and r = (mean u^2 + eps)^-1/2: grad_u = r (grad_n - mean(grad_n n) n). */
GDNCP_FN void write_gradients(const backward_args &args, const head_row &row, int64_t first,
                              const row_inputs &in, const float_quad &weight, float scale,
                              float mean_product, double *grad_weight)
{
    float_quad grad_x;
    float_quad grad_z;

    GDNCP_UNROLL
    for (int i = 0; i < QUAD; i++) {
        const silu_parts silu = split_silu(in.z.x[i]);
        const gate_factors gate = place_gate(args.in, silu.value);
        const float normal = in.x.x[i] * gate.before * scale;
        const float weighted = in.grad_y.x[i] * weight.x[i];
        const float grad_u = scale * (weighted * gate.after - mean_product * normal);

        grad_x.x[i] = grad_u * gate.before;
        grad_z.x[i] = (args.in.gate_first ? grad_u * in.x.x[i] : weighted * normal) * silu.slope;
        grad_weight[i] += (double)(in.grad_y.x[i] * normal * gate.after);
    }
    store_row(args.grad_x, row_offset(args.grad_x, row), first, grad_x);
    store_row(args.grad_z, row_offset(args.grad_z, row), first, grad_z);
}

template <int QUADS>
GDNCP_FN void backward_row(const backward_args &args, const head_row &row, int64_t begin,
                           const float_quad *weight, double (*grad_weight)[QUAD])
{
    row_inputs in[QUADS];
    row_sums sums = {};

    GDNCP_UNROLL
    for (int i = 0; i < QUADS; i++) {
        in[i] = load_inputs(args, row, begin + i * NEXT_OF_LANE);
    }
    GDNCP_UNROLL
    for (int i = 0; i < QUADS; i++) {
        add_to_sums(args, in[i], weight[i], &sums);
    }
    for (int64_t first = first_of_lane(); first < args.in.x.d; first += NEXT_OF_LANE) {
        if (first < begin || first >= begin + slice_of(QUADS)) {
            add_to_sums(args, load_inputs(args, row, first), load_weight(args.in, first), &sums);
        }
    }
    const float scale = rsqrtf(warp_sum(sums.squares) / (float)args.in.x.d + args.in.eps);
    const float mean_product = warp_sum(sums.products) * scale / (float)args.in.x.d;

    GDNCP_UNROLL
    for (int i = 0; i < QUADS; i++) {
        write_gradients(args, row, begin + i * NEXT_OF_LANE, in[i], weight[i], scale, mean_product,
                        grad_weight[i]);
    }
}

template <int QUADS>
GDNCP_KERNEL(ROW_THREADS, QUADS == 1 ? 2 : 1)
void backward_kernel(backward_args args, int64_t tokens_per_block)
{
    double *const shared = reinterpret_cast<double *>(shared_memory()); /* [warps, width] */
    constexpr int64_t width = slice_of(QUADS);
    const block_rows rows = rows_of_block(args.in.x, tokens_per_block);
    const int64_t slice = (int64_t)block_y() * width;
    const int64_t begin = slice + first_of_lane();
    float_quad weight[QUADS];
    double grad_weight[QUADS][QUAD] = {};

    GDNCP_UNROLL
    for (int i = 0; i < QUADS; i++) {
        weight[i] = load_weight(args.in, begin + i * NEXT_OF_LANE);
    }
    for (int i = warp(); i < rows.count; i += ROW_WARPS) {
        backward_row<QUADS>(args, rows.at(i), begin, weight, grad_weight);
    }
    GDNCP_UNROLL
    for (int i = 0; i < QUADS * QUAD; i++) {
        const int64_t column = i / QUAD * NEXT_OF_LANE + first_of_lane() + i % QUAD;

        shared[warp() * width + column] = grad_weight[i / QUAD][i % QUAD];
    }
    sync_block();
    for (int64_t column = thread_index(); column < width; column += ROW_THREADS) {
        double sum = 0.0;

        for (int i = 0; i < ROW_WARPS; i++) {
            sum += shared[i * width + column];
        }
        if (slice + column < args.in.x.d) {
            args.grad_weight[block_x() * args.in.x.d + slice + column] = sum;
        }
    }
}

/* Few enough blocks that their partial sums are soon added up. */
int64_t backward_tokens(const gdncp_tensor_t &x)
{
    const int64_t least = tokens_of_block(x);
    const int64_t tokens = ceil_div(x.shape[0], MAX_BLOCKS);

    return tokens > least ? tokens : least;
}

template <int QUADS>
gdncp_status_t launch_backward(const backward_args &args, int64_t num_blocks, int64_t tokens,
                               gdncp_stream_t stream)
{
    return launch("gated_rmsnorm_backward", backward_kernel<QUADS>,
                  {num_blocks, (int)ceil_div(args.in.x.d, slice_of(QUADS)), 1}, ROW_THREADS,
                  ROW_WARPS * slice_of(QUADS) * sizeof(double), stream, args, tokens);
}

} /* namespace */

gdncp_status_t gated_rmsnorm_forward(const gdncp_gated_rmsnorm_t *norm, const gdncp_tensor_t *y,
                                     gdncp_workspace_t *workspace)
{
    const int64_t tokens = tokens_of_block(norm->x);
    const forward_args args = {inputs_of(norm), head_rows_of(*y)};

    return launch("gated_rmsnorm_forward", forward_kernel, {num_blocks_of(norm->x, tokens), 1, 1},
                  ROW_THREADS, 0, gdncp_workspace_stream(workspace), args, tokens);
}

gdncp_status_t gated_rmsnorm_backward(const gdncp_gated_rmsnorm_t *norm,
                                      const gdncp_tensor_t *grad_y,
                                      const gdncp_gated_rmsnorm_grads_t *grads,
                                      gdncp_workspace_t *workspace)
{
    const gdncp_stream_t stream = gdncp_workspace_stream(workspace);
    const int64_t tokens = backward_tokens(norm->x);
    const int64_t num_blocks = num_blocks_of(norm->x, tokens);
    const int64_t d = norm->x.shape[2];
    void *partials;
    gdncp_status_t status =
        gdncp_workspace_reserve(workspace, (size_t)(num_blocks * d) * sizeof(double), &partials);

    if (status != GDNCP_OK) {
        return status;
    }
    const backward_args args = {inputs_of(norm), head_rows_of(*grad_y), head_rows_of(grads->x),
                                head_rows_of(grads->z), static_cast<double *>(partials)};

    status = d <= slice_of(1) ? launch_backward<1>(args, num_blocks, tokens, stream)
                              : launch_backward<2>(args, num_blocks, tokens, stream);
    if (status != GDNCP_OK) {
        return status;
    }
    sum_targets targets = {};

    targets.sets[0] = {static_cast<float *>(grads->weight.data), 1};
    targets.num_sets = 1;
    targets.width = d;
    return sum_partials("gated_rmsnorm_backward sums", static_cast<const double *>(partials),
                        num_blocks, targets, stream);
}

} /* namespace GDNCP_KERNELS */
