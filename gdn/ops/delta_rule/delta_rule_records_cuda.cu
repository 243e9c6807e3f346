/* The walk that a backward makes first: states at the starts of chunks, and their U. */
#include "delta_rule_launch_cuda.h"

namespace GDNCP_KERNELS
{

template <typename T>
gdncp_status_t walk_records_forward(const gdncp_rule_problem_t &problem,
                                    const chunk_records<T> &chunks, const walk_records<T> &stored,
                                    const float *carry_in, float *carry_out, gdncp_stream_t stream)
{
    const int64_t count = chunks.num_slots;
    rule_walk<T> walk = {};
    gdncp_device_info_t device;
    const gdncp_status_t status = gdncp_device_describe(GDNCP_DEVICE_CUDA, &device);

    if (status != GDNCP_OK) {
        return status;
    }
    walk.rule = device_rule_of<T>(problem, false);
    walk.chunks = chunks;
    set_window(window_at(problem, chunks.first, count), count, walk);
    walk.starts = starts_of(problem);
    walk.starts.carry_in = carry_in;
    walk.carry_out = carry_out;
    walk.stored = stored;
    return with_key_dim(problem.dk, [&](auto dim) {
        return launch_walk<T, decltype(dim)::value, walk_mode::records>(
            "delta_rule_records", walk, walk.pieces.num_sequences,
            tiles_of((problem.dv + RECORD_GRAIN - 1) / RECORD_GRAIN * RECORD_GRAIN), device,
            stream);
    });
}

template gdncp_status_t walk_records_forward<float>(const gdncp_rule_problem_t &,
                                                    const chunk_records<float> &,
                                                    const walk_records<float> &, const float *,
                                                    float *, gdncp_stream_t);
template gdncp_status_t walk_records_forward<bf16>(const gdncp_rule_problem_t &,
                                                   const chunk_records<bf16> &,
                                                   const walk_records<bf16> &, const float *,
                                                   float *, gdncp_stream_t);
template gdncp_status_t walk_records_forward<f16>(const gdncp_rule_problem_t &,
                                                  const chunk_records<f16> &,
                                                  const walk_records<f16> &, const float *, float *,
                                                  gdncp_stream_t);

} /* namespace GDNCP_KERNELS */
