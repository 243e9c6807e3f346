/* The affine map of a sequence, or where it leads to, on a CUDA device. */
#include "delta_rule_launch_cuda.h"

namespace GDNCP_KERNELS
{

template <typename T>
gdncp_status_t walk_summaries(const gdncp_rule_problem_t &problem, const rule_walk<T> &walk,
                              int64_t num_chains, const gdncp_device_info_t &device,
                              gdncp_stream_t stream)
{
    return with_key_dim(problem.dk, [&](auto dim) {
        return launch_walk<T, decltype(dim)::value, walk_mode::summary>(
            "delta_rule_summary", walk, num_chains, walk.m_tiles + tiles_of(problem.dv), device,
            stream);
    });
}

template gdncp_status_t walk_summaries(const gdncp_rule_problem_t &, const rule_walk<float> &,
                                       int64_t, const gdncp_device_info_t &, gdncp_stream_t);
template gdncp_status_t walk_summaries(const gdncp_rule_problem_t &, const rule_walk<bf16> &,
                                       int64_t, const gdncp_device_info_t &, gdncp_stream_t);
template gdncp_status_t walk_summaries(const gdncp_rule_problem_t &, const rule_walk<f16> &,
                                       int64_t, const gdncp_device_info_t &, gdncp_stream_t);

namespace
{

/* Slots from the first of a chosen sequence to the last of one. */
struct slot_range {
    int64_t first;
    int64_t end;
};

slot_range slots_of(const gdncp_rule_problem_t &problem, const int64_t *sequences,
                    int64_t num_selected)
{
    slot_range range = {num_slots(problem), 0};

    if (sequences == nullptr) {
        return {0, num_slots(problem)};
    }
    for (int64_t i = 0; i < num_selected; i++) {
        const int64_t first = slot_of(problem, sequences[i]);
        const int64_t end = sequences[i] + 1 < problem.rule->num_sequences
                                ? slot_of(problem, sequences[i] + 1)
                                : num_slots(problem);

        range.first = first < range.first ? first : range.first;
        range.end = end > range.end ? end : range.end;
    }
    return range;
}

template <typename T>
gdncp_status_t summary(const gdncp_rule_problem_t &problem, const int64_t *sequences_cuda,
                       int64_t num_selected, const slot_range &range, rule_walk<T> walk,
                       gdncp_workspace_t *workspace)
{
    gdncp_arena_t measure = {};
    gdncp_device_info_t device;
    gdncp_status_t status = gdncp_device_describe(GDNCP_DEVICE_CUDA, &device);

    if (status != GDNCP_OK) {
        return status;
    }
    records_take<T>(&measure, problem, 1, records_for::states);
    const int64_t slots = slots_of_windows(problem, measure.used);
    gdncp_arena_t size = {};
    void *memory = nullptr;

    records_take<T>(&size, problem, slots, records_for::states);
    status = gdncp_workspace_reserve(workspace, size.used, &memory);
    gdncp_arena_t arena = {static_cast<char *>(memory), 0};

    walk.rule = device_rule_of<T>(problem, false);
    walk.chunks = records_take<T>(&arena, problem, slots, records_for::states);
    walk.chunks.sequences = sequences_cuda;
    walk.chunks.num_selected = num_selected;
    walk.starts = starts_of(problem);
    walk.sequences = sequences_cuda;
    for (int64_t first = range.first; first < range.end && status == GDNCP_OK; first += slots) {
        const int64_t count = range.end - first < slots ? range.end - first : slots;

        set_window(window_at(problem, first, count), count, walk);
        status = prepare_chunks(problem, walk.chunks, gdncp_workspace_stream(workspace));
        if (status == GDNCP_OK) {
            status = walk_summaries(problem, walk, num_selected, device,
                                    gdncp_workspace_stream(workspace));
        }
    }
    return status;
}

} /* namespace */

gdncp_status_t delta_rule_summary(const struct gdncp_rule_problem *problem,
                                  const int64_t *sequences, const int64_t *sequences_cuda,
                                  int64_t num_selected, const gdncp_tensor_t *transition,
                                  const gdncp_tensor_t *contribution, gdncp_workspace_t *workspace)
{
    const gdncp_status_t status = check_key_dim(*problem);

    if (status != GDNCP_OK || problem->num_value_heads == 0 || num_selected == 0) {
        return status;
    }
    const slot_range range = slots_of(*problem, sequences, num_selected);

    return with_dtype(problem->dtype, [&](auto element) {
        rule_walk<decltype(element)> walk = {};

        walk.contribution = static_cast<float *>(contribution->data);
        if (transition != nullptr) {
            walk.transition = static_cast<float *>(transition->data);
            walk.m_tiles = tiles_of(problem->dk);
        }
        return summary(*problem, sequences_cuda, num_selected, range, walk, workspace);
    });
}

} /* namespace GDNCP_KERNELS */
