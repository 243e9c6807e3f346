/* The update of the convolution on a CUDA device: a thread has one channel of one sequence. */
#include "kernel_math.h"
#include "op_kernels_cuda.h"
#include "pool_slots_cuda.h"

extern "C" {
#include "conv1d_checks.h"
#include "conv1d_update_problem.h"
}

namespace GDNCP_KERNELS
{

namespace
{

constexpr int THREADS = 128;
constexpr int TAPS = GDNCP_CONV1D_MAX_WIDTH; /* narrower ones have zeros in front */

template <typename T, typename Y> struct update_args {
    token_rows<const T> x;
    token_rows<Y> y;
    const float *weight; /* [C, W] */
    const float *bias;
    T *states; /* [num_slots, S, C] */
    slot_list slots;
    slot_list num_accepted;
    const int8_t *has_initial_state;
    const int64_t *cu_seqlens;
    int64_t num_tiles; /* of THREADS channels */
    int64_t num_channels;
    int64_t num_slots;
    int64_t slot_rows;
    int width;
    bool silu;
};

/* The inputs of one sequence in one channel. */
template <typename T> struct channel_inputs {
    const T *x; /* of the first token */
    int64_t x_stride;
    T *slot; /* row 0 of the sequence's slot */
    int64_t slot_stride;
    int64_t end_of_window; /* the row of the slot after the window; negative: the window is zeros */

    /* Position 0 is the first token; before it, the window. */
    GDNCP_FN T at(int64_t position) const
    {
        if (position >= 0) {
            return x[position * x_stride];
        }
        return end_of_window >= 0 ? slot[(end_of_window + position) * slot_stride]
                                  : from_float<T>(0.0f);
    }
};

/* The row after a sequence's window; -1: zeros; -2: the sequence is a pad. */
template <typename T, typename Y>
GDNCP_FN int64_t end_of_window(const update_args<T, Y> &args, int64_t sequence)
{
    if (args.has_initial_state != nullptr && args.has_initial_state[sequence] == 0) {
        return -1;
    }
    const int64_t accepted = args.num_accepted.data != nullptr ? args.num_accepted.at(sequence) : 1;
    const int64_t window_rows = args.width - 1;

    return accepted >= 1 && accepted <= args.slot_rows - window_rows + 1
               ? accepted - 1 + window_rows
               : -2;
}

template <typename T, typename Y>
GDNCP_FN void write_outputs(const update_args<T, Y> &args, const channel_inputs<T> &inputs,
                            int64_t channel, int64_t begin, int64_t length)
{
    const int before = TAPS - args.width; /* taps that are not there */
    const float bias = args.bias != nullptr ? args.bias[channel] : 0.0f;
    float weight[TAPS];
    float row[TAPS]; /* the last inputs, oldest first */

    GDNCP_UNROLL
    for (int i = 0; i < TAPS; i++) {
        weight[i] = i >= before ? args.weight[channel * args.width + i - before] : 0.0f;
        row[i] = i > before ? to_float(inputs.at(i - TAPS)) : 0.0f;
    }
    for (int64_t t = 0; t < length; t++) {
        float sum = bias;

        GDNCP_UNROLL
        for (int i = 0; i + 1 < TAPS; i++) {
            row[i] = i >= before ? row[i + 1] : 0.0f;
        }
        row[TAPS - 1] = to_float(inputs.at(t));
        GDNCP_UNROLL
        for (int i = 0; i < TAPS; i++) {
            sum += weight[i] * row[i];
        }
        args.y.row(begin + t)[channel] = from_float<Y>(args.silu ? silu(sum) : sum);
    }
}

/* In order: a row of the window is read before its place is written, as it moves to a lower row. */
template <typename T>
GDNCP_FN void keep_inputs(const channel_inputs<T> &inputs, int64_t first_kept, int64_t length)
{
    for (int64_t position = first_kept; position < length; position++) {
        inputs.slot[(position - first_kept) * inputs.slot_stride] = inputs.at(position);
    }
}

template <typename T, typename Y>
GDNCP_KERNEL(THREADS, 1)
void update_kernel(update_args<T, Y> args)
{
    const int64_t sequence = block_x() / args.num_tiles;
    const int64_t channel = block_x() % args.num_tiles * THREADS + thread_index();

    if (channel >= args.num_channels) {
        return;
    }
    const int64_t begin = args.cu_seqlens[sequence];
    const int64_t length = args.cu_seqlens[sequence + 1] - begin;

    if (length <= 0) {
        return;
    }
    const int64_t slot = args.slots.slot(sequence, args.num_slots);
    const int64_t end = end_of_window(args, sequence);

    if (slot < 0 || end < -1) {
        for (int64_t t = 0; t < length; t++) {
            args.y.row(begin + t)[channel] = from_float<Y>(0.0f);
        }
        return;
    }
    const channel_inputs<T> inputs = {
        args.x.row(begin) + channel, args.x.stride,
        args.states + slot * args.slot_rows * args.num_channels + channel, args.num_channels, end};
    const int64_t dropped = args.num_accepted.data != nullptr ? 1 : length;

    write_outputs(args, inputs, channel, begin, length);
    keep_inputs(inputs, dropped - (args.width - 1), length);
}

template <typename T, typename Y>
gdncp_status_t launch_update(const gdncp_update_problem_t *problem, const gdncp_tensor_t *y,
                             gdncp_stream_t stream)
{
    const gdncp_conv1d_update_t *const update = problem->update;
    update_args<T, Y> args = {};

    args.x = rows_of<const T>(update->x);
    args.y = rows_of<Y>(*y);
    args.weight = static_cast<const float *>(update->weight.data);
    args.bias = static_cast<const float *>(update->bias.data);
    args.states = static_cast<T *>(update->states.data);
    args.slots = list_of(update->slots);
    if (problem->num_accepted != nullptr) {
        args.num_accepted = list_of(*problem->num_accepted);
    }
    if (problem->has_initial_state != nullptr) {
        args.has_initial_state = static_cast<const int8_t *>(problem->has_initial_state->data);
    }
    args.cu_seqlens = update->cu_seqlens_cuda;
    args.num_channels = update->x.shape[1];
    args.num_tiles = (args.num_channels + THREADS - 1) / THREADS;
    args.num_slots = problem->num_slots;
    args.slot_rows = problem->slot_rows;
    args.width = (int)update->weight.shape[1];
    args.silu = update->activation == GDNCP_ACTIVATION_SILU;
    return launch("conv1d_update", update_kernel<T, Y>,
                  {update->num_sequences * args.num_tiles, 1, 1}, THREADS, 0, stream, args);
}

} /* namespace */

gdncp_status_t conv1d_update(const gdncp_update_problem_t *problem, const gdncp_tensor_t *y,
                             gdncp_workspace_t *workspace)
{
    const gdncp_stream_t stream = gdncp_workspace_stream(workspace);

    return with_dtype(problem->update->x.dtype, [&](auto element) {
        using T = decltype(element);

        return y->dtype == GDNCP_F32 ? launch_update<T, float>(problem, y, stream)
                                     : launch_update<T, T>(problem, y, stream);
    });
}

} /* namespace GDNCP_KERNELS */
