/*
 * The convolution backward on a CUDA device.
 *
 * A thread walks its run of tokens and the few after it that read them. The gradients of the last
 * inputs wait until all taps have been added. Gradients of parameters are summed by thread, by
 * block, and then over blocks; those of windows have a kernel of their own.
 */
#include "conv1d_kernels.h"
#include "partial_sums.h"

namespace GDNCP_KERNELS
{

namespace
{

constexpr int BATCH = 2; /* tokens whose loads are under way together */

template <typename T, typename Y> struct conv_gradients {
    token_rows<const Y> y;
    token_rows<T> x;
    float *partials; /* [blocks, W + 1, C]: weight by taps, bias */
    bool y_aligned;
    bool x_aligned;
};

/* The gradient before the activation, of the token that was pushed last. */
template <typename T, typename Y, int TAPS>
GDNCP_FN void through_activation(const conv_walk<T, TAPS> &walk, const quad<Y> &grad_y, float *grad)
{
    float sums[QUAD];

    walk.sums(sums);
    widen(grad_y, grad);
    GDNCP_UNROLL
    for (int c = 0; c < QUAD; c++) {
        grad[c] *= walk.in.silu ? split_silu(sums[c]).slope : 1.0f;
    }
}

template <typename T, typename Y, int TAPS> struct backward_walk {
    conv_walk<T, TAPS> walk;
    const conv_gradients<T, Y> &out;
    int64_t begin; /* of the run */
    int64_t end;
    int64_t sequence_begin;
    float waiting[TAPS][QUAD]; /* gradients of the last inputs, oldest first */
    float weight[TAPS][QUAD];  /* gradients of the parameters */
    float bias[QUAD];

    GDNCP_FN backward_walk(const conv_inputs<T> &in, const conv_gradients<T, Y> &gradients,
                           int64_t channel, int64_t run_begin, int64_t run_end)
        : walk(in, channel), out(gradients), begin(run_begin), end(run_end), sequence_begin(0)
    {
        GDNCP_UNROLL
        for (int c = 0; c < QUAD; c++) {
            bias[c] = 0.0f;
            GDNCP_UNROLL
            for (int i = 0; i < TAPS; i++) {
                waiting[i][c] = 0.0f;
                weight[i][c] = 0.0f;
            }
        }
    }

    /* Tokens of other runs, and the window, get their gradients elsewhere. */
    GDNCP_FN void write(int64_t token, const float *grad)
    {
        if (token >= begin && token < end && token >= sequence_begin) {
            store_quad(out.x.row(token) + walk.channel, narrow<T>(grad), walk.count, out.x_aligned);
        }
    }

    GDNCP_FN void add_token(int64_t token, const quad<T> &input, const quad<Y> &grad_y)
    {
        float grad[QUAD];

        walk.push(input);
        through_activation(walk, grad_y, grad);
        GDNCP_UNROLL
        for (int c = 0; c < QUAD; c++) {
            GDNCP_UNROLL
            for (int i = 0; i < TAPS; i++) {
                if (i >= walk.before) {
                    waiting[i][c] += walk.weight[i][c] * grad[c];
                    weight[i][c] += token < end ? walk.row[i][c] * grad[c] : 0.0f;
                }
            }
            bias[c] += token < end ? grad[c] : 0.0f;
        }
        write(token - TAPS + 1, waiting[0]);
        shift();
    }

    GDNCP_FN void shift()
    {
        GDNCP_UNROLL
        for (int c = 0; c < QUAD; c++) {
            GDNCP_UNROLL
            for (int i = 0; i + 1 < TAPS; i++) {
                waiting[i][c] = waiting[i + 1][c];
            }
            waiting[TAPS - 1][c] = 0.0f;
        }
    }

    /* No token after this one reads those that wait. They stay: what the next sequence adds to them
     * is of tokens before its first, which are not written. */
    GDNCP_FN void flush(int64_t token)
    {
        GDNCP_UNROLL
        for (int i = 0; i + 1 < TAPS; i++) {
            write(token - TAPS + 1 + i, waiting[i]);
        }
    }

    /* Tokens of one sequence, from where the walk was started; none after them reads them. */
    GDNCP_FN void add_tokens(int64_t first_token, int64_t stop)
    {
        for (int64_t first = first_token; first < stop; first += BATCH) {
            quad<T> x[BATCH];
            quad<Y> grad_y[BATCH];

            GDNCP_UNROLL
            for (int i = 0; i < BATCH; i++) {
                x[i] = walk.load(first + i, stop);
                grad_y[i] = load_quad(out.y.row(first + i) + walk.channel,
                                      first + i < stop ? walk.count : 0, out.y_aligned);
            }
            GDNCP_UNROLL
            for (int i = 0; i < BATCH; i++) {
                if (first + i < stop) {
                    add_token(first + i, x[i], grad_y[i]);
                }
            }
        }
        flush(stop);
    }
};

/* Walks a run, and of the tokens after it those that read it. */
template <typename T, typename Y, int TAPS>
GDNCP_FN void walk_run(backward_walk<T, Y, TAPS> *run, const conv_inputs<T> &in)
{
    conv_sequence sequence = find_sequence(in, run->begin);
    int64_t token = run->begin;

    while (token < run->end) {
        const int64_t stop = min_of(run->end + TAPS - 1, sequence.end);

        run->walk.start(sequence, token);
        run->sequence_begin = sequence.begin;
        run->add_tokens(token, stop);
        token = stop;
        if (token < run->end) {
            sequence = sequence_of(in, sequence.index + 1);
        }
    }
}

/* The sum of the block's warps, which have the same channels, of four values. */
GDNCP_FN void write_partial(const float *values, float *to, int64_t channel, int64_t num_channels)
{
    float *const shared = reinterpret_cast<float *>(shared_memory()); /* [warps, CONV_CHANNELS] */

    GDNCP_UNROLL
    for (int c = 0; c < QUAD; c++) {
        shared[warp() * CONV_CHANNELS + lane() * QUAD + c] = values[c];
    }
    sync_block();
    if (thread_index() < CONV_CHANNELS && channel + thread_index() < num_channels) {
        double sum = 0.0;

        for (int i = 0; i < CONV_WARPS; i++) {
            sum += (double)shared[i * CONV_CHANNELS + thread_index()];
        }
        to[channel + thread_index()] = (float)sum;
    }
    sync_block();
}

template <typename T, typename Y, int TAPS>
GDNCP_KERNEL(CONV_THREADS, sizeof(T) == 2 ? conv_blocks(TAPS) : 1)
void backward_kernel(conv_inputs<T> in, conv_gradients<T, Y> out)
{
    const int64_t block_channel = (int64_t)block_y() * CONV_CHANNELS;
    const int64_t begin = (block_x() * CONV_WARPS + warp()) * CONV_RUN;
    const int64_t end = min_of(begin + CONV_RUN, in.num_tokens);
    backward_walk<T, Y, TAPS> run(in, out, block_channel + lane() * QUAD, begin, end);

    if (begin < end && run.walk.count > 0) {
        walk_run(&run, in);
    }
    float *to = out.partials + block_x() * (in.width + 1) * in.num_channels;

    GDNCP_UNROLL
    for (int i = 0; i < TAPS; i++) {
        if (i >= run.walk.before) {
            write_partial(run.weight[i], to, block_channel, in.num_channels);
            to += in.num_channels;
        }
    }
    write_partial(run.bias, to, block_channel, in.num_channels);
}

/* A warp has 128 channels of a sequence, whose first tokens alone read the window. */
template <typename T, typename Y, int TAPS>
GDNCP_KERNEL(CONV_THREADS, 1)
void window_kernel(conv_inputs<T> in, conv_gradients<T, Y> out, T *grad_window, int64_t num_tiles,
                   bool aligned)
{
    const int64_t item = block_x() * CONV_WARPS + warp();
    const int64_t channel = (item % num_tiles * WARP + lane()) * QUAD;

    if (item / num_tiles >= in.num_sequences || channel >= in.num_channels) {
        return;
    }
    conv_walk<T, TAPS> walk(in, channel);
    float grads[TAPS - 1][QUAD] = {}; /* of the TAPS - 1 tokens before the sequence */
    const conv_sequence sequence = sequence_of(in, item / num_tiles);

    walk.start(sequence, sequence.begin);
    GDNCP_UNROLL
    for (int t = 0; t + 1 < TAPS; t++) {
        const int64_t token = sequence.begin + t;

        if (token < sequence.end) {
            float grad[QUAD];

            walk.push(load_quad(in.x.row(token) + channel, walk.count, in.x_aligned));
            through_activation(
                walk, load_quad(out.y.row(token) + channel, walk.count, out.y_aligned), grad);
            GDNCP_UNROLL
            for (int i = 0; i + t + 1 < TAPS; i++) {
                GDNCP_UNROLL
                for (int c = 0; c < QUAD; c++) {
                    grads[t + i][c] += i >= walk.before ? walk.weight[i][c] * grad[c] : 0.0f;
                }
            }
        }
    }
    GDNCP_UNROLL
    for (int i = 0; i + 1 < TAPS; i++) {
        if (i >= walk.before) {
            const int64_t row = sequence.index * (in.width - 1) + i - walk.before;

            store_quad(grad_window + row * in.num_channels + channel, narrow<T>(grads[i]),
                       walk.count, aligned);
        }
    }
}

template <typename T, typename Y, int TAPS>
gdncp_status_t launch_window(const gdncp_conv1d_t *conv, const conv_gradients<T, Y> &out,
                             const gdncp_tensor_t &grad_window, gdncp_stream_t stream)
{
    const int64_t num_tiles = ceil_div(conv->x.shape[1], CONV_CHANNELS);
    T *const data = static_cast<T *>(grad_window.data);

    if (data == nullptr) {
        return GDNCP_OK;
    }
    return launch("conv1d_backward window", window_kernel<T, Y, TAPS>,
                  {ceil_div(conv->num_sequences * num_tiles, CONV_WARPS), 1, 1}, CONV_THREADS, 0,
                  stream, conv_inputs_of<T>(conv), out, data, num_tiles,
                  quads_are_aligned(data, conv->x.shape[1]));
}

template <typename T, typename Y>
gdncp_status_t launch_backward(const gdncp_conv1d_t *conv, const gdncp_tensor_t *grad_y,
                               const gdncp_conv1d_grads_t *grads, float *partials,
                               gdncp_stream_t stream)
{
    const token_rows<const Y> y = rows_of<const Y>(*grad_y);
    const token_rows<T> x = rows_of<T>(grads->x);
    const conv_gradients<T, Y> out = {y, x, partials, quads_are_aligned(y.data, y.stride),
                                      quads_are_aligned(x.data, x.stride)};

    return with_taps(conv, [&](auto taps) {
        constexpr int TAPS = decltype(taps)::TAPS;
        const gdncp_status_t status = launch(
            "conv1d_backward", backward_kernel<T, Y, TAPS>, conv_grid(conv), CONV_THREADS,
            CONV_WARPS * CONV_CHANNELS * sizeof(float), stream, conv_inputs_of<T>(conv), out);

        return status == GDNCP_OK ? launch_window<T, Y, TAPS>(conv, out, grads->window, stream)
                                  : status;
    });
}

gdncp_status_t sum_parameters(const gdncp_conv1d_t *conv, const gdncp_conv1d_grads_t *grads,
                              const float *partials, gdncp_stream_t stream)
{
    const int64_t width = conv->weight.shape[1];
    float *const weight = static_cast<float *>(grads->weight.data);
    sum_targets targets = {};

    for (int64_t i = 0; i < width; i++) {
        targets.sets[i] = {weight + i, width};
    }
    targets.sets[width] = {static_cast<float *>(grads->bias.data), 1};
    targets.num_sets = (int)width + 1;
    targets.width = conv->x.shape[1];
    return sum_partials("conv1d_backward sums", partials, conv_grid(conv).x, targets, stream);
}

} /* namespace */

gdncp_status_t conv1d_backward(const gdncp_conv1d_t *conv, const gdncp_tensor_t *grad_y,
                               const gdncp_conv1d_grads_t *grads, gdncp_workspace_t *workspace)
{
    const gdncp_stream_t stream = gdncp_workspace_stream(workspace);
    const int64_t num_partials = conv_grid(conv).x * (conv->weight.shape[1] + 1) * conv->x.shape[1];
    void *memory;
    gdncp_status_t status =
        gdncp_workspace_reserve(workspace, (size_t)num_partials * sizeof(float), &memory);
    float *const partials = static_cast<float *>(memory);

    if (status != GDNCP_OK) {
        return status;
    }
    status = with_dtype(conv->x.dtype, [&](auto element) {
        using T = decltype(element);

        return grad_y->dtype == GDNCP_F32
                   ? launch_backward<T, float>(conv, grad_y, grads, partials, stream)
                   : launch_backward<T, T>(conv, grad_y, grads, partials, stream);
    });
    return status == GDNCP_OK ? sum_parameters(conv, grads, partials, stream) : status;
}

} /* namespace GDNCP_KERNELS */
