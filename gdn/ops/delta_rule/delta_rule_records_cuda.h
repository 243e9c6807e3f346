/*
 * What the walks of the gated delta rule leave in scratch for the gradients of its inputs.
 *
 * A record belongs to one chunk of one value head. Its matrices are transposed, as walks hold them:
 * rows are columns of v, dv of them rounded up to RECORD_GRAIN, and zero beyond dv; columns are
 * those of k, rounded up to DK, or the chunk's tokens. Numbers are float32 where tensors are float
 * or f16; beside bf16 they are two planes of bf16, as its matrix instruction takes them.
 */
#ifndef GDNCP_DELTA_RULE_RECORDS_CUDA_H
#define GDNCP_DELTA_RULE_RECORDS_CUDA_H

#include "delta_rule_cuda.h"

namespace GDNCP_KERNELS
{

constexpr int RECORD_GRAIN = 32;

template <typename T> struct walk_record {
    mma_element<T> *state;      /* [dv, DK] before the chunk */
    mma_element<T> *grad_state; /* [dv, DK] after it */
    mma_element<T> *u;          /* [dv, CHUNK] */
    mma_element<T> *grad_r;     /* [dv, CHUNK] */
};

/* The records of a window, by slot from its first and value head. */
template <typename T> struct walk_records {
    mma_element<T> *data;
    int64_t num_heads;
    int rows;    /* dv, rounded up */
    int columns; /* DK */

    /* Elements from one plane to the next. */
    GDNCP_FN int state_plane() const
    {
        return rows * columns;
    }

    GDNCP_FN int token_plane() const
    {
        return rows * CHUNK;
    }

    GDNCP_FN walk_record<T> at(int64_t slot, int64_t head) const
    {
        const int64_t state = (int64_t)chunk_records<T>::planes * rows * columns;
        const int64_t tokens = (int64_t)chunk_records<T>::planes * rows * CHUNK;
        mma_element<T> *const record = data + (slot * num_heads + head) * 2 * (state + tokens);

        return {record, record + state, record + 2 * state, record + 2 * state + tokens};
    }
};

/* Bytes of one record. */
template <typename T> size_t record_bytes(int64_t dv, int dk_padded)
{
    const int64_t rows = (dv + RECORD_GRAIN - 1) / RECORD_GRAIN * RECORD_GRAIN;

    return (size_t)(2 * chunk_records<T>::planes * rows * (dk_padded + CHUNK)) *
           sizeof(mma_element<T>);
}

/* One number of a record. */
GDNCP_FN float record_value(const float *place, int)
{
    return *place;
}

GDNCP_FN float record_value(const bf16 *place, int plane)
{
    return to_float(place[0]) + to_float(place[plane]);
}

/* Walk forward over the chunks of a window, without outputs. stored.data == NULL: nothing is kept.
 * carry_in, carry_out [Hv, dk, dv] are states of the sequences that cross the window's start and
 * its end; apart, where they are two. */
template <typename T>
gdncp_status_t walk_records_forward(const gdncp_rule_problem_t &problem,
                                    const chunk_records<T> &chunks, const walk_records<T> &stored,
                                    const float *carry_in, float *carry_out, gdncp_stream_t stream);

} /* namespace GDNCP_KERNELS */

#endif
