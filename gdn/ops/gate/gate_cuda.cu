/* The gate on a CUDA device: one thread an element; gradients of parameters by blocks of tokens. */
#include "op_kernels_cuda.h"

namespace GDNCP_KERNELS
{

namespace
{

constexpr int THREADS = 256;

template <typename T> struct gate_inputs {
    token_rows<const T> a;
    token_rows<const T> b;
    const float *A_log;
    const float *dt_bias;
    int64_t num_tokens;
    int64_t num_heads;
    float beta_factor;
};

/* Both without overflow. */
GDNCP_FN float softplus(float x)
{
    return fmaxf(x, 0.0f) + log1pf(expf(-fabsf(x)));
}

GDNCP_FN float sigmoid(float x)
{
    const float e = expf(-fabsf(x));

    return (x >= 0.0f ? 1.0f : e) / (1.0f + e);
}

template <typename T>
GDNCP_KERNEL(THREADS, 1)
void forward_kernel(gate_inputs<T> in, token_rows<float> g, token_rows<float> beta)
{
    const int64_t element = block_x() * THREADS + thread_index();

    if (element >= in.num_tokens * in.num_heads) {
        return;
    }
    const int64_t token = element / in.num_heads;
    const int64_t head = element % in.num_heads;

    g.row(token)[head] =
        -expf(in.A_log[head]) * softplus(to_float(in.a.row(token)[head]) + in.dt_bias[head]);
    beta.row(token)[head] = in.beta_factor * sigmoid(to_float(in.b.row(token)[head]));
}

template <typename T> gate_inputs<T> inputs_of(const gdncp_gate_t *gate)
{
    return {rows_of<const T>(gate->a),
            rows_of<const T>(gate->b),
            static_cast<const float *>(gate->A_log.data),
            static_cast<const float *>(gate->dt_bias.data),
            gate->a.shape[0],
            gate->a.shape[1],
            gate->allow_neg_eigval ? 2.0f : 1.0f};
}

} /* namespace */

gdncp_status_t gate_forward(const gdncp_gate_t *gate, const gdncp_tensor_t *g,
                            const gdncp_tensor_t *beta, gdncp_workspace_t *workspace)
{
    const int64_t num_blocks = (gate->a.shape[0] * gate->a.shape[1] + THREADS - 1) / THREADS;

    return with_dtype(gate->a.dtype, [&](auto element) {
        using T = decltype(element);

        return launch("gate_forward", forward_kernel<T>, {num_blocks, 1, 1}, THREADS, 0,
                      gdncp_workspace_stream(workspace), inputs_of<T>(gate), rows_of<float>(*g),
                      rows_of<float>(*beta));
    });
}

} /* namespace GDNCP_KERNELS */
