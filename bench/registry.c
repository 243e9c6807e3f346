/* All benchmarks, in the order in which they run. */
#include "groups.h"

#include <stddef.h>

const bench_benchmark_t *const bench_registry[] = {
    &bench_rule_training,
    &bench_rule_forward,
    &bench_rule_backward,
    &bench_summary,
    &bench_state_merge,
    &bench_gate_forward,
    &bench_gate_backward,
    &bench_gate_sums_forward,
    &bench_gate_sums_backward,
    &bench_conv1d_forward,
    &bench_conv1d_backward,
    &bench_l2norm_forward,
    &bench_l2norm_backward,
    &bench_gated_rmsnorm_forward,
    &bench_gated_rmsnorm_backward,
    &bench_mamba2_norm_forward,
    &bench_mamba2_norm_backward,
    &bench_linear_forward,
    &bench_linear_backward_data,
    &bench_linear_backward_weight,
    &bench_recurrent_step,
    &bench_conv1d_update,
    NULL,
};
