/*
 * The gate on a CUDA device. A warp has a token of 32 heads, a lane a head, so that a parameter's
 * gradient is one thread's sum over the tokens of its block until the block adds them up.
 */
#include "chunk_sums_cuda.h"
#include "kernel_math.h"
#include "partial_sums.h"

namespace GDNCP_KERNELS
{

namespace
{

constexpr int NUM_WARPS = 8;
constexpr int THREADS = NUM_WARPS * WARP;
constexpr int64_t MIN_TOKENS = 64; /* of a block */
constexpr int64_t MAX_BLOCKS = 512;

template <typename T> struct gate_inputs {
    token_rows<const T> a;
    token_rows<const T> b;
    const float *A_log; /* nullptr: g is a */
    const float *dt_bias;
    int64_t num_tokens;
    int64_t tokens_per_block;
    int64_t num_heads;
    float beta_factor;
};

/* Tokens and head of a thread: every NUM_WARPS-th token of its block. */
struct gate_span {
    int64_t head;
    int64_t begin;
    int64_t end; /* begin where there is no such head */
};

template <typename T> GDNCP_FN gate_span span_of(const gate_inputs<T> &in)
{
    const int64_t first = block_x() * in.tokens_per_block;
    const int64_t left = in.num_tokens - first;
    const int64_t count = left < in.tokens_per_block ? left : in.tokens_per_block;
    const int64_t head = (int64_t)block_y() * WARP + lane();
    const int64_t begin = first + warp();

    return {head, begin, head < in.num_heads ? first + count : begin};
}

template <typename T>
GDNCP_KERNEL(THREADS, 1)
void forward_kernel(gate_inputs<T> in, token_rows<float> g, token_rows<float> beta)
{
    const gate_span span = span_of(in);

    if (span.head >= in.num_heads) {
        return;
    }
    const bool has_parameters = in.A_log != nullptr;
    const float rate = has_parameters ? -expf(in.A_log[span.head]) : 0.0f;
    const float dt_bias = has_parameters ? in.dt_bias[span.head] : 0.0f;

    for (int64_t t = span.begin; t < span.end; t += NUM_WARPS) {
        const float a = to_float(in.a.row(t)[span.head]);
        const float b = to_float(in.b.row(t)[span.head]);

        g.row(t)[span.head] = has_parameters ? rate * softplus(a + dt_bias) : a;
        beta.row(t)[span.head] = in.beta_factor * sigmoid(b);
    }
}

template <typename T> struct gate_outputs {
    token_rows<T> a;
    token_rows<T> b;
    double *partials; /* [blocks, 2, Hv]: A_log, dt_bias */
};

/* The sums of a block's warps, in order of warps. */
GDNCP_FN double sum_of_warps(double *shared, double value)
{
    shared[thread_index()] = value;
    sync_block();
    double sum = 0.0;

    for (int i = 0; i < NUM_WARPS; i++) {
        sum += shared[i * WARP + lane()];
    }
    return sum;
}

template <typename T>
GDNCP_KERNEL(THREADS, 1)
void backward_kernel(gate_inputs<T> in, token_rows<const float> grad_g,
                     token_rows<const float> grad_beta, gate_outputs<T> out)
{
    double *const shared = reinterpret_cast<double *>(shared_memory());
    const gate_span span = span_of(in);
    const bool is_head = span.head < in.num_heads;
    const bool has_parameters = in.A_log != nullptr;
    const float rate = is_head && has_parameters ? -expf(in.A_log[span.head]) : 0.0f;
    const float dt_bias = is_head && has_parameters ? in.dt_bias[span.head] : 0.0f;
    double grad_A_log = 0.0;
    double grad_dt_bias = 0.0;

    for (int64_t t = span.begin; t < span.end; t += NUM_WARPS) {
        const float x = to_float(in.a.row(t)[span.head]) + dt_bias;
        const sigmoid_parts s = split_sigmoid(to_float(in.b.row(t)[span.head]));
        const float grad = grad_g.row(t)[span.head];
        const float scaled = grad * rate;
        const float through_x = scaled * sigmoid(x);

        out.a.row(t)[span.head] = from_float<T>(has_parameters ? through_x : grad);
        out.b.row(t)[span.head] =
            from_float<T>(grad_beta.row(t)[span.head] * in.beta_factor * (s.open * s.closed));
        grad_A_log += (double)(scaled * softplus(x));
        grad_dt_bias += (double)through_x;
    }
    grad_A_log = sum_of_warps(shared, grad_A_log);
    grad_dt_bias = sum_of_warps(shared + THREADS, grad_dt_bias);
    if (warp() == 0 && is_head) {
        double *const partials = out.partials + block_x() * 2 * in.num_heads + span.head;

        partials[0] = grad_A_log;
        partials[in.num_heads] = grad_dt_bias;
    }
}

/* Few enough blocks that their partial sums are soon added up. */
int64_t tokens_per_block(int64_t num_tokens)
{
    const int64_t tokens = ceil_div(num_tokens, MAX_BLOCKS);

    return tokens > MIN_TOKENS ? tokens : MIN_TOKENS;
}

template <typename T> gate_inputs<T> inputs_of(const gdncp_gate_t *gate)
{
    return {rows_of<const T>(gate->a),
            rows_of<const T>(gate->b),
            static_cast<const float *>(gate->A_log.data),
            static_cast<const float *>(gate->dt_bias.data),
            gate->a.shape[0],
            tokens_per_block(gate->a.shape[0]),
            gate->a.shape[1],
            gate->allow_neg_eigval ? 2.0f : 1.0f};
}

gdncp_grid grid_of(const gdncp_gate_t *gate)
{
    const int64_t num_tokens = gate->a.shape[0];

    return {ceil_div(num_tokens, tokens_per_block(num_tokens)),
            (int)ceil_div(gate->a.shape[1], WARP), 1};
}

} /* namespace */

gdncp_status_t gate_forward(const gdncp_gate_t *gate, const gdncp_tensor_t *g,
                            const gdncp_tensor_t *beta, gdncp_workspace_t *workspace)
{
    const gdncp_stream_t stream = gdncp_workspace_stream(workspace);
    const gdncp_status_t status = with_dtype(gate->a.dtype, [&](auto element) {
        using T = decltype(element);

        return launch("gate_forward", forward_kernel<T>, grid_of(gate), THREADS, 0, stream,
                      inputs_of<T>(gate), rows_of<float>(*g), rows_of<float>(*beta));
    });

    return status == GDNCP_OK && gate->chunk_size > 0
               ? chunk_sums(gdncp_chunk_sums_of(gate, g, g, false), stream)
               : status;
}

gdncp_status_t gate_backward(const gdncp_gate_t *gate, const gdncp_tensor_t *grad_g,
                             const gdncp_tensor_t *grad_beta, const gdncp_gate_grads_t *grads,
                             gdncp_workspace_t *workspace)
{
    const gdncp_stream_t stream = gdncp_workspace_stream(workspace);
    const gdncp_grid grid = grid_of(gate);
    const int64_t num_heads = gate->a.shape[1];
    const int64_t num_partials = grid.x * 2 * num_heads;
    const int64_t num_sums = gate->chunk_size > 0 ? gdncp_tensor_num_elements(grad_g) : 0;
    gdncp_tensor_t summed = *grad_g;
    void *scratch;
    gdncp_status_t status = gdncp_workspace_reserve(
        workspace, (size_t)num_partials * sizeof(double) + (size_t)num_sums * sizeof(float),
        &scratch);

    if (status != GDNCP_OK) {
        return status;
    }
    double *const partials = static_cast<double *>(scratch);

    if (gate->chunk_size > 0) {
        summed = gdncp_tensor_contiguous(partials + num_partials, GDNCP_F32, 2, grad_g->shape);
        status = chunk_sums(gdncp_chunk_sums_of(gate, grad_g, &summed, true), stream);
        if (status != GDNCP_OK) {
            return status;
        }
    }
    status = with_dtype(gate->a.dtype, [&](auto element) {
        using T = decltype(element);
        const gate_outputs<T> out = {rows_of<T>(grads->a), rows_of<T>(grads->b), partials};

        return launch("gate_backward", backward_kernel<T>, grid, THREADS,
                      2 * THREADS * sizeof(double), stream, inputs_of<T>(gate),
                      rows_of<const float>(summed), rows_of<const float>(*grad_beta), out);
    });
    if (status != GDNCP_OK || gate->A_log.data == nullptr) {
        return status;
    }
    sum_targets targets = {};

    targets.sets[0] = {static_cast<float *>(grads->A_log.data), 1};
    targets.sets[1] = {static_cast<float *>(grads->dt_bias.data), 1};
    targets.num_sets = 2;
    targets.width = num_heads;
    return sum_partials("gate_backward sums", static_cast<const double *>(partials), grid.x,
                        targets, stream);
}

} /* namespace GDNCP_KERNELS */
