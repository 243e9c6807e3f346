/* Walks along chains of segments on a CUDA device, all at once. */
#include <cinttypes>

#include "key_dims_cuda.h"
#include "op_kernels_cuda.h"
#include "state_chain_cuda.h"

namespace GDNCP_KERNELS
{

namespace
{

struct merge_problem {
    state_chain shared; /* what all chains have alike */
    const float *in;
    const gdncp_state_chain_t *chains;
};

/* A block has 32 columns of a chain's states. */
template <int DK, bool transposed>
GDNCP_KERNEL((chain_layout<DK, transposed>::threads), 1)
void merge_kernel(merge_problem problem)
{
    const gdncp_state_chain_t listed = problem.chains[block_x()];
    state_chain chain = problem.shared;

    chain.in = listed.continues != 0 ? problem.in : nullptr;
    chain.row = listed.first;
    chain.transition = listed.transition - (listed.continues != 0 ? 0 : chain.stride);
    chain.count = listed.count;
    walk_chain<DK, transposed>(chain, block_y() * CHAIN_COLUMNS);
}

template <int DK, bool transposed>
gdncp_status_t launch_merge(const merge_problem &problem, int64_t num_chains, gdncp_stream_t stream)
{
    using layout = chain_layout<DK, transposed>;

    return launch("state_merge", merge_kernel<DK, transposed>,
                  chain_grid(num_chains, problem.shared.dv), layout::threads, layout::bytes, stream,
                  problem);
}

} /* namespace */

gdncp_status_t state_merge(const gdncp_state_chains_t *merge, const gdncp_tensor_t *states,
                           gdncp_workspace_t *workspace)
{
    const int64_t dk = states->shape[1];
    const gdncp_stream_t stream = gdncp_workspace_stream(workspace);
    merge_problem problem = {};

    if (dk > MAX_DIM) {
        return gdncp_fail(GDNCP_ERR_NOT_SUPPORTED,
                          "contribution: expected states of at most %" PRId64
                          " rows on a CUDA device, got %" PRId64,
                          MAX_DIM, dk);
    }
    problem.shared.transitions = static_cast<const float *>(merge->transition.data);
    problem.shared.contributions = static_cast<const float *>(merge->contribution.data);
    problem.shared.states = static_cast<float *>(states->data);
    problem.shared.stride = merge->backward ? -1 : 1;
    problem.shared.dk = (int)dk;
    problem.shared.dv = (int)states->shape[2];
    problem.in = static_cast<const float *>(merge->in.data);
    problem.chains = merge->chains_cuda;
    return with_key_dim(dk, [&](auto dim) {
        constexpr int DK = decltype(dim)::value;

        return merge->backward ? launch_merge<DK, true>(problem, merge->num_chains, stream)
                               : launch_merge<DK, false>(problem, merge->num_chains, stream);
    });
}

} /* namespace GDNCP_KERNELS */
