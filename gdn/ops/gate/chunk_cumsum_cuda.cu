/*
 * Cumulative sums of the log-gate on a CUDA device: a thread has one head of one chunk.
 *
 * Chunks of all sequences have numbered slots, of which some are empty: sequence n has those from
 * cu_seqlens[n] / chunk_size + n on. So the host knows their number without a look at the lengths.
 */
#include "chunk_sums_cuda.h"
#include "kernel_math.h"

namespace GDNCP_KERNELS
{

namespace
{

constexpr int NUM_WARPS = 8;
constexpr int THREADS = NUM_WARPS * WARP;

struct chunk_slots {
    const int64_t *cu_seqlens;
    int64_t num_sequences;
    int64_t chunk_size;
    int64_t num_slots;
};

struct token_range {
    int64_t begin;
    int64_t end;
};

GDNCP_FN int64_t first_slot(const chunk_slots &chunks, int64_t sequence)
{
    return chunks.cu_seqlens[sequence] / chunks.chunk_size + sequence;
}

/* The tokens of a slot; end <= begin where it is empty. */
GDNCP_FN token_range tokens_of(const chunk_slots &chunks, int64_t slot)
{
    int64_t low = 0; /* its first slot is this one or before */
    int64_t high = chunks.num_sequences;

    while (high - low > 1) {
        const int64_t middle = (low + high) / 2;

        if (first_slot(chunks, middle) <= slot) {
            low = middle;
        } else {
            high = middle;
        }
    }
    const int64_t begin =
        chunks.cu_seqlens[low] + (slot - first_slot(chunks, low)) * chunks.chunk_size;
    const int64_t end = chunks.cu_seqlens[low + 1];

    return {begin, end - begin > chunks.chunk_size ? begin + chunks.chunk_size : end};
}

GDNCP_KERNEL(THREADS, 1)
void cumsum_kernel(token_rows<const float> g, chunk_slots chunks, token_rows<float> out,
                   int64_t num_heads, bool reverse)
{
    const int64_t head = (int64_t)block_y() * WARP + lane();
    const int64_t slot = block_x() * NUM_WARPS + warp();

    if (head >= num_heads || slot >= chunks.num_slots) {
        return;
    }
    const token_range chunk = tokens_of(chunks, slot);
    double sum = 0.0;

    for (int64_t i = chunk.begin; i < chunk.end; i++) {
        const int64_t t = reverse ? chunk.begin + chunk.end - 1 - i : i;

        sum += (double)g.row(t)[head];
        out.row(t)[head] = (float)sum;
    }
}

} /* namespace */

gdncp_status_t chunk_sums(const gdncp_chunk_sums_t &sums, gdncp_stream_t stream)
{
    const int64_t num_tokens = sums.g->shape[0];
    const int64_t num_heads = sums.g->shape[1];

    if (num_tokens == 0) {
        return GDNCP_OK;
    }
    const chunk_slots chunks = {sums.cu_seqlens_cuda, sums.num_sequences, sums.chunk_size,
                                num_tokens / sums.chunk_size + sums.num_sequences};

    return launch("chunk_cumsum", cumsum_kernel,
                  {ceil_div(chunks.num_slots, NUM_WARPS), (int)ceil_div(num_heads, WARP), 1},
                  THREADS, 0, stream, rows_of<const float>(*sums.g), chunks,
                  rows_of<float>(*sums.out), num_heads, sums.reverse);
}

gdncp_status_t chunk_cumsum(const gdncp_tensor_t *g, const int64_t *cu_seqlens,
                            const int64_t *cu_seqlens_cuda, int64_t num_sequences,
                            int64_t chunk_size, const gdncp_tensor_t *out,
                            gdncp_workspace_t *workspace)
{
    return chunk_sums({g, out, cu_seqlens, cu_seqlens_cuda, num_sequences, chunk_size, false, 0},
                      gdncp_workspace_stream(workspace));
}

} /* namespace GDNCP_KERNELS */
