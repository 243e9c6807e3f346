/* Sums of the log-gate inside chunks, for arguments that have been checked. */
#ifndef GDNCP_CHUNK_SUMS_H
#define GDNCP_CHUNK_SUMS_H

#include "gdncp/ops.h"

/* out[t] = g[first token of t's chunk] + ... + g[t], or in reverse g[t] + ... + g[last token of t's
 * chunk]: the transpose. out may be g. */
typedef struct gdncp_chunk_sums {
    const gdncp_tensor_t *g;
    const gdncp_tensor_t *out;
    const int64_t *cu_seqlens;
    const int64_t *cu_seqlens_cuda;
    int64_t num_sequences;
    int64_t chunk_size; /* no longer than the pack, so that offsets cannot overflow */
    bool reverse;
    int64_t out_first; /* the token that out's first row is of: 0 in a tensor of all */
} gdncp_chunk_sums_t;

/* The sums that a gate's chunk_size asks for; backward they run in reverse. */
static inline gdncp_chunk_sums_t gdncp_chunk_sums_of(const gdncp_gate_t *gate,
                                                     const gdncp_tensor_t *g,
                                                     const gdncp_tensor_t *out, bool reverse)
{
    const int64_t num_tokens = g->shape[0];

    const gdncp_chunk_sums_t sums = {
        g,
        out,
        gate->cu_seqlens,
        gate->cu_seqlens_cuda,
        gate->num_sequences,
        gate->chunk_size < num_tokens ? gate->chunk_size : num_tokens,
        reverse,
        0,
    };

    return sums;
}

/* The first token at or after one with which a chunk begins; the number of tokens if there is none.
 */
int64_t gdncp_chunk_begin(const gdncp_chunk_sums_t *sums, int64_t token);

/* Sum the chunks that begin at tokens [begin, end). */
void gdncp_chunk_sums_cpu(const gdncp_chunk_sums_t *sums, int64_t begin, int64_t end);

#endif
