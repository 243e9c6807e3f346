/* The convolution forward on a CUDA device. */
#include "conv1d_kernels.h"

namespace GDNCP_KERNELS
{

namespace
{

/* Tokens whose loads are under way together: 16 registers of them. */
template <typename T> constexpr int BATCH = 16 / sizeof(T);

template <typename Y> struct conv_output {
    token_rows<Y> y;
    bool aligned;
};

template <typename T, typename Y, int TAPS>
GDNCP_FN void write_token(const conv_walk<T, TAPS> &walk, const conv_output<Y> &out, int64_t token)
{
    float sums[QUAD];

    walk.sums(sums);
    GDNCP_UNROLL
    for (int c = 0; c < QUAD; c++) {
        sums[c] = walk.in.silu ? silu(sums[c]) : sums[c];
    }
    store_quad(out.y.row(token) + walk.channel, narrow<Y>(sums), walk.count, out.aligned);
}

/* Tokens of one sequence, from where the walk was started. */
template <typename T, typename Y, int TAPS>
GDNCP_FN void write_tokens(conv_walk<T, TAPS> *walk, const conv_output<Y> &out, int64_t begin,
                           int64_t end)
{
    for (int64_t first = begin; first < end; first += BATCH<T>) {
        quad<T> inputs[BATCH<T>];

        GDNCP_UNROLL
        for (int i = 0; i < BATCH<T>; i++) {
            inputs[i] = walk->load(first + i, end);
        }
        GDNCP_UNROLL
        for (int i = 0; i < BATCH<T>; i++) {
            if (first + i < end) {
                walk->push(inputs[i]);
                write_token(*walk, out, first + i);
            }
        }
    }
}

template <typename T, typename Y, int TAPS>
GDNCP_KERNEL(CONV_THREADS, conv_blocks(TAPS))
void forward_kernel(conv_inputs<T> in, conv_output<Y> out)
{
    const int64_t channel = ((int64_t)block_y() * WARP + lane()) * QUAD;
    int64_t token = (block_x() * CONV_WARPS + warp()) * CONV_RUN;
    const int64_t end = min_of(token + CONV_RUN, in.num_tokens);

    if (token >= end || channel >= in.num_channels) {
        return;
    }
    conv_walk<T, TAPS> walk(in, channel);
    conv_sequence sequence = find_sequence(in, token);

    while (token < end) {
        const int64_t stop = min_of(end, sequence.end);

        walk.start(sequence, token);
        write_tokens(&walk, out, token, stop);
        token = stop;
        if (token < end) {
            sequence = sequence_of(in, sequence.index + 1);
        }
    }
}

/* A warp has 128 channels of a sequence. */
template <typename T>
GDNCP_KERNEL(CONV_THREADS, 1)
void final_window_kernel(conv_inputs<T> in, T *final_window, int64_t num_tiles, bool aligned)
{
    const int64_t item = block_x() * CONV_WARPS + warp();
    const int64_t channel = (item % num_tiles * WARP + lane()) * QUAD;
    const int count = quad_count(channel, in.num_channels);

    if (item / num_tiles >= in.num_sequences || count == 0) {
        return;
    }
    const conv_sequence sequence = sequence_of(in, item / num_tiles);
    const int64_t rows = in.width - 1;

    for (int64_t i = 0; i < rows; i++) {
        store_quad(final_window + (sequence.index * rows + i) * in.num_channels + channel,
                   input_at(in, sequence, sequence.end - rows + i, channel, count), count, aligned);
    }
}

template <typename T>
gdncp_status_t write_final_window(const gdncp_conv1d_t *conv, const gdncp_tensor_t *final_window,
                                  gdncp_stream_t stream)
{
    const int64_t num_tiles = ceil_div(conv->x.shape[1], CONV_CHANNELS);
    T *const data = static_cast<T *>(final_window->data);

    return launch("conv1d_forward window", final_window_kernel<T>,
                  {ceil_div(conv->num_sequences * num_tiles, CONV_WARPS), 1, 1}, CONV_THREADS, 0,
                  stream, conv_inputs_of<T>(conv), data, num_tiles,
                  quads_are_aligned(data, conv->x.shape[1]));
}

template <typename T, typename Y>
gdncp_status_t launch_forward(const gdncp_conv1d_t *conv, const gdncp_tensor_t *y,
                              gdncp_stream_t stream)
{
    return with_taps(conv, [&](auto taps) {
        constexpr int TAPS = decltype(taps)::TAPS;
        const token_rows<Y> rows = rows_of<Y>(*y);
        const conv_output<Y> out = {rows, quads_are_aligned(rows.data, rows.stride)};

        return launch("conv1d_forward", forward_kernel<T, Y, TAPS>, conv_grid(conv), CONV_THREADS,
                      0, stream, conv_inputs_of<T>(conv), out);
    });
}

} /* namespace */

gdncp_status_t conv1d_forward(const gdncp_conv1d_t *conv, const gdncp_tensor_t *y,
                              const gdncp_tensor_t *final_window, gdncp_workspace_t *workspace)
{
    const gdncp_stream_t stream = gdncp_workspace_stream(workspace);

    return with_dtype(conv->x.dtype, [&](auto element) {
        using T = decltype(element);
        const gdncp_status_t status = y->dtype == GDNCP_F32
                                          ? launch_forward<T, float>(conv, y, stream)
                                          : launch_forward<T, T>(conv, y, stream);

        return status == GDNCP_OK && final_window != nullptr
                   ? write_final_window<T>(conv, final_window, stream)
                   : status;
    });
}

} /* namespace GDNCP_KERNELS */
