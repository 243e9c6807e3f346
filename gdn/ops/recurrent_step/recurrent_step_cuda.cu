/* The recurrent step on a CUDA device: a warp walks the tokens of one sequence with a slice of one
 * head's state in its registers. */
#include "op_kernels_cuda.h"
#include "pool_slots_cuda.h"

extern "C" {
#include "recurrent_step_problem.h"
}

namespace GDNCP_KERNELS
{

namespace
{

constexpr int WARPS = 4; /* of a block; they share nothing */
constexpr int THREADS = WARPS * WARP;
constexpr int QUAD = 4; /* columns of a lane, and rows that are read from shared memory at once */
constexpr int MAX_DK = 256;
constexpr int KEY_LOADS = MAX_DK / WARP; /* elements of a key that a lane loads */
constexpr float L2NORM_EPS = 1e-6f;

struct alignas(16) quad {
    float x[QUAD];
};

template <typename T> struct step_args {
    token_rows<const T> q;
    token_rows<const T> k;
    token_rows<const T> v;
    token_rows<T> o;
    const float *g;
    const float *beta;
    float *states;
    slot_list slots;
    slot_list num_accepted;
    const int64_t *cu_seqlens;
    int64_t num_sequences;
    int64_t num_slots;
    int64_t row_length; /* 0: one slot a sequence */
    int64_t group_size;
    int64_t group_phase;
    int num_heads;
    int dk;
    int dv;
    int num_slices;
    float scale;
    bool qk_l2norm;
};

/*
 * How a warp's lanes share its slice: PHASES lanes have the same columns, each with ROWS of the
 * rows. Rows go to phases in fours, so that a lane reads four elements of a key at once and a
 * warp's reads of a state are whole lines.
 */
template <int PHASES_, int ROWS_, bool ALIGNED_> struct slice {
    static constexpr int PHASES = PHASES_;
    static constexpr int ROWS = ROWS_;
    static constexpr bool ALIGNED = ALIGNED_; /* rows of states start at multiples of 16 bytes */
    static constexpr int COLUMNS = QUAD * WARP / PHASES;
    static constexpr int KEY_ROOM = PHASES * ROWS;

    GDNCP_FN static int phase()
    {
        return lane() / (WARP / PHASES);
    }

    GDNCP_FN static int column()
    {
        return lane() % (WARP / PHASES) * QUAD;
    }

    GDNCP_FN static int row(int i)
    {
        return (i / QUAD * PHASES + phase()) * QUAD + i % QUAD;
    }

    /* row(i + 1) - row(i) */
    GDNCP_FN static int rows_to_next(int i)
    {
        return i % QUAD == QUAD - 1 ? (PHASES - 1) * QUAD + 1 : 1;
    }

    /* Over the lanes of the same columns. */
    GDNCP_FN static float sum(float value)
    {
        GDNCP_UNROLL
        for (int mask = WARP / PHASES; mask < WARP; mask *= 2) {
            value += shuffle_xor(value, mask);
        }
        return value;
    }
};

/* What a lane works on. */
struct lane_item {
    int64_t sequence;
    int head;
    int key_head;
    int column; /* the first of four */
};

/* Of one token what a lane loads. */
struct token_values {
    float v[QUAD]; /* of the lane's columns */
    float g;
    float beta;
};

struct token_keys {
    float q[KEY_LOADS]; /* elements lane, lane + 32, .. of the head, as given */
    float k[KEY_LOADS];
};

template <typename S, typename T>
GDNCP_FN void load_token(const step_args<T> &args, const lane_item &item, int64_t token,
                         token_keys *keys, token_values *values)
{
    const T *const q = args.q.row(token) + item.key_head * args.dk;
    const T *const k = args.k.row(token) + item.key_head * args.dk;
    const T *const v = args.v.row(token) + item.head * args.dv;

    GDNCP_UNROLL
    for (int i = 0; i < S::KEY_ROOM / WARP; i++) {
        const int element = i * WARP + lane();

        keys->q[i] = element < args.dk ? to_float(q[element]) : 0.0f;
        keys->k[i] = element < args.dk ? to_float(k[element]) : 0.0f;
    }
    GDNCP_UNROLL
    for (int c = 0; c < QUAD; c++) {
        values->v[c] = item.column + c < args.dv ? to_float(v[item.column + c]) : 0.0f;
    }
    values->g = args.g[token * args.num_heads + item.head];
    values->beta = args.beta[token * args.num_heads + item.head];
}

/* shared [2, KEY_ROOM]: q, then k, normalised where asked for; zeros beyond dk. */
template <typename S>
GDNCP_FN void share_keys(const token_keys &keys, bool l2norm, float scale, float *shared)
{
    float q_square = 0.0f;
    float k_square = 0.0f;

    GDNCP_UNROLL
    for (int i = 0; i < S::KEY_ROOM / WARP; i++) {
        q_square += keys.q[i] * keys.q[i];
        k_square += keys.k[i] * keys.k[i];
    }
    const float q_factor = l2norm ? scale * rsqrtf(warp_sum(q_square) + L2NORM_EPS) : scale;
    const float k_factor = l2norm ? rsqrtf(warp_sum(k_square) + L2NORM_EPS) : 1.0f;

    GDNCP_UNROLL
    for (int i = 0; i < S::KEY_ROOM / WARP; i++) {
        shared[i * WARP + lane()] = q_factor * keys.q[i];
        shared[S::KEY_ROOM + i * WARP + lane()] = k_factor * keys.k[i];
    }
}

/* Four columns of a row, of which `left` are there: all or none where S is aligned. */
template <typename S> GDNCP_FN quad load_quad(const float *source, int left)
{
    quad values = {{0.0f, 0.0f, 0.0f, 0.0f}};

    if constexpr (S::ALIGNED) {
        if (left > 0) {
            values = *reinterpret_cast<const quad *>(source);
        }
    } else {
        GDNCP_UNROLL
        for (int c = 0; c < QUAD; c++) {
            values.x[c] = c < left ? source[c] : 0.0f;
        }
    }
    return values;
}

template <typename S> GDNCP_FN void store_quad(const quad &values, int left, float *target)
{
    if constexpr (S::ALIGNED) {
        if (left > 0) {
            *reinterpret_cast<quad *>(target) = values;
        }
    } else {
        GDNCP_UNROLL
        for (int c = 0; c < QUAD; c++) {
            if (c < left) {
                target[c] = values.x[c];
            }
        }
    }
}

/* The lane's part of a head's state [dk, dv]; zeros where it has none. Pointers go from row to row,
 * so that the compiler does not keep the addresses of all of them. */
template <typename S, typename T>
GDNCP_FN void load_state(const step_args<T> &args, const float *head_state, int column,
                         quad state[S::ROWS])
{
    const float *source = head_state + S::row(0) * args.dv + column;

    GDNCP_UNROLL
    for (int i = 0; i < S::ROWS; i++) {
        state[i] = load_quad<S>(source, S::row(i) < args.dk ? args.dv - column : 0);
        source += S::rows_to_next(i) * args.dv;
    }
}

template <typename S, typename T>
GDNCP_FN void store_state(const step_args<T> &args, const quad state[S::ROWS], int column,
                          float *head_state)
{
    float *target = head_state + S::row(0) * args.dv + column;

    GDNCP_UNROLL
    for (int i = 0; i < S::ROWS; i++) {
        store_quad<S>(state[i], S::row(i) < args.dk ? args.dv - column : 0, target);
        target += S::rows_to_next(i) * args.dv;
    }
}

/* A token: S <- decay S;  u = beta (v - S'k);  S <- S + k u';  o = S'q. */
template <typename S>
GDNCP_FN void step_state(const float *keys, const token_values &token, quad state[S::ROWS], quad *o)
{
    const quad *const q = reinterpret_cast<const quad *>(keys) + S::phase();
    const quad *const k = reinterpret_cast<const quad *>(keys + S::KEY_ROOM) + S::phase();
    const float decay = expf(token.g);
    quad u = {{0.0f, 0.0f, 0.0f, 0.0f}};

    *o = u;
    GDNCP_UNROLL
    for (int i = 0; i < S::ROWS; i += QUAD) {
        const quad four = k[i / QUAD * S::PHASES];

        GDNCP_UNROLL
        for (int r = 0; r < QUAD; r++) {
            GDNCP_UNROLL
            for (int c = 0; c < QUAD; c++) {
                u.x[c] += four.x[r] * state[i + r].x[c];
            }
        }
    }
    GDNCP_UNROLL
    for (int c = 0; c < QUAD; c++) {
        u.x[c] = token.beta * (token.v[c] - decay * S::sum(u.x[c]));
    }
    GDNCP_UNROLL
    for (int i = 0; i < S::ROWS; i += QUAD) {
        const quad four_k = k[i / QUAD * S::PHASES];
        const quad four_q = q[i / QUAD * S::PHASES];

        GDNCP_UNROLL
        for (int r = 0; r < QUAD; r++) {
            GDNCP_UNROLL
            for (int c = 0; c < QUAD; c++) {
                state[i + r].x[c] = decay * state[i + r].x[c] + four_k.x[r] * u.x[c];
                o->x[c] += four_q.x[r] * state[i + r].x[c];
            }
        }
    }
    GDNCP_UNROLL
    for (int c = 0; c < QUAD; c++) {
        o->x[c] = S::sum(o->x[c]);
    }
}

/* By the lanes of phase 0. */
template <typename S, typename T>
GDNCP_FN void store_output(const step_args<T> &args, const lane_item &item, int64_t token,
                           const quad &o)
{
    T *const out = args.o.row(token) + item.head * args.dv + item.column;

    GDNCP_UNROLL
    for (int c = 0; c < QUAD; c++) {
        if (S::phase() == 0 && item.column + c < args.dv) {
            out[c] = from_float<T>(o.x[c]);
        }
    }
}

/* The slot that a sequence starts from; negative: a pad. */
template <typename T> GDNCP_FN int64_t source_slot(const step_args<T> &args, int64_t sequence)
{
    if (args.row_length == 0) {
        return args.slots.slot(sequence, args.num_slots);
    }
    const int64_t accepted = args.num_accepted.data != nullptr ? args.num_accepted.at(sequence) : 1;

    return accepted >= 1 && accepted <= args.row_length
               ? args.slots.slot(sequence * args.row_length + accepted - 1, args.num_slots)
               : -1;
}

/* The slot that the state after token i of `length` is kept in; negative: none. With one slot a
 * sequence only the last state is. */
template <typename T>
GDNCP_FN int64_t target_slot(const step_args<T> &args, int64_t sequence, int64_t i, int64_t length)
{
    if (args.row_length == 0) {
        return i + 1 == length ? args.slots.slot(sequence, args.num_slots) : -1;
    }
    return args.slots.slot(sequence * args.row_length + i, args.num_slots);
}

template <typename S, typename T> GDNCP_FN lane_item item_of_lane(const step_args<T> &args)
{
    const int64_t index = block_x() * WARPS + warp();
    const int slice = (int)(index % args.num_slices);
    const int64_t chain = index / args.num_slices;
    const int head = (int)(chain % args.num_heads);

    return {chain / args.num_heads, head, (int)((head + args.group_phase) / args.group_size),
            slice * S::COLUMNS + S::column()};
}

template <typename S, typename T>
GDNCP_KERNEL(THREADS, S::ALIGNED ? 3 : 2)
void step_kernel(step_args<T> args)
{
    const lane_item item = item_of_lane<S>(args);

    if (item.sequence >= args.num_sequences) {
        return;
    }
    const int64_t begin = args.cu_seqlens[item.sequence];
    const int64_t length = args.cu_seqlens[item.sequence + 1] - begin;
    const int64_t head_size = (int64_t)args.dk * args.dv;
    float *const states = args.states + item.head * head_size; /* of the head, in slot 0 */
    float *const keys = reinterpret_cast<float *>(shared_memory()) + warp() * 2 * S::KEY_ROOM;

    if (length <= 0) {
        return;
    }
    const int64_t source = source_slot(args, item.sequence);

    if (source < 0) {
        for (int64_t i = 0; i < length; i++) {
            store_output<S>(args, item, begin + i, {{0.0f, 0.0f, 0.0f, 0.0f}});
        }
        return;
    }
    token_keys next_keys;
    token_values next;
    quad state[S::ROWS];

    load_token<S>(args, item, begin, &next_keys, &next);
    load_state<S>(args, states + source * args.num_heads * head_size, item.column, state);
    for (int64_t i = 0; i < length; i++) {
        const token_values token = next;
        const int64_t target = target_slot(args, item.sequence, i, length);
        quad o;

        sync_warp(); /* all lanes are done with the keys of the token before */
        share_keys<S>(next_keys, args.qk_l2norm, args.scale, keys);
        sync_warp();
        if (i + 1 < length) {
            load_token<S>(args, item, begin + i + 1, &next_keys, &next);
        }
        step_state<S>(keys, token, state, &o);
        store_output<S>(args, item, begin + i, o);
        if (target >= 0) {
            store_state<S>(args, state, item.column, states + target * args.num_heads * head_size);
        }
    }
}

template <typename T>
step_args<T> args_of(const gdncp_step_problem_t *problem, const gdncp_tensor_t *o)
{
    const gdncp_recurrent_step_t *const step = problem->step;
    step_args<T> args = {};

    args.q = rows_of<const T>(step->q);
    args.k = rows_of<const T>(step->k);
    args.v = rows_of<const T>(step->v);
    args.o = rows_of<T>(*o);
    args.g = static_cast<const float *>(step->g.data);
    args.beta = static_cast<const float *>(step->beta.data);
    args.states = static_cast<float *>(step->states.data);
    args.slots = list_of(step->slots);
    if (problem->num_accepted != nullptr) {
        args.num_accepted = list_of(*problem->num_accepted);
    }
    args.cu_seqlens = step->cu_seqlens_cuda;
    args.num_sequences = step->num_sequences;
    args.num_slots = problem->num_slots;
    args.row_length = problem->row_length;
    args.group_size = problem->dims.group_size;
    args.group_phase = step->group_phase;
    args.num_heads = (int)problem->dims.num_value_heads;
    args.dk = (int)problem->dims.dk;
    args.dv = (int)problem->dims.dv;
    args.scale = problem->dims.scale;
    args.qk_l2norm = step->qk_l2norm;
    return args;
}

template <typename S, typename T>
gdncp_status_t launch_step(step_args<T> args, gdncp_stream_t stream)
{
    args.num_slices = (args.dv + S::COLUMNS - 1) / S::COLUMNS;

    const int64_t num_items = args.num_sequences * args.num_heads * args.num_slices;

    return launch("recurrent_step", step_kernel<S, T>, {(num_items + WARPS - 1) / WARPS, 1, 1},
                  THREADS, WARPS * 2 * S::KEY_ROOM * sizeof(float), stream, args);
}

} /* namespace */

gdncp_status_t recurrent_step(const gdncp_step_problem_t *problem, const gdncp_tensor_t *o,
                              gdncp_workspace_t *workspace)
{
    const gdncp_stream_t stream = gdncp_workspace_stream(workspace);
    const int64_t dk = problem->dims.dk;
    const bool is_aligned =
        problem->dims.dv % QUAD == 0 &&
        reinterpret_cast<uintptr_t>(problem->step->states.data) % sizeof(quad) == 0;

    if (dk > MAX_DK) {
        return gdncp_fail(GDNCP_ERR_NOT_SUPPORTED,
                          "k: expected a head dimension of at most %d on a CUDA device, got %lld",
                          MAX_DK, (long long)dk);
    }
    return with_dtype(problem->dims.dtype, [&](auto element) {
        using T = decltype(element);
        const step_args<T> args = args_of<T>(problem, o);

        return !is_aligned ? launch_step<slice<16, 16, false>>(args, stream)
               : dk <= 64  ? launch_step<slice<8, 8, true>>(args, stream)
               : dk <= 96  ? launch_step<slice<8, 12, true>>(args, stream)
               : dk <= 128 ? launch_step<slice<8, 16, true>>(args, stream)
               : dk <= 192 ? launch_step<slice<16, 12, true>>(args, stream)
                           : launch_step<slice<16, 16, true>>(args, stream);
    });
}

} /* namespace GDNCP_KERNELS */
