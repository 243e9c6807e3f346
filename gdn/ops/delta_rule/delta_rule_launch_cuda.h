/* What the launchers of the delta rule's kernels share, on the host. */
#ifndef GDNCP_DELTA_RULE_LAUNCH_CUDA_H
#define GDNCP_DELTA_RULE_LAUNCH_CUDA_H

#include <cinttypes>

#include "delta_rule_walk_cuda.h"

namespace GDNCP_KERNELS
{

/* As first_slot(), on the host. */
inline int64_t slot_of(const gdncp_rule_problem_t &problem, int64_t sequence)
{
    return problem.rule->cu_seqlens[sequence] / CHUNK + sequence;
}

/* The last sequence whose first slot is not beyond this one; there is a sequence. */
inline int64_t sequence_at(const gdncp_rule_problem_t &problem, int64_t slot)
{
    int64_t low = 0;
    int64_t high = problem.rule->num_sequences;

    while (high - low > 1) {
        const int64_t middle = (low + high) / 2;

        if (slot_of(problem, middle) <= slot) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

/* The window of at most `slots` that begins at slot `first` of the pack; sequences are not cut. */
inline window_pieces window_at(const gdncp_rule_problem_t &problem, int64_t first, int64_t slots)
{
    const int64_t left = num_slots(problem) - first;
    const int64_t count = left < slots ? left : slots;
    const int64_t first_sequence = sequence_at(problem, first);

    return {first, count, first_sequence,
            sequence_at(problem, first + count - 1) - first_sequence + 1, count};
}

/* Slots of a window, so that scratch stays below its limit where one chunk does. */
inline int64_t slots_of_windows(const gdncp_rule_problem_t &problem, size_t bytes_of_slot)
{
    const int64_t all = num_slots(problem);
    const int64_t fit =
        (int64_t)(gdncp_rule_scratch_bytes / (bytes_of_slot > 0 ? bytes_of_slot : 1));

    return fit < 1 ? 1 : fit < all ? fit : all;
}

/* Slots of a window that begin at `first` are what chunks and walk are about from now on. */
template <typename T>
void set_window(const window_pieces &window, int64_t piece_length, rule_walk<T> &walk)
{
    walk.chunks.first = window.first;
    walk.chunks.num_slots = window.count;
    walk.pieces = window;
    walk.pieces.length = piece_length;
}

inline state_starts starts_of(const gdncp_rule_problem_t &problem)
{
    return {static_cast<const float *>(problem.rule->initial_state.data),
            nullptr,
            nullptr,
            problem.num_value_heads,
            problem.dk * problem.dv,
            problem.rule->state_layout == GDNCP_STATE_DV_DK};
}

inline gdncp_status_t check_key_dim(const gdncp_rule_problem_t &problem)
{
    if (problem.dk > MAX_DIM) {
        return gdncp_fail(GDNCP_ERR_NOT_SUPPORTED,
                          "k: expected a head dimension of at most %" PRId64
                          " on a CUDA device, got %" PRId64,
                          MAX_DIM, problem.dk);
    }
    return GDNCP_OK;
}

inline int tiles_of(int64_t columns)
{
    return (int)((columns + TILE - 1) / TILE);
}

/* Warps of a block, where each has a tile of columns of one of so many chains: as many as leave a
 * block for each multiprocessor, for a chain of chunks is as fast as one of its warps. */
inline int warps_of_blocks(int64_t chains, int column_tiles, const gdncp_device_info_t &device)
{
    int warps = WALK_WARPS;

    while (warps > LEAST_WALK_WARPS &&
           (warps / 2 >= column_tiles ||
            chains * ((column_tiles + warps - 1) / warps) < device.num_multiprocessors)) {
        warps /= 2;
    }
    return warps;
}

/* Walk over num_chains pieces or sequences, of column_tiles tiles of columns each. Blocks have
 * fewer warps, or Q and K take turns, where shared memory is small: no bit changes. */
template <typename T, int DK, walk_mode mode>
gdncp_status_t launch_walk(const char *name, rule_walk<T> walk, int64_t num_chains,
                           int column_tiles, const gdncp_device_info_t &device,
                           gdncp_stream_t stream)
{
    constexpr size_t flags = mode == walk_mode::summary ? WALK_WARPS * sizeof(int) : 0;
    constexpr bool always_fits =
        stage_bytes<T>(DK, LEAST_WALK_WARPS, mode) + flags <= SMALLEST_SHARED;
    const int64_t chains = num_chains * walk.rule.num_value_heads;

    static_assert(always_fits || mode == walk_mode::outputs, "of a chunk, on every device");
    walk.warps = warps_of_blocks(chains, column_tiles, device);
    while (walk.warps > LEAST_WALK_WARPS &&
           stage_bytes<T>(DK, walk.warps, mode) + flags > device.shared_bytes) {
        walk.warps /= 2;
    }
    const size_t bytes = stage_bytes<T>(DK, walk.warps, mode);

    if constexpr (!always_fits) {
        if (bytes > device.shared_bytes) {
            return launch_walk<T, DK, walk_mode::outputs_in_turn>(name, walk, num_chains,
                                                                  column_tiles, device, stream);
        }
    }
    walk.stages = 2 * bytes + flags <= device.shared_bytes ? 2 : 1;
    return launch(name, walk_kernel<T, DK, mode>,
                  {chains, (column_tiles + walk.warps - 1) / walk.warps, 1}, walk.warps * WARP,
                  (size_t)walk.stages * bytes + flags, stream, walk);
}

/* What joins pieces, [borders, Hv, dk, ..]: the map of the piece that ends at a border, and the
 * state there. */
struct border_scratch {
    float *transition;
    float *contribution;
    float *states;
};

/*
 * How long pieces of windows of so many slots shall be, so that all multiprocessors have work. Not
 * less than the window where cutting would not pay: a piece's map costs more than its outputs.
 */
int64_t piece_length(const gdncp_rule_problem_t &problem, int64_t slots,
                     const gdncp_device_info_t &device);

border_scratch borders_take(gdncp_arena_t *arena, const gdncp_rule_problem_t &problem,
                            int64_t borders);

/* States at the borders of walk.pieces, from the records of the window. */
template <typename T>
gdncp_status_t walk_borders(const gdncp_rule_problem_t &problem, rule_walk<T> walk,
                            const border_scratch &borders, const gdncp_device_info_t &device,
                            gdncp_stream_t stream);

/* Summaries of num_chains pieces or sequences, as walk says. */
template <typename T>
gdncp_status_t walk_summaries(const gdncp_rule_problem_t &problem, const rule_walk<T> &walk,
                              int64_t num_chains, const gdncp_device_info_t &device,
                              gdncp_stream_t stream);

} /* namespace GDNCP_KERNELS */

#endif
