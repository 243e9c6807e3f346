/* The L2 norm on a CUDA device: a warp a row, which it reads twice, the second time from cache. */
#include "head_rows.h"
#include "op_kernels_cuda.h"

namespace GDNCP_KERNELS
{

namespace
{

GDNCP_FN void normalise(const head_rows &x, float eps, const head_rows &y, const head_row &row)
{
    const int64_t from = row_offset(x, row);
    const int64_t to = row_offset(y, row);
    float squares = 0.0f;

    for (int64_t first = first_of_lane(); first < x.d; first += NEXT_OF_LANE) {
        const float_quad q = load_row(x, from, first);

        GDNCP_UNROLL
        for (int i = 0; i < QUAD; i++) {
            squares += q.x[i] * q.x[i];
        }
    }
    const float scale = rsqrtf(warp_sum(squares) + eps);

    for (int64_t first = first_of_lane(); first < x.d; first += NEXT_OF_LANE) {
        float_quad q = load_row(x, from, first);

        GDNCP_UNROLL
        for (int i = 0; i < QUAD; i++) {
            q.x[i] *= scale;
        }
        store_row(y, to, first, q);
    }
}

GDNCP_KERNEL(ROW_THREADS, 4)
void forward_kernel(head_rows x, float eps, head_rows y, int64_t tokens_per_block)
{
    const block_rows rows = rows_of_block(x, tokens_per_block);

    for (int i = warp(); i < rows.count; i += ROW_WARPS) {
        normalise(x, eps, y, rows.at(i));
    }
}

struct backward_args {
    head_rows x;
    float eps;
    head_rows grad_y;
    head_rows grad_x;
};

/* With r = (sum x^2 + eps)^-1/2: grad_x = r (grad_y - r^2 (grad_y . x) x). */
GDNCP_FN void backward_row(const backward_args &args, const head_row &row)
{
    const int64_t of_x = row_offset(args.x, row);
    const int64_t of_grad_y = row_offset(args.grad_y, row);
    const int64_t of_grad_x = row_offset(args.grad_x, row);
    float squares = 0.0f;
    float products = 0.0f;

    for (int64_t first = first_of_lane(); first < args.x.d; first += NEXT_OF_LANE) {
        const raw_quad raw_x = load_raw(args.x, of_x, first);
        const raw_quad raw_grad = load_raw(args.grad_y, of_grad_y, first);
        const float_quad x = widen(args.x.dtype, raw_x);
        const float_quad grad = widen(args.grad_y.dtype, raw_grad);

        GDNCP_UNROLL
        for (int i = 0; i < QUAD; i++) {
            squares += x.x[i] * x.x[i];
            products += x.x[i] * grad.x[i];
        }
    }
    const float scale = rsqrtf(warp_sum(squares) + args.eps);
    const float along = warp_sum(products) * scale * scale;

    for (int64_t first = first_of_lane(); first < args.x.d; first += NEXT_OF_LANE) {
        const float_quad x = load_row(args.x, of_x, first);
        float_quad grad = load_row(args.grad_y, of_grad_y, first);

        GDNCP_UNROLL
        for (int i = 0; i < QUAD; i++) {
            grad.x[i] = scale * (grad.x[i] - along * x.x[i]);
        }
        store_row(args.grad_x, of_grad_x, first, grad);
    }
}

GDNCP_KERNEL(ROW_THREADS, 4)
void backward_kernel(backward_args args, int64_t tokens_per_block)
{
    const block_rows rows = rows_of_block(args.x, tokens_per_block);

    for (int i = warp(); i < rows.count; i += ROW_WARPS) {
        backward_row(args, rows.at(i));
    }
}

} /* namespace */

gdncp_status_t l2norm_forward(const gdncp_tensor_t *x, float eps, const gdncp_tensor_t *y,
                              gdncp_workspace_t *workspace)
{
    const int64_t tokens = tokens_of_block(*x);

    return launch("l2norm_forward", forward_kernel, {num_blocks_of(*x, tokens), 1, 1}, ROW_THREADS,
                  0, gdncp_workspace_stream(workspace), head_rows_of(*x), eps, head_rows_of(*y),
                  tokens);
}

gdncp_status_t l2norm_backward(const gdncp_tensor_t *x, float eps, const gdncp_tensor_t *grad_y,
                               const gdncp_tensor_t *grad_x, gdncp_workspace_t *workspace)
{
    const int64_t tokens = tokens_of_block(*x);
    const backward_args args = {head_rows_of(*x), eps, head_rows_of(*grad_y),
                                head_rows_of(*grad_x)};

    return launch("l2norm_backward", backward_kernel, {num_blocks_of(*x, tokens), 1, 1},
                  ROW_THREADS, 0, gdncp_workspace_stream(workspace), args, tokens);
}

} /* namespace GDNCP_KERNELS */
