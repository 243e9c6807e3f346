/*
 * The gated delta rule over whole sequences, backward, on a CUDA device.
 *
 * Window by window from the last: forward through it for states and U, back for gradients of states
 * and R, then all chunks at once for gradients of inputs. The states that sequences have at borders
 * of windows come from a pass over all windows before.
 */
#include "delta_rule_grad_inputs_cuda.h"
#include "delta_rule_grad_walk_cuda.h"
#include "delta_rule_launch_cuda.h"
#include "op_checks.h"

namespace GDNCP_KERNELS
{

namespace
{

template <typename T> struct backward_scratch {
    chunk_records<T> chunks;
    walk_records<T> walk;
    float *borders;         /* [windows + 1, Hv, dk, dv] states at their starts */
    float *grad_carries[2]; /* [Hv, dk, dv] of states at their ends, by turns */
};

template <typename T>
walk_records<T> take_walk(gdncp_arena_t *arena, const gdncp_rule_problem_t &problem, int64_t slots)
{
    walk_records<T> walk = {};

    walk.num_heads = problem.num_value_heads;
    walk.rows = (int)((problem.dv + RECORD_GRAIN - 1) / RECORD_GRAIN) * RECORD_GRAIN;
    with_key_dim(problem.dk, [&walk](auto padded) {
        walk.columns = decltype(padded)::value;
        return GDNCP_OK;
    });
    const size_t bytes = record_bytes<T>(problem.dv, walk.columns);

    walk.data = reinterpret_cast<mma_element<T> *>(gdncp_arena_floats(
        arena, slots * problem.num_value_heads * (int64_t)(bytes / sizeof(float))));
    return walk;
}

template <typename T>
backward_scratch<T> take_scratch(gdncp_arena_t *arena, const gdncp_rule_problem_t &problem,
                                 int64_t slots, int64_t windows)
{
    const int64_t state = problem.num_value_heads * problem.dk * problem.dv;
    backward_scratch<T> scratch;

    scratch.chunks = records_take<T>(arena, problem, slots, records_for::gradients);
    scratch.walk = take_walk<T>(arena, problem, slots);
    scratch.borders = gdncp_arena_floats(arena, (windows + 1) * state);
    scratch.grad_carries[0] = gdncp_arena_floats(arena, state);
    scratch.grad_carries[1] = gdncp_arena_floats(arena, state);
    return scratch;
}

/* States at the starts of all windows but the first. */
template <typename T>
gdncp_status_t fill_borders(const gdncp_rule_problem_t &problem, const backward_scratch<T> &scratch,
                            int64_t slots, int64_t windows, gdncp_stream_t stream)
{
    const int64_t state = problem.num_value_heads * problem.dk * problem.dv;
    chunk_records<T> chunks = scratch.chunks;
    walk_records<T> none = scratch.walk;
    gdncp_status_t status = GDNCP_OK;

    chunks.attention = nullptr;
    chunks.products = nullptr;
    chunks.sums = nullptr;
    chunks.factors = nullptr;
    none.data = nullptr;
    for (int64_t i = 0; i + 1 < windows && status == GDNCP_OK; i++) {
        chunks.first = i * slots;
        chunks.num_slots = slots;
        status = prepare_chunks(problem, chunks, stream);
        if (status == GDNCP_OK) {
            status = walk_records_forward(problem, chunks, none, scratch.borders + i * state,
                                          scratch.borders + (i + 1) * state, stream);
        }
    }
    return status;
}

template <typename T>
gdncp_status_t run_window(const gdncp_rule_problem_t &problem, const backward_scratch<T> &scratch,
                          int64_t slots, int64_t index, const gdncp_tensor_t &grad_o,
                          const gdncp_tensor_t *grad_final_state,
                          const gdncp_delta_rule_grads_t &grads, gdncp_stream_t stream)
{
    const int64_t state = problem.num_value_heads * problem.dk * problem.dv;
    const window_pieces window = window_at(problem, index * slots, slots);
    chunk_records<T> chunks = scratch.chunks;
    grad_walk_sequences sequences = {};

    chunks.first = window.first;
    chunks.num_slots = window.count;
    sequences.first = window.first_sequence;
    sequences.count = window.num_sequences;
    if (grad_final_state != nullptr) {
        sequences.grad_final = static_cast<const float *>(grad_final_state->data);
    }
    sequences.grad_initial = static_cast<float *>(grads.initial_state.data);
    sequences.across = problem.rule->state_layout == GDNCP_STATE_DV_DK;
    sequences.carry_in = scratch.grad_carries[(index + 1) % 2];
    sequences.carry_out = scratch.grad_carries[index % 2];

    gdncp_status_t status = prepare_chunks(problem, chunks, stream);

    if (status == GDNCP_OK) {
        status =
            walk_records_forward(problem, chunks, scratch.walk, scratch.borders + index * state,
                                 scratch.borders + (index + 1) * state, stream);
    }
    if (status == GDNCP_OK) {
        status = grad_walk(problem, chunks, scratch.walk, grad_o, sequences, stream);
    }
    if (status == GDNCP_OK) {
        status = grad_inputs(problem, chunks, scratch.walk, grad_o, grads, stream);
    }
    return status;
}

template <typename T>
gdncp_status_t backward(const gdncp_rule_problem_t &problem, const gdncp_tensor_t &grad_o,
                        const gdncp_tensor_t *grad_final_state,
                        const gdncp_delta_rule_grads_t &grads, gdncp_workspace_t *workspace)
{
    const gdncp_stream_t stream = gdncp_workspace_stream(workspace);
    gdncp_arena_t measure = {};
    gdncp_arena_t size = {};
    void *memory = nullptr;

    records_take<T>(&measure, problem, 1, records_for::gradients);
    take_walk<T>(&measure, problem, 1);
    const int64_t slots = slots_of_windows(problem, measure.used);
    const int64_t windows = (num_slots(problem) + slots - 1) / slots;

    take_scratch<T>(&size, problem, slots, windows);
    gdncp_status_t status = gdncp_workspace_reserve(workspace, size.used, &memory);

    if (status != GDNCP_OK) {
        return status;
    }
    gdncp_arena_t arena = {static_cast<char *>(memory), 0};
    const backward_scratch<T> scratch = take_scratch<T>(&arena, problem, slots, windows);

    status = fill_borders(problem, scratch, slots, windows, stream);
    for (int64_t i = windows - 1; i >= 0 && status == GDNCP_OK; i--) {
        status = run_window(problem, scratch, slots, i, grad_o, grad_final_state, grads, stream);
    }
    return status;
}

/* The walk back alone. What it carries from window to window is kept where the result will be. */
template <typename T>
gdncp_status_t grad_summary(const gdncp_rule_problem_t &problem, grad_walk_sequences sequences,
                            const gdncp_tensor_t &grad_o, gdncp_workspace_t *workspace)
{
    const gdncp_stream_t stream = gdncp_workspace_stream(workspace);
    gdncp_arena_t measure = {};
    gdncp_arena_t size = {};
    void *memory = nullptr;

    records_take<T>(&measure, problem, 1, records_for::outputs);
    const int64_t slots = slots_of_windows(problem, measure.used);

    records_take<T>(&size, problem, slots, records_for::outputs);
    gdncp_status_t status = gdncp_workspace_reserve(workspace, size.used, &memory);

    if (status != GDNCP_OK) {
        return status;
    }
    gdncp_arena_t arena = {static_cast<char *>(memory), 0};
    chunk_records<T> chunks = records_take<T>(&arena, problem, slots, records_for::outputs);
    const int64_t windows = (num_slots(problem) + slots - 1) / slots;

    chunks.sequences = sequences.selected;
    chunks.num_selected = sequences.count;
    sequences.carry_in = sequences.grad_initial;
    sequences.carry_out = sequences.grad_initial;
    sequences.carry_stride = problem.num_value_heads * problem.dk * problem.dv;
    for (int64_t i = windows - 1; i >= 0 && status == GDNCP_OK; i--) {
        const window_pieces window = window_at(problem, i * slots, slots);

        chunks.first = window.first;
        chunks.num_slots = window.count;
        status = prepare_chunks(problem, chunks, stream);
        if (status == GDNCP_OK) {
            status = grad_walk(problem, chunks, walk_records<T>(), grad_o, sequences, stream);
        }
    }
    return status;
}

} /* namespace */

gdncp_status_t delta_rule_backward(const struct gdncp_rule_problem *problem,
                                   const gdncp_tensor_t *grad_o,
                                   const gdncp_tensor_t *grad_final_state,
                                   const gdncp_delta_rule_grads_t *grads,
                                   gdncp_workspace_t *workspace)
{
    const gdncp_status_t status = check_key_dim(*problem);

    if (status != GDNCP_OK || num_slots(*problem) == 0) {
        return status;
    }
    return with_dtype(problem->dtype, [&](auto element) {
        return backward<decltype(element)>(*problem, *grad_o, grad_final_state, *grads, workspace);
    });
}

gdncp_status_t delta_rule_grad_summary(const struct gdncp_rule_problem *problem, const int64_t *,
                                       const int64_t *sequences_cuda, int64_t num_selected,
                                       const gdncp_tensor_t *grad_o,
                                       const gdncp_tensor_t *grad_final_state,
                                       const gdncp_tensor_t *grad_initial,
                                       gdncp_workspace_t *workspace)
{
    const gdncp_status_t status = check_key_dim(*problem);
    grad_walk_sequences sequences = {};

    if (status != GDNCP_OK || num_selected == 0) {
        return status;
    }
    sequences.selected = sequences_cuda;
    sequences.count = num_selected;
    if (grad_final_state != nullptr) {
        sequences.grad_final = static_cast<const float *>(grad_final_state->data);
    }
    sequences.grad_initial = static_cast<float *>(grad_initial->data);
    return with_dtype(problem->dtype, [&](auto element) {
        return grad_summary<decltype(element)>(*problem, sequences, *grad_o, workspace);
    });
}

} /* namespace GDNCP_KERNELS */
