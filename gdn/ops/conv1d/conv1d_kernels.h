/*
 * The convolution on a CUDA device: a thread walks a run of tokens in four channels, and carries
 * the last inputs along.
 *
 * Kernels have TAPS taps, 4 or 8; a narrower convolution has none in the first `before` of them.
 * Those are left out, not multiplied by zero, which would let NaN through.
 */
#ifndef GDNCP_CONV1D_KERNELS_H
#define GDNCP_CONV1D_KERNELS_H

#include "kernel_math.h"
#include "op_kernels_cuda.h"

namespace GDNCP_KERNELS
{

constexpr int CONV_WARPS = 8;
constexpr int CONV_THREADS = CONV_WARPS * WARP;
constexpr int CONV_CHANNELS = WARP * QUAD; /* of a warp */
constexpr int CONV_RUN = 32;               /* tokens of a thread */

/* Blocks of CONV_THREADS that a multiprocessor has room for. */
constexpr int conv_blocks(int num_taps)
{
    return num_taps <= 4 ? 2 : 1;
}

template <typename T> struct conv_inputs {
    token_rows<const T> x;
    const float *weight; /* [C, W] */
    const float *bias;   /* nullptr: zeros */
    const T *window;     /* nullptr: zeros */
    const int64_t *cu_seqlens;
    int64_t num_sequences;
    int64_t num_tokens;
    int64_t num_channels;
    int width;
    bool silu;
    bool x_aligned;
    bool window_aligned; /* also of other windows, if they are */
};

template <typename T> conv_inputs<T> conv_inputs_of(const gdncp_conv1d_t *conv)
{
    const token_rows<const T> x = rows_of<const T>(conv->x);
    const T *const window = static_cast<const T *>(conv->window.data);
    const int64_t num_channels = conv->x.shape[1];

    return {x,
            static_cast<const float *>(conv->weight.data),
            static_cast<const float *>(conv->bias.data),
            window,
            conv->cu_seqlens_cuda,
            conv->num_sequences,
            conv->x.shape[0],
            num_channels,
            (int)conv->weight.shape[1],
            conv->activation == GDNCP_ACTIVATION_SILU,
            quads_are_aligned(x.data, x.stride),
            quads_are_aligned(window, num_channels)};
}

inline gdncp_grid conv_grid(const gdncp_conv1d_t *conv)
{
    return {ceil_div(conv->x.shape[0], CONV_WARPS * CONV_RUN),
            (int)ceil_div(conv->x.shape[1], CONV_CHANNELS), 1};
}

template <int taps> struct num_taps {
    static constexpr int TAPS = taps;
};

/* Calls function(num_taps<TAPS>()) with the taps that the width needs. */
template <typename Function> gdncp_status_t with_taps(const gdncp_conv1d_t *conv, Function function)
{
    return conv->weight.shape[1] <= 4 ? function(num_taps<4>()) : function(num_taps<8>());
}

/* Where a token lies. */
struct conv_sequence {
    int64_t index;
    int64_t begin;
    int64_t end;
};

template <typename T> GDNCP_FN conv_sequence sequence_of(const conv_inputs<T> &in, int64_t index)
{
    return {index, in.cu_seqlens[index], in.cu_seqlens[index + 1]};
}

/* The last sequence that begins at the token or before has it; others that do are empty. */
template <typename T> GDNCP_FN conv_sequence find_sequence(const conv_inputs<T> &in, int64_t token)
{
    int64_t low = 0;
    int64_t high = in.num_sequences;

    while (high - low > 1) {
        const int64_t middle = (low + high) / 2;

        if (in.cu_seqlens[middle] <= token) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return sequence_of(in, low);
}

/* Four channels of a sequence's token, or, before its first one, of its window. */
template <typename T>
GDNCP_FN quad<T> input_at(const conv_inputs<T> &in, const conv_sequence &sequence, int64_t token,
                          int64_t channel, int count)
{
    if (token >= sequence.begin) {
        return load_quad(in.x.row(token) + channel, count, in.x_aligned);
    }
    if (in.window == nullptr) {
        return {};
    }
    const int64_t row = (sequence.index + 1) * (in.width - 1) + token - sequence.begin;

    return load_quad(in.window + row * in.num_channels + channel, count, in.window_aligned);
}

/* A thread's part of a convolution. */
template <typename T, int TAPS> struct conv_walk {
    const conv_inputs<T> &in;
    int64_t channel; /* the first of four */
    int count;       /* of them that are there */
    int before;      /* taps that are not there */
    float weight[TAPS][QUAD];
    float bias[QUAD];
    float row[TAPS][QUAD]; /* the last inputs, oldest first */

    GDNCP_FN conv_walk(const conv_inputs<T> &inputs, int64_t first_channel)
        : in(inputs), channel(first_channel), count(quad_count(first_channel, in.num_channels)),
          before(TAPS - in.width)
    {
        GDNCP_UNROLL
        for (int c = 0; c < QUAD; c++) {
            bias[c] = in.bias != nullptr && c < count ? in.bias[channel + c] : 0.0f;
            GDNCP_UNROLL
            for (int i = 0; i < TAPS; i++) {
                weight[i][c] = i >= before && c < count
                                   ? in.weight[(channel + c) * in.width + i - before]
                                   : 0.0f;
                row[i][c] = 0.0f;
            }
        }
    }

    /* The input of a token; zeros from `end` on. */
    GDNCP_FN quad<T> load(int64_t token, int64_t end) const
    {
        return load_quad(in.x.row(token) + channel, token < end ? count : 0, in.x_aligned);
    }

    GDNCP_FN void push(const quad<T> &input)
    {
        GDNCP_UNROLL
        for (int c = 0; c < QUAD; c++) {
            GDNCP_UNROLL
            for (int i = 0; i + 1 < TAPS; i++) {
                row[i][c] = row[i + 1][c];
            }
        }
        widen(input, row[TAPS - 1]);
    }

    /* Go to a token of a sequence: the inputs before it are those of the sequence. */
    GDNCP_FN void start(const conv_sequence &sequence, int64_t token)
    {
        GDNCP_UNROLL
        for (int i = 1; i < TAPS; i++) {
            if (i > before) {
                push(input_at(in, sequence, token - TAPS + i, channel, count));
            }
        }
    }

    /* Before the activation, once the token's input was pushed. */
    GDNCP_FN void sums(float *result) const
    {
        GDNCP_UNROLL
        for (int c = 0; c < QUAD; c++) {
            result[c] = bias[c];
            GDNCP_UNROLL
            for (int i = 0; i < TAPS; i++) {
                if (i >= before) {
                    result[c] += weight[i][c] * row[i][c];
                }
            }
        }
    }
};

} /* namespace GDNCP_KERNELS */

#endif
