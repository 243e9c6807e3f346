/* The gated delta rule over whole sequences, forward, on a CUDA device. */
#include "delta_rule_launch_cuda.h"

namespace GDNCP_KERNELS
{

namespace
{

/* Scratch of a call; states of the sequence that crosses a window's end take turns. */
template <typename T> struct forward_scratch {
    chunk_records<T> chunks;
    border_scratch borders;
    float *carry[2];
};

template <typename T>
forward_scratch<T> take_scratch(gdncp_arena_t *arena, const gdncp_rule_problem_t &problem,
                                int64_t slots, int64_t piece)
{
    const int64_t state = problem.num_value_heads * problem.dk * problem.dv;
    forward_scratch<T> scratch;

    scratch.chunks = records_take<T>(arena, problem, slots, records_for::outputs);
    scratch.borders = borders_take(arena, problem, (slots - 1) / piece);
    scratch.carry[0] = gdncp_arena_floats(arena, state);
    scratch.carry[1] = gdncp_arena_floats(arena, state);
    return scratch;
}

template <typename T>
gdncp_status_t walk_window(const gdncp_rule_problem_t &problem, const rule_walk<T> &walk,
                           const border_scratch &borders, const gdncp_device_info_t &device,
                           gdncp_stream_t stream)
{
    const int64_t num_inside = num_borders(walk.pieces);
    gdncp_status_t status = prepare_chunks(problem, walk.chunks, stream);

    if (status == GDNCP_OK && num_inside > 0) {
        status = walk_borders(problem, walk, borders, device, stream);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    return with_key_dim(problem.dk, [&](auto dim) {
        return launch_walk<T, decltype(dim)::value, walk_mode::outputs>(
            "delta_rule_forward", walk, num_inside + walk.pieces.num_sequences,
            tiles_of(problem.dv), device, stream);
    });
}

template <typename T>
gdncp_status_t forward(const gdncp_rule_problem_t &problem, const gdncp_tensor_t &o,
                       float *final_state, gdncp_workspace_t *workspace)
{
    gdncp_arena_t measure = {};
    gdncp_device_info_t device;
    gdncp_status_t status = gdncp_device_describe(GDNCP_DEVICE_CUDA, &device);

    if (status != GDNCP_OK) {
        return status;
    }
    take_scratch<T>(&measure, problem, 1, 1);
    const int64_t slots = slots_of_windows(problem, measure.used);
    const int64_t piece = piece_length(problem, slots, device);
    gdncp_arena_t size = {};
    void *memory = nullptr;

    take_scratch<T>(&size, problem, slots, piece);
    status = gdncp_workspace_reserve(workspace, size.used, &memory);
    if (status != GDNCP_OK) {
        return status;
    }
    gdncp_arena_t arena = {static_cast<char *>(memory), 0};
    const forward_scratch<T> scratch = take_scratch<T>(&arena, problem, slots, piece);
    rule_walk<T> walk = {};

    walk.rule = device_rule_of<T>(problem, true);
    walk.chunks = scratch.chunks;
    walk.o = rows_of<T>(o);
    walk.o_aligned = rows_aligned(o);
    walk.final_state = final_state;
    walk.starts = starts_of(problem);
    walk.starts.borders = scratch.borders.states;
    for (int64_t first = 0; first < num_slots(problem) && status == GDNCP_OK; first += slots) {
        const int turn = (int)(first / slots % 2);

        set_window(window_at(problem, first, slots), piece, walk);
        walk.starts.carry_in = scratch.carry[turn];
        walk.carry_out = scratch.carry[1 - turn];
        status =
            walk_window(problem, walk, scratch.borders, device, gdncp_workspace_stream(workspace));
    }
    return status;
}

} /* namespace */

gdncp_status_t delta_rule_forward(const struct gdncp_rule_problem *problem, const gdncp_tensor_t *o,
                                  const gdncp_tensor_t *final_state, gdncp_workspace_t *workspace)
{
    const gdncp_status_t status = check_key_dim(*problem);
    float *const states =
        final_state != nullptr ? static_cast<float *>(final_state->data) : nullptr;

    if (status != GDNCP_OK || problem->num_value_heads == 0 || num_slots(*problem) == 0) {
        return status;
    }
    return with_dtype(problem->dtype, [&](auto element) {
        return forward<decltype(element)>(*problem, *o, states, workspace);
    });
}

} /* namespace GDNCP_KERNELS */
